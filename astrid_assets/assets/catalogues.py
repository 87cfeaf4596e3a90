"""Acquisition, continued: what others know about the field: catalogues, alerts, images of other surveys."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa

from astrid_assets.archives.alert_columns import ALERT_COLUMNS
from astrid_assets.archives.catalogues.columns import KNOWN_COLUMNS
from astrid_assets.archives.offers import questions_of
from astrid_assets.assets.common import (
    ARCHIVE_RETRIES,
    CODE_VERSIONS,
    OWNERS,
    POOLS,
    Table,
    column_schema,
    job_of,
    manifest_schema,
    only_outages_are_retried,
    raise_outage,
    result_of,
    sky_fields,
)
from astrid_assets.assets.config import KnownObjectsConfig, SurveyCutoutsConfig, ZtfAlertsConfig
from astrid_assets.assets.resources import ARCHIVE_RESOURCES, archive_settings
from astrid_assets.assets.streaming import Job, Report, Work, stream
from astrid_assets.checks.specs import check_specs
from astrid_assets.compute import run_exposures
from astrid_assets.fields import Field, get_field
from astrid_assets.storage.layout import MANIFEST
from astrid_assets.storage.manifest import digest
from astrid_assets.storage.store import Row

__all__ = ["known_objects", "survey_cutouts", "ztf_alerts"]

_SHARED: dict[str, Any] = {
    "partitions_def": sky_fields,
    "dagster_type": Table,
    "group_name": "acquisition",
    "owners": OWNERS,
    "retry_policy": ARCHIVE_RETRIES,
    "required_resource_keys": {"run_lock", *ARCHIVE_RESOURCES},
}


def _columns(asset: str) -> dg.TableSchema:
    """Return the columns of the table that an asset hands downstream."""
    columns = {"known_objects": KNOWN_COLUMNS, "ztf_alerts": ALERT_COLUMNS}[asset]
    return column_schema(
        {name: (kind, f"{text}, {unit}" if unit else text) for name, (kind, unit, text) in columns.items()}
    )


_WORDS = {
    "survey_cutouts": "cutouts of other surveys",
    "known_objects": "catalogues",
    "ztf_alerts": "public alerts",
}
"""What each asset asks for."""


@dg.asset(
    **_SHARED,
    kinds={"fits"},
    pool=POOLS["survey_cutouts"],
    code_version=CODE_VERSIONS["survey_cutouts"],
    metadata={"dagster/column_schema": manifest_schema("survey_cutouts")},
    check_specs=check_specs("survey_cutouts", sky_fields),
)
@only_outages_are_retried()
def survey_cutouts(context: dg.AssetExecutionContext, config: SurveyCutoutsConfig) -> dg.MaterializeResult:
    """The field as other surveys saw it (DSS2, SDSS, GALEX, 2MASS, WISE), all on one grid.

    One row a survey, its FITS file under the name of the survey. They are context, never differenced.
    A survey that has not been there is a row without a file.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(sky_field, "survey_cutouts", {"survey_cutouts": config}, archives=archive_settings(context))
    report = _answers(job, "survey_cutouts", [])
    return result_of(context, job, "survey_cutouts", report, started=started)


