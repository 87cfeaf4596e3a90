"""The table of known objects: columns, and how a parser fills them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.columns import described_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KNOWN_COLUMNS", "for_exposure", "known_schema", "known_table"]

_COLUMNS = (
    ("object_id", "string", "", "name in its catalogue"),
    ("kind", "string", "", "star, galaxy, variable, transient or solar_system"),
    ("class", "string", "", "finer class as the catalogue gives it"),
    ("ra", "float64", "deg", "right ascension (ICRS) at ref_epoch, or at mjd for what moves"),
    ("dec", "float64", "deg", "declination (ICRS) at the same time"),
    ("ref_epoch", "float64", "yr", "Julian year of the position; null where it is not known"),
    ("pm_ra", "float64", "mas/yr", "proper motion in right ascension, cos(dec) included"),
    ("pm_dec", "float64", "mas/yr", "proper motion in declination"),
    ("parallax", "float64", "mas", "parallax"),
    (
        "magnitude",
        "float64",
        "mag",
        "magnitude in magnitude_band; brightest of a variable, that of a discovery",
    ),
    ("magnitude_band", "string", "", "band of the magnitude, in the words of the catalogue"),
    ("radius_arcsec", "float64", "arcsec", "half-light radius of a galaxy"),
    ("redshift", "float64", "", "heliocentric redshift"),
    ("discovered_mjd", "float64", "day", "discovery of a transient, MJD (UTC)"),
    ("exposure_id", "string", "", "exposure that a moving object was computed for; else null"),
    ("mjd", "float64", "day", "middle of that exposure, MJD (UTC)"),
    ("rate_arcsec_min", "float64", "arcsec/min", "speed on the sky of a moving object"),
    ("position_angle", "float64", "deg", "direction of its motion, from north through east"),
    ("position_error_arcsec", "float64", "arcsec", "1-sigma error of the position; null where not given"),
    ("catalogue", "string", "", "where it comes from"),
    ("confidence", "float64", "", "probability that it is what kind and class say, 0 to 1"),
)

KNOWN_COLUMNS = {name: (kind, unit, text) for name, kind, unit, text in _COLUMNS}
"""Type, unit and description of each column."""


def known_schema() -> pa.Schema:
    """Return the schema of a table of known objects; each column carries its unit and description."""
    return described_schema(KNOWN_COLUMNS)


def known_table(n_rows: int, **columns: Any) -> pa.Table:
    """Return a table of known objects.

    Parameters
    ----------
    n_rows
        Number of objects.

    **columns
        Values by column: one for all rows, or a sequence; None, NaN and columns left out become null.
    """
    import pyarrow as pa

    schema = known_schema()
    arrays = [_array(columns.get(field.name), n_rows, field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def _array(values: Any, n_rows: int, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if values is None:
        return pa.nulls(n_rows, kind)
    if isinstance(values, str | float | int):
        values = [values] * n_rows
    if kind == pa.string():
        return pa.array([None if v is None else str(v) for v in values], kind)
    numbers = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    return pa.array(numbers, kind, mask=~np.isfinite(numbers))


def for_exposure(table: pa.Table, exposure_id: str, mjd: float) -> pa.Table:
    """Return known objects with the exposure that they were computed for."""
    import pyarrow as pa

    for name, value in (("exposure_id", exposure_id), ("mjd", mjd)):
        place, field = table.schema.get_field_index(name), table.schema.field(name)
        table = table.set_column(place, field, pa.array([value] * table.num_rows, field.type))
    return table
