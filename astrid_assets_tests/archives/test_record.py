"""Recording a field, and working from the recording alone."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

from astrid_assets.archives import open_archive
from astrid_assets.archives.offers import alert_questions, catalogue_questions, cutout_questions, fetch
from astrid_assets.archives.planning import exposure_of, plan
from astrid_assets.archives.recording import record_field
from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.server import Asked, Reply, StandIn
from astrid_assets.archives.standin.services import stand_in
from astrid_assets.archives.transport import Request, Transport, load_settings, with_changes
from astrid_assets.cli import main
from astrid_assets.errors import ArchiveUnavailableError, NoCoverageError
from astrid_assets.fields import get_field
from astrid_assets_tests.tiny import install, tiny_field

GRID = {"width": 0.1, "pixels": 32}


def selected(sky_field) -> list[dict]:
    """Return the exposures that a run of the field works on."""
    rows = plan(sky_field).table.to_pylist()
    return [row for row in rows if row["status"] == "selected" and not row["deferred"]]


def test_all_that_a_run_asks_for_is_asked_for(tmp_path):
    """Every exposure, catalogue, night and survey of a simulated field, each once."""
    install(tiny_field(side=128))
    sky_field, asked = get_field("tiny"), []
    settings = with_changes(load_settings(), store=tmp_path / "store", record=True)
    recorded = record_field(sky_field, settings, cutout_grid=GRID, on_answer=lambda *what: asked.append(what))
    rows = selected(sky_field)
    science = [row for row in rows if row["role"] == "science"]
    expected = [("images", row["exposure_id"]) for row in rows]
    for kind, questions in (
        ("catalogues", catalogue_questions(sky_field, science)),
        ("alerts", alert_questions(sky_field, science)),
        ("cutouts", cutout_questions(sky_field, science)),
    ):
        assert questions
        expected += [(kind, question.name) for question in questions]
    assert asked == expected
    assert sum(recorded.kept.values()) + len(recorded.nothing) == len(expected)
    assert recorded.complete


@pytest.fixture
def no_sockets(monkeypatch):
    """Let nobody connect to anything."""

    def refuse(*_where):
        raise AssertionError("somebody opened a connection")

    def block() -> None:
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "create_connection", refuse)

    return block


TABLE = Request("irsa", "/search", "search", "csv", query=(("POS", "1,2"),))
FORM = Request("mast", "/invoke", "search", "json", form=(("request", "{}"),))
FILE = Request("irsa", "/data/image.fits", "file", "fits")
MISSING = Request("irsa", "/data/none.fits", "file", "fits", nothing=frozenset({404}))
STATE = Request("mast", "/state", "status", "json")


def answer(asked: Asked) -> Reply:
    """Answer each of the requests above."""
    if asked.path == "/search":
        return Reply(f"pos\n{asked.value('POS')!r}\n".encode(), "text/csv")
    if asked.path == "/data/image.fits":
        out = io.BytesIO()
        fits.PrimaryHDU(np.arange(1e4, dtype=np.float32).reshape(100, 100)).writeto(out)
        return Reply(out.getvalue(), "application/fits")
    if asked.path == "/data/none.fits":
        return Reply(b"not here", "text/plain", 404)
    return Reply(json.dumps([asked.path, asked.form]).encode(), "application/json")


def everything(transport: Transport, folder: Path) -> list[bytes]:
    """Return all answers, and the contents of the file."""
    got = [transport.ask(request).content for request in (TABLE, FORM, STATE)]
    with pytest.raises(NoCoverageError):
        transport.download(MISSING, folder / "none.fits")
    return [*got, transport.download(FILE, folder / "image.fits").path.read_bytes()]


@pytest.mark.service
def test_replay_needs_no_socket_and_gives_the_same_bytes(tmp_path, no_sockets):
    """Searches, states, files and what is not there, recorded over HTTP."""
    store = tmp_path / "store"
    with StandIn({"irsa": answer, "mast": answer}) as standin:
        live = Transport.open(standin.services(), store, record=True)
        recorded = everything(live, tmp_path / "live")
    no_sockets()
    replayed = everything(Transport.open(store=store, mode="replay"), tmp_path / "replay")
    assert replayed == recorded
    assert standin.count("irsa") == 3


def test_replay_of_what_was_not_recorded_is_an_outage(tmp_path, no_sockets):
    """Never "nothing there": a field whose recording lacks something is marked failed."""
    no_sockets()
    with pytest.raises(ArchiveUnavailableError, match=r"irsa GET /search.*record it"):
        Transport.open(store=tmp_path, mode="replay").ask(TABLE)


FIELD = """\
place:
  ra: 210.8023
  dec: 54.349
  radius: 0.004
  archives: [ps1, skyview, catalogues]
  bands: [r]
  science_window: {start: 2014-01-01}
  reference_window: {end: 2011-12-31}
  ps1: {product: warp}
  skyview: {surveys: [DSS2 Red]}
  catalogues: {names: [gaia, skybot]}
