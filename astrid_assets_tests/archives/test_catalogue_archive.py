"""Archive ``catalogues`` against its services on loopback, and astroquery's clients against the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time
from requests.adapters import HTTPAdapter

from astrid_assets.archives.catalogues import PARSERS, known_schema
from astrid_assets.archives.catalogues.archive import CataloguesArchive
from astrid_assets.archives.catalogues.cones import ask_whole, is_pack, pack
from astrid_assets.archives.catalogues.galaxies import sdss_request
from astrid_assets.archives.catalogues.panstarrs import ps1_request
from astrid_assets.archives.catalogues.resolver import resolve
from astrid_assets.archives.catalogues.simbad import simbad_request
from astrid_assets.archives.catalogues.solar_system import skybot_request
from astrid_assets.archives.catalogues.stars import gaia_pages, gaia_request, parse_gaia, parse_vsx
from astrid_assets.archives.catalogues.transients import (
    TnsBot,
    parse_tns_object,
    parse_tns_search,
    tns_object_request,
    tns_search_request,
)
from astrid_assets.archives.catalogues.vizier import parse_vizier_ps1, vizier_ps1_request, vizier_request
from astrid_assets.archives.catalogues.votable import read_votable
from astrid_assets.archives.catalogues.xmatch import crossmatch
from astrid_assets.archives.protocol import CatalogueArchive, Cone, Offer
from astrid_assets.archives.simulated import catalogues as simulated
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.archives.standin.catalogues import CatalogueServices, handlers
from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.server import StandIn
from astrid_assets.archives.transport import Transport
from astrid_assets.errors import (
    ArchiveUnavailableError,
    AuthenticationNeededError,
    BadAnswerError,
    NoCoverageError,
)
from astrid_assets.fields import Field, parse_fields

pytestmark = pytest.mark.service

TILE = Tile(1, 150.0, 12.0, 1024, 1024, True, 0.0, 2.0)  # 0.5 degrees from the ecliptic
CONE = Cone(150.0, 12.0, 0.2)
NOW = 60930.0
EPOCH = 60920.3
FAST = {"per_second": 1000.0, "parallel": 4}
ALL = ("gaia", "ps1", "vsx", "sdss", "ned", "simbad", "skybot", "tns", "bts")


@pytest.fixture(autouse=True)
def _bot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TNS_BOT", "123 astrid")
    monkeypatch.setenv("TNS_API_KEY", "s3cret")


@pytest.fixture
def services() -> Iterator[StandIn]:
    with StandIn(CatalogueServices(tiles=[TILE], clock=NOW).handlers()) as standin:
        yield standin
    assert standin.errors == []


def transport_of(standin: StandIn, folder: Path, **more) -> Transport:
    """Return a transport to a stand-in that does not hold itself back."""
    urls = {name: values | FAST | more for name, values in standin.services().items()}
    return Transport.open(urls, folder)


def field_of(*names: str, archives: str = "irsa_ztf, catalogues", more: str = "") -> Field:
    text = f"""
