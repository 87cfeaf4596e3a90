"""Options: what a run is launched with comes first, then the field, then the default."""

from __future__ import annotations

import inspect

import pytest

from astrid_assets import science
from astrid_assets.assets.config import (
    CONFIGS,
    MATCH_OPTIONS,
    AlignConfig,
    CandidatesConfig,
    CutoutsConfig,
    LightCurvesConfig,
    MatchConfig,
    NormalizeConfig,
    ReferencesConfig,
    check_processing,
    effective_options,
)
from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import Field, SimulatedOptions
from astrid_assets.science import forced, objects, stamps, visits
from astrid_assets.science.association import associate, place_detections
from astrid_assets.science.catalogue import crossmatch
from astrid_assets.storage.layout import ASSETS, RELEASE_ASSETS


def field(**processing: dict) -> Field:
    simulated = SimulatedOptions()
    place = {"ra": 1.0, "dec": 2.0, "radius": 0.1}
    return Field(name="f", archives=("simulated",), simulated=simulated, processing=processing, **place)


def test_every_asset_has_options():
    assert tuple(CONFIGS) == (*ASSETS, *RELEASE_ASSETS)


@pytest.mark.parametrize(
    ("config", "function", "left_out"),
    [
        (ReferencesConfig, science.coadd, {"images", "assume_aligned"}),
        (AlignConfig, science.align, {"science", "reference", "reuse", "assume_aligned"}),
        (NormalizeConfig, science.normalize, {"pair", "reuse"}),
        (CandidatesConfig, science.detect, {"difference", "pair"}),
        (MatchConfig, crossmatch, {"ra", "dec", "exposure_id", "mjd", "known"}),
    ],
)
def test_the_options_are_those_of_the_science_with_the_same_defaults(config, function, left_out):
    parameters = inspect.signature(function).parameters
    theirs = {name: p.default for name, p in parameters.items() if name not in left_out}
    beside = {"force"} | (set(MATCH_OPTIONS) if config is CandidatesConfig else set())
    ours = {name: f.default for name, f in config.model_fields.items() if name not in beside}
    assert ours == theirs


@pytest.mark.parametrize(
    ("config", "functions"),
    [
        (CutoutsConfig, (stamps.cut_candidates, stamps.cut_triplets, stamps.choose_stamps)),
        (LightCurvesConfig, (visits.join_visits, visits.light_curve_tables, visits.measure_visit)),
        (LightCurvesConfig, (place_detections, associate, objects.light_curve_table, forced.blank_places)),
    ],
)
def test_options_for_several_functions_have_their_defaults(config, functions):
    taken = {n: p.default for f in functions for n, p in inspect.signature(f).parameters.items()}
    ours = {name: f.default for name, f in config.model_fields.items() if name != "force"}
    assert ours == {name: taken[name] for name in ours}


def test_an_even_stamp_is_refused():
    with pytest.raises(ConfigurationError, match=r"processing.cutouts.size: .*odd size.*not 64"):
        check_processing(field(cutouts={"size": 64}))


def test_every_option_says_what_it_is_for():
    for config in CONFIGS.values():
        assert config.__doc__
        assert all(f.description for f in config.model_fields.values())


def test_the_run_overrides_the_field_and_the_field_the_default():
    sky_field = field(candidates={"threshold": 6.0, "max_chi2": 4.0})
    config = CandidatesConfig(threshold=7.0, force=True)
    options = effective_options(config, sky_field, "candidates")
    assert options["threshold"] == 7.0
    assert options["max_chi2"] == 4.0
    assert options["max_size"] == CandidatesConfig().max_size
    assert "force" not in options


@pytest.mark.parametrize(
    ("processing", "message"),
    [
        (
            {"candidate": {}},
            "field f: processing.candidate: there is no such asset; there are observations, ",
        ),
        ({"candidates": {"treshold": 5}}, "field f: processing.candidates.treshold: unknown option"),
        ({"candidates": {"force": True}}, "field f: processing.candidates.force: unknown option"),
        ({"candidates": {"threshold": -1}}, "field f: processing.candidates.threshold: "),
        ({"normalized_pairs": {"psf_order": "two"}}, "field f: processing.normalized_pairs.psf_order: "),
    ],
)
def test_an_impossible_option_of_a_field_is_one_clear_line(processing: dict, message: str):
    with pytest.raises(ConfigurationError) as error:
        check_processing(field(**processing))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
