"""Names of objects to positions: MAST's name translation, which asks SIMBAD, NED and its own catalogues.

astroquery's resolver calls a fixed address over plain HTTP and without a time-out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from astrid_assets.archives.catalogues.asking import ask_readable
from astrid_assets.archives.catalogues.votable import shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.archives.transport import Transport

__all__ = ["Resolved", "parse_resolver", "resolve", "resolver_request"]


@dataclass(frozen=True)
class Resolved:
    """Where an object is."""

    name: str
    """Name that was asked for."""

    canonical: str
    """Name in the catalogue that knew it."""

    ra: float
    """Right ascension, ICRS degrees."""

    dec: float
    """Declination, ICRS degrees."""

    resolver: str
    """Who knew it (``SIMBAD``, ``NED``, ``TIC``)."""

    type: str = ""
    """Type of the object in the words of that catalogue."""


def resolver_request(name: str) -> Request:
    """Return the question where an object is."""
    query = (("name", name), ("outputFormat", "json"), ("resolveAll", "true"))
    return Request("mast_resolver", "/Santa-war/query", "products", "json", query=query)


def parse_resolver(content: bytes, name: str) -> Resolved:
    """Return the first position of an object in an answer; the service gives the best first.

    Raises
    ------
    NoCoverageError
        Nobody knows the name.

    BadAnswerError
        It is no answer of the service.
    """
    try:
        found = json.loads(content)["resolvedCoordinate"] or []
        mine = [row for row in found if row["searchString"] == name.strip().lower()]
        if not mine:
            raise NoCoverageError(f"no catalogue knows an object named {name!r}; give its coordinates")
        row = mine[0]
        return Resolved(
            name=name,
            canonical=" ".join(row["canonicalName"].split()),
            ra=float(row["ra"]),
            dec=float(row["decl"]),
            resolver=row["resolver"],
            type=row.get("objectType", ""),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadAnswerError(f"name resolver: not a list of positions: {shown(content)}") from error


def resolve(transport: Transport, name: str) -> Resolved:
    """Return where an object is; raises as `parse_resolver`."""
    read = partial(parse_resolver, name=name)
    return read(ask_readable(transport, resolver_request(name), read))
