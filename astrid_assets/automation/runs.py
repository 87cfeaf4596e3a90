"""Running fields and the release from a program: what ``astrid run`` and ``astrid demo`` do."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from astrid_assets import compute
from astrid_assets.automation.events import (
    check_counts,
    error_line,
    materializations,
    root_errors,
    stages,
    was_refused,
)
from astrid_assets.automation.instance import open_instance
from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import Field, get_field
from astrid_assets.storage.known import known_fields
from astrid_assets.storage.layout import ASSETS, EXPOSURE_ASSETS, RELEASE_ASSETS
from astrid_assets.storage.ledger import ledger
from astrid_assets.storage.store import Row, Store

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["EVERY_FIELD", "FieldRun", "Progress", "ReleaseRun", "RunSummary", "count_exposures", "run_fields"]

Progress = Callable[[str, str, int, int], None]
"""Called with field, asset, exposures done and exposures to do."""

EVERY_FIELD = "all fields"
"""What `Progress` is called with in place of a field while the release is made."""


@dataclass(frozen=True)
class FieldRun:
    """What one run of a field did, and where the field stands after it."""

    name: str
    """The field."""

    status: str
    """``ok`` or ``failed``."""

    error: str | None = None
    """What went wrong, one line."""

    run_id: str | None = None
    """Run in the Dagster instance."""

    seconds: float = 0.0
    """Wall time."""

    stages: dict[str, float] = field(default_factory=dict)
    """Wall time of each step in s; ``differences`` makes both kinds."""

    new: dict[str, int] = field(default_factory=dict)
    """Rows that each asset worked on: exposures, mostly."""

    counts: dict[str, int] = field(default_factory=dict)
    """Science exposures of the field by how far they came; see `count_exposures`."""

    checks: dict[str, int] = field(default_factory=dict)
    """Checks of this run: ``passed``, ``warned``, ``failed``."""

    @property
    def n_new(self) -> int:
        """Rows of exposures that any asset worked on."""
        return sum(n for asset, n in self.new.items() if asset in EXPOSURE_ASSETS[1:])


@dataclass(frozen=True)
class ReleaseRun:
    """What one run of job ``release`` did."""

    status: str
    """``ok``, ``refused`` (no release can be made of this data; no failure), or ``failed``."""

    reason: str | None = None
    """Why it was refused or failed, one line."""

    run_id: str | None = None
    """Run in the Dagster instance."""

    seconds: float = 0.0
    """Wall time."""

    stages: dict[str, float] = field(default_factory=dict)
    """Wall time of each step in s."""

    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each asset says about itself: its plain metadata (numbers and texts)."""

    checks: dict[str, int] = field(default_factory=dict)
    """Checks of this run: ``passed``, ``warned``, ``failed``."""

    @property
    def release_id(self) -> str | None:
        """Identity of the training release; None where there is none."""
        return self.made.get("training_release", {}).get("release_id")

    @property
    def samples(self) -> int | None:
        """Number of its samples."""
        return self.made.get("training_release", {}).get("n_samples")

    @property
    def path(self) -> str | None:
        """Its folder."""
        return self.made.get("training_release", {}).get("path")


@dataclass(frozen=True)
class RunSummary:
    """What `run_fields` did."""

    fields: tuple[FieldRun, ...]
    """One entry a field, in the order in which they ran."""

    seconds: float
    """Wall time."""

    release: ReleaseRun | None = None
    """The run of job ``release``; None where it was left out."""

    @property
    def ok(self) -> bool:
        """Whether nothing failed; a field that runs nothing and a release that is refused do not count."""
        return all(run.status != "failed" for run in self._runs)

    @property
    def stages(self) -> dict[str, float]:
        """Wall time of each step over all fields, s."""
        return _sum(run.stages for run in self._runs)

    @property
    def counts(self) -> dict[str, int]:
        """Sum of `FieldRun.counts`."""
        return _sum(f.counts for f in self.fields)

    @property
    def checks(self) -> dict[str, int]:
        """Sum of `FieldRun.checks`."""
        return {"passed": 0, "warned": 0, "failed": 0} | _sum(run.checks for run in self._runs)

    @property
    def _runs(self) -> list[FieldRun | ReleaseRun]:
        return [*self.fields, *([] if self.release is None else [self.release])]

    @property
    def n_new(self) -> int:
        """Rows of exposures that any asset worked on; 0 means that no exposure was processed."""
        return sum(run.n_new for run in self.fields)


