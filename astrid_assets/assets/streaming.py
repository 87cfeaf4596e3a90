"""The loop that all image assets share: find what is not done, stream it through, keep the rows.

One exposure at a time per worker. A worker writes the files of an exposure, judges its metrics and
commits its row; a kill loses the exposures in work and nothing else.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.transport.shared import taken_traffic
from astrid_assets.archives.transport.tally import Tally
from astrid_assets.compute import run_exposures
from astrid_assets.errors import (
    ArchiveUnavailableError,
    AstridError,
    BadAnswerError,
    ImageError,
    ScienceError,
)
from astrid_assets.storage.manifest import build_manifest, clean, digest, is_done, product_id
from astrid_assets.storage.store import Row, Store

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.transport import Settings, Transport
    from astrid_assets.fields import Field

__all__ = ["ATTEMPTS_MAX", "Job", "Product", "Report", "Step", "Task", "Work", "progress", "stream"]

ATTEMPTS_MAX = 3
"""Times that the same input may fail before it is rejected (design: the same bytes failing three times)."""

progress: ContextVar[Callable[[str, str, int, int], None] | None] = ContextVar("progress", default=None)
"""Called with field, asset, exposures done and exposures to do; set by whoever shows progress."""

_log = logging.getLogger("astrid_assets")


@dataclass(frozen=True)
class Step:
    """One asset of a job: its name and what its rows depend on besides their input."""

    asset: str
    """Name of the asset."""

    options: Mapping[str, Any]
    """Options of the science function."""

    code_version: str
    """Version of the code."""

    context: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the field that change the result."""

    @property
    def parameter_hash(self) -> str:
        """Identity of options and settings."""
        return digest([self.options, self.context])[:16]


