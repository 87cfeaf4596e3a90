"""Forced photometry against sources whose flux and place are known."""

import numpy as np
import pytest

from astrid_assets.images.masks import bits
from astrid_assets.science import zogy
from astrid_assets.science.forced import (
    baseline,
    blank_places,
    forced_flux,
    forced_photometry,
    interpolate,
    quiet_epochs,
    reference_flux,
)
from astrid_assets_tests.science.sky import known_pair


def grid(side, step, seed):
    """Places on a grid, each at a random part of a pixel."""
    rng = np.random.default_rng(seed)
    x, y = (a.ravel().astype(float) for a in np.meshgrid(*2 * [np.arange(30, side - 25, step)]))
    return x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, x.size)


def test_a_band_limited_image_is_known_between_its_pixels():
    y, x = np.mgrid[:64, :64]

    def wave(x, y):
        return np.cos(1.1 * x + 0.3) * np.sin(0.8 * y) + 0.5 * np.cos(0.5 * x - 0.9 * y)

    at_x, at_y = np.random.default_rng(1).uniform(10, 54, (2, 200))
    assert interpolate(wave(x, y), at_x, at_y) == pytest.approx(wave(at_x, at_y), abs=0.01)
    assert interpolate(np.ones((64, 64)), at_x, at_y) == pytest.approx(np.ones(200))
    image = np.random.default_rng(2).normal(size=(64, 64))
    assert interpolate(image, np.array([7.0, 20.0]), np.array([9.0, 63.0])) == pytest.approx(
        image[[9, 63], [7, 20]]
    )


@pytest.mark.parametrize("fwhm", [(2.2, 1.8), (1.9, 1.9), (4.0, 2.0)])
def test_the_flux_has_no_bias_wherever_a_source_lies_on_its_pixel(fwhm):
    x, y = grid(192, 24, 1)
    sources = [(a, b, 1000.0, 0.0) for a, b in zip(x, y, strict=True)]
    difference = zogy(known_pair(size=192, fwhm=fwhm, sigma=(1e-3, 1e-3), sources=sources))
    flux, _, flags = forced_flux(difference, x, y)
    assert np.abs(flux / 1000 - 1).max() < 0.005
    assert not flags.any()


def test_the_errors_are_those_of_the_noise():
    x, y = grid(384, 16, 2)
    for signed in (400.0, -300.0):
        science = max(signed, 0.0)
        sources = [(a, b, science, science - signed) for a, b in zip(x, y, strict=True)]
        difference = zogy(known_pair(seed=4, size=384, sources=sources))
        flux, error, _ = forced_flux(difference, x, y)
        pull = (flux - signed) / error
        assert pull.mean() == pytest.approx(0, abs=3.5 / np.sqrt(len(x)))
        assert pull.std() == pytest.approx(1, abs=3.5 / np.sqrt(2 * len(x)))


def test_masked_and_missing_pixels_are_flagged():
    pair = known_pair(size=96)
    mask, data = pair.science.mask.copy(), pair.reference.data.copy()
    mask[50, 40] = bits("SATURATED")
    data[20:30, 60:70] = np.nan
    pair = pair.replace(science=pair.science.replace(mask=mask), reference=pair.reference.replace(data=data))
    flux, error, flags = forced_flux(zogy(pair), np.array([41.2, 65.0, 70.0]), np.array([50.3, 25.0, 60.0]))
    assert flags[0] & bits("SATURATED")
    assert flags[1] & bits("REF_NO_DATA")
    assert flags[2] == 0
    assert np.isfinite(flux).tolist() == np.isfinite(error).tolist() == [True, False, True]


def test_the_reference_is_measured_on_the_scale_of_the_science_image():
    x, y = grid(256, 20, 3)
    sources = [(a, b, 0.0, 800.0) for a, b in zip(x, y, strict=True)]
    pair = known_pair(seed=5, size=256, flux_ratio=0.8, sources=sources)
    flux, error = reference_flux(pair, x, y)
    pull = (flux - 800.0) / error
    assert np.median(flux) == pytest.approx(800.0, rel=0.005)
    assert pull.std() == pytest.approx(1, abs=3.5 / np.sqrt(2 * len(x)))
    outside, _ = reference_flux(pair, np.array([-30.0]), np.array([5.0]))
    assert np.isnan(outside).all()


