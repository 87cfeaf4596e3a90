"""Running fields from a program: what ``astrid run`` and ``astrid demo`` do."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from astrid_assets import compute
from astrid_assets.automation.instance import open_instance
from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import Field, get_field
from astrid_assets.storage.layout import ASSETS, EXPOSURE_ASSETS
from astrid_assets.storage.ledger import ledger
from astrid_assets.storage.store import Row, Store

if TYPE_CHECKING:
    import dagster as dg
    from dagster._utils.error import SerializableErrorInfo

__all__ = ["FieldRun", "Progress", "RunSummary", "run_fields"]

Progress = Callable[[str, str, int, int], None]
"""Called with field, asset, exposures done and exposures to do."""


@dataclass(frozen=True)
class FieldRun:
    """What one run of a field did, and where the field stands after it."""

    name: str
    """The field."""

    status: str
    """``ok``, ``failed``, or ``not_built`` (none of its archives can be searched yet; nothing ran)."""

    error: str | None = None
    """What went wrong, one line."""

    run_id: str | None = None
    """Run in the Dagster instance."""

    seconds: float = 0.0
    """Wall time."""

    stages: dict[str, float] = field(default_factory=dict)
    """Wall time of each step in s; ``differences`` makes both kinds."""

    new: dict[str, int] = field(default_factory=dict)
    """Exposures that each asset worked on."""

    counts: dict[str, int] = field(default_factory=dict)
    """Science exposures of the field by how far they came; see `count_exposures`."""

    checks: dict[str, int] = field(default_factory=dict)
    """Checks of this run: ``passed``, ``warned``, ``failed``."""


@dataclass(frozen=True)
class RunSummary:
    """What `run_fields` did."""

    fields: tuple[FieldRun, ...]
    """One entry a field, in the order in which they ran."""

    seconds: float
    """Wall time."""

    @property
    def ok(self) -> bool:
        """Whether no field failed."""
        return all(f.status != "failed" for f in self.fields)

    @property
    def stages(self) -> dict[str, float]:
        """Wall time of each step over all fields, s."""
        return _sum(f.stages for f in self.fields)

    @property
    def counts(self) -> dict[str, int]:
        """Sum of `FieldRun.counts`."""
        return _sum(f.counts for f in self.fields)

    @property
    def checks(self) -> dict[str, int]:
        """Sum of `FieldRun.checks`."""
        return {"passed": 0, "warned": 0, "failed": 0} | _sum(f.checks for f in self.fields)

    @property
    def n_new(self) -> int:
        """Exposures that any image asset worked on; 0 means that there was nothing to do."""
        return sum(n for f in self.fields for asset, n in f.new.items() if asset != "observations")


def run_fields(
    names: Sequence[str],
    *,
    assets: Sequence[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
) -> RunSummary:
    """Materialize fields, one after the other, on the instance that the UI shows.

    Parameters
    ----------
    names
        Fields of the registry.

    assets
        Assets to materialize; all by default. What they need must be there.

    force
        Redo exposures that are done.

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
    runs = []
    with _workers(workers):
        compute.warm_up()
        with open_instance() as instance:
            _prepare(instance, fields)
            runs = [_run(instance, f, assets, force=force, progress=progress) for f in fields]
    return RunSummary(tuple(runs), round(time.perf_counter() - started, 3))


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
    unknown = sorted(set(assets or ()) - set(ASSETS))
    if unknown:
        msg = f"there is no asset {unknown[0]!r}; there are {', '.join(ASSETS)}"
        raise ConfigurationError(msg)


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
    from astrid_assets.assets.common import sky_fields
    from astrid_assets.automation.reaper import reap

    reap(instance)
    known = set(instance.get_dynamic_partitions(str(sky_fields.name)))
    missing = [f.name for f in fields if f.name not in known]
    if missing:
        instance.add_dynamic_partitions(str(sky_fields.name), missing)


