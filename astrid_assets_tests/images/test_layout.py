"""Own files: what is written comes back."""

from __future__ import annotations

import hashlib
import io
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from upath import UPath

from astrid_assets.errors import ImageError
from astrid_assets.images import (
    AlignedPair,
    Difference,
    MaskedImage,
    Normalization,
    Psf,
    Registration,
    ZeroPoint,
    read_difference,
    read_image,
    read_pair,
    write_difference,
    write_image,
    write_pair,
)
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import difference_parameters

SHAPE = (40, 51)


def tan_wcs(ra: float = 150.1, dec: float = 2.2, scale: float = 2.8e-4) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [25.3, 20.7]
    wcs.wcs.cd = [[-scale, 1e-6], [1e-6, scale]]
    wcs.wcs.radesys = "ICRS"
    wcs.array_shape = SHAPE
    wcs.wcs.set()
    return wcs


def full_image(seed: int = 1) -> MaskedImage:
    """Every attribute set, none of them round."""
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 3, SHAPE).astype(np.float32)
    data[3, 4] = np.nan
    return MaskedImage(
        data,
        unit=u.MJy / u.sr,
        variance=rng.uniform(8, 10, SHAPE).astype(np.float32),
        mask=rng.integers(0, 4096, SHAPE),
        noise_correlation=rng.random((5, 7)),
        wcs=tan_wcs(),
        psf=Psf(rng.random((3, 9, 11)) + 0.1, SHAPE, order=1, n_stars=7, chi2=1.1, source="stars"),
        zeropoint=ZeroPoint(26.325000000000003, 0.0081, "catalogue"),
        gain=6.2,
        read_noise=10.3,
        saturation=5e4,
        exptime=30.0,
        airmass=1.1,
        mjd_start=59759.36387123456,
        mjd_mid=59759.3640448456,
        mjd_end=59759.36421,
        n_exposures=3,
        band="g",
        survey="ztf",
        detector="c05q2",
        origin={"exposure_id": "ztf_2", "nested": {"a": [1, None, 2.5]}, "warnings": ["ä name"]},
    )


def assert_same_image(one: MaskedImage, other: MaskedImage) -> None:
    for item in fields(MaskedImage):
        before, after = getattr(one, item.name), getattr(other, item.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after, err_msg=item.name)
            assert before.dtype == after.dtype, item.name
        elif isinstance(before, Psf):
            np.testing.assert_array_equal(before.basis, after.basis)
            names = ("image_shape", "order", "n_stars", "chi2", "source")
            assert [getattr(before, n) for n in names] == [getattr(after, n) for n in names]
        elif isinstance(before, WCS):
            assert_same_sky(before, after)
        else:
            assert before == after, item.name


def assert_same_sky(one: WCS, other: WCS, *, arcsec: float = 1e-6) -> None:
    y, x = np.mgrid[0:60:15, 0:60:15]
    np.testing.assert_allclose(
        one.all_pix2world(x, y, 0), other.all_pix2world(x, y, 0), rtol=0, atol=arcsec / 3600
    )


def test_every_attribute_comes_back(tmp_path: Path) -> None:
    image = full_image()
    write_image(tmp_path / "a.fits", image)
    assert_same_image(image, read_image(tmp_path / "a.fits"))


def test_an_image_of_pixels_alone_comes_back(tmp_path: Path) -> None:
    image = MaskedImage(np.ones((3, 4)))
    write_image(str(tmp_path / "a.fits"), image)
    assert_same_image(image, read_image(str(tmp_path / "a.fits")))


def test_streams_and_object_stores_serve_as_paths() -> None:
    image, stream = full_image(), io.BytesIO()
    write_image(stream, image)
    stream.seek(0)
    assert_same_image(image, read_image(stream))
    write_image(UPath("memory://test_fits/a.fits"), image)
    assert_same_image(image, read_image(UPath("memory://test_fits/a.fits")))


def test_writing_leaves_the_image_as_it_was(tmp_path: Path) -> None:
    image, twin = full_image(), full_image()
    write_image(tmp_path / "a.fits", image)
    assert_same_image(image, twin)


