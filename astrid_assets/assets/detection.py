"""Detection: what changed on the sky."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
import pyarrow as pa

from astrid_assets.assets.common import (
    CODE_VERSIONS,
    OWNERS,
    Table,
    column_schema,
    identity,
    job_of,
    manifest_schema,
    result_of,
    sky_fields,
)
from astrid_assets.assets.config import MATCH_OPTIONS, CandidatesConfig, CutoutsConfig, LightCurvesConfig
from astrid_assets.assets.matching import Matching, matched
from astrid_assets.assets.streaming import Job, Work, stream
from astrid_assets.checks.specs import check_specs
from astrid_assets.fields import get_field
from astrid_assets.storage.layout import MANIFEST
from astrid_assets.storage.manifest import COLUMNS, digest, manifest_digest, usable
from astrid_assets.storage.store import Row, Store

__all__ = ["candidates", "cutouts", "light_curves"]

_IDENTITY = {"candidate_id": "identifier, unique in the field", "field": "field of the registry"} | {
    name: COLUMNS[name][1] for name in ("exposure_id", "reference_id", "survey", "band")
}
"""Descriptions of the columns that say which exposure a candidate belongs to."""


@dg.asset(
    partitions_def=sky_fields,
    dagster_type=Table,
    group_name="detection",
    owners=OWNERS,
    kinds={"parquet"},
    code_version=CODE_VERSIONS["candidates"],
    required_resource_keys={"run_lock"},
    check_specs=check_specs("candidates", sky_fields),
)
def candidates(
    context: dg.AssetExecutionContext,
    config: CandidatesConfig,
    zogy_differences: pa.Table,
    normalized_pairs: pa.Table,
    known_objects: pa.Table,
) -> dg.MaterializeResult:
    """Detections of both signs on the ZOGY S_corr images of the field, one row each.

    Position, signed flux with its error, significance, shape, mask planes nearby, `artifact`: empty or
    the first reason to doubt the detection (filters flag, they never drop a row), and the nearest known
    star, galaxy, variable, transient and solar-system object.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job, matching = _without_matching(job_of(sky_field, "candidates", {"candidates": config}))
    pairs = {r["exposure_id"]: r for r in usable(normalized_pairs)}
    works = [
        Work(identity(r), digest(r["product_id"]), {"difference": r, "normalized": pairs[r["exposure_id"]]})
        for r in usable(zogy_differences)
        if r["exposure_id"] in pairs
    ]
    report = stream(job, works)["candidates"]
    folder = job.store.folder("candidates", sky_field.name)
    job.store.write_table(f"{folder}/{MANIFEST}", report.manifest)
    rows = _done_rows(report.manifest)
    work = Matching(
        _together(job.store, rows), known_objects, {r["exposure_id"]: r["mjd_mid"] for r in rows}, matching
    )
    table = matched(work)
    result = result_of(context, job, "candidates", report, started=started, value=table)
    counts = {"n_candidates": table.num_rows, "n_unflagged": _unflagged(table), **_n_known(table)}
    schema = {"dagster/column_schema": _schema(table)}
    known = job.store.manifest("known_objects", sky_field.name)
    version = digest([manifest_digest(report.manifest), known and manifest_digest(known), matching])
    return result._replace(
        metadata={**counts, **(result.metadata or {}), **schema}, data_version=dg.DataVersion(version)
    )


def _without_matching(job: Job) -> tuple[Job, dict[str, Any]]:
    """Return the job without the options of cross-matching, and these: they redo no exposure."""
    (step,) = job.steps
    matching = {name: step.options[name] for name in MATCH_OPTIONS}
    rest = {name: value for name, value in step.options.items() if name not in matching}
    return replace(job, steps=(replace(step, options=rest),)), matching


def _n_known(table: pa.Table) -> dict[str, int]:
    """Return how many candidates have a known object of each kind beside them."""
    ids = [
        name
        for name in table.column_names
        if name.endswith("_id") and f"{name[:-3]}_sep" in table.column_names
    ]
    return {f"n_{name[:-3]}": table.num_rows - table.column(name).null_count for name in ids}


