"""Checks that read a manifest as a table: is it complete, consistent, traceable, of any use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Context",
    "TableCheck",
    "Verdict",
    "coordinates_consistent",
    "cross_references",
    "live",
    "metadata_complete",
    "provenance_complete",
    "timestamps_valid",
    "usable_exposures",
]

Row = Mapping[str, Any]

_USABLE = ("ok", "empty")
"""States of exposures that flow on or are done."""

_MJD_RANGE = (15020.0, 88069.0)
"""MJD (UTC) from 1900 to 2100: an observation outside has a wrong clock or a wrong unit."""

_PROVENANCE = ("input_sha256", "parameter_hash", "code_version", "product_id")
"""Columns that say what a row was made of."""


@dataclass(frozen=True)
class Context:
    """What a check may know beside the manifest."""

    asset: str
    """Name of the asset."""

    required: tuple[str, ...] = ()
    """Columns that a usable row must have."""

    references: frozenset[str] | None = None
    """Identifiers of the usable references; None if they are not at hand."""

    now_mjd: float | None = None
    """The time that freshness is measured against; None where the science window is closed."""


@dataclass(frozen=True)
class Verdict:
    """Result of a check."""

    colour: str
    """``none``, ``green``, ``yellow``, ``orange`` or ``red`` (red: of no use as a whole)."""

    text: str
    """One sentence: what was found."""

    metadata: dict[str, Any] = field(default_factory=dict)
    """Numbers that plot over time, and names of the worst exposures."""


@dataclass(frozen=True)
class TableCheck:
    """A named check on a manifest."""

    name: str
    """Name in the user interface."""

    text: str
    """What it says, one sentence."""

    function: Callable[[Sequence[Row], Context], Verdict]
    """Looks at the rows."""

    blocking: bool = False
    """Whether red stops everything downstream."""


def live(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that an archive's newer version has not superseded."""
    return [row for row in rows if row.get("state") != "superseded"]


def _usable(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that flow on: by their state or, in the table of observations, their status."""
    return [r for r in rows if r.get("state") in _USABLE or r.get("status") == "selected"]


def _verdict(bad: Sequence[str], total: int, good: str, wrong: str) -> Verdict:
    """Green where nothing is bad; yellow with the first names otherwise."""
    metadata = {"n_checked": total, "n_wrong": len(bad)}
    if not total:
        return Verdict("none", "No usable row to look at.", metadata)
    if not bad:
        return Verdict("green", good, metadata)
    return Verdict("yellow", f"{wrong}: {', '.join(bad[:5])}{' ...' if len(bad) > 5 else ''}", metadata)


def usable_exposures(rows: Sequence[Row], context: Context) -> Verdict:
    """Red where exposures came in and none is left to work with."""
    rows = live(rows)
    states = Counter(row.get("state") for row in rows)
    usable = sum(states[state] for state in _USABLE)
    metadata = {"n_rows": len(rows), "n_usable": usable} | {f"n_{k}": v for k, v in sorted(states.items())}
    if not rows:
        return Verdict("yellow", f"{context.asset} holds no exposure: nothing to do downstream.", metadata)
    reasons = Counter(
        row.get("reason") or "no reason given" for row in rows if row.get("state") not in _USABLE
    )
    why = "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(3))
    if not usable:
        return Verdict("red", f"None of {len(rows)} exposures is usable: {why}", metadata)
    lost = f"; not used: {why}" if reasons else ""
    return Verdict("green", f"{usable} of {len(rows)} exposures are usable{lost}.", metadata)


def metadata_complete(rows: Sequence[Row], context: Context) -> Verdict:
    """Every usable row has all required columns."""
    usable = _usable(rows)
    missing = Counter(name for row in usable for name in context.required if row.get(name) in (None, ""))
    text = [f"{name} ({n} rows)" for name, n in missing.most_common()]
    return _verdict(text, len(usable), "All required columns are filled.", "Columns with gaps")


def coordinates_consistent(rows: Sequence[Row], _context: Context) -> Verdict:
    """Positions lie on the sphere, and the centre of an image lies in its footprint's bounds."""
    placed = [row for row in _usable(rows) if row.get("ra") is not None and row.get("dec") is not None]
    bad = [row["exposure_id"] for row in placed if not _on_sphere(row) or not _centred(row)]
    return _verdict(bad, len(placed), "All positions are consistent.", "Inconsistent positions")


def _on_sphere(row: Row) -> bool:
    return 0.0 <= row["ra"] < 360.0 and -90.0 <= row["dec"] <= 90.0


def _centred(row: Row) -> bool:
    """Whether the centre lies within the declinations of the corners."""
    declinations = (row.get("footprint") or [])[1::2]
    return not declinations or min(declinations) - 0.01 <= row["dec"] <= max(declinations) + 0.01


def timestamps_valid(rows: Sequence[Row], _context: Context) -> Verdict:
    """Start, middle and end are in order and within living memory."""
    timed = [row for row in _usable(rows) if row.get("mjd_mid") is not None]
    bad = [row["exposure_id"] for row in timed if not _in_order(row)]
    return _verdict(bad, len(timed), "All times are in order.", "Times out of order or out of range")


def _in_order(row: Row) -> bool:
    times = [row[name] for name in ("mjd_start", "mjd_mid", "mjd_end") if row.get(name) is not None]
    low, high = _MJD_RANGE
    return times == sorted(times) and low <= times[0] and times[-1] <= high


def cross_references(rows: Sequence[Row], context: Context) -> Verdict:
    """Every science exposure names a reference that exists and is not itself."""
    usable = _usable(rows)
    bad = [row["exposure_id"] for row in usable if not _points_somewhere(row, context.references)]
    return _verdict(bad, len(usable), "Every exposure has its reference.", "Without a valid reference")


def _points_somewhere(row: Row, references: frozenset[str] | None) -> bool:
    reference = row.get("reference_id")
    known = references is None or reference in references
    return bool(reference) and reference != row["exposure_id"] and known


def provenance_complete(rows: Sequence[Row], _context: Context) -> Verdict:
    """Every usable row says which bytes, parameters and code made it."""
    usable = _usable(rows)
    bad = [row["exposure_id"] for row in usable if not all(row.get(name) for name in _PROVENANCE)]
    return _verdict(bad, len(usable), "Every row can be traced.", "Rows without full provenance")
