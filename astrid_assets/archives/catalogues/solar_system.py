"""Bodies of the solar system: IMCCE's SkyBoT, asked for the middle of an exposure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.votable import read_votable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["parse_skybot"]

_ERROR_SCALE = 5.0
"""Arcsec of ephemeris error at which a match is as good as none: confidence falls linearly to 0.5."""


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
