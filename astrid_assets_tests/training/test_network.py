"""The small network: its augmentation always, its training where PyTorch is installed."""

import numpy as np
import pytest

from astrid_assets.training.benchmark import auc
from astrid_assets.training.network import augment, available, train_network, turned
from astrid_assets.training.views import model_view
from astrid_assets_tests.training.toys import samples

needs_torch = pytest.mark.skipif(not available(), reason="PyTorch is not installed (extra torch)")


def views(n=20, seed=0):
    stamps, label, _ = samples(n, seed=seed)
    return model_view(stamps, view="l2", size=63)[0], label


def test_the_eight_orientations_differ_and_keep_the_middle():
    seen, _ = views(2)
    copies = [turned(seen, turn) for turn in range(8)]
    assert len({copy.tobytes() for copy in copies}) == 8
    assert all((copy[..., 31, 31] == seen[..., 31, 31]).all() for copy in copies)


def test_augmented_views_keep_norm_and_middle():
    seen, _ = views(60)
    changed = augment(seen, np.random.default_rng(1), nuisance_rate=1.0)
    assert changed.dtype == np.float32
    norm = np.sqrt((changed.astype(float) ** 2).sum(axis=(2, 3)))
    # a channel keeps its norm, unless a stamp lost its whole reference
    assert ((np.abs(norm - 1) < 1e-5) | (norm == 0)).all()
    assert (norm[:, [0, 2]] > 0).all()
    ratio = changed[:, 2, 31, 31] / seen[:, 2, 31, 31]
    assert (ratio >= 1 - 1e-5).all()  # what is left weighs more


def test_nuisances_spare_no_class():
    seen, label = views(400)
    changed = augment(seen, np.random.default_rng(1), nuisance_rate=0.5)
    spoiled = (changed == 0).sum(axis=(1, 2, 3)) > 60
    assert spoiled[label == 1].mean() == pytest.approx(0.5, abs=0.1)
    assert spoiled[label == 0].mean() == pytest.approx(0.5, abs=0.1)


@needs_torch
@pytest.mark.slow
def test_it_learns_toys_and_gives_the_same_twice():
    seen, label = views(240, seed=1)
    unseen, truth = views(60, seed=2)
    models = [train_network(seen, label, np.ones(len(label)), seed=0, epochs=4) for _ in range(2)]
    scores = [model(unseen) for model in models]
    assert auc(truth, scores[0]) > 0.95
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_allclose(models[0](turned(unseen, 3)), scores[0], atol=1e-5)
