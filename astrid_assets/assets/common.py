"""What all partitioned assets share: partitions, names, resources, and how a result is described."""

from __future__ import annotations

import base64
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from astrid_assets.assets.config import effective_options
from astrid_assets.assets.streaming import Job, Report, Step
from astrid_assets.checks.limits import limits
from astrid_assets.checks.specs import check_results, shown
from astrid_assets.clock import from_mjd
from astrid_assets.errors import ArchiveUnavailableError
from astrid_assets.fields import Field
from astrid_assets.storage.ledger import write_metadata
from astrid_assets.storage.manifest import (
    COLOUR_PREFIX,
    COLUMNS,
    METRIC_PREFIX,
    STATES,
    count_states,
    manifest_digest,
)
from astrid_assets.storage.store import Store

if TYPE_CHECKING:
    from astrid_assets.archives.transport import Settings
    from astrid_assets.archives.transport.tally import Tally
    from astrid_assets.storage.store import Row

__all__ = [
    "ARCHIVE_RETRIES",
    "CODE_VERSIONS",
    "OWNERS",
    "POOLS",
    "Table",
    "column_schema",
    "describe",
    "identity",
    "job_of",
    "manifest_schema",
    "only_outages_are_retried",
    "preview",
    "raise_outage",
    "result_of",
    "sky_fields",
    "traffic_metadata",
]

sky_fields = dg.DynamicPartitionsDefinition(name="sky_field")
"""One partition a field of ``fields.yaml``."""

Table = dg.PythonObjectDagsterType(pa.Table, name="Table", description="A pyarrow.Table.")
"""Type of what the assets hand downstream."""

OWNERS = ["team:astrid"]

POOLS = {
    "observations": "archive_search",
    "science_images": "archive_images",
    "references": "archive_images",
    "survey_cutouts": "skyview",
    "known_objects": "catalogues",
    "ztf_alerts": "alerts",
}
"""Pools of the steps that talk to archives, by the hosts they talk to; no other step has a pool.

They bound the steps of all runs. The requests that a host gets are bounded by the transport, for all
processes."""

