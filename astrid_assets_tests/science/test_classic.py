"""The classic subtraction: matched, white, and as good as ZOGY; and what it does where it cannot match."""

import logging

import numpy as np
import pytest
from scipy import fft

from astrid_assets.errors import PsfError, ScienceError
from astrid_assets.images import Psf
from astrid_assets.science import align, classic, normalize, zogy
from astrid_assets.science.filtering import Spectra
from astrid_assets.science.naive import decorrelated, naive_filters
from astrid_assets_tests.science.sky import known_pair, make_sky

SHARPER_REFERENCE, SHARPER_SCIENCE = (2.6, 2.2), (2.2, 2.6)


def stars(n, *, size, seed=9, flux=(1500.0, 6000.0), step=None):
    """Static stars on a jittered grid, (x, y, science flux, reference flux)."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    grid = np.linspace(34, size - 34, side) if step is None else 34 + step * np.arange(side)
    places = [(x, y) for x in grid for y in grid][:n]
    drawn = rng.uniform(*flux, n)
    return [
        (x + rng.uniform(-2, 2), y + rng.uniform(-2, 2), f, f)
        for (x, y), f in zip(places, drawn, strict=True)
    ]


def around(shape, sources, radius):
    """Pixels next to sources."""
    y, x = np.indices(shape)
    near = np.zeros(shape, bool)
    for x0, y0, *_ in sources:
        near |= np.hypot(x - x0, y - y0) < radius
    return near


def neighbours(image, where):
    """Correlation of neighbouring pixels along y and x."""
    image = image - image[where].mean()
    down, across = where[1:] & where[:-1], where[:, 1:] & where[:, :-1]
    power = (image[where] ** 2).mean()
    return (
        (image[1:] * image[:-1])[down].mean() / power,
        (image[:, 1:] * image[:, :-1])[across].mean() / power,
    )


def gaussian_transform(shape, sigma):
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    return np.exp(-2 * np.pi**2 * sigma**2 * (fy**2 + fx**2)).astype(complex)


def spectra(shape, *, variances=(4.0, 1.0), power=1.0, ratio=0.8):
    """A tile with Gaussian PSFs of 1.3 and 1.0 pixels."""
    psfs = gaussian_transform(shape, 1.3), gaussian_transform(shape, 1.0)
    return Spectra(*psfs, *variances, 1.0, power, ratio, x=0.0, y=0.0, shape=shape)


@pytest.fixture(scope="module", params=[SHARPER_REFERENCE, SHARPER_SCIENCE], ids=["reference", "science"])
def static(request):
    """A pair with 196 static stars, its stars, and its difference; the sharper image is the one named."""
    sources = stars(196, size=500)
    pair = known_pair(seed=7, size=500, fwhm=request.param, sigma=(5.0, 3.0), sources=sources)
    return pair, sources, classic(pair)


def test_the_filter_is_that_of_dmtn_021():
    s = spectra((64, 60))
    kernel = gaussian_transform(s.shape, np.sqrt(1.3**2 - 1.0**2))
    filters = decorrelated(s, np.ones_like(kernel), kernel)
    expected = np.sqrt((4.0 + 1.0) / (4.0 + 1.0 * np.abs(kernel) ** 2))
    assert np.allclose(filters.science, expected, rtol=1e-5)
    assert np.allclose(filters.reference, expected * kernel, rtol=1e-5)


def test_correlated_noise_is_whitened_as_well():
    power = np.abs(gaussian_transform((64, 64), 0.4)) ** 2
    s = spectra((64, 64), power=power)
    filters = decorrelated(s, np.ones((64, 33)), 0.8 * gaussian_transform((64, 64), 0.8))
    left = 4.0 * np.abs(filters.science) ** 2 + power * np.abs(filters.reference) ** 2
    assert np.allclose(left, left[0, 0], rtol=1e-4)


@pytest.mark.parametrize("exchanged", [False, True])
def test_neighbouring_pixels_are_not_correlated(exchanged):
    shape = (400, 400)
    s = spectra(shape, variances=(4.0, 1.0) if exchanged else (1.0, 4.0))
    kernel, one = gaussian_transform(shape, 1.0), np.ones((400, 201))
    filters = decorrelated(s, kernel, 0.8 * one) if exchanged else decorrelated(s, one, 0.8 * kernel)
    rng = np.random.default_rng(2)
    noise = [fft.rfft2(rng.normal(0, np.sqrt(v), shape)) for v in (s.variance_science, s.variance_reference)]
    plain = fft.irfft2(
        (kernel if exchanged else one) * noise[0] - 0.8 * (one if exchanged else kernel) * noise[1]
    )
    white = fft.irfft2(filters.science * noise[0] - filters.reference * noise[1], shape)
    everywhere = np.ones(shape, bool)
    assert min(neighbours(plain, everywhere)) > 0.1
    assert np.abs(neighbours(white, everywhere)).max() < 0.01


def test_the_naive_difference_is_white_already():
    filters = naive_filters(spectra((32, 32)))
    assert np.allclose(filters.science, 1)
    assert np.allclose(filters.reference, 0.8)


def test_static_stars_leave_noise_only(static):
    _, sources, difference = static
    inner = np.zeros(difference.shape, bool)
    inner[30:-30, 30:-30] = True
    on_stars = around(difference.shape, sources, 3) & inner
    blank = ~around(difference.shape, sources, 9) & inner
    assert difference.score_corrected[blank].std() == pytest.approx(1, abs=0.02)
    assert 0.95 < difference.score_corrected[on_stars].std() < 1.05
    assert np.abs(difference.score_corrected[inner]).max() < 6


def test_the_difference_is_as_white_as_that_of_zogy(static):
    pair, sources, difference = static
    blank = ~around(difference.shape, sources, 9)
    ours, theirs = (neighbours(d.data, blank) for d in (difference, zogy(pair)))
    assert np.abs(ours).max() < 0.01
    assert np.allclose(ours, theirs, atol=0.002)


def test_what_was_fitted_is_recorded(static):
    pair, _, difference = static
    record = difference.origin["classic"]
    sharper = "reference" if pair.reference.psf.fwhm < pair.science.psf.fwhm else "science"
    assert (record["matching"], record["convolved"], record["reason"]) == ("kernel", sharper, "")
    assert record["flux_ratio"] == pytest.approx(0.8, rel=0.01)
    assert difference.metrics["matching_fallback"] == 0
    assert difference.metrics["matching_n_stamps"] == record["n_stamps"] > 100


@pytest.mark.parametrize("fwhm", [SHARPER_REFERENCE, SHARPER_SCIENCE])
def test_fluxes_come_back_within_a_percent(fwhm):
    sources = stars(64, size=500)
    new = [(x + 26, y + 26, 3000.0, 0.0) for x, y, *_ in sources]
    new = [(round(x), round(y), *rest) for x, y, *rest in new if x < 465 and y < 465][::4]
    difference = classic(known_pair(seed=6, size=500, fwhm=fwhm, sigma=(5.0, 3.0), sources=sources + new))
    assert difference.origin["classic"]["matching"] == "kernel"
    fluxes = np.array([difference.flux[y, x] for x, y, *_ in new])
    assert fluxes.mean() == pytest.approx(3000, rel=0.01)
    errors = np.array([difference.flux_error[y, x] for x, y, *_ in new])
    assert np.std((fluxes - 3000) / errors) == pytest.approx(1, abs=0.3)


def test_exact_psfs_give_the_difference_of_zogy():
    """A kernel that is the ratio of both PSFs makes the filters of ZOGY, once its noise is whitened."""
    pair = known_pair(seed=2, sources=[(100.0, 120.0, 3000.0, 0.0)], fwhm=(3.0, 2.6))
    ours, theirs = classic(pair, matching="psf"), zogy(pair)
    inner = (slice(30, -30), slice(30, -30))
    assert np.abs(ours.score - theirs.score)[inner].max() < 0.05 * theirs.score.max()
    assert np.corrcoef(ours.data[inner].ravel(), theirs.data[inner].ravel())[0, 1] > 0.995


@pytest.mark.parametrize("fwhm", [(2.2, 1.8), (1.9, 2.4)])
def test_an_estimated_pair_subtracts_as_well_as_with_zogy(fwhm):
    sky = make_sky(seed=1, size=400, n_stars=90, n_transients=4, fwhm=fwhm)
    pair = normalize(align(sky.science, sky.reference))
    new = list(zip(sky.transient_x, sky.transient_y, strict=True))
    old = list(zip(sky.x, sky.y, strict=True))
    blank = ~around(pair.science.shape, old + new, 10)
    static = around(pair.science.shape, old, 2.5) & ~around(pair.science.shape, new, 12)
    spread = []
    for difference in (classic(pair), zogy(pair)):
        score = difference.score_corrected[blank & ~difference.bad]
        assert score.std() == pytest.approx(1, abs=0.025)
        significance = difference.flux / difference.flux_error
        spread.append(significance[static & ~difference.bad].std())
    assert spread[0] < 1.1 * spread[1]


def test_too_few_stars_fall_back_to_the_psfs(caplog):
    pair = known_pair(sources=stars(2, size=256))
    with caplog.at_level(logging.WARNING):
        difference = classic(pair)
    record = difference.origin["classic"]
    assert record["matching"] == "psf"
    assert "2 of 2 sources" in record["reason"]
    assert "2 of 2 sources" in caplog.text
    assert difference.metrics["matching_fallback"] == 1
    with pytest.raises(PsfError, match="2 of 2 sources"):
        classic(pair, matching="kernel")


def test_psfs_that_cannot_be_matched_are_subtracted_naively():
    """Two trails at right angles: no kernel makes one of the other."""
    pair = known_pair()
    grid = np.arange(-20, 21)
    trail = np.exp(-0.5 * ((grid[None, :] / 6.0) ** 2 + (grid[:, None] / 1.0) ** 2))
    psfs = [Psf(t / t.sum(), pair.science.shape) for t in (trail, trail.T)]
    crossed = pair.replace(
        science=pair.science.replace(psf=psfs[0]), reference=pair.reference.replace(psf=psfs[1])
    )
    difference = classic(crossed)
    assert difference.origin["classic"]["matching"] == "naive"
    assert "no kernel turns one PSF into the other" in difference.origin["classic"]["reason"]
    assert difference.metrics["matching_fallback"] == 2
    with pytest.raises(PsfError, match="no kernel"):
        classic(crossed, matching="psf")


def test_the_naive_difference_leaves_residuals(static):
    pair, sources, _ = static
    difference = classic(pair, matching="naive")
    assert difference.origin["classic"]["matching"] == "naive"
    assert difference.score[around(difference.shape, sources, 3)].std() > 3


def test_an_unknown_way_of_matching_is_told():
    with pytest.raises(
        ScienceError, match="no way of matching is named 'sfft': use auto, kernel, psf, naive"
    ):
        classic(known_pair(), matching="sfft")


@pytest.mark.parametrize("matching", ["auto", "kernel", "psf", "naive"])
def test_a_pair_must_be_normalized(matching):
    with pytest.raises(ScienceError, match="normalize"):
        classic(known_pair().replace(normalization=None), matching=matching)
