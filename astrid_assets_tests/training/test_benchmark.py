"""The measures of the benchmark against their definitions, and the probes on planted shortcuts."""

from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrid_assets.errors import BenchmarkError
from astrid_assets.training.benchmark import (
    LabelledStamps,
    auc,
    bootstrap_interval,
    domain_auc,
    matched,
    read_labelled_stamps,
    shortcut_features,
    subset_of,
    subsets,
    summarise,
)


def pairs_won(label, score, weight):
    """Return the AUC by its definition: the share of pairs in which the real one scores above."""
    real, bogus = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    won = total = 0.0
    for i, j in product(real, bogus):
        share = 1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
        won, total = won + share * weight[i] * weight[j], total + weight[i] * weight[j]
    return won / total


def test_auc_is_the_share_of_pairs():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, 60)
    score = np.round(rng.normal(label, 1.0), 1)  # with ties
    weight = rng.integers(0, 4, 60)
    assert auc(label, score) == pytest.approx(pairs_won(label, score, np.ones(60)))
    assert auc(label, score, weight) == pytest.approx(pairs_won(label, score, weight))
    stacked = auc(label, score, np.stack([np.ones(60), weight]))
    np.testing.assert_allclose(stacked, [auc(label, score), auc(label, score, weight)])


def test_auc_without_a_class_is_unknown():
    assert np.isnan(auc(np.ones(4), np.arange(4.0)))


def test_the_median_of_the_trainings_counts():
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    scores = np.array([label + rng.normal(0, noise, 200) for noise in (0.5, 1.0, 9.0)])
    value, low, high = bootstrap_interval(label, scores, np.arange(200))
    assert value == pytest.approx(auc(label, scores[1]))
    assert low < value < high


def test_the_interval_covers_the_truth():
    # two normal distributions 1 sigma apart: the AUC is Phi(1 / sqrt 2)
    rng, hits = np.random.default_rng(1), 0
    for _ in range(60):
        label = np.arange(120) % 2
        _, low, high = bootstrap_interval(
            label, (label + rng.normal(size=120))[None], np.arange(120), resamples=200
        )
        hits += low <= 0.7602 <= high
    assert 51 <= hits <= 60  # 57 expected


def test_copies_of_an_object_do_not_narrow_the_interval():
    rng = np.random.default_rng(2)
    label = np.arange(60) % 2
    score = label + rng.normal(0, 1, 60)
    _, low, high = bootstrap_interval(label, score[None], np.arange(60))
    _, low_9, high_9 = bootstrap_interval(
        np.tile(label, 9), np.tile(score, 9)[None], np.tile(np.arange(60), 9)
    )
    assert high_9 - low_9 == pytest.approx(high - low, rel=0.05)
    _, low_own, high_own = bootstrap_interval(np.tile(label, 9), np.tile(score, 9)[None], np.arange(540))
    assert high_own - low_own < 0.5 * (high - low)


@pytest.mark.parametrize(
    ("source", "subset"),
    [
        ("solar-system-match<=2as", "solar_system"),
        ("drb>0.9 & braai>0.9 & rb>0.55 (pseudo)", "pseudo_labelled"),
        ("drb<0.35 & braai<0.5 (pseudo, montage viewed)", "pseudo_labelled"),
        ("human scanner", "human_labelled"),
    ],
)
def test_who_labelled_it(source, subset):
    assert subset_of(source) == subset


def stamps_of(label, subset, group=None):
    n = len(label)
    pixels = np.zeros((n, 3, 63, 63), np.float32)
    return LabelledStamps(pixels, np.array(label), np.arange(n) if group is None else group, np.array(subset))


def test_a_subset_without_bogus_is_set_against_all_bogus():
    real = stamps_of(
        [1, 1, 1, 0, 0, 0],
        [
            "solar_system",
            "pseudo_labelled",
            "human_labelled",
            "human_labelled",
            "pseudo_labelled",
            "pseudo_labelled",
        ],
    )
    found = {name: rows.tolist() for name, rows in subsets(real).items()}
    assert found == {"solar_system": [0, 3, 4, 5], "human_labelled": [2, 3], "pseudo_labelled": [1, 4, 5]}


