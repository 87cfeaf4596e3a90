"""Queries in ADQL: a POST to the synchronous endpoint of a TAP service.

astroquery's ``Simbad`` first asks for the capabilities of the service, with hard limits in them, and
its ``Gaia`` opens a connection at import (both measured); a query needs one POST.
"""

from __future__ import annotations

from astrid_assets.archives.protocol import Cone
from astrid_assets.archives.transport.request import Request

__all__ = ["circle", "tap_request"]


def tap_request(service: str, path: str, query: str, *, max_rows: int, format: str = "votable") -> Request:  # noqa: A002 -- as TAP calls it
    """Return a synchronous TAP query (IVOA TAP 1.1, section 2).

    Parameters
    ----------
    service
        Name of the service.

    path
        Path of the TAP service; ``/sync`` is appended.

    query
        ADQL.

    max_rows
        Rows after which the service cuts off, and says so.

    format
        Value of FORMAT: a VOTable in the words of the service.
    """
    form = (
        ("REQUEST", "doQuery"),
        ("LANG", "ADQL"),
        ("FORMAT", format),
        ("MAXREC", str(max_rows)),
        ("QUERY", " ".join(query.split())),
    )
    return Request(service, f"{path}/sync", "catalogue", "votable", form=form)


def circle(cone: Cone) -> str:
    """Return the condition that ``ra`` and ``dec`` lie in a circle."""
    where = f"CIRCLE('ICRS', {cone.ra:.8f}, {cone.dec:.8f}, {cone.radius:.8f})"
    return f"1 = CONTAINS(POINT('ICRS', ra, dec), {where})"
