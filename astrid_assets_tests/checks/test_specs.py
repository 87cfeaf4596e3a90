"""Checks run inside real Dagster runs, per partition, from stored colours."""

import dagster as dg
import pyarrow as pa
import pytest

from astrid_assets.checks.limits import judge
from astrid_assets.checks.specs import check_results, check_specs
from astrid_assets.storage.layout import ASSETS

FIELDS = dg.StaticPartitionsDefinition(["good", "mixed", "bad"])


def row(name, *, state="ok", reason=None, **metrics):
    colours = judge(metrics, "aligned_pairs")
    return {
        "exposure_id": name,
        "state": state,
        "reason": reason,
        "survey": "ztf",
        "band": "ztf-r",
        "pairing_key": "ztf/ccd/ztf-r/1",
        "reference_id": "ref",
        "mjd_mid": 60000.5,
        "path": f"{name}.fits",
        "input_sha256": "a",
        "parameter_hash": "b",
        "code_version": "1",
        "product_id": "c",
        **{f"metric_{k}": v for k, v in metrics.items()},
        **{f"colour_{k}": v for k, v in colours.items()},
    }


GOOD = row("one", astrometric_offset=0.02, astrometric_rms=0.1, template_coverage=0.99)
POOR = row("two", state="quarantined", astrometric_offset=0.4, astrometric_rms=0.1, template_coverage=0.9)
APART = row("three", state="rejected", reason="no_overlap: the footprints do not touch")
TABLES = {"good": [GOOD], "mixed": [GOOD, POOR, APART], "bad": [APART]}


def results(rows, asset="aligned_pairs", **context):
    return {r.check_name: r for r in check_results(asset, pa.Table.from_pylist(rows), **context)}


@dg.asset(partitions_def=FIELDS, check_specs=check_specs("aligned_pairs", FIELDS))
def aligned_pairs(context):
    """Yield the checks of a manifest that is already judged."""
    manifest = pa.Table.from_pylist(TABLES[context.partition_key])
    return dg.MaterializeResult(value=1, check_results=list(check_results("aligned_pairs", manifest)))


@dg.asset(partitions_def=FIELDS)
def downstream(aligned_pairs):
    """Need the pairs."""
    return aligned_pairs


@pytest.fixture(scope="module")
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(field, instance):
    return dg.materialize(
        [aligned_pairs, downstream], partition_key=field, instance=instance, raise_on_error=False
    )


def test_good_field_passes_every_check(instance):
    result = run("good", instance)
    evaluations = result.get_asset_check_evaluations()
    assert result.success
    assert {e.check_name for e in evaluations} == {s.name for s in check_specs("aligned_pairs")}
    assert all(e.passed for e in evaluations)
    assert {e.partition for e in evaluations} == {"good"}


def test_one_red_exposure_warns_and_does_not_stop(instance):
    result = run("mixed", instance)
    evaluations = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert result.success
    assert not evaluations["astrometric_offset"].passed
    assert evaluations["astrometric_offset"].severity == dg.AssetCheckSeverity.WARN
    assert evaluations["usable_exposures"].passed


def test_field_without_usable_exposure_stops_downstream(instance):
    result = run("bad", instance)
    assert not result.success
    failed = {e.check_name for e in result.get_asset_check_evaluations() if not e.passed}
    assert {"usable_exposures", "template_coverage"} <= failed
    assert not result.get_step_success_events()


def test_description_names_value_limit_and_exposure():
    text = results([GOOD, POOR, APART])["astrometric_offset"].description
    assert text == "1 green, 1 red. Worst: two: astrometric_offset 0.4 science pixels (red; green 0 to 0.08)."
    coverage = results([GOOD, POOR, APART])["template_coverage"]
    assert coverage.metadata["worst_exposures"].value == "three"
    assert coverage.metadata["template_coverage_min"].value == pytest.approx(0.9)


def test_red_over_the_whole_field_is_an_error():
    result = results([POOR])["astrometric_offset"]
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.ERROR


def test_superseded_rows_do_not_count():
    assert results([GOOD, {**POOR, "state": "superseded"}])["astrometric_offset"].passed


def test_metrics_that_do_not_apply_pass():
    result = results([row("one", astrometric_offset=float("nan"))])["astrometric_offset"]
    assert result.passed
    assert result.description == "Not applicable to any exposure."


@pytest.mark.parametrize("asset", sorted(set(ASSETS) - {"field_report"}))
def test_empty_manifest_fails_nothing(asset):
    empty = pa.table({"exposure_id": pa.array([], pa.string()), "state": pa.array([], pa.string())})
    severities = {r.severity for r in check_results(asset, empty) if not r.passed}
    assert severities <= {dg.AssetCheckSeverity.WARN}


def test_a_report_without_a_page_is_an_error():
    (page, *_) = check_results("field_report", pa.table({"exposure_id": pa.array([], pa.string())}))
    assert not page.passed
    assert page.severity == dg.AssetCheckSeverity.ERROR


@pytest.mark.parametrize("asset", ASSETS)
def test_specs_and_results_agree(asset):
    empty = pa.table({"exposure_id": pa.array([], pa.string()), "state": pa.array([], pa.string())})
    assert [s.name for s in check_specs(asset)] == [r.check_name for r in check_results(asset, empty)]


