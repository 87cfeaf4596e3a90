"""Inputs that are wrong: a typed error of one line, or a result whose mask says what cannot be trusted."""

from __future__ import annotations

from collections.abc import Callable

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits

from astrid_assets.errors import (
    AstridError,
    ImageError,
    NoOverlapError,
    PhotometryError,
    PsfError,
    RegistrationError,
    ScienceError,
)
from astrid_assets.images import MaskedImage, Psf, ZeroPoint, read_image
from astrid_assets.images.masks import bits
from astrid_assets.science import align, classic, detect, normalize, zogy
from astrid_assets.science.background import robust_std
from astrid_assets.science.noise import correlation_of
from astrid_assets_tests.science.sky import GAIN, SKY, Sky, draw, expose, make_sky, moffat, tan_wcs

Pair = tuple[MaskedImage, MaskedImage]

PLANES = ("data", "variance", "score", "score_corrected", "flux", "flux_error")


@pytest.fixture(scope="module")
def sky() -> Sky:
    return make_sky(seed=5, size=192, n_stars=36, n_transients=4)


def cut(image: MaskedImage, *window: slice) -> MaskedImage:
    """A part of an image with its scalars."""
    return MaskedImage(
        image.data[window],
        image.unit,
        wcs=image.wcs[window],
        gain=image.gain,
        zeropoint=image.zeropoint,
        saturation=image.saturation,
        n_exposures=image.n_exposures,
    )


def written(image: MaskedImage, window: object, value: float) -> MaskedImage:
    """An image with other values in a window."""
    data = image.data.copy()
    data[window] = value
    return image.replace(data=data)


def with_variance(image: MaskedImage, value: float, rows: slice = np.s_[:]) -> MaskedImage:
    """An image with a plausible variance plane but for some rows."""
    variance = np.full(image.shape, image.data[::5, ::5].std() ** 0.5, np.float32)
    variance[rows] = value
    return image.replace(variance=variance)


def with_psf(image: MaskedImage, fwhm: float, *, half: int = 20) -> MaskedImage:
    """An image with the PSF that it was made with."""
    side = 2 * half + 1
    return image.replace(psf=Psf(moffat(half, half, side, fwhm), image.shape))


def stars_in_a_row(n: int, *, psf: bool, zeropoint: bool, flux: float = 20000.0) -> Pair:
    """Two aligned images of some stars and nothing else."""
    rng = np.random.default_rng(3)
    images = []
    for fwhm, ratio, frames in ((2.2, 1.0, 1), (1.8, 0.8, 15)):
        model = np.full((160, 160), SKY)
        draw(model, np.linspace(40, 120, n), np.full(n, 80.3), np.full(n, flux / ratio), fwhm)
        zero = ZeroPoint(26.3 - 2.5 * np.log10(ratio)) if zeropoint else None
        image = MaskedImage(
            expose(model, rng, frames=frames),
            u.adu,
            wcs=tan_wcs(model.shape),
            gain=GAIN * frames,
            zeropoint=zero,
            n_exposures=frames,
        )
        images.append(with_psf(image, fwhm) if psf else image)
    return images[0], images[1]


def subtract(science: MaskedImage, reference: MaskedImage, **options):
    """Both differences of a pair, and the candidates of each."""
    pair = normalize(align(science, reference), **options)
    return [(d, detect(d, pair=pair)) for d in (zogy(pair), classic(pair))]


def assert_sound(difference, table) -> None:
    """Nothing that is not masked may be undefined, and the noise must be what it says."""
    good = ~difference.bad
    assert good.any()
    for name in PLANES:
        assert np.isfinite(getattr(difference, name)[good]).all(), name
    assert (difference.variance[good] > 0).all()
    assert (difference.flux_error[good] > 0).all()
    assert robust_std(difference.score_corrected[good]) == pytest.approx(1.0, abs=0.2)
    for name in ("x", "y", "flux", "flux_error", "snr"):
        assert table[name].null_count == 0, name


# --- typed errors ---------------------------------------------------------------------------------

Case = Callable[[Sky], Pair]

