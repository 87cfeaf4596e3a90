"""ZTF at IRSA, without a server: names, requests, tables, pieces of images, light curves."""

from __future__ import annotations

import io
import itertools
import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from astrid_assets.archives.footprints import coverage
from astrid_assets.archives.irsa_ztf.cutouts import Box, check_pieces, piece
from astrid_assets.archives.irsa_ztf.forced import FORCED_COLUMNS, forced_request, parse_forced
from astrid_assets.archives.irsa_ztf.light_curves import light_curve_request, parse_light_curves
from astrid_assets.archives.irsa_ztf.names import PRODUCTS, Quadrant
from astrid_assets.archives.irsa_ztf.search import (
    Grid,
    parse_references,
    parse_science,
    reference_request,
    science_request,
)
from astrid_assets.archives.irsa_ztf.tables import read_table
from astrid_assets.archives.protocol import Cone
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError, ConfigurationError
from astrid_assets.fields import parse_fields
from astrid_assets.surveys import load_profile

FIELD = """
f:
  ra: 255.3
  dec: 12.1
  radius: 0.1
  archives: [irsa_ztf]
"""

XML = b'<?xml version="1.0"?><VOTABLE><INFO name="QUERY_STATUS" value="ERROR">down</INFO></VOTABLE>'
HTML = b"<!DOCTYPE html><html><body>The service is down for maintenance</body></html>"


def field(more=""):
    """Return a field with some more options."""
    return parse_fields(FIELD + more)["f"]


def where(request):
    """Return the condition of a search."""
    return dict(request.query)["WHERE"]


# --- names --------------------------------------------------------------------------------------


def test_a_science_image_lies_where_irsa_documents_it():
    """The example of IRSA's page of the ZTF image service."""
    quadrant = Quadrant(535, 11, 3, "zr")
    assert quadrant.science_path("20180411467847", "sciimg.fits") == (
        "/ibe/data/ztf/products/sci/2018/0411/467847/ztf_20180411467847_000535_zr_c11_o_q3_sciimg.fits"
    )


@pytest.mark.parametrize(("number", "folder"), [(202, "000/field000202"), (1895, "001/field001895")])
def test_references_have_two_roots(number, folder):
    """Fields of the secondary grids, from 1000 on, lie below 001."""
    path = Quadrant(number, 6, 1, "zr").reference_path("refimg.fits")
    assert path == f"{PRODUCTS}/ref/{folder}/zr/ccd06/q1/ztf_{number:06d}_zr_c06_q1_refimg.fits"


def test_the_profile_knows_the_companions_by_the_same_names():
    """What lies beside an image is found again under the names that it was downloaded with."""
    quadrant, profile = Quadrant(535, 11, 3, "zr"), load_profile("ztf")
    image, mask, psf = (
        quadrant.science_path("20180411467847", suffix).rsplit("/", 1)[1]
        for suffix in ("sciimg.fits", "mskimg.fits", "sciimgdaopsfcent.fits")
    )
    assert profile.companion_names(image)[:2] == [("mask", mask), ("psf", psf)]
    assert profile.is_image(image)


@pytest.mark.real_data
def test_names_of_difference_images_in_real_alerts(real_data):
    """36 public packets name the difference image that they come from; its parts are in their columns."""
    import fastavro

    found = []
    for path in sorted((real_data / "http/ztf_alerts").rglob("*.avro")):
        with path.open("rb") as stream:
            found += [packet["candidate"] for packet in fastavro.reader(stream)]
    assert len(found) == 36
    for candidate in found:
        name = candidate["pdiffimfilename"].split(".fits")[0]
        filefracday = re.search(r"ztf_(\d{14})_", name)[1]
        ccd, quadrant = candidate["rcid"] // 4 + 1, candidate["rcid"] % 4 + 1
        place = Quadrant(candidate["field"], ccd, quadrant, ["zg", "zr", "zi"][candidate["fid"] - 1])
        assert place.science_name(filefracday) + "_scimrefdiffimg" == name


# --- searches -----------------------------------------------------------------------------------


def test_a_search_asks_for_the_box_around_the_field_in_degrees():
    query = dict(science_request(field()).query)
    assert query["POS"] == "255.30000000,12.10000000"
    assert float(query["SIZE"]) == 0.2
    assert (query["INTERSECT"], query["ct"]) == ("OVERLAPS", "csv")
    assert query["WHERE"] == "fid IN (1,2,3)"
    assert reference_request(field()).path == "/ibe/search/ztf/products/ref"