@dataclass(frozen=True)
class Work:
    """One exposure that an asset is to hold."""

    row: Row
    """Columns that the new row starts with: what identifies the exposure."""

    input_sha256: str
    """Identity of the input."""

    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What the recipe needs to find its input; JSON-compatible."""


@dataclass(frozen=True)
class Job:
    """What is done to every exposure of a field."""

    store: Store
    """Where files and rows go."""

    sky_field: Field
    """The field."""

    recipe: str
    """Name in `astrid_assets.assets.recipes.RECIPES`."""

    steps: tuple[Step, ...]
    """Assets that are made; more than one where they share their input."""

    force: bool = False
    """Whether to redo what is done."""

    archives: Settings | None = None
    """How the services of archives are treated; None as this installation has it. Changes no result."""


@dataclass(frozen=True)
class Task:
    """One exposure on its way to a worker."""

    job: Job
    work: Work
    steps: tuple[Step, ...]
    """Assets that this exposure still lacks."""

    attempts: Mapping[str, int]
    """Times that the same input has failed before, by asset."""

    preview: bool = False
    """Whether to draw the preview picture of the asset."""

    @property
    def transport(self) -> Transport:
        """What asks the services of archives; one for each process."""
        from astrid_assets.archives.transport import shared_transport

        return shared_transport(self.job.archives)


@dataclass(frozen=True)
class Product:
    """What a recipe made of one exposure for one asset."""

    files: Mapping[str, int]
    """Size in bytes of each file by path; the main file first."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """Quality metrics, to be judged."""

    columns: Mapping[str, Any] = field(default_factory=dict)
    """More columns of the row."""

    state: str = "ok"
    """``ok`` or ``empty``; a red metric makes it quarantined."""

    reason: str | None = None
    """What is worth saying about it."""

    space: bool = False
    """Whether the image comes from a space telescope; metrics of the atmosphere do not apply."""


@dataclass(frozen=True)
class Report:
    """What became of an asset of a job."""

    manifest: pa.Table
    """One row an exposure."""

    n_new: int
    """Exposures that were worked on."""

    n_reused: int
    """Exposures that were done before."""

    changed: frozenset[str] = frozenset()
    """Exposures whose row is another one than before."""

    errors: tuple[Row, ...] = ()
    """New rows that failed or were rejected."""

    traffic: Tally = field(default_factory=Tally)
    """What was asked of the services of archives, for all assets of the job together."""


def stream(
    job: Job, works: Sequence[Work], *, workers: int | None = None, beside: Collection[str] = ()
) -> dict[str, Report]:
    """Bring the rows of a job's assets up to date with the exposures that are to be in them.

    Parameters
    ----------
    job
        What is done to each exposure.

    works
        The exposures. Rows of others are superseded.

    workers
        Number of processes.

    beside
        Rows that another call brings up to date: they are neither works nor superseded.

    Returns
    -------
    dict
        Report by asset.
    """
    job.store.clean_staging(job.sky_field.name)
    found = {step.asset: job.store.rows(step.asset, job.sky_field.name) for step in job.steps}
    settled = {asset: _settled(job, asset, rows, works, beside) for asset, rows in found.items()}
    tasks = [t for t in (_task(job, work, settled) for work in works) if t is not None]
    new, traffic = _run(job, tasks, workers)
    reports = {a: _report(works, found[a], settled[a], new[a]) for a in found}
    return {a: replace(report, traffic=traffic) for a, report in reports.items()}


@dataclass(frozen=True)
class Processed:
    """What a worker did for one exposure."""

    rows: dict[str, Row]
    """The new row of each asset."""

    traffic: Tally
    """What was asked of the services of archives."""


def process(task: Task) -> Processed:
    """Make what one exposure lacks and commit its rows; called in a worker.

    Errors that an exposure can have become rows; they never end the run.
    """
    return Processed(_rows(task), taken_traffic())


def _rows(task: Task) -> dict[str, Row]:
    from astrid_assets.assets.recipes import RECIPES

    recipe = RECIPES[task.job.recipe]
    start = time.perf_counter()
    try:
        loaded = recipe.load(task)
    except Exception as error:  # noqa: BLE001 - recorded in the row with its reason
        return {step.asset: _commit_error(task, step, error, start) for step in task.steps}
    rows = {}
    for step in task.steps:
        try:
            rows[step.asset] = _commit(task, step, recipe.make(task, step, loaded), start)
        except Exception as error:  # noqa: BLE001 - recorded in the row with its reason
            rows[step.asset] = _commit_error(task, step, error, start)
        start = time.perf_counter()
    return rows


# --- what is to be done ---------------------------------------------------------------------------


def _settled(
    job: Job, asset: str, found: Mapping[str, Row], works: Sequence[Work], beside: Collection[str]
) -> dict[str, Row]:
    """Return the rows after those that no longer apply were marked as superseded."""
    store, name = job.store, job.sky_field.name
    rows = dict(found)
    wanted = {w.row["exposure_id"]: w for w in works}
    for key, row in list(rows.items()):
        if row["state"] == "superseded" or key in beside:
            continue
        work = wanted.get(key)
        if work is None:
            former = {"state": row["state"], "reason": row["reason"]}
            rows[key] = row | {
                "state": "superseded",
                "reason": "no longer selected upstream",
                "former": former,
            }
            store.commit(asset, name, rows[key], key=key)
        elif row.get("revision") != work.row.get("revision"):
            old = f"{key}~{digest(row.get('revision'))[:8]}"
            reason = "reprocessed by the archive"
            rows[old] = row | {"state": "superseded", "reason": reason, "files": {}, "path": None}
            store.commit(asset, name, rows[old], key=old)
    return rows


def _task(job: Job, work: Work, before: Mapping[str, dict[str, Row]]) -> Task | None:
    """Return what is left to do for an exposure, or None."""
    key = work.row["exposure_id"]
    todo, attempts = [], {}
    for step in job.steps:
        row = before[step.asset].get(key)
        if row is not None and row.get("former") and _same(row, step, work):
            row = {k: v for k, v in row.items() if k != "former"} | row["former"]
        if not job.force and _done(job, step, work, row):
            _reinstate(job, step, key, row, before[step.asset])
            continue
        todo.append(step)
        again = row is not None and row["state"] == "failed" and _same(row, step, work)
        attempts[step.asset] = row["attempts"] if again else 0
    return Task(job, work, tuple(todo), attempts) if todo else None


def _same(row: Row, step: Step, work: Work) -> bool:
    mine = (row["input_sha256"], row["parameter_hash"], row["code_version"])
    return mine == (work.input_sha256, step.parameter_hash, step.code_version)


def _done(job: Job, step: Step, work: Work, row: Row | None) -> bool:
    return is_done(
        row,
        job.store,
        input_sha256=work.input_sha256,
        parameter_hash=step.parameter_hash,
        code_version=step.code_version,
    )


def _reinstate(job: Job, step: Step, key: str, row: Row, rows: dict[str, Row]) -> None:
    """Take back that a row was superseded: its exposure is selected again, unchanged."""
    if rows[key]["state"] == "superseded":
        job.store.commit(step.asset, job.sky_field.name, row, key=key)
        rows[key] = row


# --- doing it -------------------------------------------------------------------------------------


def _run(job: Job, tasks: list[Task], workers: int | None) -> tuple[dict[str, dict[str, Row]], Tally]:
    """Run all tasks; return the new rows by asset and exposure, and what was asked of services."""
    if tasks:
        tasks[-1] = replace(tasks[-1], preview=True)
    new: dict[str, dict[str, Row]] = {step.asset: {} for step in job.steps}
    tell = progress.get() or (lambda *_: None)
    label = job.steps[0].asset
    tell(job.sky_field.name, label, 0, len(tasks))
    traffic = Tally()
    for done, outcome in enumerate(run_exposures(process, tasks, workers=workers), start=1):
        task = outcome.task
        if outcome.result is None:
            rows = {s.asset: _commit_error(task, s, outcome.error, None) for s in task.steps}
        else:
            rows, traffic = outcome.result.rows, traffic + outcome.result.traffic
        for asset, row in rows.items():
            new[asset][row["exposure_id"]] = row
        tell(job.sky_field.name, label, done, len(tasks))
    return new, traffic


def _commit(task: Task, step: Step, product: Product, start: float) -> Row:
    """Judge a product and commit its row."""
    from astrid_assets.checks.limits import judge, worst

    survey = task.work.row.get("survey")
    colours = judge(product.metrics, step.asset, survey=survey, space=product.space)
    worst_colour = worst(colours)
    state, reason = product.state, product.reason
    if worst_colour == "red":
        red = sorted(name for name, colour in colours.items() if colour == "red")
        state = "quarantined"
        reason = "red: " + ", ".join(f"{name} = {product.metrics[name]:.4g}" for name in red)
    row = _row(task, step, start) | dict(product.columns)
    row |= {
        "state": state,
        "reason": reason,
        "colour": worst_colour,
        "metrics": dict(product.metrics),
        "colours": colours,
        "files": dict(product.files),
        "path": next(iter(product.files), None),
    }
    return _finish(task, step, row)


def _commit_error(task: Task, step: Step, error: BaseException | None, start: float | None) -> Row:
    """Commit the row of an exposure that could not be processed."""
    state, reason = _verdict(error)
    attempts = 0
    if state == "failed" and not isinstance(error, ArchiveUnavailableError):
        _log.error("%s %s: %s", step.asset, task.work.row["exposure_id"], _trace(error))
        attempts = task.attempts.get(step.asset, 0) + 1
        if attempts >= ATTEMPTS_MAX:
            state, reason = "rejected", f"{reason} (failed {attempts} times)"
    row = _row(task, step, start) | {"state": state, "reason": reason, "attempts": attempts}
    return _finish(task, step, row)


def _verdict(error: BaseException | None) -> tuple[str, str]:
    """Return state and reason; the reason starts with a short key."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, ScienceError):
        return "rejected", f"{error.reason}: {text}"
    if isinstance(error, ImageError):
        return "rejected", f"image: {text}"
    if isinstance(error, BadAnswerError):
        return "rejected", f"bad_answer: {text}"
    if isinstance(error, ArchiveUnavailableError):
        return "failed", f"archive_unavailable: {text}"
    if isinstance(error, AstridError):
        return "rejected", f"{type(error).__name__.removesuffix('Error').lower()}: {text}"
    return "failed", f"{type(error).__name__}: {text}"


