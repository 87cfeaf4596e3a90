"""Every service has a handler that answers the questions of its module with what its parser accepts.

The questions go over HTTP, through the transport that asks the live services.
"""

from __future__ import annotations

import io
import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from astropy.io import fits

from astrid_assets.archives import ps1, skyview
from astrid_assets.archives.alerts import read_packets
from astrid_assets.archives.brokers import alerce, fink, kowalski, lasair, nightly
from astrid_assets.archives.brokers.night import Night
from astrid_assets.archives.catalogues import (
    galaxies,
    panstarrs,
    resolver,
    simbad,
    solar_system,
    stars,
    transients,
    vizier,
    xmatch,
)
from astrid_assets.archives.irsa_ztf import IrsaZtfArchive
from astrid_assets.archives.irsa_ztf.forced import forced_request
from astrid_assets.archives.irsa_ztf.light_curves import light_curve_request, parse_light_curves
from astrid_assets.archives.irsa_ztf.search import (
    parse_references,
    parse_science,
    reference_request,
    science_request,
)
from astrid_assets.archives.mast import portal, products, tesscut
from astrid_assets.archives.protocol import Cone
from astrid_assets.archives.standin.faults import HANDLER_MODES
from astrid_assets.archives.standin.irsa_ztf import IrsaZtf
from astrid_assets.archives.standin.server import Asked, Handler, Reply, StandIn
from astrid_assets.archives.standin.services import CONTENT_FAULTS, all_handlers, stand_in
from astrid_assets.archives.transport import Request, Transport
from astrid_assets.errors import NoCoverageError
from astrid_assets.fields import SimulatedOptions, parse_fields

pytestmark = pytest.mark.service

RA, DEC = 210.8023, 54.349
NOW, MJD = "2025-09-17", 60935
CONE, WIDE = Cone(RA, DEC, 0.05, MJD - 10.0), Cone(RA, DEC, 0.4, MJD - 10.0)

FIELD = """\
place:
  ra: 210.8023
  dec: 54.349
  radius: 0.02
  archives: [irsa_ztf]
  bands: [r]
  science_window: {start: 2025-09-01, end: 2025-09-15}
  reference_window: {start: 2025-06-01, end: 2025-07-01}
"""


def service_names() -> list[str]:
    """Return the services that the transport knows."""
    text = resources.files("astrid_assets.archives.transport").joinpath("services.toml").read_text()
    return sorted(tomllib.loads(text)["services"])


def small_handlers() -> dict[str, Handler]:
    """Return all handlers without recorded answers; ZTF with small quadrants."""
    simulation = SimulatedOptions(shape=(192, 192), dirt=False, corrupt_rate=0.0)
    return {**all_handlers(), "irsa": IrsaZtf([parse_fields(FIELD)["place"]], simulation=simulation)}


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    """Serve all services."""
    with StandIn(small_handlers()) as server:
        yield server
    assert server.errors == []


@pytest.fixture
def clients(tmp_path, monkeypatch) -> Callable[[StandIn], Transport]:
    """Return what makes a client of a stand-in, with tokens, and without the patience for live services."""
    monkeypatch.setenv("ASTRID_NOW", NOW)
    for name in ("KOWALSKI_TOKEN", "LASAIR_TOKEN", "TNS_API_KEY"):
        monkeypatch.setenv(name, "key-of-the-test")

    def client(standin: StandIn) -> Transport:
        services = {name: {**at, "per_second": 1000.0} for name, at in standin.services().items()}
        return Transport.open(services, tmp_path / "store")

    return client


@pytest.fixture
def transport(standin, clients) -> Transport:
    """Return a client of the stand-in."""
    return clients(standin)


# --- conversations: each returns what was found ---------------------------------------------------


def rows_of(transport: Transport, request: Request, parse: Callable[[bytes], object]) -> int:
    """Return the number of rows of an answer."""
    table = parse(transport.ask(request).content)
    return getattr(table, "num_rows", None) or len(table)


def talk_mast(transport: Transport, folder: Path) -> int:
    """Search, list the files of an observation, download one."""
    criteria = [portal.among("obs_collection", "JWST"), portal.among("dataproduct_type", "image")]
    request = portal.criteria_request(criteria, position=(RA, DEC, 0.1))
    found = portal.parse_page(transport.ask(request).content)
    count = portal.parse_count(transport.ask(portal.count_request(criteria, position=(RA, DEC, 0.1))).content)
    assert count == len(found.rows)
    asked = portal.products_request([str(found.rows[0]["obsid"])])
    files = products.parse_products(transport.ask(asked).content)
    image = next(file for file in files if (file.subgroup, file.product_type) == ("I2D", "SCIENCE"))
    got = transport.download(portal.file_request(image.uri), folder / "image.fits")
    assert fits.getval(got.path, "SIMPLE")
    return len(found.rows)


