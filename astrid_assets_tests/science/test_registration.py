"""Registration and resampling against known transformations."""

import itertools
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.errors import NoOverlapError, RegistrationError, ScienceError
from astrid_assets.images import MaskedImage, read_image, read_pair, write_pair
from astrid_assets.images.masks import bits
from astrid_assets.images.psf import polynomial_terms
from astrid_assets.science import align
from astrid_assets.science.asterisms import apply_affine
from astrid_assets.science.centroids import find_centroids
from astrid_assets.science.noise import correlation_of
from astrid_assets.science.registration import match_sources
from astrid_assets.science.warp import PixelMap, map_pixels, warp
from astrid_assets_tests.science.sky import GAIN, SKY, draw, expose, make_sky, moffat, tan_wcs


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
    with pytest.raises(RegistrationError, match=r"stars match within .* different sky, .* do not match"):
        align(one.science, other.reference)


def test_wrong_wcs_is_refused_and_its_error_told():
    """Never silently replaced by the star patterns; they say by how much it is off."""
    sky = make_sky(seed=4, n_stars=200, n_transients=0)
    moved = sky.science.wcs.deepcopy()
    moved.wcs.crpix += [70.0, -45.0]
    with pytest.raises(RegistrationError, match=r"WCS ignored, -70\.\d and \+45\.\d pixels in x and y"):
        align(sky.science.replace(wcs=moved), sky.reference)


def view(stars, flux, shape, matrix, *, fwhm=2.4, seed=1, **more):
    """An image without WCS: stars of a common plane, put on its pixels by an affine map."""
    x, y = apply_affine(np.asarray(matrix, float), *stars)
    image = np.full(shape, SKY)
    draw(image, x, y, flux, fwhm)
    return MaskedImage(expose(image, np.random.default_rng(seed)), gain=GAIN, **more), x, y


def misplaced(registration, shape, x, y, x_r, y_r):
    """Return how far from its true place the registration puts each star, reference pixels."""
    ny, nx = shape
    terms = polynomial_terms(2 * x / (nx - 1) - 1, 2 * y / (ny - 1) - 1, registration.order)
    dx, dy = (np.tensordot(c, terms, axes=1) for c in registration.coefficients)
    at = apply_affine(np.array(registration.transform), x - dx, y - dy)
    return np.hypot(at[0] - x_r, at[1] - y_r)


@pytest.mark.parametrize(
    ("scale", "rotation", "mirrored"),
    [(1.0, 0.0, False), (1.0, 115.0, True), (2.5, -40.0, False), (0.4, 200.0, True)],
)
def test_images_without_wcs_are_matched_star_to_star(scale, rotation, mirrored):
    rng = np.random.default_rng(20)
    stars, flux = rng.uniform(-100, 400, (2, 250)), 10 ** rng.uniform(3.2, 5, 250)
    science, x, y = view(stars, flux, (300, 300), np.eye(2, 3), seed=2)
    c, s = scale * np.cos(np.radians(rotation)), scale * np.sin(np.radians(rotation))
    linear = np.array([[c, -s], [s, c]]) @ np.diag([-1 if mirrored else 1, 1])
    side = int(450 * scale)
    matrix = np.c_[linear, side / 2 - linear @ [150.0, 150.0]]
    variable = flux * rng.lognormal(0, 0.3, flux.size)
    reference, x_r, y_r = view(stars, variable, (side, side), matrix, fwhm=max(2.0, 1.9 * scale), seed=3)
    pair = align(science, reference)
    registration = pair.registration
    assert registration.method == "stars"
    assert registration.n_matched > 30
    assert pair.overlap > 0.99
    inside = (x > 5) & (x < 294) & (y > 5) & (y < 294)
    assert misplaced(registration, (300, 300), x, y, x_r, y_r)[inside].max() < 0.06 * max(1, scale)
    # and the light is where the registration says
    i, j = match_sources(x, y, *positions(pair.reference), search_radius=2)
    offset = np.c_[x[i], y[i]] - np.c_[positions(pair.reference)][j]
    assert np.abs(np.median(offset, axis=0)).max() < 0.03


def positions(image):
    found = find_centroids(image)
    return found.x, found.y


def test_one_wcs_is_no_wcs():
    """A single WCS tells nothing about the other image; the pair keeps that of the science image."""
    sky = make_sky(seed=2, n_transients=0, size=300)
    pair = align(sky.science, sky.reference.replace(wcs=None))
    x_r, y_r = sky.reference.wcs.all_world2pix(*sky.science.wcs.all_pix2world(sky.x, sky.y, 0), 0)
    inside = (sky.x > 0) & (sky.x < 300) & (sky.y > 0) & (sky.y < 300)
    assert misplaced(pair.registration, (300, 300), sky.x, sky.y, x_r, y_r)[inside].max() < 0.05
    assert pair.reference.wcs is sky.science.wcs
    other = align(sky.science.replace(wcs=None), sky.reference)
    assert other.registration.method == "stars"
    assert other.reference.wcs is None


