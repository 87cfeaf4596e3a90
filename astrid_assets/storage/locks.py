"""Locks that the kernel frees when their holder dies: one a field, one for the release, one a run.

A lock is an exclusive ``flock`` on a file below ``$DAGSTER_HOME/locks``; the file says who holds
it. The lock of a run exists so that others can tell whether the process of the run still lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from astrid_assets.errors import FieldBusyError
from astrid_assets.home import dagster_home

__all__ = [
    "Holder",
    "field_lock",
    "forget_run",
    "host",
    "locks_folder",
    "release_lock",
    "run_holder",
    "run_lock",
]


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, or held it last."""

    host: str
    pid: int
    run_id: str = ""
    held: bool = False


def locks_folder() -> Path:
    """Return the folder of the lock files."""
    return dagster_home() / "locks"


def host() -> str:
    """Return the name of this machine, as it stands in lock files and run tags."""
    return platform.node()


@contextmanager
def field_lock(sky_field: str, *, run_id: str = "") -> Iterator[None]:
    """Hold the lock of a field; nobody else processes it meanwhile.

    Raises
    ------
    FieldBusyError
        Another process, or another run of this one, holds it.
    """
    with _work_lock(f"field-{sky_field}", f"field {sky_field} is being processed", run_id):
        yield


@contextmanager
def release_lock(*, run_id: str = "") -> Iterator[None]:
    """Hold the lock of the release; nobody else makes one meanwhile.

    Raises
    ------
    FieldBusyError
        Another process, or another run of this one, holds it.
    """
    with _work_lock("release", "a release is being made", run_id):
        yield


@contextmanager
def _work_lock(name: str, what: str, run_id: str) -> Iterator[None]:
    path = locks_folder() / f"{name}.lock"
    with _lock(path, run_id) as got:
        if not got:
            holder = _read(path)
            who = (
                f"run {holder.run_id[:8]}, process {holder.pid} on {holder.host}" if holder else "another run"
            )
            msg = f"{what} by {who}; start again when that has ended"
            raise FieldBusyError(msg)
        yield


@contextmanager
def run_lock(run_id: str) -> Iterator[None]:
    """Show, as long as the block lasts, that the process of a run lives."""
    path = _run_path(run_id)
    with _lock(path, run_id) as got:
        yield
        if got:
            path.unlink(missing_ok=True)


def run_holder(run_id: str) -> Holder | None:
    """Return who holds the lock of a run, or held it last; None if it never had one or has ended.

    `Holder.held` tells whether the lock is held now; it is only meaningful on the holder's host.
    """
    path = _run_path(run_id)
    holder = _read(path)
    if holder is None or holder.host != host():
        return holder
    return Holder(holder.host, holder.pid, holder.run_id, held=_is_held(path))


def forget_run(run_id: str) -> None:
    """Remove the lock file that a dead run left behind."""
    _run_path(run_id).unlink(missing_ok=True)


def _run_path(run_id: str) -> Path:
    return locks_folder() / "runs" / f"{run_id}.lock"


@contextmanager
def _lock(path: Path, run_id: str) -> Iterator[bool]:
    """Try to lock a file; yield whether that worked, and free it at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        stream.truncate(0)
        stream.write(json.dumps(asdict(Holder(host(), os.getpid(), run_id))))
        stream.flush()
        yield True


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _is_held(path: Path) -> bool:
    try:
        with path.open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
