"""The nightly schedule: one run of each enabled field, by priority; stopped until switched on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from astrid_assets.automation.schedules import NIGHTLY_CRON, PRIORITY_TAG, nightly, nightly_cron
from astrid_assets.definitions import defs
from astrid_assets.errors import ConfigurationError
from astrid_assets.home import dagster_home

FIELD = "{ra: 265.0, dec: 62.0, radius: 0.1, archives: [%s], enabled: %s, priority: %s}"
TWO = datetime(2025, 9, 17, 2, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    (dagster_home() / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.get() as instance:
        yield instance


def register(**fields: str) -> None:
    text = "".join(f"{name}: {FIELD % tuple(options.split())}\n" for name, options in fields.items())
    (dagster_home() / "fields.yaml").write_text(text)


def tick(instance: dg.DagsterInstance) -> dg.ScheduleExecutionData:
    """Evaluate the schedule the way the daemon does: partitions are looked up, tags are set."""
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=TWO, repository_def=defs.get_repository_def()
    )
    return nightly.evaluate_tick(context)


def test_one_run_of_each_enabled_field_by_priority(instance: dg.DagsterInstance):
    register(
        low="simulated true -1",
        first="simulated true 5",
        off="simulated false 9",
        middle="simulated true 0",
    )
    requests = tick(instance).run_requests
    assert [r.partition_key for r in requests] == ["first", "middle", "low"]
    assert [r.run_key for r in requests] == [f"2025-09-17T02:00-{n}" for n in ("first", "middle", "low")]
    assert [r.tags[PRIORITY_TAG] for r in requests] == ["5", "0", "-1"]
    assert [r.tags["dagster/partition"] for r in requests] == ["first", "middle", "low"]
    assert set(instance.get_dynamic_partitions("sky_field")) == {"first", "middle", "low"}


def test_a_registry_without_anything_to_run_says_so(instance: dg.DagsterInstance):
    register(off="simulated false 0", later="mast false 0")
    assert "no field of the registry is enabled" in tick(instance).skip_message


def test_it_is_stopped_until_switched_on_and_runs_at_two():
    assert nightly.default_status == dg.DefaultScheduleStatus.STOPPED
    assert (nightly.cron_schedule, nightly.execution_timezone) == (NIGHTLY_CRON, "UTC")
    assert NIGHTLY_CRON == "0 2 * * *"


def test_the_hour_can_be_moved(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ASTRID_NIGHTLY_CRON", "30 14 * * 1-5")
    assert nightly_cron() == "30 14 * * 1-5"
    monkeypatch.setenv("ASTRID_NIGHTLY_CRON", "at two")
    with pytest.raises(ConfigurationError, match="ASTRID_NIGHTLY_CRON: 'at two' is no cron expression"):
        nightly_cron()
