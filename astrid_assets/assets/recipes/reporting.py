"""Recipes of the reports: the page of a field, the catalogue, the notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from astrid_assets.assets.overall import Summary
from astrid_assets.assets.recipes.common import Recipe, written
from astrid_assets.assets.streaming import Product, Step, Task
from astrid_assets.checks.limits import judge, worst
from astrid_assets.checks.reporting import PAGE
from astrid_assets.reports.catalog import catalog_of, catalog_table
from astrid_assets.reports.field_page import SECTIONS, Part, finish
from astrid_assets.reports.notebook import NOTEBOOK, execute, notebook_text
from astrid_assets.reports.results import FieldResults
from astrid_assets.reports.sections import draw
from astrid_assets.storage.layout import RELEASE_FOLDERS
from astrid_assets.storage.manifest import clean, product_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from astrid_assets.reports.pages import PageFacts
    from astrid_assets.storage.store import Row

__all__ = ["OVERALL", "RECIPES"]

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
    metrics = _page_metrics(sum(files.values()), facts) | {"n_failed_sections": float(len(failed))}
    missing = "; ".join(f"{row['exposure_id']}: {row['reason']}" for row in failed)
    return Product(files, metrics, reason=missing or None)


def _page_metrics(size: int, facts: PageFacts) -> dict[str, float]:
    return {
        "page_mb": size / _MEGABYTE,
        "n_figures": float(facts.n_figures),
        "n_blank_figures": float(facts.n_blank),
        "n_external": float(len(facts.external)),
    }


def _written(task: Task, step: Step, suffix: str, text: str) -> dict[str, int]:
    return written(task, step, suffix, lambda stream, _: stream.write(text.encode()))


RECIPES: dict[str, Recipe] = {
    "report_parts": Recipe(_load_results, _make_part),
    "report_page": Recipe(_load_parts, _make_page),
}
"""Recipes of this module by name of the job."""


# --- all fields together --------------------------------------------------------------------------


def _make_catalog(summary: Summary) -> Row:
    """Write the catalogue of all fields as a page, a table and JSON; return its row."""
    catalog = catalog_of(summary.store, summary.fields, summary.checks, summary.release)
    folder = RELEASE_FOLDERS[summary.asset]
    page, table, document = (f"{folder}/{name}" for name in ("index.html", "catalog.parquet", "catalog.json"))
    _begin(summary)
    summary.store.write_bytes(page, catalog.page.encode())
    summary.store.write_table(table, catalog_table(catalog.rows))
    summary.store.write_json(document, clean(catalog.document))
    metrics = _page_metrics(len(catalog.page.encode()), catalog.facts)
    return _commit(summary, (page, table, document), metrics | {"n_fields": float(len(catalog.rows))})


def _make_notebook(summary: Summary) -> Row:
    """Execute the notebook and write it, as itself and as a page; return its row."""
    done = execute(notebook_text(), timeout=summary.options["cell_timeout"])
    folder = RELEASE_FOLDERS[summary.asset]
    page, notebook = (f"{folder}/{NOTEBOOK}.{suffix}" for suffix in ("html", "ipynb"))
    _begin(summary)
    summary.store.write_bytes(page, done.html.encode())
    summary.store.write_bytes(notebook, done.ipynb.encode())
    metrics = _page_metrics(len(done.html.encode()), done.facts)
    metrics |= {"n_cells": float(done.n_code), "n_cell_errors": float(len(done.errors))}
    return _commit(summary, (page, notebook), metrics, reason="; ".join(done.errors) or None)


def _begin(summary: Summary) -> None:
    """Take back the old row: from here on its files may be other ones."""
    summary.store.remove(summary.row_path)


def _commit(
    summary: Summary, paths: tuple[str, ...], metrics: Mapping[str, float], *, reason: str | None = None
) -> Row:
    """Judge and write the row, the page first among its files."""
    colours = judge(metrics, summary.asset)
    row = {
        "exposure_id": PAGE,
        "state": "quarantined" if worst(colours) == "red" else "ok",
        "reason": reason,
        "colour": worst(colours),
        **summary.identity,
        "metrics": dict(metrics),
        "colours": colours,
        "files": {path: summary.store.size(path) for path in paths},
        "path": paths[0],
    }
    row = clean(row | {"product_id": product_id(row)})
    summary.store.write_json(summary.row_path, row)
    return row


OVERALL: dict[str, Callable[[Summary], Row]] = {
    "data_catalog": _make_catalog,
    "exploration_notebook": _make_notebook,
}
"""What makes each asset of all fields."""
