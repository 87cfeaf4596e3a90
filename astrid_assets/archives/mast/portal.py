"""The interface of MAST's portal ("Mashup"): questions to its tables, and their answers in pages.

The requests are those of astroquery's ``Observations`` without the class itself: astroquery 0.4.11 has
no time-out for MAST, asks again and again without a pause while a query is executing, and throws an
answer away that took longer than its limit (measured). It also asks for the configuration of columns first,
which is only needed to translate names that users type: here the filters are known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from astrid_assets.archives.transport.formats import first_bytes
from astrid_assets.archives.transport.request import Kind, Request
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError

__all__ = [
    "PAGE_ROWS",
    "PRODUCT_BATCH",
    "Page",
    "among",
    "between",
    "cone_request",
    "count_request",
    "cover",
    "criteria_request",
    "file_request",
    "is_executing",
    "parse_count",
    "parse_page",
    "products_request",
]

PAGE_ROWS = 50_000
"""Rows of a page, as astroquery asks for; MAST serves no larger ones."""

PRODUCT_BATCH = 5
"""Observations whose products are asked for at a time: joins of products are slow, and time out for many
(STScI notebook ``large_downloads.ipynb``)."""

_MULTIPLE = frozenset({"obs_collection", "project", "filters", "wavelength_region", "target_classification"})
"""Columns of several values separated by a semicolon (recorded configuration of ``Mast.Caom.Cone``)."""

_BUSY = ("timeout", "timed out", "unavailable", "deadlock", "try again", "connection")
"""Words in a message of status ERROR by which the server cannot answer, not the question is wrong."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """One page of an answer."""

    rows: tuple[Row, ...]
    """Rows as MAST sends them: column -> text, number or None."""

    types: Mapping[str, str] = field(default_factory=dict)
    """Type of each column as MAST names it (``string``, ``float``, ``int``, ``boolean``)."""

    number: int = 1
    """Number of the page, from 1."""

    pages: int = 1
    """Number of pages of the answer."""

    n_rows: int = 0
    """Rows of all pages."""


# --- questions ----------------------------------------------------------------------------------


def cone_request(ra: float, dec: float, radius: float, *, page: int = 1, rows: int = PAGE_ROWS) -> Request:
    """Return the request for everything in a circle (``Mast.Caom.Cone``).

    Parameters
    ----------
    ra, dec, radius
        Circle, degrees (ICRS).

    page, rows
        Number of the page, and its rows.
    """
    parameters = {"ra": ra, "dec": dec, "radius": radius}
    return _invoke("Mast.Caom.Cone", parameters, kind="search", page=page, rows=rows)


def criteria_request(
    filters: Sequence[Row],
    *,
    position: tuple[float, float, float] | None = None,
    page: int = 1,
    rows: int = PAGE_ROWS,
) -> Request:
    """Return the request for observations by criteria (``Mast.Caom.Filtered``).

    Parameters
    ----------
    filters
        Criteria made by `among` and `between`; at least one, and ``obs_collection`` makes it fast.

    position
        Circle (ra, dec, radius), degrees (ICRS); None searches the sky.

    page, rows
        Number of the page, and its rows.
    """
    service, parameters = _filtered("*", filters, position)
    return _invoke(service, parameters, kind="search", page=page, rows=rows)


def count_request(filters: Sequence[Row], *, position: tuple[float, float, float] | None = None) -> Request:
    """Return the request for the number of observations that `criteria_request` would list."""
    service, parameters = _filtered("COUNT_BIG(*)", filters, position)
    return _invoke(service, parameters, kind="search")


def products_request(obsids: Sequence[str], *, page: int = 1, rows: int = PAGE_ROWS) -> Request:
    """Return the request for the files of observations (``Mast.Caom.Products``).

    Parameters
    ----------
    obsids
        Column ``obsid`` of the observations, numbers, and not ``obs_id`` (astropy/astroquery#2852).
        At most `PRODUCT_BATCH` at a time.

    page, rows
        Number of the page, and its rows.
    """
    return _invoke("Mast.Caom.Products", {"obsid": ",".join(obsids)}, kind="products", page=page, rows=rows)


def file_request(uri: str, *, token: str | None = None) -> Request:
    """Return the request for a file: one GET, where astroquery sends a HEAD before it.

    Parameters
    ----------
    uri
        Column ``dataURI`` of the products (``mast:HST/product/...``).

    token
        Token of an account, for what is not public yet.
    """
    headers = () if token is None else (("Cookie", f"mast_token={token}"),)
    return Request(
        "mast",
        "/api/v0.1/Download/file",
        "file",
        "fits",
        query=(("uri", uri),),
        headers=headers,
        secret=frozenset({"Cookie"}),
        nothing=frozenset({404}),
    )


def among(column: str, *values: str | int) -> Row:
    """Return the criterion that a column has one of some values."""
    criterion: dict[str, Any] = {"paramName": column}
    if column in _MULTIPLE:
        criterion["separator"] = ";"
    return {**criterion, "values": [str(value) for value in values]}


def between(column: str, low: float, high: float) -> Row:
    """Return the criterion that a number lies in a range, both ends included."""
    return {"paramName": column, "values": [{"min": low, "max": high}]}


def _filtered(
    columns: str, filters: Sequence[Row], position: tuple[float, float, float] | None
) -> tuple[str, dict[str, Any]]:
    if not filters:
        msg = "MAST wants at least one criterion beside a position"
        raise ValueError(msg)
    parameters: dict[str, Any] = {"columns": columns, "filters": list(filters)}
    if position is None:
        return "Mast.Caom.Filtered", parameters
    where = ", ".join(f"{value:.8f}" for value in position)
    return "Mast.Caom.Filtered.Position", {**parameters, "position": where}


def _invoke(service: str, parameters: Row, *, kind: Kind, page: int = 1, rows: int = PAGE_ROWS) -> Request:
    """Return the request of a service of the portal; without a cache breaker it is the same each time."""
    question = {"service": service, "params": parameters, "format": "json", "pagesize": rows, "page": page}
    return Request(
        "mast",
        "/api/v0/invoke",
        kind,
        "json",
        form=(("request", json.dumps(question, sort_keys=True)),),
        headers=(("Accept", "text/plain"),),
    )


def cover(ra: float, dec: float, radius: float, *, largest: float) -> list[tuple[float, float, float]]:
    """Return circles (ra, dec, radius) that together cover a circle and are no larger than a limit.

    The centres lie on a hexagonal lattice in the plane of true distances from the middle, where
    circles of radius r that are ``sqrt(3) r`` apart leave no gap; 2 % are taken off for the curvature of
    the sky within 5 degrees.
    """
    from astrid_assets.archives.s_region import offset_position

    if radius <= largest:
        return [(ra, dec, radius)]
    step = 0.98 * math.sqrt(3.0) * largest
    found = []
    for x, y in _lattice(step, radius + largest):
        distance = math.hypot(x, y)
        if distance < radius + largest:
            angle = math.degrees(math.atan2(x, y))
            found.append((*offset_position((ra, dec), distance, angle), largest))
    return sorted(found)


def _lattice(step: float, reach: float) -> Iterator[tuple[float, float]]:
    """Yield the points of a hexagonal lattice about the origin, in a square of some reach."""
    height = step * math.sqrt(0.75)
    n_rows, n_columns = math.ceil(reach / height), math.ceil(reach / step) + 1
    for row in range(-n_rows, n_rows + 1):
        for column in range(-n_columns, n_columns + 1):
            yield (column + 0.5 * (row % 2)) * step, row * height


# --- answers ------------------------------------------------------------------------------------


def is_executing(content: bytes) -> bool:
    """Tell whether MAST is still at work, so that the same question is to be asked again.

    Given to the transport as ``pending``, it also keeps a reported error from being kept as an answer.

    Raises
    ------
    ArchiveUnavailableError, BadAnswerError
        As `parse_page`.
    """
    return _document(content)["status"] == "EXECUTING"


def parse_page(content: bytes) -> Page:
    """Return the rows of one page.

    Raises
    ------
    ArchiveUnavailableError
        MAST says that it cannot answer now, or is still executing the query.

    BadAnswerError
        It is no answer of the portal, or one that refuses the question.
    """
    answer = _document(content)
    if answer["status"] == "EXECUTING":
        msg = "MAST: still executing the query"
        raise ArchiveUnavailableError(msg)
    try:
        types = {f["name"]: f["type"] for f in answer["fields"] if f["name"] != "_selected_"}
        rows = tuple({name: row.get(name) for name in types} for row in answer["data"])
        paging = answer.get("paging") or {}
        number, pages = int(paging.get("page", 1)), int(paging.get("pagesFiltered", 1))
        n_rows = int(paging.get("rowsFiltered", len(rows)))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswerError(f"MAST: not a table: {first_bytes(content)}") from error
    return Page(rows, types, number, max(pages, 1), n_rows)


def parse_count(content: bytes) -> int:
    """Return the number that answers a `count_request`; errors as of `parse_page`."""
    rows = parse_page(content).rows
    try:
        return int(next(iter(rows[0].values())))
    except (LookupError, TypeError, ValueError, StopIteration) as error:
        raise BadAnswerError(f"MAST: not a number of rows: {first_bytes(content)}") from error


def _document(content: bytes) -> Row:
    """Return the document of an answer that is complete or in the making."""
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise BadAnswerError(f"MAST: no JSON: {first_bytes(content)}") from error
    status = answer.get("status") if isinstance(answer, Mapping) else None
    if status in ("COMPLETE", "EXECUTING"):
        return answer
    message = str(answer.get("msg", "")) if isinstance(answer, Mapping) else ""
    if status == "ERROR" and any(word in message.lower() for word in _BUSY):
        raise ArchiveUnavailableError(f"MAST: {message[:200]}")
    raise BadAnswerError(f"MAST: status {status}: {first_bytes(content)}")