def test_partial_overlap_without_wcs():
    rng = np.random.default_rng(21)
    stars, flux = rng.uniform([[-20], [-20]], [[640], [380]], (2, 400)), 10 ** rng.uniform(3.2, 4.8, 400)
    science, *_ = view(stars, flux, (350, 350), np.eye(2, 3), seed=2)
    reference, *_ = view(stars, flux, (350, 350), [[1, 0, -270], [0, 1, 4]], seed=3)
    pair = align(science, reference)
    assert pair.overlap == pytest.approx(80 / 350, abs=0.02)
    assert np.array(pair.registration.transform)[:, 2] == pytest.approx([-270, 4], abs=2)
    with pytest.raises(NoOverlapError, match=r"overlap by 2\d\.\d%"):
        align(science, reference, min_overlap=0.5)


def test_different_skies_without_wcs_are_refused_with_counts():
    one, other = (make_sky(seed=k, size=300, n_stars=80).science.replace(wcs=None) for k in (6, 7))
    with pytest.raises(RegistrationError, match=r"\d+ and \d+ sources, \d+ match, \d+ needed"):
        align(one, other)


def test_hot_pixels_are_no_stars():
    """Equal places in both images, many more than stars and brighter: they would match at no offset."""
    rng = np.random.default_rng(22)
    stars, flux = rng.uniform(-50, 400, (2, 130)), 10 ** rng.uniform(3.2, 4.8, 130)
    rows, columns = rng.integers(3, 297, (2, 500))
    heights = 10 ** rng.uniform(3, 4.5, 500)
    images = []
    for k, matrix in enumerate(([[1, 0, 0], [0, 1, 0]], [[1, 0, 31.3], [0, 1, -18.6]])):
        image, *_ = view(stars, flux, (300, 300), matrix, seed=k)
        data = image.data.copy()
        data[rows, columns] += heights
        images.append(image.replace(data=data))
    registration = align(*images).registration
    x, y = apply_affine(np.array(registration.transform), np.array([150.0]), np.array([150.0]))
    assert (x[0], y[0]) == pytest.approx((181.3, 131.4), abs=0.2)


