"""Tables as IRSA sends them: comma-separated, or in IPAC's fixed-width format."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Collection

from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError

__all__ = ["Rows", "number", "read_table", "shown", "whole"]

Rows = list[dict[str, str]]
"""Rows of a table: texts by column, names in lower case; empty where there is no value."""

_NULLS = ("", "null", "none", "nan")

_EXCERPT = 200
"""Bytes of a bad answer that an error quotes."""


def shown(content: bytes) -> str:
    """Return the first bytes of an answer on one line, for an error."""
    return " ".join(content[:_EXCERPT].decode(errors="replace").split())


def read_table(content: bytes, *, required: Collection[str]) -> Rows:
    """Return the rows of a table.

    Parameters
    ----------
    content
        CSV with a header line, or an IPAC table.

    required
        Columns without which the table is of no use.

    Raises
    ------
    ArchiveUnavailableError
        The answer is a page of HTML or XML: IRSA reports that it cannot answer. It must never count
        as "nothing found".

    BadAnswerError
        The answer is no such table, lacks a column, or a line has another number of values.
    """
    text = content.decode(errors="replace").lstrip("\ufeff \r\n")
    if text.startswith("<"):
        raise ArchiveUnavailableError(f"IRSA cannot answer: {shown(content)}")
    lines = text.splitlines()
    names, rows = _ipac(lines) if text.startswith(("|", "\\")) else _csv(lines)
    names = [name.strip().lower() for name in names]
    missing = sorted(set(required) - set(names))
    if missing:
        raise BadAnswerError(f"IRSA: the table lacks {', '.join(missing)}: {shown(content)}")
    for line, row in enumerate(rows, 1):
        if len(row) != len(names):
            msg = f"IRSA: row {line} has {len(row)} values for {len(names)} columns: {shown(content)}"
            raise BadAnswerError(msg)
    return [
        {name: "" if value.strip().lower() in _NULLS else value.strip() for name, value in pairs}
        for pairs in (zip(names, row, strict=True) for row in rows)
    ]


def _csv(lines: list[str]) -> tuple[list[str], list[list[str]]]:
    reader = csv.reader(io.StringIO("\n".join(lines)))
    names, *rows = [row for row in reader if row] or [[]]
    return names, rows


def _ipac(lines: list[str]) -> tuple[list[str], list[list[str]]]:
    """Return names and values of an IPAC table: the bars of the header tell where columns end."""
    header = [line for line in lines if line.startswith("|")]
    if not header:
        return [], []
    bars = [i for i, character in enumerate(header[0]) if character == "|"]
    spans = list(itertools.pairwise(bars))
    data = [line for line in lines if line.strip() and not line.startswith(("|", "\\"))]
    # a line that was cut off has fewer values
    values = [[line[a + 1 : b] for a, b in spans if a < len(line)] for line in data]
    return header[0].split("|")[1:-1], values


def number(text: str) -> float | None:
    """Return a number; None where there is no value.

    Raises
    ------
    BadAnswerError
        It is no number.
    """
    try:
        return float(text) if text else None
    except ValueError as error:
        raise BadAnswerError(f"IRSA: {text!r} is no number") from error


def whole(text: str) -> int | None:
    """Return an integer; None where there is no value.

    Raises
    ------
    BadAnswerError
        It is no integer.
    """
    try:
        return int(text) if text else None
    except ValueError as error:
        raise BadAnswerError(f"IRSA: {text!r} is no integer") from error
