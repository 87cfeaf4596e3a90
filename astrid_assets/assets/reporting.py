"""Reporting: what was found, for people."""

import json
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from astrid_assets.archives.planning import host_of
from astrid_assets.assets.common import (
    CODE_VERSIONS,
    OWNERS,
    Table,
    column_schema,
    job_of,
    manifest_schema,
    sky_fields,
)
from astrid_assets.assets.config import (
    ExplorationNotebookConfig,
    FieldReportConfig,
    ImagesConfig,
    effective_options,
)
from astrid_assets.assets.overall import Summary, bring_up_to_date
from astrid_assets.assets.streaming import Work, stream
from astrid_assets.checks.limits import limits
from astrid_assets.checks.reporting import PAGE
from astrid_assets.checks.specs import check_results, check_specs
from astrid_assets.fields import get_field
from astrid_assets.reports.catalog import CATALOG_COLUMNS
from astrid_assets.reports.results import FieldResults
from astrid_assets.storage.known import known_fields
from astrid_assets.storage.layout import ASSETS, RELEASE_FOLDERS
from astrid_assets.storage.manifest import METRIC_PREFIX, build_manifest, digest, manifest_digest
from astrid_assets.storage.store import Row, Store

__all__ = ["data_catalog", "exploration_notebook", "field_report"]

_UPSTREAM = tuple(asset for asset in ASSETS if asset != "field_report")


@dg.asset(
    partitions_def=sky_fields,
    dagster_type=Table,
    deps=list(_UPSTREAM),
    group_name="reporting",
    owners=OWNERS,
    kinds={"html"},
    code_version=CODE_VERSIONS["field_report"],
    required_resource_keys={"run_lock"},
    metadata={"dagster/column_schema": manifest_schema("field_report")},
    check_specs=check_specs("field_report", sky_fields),
)
def field_report(context: dg.AssetExecutionContext, config: FieldReportConfig) -> dg.MaterializeResult:
    """Page of the field: one HTML file with figures, statistics, checks and known limitations.

    It opens without a network, on a desktop and on a phone. One row a section of the page; a section
    is drawn again when what it shows has changed, and says why where there is nothing to show.
    """
    from astrid_assets.reports.field_page import parts_of

    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(sky_field, "report_parts", {"field_report": config})
    results = FieldResults(job.store, sky_field, _UPSTREAM)
    panels_max = effective_options(config, sky_field, "field_report")["panels_max"]
    parts = parts_of(results, _checks(results), panels_max=panels_max)
    works = [
        Work({"exposure_id": p.key}, p.input_sha256, {"section": p.section, "inputs": p.inputs})
        for p in parts
    ]
    drawn = stream(job, works, beside=(PAGE,))["field_report"]
    rows = {row["exposure_id"]: row for row in drawn.manifest.to_pylist()}
    sections = [(p.section, rows[p.key]) for p in parts]
    archives = sorted({_source(row) for row in results.rows("science_images") if row["archive"]})
    page = Work(
        {"exposure_id": PAGE},
        digest([archives, [[r["product_id"], r["state"], r["reason"]] for _, r in sections]]),
        {"parts": [(s, _short(r)) for s, r in sections], "archives": archives},
    )
    keys = [part.key for part in parts]
    report = stream(job_of(sky_field, "report_page", {"field_report": config}), [page], beside=keys)[
        "field_report"
    ]
    for row in (*drawn.errors, *report.errors):
        context.log.warning(f"field_report {row['exposure_id']}: {row['state']}: {row['reason']}")
    return dg.MaterializeResult(
        value=report.manifest,
        metadata={
            **_described(job.store, report.manifest, report.n_new),
            "n_sections_drawn": drawn.n_new,
            "seconds": round(time.perf_counter() - started, 3),
        },
        data_version=dg.DataVersion(manifest_digest(report.manifest)),
        check_results=list(check_results("field_report", report.manifest)),
    )


def _source(row: Mapping[str, Any]) -> str:
    """Return the archive of an exposure, and the host that answered in its place."""
    host = host_of(row["revision"])
    return row["archive"] if host is None else f"{row['archive']}, answered by {host}"


def _short(row: Row) -> Row:
    return {name: row[name] for name in ("exposure_id", "state", "reason", "path")}


def _checks(results: FieldResults) -> list[dict[str, Any]]:
    """Return what the checks of all assets of a field say, as its page shows it."""
    found = []
    for asset in _UPSTREAM:
        table = results.manifest(asset)
        if table is not None:
            found += [_check(asset, result) for result in check_results(asset, table)]
    return found


def _check(asset: str, result: dg.AssetCheckResult) -> dict[str, Any]:
    values = {name: value.value for name, value in result.metadata.items()}
    metrics = [
        {"metric": name, "unit": limit.unit, "green": _range(limit.ranges[0])}
        | {part: values[f"{name}_{part}"] for part in ("median", "min", "max")}
        for name, limit in limits(asset).items()
        if f"{name}_median" in values
    ]
    return {
        "asset": asset,
        "name": result.check_name,
        "colour": values["colour"],
        "text": result.description or "",
        "metrics": metrics,
    }


