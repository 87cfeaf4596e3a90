"""What the events of a run tell: stages, checks, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg
    from dagster._utils.error import SerializableErrorInfo

__all__ = [
    "check_counts",
    "error_line",
    "failed_checks",
    "materializations",
    "root_errors",
    "stages",
    "was_refused",
]


def materializations(events: Sequence[dg.DagsterEvent]) -> dict[str, dict[str, Any]]:
    """Return the metadata of each asset that was materialized."""
    found = {}
    for event in events:
        if event.is_step_materialization:
            item = event.step_materialization_data.materialization
            found[item.asset_key.to_user_string()] = {k: v.value for k, v in item.metadata.items()}
    return found


def stages(events: Sequence[dg.DagsterEvent]) -> dict[str, float]:
    """Return the wall time of each step that succeeded, s."""
    return {e.step_key: e.step_success_data.duration_ms / 1000 for e in events if e.is_step_success}


def check_counts(events: Sequence[dg.DagsterEvent]) -> dict[str, int]:
    """Count the checks: ``passed``, ``warned`` (failed with severity WARN), ``failed``."""
    counts = Counter({"passed": 0, "warned": 0, "failed": 0})
    for evaluation in _evaluations(events):
        counts["passed" if evaluation.passed else "warned" if _warns(evaluation) else "failed"] += 1
    return dict(counts)


def failed_checks(events: Sequence[dg.DagsterEvent]) -> list[str]:
    """Return the checks that failed with severity ERROR, as ``asset:check``."""
    return sorted(
        f"{e.asset_key.to_user_string()}:{e.check_name}"
        for e in _evaluations(events)
        if not (e.passed or _warns(e))
    )


def root_errors(events: Sequence[dg.DagsterEvent]) -> Iterator[SerializableErrorInfo]:
    """Yield the innermost cause of each error of a run, in order."""
    for event in events:
        error = getattr(event.event_specific_data, "error", None)
        # the error of a worker process has its traceback, as a text, for a cause
        while error is not None and error.cause is not None and error.cause.cls_name != "_RemoteTraceback":
            error = error.cause
        if error is not None:
            yield error


def was_refused(events: Sequence[dg.DagsterEvent]) -> bool:
    """Tell whether no release could be made of these data, and nothing else went wrong."""
    names = [event.step_key for event in events if event.is_step_failure]
    refused = any(error.cls_name == "ReleaseRefusedError" for error in root_errors(events))
    return refused and names == ["training_release"]


def error_line(events: Sequence[dg.DagsterEvent]) -> str:
    """Return the first error of a run in one line: which step, and the innermost cause."""
    failed = next((e for e in events if getattr(e.event_specific_data, "error", None) is not None), None)
    if failed is None:
        return "the run failed; look at its events in the UI"
    where = f"{failed.step_key}: " if failed.step_key else ""
    return where + " ".join(_message(next(root_errors([failed])).message).split())[:500]


def _message(text: str) -> str:
    """Return the message of an error without the module of its class."""
    name, colon, rest = text.partition(": ")
    return rest if colon and "Error" in name and "." in name else text


def _evaluations(events: Sequence[dg.DagsterEvent]) -> Iterator[dg.AssetCheckEvaluation]:
    import dagster as dg

    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            yield event.asset_check_evaluation_data


def _warns(evaluation: dg.AssetCheckEvaluation) -> bool:
    import dagster as dg

    return evaluation.severity == dg.AssetCheckSeverity.WARN
