"""The truth beside each image: what is really in it, one row an object or defect."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DIRT_KINDS", "TRUTH_COLUMNS", "Truth"]

DIRT_KINDS = (
    "cosmic_ray",
    "hot_pixel",
    "bad_column",
    "saturated",
    "trail",
    "ghost",
    "cloud",
    "pointing_offset",
    "flat_residual",
    "corrupt",
)
"""Values of column ``kind`` that are dirt; the others are star, galaxy, variable, transient, asteroid."""

_TEXT = {
    "kind": "star, galaxy, variable, transient, asteroid, or one of DIRT_KINDS",
    "label": "finer class: sn_ia, rrab, dead, missing_keyword ...",
    "ident": "name, the same in every image",
    "host": "name of the host galaxy",
}
_NUMBER = {
    "ra": "ICRS degrees at this epoch",
    "dec": "ICRS degrees at this epoch",
    "x": "column, 0-based pixels of this image (true, not by the header)",
    "y": "row",
    "x_end": "other end of something long",
    "y_end": "other end of something long",
    "extent": "radius or half width, pixels",
    "mag": "AB magnitude in this band at this epoch",
    "mag_mean": "AB magnitude averaged over time",
    "flux": "total flux in ADU of this image, as an infinite aperture measures it",
}
TRUTH_COLUMNS = {**_TEXT, **_NUMBER, "flagged": "whether the survey's own mask marks it"}
"""Columns of a truth table and what they mean."""


@dataclass
class Truth:
    """Collects the rows of one image's truth table."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Blocks of rows: a scalar or an array for each column that has a value."""

    def add(self, **columns: Any) -> None:
        """Add one row (scalars) or several (arrays of one length; scalars are repeated)."""
        self.rows.append(columns)

    def to_table(self) -> pa.Table:
        """Return the table; numbers without a value are NaN, texts empty."""
        import pyarrow as pa

        lengths = [max((np.size(v) for v in block.values()), default=0) for block in self.rows]
        lengths = [
            0 if any(np.ndim(v) and not np.size(v) for v in block.values()) else n
            for block, n in zip(self.rows, lengths, strict=True)
        ]
        columns = {name: self._column(name, lengths) for name in TRUTH_COLUMNS}
        schema = pa.schema(
            pa.field(name, _arrow_type(name), metadata={"description": text})
            for name, text in TRUTH_COLUMNS.items()
        )
        return pa.table([pa.array(values, _arrow_type(name)) for name, values in columns.items()], schema)

    def _column(self, name: str, lengths: list[int]) -> np.ndarray:
        empty: Any = "" if name in _TEXT else (False if name == "flagged" else np.nan)
        parts = [
            np.broadcast_to(np.asarray(block.get(name, empty)).ravel(), (n,)) if n else np.empty(0)
            for block, n in zip(self.rows, lengths, strict=True)
        ]
        kind = object if name in _TEXT else (bool if name == "flagged" else np.float64)
        return np.concatenate([np.empty(0, kind), *(p.astype(kind) for p in parts)])

    def write(self, path: Path) -> None:
        """Write the table as Parquet."""
        import pyarrow.parquet as pq

        pq.write_table(self.to_table(), path)


def _arrow_type(name: str) -> pa.DataType:
    import pyarrow as pa

    if name in _TEXT:
        return pa.string()
    return pa.bool_() if name == "flagged" else pa.float64()
