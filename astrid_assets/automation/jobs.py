"""The job that takes one field through the graph."""

from __future__ import annotations

import dagster as dg

__all__ = ["FIELD_JOB", "field_job"]

FIELD_JOB = "field"

field_job = dg.define_asset_job(
    FIELD_JOB,
    selection=dg.AssetSelection.all(),
    description="One field from its archives to its candidates; only what is new is worked on.",
    # parallelism lies in the worker pool of astrid_assets.compute; a process a step would cost seconds each
    executor_def=dg.in_process_executor,
)
