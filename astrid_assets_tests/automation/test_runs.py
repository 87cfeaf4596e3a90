"""A small simulated field through the whole graph, as ``astrid run`` does it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest

from astrid_assets.automation.instance import open_instance
from astrid_assets.automation.runs import RunSummary, run_fields
from astrid_assets.errors import ConfigurationError
from astrid_assets.home import dagster_home
from astrid_assets.storage.layout import ASSETS, EXPOSURE_ASSETS
from astrid_assets.storage.ledger import ledger
from astrid_assets.storage.locks import field_lock, release_lock
from astrid_assets.storage.manifest import manifest_digest
from astrid_assets.storage.store import Store
from astrid_assets_tests.tiny import install, tiny_field

PER_EXPOSURE = set(EXPOSURE_ASSETS) - {"observations", "references"}

TINY = tiny_field()


def run(**options: object) -> RunSummary:
    """Run the field alone: a notebook takes longer than all the rest."""
    return run_fields(["tiny"], workers=1, **({"release": False} | options))


def digests() -> dict[str, str]:
    return {asset: manifest_digest(Store().manifest(asset, "tiny")) for asset in ASSETS}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunSummary]:
    """The home of an instance in which the field ran once."""
    home = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.delenv("ASTRID_DATA", raising=False)
        install(TINY)
        return home, run()


@pytest.fixture
def first(built: tuple[Path, RunSummary]) -> RunSummary:
    """The first run of the field, in an instance of the test's own."""
    home, summary = built
    shutil.copytree(home, dagster_home(), dirs_exist_ok=True)
    return summary


def test_the_first_run_brings_the_field_to_its_report(first: RunSummary):
    (field,) = first.fields
    assert field.error is None
    assert first.ok
    assert set(field.new) == set(ASSETS)
    assert {asset: field.new[asset] for asset in PER_EXPOSURE} == dict.fromkeys(PER_EXPOSURE, 2)
    assert (field.new["observations"], field.new["references"], field.new["light_curves"]) == (3, 1, 1)
    assert field.counts["exposures"] == field.counts["differenced"] == 2
    assert set(first.stages) == {*ASSETS} - {"zogy_differences", "classic_differences"} | {"differences"}
    assert sum(first.checks.values()) > 50
    assert first.checks["failed"] == 0


def test_the_ledger_and_the_json_files_tell_how_far_each_exposure_came(first: RunSummary):
    rows = [r for r in ledger("tiny", Store()).to_pylist() if r["role"] == "science"]
    assert all(r["zogy_differences"] == "ok" for r in rows)
    for row in rows:
        document = json.loads(
            Path(Store().root, "metadata", "tiny", f"{row['exposure_id']}.json").read_text()
        )
        assert set(document["states"]) == PER_EXPOSURE
        assert document["dimensions"] == [256, 256]
        assert Path(Store().root, document["paths"]["zogy_differences"]).is_file()


def test_the_instance_shows_numbers_that_plot_a_picture_and_a_data_version(first: RunSummary):
    with open_instance() as instance:
        record = instance.fetch_materializations(dg.AssetKey("zogy_differences"), limit=1).records[0]
    metadata = {k: v.value for k, v in record.asset_materialization.metadata.items()}
    assert {"n_new": 2, "n_reused": 0, "n_failed": 0, "n_quarantined": 0, "dagster/row_count": 2}.items() <= (
        metadata.items()
    )
    assert isinstance(metadata["median_scorr_std"], float)
    assert metadata["preview"].startswith("![preview](data:image/png;base64,")
    assert len(metadata["preview"]) < 70_000
    assert record.partition_key == "tiny"
    version = record.asset_materialization.tags["dagster/data_version"]
    assert version == digests()["zogy_differences"]


