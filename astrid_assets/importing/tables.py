"""Tables as people keep them: columns between pipes, commas, semicolons, tabs, or blanks."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Line", "read_table"]

_RULE = re.compile(r"^[\s|+=-]+$")
_FOOTER = re.compile(r"^\(\d+ rows?\)$")
_HEADER_WITHIN = 10
"""Lines in which a header is looked for; some catalogues begin with a date or a title."""


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    number: int
    """Line of the file, from 1."""

    text: str
    """The line as it stands."""

    cells: dict[str, str]
    """Texts by column, without blanks around them."""


def read_table(text: str, *, is_header: Callable[[Sequence[str]], bool]) -> tuple[list[str], list[Line]]:
    """Return the columns and rows of a table.

    Parameters
    ----------
    text
        Content of the file.

    is_header
        Tells whether some texts are names of columns.

    Returns
    -------
    columns, rows
        Names in lower case, and the rows below them; both empty where no line is a header.
    """
    lines = [(n, line) for n, line in enumerate(text.lstrip("\ufeff").splitlines(), 1) if line.strip()]
    for at, (_, line) in enumerate(lines[:_HEADER_WITHIN]):
        names = line.lstrip("#")
        for split in _SPLITTERS:
            columns = [name.lower() for name in split(names)]
            if is_header(columns):
                return columns, list(_rows(lines[at + 1 :], columns, names, split))
    return [], []


def _rows(
    lines: Sequence[tuple[int, str]], columns: list[str], header: str, split: Callable[[str], list[str]]
) -> Iterator[Line]:
    for number, line in lines:
        if line.startswith("#") or _RULE.match(line) or _FOOTER.match(line.strip()):
            continue
        cells = split(line)
        if len(cells) != len(columns) and split in (_wide, _narrow):
            cells = _below(header, columns, line)
        cells += [""] * (len(columns) - len(cells))
        yield Line(number, line, dict(zip(columns, cells, strict=False)))


def _between(mark: str) -> Callable[[str], list[str]]:
    def split(line: str) -> list[str]:
        if mark not in line:
            return []
        if mark == "|":  # as databases print tables: a quotation mark is one
            return [cell.strip() for cell in line.split(mark)]
        return [cell.strip() for cell in next(csv.reader([line], delimiter=mark, skipinitialspace=True))]

    return split


def _wide(line: str) -> list[str]:
    """Split at two blanks or more: one may stand inside of a position."""
    return re.split(r"\s{2,}", line.strip())


def _narrow(line: str) -> list[str]:
    return line.split()


def _below(header: str, columns: Sequence[str], line: str) -> list[str]:
    """Cut a row where the names of the columns begin: blank cells leave a gap."""
    starts, at = [], 0
    for name in columns:
        at = header.lower().index(name, at)
        starts.append(at)
        at += len(name)
    starts[0] = 0
    ends = [*starts[1:], max(len(line), starts[-1])]
    return [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]


_SPLITTERS = (_between("|"), _between("\t"), _between(","), _between(";"), _wide, _narrow)