def talk_tesscut(transport: Transport, folder: Path) -> int:
    """Ask for the sectors, and for a cutout of the first."""
    sectors = tesscut.parse_sectors(transport.ask(tesscut.sectors_request(RA, DEC)).content)
    request = tesscut.cutout_request(RA, DEC, sector=sectors[0].sector, pixels=8)
    got = transport.download(request, folder / "cutout.zip")
    return len(tesscut.parse_cutout(got.path.read_bytes()))


def talk_ps1(transport: Transport, folder: Path) -> int:
    """Ask for the names of files, and for a cutout of the first."""
    request = ps1.filenames_request(RA, DEC, bands="ri", types=["stack", "stack.wt"])
    files = ps1.parse_filenames(transport.ask(request).content)
    cutout = ps1.cutout_request(files[0].filename, RA, DEC, size=64)
    got = transport.download(cutout, folder / "cutout.fits")
    assert fits.getdata(got.path).shape == (64, 64)
    return len(files)


def talk_skyview(transport: Transport, folder: Path) -> int:
    """Ask for an image."""
    grid = {"width": 0.05, "pixels": 50}
    content = transport.ask(skyview.image_request("DSS2 Red", RA, DEC, **grid)).content
    image = skyview.parse_image(content, ra=RA, dec=DEC, **grid)
    return fits.getdata(io.BytesIO(image)).size


def talk_hips2fits(transport: Transport, folder: Path) -> int:
    """Ask for an image to look at."""
    request = skyview.display_request("DSS2 Red", RA, DEC, width=0.05, pixels=50)
    content = skyview.mark_display_only(transport.ask(request).content)
    return fits.getdata(io.BytesIO(content)).size


def talk_irsa(transport: Transport, folder: Path) -> int:
    """Search for exposures and references, fetch one, and ask for light curves."""
    sky_field = parse_fields(FIELD)["place"]
    science = rows_of(transport, science_request(sky_field), parse_science)
    references = rows_of(transport, reference_request(sky_field), parse_references)
    archive = IrsaZtfArchive(transport)
    exposure = next(e for e in archive.search(sky_field) if e.product == "exposure" and not e.problem)
    assert {"image", "mask", "psf"} <= set(archive.download(exposure, folder).files)
    curves = rows_of(transport, light_curve_request(Cone(RA, DEC, 0.014), bands=("r",)), parse_light_curves)
    assert references
    assert curves
    return science


def talk_ztf_forced(transport: Transport, folder: Path) -> int:
    """Order forced photometry."""
    who = {"email": "a@b.org", "password": "secret", "login": "user:password"}
    request = forced_request(RA, DEC, mjd_start=60900.0, mjd_end=60930.0, **who)
    return transport.ask(request).content.count(b"queued")


def talk_nightly(transport: Transport, folder: Path) -> int:
    """Fetch the alerts of a night from the archive of packets."""
    return alerts_of(transport, nightly.fetch)


def alerts_of(transport: Transport, fetch: Callable[..., bytes]) -> int:
    """Return the number of alerts of the first night that has any; all of them lie in that night."""
    for mjd in range(MJD - 12, MJD - 2):
        try:
            packets = list(read_packets(fetch(transport, Night(mjd), CONE)))
        except NoCoverageError:
            continue
        assert all(mjd <= packet.mjd < mjd + 1 for packet in packets)
        return len(packets)
    return 0


def catalogue(request: Request, parse: Callable[[bytes], object]) -> Callable[[Transport, Path], int]:
    """Return a conversation of one question."""
    return lambda transport, _folder: rows_of(transport, request, parse)


BOT = transients.TnsBot(1, "bot", "key-of-the-test")


def talk_tns(transport: Transport, folder: Path) -> int:
    """Search, ask about what was found, and fetch the table of all objects."""
    table = transients.parse_tns(transport.ask(transients.tns_table_request(BOT)).content)
    request = transients.tns_search_request(BOT, ra=RA, dec=DEC, radius_arcsec=60.0)
    for name in transients.parse_tns_search(transport.ask(request).content):
        rows_of(transport, transients.tns_object_request(BOT, name), transients.parse_tns_object)
    return table.schema.names.count("object_id")


def talk_bts(transport: Transport, folder: Path) -> int:
    """Fetch the table of the survey."""
    table = transients.parse_bts(transport.ask(transients.bts_request()).content)
    return table.schema.names.count("object_id")


