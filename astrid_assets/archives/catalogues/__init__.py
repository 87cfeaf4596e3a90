"""Catalogue services: what they are asked, and their answers parsed into one table of known objects.

Each parser takes the bytes of an answer and nothing else; none opens a socket. An answer that says
that nothing is there gives a table without rows, one that is no answer raises `BadAnswerError`, one
that reports an outage `ArchiveUnavailableError`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from astrid_assets.archives.catalogues.columns import KNOWN_COLUMNS, for_exposure, known_schema, known_table
from astrid_assets.archives.catalogues.cones import join_parts
from astrid_assets.archives.catalogues.galaxies import parse_ned, parse_sdss
from astrid_assets.archives.catalogues.panstarrs import parse_ps1
from astrid_assets.archives.catalogues.simbad import parse_simbad
from astrid_assets.archives.catalogues.solar_system import parse_skybot
from astrid_assets.archives.catalogues.stars import parse_gaia, parse_vsx
from astrid_assets.archives.catalogues.transients import parse_bts, parse_tns

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "KNOWN_COLUMNS",
    "PARSERS",
    "for_exposure",
    "known_schema",
    "known_table",
    "parse_bts",
    "parse_gaia",
    "parse_ned",
    "parse_ps1",
    "parse_sdss",
    "parse_simbad",
    "parse_skybot",
    "parse_tns",
    "parse_vsx",
]

_PARSERS = {
    "gaia": parse_gaia,
    "ps1": parse_ps1,
    "vsx": parse_vsx,
    "sdss": parse_sdss,
    "ned": parse_ned,
    "simbad": parse_simbad,
    "tns": parse_tns,
    "bts": parse_bts,
    "skybot": parse_skybot,
}

PARSERS: dict[str, Callable[[bytes], pa.Table]] = {
    name: partial(join_parts, parse) for name, parse in _PARSERS.items()
}
"""Parser of each format of answers; takes what was sent in several parts, and each row once."""
