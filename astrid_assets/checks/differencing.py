"""Checks of the differencing group, and the likely cause of a bad subtraction."""

from __future__ import annotations

from dataclasses import replace

from astrid_assets.checks.alignment import PAIR_CHECKS
from astrid_assets.checks.table import Row, TableCheck

__all__ = ["CHECKS", "REQUIRED", "cause"]

_DIFFERENCE = ("exposure_id", "survey", "band", "pairing_key", "mjd_mid", "path")

REQUIRED: dict[str, tuple[str, ...]] = {
    "zogy_differences": _DIFFERENCE,
    "classic_differences": _DIFFERENCE,
}
"""Columns that every usable row of an asset must have."""

# nothing is made of the baseline, so that it never stops anything
_BASELINE_CHECKS = tuple(replace(check, blocking=False) for check in PAIR_CHECKS)

CHECKS: dict[str, tuple[TableCheck, ...]] = {
    "zogy_differences": PAIR_CHECKS,
    "classic_differences": _BASELINE_CHECKS,
}
"""Table checks of each asset of the group."""

_FINE = ("green", "none", None)


def cause(row: Row) -> str | None:
    """Name the likely fault of a difference from the colours that its metrics got.

    Residuals on sources and quiet sky mean registration, flux scale or PSF; bad noise on blank
    sky with quiet sources means background or variance (measured on twin images with one known
    fault each).
    """
    sources = row.get("colour_residual_noise_ratio") not in _FINE
    sky = row.get("colour_scorr_mad_std") not in _FINE
    variance = row.get("colour_variance_scale") not in _FINE
    if sky and variance and not sources:
        return "variance plane or correlated noise"
    if sky and not sources:
        return "background (gradient or wrong level)"
    if sources and not sky:
        return "sources subtract badly: registration, flux scale or PSF (the signs of the candidates tell)"
    if sources and sky:
        return "sources and sky both: background under sources, or variance"
    return None
