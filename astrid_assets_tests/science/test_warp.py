"""Resampling: positions, flux, variance, masks and PSF against analytic answers and `reproject`."""

import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.images import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.images.psf import Psf
from astrid_assets.science.warp import MAP_BOUND, PixelMap, map_pixels, warp
from astrid_assets_tests.science.sky import draw, moffat, tan_wcs


def _turned(shape, *, scale=1.01, rotation=0.0, flip=False, stretch=1.0):
    """A gnomonic WCS of any scale in x and y, direction and parity."""
    wcs = tan_wcs(shape, scale=scale, rotation=rotation)
    wcs.wcs.cd = wcs.wcs.cd @ np.diag([(-1 if flip else 1) * stretch, 1])
    wcs.wcs.set()
    return wcs


def _distorted(kind, shape=(700, 900)):
    header = tan_wcs(shape, rotation=12.0).to_header()
    header["CTYPE1"], header["CTYPE2"] = f"RA---{kind}", f"DEC--{kind}"
    if kind == "TAN-SIP":
        header.update(
            {"A_ORDER": 3, "B_ORDER": 3, "A_2_0": 2e-6, "A_0_3": 1e-9, "B_1_1": -3e-6, "B_3_0": 2e-9}
        )
    if kind == "TPV":
        header.update({"PV1_1": 1.0, "PV2_1": 1.0, "PV1_4": 0.02, "PV2_5": -0.03, "PV1_7": 0.05})
    return WCS(fits.Header(header))


def _largest_error(pixels, output, source):
    """The largest distance from the full transformation, at pixels of all phases of the grid."""
    ny, nx = pixels.shape
    y, x = (p.ravel() for p in np.mgrid[0:ny:7, 0:nx:9])
    at = pixels.at(x, y)
    true_x, true_y = source.all_world2pix(*output.all_pix2world(x, y, 0), 0, tolerance=1e-7)
    found = np.isfinite(at.x)
    assert found.any()
    return max(np.abs(at.x - true_x)[found].max(), np.abs(at.y - true_y)[found].max())


@pytest.mark.parametrize("kind", ["TAN", "TAN-SIP", "TPV"])
def test_positions_agree_with_the_full_transformation(kind):
    output, source = tan_wcs((600, 640), rotation=3.0), _distorted(kind)
    pixels = map_pixels(output, (600, 640), source)
    assert _largest_error(pixels, output, source) < MAP_BOUND
    y, x = np.mgrid[0:600:37, 0:640:41]
    at = pixels.at(x.ravel(), y.ravel())
    for full, some in ((pixels.x, at.x), (pixels.y, at.y), (pixels.area, np.abs(np.linalg.det(at.jacobian)))):
        assert full.shape == (600, 640)
        assert full[y, x].ravel() == pytest.approx(some, abs=1e-4)


class _Wavy:
    """A transformation whose fourth derivative is known: a sine of a given length."""

    def __init__(self, length, amplitude=2.0):
        self.length, self.amplitude = length, amplitude

    def all_pix2world(self, x, y, _origin):
        return x, y

    def all_world2pix(self, x, y, _origin, **_settings):
        wave = self.amplitude * np.sin(2 * np.pi * np.asarray(x) / self.length)
        return x + wave, y + 0.5 * self.amplitude * np.cos(2 * np.pi * np.asarray(y) / self.length)


@pytest.mark.parametrize(("length", "step"), [(5000.0, 64), (1200.0, 32), (400.0, 16), (250.0, 8)])
def test_coarse_grid_is_refined_until_the_bound_holds(length, step):
    wcs = _Wavy(length)
    pixels = map_pixels(wcs, (500, 700), wcs)
    assert pixels.step == step
    assert _largest_error(pixels, wcs, wcs) <= pixels.error <= MAP_BOUND


