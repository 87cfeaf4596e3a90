"""Sections of the page of a field; each reads some tables and images and draws what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from astrid_assets.reports.pages import render
from astrid_assets.reports.sections import objects, pictures, statistics, tables

if TYPE_CHECKING:
    from astrid_assets.reports.results import FieldResults
    from astrid_assets.reports.sections.content import Content

__all__ = ["DRAWERS", "draw"]

DRAWERS: Mapping[str, Callable[[FieldResults, Mapping[str, Any]], Content]] = {
    "overview": tables.overview,
    "exposures": tables.exposures,
    "panels": pictures.panels,
    "comparison": statistics.comparison,
    "noise": statistics.noise,
    "quality": statistics.quality,
    "gallery": pictures.gallery,
    "light_curves": objects.light_curves,
    "efficiency": objects.efficiency,
    "checks": tables.checks,
    "limitations": tables.limitations,
    "provenance": tables.provenance,
}
"""What draws each section of `astrid_assets.reports.field_page.SECTIONS`."""


def draw(section: str, results: FieldResults, inputs: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Draw one piece of a page.

    Parameters
    ----------
    section
        Name of the section; also that of its template.

    results
        Tables of the field.

    inputs
        What the section needs beside them.

    Returns
    -------
    html, reason
        HTML, or None and the reason why there is nothing to show.
    """
    content = DRAWERS[section](results, inputs)
    if content.missing is not None:
        return None, content.missing
    return render(f"sections/{section}.html", **content.values), None
