"""The worker pool: outcomes as they come, one bad exposure does not spoil the others."""

from __future__ import annotations

import math
import multiprocessing
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from astrid_assets.compute import default_workers, executor, run_exposures, shut_down


@pytest.fixture(autouse=True)
def _no_pool_left() -> Iterator[None]:
    yield
    shut_down()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_is_the_outcome_of_its_task_alone(workers: int):
    outcomes = {o.task: o for o in run_exposures(math.sqrt, [4.0, -1.0, 9.0], workers=workers)}
    assert outcomes[4.0].result == 2.0
    assert outcomes[9.0].result == 3.0
    assert isinstance(outcomes[-1.0].error, ValueError)


def test_a_worker_that_dies_takes_only_its_own_task_with_it():
    deadly = "__import__('os')._exit(3)"
    outcomes = list(run_exposures(eval, ["1", deadly, "2", "3"], workers=2))
    assert {o.task: o.result for o in outcomes if o.error is None} == {"1": 1, "2": 2, "3": 3}
    assert [o.task for o in outcomes if o.error is not None] == [deadly]


def test_the_pool_stays_the_same_until_another_size_is_asked_for():
    first = executor(2)
    assert executor(2) is first
    assert executor(3) is not first


def test_workers_compute_with_one_thread_each():
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    assert [o.result for o in run_exposures(os.getenv, names, workers=2)] == ["1"] * 3


def test_workers_do_not_outlive_the_process_that_started_them():
    code = (
        "import os\n"
        "from astrid_assets.compute import executor\n"
        "pool = executor(2)\n"
        "print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)\n"
        "input()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    workers = [int(pid) for pid in process.stdout.readline().split()]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert workers
    assert all(_ends(pid) for pid in workers)


def _ends(pid: int, *, within_ms: int = 10_000) -> bool:
    """Wait for the end of a process that is not a child of this one."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    ended = bool(poll.poll(within_ms))
    os.close(handle)
    return ended


def test_a_process_that_multiprocessing_started_ends_with_its_workers():
    """Dagster launches runs in such processes; they must not wait for their own workers for ever."""
    # enough to do that both workers are there when it ends
    work = (
        "list(__import__('astrid_assets.compute').compute."
        "run_exposures(eval, ['sum(range(10**6))'] * 100, workers=2))"
    )
    process = multiprocessing.get_context("spawn").Process(target=eval, args=(work,))
    process.start()
    process.join(60)
    ended = process.exitcode
    process.kill()
    assert ended == 0


def test_the_number_of_workers_comes_from_the_environment_or_the_machine(monkeypatch: pytest.MonkeyPatch):
    assert default_workers() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("ASTRID_WORKERS", "7")
    assert default_workers() == 7
