"""Failed runs are told about, whoever started them."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from astrid_assets.automation.events import failed_checks
from astrid_assets.automation.failures import failure_log, record_failure
from astrid_assets.automation.instance import open_instance
from astrid_assets.automation.runs import run_fields
from astrid_assets_tests.automation.daemon import daemon
from astrid_assets_tests.tiny import install

LOST = "lost: {ra: 1.0, dec: 1.0, radius: 0.1, archives: [local], local: {folder: nowhere}}\n"
NOON = datetime(2025, 9, 17, 12, tzinfo=UTC)


def lines() -> list[dict]:
    return [json.loads(line) for line in failure_log().read_text().splitlines()]


def test_a_failed_run_is_one_line_whoever_started_it():
    """A run of a program, as `astrid run` makes them, belongs to no code location."""
    install(LOST)
    with daemon() as service:
        service.tick(NOON)  # the sensor begins with what fails from now on; the field's first run does
        assert not failure_log().exists()
        summary = run_fields(["lost"], workers=1)
        service.tick(datetime.now(UTC) + timedelta(minutes=1))
    told = next(line for line in lines() if line["run_id"] == summary.fields[0].run_id)
    assert (told["job"], told["field"]) == ("field", "lost")
    assert told["error"] == summary.fields[0].error
    assert "nowhere is not there" in told["error"]
    assert (told["failed_checks"], told["failed_exposures"]) == ([], {})


def test_each_line_goes_to_the_command_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install(LOST)
    got = tmp_path / "got"
    code = f"import pathlib, sys; pathlib.Path({str(got)!r}).write_text(sys.stdin.read())"
    monkeypatch.setenv("ASTRID_ON_FAILURE", shlex.join([sys.executable, "-c", code]))
    run_id = run_fields(["lost"], workers=1).fields[0].run_id
    with open_instance() as instance:
        told = record_failure(instance, instance.get_run_by_id(run_id))
    assert json.loads(got.read_text()) == told == lines()[0]


def test_failed_checks_are_named_and_warnings_are_not():
    @dg.asset(check_specs=[dg.AssetCheckSpec(name, asset="stars") for name in ("many", "sharp", "round")])
    def stars():
        for name, passed, severity in (
            ("many", False, "ERROR"),
            ("sharp", False, "WARN"),
            ("round", True, "ERROR"),
        ):
            yield dg.AssetCheckResult(
                passed=passed, check_name=name, severity=dg.AssetCheckSeverity(severity)
            )
        yield dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([stars], instance=instance)
    assert failed_checks(result.all_events) == ["stars:many"]