def test_bands_are_asked_for_by_number_and_foreign_ones_not_at_all():
    assert where(science_request(field("  bands: [r, i]\n"))).startswith("fid IN (2,3)")
    assert where(reference_request(field("  bands: [g, F200W]\n"))) == "fid IN (1)"
    assert science_request(field("  bands: [F200W]\n")) is None


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("  science_window: {start: 2020-01-01}\n", "obsjd >= 2458849.500000"),
        ("  science_window: {end: 2019-12-31}\n", "obsjd < 2458849.500000"),
        (
            "  science_window: {start: 2020-01-01, end: 2020-01-31}\n  reference_window: {end: 2018-12-31}\n",
            "(obsjd BETWEEN 2458849.500000 AND 2458880.500000 OR obsjd < 2458484.500000)",
        ),
        ("  reference_window: {end: 2018-12-31}\n", ""),
    ],
)
def test_windows_become_julian_dates(more, expected):
    """An open science window takes all; single exposures for references only where a window is named."""
    condition = where(science_request(field(more)))
    assert condition == "fid IN (1,2,3)" + (f" AND {expected}" if expected else "")


@pytest.mark.real_data
def test_parse_of_an_ipac_table_of_exposures(real_data):
    """The hand-made table of two exposures in IRSA's columns."""
    first, second = parse_science((real_data / "http/irsa_ibe/SYNTHETIC_ztf_sci.tbl").read_bytes())
    assert first.quadrant == Quadrant(535, 11, 3, "zr")
    assert first.quadrant.science_path(first.filefracday, "mskimg.fits").endswith(
        "sci/2018/0411/467847/ztf_20180411467847_000535_zr_c11_o_q3_mskimg.fits"
    )
    assert first.mjd_start == pytest.approx(58219.469479, abs=1e-6)
    assert first.moonillf == -0.201  # the Moon wanes
    assert (first.seeing, first.limiting_magnitude, first.infobits) == (1.82041, 20.45, 0)
    assert second.infobits == 2**25
    assert first.grid == Grid((1536.5, 1540.5), (255.3, 12.1), (-0.000281, 0.0, 0.0, 0.000281))
    assert set(first.footprint) == {(255.8, 11.6), (254.8, 11.6), (254.8, 12.6), (255.8, 12.6)}


@pytest.mark.real_data
def test_public_is_what_has_been_published(real_data):
    """Group 50 of the table had its images published on 2019-05-08 (MJD 58611)."""
    row = parse_science((real_data / "http/irsa_ibe/SYNTHETIC_ztf_sci.tbl").read_bytes())[0]
    assert row.group == 50
    assert not row.is_public(58610.9)
    assert row.is_public(58611.1)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "rows"), [("field_id.txt", 22), ("pos.txt", 21), ("SYNTHETIC_ztf_sci.tbl", 2)]
)
def test_tables_agree_with_astropys(real_data, name, rows):
    """What astroquery's Ibe does with the same recordings is `Table.read(..., format="ipac")`."""
    content = (real_data / "http/irsa_ibe" / name).read_bytes()
    theirs = Table.read(content.decode(), format="ipac", guess=False)
    ours = read_table(content, required=("expid",))
    assert len(ours) == len(theirs) == rows
    assert list(ours[0]) == [column.lower() for column in theirs.colnames]
    for column in theirs.colnames:
        for mine, value in zip((row[column.lower()] for row in ours), theirs[column], strict=True):
            if value is np.ma.masked:
                assert mine == ""
            elif isinstance(value, str | np.str_):
                assert mine == value
            else:
                assert float(mine) == float(value)


REFERENCES = b"""infobits,field,ccdid,qid,rcid,fid,filtercode,rfid,nframes,maglimit,startobsdate,endobsdate
0,535,11,3,42,2,zr,535120142,21,22.1,2018-03-25 09:11:02.4+00,2018-06-11 07:30:00+00
"""


def test_references_have_their_span():
    (row,) = parse_references(REFERENCES)
    assert (row.rfid, row.n_frames, row.limiting_magnitude) == (535120142, 21, 22.1)
    assert row.mjd_start == pytest.approx(58202.382666667, abs=1e-8)
    assert row.mjd_end == pytest.approx(58280.3125)
    assert row.grid is None
    assert row.footprint == ()


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_corners_come_in_any_order(order):
    """A footprint goes around the image, also across the meridian of 0 h."""
    square = [(0.4, 10.0), (359.6, 10.0), (359.6, 10.8), (0.4, 10.8)]
    names = [f"{axis}{i}" for i in (1, 2, 3, 4) for axis in ("ra", "dec")]
    values = [str(value) for i in order for value in square[i]]
    lines = REFERENCES.decode().splitlines()
    content = f"{lines[0]},{','.join(names)}\n{lines[1]},{','.join(values)}\n".encode()
    footprint = parse_references(content)[0].footprint
    assert set(footprint) == set(square)
    assert coverage(square, footprint) == pytest.approx(1.0)


