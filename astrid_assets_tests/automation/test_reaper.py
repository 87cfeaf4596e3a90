"""Dead runs are ended and their slots freed; live ones and those of other hosts are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.utils import make_new_run_id

from astrid_assets.automation.reaper import HOST_TAG, PID_TAG, reap, run_tags
from astrid_assets.home import dagster_home
from astrid_assets.storage.locks import host, locks_folder, release_lock, run_lock

STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    (dagster_home() / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def dead_pid() -> int:
    """The number of a process that has ended."""
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


def started(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    run = dg.DagsterRun(job_name="field", run_id=make_new_run_id(), status=STARTED, tags=tags)
    return instance.add_run(run)


def tell_pid(instance: dg.DagsterInstance, run: dg.DagsterRun, pid: int) -> None:
    """Report what Dagster reports when the process of a run starts."""
    instance.report_engine_event("Started process for run", run, EngineEventData.in_process(pid))


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    return instance.get_run_by_id(run.run_id).status


def lock_of(run: dg.DagsterRun, *, pid: int, at: str) -> None:
    path = locks_folder() / "runs" / f"{run.run_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"host": "{at}", "pid": {pid}, "run_id": "{run.run_id}", "held": false}}')


def test_a_run_that_left_its_lock_behind_is_ended_and_its_slots_are_freed(
    instance: dg.DagsterInstance, dead_pid: int
):
    run = started(instance)
    lock_of(run, pid=dead_pid, at=host())
    events = instance.event_log_storage
    events.set_concurrency_slots("archive", 1)
    assert events.claim_concurrency_slot("archive", run.run_id, "science_images").is_claimed
    assert reap(instance) == [run.run_id]
    assert status(instance, run) == dg.DagsterRunStatus.FAILURE
    assert events.get_concurrency_info("archive").active_slot_count == 0
    assert not list((locks_folder() / "runs").iterdir())
    assert reap(instance) == []


def test_a_release_that_was_killed_is_ended_like_any_run(instance: dg.DagsterInstance, dead_pid: int):
    """The kernel has freed its lock; the next release can begin."""
    run = dg.DagsterRun(job_name="release", run_id=make_new_run_id(), status=STARTED)
    instance.add_run(run)
    lock_of(run, pid=dead_pid, at=host())
    assert reap(instance) == [run.run_id]
    with release_lock(run_id="next"):
        assert not list((locks_folder() / "runs").iterdir())


def test_slots_of_a_run_that_dagster_itself_saw_fail_are_freed(instance: dg.DagsterInstance):
    dead, alive = started(instance), started(instance, **run_tags())
    events = instance.event_log_storage
    events.set_concurrency_slots("archive", 2)
    for run in (dead, alive):
        assert events.claim_concurrency_slot("archive", run.run_id, "science_images").is_claimed
    instance.report_run_failed(dead)
    assert reap(instance) == []
    assert {slot.run_id for slot in events.get_concurrency_info("archive").claimed_slots} == {alive.run_id}


def test_a_run_killed_before_it_took_its_lock_is_known_by_its_tags(
    instance: dg.DagsterInstance, dead_pid: int
):
    run = started(instance, **{HOST_TAG: host(), PID_TAG: str(dead_pid)})
    assert reap(instance) == [run.run_id]


def test_a_launched_run_killed_before_it_took_its_lock_is_known_by_its_engine_event(
    instance: dg.DagsterInstance, dead_pid: int
):
    run = started(instance)
    assert reap(instance) == []
    tell_pid(instance, run, dead_pid)
    assert reap(instance) == [run.run_id]


def test_a_run_whose_process_lives_is_left_alone(instance: dg.DagsterInstance):
    tagged = started(instance, **run_tags())
    told = started(instance)
    tell_pid(instance, told, os.getpid())
    locked = started(instance)
    with run_lock(locked.run_id):
        assert reap(instance) == []
    assert {status(instance, run) for run in (tagged, told, locked)} == {STARTED}


def test_a_run_of_another_host_is_left_alone(instance: dg.DagsterInstance, dead_pid: int):
    tagged = started(instance, **{HOST_TAG: "elsewhere", PID_TAG: str(dead_pid)})
    locked = started(instance)
    lock_of(locked, pid=dead_pid, at="elsewhere")
    assert reap(instance) == []
    assert {status(instance, run) for run in (tagged, locked)} == {STARTED}
