"""Features: what they say about known shapes, what they do not depend on, and that they are always finite."""

import numpy as np
import pytest

from astrid_assets.training.benchmark import auc
from astrid_assets.training.features import FEATURES, features, train_trees
from astrid_assets_tests.training.toys import SIGMA, samples, triplet


def of(kind, n=40, **options):
    """Return the median of each feature over triplets of a kind."""
    rng = np.random.default_rng(5)
    values = features(np.stack([triplet(kind, rng, **options) for _ in range(n)]).astype(np.float32))
    return dict(zip(FEATURES, np.median(values, axis=0), strict=True))


def test_a_source_looks_like_the_psf():
    source = of("source", snr=30.0)
    assert source["difference_correlation"] > 0.9
    assert source["difference_width"] == pytest.approx(2.355 * SIGMA, abs=0.6)
    assert source["difference_offset"] < 0.6
    # the matched filter: the significance that was put in, over the noise of both images
    assert np.sinh(source["difference_snr"]) == pytest.approx(30.0 / np.hypot(1, 0.2), rel=0.1)
    assert source["sumrat"] > 0.9
    assert source["nneg"] < 0.25
    assert source["difference_change"] > 0.9
    assert abs(source["flux_closure"]) < 0.1
    assert source["elongation"] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("kind", "name", "sign"),
    [
        ("hot_pixel", "difference_sharpness", 1),
        ("hot_pixel", "difference_width", -1),
        ("dipole", "dipole", 1),
        ("dipole", "sumrat_wide", -1),
        ("dipole", "deepest", -1),
        ("dipole", "flux_ratio", -1),
        ("column", "column", 1),
        ("column", "elongation", 1),
        ("column", "difference_symmetry", 1),
        ("column", "quarter_symmetry", -1),
    ],
)
def test_an_artefact_differs_from_a_source_in_its_feature(kind, name, sign):
    assert sign * (of(kind)[name] - of("source")[name]) > 0.05


def test_unit_and_background_do_not_matter():
    stamps, _, _ = samples(12)
    again = 130.0 * stamps + np.array([900.0, 400.0, 0.0], np.float32)[:, None, None]
    np.testing.assert_allclose(features(again), features(stamps), rtol=2e-2, atol=2e-2)


def test_a_quarter_turn_matters_to_rows_and_columns_only():
    stamps, _, _ = samples(12)
    values, turned = features(stamps), features(np.rot90(stamps, axes=(2, 3)))
    names = list(FEATURES)
    rest = [i for i, name in enumerate(names) if name not in {"row", "column"}]
    np.testing.assert_allclose(turned[:, rest], values[:, rest], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(turned[:, names.index("row")], values[:, names.index("column")], atol=1e-3)


def test_a_larger_stamp_gives_the_same():
    stamps, _, _ = samples(6, size=65)
    np.testing.assert_array_equal(features(stamps), features(stamps[:, :, 1:-1, 1:-1]))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.4028235e38, 0.0, 1e30])
def test_always_finite(value):
    stamps, _, _ = samples(6)
    stamps[0] = value
    stamps[1, 1] = value
    stamps[2, :, :, :40] = value
    stamps[3, 2] = value
    values = features(stamps)
    assert values.shape == (6, len(FEATURES))
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


def test_none_gives_none():
    assert features(np.empty((0, 3, 65, 65), np.float32)).shape == (0, len(FEATURES))


def test_trees_on_features_tell_toys_apart():
    stamps, label, _ = samples(240, seed=1)
    unseen, truth, _ = samples(80, seed=2)
    model = train_trees(features(stamps), label)
    assert auc(truth, model(features(unseen))) > 0.98
