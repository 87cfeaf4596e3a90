"""From detections to samples: strata, caps, no pixels twice, the same bytes."""

import io
from collections import Counter

import h5py
import numpy as np
import pytest

from astrid_assets.images.triplets import Triplets
from astrid_assets.training.samples import Detections, build_samples, write_samples
from astrid_assets.training.schema import SAMPLE_COLUMNS
from astrid_assets.training.selection import Pool, SelectionOptions, select
from astrid_assets.training.shortcut import PROBE_FEATURES, auc

EXPOSURE = {"field": "f", "exposure_id": "e", "reference_id": "r", "archive": "simulated", "survey": "ztf"}
EXPOSURE |= {"band": "r", "mjd_mid": 60935.2, "zeropoint": 26.2, "seeing": 2.1}


def triplets(rows, seed, size=65):
    rng = np.random.default_rng(seed)
    n = len(rows)
    x, y = (np.array([round(r[k]) for r in rows], np.int32) for k in "xy")
    stamps = rng.normal(0, 5, (n, 3, size, size)).astype(np.float32)
    return Triplets(stamps, np.zeros(stamps.shape, np.uint8), np.zeros((n, size, size), np.float32), x, y)


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
    assert counts[0, "observed"] + counts[0, "injected"] == 40
    assert 10 <= counts[0, "observed"] <= 16
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


def test_stamps_of_two_sizes_share_their_middle():
    detections, truth = injected()
    wide = observed()
    wide = Detections(wide.rows, triplets(wide.rows, 1, size=69), wide.stamp)
    found = build_samples(EXPOSURE, wide, detections, truth=truth)
    assert found.stamps.shape[-1] == found.mask.shape[-1] == 65
    row = next(r for r in found.table.to_pylist() if r["domain"] == "observed" and not r["nuisance"])
    place = [r["candidate_id"] for r in wide.rows].index(row["candidate_id"])
    np.testing.assert_array_equal(found.stamps[row["h5_row"]], wide.triplets.stamps[place, :, 2:67, 2:67])


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


def pool(
    labels, domains, *, surroundings=None, missing=None, types=None, synthetic=None, places=None, vetted=0
):
    n = len(labels)
    return Pool(
        [f"d{i}" for i in range(n)],
        np.array(labels, int),
        domains,
        types or [f"t{i % 5}" for i in range(n)],
        np.zeros(n, bool) if synthetic is None else synthetic,
        np.zeros((n, 2)) if surroundings is None else surroundings,
        np.zeros(n, bool) if missing is None else missing,
        np.arange(2 * n).reshape(n, 2) * 100.0 if places is None else places,
        np.arange(n) >= n - vetted,
    )


def chosen(*args, options=None, **columns):
    return select(pool(*args, **columns), seed="e", options=SelectionOptions(**(options or {})))


def test_bogus_come_from_the_domains_of_the_real_ones_first():
    labels = [1] * 30 + [0] * 10 + [0] * 100
    domains = ["injected"] * 40 + ["observed"] * 100
    rows = chosen(labels, domains, options={"max_imbalance": 1.0, "bin_size": 1000})
    assert (rows < 30).sum() == 30
    assert ((rows >= 30) & (rows < 40)).sum() == 10
    assert (rows >= 40).sum() == 20


def test_classes_stay_within_their_ratio():
    rows = chosen([1] * 50 + [0] * 4, ["observed"] * 54)
    assert (rows < 50).sum() == 6
    assert (rows >= 50).sum() == 4
    rows = chosen([1] * 4 + [0] * 50, ["observed"] * 54)
    assert (rows < 4).sum() == 4
    assert (rows >= 4).sum() == 4
    assert len(chosen([1] * 50, ["observed"] * 50)) == 50
    assert len(chosen([0] * 50, ["observed"] * 50)) == 3
    assert len(chosen([1] * 90, ["injected"] * 90)) == 60
    assert len(chosen([-1] * 30, ["observed"] * 10 + ["injected"] * 20)) == 10
    assert len(chosen([], [])) == 0


def test_observed_real_changes_are_not_given_up_for_injected_ones():
    rows = chosen([1] * 50 + [0] * 10, ["injected"] * 40 + ["observed"] * 20)
    assert set(range(40, 50)) <= set(rows.tolist())


def test_surroundings_do_not_tell_the_classes_apart():
    rng = np.random.default_rng(0)
    surroundings = np.r_[rng.normal(1.0, 1.0, (150, 2)), rng.normal(0.0, 1.0, (300, 2))]
    labels = np.repeat([1, 0], [150, 300])
    rows = chosen(labels, ["observed"] * 450, surroundings=surroundings, options={"max_real": 150})
    assert auc(surroundings[:, 0], labels == 1) > 0.7
    assert auc(surroundings[rows, 0], labels[rows] == 1) < 0.6
    assert (labels[rows] == 1).sum() > 80


def test_types_and_sources_take_turns():
    types = ["x"] * 40 + ["masked"] * 280 + ["streak", "dipole"] * 10 + ["ghost"] * 30
    labels, synthetic = [1] * 40 + [0] * 330, np.arange(370) >= 340
    options = {"max_imbalance": 1.0, "bin_size": 1000}
    rows = chosen(labels, ["observed"] * 370, types=types, synthetic=synthetic, options=options)
    found = Counter(types[r] for r in rows if labels[r] == 0)
    assert found["ghost"] == 20
    assert found["masked"] + found["streak"] + found["dipole"] == 20
    assert min(found.values()) >= 6


def test_few_lack_pixels():
    missing = np.arange(400) % 4 > 0
    rows = chosen([1] * 200 + [0] * 200, ["observed"] * 400, missing=missing)
    for part in (rows[rows < 200], rows[rows >= 200]):
        assert missing[part].mean() <= 0.4


def test_what_people_saw_is_taken():
    rows = chosen([1] * 5 + [0] * 100, ["observed"] * 105, vetted=30)
    assert set(range(75, 105)) <= set(rows.tolist())
    assert len(rows) < 45


def test_one_star_gives_one_sample():
    places = np.zeros((60, 2))
    places[:30] = np.arange(60).reshape(30, 2) * 100.0
    places[30:, 0] = np.arange(30) % 3 * 1000.0 + np.arange(30) * 0.2
    rows = chosen([1] * 30 + [0] * 30, ["observed"] * 60, places=places)
    assert (rows >= 30).sum() == 3
