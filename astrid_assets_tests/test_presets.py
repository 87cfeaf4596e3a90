"""The presets that ship: the user's configurations, option by option, and what each can yield."""

from __future__ import annotations

import pytest

from astrid_assets.errors import ConfigurationError
from astrid_assets.importing import load_preset, preset_names

# missions, bands, years, days before and after, radius, observations, overlap, MB (lessons, section 4)
TABLE = {
    "best_yield_combined": ("GALEX SWIFT HST", "", 2005, 2011, 1095, 730, 0.15, 10, 0.80, 500),
    "extended_sn_dataset": ("GALEX SWIFT PS1", "", 2011, 2020, 1095, 730, 0.1, 5, 0.85, 500),
    "full_catalog": ("TESS GALEX PS1 SWIFT HST", "", 2000, None, 1095, 730, 0.15, 10, 0.80, 500),
    "galex_golden_era": ("GALEX", "", 2005, 2011, 1095, 730, 0.2, 10, 0.75, 500),
    "galex_uv_dataset": ("GALEX", "FUV NUV", 2005, 2020, 1095, 730, 0.2, 5, 0.80, 500),
    "hst_high_resolution": ("HST", "", 2000, 2024, 3650, 1825, 0.05, 20, 0.90, 1000),
    "multi_mission_dataset": ("SWIFT PS1 GALEX", "", 2005, 2020, 1095, 730, 0.1, 5, 0.85, 500),
    "ps1_optical_dataset": ("PS1", "g r i z y", 2010, 2020, 1095, 730, 0.1, 5, 0.90, 500),
    "sdss_optical_references": ("SDSS SWIFT HST", "", 2010, 2020, 3650, 730, 0.1, 5, 0.85, 500),
    "sn2014j_only": ("GALEX SWIFT PS1 HST", "", 2014, 2014, 1095, 730, 0.15, 10, 0.85, 500),
    "swift_continuous": ("SWIFT", "", 2005, 2024, 1095, 730, 0.1, 15, 0.85, 500),
    "swift_uv_dataset": ("SWIFT", "u uvw1 uvm2 uvw2", 2005, 2020, 1095, 730, 0.1, 5, 0.85, 500),
    "tess_allsky_modern": ("TESS", "", 2018, 2025, 365, 365, 0.3, 10, 0.70, 2000),
    "ztf_modern_transients": ("ZTF", "", 2018, 2025, 365, 365, 0.1, 10, 0.85, 1000),
    "ztf_ptf_optical": ("ZTF PTF", "", 2009, 2025, 730, 730, 0.1, 10, 0.85, 1000),
}


def test_all_fifteen_ship():
    assert preset_names() == tuple(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_preset_is_what_the_user_wrote(name):
    found = load_preset(name)
    query, limits = found.query, found.options()["limits"]
    assert (
        " ".join(query.missions),
        " ".join(found.bands),
        query.min_year,
        query.max_year,
        query.days_before,
        query.days_after,
        query.radius_deg,
        limits["new_exposures_per_run"],
        limits["overlap_min"],
        limits["file_size_mb"],
    ) == TABLE[name]
    assert found.name == name
    assert found.description
    assert found.usable
    assert ("cross_survey" in found.options()) == (name == "sdss_optical_references")


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("galex_golden_era", []),
        (
            "sn2014j_only",
            ["GALEX: observed 2003-05-28 to 2013-06-28, too early or late for supernovae of 2014"],
        ),
        ("ztf_ptf_optical", ["PTF: no archive of this platform has its exposures"]),
        ("sdss_optical_references", ["SDSS: its frames are not offered as exposures"]),
    ],
)
def test_a_mission_of_a_preset_that_can_yield_nothing_says_why(name, reasons):
    found = load_preset(name).why_nothing()
    assert len(found) == len(reasons)
    assert all(text.startswith(reason) for text, reason in zip(found, reasons, strict=True))


def test_a_file_is_a_preset_too(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("dataset_name: mine\nquery: {missions: [HST]}\n")
    assert load_preset(str(file)).name == "mine"
    with pytest.raises(
        ConfigurationError, match="no preset 'galex' and no such file; presets are best_yield"
    ):
        load_preset("galex")
