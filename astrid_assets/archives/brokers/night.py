"""A night of ZTF, and what all of its sources are asked about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    from astrid_assets.archives.protocol import Cone

__all__ = ["Night", "asked_for", "parse_json", "shown", "within"]

_JD_ZERO = 2400000.5
"""Julian date of MJD 0."""


@dataclass(frozen=True)
class Night:
    """A night at Palomar. It lies in one day of UTC: there it is dark between 1 and 14 h UTC."""

    mjd: int
    """The day, MJD (UTC)."""

    @property
    def date(self) -> str:
        """The day, ``YYYYMMDD``."""
        from astrid_assets.clock import from_mjd

        return f"{from_mjd(self.mjd):%Y%m%d}"

    @property
    def jd(self) -> tuple[float, float]:
        """Begin and end of the day as Julian dates."""
        return self.mjd + _JD_ZERO, self.mjd + 1 + _JD_ZERO

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Header for questions that do not name the night themselves.

        No service reads it. It makes the question another one for each night: a list that was kept
        before the night was over is never taken for its answer.
        """
        return (("X-Night", self.date),)

    def holds(self, jd: float) -> bool:
        """Tell whether a Julian date lies in the night."""
        start, end = self.jd
        return start <= jd < end


def within(cone: Cone, ra: float, dec: float) -> bool:
    """Tell whether a position (ICRS degrees) lies in a circle."""
    from astrid_assets.fields import separation

    return separation(cone.ra, cone.dec, ra, dec) <= cone.radius


def asked_for(candidate: Mapping[str, Any], night: Night, cone: Cone) -> bool:
    """Tell whether an alert lies in a night and a circle.

    Parameters
    ----------
    candidate
        Its fields under the names of ZTF's schema.

    night, cone
        What was asked for.

    Raises
    ------
    BadAnswerError
        It has no time or no position.
    """
    try:
        jd, ra, dec = (float(candidate[name]) for name in ("jd", "ra", "dec"))
    except (LookupError, TypeError, ValueError) as error:
        raise BadAnswerError(f"an alert without time or position: {dict(candidate)}"[:200]) from error
    return night.holds(jd) and within(cone, ra, dec)


def shown(content: bytes) -> str:
    """Return the start of an answer on one line, for a message."""
    return " ".join(content[:200].decode("utf-8", "replace").split()) or "(empty)"


def parse_json(content: bytes, service: str, kind: type) -> Any:
    """Return an answer in JSON.

    Parameters
    ----------
    content
        The answer. ``NaN`` is taken as a number, though JSON knows none.

    service
        Who sent it, for the message.

    kind
        What has to be at its top: list or dict.

    Raises
    ------
    BadAnswerError
        It is no JSON, or something else is at its top.
    """
    try:
        document = json.loads(content)
    except ValueError as error:
        raise BadAnswerError(f"{service}: no JSON: {shown(content)}") from error
    if not isinstance(document, kind):
        raise BadAnswerError(f"{service}: not a {kind.__name__}: {shown(content)}")
    return document
