"""The measures of a subtraction against differences whose statistics are known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from astrid_assets.benchmarks.expectation import Expectation
from astrid_assets.benchmarks.measures import Ground, Tally, _phases, measure, summarize
from astrid_assets.benchmarks.scenes import SATURATION, SCENARIOS, SKY, Scene, make_scene
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import Difference
from astrid_assets.images.psf import Psf
from astrid_assets.science import detect

SIZE, SIGMA, WIDTH = 600, 3.0, 1.1
"""Side of the image, noise of a pixel, sigma of the Gaussian PSF."""

NORM = np.sqrt(4 * np.pi) * WIDTH
"""Flux error over the noise of a pixel, by the sum of the squares of a Gaussian."""

EVERYTHING = Expectation(np.array([0.0, 5.0, 5.001, 9.0]), np.array([0.0, 0.0, 1.0, 1.0]))
"""A source is detected beyond 5 sigma."""


def gaussian(x: np.ndarray, y: np.ndarray, half: int = 8) -> np.ndarray:
    """Return Gaussian stamps about the pixels nearest to some places."""
    grid = np.arange(-half, half + 1)
    dx, dy = x - np.rint(x), y - np.rint(y)
    along = np.exp(-0.5 * ((grid[None] - dx[:, None]) / WIDTH) ** 2)
    across = np.exp(-0.5 * ((grid[None] - dy[:, None]) / WIDTH) ** 2)
    return across[:, :, None] * along[:, None, :] / (2 * np.pi * WIDTH**2)


def toy(seed: int = 1, snr: tuple[float, float] = (3.0, 50.0)) -> tuple[Scene, Difference]:
    """Return a scene without static light and its difference: white noise and Gaussian new sources."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(24, SIZE - 24, 24)] * 2), axis=-1).reshape(-1, 2)
    x, y = (places + rng.uniform(-0.5, 0.5, places.shape)).T
    flux = np.exp(rng.uniform(*np.log(snr), len(x))) * SIGMA * NORM
    data = rng.normal(0, SIGMA, (SIZE, SIZE))
    for stamp, f, a, b in zip(
        gaussian(x, y), flux, np.rint(x).astype(int), np.rint(y).astype(int), strict=True
    ):
        data[b - 8 : b + 9, a - 8 : a + 9] += f * stamp
    psf = gaussian(np.zeros(1), np.zeros(1))[0]
    response = (psf**2).sum()
    flux_image = signal.fftconvolve(data, psf, mode="same") / response
    error = SIGMA / np.sqrt(response)
    difference = Difference(
        data=data.astype(np.float32),
        variance=np.full(data.shape, SIGMA**2, np.float32),
        mask=np.zeros(data.shape, np.int32),
        psf=Psf(psf, data.shape),
        score=(flux_image / error).astype(np.float32),
        score_corrected=(flux_image / error).astype(np.float32),
        flux=flux_image.astype(np.float32),
        flux_error=np.full(data.shape, error, np.float32),
    )
    flat = MaskedImage(np.full(data.shape, SKY, np.float32))
    nothing = np.zeros(0)
    host = np.zeros(len(x), bool)
    host[::3] = True
    scene = Scene(
        SCENARIOS["ideal"],
        flat,
        flat,
        x,
        y,
        flux,
        host,
        *(nothing,) * 3,
        np.zeros(data.shape),
        (SIGMA**2, 1.0),
    )
    return scene, difference


def numbers(scene: Scene, difference: Difference) -> dict:
    """Return the summary of one difference."""
    return summarize(measure(scene, difference, detect(difference), EVERYTHING))


@pytest.fixture(scope="module")
def pooled() -> dict:
    """Return the summary of a few differences."""
    scenes = [toy(seed) for seed in range(1, 7)]
    return summarize(Tally.merge(*(measure(s, d, detect(d), EVERYTHING) for s, d in scenes)))


def within(estimate, truth: float, floor: float = 0.0) -> bool:
    """Return whether a number agrees with the truth to 3.5 of its errors."""
    return abs(estimate.value - truth) < 3.5 * estimate.error + floor


def test_perfect_differences_are_found_perfect(pooled):
    """White noise and exact errors: no bias, unit scatter."""
    for name in ("0", "4-6", "6-10", "10-30"):
        # the flux between pixels is interpolated, good to 0.4 %
        assert within(pooled[f"pull/{name}/mean"], 0.0, 0.02)
        assert within(pooled[f"pull/{name}/std"], 1.0)
    assert within(pooled["score/blank"], 1.0)
    assert within(pooled["correlation"], 0.0)
    assert within(pooled["flux/true"], 0.0, 0.004)
    assert pooled["flagged"].value == 0.0
    assert abs(pooled["score/blank"].error - 0.0025) < 0.001


def test_the_position_error_is_that_of_a_gaussian_for_uniform_signal_to_noise(pooled):
    """2 * width / (S/N) in two dimensions, S/N uniform from 8 to 50; a parabola adds a little."""
    mean_square = (1 / 8 - 1 / 50) / 42
    assert pooled["position"].value == pytest.approx(2 * WIDTH * np.sqrt(mean_square), rel=0.12)


def test_wrong_errors_show():
    """Errors half as large double the pull; a score too large by a tenth shows as such."""
    scene, difference = toy()
    right = numbers(scene, difference)
    score = difference.score_corrected * np.float32(1.1)
    wrong = numbers(scene, difference.replace(flux_error=difference.flux_error / 2, score_corrected=score))
    assert wrong["pull/0/std"].value == pytest.approx(2 * right["pull/0/std"].value, rel=1e-5)
    assert wrong["score/blank"].value == pytest.approx(1.1 * right["score/blank"].value, rel=1e-5)


