"""How often and how many at a time a service is asked, over all processes that share a store.

Concurrency is a number of slot files, each held by an exclusive ``flock`` as long as a request lasts:
the kernel frees it when a process dies. Starts are reserved in a small file, one after the other.
Only the first in the queue of a service looks for a free slot; it sleeps until somebody frees one.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from astrid_assets.archives.transport.clock import Clock

__all__ = ["Limits", "locked"]

_LONGEST_REST = 86400.0
"""Seconds; a service that asks for more is asked again the next day."""

_LOOK_AGAIN = 0.5
"""Seconds after which the first in the queue looks for slots of processes that died without a word."""


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold an exclusive lock on a file as long as the block lasts; yield its descriptor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        _free(descriptor)


def _free(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for children that were forked meanwhile
    os.close(descriptor)


class Limits:
    """Turns at services.

    Parameters
    ----------
    folder
        Where the lock files are.

    clock
        What time it is.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    @contextmanager
    def slot(self, service: str, *, parallel: int) -> Iterator[None]:
        """Take one of the places at a service as long as the block lasts; wait for it if need be.

        Parameters
        ----------
        service
            Name of the service.

        parallel
            Number of places.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder / f"{service}.queue"):
            descriptor = self._wait_for_slot(service, parallel)
        try:
            yield
        finally:
            _free(descriptor)
            self._tell(service)

    def start(self, service: str, *, per_second: float, parallel: int, longest_wait: float) -> float:
        """Reserve the next start at a service and wait for it.

        Parameters
        ----------
        service
            Name of the service.

        per_second
            Most starts in a second.

        parallel
            Number of places: nobody reserves further ahead.

        longest_wait
            Seconds that one waits at most where the service has asked to be left alone.

        Returns
        -------
        float
            Seconds for which the service is still to be left alone; 0 where one may start.
        """
        with locked(self._folder / f"{service}.starts") as descriptor:
            now = self._clock.now()
            upcoming, rest = _read(descriptor)
            free = max(now, rest) if rest <= now + _LONGEST_REST else now
            if free - now > longest_wait:
                return free - now
            if upcoming > free + (parallel + 1) / per_second:
                upcoming = free  # nobody reserves so far ahead: the clock has been set back
            begin = max(free, upcoming)
            _write(descriptor, begin + 1 / per_second, rest)
        if begin > now:
            self._clock.sleep(begin - now)
        return 0.0

    def rest(self, service: str, seconds: float) -> None:
        """Let all processes leave a service alone for some seconds, as it asked."""
        with locked(self._folder / f"{service}.starts") as descriptor:
            upcoming, rest = _read(descriptor)
            until = self._clock.now() + min(seconds, _LONGEST_REST)
            _write(descriptor, upcoming, max(rest, until))

    def _wait_for_slot(self, service: str, parallel: int) -> int:
        """Return the locked descriptor of a free slot. Only the first in the queue is here."""
        bell = self._bell(service)
        poll = select.poll()  # unlike select() at ease with many open files
        poll.register(bell, select.POLLIN)
        try:
            while True:
                for number in range(parallel):
                    descriptor = _try(self._folder / f"{service}.slot{number}")
                    if descriptor is not None:
                        return descriptor
                poll.poll(_LOOK_AGAIN * 1000)
                with suppress(BlockingIOError):
                    os.read(bell, 4096)
        finally:
            os.close(bell)

    def _tell(self, service: str) -> None:
        """Wake the first in the queue."""
        bell = self._bell(service)
        try:
            with suppress(BlockingIOError):  # full: enough was said
                os.write(bell, b".")
        finally:
            os.close(bell)

    def _bell(self, service: str) -> int:
        path = self._folder / f"{service}.bell"
        with suppress(FileExistsError):
            os.mkfifo(path)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK)


def _try(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _read(descriptor: int) -> tuple[float, float]:
    """Return the next free start and the end of the rest; zeros if the file says nothing."""
    try:
        upcoming, rest = map(float, os.pread(descriptor, 100, 0).split())
    except ValueError:
        return 0.0, 0.0
    return upcoming, rest


def _write(descriptor: int, upcoming: float, rest: float) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{upcoming:.6f} {rest:.6f}\n".encode(), 0)
