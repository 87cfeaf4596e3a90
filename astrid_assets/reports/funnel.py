"""How many exposures and detections get how far, and why the others do not: nothing vanishes silently."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.reports.results import FieldResults
    from astrid_assets.storage.store import Row

__all__ = ["FUNNEL_ASSETS", "Loss", "Stage", "detection_funnel", "exposure_funnel", "sample_counts"]

_STAGES = (
    ("downloaded", "science_images"),
    ("aligned", "aligned_pairs"),
    ("normalized", "normalized_pairs"),
    ("differenced", "zogy_differences"),
    ("searched", "candidates"),
)

FUNNEL_ASSETS = ("observations", *(asset for _, asset in _STAGES), "cutouts", "training_set")
"""Assets that the funnel reads."""


@dataclass(frozen=True)
class Loss:
    """Exposures or detections that went no further."""

    number: int
    """How many."""

    reason: str
    """Why, in words."""


@dataclass(frozen=True)
class Stage:
    """How many got so far."""

    label: str
    """What was done to them."""

    number: int
    """How many."""

    share: float
    """Of those at the start, 0 to 1; bars of the page have this length."""

    losses: tuple[Loss, ...] = ()
    """Those of the stage before that are not in this one."""

    note: str = ""
    """What else is to be known."""


def exposure_funnel(results: FieldResults) -> list[Stage]:
    """Return the stages of the science exposures: offered, selected, ... , searched."""
    ledger = [r for r in results.rows("observations") if r["product"] != "query"]
    offered = [r for r in ledger if r["role"] != "reference"]
    chosen = [r for r in offered if r["status"] == "selected" and not r.get("deferred")]
    total = len(offered)
    stages = [Stage("offered", total, 1.0 if total else 0.0, (), _references(ledger))]
    lost = [r for r in offered if r not in chosen]
    stages.append(_stage("selected", len(chosen), total, _losses(lost)))
    ids = [r["exposure_id"] for r in chosen]
    for label, asset in _STAGES:
        rows = {r["exposure_id"]: r for r in results.rows(asset)}
        done = [name for name in ids if rows.get(name, {}).get("state") in {"ok", "empty"}]
        gone = [rows.get(name, {}) for name in ids if name not in set(done)]
        stages.append(_stage(label, len(done), total, _losses(gone)))
        ids = done
    return stages


def _references(ledger: Sequence[Row]) -> str:
    chosen = sum(r["role"] == "reference" and r["status"] == "selected" for r in ledger)
    return f"{chosen} more exposures or stacks serve as references" if chosen else ""


def _stage(label: str, number: int, total: int, losses: Iterable[Loss], note: str = "") -> Stage:
    return Stage(label, number, number / total if total else 0.0, tuple(losses), note)


def _losses(rows: Iterable[Row]) -> list[Loss]:
    """Group rows by state and the key of their reason; the first reason stands for its group."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        state = _state(row)
        reason = row.get("reason") or ("" if row else "no result yet")
        groups.setdefault((state, reason.split(":")[0]), []).append(reason)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Loss(len(found), _words(state, key, found)) for (state, key), found in ranked]


def _state(row: Row) -> str:
    if row.get("deferred"):
        return "deferred"
    return row.get("state") or row.get("status") or "waiting"


def _words(state: str, key: str, reasons: Sequence[str]) -> str:
    """Say state and reason; where the reasons differ after their key, the first is an example."""
    if len(set(reasons)) == 1:
        return f"{state}: {reasons[0]}" if reasons[0] else state
    return f"{state}: {key} (such as {reasons[0].removeprefix(key).lstrip(': ')})"


def detection_funnel(results: FieldResults) -> list[Stage]:
    """Return the stages of the detections: all, those without a reason to doubt them, their cutouts."""
    table = results.output("candidates")
    if table is None:
        return []
    artifacts = table.column("artifact").to_pylist()
    doubts = Counter(filter(None, artifacts))
    total, kept = len(artifacts), len(artifacts) - sum(doubts.values())
    losses = [Loss(n, f"flagged: {name.replace('_', ' ')}") for name, n in doubts.most_common()]
    return [
        Stage("detected", total, 1.0 if total else 0.0),
        _stage("unflagged", kept, total, losses),
        *_cutout_stage(results, total),
    ]


def _cutout_stage(results: FieldResults, total: int) -> list[Stage]:
    rows = results.rows("cutouts")
    if not rows:
        return []
    number, kept = (
        sum(int(r.get(f"metric_{n}") or 0) for r in rows) for n in ("n_stamps", "n_stamps_unflagged")
    )
    lost = [r for r in rows if r["state"] not in {"ok", "empty"}]
    note = f"{number - kept} flagged detections were cut out too, as examples of artefacts"
    return [_stage("cut out", kept, total, _losses(lost), note)]


def sample_counts(samples: pa.Table | None) -> Mapping[str, Any]:
    """Return how many training samples there are, by label and domain; empty without any."""
    if samples is None or samples.num_rows == 0:
        return {}
    labels = Counter(samples.column("label").to_pylist())
    domains = Counter(samples.column("domain").to_pylist())
    real, bogus = labels[1], labels[0]
    return {
        "total": samples.num_rows,
        "real": real,
        "bogus": bogus,
        "unlabelled": labels[-1],
        "observed": domains["observed"],
        "injected": domains["injected"],
        "real_share": real / (real + bogus) if real + bogus else math.nan,
    }
