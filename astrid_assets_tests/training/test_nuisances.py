"""Nuisances: the same share in every class, and pixels spoiled as said."""

import numpy as np
import pytest

from astrid_assets.images.triplets import STAMP_BITS
from astrid_assets.training.nuisances import NUISANCES, NuisanceOptions, missing, plan, spoil

NO_VALUE = STAMP_BITS["OUTSIDE"] | STAMP_BITS["MISSING"]


def shares(n, natural, **options):
    labels = np.repeat([0, 1], n)
    spoiled = np.concatenate([np.arange(n) < share * n for share in natural])
    names = [f"s{i}" for i in range(2 * n)]
    copies = plan(names, labels, spoiled, seed="e", options=NuisanceOptions(**options))
    after = [
        (np.count_nonzero(spoiled[labels == c]) + sum(labels[i] == c for i, _ in copies))
        / (n + sum(labels[i] == c for i, _ in copies))
        for c in (0, 1)
    ]
    return copies, after


@pytest.mark.parametrize("natural", [(0.0, 0.0), (0.3, 0.02), (0.05, 0.1)])
def test_the_same_share_of_both_classes_is_spoiled(natural):
    copies, after = shares(2000, natural, no_reference_share=0.0)
    assert after[0] == pytest.approx(after[1], abs=0.002)
    assert after[0] == pytest.approx(max(0.14, *natural), abs=0.002)
    kinds = [kind for _, kind in copies]
    assert kinds.count("masked") / len(kinds) == pytest.approx(0.3, abs=0.06)


def test_missing_references_in_both_classes():
    copies, _ = shares(1000, (0.0, 0.0))
    bare = [i for i, kind in copies if kind == "no_reference"]
    assert sum(i < 1000 for i in bare) == pytest.approx(0.009 / 0.86 * 1000, abs=1)
    assert sum(i < 1000 for i in bare) == sum(i >= 1000 for i in bare)
    assert shares(1000, (0.0, 0.0))[0] == copies


def test_few_samples_get_their_share_in_the_long_run():
    counts = [
        len(plan([f"{e}{i}" for i in range(10)], [1] * 10, np.zeros(10, bool), seed=e)) for e in range(300)
    ]
    assert np.mean(counts) == pytest.approx(10 * (0.14 + 0.009) / 0.86, rel=0.1)


def test_a_class_without_whole_samples_is_left_alone():
    assert plan(["a", "b"], [1, 0], np.array([True, True]), seed=1) == []
    assert plan([], [], np.zeros(0, bool), seed=1) == []


@pytest.mark.parametrize("kind", NUISANCES)
def test_pixels_are_spoiled_and_flagged(kind):
    rng = np.random.default_rng(0)
    stamps, mask = rng.normal(size=(3, 65, 65)).astype(np.float32), np.zeros((3, 65, 65), np.uint8)
    mask[0, 32, 32] = STAMP_BITS["SATURATED"]
    for seed in range(40):
        changed, marks = spoil(stamps, mask, kind, seed=seed)
        gone = (marks & NO_VALUE) != 0
        assert gone.any()
        assert (np.isnan(changed) == gone).all()
        assert (changed[~gone] == stamps[~gone]).all()
        assert marks[0, 32, 32] & STAMP_BITS["SATURATED"]
        assert not gone[[0, 2], 28:37, 28:37].any()
        assert gone[1].all() == (kind == "no_reference")
        assert missing(marks[None])[0]
        again, _ = spoil(stamps, mask, kind, seed=seed)
        assert again.tobytes() == changed.tobytes()
    assert not np.isnan(stamps).any()


def test_edges_are_mostly_in_the_reference_as_well():
    stamps, mask = np.zeros((3, 65, 65), np.float32), np.zeros((3, 65, 65), np.uint8)
    edges = [np.isnan(spoil(stamps, mask, "edge", seed=i)[0]) for i in range(300)]
    assert np.mean([e[1].any() for e in edges]) == pytest.approx(0.93, abs=0.04)
    assert all((e[0] == e[2]).all() for e in edges)
    share = np.array([e[0].mean() for e in edges])
    assert share.min() < 0.05
    assert 0.35 < share.max() < 0.7