ARCHIVE_RETRIES = dg.RetryPolicy(
    max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
"""Only for archives: an outage passes, a computation that failed will fail again."""

CODE_VERSIONS: dict[str, str] = {
    "observations": "2",
    "science_images": "1",
    "references": "2",
    "aligned_pairs": "2",
    "normalized_pairs": "3",
    "zogy_differences": "3",
    "classic_differences": "3",
    "candidates": "3",
    "survey_cutouts": "1",
    "known_objects": "1",
    "ztf_alerts": "2",
    "cutouts": "1",
    "light_curves": "2",
    "injections": "2",
    "training_set": "1",
    "field_report": "1",
    "training_release": "1",
    "data_catalog": "1",
    "exploration_notebook": "1",
}
"""Raised by hand when the code of an asset changes its results; its rows are then redone."""

_PREVIEW_MAX = 50_000
"""Bytes of a preview that go into the event log (dagster.md 3.7)."""

_IDENTITY = [
    "exposure_id",
    "archive",
    "survey",
    "detector_type",
    "detector",
    "band",
    "calibration",
    "product",
    "pairing_key",
    "reference_id",
    "mjd_start",
    "mjd_mid",
    "mjd_end",
    "n_exposures",
    "exptime",
    "airmass",
    "zeropoint",
    "seeing",
    "ra",
    "dec",
    "footprint",
    "revision",
]


def identity(row: Row) -> Row:
    """Return the columns of a row that identify an exposure; they are carried downstream."""
    return {name: row.get(name) for name in _IDENTITY}


@contextmanager
def only_outages_are_retried() -> Iterator[None]:
    """Let an outage reach the retry policy of the step; every other error ends it at once."""
    try:
        yield
    except ArchiveUnavailableError as error:
        if error.retry_after is None:
            raise
        # the archive has said when it wants to be asked again
        raise dg.RetryRequested(ARCHIVE_RETRIES.max_retries, error.retry_after) from error
    except dg.Failure:
        raise
    except Exception as error:
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error


def raise_outage(report: Report) -> None:
    """End the step for a retry where an archive gave nothing at all; single outages wait for the next run."""
    out = [r for r in report.errors if (r["reason"] or "").startswith("archive_unavailable")]
    if out and len(out) == report.n_new and report.n_reused == 0:
        raise ArchiveUnavailableError(out[0]["reason"].split(": ", 1)[-1])


def job_of(
    sky_field: Field,
    recipe: str,
    configs: Mapping[str, dg.Config],
    *,
    settings: Mapping[str, Any] | None = None,
    archives: Settings | None = None,
) -> Job:
    """Return the job that brings some assets of a field up to date.

    Parameters
    ----------
    sky_field
        The field.

    recipe
        Name of the recipe.

    configs
        Options by asset.

    settings
        Settings of the field that change the result.

    archives
        How the services of archives are treated; needed by assets that ask them.
    """
    steps = tuple(
        Step(asset, effective_options(config, sky_field, asset), CODE_VERSIONS[asset], settings or {})
        for asset, config in configs.items()
    )
    force = any(getattr(config, "force", False) for config in configs.values())
    return Job(Store(), sky_field, recipe, steps, force, archives)


def result_of(
    context: dg.AssetExecutionContext,
    job: Job,
    asset: str,
    report: Report,
    *,
    started: float,
    value: pa.Table | None = None,
    reference_ids: Sequence[str] | None = None,
    field_row: Row | None = None,
) -> dg.MaterializeResult:
    """Return what an image asset hands to Dagster: table, metadata, data version and check results.

    Parameters
    ----------
    context
        Of the step; failures are logged there.

    job, asset, report
        What was done, for which asset, and what became of it.

    started
        `time.perf_counter` at the start.

    value
        Table to hand downstream; the manifest by default.

    reference_ids
        Usable references, to verify the links.

    field_row
        Metrics and colours of the field as a whole.
    """
    for row in report.errors:
        context.log.warning(f"{asset} {row['exposure_id']}: {row['state']}: {row['reason']}")
    return dg.MaterializeResult(
        asset_key=asset,
        value=report.manifest if value is None else value,
        metadata=describe(job, asset, report, started),
        data_version=dg.DataVersion(manifest_digest(report.manifest)),
        check_results=list(
            check_results(asset, report.manifest, reference_ids=reference_ids, field_row=field_row)
        ),
    )


def describe(job: Job, asset: str, report: Report, started: float) -> dict[str, Any]:
    """Return the metadata of a materialization: numbers that plot over time, then what went wrong.

    Also writes the JSON files of the exposures that changed.
    """
    table, store = report.manifest, job.store
    counts = count_states(table)
    write_metadata(job.sky_field.name, store, report.changed, newer={asset: table})
    metadata: dict[str, Any] = {
        "n_exposures": table.num_rows - counts["superseded"],
        "n_new": report.n_new,
        "n_reused": report.n_reused,
        **{f"n_{state}": counts[state] for state in STATES},
    }
    metadata |= traffic_metadata(report.traffic)
    if report.n_new == 0:
        metadata["note"] = "nothing new: no exposure was processed"
    # what one wants to click stands above the long list of medians
    metadata |= _troubles(table) | preview(store, f"{store.folder(asset, job.sky_field.name)}/preview.png")
    return metadata | {"seconds": round(time.perf_counter() - started, 3)} | _medians(table)


def traffic_metadata(traffic: Tally) -> dict[str, Any]:
    """Return what was asked of the services of archives; nothing where none was."""
    if not traffic.services:
        return {}
    total = traffic.total
    lines = [
        f"| {name} | {c.requests} | {c.bytes} | {c.cache_hits} | {c.revalidations} | {c.retries} |"
        for name, c in traffic.services.items()
    ]
    head = "| service | requests | bytes | cache hits | revalidations | retries |\n|" + " --- |" * 6
    oldest = {} if total.oldest_mjd is None else {"oldest_answer": from_mjd(total.oldest_mjd).isoformat()}
    return {
        "n_requests": total.requests,
        "n_bytes": total.bytes,
        "n_cache_hits": total.cache_hits,
        "n_revalidations": total.revalidations,
        "n_retries": total.retries,
        **oldest,
        "services": dg.MetadataValue.md("\n".join([head, *lines])),
    }


def _medians(table: pa.Table) -> dict[str, float]:
    """Return the median of each metric over the exposures that flow on."""
    ok = [state in {"ok", "empty"} for state in table.column("state").to_pylist()]
    medians = {}
    for name in table.column_names:
        if name.startswith(METRIC_PREFIX):
            values = table.column(name).to_pylist()
            good = [v for v, use in zip(values, ok, strict=True) if use and v is not None]
            if good:
                medians[f"median_{name.removeprefix(METRIC_PREFIX)}"] = shown(statistics.median(good))
    return medians


def _troubles(table: pa.Table) -> dict[str, Any]:
    """Return a table of the exposures that did not pass, with their reasons."""
    bad = [r for r in table.to_pylist() if r["state"] in {"failed", "rejected", "quarantined"}]
    if not bad:
        return {}
    lines = [f"| {r['exposure_id']} | {r['state']} | {_cell(r['reason'])} |" for r in bad[:20]]
    text = "\n".join(["| exposure | state | reason |", "| --- | --- | --- |", *lines])
    more = f"\n\n... and {len(bad) - 20} more" if len(bad) > 20 else ""
    return {"troubles": dg.MetadataValue.md(text + more)}


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")[:200]


def preview(store: Store, path: str) -> dict[str, Any]:
    """Return the last preview picture of an asset as metadata, if there is one."""
    size = store.size(path)
    if not size or size > _PREVIEW_MAX:
        return {}
    picture = base64.b64encode(store.path(path).read_bytes()).decode()
    return {"preview": dg.MetadataValue.md(f"![preview](data:image/png;base64,{picture})")}


def column_schema(columns: Mapping[str, tuple[str, str]]) -> dg.TableSchema:
    """Return a column schema from types and descriptions."""
    return dg.TableSchema(
        columns=[dg.TableColumn(name, kind, description=text) for name, (kind, text) in columns.items()]
    )


def manifest_schema(asset: str) -> dg.TableSchema:
    """Return the columns of the manifest of an asset, with those of the judged metrics."""
    judged = limits(asset)
    metrics = {METRIC_PREFIX + n: ("double", f"quality metric, {limit.unit}") for n, limit in judged.items()}
    colours = {COLOUR_PREFIX + n: ("string", f"judgement of {n}") for n in judged}
    return column_schema({**COLUMNS, **metrics, **colours})