"""


@pytest.fixture
def live(monkeypatch) -> Iterator[StandIn]:
    """Serve the archives that the installation knows, to clients in a hurry."""
    home = install(FIELD)
    monkeypatch.setenv("ASTRID_NOW", "2025-09-17")
    with stand_in() as standin:
        services = {name: {**at, "per_second": 1000.0} for name, at in standin.services().items()}
        (home / "archives.yaml").write_text(yaml.safe_dump({"services": services}))
        yield standin


def digests(sky_field, folder: Path) -> dict[str, str]:
    """Return checksums of all that a run of a field gets from its archives."""
    found = {}
    rows = selected(sky_field)
    for row in rows:
        place = folder / row["exposure_id"]
        files = open_archive(row["archive"], sky_field).download(exposure_of(row), place).files
        found |= {f"{row['exposure_id']} {role}": digest(path.read_bytes()) for role, path in files.items()}
    science = [row for row in rows if row["role"] == "science"]
    for question in catalogue_questions(sky_field, science):
        found[question.name] = digest(fetch(sky_field, question))
    for question in cutout_questions(sky_field, science):
        found[question.name] = digest(fetch(sky_field, question, **GRID))
    return found


def digest(content: bytes) -> str:
    """Return a checksum."""
    return hashlib.sha256(content).hexdigest()


def astrid(*words: str) -> int:
    """Call the command and return its status."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return stopped.value.code


@pytest.mark.service
def test_recorded_field_is_replayed_without_a_socket(live, tmp_path, monkeypatch, no_sockets):
    """The same exposures, files and catalogues as live, byte by byte."""
    frozen = tmp_path / "frozen"
    options = "  processing: {survey_cutouts: {width: 0.1, pixels: 32}}\n"
    install(FIELD + options)
    sky_field = get_field("place")
    expected = digests(sky_field, tmp_path / "live")
    assert astrid("record", "place", "--to", frozen) == 0
    asked = len(live.arrivals)
    no_sockets()
    monkeypatch.setenv("ASTRID_ARCHIVES", str(frozen / "archives.yaml"))
    monkeypatch.setenv("ASTRID_STORE", str(frozen / "store"))
    assert digests(sky_field, tmp_path / "replay") == expected
    assert len(live.arrivals) == asked
    assert {name.rpartition(" ")[2] for name in expected} >= {"image", "esa_gaia_dr3", "dss2_red"}


@pytest.mark.service
def test_what_could_not_be_had_is_told(live, tmp_path, capsys):
    """An archive that is down leaves a recording that says what it lacks; status 1."""
    home = Path(os.environ["DAGSTER_HOME"])
    settings = yaml.safe_load((home / "archives.yaml").read_text())
    with StandIn({"skyview": answer}, [Fault("unavailable", seconds=9999)]) as broken:
        settings["services"] |= broken.services()
        (home / "archives.yaml").write_text(yaml.safe_dump(settings))
        assert astrid("record", "place", "--to", tmp_path / "frozen", "--json") == 1
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [lack["name"] for lack in summary["lacking"]] == ["dss2_red"]
    assert summary["kept"]["images"] > 0
    assert summary["complete"] is False


def test_command_leaves_what_a_replay_needs(tmp_path, monkeypatch, capsys):
    """The configuration of the replay, and the time at which it was asked."""
    install(tiny_field(side=128))
    monkeypatch.setenv("ASTRID_NOW", "2025-09-17")
    with pytest.raises(SystemExit) as stopped:
        main(["record", "tiny", "--to", str(tmp_path / "frozen"), "--json"])
    *_, replay, summary = capsys.readouterr().out.strip().splitlines()
    config = tmp_path / "frozen" / "archives.yaml"
    assert stopped.value.code == 0
    store, now = f"ASTRID_STORE={config.parent / 'store'}", "ASTRID_NOW=2025-09-17T00:00:00"
    assert replay == f"replay: export ASTRID_ARCHIVES={config} {store} {now}"
    assert config.read_text() == "mode: replay\n"
    assert json.loads(summary)["complete"] is True
