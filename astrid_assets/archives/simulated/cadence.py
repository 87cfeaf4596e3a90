"""When the simulated survey looks at a tile: a calendar that goes on for ever and never changes its past.

Each night is decided by random numbers of its own, so that moving the clock on only adds visits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor

from astrid_assets.archives.simulated import ephemeris
from astrid_assets.archives.simulated.seeds import uniform
from astrid_assets.archives.simulated.survey import BANDS, EXPTIME, SURVEY_START
from astrid_assets.archives.simulated.tile import Tile

__all__ = ["Visit", "visit_on", "visits"]

_BLOCK, _IN_BLOCK = 5, (0, 2)
"""Every block of five nights has two visits, two nights apart, from a random one of the first three on."""

_SPELL, _STORMY_SPELLS, _LOST_FAIR, _LOST_STORMY = 3, 0.25, 0.10, 0.70
"""Weather comes in spells of three nights; a quarter of them are stormy. About 25 % of the nights are lost
(Bellm et al. 2019 expect 260 usable nights a year)."""

_TWILIGHT = -12.0
"""Altitude of the Sun in degrees below which the survey observes."""

_LOWEST = 25.0
"""Altitude in degrees above which fields are observed: airmass 2.35."""

_MOON_DISTANCE = 28.0
"""Degrees from a Moon more than half full within which fields are left out (as schedulers do)."""

_STEP = 0.01
"""Grid in days on which the best time of a night is sought."""


@dataclass(frozen=True, order=True)
class Visit:
    """One exposure of a tile."""

    mjd_start: float
    """Shutter opens, MJD (UTC)."""

    band: str
    """Filter."""

    night: int
    """Number of the night: the MJD in which it lies over Palomar."""

    @property
    def mjd_mid(self) -> float:
        """Middle of the exposure, MJD (UTC)."""
        return self.mjd_start + EXPTIME / 172800.0

    @property
    def mjd_end(self) -> float:
        """Shutter closes, MJD (UTC)."""
        return self.mjd_start + EXPTIME / 86400.0

    @property
    def filefracday(self) -> str:
        """ZTF's name of the exposure: the date and a millionth part of the day, ``YYYYMMDDffffff``."""
        from datetime import date

        day = date.fromordinal(self.night + date(1858, 11, 17).toordinal())
        return f"{day:%Y%m%d}{round((self.mjd_start - self.night) * 1e6):06d}"


def visits(tile: Tile, band: str, start: float, end: float) -> Iterator[Visit]:
    """Yield the visits of a tile in one band that begin in ``[start, end)``, in order of time.

    Parameters
    ----------
    tile
        The pointing.

    band
        Canonical filter name, from `survey.BANDS`.

    start, end
        MJD (UTC).
    """
    for night in range(max(SURVEY_START, floor(start)), ceil(end)):
        if _scheduled(tile, band, night) and not _lost(tile.seed, night):
            moment = _moment(tile, band, night)
            if moment is not None and start <= moment < end:
                yield Visit(mjd_start=moment, band=band, night=night)


def visit_on(tile: Tile, band: str, night: int) -> Visit:
    """Return the visit of a night that `visits` yields for it.

    Raises
    ------
    ValueError
        The tile cannot be observed in that night.
    """
    moment = _moment(tile, band, night)
    if moment is None:
        msg = f"ra {tile.ra} dec {tile.dec} cannot be observed in night {night}"
        raise ValueError(msg)
    return Visit(mjd_start=moment, band=band, night=night)


def _scheduled(tile: Tile, band: str, night: int) -> bool:
    block = night // _BLOCK
    first = floor(tile.chance("block", block) * 3)
    if night % _BLOCK - first not in _IN_BLOCK:
        return False
    return tile.chance("band", band, night) < BANDS[band].cadence


def _lost(seed: int, night: int) -> bool:
    stormy = uniform("spell", seed, night // _SPELL) < _STORMY_SPELLS
    return uniform("weather", seed, night) < (_LOST_STORMY if stormy else _LOST_FAIR)


def _moment(tile: Tile, band: str, night: int) -> float | None:
    """Return when the shutter opens, whole microdays; None if not up in the dark or beside the Moon."""
    sun, moon = ephemeris.sun_position(night + 0.3), ephemeris.moon_position(night + 0.3)
    bright = abs(ephemeris.moon_illumination(night + 0.3)) > 0.5
    if bright and ephemeris.separation(moon, (tile.ra, tile.dec)) < _MOON_DISTANCE:
        return None
    grid = [night + 0.05 + _STEP * i for i in range(51)]
    dark = [t for t in grid if ephemeris.altitude(t, *sun) < _TWILIGHT]
    heights = {t: ephemeris.altitude(t, tile.ra, tile.dec) for t in dark}
    best = max(heights.values(), default=-90.0)
    if best < _LOWEST:
        return None
    usable = [t for t, height in heights.items() if height > max(_LOWEST, best - 15.0)]
    chosen = usable[floor(tile.chance("time", band, night) * len(usable))]
    jitter = floor(tile.chance("second", band, night) * 9000) - 4500
    return night + (round((chosen - night) * 1e6) + jitter) / 1e6
