"""Archive ``alerts`` over HTTP: every source tells the same alerts, also where things go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from astrid_assets.archives.alerts import Packet, alert_triplets, label_of, read_packets
from astrid_assets.archives.brokers import AlertsArchive
from astrid_assets.archives.protocol import Cone
from astrid_assets.archives.standin.alert_sky import Alert, AlertSky, read_folder
from astrid_assets.archives.standin.alerts import alert_handlers
from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.messages import Asked, Reply
from astrid_assets.archives.standin.server import Handler, StandIn
from astrid_assets.archives.transport import Transport
from astrid_assets.clock import from_mjd
from astrid_assets.errors import (
    ArchiveUnavailableError,
    AuthenticationNeededError,
    BadAnswerError,
    NoCoverageError,
)
from astrid_assets.fields import Field

pytestmark = pytest.mark.service

SOURCES = ("nightly", "alerce", "fink", "kowalski", "lasair")
NOW = 60935.0
NIGHT, CONE = 60928, Cone(330.0, 20.0, 0.5)
REAL_NIGHT, REAL_CONE = 60229, Cone(46.0, 9.0, 2.5)
LIGHT_CURVE = ("jd", "ra", "dec", "fid", "magpsf", "sigmapsf", "isdiffpos", "ssdistnr", "ssnamenr", "drb")


@pytest.fixture(autouse=True)
def _tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("KOWALSKI", "LASAIR"):
        monkeypatch.setenv(f"{service}_TOKEN", "token-of-the-test")


@pytest.fixture(scope="module")
def alerts() -> list[Alert]:
    """Some of a night of the simulated survey, one without template."""
    found = AlertSky().around(CONE.ra, CONE.dec, CONE.radius, start=NIGHT, end=NIGHT + 1)
    lost = Alert(found[0].content, {**found[0].record, "cutoutTemplate": None})
    return [lost, *found[1:4]]


@contextmanager
def archive_of(
    alerts: Sequence[Alert],
    store: Path,
    *,
    faults: Sequence[Fault] = (),
    handlers: Mapping[str, Callable[[Handler], Handler]] | None = None,
) -> Iterator[tuple[AlertsArchive, StandIn]]:
    """Serve some alerts, and yield the archive that asks for them; `handlers` change those of services."""
    serving = alert_handlers(AlertSky(alerts))
    for service, change in (handlers or {}).items():
        serving[service] = change(serving[service])
    with StandIn(serving, faults) as standin:
        impatient = {"per_second": 1000.0, "backoff": 0.0, "retries": 2}
        services = {name: {**at, **impatient} for name, at in standin.services().items()}
        yield AlertsArchive(Transport.open(services, store), clock=NOW), standin
    assert standin.errors == []


def field_of(source: str, night: int) -> Field:
    day = dict.fromkeys(("start", "end"), f"{from_mjd(night):%Y-%m-%d}")
    place = {"name": "f", "ra": CONE.ra, "dec": CONE.dec, "radius": CONE.radius}
    return Field(**place, archives=("alerts",), alerts={"source": source}, science_window=day)


def ask(archive: AlertsArchive, source: str, cone: Cone = CONE, night: int = NIGHT) -> list[Packet]:
    """Return the alerts of a night."""
    sky_field = field_of(source, night)
    (offer,) = archive.alert_nights(sky_field)
    return list(read_packets(archive.alerts(offer, sky_field, cone)))


def check(packets: Sequence[Packet], alerts: Sequence[Alert], source: str) -> None:
    """Check that packets say what the original ones say, as far as the source tells it."""
    originals = sorted(alerts, key=lambda alert: alert.candid)
    found = sorted(packets, key=lambda packet: int(packet.candid))
    assert [packet.candid for packet in found] == [str(alert.candid) for alert in originals]
    assert [packet.object_id for packet in found] == [alert.object_id for alert in originals]
    digits = 1e-9 if source == "fink" else 0.0  # Fink writes ten decimals
    for packet, alert in zip(found, originals, strict=True):
        for name in LIGHT_CURVE if source == "lasair" else alert.candidate:
            told, value = packet.candidate[name], alert.candidate[name]
            number = isinstance(value, float)
            assert told == (pytest.approx(value, rel=0, abs=digits) if number else value), name
    whole = [next(read_packets(alert.content)) for alert in originals]
    if source != "lasair":  # which does not tell rb
        assert [label_of(packet)[:2] for packet in found] == [label_of(packet)[:2] for packet in whole]
    expected, given = alert_triplets(whole), alert_triplets(found)
    known = given.mask == 0
    np.testing.assert_array_equal(given.stamps[known], expected.stamps[known])
    if source not in ("nightly", "alerce"):  # which hand out the packet, and with it what we call lost
        lost = [alert.record["cutoutTemplate"] is None for alert in originals]
        assert known[lost, 1].sum() == 0
        expected.mask[lost, 1] = given.mask[lost, 1]
    np.testing.assert_array_equal(given.mask == 0, expected.mask == 0)


# --- all goes well --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_tells_the_same_alerts(source: str, alerts: list[Alert], tmp_path: Path):
    with archive_of(alerts, tmp_path) as (archive, _):
        packets = ask(archive, source)
    check(packets, alerts, source)
    broker = {"fink": "Fink", "kowalski": "Kowalski", "lasair": "Lasair"}.get(source)
    original = alerts[0].record["publisher"]
    assert {packet.publisher for packet in packets} == {f"{broker}, re-encoded" if broker else original}


@pytest.mark.real_data
@pytest.mark.parametrize("source", SOURCES)
def test_real_packets_pass_through_every_source(source: str, real_data: Path, tmp_path: Path):
    alerts = read_folder(real_data / "http/ztf_alerts")
    mine = [alert for alert in alerts if REAL_NIGHT <= alert.mjd < REAL_NIGHT + 1]
    assert len(mine) == 24
    with archive_of(alerts, tmp_path) as (archive, _):
        check(ask(archive, source, REAL_CONE, REAL_NIGHT), mine, source)


@pytest.mark.parametrize("source", SOURCES)
def test_the_edge_of_the_circle(source: str, alerts: list[Alert], tmp_path: Path):
    """Alerts a little outside are left out, also where objects are found by a wider question."""
    ra, dec = alerts[1].place
    inside = {str(a.candid) for a in alerts if a.place == (ra, dec)}
    beside = dec + 1.0 / 3600.0
    with archive_of(alerts, tmp_path) as (archive, _):
        assert {packet.candid for packet in ask(archive, source, Cone(ra, beside, 1.01 / 3600.0))} == inside
        with pytest.raises(NoCoverageError, match="alert"):
            ask(archive, source, Cone(ra, beside, 0.99 / 3600.0))


@pytest.mark.parametrize("source", SOURCES)
def test_a_night_without_alerts(source: str, alerts: list[Alert], tmp_path: Path):
    """It says so; and who has later nights, too, says so at once."""
    later = [
        Alert(a.content, {**a.record, "candidate": {**a.candidate, "jd": a.candidate["jd"] + 2}})
        for a in alerts
    ]
    with archive_of(later, tmp_path) as (archive, _), pytest.raises(NoCoverageError):
        ask(archive, source)


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "nightly"])
def test_what_was_asked_is_not_asked_again(source: str, alerts: list[Alert], tmp_path: Path):
    with archive_of(alerts, tmp_path) as (archive, standin):
        first, count = ask(archive, source), len(standin.arrivals)
        second = ask(archive, source)
        assert len(standin.arrivals) == count
    assert [packet.candidate for packet in first] == [packet.candidate for packet in second]


# --- something is wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        *((source, Fault("html", first_n=1)) for source in SOURCES),
        *((source, Fault("truncated", first_n=1)) for source in SOURCES),
        ("fink", Fault("unavailable", first_n=1)),
        ("fink", Fault("gzip")),
        ("alerce", Fault("pages", only="/objects?")),
        ("alerce", Fault("duplicates", only="/objects?")),
        ("fink", Fault("duplicates", only="/conesearch")),
    ],
)
def test_faults_that_pass_change_nothing(source: str, fault: Fault, alerts: list[Alert], tmp_path: Path):
    with archive_of(alerts, tmp_path, faults=[fault]) as (archive, standin):
        check(ask(archive, source), alerts, source)
        assert standin.faulted


@pytest.mark.parametrize("source", SOURCES)
def test_an_outage_is_an_outage(source: str, alerts: list[Alert], tmp_path: Path):
    with (
        archive_of(alerts, tmp_path, faults=[Fault("unavailable")]) as (archive, _),
        pytest.raises(ArchiveUnavailableError),
    ):
        ask(archive, source)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("nightly", Fault("half", only=".tar.gz")),
        ("alerce", Fault("half", only="/get_avro")),
        ("lasair", Fault("half", only=".fits")),
        ("kowalski", Fault("error_status")),
        ("lasair", Fault("error_status", services=("lasair",))),
    ],
)
def test_what_is_not_whole_is_no_answer(source: str, fault: Fault, alerts: list[Alert], tmp_path: Path):
    with (
        archive_of(alerts, tmp_path, faults=[fault]) as (archive, _),
        pytest.raises((BadAnswerError, ArchiveUnavailableError)),
    ):
        ask(archive, source)


@pytest.mark.parametrize(("source", "variable"), [("kowalski", "KOWALSKI_TOKEN"), ("lasair", "LASAIR_TOKEN")])
def test_without_a_token_the_message_names_its_variable(
    source: str, variable: str, alerts: list[Alert], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(variable)
    with archive_of(alerts, tmp_path) as (archive, standin):
        with pytest.raises(AuthenticationNeededError, match=variable):
            ask(archive, source)
        assert standin.arrivals == []


def without(path: str) -> Callable[[Handler], Handler]:
    """Return what makes a handler know nothing below a path."""

    def change(handler: Handler) -> Handler:
        def answer(asked: Asked) -> Reply:
            if asked.path.startswith(path):
                return Reply(b'{"message": "not found"}', "application/json", 404)
            return handler.answer(asked)

        return answer

    return change


def test_an_alert_whose_packet_alerce_has_lost_is_not_lost(alerts: list[Alert], tmp_path: Path):
    """It is written anew from its row and its stamps."""
    lost = {"alerce_stamps": without("/get_avro")}
    with archive_of(alerts, tmp_path, handlers=lost) as (archive, _):
        packets = ask(archive, "alerce")
    assert {packet.publisher for packet in packets} == {"ALeRCE, re-encoded"}
    originals = [next(read_packets(alert.content)) for alert in alerts]
    by_number = {packet.candid: packet for packet in packets}
    for original in originals:
        found = by_number[original.candid]
        names = ("ra", "dec", "band", "positive", "magnitude", "rb", "drb")
        assert [getattr(found, n) for n in names] == [getattr(original, n) for n in names]
        assert found.mjd == pytest.approx(original.mjd, abs=1e-8)
    middles = alert_triplets([by_number[p.candid] for p in originals]).stamps[1:, :, 31, 31]
    np.testing.assert_array_equal(middles, alert_triplets(originals).stamps[1:, :, 31, 31])


@pytest.mark.parametrize(
    ("source", "service", "path"),
    [("alerce", "alerce_stamps", "/get_"), ("lasair", "lasair_stamps", "/lasair/static")],
)
def test_an_alert_without_stamps_stays_and_says_so(
    source: str, service: str, path: str, alerts: list[Alert], tmp_path: Path
):
    with archive_of(alerts, tmp_path, handlers={service: without(path)}) as (archive, _):
        packets = ask(archive, source)
    assert len(packets) == len(alerts)
    assert (alert_triplets(packets).bad_fraction == 1.0).all()


def test_the_tar_of_a_night_differs_from_its_checksum(alerts: list[Alert], tmp_path: Path):
    def change(handler: Handler) -> Handler:
        def answer(asked: Asked) -> Reply:
            reply = handler.answer(asked)
            if asked.path.endswith("MD5SUMS"):
                return Reply(b"0" * 32 + reply.content[32:], reply.content_type)
            return reply

        return answer

    with (
        archive_of(alerts, tmp_path, handlers={"ztf_alerts": change}) as (archive, _),
        pytest.raises(BadAnswerError, match=r"ztf_public_20250910\.tar\.gz: MD5 is"),
    ):
        ask(archive, "nightly")
    assert list(tmp_path.rglob("*.tar.gz")) == []
