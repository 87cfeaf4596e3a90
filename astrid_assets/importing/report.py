"""The list of rows of a catalogue that could not be read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from astrid_assets.importing.catalogues import Reject

__all__ = ["reject_report"]


def reject_report(rejects: Iterable[Reject]) -> str:
    """Return a CSV table of rejected rows: line, reason, and the row as it stands."""
    page = io.StringIO()
    table = csv.writer(page, lineterminator="\n")
    table.writerow(["line", "reason", "row"])
    table.writerows((r.line, r.reason, r.text) for r in rejects)
    return page.getvalue()
