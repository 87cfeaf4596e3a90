"""Bodies of the solar system: IMCCE's SkyBoT, asked for the middle of an exposure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.votable import read_votable
from astrid_assets.archives.transport.request import Request

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.protocol import Cone

__all__ = ["GEOCENTRE", "OBSERVATORIES", "SKYBOT_RADIUS", "parse_skybot", "skybot_request"]

SKYBOT_RADIUS = 10.0
"""Largest radius of the service, degrees (its documentation)."""

GEOCENTRE = "500"
"""Code of the centre of the Earth."""

OBSERVATORIES = {
    "ztf": "I41",
    "ps1": "F51",
    "decam": "W84",
    "sdss": "645",
    "hst": "250",
    "jwst-nircam": "274",
    "tess": "C57",
    "wise": "C51",
}
"""Code of the Minor Planet Center by survey. A body at 1 au shifts by 9 arcsec over the Earth's radius."""

_LARGEST_ERROR = 120.0
"""Arcsec: bodies with a worse ephemeris are left out; the most that the service takes."""

_MJD_ZERO = 2400000.5
"""Julian date of MJD 0."""

_ERROR_SCALE = 5.0
"""Arcsec of ephemeris error at which a match is as good as none: confidence falls linearly to 0.5."""


def skybot_request(cone: Cone, *, observatory: str) -> Request:
    """Return the search for asteroids, planets and comets in a circle at its time.

    astroquery's ``Skybot`` takes its address from a list that changed at the server (#3595) and cannot
    be set for a test; the question is one GET. Positions of past epochs are kept for ever.

    Parameters
    ----------
    cone
        The circle, with a time.

    observatory
        Code of the Minor Planet Center, from `OBSERVATORIES`, or `GEOCENTRE`.
    """
    if cone.mjd is None:
        msg = "SkyBoT needs a time: bodies move"
        raise ValueError(msg)
    query = (
        ("-ra", f"{cone.ra:.8f}"),
        ("-dec", f"{cone.dec:.8f}"),
        ("-rd", f"{cone.radius:.8f}"),
        ("-ep", f"{cone.mjd + _MJD_ZERO:.8f}"),
        ("-loc", observatory),
        ("-filter", f"{_LARGEST_ERROR:g}"),
        ("-objFilter", "111"),
        ("-refsys", "EQJ2000"),
        ("-output", "all"),
        ("-mime", "votable"),
    )
    path = "/webservices/skybot/api/conesearch.php"
    return Request("skybot", path, "ephemeris", "votable", query=query)


def parse_skybot(content: bytes) -> pa.Table:
    """Return the bodies of a SkyBoT cone search (VOTable), numbered ones by their number."""
    columns = read_votable(content, service="SkyBoT")
    count = len(columns.get("name", ()))
    if not count:
        return known_table(0)
    east, north = columns["dracosdec"], columns["ddec"]
    error = np.nan_to_num(columns["errpos"])
    return known_table(
        count,
        object_id=[_name(*pair) for pair in zip(columns["num"], columns["name"], strict=True)],
        kind="solar_system",
        **{"class": columns["class"]},
        ra=[15.0 * _sexagesimal(text) for text in columns["ra"]],
        dec=[_sexagesimal(text) for text in columns["dec"]],
        magnitude=columns["mv"],
        magnitude_band="V",
        rate_arcsec_min=np.hypot(east, north) / 60.0,
        position_angle=np.degrees(np.arctan2(east, north)) % 360.0,
        position_error_arcsec=error,
        catalogue="SkyBoT",
        confidence=np.clip(0.99 - 0.5 * error / _ERROR_SCALE, 0.5, 0.99),
    )


def _name(number: str, name: str) -> str:
    """Return ``(number) name``; the number is ``-`` for bodies without one."""
    return name if number in ("-", "", None) else f"({number}) {name}"


def _sexagesimal(text: str) -> float:
    """Return ``+dd mm ss.s`` in the unit of its first part."""
    first, minutes, seconds = text.split()
    sign = -1.0 if first.startswith("-") else 1.0
    return sign * (abs(float(first)) + float(minutes) / 60.0 + float(seconds) / 3600.0)
