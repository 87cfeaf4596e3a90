"""The resource that every partitioned asset needs: the lock of its field, held as long as the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from astrid_assets.storage.locks import field_lock, run_lock

__all__ = ["PARTITION_TAG", "RunLock"]

PARTITION_TAG = "dagster/partition"


class RunLock(dg.ConfigurableResource):
    """Holds the lock of the field from the first step of a run to its end.

    Every kind of run takes it, whoever started it. The kernel frees it when the process dies. The lock
    of the run beside it shows the reaper that the run lives.
    """

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Any]:
        """Take both locks; a field that is busy ends the run with one clear line."""
        run = context.run
        run_id = run.run_id if run is not None else ""
        sky_field = run.tags.get(PARTITION_TAG) if run is not None else None
        if sky_field is None:
            yield self
            return
        with run_lock(run_id), field_lock(sky_field, run_id=run_id):
            yield self
