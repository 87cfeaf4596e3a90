"""When the release is due, and what one run of job ``release`` made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from astrid_assets.automation.jobs import FIELD_JOB, RELEASE_JOB
from astrid_assets.automation.reaper import HOST_TAG, KILLED_TAG
from astrid_assets.storage.layout import ASSETS
from astrid_assets.storage.manifest import digest

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

__all__ = ["INPUTS_TAG", "UNFINISHED", "has_seen", "last_release", "release_inputs", "unfinished_runs"]

INPUTS_TAG = "astrid/release_inputs"
"""Tag of a release run: identity of all that the fields held when it was asked for."""

_AD_HOC = "__ASSET_JOB"
"""Prefix of the job under which the UI runs assets that a user picked."""

_VERSION_TAG = "dagster/data_version"

UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
"""Status of runs that wait or run."""


def release_inputs(instance: DagsterInstance) -> str | None:
    """Return the identity of what the fields hold; None where none has a training set.

    It hashes the data version of the latest materialization of each asset and field, so that a run
    that found nothing new changes nothing.
    """
    events = instance.event_log_storage
    versions = {
        asset: {
            sky_field: tags[_VERSION_TAG]
            for sky_field, tags in events.get_latest_tags_by_partition(
                dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION, [_VERSION_TAG]
            ).items()
        }
        for asset in ASSETS
    }
    return digest(versions) if versions["training_set"] else None


def unfinished_runs(instance: DagsterInstance) -> list[DagsterRun]:
    """Return the runs of fields and releases that wait or run, whoever started them."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return [run for run in runs if run.job_name in {FIELD_JOB, RELEASE_JOB} or _is_ad_hoc(run.job_name)]


def last_release(instance: DagsterInstance) -> DagsterRun | None:
    """Return the latest run of job ``release``, however it ended."""
    runs: Sequence[DagsterRun] = instance.get_runs(dg.RunsFilter(job_name=RELEASE_JOB), limit=1)
    return runs[0] if runs else None


def has_seen(run: DagsterRun, inputs: str) -> bool:
    """Tell whether a release run was about these inputs, and need not be made again.

    One that failed would fail again. One that was killed is tried again by Dagster (``run_retries``),
    unless a program ran it: then this is the only one who can.
    """
    killed_in_a_program = KILLED_TAG in run.tags and HOST_TAG in run.tags
    return run.tags.get(INPUTS_TAG) == inputs and not killed_in_a_program


def _is_ad_hoc(job: str) -> bool:
    return job.startswith(_AD_HOC)
