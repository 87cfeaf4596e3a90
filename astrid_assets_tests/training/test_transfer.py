"""From synthetic samples to real stamps, on toys: what enters when, and what comes out."""

import numpy as np
import pytest

from astrid_assets.training.benchmark import LabelledStamps
from astrid_assets.training.transfer import (
    TransferSamples,
    balanced_weights,
    band_limited,
    measure,
    oriented,
    shortcut_auc,
)
from astrid_assets_tests.training.toys import samples


def toy(n, seed):
    stamps, label, kind = samples(n, seed=seed)
    domain = np.where(np.arange(n) // 2 % 2, "injected", "observed")
    return TransferSamples(
        stamps, label, kind, domain, np.full(n, 10.0), np.array([f"{seed}-{i}" for i in range(n)])
    )


def test_a_faded_source_is_a_positive_peak():
    stamps = np.random.default_rng(0).normal(size=(3, 3, 65, 65))
    seen = oriented(stamps, np.array([5.0, -5.0, np.nan]))
    assert seen.shape == (3, 3, 63, 63)
    np.testing.assert_allclose(seen[:, :2], stamps[:, :2, 1:-1, 1:-1], rtol=1e-6)
    sign = np.array([1, -1, 1])[:, None, None]
    np.testing.assert_allclose(seen[:, 2], sign * stamps[:, 2, 1:-1, 1:-1], rtol=1e-6)


def test_only_the_difference_is_limited_and_only_beyond_the_band():
    rng = np.random.default_rng(0)
    stamps = rng.normal(size=(4, 3, 63, 63)).astype(np.float32)
    y, x = np.mgrid[:63, :63] - 31
    # a star of 3.3 pixels FWHM has nearly nothing up there
    stamps[:2, 2] = 50 * np.exp(-0.5 * (x**2 + y**2) / 1.4**2)
    stamps[3, :, :9] = np.nan
    seen = band_limited(stamps)
    np.testing.assert_array_equal(np.isnan(seen), np.isnan(stamps))
    np.testing.assert_allclose(seen[:2, 2], stamps[:2, 2], atol=1.0)
    level = np.nanmedian(stamps, axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(seen[:, :2], (stamps - level)[:, :2], atol=1e-6)
    # white noise is left with the correlation of the platform's own differences
    noise = seen[2, 2]
    assert np.mean(noise[:, 1:] * noise[:, :-1]) / np.mean(noise**2) == pytest.approx(0.43, abs=0.06)


def test_classes_weigh_the_same_and_rare_types_more():
    label = np.array([1] * 10 + [0] * 90)
    kind = np.array(["sn"] * 10 + ["dipole"] * 81 + ["ghost"] * 9)
    weight = balanced_weights(label, kind)
    assert weight.mean() == pytest.approx(1)
    assert weight[label == 1].sum() == pytest.approx(weight[label == 0].sum())
    assert weight[-1] / weight[11] == pytest.approx(3)


def test_the_feature_model_answers_with_all_keys():
    stamps, label, _ = samples(60, seed=9)
    label[:4] = 1 - label[:4]  # labels of real stamps are never perfect
    real = LabelledStamps(stamps, label, np.arange(60) // 2, np.array(["pseudo_labelled"] * 60))
    result = measure(toy(240, 1), toy(80, 2), real, recipe="features", seeds=2)
    assert set(result) == {
        "real_auc", "real_auc_low", "real_auc_high", "synthetic_auc", "shortcut_auc",
        "shortcut_auc_trees", "domain_auc", "subsets", "seeds", "n",
    }  # fmt: skip
    assert result["synthetic_auc"] > 0.97
    assert 0.7 < result["real_auc_low"] < result["real_auc"] < result["real_auc_high"] <= 1
    assert 0.3 < result["domain_auc"] < 0.7
    assert result["n"] == {"training": 240, "held_out": 80, "n_real": 30, "n_bogus": 30, "objects": 30}
    assert len(result["seeds"]) == 2


@pytest.mark.parametrize("trees", [False, True])
def test_a_planted_shortcut_is_found(trees):
    training, held_out = toy(240, 1), toy(80, 2)
    assert shortcut_auc(training, held_out, trees=trees) < 0.75
    for part in (training, held_out):
        part.stamps[part.label == 0, :, :9] = np.nan
    assert shortcut_auc(training, held_out, trees=trees) > 0.95
