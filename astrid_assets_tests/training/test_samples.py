"""From detections to samples: strata, caps, no pixels twice, the same bytes."""

import io
from collections import Counter

import h5py
import numpy as np
import pytest

from astrid_assets.images.triplets import Triplets
from astrid_assets.training.samples import Detections, build_samples, write_samples
from astrid_assets.training.schema import SAMPLE_COLUMNS
from astrid_assets.training.selection import SelectionOptions, select
from astrid_assets.training.shortcut import PROBE_FEATURES

EXPOSURE = {"field": "f", "exposure_id": "e", "reference_id": "r", "archive": "simulated", "survey": "ztf"}
EXPOSURE |= {"band": "r", "mjd_mid": 60935.2, "zeropoint": 26.2, "seeing": 2.1}


def triplets(rows, seed):
    rng = np.random.default_rng(seed)
    n = len(rows)
    x, y = (np.array([round(r[k]) for r in rows], np.int32) for k in "xy")
    stamps = rng.normal(0, 5, (n, 3, 65, 65)).astype(np.float32)
    return Triplets(stamps, np.zeros(stamps.shape, np.uint8), np.zeros((n, 65, 65), np.float32), x, y)


def detection(i, **columns):
    base = {
        "candidate_id": f"e-{i:04d}",
        "x": 30.0 * (i % 30),
        "y": 30.0 * (i // 30),
        "ra": 10.0,
        "dec": 20.0,
    }
    base |= {"flux": 100.0, "flux_error": 10.0, "snr": 10.0, "positive": True, "artifact": ""}
    return base | columns


def observed():
    rows = [detection(i, variable_id=f"v{i}", variable_class="RRAB", star_id=f"s{i}") for i in range(10)]
    rows += [detection(i, artifact="masked") for i in range(10, 50)]
    rows += [detection(i, artifact="not_psf") for i in range(50, 60)]
    rows += [detection(i) for i in range(60, 80)]
    return Detections(rows, triplets(rows, 1), list(range(80)))


def injected():
    rows = [detection(i, in_clean_run=True, artifact="masked") for i in range(10, 50)]
    rows += [detection(i, in_clean_run=False, injection_id=f"i{i}") for i in range(100, 130)]
    rows += [detection(i, in_clean_run=False, injection_id=f"i{i}") for i in range(130, 150)]
    kinds = {i: "source" if i < 130 else "artifact" for i in range(100, 150)}
    truth = [
        {"injection_id": f"i{i}", "object_id": f"f-{i}", "host_id": "", "kind": kind, "class": f"c{i % 4}"}
        | {"x": 30.0 * (i % 30), "y": 30.0 * (i // 30), "flux": 90.0, "magnitude": 20.0, "site": "blank"}
        for i, kind in kinds.items()
    ]
    stamp = [*range(len(rows) - 1), -1]
    return Detections(rows, triplets(rows, 2), stamp), truth


@pytest.fixture(scope="module")
def samples():
    detections, truth = injected()
    return build_samples(EXPOSURE, observed(), detections, truth=truth)


def test_columns_and_provenance(samples):
    assert samples.table.column_names == list(SAMPLE_COLUMNS)
    rows = samples.table.to_pylist()
    assert len({r["sample_id"] for r in rows}) == len(rows) == len(samples.stamps)
    for r in rows:
        assert (r["field"], r["exposure_id"], r["survey"], r["h5_file"]) == ("f", "e", "ztf", "e.h5")
        assert r["label_source"]
        assert (r["label_confidence"] is None) == (r["label"] == -1)
        assert (r["label_source"] == "none") == (r["label"] == -1)
    assert [r["h5_row"] for r in rows] == list(range(len(rows)))


def test_strata_exist_in_both_domains_and_classes_balance(samples):
    originals = [r for r in samples.table.to_pylist() if not r["nuisance"]]
    counts = Counter((r["label"], r["domain"]) for r in originals)
    assert counts[1, "observed"] == 10
    assert counts[1, "injected"] == 30
    assert counts[0, "observed"] == 10
    assert counts[0, "injected"] == 30
    assert counts[-1, "observed"] == 10
    assert counts[-1, "injected"] == 0
    sources = Counter(r["label_source"] for r in originals if r["label"] == 0 and r["domain"] == "injected")
    assert sources["synthetic_artifact"] >= 10
    assert sources["artifact_flag"] >= 10


def test_no_pixels_twice(samples):
    rows = [r for r in samples.table.to_pylist() if not r["nuisance"]]
    assert len({r["candidate_id"] for r in rows}) == len(rows)
    assert len({r["sha1"] for r in samples.table.to_pylist()}) == samples.table.num_rows


def test_copies_stay_with_their_object_and_are_spoiled_in_every_class(samples):
    rows = samples.table.to_pylist()
    by_name = {r["sample_id"]: r for r in rows}
    copies = [r for r in rows if r["nuisance"]]
    assert {r["label"] for r in copies} == {1, 0, -1}
    for r in copies:
        original = by_name[r["sample_id"].removesuffix(f"-{r['nuisance']}")]
        assert original["object_id"] == r["object_id"]
        assert original["label"] == r["label"]
        assert r["bad_science"] + r["bad_reference"] > 0
        assert original["bad_science"] == 0


def test_without_injections_observed_detections_do():
    table = build_samples(EXPOSURE, observed()).table
    assert set(table["domain"].to_pylist()) == {"observed"}
    counts = Counter(r["label"] for r in table.to_pylist() if not r["nuisance"])
    assert counts == {1: 10, 0: 10, -1: 10}
    nothing = Detections([], triplets([], 1), [])
    assert build_samples(EXPOSURE, nothing).table.num_rows == 0


def test_the_file_holds_the_samples_and_always_the_same_bytes(samples):
    tiles = {"images": np.ones((2, 3, 256, 256), np.float32), "truth": np.ones((2, 256, 256), np.uint8)}
    tiles |= {"x0": np.array([0, 256]), "y0": np.array([5, 6])}
    first, second = io.BytesIO(), io.BytesIO()
    for stream in (first, second):
        write_samples(stream, samples, described={"field": "f"}, tiles=tiles)
    assert first.getvalue() == second.getvalue()
    with h5py.File(first, "r") as file:
        assert file["triplet"].chunks is None
        assert file["triplet"].dtype == np.dtype("<f4")
        np.testing.assert_array_equal(file["triplet"][:], samples.stamps)
        np.testing.assert_array_equal(file["mask"][:], samples.mask)
        assert file["tile_corner"][:].tolist() == [[0, 5], [256, 6]]
        assert file.attrs["field"] == "f"
        assert file.attrs["centre_pixel"] == "[32, 32]"


def test_probe_table_goes_with_the_samples(samples):
    table = samples.probe_table()
    assert table["sample_id"].to_pylist() == samples.table["sample_id"].to_pylist()
    assert set(PROBE_FEATURES) < set(table.column_names)
    gone = np.isnan(samples.stamps[:, 1]).mean(axis=(1, 2))
    np.testing.assert_allclose(table["missing_reference"].to_numpy(), gone, atol=1e-6)


# --- selection ------------------------------------------------------------------------------------


def chosen(labels, domains, *, types=None, surroundings=None, missing=None, **options):
    n = len(labels)
    return select(
        [f"d{i}" for i in range(n)],
        np.array(labels),
        np.array(domains, object),
        types or [f"t{i % 5}" for i in range(n)],
        np.zeros((n, 2)) if surroundings is None else surroundings,
        np.zeros(n, bool) if missing is None else missing,
        seed="e",
        options=SelectionOptions(**options),
    )


def test_the_rarer_bogus_of_a_domain_are_made_up_for_by_the_other():
    labels = [1] * 30 + [0] * 5 + [0] * 100
    domains = ["injected"] * 35 + ["observed"] * 100
    rows = chosen(labels, domains)
    assert (rows < 30).sum() == 30
    assert ((rows >= 30) & (rows < 35)).sum() == 5
    assert (rows >= 35).sum() == 25


def test_classes_stay_within_their_ratio():
    rows = chosen([1] * 50 + [0] * 4, ["observed"] * 54)
    assert (rows < 50).sum() == 12
    assert (rows >= 50).sum() == 4
    assert len(chosen([1] * 50, ["observed"] * 50)) == 50
    assert len(chosen([0] * 50, ["observed"] * 50)) == 3
    assert len(chosen([], [])) == 0


def test_surroundings_are_alike():
    rng = np.random.default_rng(0)
    surroundings = np.r_[rng.normal(0.8, 1.0, (60, 2)), rng.normal(0.0, 1.0, (600, 2))]
    rows = chosen([1] * 60 + [0] * 600, ["observed"] * 660, surroundings=surroundings)
    real, bogus = surroundings[rows[rows < 60]], surroundings[rows[rows >= 60]]
    assert len(real) == len(bogus) == 60
    assert np.abs(real.mean(axis=0) - bogus.mean(axis=0)).max() < 0.2


def test_no_type_prevails_and_few_lack_pixels():
    types = ["x"] * 40 + ["masked"] * 290 + ["streak", "dipole"] * 20
    rows = chosen([1] * 40 + [0] * 330, ["observed"] * 370, types=types)
    assert sum(types[r] == "masked" for r in rows) == 16
    missing = np.arange(370) % 2 == 0
    rows = chosen([1] * 40 + [0] * 330, ["observed"] * 370, types=types, missing=missing)
    for part in (rows[rows < 40], rows[rows >= 40]):
        assert missing[part].mean() <= 0.4