def test_positions_that_miss_the_bound_at_the_finest_grid_are_none():
    class Torn(_Wavy):
        def all_world2pix(self, x, y, _origin, **_settings):
            return np.asarray(x) + 50.0 * (np.asarray(x) > 300), y

    wcs = Torn(1e4)
    pixels = map_pixels(wcs, (120, 640), wcs)
    assert _largest_error(pixels, wcs, wcs) <= MAP_BOUND
    warped = warp(MaskedImage(np.ones((120, 700))), pixels)
    torn = np.isnan(warped.data)
    assert torn[:, 300].all()
    assert torn.sum(axis=1).max() < 60 + 50
    assert (warped.mask[torn] == bits("NO_DATA")).all()


def test_polynomial_shift_is_applied_on_the_output_grid():
    wcs = tan_wcs((200, 240))
    pixels = map_pixels(wcs, (200, 240), wcs, shift=((0.3, 0.2, 0.0), (-0.4, 0.0, 0.1)), order=1)
    at = pixels.at(np.array([0, 239]), np.array([0, 199]))
    assert at.x == pytest.approx([0 - 0.3 + 0.2, 239 - 0.3 - 0.2], abs=1e-4)
    assert at.y == pytest.approx([0 + 0.4 + 0.1, 199 + 0.4 - 0.1], abs=1e-4)


@pytest.mark.real_data
def test_positions_on_a_real_detector(real_data):
    """DECam's TPV solutions: from one night to the other, and from a plain grid."""
    folder = real_data / "pairs" / "decam_tc4_r"
    solutions = [WCS(fits.getheader(p, 1)) for p in sorted(folder.glob("*_ooi_*.fits"))]
    assert len(solutions) >= 2
    for output, source in ((solutions[0], solutions[1]), (solutions[1], solutions[0])):
        for side in (300, 2000):
            pixels = map_pixels(output, (side, side), source)
            assert _largest_error(pixels, output, source) <= MAP_BOUND


@pytest.mark.parametrize("scale", [0.5, 1.013, 4.04])
@pytest.mark.parametrize(("rotation", "flip"), [(0.7, False), (90.0, False), (-133.0, True)])
def test_flux_and_position_of_a_star(scale, rotation, flip):
    """The input pixels are ``scale`` times finer than those of the output."""
    shape = (70, 80)
    output, n = tan_wcs(shape, scale=1.0), int(150 * max(scale, 1))
    source = _turned((n, n), scale=1.0 / scale, rotation=rotation, flip=flip)
    x, y = 37.3, 30.8
    x_in, y_in = source.all_world2pix(*output.all_pix2world(x, y, 0), 0)
    image = np.zeros((n, n))
    draw(image, [float(x_in)], [float(y_in)], [1e4], 4.0 * max(scale, 1))
    warped = warp(MaskedImage(image, wcs=source), map_pixels(output, shape, source), wcs=output)
    inner = warped.data[10:52, 16:59]
    # against the light of the input within the same circle of sky
    assert np.nansum(warped.data) == pytest.approx(image.sum(), rel=3e-3)
    grid_y, grid_x = np.mgrid[10:52, 16:59]
    near = np.hypot(grid_x - x, grid_y - y) < 12
    assert (inner * grid_x)[near].sum() / inner[near].sum() == pytest.approx(x, abs=0.02)
    assert (inner * grid_y)[near].sum() / inner[near].sum() == pytest.approx(y, abs=0.02)


@pytest.mark.parametrize("scale", [0.5, 1.013, 4.04])
def test_surface_brightness_is_left_alone_and_flux_is_not(scale):
    shape, n = (60, 64), int(110 * max(scale, 1))
    output, source = tan_wcs(shape, scale=1.0), _turned((n, n), scale=1.0 / scale, rotation=20.0)
    flat = MaskedImage(np.full((n, n), 7.0), variance=np.full((n, n), 2.0), wcs=source)
    pixels = map_pixels(output, shape, source)
    per_pixel, per_angle = warp(flat, pixels), warp(flat.replace(unit=u.MJy / u.sr), pixels)
    assert np.abs(per_angle.data - 7.0).max() < 1e-4
    assert per_pixel.data == pytest.approx(7.0 * scale**2, rel=1e-4)
    assert per_pixel.variance == pytest.approx(per_angle.variance * scale**4, rel=1e-3)


