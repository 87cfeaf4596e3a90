"""The nightly schedule: every enabled field once a night."""

from __future__ import annotations

import os
from collections.abc import Iterator

import dagster as dg
from dagster._utils.schedules import is_valid_cron_schedule

from astrid_assets.automation.jobs import FIELD_JOB
from astrid_assets.automation.partitions import register_fields
from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import enabled_fields

__all__ = ["CRON_VARIABLE", "NIGHTLY_CRON", "PRIORITY_TAG", "nightly", "nightly_cron"]

CRON_VARIABLE = "ASTRID_NIGHTLY_CRON"
"""Environment variable that moves the nightly schedule."""

NIGHTLY_CRON = "0 2 * * *"
"""When the schedule runs by default: at 02:00 UTC."""

PRIORITY_TAG = "dagster/priority"
"""Tag by which Dagster orders the runs that wait; higher first."""


def nightly_cron() -> str:
    """Return when the nightly schedule runs, in UTC: ``ASTRID_NIGHTLY_CRON``, or `NIGHTLY_CRON`.

    Raises
    ------
    ConfigurationError
        The variable holds no cron expression.
    """
    cron = os.environ.get(CRON_VARIABLE) or NIGHTLY_CRON
    if not is_valid_cron_schedule(cron):
        msg = f"{CRON_VARIABLE}: {cron!r} is no cron expression (minute hour day month weekday, UTC)"
        raise ConfigurationError(msg)
    return cron


@dg.schedule(
    job_name=FIELD_JOB,
    cron_schedule=nightly_cron(),
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every enabled field once a night, by priority; only exposures that are new are worked on. "
    f"Stopped until switched on. {CRON_VARIABLE} moves it (cron, UTC).",
)
def nightly(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for one run of each enabled field; the registry is read at every tick.

    Which exposures are new is decided by the ledger of the field, in its run.
    """
    fields = enabled_fields()
    if not fields:
        yield dg.SkipReason("no field of the registry is enabled")
        return
    register_fields(context.instance, fields)
    night = f"{context.scheduled_execution_time:%Y-%m-%dT%H:%M}"
    for field in fields:
        yield dg.RunRequest(
            run_key=f"{night}-{field.name}",
            partition_key=field.name,
            tags={PRIORITY_TAG: str(field.priority)},
        )