REFUSED: dict[str, tuple[Case, type[AstridError], str]] = {
    "all_nan_science": (
        lambda s: (written(s.science, np.s_[:], np.nan), s.reference),
        ScienceError,
        "usable",
    ),
    "all_nan_reference": (
        lambda s: (s.science, written(s.reference, np.s_[:], np.nan)),
        ScienceError,
        "usable",
    ),
    "constant_science": (lambda s: (written(s.science, np.s_[:], 150.0), s.reference), ScienceError, "noise"),
    "constant_reference": (
        lambda s: (s.science, written(s.reference, np.s_[:], 150.0)),
        ScienceError,
        "noise",
    ),
    "zeros": (lambda s: (written(s.science, np.s_[:], 0.0), s.reference), ScienceError, "noise"),
    "clipped_at_its_sky": (
        lambda s: (s.science, s.reference.replace(data=np.maximum(s.reference.data, 155.0))),
        ScienceError,
        "noise|stars",
    ),
    "one_pixel": (lambda s: (cut(s.science, np.s_[80:81], np.s_[80:81]), s.reference), ScienceError, "noise"),
    "20_x_20": (lambda s: (cut(s.science, np.s_[80:100], np.s_[80:100]), s.reference), PsfError, "stars"),
    "20_x_20_both": (
        lambda s: (
            cut(s.science, np.s_[80:100], np.s_[80:100]),
            cut(s.reference, np.s_[90:120], np.s_[90:120]),
        ),
        PsfError,
        "stars",
    ),
    "two_rows": (lambda s: (cut(s.science, np.s_[80:82], np.s_[:]), s.reference), PsfError, "stars"),
    "next_field": (
        lambda s: (s.science, s.reference.replace(wcs=tan_wcs(s.reference.shape, centre=(151.0, 20.0)))),
        NoOverlapError,
        "overlap by 0.0%",
    ),
    "other_side_of_the_sky": (
        lambda s: (s.science, s.reference.replace(wcs=tan_wcs(s.reference.shape, centre=(330.0, -20.0)))),
        NoOverlapError,
        "overlap by 0.0%",
    ),
    "wcs_of_nan": (
        lambda s: (s.science.replace(wcs=nan_wcs(s.science.shape)), s.reference),
        NoOverlapError,
        "overlap by 0.0%",
    ),
    "other_field_at_the_same_place": (
        lambda s: (s.science, s.reference.replace(data=s.reference.data[::-1].copy())),
        RegistrationError,
        "match",
    ),
    "negative_gain": (lambda s: (s.science.replace(gain=-1.5), s.reference), ScienceError, "gain"),
    "negative_gain_of_the_reference": (
        lambda s: (s.science, s.reference.replace(gain=-1.5)),
        ScienceError,
        "gain",
    ),
    "gain_of_0": (lambda s: (s.science.replace(gain=0.0), s.reference), ScienceError, "gain"),
    "gain_of_nan": (lambda s: (s.science.replace(gain=np.nan), s.reference), ScienceError, "gain"),
    "negative_variance": (lambda s: (with_variance(s.science, -25.0), s.reference), ScienceError, "variance"),
    "negative_variance_of_the_reference": (
        lambda s: (s.science, with_variance(s.reference, -25.0)),
        ScienceError,
        "variance",
    ),
    "variance_of_zero": (lambda s: (with_variance(s.science, 0.0), s.reference), ScienceError, "variance"),
    "variance_of_nan": (lambda s: (with_variance(s.science, np.nan), s.reference), ScienceError, "usable"),
    "all_masked": (
        lambda s: (s.science.replace(mask=np.ones(s.science.shape, bool)), s.reference),
        ScienceError,
        "usable",
    ),
    "all_masked_reference": (
        lambda s: (s.science, s.reference.replace(mask=np.ones(s.reference.shape, bool))),
        ScienceError,
        "usable",
    ),
    "saturation_below_the_sky": (
        lambda s: (s.science.replace(saturation=100.0), s.reference),
        ScienceError,
        "usable",
    ),
    "saturation_of_the_reference_below_the_sky": (
        lambda s: (s.science, s.reference.replace(saturation=100.0)),
        ScienceError,
        "usable",
    ),
    "wrong_sign": (lambda s: (s.science.replace(data=-s.science.data), s.reference), PsfError, "stars"),
    "one_star": (lambda _: stars_in_a_row(1, psf=False, zeropoint=True), PsfError, "1 of 1 stars"),
    "one_star_without_zero_points": (
        lambda _: stars_in_a_row(1, psf=True, zeropoint=False),
        PhotometryError,
        "1 common sources",
    ),
    "no_star_without_zero_points": (
        lambda _: stars_in_a_row(1, psf=True, zeropoint=False, flux=0.0),
        PhotometryError,
        "0 common sources",
    ),
}