def test_equal_images_are_equal_bytes(tmp_path: Path) -> None:
    """No time of writing in the file: the provenance hashes depend on contents alone."""
    for name in ("a.fits", "b.fits"):
        write_image(tmp_path / name, full_image(), header={"RUN": "x"})
    sums = {hashlib.sha256((tmp_path / n).read_bytes()).hexdigest() for n in ("a.fits", "b.fits")}
    assert len(sums) == 1


def test_a_person_finds_the_numbers_in_the_header(tmp_path: Path) -> None:
    write_image(tmp_path / "a.fits", full_image(), header={"PARHASH": "abc"})
    with fits.open(tmp_path / "a.fits") as hdus:
        assert hdus[0].header["PARHASH"] == "abc"
        header = hdus["SCI"].header
        assert header["MAGZP"] == 26.325000000000003
        assert (header["FILTER"], header["BUNIT"], header["TIMESYS"]) == ("g", "MJy / sr", "UTC")
        assert header["MJD-AVG"] == pytest.approx(59759.3640448456, abs=1e-9)
        assert hdus["MASK"].header[f"MASK{int(np.log2(bits('SATURATED')))}"] == "SATURATED"
        assert all(hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1 for hdu in hdus)


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, None, np.float32("nan"), {"a": np.nan}, "ünïcode\nline", 1e300]
)
def test_no_header_value_breaks_writing(tmp_path: Path, value: object) -> None:
    image = full_image().replace(gain=np.nan, zeropoint=ZeroPoint(np.nan), airmass=np.inf)
    write_image(tmp_path / "a.fits", image, header={"VALUE": value, "a long name of a key": value})
    assert np.isnan(read_image(tmp_path / "a.fits").gain)


def test_mask_planes_keep_their_meaning_when_bits_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astrid_assets.images import layout

    mask = np.zeros(SHAPE, np.int32)
    mask[1, 2] = bits("SATURATED")
    old = {**layout.plane_bits(), "SATURATED": 25, "GONE": 26}
    moved = np.where(mask != 0, 1 << 25 | 1 << 26, 0).astype(np.int32)
    write_image(tmp_path / "a.fits", MaskedImage(np.ones(SHAPE), mask=moved))
    with fits.open(tmp_path / "a.fits") as hdus:
        np.testing.assert_array_equal(layout.decode_mask(hdus, "MASK", old), mask)


def pair_of(normalization: Normalization | None) -> AlignedPair:
    registration = Registration(
        "wcs+stars", 12, (0.1, 0.2), (0.01, -0.02), (0.03, np.nan), 1, ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    )
    return AlignedPair(full_image(1), full_image(2), registration, 0.93, normalization)


NORMALIZATION = Normalization(
    0.51, 0.002, 0.01, None, 34, 650.1, 12.3, 13.0, 2.0, 1.02, 0.97, (0.1, -0.1), (0.02, 0.03)
)


@pytest.mark.parametrize("normalization", [None, NORMALIZATION])
def test_a_pair_comes_back(tmp_path: Path, normalization: Normalization | None) -> None:
    pair = pair_of(normalization)
    write_pair(tmp_path / "p.fits", pair)
    back = read_pair(tmp_path / "p.fits")
    assert_same_image(pair.science, back.science)
    assert_same_image(pair.reference, back.reference)
    assert (back.overlap, back.normalization) == (pair.overlap, pair.normalization)
    assert repr(back.registration) == repr(pair.registration)  # it holds a NaN


def test_a_pair_without_science_is_put_together_again(tmp_path: Path) -> None:
    pair = pair_of(None)
    write_pair(tmp_path / "p.fits", pair, with_science=False)
    assert_same_image(pair.science, read_pair(tmp_path / "p.fits", science=pair.science).science)
    with pytest.raises(ImageError, match=r"^p\.fits: holds no science image, and none was given$"):
        read_pair(tmp_path / "p.fits")
    other = MaskedImage(np.ones((4, 4)))
    with pytest.raises(ImageError, match=r"shape \(4, 4\)"):
        read_pair(tmp_path / "p.fits", science=other)


def test_both_sides_of_a_pair_keep_their_distortion_tables(tmp_path: Path, distorted: WCS) -> None:
    pair = pair_of(None)
    pair = pair.replace(
        science=pair.science.replace(wcs=distorted), reference=pair.reference.replace(wcs=distorted)
    )
    write_pair(tmp_path / "p.fits", pair)
    back = read_pair(tmp_path / "p.fits")
    assert_same_sky(distorted, back.science.wcs)
    assert_same_sky(distorted, back.reference.wcs)


