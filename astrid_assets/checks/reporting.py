"""Checks of the reporting group: are the pages there and whole."""

from __future__ import annotations

from collections.abc import Sequence

from astrid_assets.checks.table import Context, Row, TableCheck, Verdict, live

__all__ = ["CHECKS", "PAGE", "REQUIRED", "page_exists", "sections_drawn"]

PAGE = "index"
"""Row of the finished page among those of its sections."""


def page_exists(rows: Sequence[Row], _context: Context) -> Verdict:
    """Red where there is no page."""
    page = next((row for row in live(rows) if row["exposure_id"] == PAGE), None)
    if page is None or page["state"] not in ("ok", "quarantined"):
        return Verdict("red", f"There is no page: {(page or {}).get('reason') or 'it was never made'}.")
    figures = page.get("metric_n_figures") or 0.0
    drawn = f" with {figures:.0f} figures" if figures else ""
    return Verdict("green", f"{page['path']}{drawn}.", {"n_figures": figures})


def sections_drawn(rows: Sequence[Row], _context: Context) -> Verdict:
    """Tell which sections are empty, and why; yellow where one could not be drawn."""
    parts = [row for row in live(rows) if row["exposure_id"] != PAGE]
    failed = [row for row in parts if row["state"] not in ("ok", "empty")]
    empty = [row for row in parts if row["state"] == "empty"]
    metadata = {"n_sections": len(parts), "n_empty": len(empty), "n_failed": len(failed)}
    if failed:
        first = failed[0]
        text = f"{len(failed)} sections could not be drawn, first {first['exposure_id']}: {first['reason']}"
        return Verdict("yellow", text, metadata)
    names = ", ".join(f"{row['exposure_id']} ({row['reason']})" for row in empty)
    return Verdict(
        "green", f"All {len(parts)} sections drawn{f'; empty: {names}' if names else ''}.", metadata
    )


REQUIRED: dict[str, tuple[str, ...]] = {}
"""Columns that every usable row of an asset must have."""

_EXISTS = TableCheck("page_exists", "The page was made.", page_exists)

CHECKS: dict[str, tuple[TableCheck, ...]] = {
    "field_report": (
        _EXISTS,
        TableCheck("sections_drawn", "Every section was drawn, or says why it is empty.", sections_drawn),
    ),
    "data_catalog": (_EXISTS,),
    "exploration_notebook": (_EXISTS,),
}
"""Table checks of each asset of the group."""