def test_every_file_says_where_it_comes_from(first: RunSummary):
    from astropy.io import fits

    store = Store()
    for row in store.manifest("zogy_differences", "tiny").to_pylist():
        header = fits.getheader(store.path(row["path"]))
        assert header["EXPID"] == row["exposure_id"]
        assert header["REFID"] == row["reference_id"]
        assert header["INSHA256"] == row["input_sha256"]
        assert header["PARHASH"] == row["parameter_hash"]
        assert header["PRODID"] == row["product_id"]


def test_a_second_run_does_no_work_and_says_so(first: RunSummary):
    before = digests()
    second = run()
    assert second.n_new == 0
    assert digests() == before
    with open_instance() as instance:
        record = instance.fetch_materializations(dg.AssetKey("candidates"), limit=1).records[0]
    assert record.asset_materialization.metadata["note"].value == "nothing new: no exposure was processed"


DETECTION = {"candidates", "cutouts", "light_curves", "injections", "training_set", "field_report"}
"""What depends on the candidates."""


def redone() -> set[str]:
    return {asset for asset, n in run().fields[0].new.items() if n}


def test_a_changed_parameter_redoes_exactly_what_depends_on_it(first: RunSummary):
    install(TINY + "  processing: {candidates: {threshold: 6.0}}\n")
    assert redone() == DETECTION
    install(TINY + "  processing: {normalized_pairs: {background_box: 48}}\n")
    assert redone() == DETECTION | {"normalized_pairs", "zogy_differences", "classic_differences"}
    install(
        TINY + "  processing: {normalized_pairs: {background_box: 48}, light_curves: {quiet_before: 50}}\n"
    )
    assert not redone() & {"candidates", "cutouts", "injections"}


def test_the_result_does_not_depend_on_the_number_of_workers(
    first: RunSummary, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    before = digests()
    monkeypatch.setenv("ASTRID_DATA", str(tmp_path / "other"))
    assert run_fields(["tiny"], workers=2, release=False).ok
    assert digests() == before


def test_force_redoes_one_asset_alone(first: RunSummary):
    summary = run(assets=["candidates"], force=True)
    assert summary.fields[0].new == {"candidates": 2}
    summary = run(assets=["zogy_differences"], force=True)
    assert summary.fields[0].new == {"zogy_differences": 2}


PAGES = ["training_release", "data_catalog"]


def test_a_refused_release_is_told_and_fails_nothing(first: RunSummary):
    """The field is too small; the page of all fields is made nevertheless."""
    summary = run(assets=PAGES, release=True)
    assert summary.fields == ()
    assert summary.ok
    assert summary.release.status == "refused"
    assert summary.release.reason.startswith("training_release: ")
    assert "too few" in summary.release.reason
    assert set(summary.release.made) == {"data_catalog"}
    assert (summary.release.release_id, summary.release.samples) == (None, None)


def test_a_busy_release_fails_with_one_clear_line(first: RunSummary):
    with release_lock(run_id="0123456789"):
        summary = run(assets=PAGES, release=True)
    assert not summary.ok
    assert summary.release.status == "failed"
    assert "a release is being made by run 01234567" in summary.release.reason


def test_where_no_field_holds_anything_there_is_no_release():
    install(TINY)
    assert run(assets=PAGES, release=True).release is None


def test_a_busy_field_fails_with_one_clear_line():
    install(TINY)
    with field_lock("tiny", run_id="0123456789"):
        summary = run(assets=["observations"])
    assert not summary.ok
    assert "field tiny is being processed by run 01234567" in summary.fields[0].error
    assert "\n" not in summary.fields[0].error


def test_unknown_fields_and_assets_are_refused():
    install(TINY)
    with pytest.raises(ConfigurationError, match="there is no field 'tinny'"):
        run_fields(["tinny"])
    with pytest.raises(ConfigurationError, match="there is no asset 'candidate'"):
        run(assets=["candidate"])


def test_an_option_that_does_not_exist_fails_the_run_with_one_line():
    install(TINY + "  processing: {candidates: {treshold: 6.0}}\n")
    summary = run(assets=["observations", "science_images"])
    assert summary.fields[0].error.startswith(
        "science_images: field tiny: processing.candidates.treshold: unknown option"
    )