def run_fields(
    names: Sequence[str],
    *,
    assets: Sequence[str] | None = None,
    release: bool = True,
    force: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
) -> RunSummary:
    """Materialize fields, one after the other, then the release, on the instance that the UI shows.

    Parameters
    ----------
    names
        Fields of the registry.

    assets
        Assets to materialize; all by default. What they need must be there. Of those that hold all
        fields together only the ones named here are then made.

    release
        Whether to run job ``release`` after the fields, where a field holds something.

    force
        Redo what is done.

    progress
        Called as exposures complete.

    workers
        Worker processes; default is `compute.default_workers`.

    Raises
    ------
    ConfigurationError
        A field or an asset is unknown.

    KeyboardInterrupt
        The user stopped it; exposures that were done are kept.
    """
    started = time.perf_counter()
    fields = [get_field(name) for name in names]
    _check_assets(assets)
    of_field = None if assets is None else [a for a in assets if a in ASSETS]
    of_all = None if assets is None else [a for a in assets if a in RELEASE_ASSETS]
    runs, released = [], None
    with _workers(workers):
        compute.warm_up()
        with open_instance() as instance:
            _prepare(instance, fields)
            if of_field != []:
                runs = [_run(instance, f, of_field, force=force, progress=progress) for f in fields]
            if release and of_all != [] and _is_anything_there():
                released = _run_release(instance, of_all, force=force, progress=progress)
    return RunSummary(tuple(runs), round(time.perf_counter() - started, 3), released)


def count_exposures(sky_field: str, store: Store) -> dict[str, int]:
    """Return how far the science exposures of a field came.

    Returns
    -------
    dict
        ``exposures`` (selected), ``rejected``, ``quarantined``, ``failed`` (by any asset), ``deferred``,
        ``differenced`` (by ZOGY), ``candidates`` (rows without a reason to doubt them) and
        ``detections`` (all rows).
    """
    rows = [
        r
        for r in ledger(sky_field, store).to_pylist()
        if r["status"] == "selected" and r["role"] == "science"
    ]
    ends = Counter(_end(row) for row in rows)
    counts = {"exposures": len(rows)} | {s: ends[s] for s in ("rejected", "quarantined", "failed")}
    counts["deferred"] = sum((r["reason"] or "").startswith("deferred") for r in rows)
    counts["differenced"] = sum(r["zogy_differences"] == "ok" for r in rows)
    return counts | _count_candidates(sky_field, store)


def _end(row: Row) -> str | None:
    """Return the state that stopped an exposure, or None."""
    states = [row[a] for a in EXPOSURE_ASSETS[1:] if a not in {"references", "classic_differences"}]
    return next((s for s in states if s in {"rejected", "quarantined", "failed"}), None)


def _count_candidates(sky_field: str, store: Store) -> dict[str, int]:
    try:
        table = store.read_table(f"{store.folder('candidates', sky_field)}/candidates.parquet")
    except FileNotFoundError:
        return {"candidates": 0, "detections": 0}
    doubts = table.column("artifact").to_pylist() if "artifact" in table.column_names else []
    return {"candidates": sum(not doubt for doubt in doubts), "detections": table.num_rows}


def _check_assets(assets: Sequence[str] | None) -> None:
    known = (*ASSETS, *RELEASE_ASSETS)
    unknown = sorted(set(assets or ()) - set(known))
    if unknown:
        msg = f"there is no asset {unknown[0]!r}; there are {', '.join(known)}"
        raise ConfigurationError(msg)


def _is_anything_there() -> bool:
    """Tell whether any field has found its exposures; a release of nothing says nothing."""
    store = Store()
    return any(store.manifest("observations", name) is not None for name in known_fields(store))


@contextmanager
def _workers(workers: int | None) -> Iterator[None]:
    """Let the assets use a number of workers."""
    before = os.environ.get("ASTRID_WORKERS")
    if workers is not None:
        os.environ["ASTRID_WORKERS"] = str(workers)
    try:
        yield
    finally:
        if workers is not None:
            os.environ.pop("ASTRID_WORKERS")
            if before is not None:
                os.environ["ASTRID_WORKERS"] = before


