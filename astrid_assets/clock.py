"""What time it is: for schedules, for the simulated survey, for tests and replays.

Times are MJD (UTC). Leap seconds are left out, as in every calendar conversion of UTC to MJD.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from astrid_assets.errors import ConfigurationError
from astrid_assets.home import dagster_home

__all__ = [
    "DEMO_CLOCK",
    "from_mjd",
    "now_mjd",
    "parse_time",
    "pin_simulated_clock",
    "pinned_clock",
    "simulated_now",
]

DEMO_CLOCK = 60935.0
"""MJD (2025-09-17) at which the demo stands still, so that its numbers are the same on every date."""

_MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)
_CLOCK_FILE = "simulated_clock"


def parse_time(text: str) -> float:
    """Return the MJD (UTC) of an ISO date or time, or of an MJD written as a number.

    Raises
    ------
    ValueError
        The text is neither.
    """
    text = text.strip()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is neither an ISO date (2025-10-09, 2025-10-09T03:00:00) nor an MJD"
        raise ValueError(msg) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _MJD_ZERO) / timedelta(days=1)


def from_mjd(mjd: float) -> datetime:
    """Return the UTC time of an MJD."""
    return _MJD_ZERO + timedelta(days=mjd)


def now_mjd() -> float:
    """Return the time of ``ASTRID_NOW`` (ISO or MJD), or the real time, as MJD (UTC).

    Raises
    ------
    ConfigurationError
        ``ASTRID_NOW`` is not a time.
    """
    given = _given()
    return _real() if given is None else given


def simulated_now() -> float:
    """Return the time at which the simulated survey stands, as MJD (UTC).

    ``ASTRID_NOW`` comes first, then the clock that the demo pinned, then the real time.
    """
    given = _given()
    if given is not None:
        return given
    pinned = pinned_clock()
    return _real() if pinned is None else pinned


def pinned_clock() -> float | None:
    """Return where the clock of the simulated survey is pinned, as MJD (UTC); None where it is not.

    Raises
    ------
    ConfigurationError
        The file that holds it cannot be understood.
    """
    try:
        text = (dagster_home() / _CLOCK_FILE).read_text()
    except FileNotFoundError:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        msg = f"{dagster_home() / _CLOCK_FILE}: {error}; remove the file to go back to the real time"
        raise ConfigurationError(msg) from error


def pin_simulated_clock(mjd: float) -> None:
    """Let the simulated survey stand at an MJD (UTC) until it is pinned elsewhere."""
    home = dagster_home()
    home.mkdir(parents=True, exist_ok=True)
    part = home / f".{_CLOCK_FILE}.{os.getpid()}"
    part.write_text(f"{mjd:.6f}\n")
    part.replace(home / _CLOCK_FILE)


def _given() -> float | None:
    text = os.environ.get("ASTRID_NOW")
    if not text:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        msg = f"ASTRID_NOW: {error}"
        raise ConfigurationError(msg) from error


def _real() -> float:
    return (datetime.now(UTC) - _MJD_ZERO) / timedelta(days=1)
