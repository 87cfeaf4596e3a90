"""Answers of catalogue services, parsed into one table of known objects.

Each parser takes the bytes of an answer and nothing else; none opens a socket. An answer that says
that nothing is there gives a table without rows, one that is no answer raises `BadAnswerError`, one
that reports an outage `ArchiveUnavailableError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from astrid_assets.archives.catalogues.columns import KNOWN_COLUMNS, for_exposure, known_schema, known_table
from astrid_assets.archives.catalogues.galaxies import parse_ned, parse_sdss
from astrid_assets.archives.catalogues.solar_system import parse_skybot
from astrid_assets.archives.catalogues.stars import parse_gaia, parse_vsx
from astrid_assets.archives.catalogues.transients import parse_tns

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "KNOWN_COLUMNS",
    "PARSERS",
    "for_exposure",
    "known_schema",
    "known_table",
    "parse_gaia",
    "parse_ned",
    "parse_sdss",
    "parse_skybot",
    "parse_tns",
    "parse_vsx",
]

PARSERS: dict[str, Callable[[bytes], pa.Table]] = {
    "gaia": parse_gaia,
    "vsx": parse_vsx,
    "sdss": parse_sdss,
    "ned": parse_ned,
    "tns": parse_tns,
    "skybot": parse_skybot,
}
"""Parser of each format of answers."""
