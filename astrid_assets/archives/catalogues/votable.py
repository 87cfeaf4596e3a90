"""VOTables as services send them: the rows of the first table, or the error that they report."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError

if TYPE_CHECKING:
    from astropy.io.votable.tree import Resource, TableElement, VOTableFile

__all__ = ["Columns", "TooManyRowsError", "count_rows", "read_votable", "shown", "table_columns"]

Columns = dict[str, np.ndarray]
"""Columns by name, in lower case: real numbers as float64 with NaN where there is none, all else objects."""


class TooManyRowsError(BadAnswerError):
    """A service says that it has left out rows: its circle has to be asked for in parts."""


_OUTAGES = ("not currently reachable", "no connection", "connect error", "timeout", "unavailable")
"""Words of a service that cannot answer now."""

_NOTHING = ("no solar system object was found", "no object found", "no note found", "there is no object")
"""Words of a service that has looked and found nothing."""


def read_votable(content: bytes, *, service: str) -> Columns:
    """Return the columns of the first table of an answer; no columns where nothing was found.

    Parameters
    ----------
    content
        Bytes of the answer.

    service
        Name of the service, for messages.

    Raises
    ------
    ArchiveUnavailableError
        The service reports that it cannot answer now.

    TooManyRowsError
        The service reports that it left out rows.

    BadAnswerError
        The answer is no VOTable, is cut off, or reports an error.
    """
    from astropy.io.votable import parse

    if b"VOTABLE" not in content[:2000]:
        raise BadAnswerError(f"{service}: not a VOTable: {shown(content)}")
    try:
        document = parse(BytesIO(content), verify="ignore")
    except (ValueError, LookupError, TypeError, EOFError) as error:
        raise BadAnswerError(f"{service}: broken VOTable: {' '.join(str(error).split())[:200]}") from error
    table = next(iter(document.iter_tables()), None)
    if _found_nothing(document, service) or table is None:
        return {}
    return table_columns(table)


def table_columns(table: TableElement) -> Columns:
    """Return the columns of one table of a VOTable."""
    return {f.name.lower(): _column(table.array[f.ID]) for f in table.fields}


def count_rows(content: bytes, *, service: str) -> int:
    """Return the number of rows of the first table; raises as `read_votable`."""
    return len(next(iter(read_votable(content, service=service).values()), ()))


def shown(content: bytes) -> str:
    """Return the start of an answer on one line, for a message."""
    return " ".join(content[:200].decode("utf-8", "replace").split()) or "(empty)"


def _column(values: np.ma.MaskedArray) -> np.ndarray:
    if values.dtype.kind == "f":
        return np.ma.filled(values.astype(np.float64), np.nan)
    texts = [v.strip() if isinstance(v, str) else v for v in values.tolist()]
    return np.array(texts, dtype=object)


def _found_nothing(document: VOTableFile, service: str) -> bool:
    """Tell whether a service says that nothing is there; raise what else it complains about."""
    complaints = list(_complaints(document))
    text = "; ".join(complaints)[:300]
    if not complaints:
        return False
    if any(word in text.lower() for word in _NOTHING):
        return True
    if any(complaint.startswith("overflow") for complaint in complaints):
        raise TooManyRowsError(f"{service}: {text}")
    if any(word in text.lower() for word in _OUTAGES):
        raise ArchiveUnavailableError(f"{service}: {text}")
    raise BadAnswerError(f"{service}: {text}")


def _complaints(document: VOTableFile) -> Iterator[str]:
    """Yield what a service says went wrong: DALI 1.1, section 4.4, and the ways of NED and VizieR."""
    for part in (document, *_resources(document.resources)):
        for info in part.infos:
            status, content = str(info.value).upper(), " ".join((info.content or "").split())
            if info.name == "QUERY_STATUS" and status in {"ERROR", "OVERFLOW"}:
                yield f"overflow {content}".strip() if status == "OVERFLOW" else content or status.lower()
            if info.name == "Error" and str(info.value).strip():
                yield str(info.value).strip()
        for param in part.params:
            if param.name == "Error":
                yield str(param.value).strip()


def _resources(resources: list[Resource]) -> Iterator[Resource]:
    for resource in resources:
        yield resource
        yield from _resources(resource.resources)
