"""Tiles and their truth masks."""

from __future__ import annotations

import io

import numpy as np

from astrid_assets.images.masks import BAD_BITS, bits
from astrid_assets.science import zogy
from astrid_assets.science.injection import Source
from astrid_assets.science.tiles import TRUTH_BITS, cut_tiles, truth_mask, write_tiles
from astrid_assets_tests.science.sky import known_pair

SOURCES = [Source("a", 60.3, 70.8, 900.0), Source("b", 30.0, 100.0, 600.0, 12.0, 0.0)]


def scene():
    pair = known_pair(size=128, sources=[(60.3, 70.8, 900.0, 0.0)])
    mask = pair.science.mask.copy()
    mask[10, 20] = bits("SATURATED")
    pair = pair.replace(science=pair.science.replace(mask=mask))
    return pair, zogy(pair)


def test_the_mask_covers_what_rises_above_the_noise():
    _, difference = scene()
    truth = truth_mask(difference, SOURCES, [Source("", 100.0, 30.0, -500.0)])
    source = (truth & TRUTH_BITS["SOURCE"]) != 0
    assert source[71, 60]
    y, x = np.nonzero(source[50:90, 40:80])
    assert np.hypot(x - 20.3, y - 20.8).max() < 6
    # a trail is longer than it is wide
    y, x = np.nonzero(source[85:115, 5:55])
    assert np.ptp(x) > 2 * np.ptp(y)
    assert (truth[30, 100] & TRUTH_BITS["DETECTION"]) != 0
    untrusted = (truth & TRUTH_BITS["UNTRUSTED"]) != 0
    assert np.array_equal(untrusted, (difference.mask & BAD_BITS) != 0)
    bright = truth_mask(difference, SOURCES, [], threshold=5.0) & TRUTH_BITS["SOURCE"]
    assert 0 < np.count_nonzero(bright) < np.count_nonzero(source)


def test_tiles_are_cut_where_they_say():
    pair, difference = scene()
    truth = truth_mask(difference, SOURCES, [])
    tiles = cut_tiles(pair, difference, truth, count=3, size=64, seed="e1")
    assert tiles.images.shape == (3, 3, 64, 64)
    for i, (x, y) in enumerate(zip(tiles.x0, tiles.y0, strict=True)):
        part = np.s_[y : y + 64, x : x + 64]
        assert np.array_equal(tiles.images[i, 0], pair.science.data[part])
        assert np.allclose(tiles.images[i, 1], pair.reference.data[part] * 0.8)
        assert np.array_equal(tiles.images[i, 2], difference.data[part])
        assert np.array_equal(tiles.truth[i], truth[part])
    again = cut_tiles(pair, difference, truth, count=3, size=64, seed="e1")
    first, second = io.BytesIO(), io.BytesIO()
    write_tiles(first, tiles)
    write_tiles(second, again)
    assert first.getvalue() == second.getvalue()
    assert len(cut_tiles(pair, difference, truth, count=3, size=256, seed="e1").x0) == 0
