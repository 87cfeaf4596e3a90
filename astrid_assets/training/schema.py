"""Columns of the sample table: one row a labelled triplet, from the field to the release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from astrid_assets.columns import described_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DOMAINS", "LABELS", "LABEL_SOURCES", "SAMPLE_COLUMNS", "sample_schema"]

LABELS = {"real": 1, "bogus": 0, "unlabelled": -1}
"""Values of ``label``: real is any astrophysical change, bogus an artefact; nothing else is bogus."""

DOMAINS = ("observed", "injected")
"""Where a detection was made: in the exposure as it is, or in its copy with injections."""

LABEL_SOURCES = (
    "injected",  # a synthetic source was put there
    "synthetic_artifact",  # a synthetic defect was put there
    "artifact_flag",  # a cause was found: mask plane, streak, dipole, residual of a star
    "variable_match",  # catalogued variable star or active nucleus
    "solar_system_match",  # a known object is predicted there at mid-exposure
    "reported_transient",  # reported by others
    "alert_label",  # label that came with a public alert
    "vetted",  # a person looked at it
    "none",  # unlabelled
)
"""Values of ``label_source``."""

_COLUMNS = (
    ("sample_id", "string", "", "identifier, unique over all fields"),
    ("field", "string", "", "field of the registry"),
    ("exposure_id", "string", "", "science exposure"),
    ("reference_id", "string", "", "reference it was compared with"),
    ("candidate_id", "string", "", "detection (of the run with injections where domain is injected)"),
    ("object_id", "string", "", "object: the same in all epochs and bands"),
    ("host_id", "string", "", "host galaxy or star under it; empty where there is none"),
    ("archive", "string", "", "archive of the exposure; simulated for the simulated survey"),
    ("survey", "string", "", "survey profile"),
    ("band", "string", "", "canonical filter name"),
    ("mjd_mid", "float64", "day", "middle of the exposure, MJD (UTC)"),
    ("ra", "float64", "deg", "right ascension (ICRS); null without a WCS"),
    ("dec", "float64", "deg", "declination (ICRS)"),
    (
        "x",
        "float64",
        "pixel",
        "position in the exposure, 0-based; rounded, the middle pixel of the stamp",
    ),
    ("y", "float64", "pixel", "position in the exposure, 0-based"),
    ("flux", "float64", "image unit", "signed PSF flux of the change"),
    ("flux_error", "float64", "image unit", "1-sigma error"),
    ("snr", "float64", "", "absolute S_corr at the peak"),
    ("zeropoint", "float64", "mag", "AB magnitude of one image unit; null where unknown"),
    ("seeing", "float64", "arcsec", "FWHM of the science image"),
    ("artifact", "string", "", "empty, or why the detection was taken for an artefact"),
    ("label", "int8", "", "1 real, 0 bogus, -1 unlabelled"),
    ("label_source", "string", "", "who says so; see LABEL_SOURCES"),
    ("label_confidence", "float64", "", "probability that the label is right, 0 to 1"),
    ("type", "string", "", "class of the object or defect (sn_ia, variable, asteroid, cosmic_ray, ...)"),
    ("domain", "string", "", "observed or injected"),
    ("site", "string", "", "where an injection was put (host, blank, star, beside, trail); else empty"),
    ("magnitude_true", "float64", "mag", "AB magnitude put in; null for observed detections"),
    ("flux_true", "float64", "image unit", "flux put in"),
    ("injection_probability", "float64", "1/mag", "density with which its magnitude was drawn; to reweight"),
    ("nuisance", "string", "", "empty, or what was done to a copy of a sample: edge, masked, no_reference"),
    ("bad_science", "float64", "", "share of flagged pixels of the science stamp"),
    ("bad_reference", "float64", "", "the same of the reference"),
    ("bad_difference", "float64", "", "the same of the difference"),
    ("h5_file", "string", "", "HDF5 file of the stamps, relative to the table"),
    ("h5_row", "int64", "", "row in it"),
    ("sha1", "string", "", "sha1 of the stamps as stored"),
)

SAMPLE_COLUMNS = {name: (kind, unit, text) for name, kind, unit, text in _COLUMNS}
"""Type, unit and description of each column."""


def sample_schema() -> pa.Schema:
    """Return the schema of a sample table; each column carries its unit and description."""
    return described_schema(SAMPLE_COLUMNS)