def test_the_summary_counts():
    label = [1, 1, 1, 0, 0, 0]
    real = stamps_of(label, ["solar_system", *["pseudo_labelled"] * 5], np.array(list("aabbcd")))
    result = summarise(real, np.array([[0.9, 0.8, 0.1, 0.2, 0.3, 0.4]]))
    assert set(result) == {"all", "solar_system", "pseudo_labelled"}
    assert result["all"]["auc"] == pytest.approx(6 / 9)
    assert result["all"] | {"auc": 0, "low": 0, "high": 0} == {
        "auc": 0, "low": 0, "high": 0, "n_real": 3, "n_bogus": 3, "objects": 4,
    }  # fmt: skip
    assert result["solar_system"]["auc"] == 1.0


def write(path, label, sources, **more):
    n = len(label)
    pixels = np.arange(n * 63 * 63, dtype=np.float32).reshape(n, 63, 63)
    columns = {
        f"cutout_{name}": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels + k)
        for k, name in enumerate(("science", "template", "difference"))
    }
    columns |= {"label": label, "label_source": sources, "objectId": [f"ZTF{i // 2}" for i in range(n)]}
    pq.write_table(pa.table(columns | more), path)
    return pixels


def test_labelled_stamps_are_read_and_ambiguous_ones_left_out(tmp_path):
    pixels = write(tmp_path / "a.parquet", [1, -1, 0, 1], ["solar-system", "ambiguous", "drb", "human"])
    real = read_labelled_stamps(tmp_path / "a.parquet")
    assert real.label.tolist() == [1, 0, 1]
    assert real.group.tolist() == ["ZTF0", "ZTF1", "ZTF1"]
    assert real.subset.tolist() == ["solar_system", "pseudo_labelled", "human_labelled"]
    np.testing.assert_array_equal(real.stamps, np.stack([pixels[[0, 2, 3]] + k for k in range(3)], axis=1))


def test_stamps_of_one_class_are_refused(tmp_path):
    write(tmp_path / "a.parquet", [1, 1], ["human", "human"])
    with pytest.raises(BenchmarkError, match="both classes"):
        read_labelled_stamps(tmp_path / "a.parquet")


def test_what_is_no_table_of_stamps_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("no")
    pq.write_table(pa.table({"label": [0, 1]}), tmp_path / "b.parquet")
    for name in ("a", "b"):
        with pytest.raises(BenchmarkError, match=f"{name}.parquet: no Parquet file of labelled alert stamps"):
            read_labelled_stamps(tmp_path / f"{name}.parquet")


def test_a_planted_shortcut_shows_and_a_source_does_not():
    rng = np.random.default_rng(4)
    stamps = rng.normal(0, 5, (60, 3, 65, 65)).astype(np.float32)
    blank = shortcut_features(stamps)
    stamps[::2, 2, 30:35, 30:35] += 200.0  # a source
    np.testing.assert_allclose(shortcut_features(stamps), blank, atol=0.05)
    stamps[::2, :, :, :20] = np.nan
    changed = shortcut_features(stamps)
    assert (np.abs(changed - blank).max(axis=1) > 1).tolist() == [True, False] * 30
    assert np.isfinite(changed).all()


def test_matching_gives_both_the_same_distribution():
    rng = np.random.default_rng(5)
    first, second = rng.exponential(30, 3000) + 5, rng.exponential(10, 400) + 5
    rows, others = matched(first, second)
    assert len(rows) == len(others) > 300
    assert np.median(first[rows]) == pytest.approx(np.median(second[others]), rel=0.1)
    assert len(np.unique(rows)) == len(rows)


def test_domains_that_are_the_same_cannot_be_told_apart():
    rng = np.random.default_rng(6)
    snr = {name: rng.exponential(10, 150) for name in ("injected", "observed")}
    group = {name: np.array([f"{name}{i // 2}" for i in range(150)]) for name in snr}
    same = {name: rng.normal(size=(150, 3)) for name in snr}
    assert domain_auc(same, snr, group) == pytest.approx(0.5, abs=0.12)
    other = {"injected": same["injected"] + 3.0, "observed": same["observed"]}
    assert domain_auc(other, snr, group) > 0.95


def test_too_few_to_tell_domains_apart():
    few = {name: np.zeros((5, 3)) for name in ("injected", "observed")}
    numbers = {name: np.arange(5.0) for name in few}
    assert domain_auc(few, numbers, {name: np.arange(5) for name in few}) is None