def talk_resolver(transport: Transport, folder: Path) -> int:
    """Resolve a name."""
    found = resolver.parse_resolver(transport.ask(resolver.resolver_request("M101")).content, "M101")
    assert (found.ra, found.dec) == pytest.approx((RA, DEC), abs=0.001)
    return 1


TALKS: dict[str, Callable[[Transport, Path], int]] = {
    "alerce": lambda transport, _: alerts_of(transport, alerce.fetch),
    "alerce_stamps": lambda transport, _: alerts_of(transport, alerce.fetch),
    "bts": talk_bts,
    "fink": lambda transport, _: alerts_of(transport, fink.fetch),
    "gaia": catalogue(stars.gaia_request(CONE), stars.parse_gaia),
    "hips2fits": talk_hips2fits,
    "irsa": talk_irsa,
    "kowalski": lambda transport, _: alerts_of(transport, kowalski.fetch),
    "lasair": lambda transport, _: alerts_of(transport, lasair.fetch),
    "lasair_stamps": lambda transport, _: alerts_of(transport, lasair.fetch),
    "mast": talk_mast,
    "mast_resolver": talk_resolver,
    "ned": catalogue(galaxies.ned_request(WIDE), galaxies.parse_ned),
    "ps1": talk_ps1,
    "ps1_catalog": catalogue(panstarrs.ps1_request(CONE), panstarrs.parse_ps1),
    "sdss": catalogue(galaxies.sdss_request(CONE), galaxies.parse_sdss),
    "simbad": catalogue(simbad.simbad_request(WIDE), simbad.parse_simbad),
    "skybot": catalogue(
        solar_system.skybot_request(WIDE, observatory="I41"),
        solar_system.parse_skybot,
    ),
    "skyview": talk_skyview,
    "tesscut": talk_tesscut,
    "tns": talk_tns,
    "vizier": catalogue(vizier.vizier_ps1_request(CONE), vizier.parse_vizier_ps1),
    "xmatch": catalogue(
        xmatch.xmatch_request([(RA, DEC)], "I/355/gaiadr3", arcsec=120.0), xmatch.parse_xmatch
    ),
    "ztf_alerts": talk_nightly,
    "ztf_forced": talk_ztf_forced,
}


def test_every_service_of_the_transport_has_a_handler_and_a_test():
    """No more, no less."""
    assert sorted(all_handlers()) == service_names()
    assert sorted(TALKS) == service_names()


@pytest.mark.parametrize("service", sorted(TALKS))
def test_answers_are_understood(service, standin, transport, tmp_path):
    """Each service has something about a place where nothing was recorded."""
    before = standin.count(service)
    assert TALKS[service](transport, tmp_path) > 0
    assert standin.count(service) > before


# --- faults ---------------------------------------------------------------------------------------


class Listener:
    """A handler that remembers what it is asked."""

    def __init__(self, handler: Handler) -> None:
        self.handler = getattr(handler, "answer", handler)
        self.heard: list[Asked] = []

    def answer(self, asked: Asked) -> Reply:
        """Answer as the handler does."""
        self.heard.append(asked)
        return self.handler(asked)


def modes_made(listener: Listener) -> set[str]:
    """Return the faults of the content that change the reply to anything that was asked."""
    quick = [asked for asked in listener.heard if "light_curves" not in asked.path]
    replies = [(asked, listener.handler(asked)) for asked in quick]
    return {
        mode
        for mode in HANDLER_MODES
        if any(listener.handler(replace(asked, fault=mode)) != reply for asked, reply in replies)
    }


@pytest.mark.parametrize("service", sorted(TALKS))
def test_handlers_make_the_faults_that_are_documented(service, clients, tmp_path):
    """No more, no less; and the same question has the same answer."""
    handlers = small_handlers()
    listener = Listener(handlers[service])
    with StandIn({**handlers, service: listener}) as standin:
        TALKS[service](clients(standin), tmp_path)
    made, documented = modes_made(listener), set(CONTENT_FAULTS.get(service, ()))
    assert made <= documented
    assert documented - made <= {"pages"}  # which need more rows than there may be


@pytest.mark.real_data
def test_recorded_answers_are_served_where_there_are_any(real_data, clients):
    """Rows of MAST and NED as they were recorded."""
    recorded = real_data / "http"
    with stand_in(recorded=recorded) as standin:
        client = clients(standin)
        page = portal.parse_page(client.ask(portal.products_request(["2003738726"])).content)
        around_orion = Cone(83.822083, -5.391111, 0.01)
        ned = client.ask(galaxies.ned_request(around_orion)).content
    rows = json.loads((recorded / "mast" / "products.json").read_bytes())["data"]
    assert [row["dataURI"] for row in page.rows] == [row["dataURI"] for row in rows]
    assert ned == (recorded / "ned" / "query_near_position.xml").read_bytes()
