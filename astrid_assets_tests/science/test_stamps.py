"""Triplets: every pixel against the image it was cut from."""

from dataclasses import replace

import numpy as np
import pytest

from astrid_assets.errors import ScienceError
from astrid_assets.images import AlignedPair
from astrid_assets.images.masks import bits
from astrid_assets.images.triplets import STAMP_BITS, crop
from astrid_assets.science import zogy
from astrid_assets.science.stamps import choose_stamps, cut_triplets, triplet_metrics
from astrid_assets_tests.science.sky import known_pair

OUTSIDE, MISSING, BAD, SATURATED = (STAMP_BITS[n] for n in ("OUTSIDE", "MISSING", "BAD", "SATURATED"))


@pytest.fixture(scope="module")
def pair():
    """A pair with a saturated science pixel, a bad and a missing reference pixel."""
    clean = known_pair(size=128, sources=[(60.3, 70.6, 900.0, 0.0)])
    science_mask, data = clean.science.mask.copy(), clean.reference.data.copy()
    science_mask[70, 62] = bits("SATURATED")
    reference_mask = clean.reference.mask.copy()
    reference_mask[75, 60] = bits("BAD")
    data[65, 55] = np.nan
    norm = clean.normalization
    return clean.replace(
        science=clean.science.replace(mask=science_mask),
        reference=clean.reference.replace(data=data, mask=reference_mask),
        normalization=replace(norm, flux_ratio_gradient=(0.1, -0.05)),
    )


@pytest.fixture(scope="module")
def difference(pair):
    return zogy(pair)


def test_the_middle_pixel_holds_the_position(pair, difference):
    triplets = cut_triplets(pair, difference, np.array([60.3, 61.6]), np.array([70.6, 69.2]), size=33)
    assert triplets.x.tolist() == [60, 62]
    assert triplets.y.tolist() == [71, 69]
    for i, (x, y) in enumerate(zip(triplets.x, triplets.y, strict=True)):
        part = (slice(y - 16, y + 17), slice(x - 16, x + 17))
        ratio = pair.normalization.flux_ratio_at(x, y, (128, 128))
        known = triplets.mask[i] & MISSING == 0
        science, reference, change = triplets.stamps[i]
        assert np.array_equal(science, pair.science.data[part])
        assert np.allclose(reference[known[1]], (pair.reference.data[part] * ratio)[known[1]], rtol=1e-6)
        assert np.array_equal(change[known[2]], difference.data[part][known[2]])
        assert np.array_equal(triplets.score[i], difference.score_corrected[part])


def test_flags_are_those_of_each_channel(pair, difference):
    triplets = cut_triplets(pair, difference, np.array([60.0]), np.array([70.0]), size=33)
    science, reference, change = triplets.mask[0]
    assert science[16, 18] == BAD | SATURATED
    assert (science != 0).sum() == 1
    assert reference[21, 16] == BAD
    assert reference[11, 11] == BAD | MISSING
    assert (reference != 0).sum() == 2
    assert change[16, 18] == BAD | SATURATED
    assert change[21, 16] == BAD
    assert change[11, 11] == BAD | MISSING
    assert (change & MISSING != 0).sum() == 1
    assert np.array_equal(np.isnan(triplets.stamps[0]), triplets.mask[0] & (OUTSIDE | MISSING) != 0)


@pytest.mark.parametrize(("x", "y"), [(0, 127), (3.0, 60.0), (130.0, -4.0), (500.0, 60.0)])
def test_beyond_the_image_is_flagged(pair, difference, x, y):
    triplets = cut_triplets(pair, difference, np.array([x]), np.array([y]), size=33)
    rows, columns = np.arange(33) - 16 + round(y), np.arange(33) - 16 + round(x)
    outside = ~np.outer((rows >= 0) & (rows < 128), (columns >= 0) & (columns < 128))
    for channel in range(3):
        assert np.array_equal(triplets.mask[0, channel] & OUTSIDE != 0, outside)
        assert np.isnan(triplets.stamps[0, channel][outside]).all()
    assert np.array_equal(np.isnan(triplets.score[0]), outside)


def test_sentinels_are_missing(pair, difference):
    data = difference.data.copy()
    data[40, 40] = np.finfo(np.float32).max
    triplets = cut_triplets(pair, difference.replace(data=data), np.array([40]), np.array([40]), size=5)
    assert triplets.mask[0, 2, 2, 2] & MISSING
    assert np.isnan(triplets.stamps[0, 2, 2, 2])


def test_no_position_is_no_stamp(pair, difference):
    assert len(cut_triplets(pair, difference, np.zeros(0), np.zeros(0))) == 0


def test_what_cannot_be_cut_is_refused(pair, difference):
    with pytest.raises(ValueError, match="odd size"):
        cut_triplets(pair, difference, np.array([5.0]), np.array([5.0]), size=64)
    raw = AlignedPair(pair.science, pair.reference, pair.registration, 1.0)
    with pytest.raises(ScienceError, match="not normalized"):
        cut_triplets(raw, difference, np.array([5.0]), np.array([5.0]))


@pytest.mark.parametrize("side", [65, 129])
@pytest.mark.parametrize("size", [63, 64, 65, 128])
def test_views_share_the_centre(side, size):
    stamps = np.zeros((2, 3, side, side))
    stamps[..., side // 2, side // 2] = 1
    if size > side:
        with pytest.raises(ValueError, match="no view of 128"):
            crop(stamps, size)
        return
    view = crop(stamps, size)
    assert view.shape == (2, 3, size, size)
    assert (view[..., size // 2, size // 2] == 1).all()
    assert view.base is not None


def test_flagged_candidates_are_drawn_by_name_alone():
    names = [f"exposure-{i:04d}" for i in range(300)]
    flagged = np.arange(300) % 3 != 0
    chosen = choose_stamps(names, flagged, max_flagged=50)
    assert set(np.flatnonzero(~flagged)) <= set(chosen)
    assert flagged[chosen].sum() == 50
    assert 100 < np.mean(chosen[flagged[chosen]]) < 200
    turned = choose_stamps(names[::-1], flagged[::-1], max_flagged=50)
    assert {names[i] for i in chosen} == {names[::-1][i] for i in turned}
    assert choose_stamps(names, flagged, max_flagged=500).tolist() == list(range(300))


def test_metrics_see_what_is_wrong(pair, difference):
    x, y = np.array([60.3, 2.0]), np.array([70.6, 50.0])
    triplets = cut_triplets(pair, difference, x, y, size=33)
    metrics = triplet_metrics(triplets, x, y, np.array([False, True]))
    assert metrics["unflagged_nan"] == 0
    assert metrics["off_centre"] == pytest.approx(0.4)
    assert metrics["edge_share"] == 0.5
    assert metrics["bad_share"] == pytest.approx(triplets.bad_fraction[0].mean())
    assert triplets.at_edge.tolist() == [False, True]
    triplets.stamps[0, 1, 4, 4] = np.nan
    assert triplet_metrics(triplets, x, y + 1, np.array([False, True]))["unflagged_nan"] == 1
    assert triplet_metrics(triplets, x, y + 1, np.array([False, True]))["off_centre"] == pytest.approx(1)
