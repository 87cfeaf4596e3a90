"""Ten nights by the real scheduler, release sensor and run queue: each does its own exposures, no others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from astrid_assets.automation.events import materializations
from astrid_assets.automation.jobs import FIELD_JOB, RELEASE_JOB
from astrid_assets.automation.resources import PARTITION_TAG
from astrid_assets.automation.runs import run_fields
from astrid_assets.clock import parse_time, pin_simulated_clock
from astrid_assets.storage.layout import ASSETS, EXPOSURE_ASSETS, RELEASE_FOLDERS
from astrid_assets.storage.manifest import manifest_digest
from astrid_assets.storage.store import Store
from astrid_assets_tests.automation.daemon import Daemon, daemon
from astrid_assets_tests.tiny import install, tiny_field

pytestmark = [pytest.mark.service, pytest.mark.slow]

FIRST = datetime(2025, 9, 8, 2, 0, 5, tzinfo=UTC)
"""Moment at which the daemon looks at its schedules in the first night."""

NIGHTS = [FIRST + timedelta(days=n) for n in range(10)]
FIELDS = ("low", "high")
PER_EXPOSURE = [a for a in EXPOSURE_ASSETS if a not in {"observations", "references"}]


def night_after_night(service: Daemon) -> Iterator[tuple[datetime, list[dg.DagsterRun]]]:
    """Yield what the daemon ran in each night."""
    for now in NIGHTS:
        pin_simulated_clock(parse_time(now.isoformat()))
        yield now, service.tick(now)


def new_rows(service: Daemon, run: dg.DagsterRun) -> dict[str, int]:
    """Return how many rows each asset of a run worked on."""
    events = [e.dagster_event for e in service.instance.all_logs(run.run_id) if e.dagster_event]
    return {asset: metadata["n_new"] for asset, metadata in materializations(events).items()}


def taken(sky_field: str, after: datetime, until: datetime) -> int:
    """Return how many selected science exposures of a field ended between two moments."""
    rows = Store().manifest("observations", sky_field).to_pylist()
    start, end = (parse_time(moment.isoformat()) for moment in (after, until))
    chosen = [r for r in rows if r["status"] == "selected" and r["role"] == "science"]
    return sum(start < r["mjd_end"] <= end for r in chosen)


def digests() -> dict[tuple[str, str], str]:
    store = Store()
    return {
        (asset, name): manifest_digest(store.manifest(asset, name)) for asset in ASSETS for name in FIELDS
    }


def release() -> bytes:
    """Return the file that names the latest release."""
    return Store().path(RELEASE_FOLDERS["training_release"], "latest.json").read_bytes()


def test_ten_nights_end_where_one_clean_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ASTRID_WORKERS", "1")
    install(
        tiny_field("low", epochs=None, start="2025-09-06", more="  priority: 1\n"),
        tiny_field("high", epochs=None, start="2025-09-06", seed=4, more="  priority: 2\n"),
    )
    with daemon() as service:
        service.start(FIRST - timedelta(hours=12), schedules=("nightly",), sensors=("release_when_quiet",))
        before = FIRST - timedelta(days=30)
        for now, runs in night_after_night(service):
            assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
            of_fields = [run for run in runs if run.job_name == FIELD_JOB]
            assert [run.tags[PARTITION_TAG] for run in of_fields] == ["high", "low"]
            worked = False
            for run in of_fields:
                new = new_rows(service, run)
                expected = taken(run.tags[PARTITION_TAG], before, now)
                assert {asset: new[asset] for asset in PER_EXPOSURE} == dict.fromkeys(PER_EXPOSURE, expected)
                worked |= any(new.values())
            # one release a night that brought something, after the fields; none in a night of clouds
            assert [run.job_name for run in runs[len(of_fields) :]] == [RELEASE_JOB] * worked
            before = now
    nightly, released = digests(), release()

    monkeypatch.setenv("ASTRID_DATA", str(tmp_path / "clean"))
    summary = run_fields(FIELDS)
    assert summary.ok, [f.error for f in summary.fields]
    assert digests() == nightly
    assert release() == released
