"""The training set of a made-up field: through the files of its exposures, redone only where it must be."""

from __future__ import annotations

import hashlib
import json

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from astrid_assets.assets.config import TrainingSetConfig
from astrid_assets.assets.training_set import training_set
from astrid_assets.images.triplets import Triplets, write_triplets
from astrid_assets.storage.manifest import build_manifest
from astrid_assets.storage.store import Store
from astrid_assets.training.labels import LabelRules
from astrid_assets.training.nuisances import NuisanceOptions
from astrid_assets.training.selection import SelectionOptions
from astrid_assets_tests.tiny import install, tiny_field

EXPOSURES = ("e1", "e2")


def row(name, path, product="p"):
    return {
        "exposure_id": name,
        "reference_id": "ref",
        "archive": "simulated",
        "survey": "ztf",
        "band": "r",
        "pairing_key": "k",
        "mjd_start": 60000.0,
        "mjd_mid": 60000.0002,
        "mjd_end": 60000.0004,
        "state": "ok",
        "path": path,
        "files": {path: 1},
        "input_sha256": "i",
        "parameter_hash": "h",
        "code_version": "1",
        "product_id": f"{product}-{name}",
    }


def detections(name, first, n, *, seed, **columns):
    rng = np.random.default_rng([seed, len(name)])
    rows = []
    for i in range(first, first + n):
        x, y = 40.0 + 60.0 * (i % 15), 40.0 + 60.0 * (i // 15)
        base = {"candidate_id": f"{name}-{i:04d}", "exposure_id": name, "x": x, "y": y}
        base |= {"ra": 10.0 + x / 3600, "dec": 20.0 + y / 3600, "snr": float(rng.uniform(5, 30))}
        rows.append(base | {"flux": 100.0, "flux_error": 5.0, "positive": True, "artifact": ""} | columns)
    return rows


def write_stamps(store, path, rows, seed):
    stamps = np.random.default_rng(seed).normal(0, 5, (len(rows), 3, 65, 65)).astype(np.float32)
    x, y = (np.array([round(r[k]) for r in rows], np.int32) for k in "xy")
    mask, score = np.zeros(stamps.shape, np.uint8), np.zeros((len(rows), 65, 65), np.float32)
    with store.writing(path) as stream:
        write_triplets(stream, Triplets(stamps, mask, score, x, y))


def write_exposure(store, name):
    """Write cutouts and injections of an exposure; return its candidates and the truth."""
    seed = EXPOSURES.index(name)
    found = detections(name, 0, 12, seed=seed) + detections(name, 12, 30, seed=seed, artifact="not_psf")
    store.write_table(f"cutouts/tiny/{name}.parquet", pa.Table.from_pylist(found))
    write_stamps(store, f"cutouts/tiny/{name}.npz", found, 10 + seed)
    again = [r | {"in_clean_run": True, "injection_id": ""} for r in found[12:]]
    put = detections(name, 60, 30, seed=seed, in_clean_run=False)
    put = [r | {"injection_id": f"{name}-{i}"} for i, r in enumerate(put)]
    rows = [r | {"stamp": i} for i, r in enumerate(again + put)]
    store.write_table(f"injections/tiny/{name}_detections.parquet", pa.Table.from_pylist(rows))
    write_stamps(store, f"injections/tiny/{name}_stamps.npz", rows, 20 + seed)
    truth = [
        {"injection_id": r["injection_id"], "exposure_id": name, "object_id": f"inj-{i}", "x": r["x"]}
        | {"y": r["y"], "x_end": None, "y_end": None, "extent": 3.0, "flux": 100.0, "magnitude": 20.0}
        | {"kind": "source" if i < 20 else "artifact", "class": "sn_ia" if i < 20 else "ghost"}
        | {"host_id": "J10.0111+20.0111" if i == 0 else "", "site": "host", "injection_probability": 0.2}
        for i, r in enumerate(put)
    ]
    store.write_table(f"injections/tiny/{name}.parquet", pa.Table.from_pylist(truth))
    with store.writing(f"injections/tiny/{name}_tiles.npz") as stream:
        images, mask = np.ones((1, 3, 256, 256), np.float32), np.ones((1, 256, 256), np.uint8)
        np.savez(stream, images=images, truth=mask, x0=np.array([0]), y0=np.array([0]))
    return found, truth


@pytest.fixture
def inputs():
    """Return what the asset is given; all of it can be changed."""
    install(tiny_field())
    store = Store()
    written = {name: write_exposure(store, name) for name in EXPOSURES}
    manifest = build_manifest([row(n, f"injections/tiny/{n}.parquet", "injections") for n in EXPOSURES])
    store.write_table("injections/tiny/manifest.parquet", manifest)
    variable = {"variable_id": "v1", "variable_class": "RRAB", "star_id": "s1"}
    none = dict.fromkeys(variable)
    candidates = [
        r | (variable if i < 6 else none) for found, _ in written.values() for i, r in enumerate(found)
    ]
    known = {"object_id": ["g9"], "kind": ["galaxy"], "ra": [10.0111], "dec": [20.0111]}
    alerts = {"mjd": [1.0], "band": ["r"], "label": [1], "label_confidence": [0.8], "positive": [True]}
    return {
        "cutouts": build_manifest([row(n, f"cutouts/tiny/{n}.npz", "cutouts") for n in EXPOSURES]),
        "candidates": pa.Table.from_pylist(candidates),
        "injections": pa.Table.from_pylist([t for _, truth in written.values() for t in truth]),
        "known_objects": pa.table(known),
        "ztf_alerts": pa.table(alerts | {"ra": [0.0], "dec": [0.0], "object_id": ["a"]}),
    }


def run(inputs, **options):
    context = dg.build_asset_context(partition_key="tiny", resources={"run_lock": None})
    return training_set(context, TrainingSetConfig(**options), **inputs)


def hashes():
    folder = Store().path("training/tiny")
    names = [p for p in sorted(folder.iterdir()) if p.suffix in (".h5", ".parquet")]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in names if p.name != "manifest.parquet"}


