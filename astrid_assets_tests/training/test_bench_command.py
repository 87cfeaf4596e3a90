"""``astrid bench training`` as its users call it, on toy samples and toy stamps."""

import json
import os
from itertools import combinations

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrid_assets.cli import main
from astrid_assets.cli.bench import at_home, survey_fields
from astrid_assets.fields import parse_fields, separation
from astrid_assets_tests.training.toys import samples

KEYS = {"real_auc", "real_auc_low", "real_auc_high", "synthetic_auc", "shortcut_auc", "domain_auc"}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Return a folder with what the benchmark reads of a release."""
    folder, tables = tmp_path_factory.mktemp("0123456789ab"), []
    for seed, (split, n) in enumerate({"train": 160, "validation": 20, "test": 40}.items()):
        stamps, label, kind = samples(n, seed=seed, size=65)
        with h5py.File(folder / f"{split}.h5", "w") as file:
            file["triplet"], file["mask"] = stamps, np.zeros(stamps.shape, np.uint8)
        columns = {
            "label": pa.array(label, pa.int8()),
            "h5_row": np.arange(n),
            "type": kind.tolist(),
            "domain": np.where(np.arange(n) // 2 % 2, "injected", "observed").tolist(),
            "snr": np.full(n, 20.0),
            "flux": np.full(n, 1000.0),
            "object_id": [f"{split}-{i}" for i in range(n)],
            "split": [split] * n,
        }
        tables.append(pa.table(columns))
    pq.write_table(pa.concat_tables(tables), folder / "catalog.parquet")
    return folder


@pytest.fixture(scope="module")
def stamps(tmp_path_factory):
    """Return a file of labelled stamps; their sky is still in them."""
    pixels, label, _ = samples(60, seed=9)
    pixels[:, :2] += 200
    columns = {
        f"cutout_{name}": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(pixels[:, k]))
        for k, name in enumerate(("science", "template", "difference"))
    }
    sources = ["solar-system match" if i % 6 == 1 else "drb (pseudo)" for i in range(60)]
    columns |= {"label": label, "label_source": sources, "objectId": [f"ZTF{i // 2}" for i in range(60)]}
    file = tmp_path_factory.mktemp("stamps") / "stamps.parquet"
    pq.write_table(pa.table(columns), file)
    return file


def test_the_feature_model_answers_without_pytorch(release, stamps, capsys):
    words = f"bench training --release {release} --stamps {stamps} --model features --seeds 1 --json"
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert set(result) >= KEYS
    assert result["real_auc"] > 0.95
    assert result["model"] == "features"
    assert result["release"] == release.name
    assert result["n"]["training"] == 180
    assert set(result["subsets"]) == {"solar_system", "pseudo_labelled"}
    assert "agreement with drb and braai" in out


def test_without_stamps_it_says_so_before_any_work(release, monkeypatch, capsys):
    monkeypatch.delenv("ASTRID_REAL_DATA", raising=False)
    with pytest.raises(SystemExit) as stop:
        main(["bench", "training", "--release", str(release)])
    assert stop.value.code == 1
    assert "give --stamps, or set ASTRID_REAL_DATA" in capsys.readouterr().err


def test_the_survey_of_the_benchmark_is_a_valid_registry():
    fields = parse_fields(json.dumps(survey_fields()))
    assert len(fields) >= 12
    assert {field.archives for field in fields.values()} == {("simulated",)}
    # far from each other, so that none shares a cell with another
    nearest = min(separation(a.ra, a.dec, b.ra, b.dec) for a, b in combinations(fields.values(), 2))
    assert nearest > 10


def test_its_home_is_left_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTRID_DATA", "elsewhere")
    before = dict(os.environ)
    with at_home(tmp_path):
        assert os.environ["DAGSTER_HOME"] == str(tmp_path)
        assert "ASTRID_DATA" not in os.environ
    assert dict(os.environ) == before
