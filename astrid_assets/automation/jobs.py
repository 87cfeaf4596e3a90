"""The two jobs: one field through the graph, and what is made of all fields together."""

from __future__ import annotations

import dagster as dg

from astrid_assets.storage.layout import ASSETS, RELEASE_ASSETS

__all__ = ["FIELD_JOB", "RELEASE_JOB", "field_job", "release_job"]

FIELD_JOB = "field"
RELEASE_JOB = "release"

field_job = dg.define_asset_job(
    FIELD_JOB,
    selection=dg.AssetSelection.assets(*ASSETS),
    description="One field from its archives to its report; only what is new is worked on.",
    # parallelism lies in the worker pool of astrid_assets.compute; a process a step would cost seconds each
    executor_def=dg.in_process_executor,
)

release_job = dg.define_asset_job(
    RELEASE_JOB,
    selection=dg.AssetSelection.assets(*RELEASE_ASSETS),
    description="The training release, the catalogue and the notebook, from all fields as they are.",
    executor_def=dg.in_process_executor,
)
