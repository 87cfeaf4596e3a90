"""Any catalogue of VizieR in a circle.

astroquery's ``Vizier`` keeps an answer that reports an overload for a week as an empty table (0.4.11,
mended since, #3632) and takes 50 rows unless told otherwise; the question is one GET.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.votable import Columns, read_votable, table_columns
from astrid_assets.archives.transport.request import Request

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.protocol import Cone

__all__ = ["VIZIER_ROWS", "parse_vizier", "parse_vizier_ps1", "vizier_ps1_request", "vizier_request"]

VIZIER_ROWS = 50_000
"""Rows of one answer; own choice. An answer with as many may lack rows: VizieR says nothing."""

_PS1 = "II/349/ps1"
"""Pan-STARRS DR1 (Chambers et al. 2016), mean objects."""


def vizier_request(
    source: str, cone: Cone, *, columns: Sequence[str] = (), max_rows: int = VIZIER_ROWS
) -> Request:
    """Return the query for the rows of a catalogue in a circle.

    Parameters
    ----------
    source
        Catalogue or table, such as ``II/349/ps1``.

    cone
        The circle.

    columns
        Columns; none for the default ones of the catalogue.

    max_rows
        Rows after which VizieR stops without saying so.
    """
    query = (
        ("-source", source),
        ("-c", f"{cone.ra:.8f} {cone.dec:+.8f}"),
        ("-c.rd", f"{cone.radius:.8f}"),
        ("-out.max", str(max_rows)),
        *((("-out", ",".join(columns)),) if columns else ()),
        ("-oc.form", "d"),
        ("-out.meta", "huUD"),
        ("-out.form", "mini"),
    )
    return Request("vizier", "/viz-bin/votable", "catalogue", "votable", query=query)


def parse_vizier(content: bytes) -> dict[str, Columns]:
    """Return the columns of every table of an answer by the name of the table.

    Raises
    ------
    ArchiveUnavailableError
        VizieR reports that its database cannot be reached.

    BadAnswerError
        It is no answer of VizieR.
    """
    from astropy.io.votable import parse

    if not read_votable(content, service="VizieR"):
        return {}
    tables = parse(BytesIO(content), verify="ignore").iter_tables()
    return {str(table.name or table.ID): table_columns(table) for table in tables}


def vizier_ps1_request(cone: Cone, *, max_rows: int = VIZIER_ROWS) -> Request:
    """Return the query for the objects of Pan-STARRS DR1, for when MAST is down."""
    columns = ("objID", "RAJ2000", "DEJ2000", "e_RAJ2000", "e_DEJ2000", "Epoch", "rmag", "imag", "iKmag")
    return vizier_request(_PS1, cone, columns=columns, max_rows=max_rows)


def parse_vizier_ps1(content: bytes) -> pa.Table:
    """Return the stars and galaxies of an answer to `vizier_ps1_request`."""
    from astrid_assets.archives.catalogues.panstarrs import is_star, julian_year

    columns = read_votable(content, service="VizieR")
    count = len(columns.get("objid", ()))
    if not count:
        return known_table(0)
    star = is_star(columns["imag"], columns["ikmag"])
    kinds = np.where(star, "star", "galaxy").tolist()
    return known_table(
        count,
        object_id=[f"PS1 {number}" for number in columns["objid"]],
        kind=kinds,
        **{"class": kinds},
        ra=columns["raj2000"],
        dec=columns["dej2000"],
        ref_epoch=julian_year(columns["epoch"]),
        magnitude=columns["rmag"],
        magnitude_band="r",
        position_error_arcsec=np.fmax(columns["e_raj2000"], columns["e_dej2000"]),
        catalogue="PS1",
        confidence=0.9,
    )
