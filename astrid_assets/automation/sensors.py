"""Sensors: fields of the registry become partitions, dead runs are ended."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from astrid_assets.assets.common import sky_fields
from astrid_assets.automation.jobs import FIELD_JOB
from astrid_assets.automation.reaper import reap
from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import Field, load_fields

__all__ = ["field_sync", "missing_fields", "reaper"]

_CHUNK = 500
"""Partitions added in one request; SQLite refuses tens of thousands (dagster.md 3.1)."""


def missing_fields(instance: dg.DagsterInstance) -> list[Field]:
    """Return the fields of the registry that are no partitions yet."""
    known = set(instance.get_dynamic_partitions(str(sky_fields.name)))
    return [field for name, field in load_fields().items() if name not in known]


@dg.sensor(
    job_name=FIELD_JOB,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds the fields of fields.yaml as partitions and starts the first run of each enabled one. "
    "Partitions of removed fields stay, with their history.",
)
def field_sync(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Read the registry at every tick, so that a new field needs no reload of the code."""
    try:
        new = missing_fields(context.instance)
    except ConfigurationError as error:
        return dg.SkipReason(str(error))
    if not new:
        return dg.SkipReason("every field of the registry is a partition")
    new = new[:_CHUNK]
    first = [f for f in new if f.enabled and len(f.unbuilt_archives) < len(f.archives)]
    return dg.SensorResult(
        dynamic_partitions_requests=[sky_fields.build_add_request([f.name for f in new])],
        run_requests=[dg.RunRequest(run_key=f"new-{f.name}", partition_key=f.name) for f in first],
    )


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs of this host whose process was killed as failed and frees their slots.",
)
def reaper(context: dg.SensorEvaluationContext) -> Iterator[dg.SkipReason]:
    """End dead runs; never starts one."""
    ended = reap(context.instance)
    yield dg.SkipReason(f"ended {len(ended)} dead runs: {', '.join(ended)}" if ended else "no dead runs")
