"""Injections of a made-up field: through the files of its exposures, each for itself and always the same."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrid_assets.assets.config import MATCH_OPTIONS, CandidatesConfig, InjectionsConfig, NormalizeConfig
from astrid_assets.assets.streaming import Job, Step, Work, stream
from astrid_assets.fields import Field, LocalOptions
from astrid_assets.images import read_image, read_pair, write_difference, write_image, write_pair
from astrid_assets.images.triplets import read_triplets
from astrid_assets.science import align, detect, normalize, zogy
from astrid_assets.science.injection_plan import PlanOptions
from astrid_assets.science.tiles import TRUTH_BITS
from astrid_assets.storage.manifest import digest
from astrid_assets.storage.store import Store
from astrid_assets.training.injection_columns import INJECTION_COLUMNS
from astrid_assets.training.injection_tables import efficiency_table, injection_metrics
from astrid_assets_tests.science.sky import expose, make_sky

FIELD = Field(name="f", ra=150.0, dec=20.0, radius=0.1, archives=("local",), local=LocalOptions(folder="x"))
SIZE = 256
QUICK = {"density": 400.0, "separation": 24.0, "n_artifacts": 3, "tile_size": 64, "max_flagged": 5}


def options(config, **changes):
    return {k: v for k, v in config().model_dump().items() if k != "force"} | changes


CONTEXT = {
    "normalize": options(NormalizeConfig),
    "detect": {k: v for k, v in options(CandidatesConfig).items() if k not in MATCH_OPTIONS},
}


def write_exposure(folder, name, mjd, sky, seed):
    """Write all files of one exposure as the assets do; return its rows."""
    rng = np.random.default_rng(seed)
    noise = expose(np.full(sky.science.shape, 40.0), rng) - 40.0
    data = (sky.science.data + noise).astype(np.float32)
    science = sky.science.replace(data=data, mjd_mid=mjd, band="r", exptime=30.0)
    write_image(folder / f"{name}.fits", science)
    science, reference = (read_image(folder / f"{n}.fits", survey="generic") for n in (name, "reference"))
    pair = normalize(align(science, reference))
    write_pair(folder / f"{name}_pair.fits", pair)
    pair = read_pair(folder / f"{name}_pair.fits")
    difference = zogy(pair)
    write_difference(folder / f"{name}_difference.fits", difference)
    pq.write_table(detect(difference, pair=pair, **CONTEXT["detect"]), folder / f"{name}.parquet")
    common = {"exposure_id": name, "reference_id": "reference", "band": "r", "survey": "generic"}
    common |= {"mjd_mid": mjd, "pairing_key": "generic/r", "sha256": name}
    paths = {"science": ".fits", "candidates": ".parquet", "difference": "_difference.fits"}
    paths["normalized"] = "_pair.fits"
    rows = {k: common | {"path": f"{name}{end}", "product_id": f"{k} {name}"} for k, end in paths.items()}
    same = {"path": "reference.fits", "product_id": "reference", "exposure_id": "reference"}
    return rows | {"reference": common | same}


@pytest.fixture(scope="module")
def exposures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    sky = make_sky(size=SIZE, n_stars=60, n_transients=3, frames=9)
    write_image(folder / "reference.fits", sky.reference)
    nights = {"e1": 60001.0, "e2": 60003.0}
    return folder, [write_exposure(folder, n, mjd, sky, i) for i, (n, mjd) in enumerate(nights.items())]


def run(exposures, *, rows=None, **changes):
    """Run the recipe on some exposures; return the folder of its files and the rows by exposure."""
    folder, all_rows = exposures
    step = Step("injections", options(InjectionsConfig, **QUICK | changes), "1", CONTEXT)
    job = Job(Store(str(folder)), FIELD, "injections", (step,), force=True)
    works = [
        Work(r["difference"], digest([r[k]["product_id"] for k in sorted(r)]), r) for r in rows or all_rows
    ]
    report = stream(job, works, workers=1)["injections"]
    return folder / "injections" / "f", {r["exposure_id"]: r for r in report.manifest.to_pylist()}


@pytest.fixture(scope="module")
def done(exposures):
    folder, rows = run(exposures)
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    return folder, rows, files


def table(files, name):
    return pq.read_table(pa.BufferReader(files[name]))


def test_every_exposure_has_truth_detections_stamps_and_tiles(done):
    _, rows, files = done
    assert {r["state"] for r in rows.values()} == {"ok"}
    for name in ("e1", "e2"):
        ends = (".parquet", "_detections.parquet", "_stamps.npz", "_tiles.npz")
        assert {f"{name}{end}" for end in ends} <= files.keys()
        truth = table(files, f"{name}.parquet")
        assert truth.column_names == list(INJECTION_COLUMNS)
        assert rows[name]["n_rows"] == truth.num_rows > 12
        kinds = set(truth["kind"].to_pylist())
        assert kinds == {"source", "artifact"}
        assert all(json.loads(c) for c in truth["light_curve"].to_pylist())
    assert len(set(truth["injection_id"].to_pylist())) == truth.num_rows


def test_the_truth_is_joined_to_what_was_found(done):
    _, _, files = done
    truth = table(files, "e1.parquet").to_pylist()
    found = {r["candidate_id"]: r for r in table(files, "e1_detections.parquet").to_pylist()}
    matched = [t for t in truth if t["kind"] == "source" and t["found"]]
    assert len(matched) > 5
    for t in matched:
        detection = found[t["candidate_id"]]
        assert detection["injection_id"] == t["injection_id"]
        assert not detection["artifact"]
        assert not detection["in_clean_run"]
        assert np.hypot(detection["x"] - t["x"], detection["y"] - t["y"]) == pytest.approx(t["separation"])
        assert detection["positive"] == (t["flux"] > 0)
    # what was there before is still there, and stands for nothing
    assert sum(r["in_clean_run"] and not r["injection_id"] for r in found.values()) >= 3
    strong = [t for t in truth if t["counted"] and t["snr_expected"] > 12]
    assert sum(t["found"] for t in strong) >= len(strong) - 1


def test_a_stamp_is_cut_for_all_that_was_put_in_and_found(done):
    folder, _, files = done
    rows = table(files, "e1_detections.parquet").to_pylist()
    stamps = read_triplets(folder / "e1_stamps.npz")
    cut = sorted((r for r in rows if r["stamp"] >= 0), key=lambda r: r["stamp"])
    assert [r["stamp"] for r in cut] == list(range(len(stamps)))
    assert [(round(r["x"]), round(r["y"])) for r in cut] == list(zip(stamps.x, stamps.y, strict=True))
    assert all(r["stamp"] >= 0 for r in rows if r["injection_id"])
    others = [r for r in cut if not r["injection_id"]]
    assert len(others) <= QUICK["max_flagged"]
    assert all(r["artifact"] for r in others)
    assert stamps.size == 65


def test_tiles_show_the_sources_where_they_are(done):
    folder, _, files = done
    with np.load(folder / "e1_tiles.npz") as tiles:
        images, truth, x0, y0 = (tiles[n] for n in ("images", "truth", "x0", "y0"))
    assert images.shape == (2, 3, 64, 64)
    marked = (truth & TRUTH_BITS["SOURCE"]) != 0
    for t in table(files, "e1.parquet").to_pylist():
        for i in range(2):
            x, y = round(t["x"]) - x0[i], round(t["y"]) - y0[i]
            if t["kind"] == "source" and abs(t["snr_expected"]) > 10 and 0 <= x < 64 and 0 <= y < 64:
                assert marked[i, y, x]
    assert marked.mean() < 0.3
    difference = images[:, 2]
    assert np.abs(difference[marked]).mean() > 2 * np.abs(difference[truth == 0]).mean()


def test_the_same_again_and_whatever_other_nights_there_are(exposures, done):
    first = {n: hashlib.sha256(b).hexdigest() for n, b in done[2].items() if n != "preview.png"}
    folder, _ = run(exposures, rows=exposures[1][1:])
    for name, sha256 in first.items():
        if name.startswith("e2"):
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256


def test_objects_are_those_of_the_field(done):
    _, _, files = done
    objects = [
        {
            t["object_id"]: t
            for t in table(files, f"{n}.parquet").to_pylist()
            if t["object_id"].count("-") == 2
        }
        for n in ("e1", "e2")
    ]
    both = objects[0].keys() & objects[1].keys()
    assert len(both) > 4
    for name in both:
        one, two = objects[0][name], objects[1][name]
        assert (one["light_curve"], one["host_id"]) == (two["light_curve"], two["host_id"])
        assert np.hypot(one["ra"] - two["ra"], one["dec"] - two["dec"]) * 3600 < 0.1


def test_zero_flux_leaves_difference_and_candidates_as_they_are(exposures):
    _, rows = run(exposures, rows=exposures[1][:1], zero_flux=True)
    row = rows["e1"]
    assert row["metric_null_changes"] == 0
    assert row["colour_null_changes"] == "green"
    assert row["metric_n_injected"] > 8
    assert row["metric_n_counted"] >= 0


def test_options_are_those_of_the_plan():
    plan = {f: getattr(PlanOptions(), f) for f in PlanOptions.__dataclass_fields__}
    ours = {k: v.default for k, v in InjectionsConfig.model_fields.items() if k in plan}
    assert ours == plan


def test_the_numbers_of_a_field_are_those_of_all_its_rows(done):
    _, rows, files = done
    truth = pa.concat_tables([table(files, "e1.parquet"), table(files, "e2.parquet")])
    metrics = injection_metrics(truth)
    for name in ("n_injected", "n_10", "n_found_10"):
        assert metrics[name] == sum(r[f"metric_{name}"] for r in rows.values())
    fits = efficiency_table(truth, n_bootstrap=5).to_pylist()
    assert [(f["band"], f["site"]) for f in fits] == [
        ("all", "all"),
        ("r", "all"),
        ("all", "host"),
        ("all", "blank"),
    ]
    assert fits[0]["n_sources"] == metrics["n_counted"]
