"""Dagster's own scheduler, sensors and run queue, at a clock that is moved on by hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg
from dagster._core.instance import InstanceRef
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs

from astrid_assets.automation.instance import quick_storage
from astrid_assets.home import dagster_home

__all__ = ["Daemon", "daemon"]

_LOG = logging.getLogger("daemon")
_IN_THIS_PROCESS = {
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    },
}


@dataclass
class Daemon:
    """Scheduler, sensors and run queue of `dagster-daemon`, one iteration at a time."""

    workspace: WorkspaceProcessContext
    iterations: dict = field(default_factory=dict)

    @property
    def instance(self) -> dg.DagsterInstance:
        return self.workspace.instance

    def start(self, now: datetime, *, schedules: tuple[str, ...] = (), sensors: tuple[str, ...] = ()) -> None:
        """Switch on, as a user does in the UI."""
        (location,) = self.workspace.create_request_context().code_locations
        repository = location.get_repository("__repository__")
        with freeze_time(now):
            for name in schedules:
                self.instance.start_schedule(repository.get_schedule(name))
            for name in sensors:
                self.instance.start_sensor(repository.get_sensor(name))

    def tick(self, now: datetime) -> list[dg.DagsterRun]:
        """Do what the daemon does at a moment; return the runs that it launched, in their order."""
        before = {run.run_id for run in self.instance.get_runs()}
        with freeze_time(now):
            list(launch_scheduled_runs(self.workspace, _LOG, now, self.iterations))
            self._dequeue()
            list(execute_sensor_iteration(self.workspace, _LOG, None, None))
            self._dequeue()
        return [run for run in reversed(self.instance.get_runs()) if run.run_id not in before]

    def _dequeue(self) -> None:
        """Launch what is queued; each run has ended when this returns."""
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as queue:
            while self.instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
                list(queue.run_iteration(self.workspace))


@contextmanager
def daemon() -> Iterator[Daemon]:
    """The daemon of the instance of ``DAGSTER_HOME``; runs are launched in this process."""
    ref = InstanceRef.from_dir(str(dagster_home()), overrides=_IN_THIS_PROCESS)
    origin = LoadableTargetOrigin(module_name="astrid_assets.definitions")
    target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(origin, location_name="astrid_assets"))
    with (
        quick_storage(),
        dg.DagsterInstance.from_ref(ref) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        yield Daemon(workspace)
