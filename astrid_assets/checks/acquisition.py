"""Checks of the acquisition group: observations, science images and references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from astrid_assets.checks.limits import limits
from astrid_assets.checks.table import (
    Context,
    Row,
    TableCheck,
    Verdict,
    coordinates_consistent,
    metadata_complete,
    provenance_complete,
    timestamps_valid,
    usable_exposures,
)

__all__ = ["CHECKS", "REQUIRED", "freshness", "selection"]


def selection(rows: Sequence[Row], _context: Context) -> Verdict:
    """Tell how much of the offer was selected, and why the rest was not; red where the archives failed."""
    counts = Counter(row.get("status") for row in rows)
    metadata = {"n_offered": len(rows)} | {
        f"n_{status}": counts[status] for status in ("selected", "rejected", "failed")
    }
    reasons = Counter(_head(row) for row in rows if row.get("status") != "selected")
    why = "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(5)) or "nothing rejected"
    if rows and counts["failed"] == len(rows):
        return Verdict("red", f"Nothing but failures: {why}", metadata)
    if counts["failed"] or not counts["selected"]:
        return Verdict("yellow", f"{counts['selected']} of {len(rows)} exposures selected; {why}", metadata)
    return Verdict("green", f"{counts['selected']} of {len(rows)} exposures selected; {why}", metadata)


def _head(row: Row) -> str:
    """Return the part of a reason that rows have in common, up to the first colon."""
    return (row.get("reason") or "no reason given").split(":")[0]


def freshness(rows: Sequence[Row], context: Context) -> Verdict:
    """Tell how old the newest science exposure is."""
    times = [r["mjd_mid"] for r in rows if r.get("role") == "science" and r.get("mjd_mid") is not None]
    if context.now_mjd is None or not times:
        return Verdict("none", "The science window is closed or empty: nothing to wait for.")
    age = max(context.now_mjd - max(times), 0.0)
    colour = limits("observations")["newest_age_days"].colour(age)
    return Verdict(colour, f"The newest science exposure is {age:.1f} days old.", {"newest_age_days": age})


_IDENTITY = ("exposure_id", "archive", "survey", "detector_type", "band", "pairing_key")
_TIMES = ("mjd_start", "mjd_mid", "mjd_end")
_IMAGE = ("ra", "dec", "nx", "ny", "path", "sha256")

REQUIRED: dict[str, tuple[str, ...]] = {
    "observations": (*_IDENTITY, *_TIMES, "ra", "dec", "role"),
    "science_images": (*_IDENTITY, *_TIMES, *_IMAGE, "exptime"),
    "references": (*_IDENTITY, *_TIMES, *_IMAGE),
}
"""Columns that every usable row of an asset must have."""

_COMPLETE = TableCheck(
    "metadata_complete", "Identity, sky position, times and files of every exposure.", metadata_complete
)
_COORDINATES = TableCheck(
    "coordinates_consistent", "Positions lie on the sphere and in their footprints.", coordinates_consistent
)
_TIMESTAMPS = TableCheck("timestamps_valid", "Start, middle and end of every exposure.", timestamps_valid)
_PROVENANCE = TableCheck(
    "provenance_complete", "Input bytes, parameters and code version of every row.", provenance_complete
)
_IMAGES = (
    TableCheck(
        "usable_exposures", "At least one image was downloaded intact.", usable_exposures, blocking=True
    ),
    _COMPLETE,
    _COORDINATES,
    _TIMESTAMPS,
    _PROVENANCE,
)

CHECKS: dict[str, tuple[TableCheck, ...]] = {
    "observations": (
        TableCheck("selection", "What the archives offer, and why some of it is not used.", selection),
        TableCheck("freshness", "Age of the newest science exposure.", freshness),
        _COMPLETE,
        _COORDINATES,
        _TIMESTAMPS,
    ),
    "science_images": _IMAGES,
    "references": _IMAGES,
}
"""Table checks of each asset of the group."""
