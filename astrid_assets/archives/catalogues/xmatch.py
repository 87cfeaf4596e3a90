"""Many positions against one catalogue of VizieR or SIMBAD: the cross-match service of CDS.

astroquery's ``XMatch`` asks for the list of all tables before each match; with the prefix ``vizier:``
in the name, which the service wants, one POST is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from astrid_assets.archives.catalogues.asking import ask_readable
from astrid_assets.archives.catalogues.votable import read_votable, shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.transport import Transport

__all__ = ["LARGEST_DISTANCE", "crossmatch", "parse_xmatch", "xmatch_request"]

LARGEST_DISTANCE = 180.0
"""Arcsec: the service takes no larger one (its documentation)."""

_POSITIONS = 50_000
"""Positions of one upload, about 2 MB; own choice."""


def xmatch_request(positions: Sequence[tuple[float, float]], table: str, *, arcsec: float) -> Request:
    """Return the request for the objects of a table near positions.

    Parameters
    ----------
    positions
        Right ascension and declination, ICRS degrees. Rows of the answer have their number in ``row``.

    table
        ``simbad``, or a table of VizieR such as ``I/355/gaiadr3``.

    arcsec
        Largest distance, at most `LARGEST_DISTANCE`.
    """
    if not 0.0 < arcsec <= LARGEST_DISTANCE:
        msg = f"the cross-match service takes distances up to {LARGEST_DISTANCE:g} arcsec, not {arcsec:g}"
        raise ValueError(msg)
    lines = [f"{i},{ra:.8f},{dec:.8f}" for i, (ra, dec) in enumerate(positions)]
    form = (
        ("request", "xmatch"),
        ("distMaxArcsec", f"{arcsec:g}"),
        ("RESPONSEFORMAT", "csv"),
        ("colRA1", "ra"),
        ("colDec1", "dec"),
        ("cat2", table if table == "simbad" else f"vizier:{table}"),
    )
    upload = {"cat1": "\n".join(["row,ra,dec", *lines, ""]).encode()}
    return Request("xmatch", "/xmatch/api/v1/sync", "catalogue", "csv", form=form, upload=upload)


def parse_xmatch(content: bytes) -> pa.Table:
    """Return the pairs of a cross-match: ``angDist`` (arcsec), the columns sent, the columns of the table.

    Raises
    ------
    BadAnswerError
        The service reports an error (as a VOTable), or a row is cut off.
    """
    import pyarrow as pa
    from pyarrow import csv

    if b"VOTABLE" in content[:2000]:
        read_votable(content, service="X-match")
        raise BadAnswerError(f"X-match: a VOTable instead of CSV: {shown(content)}")
    if not content.startswith(b"angDist,"):
        raise BadAnswerError(f"X-match: not a table of pairs: {shown(content)}")
    try:
        return csv.read_csv(BytesIO(content), convert_options=csv.ConvertOptions(strings_can_be_null=True))
    except pa.ArrowInvalid as error:
        raise BadAnswerError(f"X-match: {' '.join(str(error).split())[:200]}") from error


def crossmatch(
    transport: Transport, positions: Sequence[tuple[float, float]], table: str, *, arcsec: float
) -> pa.Table:
    """Return the pairs of positions and objects of a table, asked for in uploads of fair size.

    Parameters
    ----------
    transport
        The way to the service.

    positions
        Right ascension and declination, ICRS degrees.

    table
        As in `xmatch_request`.

    arcsec
        Largest distance.

    Returns
    -------
    pyarrow.Table
        As of `parse_xmatch`; ``row`` is the number of the position.
    """
    import pyarrow as pa
    from pyarrow import compute

    tables = []
    for start in range(0, len(positions), _POSITIONS):
        request = xmatch_request(positions[start : start + _POSITIONS], table, arcsec=arcsec)
        found = parse_xmatch(ask_readable(transport, request, parse_xmatch))
        place = found.schema.get_field_index("row")
        if place < 0:
            raise BadAnswerError("X-match: the numbers of the positions are missing")
        row = compute.add(compute.cast(found.column(place), pa.int64()), start)
        tables.append(found.set_column(place, "row", row))
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