def test_a_flux_bias_shows():
    scene, difference = toy()
    right = numbers(scene, difference)["flux/true"].value
    wrong = numbers(scene, difference.replace(flux=difference.flux * np.float32(0.95)))["flux/true"]
    assert wrong.value == pytest.approx(0.95 * (1 + right) - 1, abs=2e-4)


def test_the_correlation_of_smoothed_noise():
    """A smoothing by (1, 2, 1) / 4 along x correlates neighbours by 2/3, those along y not at all."""
    scene, difference = toy()
    rng = np.random.default_rng(3)
    noise = signal.convolve(rng.normal(size=(SIZE, SIZE)), np.array([[0.25, 0.5, 0.25]]), mode="same")
    correlation = numbers(scene, difference.replace(data=noise.astype(np.float32)))["correlation"]
    assert within(correlation, 1 / 3)
    assert correlation.error < 0.01


def test_false_positives_are_counted_where_they_count():
    """Each sign; not beside new sources, not on masked pixels, not near saturated stars."""
    scene, difference = toy()
    score = np.clip(difference.score_corrected, -4, 4)
    for column in (60, 108, 156):
        score[36, column] = 6.0
    score[84, 60] = -6.0
    x, y = int(scene.x[0]), int(scene.y[0])
    score[y + 3, x] = 6.0
    score[132, 60], mask = 6.0, difference.mask.copy()
    mask[130:135, 58:63] = bits("BAD")
    score[300, 310] = 6.0
    reference = scene.reference.data.copy()
    reference[300, 300] = SATURATION
    saturated = Scene(**{**vars(scene), "reference": scene.reference.replace(data=reference)})
    tally = measure(
        saturated, difference.replace(score_corrected=score, mask=mask), detect(difference), EVERYTHING
    )
    area, plus, minus = tally.rows["false"][0, :3]
    assert (plus, minus) == (3, 1)
    clear = 0.36 - len(scene.x) * np.pi * 36 / 1e6
    assert area == pytest.approx(clear, abs=0.003)
    flagged = summarize(tally)["flagged"]
    assert flagged.value == pytest.approx(25 / (570**2 - 1), rel=1e-6)


def test_detections_follow_the_expectation():
    """All of the strong sources are found, none that lie on masked pixels are asked for."""
    scene, difference = toy(snr=(20.0, 30.0))
    mask = difference.mask.copy()
    mask[:, :300] = bits("BAD")
    tally = measure(scene, difference.replace(mask=mask), detect(difference), EVERYTHING)
    found = summarize(tally)
    assert found["found"].value == found["found/host"].value == 1.0
    assert found["found"].n + found["found/host"].n == (np.rint(scene.x) >= 300).sum()
    silent = difference.replace(score_corrected=difference.score_corrected / 100)
    assert numbers(scene, silent)["found"].value == 0.0


def test_bright_residuals_are_shares_of_the_flux():
    """Sum of abs D in 7 x 7 over the flux; faint and saturated stars are left out."""
    scene, difference = toy()
    x, y = np.array([[36.0, 84.0], [132.0, 84.0], [180.0, 84.0], [228.2, 83.9], [276.0, 84.0]]).T
    flux = np.array([3e4, 4e4, 1e4, 5e4, 6e4])
    data = np.zeros_like(difference.data)
    for a, b, f in zip(np.rint(x).astype(int), np.rint(y).astype(int), flux, strict=True):
        data[b, a - 1], data[b, a + 1] = -0.01 * f, 0.01 * f
    static = scene.static.copy()
    static[84, 276] = SATURATION
    bright = Scene(**{**vars(scene), "star_x": x, "star_y": y, "star_flux": flux, "static": static})
    tally = measure(bright, difference.replace(data=data), detect(difference), EVERYTHING)
    assert tally.rows["bright"][:, 0] == pytest.approx([0.02] * 3, rel=1e-5)


def test_pooling_is_exact():
    """Two tallies give the moments of all their samples."""
    one, two = (measure(*toy(seed), detect(toy(seed)[1]), EVERYTHING) for seed in (1, 2))
    both = Tally.merge(one, two)
    samples = np.concatenate([one.rows["pull/0"], two.rows["pull/0"]])[:, 0]
    assert summarize(both)["pull/0/mean"].value == pytest.approx(samples.mean())
    assert summarize(both)["pull/0/std"].value == pytest.approx(samples.std(ddof=1))
    assert both.rows["pixels"].sum() == 2 * SIZE**2


def test_phases_are_those_of_the_wcs():
    """They are interpolated on a coarse grid."""
    scene = make_scene("warp", 256, 1)
    y, x = np.random.default_rng(1).integers(0, len(scene.static), (2, 200))
    sky = scene.science.wcs.all_pix2world(x, y, 0)
    truth = scene.reference.wcs.all_world2pix(*sky, 0, tolerance=1e-8)
    for phase, exact in zip(_phases(scene), truth, strict=True):
        assert phase[y, x] == pytest.approx(exact, abs=5e-3)


def test_saturated_stars_beyond_the_edge_count():
    """Nothing is measured within 15 pixels of them."""
    scene, difference = toy()
    x, y, flux = np.array([[-3.0, 605.0, 300.0], [100.0, 300.0, -4.0], [3e6, 1e3, 3e6]])
    fair = Ground.of(
        Scene(**{**vars(scene), "star_x": x, "star_y": y, "star_flux": flux}), difference.bad
    ).fair
    assert not fair[100, :13].any()
    assert not fair[:12, 300].any()
    assert fair[100, 13:].all()
    assert fair[300, 590:].all()