def test_stretched_pixels_are_averaged_along_their_finer_axis():
    """An input three times finer in x alone: flux, and the width along each axis, come out right."""
    shape = (60, 60)
    output, source = tan_wcs(shape, scale=1.0), _turned((80, 240), scale=1.0, stretch=1.0 / 3.0)
    y, x = np.mgrid[0:80, 0:240]
    image = np.exp(-0.5 * (((x - 119.5) / 9.0) ** 2 + ((y - 39.5) / 3.0) ** 2))
    turned = tan_wcs(shape, scale=1.0, rotation=90.0)
    for wcs in (output, turned):
        warped = warp(MaskedImage(image, wcs=source), map_pixels(wcs, shape, source))
        assert np.nansum(warped.data) == pytest.approx(image.sum(), rel=1e-3)
        grid = np.arange(60) - 29.5
        for axis in (0, 1):
            profile = np.nansum(warped.data, axis=axis)
            # the width of the box of an output pixel adds a twelfth, that of a pixel as wide nothing more
            assert np.sqrt((profile * grid**2).sum() / profile.sum()) == pytest.approx(3.0, abs=0.04)


def test_no_pixel_is_touched_on_the_same_grid():
    rng = np.random.default_rng(1)
    wcs = tan_wcs((90, 100))
    psf = Psf(moffat(7, 7, 15, 3.0), (90, 100))
    image = MaskedImage(rng.normal(size=(90, 100)), wcs=wcs, psf=psf, noise_correlation=np.ones((3, 3)))
    warped = warp(image, map_pixels(wcs, (90, 100), wcs), wcs=wcs)
    assert (warped.data == image.data).all()
    assert warped.psf is psf
    assert warped.noise_correlation is image.noise_correlation


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_quarter_turns_only_reorder_the_pixels(turns, flip):
    rng = np.random.default_rng(2)
    data, variance = rng.normal(size=(2, 60, 70)).astype(np.float32)
    mask = np.where(rng.random((60, 70)) < 0.02, bits("SUSPECT"), 0)
    y, x = np.mgrid[0:60, 0:70].astype(float)

    def turned(plane):
        return np.ascontiguousarray(np.rot90(plane[:, ::-1] if flip else plane, turns))

    pixels = PixelMap(turned(x), turned(y), np.ones(turned(x).shape))
    warped = warp(MaskedImage(data, variance=np.abs(variance), mask=mask), pixels)
    assert warped.data == pytest.approx(turned(data), abs=2e-6)
    assert warped.variance == pytest.approx(turned(np.abs(variance)), rel=1e-5)
    assert (warped.mask == turned(mask)).all()
    assert warped.noise_correlation is None


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_nothing_is_extrapolated(scale):
    n = int(60 * scale)
    output, source = tan_wcs((80, 90), scale=1.0), tan_wcs((n, n), scale=1.0 / scale, rotation=5.0)
    image = MaskedImage(np.ones((n, n)), variance=np.ones((n, n)), wcs=source)
    warped = warp(image, map_pixels(output, (80, 90), source))
    y, x = np.mgrid[0:80, 0:90]
    x_in, y_in = source.all_world2pix(*output.all_pix2world(x, y, 0), 0)
    # an output pixel that starts beyond the border pixels has no value, one that ends within them has
    low, reach = -0.5, 0.5 * scale + 2.0
    outside = (np.minimum(x_in, y_in) < low) | (np.maximum(x_in, y_in) > n - 1 - low)
    within = (np.minimum(x_in, y_in) > low + reach) & (np.maximum(x_in, y_in) < n - 1 - low - reach)
    empty = np.isnan(warped.data)
    assert empty[outside].all()
    assert not empty[within].any()
    assert (empty == np.isnan(warped.variance)).all()
    assert (warped.mask[empty] == bits("NO_DATA")).all()
    assert (warped.mask[~empty] == 0).all()
    assert warped.data[~empty] == pytest.approx(scale**2, rel=1e-3)


