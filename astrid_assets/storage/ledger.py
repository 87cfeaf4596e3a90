"""The ledger of a field: how far each exposure has come, joined from the manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from astrid_assets.storage.layout import EXPOSURE_ASSETS, METADATA_FOLDER
from astrid_assets.storage.manifest import clean

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.storage.store import Row, Store

__all__ = ["ledger", "write_metadata"]

_IDENTITY = ("exposure_id", "archive", "survey", "band", "pairing_key", "role", "reference_id", "mjd_mid")


def ledger(sky_field: str, store: Store) -> pa.Table:
    """Return one row for each exposure that any archive offered for a field.

    Columns are those that identify it, ``status`` and ``reason`` of its selection, and for each
    later asset ``<asset>`` (state), ``<asset>_reason`` and ``<asset>_colour``; null where the
    exposure has not come so far.
    """
    import pyarrow as pa

    observations = store.manifest(EXPOSURE_ASSETS[0], sky_field)
    offered = [] if observations is None else observations.to_pylist()
    states = {asset: _by_exposure(store.manifest(asset, sky_field)) for asset in EXPOSURE_ASSETS[1:]}
    rows = [_ledger_row(row, states) for row in offered]
    return pa.table({name: [row[name] for row in rows] for name in _ledger_columns()}, _ledger_schema())


def write_metadata(
    sky_field: str, store: Store, exposure_ids: Iterable[str], *, newer: Mapping[str, pa.Table] | None = None
) -> None:
    """Write ``metadata/<field>/<exposure>.json`` of some exposures: identity, sky, time, files, states.

    Parameters
    ----------
    sky_field
        Name of the field.

    store
        The results.

    exposure_ids
        Exposures of the table of observations.

    newer
        Manifests by asset that are not written yet.
    """
    wanted = set(exposure_ids)
    if not wanted:
        return
    tables = {
        asset: (newer or {}).get(asset) or store.manifest(asset, sky_field) for asset in EXPOSURE_ASSETS
    }
    states = {asset: _by_exposure(tables[asset]) for asset in EXPOSURE_ASSETS[1:]}
    for offered in [] if tables[EXPOSURE_ASSETS[0]] is None else tables[EXPOSURE_ASSETS[0]].to_pylist():
        name = offered["exposure_id"]
        if name in wanted:
            path = f"{METADATA_FOLDER}/{sky_field}/{name}.json"
            store.write_json(path, _document(sky_field, offered, states))


def _by_exposure(table: pa.Table | None) -> dict[str, Row]:
    """Return the rows of a manifest by exposure; members of a reference share its row.

    A superseded row gives way to its successor.
    """
    rows = [] if table is None else sorted(table.to_pylist(), key=lambda r: r["state"] != "superseded")
    members = {m: row for row in rows for m in row.get("members") or ()}
    return members | {row["exposure_id"]: row for row in rows}


def _ledger_columns() -> list[str]:
    later = [name for asset in EXPOSURE_ASSETS[1:] for name in (asset, f"{asset}_reason", f"{asset}_colour")]
    return [*_IDENTITY, "status", "reason", *later]


def _ledger_schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {"mjd_mid": pa.float64()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in _ledger_columns()])


def _ledger_row(offered: Row, states: Mapping[str, Mapping[str, Row]]) -> Row:
    row = {name: offered.get(name) for name in (*_IDENTITY, "status", "reason")}
    for asset, rows in states.items():
        found = rows.get(offered["exposure_id"], {})
        row[asset] = found.get("state")
        row[f"{asset}_reason"] = found.get("reason")
        row[f"{asset}_colour"] = found.get("colour")
    return row


def _document(sky_field: str, offered: Row, rows: Mapping[str, Mapping[str, Row]]) -> dict[str, Any]:
    """Return the metadata of one exposure (the plan's 1.2)."""
    name = offered["exposure_id"]
    found = {a: r[name] for a, r in rows.items() if name in r}
    image = found.get("science_images") or found.get("references") or {}
    return clean(
        {
            "exposure_id": name,
            "field": sky_field,
            "archive": offered["archive"],
            "survey": offered["survey"],
            "detector_type": offered["detector_type"],
            "detector": offered["detector"],
            "band": offered["band"],
            "role": offered["role"],
            "reference_id": offered["reference_id"],
            "ra": offered["ra"],
            "dec": offered["dec"],
            "mjd_start": offered["mjd_start"],
            "mjd_mid": offered["mjd_mid"],
            "mjd_end": offered["mjd_end"],
            "dimensions": [image["ny"], image["nx"]] if image.get("ny") else None,
            "status": offered["status"],
            "reason": offered["reason"],
            "paths": {a: r["path"] for a, r in found.items() if r.get("path")},
            "states": {a: {k: r[k] for k in ("state", "reason", "colour")} for a, r in found.items()},
        }
    )