def test_no_row_is_an_answer():
    assert parse_references(REFERENCES.splitlines()[0] + b"\n") == []


@pytest.mark.parametrize("content", [XML, HTML])
def test_a_reported_outage_never_counts_as_nothing_found(content):
    with pytest.raises(ArchiveUnavailableError, match="IRSA cannot answer"):
        parse_science(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks"),
        (b"field,ccdid\n1,2\n", "lacks filefracday, filtercode, obsjd, qid"),
        (REFERENCES.replace(b"2018-06-11 07:30:00+00", b"soon"), "neither an ISO date"),
        (REFERENCES[:-60], "row 1 has 8 values for 12 columns"),
        (REFERENCES.replace(b",21,", b",many,"), "no integer"),
    ],
)
def test_what_is_no_table_is_a_bad_answer(content, message):
    parse = parse_references if content.startswith(b"infobits") else parse_science
    with pytest.raises(BadAnswerError, match=message):
        parse(content)


# --- pieces of images ---------------------------------------------------------------------------

SCALE = 1.01 / 3600.0
GRID = Grid((50.5, 40.5), (150.0, 2.0), (-SCALE, 0.0, 0.0, SCALE))
"""An image of 100 x 80 pixels, north up."""


def sky(grid=GRID):
    """Return the WCS of a grid."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crpix, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], grid.crpix, grid.crval
    wcs.wcs.cd = np.reshape(grid.cd, (2, 2))
    return wcs


def corners(left, right, bottom, top):
    """Return corners on the sky of pixel edges of the image."""
    ra, dec = sky().wcs_pix2world([left, right, right, left], [bottom, bottom, top, top], 0)
    return tuple(zip(ra.tolist(), dec.tolist(), strict=True))


WHOLE = corners(-0.5, 99.5, -0.5, 79.5)


def test_the_whole_image_is_what_it_is():
    assert piece(GRID, WHOLE, None).footprint == WHOLE
    assert piece(GRID, WHOLE, None).n_pixels == 8000


def test_a_piece_inside_is_a_square_about_its_centre():
    found = piece(GRID, WHOLE, Box(150.0, 2.0, 20.2))
    assert found.n_pixels == 400
    expected = corners(39.5, 59.5, 29.5, 49.5)
    assert coverage(expected, found.footprint) == pytest.approx(1.0, abs=1e-6)
    assert coverage(found.footprint, expected) == pytest.approx(1.0, abs=1e-6)


def test_a_piece_at_the_edge_is_shorter():
    """Its centre lies at the left edge: half of it is left."""
    ra, dec = (float(v) for v in sky().wcs_pix2world(-0.5, 39.5, 0))
    found = piece(GRID, WHOLE, Box(ra, dec, 40.4))
    assert found.n_pixels == 20 * 40
    assert coverage(found.footprint, corners(-0.5, 19.5, 19.5, 59.5)) == pytest.approx(1.0, abs=1e-6)


def test_a_piece_at_an_edge_that_is_not_straight():
    """Distortion has moved the upper left corner by 8 pixels: half way up the edge is 4 pixels in."""
    moved = (*WHOLE[:3], corners(7.5, 7.5, 79.5, 79.5)[0])
    ra, dec = (float(v) for v in sky().wcs_pix2world(3.5, 39.5, 0))
    found = piece(GRID, moved, Box(ra, dec, 20.2))
    assert coverage(found.footprint, corners(3.5, 13.5, 29.5, 49.5)) == pytest.approx(1.0, abs=1e-6)
    assert found.n_pixels == 10 * 20


def test_a_piece_off_the_image_is_none():
    assert piece(GRID, WHOLE, Box(150.1, 2.0, 60.0)) is None


def written(path, *, columns=100, shift=0):
    """Write the first columns of the image, or those from a shift on."""
    header = sky(Grid((50.5 - shift, 40.5), GRID.crval, GRID.cd)).to_header()
    fits.writeto(path, np.ones((80, columns - shift), np.float32), header)
    return path


def test_a_cutout_that_is_whole_passes(tmp_path):
    paths = [written(tmp_path / "image.fits"), written(tmp_path / "mask.fits")]
    check_pieces(paths, WHOLE)


def test_a_cutout_that_was_cut_short_is_a_bad_answer(tmp_path):
    with pytest.raises(BadAnswerError, match=r"image.fits: the cutout has 60 x 80 pixels, 40 short"):
        check_pieces([written(tmp_path / "image.fits", columns=60)], WHOLE)


def test_image_and_mask_have_the_same_pixels(tmp_path):
    paths = [written(tmp_path / "image.fits"), written(tmp_path / "mask.fits", shift=3)]
    with pytest.raises(BadAnswerError, match=r"mask.fits: \(80, 97\) pixels, but those of image.fits"):
        check_pieces(paths, WHOLE)


def test_pieces_are_asked_for_without_gzip_and_to_a_milliarcsec():
    """Else a gzip file arrives under the name of a FITS file."""
    assert Box(210.80227, 54.34895, 360.0).query == (
        ("center", "210.80227000,54.34895000"),
        ("size", "360.000arcsec"),
        ("gzip", "false"),
    )


# --- light curves and forced photometry ---------------------------------------------------------

LIGHT_CURVE = (
    b"oid,expid,hjd,mjd,mag,magerr,catflags,filtercode,ra,dec,chi,sharp,filefracday,field,ccdid,qid,limitmag,"
    b"magzp,magzprms,clrcoeff,clrcounc,exptime,airmass,programid\n"
    b"2,7,2458218.8,58218.3,17.5,0.02,0,zr,10.1,41.2,1,0,20180410000000,1,1,1,20.5,26.2,0.03,0.1,0,30,1.1,1\n"
    b"1,8,2458219.8,58219.3,,0.02,0,zg,10.1,41.2,1,0,20180411000000,1,1,1,20.5,26.2,0.03,0.1,0,30,1.1,1\n"
)


def test_light_curves_by_source():
    table = parse_light_curves(LIGHT_CURVE)
    assert table["oid"].to_pylist() == [1, 2]
    assert table["mag"].to_pylist() == [None, 17.5]
    assert table["filtercode"].to_pylist() == ["zg", "zr"]
    assert table.schema.field("magerr").metadata[b"unit"] == b"mag"


def test_light_curves_of_a_circle():
    request = light_curve_request(Cone(10.1, 41.2, 0.001), bands=("g", "r"), release="ztf_dr24")
    assert dict(request.query) == {
        "POS": "CIRCLE 10.10000000 41.20000000 0.00100000",
        "BANDNAME": "g,r",
        "BAD_CATFLAGS_MASK": "32768",
        "COLLECTION": "ztf_dr24",
        "FORMAT": "csv",
    }
    with pytest.raises(ConfigurationError, match="at most 600 arcsec"):
        light_curve_request(Cone(10.1, 41.2, 0.2))


def test_an_order_of_forced_photometry_is_sent_once_and_keeps_its_secrets():
    order = {"ra": 10.1, "dec": 41.2, "mjd_start": 58000.0, "mjd_end": 59000.0, "email": "me@x.org"}
    mine, yours = ({"password": "s3cret", "login": "us:them"}, {"password": "else", "login": "a:b"})
    request = forced_request(**order, **mine)
    assert not request.repeatable
    assert request.kind == "request"
    assert dict(request.query)["jdstart"] == "2458000.500000"
    assert "s3cret" not in request.shown
    assert "me@x.org" not in request.shown
    other = forced_request(**{**order, "email": "you@x.org"}, **yours)
    assert request.key == other.key


FORCED = b"""# Requested input R.A. = 10.1 degrees
#
# Order of columns below:

index, field, ccdid, qid, filter, pid, infobitssci, exptime, zpdiff, jd, forcediffimflux, forcediffimfluxunc
 0 535 11 3 ZTF_r 467384734215 0 30 26.2 2458220.5 110.5 12.0
 1 535 11 3 ZTF_g 467384734216 0 30 26.3 2458219.5 null null
"""


def test_forced_photometry_in_order_of_time():
    table = parse_forced(FORCED)
    assert table.column_names == list(FORCED_COLUMNS)
    assert table["jd"].to_pylist() == [2458219.5, 2458220.5]
    assert table["forcediffimflux"].to_pylist() == [None, 110.5]
    assert table["pid"].to_pylist() == [467384734216, 467384734215]
    assert table["procstatus"].to_pylist() == [None, None]


@pytest.mark.parametrize("content", [b"", FORCED[:-10], FORCED.replace(b"zpdiff", b"zp"), b"index, jd\n"])
def test_broken_forced_photometry_is_a_bad_answer(content):
    with pytest.raises(BadAnswerError, match="ZTF forced photometry"):
        parse_forced(content)


def test_a_page_of_the_service_is_an_outage():
    with pytest.raises(ArchiveUnavailableError):
        parse_forced(io.BytesIO(HTML).read())