def _range(green: tuple[str, float, float]) -> str:
    """Write the green range of a limit."""
    _, low, high = green
    if low == high:
        return f"{low:g}"
    if high == float("inf"):
        return "any" if low == -high else f"{low:g} and more"
    return f"up to {high:g}" if low == -float("inf") else f"{low:g} to {high:g}"


def _described(store: Store, manifest: pa.Table, n_new: int) -> dict[str, Any]:
    """Return the metadata: where the page is, and its numbers."""
    page = next(row for row in manifest.to_pylist() if row["exposure_id"] == PAGE)
    metrics = {
        name.removeprefix(METRIC_PREFIX): value
        for name, value in page.items()
        if name.startswith(METRIC_PREFIX) and value is not None
    }
    note = {} if n_new else {"note": "nothing new: the page is as it was"}
    where = {} if page["path"] is None else {"page": _link(store, page["path"])}
    return {"n_new": n_new, **metrics, **note, **where}


def _link(store: Store, path: str) -> Any:
    """Return the place of a page, to be opened from the user interface."""
    place = str(store.path(path))
    return dg.MetadataValue.path(place) if store.local else dg.MetadataValue.url(place)


# --- all fields together --------------------------------------------------------------------------

_ALL_FIELDS: dict[str, Any] = {
    "deps": list(ASSETS),
    "group_name": "reporting",
    "owners": OWNERS,
    "required_resource_keys": {"run_lock"},
}


# the release comes before both, but a release that is refused must not keep them from being made
@dg.asset(
    **_ALL_FIELDS,
    kinds={"html", "parquet"},
    op_tags={"dagster/priority": "-1"},
    code_version=CODE_VERSIONS["data_catalog"],
    metadata={
        "dagster/column_schema": column_schema({n: (k, t) for n, (k, _, t) in CATALOG_COLUMNS.items()})
    },
    check_specs=check_specs("data_catalog"),
)
def data_catalog(context: dg.AssetExecutionContext, config: ImagesConfig) -> dg.MaterializeResult:
    """Catalogue of all fields: what exists, what it is worth, checks, the release, known issues.

    A page with links to the pages of the fields, the same as a table (`catalog.parquet`, one row a
    field) and as JSON. Fields that hold nothing yet are listed as such.
    """
    return _over_all_fields(context, "data_catalog", config)


@dg.asset(
    **_ALL_FIELDS,
    kinds={"jupyter", "html"},
    op_tags={"dagster/priority": "-2"},
    code_version=CODE_VERSIONS["exploration_notebook"],
    check_specs=check_specs("exploration_notebook"),
)
def exploration_notebook(
    context: dg.AssetExecutionContext, config: ExplorationNotebookConfig
) -> dg.MaterializeResult:
    """Exploratory data preparation as a notebook: eight sections on the data of the platform, executed.

    From the target regions to the labelled data set, through the public API; kept as `.ipynb` and as
    a page that needs no network. It is executed again when any field or the release changed.
    """
    return _over_all_fields(context, "exploration_notebook", config)


def _over_all_fields(
    context: dg.AssetExecutionContext, asset: str, config: ImagesConfig
) -> dg.MaterializeResult:
    """Bring an asset of all fields up to date."""
    started = time.perf_counter()
    summary = _summary(asset, config.model_dump(exclude={"force"}))
    row, new = bring_up_to_date(summary, force=config.force)
    if row["reason"]:
        context.log.warning(f"{asset}: {row['reason']}")
    manifest = build_manifest([row])
    return dg.MaterializeResult(
        metadata={
            **_described(summary.store, manifest, int(new)),
            "seconds": round(time.perf_counter() - started, 3),
        },
        data_version=dg.DataVersion(manifest_digest(manifest)),
        check_results=list(check_results(asset, manifest)),
    )


def _summary(asset: str, options: Mapping[str, Any]) -> Summary:
    """Return what is to be told, and its identity."""
    store = Store()
    fields = tuple(known_fields(store).values())
    results = [FieldResults(store, one, ASSETS) for one in fields]
    release = _release(store)
    known = [[r.sky_field.model_dump(mode="json", exclude={"local"}), r.digest(ASSETS)] for r in results]
    identity = {
        "input_sha256": digest([known, release]),
        "parameter_hash": digest(options)[:16],
        "code_version": CODE_VERSIONS[asset],
    }
    checks = {r.sky_field.name: _checks(r) for r in results} if asset == "data_catalog" else {}
    return Summary(asset, store, identity, options, fields, checks, release)


def _release(store: Store) -> dict[str, Any] | None:
    """Return what is known about the newest training release."""
    folder = RELEASE_FOLDERS["training_release"]
    try:
        latest = json.loads(store.path(folder, "latest.json").read_bytes())
    except FileNotFoundError:
        return None
    return latest | {"path": f"{folder}/{latest['release_id']}"}
