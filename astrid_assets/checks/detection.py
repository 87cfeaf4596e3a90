"""Checks of the detection group, and the likely cause of too many candidates."""

from __future__ import annotations

from astrid_assets.checks.alignment import PAIR_CHECKS
from astrid_assets.checks.table import Row, TableCheck, metadata_complete, provenance_complete

__all__ = ["CHECKS", "REQUIRED", "cause"]

REQUIRED: dict[str, tuple[str, ...]] = {
    "candidates": ("exposure_id", "survey", "band", "pairing_key", "mjd_mid"),
    "cutouts": ("exposure_id", "survey", "band", "pairing_key", "mjd_mid"),
    "light_curves": ("exposure_id", "path"),
}
"""Columns that every usable row of an asset must have."""

_FIELD_CHECKS = (
    TableCheck("metadata_complete", "The tables of the field are there.", metadata_complete),
    TableCheck(
        "provenance_complete", "Inputs, parameters and code version of the tables.", provenance_complete
    ),
)

CHECKS: dict[str, tuple[TableCheck, ...]] = {
    "candidates": PAIR_CHECKS,
    "cutouts": PAIR_CHECKS,
    "light_curves": _FIELD_CHECKS,
}
"""Table checks of each asset of the group."""

_FINE = ("green", "none", None)


def cause(row: Row) -> str | None:
    """Name the likely fault of a difference from the signs of its candidates.

    As many positive as negative ones: registration. All of one sign: flux scale. A mix that
    leans to one side: width of the PSF. Apertures on blank sky that scatter too much: background.
    """
    if row.get("colour_sky_source_std") not in _FINE:
        return "blank sky scatters too much: background or variance"
    if row.get("colour_transient_fraction_low") in _FINE:
        return None
    positive, negative = row.get("metric_n_positive") or 0.0, row.get("metric_n_negative") or 0.0
    if row.get("colour_sign_imbalance") in _FINE:
        return "as many positive as negative candidates: registration"
    if min(positive, negative) <= 0.05 * max(positive, negative):
        return f"nearly all candidates {'positive' if positive > negative else 'negative'}: flux scale"
    return "both signs, one prevails: width of the PSF"
