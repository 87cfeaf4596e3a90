"""The graph as it is wired, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from astrid_assets.automation.freshness import FAIL_AFTER, WARN_AFTER
from astrid_assets.definitions import defs
from astrid_assets.storage.layout import ASSETS, RELEASE_ASSETS

UPSTREAM = {
    "observations": set(),
    "science_images": {"observations"},
    "references": {"observations"},
    "survey_cutouts": set(),
    "known_objects": {"observations"},
    "ztf_alerts": {"observations"},
    "aligned_pairs": {"science_images", "references"},
    "normalized_pairs": {"aligned_pairs", "science_images"},
    "zogy_differences": {"normalized_pairs"},
    "classic_differences": {"normalized_pairs"},
    "candidates": {"zogy_differences", "normalized_pairs", "known_objects"},
    "cutouts": {"candidates", "zogy_differences", "normalized_pairs"},
    "light_curves": {"candidates", "zogy_differences", "normalized_pairs"},
    "injections": {"science_images", "references", "normalized_pairs", "zogy_differences", "candidates"},
    "training_set": {
        "candidates",
        "cutouts",
        "light_curves",
        "injections",
        "known_objects",
        "ztf_alerts",
    },
    "training_release": {"training_set"},
    "field_report": set(ASSETS) - {"field_report"},
    "data_catalog": set(ASSETS),
    "exploration_notebook": set(ASSETS),
}

GROUPS = {
    "acquisition": {
        "observations",
        "science_images",
        "references",
        "survey_cutouts",
        "known_objects",
        "ztf_alerts",
    },
    "alignment": {"aligned_pairs", "normalized_pairs"},
    "differencing": {"zogy_differences", "classic_differences"},
    "detection": {"candidates", "cutouts", "light_curves"},
    "training": {"injections", "training_set", "training_release"},
    "reporting": {"field_report", "data_catalog", "exploration_notebook"},
}


@pytest.fixture(scope="module")
def nodes() -> dict[str, object]:
    graph = defs.resolve_asset_graph()
    return {key.to_user_string(): graph.get(key) for key in graph.materializable_asset_keys}


def test_the_assets_and_their_lineage(nodes: dict):
    found = {name: {k.to_user_string() for k in node.parent_keys} for name, node in nodes.items()}
    assert found == UPSTREAM
    assert set(found) == {*ASSETS, *RELEASE_ASSETS}


def test_every_asset_is_described_owned_and_versioned_and_those_of_a_field_are_partitioned(nodes: dict):
    for name, node in nodes.items():
        assert node.description, name
        assert len(node.description) > 80
        assert node.owners
        assert node.kinds
        assert node.code_version
        assert getattr(node.partitions_def, "name", None) == ("sky_field" if name in ASSETS else None)


def test_the_groups(nodes: dict):
    for group, assets in GROUPS.items():
        assert {name for name, node in nodes.items() if node.group_name == group} == assets


def test_the_columns_of_tables_are_known_before_the_first_run(nodes: dict):
    for name in set(ASSETS) - {"candidates", "light_curves"}:
        schema = nodes[name].metadata["dagster/column_schema"]
        schema = getattr(schema, "schema", schema)
        assert all(column.description for column in schema.columns), name
        assert {"exposure_id", "night"} & {column.name for column in schema.columns}


def test_those_of_the_night_say_how_old_they_may_get(nodes: dict):
    for name, node in nodes.items():
        policy = node.freshness_policy_or_from_metadata
        if name in RELEASE_ASSETS:  # made again only when something changed
            assert policy is None
            continue
        assert policy.fail_window.to_timedelta() == FAIL_AFTER
        assert policy.warn_window.to_timedelta() == WARN_AFTER


def test_every_run_holds_the_lock_of_what_it_works_on():
    assets = defs.resolve_asset_graph().assets_defs
    assert [a.keys for a in assets if "run_lock" not in a.required_resource_keys] == []


def test_only_archives_have_a_pool_and_retries():
    for definition in defs.resolve_asset_graph().assets_defs:
        names = {key.to_user_string() for key in definition.keys}
        talks = bool(names & GROUPS["acquisition"])
        assert (definition.op.pool is not None) is talks
        assert (definition.op.retry_policy is not None) is talks


def test_every_asset_has_checks_those_of_a_field_by_field():
    graph = defs.resolve_asset_graph()
    keys = graph.asset_check_keys
    assert {key.asset_key.to_user_string() for key in keys} == {*ASSETS, *RELEASE_ASSETS}
    for key in keys:
        partitions = graph.get(key).partitions_def
        of_field = key.asset_key.to_user_string() in ASSETS
        assert getattr(partitions, "name", None) == ("sky_field" if of_field else None)


@pytest.mark.parametrize(("name", "assets"), [("field", ASSETS), ("release", RELEASE_ASSETS)])
def test_each_job_takes_its_assets_through_one_process(name: str, assets: tuple[str, ...]):
    job = defs.resolve_job_def(name)
    assert {k.to_user_string() for k in job.asset_layer.executable_asset_keys} == set(assets)
    assert job.executor_def is dg.in_process_executor


def test_importing_the_definitions_imports_no_heavy_library():
    code = (
        "import sys, astrid_assets.definitions\n"
        "heavy = {'astropy', 'matplotlib', 'scipy', 'reproject', 'astroquery', 'sep', 'pyarrow.parquet'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