@dg.asset(
    **_SHARED,
    kinds={"parquet"},
    pool=POOLS["known_objects"],
    code_version=CODE_VERSIONS["known_objects"],
    metadata={"dagster/column_schema": _columns("known_objects")},
    check_specs=check_specs("known_objects", sky_fields),
)
@only_outages_are_retried()
def known_objects(
    context: dg.AssetExecutionContext, config: KnownObjectsConfig, observations: pa.Table
) -> dg.MaterializeResult:
    """Catalogued objects around the field: stars, galaxies, variables, reported transients, asteroids.

    Catalogues are asked once for the circle that holds all exposures, ephemerides for the middle of
    each exposure. The answers are kept as they came beside the tables made of them.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(sky_field, "known_objects", {"known_objects": config}, archives=archive_settings(context))
    report = _answers(job, "known_objects", _exposures(observations, sky_field))
    table = _together(job, "known_objects", report)
    result = result_of(context, job, "known_objects", report, started=started, value=table)
    return result._replace(metadata={**_counts(table, "kind"), **(result.metadata or {})})


@dg.asset(
    **_SHARED,
    kinds={"parquet", "numpy"},
    pool=POOLS["ztf_alerts"],
    code_version=CODE_VERSIONS["ztf_alerts"],
    metadata={"dagster/column_schema": _columns("ztf_alerts")},
    check_specs=check_specs("ztf_alerts", sky_fields),
)
@only_outages_are_retried()
def ztf_alerts(
    context: dg.AssetExecutionContext, config: ZtfAlertsConfig, observations: pa.Table
) -> dg.MaterializeResult:
    """Public alerts in the field, night by night: packets as they came, table, stamps, labels.

    A label says where it comes from: a known asteroid is knowledge, the score of a classifier is not.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(sky_field, "ztf_alerts", {"ztf_alerts": config}, archives=archive_settings(context))
    report = _answers(job, "ztf_alerts", _exposures(observations, sky_field))
    table = _together(job, "ztf_alerts", report)
    result = result_of(context, job, "ztf_alerts", report, started=started, value=table)
    return result._replace(metadata={**_counts(table, "label_source"), **(result.metadata or {})})


# --- asking ---------------------------------------------------------------------------------------


def _exposures(observations: pa.Table, sky_field: Field) -> list[Row]:
    """Return what is asked about the science exposures that are worked on."""
    rows = [r for r in observations.to_pylist() if r["status"] == "selected" and r["role"] == "science"]
    wanted = [r for r in rows if r["archive"] in sky_field.archives and not r["deferred"]]
    return [{name: r[name] for name in ("exposure_id", "survey", "mjd_mid", "footprint")} for r in wanted]


def _answers(job: Job, asset: str, exposures: Sequence[Row]) -> Report:
    """Ask the archives all that was not asked before; the manifest says how each answered."""
    # in a worker, which has the libraries of the archives at hand
    questions = partial(questions_of, asset=asset, exposures=exposures)
    outcome = next(run_exposures(questions, [job.sky_field]))
    if outcome.error is not None:
        raise outcome.error
    nothing = outcome.result is None
    works = [_not_configured(job.sky_field, asset)] if nothing else [_work(q) for q in outcome.result]
    report = stream(job, works)[asset]
    raise_outage(report)
    return report


def _work(question: Mapping[str, Any]) -> Work:
    """Return the work on one answer; a new revision of the offer, or another circle, is a new question."""
    cone, offer = question["cone"], question["offer"]
    row = {
        "exposure_id": question["name"],
        "archive": question["archive"],
        "survey": offer["title"],
        "mjd_mid": cone["mjd"] or offer["mjd"],
        "ra": cone["ra"],
        "dec": cone["dec"],
    }
    return Work(row, digest(question), {"question": question})


def _not_configured(sky_field: Field, asset: str) -> Work:
    """Return the one row of a field whose archives offer nothing of the kind: no error, and not forgotten."""
    names = ", ".join(sky_field.archives)
    reason = f"not configured: no archive of this field ({names}) offers {_WORDS[asset]}"
    return Work({"exposure_id": sky_field.name}, digest(reason), {"not_configured": reason})


def _together(job: Job, asset: str, report: Report) -> pa.Table:
    """Return the tables of all answers as one, and write the manifest beside it."""
    from astrid_assets.archives.alert_columns import alert_schema
    from astrid_assets.archives.catalogues import known_schema

    folder = job.store.folder(asset, job.sky_field.name)
    job.store.write_table(f"{folder}/{MANIFEST}", report.manifest)
    rows = [r for r in report.manifest.to_pylist() if r["state"] in {"ok", "empty"} and r["path"]]
    schema = {"known_objects": known_schema, "ztf_alerts": alert_schema}[asset]()
    return pa.concat_tables([schema.empty_table(), *(job.store.read_table(r["path"]) for r in rows)])


def _counts(table: pa.Table, column: str) -> dict[str, int]:
    """Return the number of rows, in all and by the values of a column."""
    found = table.column(column).value_counts().to_pylist()
    parts = {f"n_{entry['values']}": entry["counts"] for entry in found}
    return {"n_rows": table.num_rows, **dict(sorted(parts.items()))}
