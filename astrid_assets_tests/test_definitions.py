"""The graph as it is wired, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from astrid_assets.definitions import defs
from astrid_assets.storage.layout import ASSETS

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
}


@pytest.fixture(scope="module")
def nodes() -> dict[str, object]:
    graph = defs.resolve_asset_graph()
    return {key.to_user_string(): graph.get(key) for key in graph.materializable_asset_keys}


def test_the_assets_and_their_lineage(nodes: dict):
    found = {name: {k.to_user_string() for k in node.parent_keys} for name, node in nodes.items()}
    assert found == UPSTREAM
    assert set(found) == set(ASSETS)


def test_every_asset_is_described_owned_versioned_and_partitioned_by_field(nodes: dict):
    for name, node in nodes.items():
        assert node.description, name
        assert len(node.description) > 80
        assert node.owners
        assert node.kinds
        assert node.code_version
        assert node.partitions_def.name == "sky_field"


def test_the_groups(nodes: dict):
    for group, assets in GROUPS.items():
        assert {name for name, node in nodes.items() if node.group_name == group} == assets


def test_the_columns_of_tables_are_known_before_the_first_run(nodes: dict):
    for name in set(ASSETS) - {"candidates", "light_curves"}:
        schema = nodes[name].metadata["dagster/column_schema"]
        schema = getattr(schema, "schema", schema)
        assert all(column.description for column in schema.columns), name
        assert {"exposure_id", "night"} & {column.name for column in schema.columns}


def test_only_archives_have_a_pool_and_retries():
    for definition in defs.resolve_asset_graph().assets_defs:
        names = {key.to_user_string() for key in definition.keys}
        talks = bool(names & GROUPS["acquisition"])
        assert (definition.op.pool == "archive") is talks
        assert (definition.op.retry_policy is not None) is talks


def test_every_asset_has_checks_by_field():
    graph = defs.resolve_asset_graph()
    keys = graph.asset_check_keys
    assert {key.asset_key.to_user_string() for key in keys} == set(ASSETS)
    assert all(graph.get(key).partitions_def.name == "sky_field" for key in keys)


def test_the_job_takes_every_asset_through_one_process():
    job = defs.resolve_job_def("field")
    assert {k.to_user_string() for k in job.asset_layer.executable_asset_keys} == set(ASSETS)
    assert job.executor_def is dg.in_process_executor


def test_importing_the_definitions_imports_no_heavy_library():
    code = (
        "import sys, astrid_assets.definitions\n"
        "heavy = {'astropy', 'matplotlib', 'scipy', 'reproject', 'astroquery', 'sep', 'pyarrow.parquet'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
