"""The time that the transport reads and the waiting that it does, in one object that tests replace."""

from __future__ import annotations

import time

__all__ = ["Clock", "mjd_of"]

_MJD_OF_EPOCH = 40587.0  # MJD of 1970-01-01
_DAY = 86400.0


class Clock:
    """The clock of the machine: the same for all processes."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def mjd_of(seconds: float) -> float:
    """Return the MJD (UTC) of seconds since 1970."""
    return _MJD_OF_EPOCH + seconds / _DAY
