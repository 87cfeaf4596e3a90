"""How far an exposure has come is a join over the manifests."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from astrid_assets.archives.planning import OBSERVATION_COLUMNS
from astrid_assets.storage.ledger import ledger, write_metadata
from astrid_assets.storage.manifest import build_manifest
from astrid_assets.storage.store import Store


def _offered(**rows: dict) -> pa.Table:
    base = dict.fromkeys(OBSERVATION_COLUMNS) | {"archive": "simulated", "survey": "ztf", "band": "r"}
    rows = [base | {"exposure_id": name, "mjd_mid": 60000.0} | row for name, row in rows.items()]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def store() -> Store:
    store = Store("memory://ledger")
    offered = _offered(
        e1={"status": "selected", "role": "science", "reference_id": "coadd-r-1"},
        e2={"status": "rejected", "reason": "outside both windows"},
        m1={"status": "selected", "role": "reference", "reference_id": "coadd-r-1"},
    )
    store.write_table("observations/f/manifest.parquet", offered)
    old = {"exposure_id": "e1", "state": "superseded", "reason": "reprocessed", "mjd_mid": 1.0}
    new = {"exposure_id": "e1", "state": "ok", "mjd_mid": 1.0, "nx": 4, "ny": 3, "path": "s/e1.fits"}
    store.write_table("source_fits/science/f/manifest.parquet", build_manifest([new, old]))
    reference = {"exposure_id": "coadd-r-1", "state": "quarantined", "reason": "red: x", "members": ["m1"]}
    store.write_table("source_fits/reference/f/manifest.parquet", build_manifest([reference]))
    return store


def test_the_ledger_has_a_row_for_everything_that_was_offered(store: Store):
    rows = {r["exposure_id"]: r for r in ledger("f", store).to_pylist()}
    assert set(rows) == {"e1", "e2", "m1"}
    assert rows["e2"]["status"] == "rejected"
    assert rows["e2"]["reason"] == "outside both windows"
    assert rows["e2"]["science_images"] is None
    assert rows["e1"]["science_images"] == "ok"
    assert rows["e1"]["aligned_pairs"] is None
    assert rows["m1"]["references"] == "quarantined"
    assert rows["m1"]["references_reason"] == "red: x"


def test_a_field_that_never_ran_has_an_empty_ledger(store: Store):
    table = ledger("other", store)
    assert table.num_rows == 0
    assert "candidates_reason" in table.column_names


def test_each_exposure_has_a_json_file_with_its_states(store: Store):
    newer = build_manifest([{"exposure_id": "e1", "state": "failed", "reason": "oops"}])
    write_metadata("f", store, ["e1", "unknown"], newer={"aligned_pairs": newer})
    document = json.loads(store.path("metadata/f/e1.json").read_text())
    assert document["dimensions"] == [3, 4]
    assert document["paths"] == {"science_images": "s/e1.fits"}
    assert document["states"]["science_images"]["state"] == "ok"
    assert document["states"]["aligned_pairs"] == {"state": "failed", "reason": "oops", "colour": None}
    assert document["field"] == "f"
    assert store.size("metadata/f/unknown.json") is None
    assert store.size("metadata/f/e2.json") is None
