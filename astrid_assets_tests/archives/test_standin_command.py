"""`astrid standin` as its users call it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from astrid_assets.archives.standin.faults import HANDLER_MODES, LINE_MODES, Fault
from astrid_assets.archives.transport.settings import load_settings
from astrid_assets.cli import main
from astrid_assets.cli.standin import FAULT_SECONDS, read_fault
from astrid_assets.errors import ConfigurationError


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command as a process that a shell has put in the background."""
    deaf = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
    command = [*deaf, sys.executable, "-m", "astrid_assets.cli", "standin", *words]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.service
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_stopped(tmp_path, number):
    """The configuration that it writes leads to its services; the end is quiet, with a count."""
    config = tmp_path / "archives.yaml"
    with running("--write-config", str(config), "--fault", "unavailable@gaia") as process:
        first = process.stdout.readline()
        process.stdout.readline()
        services = load_settings(config).services
        gaia = requests.get(services["gaia"].base_url, timeout=10)
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
    assert first == f"export ASTRID_ARCHIVES={config}\n"
    assert {urlparts(settings.base_url) for settings in services.values()} == {urlparts(gaia.url)}
    assert (gaia.status_code, gaia.headers["Retry-After"]) == (503, f"{FAULT_SECONDS:g}")
    assert (process.returncode, rest, errors) == (0, "1 requests, 1 faults made\n", "")


def urlparts(url: str) -> str:
    """Return scheme and host of an address."""
    return url.rpartition("/")[0]


@pytest.mark.service
def test_without_a_file_it_prints_the_configuration():
    """Ready to be put beside fields.yaml."""
    with running() as process:
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert lines[0].startswith("# archives.yaml: put it beside fields.yaml")
    assert lines[1] == "services:\n"
    assert "base_url: http://127.0.0.1:" in lines[2]


def test_modes_are_listed(capsys):
    """Each with what happens."""
    with pytest.raises(SystemExit) as stopped:
        main(["standin", "--fault", "list"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(f"{mode} " in out and text in out for mode, text in {**LINE_MODES, **HANDLER_MODES}.items())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("html", Fault("html", seconds=FAULT_SECONDS)),
        ("html:0.1", Fault("html", share=0.1, seconds=FAULT_SECONDS)),
        ("hang@mast", Fault("hang", services=("mast",), seconds=FAULT_SECONDS)),
        ("drip:0.5@ps1", Fault("drip", share=0.5, services=("ps1",), seconds=FAULT_SECONDS)),
    ],
)
def test_faults_are_read(text, fault):
    """Mode, share and service."""
    assert read_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sulk", "fault 'sulk' does not exist"),
        ("html:much", "'much' is no share"),
        ("html:7", "share 7 is not"),
        ("clipped@gaia", "service gaia knows no fault clipped"),
    ],
)
def test_wrong_faults_are_refused(text, message):
    """In one line."""
    with pytest.raises(ConfigurationError, match=message):
        read_fault(text)
