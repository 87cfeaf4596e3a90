"""Limitations are found in the data: each one there when it applies, and only then."""

from __future__ import annotations

import pyarrow as pa
import pytest

from astrid_assets.reports.limitations import limitations_of
from astrid_assets_tests.reports.hand_made import field_named, image_row, observed, results_of, write


def keys(root, sky_field=None) -> set[str]:
    return {one.key for one in limitations_of(results_of(root, sky_field))}


@pytest.fixture
def sound(tmp_path):
    """A field in two bands with six epochs each, a deep reference and balanced samples."""
    names = [f"{band}{i}" for band in "gr" for i in range(6)]
    rows = [image_row(n, band=n[0], mjd_mid=60000.0 + int(n[1])) for n in names]
    observed(tmp_path, [{"exposure_id": n} for n in names])
    for asset in ("science_images", "aligned_pairs", "normalized_pairs", "zogy_differences", "candidates"):
        write(tmp_path, asset, rows)
    write(tmp_path, "references", [image_row("ref", n_exposures=20, metrics={"fwhm_px": 2.5})])
    fit = pa.table({"epsilon0": [0.99], "m50": [20.5], "width": [0.2]})
    write(tmp_path, "injections", rows, output=pa.table({"kind": ["source"]}))
    results_of(tmp_path).store.write_table("injections/made/efficiency.parquet", fit)
    labels = [1, 0] * 100
    samples = pa.table({"label": labels, "domain": ["observed", "observed", "injected", "injected"] * 50})
    write(tmp_path, "training_set", rows, output=samples)
    return tmp_path, rows


def test_a_sound_field_has_none(sound):
    assert keys(sound[0]) == set()


@pytest.mark.parametrize(
    ("asset", "columns", "key"),
    [
        ("science_images", {"archive": "simulated"}, "simulated"),
        ("science_images", {"zeropoint": None}, "no_zeropoint"),
        ("science_images", {"footprint": None}, "no_wcs"),
        ("science_images", {"metrics": {"fwhm_px": 1.4}}, "undersampled"),
        ("zogy_differences", {"metrics": {"masked_fraction": 0.3}}, "masked"),
        ("zogy_differences", {"band": "r"}, "single_band"),
        ("zogy_differences", {"band": None, "mjd_mid": None}, "no_times"),
        ("aligned_pairs", {"metrics": {"depth_vs_science": -0.5}}, "shallow_reference"),
        (
            "zogy_differences",
            {"metrics": {"noise_whiteness": 0.4}, "colours": {"noise_whiteness": "orange"}},
            "poor_quality",
        ),
    ],
)
def test_what_the_images_lack_is_told(sound, asset, columns, key):
    root, rows = sound
    write(root, asset, [row | columns for row in rows])
    assert key in keys(root)


def test_few_epochs_name_the_band(sound):
    root, rows = sound
    write(root, "zogy_differences", rows[:8])
    found = {one.key: one.text for one in limitations_of(results_of(root))}
    assert "2 in r" in found["few_epochs"]
    assert "6 in g" not in found["few_epochs"]


def test_lost_exposures_are_counted(sound):
    root, rows = sound
    write(root, "candidates", rows[:9])
    assert "lost_exposures" in keys(root)


def test_bright_sources_missed_are_told(sound):
    root, _ = sound
    fit = pa.table({"epsilon0": [0.8], "m50": [20.5], "width": [0.2]})
    results_of(root).store.write_table("injections/made/efficiency.parquet", fit)
    assert "low_completeness" in keys(root)


@pytest.mark.parametrize(
    ("labels", "domains", "key"),
    [
        ([1, 0], ["observed", "injected"], "few_labels"),
        ([1, 0] * 60, ["injected"] * 120, "one_domain"),
        (
            [1, 0, -1, -1, -1] * 60,
            ["observed", "injected", "observed", "injected", "observed"] * 60,
            "unlabelled",
        ),
    ],
)
def test_samples_that_teach_little_are_told(sound, labels, domains, key):
    root, rows = sound
    write(root, "training_set", rows, output=pa.table({"label": labels, "domain": domains}))
    assert key in keys(root)


def test_an_empty_field_says_what_is_missing(tmp_path):
    assert keys(tmp_path, field_named(archive="mast")) == {
        "no_images",
        "no_efficiency",
        "no_samples",
    }