def _trace(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error)) if error is not None else "no result"


def _row(task: Task, step: Step, start: float | None) -> Row:
    return dict(task.work.row) | {
        "input_sha256": task.work.input_sha256,
        "parameter_hash": step.parameter_hash,
        "code_version": step.code_version,
        "attempts": 0,
        "seconds": None if start is None else round(time.perf_counter() - start, 3),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _finish(task: Task, step: Step, row: Row) -> Row:
    row = clean(row)
    row["product_id"] = product_id(row)
    task.job.store.commit(step.asset, task.job.sky_field.name, row)
    return row


# --- what became of it ----------------------------------------------------------------------------


def _report(
    works: Sequence[Work], found: Mapping[str, Row], settled: Mapping[str, Row], new: Mapping[str, Row]
) -> Report:
    rows = dict(settled) | dict(new)
    reused = sum(w.row["exposure_id"] not in new for w in works)
    changed = {r["exposure_id"] for key, r in rows.items() if found.get(key) != r}
    changed |= {m for r in new.values() for m in r.get("members") or ()}
    errors = sorted((r for r in new.values() if r["state"] in {"failed", "rejected"}), key=_exposure_id)
    return Report(build_manifest(rows.values()), len(new), reused, frozenset(changed), tuple(errors))


def _exposure_id(row: Row) -> str:
    return row["exposure_id"]