def nan_wcs(shape: tuple[int, int]):
    """A WCS that leads nowhere."""
    wcs = tan_wcs(shape)
    wcs.wcs.crval = [np.nan, 20.0]
    wcs.wcs.set()
    return wcs


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_one_line(sky, name):
    make, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text) as caught:
        subtract(*make(sky))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) > 20


@pytest.mark.parametrize("ratio", [0.0, -1.0, np.nan, np.inf])
def test_a_flux_ratio_is_positive(sky, ratio):
    pair = align(sky.science, sky.reference)
    with pytest.raises(PhotometryError, match="ratio"):
        normalize(pair, flux_ratio=ratio)


@pytest.mark.parametrize("magnitude", [np.nan, np.inf, 9000.0, -9000.0])
def test_a_zero_point_of_nonsense_predicts_nothing(magnitude):
    """With no stars to measure it on, the flux ratio rests on the zero points alone."""
    science, reference = stars_in_a_row(1, psf=True, zeropoint=True)
    with pytest.raises(PhotometryError):
        subtract(science.replace(zeropoint=ZeroPoint(magnitude)), reference)


def test_images_of_different_shapes_are_not_aligned(sky):
    with pytest.raises(RegistrationError, match=r"192.*232"):
        align(sky.science, sky.reference, assume_aligned=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_a_psf_is_finite_and_positive(tmp_path, value):
    """In code this is a mistake of the caller, in a file an error that names it."""
    with pytest.raises(ValueError, match="finite"):
        Psf(np.full((11, 11), value), (64, 64))
    if np.isinf(value):
        return
    hdus = [fits.PrimaryHDU(np.ones((64, 64), np.float32))]
    hdus.append(fits.ImageHDU(np.full((11, 11), value, np.float32), name="PSF"))
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    with pytest.raises(ImageError, match=r"a\.fits: .*point-spread function"):
        read_image(tmp_path / "a.fits")


@pytest.mark.parametrize("name", ["WHT", "IVAR", "VAR", "ERR"])
def test_a_noise_plane_of_the_wrong_sign_is_reported(tmp_path, name):
    plane = fits.ImageHDU(np.full((64, 64), -4.0, np.float32), name=name)
    fits.HDUList([fits.PrimaryHDU(np.ones((64, 64), np.float32)), plane]).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.variance is None
    assert any("positive" in line for line in image.origin["warnings"])


@pytest.mark.parametrize("order", [-1, 9])
def test_an_order_that_there_is_not(sky, order):
    with pytest.raises(PsfError, match=f"order.*{order}"):
        normalize(align(sky.science, sky.reference), psf_order=order)


# --- flagged results ------------------------------------------------------------------------------

FLAGGED: dict[str, tuple[Case, tuple[slice, slice], str]] = {
    "nan_corner": (
        lambda s: (written(s.science, np.s_[:24, :24], np.nan), s.reference),
        np.s_[:24, :24],
        "NO_DATA",
    ),
    "nan_corner_of_the_reference": (
        lambda s: (s.science, written(s.reference, np.s_[:60, :60], np.nan)),
        np.s_[:30, :30],
        "REF_NO_DATA",
    ),
    "infinite_pixels": (
        lambda s: (written(s.science, np.s_[50:60, 50:60], np.inf), s.reference),
        np.s_[50:60, 50:60],
        "NO_DATA",
    ),
    "infinite_pixels_of_the_reference": (
        lambda s: (s.science, written(s.reference, np.s_[70:90, 70:90], np.inf)),
        np.s_[55:65, 55:65],
        "REF_NO_DATA",
    ),
    "largest_float": (
        lambda s: (written(s.science, np.s_[50, 50], 3e38), s.reference),
        np.s_[50:51, 50:51],
        "NO_DATA",
    ),
    "smallest_float_as_no_data": (
        lambda s: (written(s.science, np.s_[50:53, 50], -3e38), s.reference),
        np.s_[50:53, 50:51],
        "NO_DATA",
    ),
    "smallest_float_in_the_reference": (
        lambda s: (s.science, written(s.reference, np.s_[70:90, 70:90], -3e38)),
        np.s_[55:65, 55:65],
        "REF_NO_DATA",
    ),
    "negative_variance_of_some_rows": (
        lambda s: (with_variance(s.science, -25.0, np.s_[:20]), s.reference),
        np.s_[:20, :],
        "NO_DATA",
    ),
    "no_variance_of_some_rows": (
        lambda s: (with_variance(s.science, 0.0, np.s_[:20]), s.reference),
        np.s_[:20, :],
        "NO_DATA",
    ),
    "negative_variance_of_some_rows_of_the_reference": (
        lambda s: (s.science, with_variance(s.reference, -25.0, np.s_[:60])),
        np.s_[:30, :],
        "REF_NO_DATA",
    ),
    "saturated_from_just_above_the_sky": (
        lambda s: (written(s.science.replace(saturation=30000.0), np.s_[90:93, 90:93], 31000.0), s.reference),
        np.s_[90:93, 90:93],
        "SATURATED",
    ),
}


@pytest.mark.parametrize("name", FLAGGED)
def test_is_flagged_and_does_no_harm_elsewhere(sky, name):
    make, window, plane = FLAGGED[name]
    for difference, table in subtract(*make(sky)):
        assert (difference.mask[window] & bits(*plane.split()) != 0).all()
        assert_sound(difference, table)
        assert_transients_are_found(sky, difference)


def assert_transients_are_found(sky: Sky, difference) -> None:
    """The new sources on pixels that are not masked have their fluxes."""
    ny, nx = difference.shape
    for x, y, flux in zip(sky.transient_x, sky.transient_y, sky.transient_flux, strict=True):
        column, row = round(x), round(y)
        if not (4 < column < nx - 5 and 4 < row < ny - 5):
            continue
        around = np.s_[row - 3 : row + 4, column - 3 : column + 4]
        if difference.bad[around].any():
            continue
        measured, error = difference.flux[around].max(), difference.flux_error[row, column]
        # the maximum lies within half a pixel of the source: 0 to 8 % of the flux less
        assert -5.0 * error - 0.08 * flux < measured - flux < 5.0 * error


PLAIN: dict[str, Case] = {
    "nothing_masked": lambda s: (
        s.science.replace(mask=np.zeros(s.science.shape, np.int32)),
        s.reference.replace(mask=np.zeros(s.reference.shape, bool)),
    ),
    "no_gain": lambda s: (s.science.replace(gain=None), s.reference.replace(gain=None)),
    "no_zero_point_of_the_reference": lambda s: (s.science, s.reference.replace(zeropoint=None)),
    "exposure_of_0_s": lambda s: (
        s.science.replace(exptime=0.0, zeropoint=None),
        s.reference.replace(exptime=0.0, zeropoint=None),
    ),
    "zero_point_of_nan": lambda s: (s.science.replace(zeropoint=ZeroPoint(np.nan)), s.reference),
    "prime_sides": lambda s: (
        cut(s.science, np.s_[:191], np.s_[:167]),
        cut(s.reference, np.s_[:227], np.s_[:211]),
    ),
    "even_and_odd_sides": lambda s: (
        cut(s.science, np.s_[:190], np.s_[:151]),
        cut(s.reference, np.s_[3:], np.s_[4:]),
    ),
    "reference_smaller_than_the_science_image": lambda s: (
        s.science,
        cut(s.reference, np.s_[40:191], np.s_[35:184]),
    ),
    "no_wcs": lambda s: (s.science.replace(wcs=None), s.reference.replace(wcs=None)),
    "very_small_unit": lambda s: tuple(
        i.replace(data=i.data * 1e-12, saturation=None, gain=None, zeropoint=None)
        for i in (s.science, s.reference)
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_is_no_fault(sky, name):
    science, reference = PLAIN[name](sky)
    scaled = (
        Sky(**{**vars(sky), "transient_flux": sky.transient_flux * 1e-12}) if "small_unit" in name else sky
    )
    for difference, table in subtract(science, reference):
        assert difference.shape == science.shape
        assert_sound(difference, table)
        assert_transients_are_found(scaled, difference)


def test_without_zero_points_there_are_no_magnitudes(sky):
    for _, table in subtract(sky.science.replace(zeropoint=None), sky.reference.replace(zeropoint=None)):
        assert table.num_rows
        assert table["magnitude"].null_count == table["flux_njy"].null_count == table.num_rows


@pytest.fixture(scope="module")
def whole_counts(sky):
    """Both images in whole counts, and their difference."""
    images = [i.replace(data=np.clip(np.rint(i.data), 0, 60000)) for i in (sky.science, sky.reference)]
    return images, zogy(normalize(align(*images)))


@pytest.mark.parametrize("kind", [">u2", ">f4", "<f8"])
def test_byte_order_and_type_of_the_pixels_do_not_matter(whole_counts, kind):
    """Files hold big-endian numbers and unsigned integers; so may the arrays of a caller."""
    images, ours = whole_counts
    theirs = zogy(normalize(align(*(i.replace(data=i.data.astype(kind)) for i in images))))
    for name in PLANES:
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


def test_every_other_row_masked(sky):
    """Stars without half of their pixels: too few, or a sound result."""
    mask = np.indices(sky.science.shape)[0] % 2 == 0
    result = result_or_message(sky.science.replace(mask=mask), sky.reference)
    if isinstance(result, str):
        assert "usable" in result
        return
    for difference, table in result:
        assert difference.bad[::2].all()
        assert_sound(difference, table)


def result_or_message(science: MaskedImage, reference: MaskedImage):
    """Both differences of a pair, or why there are none."""
    try:
        return subtract(science, reference)
    except ScienceError as error:
        return str(error)


def test_one_star_is_enough_with_psfs_and_zero_points(caplog):
    science, reference = stars_in_a_row(1, psf=True, zeropoint=True)
    pair = normalize(align(science, reference))
    assert pair.normalization.flux_ratio == pytest.approx(0.8)
    assert pair.normalization.flux_ratio_error == pytest.approx(0.05 * 0.8)
    for difference, table in subtract(science, reference):
        assert_sound(difference, table)
    assert "without a matching by kernel" in caplog.text


def test_a_sky_without_stars(caplog):
    """Blank images with given PSFs and zero points: noise, and nothing found."""
    for difference, table in subtract(*stars_in_a_row(1, psf=True, zeropoint=True, flux=0.0)):
        assert_sound(difference, table)
        assert np.abs(difference.score_corrected[20:-20, 20:-20]).max() < 6.0
    assert "without a matching by kernel" in caplog.text


def test_a_small_image_with_given_psfs(sky, caplog):
    """Of 20 x 20 pixels a few are left within the edges, with the noise that they should have."""
    small = cut(sky.science, np.s_[140:160], np.s_[20:40])
    pair = (with_psf(small, 2.2), with_psf(sky.reference, 1.8))
    for difference, _ in subtract(*pair, prefer_given_psf=True):
        assert difference.shape == (20, 20)
        assert (difference.mask[0] & bits("EDGE") != 0).all()
        for name in PLANES:
            assert np.isfinite(getattr(difference, name)[~difference.bad]).all(), name
    assert "without a matching by kernel" in caplog.text


def test_a_psf_larger_than_the_image(sky, caplog):
    images = [cut(sky.science, np.s_[:48], np.s_[:50]), cut(sky.reference, np.s_[:80], np.s_[:90])]
    pair = [with_psf(i, fwhm, half=60) for i, fwhm in zip(images, (2.2, 1.8), strict=True)]
    small = [with_psf(i, fwhm, half=20) for i, fwhm in zip(images, (2.2, 1.8), strict=True)]
    for (difference, table), (usual, _) in zip(
        subtract(*pair, prefer_given_psf=True), subtract(*small, prefer_given_psf=True), strict=True
    ):
        assert_sound(difference, table)
        inner = ~difference.bad
        # a stamp of 41 pixels holds all but a thousandth of the light
        assert np.abs(difference.score - usual.score)[inner].max() < 0.1
    assert "without a matching by kernel" in caplog.text


@pytest.mark.parametrize("damaged", [False, True])
def test_a_small_field_with_bright_stars(damaged):
    """Three quarters of its pixels show sources, a corner may be empty: the rest is sky enough."""
    sky = make_sky(seed=5, size=160, n_stars=30, n_transients=4)
    reference = written(sky.reference, np.s_[:60, :60], np.nan) if damaged else sky.reference
    pair = normalize(align(sky.science, reference))
    assert pair.normalization.reference_background == pytest.approx(SKY, abs=0.3)
    assert pair.normalization.n_stars >= 8
    difference = zogy(pair)
    assert_sound(difference, detect(difference, pair=pair))


@pytest.mark.parametrize(("size", "share"), [(100, 1.0), (160, 0.4), (300, 0.4)])
def test_white_noise_of_a_small_field_stays_white(size, share):
    """The largest of many lags exceeds three sigma often; the small ones add up at low frequencies."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(size, size)).astype(np.float32)
        cells = rng.uniform(size=(size // 10 + 1, size // 10 + 1)) < share
        blank = cells.repeat(10, axis=0).repeat(10, axis=1)[:size, :size]
        assert correlation_of(noise, blank, np.ones_like(noise)) is None
