"""Sensors: new fields, releases, dead runs, failures."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from astrid_assets.assets.common import sky_fields
from astrid_assets.automation.failures import record_failure
from astrid_assets.automation.jobs import FIELD_JOB, RELEASE_JOB
from astrid_assets.automation.partitions import missing_fields
from astrid_assets.automation.reaper import reap
from astrid_assets.automation.release import (
    INPUTS_TAG,
    has_seen,
    last_release,
    release_inputs,
    unfinished_runs,
)
from astrid_assets.errors import ConfigurationError

__all__ = ["failures", "field_sync", "reaper", "release_when_quiet"]

_CHUNK = 500
"""Fields that one tick adds; the next one goes on."""

_RUNNING = dg.DefaultSensorStatus.RUNNING


@dg.sensor(
    job_name=FIELD_JOB,
    minimum_interval_seconds=30,
    default_status=_RUNNING,
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
    first = [f for f in new if f.enabled]
    return dg.SensorResult(
        dynamic_partitions_requests=[sky_fields.build_add_request([f.name for f in new])],
        run_requests=[dg.RunRequest(run_key=f"new-{f.name}", partition_key=f.name) for f in first],
    )


@dg.sensor(
    job_name=RELEASE_JOB,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Starts job release once when no field runs or waits, and a field holds something that the "
    "last release run has not seen. Stopped until switched on, like the nightly schedule.",
)
def release_when_quiet(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Compare what the fields hold with the tag of the last release run; never two at a time."""
    busy = unfinished_runs(context.instance)
    if busy:
        return dg.SkipReason(f"{len(busy)} runs wait or run, the first of job {busy[-1].job_name}")
    inputs = release_inputs(context.instance)
    if inputs is None:
        return dg.SkipReason("no field has a training set yet")
    last = last_release(context.instance)
    if last is not None and has_seen(last, inputs):
        return dg.SkipReason(f"nothing new since release run {last.run_id[:8]}")
    # a state of the fields that comes back later, after another one, is a release again
    run_key = f"{inputs[:16]}-{last.run_id if last else 'first'}"
    return dg.RunRequest(run_key=run_key, tags={INPUTS_TAG: inputs})


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=_RUNNING,
    description="Marks runs of this host whose process was killed as failed and frees their slots.",
)
def reaper(context: dg.SensorEvaluationContext) -> Iterator[dg.SkipReason]:
    """End dead runs; never starts one."""
    ended = reap(context.instance)
    yield dg.SkipReason(f"ended {len(ended)} dead runs: {', '.join(ended)}" if ended else "no dead runs")


@dg.run_failure_sensor(
    minimum_interval_seconds=30,
    default_status=_RUNNING,
    # also runs of `astrid run`, which belong to no code location
    monitor_all_code_locations=True,
    description="Writes one line for each failed run to failures.jsonl in DAGSTER_HOME: field, error, failed "
    "checks, failed exposures; hands it to the command in ASTRID_ON_FAILURE, if there is one.",
)
def failures(context: dg.RunFailureSensorContext) -> None:
    """Tell the people who are not looking."""
    record_failure(context.instance, context.dagster_run)
