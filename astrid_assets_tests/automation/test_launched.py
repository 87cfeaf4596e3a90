"""A run that the daemon launched, as the UI and the sensors do, is killed and taken up again."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from astrid_assets.automation.instance import open_instance
from astrid_assets.automation.runs import run_fields
from astrid_assets.storage.locks import locks_folder
from astrid_assets.storage.store import Store
from astrid_assets_tests.tiny import install, tiny_field


@pytest.fixture
def daemon() -> Iterator[subprocess.Popen]:
    """The Dagster daemon with its code server, in a process group of its own."""
    install(tiny_field(epochs=4))
    command = [
        str(Path(sys.executable).with_name("dagster-daemon")),
        "run",
        "-m",
        "astrid_assets.definitions",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(found: Callable[[], object], *, seconds: float = 120.0) -> object:
    """Look again and again until something is there."""
    again = threading.Event()
    for _ in range(int(seconds / 0.05)):
        value = found()
        if value:
            return value
        again.wait(0.05)
    pytest.fail("what was waited for did not happen")


def running() -> int | None:
    """Return the process of a launched run that has committed a first exposure."""
    for lock in (locks_folder() / "runs").glob("*.lock"):
        if list(Path(Store().root, "source_fits", "science").rglob("rows/*.json")):
            return json.loads(lock.read_text())["pid"]
    return None


def wait_for_end(pid: int) -> None:
    """Wait until a process that is not a child of this one has ended."""
    poll = select.poll()
    try:
        poll.register(os.pidfd_open(pid), select.POLLIN)
    except ProcessLookupError:
        return
    poll.poll(30_000)


@pytest.mark.service
@pytest.mark.slow
def test_a_launched_run_that_is_killed_is_taken_up_by_the_next(daemon: subprocess.Popen):
    """The sensor adds the field and starts its first run; SIGKILL in the middle; `run_fields` finishes."""
    pid = until(running)
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    os.killpg(daemon.pid, signal.SIGTERM)
    daemon.wait(30)
    before = {p: p.read_text() for p in Path(Store().root).rglob("rows/*.json")}

    summary = run_fields(["tiny"], workers=1)
    assert summary.ok, summary.fields[0].error
    assert {p: p.read_text() for p in before} == before
    with open_instance() as instance:
        alive = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED]
        assert instance.get_runs_count(dg.RunsFilter(statuses=alive)) == 0
        # the release of one small field is refused, which is a run of its own
        ended = dg.RunsFilter(job_name="field", statuses=[dg.DagsterRunStatus.FAILURE])
        assert instance.get_runs_count(ended) == 1
        assert instance.event_log_storage.get_concurrency_info("archive").active_slot_count == 0
