"""The resource that every asset needs: the lock of its field or of the release, held as long as the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from astrid_assets.storage.locks import field_lock, release_lock, run_lock

__all__ = ["PARTITION_TAG", "RunLock"]

PARTITION_TAG = "dagster/partition"


class RunLock(dg.ConfigurableResource):
    """Holds the lock of the field, or of the release, from the first step of a run to its end.

    Every kind of run takes it, whoever started it. The kernel frees it when the process dies. The lock
    of the run beside it shows the reaper that the run lives.
    """

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Any]:
        """Take both locks; where another run holds one, this one ends with one clear line."""
        run = context.run
        if run is None:
            yield self
            return
        sky_field, run_id = run.tags.get(PARTITION_TAG), run.run_id
        work = release_lock(run_id=run_id) if sky_field is None else field_lock(sky_field, run_id=run_id)
        with run_lock(run_id), work:
            yield self