def _prepare(instance: dg.DagsterInstance, fields: Sequence[Field]) -> None:
    """End dead runs and register missing partitions."""
    from astrid_assets.automation.partitions import register_fields
    from astrid_assets.automation.reaper import reap

    reap(instance)
    register_fields(instance, fields)


def _run(
    instance: dg.DagsterInstance,
    sky_field: Field,
    assets: Sequence[str] | None,
    *,
    force: bool,
    progress: Progress | None,
) -> FieldRun:
    """Run job ``field`` for one field in this process."""
    from astrid_assets.automation.jobs import FIELD_JOB

    started = time.perf_counter()
    config = _force(assets or ASSETS) if force else {}
    result = _execute(
        instance, FIELD_JOB, assets, config=config, progress=progress, partition_key=sky_field.name
    )
    events = result.all_events
    return FieldRun(
        name=sky_field.name,
        status="ok" if result.success else "failed",
        error=None if result.success else error_line(events),
        run_id=result.run_id,
        seconds=round(time.perf_counter() - started, 3),
        stages=stages(events),
        new={asset: int(m.get("n_new", 0)) for asset, m in materializations(events).items()},
        counts=count_exposures(sky_field.name, Store()),
        checks=check_counts(events),
    )


def _run_release(
    instance: dg.DagsterInstance,
    assets: Sequence[str] | None,
    *,
    force: bool,
    progress: Progress | None,
) -> ReleaseRun:
    """Run job ``release`` in this process."""
    from astrid_assets.automation.jobs import RELEASE_JOB
    from astrid_assets.automation.release import INPUTS_TAG, release_inputs

    started = time.perf_counter()
    tell = progress or (lambda *_: None)
    tell(EVERY_FIELD, RELEASE_JOB, 0, 1)
    inputs = release_inputs(instance)
    result = _execute(
        instance,
        RELEASE_JOB,
        assets,
        config=_force(assets or RELEASE_ASSETS) if force else {},
        progress=progress,
        # a run of some of the assets does not count as the release of these inputs
        tags={INPUTS_TAG: inputs} if inputs is not None and assets is None else {},
    )
    tell(EVERY_FIELD, RELEASE_JOB, 1, 1)
    events = result.all_events
    return ReleaseRun(
        status="ok" if result.success else "refused" if was_refused(events) else "failed",
        reason=None if result.success else error_line(events),
        run_id=result.run_id,
        seconds=round(time.perf_counter() - started, 3),
        stages=stages(events),
        made={asset: _plain(metadata) for asset, metadata in materializations(events).items()},
        checks=check_counts(events),
    )


def _execute(
    instance: dg.DagsterInstance,
    job: str,
    assets: Sequence[str] | None,
    *,
    config: Mapping[str, Any],
    progress: Progress | None,
    partition_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process, quietly; what went wrong stands in the events of the result."""
    import dagster as dg

    from astrid_assets.assets import streaming
    from astrid_assets.automation.reaper import run_tags
    from astrid_assets.definitions import defs

    token = streaming.progress.set(progress)
    try:
        result = defs.resolve_job_def(job).execute_in_process(
            instance=instance,
            partition_key=partition_key,
            asset_selection=None if assets is None else [dg.AssetKey(a) for a in assets],
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **config},
            tags={**run_tags(), **(tags or {})},
            raise_on_error=False,
        )
    finally:
        streaming.progress.reset(token)
    if any(e.cls_name == "DagsterExecutionInterruptedError" for e in root_errors(result.all_events)):
        # Dagster made a failed run of it; the next one must not start
        raise KeyboardInterrupt
    return result


def _force(assets: Sequence[str]) -> dict[str, Any]:
    """Return the configuration that makes assets do all their work again."""
    nodes = {_node(asset) for asset in assets if _can_be_forced(asset)}
    return {"ops": {node: {"config": {"force": True}} for node in sorted(nodes)}}


def _can_be_forced(asset: str) -> bool:
    from astrid_assets.assets.config import CONFIGS

    return asset in CONFIGS and "force" in CONFIGS[asset].model_fields


def _node(asset: str) -> str:
    """Return the name of the step that makes an asset."""
    return "differences" if asset.endswith("_differences") else asset


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers and short texts among the metadata of a materialization."""
    return {k: v for k, v in metadata.items() if isinstance(v, int | float | str) and len(str(v)) < 1000}


def _sum(many: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for one in many:
        total.update(one)
    return dict(total)
