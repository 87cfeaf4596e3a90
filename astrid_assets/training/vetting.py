"""What people found when they looked at candidates: a CSV file, read strictly."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from astrid_assets.errors import ConfigurationError

__all__ = ["VETTING_COLUMNS", "Vetting", "read_vetting", "vetting_of"]

VETTING_COLUMNS = ("field", "candidate_id", "ra", "dec", "label", "type", "who", "date")
"""Columns of the file; either ``candidate_id`` or ``ra`` and ``dec`` may be left out."""

_LABELS = ("real", "bogus", "unlabelled")


@dataclass(frozen=True)
class Vetting:
    """One verdict of a person."""

    field: str
    """Field of the registry."""

    candidate_id: str
    """The detection; empty where a position is meant, in all exposures."""

    ra: float | None
    """ICRS degrees; None where a detection is meant."""

    dec: float | None
    """ICRS degrees."""

    label: str
    """real, bogus or unlabelled (looked at, and not clear)."""

    type: str
    """Class of the object or defect; may be empty."""

    who: str
    """Who looked."""

    date: str
    """When, ISO 8601."""


def read_vetting(lines: Iterable[str], *, name: str = "vetting.csv") -> list[Vetting]:
    """Read a vetting file.

    Parameters
    ----------
    lines
        Its text, line by line; lines that start with ``#`` are comments.

    name
        How to call it in errors.

    Raises
    ------
    ConfigurationError
        A column is missing or unknown, a value is impossible, or two lines contradict each other; the
        message names the line.
    """
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        return []
    reader = csv.DictReader([line for _, line in numbered], restkey="", strict=True)
    _check_header(reader.fieldnames or [], name)
    verdicts: dict[tuple[Any, ...], tuple[int, Vetting]] = {}
    for (number, _), row in zip(numbered[1:], reader, strict=True):
        vetting = _parsed(row, f"{name}, line {number}")
        key = (vetting.field, vetting.candidate_id or (vetting.ra, vetting.dec))
        earlier = verdicts.setdefault(key, (number, vetting))
        if (earlier[1].label, earlier[1].type) != (vetting.label, vetting.type):
            msg = f"{name}, line {number}: contradicts line {earlier[0]} about the same candidate: keep one"
            raise ConfigurationError(msg)
    return [vetting for _, vetting in verdicts.values()]


def _check_header(found: Sequence[str], name: str) -> None:
    unknown = [column for column in found if column not in VETTING_COLUMNS]
    optional = {"candidate_id"} if {"ra", "dec"} <= set(found) else {"ra", "dec"}
    missing = [column for column in VETTING_COLUMNS if column not in found and column not in optional]
    if unknown or missing:
        what = f"unknown columns: {', '.join(unknown)}" if unknown else f"no column {', '.join(missing)}"
        msg = f"{name}, first line: {what}; the columns are {', '.join(VETTING_COLUMNS)}"
        raise ConfigurationError(msg)


def _parsed(row: dict[str, Any], where: str) -> Vetting:
    if "" in row or None in row.values():
        raise ConfigurationError(f"{where}: not as many values as the first line has columns")
    text = {name: row.get(name, "").strip() for name in VETTING_COLUMNS}
    for name in ("field", "label", "who", "date"):
        if not text[name]:
            raise ConfigurationError(f"{where}: {name} is empty")
    if text["label"] not in _LABELS:
        raise ConfigurationError(f"{where}: label {text['label']!r} is none of {', '.join(_LABELS)}")
    ra, dec = (
        _degrees(text["ra"], 0.0, 360.0, f"{where}: ra"),
        _degrees(text["dec"], -90.0, 90.0, f"{where}: dec"),
    )
    if not text["candidate_id"] and (ra is None or dec is None):
        raise ConfigurationError(f"{where}: give candidate_id, or ra and dec")
    try:
        date.fromisoformat(text["date"][:10])
    except ValueError as error:
        raise ConfigurationError(f"{where}: date {text['date']!r} is not like 2025-09-17") from error
    kept = {name: text[name] for name in ("field", "candidate_id", "label", "type", "who", "date")}
    return Vetting(ra=ra, dec=dec, **kept)


def _degrees(text: str, low: float, high: float, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ConfigurationError(f"{where} {text!r} is no angle from {low:g} to {high:g} degrees")
    return value


def vetting_of(
    candidate_id: str,
    ra: float | None,
    dec: float | None,
    verdicts: Sequence[Vetting],
    *,
    radius: float = 1.5,
) -> Vetting | None:
    """Return what was said about a detection: about itself, else about its place on the sky.

    Parameters
    ----------
    candidate_id, ra, dec
        The detection; degrees, None without a WCS.

    verdicts
        Those of its field.

    radius
        Distance in arcsec within which a position is meant. Where a verdict names both, a detection and a
        position further away, the name is of an older detection and does not count.
    """
    by_place = None
    for verdict in verdicts:
        placed = verdict.ra is not None and verdict.dec is not None
        near = placed and ra is not None and dec is not None and _arcsec(verdict, ra, dec) <= radius
        if verdict.candidate_id == candidate_id and (near or not placed):
            return verdict
        if near and not verdict.candidate_id:
            by_place = verdict
    return by_place


def _arcsec(verdict: Vetting, ra: float, dec: float) -> float:
    east = ((verdict.ra - ra + 180.0) % 360.0 - 180.0) * math.cos(math.radians(dec))
    return 3600.0 * math.hypot(east, verdict.dec - dec)
