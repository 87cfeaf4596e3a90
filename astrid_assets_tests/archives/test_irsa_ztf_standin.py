"""ZTF at IRSA over HTTP: the stand-in offers and renders what archive ``simulated`` does."""

from __future__ import annotations

import gzip
import http.client
import io
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.archives.footprints import coverage
from astrid_assets.archives.irsa_ztf import IrsaZtfArchive
from astrid_assets.archives.irsa_ztf.forced import forced_request
from astrid_assets.archives.irsa_ztf.search import parse_science
from astrid_assets.archives.pairing import pair_exposures
from astrid_assets.archives.protocol import Cone
from astrid_assets.archives.simulated import SimulatedArchive
from astrid_assets.archives.simulated.cadence import visits
from astrid_assets.archives.simulated.products import corruption
from astrid_assets.archives.simulated.sky import patch
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.irsa_ztf import IrsaZtf, forced
from astrid_assets.archives.standin.irsa_ztf_where import WhereError, parse_where
from astrid_assets.archives.standin.messages import Asked, Reply
from astrid_assets.archives.standin.server import StandIn
from astrid_assets.archives.transport import Clock, Transport
from astrid_assets.errors import (
    ArchiveUnavailableError,
    AuthenticationNeededError,
    BadAnswerError,
    NoCoverageError,
)
from astrid_assets.fields import parse_fields
from astrid_assets.images.fits import read_image

pytestmark = pytest.mark.service

NOW = 60935.0

FIELDS = """
sim:
  ra: 265.0
  dec: 62.0
  radius: 0.05
  archives: [simulated]
  bands: [r]
  science_window: {start: 2025-08-20}
  reference_window: {start: 2024-11-01, end: 2025-03-01}
  simulated: {seed: 3, shape: [256, 256], corrupt: false}
whole:
  ra: 265.0
  dec: 62.0
  radius: 0.05
  archives: [irsa_ztf]
  bands: [r]
  science_window: {start: 2025-08-20}
  reference_window: {start: 2024-11-01, end: 2025-03-01}
  irsa_ztf: {cutouts: false, limiting_magnitude_min: 15.0}
cut:
  ra: 265.0
  dec: 62.0
  radius: 0.05
  archives: [irsa_ztf]
  bands: [r]
  science_window: {start: 2025-08-20}
  reference_window: {start: 2024-11-01, end: 2025-03-01}
  irsa_ztf: {cutout_arcmin: 2.0}
strict:
  ra: 265.0
  dec: 62.0
  radius: 0.05
  archives: [irsa_ztf]
  bands: [r]
  science_window: {start: 2025-08-20}
  irsa_ztf: {seeing_max: 2.2, limiting_magnitude_min: 21.0, with_difference: true}
"""
FIELD = parse_fields(FIELDS)
SIM = FIELD["sim"]
SERVICE = IrsaZtf([FIELD["whole"]], simulation=SIM.simulated, clock=NOW)


