"""Archive ``mast`` over HTTP: what it offers, why it rejects, that nothing is lost on the way."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from urllib.parse import urlencode

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from astrid_assets.archives.footprints import coverage, touches_circle
from astrid_assets.archives.mast import MastArchive
from astrid_assets.archives.pairing import pair_exposures
from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.jwst import footprint, mosaic_file, sources
from astrid_assets.archives.standin.mast import MastService, handlers
from astrid_assets.archives.standin.mast_rows import mosaic_of, observations, place_at, products
from astrid_assets.archives.standin.server import Reply, StandIn
from astrid_assets.archives.transport import Clock, Transport
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError, NoCoverageError
from astrid_assets.fields import parse_fields
from astrid_assets.images import read_image

pytestmark = pytest.mark.service

FIELDS = parse_fields("""
deep:
  ra: 150.1
  dec: 2.2
  radius: 0.01
  archives: [mast]
jwst:
  ra: 150.1
  dec: 2.2
  radius: 0.01
  archives: [mast]
  bands: [F200W]
  mast: {missions: [JWST]}
  science_window: {start: 2023-06-01}
  reference_window: {end: 2022-12-31}
wide: {ra: 0.2, dec: -60, radius: 0.9, archives: [mast], mast: {missions: [HST]}}
early: {ra: 1, dec: 2, radius: 0.1, archives: [mast], mast: {missions: [JWST]},
        science_window: {end: 2010-01-01}, reference_window: {end: 2010-01-01}}
""")
DEEP, JWST = FIELDS["deep"], FIELDS["jwst"]
PLACE = place_at(150.1, 2.2)


class FakeClock(Clock):
    """Sleeping moves its hands instead of taking time."""

    def __init__(self):
        self.slept = []

    def now(self):
        """Return the time that would be if it had slept."""
        return super().now() + sum(self.slept)

    def sleep(self, seconds):
        """Remember how long."""
        self.slept.append(seconds)


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts the stand-in and gives it, the archive before it, and its clock."""
    running = []

    def start(*faults, recorded=None):
        standin = StandIn(handlers(recorded), faults).__enter__()
        running.append(standin)
        services = {name: {"per_second": 1e4, **place} for name, place in standin.services().items()}
        clock = FakeClock()
        transport = Transport.open(services, tmp_path / f"store{len(running)}", clock=clock)
        return standin, MastArchive(transport), clock

    yield start
    for standin in running:
        standin.__exit__(None, None, None)
        assert standin.errors == []


@pytest.fixture
def astroquery():
    """Return a function that makes astroquery's class, pointed at a stand-in."""
    from astroquery.mast import ObservationsClass

    def make(standin):
        observations = ObservationsClass()
        api, url = observations._portal_api_connection, standin.base_url("mast")
        api._column_configs = {}
        api.MAST_REQUEST_URL = f"{url}/api/v0/invoke"
        api.COLUMNS_CONFIG_URL = f"{url}/portal/Mashup/Mashup.asmx/columnsconfig"
        api.MAST_DOWNLOAD_URL = f"{url}/api/v0.1/Download/file"
        return observations

    return make


def said(rows):
    """Return everything that rows say, so that times that are not known equal each other."""
    return [repr(row) for row in rows]


def by_id(rows):
    """Return exposures by identifier."""
    return {row.exposure_id: row for row in rows}


# --- what it offers -----------------------------------------------------------------------------


def test_every_row_is_offered_or_has_a_reason(serve):
    """All images of the field's level: nothing is dropped, each trap has its own reason."""
    _, archive, _ = serve()
    rows = archive.search(DEEP)
    wanted = [
        r
        for r in observations(PLACE)
        if r["calib_level"] >= 2
        and r["intentType"] == "science"
        and r["dataproduct_type"] in ("image", "cube")
    ]
    assert len(rows) == len(wanted) == archive.count(DEEP)
    assert [row.exposure_id for row in rows] == sorted(row.exposure_id for row in rows)
    problems = [row.problem for row in rows if row.problem]
    reasons = (
        "no single band: filters DETECTION",
        "no footprint in the row",
        "no survey profile: WFPC2/WFC",
        "no survey profile: MIRI/IMAGE",
        "proprietary: until 21",
        "no time of observation in the row",
        "no single band: filters F444W;F470N",
        "use archive ps1",
        "processed twice: project HAP",
        "TESScut has cutouts",
    )
    assert len(problems) == len(reasons)
    for reason in reasons:
        assert sum(reason in problem for problem in problems) == 1, reason


