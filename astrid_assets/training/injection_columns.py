"""Columns of the table of injections: the truth, joined to what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from astrid_assets.columns import described_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["INJECTION_COLUMNS", "injection_schema"]

_COLUMNS = (
    ("injection_id", "string", "", "what was put into this exposure, unique in the field"),
    ("exposure_id", "string", "", "science exposure"),
    ("reference_id", "string", "", "reference it was compared with"),
    ("survey", "string", "", "survey profile"),
    ("band", "string", "", "canonical filter name"),
    ("mjd_mid", "float64", "day", "middle of the exposure, MJD (UTC)"),
    ("object_id", "string", "", "the object: the same in all exposures that show it"),
    ("host_id", "string", "", "galaxy or star of the reference under it; empty where there is none"),
    ("site", "string", "", "host, blank, star, beside (a detection), trail or artifact"),
    ("kind", "string", "", "source or artifact"),
    ("class", "string", "", "class of the light curve, or of the artefact"),
    ("ra", "float64", "deg", "right ascension (ICRS) by the WCS of the exposure; null without one"),
    ("dec", "float64", "deg", "declination"),
    ("x", "float64", "pixel", "column, 0-based; of a trail the middle, of a line of pixels the beginning"),
    ("y", "float64", "pixel", "row, likewise"),
    ("x_end", "float64", "pixel", "column of the end of a trail or line; null for points"),
    ("y_end", "float64", "pixel", "row of the end"),
    ("extent", "float64", "pixel", "distance from the line within which an artefact changed pixels"),
    ("magnitude", "float64", "mag", "AB magnitude of the absolute flux; null without a zero point"),
    ("flux", "float64", "image unit", "signed flux put in"),
    ("injection_probability", "float64", "1/mag", "density with which its magnitude was drawn; to reweight"),
    ("snr_expected", "float64", "", "signed flux over the error at the place before the injection"),
    ("psf_fwhm", "float64", "pixel", "FWHM of the PSF it was drawn with"),
    ("gain", "float64", "electron / image unit", "gain of its photon noise; null: none"),
    ("seed", "string", "", "key of its random numbers"),
    ("light_curve", "string", "", "JSON of its parameters"),
    ("clean", "bool", "", "no bad pixel within one pixel, no halo, not at the edge; before the injection"),
    ("counted", "bool", "", "counts for completeness: new light of a point, clean, nothing there before"),
    ("flux_before", "float64", "image unit", "forced flux at the place without the injection"),
    ("flux_forced", "float64", "image unit", "forced flux at the true place"),
    ("flux_forced_error", "float64", "image unit", "1-sigma error"),
    ("detected", "bool", "", "a detection of its own matches it"),
    ("found", "bool", "", "detected and not flagged as an artefact"),
    ("candidate_id", "string", "", "matched detection of the run with injections; empty without one"),
    ("separation", "float64", "pixel", "distance of that detection from the true place"),
    ("flux_recovered", "float64", "image unit", "flux of that detection"),
    ("flux_error", "float64", "image unit", "1-sigma error"),
    ("snr_recovered", "float64", "", "absolute S_corr of that detection"),
    (
        "drop_reason",
        "string",
        "",
        "empty, edge, masked, below_threshold, blended, in_clean_run or flagged:<artifact>",
    ),
)


INJECTION_COLUMNS = {name: (kind, unit, text) for name, kind, unit, text in _COLUMNS}
"""Type, unit and description of each column."""


def injection_schema() -> pa.Schema:
    """Return the schema of the table; each column carries its unit and description."""
    return described_schema(INJECTION_COLUMNS)
