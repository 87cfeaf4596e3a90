"""The benchmark of differencing as its users call it, its bounds and its yardstick."""

from __future__ import annotations

import json
import math

import pytest

from astrid_assets.benchmarks.difference import Bound, Line, bounds, pool, run, scenario_names
from astrid_assets.benchmarks.measures import Estimate, summarize
from astrid_assets.benchmarks.scenes import SCENARIOS, make_scene
from astrid_assets.benchmarks.yardstick import applies, subtract_with_truth
from astrid_assets.cli import main
from astrid_assets.errors import ConfigurationError


def test_a_number_passes_when_its_interval_touches_the_bound():
    """Two standard errors."""
    bound = Bound(0.97, 1.03, 0.03)
    assert bound.holds(Estimate(1.05, 0.011, 10))
    assert not bound.holds(Estimate(1.05, 0.009, 10))
    assert not bound.holds(Estimate(0.95, 0.009, 10))
    assert bound.settles(Estimate(2.0, 0.0099, 10))
    assert not bound.settles(Estimate(1.0, 0.011, 10))
    assert not Bound(-math.inf, 0.5, 0.3).holds(Estimate(math.nan, math.nan, 0))
    assert [str(b) for b in (bound, Bound(-math.inf, 0.5, 1), Bound(0.97, math.inf, 1))] == [
        "0.97 to 1.03",
        "<= 0.5",
        ">= 0.97",
    ]


def test_what_was_not_measured_passes_nothing():
    line = Line("flagged", Bound(-math.inf, 0.03, 0.03), None)
    assert line.passes is None
    assert line.record()["value"] != line.record()["value"]


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_every_scenario_has_its_bounds(name):
    """Bias everywhere but in the perfect one, phases where the reference is resampled."""
    found = bounds(SCENARIOS[name])
    assert (found["flux/true"] is None) == (name == "ideal")
    assert ("score/blank/x0" in found) == (name in ("warp", "fine"))
    assert (found["correlation"] is None) == (name in ("warp", "fine"))
    assert ("bright" in found) == ("found/host" in found) == (name != "ideal")


def test_an_unknown_scenario_is_named():
    assert scenario_names(()) == tuple(SCENARIOS)
    with pytest.raises(ConfigurationError, match="no scenario is called 'ztx': choose from ideal, "):
        scenario_names(("ztf", "ztx"))


def test_the_yardstick_is_exact():
    """Given the truth, the algebra is what it claims to be; that is also a test of the measures."""
    assert not applies(SCENARIOS["warp"])
    results = run("ztf", size=512, mpix=0.26, first_seed=1, workers=1, yardstick=True)
    numbers = {line.quantity: line.estimate for line in results["yardstick"].lines}
    assert numbers["score/blank"].value == pytest.approx(1.0, abs=0.01)
    assert abs(numbers["flux/true"].value) < 4 * numbers["flux/true"].error
    assert abs(numbers["correlation"].value) < 0.005
    assert numbers["found"].value == pytest.approx(1.0, abs=0.1)
    assert results["yardstick"].scenes == 1
    assert not results["yardstick"].settled


def test_the_yardstick_knows_the_shift_of_the_reference():
    """Bright stars leave about 1 % with it; 4.9 % without, as published."""
    scene = make_scene("ztf", 512, 1)
    difference, candidates = subtract_with_truth(scene)
    assert difference.shape == scene.science.shape
    assert len(candidates) > 20


def test_scenes_are_pooled_round_by_round():
    """A fixed number of megapixels is one round, of consecutive seeds."""
    (tallies,) = pool("ideal", size=256, mpix=0.13, first_seed=7, workers=1)
    assert len(tallies["zogy"].rows["pixels"]) == 2
    assert summarize(tallies["zogy"])["pull/0/std"].n > 20


def test_the_command(capsys):
    """A table for people, one JSON object for programs."""
    words = (
        "bench difference --scenario ideal --size 256 --mpix 0.1 --first-seed 1 --workers 1 --no-cost --json"
    )
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("ideal, zogy: 2 scenes, 0.1 Mpix; not every standard error")
    assert out[1].split() == ["quantity", "bound", "measured", "+-", "n", "passes"]
    result = json.loads(out[-1])
    rows = {row["quantity"]: row for row in result["scenarios"]["ideal"]["zogy"]["rows"]}
    assert rows["score/blank"]["value"] == pytest.approx(1.0, abs=0.1)
    assert result["cost"] is None
