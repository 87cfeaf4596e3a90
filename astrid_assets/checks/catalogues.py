"""Checks of what is known about a field: catalogues, alerts, cutouts of other surveys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from astrid_assets.checks.table import (
    Context,
    Row,
    TableCheck,
    Verdict,
    live,
    metadata_complete,
    provenance_complete,
)

__all__ = ["CHECKS", "REQUIRED", "answered"]

_NOT_CONFIGURED = "not configured"


def answered(rows: Sequence[Row], _context: Context) -> Verdict:
    """Tell whether all that was asked answered; "nothing there" is an answer, an outage is none."""
    rows = live(rows)
    states = Counter(row.get("state") for row in rows)
    metadata = {"n_asked": len(rows)} | {f"n_{state}": n for state, n in sorted(states.items())}
    if not rows:
        return Verdict("none", "There is nothing to ask for yet.", metadata)
    if all((row.get("reason") or "").startswith(_NOT_CONFIGURED) for row in rows):
        return Verdict("none", "No archive of this field offers any.", metadata)
    silent = [row for row in rows if row.get("state") not in ("ok", "empty")]
    if not silent:
        return Verdict("green", f"{states['ok']} answers, {states['empty']} times nothing there.", metadata)
    why = "; ".join(f"{row['exposure_id']}: {row.get('reason')}" for row in silent[:3])
    colour = "red" if len(silent) == len(rows) else "yellow"
    return Verdict(colour, f"{len(silent)} of {len(rows)} without a usable answer: {why}", metadata)


REQUIRED: dict[str, tuple[str, ...]] = {
    "survey_cutouts": ("exposure_id",),
    "known_objects": ("exposure_id",),
    "ztf_alerts": ("exposure_id",),
}
"""Columns that every usable row of an asset must have."""

_TABLE_CHECKS = (
    TableCheck("answered", "Everything that was asked answered; nothing there is an answer.", answered),
    TableCheck("metadata_complete", "Every answer has a name.", metadata_complete),
    TableCheck(
        "provenance_complete", "Input, parameters and code version of every answer.", provenance_complete
    ),
)

CHECKS: dict[str, tuple[TableCheck, ...]] = dict.fromkeys(REQUIRED, _TABLE_CHECKS)
"""Table checks of each asset."""
