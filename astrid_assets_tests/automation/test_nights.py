"""Ten nights by the real scheduler, release sensor and run queue: each does its own exposures, no others."""

from __future__ import annotations

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
FIELDS = {
    "low": {"more": "  priority: 1\n"},
    "middle": {"ra": 240.0, "dec": 55.0, "more": "  priority: 2\n"},
    "high": {"ra": 300.0, "dec": 68.0, "more": "  priority: 3\n"},
}
"""Far apart, so that a release can be split."""

RELEASE_FROM = NIGHTS[7]
"""Night from which the release sensor is on: each of its runs executes a notebook."""

PER_EXPOSURE = [a for a in EXPOSURE_ASSETS if a not in {"observations", "references"}]


def new_rows(service: Daemon, run: dg.DagsterRun) -> dict[str, int]:
    """Return how many rows each asset of a run worked on."""
    events = [e.dagster_event for e in service.instance.all_logs(run.run_id) if e.dagster_event]
    return {asset: metadata["n_new"] for asset, metadata in materializations(events).items()}


def of_the_night(asset: str, sky_field: str, after: datetime, until: datetime) -> int:
    """Return how many exposures of an asset ended between two moments."""
    start, end = (parse_time(moment.isoformat()) for moment in (after, until))
    return sum(start < r["mjd_end"] <= end for r in Store().manifest(asset, sky_field).to_pylist())


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
    install(*(tiny_field(n, epochs=None, start="2025-09-06", **options) for n, options in FIELDS.items()))
    before, new_nights, releases = FIRST - timedelta(days=30), 0, 0
    with daemon() as service:
        service.start(FIRST - timedelta(hours=12), schedules=("nightly",))
        for now in NIGHTS:
            if now == RELEASE_FROM:
                service.start(now - timedelta(hours=12), sensors=("release_when_quiet",))
            pin_simulated_clock(parse_time(now.isoformat()))
            runs = service.tick(now)
            assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
            of_fields = [run for run in runs if run.job_name == FIELD_JOB]
            assert [run.tags[PARTITION_TAG] for run in of_fields] == ["high", "middle", "low"]
            new = {run.tags[PARTITION_TAG]: new_rows(service, run) for run in of_fields}
            for name, counts in new.items():
                expected = {asset: of_the_night(asset, name, before, now) for asset in PER_EXPOSURE}
                assert {asset: counts[asset] for asset in PER_EXPOSURE} == expected
            # one release after the fields, where there is something that the last one did not have
            something = any(n for counts in new.values() for n in counts.values())
            due = now >= RELEASE_FROM and (something or not releases)
            assert [run.job_name for run in runs[len(of_fields) :]] == [RELEASE_JOB] * due
            new_nights, releases, before = new_nights + something, releases + due, now
    assert new_nights >= 4
    assert releases >= 2
    nightly, released = digests(), release()

    monkeypatch.setenv("ASTRID_DATA", str(tmp_path / "clean"))
    summary = run_fields(list(FIELDS))
    assert summary.ok, [f.error for f in summary.fields]
    assert digests() == nightly
    assert release() == released
