"""The figure of merit against planes of which every term is known."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import ndtri

from astrid_assets.images import Difference, Psf, ZeroPoint
from astrid_assets.images.masks import bits
from astrid_assets.science import classic, zogy
from astrid_assets.science.merit import WEIGHTS, false_positive_threshold, figure_of_merit
from astrid_assets_tests.science.sky import known_pair

ZEROPOINT = 26.3
ERROR = 20.0
SIDE = 400


def noise(seed=1, size=SIDE, *, smooth=1.2):
    """A unit Gaussian field as correlated as a matched filter makes it."""
    field = ndimage.gaussian_filter(
        np.random.default_rng(seed).normal(size=(size, size)), smooth, mode="wrap"
    )
    return (field / field.std()).astype(np.float32)


def difference_of(score, *, error=ERROR, mask=None, zeropoint=ZEROPOINT):
    """A difference of given significance and flux error."""
    error = np.broadcast_to(np.float32(error), score.shape).copy()
    grid = np.arange(-10, 11)
    psf = np.exp(-0.5 * (grid[:, None] ** 2 + grid[None, :] ** 2) / 1.2**2)
    return Difference(
        data=score,
        variance=np.ones_like(score),
        mask=np.zeros(score.shape, np.int32) if mask is None else mask,
        psf=Psf(psf / psf.sum(), score.shape),
        score=score,
        score_corrected=score,
        flux=score * error,
        flux_error=error,
        zeropoint=None if zeropoint is None else ZeroPoint(zeropoint),
    )


def magnitude(flux):
    return ZEROPOINT - 2.5 * np.log10(flux)


def spikes(score, depth):
    """Negative peaks of given depths on a grid, far apart."""
    score = score.copy()
    for k, value in enumerate(depth):
        score[30 + 40 * (k // 9), 30 + 40 * (k % 9)] = -value
    return score


def test_uniform_noise_has_analytic_depths():
    merit = figure_of_merit(difference_of(noise()))
    threshold = merit["merit_threshold"]
    assert 4.2 < threshold < 5.2
    assert merit["merit_m_threshold"] == pytest.approx(magnitude(threshold * ERROR), abs=1e-3)
    assert merit["merit_m_80"] == pytest.approx(magnitude((threshold + ndtri(0.8)) * ERROR), abs=1e-3)
    assert merit["merit_m_20"] == pytest.approx(magnitude((threshold + ndtri(0.2)) * ERROR), abs=1e-3)
    assert merit["merit_m_5sigma"] == pytest.approx(magnitude(5 * ERROR), abs=0.03)
    assert merit["merit_m_ph10"] == pytest.approx(magnitude(10 * ERROR), abs=0.03)
    terms = sum(WEIGHTS[name] * merit[f"merit_{name}"] for name in WEIGHTS)
    assert merit["merit"] == pytest.approx(terms / sum(WEIGHTS.values()))


def test_two_depths_give_the_mixed_completeness():
    """Half of the pixels are three times worse: 80 % is decided by them, 20 % by the others."""
    error = np.full((SIDE, SIDE), ERROR)
    error[:, SIDE // 2 :] *= 3
    merit = figure_of_merit(difference_of(noise(), error=error))
    threshold = merit["merit_threshold"]
    assert merit["merit_m_80"] == pytest.approx(magnitude((threshold + ndtri(0.6)) * 3 * ERROR), abs=1e-2)
    assert merit["merit_m_20"] == pytest.approx(magnitude((threshold + ndtri(0.4)) * ERROR), abs=1e-2)


def test_the_threshold_is_the_order_statistic_of_the_extrema():
    score = spikes(np.zeros((SIDE, SIDE), np.float32), np.arange(20.0, 5.0, -1.0))
    difference, good = difference_of(score), np.ones(score.shape, bool)
    # 0.16 Mpix: 25 per Mpix are 4 false positives; the fifth must be below
    assert false_positive_threshold(difference, good, tolerated_rate=25.0) == 16.0
    assert false_positive_threshold(difference, good, tolerated_rate=1.0) >= 20.0


def test_the_extrapolated_threshold_meets_the_rate():
    """Where less than one false positive is tolerated: on many fields, their number is what was asked for."""
    tolerated, fields = 3.0, [noise(seed, 200) for seed in range(40)]
    good = np.ones((200, 200), bool)
    thresholds = [false_positive_threshold(difference_of(f), good, tolerated_rate=tolerated) for f in fields]
    threshold = float(np.median(thresholds))
    highest = [f * (f == ndimage.maximum_filter(f, 3)) for f in fields]
    rate = sum((h > threshold).sum() for h in highest) / (0.04 * len(fields))
    assert 0.3 * tolerated < rate < 3 * tolerated


def test_only_good_pixels_and_negative_extrema_count():
    mask = np.zeros((SIDE, SIDE), np.int32)
    mask[:60] = bits("SATURATED")
    spoiled = spikes(noise(), [50.0] * 9)
    clean = figure_of_merit(difference_of(noise(), mask=mask))
    assert figure_of_merit(difference_of(spoiled, mask=mask))["merit_threshold"] == clean["merit_threshold"]
    positive = noise()
    positive[200, 200] = 50.0
    merit = figure_of_merit(difference_of(positive))
    unspoiled = figure_of_merit(difference_of(noise()))
    assert merit["merit_threshold"] == pytest.approx(unspoiled["merit_threshold"], abs=1e-3)


def test_side_lobes_of_a_bright_source_are_no_false_positives():
    score = noise()
    score[200, 200], score[200, 205] = 200.0, -15.0
    assert figure_of_merit(difference_of(score))["merit_threshold"] < 6
    score[200, 200] = 20.0
    assert figure_of_merit(difference_of(score))["merit_threshold"] >= 15


def test_without_a_zero_point_there_are_no_magnitudes():
    merit = figure_of_merit(difference_of(noise(), zeropoint=None))
    assert np.isfinite(merit["merit_threshold"])
    assert np.isnan(merit["merit"])


@pytest.mark.filterwarnings("error")
def test_nothing_to_judge_gives_no_number():
    for mask in (np.zeros((SIDE, SIDE), np.int32), np.full((SIDE, SIDE), bits("NO_DATA"), np.int32)):
        merit = figure_of_merit(difference_of(np.zeros((SIDE, SIDE), np.float32), mask=mask))
        assert all(np.isnan(value) for value in merit.values())


def test_matching_is_worth_more_than_none_and_as_much_as_zogy():
    rng = np.random.default_rng(4)
    sources = [
        (40 + 30 * i + rng.uniform(-2, 2), 40 + 30 * j + rng.uniform(-2, 2), 4000.0, 4000.0)
        for i in range(11)
        for j in range(11)
    ]
    pair = known_pair(size=SIDE, fwhm=(2.6, 2.2), sigma=(5.0, 3.0), sources=sources)
    proper, matched, naive = (
        figure_of_merit(d)["merit"] for d in (zogy(pair), classic(pair), classic(pair, matching="naive"))
    )
    assert matched == pytest.approx(proper, abs=0.05)
    assert naive < proper - 0.3
