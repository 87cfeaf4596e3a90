"""Requests to MAST's portal and its answers: as astroquery asks, and as the recordings hold."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from astrid_assets.archives.mast.portal import (
    among,
    between,
    cone_request,
    count_request,
    cover,
    criteria_request,
    file_request,
    is_executing,
    parse_count,
    parse_page,
    products_request,
)
from astrid_assets.archives.mast.products import parse_products, unique
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError

TABLES = ["caom.json", "advSearch.json", "advSearchPos.json", "products.json"]


def asked(request):
    """Return the question of a request."""
    return json.loads(dict(request.form)["request"])


def answer(**parts):
    """Return an answer of the portal."""
    return json.dumps({"status": "COMPLETE", "msg": "", "data": [], "fields": [], **parts}).encode()


# --- requests -----------------------------------------------------------------------------------


def test_questions_are_those_of_the_documented_services():
    """Service, parameters and page; a position makes it another service."""
    image = among("dataproduct_type", "image")
    everywhere = criteria_request([image], page=3, rows=100)
    assert (everywhere.method, everywhere.path, everywhere.kind) == ("POST", "/api/v0/invoke", "search")
    assert asked(everywhere) == {
        "service": "Mast.Caom.Filtered",
        "params": {"columns": "*", "filters": [image]},
        "format": "json",
        "pagesize": 100,
        "page": 3,
    }
    here = asked(criteria_request([image], position=(150.123456789, -2.25, 0.5)))
    assert here["service"] == "Mast.Caom.Filtered.Position"
    assert here["params"]["position"] == "150.12345679, -2.25000000, 0.50000000"
    assert asked(count_request([image]))["params"]["columns"] == "COUNT_BIG(*)"
    assert asked(cone_request(1.0, 2.0, 0.1))["params"] == {"ra": 1.0, "dec": 2.0, "radius": 0.1}
    assert asked(products_request(["12", "34"]))["params"] == {"obsid": "12,34"}
    with pytest.raises(ValueError, match="at least one criterion"):
        criteria_request([])


def test_criteria():
    """Columns of several values have a separator, ranges are ranges, numbers of a list are texts."""
    assert among("filters", "FUV", "NUV") == {
        "paramName": "filters",
        "separator": ";",
        "values": ["FUV", "NUV"],
    }
    assert among("calib_level", 2, 3) == {"paramName": "calib_level", "values": ["2", "3"]}
    assert between("t_min", 1.0, 2.5) == {"paramName": "t_min", "values": [{"min": 1.0, "max": 2.5}]}


@pytest.mark.real_data
def test_criteria_are_astroquerys(real_data):
    """Filters as astroquery builds them from the recorded configuration of columns."""
    from astroquery.mast.discovery_portal import PortalAPI

    api = PortalAPI()
    api._column_configs = {"x": json.loads((real_data / "http/mast/columnsconfig.json").read_bytes())}
    theirs = api.build_filter_set(
        "x",
        "x",
        obs_collection=["HST", "JWST"],
        calib_level=[2, 3],
        t_obs_release=[1.0, 2.0],
        filters="F200W",
    )
    ours = [
        among("obs_collection", "HST", "JWST"),
        among("calib_level", 2, 3),
        between("t_obs_release", 1.0, 2.0),
        among("filters", "F200W"),
    ]
    assert ours == theirs


def test_a_file_is_asked_for_by_its_uri_and_the_token_is_secret():
    """The token goes out in the cookie that astroquery sets, and nowhere else."""
    cookie = "0123secret"
    request = file_request("mast:JWST/product/a_i2d.fits", token=cookie)
    assert request.target == "/api/v0.1/Download/file?uri=mast%3AJWST%2Fproduct%2Fa_i2d.fits"
    assert request.headers == (("Cookie", f"mast_token={cookie}"),)
    assert cookie not in request.shown
    assert request.key == file_request("mast:JWST/product/a_i2d.fits").key


# --- circles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ra", "dec"), [(10.0, 0.0), (0.1, 60.0), (200.0, -89.0), (0.0, 90.0)])
@pytest.mark.parametrize("radius", [0.3, 0.6, 2.0, 5.0])
def test_circles_leave_no_gap(ra, dec, radius):
    """Every point of a wide circle lies in one of the small ones."""
    circles = cover(ra, dec, radius, largest=0.5)
    assert all(r <= 0.5 for _, _, r in circles)
    rng = np.random.default_rng(1)
    distance, angle = radius * np.sqrt(rng.random(500)), rng.uniform(0, 2 * math.pi, 500)
    points = SkyCoord(ra, dec, unit="deg").directional_offset_by(angle * u.rad, distance * u.deg)
    inside = np.zeros(500, bool)
    for a, d, r in circles:
        inside |= points.separation(SkyCoord(a, d, unit="deg")).deg <= r
    assert inside.all()
    assert len(circles) <= max(1, 5 * (radius / 0.5) ** 2 + 12)


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize("name", TABLES)
def test_rows_are_those_of_the_recording(real_data, name):
    """All rows, all columns that are announced, values untouched."""
    content = (real_data / "http/mast" / name).read_bytes()
    document = json.loads(content)
    page = parse_page(content)
    names = [f["name"] for f in document["fields"] if f["name"] != "_selected_"]
    assert [dict(row) for row in page.rows] == [{n: row[n] for n in names} for row in document["data"]]
    assert page.n_rows == document["paging"]["rowsTotal"] == len(page.rows)
    assert (page.number, page.pages) == (1, 1)
    assert not is_executing(content)


@pytest.mark.real_data
@pytest.mark.parametrize("name", TABLES)
def test_rows_are_those_of_astroquery(real_data, name):
    """The same columns and cells as the table that astroquery makes of the recording."""
    from astroquery.mast.discovery_portal import _json_to_table

    content = (real_data / "http/mast" / name).read_bytes()
    config = json.loads((real_data / "http/mast/columnsconfig.json").read_bytes())
    page, theirs = parse_page(content), _json_to_table(json.loads(content), config)
    assert list(page.types) == theirs.colnames
    assert len(page.rows) == len(theirs)
    for column in theirs.colnames:
        for ours, cell in zip(page.rows, theirs[column], strict=True):
            if np.ma.is_masked(cell):
                assert ours[column] in (None, "", 0)
            elif ours[column] is None:
                assert math.isnan(cell)
            else:
                assert type(cell)(ours[column]) == cell


@pytest.mark.real_data
def test_products_and_count_of_the_recordings(real_data):
    """Every product with the fields that selection reads; the number of rows."""
    content = (real_data / "http/mast/products.json").read_bytes()
    rows = json.loads(content)["data"]
    products = parse_products(content)
    assert [p.uri for p in products] == [row["dataURI"] for row in rows]
    assert [p.size for p in products] == [row["size"] for row in rows]
    assert [p.subgroup for p in products] == [row["productSubGroupDescription"] for row in rows]
    assert len(unique([*products, *products])) == len({row["dataURI"] for row in rows})
    assert parse_count((real_data / "http/mast/countsResp.json").read_bytes()) == 599


def test_pages():
    """Number of the page, of pages and of all rows."""
    paging = {"page": 2, "pageSize": 1, "pagesFiltered": 3, "rows": 1, "rowsFiltered": 3, "rowsTotal": 9}
    page = parse_page(answer(data=[{"a": 1}], fields=[{"name": "a", "type": "int"}], paging=paging))
    assert (page.number, page.pages, page.n_rows) == (2, 3, 3)
    assert parse_page(answer()).rows == ()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"<html>maintenance</html>", BadAnswerError),
        (b"", BadAnswerError),
        (b"[]", BadAnswerError),
        (b"{}", BadAnswerError),
        (b'{"status": "COMPLETE"}', BadAnswerError),
        (b'{"status": "COMPLETE", "data": 3, "fields": []}', BadAnswerError),
        (b'{"status": "ERROR", "msg": "Invalid column name foo"}', BadAnswerError),
        (b'{"status": "ERROR", "msg": "Error Executing Command: Timeout expired."}', ArchiveUnavailableError),
    ],
)
def test_an_error_is_never_an_empty_answer(content, error):
    """What MAST could not say is an outage, what it refuses is a bad answer; both before it is kept."""
    for parse in (parse_page, parse_count, parse_products):
        with pytest.raises(error, match="MAST"):
            parse(content)
    if b"COMPLETE" not in content:
        with pytest.raises(error, match="MAST"):
            is_executing(content)


def test_executing():
    """A query that is still executed is pending, and no table."""
    content = answer(status="EXECUTING")
    assert is_executing(content)
    with pytest.raises(ArchiveUnavailableError, match="executing"):
        parse_page(content)