def test_moving_stars_and_variable_ones_are_left_out():
    """A fifth of the stars moved by up to a pixel: the solution is that of the others."""
    rng = np.random.default_rng(23)
    n = 250
    stars, flux = rng.uniform(10, 490, (2, n)), 10 ** rng.uniform(3.4, 4.8, n)
    wcs = tan_wcs((500, 500))
    science, *_ = view(stars, flux, (500, 500), np.eye(2, 3), seed=1, wcs=wcs)
    moved = stars + np.where(np.arange(n) < n // 5, 1.0, 0.0) * rng.uniform(0.3, 1.0, n)
    reference, *_ = view(moved, flux * rng.lognormal(0, 0.5, n), (500, 500), np.eye(2, 3), seed=2, wcs=wcs)
    pair = align(science, reference)
    assert np.abs(pair.registration.coefficients).max() < 0.02
    assert max(pair.registration.residual_rms) < 0.05


def test_distortion_is_fitted_and_the_residual_honest():
    """A cubic of up to 2.5 pixels; the residuals of a fit are not smaller than the errors they stand for."""
    rng = np.random.default_rng(24)
    shape = (700, 700)
    x, y = rng.uniform(5, 695, (2, 300))
    flux = 10 ** rng.uniform(3.6, 4.6, 300)
    u, v = 2 * x / 699 - 1, 2 * y / 699 - 1
    model = np.full(shape, SKY), np.full(shape, SKY)
    draw(model[0], x, y, flux, 2.4)
    draw(model[1], x + 2.5 * u**2 * v, y - 1.5 * u * v, flux, 2.2)
    wcs = tan_wcs(shape)
    images = [MaskedImage(expose(m, rng), gain=GAIN, wcs=wcs) for m in model]
    registration = align(*images).registration
    assert registration.method == "wcs+stars"
    assert registration.order == 3
    terms = polynomial_terms(u, v, 3)
    dx, dy = (np.tensordot(c, terms, axes=1) for c in registration.coefficients)
    # offsets are those of the science image against the reference; to first order their negative
    assert np.median(np.abs(dx + 2.5 * u**2 * v)) < 0.05
    assert np.median(np.abs(dy - 1.5 * u * v)) < 0.05
    assert registration.n_matched > 200


def test_registration_without_wcs_survives_its_file(tmp_path):
    sky = make_sky(seed=2, n_transients=0, size=200, n_stars=80)
    pair = align(sky.science.replace(wcs=None), sky.reference.replace(wcs=None))
    write_pair(tmp_path / "pair.fits", pair)
    back = read_pair(tmp_path / "pair.fits")
    assert back.registration == pair.registration
    assert back.registration.transform == pair.registration.transform


def test_no_wcs_and_no_stars_is_refused_unless_aligned_is_stated():
    data = np.random.default_rng(1).normal(100, 5, (64, 64))
    image = MaskedImage(data)
    with pytest.raises(
        RegistrationError, match=r"no celestial WCS in the science and reference image.* 0 and 0"
    ):
        align(image, image)
    assert align(image, image, assume_aligned=True).registration.method == "assumed"
    with pytest.raises(RegistrationError, match="shape"):
        align(image, MaskedImage(data[:32]), assume_aligned=True)


@pytest.mark.parametrize("n_stars", [0, 1, 2])
def test_hardly_any_stars(n_stars):
    """The WCS is taken as it is; without one there is nothing to go by."""
    model = np.full((60, 60), SKY)
    draw(model, [20.0, 41.0][:n_stars], [33.0, 18.0][:n_stars], [2e4, 1e4][:n_stars], 2.4)
    image = MaskedImage(expose(model, np.random.default_rng(1)), wcs=tan_wcs(model.shape))
    assert align(image, image).registration.method == "wcs"
    with pytest.raises(RegistrationError, match=f"{n_stars} and {n_stars} sources"):
        align(image.replace(wcs=None), image)


@pytest.mark.parametrize("shape", [(20, 20), (90, 70)])
@pytest.mark.parametrize("with_wcs", [True, False])
def test_images_of_nothing(shape, with_wcs):
    wcs = tan_wcs(shape) if with_wcs else None
    empty = MaskedImage(np.full(shape, np.nan), wcs=wcs)
    constant = MaskedImage(np.full(shape, 7.0), wcs=wcs)
    for pair in ((empty, constant), (constant, empty), (empty, empty)):
        with pytest.raises(ScienceError, match="pixels are usable"):
            align(*pair)
    if with_wcs:
        assert align(constant, constant).registration.method == "wcs"
    else:
        with pytest.raises(RegistrationError, match="0 and 0 sources"):
            align(constant, constant)


@pytest.mark.real_data
def test_crowded_nights_without_wcs(real_data):
    """SAAO KB13475: a field towards the bulge; from night to night the telescope points elsewhere."""
    files = sorted((real_data / "pairs/saao_kb13475").glob("*.fits"))
    images = [read_image(file) for file in files]
    for science, reference in itertools.combinations(images, 2):
        pair = align(science, reference)
        assert pair.registration.method == "stars"
        assert pair.registration.n_matched > 200
        assert max(pair.registration.residual_rms) < 0.08
        matrix = np.array(pair.registration.transform)
        assert np.linalg.det(matrix[:, :2]) == pytest.approx(1.0, abs=0.002)
        assert pair.overlap > 0.85


@pytest.mark.real_data
def test_real_stars_agree_with_a_published_alignment(real_data):
    """ESO 085-030: the frames were aligned to each other by others."""
    images = [
        read_image(real_data / f"pairs/properimage_eso085/aligned_eso085-030-00{k}.fit") for k in (4, 5)
    ]
    registration = align(*images).registration
    assert max(registration.residual_rms) < 0.1
    ny, nx = images[0].shape
    x, y = np.array([0.0, nx, 0.0, nx]), np.array([0.0, 0.0, ny, ny])
    assert misplaced(registration, (ny, nx), x, y, x, y).max() < 0.5


@pytest.mark.real_data
def test_real_wcs_and_star_patterns_agree(real_data):
    """JWST: two programmes 126 days apart, on one grid, with and without their WCS."""
    names = ("2561001002-02561-o001_t003_nircam_clear", "1324001001-01324-o001_t001_nircam_clear")
    folder = real_data / "pairs/jwst_nircam_a2744"
    images = [read_image(folder / f"jw0{name}-f200w_i2d_stamp.fits") for name in names]
    by_wcs = align(*images).registration
    assert by_wcs.n_matched > 100
    assert max(by_wcs.residual_rms) < 0.1
    by_stars = align(*(image.replace(wcs=None) for image in images)).registration
    assert by_stars.n_matched > 100
    x, y = np.random.default_rng(1).uniform(100, 800, (2, 30))
    assert np.median(misplaced(by_stars, images[0].shape, x, y, x, y)) < 0.3


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
