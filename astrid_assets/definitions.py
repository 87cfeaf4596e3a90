"""The wiring, nothing else: assets, checks, resources, jobs, schedules and sensors on one page."""

from __future__ import annotations

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.PreviewWarning)  # checks by partition are a preview in 1.13

from astrid_assets.assets.acquisition import observations, references, science_images  # noqa: E402
from astrid_assets.assets.alignment import aligned_pairs, normalized_pairs  # noqa: E402
from astrid_assets.assets.catalogues import known_objects, survey_cutouts, ztf_alerts  # noqa: E402
from astrid_assets.assets.detection import candidates, cutouts, light_curves  # noqa: E402
from astrid_assets.assets.differencing import differences  # noqa: E402
from astrid_assets.assets.injections import injections  # noqa: E402
from astrid_assets.assets.release import training_release  # noqa: E402
from astrid_assets.assets.reporting import data_catalog, exploration_notebook, field_report  # noqa: E402
from astrid_assets.assets.resources import ARCHIVE_RESOURCES  # noqa: E402
from astrid_assets.assets.training_set import training_set  # noqa: E402
from astrid_assets.automation.freshness import with_freshness  # noqa: E402
from astrid_assets.automation.jobs import field_job, release_job  # noqa: E402
from astrid_assets.automation.resources import RunLock  # noqa: E402
from astrid_assets.automation.schedules import nightly  # noqa: E402
from astrid_assets.automation.sensors import failures, field_sync, reaper, release_when_quiet  # noqa: E402
from astrid_assets.storage.io_manager import table_io_manager  # noqa: E402

__all__ = ["defs"]

defs = dg.Definitions(
    assets=with_freshness(
        [
            observations,
            science_images,
            references,
            survey_cutouts,
            known_objects,
            ztf_alerts,
            aligned_pairs,
            normalized_pairs,
            differences,
            candidates,
            cutouts,
            light_curves,
            injections,
            training_set,
            field_report,
            training_release,
            data_catalog,
            exploration_notebook,
        ]
    ),
    resources={"io_manager": table_io_manager, "run_lock": RunLock(), **ARCHIVE_RESOURCES},
    jobs=[field_job, release_job],
    schedules=[nightly],
    sensors=[field_sync, release_when_quiet, reaper, failures],
    executor=dg.in_process_executor,
)