@pytest.fixture
def distorted() -> WCS:
    """Return a TAN with lookup tables, as Hubble's detectors have them."""
    header = tan_wcs().to_header()
    table = fits.ImageHDU(np.linspace(-2, 2, 100, dtype=np.float32).reshape(10, 10), name="WCSDVARR")
    for key, value in {"CRVAL": 1.0, "CRPIX": 1.0, "CDELT": 7.0}.items():
        table.header[f"{key}1"] = table.header[f"{key}2"] = value
    for axis in (1, 2):
        header[f"CPDIS{axis}"] = "LOOKUP"
        header[f"DP{axis}"] = "EXTVER: 1.0"
        header[f"DP{axis}.EXTVER"] = 1.0
        header[f"DP{axis}.NAXES"] = 2.0
        header[f"DP{axis}.AXIS.1"] = 1.0
        header[f"DP{axis}.AXIS.2"] = 2.0
    wcs = WCS(header, fobj=fits.HDUList([fits.PrimaryHDU(), table]))
    assert abs(wcs.all_pix2world(30, 30, 0)[0] - tan_wcs().all_pix2world(30, 30, 0)[0]) > 1e-5
    return wcs


def difference_of(pair: AlignedPair, **changes: object) -> Difference:
    """A difference with every attribute set."""
    rng = np.random.default_rng(3)
    planes = [rng.normal(size=SHAPE).astype(np.float32) for _ in range(6)]
    attributes = {
        "method": "classic",
        "metrics": {"scorr_std": 1.01, "noise_level": np.nan},
        "unit": u.adu,
        "wcs": tan_wcs(),
        "zeropoint": ZeroPoint(25.1),
        "mjd_mid": 59000.5,
        "band": "r",
        "survey": "decam",
        "origin": {"science_id": "s", "reference_id": "r"},
        "parameters": difference_parameters(pair),
    }
    mask = rng.integers(0, 1 << 25, SHAPE).astype(np.int32)
    return Difference(
        planes[0], planes[1], mask, Psf(np.ones((5, 5)), SHAPE), *planes[2:], **{**attributes, **changes}
    )


def test_a_difference_comes_back(tmp_path: Path) -> None:
    difference = difference_of(pair_of(NORMALIZATION))
    write_difference(tmp_path / "d.fits", difference, header={"INSHA": "0123"})
    back = read_difference(tmp_path / "d.fits")
    for name in ("data", "variance", "mask", "score", "score_corrected", "flux", "flux_error"):
        np.testing.assert_array_equal(getattr(back, name), getattr(difference, name))
    for name in ("method", "unit", "mjd_mid", "band", "survey", "origin"):
        assert getattr(back, name) == getattr(difference, name)
    assert back.zeropoint.magnitude == 25.1
    assert np.isnan(back.zeropoint.error)
    assert back.metrics["scorr_std"] == 1.01
    assert np.isnan(back.metrics["noise_level"])
    # it holds a NaN
    assert repr(back.parameters) == repr(difference.parameters)
    assert_same_sky(difference.wcs, back.wcs)
    header = fits.getheader(tmp_path / "d.fits")
    assert (header["METRIC SCORR_STD"], header["INSHA"], header["ORIGIN SCIENCE_ID"]) == (1.01, "0123", "s")
    assert fits.getheader(tmp_path / "d.fits", "SCI")["CTYPE1"] == "RA---TAN"


def told(image: MaskedImage, exposure: str, mjd: float) -> MaskedImage:
    return image.replace(
        origin={"exposure_id": exposure},
        mjd_start=mjd - 0.001,
        mjd_mid=mjd,
        mjd_end=mjd + 0.001,
        exptime=30.0,
        gain=6.2,
        read_noise=10.0,
        band="r",
        survey="ztf",
        zeropoint=ZeroPoint(26.3, 0.01, "catalogue"),
        psf=Psf(
            np.outer(*2 * [np.exp(-0.3 * np.arange(-7, 8) ** 2)]), SHAPE, n_stars=41, chi2=1.1, source="stars"
        ),
    )


