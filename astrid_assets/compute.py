"""Where the per-exposure work runs: in this process, or in a pool of local processes.

The pool is started once and kept warm over assets and fields. Its workers are forked from a
clean server process that has imported the heavy libraries (never from this process, which has
threads and open files), compute with one thread each, and end themselves when this process dies.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.util
import os
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

__all__ = ["Outcome", "default_workers", "executor", "run_exposures", "shut_down", "warm_up"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_PRELOAD = ("astrid_assets.assets.recipes",)
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

_pools: dict[int, ProcessPoolExecutor] = {}
"""The pool of this process by its number of workers; never more than one."""


@dataclass(frozen=True)
class Outcome(Generic[Task, Result]):
    """What became of one task: a result, or the error that ended it."""

    task: Task
    result: Result | None = None
    error: BaseException | None = None


def default_workers() -> int:
    """Return the number of worker processes: ``ASTRID_WORKERS``, or the cores this process may use."""
    given = os.environ.get("ASTRID_WORKERS")
    if given:
        return max(1, int(given))
    cores = getattr(os, "sched_getaffinity", None)
    return len(cores(0)) if cores else os.cpu_count() or 1


def run_exposures(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int | None = None
) -> Iterator[Outcome[Task, Result]]:
    """Run a function on every task and yield the outcomes as they complete.

    An exception, or the death of a worker, is the outcome of the task that caused it; the others
    go on. No more tasks are handed out at a time than there are workers, so that a kill loses only
    the exposures in work.

    Parameters
    ----------
    function
        Defined at the top level of a module, so that it can be sent to a process.

    tasks
        What it is called with, one after the other; picklable.

    workers
        Number of processes; 1 runs everything in this process. Default is `default_workers`.
    """
    workers = workers or default_workers()
    if workers == 1:
        for task in tasks:
            yield _call(function, task)
        return
    yield from _run_in_pool(function, deque(tasks), workers)


def executor(workers: int | None = None) -> Executor:
    """Return the pool of worker processes; it is started where there is none of this size."""
    workers = workers or default_workers()
    if workers not in _pools:
        shut_down()
        _pools[workers] = _start(workers)
    return _pools[workers]


def warm_up(workers: int | None = None) -> None:
    """Let the server process import the libraries while this process does something else."""
    if (workers or default_workers()) > 1:
        _start_server()


def shut_down() -> None:
    """End the worker processes."""
    while _pools:
        _pools.popitem()[1].shutdown(wait=True, cancel_futures=True)


atexit.register(shut_down)
# a process that multiprocessing started (a run that Dagster launched) waits for its own children
# before anything of atexit: the workers have to be gone by then
multiprocessing.util.Finalize(None, shut_down, exitpriority=100)


def _call(function: Callable[[Task], Result], task: Task) -> Outcome[Task, Result]:
    from threadpoolctl import threadpool_limits

    try:
        # as in a worker process: the last bits of a matrix product depend on the number of threads
        with threadpool_limits(1, user_api="blas"):
            return Outcome(task, function(task))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this exposure
        return Outcome(task, error=error)


def _run_in_pool(
    function: Callable[[Task], Result], waiting: deque[Task], workers: int
) -> Iterator[Outcome[Task, Result]]:
    """Keep as many tasks in work as there are workers; find out which task kills its worker."""
    in_work: dict[Future[Result], Task] = {}
    try:
        while waiting or in_work:
            while waiting and len(in_work) < workers:
                task = waiting.popleft()
                in_work[executor(workers).submit(function, task)] = task
            done, _ = wait(in_work, return_when=FIRST_COMPLETED)
            if any(isinstance(f.exception(), BrokenProcessPool) for f in done):
                suspects = list(in_work.items())
                in_work = {}
                yield from _sort_out(function, suspects, workers)
                continue
            for future in done:
                yield _outcome(in_work.pop(future), future)
    finally:
        for future in in_work:
            future.cancel()


def _sort_out(
    function: Callable[[Task], Result], suspects: list[tuple[Future[Result], Task]], workers: int
) -> Iterator[Outcome[Task, Result]]:
    """Run those that were in work again, one at a time: a dead worker takes the whole pool with it."""
    shut_down()
    for future, task in suspects:
        if future.done() and not isinstance(future.exception(), BrokenProcessPool):
            yield _outcome(task, future)
            continue
        again = executor(workers).submit(function, task)
        wait([again])
        if isinstance(again.exception(), BrokenProcessPool):
            shut_down()
        yield _outcome(task, again)


def _outcome(task: Task, future: Future[Result]) -> Outcome[Task, Result]:
    error = future.exception()
    return Outcome(task, error=error) if error is not None else Outcome(task, future.result())


def _start(workers: int) -> ProcessPoolExecutor:
    """Start a pool; all its workers at once, so that none imports the program that was started."""
    context = _start_server()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    with _no_main_module():
        # a pool starts one worker for each task that finds none idle
        for _ in range(workers):
            pool.submit(_nothing)
    return pool


def _start_server() -> ForkServerContext:
    """Start the process that workers are forked from; returns before it has imported anything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOAD))
    with _one_thread():
        multiprocessing.forkserver.ensure_running()
    return context


def _nothing() -> None:
    """Be a task that makes the pool start a worker."""


def _begin() -> None:
    """Prepare a worker process: it must not outlive the process that started it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    """End this process when the other end of the pipe is gone, whatever it is doing."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes started in the block compute with one thread each."""
    before = {name: os.environ.get(name) for name in _THREAD_LIMITS}
    os.environ.update(dict.fromkeys(_THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Keep workers from importing the main module again (``multiprocessing`` does so by default).

    Tasks are functions of this package; importing a command line or Dagster's launcher would only
    cost each worker seconds.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