class NoWaiting(Clock):
    """A clock that does not wait."""

    def sleep(self, seconds):
        """Return at once."""


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts the stand-in, with faults, and gives the archive in front of it."""
    running = []

    def start(*faults, handler=SERVICE):
        standin = StandIn({"irsa": handler, "ztf_forced": forced}, faults).__enter__()
        running.append(standin)
        quick = {"per_second": 1000.0, "retries": 0}
        services = {name: {**quick, **change} for name, change in standin.services().items()}
        store = tmp_path / f"store{len(running)}"
        return IrsaZtfArchive(Transport.open(services, store, clock=NoWaiting()), clock=NOW)

    yield start
    for standin in running:
        standin.__exit__(None, None, None)
        assert standin.errors == []


def science(rows):
    """Return the exposures of the science window."""
    return [row for row in rows if row.product == "exposure" and SIM.science_window.contains(row.mjd_mid)]


def pixels(path):
    """Return the pixels of a file."""
    with fits.open(path) as hdus:
        return hdus[0].data.copy()


# --- what it offers -----------------------------------------------------------------------------


def test_the_same_exposures_and_references(serve):
    """Names, times, bands, detectors, seeing, depth, footprints: as archive ``simulated`` offers them."""
    ours = {row.exposure_id: row for row in serve().search(FIELD["whole"])}
    theirs = SimulatedArchive(NOW).search(SIM)
    assert {row.exposure_id for row in science(ours.values())} == {r.exposure_id for r in science(theirs)}
    assert sum(row.product == "stack" for row in ours.values()) == 1
    for row in theirs:
        mine = ours[row.exposure_id]
        assert mine.archive == "irsa_ztf"
        assert mine.problem is None
        alike = ("survey", "detector_type", "band", "product", "detector", "n_exposures")
        assert [getattr(mine, name) for name in alike] == [getattr(row, name) for name in alike]
        for name in ("mjd_start", "mjd_mid", "mjd_end"):
            assert getattr(mine, name) == pytest.approx(getattr(row, name), abs=2e-8)
        assert coverage(row.footprint, mine.footprint) > 0.9999
        assert coverage(mine.footprint, row.footprint) > 0.9999
        if row.product == "exposure":
            assert mine.seeing == row.seeing
            assert mine.limiting_magnitude == row.limiting_magnitude
            assert mine.airmass == row.airmass


def test_every_science_exposure_finds_its_reference(serve):
    """Before a byte of an image is moved; the pairing key is that of the reference."""
    verdicts = pair_exposures(serve().search(FIELD["cut"]), FIELD["cut"])
    chosen = [v for v in verdicts if v.role == "science" and v.status == "selected"]
    assert len(chosen) >= 3
    assert all(v.reference_id.endswith("_ref") for v in chosen)
    assert all(v.overlap == pytest.approx(1.0, abs=1e-3) for v in chosen)


def test_what_falls_out_says_why(serve):
    rows = serve().search(FIELD["strict"])
    exposures = [row for row in rows if row.product == "exposure"]
    assert len(exposures) >= 3  # without a reference window of its own a field gets no older exposures
    for row in exposures:
        bad = row.seeing > 2.2 or row.limiting_magnitude < 21.0
        assert bool(row.problem) == bad
        assert not bad or row.problem.startswith(("seeing too bad: ", "not deep enough: "))
    assert {bool(row.problem) for row in exposures} == {True, False}


def test_a_footprint_is_that_of_the_cutout(serve):
    """Two arcmin of 4.3: the piece lies inside, and pairs by what it holds."""
    rows = science(serve().search(FIELD["cut"]))
    for row in rows:
        ra, dec = np.array(row.footprint).T
        assert np.ptp(dec) * 60.0 == pytest.approx(2.0, abs=0.02)
        assert np.ptp(ra) * 60.0 * np.cos(np.radians(62.0)) == pytest.approx(2.0, abs=0.02)
        assert row.bytes < 120_000 + 6 * 120**2


def test_a_field_without_ztf_bands_asks_nobody(serve):
    archive = serve()
    assert archive.search(FIELD["cut"].model_copy(update={"bands": ("F200W",)})) == []
    assert archive._transport.tally.services == {}


REFERENCE_ROWS = b"""infobits,field,ccdid,qid,filtercode,rfid,nframes,startobsdate,endobsdate
0,535,11,3,zr,535120142,21,2018-03-25 09:11:02.4+00,2018-06-11 07:30:00+00
"""


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("clock", "problems"),
    [
        (NOW, [None, "flagged by the survey: infobits 33554432 > 33554431"]),
        (58600.0, ["not public: group 50, until MJD 58611.0"] * 2),
    ],
)
def test_rows_as_irsa_has_them(serve, real_data, clock, problems):
    """Private until it is published, flagged above 2^25; a reference without coordinates says so."""
    table = (real_data / "http/irsa_ibe/SYNTHETIC_ztf_sci.tbl").read_bytes()

    def handler(asked):
        return Reply(table if asked.path.endswith("/sci") else REFERENCE_ROWS, "text/plain")

    field = FIELD["whole"].model_copy(update={"ra": 255.3, "dec": 12.1, "bands": ()})
    archive = IrsaZtfArchive(serve(handler=handler)._transport, clock=clock)
    stack, *exposures = archive.search(field)
    assert [row.problem for row in exposures] == problems
    assert [row.band for row in exposures] == ["r", "g"]
    assert stack.exposure_id == "ztf_000535_zr_c11_q3_ref"
    assert stack.problem == "no world coordinates in the archive's row"
    assert (stack.n_exposures, stack.revision) == (21, "535120142")


# --- what it sends ------------------------------------------------------------------------------


def test_whole_files_are_those_of_the_simulated_survey(serve, tmp_path):
    """Byte for byte, images, masks, PSFs, errors and coverage."""
    archive, simulated = serve(), SimulatedArchive(NOW)
    ours = {row.exposure_id: row for row in archive.search(FIELD["whole"])}
    rows = simulated.search(SIM)
    for row in [rows[0], rows[-1]]:
        theirs = simulated.download(row, tmp_path / "theirs" / row.exposure_id)
        mine = archive.download(ours[row.exposure_id], tmp_path / "ours" / row.exposure_id)
        assert set(mine.files) == set(theirs.files) - {"truth"}
        for role, path in mine.files.items():
            assert path.name == theirs.files[role].name
            assert mine.sha256[role] == theirs.sha256[role]


def test_cutouts_hold_the_same_pixels(serve, tmp_path):
    """Equal in the overlap, at the place that the world coordinates say."""
    archive, simulated = serve(), SimulatedArchive(NOW)
    row = simulated.search(SIM)[-1]
    mine = {r.exposure_id: r for r in archive.search(FIELD["cut"])}[row.exposure_id]
    cut, whole = archive.download(mine, tmp_path / "a"), simulated.download(row, tmp_path / "b")
    for role in ("image", "mask"):
        with fits.open(cut.files[role]) as small, fits.open(whole.files[role]) as large:
            x, y = WCS(large[0].header).all_world2pix([[265.0, 62.0]], 0)[0]
            ny, nx = small[0].data.shape
            assert (nx, ny) == (119, 119)
            left, bottom = (
                round(large[0].header[key] - small[0].header[key]) for key in ("CRPIX1", "CRPIX2")
            )
            assert abs(left + (nx - 1) / 2 - x) <= 0.5
            assert abs(bottom + (ny - 1) / 2 - y) <= 0.5
            np.testing.assert_array_equal(
                small[0].data, large[0].data[bottom : bottom + ny, left : left + nx]
            )
    assert cut.sha256["psf"] == whole.sha256["psf"]
    image = read_image(cut.files["image"], survey="ztf")
    assert image.shape == (119, 119)
    assert image.psf is not None


def test_a_cutout_at_the_edge_is_as_large_as_its_row_says(serve, tmp_path):
    """The centre lies near a corner of the image: what is there comes, and the row has said so."""
    archive = serve()
    edge = FIELD["cut"].model_copy(update={"ra": 265.06, "dec": 62.03})
    row = science(archive.search(edge))[-1]
    image = pixels(archive.download(row, tmp_path).files["image"])
    assert min(image.shape) < 119
    assert row.bytes == pytest.approx(3 * 23_040 + 6 * image.size, rel=0.02)


def test_a_missing_difference_image_is_normal(serve, tmp_path):
    row = science(serve().search(FIELD["strict"]))[-1]
    assert "scimrefdiffimg.fits.fz" in row.url
    assert set(serve().download(row, tmp_path).files) == {"image", "mask", "psf"}


def test_a_difference_image_comes_whole(serve, tmp_path):
    """Compressed, as IRSA has it, and not cut out."""
    stream = io.BytesIO()
    data = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data)]).writeto(stream)

    def handler(asked):
        if asked.path.endswith("_scimrefdiffimg.fits.fz"):
            assert not asked.query
            return Reply(stream.getvalue(), "application/fits")
        return SERVICE.answer(asked)

    archive = serve(handler=handler)
    found = archive.download(science(archive.search(FIELD["strict"]))[-1], tmp_path)
    assert found.files["difference"].read_bytes() == stream.getvalue()


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("clipped", BadAnswerError),
        ("half", BadAnswerError),
        ("no_overlap", NoCoverageError),
        ("stale", NoCoverageError),
        ("html", BadAnswerError),
        ("unavailable", ArchiveUnavailableError),
    ],
)
def test_faults_of_files_leave_no_wrong_file(serve, tmp_path, mode, error):
    row = science(serve().search(FIELD["cut"]))[-1]
    archive = serve(Fault(mode, only="_sciimg.fits"))
    with pytest.raises(error):
        archive.download(row, tmp_path / "place")
    # a clipped cutout is whole as a file; nobody gets it
    assert mode == "clipped" or not list((tmp_path / "place").glob("*_sciimg.fits"))


def test_gzip_where_none_was_asked_for_does_no_harm(serve, tmp_path):
    archive = serve(Fault("gzip"))
    row = science(archive.search(FIELD["cut"]))[-1]
    packed = archive.download(row, tmp_path / "packed").files["image"]
    plain = serve().download(row, tmp_path / "plain").files["image"]
    np.testing.assert_array_equal(read_image(packed, survey="ztf").data, read_image(plain, survey="ztf").data)


@pytest.mark.parametrize("mode", ["html", "error_status", "unavailable", "server_error"])
def test_an_outage_of_the_search_is_never_an_empty_answer(serve, mode):
    with pytest.raises((ArchiveUnavailableError, BadAnswerError)):
        serve(Fault(mode)).search(FIELD["cut"])


def test_an_empty_table_is_an_answer(serve):
    assert serve(Fault("empty_table")).search(FIELD["cut"]) == []


def test_duplicates_are_rejected_with_a_reason(serve):
    once, twice = serve().search(FIELD["cut"]), serve(Fault("duplicates")).search(FIELD["cut"])
    assert len(twice) == 2 * len(once)
    verdicts = pair_exposures(twice, FIELD["cut"])
    chosen = [v for v in verdicts if v.status == "selected"]
    assert sorted(v.exposure.exposure_id for v in chosen) == sorted(
        v.exposure.exposure_id for v in pair_exposures(once, FIELD["cut"]) if v.status == "selected"
    )


def test_of_two_versions_the_newer_one_is_taken(serve):
    """A reprocessed image has another number and the same name."""

    def handler(asked):
        reply = SERVICE.answer(asked)
        if not asked.path.endswith("/sci"):
            return reply
        names, *rows = reply.content.decode().splitlines()
        place = names.split(",").index("pid")
        old = [",".join([*row.split(",")[:place], "17", *row.split(",")[place + 1 :]]) for row in rows]
        return Reply("\n".join([names, *old, *rows, ""]).encode(), "text/csv")

    verdicts = pair_exposures(serve(handler=handler).search(FIELD["cut"]), FIELD["cut"])
    science = [v for v in verdicts if v.role == "science"]
    assert len(science) >= 3
    assert not any(v.exposure.revision.startswith("17-") for v in science)


def test_broken_files_of_the_archive_stay_broken(serve, tmp_path):
    """One that is cut off never gets its name; the others arrive as the archive has them."""
    simulation = SIM.simulated.model_copy(update={"corrupt": True, "corrupt_rate": 1.0})
    service = IrsaZtf([FIELD["whole"]], simulation=simulation, clock=NOW)
    tile = Tile.of(SIM.model_copy(update={"simulated": simulation}))
    archive, seen = serve(handler=service), set()
    nights = {v.filefracday: v for v in visits(tile, "r", NOW - 30.0, NOW)}
    for row in science(archive.search(FIELD["whole"])):
        kind = corruption(tile, nights[row.exposure_id.split("_")[1]])
        seen.add(kind)
        folder = tmp_path / row.exposure_id
        if kind == "truncated":
            with pytest.raises(BadAnswerError):
                archive.download(row, folder)
            assert not list(folder.glob("*_sciimg.fits"))
        else:
            assert archive.download(row, folder).files["image"].is_file()
    assert "truncated" in seen
    assert len(seen) > 1


# --- the service as others use it ---------------------------------------------------------------


def fetch(standin, path):
    """Return status and body of a GET."""
    url = urlsplit(standin.base_url("irsa"))
    connection = http.client.HTTPConnection(url.hostname, url.port)
    connection.request("GET", f"{url.path}{quote(path, safe='/?&=,')}")
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content


def test_astroquery_gets_the_same_rows(monkeypatch):
    """Its Ibe, pointed at the stand-in and without a width, which it cannot send with astropy 8."""
    from astroquery import cache_conf
    from astroquery.ipac.irsa.ibe import Ibe

    columns = "field,ccdid,qid,filtercode,filefracday,obsjd,seeing,moonillf"
    where = "fid=2 AND obsjd BETWEEN 2460890 AND 2460920"
    with StandIn({"irsa": SERVICE}) as standin, cache_conf.set_temp("cache_active", False):
        monkeypatch.setattr(Ibe, "URL", f"{standin.base_url('irsa')}/ibe/")
        theirs = Ibe.query_region(
            coordinate=SkyCoord(265.0, 62.0, unit="deg"),
            mission="ztf",
            dataset="products",
            table="sci",
            where=where,
            columns=columns.split(","),
        )
        query = f"POS=265.0,62.0&WHERE={where}&COLUMNS={columns}&ct=csv"
        status, content = fetch(standin, f"/ibe/search/ztf/products/sci?{query}")
        Ibe._session.close()
    assert status == 200
    ours = parse_science(content)
    assert len(ours) == len(theirs) > 3
    for row, their in zip(ours, theirs, strict=True):
        assert row.filefracday == str(their["filefracday"])
        assert (
            row.quadrant.science_name("")
            == f"ztf__{their['field']:06d}_zr_c{their['ccdid']:02d}_o_q{their['qid']}"
        )
        assert (row.seeing, row.moonillf) == (their["seeing"], their["moonillf"])
        assert row.mjd_start + 2400000.5 == pytest.approx(their["obsjd"], abs=1e-7)


def asked(path, **query):
    """Return a request to the service."""
    return Asked("GET", path, list(query.items()))


SEARCH = "/ibe/search/ztf/products/sci"


def image_path():
    """Return the path of a science image of the field."""
    query = {"POS": "265.0,62.0", "WHERE": "obsjd>2460920 AND fid=2", "ct": "csv"}
    row = parse_science(SERVICE.answer(asked(SEARCH, **query)).content)[0]
    return row.quadrant.science_path(row.filefracday, "sciimg.fits")


def test_cutouts_are_gzipped_unless_one_says_no():
    path = image_path()
    packed = SERVICE.answer(asked(path, center="265.0,62.0", size="60arcsec")).content
    plain = SERVICE.answer(asked(path, center="265.0,62.0", size="60arcsec", gzip="false")).content
    assert gzip.decompress(packed) == plain


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ("0.02", (71, 71)),
        ("0.02deg", (71, 71)),
        ("1.2arcmin", (71, 71)),
        ("72,36arcsec", (36, 71)),
        ("50px", (50, 50)),
    ],
)
def test_units_of_cutouts(size, shape):
    content = SERVICE.answer(asked(image_path(), center="265.0,62.0", size=size, gzip="false")).content
    assert pixels(io.BytesIO(content)).shape == shape


def test_centres_in_pixels_count_from_one():
    content = SERVICE.answer(asked(image_path(), center="10.5,20.5px", size="4px", gzip="false")).content
    whole = SERVICE.answer(asked(image_path())).content
    np.testing.assert_array_equal(pixels(io.BytesIO(content)), pixels(io.BytesIO(whole))[18:22, 8:12])


def test_a_cutout_beside_the_image_is_refused():
    assert SERVICE.answer(asked(image_path(), center="266.0,62.0", size="60arcsec")).status == 400


@pytest.mark.parametrize(
    "change",
    [
        ("_000806_", "_000807_"),
        ("/sci/2025/", "/sci/2024/"),
        ("_c09_", "_c10_"),
        ("_sciimg.fits", "_sciimg.jpg"),
        ("_zr_", "_zi_"),
    ],
)
def test_names_that_no_exposure_has_are_not_found(change):
    path = image_path()
    assert change[0] in path
    assert SERVICE.answer(asked(path.replace(*change))).status == 404


@pytest.mark.parametrize(
    ("intersect", "size", "found"),
    [
        ("OVERLAPS", "0.01", True),
        ("COVERS", "0.01", True),
        ("COVERS", "0.2", False),
        ("ENCLOSED", "0.2", True),
        ("ENCLOSED", "0.01", False),
        ("CENTER", "0.2", True),
    ],
)
def test_relations_of_boxes_and_images(intersect, size, found):
    """The image has sides of 0.072 degrees."""
    query = {"POS": "265.0,62.0", "SIZE": size, "INTERSECT": intersect, "WHERE": "obsjd>2460900", "ct": "csv"}
    assert bool(parse_science(SERVICE.answer(asked(SEARCH, **query)).content)) == found


@pytest.mark.parametrize(
    "query",
    [
        {"POS": "265.0"},
        {"POS": "265.0,62.0", "WHERE": "obsjd > now()"},
        {"POS": "265.0,62.0", "INTERSECT": "TOUCHES", "SIZE": "0.1"},
        {"POS": "265.0,62.0", "COLUMNS": "magzp"},
    ],
)
def test_questions_that_irsa_would_refuse(query):
    assert SERVICE.answer(asked(SEARCH, **query, ct="csv")).status == 400


def test_elsewhere_the_sky_is_covered_by_whole_quadrants():
    """Any position has exposures, of the quadrant whose name leads back to it."""
    for ra, dec in [(10.7, 41.3), (359.99, -0.3), (150.1, 2.2)]:
        query = {"POS": f"{ra},{dec}", "WHERE": "obsjd BETWEEN 2460800 AND 2460900 AND fid=2", "ct": "csv"}
        service = IrsaZtf(clock=NOW)
        rows = parse_science(service.answer(asked(SEARCH, **query)).content)
        assert rows
        for row in rows:
            corners = np.array(row.footprint)
            assert np.ptp(corners[:, 1]) == pytest.approx(3080 * 1.01 / 3600, rel=0.02)
            detector = (row.quadrant.field, row.quadrant.ccd, row.quadrant.quadrant)
            assert service.pointing(detector).tile.detector == detector


# --- light curves, forced photometry ------------------------------------------------------------


def test_light_curves_follow_the_truth(serve):
    """Of a star of the catalogue: its mean within the errors of its mean."""
    stars = patch(Tile.of(SIM)).stars
    near = np.hypot((stars.ra - 265.0) * np.cos(np.radians(62.0)), stars.dec - 62.0) < 0.03
    chosen = np.flatnonzero(near & (stars.kind == 0) & (np.abs(stars.mag_r - 17.5) < 1.0))[0]
    cone = Cone(float(stars.ra[chosen]), float(stars.dec[chosen]), 0.5 / 3600.0)
    table = serve().light_curves(cone, bands=("r",))
    assert table.num_rows > 300
    assert set(table["filtercode"].to_pylist()) == {"zr"}
    magnitudes, errors = (table[name].to_numpy() for name in ("mag", "magerr"))
    pull = (np.average(magnitudes, weights=errors**-2) - stars.mag_r[chosen]) * np.sqrt((errors**-2).sum())
    assert abs(pull) < 4.0
    assert np.std((magnitudes - stars.mag_r[chosen]) / errors) == pytest.approx(1.0, abs=0.1)


def test_where_nothing_is_there_is_no_light_curve(serve):
    assert serve().light_curves(Cone(265.0, 62.0, 1e-7)).num_rows == 0


def test_an_order_of_forced_photometry_arrives(serve):
    transport = serve()._transport
    order = {"mjd_start": 58000.0, "mjd_end": 59000.0, "email": "me@x.org", "password": "secret"}
    answer = transport.ask(forced_request(10.0, 41.0, **order, login="user:word"))
    assert b"queued" in answer.content
    anonymous = forced_request(10.0, 41.0, **order, login="user:word")
    object.__setattr__(anonymous, "headers", ())
    with pytest.raises(AuthenticationNeededError):
        transport.ask(anonymous)


# --- conditions ---------------------------------------------------------------------------------

ROW = {"fid": 2, "obsjd": 2458219.9, "filtercode": "zr", "seeing": None}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("fid=2", True),
        ("FID = 2 and obsjd<2458219", False),
        ("fid IN (1, 3) OR filtercode='zr'", True),
        ("(fid=1 OR fid=2) AND obsjd BETWEEN 2458219.0 AND 2.4582205e6", True),
        ("NOT fid=2", False),
        ("fid<>2 OR fid!=3", True),
        ("fid >= 2 AND fid <= 2 AND fid > -1", True),
        ("seeing<4.0", None),
        ("seeing<4.0 OR fid=2", True),
        ("seeing<4.0 AND fid=2", None),
        ("NOT seeing<4.0", None),
        ("filtercode IN ('zg','zr')", True),
    ],
)
def test_conditions_are_those_of_sql(text, value):
    """Also where a column has no value."""
    assert parse_where(text)(ROW) is value


@pytest.mark.parametrize(
    "text",
    ["", "fid", "fid=", "fid=2 AND", "fid BETWEEN 1 OR 2", "2=fid", "fid=2)", "abs(x)<1", "fid=2; drop"],
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(WhereError):
        parse_where(text)