def test_rows_say_what_mast_says(serve):
    """Times, exposure, footprint, band, detector, version and size of a mosaic; GALEX has its two bands."""
    _, archive, _ = serve()
    rows = archive.search(DEEP)
    row = next(r for r in observations(PLACE) if r["filters"] == "F200W")
    ours = by_id(rows)[f"jwst-{row['obs_id']}-F200W"]
    mosaic = mosaic_of(row["obs_id"])
    assert (ours.survey, ours.detector_type, ours.band) == ("jwst-nircam", "nircam short", "F200W")
    assert (ours.calibration, ours.product, ours.exptime) == ("1.14", "exposure", mosaic.exptime)
    assert (ours.mjd_start, ours.mjd_end) == (row["t_min"], row["t_max"])
    assert ours.bytes == len(mosaic_file(mosaic))
    assert coverage(ours.footprint, footprint(mosaic)) == pytest.approx(1.0, abs=1e-5)
    galex = [r for r in rows if r.survey == "galex"]
    assert sorted(r.band for r in galex) == ["FUV", "NUV"]
    assert len({json.loads(r.url)["obsid"] for r in galex}) == 1
    assert len({r.url for r in galex}) == 2
    tess = next(r for r in rows if r.survey == "tess")
    assert tess.product == "stack"
    chips = next(r for r in rows if r.band == "F606W" and r.bytes)
    assert touches_circle(chips.footprint, 150.1, 2.25, 0.001)


def test_only_rows_that_may_be_chosen_are_asked_for_their_files(serve):
    """One question for products, though there are rows of other bands, and of other times."""
    standin, archive, _ = serve()
    rows = archive.search(JWST)
    assert standin.count("mast") == 2
    assert sum(row.bytes > 0 for row in rows) == 2
    revisions = {row.revision for row in rows}
    assert len(revisions) == len(rows)
    verdicts = pair_exposures(rows, JWST)
    chosen = {v.role: v.exposure for v in verdicts if v.status == "selected"}
    assert set(chosen) == {"science", "reference"}
    assert chosen["science"].mjd_mid - chosen["reference"].mjd_mid > 365


def test_released_since(serve, monkeypatch):
    """What became public after a time, and only that; a release in the future is none."""
    _, archive, _ = serve()
    monkeypatch.setenv("ASTRID_NOW", "60285")
    released = archive.released_since(JWST, 60250.0)
    assert [row.mjd_mid for row in released] == [pytest.approx(60251.3)]
    assert archive.released_since(JWST, 60284.0) == []
    monkeypatch.setenv("ASTRID_NOW", "60280")
    later = [row for row in archive.search(JWST) if row.mjd_mid == pytest.approx(60251.3)]
    assert later[0].problem.startswith("proprietary: until 2023-12-03")


@pytest.mark.parametrize("recorded", [False, pytest.param(True, marks=pytest.mark.real_data)])
def test_what_was_not_asked_for_is_no_exposure_either(tmp_path, request, recorded):
    """A server that knows no criteria: other collections, levels and kinds of data are told apart here."""
    service = MastService(request.getfixturevalue("real_data") / "http/mast" if recorded else None)

    def careless(asked):
        """Answer a question with criteria as one without."""
        question = json.loads(asked.value("request"))
        if question["service"] == "Mast.Caom.Filtered.Position":
            question |= {"service": "Mast.Caom.Cone", "params": {"ra": 150.1, "dec": 2.2, "radius": 0.01}}
        return service.answer(replace(asked, body=urlencode({"request": json.dumps(question)}).encode()))

    with StandIn({"mast": careless}) as standin:
        services = {"mast": {"per_second": 1e4, **standin.services()["mast"]}}
        rows = MastArchive(Transport.open(services, tmp_path / "store")).search(DEEP)
    assert standin.errors == []
    reasons = {(row.problem or "").split(":")[0] for row in rows}
    if recorded:
        assert len(rows) == 19
        assert reasons == {"collection not asked for", "no survey profile", "no image"}
    else:
        assert len(rows) == len(observations(PLACE))
        assert reasons >= {"not an image", "not for science", "calibration level too low"}


def test_a_token_may_open_what_is_not_public(serve, monkeypatch):
    """With a token MAST decides at the download; the token is asked for by name and never stored."""
    _, archive, _ = serve()
    monkeypatch.setenv("MAST_API_TOKEN", "a-very-secret-token")
    assert not any("proprietary" in (row.problem or "") for row in archive.search(JWST))


