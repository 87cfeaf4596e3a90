"""What a manifest holds, what makes a row count as done, and what its hash leaves out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from astrid_assets.storage.manifest import (
    COLUMNS,
    build_manifest,
    clean,
    count_states,
    digest,
    is_done,
    manifest_digest,
    product_id,
    usable,
)
from astrid_assets.storage.store import Store

ROW = {
    "exposure_id": "e1",
    "state": "ok",
    "mjd_mid": 60000.5,
    "metrics": {"seeing": 2.0, "scorr_std": None},
    "colours": {"seeing": "green"},
    "files": {"a.fits": 3},
    "path": "a.fits",
    "input_sha256": "i",
    "parameter_hash": "p",
    "code_version": "1",
    "seconds": 1.0,
    "written": "2025-01-01",
    "attempts": 0,
}


def test_every_column_is_there_also_without_rows():
    assert build_manifest([]).column_names == list(COLUMNS)


def test_metrics_and_colours_are_columns_and_rows_lie_in_order_of_time():
    later = ROW | {"exposure_id": "e0", "mjd_mid": 60001.5, "metrics": {"overlap": 0.5}, "colours": {}}
    table = build_manifest([later, ROW])
    assert table.column("exposure_id").to_pylist() == ["e1", "e0"]
    assert table.column("metric_seeing").to_pylist() == [2.0, None]
    assert table.column("metric_overlap").to_pylist() == [None, 0.5]
    assert table.column("colour_seeing").to_pylist() == ["green", None]
    assert json.loads(table.column("files")[0].as_py()) == {"a.fits": 3}


def test_the_hash_says_what_and_not_when_where_or_how_fast():
    same = ROW | {
        "seconds": 9.0,
        "written": "2026-01-01",
        "path": "b.fits",
        "files": {"b.fits": 4},
        "attempts": 1,
    }
    other = ROW | {"metrics": {"seeing": 2.0000001, "scorr_std": None}}
    hashes = [manifest_digest(build_manifest([row])) for row in (ROW, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_digest_is_the_sha256_of_sorted_json():
    expected = hashlib.sha256(b'{"a":[1,null],"b":"x"}').hexdigest()
    assert digest({"b": "x", "a": (1, float("nan"))}) == expected


def test_clean_unpacks_numpy_and_drops_what_is_not_finite():
    value = clean({"a": np.float32(1.5), "b": [np.int64(2), np.inf], "c": np.bool_(True), "d": "text"})
    assert value == {"a": 1.5, "b": [2, None], "c": True, "d": "text"}
    assert json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "done"),
    [
        ({}, True),
        ({"state": "rejected", "files": {}}, True),
        ({"state": "quarantined"}, True),
        ({"state": "empty"}, True),
        ({"state": "failed"}, False),
        ({"state": "superseded"}, False),
        ({"input_sha256": "other"}, False),
        ({"parameter_hash": "other"}, False),
        ({"code_version": "2"}, False),
        ({"files": {"a.fits": 4}}, False),
        ({"files": {"b.fits": 3}}, False),
    ],
)
def test_a_row_is_done_for_its_inputs_with_its_files(tmp_path: Path, change: dict, done: bool):
    store = Store(str(tmp_path))
    store.write_bytes("a.fits", b"123")
    identity = {"input_sha256": "i", "parameter_hash": "p", "code_version": "1"}
    assert is_done(ROW | change, store, **identity) is done


def test_no_row_is_not_done(tmp_path: Path):
    assert not is_done(None, Store(str(tmp_path)), input_sha256="i", parameter_hash="p", code_version="1")


def test_a_product_is_another_one_when_anything_that_made_it_changes():
    made_by = ("exposure_id", "input_sha256", "parameter_hash", "code_version", "sha256")
    ids = {product_id(ROW), *(product_id(ROW | {name: "other"}) for name in made_by)}
    assert len(ids) == 6
    assert product_id(ROW | {"seconds": 3.0, "path": "x"}) == product_id(ROW)


def test_states_are_counted_and_only_ok_flows_on():
    table = build_manifest([ROW, ROW | {"exposure_id": "e2", "state": "failed"}])
    assert count_states(table) == {
        "ok": 1,
        "empty": 0,
        "rejected": 0,
        "failed": 1,
        "quarantined": 0,
        "superseded": 0,
    }
    assert [r["exposure_id"] for r in usable(table)] == ["e1"]
