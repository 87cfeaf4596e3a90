"""Image integrity: known pixels written in every encoding come back as they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from astrid_assets.errors import ImageError
from astrid_assets.images import read_image
from astrid_assets.images.masks import bits

SHAPE = (24, 31)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 200, SHAPE).astype(np.float32)


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", "u1", ">i2", ">u2", ">i4", ">i8"])
def test_every_pixel_type_comes_back_native(tmp_path: Path, pixels: np.ndarray, dtype: str) -> None:
    fits.PrimaryHDU(pixels.astype(dtype)).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    np.testing.assert_array_equal(image.data, pixels)
    assert image.data.dtype == np.float32
    assert image.data.dtype.isnative
    assert image.data.flags.c_contiguous


def test_scaled_integers_with_blanks(tmp_path: Path) -> None:
    stored = np.array([[0, 10, -32768], [3, 4, 5]], np.int16)
    hdu = fits.PrimaryHDU(stored)
    hdu.header.update({"BSCALE": 0.5, "BZERO": 100.0, "BLANK": -32768})
    hdu.writeto(tmp_path / "a.fits")
    # astropy writes what it is given; the keywords describe these very integers
    image = read_image(tmp_path / "a.fits")
    expected = np.array([[100, 105, np.nan], [101.5, 102, 102.5]], np.float32)
    np.testing.assert_array_equal(image.data, expected)
    assert image.mask[0, 2] == bits("NO_DATA")
    assert np.count_nonzero(image.mask) == 1


def test_a_blank_in_an_image_of_floats_means_nothing(tmp_path: Path, pixels: np.ndarray) -> None:
    hdu = fits.PrimaryHDU(pixels)
    hdu.writeto(tmp_path / "a.fits")
    content = (
        (tmp_path / "a.fits")
        .read_bytes()
        .replace(b"END".ljust(80), b"BLANK   =               -32768".ljust(80) + b"END".ljust(80), 1)
    )
    (tmp_path / "a.fits").write_bytes(content[:2880] + content[2960:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.fits").data, pixels)


@pytest.mark.parametrize("suffix", [".fits.gz", ".fits.fz", ".fit", ".FITS"])
def test_packed_files(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".fits.fz":
        packed = fits.CompImageHDU(pixels.astype(np.int32), compression_type="RICE_1")
        fits.HDUList([fits.PrimaryHDU(), packed]).writeto(path)
    else:
        plain = tmp_path / "plain.fits"
        fits.PrimaryHDU(pixels).writeto(plain)
        content = plain.read_bytes()
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        plain.unlink()
    np.testing.assert_array_equal(read_image(path).data, pixels)


def test_roles_of_extensions(tmp_path: Path, pixels: np.ndarray) -> None:
    """Weights are inverse variances; no weight means a bad pixel; masks and errors likewise by name."""
    weight = np.full(SHAPE, 4.0, np.float32)
    weight[2, 3] = 0.0
    mask = np.zeros(SHAPE, np.int16)
    mask[5, 6] = 7
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(pixels, name="SCI"),
        fits.ImageHDU(weight, name="WHT"),
        fits.ImageHDU(mask, name="DQ"),
        fits.ImageHDU(np.ones((7, 7), np.float32), name="PSF"),
    ]
    hdus[0].header.update({"FILTER": "V", "EXPTIME": 12.0, "GAIN": 2.0})
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    np.testing.assert_array_equal(image.variance, np.full(SHAPE, 0.25, np.float32))
    assert {tuple(p) for p in np.argwhere(image.bad)} == {(2, 3), (5, 6)}
    assert (image.band, image.exptime, image.gain) == ("V", 12.0, 2.0)
    np.testing.assert_allclose(image.psf.at(0, 0), 1 / 49)


@pytest.mark.parametrize(("name", "value"), [("ERR", 0.5), ("VAR", 0.25), ("IVAR", 4.0)])
def test_three_ways_to_write_one_noise(tmp_path: Path, pixels: np.ndarray, name: str, value: float) -> None:
    plane = fits.ImageHDU(np.full(SHAPE, value, np.float32), name=name)
    fits.HDUList([fits.PrimaryHDU(pixels), plane]).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(read_image(tmp_path / "a.fits").variance, 0.25)


def test_planes_belong_to_the_image_of_their_version(tmp_path: Path, pixels: np.ndarray) -> None:
    hdus = [fits.PrimaryHDU()]
    for version in (1, 2):
        hdus.append(fits.ImageHDU(pixels * version, name="SCI", ver=version))
        hdus.append(fits.ImageHDU(np.full(SHAPE, float(version), np.float32), name="ERR", ver=version))
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    with pytest.raises(ImageError, match=r"^a\.fits: holds 2 images \(SCI,1, SCI,2\); choose one by hdu$"):
        read_image(tmp_path / "a.fits")
    second = read_image(tmp_path / "a.fits", hdu=3)
    np.testing.assert_array_equal(second.data, pixels * 2)
    np.testing.assert_array_equal(second.variance, 4.0)
    assert read_image(tmp_path / "a.fits", hdu="SCI").data[0, 0] == pixels[0, 0]
    with pytest.raises(ImageError, match="extension 0 is no two-dimensional image"):
        read_image(tmp_path / "a.fits", hdu=0)


def test_cubes(tmp_path: Path, pixels: np.ndarray) -> None:
    """A third axis of length 1 is there pro forma; with more planes somebody has to choose."""
    fits.PrimaryHDU(pixels[None, None]).writeto(tmp_path / "one.fits")
    np.testing.assert_array_equal(read_image(tmp_path / "one.fits").data, pixels)
    fits.PrimaryHDU(np.stack([pixels, pixels])).writeto(tmp_path / "two.fits")
    with pytest.raises(ImageError, match=r"^two\.fits: holds a data cube with more than one plane"):
        read_image(tmp_path / "two.fits")


def test_what_has_no_pixels_is_refused(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.full(SHAPE, np.nan, np.float32)).writeto(tmp_path / "nan.fits")
    with pytest.raises(ImageError, match="has no finite pixel value"):
        read_image(tmp_path / "nan.fits")
    fits.PrimaryHDU(np.ones(9, np.float32)).writeto(tmp_path / "line.fits")
    with pytest.raises(ImageError, match="holds no two-dimensional image with pixels"):
        read_image(tmp_path / "line.fits")


def test_pan_starrs_pixels_are_made_linear(tmp_path: Path) -> None:
    """Waters et al. 2020: stored v = a asinh((f - BOFFSET) / (2 BSOFTEN)), a = 2.5 log10(e)."""
    flux = np.linspace(-50, 5e5, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    stored = 2.5 * np.log10(np.e) * np.arcsinh((flux - 3.0) / (2 * 40.0))
    hdu = fits.PrimaryHDU(stored.astype(np.float64))
    hdu.header.update(
        {"BSOFTEN": 40.0, "BOFFSET": 3.0, "PSCAMERA": "GPC1", "HIERARCH FPA.FILTERID": "i.00000"}
    )
    hdu.header.update({"EXPTIME": 100.0, "HIERARCH FPA.ZP": 25.0})
    hdu.writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    np.testing.assert_allclose(image.data, flux, rtol=2e-7, atol=1e-4)
    assert (image.survey, image.band, image.zeropoint.magnitude) == ("ps1", "i", 30.0)


def test_clipped_pixels_of_unsigned_integers_are_saturated(tmp_path: Path, pixels: np.ndarray) -> None:
    full = pixels.astype(np.uint16)
    full[4, 4] = 65535
    fits.PrimaryHDU(full).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.saturation == 65535
    assert (image.mask == np.where(full == 65535, bits("SATURATED"), 0)).all()


# --- what the caller states ---------------------------------------------------------------------


def test_assumptions_fill_gaps_and_override_nothing(tmp_path: Path, pixels: np.ndarray) -> None:
    hdu = fits.PrimaryHDU(pixels, fits.Header({"GAIN": 2.0}))
    hdu.writeto(tmp_path / "a.fits")
    image = read_image(
        tmp_path / "a.fits", gain=3.0, band="R", mjd=55000.5, exptime=86.4, zeropoint=25.0, saturation=6e4
    )
    assert image.gain == 2.0
    assert (image.band, image.mjd_mid, image.saturation) == ("R", 55000.5, 6e4)
    assert image.mjd_end - image.mjd_start == pytest.approx(0.001)
    assert (image.zeropoint.magnitude, image.zeropoint.source) == (25.0, "assumed")
    assert "gain = 3.0 was given, but the header says 2.0" in image.origin["warnings"]
    assert "band = R is assumed" in image.origin["warnings"]


def test_an_unknown_assumption_is_an_error(tmp_path: Path, pixels: np.ndarray) -> None:
    fits.PrimaryHDU(pixels).writeto(tmp_path / "a.fits")
    with pytest.raises(ImageError, match="cannot assume colour; only aligned, band, "):
        read_image(tmp_path / "a.fits", colour=1)


# --- companions of a survey ---------------------------------------------------------------------


def ztf_header() -> fits.Header:
    return fits.Header(
        {
            "INSTRUME": "ZTF/MOSAIC",
            "FILTER": "ZTF_r",
            "OBSMJD": 59000.25,
            "EXPTIME": 30.0,
            "GAIN": 6.2,
            "READNOI": 10.1,
            "SATURATE": 51000.0,
            "MAGZP": 26.3,
            "MAGZPUNC": 0.01,
            "RCID": 12,
        }
    )


def test_ztf_with_mask_and_psf(tmp_path: Path, pixels: np.ndarray) -> None:
    stem = "ztf_20200531250000_000700_zr_c04_o_q1"
    fits.PrimaryHDU(pixels, ztf_header()).writeto(tmp_path / f"{stem}_sciimg.fits")
    mask = np.zeros(SHAPE, np.int16)
    for column, bit in enumerate((0, 1, 2, 5, 7, 8, 9, 10, 11, 12)):
        mask[0, column] = 1 << bit
    fits.PrimaryHDU(mask).writeto(tmp_path / f"{stem}_mskimg.fits")
    y, x = np.mgrid[-12:13, -12:13]
    fits.PrimaryHDU(7 * np.exp(-(x**2 + y**2) / 4.0)).writeto(tmp_path / f"{stem}_sciimgdaopsfcent.fits")
    image = read_image(tmp_path / f"{stem}_sciimg.fits")
    planes = ["STREAK", "CROWDED", "SUSPECT", "GHOST", "COSMIC_RAY"]
    planes += ["SATURATED", "BAD", "NO_DATA", "CROWDED", "SPIKE"]
    assert [int(v) for v in image.mask[0, : len(planes)]] == [int(bits(p)) for p in planes]
    assert not image.bad[1:].any()
    assert image.psf.at(5, 5).sum() == pytest.approx(1)
    assert image.psf.shape == (25, 25)
    assert (image.survey, image.band, image.detector) == ("ztf", "r", "12")
    assert (image.zeropoint.magnitude, image.zeropoint.error) == (26.3, 0.01)
    assert image.mjd_mid == pytest.approx(59000.25 + 15 / 86400, abs=1e-9)
    assert image.unit == u.adu
    assert image.origin["companions"] == {
        "mask": f"{stem}_mskimg.fits",
        "psf": f"{stem}_sciimgdaopsfcent.fits",
    }
    alone = read_image(tmp_path / f"{stem}_sciimg.fits", companions=False)
    assert alone.psf is None
    assert not alone.bad.any()


def test_ztf_reference_with_coverage_and_uncertainty(tmp_path: Path, pixels: np.ndarray) -> None:
    stem = "ztf_000700_zr_c04_q1"
    header = ztf_header()
    header["NFRAMES"] = 15
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / f"{stem}_refimg.fits")
    coverage = np.full(SHAPE, 15, np.int16)
    coverage[:, 0] = 0
    fits.PrimaryHDU(coverage).writeto(tmp_path / f"{stem}_refcov.fits")
    fits.PrimaryHDU(np.full(SHAPE, 3.0)).writeto(tmp_path / f"{stem}_refunc.fits")
    image = read_image(tmp_path / f"{stem}_refimg.fits")
    np.testing.assert_array_equal(image.variance, 9.0)
    np.testing.assert_array_equal(image.mask[:, 0], bits("NO_DATA"))
    assert not image.mask[:, 1:].any()
    assert image.n_exposures == 15


def test_a_companion_of_another_size_is_an_error(tmp_path: Path, pixels: np.ndarray) -> None:
    fits.PrimaryHDU(pixels).writeto(tmp_path / "a.fits")
    fits.PrimaryHDU(pixels[:-1]).writeto(tmp_path / "a.mask.fits")
    with pytest.raises(ImageError, match=r"^a\.fits: its companion a\.mask\.fits has shape \(23, 31\)"):
        read_image(tmp_path / "a.fits")


def test_packed_companions_are_found(tmp_path: Path, pixels: np.ndarray) -> None:
    fits.PrimaryHDU(pixels).writeto(tmp_path / "a.fits")
    plain = tmp_path / "plain.fits"
    fits.PrimaryHDU(np.full(SHAPE, 2.0)).writeto(plain)
    (tmp_path / "a.noise.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    np.testing.assert_array_equal(read_image(tmp_path / "a.fits").variance, 4.0)
