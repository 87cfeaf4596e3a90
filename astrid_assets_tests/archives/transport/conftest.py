"""A clock that never waits, and a transport whose services are a stand-in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from astrid_assets.archives.standin.server import StandIn
from astrid_assets.archives.transport import Clock, Transport


class FakeClock(Clock):
    """Runs like the clock of the machine, but sleeping moves its hands instead."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._ahead = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            return time.time() + self._ahead

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self._ahead += seconds


FAST = {"per_second": 1e4, "parallel": 8, "read_timeout": 10.0}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def connect(tmp_path, clock) -> Callable[..., Transport]:
    """Make a transport to a stand-in; keywords are settings of all its services."""

    def make(standin: StandIn, *, store=None, mode=None, record=None, clock=clock, **settings) -> Transport:
        services = {name: {**FAST, **place, **settings} for name, place in standin.services().items()}
        return Transport.open(services, store or tmp_path / "store", mode=mode, record=record, clock=clock)

    return make
