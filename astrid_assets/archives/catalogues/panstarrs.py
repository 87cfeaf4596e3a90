"""Mean objects of Pan-STARRS DR2 from MAST's catalogue service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.votable import Columns, shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.protocol import Cone

__all__ = ["PS1_RADIUS", "PS1_ROWS", "is_star", "julian_year", "parse_ps1", "ps1_request", "read_mast_table"]

PS1_ROWS = 50_000
"""Rows of one answer; the service gives 50 001 at most unless told otherwise (its documentation)."""

PS1_RADIUS = 0.5
"""Largest radius of the service, degrees (its documentation)."""

_COLUMNS = (
    "objID",
    "raMean",
    "decMean",
    "raMeanErr",
    "decMeanErr",
    "epochMean",
    "nDetections",
    "rMeanPSFMag",
    "iMeanPSFMag",
    "iMeanKronMag",
)

_LEAST_DETECTIONS = 3
"""Objects seen less often are mostly no objects (Chambers et al. 2016, section 6)."""

_STAR_DIFFERENCE = 0.05
"""PSF minus Kron magnitude in i below which an object is a point (STScI, "How to separate stars and
galaxies"; good to i = 21)."""

_MISSING = -999.0


def ps1_request(cone: Cone, *, max_rows: int = PS1_ROWS) -> Request:
    """Return the search for the mean objects in a circle of at most `PS1_RADIUS`."""
    query = (
        ("ra", f"{cone.ra:.8f}"),
        ("dec", f"{cone.dec:.8f}"),
        ("radius", f"{cone.radius:.8f}"),
        ("nDetections.gte", str(_LEAST_DETECTIONS)),
        ("pagesize", str(max_rows)),
        ("columns", f"[{','.join(_COLUMNS)}]"),
    )
    path = "/api/v0.1/panstarrs/dr2/mean.json"
    return Request("ps1_catalog", path, "catalogue", "json", query=query)


def read_mast_table(content: bytes) -> Columns:
    """Return the columns of an answer of MAST's catalogue service by name in lower case; -999 is missing.

    Raises
    ------
    BadAnswerError
        It is no such table, or rows and columns do not fit.
    """
    try:
        document = json.loads(content)
        info, rows = document["info"], document["data"]
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(info)
        return {
            field["name"].lower(): _column(values, field["type"])
            for field, values in zip(info, columns, strict=True)
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadAnswerError(f"PS1: not a table of objects: {shown(content)}") from error


def _column(values: tuple, kind: str) -> np.ndarray:
    if kind not in ("double", "float"):
        return np.array(values, dtype=object)
    numbers = np.array([np.nan if v is None else v for v in values], dtype=float)
    return np.where(numbers == _MISSING, np.nan, numbers)


def is_star(psf_magnitude: np.ndarray, kron_magnitude: np.ndarray) -> np.ndarray:
    """Return which objects are points by their PSF and Kron magnitudes in i; those without are."""
    difference = psf_magnitude - kron_magnitude
    return ~(difference >= _STAR_DIFFERENCE)


def julian_year(mjd: np.ndarray) -> np.ndarray:
    """Return the Julian year of a time."""
    return 2000.0 + (mjd - 51544.5) / 365.25


def parse_ps1(content: bytes) -> pa.Table:
    """Return the stars and galaxies of an answer to `ps1_request`."""
    columns = read_mast_table(content)
    count = len(columns.get("objid", ()))
    if not count:
        return known_table(0)
    if not {name.lower() for name in _COLUMNS} <= columns.keys():
        raise BadAnswerError(f"PS1: columns are missing: {', '.join(columns)}")
    kinds = np.where(is_star(columns["imeanpsfmag"], columns["imeankronmag"]), "star", "galaxy").tolist()
    return known_table(
        count,
        object_id=[f"PS1 {number}" for number in columns["objid"]],
        kind=kinds,
        **{"class": kinds},
        ra=columns["ramean"],
        dec=columns["decmean"],
        ref_epoch=julian_year(columns["epochmean"]),
        magnitude=columns["rmeanpsfmag"],
        magnitude_band="r",
        position_error_arcsec=np.fmax(columns["rameanerr"], columns["decmeanerr"]),
        catalogue="PS1",
        confidence=0.9,
    )
