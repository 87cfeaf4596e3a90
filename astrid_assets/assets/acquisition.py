"""Acquisition: what the archives offer, and the images that are wanted."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa

from astrid_assets.archives.planning import OBSERVATION_COLUMNS, Plan, Query, plan
from astrid_assets.archives.transport import Settings
from astrid_assets.assets.common import (
    ARCHIVE_RETRIES,
    CODE_VERSIONS,
    OWNERS,
    POOLS,
    Table,
    column_schema,
    identity,
    job_of,
    manifest_schema,
    only_outages_are_retried,
    raise_outage,
    result_of,
    sky_fields,
    traffic_metadata,
)
from astrid_assets.assets.config import ImagesConfig, ObservationsConfig, ReferencesConfig
from astrid_assets.assets.resources import ARCHIVE_RESOURCES, archive_settings
from astrid_assets.assets.streaming import Work, stream
from astrid_assets.checks.specs import check_results, check_specs
from astrid_assets.clock import now_mjd, simulated_now
from astrid_assets.compute import run_exposures
from astrid_assets.errors import ArchiveUnavailableError
from astrid_assets.fields import Field, get_field
from astrid_assets.storage.ledger import write_metadata
from astrid_assets.storage.manifest import digest, manifest_digest
from astrid_assets.storage.store import Row, Store

__all__ = ["observations", "references", "science_images"]

_SHARED: dict[str, Any] = {
    "partitions_def": sky_fields,
    "dagster_type": Table,
    "group_name": "acquisition",
    "owners": OWNERS,
    "retry_policy": ARCHIVE_RETRIES,
    "required_resource_keys": {"run_lock", *ARCHIVE_RESOURCES},
}


@dg.asset(
    **_SHARED,
    kinds={"parquet"},
    pool=POOLS["observations"],
    code_version=CODE_VERSIONS["observations"],
    metadata={"dagster/column_schema": column_schema(OBSERVATION_COLUMNS)},
    check_specs=check_specs("observations", sky_fields),
)
@only_outages_are_retried()
def observations(context: dg.AssetExecutionContext, config: ObservationsConfig) -> dg.MaterializeResult:  # noqa: ARG001
    """Ledger of the field: every exposure that any of its archives offers, before a byte is downloaded.

    One row an exposure, with its pairing key (survey, detector type, band, calibration), its role,
    the reference it is compared with, and `status`: selected, or rejected with the reason (windows,
    guard gap, overlap, limits). A search that failed is a row of its own and is tried again; it
    never counts as "nothing there", and the exposures known from earlier stay.
    """
    started = time.perf_counter()
    sky_field, store = get_field(context.partition_key), Store()
    previous = store.manifest("observations", sky_field.name)
    found = _search(sky_field, previous, archive_settings(context))
    failed = [q for q in found.queries if q.state == "failed"]
    for query in failed:
        context.log.warning(f"search of archive {query.archive} failed: {query.reason}")
    if failed and len(failed) == len(found.queries) and previous is None:
        raise _outage(failed)
    changed = _changed(previous, found.table)
    write_metadata(sky_field.name, store, changed, newer={"observations": found.table})
    return dg.MaterializeResult(
        value=found.table,
        metadata={
            **_observation_metadata(found, len(changed)),
            "seconds": round(time.perf_counter() - started, 3),
        },
        data_version=dg.DataVersion(manifest_digest(found.table)),
        check_results=list(check_results("observations", found.table, now_mjd=_now(sky_field))),
    )


def _outage(failed: Sequence[Query]) -> ArchiveUnavailableError:
    """Return the error of a field of which no archive answered."""
    error = ArchiveUnavailableError("; ".join(f"{q.archive}: {q.reason}" for q in failed))
    error.retry_after = max((q.retry_after for q in failed if q.retry_after is not None), default=None)
    return error


def _search(sky_field: Field, previous: pa.Table | None, archives: Settings) -> Plan:
    """Search in a worker, which has the libraries of the archives at hand."""
    outcome = next(run_exposures(partial(plan, previous=previous, archives=archives), [sky_field]))
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def _now(sky_field: Field) -> float | None:
    """Return the time that the field's newest exposure is compared with; None where its window is closed."""
    if sky_field.science_window.end_mjd is not None:
        return None
    return simulated_now() if "simulated" in sky_field.archives else now_mjd()


def _changed(previous: pa.Table | None, table: pa.Table) -> set[str]:
    """Return the exposures whose row is not the same as before."""
    before = {} if previous is None else {r["exposure_id"]: r for r in previous.to_pylist()}
    rows = [r for r in table.to_pylist() if r["product"] != "query"]
    return {r["exposure_id"] for r in rows if before.get(r["exposure_id"]) != r}


