"""When missions and surveys observed: what no query can bring is known before any is made."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from astrid_assets.fields import EVENT_FADES_DAYS, Window

if TYPE_CHECKING:
    from astrid_assets.fields import Field

__all__ = ["Mission", "mission_of", "missions", "searched", "why_nothing"]


@dataclass(frozen=True)
class Mission:
    """A mission or survey, and when it observed."""

    name: str
    """Name as MAST and the earlier project write it."""

    observed: Window
    """First and last day of science observations; no end where it still observes."""

    survey: str | None = None
    """Survey profile of its images, where there is one."""

    archive: str | None = None
    """Archive of this platform that has its exposures."""

    none: str | None = None
    """Why none has."""

    bands: Mapping[str, str] = field(default_factory=dict)
    """Last day of the filters that ended before the mission, by canonical name."""

    @property
    def years(self) -> str:
        """First and last day as a text."""
        return f"{self.observed.start} to {self.observed.end or 'today'}"

    def within(self, band: str | None) -> Window:
        """Return when it observed through a filter; None: through any."""
        last = self.bands.get(band or "", self.observed.end)
        return Window(start=self.observed.start, end=last)


@cache
def missions() -> Mapping[str, Mission]:
    """Return all missions that are known, by name, from ``availability.toml``."""
    text = (files("astrid_assets.archives") / "availability.toml").read_text("utf-8")
    return MappingProxyType({name: _mission(name, table) for name, table in tomllib.loads(text).items()})


def _mission(name: str, table: Mapping[str, Any]) -> Mission:
    days = {key: str(table[key]) for key in ("start", "end") if isinstance(table.get(key), date)}
    words = {key: table.get(key) for key in ("survey", "archive", "none")}
    ends = {band: str(day) for band, day in table.get("bands", {}).items()}
    return Mission(name, Window(**days), bands=ends, **words)


def mission_of(survey: str) -> Mission | None:
    """Return the mission whose images a survey profile describes, or None."""
    return next((m for m in missions().values() if m.survey == survey), None)


def searched(sky_field: Field) -> list[tuple[str, Mission]]:
    """Return the (archive, mission) pairs that a field would be searched in."""
    asked = [] if sky_field.mast is None else [("mast", missions()[m]) for m in sky_field.mast.missions]
    asked += [("ps1", missions()["PS1"])] if sky_field.ps1 is not None else []
    return asked + ([("irsa_ztf", missions()["ZTF"])] if sky_field.irsa_ztf is not None else [])


def why_nothing(mission: Mission, sky_field: Field, *, band: str | None = None) -> str | None:
    """Say why a mission cannot give a pair to a field, from the years in which it observed.

    Parameters
    ----------
    mission
        The mission.

    sky_field
        The field, with its windows and its event.

    band
        Canonical filter name, for a filter that ended before its mission.

    Returns
    -------
    str or None
        One sentence; None where a pair is possible.
    """
    span = mission.within(band)
    science = span.overlaps(sky_field.science_window) or _stack_only(mission, sky_field)
    reference = any(_overlap(span, times) for times in _reference_times(sky_field))
    cross = sky_field.cross_survey
    # across surveys one side is enough: the other may come from elsewhere
    if cross is not None and (science or (reference and mission.survey in cross.references)):
        return None
    if science and reference:
        return None
    side, window = (
        ("science", sky_field.science_window) if not science else ("reference", sky_field.reference_window)
    )
    what = f"{mission.name} {band}" if band in mission.bands else mission.name
    return (
        f"{what} observed {span.start} to {span.end or 'today'}: nothing in the {side} window "
        f"({_words(window)}{_event_words(sky_field, side)})"
    )


def _stack_only(mission: Mission, sky_field: Field) -> bool:
    """Tell whether only references are wanted of a survey."""
    return mission.name == "PS1" and sky_field.ps1 is not None and sky_field.ps1.product == "stack"


def _reference_times(sky_field: Field) -> list[tuple[float, float]]:
    """Return the spans of MJD (UTC) in which references may lie: the window without the time of the event."""
    start, end = _limits(sky_field.reference_window)
    event = sky_field.event
    if event is None:
        return [(start, end)]
    return [(start, min(end, event.mjd - event.guard_days)), (max(start, event.mjd + EVENT_FADES_DAYS), end)]


def _limits(window: Window) -> tuple[float, float]:
    start, end = window.start_mjd, window.end_mjd
    return -math.inf if start is None else start, math.inf if end is None else end


def _overlap(span: Window, times: tuple[float, float]) -> bool:
    start, end = _limits(span)
    return max(start, times[0]) < min(end, times[1])


def _words(window: Window) -> str:
    if window.start is None and window.end is None:
        return "always"
    return " ".join(
        word
        for side, day in (("from", window.start), ("to", window.end))
        if day is not None
        for word in (side, day)
    )


def _event_words(sky_field: Field, side: str) -> str:
    """Say how an event narrows the window of references."""
    event = sky_field.event
    if event is None or side == "science":
        return ""
    return f", clear of {event.name} on {event.date}"
