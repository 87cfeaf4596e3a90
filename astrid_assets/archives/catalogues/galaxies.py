"""Galaxies of SDSS (SkyServer) and NED."""

from __future__ import annotations

import csv
import re
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.votable import read_votable, shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.protocol import Cone

__all__ = ["SDSS_QUERY", "SDSS_ROWS", "count_sdss", "ned_request", "parse_ned", "parse_sdss", "sdss_request"]

SDSS_ROWS = 100_000
"""Rows of one answer; own choice, below the 500 000 after which SkyServer stops."""

SDSS_QUERY = """
SELECT TOP {rows} p.objID, p.ra, p.dec, p.type, p.modelMag_r, p.petroR50_r, s.z, s.class
FROM fGetNearbyObjEq({ra}, {dec}, {arcmin}) AS n
JOIN PhotoObj AS p ON p.objID = n.objID
LEFT JOIN SpecObj AS s ON s.bestObjID = p.objID
WHERE p.clean = 1 AND p.mode = 1 AND p.type = 3
"""
"""What SkyServer is asked; `parse_sdss` reads the columns of this query."""

_NED_GALAXIES = ("G", "GPair", "GTrpl", "QSO", "G_Lens")
"""Types of NED that are galaxies; quasars vary."""


def sdss_request(cone: Cone, *, max_rows: int = SDSS_ROWS) -> Request:
    """Return the query for the galaxies in a circle, to SkyServer of data release 17."""
    arcmin = f"{cone.radius * 60.0:.6f}"
    query = SDSS_QUERY.format(ra=f"{cone.ra:.8f}", dec=f"{cone.dec:.8f}", arcmin=arcmin, rows=max_rows)
    asked = (("cmd", " ".join(query.split())), ("format", "csv"))
    path = "/dr17/SkyServerWS/SearchTools/SqlSearch"
    return Request("sdss", path, "catalogue", "csv", query=asked)


def count_sdss(content: bytes) -> int:
    """Return the number of rows of a SkyServer answer; raises as `parse_sdss`."""
    parse_sdss(content)
    return sum(line[:1].isdigit() for line in content.splitlines())


def ned_request(cone: Cone) -> Request:
    """Return the search for the objects in a circle; ``list_limit`` 0 asks for all of them."""
    query = (
        ("of", "xml_main"),
        ("img_stamp", "NO"),
        ("extend", "no"),
        ("list_limit", "0"),
        ("search_type", "Near Position Search"),
        ("in_csys", "Equatorial"),
        ("in_equinox", "J2000.0"),
        ("lon", f"{cone.ra:.8f}d"),
        ("lat", f"{cone.dec:.8f}d"),
        ("radius", f"{cone.radius * 60.0:.6f}"),
        ("out_csys", "Equatorial"),
        ("out_equinox", "J2000.0"),
        ("obj_sort", "RA or Longitude"),
    )
    return Request("ned", "/cgi-bin/objsearch", "catalogue", "votable", query=query)


def parse_sdss(content: bytes) -> pa.Table:
    """Return the galaxies of a SkyServer answer to `SDSS_QUERY` in CSV."""
    text = content.decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    rows = list(csv.DictReader(StringIO("\n".join(lines))))
    header = lines[0].lower() if lines else ""
    if not header.startswith("objid,"):
        if "no objects have been found" in text.lower():
            return known_table(0)
        raise BadAnswerError(f"SDSS: not a table of objects: {shown(content)}")
    rows = [{name.lower(): value for name, value in row.items()} for row in rows]
    rows = [row for row in rows if row["type"] in ("3", "GALAXY")]
    quasar = np.array([row["class"] == "QSO" for row in rows], dtype=bool)
    return known_table(
        len(rows),
        object_id=[f"SDSS {row['objid']}" for row in rows],
        kind="galaxy",
        **{"class": np.where(quasar, "qso", "galaxy").tolist()},
        ra=_numbers(rows, "ra"),
        dec=_numbers(rows, "dec"),
        magnitude=_numbers(rows, "modelmag_r"),
        magnitude_band="r",
        radius_arcsec=_numbers(rows, "petror50_r"),
        redshift=_numbers(rows, "z"),
        catalogue="SDSS",
        confidence=0.95,
    )


def _numbers(rows: list[dict[str, str]], name: str) -> np.ndarray:
    """Return a column of numbers; ``null`` and -9999 are missing."""
    texts = [row[name] for row in rows]
    values = np.array([np.nan if t in ("", "null", "NULL") else float(t) for t in texts], dtype=float)
    return np.where(values <= -999.0, np.nan, values)


def parse_ned(content: bytes) -> pa.Table:
    """Return the galaxies and quasars of a NED answer (``objsearch``, VOTable); NED has no sizes there."""
    columns = read_votable(content, service="NED")
    types = columns.get("type", np.empty(0, object))
    keep = np.flatnonzero([t in _NED_GALAXIES for t in types])
    if not keep.size:
        return known_table(0)
    magnitudes = [_magnitude(text) for text in columns["magnitude and filter"][keep]]
    return known_table(
        keep.size,
        object_id=columns["object name"][keep],
        kind="galaxy",
        **{"class": np.where(types[keep] == "QSO", "qso", "galaxy").tolist()},
        ra=columns["ra(deg)"][keep] if "ra(deg)" in columns else columns["ra"][keep],
        dec=columns["dec(deg)"][keep] if "dec(deg)" in columns else columns["dec"][keep],
        magnitude=[value for value, _ in magnitudes],
        magnitude_band=[band for _, band in magnitudes],
        redshift=columns["redshift"][keep],
        catalogue="NED",
        confidence=0.9,
    )


def _magnitude(text: str | None) -> tuple[float | None, str | None]:
    """Return value and band of NED's text, such as ``14.2g`` or ``>15.0``; None where there is none."""
    found = re.match(r"[<>~ ]*(\d+\.?\d*)\s*(\S*)", text or "")
    return (float(found[1]), found[2] or None) if found else (None, None)