m1:
  ra: 150.0
  dec: 12.0
  radius: 0.2
  archives: [{archives}]
  catalogues: {{names: [{", ".join(names)}]}}
{more}
"""
    return parse_fields(text)["m1"]


def rows_of(standin: StandIn, folder: Path, name: str, cone: Cone = CONE, **settings):
    """Return the known objects that a catalogue has in a circle."""
    archive, sky_field = CataloguesArchive(transport_of(standin, folder, **settings)), field_of(name)
    (offer,) = archive.catalogues(sky_field)
    return PARSERS[offer.format](archive.catalogue(offer, sky_field, cone))


def truth_of(name: str, cone: Cone = CONE):
    """Return the same from the simulated sky, without a service between."""
    offer = Offer({"gaia": "gaia_dr3"}.get(name, name), "", "", "")
    return PARSERS[name](simulated.answer(offer, TILE, cone, NOW))


# --- the archive -----------------------------------------------------------------------------------


def test_offers_are_said_without_asking(services: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = CataloguesArchive(transport_of(services, tmp_path))
    assert isinstance(archive, CatalogueArchive)
    monkeypatch.setenv("ASTRID_NOW", "2025-09-17T23:00:00")
    offers = archive.catalogues(field_of(*ALL))
    assert [offer.format for offer in offers] == list(ALL)
    assert [offer.format for offer in offers if offer.moving] == ["skybot"]
    assert archive.search(field_of(*ALL)) == []
    monkeypatch.setenv("ASTRID_NOW", "2025-09-18T01:00:00")
    later = archive.catalogues(field_of(*ALL))
    assert [o.format for o, p in zip(offers, later, strict=True) if o != p] == ["tns", "bts"]  # a new day
    assert services.arrivals == []


@pytest.mark.parametrize("name", ["gaia", "vsx", "sdss", "skybot", "tns"])
def test_answers_hold_what_the_sky_holds(services: StandIn, tmp_path: Path, name: str):
    cone = Cone(150.0, 12.0, 0.2, EPOCH if name == "skybot" else None)
    ours, truth = rows_of(services, tmp_path, name, cone), truth_of(name, cone)
    assert ours.num_rows == truth.num_rows > 0
    key = [("object_id", "ascending")]
    assert ours.sort_by(key).to_pylist() == truth.sort_by(key).to_pylist()


@pytest.mark.parametrize("name", ALL)
def test_every_catalogue_answers_once_and_is_kept(services: StandIn, tmp_path: Path, name: str):
    cone = Cone(150.0, 12.0, 0.2, EPOCH if name == "skybot" else None)
    table = rows_of(services, tmp_path, name, cone)
    assert table.schema == known_schema()
    assert table.num_rows > 0
    away = SkyCoord(table.column("ra").to_numpy(), table.column("dec").to_numpy(), unit="deg")
    assert away.separation(SkyCoord(150.0, 12.0, unit="deg")).deg.max() < 0.2001
    asked = len(services.arrivals)
    assert rows_of(services, tmp_path, name, cone) == table
    assert len(services.arrivals) == asked  # from the store


def test_transients_are_confirmed_with_type_and_date(services: StandIn, tmp_path: Path):
    wide = Cone(150.0, 12.0, 0.5)
    tns, bts = (rows_of(services, tmp_path, name, wide).to_pylist() for name in ("tns", "bts"))
    with_type = [row for row in tns if row["class"] != "AT"]
    assert with_type
    assert {row["kind"] for row in tns} == {"transient"}
    assert all(row["confidence"] == 0.99 for row in with_type)
    assert all(NOW - 400 < row["discovered_mjd"] < NOW for row in tns)
    assert [row["class"] for row in bts] == [row["class"] for row in tns]
    assert [row["redshift"] for row in bts] == [row["redshift"] for row in tns]
    places = (SkyCoord([r["ra"] for r in t], [r["dec"] for r in t], unit="deg") for t in (tns, bts))
    assert next(places).separation(next(places)).arcsec.max() < 0.2  # sexagesimal


def test_one_table_of_transients_serves_all_fields(services: StandIn, tmp_path: Path):
    for cone in (CONE, Cone(150.1, 12.1, 0.1), Cone(10.0, 5.0, 0.5)):
        rows_of(services, tmp_path, "tns", cone)
    assert services.count("tns") == 1


def test_a_rich_field_is_read_page_by_page(services: StandIn, tmp_path: Path):
    whole, transport = rows_of(services, tmp_path, "gaia"), transport_of(services, tmp_path)
    pages = list(gaia_pages(lambda request: transport.ask(request).content, CONE, max_rows=50))
    assert len(pages) == whole.num_rows // 50 + 1
    assert PARSERS["gaia"](pack(CONE, pages)) == whole


@pytest.mark.parametrize("name", ["ps1", "vsx", "simbad", "sdss"])
def test_a_cut_answer_is_never_used(services: StandIn, tmp_path: Path, name: str):
    whole, transport = rows_of(services, tmp_path, name), transport_of(services, tmp_path)
    limit = max(2, whole.num_rows // 3)
    build = {
        "ps1": ps1_request,
        "vsx": partial(vizier_request, "B/vsx/vsx"),
        "simbad": simbad_request,
        "sdss": sdss_request,
    }[name]
    content = ask_whole(
        lambda cone: transport.ask(build(cone, max_rows=limit)).content,
        CONE,
        is_cut=lambda content: PARSERS[name](content).num_rows >= limit,
    )
    key = [("object_id", "ascending")]
    assert is_pack(content)
    assert PARSERS[name](content).sort_by(key) == whole.sort_by(key)


def test_a_wide_field_of_ps1_is_asked_for_in_parts(services: StandIn, tmp_path: Path):
    archive, sky_field = CataloguesArchive(transport_of(services, tmp_path)), field_of("ps1")
    (offer,) = archive.catalogues(sky_field)
    content = archive.catalogue(offer, sky_field, Cone(150.0, 12.0, 0.6))
    assert is_pack(content)
    assert services.count("ps1_catalog") == 7


def test_tns_without_a_bot_is_not_asked(services: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TNS_BOT")
    with pytest.raises(AuthenticationNeededError, match="TNS_BOT"):
        rows_of(services, tmp_path, "tns")
    assert services.arrivals == []


def test_nothing_of_the_key_is_kept(services: StandIn, tmp_path: Path):
    rows_of(services, tmp_path, "tns")
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not any(b"s3cret" in content for content in kept)


def test_the_api_of_tns(services: StandIn, tmp_path: Path):
    transport, bot = transport_of(services, tmp_path), TnsBot(123, "astrid", "s3cret")
    known = rows_of(services, tmp_path, "tns").to_pylist()[0]
    search = tns_search_request(bot, ra=known["ra"], dec=known["dec"], radius_arcsec=1.0)
    (name,) = parse_tns_search(transport.ask(search).content)
    found = parse_tns_object(transport.ask(tns_object_request(bot, name)).content)
    assert found.to_pylist() == [known]


def test_tns_refuses_strangers(services: StandIn, tmp_path: Path):
    request = replace(tns_object_request(TnsBot(123, "astrid", "s3cret"), "2011fe"), headers=())
    with pytest.raises(AuthenticationNeededError):
        transport_of(services, tmp_path).ask(request)


def test_the_tables_of_transients_hold_the_configured_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "fields.yaml"
    path.write_text("m1: {ra: 150.0, dec: 12.0, radius: 0.2, archives: [irsa_ztf, catalogues]}\n")
    monkeypatch.setenv("ASTRID_FIELDS", str(path))
    monkeypatch.setenv("ASTRID_NOW", str(NOW))
    with StandIn(handlers()) as standin:
        assert rows_of(standin, tmp_path, "tns") == truth_of("tns")


@pytest.mark.parametrize(("survey", "code"), [("ztf", "I41"), ("tess", "C57"), (None, "500")])
def test_bodies_are_seen_from_the_observatory_of_the_exposure(
    services: StandIn, tmp_path: Path, survey: str | None, code: str
):
    rows_of(services, tmp_path, "skybot", Cone(150.0, 12.0, 0.2, EPOCH, survey))
    assert f"&-loc={code}&" in services.arrivals[-1].target


# --- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaia", "vsx", "ned", "simbad", "ps1"])
@pytest.mark.parametrize("mode", ["error_status", "html", "truncated", "server_error"])
def test_what_is_no_answer_never_becomes_rows(tmp_path: Path, name: str, mode: str):
    sky = CatalogueServices(tiles=[TILE], clock=NOW).handlers()
    wrong = BadAnswerError if mode in ("error_status", "html") else ArchiveUnavailableError
    with StandIn(sky, [Fault(mode)]) as standin, pytest.raises(wrong):
        rows_of(standin, tmp_path, name, retries=0)


@pytest.mark.parametrize("name", ["gaia", "vsx", "ned", "simbad", "ps1", "skybot"])
def test_an_outage_is_not_kept_as_an_answer(tmp_path: Path, name: str):
    """Reported with status 200 in a document that looks like an answer."""
    sky, cone = CatalogueServices(tiles=[TILE], clock=NOW).handlers(), Cone(150.0, 12.0, 0.2, EPOCH)
    with StandIn(sky, [Fault("error_status", first_n=1)]) as standin:
        with pytest.raises((BadAnswerError, ArchiveUnavailableError)):
            rows_of(standin, tmp_path, name, cone)
        assert rows_of(standin, tmp_path, name, cone).num_rows > 0


@pytest.mark.parametrize("name", ["gaia", "vsx", "ned", "ps1", "tns", "bts"])
def test_duplicates_and_empty_tables(services: StandIn, tmp_path: Path, name: str):
    sky = CatalogueServices(tiles=[TILE], clock=NOW).handlers()
    whole = rows_of(services, tmp_path / "whole", name)
    with StandIn(sky, [Fault("duplicates")]) as standin:
        assert rows_of(standin, tmp_path / "twice", name) == whole
    with StandIn(sky, [Fault("empty_table")]) as standin:
        assert rows_of(standin, tmp_path / "empty", name).num_rows == 0


# --- other services --------------------------------------------------------------------------------


def test_a_cross_match_finds_each_star(services: StandIn, tmp_path: Path):
    stars = truth_of("gaia").to_pylist()[:20]
    positions = [(row["ra"] + 0.2 / 3600.0, row["dec"]) for row in stars]
    pairs = crossmatch(transport_of(services, tmp_path), positions, "I/355/gaiadr3", arcsec=1.0).to_pylist()
    nearest = {}
    for pair in pairs:
        nearest.setdefault(pair["row"], pair)
    assert [f"Gaia DR3 {nearest[i]['Source']}" for i in range(20)] == [row["object_id"] for row in stars]
    expected = [0.2 * np.cos(np.radians(row["dec"])) for row in stars]
    assert [nearest[i]["angDist"] for i in range(20)] == pytest.approx(
        expected, abs=5e-5
    )  # eight digits of a degree


def test_ps1_at_vizier_are_the_stars_of_mast(services: StandIn, tmp_path: Path):
    content = transport_of(services, tmp_path).ask(vizier_ps1_request(CONE)).content
    ours, theirs = parse_vizier_ps1(content), rows_of(services, tmp_path, "ps1")
    assert ours.column("object_id").to_pylist() == theirs.column("object_id").to_pylist()
    assert ours.column("kind").to_pylist() == theirs.column("kind").to_pylist()


def test_names_become_positions(services: StandIn, tmp_path: Path):
    transport = transport_of(services, tmp_path)
    found = resolve(transport, "SN 2011fe")
    assert (found.ra, found.dec) == pytest.approx((210.774, 54.274), abs=1e-3)
    with pytest.raises(NoCoverageError, match="give its coordinates"):
        resolve(transport, "no such object")


@pytest.mark.real_data
def test_recorded_answers_are_served_where_they_are_of(real_data: Path, tmp_path: Path):
    recorded = real_data / "http"
    with StandIn(CatalogueServices(recorded=recorded, tiles=[TILE], clock=NOW).handlers()) as standin:
        transport = transport_of(standin, tmp_path)
        assert rows_of(standin, tmp_path, "ned", Cone(83.822083, -5.391111, 2 / 60)).num_rows == 2
        request = skybot_request(Cone(81.2833, 4.49278, 0.2, 60677.0), observatory="500")
        assert transport.ask(request).content == (recorded / "skybot/skybot_query.vot").read_bytes()
        assert resolve(transport, "Barnard's star").resolver == "SIMBAD"
    assert standin.errors == []


# --- astroquery ------------------------------------------------------------------------------------


class Rebased(HTTPAdapter):
    """Sends what was meant for a service to its stand-in."""

    def __init__(self, base_url: str) -> None:
        self.base = urlsplit(base_url)
        super().__init__()

    def send(self, request, **options):
        parts = urlsplit(request.url)
        path = self.base.path + parts.path
        request.url = urlunsplit((self.base.scheme, self.base.netloc, path, parts.query, ""))
        return super().send(request, **options)


@pytest.fixture
def _astroquery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No cache, and no warnings of code that is not ours."""
    from astroquery import cache_conf

    with cache_conf.set_temp("cache_active", False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rebased(client, base_url: str):
    """Return a client of astroquery that asks a stand-in."""
    for scheme in ("http://", "https://"):
        client._session.mount(scheme, Rebased(base_url))
    return client


@pytest.mark.usefixtures("_astroquery")
def test_astroquery_finds_the_same_variables(services: StandIn, tmp_path: Path):
    from astroquery.vizier import VizierClass

    client = rebased(VizierClass(catalog="B/vsx/vsx", row_limit=-1), services.base_url("vizier"))
    (table,) = client.query_region(SkyCoord(150.0, 12.0, unit="deg"), radius=0.2 * u.deg)
    ours = rows_of(services, tmp_path, "vsx")
    assert [str(name) for name in table["Name"]] == ours.column("object_id").to_pylist()
    np.testing.assert_array_equal(table["RAJ2000"], ours.column("ra"))
    content = transport_of(services, tmp_path).ask(vizier_request("B/vsx/vsx", CONE)).content
    assert parse_vsx(content) == ours
    client._session.close()


@pytest.mark.usefixtures("_astroquery")
def test_astroquery_finds_the_same_bodies(services: StandIn, tmp_path: Path):
    from astroquery.imcce import SkybotClass

    client = rebased(SkybotClass(), services.base_url("skybot"))
    table = client.cone_search(
        SkyCoord(150.0, 12.0, unit="deg"), 0.2 * u.deg, Time(EPOCH, format="mjd"), location="I41"
    )
    ours = rows_of(services, tmp_path, "skybot", Cone(150.0, 12.0, 0.2, EPOCH))
    assert len(table) == ours.num_rows > 0
    np.testing.assert_allclose(np.asarray(table["RA"]), ours.column("ra").to_numpy(), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(table["DEC"]), ours.column("dec").to_numpy(), rtol=1e-12)
    client._session.close()


@pytest.mark.usefixtures("_astroquery")
def test_astroquery_finds_the_same_galaxies(services: StandIn, tmp_path: Path):
    from astroquery.ipac.ned import NedClass

    client = rebased(NedClass(), services.base_url("ned"))
    table = client.query_region(SkyCoord(150.0, 12.0, unit="deg"), radius=0.2 * u.deg)
    ours = rows_of(services, tmp_path, "ned")
    assert [str(name) for name in table["Object Name"]] == ours.column("object_id").to_pylist()
    np.testing.assert_array_equal(table["Redshift"], ours.column("redshift"))
    client._session.close()


@pytest.mark.usefixtures("_astroquery")
def test_astroquery_finds_the_same_pairs(services: StandIn, tmp_path: Path):
    from astroquery.xmatch import XMatchClass

    stars = truth_of("gaia").to_pylist()[:10]
    positions = [(row["ra"], row["dec"]) for row in stars]
    client = rebased(XMatchClass(), services.base_url("xmatch"))
    upload = Table(rows=[(i, *place) for i, place in enumerate(positions)], names=("row", "ra", "dec"))
    table = client.query(
        cat1=upload, cat2="vizier:I/355/gaiadr3", max_distance=5 * u.arcsec, colRA1="ra", colDec1="dec"
    )
    ours = crossmatch(transport_of(services, tmp_path), positions, "I/355/gaiadr3", arcsec=5.0)
    assert [int(n) for n in table["Source"]] == ours.column("Source").to_pylist()
    np.testing.assert_allclose(table["angDist"], ours.column("angDist").to_numpy(), atol=1e-3)
    client._session.close()


@pytest.mark.usefixtures("_astroquery")
def test_astroquery_finds_the_same_stars(services: StandIn, tmp_path: Path):
    """Its TAP client, without ``astroquery.gaia``: that one asks for messages at import."""
    from astroquery.utils.tap.core import TapPlus

    query = dict(gaia_request(CONE).form or ())["QUERY"]
    client = TapPlus(url=f"{services.base_url('gaia')}/tap-server/tap")
    table = client.launch_job(query).get_results()
    ours = rows_of(services, tmp_path, "gaia")
    assert [f"Gaia DR3 {n}" for n in table["source_id"]] == ours.column("object_id").to_pylist()
    np.testing.assert_array_equal(np.asarray(table["ra"]), ours.column("ra").to_numpy())


@pytest.mark.usefixtures("_astroquery")
def test_pyvo_finds_the_same_objects_of_simbad(services: StandIn, tmp_path: Path):
    from pyvo.dal import TAPService

    query = dict(simbad_request(CONE).form or ())["QUERY"]
    table = TAPService(f"{services.base_url('simbad')}/simbad/sim-tap").run_sync(query).to_table()
    ours = rows_of(services, tmp_path, "simbad")
    assert [str(name) for name in table["main_id"]] == ours.column("object_id").to_pylist()
    np.testing.assert_array_equal(np.asarray(table["dec"]), ours.column("dec").to_numpy())


def test_overflow_is_said_by_a_service(services: StandIn, tmp_path: Path):
    """MAXREC below TOP: the service stops and says so, which is never an answer."""
    request = gaia_request(CONE)
    form = tuple((k, "5" if k == "MAXREC" else v) for k, v in request.form or ())
    content = transport_of(services, tmp_path).ask(replace(request, form=form)).content
    with pytest.raises(BadAnswerError, match="overflow"):
        parse_gaia(content)
    with pytest.raises(BadAnswerError, match="overflow"):
        read_votable(content, service="Gaia")
