"""The table of limits, and judging by it."""

import math

import pytest

from astrid_assets.checks.limits import COLOURS, checks, judge, limits, worst
from astrid_assets.storage.layout import ASSETS


@pytest.mark.parametrize("asset", ASSETS)
def test_every_asset_has_checks_of_distinct_metrics(asset):
    metrics = [limit.metric for check in checks(asset) for limit in check.limits if limit.survey is None]
    assert metrics
    assert len(metrics) == len(set(metrics))


@pytest.mark.parametrize("asset", ASSETS)
def test_every_limit_has_unit_source_and_nested_ranges(asset):
    for check in checks(asset):
        assert check.text.endswith(".")
        for limit in check.limits:
            assert limit.unit
            assert limit.source
            assert limit.beyond in COLOURS[2:]
            assert limit.ranges[0][0] == "green"
            for (_, low, high), (_, outer_low, outer_high) in zip(
                limit.ranges, limit.ranges[1:], strict=False
            ):
                assert outer_low <= low <= high <= outer_high


@pytest.mark.parametrize(
    ("value", "colour"),
    [(0.0, "green"), (0.08, "green"), (0.081, "yellow"), (0.2, "orange"), (0.29, "red"), (math.nan, "none")],
)
def test_colours_of_astrometric_offset(value, colour):
    assert judge({"astrometric_offset": value}, "aligned_pairs")["astrometric_offset"] == colour


def test_a_subtraction_without_a_fitted_kernel_warns():
    """It is never stopped for it, and ZOGY needs no kernel."""
    colours = [judge({"matching_fallback": n}, "classic_differences")["matching_fallback"] for n in range(3)]
    assert colours == ["green", "yellow", "orange"]
    assert "matching_fallback" not in limits("zogy_differences")


def test_missing_and_null_metrics_are_not_applicable():
    assert judge({}, "aligned_pairs")["astrometric_offset"] == "none"
    assert judge({"astrometric_offset": None}, "aligned_pairs")["astrometric_offset"] == "none"


def test_airmass_and_seeing_mean_nothing_in_space():
    metrics = {"airmass": 5.0, "seeing": 30.0, "saturated_fraction": 0.2}
    assert judge(metrics, "science_images")["airmass"] == "orange"
    verdict = judge(metrics, "science_images", space=True)
    assert verdict["airmass"] == verdict["seeing"] == "none"
    assert verdict["saturated_fraction"] == "red"


def test_infinity_is_judged():
    assert judge({"wcs_round_trip": math.inf}, "science_images")["wcs_round_trip"] == "red"


def test_unknown_asset_has_no_limits():
    assert limits("nothing") == {}
    assert judge({"seeing": 1.0}, "nothing") == {}


def test_worst_colour():
    assert worst({"a": "green", "b": "orange", "c": "none"}) == "orange"
    assert worst(["none", "green"]) == "green"
    assert worst([]) == "none"
