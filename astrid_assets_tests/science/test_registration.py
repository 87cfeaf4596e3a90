"""Registration and resampling against known transformations."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.errors import NoOverlapError, RegistrationError
from astrid_assets.images import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.science import align
from astrid_assets.science.noise import correlation_of
from astrid_assets.science.registration import match_sources
from astrid_assets.science.warp import PixelMap, map_pixels, warp
from astrid_assets_tests.science.sky import draw, make_sky, moffat, tan_wcs


def test_wrong_pointing_is_found_and_removed():
    sky = make_sky(seed=2, n_transients=0)
    moved = sky.science.wcs.deepcopy()
    moved.wcs.crpix += [7.3, -4.6]
    pair = align(sky.science.replace(wcs=moved), sky.reference)
    assert pair.registration.initial_offset == pytest.approx((-7.3, 4.6), abs=0.05)
    assert np.abs(pair.registration.residual_offset).max() < 0.02
    assert max(pair.registration.residual_rms) < 0.1
    assert pair.overlap > 0.99


def test_mirrored_scaled_and_rotated_reference_lands_on_the_stars():
    shape, wide = (300, 300), (420, 420)
    wcs_s = tan_wcs(shape)
    wcs_r = tan_wcs(wide, scale=0.93, rotation=40.0)
    wcs_r.wcs.cd = wcs_r.wcs.cd @ np.diag([-1, 1])
    wcs_r.wcs.set()
    x, y = np.array([60.2, 150.7, 240.4]), np.array([200.3, 100.9, 90.1])
    x_r, y_r = wcs_r.all_world2pix(*wcs_s.all_pix2world(x, y, 0), 0)
    image = np.zeros(wide)
    draw(image, x_r, y_r, [9000.0] * 3, 3.0 / 0.93)
    warped = warp(MaskedImage(image, wcs=wcs_r), map_pixels(wcs_s, shape, wcs_r), wcs=wcs_s)
    truth = np.zeros(shape)
    draw(truth, x, y, [9000.0] * 3, 3.0)
    # the reference's ellipticity turns with it: compare centroids and fluxes
    for a, b in zip(x.round().astype(int), y.round().astype(int), strict=True):
        box = (slice(b - 12, b + 13), slice(a - 12, a + 13))
        assert warped.data[box].sum() == pytest.approx(truth[box].sum(), rel=0.003)
        for axis in (0, 1):
            grid = np.arange(25)
            centroids = [(i[box].sum(axis=axis) * grid).sum() / i[box].sum() for i in (warped.data, truth)]
            assert centroids[0] == pytest.approx(centroids[1], abs=0.03)


@pytest.mark.parametrize("kind", ["TAN", "SIP", "TPV"])
def test_coarse_grid_agrees_with_the_full_transformation(kind):
    header = tan_wcs((700, 900), rotation=12.0).to_header()
    header["CTYPE1"], header["CTYPE2"] = {
        "TAN": ("RA---TAN", "DEC--TAN"),
        "SIP": ("RA---TAN-SIP", "DEC--TAN-SIP"),
        "TPV": ("RA---TPV", "DEC--TPV"),
    }[kind]
    if kind == "SIP":
        header.update(
            {"A_ORDER": 3, "B_ORDER": 3, "A_2_0": 2e-6, "A_0_3": 1e-9, "B_1_1": -3e-6, "B_3_0": 2e-9}
        )
    if kind == "TPV":
        header.update({"PV1_1": 1.0, "PV2_1": 1.0, "PV1_4": 0.02, "PV2_5": -0.03, "PV1_7": 0.05})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = WCS(fits.Header(header))
    output = tan_wcs((600, 640), rotation=3.0)
    pixels = map_pixels(output, (600, 640), source)
    y, x = np.mgrid[0:600:37, 0:640:41]
    world = output.all_pix2world(x.ravel(), y.ravel(), 0)
    true_x, true_y = source.all_world2pix(*world, 0)
    assert np.abs(pixels.x[y, x].ravel() - true_x).max() < 1e-3
    assert np.abs(pixels.y[y, x].ravel() - true_y).max() < 1e-3


def test_flux_is_conserved_between_pixel_scales():
    coarse, fine = tan_wcs((80, 80), scale=1.0), tan_wcs((400, 400), scale=0.25)
    image = np.zeros((400, 400))
    draw(image, [203.0], [190.0], [1e4], 12.0)
    warped = warp(MaskedImage(image, wcs=fine), map_pixels(coarse, (80, 80), fine), wcs=coarse)
    assert np.nansum(warped.data) == pytest.approx(image.sum(), rel=1e-3)


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
def test_variance_and_correlation_by_phase(phase):
    rng = np.random.default_rng(11)
    noise = rng.normal(0, 2, (500, 500)).astype(np.float32)
    y, x = np.mgrid[10:490, 10:490].astype(np.float32)
    pixels = PixelMap(x + phase, y + phase, np.ones_like(x))
    image = MaskedImage(noise, variance=np.full(noise.shape, 4.0))
    warped = warp(image, pixels)
    assert warped.data.var() / np.median(warped.variance) == pytest.approx(1, abs=0.015)
    measured = correlation_of(warped.data, np.ones(x.shape, bool), np.ones(x.shape))
    if phase == 0:
        assert measured is None
    else:
        assert np.abs(measured - warped.noise_correlation).max() < 0.03


def test_area_average_states_its_own_noise():
    rng = np.random.default_rng(12)
    coarse, fine = tan_wcs((120, 120), scale=1.0), tan_wcs((520, 520), scale=0.25)
    noise = rng.normal(0, 1, (520, 520))
    image = MaskedImage(noise, variance=np.ones(noise.shape), wcs=fine)
    warped = warp(image, map_pixels(coarse, (120, 120), fine), wcs=coarse)
    inner = warped.data[5:-5, 5:-5]
    assert inner.var() / np.median(warped.variance[5:-5, 5:-5]) == pytest.approx(1, abs=0.06)


def test_masks_travel_with_their_names():
    mask = np.zeros((100, 100), np.int32)
    mask[40, 50] = bits("SATURATED")
    mask[60:65, 20] = bits("BAD")
    data = np.ones((100, 100))
    data[40, 50] = 1e6
    y, x = np.mgrid[0:100, 0:110].astype(np.float32)
    warped = warp(MaskedImage(data, mask=mask), PixelMap(x + 0.5, y + 0.5, np.ones_like(x)))
    assert warped.mask[39, 49] & bits("SATURATED")
    assert warped.mask[62, 19] & bits("BAD")
    assert warped.mask[50, 105] == bits("NO_DATA")
    good = ~warped.bad
    assert np.abs(warped.data[good] - 1).max() < 0.05


def test_different_skies_are_refused():
    sky = make_sky(seed=3, n_transients=0, size=200, n_stars=30)
    elsewhere = sky.reference.replace(wcs=tan_wcs(sky.reference.shape, centre=(150.0, 21.0)))
    with pytest.raises(NoOverlapError, match=r"overlap by 0.0%"):
        align(sky.science, elsewhere)


def test_wcs_that_points_at_other_stars_is_refused():
    one, other = make_sky(seed=4, n_stars=200), make_sky(seed=5, n_stars=200)
    with pytest.raises(RegistrationError, match="stars match"):
        align(one.science, other.reference)


def test_no_wcs_is_refused_unless_aligned_is_stated():
    data = np.random.default_rng(1).normal(100, 5, (64, 64))
    image = MaskedImage(data)
    with pytest.raises(RegistrationError, match="no celestial WCS"):
        align(image, image)
    assert align(image, image, assume_aligned=True).registration.method == "assumed"
    with pytest.raises(RegistrationError, match="shape"):
        align(image, MaskedImage(data[:32]), assume_aligned=True)


def test_matching_finds_a_large_shift_among_strangers():
    rng = np.random.default_rng(7)
    x, y = rng.uniform(0, 500, (2, 80))
    x2, y2 = np.r_[x[:50] - 21.3, rng.uniform(0, 500, 60)], np.r_[y[:50] + 14.8, rng.uniform(0, 500, 60)]
    i, j = match_sources(x, y, x2, y2, search_radius=30)
    right = (i == j) & (i < 50)
    assert right.sum() >= 45
    assert np.mean(right) > 0.9


def test_undistorted_star_keeps_its_profile():
    image = np.zeros((61, 61))
    draw(image, [30.0], [30.0], [1.0], 3.0)
    y, x = np.mgrid[:61, :61].astype(np.float32)
    warped = warp(MaskedImage(image), PixelMap(x + 0.37, y - 0.21, np.ones_like(x)))
    truth = moffat(30 - 0.37, 30 + 0.21, 61, 3.0)
    assert np.nanmax(np.abs(warped.data - truth)) < 0.01 * truth.max()
