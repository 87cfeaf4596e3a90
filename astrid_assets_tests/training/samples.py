"""Samples made up for tests: tables with all columns, and the files of a field's training set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astrid_assets.storage.manifest import build_manifest, product_id
from astrid_assets.storage.store import Store
from astrid_assets.training.schema import SAMPLE_COLUMNS, sample_schema

DEFAULTS = {
    "field": "a",
    "exposure_id": "a1",
    "reference_id": "ref",
    "object_id": "",
    "host_id": "",
    "archive": "simulated",
    "survey": "ztf",
    "band": "r",
    "mjd_mid": 60000.0,
    "ra": 10.0,
    "dec": 0.0,
    "flux": 100.0,
    "flux_error": 5.0,
    "snr": 20.0,
    "zeropoint": 26.2,
    "seeing": 2.0,
    "artifact": "",
    "label": 1,
    "label_source": "variable_match",
    "label_confidence": 0.9,
    "type": "variable",
    "domain": "observed",
    "site": "",
    "magnitude_true": None,
    "flux_true": None,
    "injection_probability": None,
    "nuisance": "",
    "bad_science": 0.0,
    "bad_reference": 0.0,
    "bad_difference": 0.0,
    "h5_file": "a1.h5",
}


def samples(rows: Sequence[dict]) -> pa.Table:
    """Return a sample table; what a row leaves out is unremarkable and far from the others."""
    full = []
    for number, row in enumerate(rows):
        own = {
            "sample_id": f"s{number}",
            "candidate_id": f"c{number}",
            "x": 100.0 * number,
            "y": 50.0,
            "h5_row": number,
            "sha1": f"{number:040x}",
        }
        full.append({name: (DEFAULTS | own | row).get(name) for name in SAMPLE_COLUMNS})
    return pa.Table.from_pylist(full, schema=sample_schema())


def write_field(
    store: Store,
    name: str,
    *,
    ra: float,
    exposures: int = 2,
    n: int = 12,
    size: int = 65,
    tiles: int = 1,
    seed: int = 1,
    labels: Sequence[int] = (1, 0, -1),
) -> pa.Table:
    """Write the training set of a field: a table, a file of stamps an exposure, a manifest."""
    import h5py

    folder = store.folder("training_set", name)
    tables, rows = [], []
    for number in range(exposures):
        exposure = f"{name}_{number}"
        random = np.random.default_rng([seed, number, round(ra * 1000)])
        stamps = random.normal(0, 10, (n, 3, size, size)).astype(np.float32)
        stamps[..., size // 2, size // 2] += 500
        stamps[0, 1] = np.nan
        mask = np.zeros(stamps.shape, np.uint8)
        mask[0, 1] = 2
        table = samples(
            [
                {
                    "sample_id": f"{exposure}_{i}",
                    "field": name,
                    "exposure_id": exposure,
                    "object_id": f"J{ra + 0.01 * i:.4f}",
                    "ra": ra + 0.01 * i,
                    "mjd_mid": 60000.0 + number,
                    "x": 80.0 * i,
                    "label": labels[i % len(labels)],
                    "label_source": ("variable_match", "artifact_flag", "none")[i % 3],
                    "bad_reference": float(i == 0),
                    "h5_file": f"{exposure}.h5",
                    "h5_row": i,
                    "sha1": hashlib.sha1(stamps[i].tobytes(), usedforsecurity=False).hexdigest(),
                }
                for i in range(n)
            ]
        )
        with store.writing(f"{folder}/{exposure}.h5") as stream, h5py.File(stream, "w") as file:
            file["triplet"], file["mask"] = stamps, mask
            file["tile_images"] = random.normal(0, 10, (tiles, 3, 256, 256)).astype(np.float32)
            file["tile_truth"] = random.integers(0, 7, (tiles, 256, 256)).astype(np.uint8)
        store.write_table(f"{folder}/{exposure}.parquet", table)
        row = {
            "exposure_id": exposure,
            "state": "ok",
            "input_sha256": hashlib.sha256(stamps.tobytes()).hexdigest(),
            "parameter_hash": "p",
            "code_version": "1",
            "path": f"{folder}/{exposure}.h5",
        }
        rows.append(row | {"product_id": product_id(row)})
        tables.append(table)
    whole = pa.concat_tables(tables)
    store.write_table(f"{folder}/samples.parquet", whole)
    store.write_table(f"{folder}/manifest.parquet", build_manifest(rows))
    return whole


def files_of(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by name."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def read_json(path: Path) -> dict:
    """Read a JSON file."""
    return json.loads(path.read_text())


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file."""
    return pq.read_table(path)