@dg.asset(
    partitions_def=sky_fields,
    dagster_type=Table,
    group_name="detection",
    owners=OWNERS,
    kinds={"numpy", "fits", "parquet"},
    code_version=CODE_VERSIONS["cutouts"],
    required_resource_keys={"run_lock"},
    metadata={"dagster/column_schema": manifest_schema("cutouts")},
    deps=["candidates"],
    check_specs=check_specs("cutouts", sky_fields),
)
def cutouts(
    context: dg.AssetExecutionContext,
    config: CutoutsConfig,
    zogy_differences: pa.Table,
    normalized_pairs: pa.Table,
) -> dg.MaterializeResult:
    """Stamps of science, reference, difference and score around the candidates of each exposure.

    Integer crops of one odd size about the pixel that holds the candidate; what lies beyond the image or
    has no value is NaN and flagged. Arrays (`.npz`) and a table in the same order for all unflagged and a
    fixed draw of the flagged candidates; the unflagged ones also as multi-extension FITS, each stamp with
    its own world coordinates.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(sky_field, "cutouts", {"cutouts": config})
    works = [
        Work(identity(rows["difference"]), _input_digest(rows), rows)
        for rows in _exposures(job.store, sky_field.name, zogy_differences, normalized_pairs)
    ]
    report = stream(job, works)["cutouts"]
    result = result_of(context, job, "cutouts", report, started=started)
    counts = {"n_stamps": sum(r["n_rows"] or 0 for r in usable(report.manifest))}
    return result._replace(metadata={**counts, **(result.metadata or {})})


@dg.asset(
    partitions_def=sky_fields,
    dagster_type=Table,
    group_name="detection",
    owners=OWNERS,
    kinds={"parquet"},
    code_version=CODE_VERSIONS["light_curves"],
    required_resource_keys={"run_lock"},
    deps=["candidates"],
    check_specs=check_specs("light_curves", sky_fields),
)
def light_curves(
    context: dg.AssetExecutionContext,
    config: LightCurvesConfig,
    zogy_differences: pa.Table,
    normalized_pairs: pa.Table,
) -> dg.MaterializeResult:
    """Candidates joined to objects over all epochs, and the flux of each object in every exposure.

    Candidates are joined in units of their position errors, in the frame of the reference. Forced
    photometry is done at one position for each object: signed flux of the change with its error, flux of the
    reference, limit, baseline and error scale, mask planes. A change of the reference starts a new
    baseline. `objects` and `associations` lie beside the table.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(sky_field, "light_curves", {"light_curves": config})
    exposures = _exposures(job.store, sky_field.name, zogy_differences, normalized_pairs)
    row = {"exposure_id": sky_field.name, "ra": sky_field.ra, "dec": sky_field.dec}
    inputs = digest([_input_digest(rows) for rows in exposures])
    report = stream(job, [Work(row, inputs, {"exposures": exposures})] if exposures else [])["light_curves"]
    folder = job.store.folder("light_curves", sky_field.name)
    job.store.write_table(f"{folder}/{MANIFEST}", report.manifest)
    done = _done_rows(report.manifest)
    table = job.store.read_table(done[0]["path"]) if done else _no_light_curves()
    result = result_of(context, job, "light_curves", report, started=started, value=table)
    schema = {"n_points": table.num_rows, "dagster/column_schema": _schema(table)}
    return result._replace(metadata={**(result.metadata or {}), **schema})


def _exposures(
    store: Store, sky_field: str, zogy_differences: pa.Table, normalized_pairs: pa.Table
) -> list[dict[str, Row]]:
    """Return the rows of candidates, difference and normalized pair of each exposure that has all three."""
    found = {r["exposure_id"]: r for r in _done_rows(store.manifest("candidates", sky_field))}
    pairs = {r["exposure_id"]: r for r in usable(normalized_pairs)}
    return [
        {"candidates": found[name], "difference": r, "normalized": pairs[name]}
        for r in usable(zogy_differences)
        if (name := r["exposure_id"]) in found and name in pairs
    ]


def _input_digest(rows: dict[str, Row]) -> str:
    """Return the identity of candidates and difference; that of the pair is part of it."""
    return digest([rows["candidates"]["product_id"], rows["difference"]["product_id"]])


def _no_light_curves() -> pa.Table:
    from astrid_assets.science.objects import light_curve_schema

    return light_curve_schema().empty_table()


def _done_rows(manifest: pa.Table | None) -> list[Row]:
    """Return the rows of a manifest whose tables count, also those of nothing found."""
    rows = [] if manifest is None else manifest.to_pylist()
    return [r for r in rows if r["state"] in {"ok", "empty"}]


def _together(store: Store, rows: Sequence[Row]) -> pa.Table:
    """Return the candidates of all exposures in one table."""
    tables = [store.read_table(r["path"]) for r in rows]
    return pa.concat_tables(tables, promote_options="default") if tables else _no_candidates()


def _schema(table: pa.Table) -> dg.TableSchema:
    """Return the columns with units and descriptions, as the science wrote them."""
    columns = {}
    for column in table.schema:
        notes = {k.decode(): v.decode() for k, v in (column.metadata or {}).items()}
        text = notes.get("description") or _IDENTITY.get(column.name, "")
        columns[column.name] = (str(column.type), f"{text}, {notes['unit']}" if notes.get("unit") else text)
    return column_schema(columns)


def _no_candidates() -> pa.Table:
    """Return a table with all columns and no rows."""
    from astrid_assets.science.detection import candidate_schema

    identity_columns = [pa.field(name, pa.string()) for name in _IDENTITY]
    return pa.schema([*identity_columns, *candidate_schema()]).empty_table()


def _unflagged(table: pa.Table) -> int:
    if "artifact" not in table.column_names:
        return 0
    return sum(not artifact for artifact in table.column("artifact").to_pylist())
