"""Star patterns against transformations that are known."""

import numpy as np
import pytest

from astrid_assets.science.asterisms import apply_affine, invert_affine, match_asterisms

SIDE = 2000.0


def similarity(scale, rotation, *, mirrored):
    c, s = np.cos(rotation), np.sin(rotation)
    return scale * np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])


def two_lists(
    seed, *, n=200, scale=1.0, rotation=0.0, mirrored=False, overlap=1.0, strangers=0.3, jitter=0.15
):
    """Two views of one sky, the second moved along x; each with its own order of brightness and strangers."""
    rng = np.random.default_rng(seed)
    away = np.array([SIDE * (1.0 - overlap), 0.0])
    sky = rng.uniform(0, [2 * SIDE, SIDE], (2 * n, 2))
    brightness = rng.exponential(1.0, len(sky))
    lists = []
    for corner in (np.zeros(2), away):
        seen = ((sky >= corner) & (sky < corner + SIDE)).all(axis=1)
        n_more = int(seen.sum() * strangers / (1.0 - strangers))
        stars = np.r_[sky[seen], rng.uniform(0, SIDE, (n_more, 2)) + corner]
        level = np.r_[brightness[seen] + rng.normal(0, 0.5, seen.sum()), rng.exponential(1.0, n_more)]
        lists.append(stars[np.argsort(-level)])
    linear = similarity(scale, rotation, mirrored=mirrored)
    matrix = np.c_[linear, -linear @ away + [40.0, -7.0]]
    first = lists[0] + rng.normal(0, jitter, lists[0].shape)
    second = np.c_[apply_affine(matrix, *lists[1].T)]
    return first, second + rng.normal(0, jitter, second.shape), matrix


def largest_error(found, matrix, stars):
    return np.abs(np.subtract(apply_affine(found.matrix, *stars.T), apply_affine(matrix, *stars.T))).max()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "how",
    [
        {"rotation": 2.0},
        {"rotation": -1.1, "mirrored": True},
        {"scale": 5.0, "rotation": 0.3},
        {"scale": 0.2, "rotation": 3.1, "mirrored": True},
        {"overlap": 0.2},
        {"overlap": 0.2, "strangers": 0.5, "rotation": 1.0},
        {"strangers": 0.5},
        {"n": 30, "strangers": 0.5, "scale": 1.7},
        {"n": 12, "strangers": 0.1, "rotation": 0.2},
        {"n": 900, "scale": 0.8, "mirrored": True},
    ],
    ids=str,
)
def test_transformation_is_found(how, seed):
    first, second, matrix = two_lists(seed, **how)
    found = match_asterisms(*first.T, *second.T)
    assert found.agrees
    assert largest_error(found, matrix, first[found.first]) < 0.5 * max(1.0, how.get("scale", 1.0))
    partners = np.hypot(*(np.c_[apply_affine(matrix, *first[found.first].T)] - second[found.second]).T)
    assert np.median(partners) < 0.5 * max(1.0, how.get("scale", 1.0))


@pytest.mark.parametrize("n", [8, 30, 120, 600])
@pytest.mark.parametrize("seed", range(3))
def test_strangers_are_refused(n, seed):
    """No pattern of two different skies passes, in sparse and crowded fields alike."""
    rng = np.random.default_rng([n, seed])
    found = match_asterisms(*rng.uniform(0, 500, (2, n)), *rng.uniform(0, 500, (2, n)))
    assert not found.agrees


def test_clustered_strangers_are_refused():
    """Where sources crowd, accidental matches are frequent; the rate is measured, not assumed even."""
    rng = np.random.default_rng(5)
    lists = [np.r_[rng.normal(300, 15, (150, 2)), rng.uniform(0, 600, (50, 2))] for _ in range(2)]
    assert not match_asterisms(*lists[0].T, *lists[1].T).agrees


def test_regular_grids_are_not_believed():
    """A pattern that agrees with itself in several ways is no proof of any."""
    y, x = (axis.ravel() * 37.0 for axis in np.mgrid[:10, :10])
    order = np.random.default_rng(2).permutation(len(x))
    found = match_asterisms(x, y, x[order], y[order])
    assert found.n_rival > 0
    assert not found.agrees


def test_defects_of_a_detector_make_the_match_doubtful():
    """As many sources stay where they are as move with the sky: neither is believed."""
    rng = np.random.default_rng(3)
    sky, defects = rng.uniform(0, 800, (2, 60, 2))
    mixed = rng.permutation(120)
    first, second = np.r_[sky, defects][mixed], np.r_[np.add(sky, (60.0, -35.0)), defects][mixed]
    found = match_asterisms(*first.T, *second.T)
    assert found.is_no_accident
    assert not found.agrees
    fewer = np.r_[second[mixed < 60], second[mixed >= 60][:12]]
    assert match_asterisms(*first.T, *fewer.T).agrees


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_too_few_sources_tell_nothing(n):
    stars = np.random.default_rng(1).uniform(0, 300, (n, 2))
    found = match_asterisms(*stars.T, *stars.T)
    assert not found.agrees
    assert len(found.first) <= n


def test_small_field_within_a_large_one():
    """A fifth of the side at a fifth of the pixel scale: few of the bright stars are in common."""
    rng = np.random.default_rng(8)
    sky = rng.uniform(0, SIDE, (1500, 2))
    wide = sky[:600] + rng.normal(0, 0.1, (600, 2))
    inside = ((sky > 0.4 * SIDE) & (sky < 0.6 * SIDE)).all(axis=1)
    linear = similarity(5.0, 0.4, mirrored=False)
    narrow = (sky[inside] - 0.4 * SIDE) @ linear.T + rng.normal(0, 0.1, (inside.sum(), 2))
    found = match_asterisms(*wide.T, *narrow.T)
    assert found.agrees
    assert found.matrix[:, :2] == pytest.approx(linear, abs=0.02)


def test_inverse_goes_back():
    matrix = np.array([[0.3, -1.2, 7.0], [0.9, 0.4, -3.0]])
    x, y = np.random.default_rng(1).uniform(0, 100, (2, 20))
    back = apply_affine(invert_affine(matrix), *apply_affine(matrix, x, y))
    assert np.abs(np.subtract(back, (x, y))).max() < 1e-10
