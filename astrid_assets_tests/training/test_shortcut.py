"""The shortcut probe finds surroundings that give a class away, and nothing where there is nothing."""

import numpy as np
import pytest

from astrid_assets.training.shortcut import PROBE_FEATURES, auc, probe_features, shortcut_auc


def test_features_are_what_they_say():
    rng = np.random.default_rng(0)
    stamps = rng.normal(10.0, 5.0, (2, 3, 65, 65)).astype(np.float32)
    stamps[0, 1, :13] = np.nan
    stamps[1, 2] = 3.4e38
    found = dict(zip(PROBE_FEATURES, probe_features(stamps).T, strict=True))
    assert found["missing_reference"] == pytest.approx([0.2, 0.0])
    assert found["missing_difference"] == pytest.approx([0.0, 1.0])
    assert found["level_science"] == pytest.approx(np.arcsinh(2.0), abs=0.05)
    assert found["scatter_science"] == pytest.approx(np.log(5.0), abs=0.05)
    assert found["scatter_difference"][1] == 0.0
    assert probe_features(np.ones((1, 3, 65, 65), np.float32)).tolist() == [[0.0] * 9]


def test_area_under_the_curve():
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75
    assert auc(np.ones(6), np.arange(6) < 2) == 0.5
    assert np.isnan(auc(np.ones(3), np.ones(3, bool)))


def test_the_probe_tells_what_there_is_to_tell():
    rng = np.random.default_rng(1)
    labels, groups = np.arange(600) % 3 - 1, [f"o{i // 2}" for i in range(600)]
    features = rng.normal(size=(600, 9))
    assert shortcut_auc(features, labels, groups) == pytest.approx(0.5, abs=0.07)
    features[:, 4] += 1.5 * (labels == 1)
    # two unit Gaussians 1.5 apart: Phi(1.5 / sqrt 2) = 0.856
    assert shortcut_auc(features, labels, groups) == pytest.approx(0.856, abs=0.04)
    assert np.isnan(shortcut_auc(features[:90], labels[:90], groups[:90]))
    assert np.isnan(shortcut_auc(features[:0], labels[:0], []))


def test_objects_are_not_split():
    """Nothing is learnt from a label that goes with the object alone."""
    rng = np.random.default_rng(2)
    owner = rng.integers(0, 40, 400)
    features, labels = rng.normal(size=(40, 9))[owner], rng.integers(0, 2, 40)[owner]
    assert shortcut_auc(features, labels, [f"o{i}" for i in owner]) < 0.7