def test_only_uselessness_blocks():
    blocking = {s.name for asset in ASSETS for s in check_specs(asset) if s.blocking}
    assert blocking == {"usable_exposures"}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"reference_id": None}, "cross_references"),
        ({"reference_id": "one"}, "cross_references"),
        ({"path": None}, "metadata_complete"),
        ({"parameter_hash": None}, "provenance_complete"),
    ],
)
def test_gaps_in_the_table_are_found(change, check):
    verdicts = results([GOOD | change])
    assert not verdicts[check].passed
    assert verdicts[check].metadata["n_wrong"].value == 1
    assert [name for name, r in verdicts.items() if not r.passed] == [check]


def test_links_are_followed_where_the_references_are_known():
    assert results([GOOD], reference_ids=["ref"])["cross_references"].passed
    assert not results([GOOD], reference_ids=["other"])["cross_references"].passed


IMAGE = {
    "exposure_id": "one",
    "state": "ok",
    "ra": 150.0,
    "dec": 2.2,
    "footprint": [149.9, 2.1, 150.1, 2.1, 150.1, 2.3, 149.9, 2.3],
    "mjd_start": 60000.0,
    "mjd_mid": 60000.1,
    "mjd_end": 60000.2,
}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({}, None),
        ({"ra": 360.5}, "coordinates_consistent"),
        ({"dec": -2.2}, "coordinates_consistent"),
        ({"mjd_mid": 60001.0}, "timestamps_valid"),
        ({"mjd_start": 2.46e6, "mjd_mid": 2.46e6, "mjd_end": 2.46e6}, "timestamps_valid"),
    ],
)
def test_positions_and_times(change, check):
    verdicts = results([IMAGE | change], "science_images")
    for name in ("coordinates_consistent", "timestamps_valid"):
        assert verdicts[name].passed == (name != check)


def offer(status, reason=None, **rest):
    return {
        "exposure_id": "a",
        "status": status,
        "reason": reason,
        "role": "science",
        "mjd_mid": 60000.0,
        **rest,
    }


def test_selection_says_why_exposures_are_not_used():
    rows = [offer("selected"), offer("rejected", "guard gap: 3 days"), offer("rejected", "guard gap: 4 days")]
    result = results(rows, "observations")["selection"]
    assert result.passed
    assert result.description == "1 of 3 exposures selected; 2 x guard gap"


def test_selected_observations_are_looked_at_and_rejected_ones_are_not():
    rows = [
        offer("selected", ra=10.0, dec=95.0, mjd_start=6e4, mjd_end=6e4),
        offer("rejected", "guard gap", ra=400.0, dec=0.0, mjd_start=6e4, mjd_end=6e4),
    ]
    result = results(rows, "observations")["coordinates_consistent"]
    assert result.metadata["n_checked"].value == 1
    assert result.metadata["n_wrong"].value == 1


def test_outage_of_every_archive_is_an_error():
    result = results([offer("failed", "outage")], "observations")["selection"]
    assert result.severity == dg.AssetCheckSeverity.ERROR


def test_freshness_warns_late_and_only_in_open_windows():
    rows = [offer("selected")]
    assert results(rows, "observations", now_mjd=60003.0)["freshness"].passed
    late = results(rows, "observations", now_mjd=60030.0)["freshness"]
    assert not late.passed
    assert late.severity == dg.AssetCheckSeverity.WARN
    assert late.metadata["newest_age_days"].value == pytest.approx(30.0)
    assert results(rows, "observations")["freshness"].passed


@pytest.mark.parametrize(
    ("metrics", "cause"),
    [
        (
            {"transient_fraction_low": 0.2, "sign_imbalance": 0.3, "n_positive": 50.0, "n_negative": 48.0},
            "registration",
        ),
        (
            {"transient_fraction_low": 0.2, "sign_imbalance": 9.0, "n_positive": 90.0, "n_negative": 1.0},
            "flux scale",
        ),
        (
            {"transient_fraction_low": 0.2, "sign_imbalance": 5.0, "n_positive": 90.0, "n_negative": 40.0},
            "PSF",
        ),
        ({"transient_fraction_low": 0.2, "sky_source_std": 2.0}, "background"),
    ],
)
def test_cause_of_too_many_candidates(metrics, cause):
    colours = judge(metrics, "candidates")
    found = {"exposure_id": "one", "state": "ok"}
    found |= {f"metric_{k}": v for k, v in metrics.items()} | {f"colour_{k}": v for k, v in colours.items()}
    text = results([found], "candidates")["transient_fraction"].description
    assert cause in text.split("likely cause: ")[1]


@pytest.mark.parametrize(
    ("metrics", "cause"),
    [
        ({"residual_noise_ratio": 1.4, "scorr_mad_std": 1.03}, "registration, flux scale or PSF"),
        ({"residual_noise_ratio": 1.0, "scorr_mad_std": 1.7}, "background"),
        ({"residual_noise_ratio": 1.0, "scorr_mad_std": 1.7, "variance_scale": 1.8}, "variance"),
    ],
)
def test_cause_of_a_bad_subtraction(metrics, cause):
    colours = judge(metrics, "zogy_differences")
    found = {"exposure_id": "one", "state": "ok"}
    found |= {f"metric_{k}": v for k, v in metrics.items()} | {f"colour_{k}": v for k, v in colours.items()}
    failed = [
        r for r in results([found], "zogy_differences").values() if r.description and "cause" in r.description
    ]
    assert failed
    assert all(cause in r.description for r in failed)
