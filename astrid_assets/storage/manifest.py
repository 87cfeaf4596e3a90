"""Manifests: the table of an asset's exposures, one row each, and what makes a row count as done."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.storage.store import Row, Store

__all__ = [
    "COLOUR_PREFIX",
    "COLUMNS",
    "METRIC_PREFIX",
    "STATES",
    "build_manifest",
    "clean",
    "count_states",
    "digest",
    "is_done",
    "manifest_digest",
    "product_id",
    "usable",
]

STATES = ("ok", "empty", "rejected", "failed", "quarantined", "superseded")
"""What became of an exposure in an asset. Only ``ok`` (and ``empty``: done, nothing in it) flow on."""

METRIC_PREFIX = "metric_"
"""Columns of quality metrics start with it."""

COLOUR_PREFIX = "colour_"
"""Columns of judgements (green, yellow, orange, red, none) start with it; ``colour`` is the worst."""

COLUMNS: dict[str, tuple[str, str]] = {
    "exposure_id": ("string", "identifier, unique in the field"),
    "state": ("string", "ok, empty, rejected, failed, quarantined or superseded"),
    "reason": ("string", "why the state is not ok"),
    "colour": ("string", "worst colour of all judgements"),
    "archive": ("string", "archive it comes from"),
    "survey": ("string", "survey profile"),
    "detector_type": ("string", "kind of detector"),
    "detector": ("string", "detector (CCD, quadrant, chip)"),
    "band": ("string", "canonical filter name"),
    "calibration": ("string", "calibration version"),
    "product": ("string", "exposure or stack"),
    "pairing_key": ("string", "survey, detector type, band and calibration"),
    "reference_id": ("string", "reference it is compared with"),
    "mjd_start": ("double", "start of the (first) exposure, MJD UTC"),
    "mjd_mid": ("double", "middle, MJD UTC"),
    "mjd_end": ("double", "end of the (last) exposure, MJD UTC"),
    "n_exposures": ("int32", "number of stacked exposures"),
    "exptime": ("double", "exposure time, s"),
    "airmass": ("double", "airmass"),
    "ra": ("double", "centre, ICRS deg"),
    "dec": ("double", "centre, ICRS deg"),
    "footprint": ("list<double>", "corners ra, dec, ra, dec, ... in order, ICRS deg"),
    "nx": ("int32", "columns of the image"),
    "ny": ("int32", "rows of the image"),
    "zeropoint": ("double", "AB mag of one unit"),
    "seeing": ("double", "FWHM of a point source, arcsec"),
    "n_rows": ("int64", "rows of the table of the exposure"),
    "path": ("string", "main file, relative to the data folder"),
    "files": ("string", "JSON: size in bytes of each file by path"),
    "sha256": ("string", "checksum of the main file as downloaded"),
    "members": ("list<string>", "exposures that a reference is made of"),
    "revision": ("string", "revision of the archive's file"),
    "attempts": ("int32", "times that the same input failed"),
    "input_sha256": ("string", "identity of the input"),
    "parameter_hash": ("string", "identity of the parameters"),
    "code_version": ("string", "version of the code"),
    "product_id": ("string", "identity of the result: input, parameters and code version"),
    "seconds": ("double", "time it took, s"),
    "written": ("string", "when the row was written, UTC"),
}
"""Type and description of the columns that every manifest has; those of metrics and colours follow."""

_VOLATILE = ("path", "files", "seconds", "written", "attempts")
"""Columns left out of the hash: they say where, when and how fast, not what."""


def clean(value: Any) -> Any:
    """Return a value as JSON can hold it: NumPy scalars unpacked, not-finite numbers None."""
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def digest(value: Any) -> str:
    """Return the sha256 of a JSON-compatible value, whatever the order of its keys."""
    text = json.dumps(clean(value), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def product_id(row: Mapping[str, Any]) -> str:
    """Return the identity of the result of a row: what went in, how, and by which code."""
    names = ("exposure_id", "input_sha256", "parameter_hash", "code_version", "sha256")
    return digest([row.get(name) for name in names])


def is_done(
    row: Row | None, store: Store, *, input_sha256: str, parameter_hash: str, code_version: str
) -> bool:
    """Tell whether a row stands for these inputs and its files are there.

    Rejected, quarantined and empty exposures are done; failed and superseded ones are not.
    """
    if row is None or row["state"] in {"failed", "superseded"}:
        return False
    same = (
        row["input_sha256"] == input_sha256
        and row["parameter_hash"] == parameter_hash
        and row["code_version"] == code_version
    )
    return same and store.exists(row.get("files") or {})


def build_manifest(rows: Iterable[Row]) -> pa.Table:
    """Return the manifest of some rows, sorted by time and identifier.

    The metrics and colours of a row become columns ``metric_<name>`` and ``colour_<name>``.
    """
    import pyarrow as pa

    rows = sorted(rows, key=lambda r: (r.get("mjd_mid") or 0.0, r["exposure_id"], r.get("product_id") or ""))
    types = {"string": pa.string(), "double": pa.float64(), "int32": pa.int32(), "int64": pa.int64()}
    types |= {"list<double>": pa.list_(pa.float64()), "list<string>": pa.list_(pa.string())}
    columns: dict[str, pa.Array] = {}
    for name, (kind, _) in COLUMNS.items():
        values = [_files_text(r) if name == "files" else r.get(name) for r in rows]
        columns[name] = pa.array(values, types[kind])
    for prefix, part, kind in ((METRIC_PREFIX, "metrics", "double"), (COLOUR_PREFIX, "colours", "string")):
        for name in sorted({key for r in rows for key in r.get(part) or {}}):
            columns[prefix + name] = pa.array([(r.get(part) or {}).get(name) for r in rows], types[kind])
    return pa.table(columns)


def _files_text(row: Row) -> str:
    return json.dumps(row.get("files") or {}, sort_keys=True)


def manifest_digest(table: pa.Table) -> str:
    """Return the sha256 of a table's content, without times of writing, paths and speed."""
    kept = [name for name in table.column_names if name not in _VOLATILE]
    return digest([kept, table.select(kept).to_pylist()])


def count_states(table: pa.Table) -> dict[str, int]:
    """Return how many exposures are in each state; every state is named."""
    counts = Counter(table.column("state").to_pylist())
    return {state: counts.get(state, 0) for state in STATES}


def usable(table: pa.Table) -> list[Row]:
    """Return the rows that flow downstream."""
    return [row for row in table.to_pylist() if row["state"] == "ok"]
