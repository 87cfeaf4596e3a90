"""Ending runs whose process is gone.

A run that was killed stays STARTED for ever in Dagster's eyes, keeps its place among the concurrent
runs, and keeps its pool slots, so that later runs hang. The reaper marks such runs of this host as
failed and frees their slots. Runs that live, and runs of other hosts, are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from astrid_assets.storage.locks import forget_run, host, run_holder

__all__ = ["HOST_TAG", "KILLED_TAG", "PID_TAG", "reap", "run_tags"]

HOST_TAG = "astrid/host"
PID_TAG = "astrid/pid"
KILLED_TAG = "astrid/killed"

_ALIVE_ON_PAPER = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def run_tags() -> dict[str, str]:
    """Return the tags by which a run that this process starts can be told from others."""
    return {HOST_TAG: host(), PID_TAG: str(os.getpid())}


def reap(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs of this host as failed whose process is gone, and free the slots of all dead runs.

    Slots may also be held by runs that others have marked as failed: Dagster itself, when it sees the
    process that it launched end, leaves them for a minute or for ever.

    Returns
    -------
    list of str
        Identifiers of the runs that were ended.
    """
    ended = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(_ALIVE_ON_PAPER))):
        run = record.dagster_run
        if _is_dead(instance, run, record.create_timestamp.timestamp()):
            instance.report_run_failed(
                run, message="The process of the run is gone (killed); ended by the reaper."
            )
            instance.add_run_tags(run.run_id, {KILLED_TAG: "true"})
            forget_run(run.run_id)
            ended.append(run.run_id)
    _free_slots(instance)
    return ended


def _free_slots(instance: dg.DagsterInstance) -> None:
    """Free the concurrency slots of runs that have ended."""
    events = instance.event_log_storage
    if not events.supports_global_concurrency_limits:
        return
    for key in events.get_concurrency_keys():
        info = events.get_concurrency_info(key)
        for run_id in {holder.run_id for holder in (*info.claimed_slots, *info.pending_steps)}:
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                events.free_concurrency_slots_for_run(run_id)


def _is_dead(instance: dg.DagsterInstance, run: dg.DagsterRun, created: float) -> bool:
    """Tell whether it is certain that the process of a run is gone."""
    holder = run_holder(run.run_id)
    if holder is not None:
        return holder.host == host() and not holder.held and not _is_running(holder.pid, created)
    if HOST_TAG in run.tags:
        return run.tags[HOST_TAG] == host() and not _is_running(int(run.tags[PID_TAG]), created)
    if not _is_of_this_host(instance):
        return False
    pids = _pids(instance, run.run_id)
    return bool(pids) and not any(_is_running(pid, created) for pid in pids)


def _is_of_this_host(instance: dg.DagsterInstance) -> bool:
    """Tell whether all runs of an instance are of this host: its database is a file beside it."""
    from dagster._core.storage.runs.sqlite import SqliteRunStorage

    return isinstance(instance.run_storage, SqliteRunStorage)


def _pids(instance: dg.DagsterInstance, run_id: str) -> list[int]:
    """Return the processes that the engine events of a run name."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    return list(_pids_of(r.event_log_entry.dagster_event for r in records))


def _pids_of(events: Iterable[dg.DagsterEvent | None]) -> Iterable[int]:
    for event in events:
        metadata = getattr(event.event_specific_data, "metadata", {}) if event is not None else {}
        text = getattr(metadata.get("pid"), "value", None)
        if text is not None and str(text).isdigit():
            yield int(text)


def _is_running(pid: int, created: float) -> bool:
    """Tell whether the process of a run runs: it is there, and no later one that got its number."""
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid) and not _started_after(pid, created)


def _is_zombie(pid: int) -> bool:
    return _stat(pid)[:1] == ["Z"]


def _started_after(pid: int, created: float) -> bool:
    """Tell whether a process is younger than a run by more than the time that starting one takes."""
    stat = _stat(pid)
    if not stat:
        return False
    ticks = int(stat[19]) / os.sysconf("SC_CLK_TCK")
    boot = next(
        float(line.split()[1])
        for line in Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime")
    )
    return boot + ticks > created + _START_SECONDS


_START_SECONDS = 600.0
"""Longest time between the creation of a run and the start of its process."""


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` from the state on; empty where there is no such file."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