def _observation_metadata(found: Plan, n_new: int) -> dict[str, Any]:
    counts = found.funnel
    funnel = "\n".join(f"| {name} | {count} |" for name, count in counts.items())
    searches = "\n".join(
        f"| {q.archive} | {q.state} | {q.n_rows} | {q.reason or ''} |" for q in found.queries
    )
    return {
        "n_exposures": counts["offered"],
        "n_selected": counts["selected science exposures"],
        "n_references": counts["selected reference exposures"],
        "n_deferred": counts["deferred"],
        "n_rejected": sum(n for name, n in counts.items() if name.startswith("rejected")),
        "n_failed": sum(q.state == "failed" for q in found.queries),
        "n_new": n_new,
        **traffic_metadata(found.traffic),
        "funnel": dg.MetadataValue.md(f"| exposures | number |\n| --- | --- |\n{funnel}"),
        "searches": dg.MetadataValue.md(
            f"| archive | state | exposures | reason |\n| --- | --- | --- | --- |\n{searches}"
        ),
    }


@dg.asset(
    **_SHARED,
    kinds={"fits"},
    pool=POOLS["science_images"],
    code_version=CODE_VERSIONS["science_images"],
    metadata={"dagster/column_schema": manifest_schema("science_images")},
    check_specs=check_specs("science_images", sky_fields),
)
@only_outages_are_retried()
def science_images(
    context: dg.AssetExecutionContext, config: ImagesConfig, observations: pa.Table
) -> dg.MaterializeResult:
    """Selected science exposures of the field: downloaded, verified, measured.

    One row an exposure; the files lie under `source_fits/science/<field>/<exposure>/` under the
    archive's own names, with their masks, weights and PSFs. A file that is broken three times is
    rejected, one that measures red is quarantined; neither goes further.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(
        sky_field,
        "science_images",
        {"science_images": config},
        settings=_reading(sky_field),
        archives=archive_settings(context),
    )
    selected = [r for r in _selected(observations, sky_field, "science") if not r["deferred"]]
    works = [Work(identity(r), _archive_identity([r]), {"exposure": r}) for r in selected]
    report = stream(job, works)["science_images"]
    raise_outage(report)
    return result_of(context, job, "science_images", report, started=started)


@dg.asset(
    **_SHARED,
    kinds={"fits"},
    pool=POOLS["references"],
    code_version=CODE_VERSIONS["references"],
    metadata={"dagster/column_schema": manifest_schema("references")},
    check_specs=check_specs("references", sky_fields),
)
@only_outages_are_retried()
def references(
    context: dg.AssetExecutionContext, config: ReferencesConfig, observations: pa.Table
) -> dg.MaterializeResult:
    """References of the field: one for each pairing key and piece of sky.

    The archive's own stack where it offers one, else a single exposure of the reference window, else
    a coadd of several. None overlaps the guard gap around the event or the science exposures.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(
        sky_field,
        "references",
        {"references": config},
        settings=_coadding(sky_field),
        archives=archive_settings(context),
    )
    rows = _selected(observations, sky_field, "reference")
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["reference_id"], []).append(row)
    works = [_reference_work(name, members) for name, members in sorted(groups.items())]
    report = stream(job, works)["references"]
    raise_outage(report)
    return result_of(context, job, "references", report, started=started)


def _reference_work(name: str, members: Sequence[Row]) -> Work:
    """Return the work on one reference; the best member first gives the coadd its grid."""
    members = sorted(members, key=lambda r: (r["seeing"] or float("inf"), r["exposure_id"]))
    times = {
        "mjd_start": min(r["mjd_start"] for r in members),
        "mjd_end": max(r["mjd_end"] for r in members),
    }
    row = identity(members[0]) | times | {"exposure_id": name, "reference_id": name}
    if len(members) > 1:
        row |= {"product": "stack", "revision": None, "mjd_mid": sum(times.values()) / 2}
    return Work(row, _archive_identity(members), {"members": members})


def _reading(sky_field: Field) -> Mapping[str, Any]:
    """Return what the field says about images whose headers do not say it."""
    if sky_field.local is None:
        return {}
    assumed = sky_field.local.assume.model_dump(exclude={"aligned"}, exclude_none=True)
    return {"assume": assumed} if assumed else {}


def _coadding(sky_field: Field) -> Mapping[str, Any]:
    """Return what the field says about images of which several make one."""
    aligned = sky_field.local is not None and sky_field.local.assume.aligned
    return {**_reading(sky_field), **({"assume_aligned": True} if aligned else {})}


def _selected(table: pa.Table, sky_field: Field, role: str) -> list[Row]:
    """Return the selected rows of a role; no archive enters that the field does not ask for."""
    rows = [r for r in table.to_pylist() if r["status"] == "selected" and r["role"] == role]
    return [r for r in rows if r["archive"] in sky_field.archives]


def _archive_identity(rows: Sequence[Row]) -> str:
    """Return the identity of files at an archive; it changes when the archive reprocesses them."""
    return digest([[r["archive"], r["exposure_id"], r["revision"]] for r in rows])
