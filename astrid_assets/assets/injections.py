"""Synthetic sources and defects in copies of the exposures: how much would have been found."""

import time
from typing import Any

import dagster as dg
import pyarrow as pa

from astrid_assets.assets.alignment import image_settings
from astrid_assets.assets.common import (
    CODE_VERSIONS,
    OWNERS,
    Table,
    column_schema,
    identity,
    job_of,
    result_of,
    sky_fields,
)
from astrid_assets.assets.config import (
    MATCH_OPTIONS,
    CandidatesConfig,
    InjectionsConfig,
    NormalizeConfig,
    effective_options,
)
from astrid_assets.assets.streaming import Job, Work, stream
from astrid_assets.checks.limits import judge
from astrid_assets.checks.specs import check_specs
from astrid_assets.fields import Field, get_field
from astrid_assets.storage.layout import MANIFEST, OUTPUTS
from astrid_assets.storage.manifest import COLOUR_PREFIX, METRIC_PREFIX, digest, usable
from astrid_assets.storage.store import Row
from astrid_assets.training.injection_columns import INJECTION_COLUMNS, injection_schema

__all__ = ["injections"]

_SCHEMA = column_schema(
    {n: (kind, f"{text}, {unit}" if unit else text) for n, (kind, unit, text) in INJECTION_COLUMNS.items()}
)


@dg.asset(
    partitions_def=sky_fields,
    dagster_type=Table,
    group_name="training",
    owners=OWNERS,
    kinds={"numpy", "parquet"},
    code_version=CODE_VERSIONS["injections"],
    required_resource_keys={"run_lock"},
    metadata={"dagster/column_schema": _SCHEMA},
    deps=["candidates"],
    check_specs=check_specs("injections", sky_fields),
)
def injections(
    context: dg.AssetExecutionContext,
    config: InjectionsConfig,
    science_images: pa.Table,
    references: pa.Table,
    normalized_pairs: pa.Table,
    zogy_differences: pa.Table,
) -> dg.MaterializeResult:
    """Synthetic transients, variables, asteroids and defects in copies of the raw pixels, one row each.

    Each copy goes through the functions of the exposure itself; the truth is joined to what was recovered,
    with the reason where nothing was. Objects are fixed on the sky, with light curves over the epochs,
    drawn from the names of field and object alone. Beside the table lie the detections, stamps and tiles
    of each exposure, and the efficiency curves.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(sky_field, "injections", {"injections": config}, settings=_settings(sky_field))
    tables = {
        "science": science_images,
        "normalized": normalized_pairs,
        "difference": zogy_differences,
        "candidates": job.store.manifest("candidates", sky_field.name),
    }
    report = stream(job, _works(tables, references))["injections"]
    folder = job.store.folder("injections", sky_field.name)
    job.store.write_table(f"{folder}/{MANIFEST}", report.manifest)
    truth = _together(job, report.manifest)
    field_row = _judged(job, sky_field.name, truth)
    result = result_of(context, job, "injections", report, started=started, value=truth, field_row=field_row)
    numbers = {k.removeprefix(METRIC_PREFIX): v for k, v in field_row.items() if k.startswith(METRIC_PREFIX)}
    numbers = {k: v for k, v in numbers.items() if v == v}
    return result._replace(metadata={**numbers, **(result.metadata or {})})


def _settings(sky_field: Field) -> dict[str, Any]:
    """Return the settings and options that the exposures themselves went through."""
    detect = effective_options(CandidatesConfig(), sky_field, "candidates")
    options = {
        "normalize": effective_options(NormalizeConfig(), sky_field, "normalized_pairs"),
        "detect": {name: value for name, value in detect.items() if name not in MATCH_OPTIONS},
    }
    return image_settings(sky_field) | options


def _works(tables: dict[str, pa.Table | None], references: pa.Table) -> list[Work]:
    """Return the exposures that came as far as candidates, with all that they are made of."""
    by_asset = {name: {r["exposure_id"]: r for r in _done(table)} for name, table in tables.items()}
    known = {r["exposure_id"]: r for r in usable(references)}
    works = []
    for name, row in by_asset["difference"].items():
        rows = {asset: found.get(name) for asset, found in by_asset.items()}
        rows["reference"] = known.get(row["reference_id"])
        if all(rows.values()):
            products = [rows[asset]["product_id"] for asset in sorted(rows)]
            works.append(Work(identity(row), digest(products), rows))
    return works


def _done(table: pa.Table | None) -> list[Row]:
    rows = [] if table is None else table.to_pylist()
    return [r for r in rows if r["state"] in {"ok", "empty"} and r["path"]]


def _together(job: Job, manifest: pa.Table) -> pa.Table:
    """Return the truth of all exposures in one table."""
    tables = [job.store.read_table(r["path"]) for r in usable(manifest)]
    return pa.concat_tables([injection_schema().empty_table(), *tables])


def _judged(job: Job, name: str, truth: pa.Table) -> Row:
    """Write the truth and the efficiency of the field; return its numbers with their colours, as a row."""
    from astrid_assets.training.injection_tables import (
        efficiency_metrics,
        efficiency_table,
        injection_metrics,
    )

    folder = job.store.folder("injections", name)
    fits = efficiency_table(truth)
    job.store.write_table(f"{folder}/{OUTPUTS['injections']}", truth)
    job.store.write_table(f"{folder}/efficiency.parquet", fits)
    metrics = injection_metrics(truth) | efficiency_metrics(fits)
    colours = judge(metrics, "injections")
    row = {"exposure_id": name, "state": "ok"}
    row |= {f"{METRIC_PREFIX}{k}": v for k, v in metrics.items()}
    return row | {f"{COLOUR_PREFIX}{k}": colours[k] for k in metrics if k in colours}
