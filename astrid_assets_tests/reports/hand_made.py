"""Results of a field written by hand, so that reports can be compared with what they were told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from astrid_assets.archives.planning import OBSERVATION_COLUMNS
from astrid_assets.fields import Field, parse_fields
from astrid_assets.reports.results import FieldResults
from astrid_assets.storage.layout import ASSETS, MANIFEST, OUTPUTS
from astrid_assets.storage.manifest import build_manifest
from astrid_assets.storage.store import Store

__all__ = ["field_named", "image_row", "observed", "results_of", "write"]

UPSTREAM = tuple(asset for asset in ASSETS if asset != "field_report")


def field_named(name: str = "made", archive: str = "local") -> Field:
    folder = "\n  local: {folder: /nowhere}" if archive == "local" else ""
    text = f"{name}:\n  ra: 10.0\n  dec: -20.0\n  radius: 0.1\n  archives: [{archive}]{folder}\n"
    return parse_fields(text)[name]


def results_of(root: Path, sky_field: Field | None = None) -> FieldResults:
    return FieldResults(Store(str(root)), sky_field or field_named(), UPSTREAM)


def observed(root: Path, rows: Sequence[Mapping[str, Any]], *, name: str = "made") -> None:
    """Write the ledger: exposures that say only what matters."""
    plain = {"role": "science", "status": "selected", "product": "exposure", "deferred": False}
    schema = {"string": pa.string(), "double": pa.float64(), "int32": pa.int32(), "int64": pa.int64()}
    schema |= {"bool": pa.bool_(), "list<double>": pa.list_(pa.float64())}
    table = pa.table(
        {
            column: pa.array([(plain | dict(row)).get(column) for row in rows], schema[kind])
            for column, (kind, _) in OBSERVATION_COLUMNS.items()
        }
    )
    Store(str(root)).write_table(f"observations/{name}/{MANIFEST}", table)


def image_row(name: str, **columns: Any) -> dict[str, Any]:
    """Return the row of an exposure that went well, unless told otherwise."""
    row = {
        "exposure_id": name,
        "state": "ok",
        "archive": "local",
        "survey": "generic",
        "band": "r",
        "mjd_mid": 60000.0,
        "mjd_start": 60000.0,
        "mjd_end": 60000.0,
        "zeropoint": 25.0,
        "footprint": [1.0] * 8,
        "input_sha256": "i" * 64,
        "parameter_hash": "p" * 16,
        "code_version": "1",
        "product_id": f"product of {name}",
        "n_exposures": 1,
        "files": {f"{name}.fits": 1_000_000},
    }
    return row | columns


def write(
    root: Path, asset: str, rows: Sequence[Mapping[str, Any]], *, output: pa.Table | None = None
) -> None:
    """Write the manifest of an asset, and what it hands downstream."""
    store = Store(str(root))
    folder = store.folder(asset, "made")
    store.write_table(f"{folder}/{MANIFEST}", build_manifest([dict(row) for row in rows]))
    if output is not None:
        store.write_table(f"{folder}/{OUTPUTS[asset]}", output)