def test_disjoint_images_are_all_empty():
    source, output = tan_wcs((50, 50)), tan_wcs((50, 60), centre=(150.0, 25.0))
    image = MaskedImage(np.ones((50, 50)), wcs=source, psf=Psf(moffat(5, 5, 11, 2.0), (50, 50)))
    warped = warp(image, map_pixels(output, (50, 60), source))
    assert np.isnan(warped.data).all()
    assert warped.psf is None


def _smooth_image(n, length):
    y, x = np.mgrid[0:n, 0:n]
    return 5.0 + np.sin(2 * np.pi * x / length) * np.cos(2 * np.pi * (y + 0.3 * x) / length)


def test_interpolation_agrees_with_reproject():
    from reproject import reproject_interp

    output, source = tan_wcs((90, 100), rotation=8.0, scale=1.03), tan_wcs((150, 150))
    image = _smooth_image(150, 40.0)
    ours = warp(MaskedImage(image, unit=u.MJy / u.sr, wcs=source), map_pixels(output, (90, 100), source))
    theirs = reproject_interp((image, source), output, (90, 100), order="bicubic", return_footprint=False)
    assert np.abs(ours.data - theirs).max() < 1e-4


@pytest.mark.parametrize(("rotation", "tolerance"), [(0.0, 1e-5), (30.0, 1.5e-3)])
def test_averages_agree_with_reproject(rotation, tolerance):
    """Turned, each is within 1e-3 of the true mean, which overlaps with square input pixels only approach."""
    from reproject import reproject_exact

    output, source = tan_wcs((40, 44), rotation=rotation, scale=1.01), tan_wcs((300, 300), scale=0.25)
    image = _smooth_image(300, 80.0)
    ours = warp(MaskedImage(image, unit=u.MJy / u.sr, wcs=source), map_pixels(output, (40, 44), source))
    theirs = reproject_exact((image, source), output, (40, 44), return_footprint=False)
    assert np.abs(ours.data - theirs).max() < tolerance


def test_mask_planes_reach_what_they_contribute_to():
    mask = np.zeros((60, 60), np.int32)
    mask[30, 20], mask[40, 41] = bits("COSMIC_RAY"), bits("SUSPECT")
    data = np.ones((60, 60))
    data[30, 20] = 1e6
    y, x = np.mgrid[0:60, 0:60].astype(float)
    image = MaskedImage(data, mask=mask)
    between = warp(image, PixelMap(x + 0.5, y, np.ones_like(x)))
    # four taps between two pixels, one on a pixel
    assert np.argwhere(between.mask == bits("COSMIC_RAY")).tolist() == [[30, i] for i in (18, 19, 20, 21)]
    assert np.argwhere(between.mask == bits("SUSPECT")).tolist() == [[40, i] for i in (39, 40, 41, 42)]
    assert np.nanmax(np.abs(between.data - 1.0)) < 1e-4
    coarse = warp(image, PixelMap(3.0 * x + 1.0, 3.0 * y + 1.0, np.full(x.shape, 9.0)))
    assert np.argwhere(coarse.mask == bits("COSMIC_RAY")).tolist() == [[10, 6]]
    assert np.argwhere(coarse.mask == bits("SUSPECT")).tolist() == [[13, 13]]


def test_large_holes_do_not_ring_into_their_surroundings():
    mask = np.zeros((120, 130), np.int32)
    mask[:, 70:] = bits("NO_DATA")
    y, x = np.mgrid[0:120, 0:130].astype(float)
    data = 1000.0 + 2.0 * y
    data[mask != 0] = np.nan
    warped = warp(MaskedImage(data, mask=mask), PixelMap(x + 0.5, y + 0.5, np.ones_like(x)))
    good = warped.mask == 0
    good[:4] = good[-5:] = False
    assert np.abs(warped.data - (1000.0 + 2.0 * (y + 0.5)))[good].max() < 1.0
    assert good[60, 67]


