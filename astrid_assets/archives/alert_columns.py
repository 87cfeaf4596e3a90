"""Columns of a table of public alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from astrid_assets.columns import described_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ALERT_COLUMNS", "alert_schema"]

_COLUMNS = (
    ("object_id", "string", "", "ZTF's name of the object"),
    ("candid", "string", "", "number of the detection"),
    ("mjd", "float64", "day", "begin of the exposure, MJD (UTC)"),
    ("ra", "float64", "deg", "right ascension (ICRS)"),
    ("dec", "float64", "deg", "declination (ICRS)"),
    ("band", "string", "", "canonical filter name"),
    ("magnitude", "float64", "mag", "AB magnitude of the absolute difference flux"),
    ("magnitude_error", "float64", "mag", "1-sigma error"),
    ("positive", "bool", "", "brighter than in the template; the difference stamp is positive either way"),
    ("rb", "float64", "", "real-bogus score of the random forest"),
    ("drb", "float64", "", "real-bogus score of the network; null before schema 3.3"),
    ("solar_system_name", "string", "", "known asteroid nearby"),
    ("solar_system_distance", "float64", "arcsec", "its separation"),
    ("label", "int8", "", "1 real, 0 bogus, -1 undecided"),
    ("label_source", "string", "", "solar_system_match; drb (a pseudo-label); none"),
    (
        "label_confidence",
        "float64",
        "",
        "probability that the label is right, by its source; null without one",
    ),
    ("schema_version", "string", "", "version of the packet's schema"),
    (
        "publisher",
        "string",
        "",
        "who wrote the packet: ZTF, or a broker that encoded it anew; null in 2018",
    ),
    ("night", "string", "", "row of the manifest that the alert came with"),
    ("packet", "string", "", "file of the packet, relative to the data folder"),
    ("stamps", "string", "", "file of the stamps (Triplets of size 63), relative to the data folder"),
    ("stamp", "int64", "", "row of the alert in it"),
)

ALERT_COLUMNS = {name: (kind, unit, text) for name, kind, unit, text in _COLUMNS}
"""Type, unit and description of each column of a table of alerts."""


def alert_schema() -> pa.Schema:
    """Return the schema of a table of alerts; each column carries its unit and description."""
    return described_schema(ALERT_COLUMNS)
