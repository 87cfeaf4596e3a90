"""Configurations of the earlier project: every option honoured, or listed with the reason why not."""

from __future__ import annotations

import pytest

from astrid_assets.errors import ConfigurationError
from astrid_assets.importing import read_configuration

FULL = """\
dataset_name: mine
description: all of it
query:
  missions: [swift, GALEX]
  filters: [uuu, uvw1, UVM2, uw2, nd, fuv]
  archives: [MAST]
  min_year: 2006
  max_year: 2012
  days_before: 500
  days_after: 50
  radius_deg: 0.25
  chunk_size: 100
  start_index: 3
  limit: 7
download:
  max_obs_per_type: 9
  max_products_per_obs: 2
  include_auxiliary: true
  require_same_mission: true
  verify_fits: false
  skip_reference: false
  skip_science: false
quality:
  min_overlap_fraction: 0.7
  max_file_size_mb: 250
  verify_wcs: true
output:
  query_results: output/queries.json
  fits_downloads: output/fits
  fits_training: output/training
  difference_images: output/differences
  checkpoint: output/checkpoint.json
  chunk_dir: output/chunks
"""


def test_every_option_has_its_effect_or_the_reason_why_not():
    """All options of the earlier project (lessons, section 4)."""
    found = read_configuration(FULL)
    assert (found.name, found.description) == ("mine", "all of it")
    assert found.options() == {
        "radius": 0.25,
        "archives": ("mast",),
        "bands": ("u", "uvw1", "uvm2", "uvw2", "NUV", "FUV"),
        "mast": {"missions": ("SWIFT", "GALEX")},
        "limits": {"overlap_min": 0.7, "new_exposures_per_run": 9, "file_size_mb": 250.0},
    }
    assert (found.query.days_before, found.query.days_after) == (500, 50)
    assert [found.takes(year) for year in (2005, 2006, 2012, 2013)] == [False, True, True, False]
    assert (found.query.start_index, found.query.limit) == (3, 7)
    fates = {fate.option: fate for fate in found.fates}
    assert len(fates) == 29
    assert all(fate.words for fate in fates.values())
    assert {option for option, fate in fates.items() if not fate.honoured} == {
        "query.chunk_size",
        *(f"download.{name}" for name in ("max_products_per_obs", "include_auxiliary", "verify_fits")),
        *(f"download.{name}" for name in ("skip_reference", "skip_science")),
        "quality.verify_wcs",
        *(f"output.{name}" for name in ("query_results", "fits_downloads", "fits_training")),
        *(f"output.{name}" for name in ("difference_images", "checkpoint", "chunk_dir")),
    }


def test_the_defaults_are_those_of_the_earlier_project():
    found = read_configuration("")
    assert found.query.missions == ("SWIFT", "PS1", "GALEX")
    assert found.options()["archives"] == ("mast", "ps1")
    assert (found.query.min_year, found.query.max_year) == (2005, None)
    assert found.options()["limits"] == {
        "overlap_min": 0.85,
        "new_exposures_per_run": 5,
        "file_size_mb": 500.0,
    }
    assert found.fates == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  chunk_size", "  chunksize", r"mine.yaml:12: .* unknown option 'query.chunksize'.* 'chunk_size'"),
        ("quality:", "qualities:", r"mine.yaml:23: .* unknown option 'qualities'; did you mean 'quality'"),
        ("min_year: 2006", "min_year: early", r"mine.yaml:7: .* query.min_year: .* valid integer"),
        ("days_before: 500", "days_before: 20", r"mine.yaml:9: .* query.days_before: .* greater than 31"),
        ("max_year: 2012", "max_year: 2001", r"mine.yaml:8: max_year 2001 lies before min_year 2006"),
        ("swift, GALEX", "swift, GALAX", r"mine.yaml:4: 'GALAX' is no mission; there are HST, JWST"),
        ("uuu, uvw1", "uuu, g", r"mine.yaml:5: 'g' is no filter of these missions; there are uvw2"),
        ("[MAST]", "[ESO]", r"mine.yaml:6: 'ESO' is no archive; there are MAST"),
        ("[MAST]", "[IRSA]", r"mine.yaml:4: none of the missions can be searched: SWIFT: left out by"),
        ("swift, GALEX", "PTF", r"'uuu' is no filter"),
        ("  limit: 7", "  limit: 7\n  limit: 8", r"mine.yaml:15: 'limit' is given twice, first in line 14"),
    ],
)
def test_what_is_wrong_is_an_error_with_its_line(old, new, message):
    with pytest.raises(ConfigurationError, match=message):
        read_configuration(FULL.replace(old, new), path="mine.yaml")


@pytest.mark.parametrize("mission", ["PTF", "SPITZER", "HLSP", "HLA"])
def test_a_mission_that_nobody_offers_says_why(mission):
    with pytest.raises(ConfigurationError, match=f"none of the missions can be searched: {mission}: .+"):
        read_configuration(f"query: {{missions: [{mission}]}}")
    found = read_configuration(f"query: {{missions: [{mission}, HST]}}")
    (fate,) = (f for f in found.fates if f.option == f"query.missions: {mission}")
    assert not fate.honoured


def test_missions_that_are_only_drawn_stand_beside_the_field():
    """SkyView has them as pictures, which are never differenced."""
    found = read_configuration("query: {missions: [SDSS, 2MASS, HST]}")
    assert found.options()["archives"] == ("mast", "skyview")
    assert [m.name for m in found.drawn] == ["SDSS", "2MASS"]


def test_pairs_of_several_missions_are_asked_for():
    found = read_configuration("query: {missions: [PS1, ZTF]}\ndownload: {require_same_mission: false}")
    assert found.options()["cross_survey"] == {"references": ("ps1", "ztf")}
    assert "cross_survey" not in read_configuration("query: {missions: [PS1, ZTF]}").options()


def test_filters_are_read_with_the_spellings_of_each_mission():
    """ZTF writes zg, GALEX nd; a filter that several missions have is one band."""
    found = read_configuration("query: {missions: [ZTF, PS1, GALEX], filters: [zg, g, nd, NUV]}")
    assert found.bands == ("g", "NUV")
