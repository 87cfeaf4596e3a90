"""The page of a field: whole, self-contained, drawn again only where something changed, honest where not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from astrid_assets.automation.runs import run_fields
from astrid_assets.checks.reporting import PAGE
from astrid_assets.fields import load_fields
from astrid_assets.home import dagster_home
from astrid_assets.reports.field_page import SECTIONS, choose_exposures, finish, parts_of
from astrid_assets.reports.pages import inspect
from astrid_assets.reports.results import FieldResults
from astrid_assets.reports.sections import draw
from astrid_assets.storage.store import Store
from astrid_assets_tests.reports.hand_made import UPSTREAM, image_row, observed, results_of, write


@pytest.fixture
def page(store: Store) -> str:
    return store.path("reports/tiny/index.html").read_text()


@pytest.fixture
def copy(reported: Path) -> Store:
    """The results, to be changed by one test."""
    shutil.copytree(reported, dagster_home(), dirs_exist_ok=True)
    return Store()


def rows(store: Store) -> dict[str, dict]:
    return {row["exposure_id"]: row for row in store.manifest("field_report", "tiny").to_pylist()}


def test_the_page_is_one_file_that_is_not_too_large(store, page):
    facts = inspect(page)
    assert facts.external == ()
    assert facts.n_blank == 0
    assert facts.n_figures >= 15
    assert len(page.encode()) < 3e6
    assert "<script" not in page


def test_every_section_is_there_and_linked(page):
    for name, section in SECTIONS.items():
        assert f'<section id="{name}">' in page
        assert f'href="#{name}"' in page
        assert section.title in page
    assert "Simulated data." in page


def test_every_row_is_a_section_that_was_drawn_or_says_why_not(store):
    found = rows(store)
    assert found[PAGE]["state"] == "ok"
    assert found[PAGE]["colour"] == "green"
    assert {row["state"] for row in found.values()} <= {"ok", "empty"}
    assert all(row["reason"] for row in found.values() if row["state"] == "empty")


def test_marks_lie_on_the_detections(store, page):
    detections = store.read_table("candidates/tiny/candidates.parquet").num_rows
    panels = {key for key in rows(store) if key.startswith("panels")}
    assert len(panels) == 2
    marks = re.findall(r'<(?:circle|rect) class="(?:kept|flagged)"', page)
    assert len(marks) == detections


def test_nothing_new_draws_nothing(copy):
    before = rows(copy)
    summary = run_fields(["tiny"], assets=["field_report"], release=False, workers=1)
    assert summary.ok
    assert rows(copy) == before


def test_only_what_changed_is_drawn_again(copy):
    before = rows(copy)
    path = "light_curves/tiny/objects.parquet"
    copy.write_table(path, copy.read_table(path).slice(0, 0))
    assert run_fields(["tiny"], assets=["field_report"], release=False, workers=1).ok
    changed = {key for key, row in rows(copy).items() if row["product_id"] != before[key]["product_id"]}
    readers = {name for name, section in SECTIONS.items() if "light_curves" in section.needs}
    assert changed == {PAGE, *readers}


def test_a_section_reads_only_what_it_said(store, reported):
    tiny = load_fields(reported / "fields.yaml")["tiny"]
    with pytest.raises(KeyError, match="reads candidates has to say so"):
        FieldResults(store, tiny, ("observations",)).rows("candidates")


@pytest.mark.parametrize("section", list(SECTIONS))
def test_a_field_without_anything_says_so(section, tmp_path):
    html, reason = draw(section, results_of(tmp_path), {"checks": [], "exposure_id": "none", "slot": 1})
    assert html or reason


def test_a_field_without_wcs_times_and_zero_point_is_shown(store, tmp_path):
    """The numbers of real images without any calibration, on the pixels of the tiny field."""
    bare = {"mjd_mid": None, "zeropoint": None, "footprint": None, "band": None, "seeing": None}
    observed(tmp_path, [{"exposure_id": "a", "archive": "local"}])
    for asset in ("science_images", "aligned_pairs"):
        write(tmp_path, asset, [image_row("a", **bare, metrics={"astrometric_rms": 0.1})])
    metrics = {"scorr_mad_std": 1.0, "residual_noise_ratio": 1.1, "noise_whiteness": 0.1}
    for asset in ("normalized_pairs", "zogy_differences"):
        path = next(r["path"] for r in store.manifest(asset, "tiny").to_pylist() if r["state"] == "ok")
        place = tmp_path / path
        place.parent.mkdir(parents=True)
        shutil.copy(store.path(path), place)
        write(tmp_path, asset, [image_row("a", **bare, metrics=metrics, path=path)])
    results = results_of(tmp_path)
    drawn = {s: draw(s, results, {"checks": [], "exposure_id": "a", "slot": 1})[0] for s in SECTIONS}
    assert "band unknown" in drawn["noise"]
    assert "unknown band, unknown UTC" in drawn["panels"]
    assert ">N</text>" not in drawn["panels"]
    assert "50 px" in drawn["panels"]
    assert "times unknown" in drawn["quality"]
    assert "no world coordinates" in drawn["limitations"]
    assert "no zero point" in drawn["limitations"]
    parts = parts_of(results, [], panels_max=1)
    page, facts = finish(results.sky_field, parts, archives=["local"])
    assert "Real data" in page
    assert facts.external == ()


def test_the_newest_of_each_band_are_shown_first():
    made = [image_row(f"{band}{day}", band=band, mjd_mid=60000.0 + day) for band in "gr" for day in range(3)]
    assert [row["exposure_id"] for row in choose_exposures(made, 3)] == ["r2", "g2", "r1"]
    assert choose_exposures([], 3) == []


def test_a_page_with_a_broken_section_names_it(store, reported):
    tiny = load_fields(reported / "fields.yaml")["tiny"]
    results = FieldResults(store, tiny, UPSTREAM)
    parts = parts_of(results, [], panels_max=0)
    page, _ = finish(tiny, parts, archives=["simulated"])
    assert page.count('<p class="empty">') == len(SECTIONS)
