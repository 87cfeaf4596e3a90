"""What a subtraction costs: the stages run, and the numbers are those of the stages."""

from __future__ import annotations

import io
import pickle

import pytest

from astrid_assets.benchmarks import cost
from astrid_assets.benchmarks.scenes import make_scene
from astrid_assets.science import align, normalize


def test_the_cost_is_in_units_of_a_transform(monkeypatch):
    """Every stage runs in every round, on the same images."""
    monkeypatch.setattr(cost, "SMALL", 384)
    lines = cost.measure_cost(384, rounds=1, memory=False)
    assert [line.unit for line in lines] == ["ms", *["rfft2", "s"] * 3]
    ratios = [line.value for line in lines if line.unit == "rfft2"]
    assert all(ratio > 1 for ratio in ratios)
    limits = [line.limit for line in lines if line.limit]
    assert limits == [30.0, 90.0, 150.0]


@pytest.mark.parametrize("stage", ["differencing", "measurement"])
def test_memory_is_what_a_process_grows_by(monkeypatch, stage):
    """Beyond the pair, which comes through a pipe."""
    monkeypatch.setattr(cost, "SMALL", 256)
    scene = make_scene("ztf", 256, 1)
    pair = align(scene.science, scene.reference)
    pair = normalize(pair) if stage == "differencing" else pair
    assert 0.0 <= cost._growth(stage, io.BytesIO(pickle.dumps(pair))) < 0.5
