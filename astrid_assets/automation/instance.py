"""The persistent Dagster instance, opened by a program that runs many steps in one process."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from astrid_assets.home import dagster_home

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["open_instance", "quick_storage"]

_NO_CAPTURE = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
_QUIET = {"compute_logs": _NO_CAPTURE, "telemetry": {"enabled": False}}


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance of ``DAGSTER_HOME``, the one that the UI shows.

    Dagster's capture of what steps print is left out: it takes the terminal away from the progress bar
    and starts four processes a run.
    """
    import dagster as dg
    from dagster._core.instance import InstanceRef

    home = dagster_home()
    home.mkdir(parents=True, exist_ok=True)
    os.environ["DAGSTER_HOME"] = str(home)
    ref = InstanceRef.from_dir(str(home), overrides=_QUIET)
    with quick_storage(), dg.DagsterInstance.from_ref(ref) as instance:
        yield instance


@contextmanager
def quick_storage() -> Iterator[None]:
    """Let Dagster's SQLite storage do without what costs a program of many runs most of its time."""
    with _few_disk_flushes(), _kept_engines():
        yield


@contextmanager
def _few_disk_flushes() -> Iterator[None]:
    """Keep SQLite from waiting for the disk at every event.

    Dagster opens and closes a connection for every event; each close of the last connection makes
    SQLite flush its journal twice, about 40 ms an event on a busy disk. One more connection that
    stays open, and ``synchronous = NORMAL`` (which the SQLite manual recommends with a write-ahead
    log), leave that to the end. A killed process loses nothing by it, a power cut the last events.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    kept: dict[str, sqlite3.Connection] = {}

    def on_connect(connection: Any, _record: Any) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        connection.execute("PRAGMA synchronous = NORMAL")
        file = connection.execute("PRAGMA database_list").fetchone()[2]
        journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if file and journal == "wal" and file not in kept:
            kept[file] = sqlite3.connect(file, check_same_thread=False)
            kept[file].execute("SELECT count(*) FROM sqlite_master").fetchone()

    event.listen(Engine, "connect", on_connect)
    try:
        yield
    finally:
        event.remove(Engine, "connect", on_connect)
        for connection in kept.values():
            connection.close()


@contextmanager
def _kept_engines() -> Iterator[None]:
    """Let Dagster's SQLite storage use the engine of a database again.

    It makes a new one for every event, and with it compiles every statement anew: a third of the CPU
    time of a run that has nothing to do.
    """
    from dagster._core.storage.event_log.sqlite import sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage

    with ExitStack() as stack:
        for module in (sqlite_event_log, sqlite_run_storage):
            if hasattr(module, "create_engine"):
                original = module.create_engine
                module.create_engine = _remembering(original)
                stack.callback(setattr, module, "create_engine", original)
        yield


def _remembering(create_engine: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes one engine for each database."""
    engines: dict[str, Any] = {}

    def engine(url: str, **options: Any) -> Any:
        if url not in engines:
            engines[url] = create_engine(url, **options)
        return engines[url]

    return engine
