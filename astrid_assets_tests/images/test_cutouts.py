"""Cutouts as FITS: astropy must find them whole, in place on the sky, and with what is known of each."""

import io

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.wcs import WCS, DistortionLookupTable, Sip

from astrid_assets.images.cutouts import IMAGES, stamp_wcs, write_cutouts
from astrid_assets.images.fits import verify_fits
from astrid_assets.images.triplets import STAMP_BITS, Triplets
from astrid_assets_tests.science.sky import tan_wcs

SIZE = 33


@pytest.fixture
def triplets():
    rng = np.random.default_rng(1)
    stamps = rng.normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)
    stamps[1, 2, :4] = np.nan
    mask = rng.integers(0, 16, stamps.shape).astype(np.uint8)
    return Triplets(stamps, mask, stamps[:, 0] * 2, np.array([60, 3, 100]), np.array([50, 2, 90]))


@pytest.fixture
def table():
    names = pa.array(["e-0000", "e-0001", "e-0002"])
    numbers = {
        "x": [60.2, 3.1, 99.6],
        "y": [50.4, 1.7, 90.3],
        "snr": [30.0, 8.0, 5.5],
        "mjd_mid": [60000.5] * 3,
    }
    rest = {
        "ra": pa.array([150.0, None, 151.0]),
        "artifact": ["", "masked", ""],
        "positive": [True, False, True],
    }
    return pa.table({"candidate_id": names, **numbers, **rest, "flags": pa.array([0, 3, 0], pa.int32())})


def written(triplets, table, **options):
    stream = io.BytesIO()
    write_cutouts(stream, triplets, table, **options)
    stream.seek(0)
    return stream


def sip_wcs():
    wcs = tan_wcs((128, 128), rotation=20.0)
    a = np.zeros((3, 3))
    a[2, 0] = 1e-4
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.sip = Sip(a, a.T, None, None, wcs.wcs.crpix)
    return wcs


def table_wcs():
    wcs = tan_wcs((128, 128), rotation=20.0)
    values = np.linspace(0, 1, 9)[None, :].repeat(9, axis=0).astype(np.float32) ** 2
    wcs.cpdis1 = DistortionLookupTable(values, (1.0, 1.0), (1.0, 1.0), (16.0, 16.0))
    return wcs


def test_everything_comes_back(triplets, table):
    header = {"SKYFIELD": "demo", "PRODID": "a" * 64}
    with fits.open(written(triplets, table, wcs=tan_wcs((128, 128)), unit=u.adu, header=header)) as hdus:
        assert hdus[0].header["SKYFIELD"] == "demo"
        assert hdus[0].header["ASTRKIND"] == "cutouts"
        assert len(hdus) == 1 + 3 * len(IMAGES) + 2
        for i in range(3):
            for channel, name in enumerate(IMAGES[:3]):
                hdu = hdus[name, i + 1]
                assert np.array_equal(hdu.data, triplets.stamps[i, channel], equal_nan=True)
                assert hdu.header["BUNIT"] == "adu"
            assert np.array_equal(hdus["SCORE", i + 1].data, triplets.score[i])
            mask = hdus["MASK", i + 1]
            for channel in range(3):
                assert np.array_equal(mask.data >> 4 * channel & 15, triplets.mask[i, channel])
            assert mask.header["CANDID"] == f"e-000{i}"
            assert mask.header["SNR"] == table["snr"][i].as_py()
            assert mask.header["MJD-AVG"] == 60000.5
        assert mask.header[f"MBIT{8 + STAMP_BITS['BAD'].bit_length() - 1}"] == "DIFF_BAD"
        rows = hdus["CANDIDATES"].data
        assert rows["EXTVER"].tolist() == [1, 2, 3]
        assert rows["candidate_id"].tolist() == table["candidate_id"].to_pylist()
        assert np.isnan(rows["ra"][1])
        assert rows["artifact"].tolist() == ["", "masked", ""]
        assert rows["positive"].tolist() == [True, False, True]


def test_every_checksum_holds_and_a_cut_file_is_found_out(triplets, table, tmp_path):
    content = written(triplets, table, wcs=sip_wcs()).getvalue()
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    verify_fits(path)
    assert written(triplets, table, wcs=sip_wcs()).getvalue() == content
    spoilt = bytearray(content)
    spoilt[40_000] ^= 1
    path.write_bytes(bytes(spoilt))
    with pytest.raises(Exception, match="checksum of extension"):
        verify_fits(path)


@pytest.mark.parametrize("make", [lambda: tan_wcs((128, 128), rotation=20.0), sip_wcs, table_wcs])
def test_stamps_lie_where_the_image_says(triplets, table, make):
    wcs = make()
    with fits.open(written(triplets, table, wcs=wcs)) as hdus:
        for i, (x, y) in enumerate(zip(triplets.x, triplets.y, strict=True)):
            own = WCS(hdus["DIFF", i + 1].header)
            expected = wcs.all_pix2world([x, x + 2.5], [y, y - 3.0], 0)
            found = own.all_pix2world([16.0, 18.5], [16.0, 13.0], 0)
            # a gnomonic projection in place of a distortion table is right to first order
            limit = 0.002 / 3600 if make is table_wcs else 1e-10
            assert np.abs(np.subtract(found, expected)).max() < limit


def test_a_moved_wcs_agrees_with_the_image():
    for wcs in (tan_wcs((128, 128)), sip_wcs()):
        own = stamp_wcs(wcs, 5, 100, 33)
        expected = wcs.all_pix2world([5.0, 9.5], [100.0, 93.0], 0)
        assert np.allclose(own.all_pix2world([16.0, 20.5], [16.0, 9.0], 0), expected, rtol=0, atol=1e-10)


def test_no_candidates_and_no_sky_are_a_file_too(triplets, table):
    with fits.open(written(triplets.take(slice(0)), table.slice(0, 0))) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "CANDIDATES", "META"]
        assert len(hdus["CANDIDATES"].data) == 0
