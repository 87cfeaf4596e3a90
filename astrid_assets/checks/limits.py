"""Judging: metrics against ``limits.toml``, the one table of quality limits."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["COLOURS", "Check", "Limit", "checks", "judge", "limits", "worst"]

COLOURS = ("none", "green", "yellow", "orange", "red")
"""From "not applicable" to unusable; later ones are worse."""


@dataclass(frozen=True)
class Limit:
    """Limits of one metric."""

    metric: str
    """Name from `astrid_assets.science.quality`."""

    unit: str
    """Unit of the metric and of the ranges."""

    source: str
    """Where the numbers come from."""

    ranges: tuple[tuple[str, float, float], ...]
    """``(colour, low, high)``, best first."""

    beyond: str = "red"
    """Colour of a value outside all ranges."""

    ground: bool = False
    """Whether the metric means nothing for a space telescope."""

    survey: str | None = None
    """Survey profile that the limit is for; None for all."""

    def colour(self, value: float | None) -> str:
        """Return the colour of a value; ``none`` for None and NaN."""
        if value is None or math.isnan(value):
            return "none"
        return next((c for c, low, high in self.ranges if low <= value <= high), self.beyond)


@dataclass(frozen=True)
class Check:
    """A named check: the limits that decide it."""

    name: str
    """Name in the user interface."""

    assets: tuple[str, ...]
    """Assets that it belongs to."""

    text: str
    """What it says, one sentence."""

    limits: tuple[Limit, ...]
    """Limits of its metrics."""

    reasons: tuple[str, ...] = ()
    """Starts of a row's reason that count as red in this check."""


def _limit(entry: Mapping) -> Limit:
    ranges = tuple((c, *map(float, entry[c])) for c in COLOURS if c in entry)
    rest = {key: value for key, value in entry.items() if key not in COLOURS}
    return Limit(ranges=ranges, **rest)


@cache
def _table() -> tuple[Check, ...]:
    """Read ``limits.toml``."""
    entries = tomllib.loads(files(__package__).joinpath("limits.toml").read_text("utf-8"))["check"]
    return tuple(
        Check(
            name=entry["name"],
            assets=tuple(entry["assets"]),
            text=entry["text"],
            limits=tuple(_limit(row) for row in entry["limit"]),
            reasons=tuple(entry.get("reasons", ())),
        )
        for entry in entries
    )


def checks(asset: str) -> tuple[Check, ...]:
    """Return the checks of an asset that rest on metrics, in the order of the table."""
    return tuple(check for check in _table() if asset in check.assets)


def limits(asset: str, *, survey: str | None = None) -> dict[str, Limit]:
    """Return the limits of an asset by metric.

    Parameters
    ----------
    asset
        Name of the asset.

    survey
        Survey profile; a limit of its own replaces the general one.
    """
    rows = [row for check in checks(asset) for row in check.limits if row.survey in (None, survey)]
    return {row.metric: row for row in sorted(rows, key=lambda row: row.survey is not None)}


def judge(
    metrics: Mapping[str, float | None], asset: str, *, survey: str | None = None, space: bool = False
) -> dict[str, str]:
    """Give every judged metric of an asset its colour.

    Parameters
    ----------
    metrics
        Metrics by name; missing, None and NaN mean "not applicable".

    asset
        Name of the asset that made them.

    survey
        Survey profile, for limits of its own.

    space
        Whether the images come from a space telescope, where airmass and seeing mean nothing.

    Returns
    -------
    dict
        ``green``, ``yellow``, ``orange``, ``red`` or ``none`` by metric.
    """
    return {
        metric: "none" if limit.ground and space else limit.colour(metrics.get(metric))
        for metric, limit in limits(asset, survey=survey).items()
    }


def worst(colours: Mapping[str, str] | Iterable[str]) -> str:
    """Return the worst colour of some, ``none`` of none."""
    values = colours.values() if isinstance(colours, Mapping) else colours
    return max(values, key=COLOURS.index, default="none")
