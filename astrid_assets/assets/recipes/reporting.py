"""Recipes of the reports: pieces of the page of a field, and the page made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from astrid_assets.assets.recipes.common import Recipe, written
from astrid_assets.assets.streaming import Product, Step, Task
from astrid_assets.reports.field_page import SECTIONS, Part, finish
from astrid_assets.reports.results import FieldResults
from astrid_assets.reports.sections import draw

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RECIPES"]

_MEGABYTE = 1e6


def _load_results(task: Task) -> FieldResults:
    needs = SECTIONS[task.work.inputs["section"]].needs
    return FieldResults(task.job.store, task.job.sky_field, needs)


def _make_part(task: Task, step: Step, results: FieldResults) -> Product:
    """Draw one piece of the page."""
    html, reason = draw(task.work.inputs["section"], results, task.work.inputs["inputs"])
    files = _written(task, step, "fragment", html or "")
    return Product(files, state="ok" if html else "empty", reason=reason)


def _load_parts(task: Task) -> list[Part]:
    """Read the pieces; one that failed is told by its row."""
    store = task.job.store
    return [
        Part(
            key=row["exposure_id"],
            section=section,
            input_sha256="",
            html=store.path(row["path"]).read_text("utf-8") if row["state"] == "ok" else None,
            reason=row["reason"],
        )
        for section, row in task.work.inputs["parts"]
    ]


def _make_page(task: Task, step: Step, parts: list[Part]) -> Product:
    """Put the pieces together, and measure the page."""
    html, facts = finish(task.job.sky_field, parts, archives=task.work.inputs["archives"])
    failed = [row for _, row in task.work.inputs["parts"] if row["state"] not in {"ok", "empty"}]
    files = _written(task, step, "html", html)
    metrics: Mapping[str, float] = {
        "page_mb": sum(files.values()) / _MEGABYTE,
        "n_figures": float(facts.n_figures),
        "n_blank_figures": float(facts.n_blank),
        "n_external": float(len(facts.external)),
        "n_failed_sections": float(len(failed)),
    }
    missing = "; ".join(f"{row['exposure_id']}: {row['reason']}" for row in failed)
    return Product(files, metrics, reason=missing or None)


def _written(task: Task, step: Step, suffix: str, text: str) -> dict[str, int]:
    return written(task, step, suffix, lambda stream, _: stream.write(text.encode()))


RECIPES: dict[str, Recipe] = {
    "report_parts": Recipe(_load_results, _make_part),
    "report_page": Recipe(_load_parts, _make_page),
}
"""Recipes of this module by name of the job."""