def test_a_difference_found_alone_tells_what_it_was_made_of(tmp_path: Path) -> None:
    """Every number in a plain keyword, its unit in the comment; astropy alone reads it."""
    pair = pair_of(NORMALIZATION)
    pair = pair.replace(
        science=told(pair.science, "ztf_1", 59000.25), reference=told(pair.reference, "ref_9", 58000.5)
    )
    path = tmp_path / "d.fits"
    header = {"REFID": "ref_9", "PARHASH": "abc"}
    write_difference(path, difference_of(pair, wcs=pair.science.wcs), header=header)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        cards = {card.keyword: card for card in hdus[0].header.cards}
        sky = WCS(hdus["SCI"].header).pixel_to_world(10.0, 12.0)
        assert_same_sky(WCS(hdus["SCORR"].header), WCS(hdus["SCI"].header))
        units = {name: hdus[name].header.get("BUNIT") for name in ("SCI", "VAR", "FLUX", "SCORR")}
    truth = pair.science.wcs.pixel_to_world(10.0, 12.0)
    assert sky.separation(truth).arcsec < 1e-6
    assert units == {"SCI": "adu", "VAR": "adu2", "FLUX": "adu", "SCORR": None}
    fwhm = pair.science.psf.fwhm
    expected = {
        "SCIID": "ztf_1",
        "REFID": "ref_9",
        "PARHASH": "abc",
        "METHOD": "classic",
        "MJD-BEG": 59000.249,
        "MJD-AVG": 59000.25,
        "MJD-END": 59000.251,
        "DATE-AVG": "2020-05-31T06:00:00.000",
        "REFMJDB": 58000.499,
        "REFMJDA": 58000.5,
        "REFMJDE": 58000.501,
        "TIMESYS": "UTC",
        "EXPTIME": 30.0,
        "REFEXPT": 30.0,
        "FILTER": "r",
        "REFFILT": "r",
        "SURVEY": "ztf",
        "GAIN": 6.2,
        "REFGAIN": 6.2,
        "RDNOISE": 10.0,
        "MAGZP": 26.3,
        "REFMAGZP": 26.3,
        "SCIFWHM": fwhm,
        "REFFWHM": fwhm,
        "SCIPSRC": "stars",
        "SCIPNST": 41,
        "SCIRMS": 13.0,
        "REFRMS": 2.0,
        "SCIBKG": 650.1,
        "FLXRATIO": 0.51,
        "FLXRERR": 0.002,
        "FLXRNST": 34,
        "REGMETH": "wcs+stars",
        "REGNSTAR": 12,
        "REGDX": 0.01,
        "REGRMSX": 0.03,
        "OVERLAP": 0.93,
    }
    assert {key: cards[key].value for key in expected} == expected
    assert cards["CREATOR"].value.startswith("astrid_assets ")
    assert "REGRMSY" not in cards  # not a number: no value is better than a wrong one
    for keys, unit in (("MJD-AVG REFMJDA", "[d]"), ("SCIFWHM REGDX SHIFTX", "[pix]"), ("EXPTIME", "[s]")):
        assert all(cards[key].comment.startswith(unit) for key in keys.split())
    assert cards["REFID"].comment == "reference exposure"  # also where the caller gives the value


def test_a_difference_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    write_difference(tmp_path / "d.fits", difference_of(pair_of(None), parameters={}))
    header = fits.getheader(tmp_path / "d.fits")
    assert (header["FILTER"], header["MJD-AVG"], header["MAGZP"]) == ("r", 59000.5, 25.1)
    assert read_difference(tmp_path / "d.fits").parameters == {}


def test_parameters_are_what_json_gives_back() -> None:
    import json

    for normalization in (None, NORMALIZATION):
        parameters = difference_parameters(pair_of(normalization))
        assert repr(json.loads(json.dumps(parameters))) == repr(parameters)
    assert parameters["registration"]["coefficients"] == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    assert parameters["normalization"]["flux_ratio"] == 0.51


def test_files_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    write_image(tmp_path / "a.fits", full_image())
    with pytest.raises(ImageError, match=r"^a\.fits: holds image, not pair$"):
        read_pair(tmp_path / "a.fits")
