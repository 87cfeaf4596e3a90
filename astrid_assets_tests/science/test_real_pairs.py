"""Differences of real pairs: noise where nothing changed, and sources that were put into the images.

Nobody knows what changed in these pairs: the truth is what is injected. Where a pair has too few stars or
too little blank sky for a bound, it is not asked here.
"""

from __future__ import annotations

import functools

import pytest

from astrid_assets_tests.benchmarks.real_pairs import PAIRS, measure

pytestmark = pytest.mark.real_data

SEEDS = {
    "jwst": 1,
    "eso085": 1,
    "decam_r_january": 3,
    "decam_r_march": 3,
    "decam_g": 3,
    "saao_0020": 1,
}
"""How many times sources are injected: enough for the bounds, and no more."""


@pytest.fixture(scope="module")
def measured(real_data):
    """Measure a pair once for all tests."""
    return functools.cache(lambda name: measure(PAIRS[name], real_data, seeds=SEEDS[name]))


@pytest.mark.parametrize("name", ["eso085", "decam_r_january", "decam_r_march", "decam_g"])
@pytest.mark.parametrize("where", ["blank", "static"])
def test_score_is_a_unit_gaussian(measured, name, where):
    """On blank sky and on static sources, within three standard errors where pixels are few."""
    score = measured(name)[where]
    assert score["std"] == pytest.approx(1.0, abs=max(0.05, 3.0 * score["std_error"]))


@pytest.mark.parametrize("name", list(SEEDS))
def test_injected_sources_are_found(measured, name):
    """Of either sign, clones of real stars and models alike."""
    injected = measured(name)["injected"]["all"]
    assert injected["n_clean8"] >= 15
    assert injected["recovery"] >= 0.97


@pytest.mark.parametrize(
    ("name", "kind"), [("jwst", "models"), ("eso085", "models"), ("eso085", "clones"), ("eso085", "negative")]
)
def test_fluxes_of_injected_sources(measured, name, kind):
    """Forced at the true place, and as detected; no fit has seen the stars that are cloned."""
    told = measured(name)
    assert kind != "clones" or told["withheld"] >= 6
    injected = told["injected"][kind]
    assert abs(injected["bias"]) < 0.03
    assert abs(injected["bias_detected"]) < 0.03


@pytest.mark.parametrize(
    ("name", "error"),
    [("jwst", 0.03), ("eso085", 0.02), ("decam_r_january", 0.1), ("decam_r_march", 0.1), ("decam_g", 0.1)],
)
def test_flux_ratio_is_that_of_exposure_times_and_zero_points(measured, name, error):
    """Nights differ by airmass and thin clouds; in space, and within two minutes, they do not."""
    assert measured(name)["ratio"] == pytest.approx(PAIRS[name].ratio, rel=error)
