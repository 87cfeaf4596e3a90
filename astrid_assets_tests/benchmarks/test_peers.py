"""What is added to the differences of other packages, on a subtraction that is perfect by construction."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from astrid_assets.benchmarks import peers
from astrid_assets.benchmarks.expectation import expectation
from astrid_assets.benchmarks.measures import measure, summarize
from astrid_assets.benchmarks.scenes import SCENARIOS, SKY, make_scene, optics_stamp


def test_peers_are_offered_where_they_are_installed(monkeypatch):
    """Not where the images lie on different grids: they resample nothing."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "sfft" or None)
    assert peers.available(SCENARIOS["ztf"]) == ["sfft"]
    assert peers.available(SCENARIOS["warp"]) == []


def test_the_matched_filter_is_exact_on_white_noise():
    """The science image without its static light, and the true PSF."""
    scene = make_scene("ideal", 512, 3)
    data = scene.science.data - SKY - scene.static
    bad = np.zeros(data.shape, bool)
    variance = np.full(data.shape, scene.sky_variance[0]) + scene.static / 6.2
    psf = optics_stamp(scene.scenario.science, peers.STAMP)
    difference, candidates = peers._matched(scene, data, psf, variance, bad, "given")
    numbers = summarize(measure(scene, difference, candidates, expectation("ideal")))
    assert numbers["score/blank"].value == pytest.approx(1.0, abs=0.02)
    assert abs(numbers["flux/true"].value) < 4 * numbers["flux/true"].error
    assert abs(numbers["pull/0/mean"].value) < 4 * numbers["pull/0/mean"].error
    assert numbers["pull/0/std"].value == pytest.approx(1.0, abs=0.2)
    assert difference.method == "given"


def test_kernels_are_solved_on_stars_without_faults():
    """Boxes hold neither bad pixels nor new sources."""
    scene = make_scene("ztf", 512, 3)
    bad = peers._bad(scene)
    used = peers._star_boxes(scene, bad)
    assert used.sum() > 10 * (2 * peers.STAR_REACH + 1) ** 2
    assert not (used & bad).any()
    assert not used[np.rint(scene.y).astype(int), np.rint(scene.x).astype(int)].any()
