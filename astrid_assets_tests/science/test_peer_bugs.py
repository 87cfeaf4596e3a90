"""Faults that other subtraction codes have, one test each, named after code and fault: ours has them not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from astrid_assets.checks.limits import judge
from astrid_assets.images import Psf
from astrid_assets.images.masks import bits
from astrid_assets.science import align, classic, detect, normalize, zogy
from astrid_assets.science.background import robust_std
from astrid_assets.science.quality import difference_metrics
from astrid_assets_tests.science.sky import GAIN, READ_NOISE, SKY, known_pair, make_sky, moffat

INNER = np.s_[24:-24, 24:-24]


@pytest.fixture(scope="module")
def sky():
    return make_sky(seed=1, size=256, n_stars=60, n_transients=6)


@pytest.fixture(scope="module")
def pair(sky):
    return normalize(align(sky.science, sky.reference))


@pytest.fixture(scope="module")
def difference(pair):
    return zogy(pair)


def blank_pixels(sky, difference):
    """Boolean image of the good pixels far from all sources."""
    blank = ~difference.bad
    for x, y in zip(np.r_[sky.x, sky.transient_x], np.r_[sky.y, sky.transient_y], strict=True):
        blank[max(0, int(y) - 10) : int(y) + 12, max(0, int(x) - 10) : int(x) + 12] = False
    return blank


def neighbour_correlation(image):
    """Correlation of neighbouring pixels along both axes."""
    values = image - image.mean()
    return [(values * np.roll(values, 1, axis=axis)).mean() / values.var() for axis in (0, 1)]


def noiseless(sources, *, size=192, **options):
    """A pair of which only the models of the noise are noisy."""
    pair = known_pair(size=size, sigma=(1e-3, 1e-3), sources=sources, **options)
    planes = [np.full((size, size), s**2, np.float32) for s in (5.0, 1.5)]
    return pair.replace(
        science=pair.science.replace(variance=planes[0]), reference=pair.reference.replace(variance=planes[1])
    )


# --- PyZOGY -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fwhm", "sigma"),
    [((2.2, 1.8), (5.0, 1.5)), ((3.4, 1.8), (2.0, 4.0)), ((1.8, 3.4), (4.0, 4.0)), ((1.8, 3.4), (1.5, 5.0))],
)
def test_pyzogy_swapped_psfs_in_noise_kernels(fwhm, sigma):
    """S_corr has unit standard deviation for any pair of PSFs and noises.

    ``noise_kernels`` has the two PSFs swapped against equations 28 and 29: its S_corr has a standard
    deviation of 1.16 where the reference is sharper, and 0.76 where the science image is.
    """
    difference = zogy(known_pair(seed=11, size=320, fwhm=fwhm, sigma=sigma))
    # the score of a broad PSF has few independent values
    assert difference.score_corrected[INNER].std() == pytest.approx(1.0, abs=0.035)
    assert difference.flux[INNER].std() == pytest.approx(np.median(difference.flux_error), rel=0.035)


def test_pyzogy_flux_without_npix():
    """The flux does not depend on the size of the image.

    ``photometric_matched_filter_image`` divides by a sum over the FFT grid without 1 / Npix: its fluxes
    are wrong by the number of pixels.
    """
    for size in (128, 200, 301):
        difference = zogy(noiseless([(60.0, 70.0, 1000.0, 0.0)], size=size))
        assert difference.flux[70, 60] == pytest.approx(1000.0, rel=0.005)


def test_pyzogy_variance_without_gain(sky, pair):
    """The variance in counts^2 is (counts gain + read_noise^2) / gain^2.

    ``source_noise`` takes raw_image + read_noise: no gain, and the read noise not squared.
    """
    expected = (SKY * GAIN + READ_NOISE**2) / GAIN**2
    assert np.median(pair.science.variance) == pytest.approx(expected, rel=0.04)
    on_stars = (pair.science.data > 1000.0) & ~pair.science.bad
    assert on_stars.sum() > 50
    photons = (pair.science.variance - expected)[on_stars] / pair.science.data[on_stars]
    assert np.median(photons) == pytest.approx(1.0 / GAIN, rel=0.1)


def test_pyzogy_sky_of_32000(sky, pair, difference):
    """A high sky level changes nothing.

    It broke the fit of the gain.
    """
    science = sky.science.replace(data=sky.science.data + 32000.0, saturation=None)
    high = normalize(align(science, sky.reference))
    assert high.normalization.flux_ratio == pytest.approx(pair.normalization.flux_ratio, rel=0.003)
    assert np.abs(zogy(high).score - difference.score)[~difference.bad].max() < 1.0


# --- pmvreeswijk/ZOGY, mirar, py_zogy ---------------------------------------------------------------


def test_pmvreeswijk_first_tile():
    """The first tile is like the others, and the first run like the second.

    The planning of its FFTs overwrites the first tile, whose flux is 1.2 % low unless it is computed
    twice.
    """
    places = [(70.0 + 230.0 * i, 80.0 + 230.0 * j) for j in range(3) for i in range(3)]
    pair = noiseless([(x, y, 1000.0, 0.0) for x, y in places], size=620)
    first, second = zogy(pair), zogy(pair.replace())
    flux = np.array([first.flux[int(y), int(x)] for x, y in places])
    assert flux == pytest.approx(1000.0, rel=0.005)
    assert np.ptp(flux) < 0.5
    assert np.array_equal(first.data, second.data)


def test_pmvreeswijk_negative_variance():
    """V = image + sky_std^2 falls below zero where the image is negative. Ours stays positive, everywhere."""
    sky = make_sky(seed=3, size=192, n_stars=30, n_transients=2)
    data = sky.science.data.copy()
    data[40:44, 100:104] = -300.0
    difference = zogy(normalize(align(sky.science.replace(data=data), sky.reference)))
    assert (difference.variance[~difference.bad] > 0).all()
    assert (np.abs(difference.score_corrected) <= 1.05 * np.abs(difference.score) + 0.3)[
        ~difference.bad
    ].all()


def test_mirar_fill_in_place():
    """The arrays of the caller stay as they are.

    ``pyzogy`` writes its fill values into them.
    """
    sky = make_sky(seed=5, size=192, n_stars=36, n_transients=2)
    images = []
    for image in (sky.science, sky.reference):
        data = image.data.copy()
        data[20:23, 30:40] = np.nan
        variance = np.full(image.shape, 26.0, np.float32)
        images.append(image.replace(data=data, variance=variance))
    before = [_planes(i) for i in images]
    pair = normalize(align(*images))
    halfway = [_planes(i) for i in (pair.science, pair.reference)]
    for method in (zogy, classic):
        detect(method(pair), pair=pair)
    for image, copies in zip((*images, pair.science, pair.reference), before + halfway, strict=True):
        for name, copy in copies.items():
            assert np.array_equal(getattr(image, name), copy, equal_nan=name != "mask"), name


def _planes(image):
    """Copies of the planes of an image."""
    return {name: getattr(image, name).copy() for name in ("data", "variance", "mask")}


def test_rolled_gradients_wrap():
    """What lies at one edge has no influence at the opposite one.

    mirar takes the gradients of the astrometric term by ``np.roll``: a star at an edge raises the error
    beyond the opposite one.
    """
    noise = replace(known_pair(size=192).normalization, astrometric_noise=(0.3, 0.3))
    faint = noiseless([]).replace(normalization=noise)
    star = noiseless([(3.0, 96.0, 50000.0, 50000.0), (96.0, 4.0, 50000.0, 50000.0)]).replace(
        normalization=noise
    )
    errors = [1.0 / _correction(zogy(pair)) for pair in (faint, star)]
    for edge in (np.s_[60:140, -12:], np.s_[-12:, 60:140]):
        np.testing.assert_allclose(errors[0][edge], errors[1][edge], rtol=0.01)


def test_rolled_gradients_are_one_sided():
    """The astrometric error is symmetric around a star.

    pmvreeswijk, mirar and py_zogy take S - roll(S, 1), a gradient half a pixel aside.
    """
    static = noiseless([(96.0, 96.0, 20000.0, 20000.0)], fwhm=(2.6, 2.6))
    # a new source on top of it gives S a value everywhere, so that S / S_corr can be taken
    science = static.science.replace(data=static.science.data + np.float32(1.0))
    noise = replace(static.normalization, astrometric_noise=(0.3, 0.0))
    error = 1.0 / _correction(zogy(static.replace(science=science, normalization=noise)))
    right, left = error[96, 97:102], error[96, 95:90:-1]
    np.testing.assert_allclose(right, left, rtol=0.05)
    assert right.max() > 3.0 * error[96, 96]


def _correction(difference):
    """S_corr over S, where S has a value."""
    one = np.ones_like(difference.score)
    return np.divide(difference.score_corrected, difference.score, out=one, where=difference.score != 0)


@pytest.mark.parametrize("size", [127, 128, 192, 201])
@pytest.mark.parametrize("psf_side", [31, 41])
def test_mirar_even_stamps(size, psf_side):
    """Images and PSFs may have any sides, and nothing is shifted.

    Its images must have even sides, "otherwise a shift is introduced".
    """
    pair = noiseless([(64.0, 60.0, 5000.0, 0.0)], size=size)
    half = psf_side // 2
    images = [
        i.replace(psf=Psf(moffat(half, half, psf_side, f), (size, size)))
        for i, f in ((pair.science, 2.2), (pair.reference, 1.8))
    ]
    difference = zogy(pair.replace(science=images[0], reference=images[1]))
    y, x = np.unravel_index(np.argmax(difference.score), difference.shape)
    assert (x, y) == (64, 60)
    around = difference.score[57:64, 61:68]
    np.testing.assert_allclose(around, around[::-1], atol=0.01 * around.max())
    np.testing.assert_allclose(around, around[:, ::-1], atol=0.01 * around.max())


def test_mirar_stamp_one_pixel_off():
    """The pixels around a candidate are centred on it.

    Its 5 x 5 pixels, ``nx // 2 - 3 : nx // 2 + 2`` of an odd stamp, lie a pixel aside. Two pixels away
    counts on all four sides, three on none.
    """
    difference = zogy(known_pair(size=128, sources=[(64.0, 60.0, 3000.0, 0.0)]))
    for distance, expected in ((2, 4), (3, 0)):
        mask = np.zeros(difference.shape, np.int32)
        for dx, dy in ((distance, 0), (-distance, 0), (0, distance), (0, -distance)):
            mask[60 + dy, 64 + dx] = bits("BAD")
        table = detect(difference.replace(mask=mask))
        assert table["n_bad"][0].as_py() == expected


def test_mirar_seeing_in_degrees():
    """The gate of its validator compares a FWHM in degrees with 6 arcsec and can never fire. Ours does."""
    assert judge({"seeing": 8.0}, "science_images")["seeing"] == "orange"
    assert judge({"seeing": 2.0}, "science_images")["seeing"] == "green"


def test_mirar_gate_of_the_astrometry_is_absent():
    """It promises to reject an astrometric scatter above 0.3 arcsec and tests for zero only. Ours rejects."""
    colours = [judge({"astrometric_rms": rms}, "aligned_pairs")["astrometric_rms"] for rms in (0.1, 0.6, 1.0)]
    assert colours == ["green", "orange", "red"]


def test_mirar_negative_sources():
    """It would have to run ZOGY twice for sources that vanished. One S_corr serves both signs alike."""
    table = detect(zogy(known_pair(sources=[(80.0, 80.0, 2000.0, 0.0), (180.0, 180.0, 0.0, 2000.0)])))
    strong = table["snr"].to_numpy() > 20
    assert sorted(table["positive"].to_numpy(zero_copy_only=False)[strong]) == [False, True]
    assert sorted(table["flux"].to_numpy()[strong]) == pytest.approx([-2000.0, 2000.0], rel=0.05)


# --- ProperImage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [150, 211, 320])
def test_properimage_mixed_fft_norms(size):
    """S_corr has unit standard deviation at any size.

    It multiplies ortho-normalised transforms of the data with kernels that are not: its S_corr has a
    standard deviation of 6e-5, by the size of the image.
    """
    difference = zogy(known_pair(seed=2, size=size))
    assert difference.score_corrected[INNER].std() == pytest.approx(1.0, abs=0.035)


def test_properimage_zero_point_ratio(pair):
    """Its "transparency" made 1.05 of a true 0.80. Ours comes from PSF fluxes of the same stars."""
    norm = pair.normalization
    assert norm.flux_ratio == pytest.approx(0.8, rel=0.01)
    assert abs(norm.flux_ratio - 0.8) < 5.0 * np.hypot(norm.flux_ratio_error, 0.001)


def test_properimage_gaussian_psf(pair):
    """The PSF has the wings of the stars.

    Its default is a Gaussian, also for stars with wings: fluxes are 22 % low.
    """
    psf = pair.science.psf
    stamp = psf.at(128.0, 128.0)
    half = stamp.shape[0] // 2
    truth = moffat(half, half, 2 * half + 1, 2.2)
    core = np.s_[half - 2 : half + 3, half - 2 : half + 3]
    assert stamp[core].sum() == pytest.approx(truth[core].sum() / truth.sum(), abs=0.012)


def test_properimage_rolls_by_whole_pixels():
    """It moves the difference by whole pixels. A fraction of one is part of our reference PSF."""
    places = [(40.0 + 36 * i, 40.0 + 36 * j) for i in range(6) for j in range(6)]
    ours = known_pair(size=280, fwhm=(2.6, 2.4), sources=[(x, y, 9000.0, 0.0) for x, y in places])
    theirs = known_pair(
        size=280, fwhm=(2.6, 2.4), sources=[(x - 0.37, y + 0.45, 0.0, 9000.0) for x, y in places]
    )
    norm = replace(ours.normalization, shift=(0.37, -0.45))
    score = zogy(ours.replace(reference=theirs.reference, normalization=norm)).score
    assert np.abs(score[INNER]).max() < 6.0


# --- hotpants, sfft, ois: fitted kernels --------------------------------------------------------------


def test_hotpants_convolution_direction():
    """A sharper science image is convolved, and the noise stays white.

    Without whitening, neighbours correlate by 0.37, and the score has a standard deviation of 1.77,
    with 750 false detections per Mpix of each sign.
    """
    sources = [(40.0 + 40 * i, 40.0 + 40 * j, 8000.0, 8000.0) for i in range(7) for j in range(7)]
    pair = known_pair(seed=6, size=320, fwhm=(1.8, 2.8), sources=sources)
    difference = classic(pair)
    assert difference.origin["classic"]["convolved"] == "science"
    noise = classic(known_pair(seed=7, size=320, fwhm=(1.8, 2.8)), matching="psf")
    for image in (noise.data[INNER], zogy(known_pair(seed=7, size=320, fwhm=(1.8, 2.8))).data[INNER]):
        assert np.abs(neighbour_correlation(image)).max() < 0.02
    assert noise.score_corrected[INNER].std() == pytest.approx(1.0, abs=0.02)
    assert robust_std(difference.score_corrected[INNER]) == pytest.approx(1.0, abs=0.05)


def test_hotpants_kernel_for_nearly_equal_seeing():
    """Two images of nearly the same seeing subtract as well as others.

    The rule of its README then makes Gaussians of a quarter of a pixel, ill-conditioned: the score on
    stars has a standard deviation of 19.
    """
    sources = [(30.3 + 33 * i, 30.8 + 33 * j, 9000.0, 9000.0) for i in range(8) for j in range(8)]
    difference = classic(known_pair(seed=8, size=300, fwhm=(2.2, 2.15), sources=sources), matching="kernel")
    assert np.abs(difference.score_corrected[INNER]).max() < 6.0


def test_sfft_few_stars_overfit():
    """A few stars do not make a kernel that fits their noise.

    Its delta basis does: neighbours in D correlate by -0.26, with 11 false detections per Mpix.
    """
    sources = [(60.3, 60.0, 9000.0, 9000.0), (230.0, 90.6, 7000.0, 7000.0), (140.2, 220.5, 8000.0, 8000.0)]
    sources += [(60.0, 230.4, 6000.0, 6000.0), (240.1, 240.9, 5000.0, 5000.0)]
    difference = classic(known_pair(seed=9, size=300, sources=sources), matching="kernel")
    assert difference.origin["classic"]["order"] == 0
    blank = np.s_[100:200, 100:200]
    assert np.abs(neighbour_correlation(difference.data[blank])).max() < 0.04
    assert robust_std(difference.score_corrected[INNER]) == pytest.approx(1.0, abs=0.04)
    assert np.abs(difference.score_corrected[INNER]).max() < 6.0


@pytest.mark.parametrize("method", [zogy, classic])
def test_ois_one_nan_kills_a_patch(sky, pair, method):
    """One NaN stays one NaN.

    It makes a whole patch of the kernel NaN there. Here it is marked, with what is next to it.
    """
    data, mask = pair.science.data.copy(), pair.science.mask.copy()
    data[128, 128], mask[128, 128] = np.nan, bits("NO_DATA")
    spoiled = method(pair.replace(science=pair.science.replace(data=data, mask=mask)))
    clean = method(pair)
    assert spoiled.mask[128, 128] & bits("NO_DATA")
    for name in ("data", "score", "score_corrected", "flux", "flux_error", "variance"):
        assert np.isfinite(getattr(spoiled, name)).all(), name
    far = np.hypot(*(np.indices(data.shape) - 128)) > 14
    assert np.abs(spoiled.score - clean.score)[far].max() < 0.3


# --- LSST -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fwhm", "sigma", "ratio"), [((2.2, 1.8), (5.0, 1.5), 0.8), ((2.0, 3.0), (3.0, 4.0), 2.0)]
)
def test_lsst_denominator_squared(fwhm, sigma, ratio):
    """D is white, with a variance of sigma_n^2 + (ratio sigma_r)^2.

    Its early ZOGY divided by the square of the denominator of equation 13.
    """
    data = zogy(known_pair(seed=4, size=320, fwhm=fwhm, sigma=sigma, flux_ratio=ratio)).data[INNER]
    assert data.std() == pytest.approx(np.hypot(sigma[0], ratio * sigma[1]), rel=0.02)
    assert np.abs(neighbour_correlation(data)).max() < 0.02


@pytest.mark.parametrize("unit", [1e-9, 1e6])
def test_lsst_absolute_floor_of_the_kernel(unit):
    """The significance is the same in any unit.

    A floor of 1e-3 in the transform of a kernel acts by the unit of the image.
    """
    pair = known_pair(seed=5, size=192, sources=[(90.0, 80.0, 3000.0, 0.0), (60.0, 120.0, 9000.0, 9000.0)])
    images = [
        i.replace(data=i.data * unit, variance=i.variance * unit**2) for i in (pair.science, pair.reference)
    ]
    norm = pair.normalization
    norm = replace(
        norm, science_sky_rms=norm.science_sky_rms * unit, reference_sky_rms=norm.reference_sky_rms * unit
    )
    scaled = zogy(pair.replace(science=images[0], reference=images[1], normalization=norm))
    np.testing.assert_allclose(scaled.score_corrected, zogy(pair).score_corrected, rtol=0.01, atol=0.01)


def test_lsst_magnitude_limit_has_noise():
    """With twice the noise the limit is 0.75 mag brighter.

    The limit of ``_calculateMagLim``, zero point - 2.5 log10(5 sqrt(area)), knows no noise.
    """
    limits = []
    for factor in (1.0, 2.0):
        pair = known_pair(seed=1, size=256, sigma=(5.0 * factor, 1.5 * factor))
        limits.append(difference_metrics(zogy(pair), pair)["detection_threshold_mag"])
    assert limits[0] - limits[1] == pytest.approx(2.5 * np.log10(2.0), abs=0.02)


# --- AstroPack --------------------------------------------------------------------------------------


def test_astropack_limit_uses_psf_area():
    """The limit is that of a PSF flux, not of a pixel.

    Issue 630: the limiting magnitude took the standard deviation of a pixel, not that over the root of
    the sum of P^2.
    """
    pair = known_pair(seed=1, size=320, fwhm=(2.6, 2.0))
    difference = zogy(pair)
    stamp = difference.psf.at(160.0, 160.0)
    expected = 5.0 * difference.data[INNER].std() / np.sqrt((stamp**2).sum())
    assert expected > 2.0 * 5.0 * difference.data[INNER].std()
    assert difference_metrics(difference, pair)["detection_threshold"] == pytest.approx(expected, rel=0.03)


def test_astropack_background_subtracted_reference(sky, difference):
    """The noise of a sky counts whether its level is there or not.

    Issue 614: the source noise of a reference without its sky comes out too small, and S_corr too
    large.
    """
    reference = sky.reference.replace(data=sky.reference.data - np.float32(SKY))
    again = zogy(normalize(align(sky.science, reference)))
    good = ~(difference.bad | again.bad)
    assert np.abs(again.score_corrected - difference.score_corrected)[good].max() < 0.1
    assert np.median(again.variance) == pytest.approx(np.median(difference.variance), rel=0.005)


@pytest.mark.parametrize("value", [1e-6, 1e-3])
def test_astropack_score_exceeds_without_variance(value):
    """S_corr does not run away where a variance is about zero.

    Issue 748: such pixels have an S_corr far above S, 500 sigma of nothing. A variance below half of
    the sky's is not believed.
    """
    pair = known_pair(seed=12, size=192)
    variance = pair.science.variance.copy()
    variance[80:110, 80:110] = value
    difference = zogy(pair.replace(science=pair.science.replace(variance=variance)))
    assert (np.abs(difference.score_corrected) <= np.sqrt(2.0) * np.abs(difference.score) + 1e-3).all()
    assert np.abs(difference.score_corrected).max() < 7.0


def test_astropack_ignores_coadd_depth(sky, pair):
    """The mean of 15 frames has a fifteenth of the variance.

    Issue 458: the variance was that of one frame.
    """
    assert sky.reference.n_exposures == 15
    norm = pair.normalization
    one_frame = np.sqrt(SKY * GAIN + READ_NOISE**2) / GAIN
    # a cubic interpolation keeps 0.57 to 1 of the variance
    assert 0.7 * one_frame / np.sqrt(15) < norm.reference_sky_rms < 1.03 * one_frame / np.sqrt(15)
    on_stars = (pair.reference.data > 1000.0) & ~pair.reference.bad
    photons = (pair.reference.variance - np.median(pair.reference.variance))[on_stars]
    assert np.median(photons / pair.reference.data[on_stars]) == pytest.approx(1 / GAIN / 15, rel=0.4)


@pytest.mark.parametrize("ratio", [0.1, 0.8, 5.0])
def test_astropack_missing_flux_factors(ratio):
    """Fluxes of either sign come back for any ratio of the scales.

    Issue 741: S lacked the factors F_D and F_S.
    """
    pair = noiseless([(60.0, 70.0, 1000.0, 0.0), (120.0, 110.0, 0.0, 1000.0)], flux_ratio=ratio)
    flux = zogy(pair).flux
    assert flux[70, 60] == pytest.approx(1000.0, rel=0.005)
    assert flux[110, 120] == pytest.approx(-1000.0, rel=0.005)


def test_astropack_short_psf_stamps(pair):
    """PSFs reach over 8 FWHM, with the light that stars have in their wings.

    Issue 824: stamps of 11 pixels with smoothed wings leave tails at every star.
    """
    for image, fwhm in ((pair.science, 2.2), (pair.reference, 1.8)):
        stamp = image.psf.at(128.0, 128.0)
        half = stamp.shape[0] // 2
        assert stamp.shape[0] >= 8.0 * image.psf.fwhm
        truth = moffat(half, half, 2 * half + 1, fwhm)
        core = np.s_[half - 5 : half + 6, half - 5 : half + 6]
        wings = 1.0 - truth[core].sum() / truth.sum()
        assert 1.0 - stamp[core].sum() == pytest.approx(wings, abs=0.012)


def test_astropack_smeared_hot_pixels(sky):
    """Masked hot pixels of the reference are no stars that vanished.

    Issue 1192: smeared by the resampling, they look like it. The mask goes through the resampling as
    well.
    """
    data, mask = sky.reference.data.copy(), np.zeros(sky.reference.shape, bool)
    rows, columns = np.mgrid[50:250:40, 45:250:40].reshape(2, -1)
    data[rows, columns] += 20000.0
    mask[rows, columns] = True
    pair = normalize(align(sky.science, sky.reference.replace(data=data, mask=mask)))
    table = detect(zogy(pair), pair=pair)
    sky_positions = sky.reference.wcs.all_pix2world(columns, rows, 0)
    x, y = sky.science.wcs.all_world2pix(*sky_positions, 0)
    clean = np.array(table["artifact"].to_pylist()) == ""
    places = np.c_[table["x"].to_numpy(), table["y"].to_numpy()][clean]
    vanished = ~table["positive"].to_numpy(zero_copy_only=False)[clean]
    distance = np.hypot(places[:, :1] - x, places[:, 1:] - y).min(axis=1)
    assert not (vanished & (distance < 6.0)).any()


# --- autophot, AstrID -------------------------------------------------------------------------------


def test_autophot_mask_comparison(sky, pair):
    """What lies under a mask has no influence.

    Issue 30: ``image[mask] == np.nan`` compares instead of assigning, so masked pixels count in the
    background.
    """
    values = []
    for value in (0.0, 50000.0, np.nan):
        data, mask = sky.science.data.copy(), np.zeros(sky.science.shape, bool)
        data[100:130, 100:140] = value
        mask[100:130, 100:140] = True
        image = normalize(align(sky.science.replace(data=data, mask=mask), sky.reference))
        values.append(zogy(image))
    good = ~values[0].bad
    for other in values[1:]:
        assert np.abs(other.score - values[0].score)[good].max() < 0.05


def test_astrid_norm_of_the_whole_image_with_sky(sky, pair, difference):
    """The sky level has no influence on the flux ratio.

    It scales both images by the norm of all pixels, sky included: the ratio of two skies, not of two
    fluxes.
    """
    science = sky.science.replace(data=sky.science.data + np.float32(500.0))
    other = normalize(align(science, sky.reference))
    assert other.normalization.flux_ratio == pytest.approx(pair.normalization.flux_ratio, rel=2e-3)
    assert robust_std((zogy(other).score - difference.score)[~difference.bad]) < 0.05


def test_astrid_significance_is_none(sky, difference):
    """S_corr is a normal variable on blank sky, and finds what is there.

    Its "significance" is D over a local scatter of the raw image, at most 6e-5.
    """
    blank = difference.score_corrected[blank_pixels(sky, difference)]
    assert robust_std(blank) == pytest.approx(1.0, abs=0.06)
    assert np.abs(blank).max() < 5.5
    expected = sky.transient_flux / np.median(difference.flux_error)
    for x, y, snr in zip(sky.transient_x, sky.transient_y, expected, strict=True):
        peak = difference.score_corrected[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].max()
        assert 0.6 * snr - 4.0 < peak < snr + 5.0
