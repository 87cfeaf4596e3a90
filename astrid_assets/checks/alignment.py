"""Checks of the alignment group: aligned and normalised pairs."""

from __future__ import annotations

from astrid_assets.checks.table import (
    TableCheck,
    cross_references,
    metadata_complete,
    provenance_complete,
    usable_exposures,
)

__all__ = ["CHECKS", "PAIR_CHECKS", "REQUIRED"]

_PAIR = ("exposure_id", "survey", "band", "pairing_key", "mjd_mid", "path")

REQUIRED: dict[str, tuple[str, ...]] = {"aligned_pairs": _PAIR, "normalized_pairs": _PAIR}
"""Columns that every usable row of an asset must have."""

PAIR_CHECKS: tuple[TableCheck, ...] = (
    TableCheck("usable_exposures", "At least one exposure came through.", usable_exposures, blocking=True),
    TableCheck("cross_references", "Every exposure names an existing reference.", cross_references),
    TableCheck(
        "metadata_complete", "Identity, reference, time and file of every exposure.", metadata_complete
    ),
    TableCheck(
        "provenance_complete", "Input bytes, parameters and code version of every row.", provenance_complete
    ),
)
"""Table checks of everything that is made of a science exposure and its reference."""

CHECKS: dict[str, tuple[TableCheck, ...]] = {
    "aligned_pairs": PAIR_CHECKS,
    "normalized_pairs": PAIR_CHECKS,
}
"""Table checks of each asset of the group."""