def test_a_wide_field_is_asked_for_in_several_circles(serve):
    """Each within the option's radius; rows that two circles see come once."""
    standin, archive, _ = serve()
    rows = archive.search(FIELDS["wide"])
    assert standin.count("mast") > 7
    assert len(by_id(rows)) == len(rows)


def test_a_mission_that_did_not_observe_then_is_not_asked(serve):
    """No request at all for JWST before its launch."""
    standin, archive, _ = serve()
    assert archive.search(FIELDS["early"]) == []
    assert archive.count(FIELDS["early"]) == 0
    assert standin.count("mast") == 0


# --- files --------------------------------------------------------------------------------------


def test_files_arrive_whole_and_are_read(serve, tmp_path):
    """The bytes of the stand-in; time, band and noise as the row says; a star where it was drawn."""
    _, archive, _ = serve()
    row = next(r for r in archive.search(JWST) if r.bytes)
    download = archive.download(row, tmp_path / row.exposure_id)
    content = download.files["image"].read_bytes()
    mosaic = mosaic_of(download.files["image"].name.removesuffix("_i2d.fits"))
    assert content == mosaic_file(mosaic)
    assert download.sha256["image"] == hashlib.sha256(content).hexdigest()
    image = read_image(download.files["image"])
    assert (image.survey, image.band, image.shape) == (row.survey, row.band, (768, 768))
    assert image.mjd_mid == pytest.approx(row.mjd_mid, abs=1e-6)
    assert image.variance is not None
    inside = [s for s in sources(mosaic) if 30 < s[0] < 738 and 30 < s[1] < 738]
    x, y, flux = max(inside, key=lambda s: s[2])
    box = image.data[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4]
    assert box.max() > 5 * np.median(image.data) + 100 * 0.0043
    assert box.sum() > 0.3 * flux


def test_a_row_without_image_cannot_be_downloaded(serve, tmp_path):
    """It says so before anything is asked."""
    standin, archive, _ = serve()
    row = next(r for r in archive.search(JWST) if not r.bytes)
    before = standin.count("mast")
    with pytest.raises(NoCoverageError, match="search again"):
        archive.download(row, tmp_path)
    assert standin.count("mast") == before


# --- faults -------------------------------------------------------------------------------------


def test_many_pages_and_duplicates_change_nothing(serve):
    """Five pages an answer, and each row three times: the same exposures."""
    truth = said(serve()[1].search(JWST))
    for mode in ("pages", "duplicates"):
        standin, archive, _ = serve(Fault(mode))
        assert said(archive.search(JWST)) == truth
        assert mode != "pages" or standin.count("mast") >= 8


def test_executing_is_asked_again_with_growing_pauses(serve):
    """Three times at work, then the answer; the questions are not counted out at full speed."""
    truth = said(serve()[1].search(JWST))
    standin, archive, clock = serve(Fault("executing"))
    assert said(archive.search(JWST)) == truth
    assert standin.count("mast") == 2 * 4
    assert clock.slept[:3] == sorted(clock.slept[:3])
    assert min(clock.slept) > 0.1


def test_a_reported_error_is_an_outage_and_is_not_kept(serve):
    """Status 200 with an error inside: unavailable now, right the next time."""
    truth = said(serve()[1].search(JWST))
    _, archive, _ = serve(Fault("error_status", first_n=1))
    with pytest.raises(ArchiveUnavailableError, match="Timeout"):
        archive.search(JWST)
    assert said(archive.search(JWST)) == truth


@pytest.mark.parametrize("change", [{"page": 1}, {"rowsFiltered": 12}])
def test_a_missing_page_is_never_a_shorter_list(tmp_path, change):
    """The first page again instead of the second, or fewer rows than were counted: a bad answer."""
    service = MastService()

    def spoiled(asked):
        """Answer with another number in the account of pages."""
        document = json.loads(service.answer(replace(asked, fault="pages")).content)
        document["paging"].update(change)
        return Reply(json.dumps(document).encode(), "application/json")

    with StandIn({"mast": spoiled}) as standin:
        services = {"mast": {"per_second": 1e4, **standin.services()["mast"]}}
        archive = MastArchive(Transport.open(services, tmp_path / "store", clock=FakeClock()))
        with pytest.raises(BadAnswerError, match=r"of \d+ rows"):
            archive.search(JWST)