def _run(
    instance: dg.DagsterInstance,
    sky_field: Field,
    assets: Sequence[str] | None,
    *,
    force: bool,
    progress: Progress | None,
) -> FieldRun:
    """Run job ``field`` for one field in this process."""
    import dagster as dg

    from astrid_assets.assets import streaming
    from astrid_assets.automation.jobs import FIELD_JOB
    from astrid_assets.automation.reaper import run_tags
    from astrid_assets.definitions import defs

    if len(sky_field.unbuilt_archives) == len(sky_field.archives):
        text = f"no archive of the field is built yet ({', '.join(sky_field.archives)})"
        return FieldRun(sky_field.name, "not_built", text)
    started = time.perf_counter()
    token = streaming.progress.set(progress)
    try:
        result = defs.resolve_job_def(FIELD_JOB).execute_in_process(
            instance=instance,
            partition_key=sky_field.name,
            asset_selection=None if assets is None else [dg.AssetKey(a) for a in assets],
            run_config=_run_config(assets, force=force),
            tags=run_tags(),
            raise_on_error=False,
        )
    finally:
        streaming.progress.reset(token)
    events = result.all_events
    if any(e.cls_name == "DagsterExecutionInterruptedError" for e in _errors(events)):
        # Dagster made a failed run of it; the next field must not start
        raise KeyboardInterrupt
    return FieldRun(
        name=sky_field.name,
        status="ok" if result.success else "failed",
        error=None if result.success else _error(events),
        run_id=result.run_id,
        seconds=round(time.perf_counter() - started, 3),
        stages=_stages(events),
        new=_new(events),
        counts=count_exposures(sky_field.name, Store()),
        checks=_checks(events),
    )


def _run_config(assets: Sequence[str] | None, *, force: bool) -> dict[str, Any]:
    """Keep Dagster from printing every event; pass on ``force``."""
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if force:
        nodes = {_node(a) for a in assets or ASSETS if a != "observations"}
        config["ops"] = {node: {"config": {"force": True}} for node in sorted(nodes)}
    return config


def _node(asset: str) -> str:
    """Return the name of the step that makes an asset."""
    return "differences" if asset.endswith("_differences") else asset


def _materializations(events: Sequence[dg.DagsterEvent]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and metadata of each asset that was materialized."""
    for event in events:
        if event.is_step_materialization:
            item = event.step_materialization_data.materialization
            yield item.asset_key.to_user_string(), {k: v.value for k, v in item.metadata.items()}


def _stages(events: Sequence[dg.DagsterEvent]) -> dict[str, float]:
    """Return the wall time of each step in s."""
    return {e.step_key: e.step_success_data.duration_ms / 1000 for e in events if e.is_step_success}


def _new(events: Sequence[dg.DagsterEvent]) -> dict[str, int]:
    return {asset: int(metadata.get("n_new", 0)) for asset, metadata in _materializations(events)}


def _checks(events: Sequence[dg.DagsterEvent]) -> dict[str, int]:
    """Count the checks: a failed one of severity WARN warned."""
    import dagster as dg

    counts = Counter({"passed": 0, "warned": 0, "failed": 0})
    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            warns = evaluation.severity == dg.AssetCheckSeverity.WARN
            counts["passed" if evaluation.passed else "warned" if warns else "failed"] += 1
    return dict(counts)


def _errors(events: Sequence[dg.DagsterEvent]) -> Iterator[SerializableErrorInfo]:
    """Yield the innermost cause of each error of a run, in order."""
    for event in events:
        error = getattr(event.event_specific_data, "error", None)
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            yield error


def _error(events: Sequence[dg.DagsterEvent]) -> str:
    """Return the first error of a run in one line: which step, and the innermost cause."""
    failed = next((e for e in events if getattr(e.event_specific_data, "error", None) is not None), None)
    if failed is None:
        return "the run failed; look at its events in the UI"
    where = f"{failed.step_key}: " if failed.step_key else ""
    return where + " ".join(_message(next(_errors([failed])).message).split())[:500]


def _message(text: str) -> str:
    """Return the message of an error without the module of its class."""
    name, colon, rest = text.partition(": ")
    return rest if colon and "Error" in name and "." in name else text


def _sum(many: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for one in many:
        total.update(one)
    return dict(total)
