"""The instance of a program is the one of the UI, only opened with less waiting."""

from __future__ import annotations

import sqlite3

import dagster as dg
from dagster._core.storage.event_log.sqlite import sqlite_event_log

from astrid_assets.automation.instance import open_instance
from astrid_assets.home import dagster_home


@dg.asset
def something() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"n": 3})


def test_what_a_program_stores_is_what_the_ui_reads():
    (dagster_home() / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with open_instance() as instance:
        run_id = dg.materialize([something], instance=instance).run_id
    with dg.DagsterInstance.get() as instance:
        assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.SUCCESS
        record = instance.fetch_materializations(dg.AssetKey("something"), limit=1).records[0]
        assert record.asset_materialization.metadata["n"].value == 3


def test_another_process_can_write_at_the_same_time():
    """The connections that are kept open hold no lock."""
    with open_instance() as instance:
        instance.add_dynamic_partitions("sky_field", ["a"])
        file = dagster_home() / "history" / "runs" / "index.db"
        with sqlite3.connect(file, timeout=0.1) as other:
            other.execute("CREATE TABLE other (x)")
        instance.add_dynamic_partitions("sky_field", ["b"])
        assert instance.get_dynamic_partitions("sky_field") == ["a", "b"]


def test_dagster_is_left_as_it_was():
    before = sqlite_event_log.create_engine
    with open_instance():
        assert sqlite_event_log.create_engine is not before
    assert sqlite_event_log.create_engine is before