def test_correlated_noise_raises_the_error_of_the_reference():
    pair = known_pair(size=96)
    correlation = np.full((3, 3), 0.25)
    correlation[1, 1], correlation[[0, 0, 2, 2], [0, 2, 0, 2]] = 1.0, 0.0
    image = pair.reference.replace(noise_correlation=correlation)
    place = (np.array([48.0]), np.array([48.0]))
    white = reference_flux(pair, *place)[1]
    raised = reference_flux(pair.replace(reference=image), *place)[1]
    stamp = pair.reference.psf.at(48, 48)
    neighbours = 2 * (stamp[1:] * stamp[:-1]).sum() + 2 * (stamp[:, 1:] * stamp[:, :-1]).sum()
    expected = np.sqrt(1 + 0.25 * neighbours / (stamp**2).sum())
    assert raised / white == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("x", "y", "known"), [(-0.4, 50.0, True), (95.4, 95.3, True), (-0.6, 50.0, False)])
def test_only_places_on_the_image_are_measured(x, y, known):
    difference = zogy(known_pair(size=96))
    flux, error, flags = forced_flux(difference, np.array([x]), np.array([y]))
    assert np.isfinite(flux[0]) == np.isfinite(error[0]) == known
    assert bool(flags[0] & bits("NO_DATA")) is not known


def test_the_columns_of_an_epoch_agree_with_each_other():
    pair = known_pair(size=96, sources=[(40.4, 50.3, 900.0, 300.0)])
    found = forced_photometry(zogy(pair), pair, np.array([40.4]), np.array([50.3]))
    njy = pair.science.zeropoint.njy
    assert found["flux"] == pytest.approx([600.0], abs=5 * found["flux_error"][0])
    assert found["flux_njy"] == pytest.approx(found["flux"] * njy)
    assert found["total_flux_njy"] == pytest.approx(found["flux_njy"] + found["reference_flux_njy"])
    assert found["total_flux_njy"] == pytest.approx([900.0 * njy], rel=0.1)
    assert found["limit_5sigma_njy"] == pytest.approx(5 * found["flux_njy_error"])
    blind = zogy(pair).replace(zeropoint=None)
    assert np.isnan(forced_photometry(blind, pair, np.array([40.4]), np.array([50.3]))["flux_njy"]).all()


def test_a_baseline_has_offset_and_scale_of_the_quiet_epochs():
    rng = np.random.default_rng(6)
    error = np.full(400, 2.0)
    flux = 3.0 + rng.normal(0, 5.0, 400)
    quiet = np.arange(400) < 300
    flux[~quiet] += 1000
    found = baseline(flux, error, quiet)
    assert found.offset == pytest.approx(3.0, abs=1.0)
    assert found.scale == pytest.approx(2.5, rel=0.15)
    assert baseline(3.0 + 0.1 * flux, error, quiet).scale == 1.0
    few = baseline(flux[:9], error[:9], np.ones(9, bool))
    assert np.isnan(few.offset)
    assert np.isnan(few.scale)


def test_quiet_is_far_from_every_detection():
    mjd = np.array([800.0, 899.0, 901.0, 1000.0, 1010.0, 1109.0, 1111.0, np.nan])
    found = quiet_epochs(mjd, np.array([1000.0, 1010.0]))
    assert found.tolist() == [True, True, False, False, False, False, True, False]
    assert quiet_epochs(mjd, np.zeros(0)).all()


def test_blank_places_are_blank():
    sources = [(60.0, 60.0, 5000.0, 5000.0), (120.0, 90.0, 900.0, 0.0)]
    pair = known_pair(size=192, sources=sources)
    difference = zogy(pair)
    mask = difference.mask.copy()
    mask[150:, :] |= bits("BAD")
    difference = difference.replace(mask=mask)
    occupied = (np.array([120.0]), np.array([90.0]))
    x, y = blank_places(difference, pair, occupied, np.random.default_rng(7))
    assert len(x) == 200
    assert np.hypot(x - 60, y - 60).min() > 3
    assert np.hypot(x - 120, y - 90).min() > 6
    assert y.max() < 149
    flux, error, _ = forced_flux(difference, x, y)
    assert (flux / error).std() == pytest.approx(1, abs=0.18)
    tiny = known_pair(size=24)
    assert len(blank_places(zogy(tiny), tiny, occupied, np.random.default_rng(7))[0]) == 0
