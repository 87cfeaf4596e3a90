"""The empirical PSF against the profile the stars were drawn with."""

import numpy as np
import pytest

from astrid_assets.errors import PsfError
from astrid_assets.images.psf import Psf, fwhm_of
from astrid_assets.science.psf import fit_stars, measure_psf
from astrid_assets_tests.science.sky import draw, moffat


def star_field(fwhm, *, n=60, size=500, sigma=3.0, seed=2):
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    step = (size - 60) / side
    grid = 30 + step / 2 + step * np.arange(side)
    x, y = (g.ravel()[:n] + rng.uniform(-3, 3, n) for g in np.meshgrid(grid, grid))
    flux = 10 ** rng.uniform(3.5, 4.7, n)
    truth = np.zeros((size, size))
    draw(truth, x, y, flux, fwhm)
    variance = sigma**2 + truth / 6.2
    order = np.argsort(-flux)
    return truth + rng.normal(size=truth.shape) * np.sqrt(variance), variance, x[order], y[order], flux[order]


def fine_moffat(size, fwhm, step):
    """A star integrated over the pixels, at every sub-pixel phase: ``step`` samples in a pixel."""
    half, fine = size // 2, np.empty((size * step, size * step))
    for i in range(step):
        for j in range(step):
            fine[i::step, j::step] = moffat(half - j / step, half - i / step, size, fwhm)
    return fine[: step * (size - 1) + 1, : step * (size - 1) + 1]


@pytest.mark.parametrize(("fwhm", "step"), [(1.8, 3), (2.6, 2), (5.0, 1)])
def test_profile_of_the_stars_is_recovered(fwhm, step):
    """At all sub-pixel phases, of which an undersampled image shows each star at one."""
    data, variance, x, y, _ = star_field(fwhm)
    psf = measure_psf(data, variance, np.zeros(data.shape, bool), np.rint(x), np.rint(y))
    assert psf.oversampling == step
    truth = fine_moffat(psf.shape[0], fwhm, step)
    assert psf.fwhm == pytest.approx(fwhm_of(truth) / step, rel=0.006)
    measured = psf.samples_at(250, 250)
    core = truth > 0.01 * truth.max()
    assert np.abs(measured - truth)[core].sum() / step**2 < 0.006
    # the light of a star does not depend on where it falls on a pixel
    sums = [measured[i::step, j::step].sum() for i in range(step) for j in range(step)]
    assert np.mean(sums) == pytest.approx(1)
    assert np.abs(np.subtract(sums, 1)).max() < 5e-4


def test_fluxes_and_positions_are_unbiased():
    data, variance, x, y, flux = star_field(2.4)
    bad = np.zeros(data.shape, bool)
    psf = measure_psf(data, variance, bad, x, y)
    fit = fit_stars(data, variance, bad, psf, np.rint(x), np.rint(y))
    pull = (fit.flux - flux) / np.hypot(fit.flux_error, 0.005 * flux)
    assert abs(np.median(fit.flux / flux) - 1) < 0.01
    assert pull.std() < 1.3
    assert np.median(np.hypot(fit.x - x, fit.y - y)) < 0.03


def test_bad_pixels_and_neighbours_do_no_harm():
    data, variance, x, y, _ = star_field(2.4)
    draw(data, x[::4] + 7, y[::4] - 5, np.full(len(x[::4]), 4000.0), 2.4)
    bad = np.zeros(data.shape, bool)
    rng = np.random.default_rng(4)
    hits = rng.integers(0, 500, (2, 400))
    data[hits[0], hits[1]] = 60000
    bad[hits[0], hits[1]] = True
    psf = measure_psf(data, variance, bad, x, y)
    truth = moffat(20, 20, 41, 2.4)
    assert psf.fwhm == pytest.approx(fwhm_of(truth), rel=0.025)


def test_too_few_stars_is_an_error_that_counts():
    data, variance, x, y, _ = star_field(2.4, n=4)
    with pytest.raises(PsfError, match="2 of 2 stars are usable for a PSF, 3 needed"):
        measure_psf(data, variance, np.zeros(data.shape, bool), x[:2], y[:2])


def test_order_drops_with_the_number_of_stars():
    data, variance, x, y, _ = star_field(2.4, n=60)
    bad = np.zeros(data.shape, bool)
    orders = [measure_psf(data, variance, bad, x[:n], y[:n]).order for n in (11, 24, 60)]
    assert orders == [0, 1, 2]


def test_varying_psf_is_a_unit_sum_everywhere():
    basis = np.zeros((3, 25, 25))
    basis[0] = moffat(12, 12, 25, 2.2)
    basis[1] = moffat(12, 12, 25, 2.6) - moffat(12, 12, 25, 2.2)
    psf = Psf(basis, (100, 200), order=1)
    stamps = psf.at(np.array([0.0, 199.0]), np.array([50.0, 50.0]))
    assert stamps.sum(axis=(1, 2)) == pytest.approx([1, 1])
    assert fwhm_of(stamps[1]) > fwhm_of(stamps[0])


@pytest.mark.parametrize("bad", [np.ones((4, 4)), np.full((5, 5), np.nan), -np.ones((5, 5))])
def test_impossible_stamps_are_refused(bad):
    with pytest.raises(ValueError, match="PSF stamp"):
        Psf(bad, (10, 10))