@pytest.mark.parametrize(("mode", "error"), [("stale", NoCoverageError), ("half", BadAnswerError)])
def test_no_file_under_its_name_that_is_not_whole(serve, tmp_path, mode, error):
    """A file that is gone, and one that ends in the middle."""
    _, archive, _ = serve(Fault(mode, only="Download"))
    row = next(r for r in archive.search(JWST) if r.bytes)
    with pytest.raises(error, match="i2d"):
        archive.download(row, tmp_path / "files")
    assert list((tmp_path / "files").iterdir()) == []


def test_an_empty_table_is_empty(serve):
    """MAST answered: nothing there."""
    _, archive, _ = serve(Fault("empty_table"))
    assert archive.search(JWST) == []


# --- recordings, and astroquery on the same -----------------------------------------------------


@pytest.mark.real_data
def test_recorded_rows_become_exposures(serve, real_data):
    """Twelve GALEX tiles, as recorded: places, times and bands; coadds of several nights are stacks."""
    _, archive, _ = serve(recorded=real_data / "http")
    recorded = json.loads((real_data / "http/mast/advSearchPos.json").read_bytes())["data"]
    ours = by_id(archive.search(DEEP))
    assert len(ours) == len(recorded)
    for row in recorded:
        exposure = ours[f"galex-{row['obs_id']}-{row['filters']}"]
        assert (exposure.band, exposure.mjd_start) == (row["filters"], row["t_min"])
        assert (exposure.mjd_end, exposure.exptime) == (row["t_max"], row["t_exptime"])
        assert exposure.product == ("stack" if row["t_max"] - row["t_min"] > 1 else "exposure")
        assert touches_circle(exposure.footprint, row["s_ra"], row["s_dec"], 1e-3)
    # each tile is wide: circles of 0.625 degrees
    assert all(len(row.footprint) == 24 for row in ours.values())


@pytest.mark.real_data
def test_astroquery_agrees_on_the_recordings(serve, astroquery, real_data):
    """The same rows of a region, of criteria and of products."""
    standin, archive, _ = serve(recorded=real_data / "http")
    theirs = astroquery(standin)
    tables = {
        "caom.json": theirs.query_region(SkyCoord(23.1, 60.6, unit="deg"), radius="0.2 deg"),
        "advSearch.json": theirs.query_criteria(proposal_pi="Osten"),
        "products.json": theirs.get_product_list("2003738726"),
    }
    for name, table in tables.items():
        recorded = json.loads((real_data / "http/mast" / name).read_bytes())["data"]
        column = "dataURI" if name == "products.json" else "obs_id"
        assert sorted(table[column]) == sorted(row[column] for row in recorded)
    assert theirs.query_criteria_count(proposal_pi="Osten") == archive.count(DEEP) == 599


def test_astroquery_agrees_on_the_stand_in(serve, astroquery, tmp_path):
    """Region, criteria, count, products and a file: astroquery gets what we get."""
    standin, archive, _ = serve()
    theirs, place = astroquery(standin), SkyCoord(150.1, 2.2, unit="deg")
    criteria = {
        "obs_collection": "JWST",
        "dataproduct_type": "image",
        "calib_level": [2, 3, 4],
        "intentType": "science",
        "coordinates": place,
        "radius": "0.01 deg",
    }
    table = theirs.query_criteria(**criteria)
    ours = archive.search(JWST)
    assert sorted(f"jwst-{row['obs_id']}-{row['filters'].replace(';', '_')}" for row in table) == [
        row.exposure_id for row in ours
    ]
    assert theirs.query_criteria_count(**criteria) == len(ours) == archive.count(JWST)
    assert len(theirs.query_region(place, radius="0.01 deg")) == len(observations(PLACE))
    times = {str(row["obs_id"]): row["t_min"] for row in table}
    for row in ours:
        start = times[row.exposure_id.split("-", 1)[1].rsplit("-", 1)[0]]
        assert row.mjd_start == start or (math.isnan(row.mjd_start) and not start > 0)
    exposure = next(row for row in ours if row.bytes)
    location = json.loads(exposure.url)
    listed = theirs.get_product_list(location["obsid"])
    assert set(listed["dataURI"]) == {file["dataURI"] for file in products(location["obsid"])}
    status, message, _ = theirs.download_file(
        location["files"]["image"]["uri"], local_path=tmp_path / "theirs.fits", cache=False, verbose=False
    )
    assert (status, message) == ("COMPLETE", None)
    path = archive.download(exposure, tmp_path / "ours").files["image"]
    assert path.read_bytes() == (tmp_path / "theirs.fits").read_bytes()