def test_samples_checks_and_files(inputs):
    result = run(inputs)
    rows = result.value.to_pylist()
    assert {r["exposure_id"] for r in rows} == set(EXPOSURES)
    assert len({r["sample_id"] for r in rows}) == len(rows)
    assert {(r["label"], r["domain"]) for r in rows if r["label"] >= 0} == {
        (label, domain) for label in (0, 1) for domain in ("observed", "injected")
    }
    assert {r["type"] for r in rows if r["label"] == 1} == {"rrab", "sn_ia"}
    assert {r["host_id"] for r in rows if r["label"] == 1 and r["type"] == "sn_ia"} <= {"g9", ""}
    assert {r["host_id"] for r in rows if r["type"] == "rrab"} == {"s1"}
    checks = {c.check_name: c for c in result.check_results}
    assert [name for name, check in checks.items() if not check.passed] == []
    assert {
        "label_balance",
        "strata_complete",
        "shapes_finite",
        "label_sources",
        "no_unlabelled_bogus",
    } < set(checks)
    summary = json.loads(Store().path("training/tiny/summary.json").read_text())
    assert summary["colour_smallest_stratum"] == "green"
    assert sum(summary["counts"]["label"].values()) == len(rows) == result.metadata["n_samples"]


def test_a_second_run_does_nothing_and_a_forced_one_makes_the_same_bytes(inputs):
    first = run(inputs)
    before = hashes()
    assert run(inputs).metadata["n_new"] == 0
    again = run(inputs, force=True)
    assert again.metadata["n_new"] == 2
    assert hashes() == before
    assert again.data_version == first.data_version


def test_only_what_knows_something_new_is_redone(inputs):
    run(inputs)
    changed = inputs["candidates"].to_pylist()
    changed[8] |= {"variable_id": "v2", "variable_class": "EB"}
    result = run(inputs | {"candidates": pa.Table.from_pylist(changed)})
    assert (result.metadata["n_new"], result.metadata["n_reused"]) == (1, 1)
    assert "eb" in result.value["type"].to_pylist()
    alert = inputs["ztf_alerts"].to_pylist()[0] | {"mjd": 60000.0, "ra": 10.0 + 40 / 3600}
    result = run(inputs | {"ztf_alerts": pa.Table.from_pylist([alert])})
    assert result.metadata["n_new"] == 2


def test_people_are_listened_to(inputs):
    run(inputs)
    home = Store().path("..").resolve()
    lines = ["field,candidate_id,label,type,who,date", "tiny,e2-0009,bogus,ghost,ada,2025-09-17"]
    (home / "vetting.csv").write_text("\n".join([*lines, "other,e1-0009,real,,ada,2025-09-17"]))
    result = run(inputs)
    assert (result.metadata["n_new"], result.metadata["n_reused"]) == (1, 1)
    assert "vetted" in result.value["label_source"].to_pylist()


def test_without_injections_there_is_what_was_observed(inputs):
    Store().remove("injections/tiny/manifest.parquet")
    result = run(inputs | {"injections": inputs["injections"].slice(0, 0)})
    assert set(result.value["domain"].to_pylist()) == {"observed"}
    checks = {c.check_name: c for c in result.check_results}
    assert not checks["strata_complete"].passed
    assert checks["strata_complete"].severity == dg.AssetCheckSeverity.WARN


def test_an_exposure_without_candidates_has_its_injections(inputs):
    rows = inputs["cutouts"].to_pylist()
    rows[1] |= {"state": "empty", "path": None, "files": {}}
    result = run(inputs | {"cutouts": build_manifest(rows)})
    domains = {(r["exposure_id"], r["domain"]) for r in result.value.to_pylist()}
    assert domains == {("e1", "observed"), ("e1", "injected"), ("e2", "injected")}


def test_nothing_in_nothing_out(inputs):
    empty = {name: table.slice(0, 0) for name, table in inputs.items()}
    result = run(empty)
    assert result.value.num_rows == 0


def test_options_have_the_defaults_of_the_functions():
    theirs = {
        name: value
        for kind in (LabelRules, SelectionOptions, NuisanceOptions)
        for name, value in vars(kind()).items()
    }
    ours = {name: f.default for name, f in TrainingSetConfig.model_fields.items() if name != "force"}
    assert ours == {name: theirs[name] for name in ours}
