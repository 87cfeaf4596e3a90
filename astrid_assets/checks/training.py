"""Checks of the training group."""

from __future__ import annotations

from astrid_assets.checks.alignment import PAIR_CHECKS
from astrid_assets.checks.table import TableCheck

__all__ = ["CHECKS", "REQUIRED"]

REQUIRED: dict[str, tuple[str, ...]] = {
    "injections": ("exposure_id", "survey", "band", "pairing_key", "mjd_mid", "path"),
    "training_set": ("exposure_id", "survey", "band", "pairing_key", "mjd_mid"),
}
"""Columns that every usable row of an asset must have."""

CHECKS: dict[str, tuple[TableCheck, ...]] = {"injections": PAIR_CHECKS, "training_set": PAIR_CHECKS}
"""Table checks of each asset of the group."""