@pytest.mark.parametrize(("scale", "rotation"), [(1.013, 30.0), (1.0, 0.0), (3.0, 90.0), (2.9, 0.0)])
def test_psf_is_that_of_the_warped_stars(scale, rotation):
    """Averaged over their places, stars look like the PSF: turned, scaled, smoothed by the kernel."""
    shape, n = (280, 280), int(400 * scale)
    output = tan_wcs(shape, scale=1.0, offset=(0.5, 0.37))
    source = tan_wcs((n, n), scale=1.0 / scale, rotation=rotation)
    sigma = np.array([1.6, 1.1]) * (1.0 if scale < 2 else 2.0)
    half, grid = 14, np.arange(-14, 15)

    def star(x, y):
        return np.outer(*(np.exp(-0.5 * ((grid - c) / s) ** 2) for c, s in ((y, sigma[1]), (x, sigma[0]))))

    rng = np.random.default_rng(5)
    x, y = (p.ravel() + rng.uniform(-0.5, 0.5, 49) for p in np.mgrid[30:260:36, 30:260:36])
    image = np.zeros((n, n))
    for x_in, y_in in zip(*source.all_world2pix(*output.all_pix2world(x, y, 0), 0), strict=True):
        i, j = round(float(y_in)), round(float(x_in))
        image[i - half : i + half + 1, j - half : j + half + 1] += star(x_in - j, y_in - i)
    stamp = star(0.0, 0.0)
    warped = warp(MaskedImage(image, psf=Psf(stamp / stamp.sum(), (n, n))), map_pixels(output, shape, source))
    cuts = [warped.data[i - 12 : i + 13, j - 12 : j + 13] for i, j in np.rint(np.c_[y, x]).astype(int)]
    psf = warped.psf.at(140, 140)
    moments = np.mean([_second_moments(cut) for cut in cuts], axis=0)
    assert moments == pytest.approx(_second_moments(psf), abs=0.015)
    noise_area = np.mean([(cut**2).sum() / cut.sum() ** 2 for cut in cuts])
    assert noise_area == pytest.approx((psf**2).sum(), rel=0.01)


def _second_moments(stamp):
    y, x = np.mgrid[: stamp.shape[0], : stamp.shape[1]]
    offset = np.stack([p - (p * stamp).sum() / stamp.sum() for p in (x, y)])
    return np.einsum("iyx,jyx,yx->ij", offset, offset, stamp) / stamp.sum()


def test_varying_psf_stays_varying():
    grid = np.mgrid[-10:11, -10:11]
    wide, narrow = (np.exp(-0.5 * (grid**2).sum(axis=0) / s**2) for s in (2.2, 1.8))
    wide, narrow = wide / wide.sum(), narrow / narrow.sum()
    # from narrow at the left to wide at the right
    psf = Psf(np.array([(wide + narrow) / 2, (wide - narrow) / 2, np.zeros((21, 21))]), (300, 300), order=1)
    output, source = tan_wcs((300, 300), rotation=90.0), tan_wcs((300, 300))
    warped = warp(MaskedImage(np.zeros((300, 300)), psf=psf), map_pixels(output, (300, 300), source)).psf
    assert warped.order == 1
    for at in ((20, 150), (150, 20), (280, 150), (150, 280)):
        x, y = (float(p[0]) for p in source.all_world2pix(*output.all_pix2world(*([p] for p in at), 0), 0))
        assert warped.at(*at).max() == pytest.approx(psf.at(x, y).max(), rel=0.01)


def test_numba_is_loaded_when_it_is_needed():
    code = "import sys, astrid_assets.science.warp; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
