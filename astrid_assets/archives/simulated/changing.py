"""What changes in the simulated sky: transients, variable stars, asteroids.

Light-curve shapes are analytic; rise and decline times are those measured on published templates
(Nugent/Hsiao, Vincenzi et al. 2019), asteroid rates those of the main belt. All times are MJD (UTC).
The rate of transients is far above nature's, so that a few images hold enough of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from math import ceil, cos, exp, floor, radians, sin

import numpy as np

from astrid_assets.archives.simulated.ephemeris import ecliptic_latitude
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.sky import (
    VARIABLE_KINDS,
    Cell,
    Galaxies,
    Stars,
    cell_objects,
)
from astrid_assets.archives.simulated.tile import Tile

__all__ = [
    "Asteroids",
    "Transients",
    "asteroids",
    "trail",
    "transient_magnitudes",
    "transients",
    "variability",
]


@dataclass(frozen=True)
class _Class:
    """A class of transients; the light curve is exp(-t/fall) / (1 + exp(-t/rise)), cut after a plateau."""

    name: str
    weight: float
    rise: dict[str, float]
    fall: dict[str, float]
    plateau: float
    colour: float
    hosted: float


_CLASSES = (
    _Class("sn_ia", 0.35, {"g": 3.6, "r": 3.8, "i": 4.0}, {"g": 16.0, "r": 19.0, "i": 24.0}, 0.0, -0.1, 0.9),
    _Class("sn_ibc", 0.12, {"g": 3.2, "r": 4.0, "i": 4.3}, {"g": 14.0, "r": 24.0, "i": 28.0}, 0.0, 0.4, 0.9),
    _Class("sn_iip", 0.18, {"g": 2.0, "r": 2.2, "i": 2.4}, {"g": 45.0, "r": 90.0, "i": 99.0}, 95.0, 0.2, 0.9),
    _Class("sn_iin", 0.07, {"g": 6.0, "r": 6.5, "i": 7.0}, {"g": 40.0, "r": 55.0, "i": 60.0}, 0.0, 0.0, 0.8),
    _Class("tde", 0.05, {"g": 8.0, "r": 8.0, "i": 8.0}, {"g": 45.0, "r": 50.0, "i": 55.0}, 0.0, -0.2, 1.0),
    _Class(
        "cataclysmic", 0.15, {"g": 0.5, "r": 0.5, "i": 0.5}, {"g": 6.0, "r": 6.5, "i": 7.0}, 0.0, 0.0, 0.0
    ),
    _Class("fast", 0.08, {"g": 0.8, "r": 0.9, "i": 1.0}, {"g": 3.5, "r": 5.0, "i": 7.0}, 0.0, 0.2, 0.7),
)

_SLOT = 40
"""Transients are drawn for each cell and each span of so many days."""

_TURNS = 28
"""Slots between the turns of a galaxy: three years."""

_MEMORY = 220.0
"""Days after which every transient has faded."""

_BRIGHTEST, _FAINTEST, _SLOPE = 16.8, 21.3, 0.12
"""Range of the peak magnitudes in r and the slope of their counts."""

_VISIBLE = 23.0
"""Magnitude beyond which a transient is left out: S/N below 1."""


@dataclass(frozen=True, eq=False)
class Transients:
    """Transients with a light curve; arrays of shape ``(n,)``."""

    ident: np.ndarray
    """Names, unique in the universe of a seed."""

    kind: np.ndarray
    """Index of the class."""

    ra: np.ndarray
    """ICRS degrees."""

    dec: np.ndarray
    """ICRS degrees."""

    peak_r: np.ndarray
    """AB magnitude in r at peak."""

    mjd_peak: np.ndarray
    """MJD of the peak in r."""

    stretch: np.ndarray
    """Factor on all time scales."""

    colour: np.ndarray
    """g - r at peak, mag."""

    host: np.ndarray
    """Name of the host galaxy; empty where there is none."""

    @property
    def kind_name(self) -> list[str]:
        """Names of the classes."""
        return [_CLASSES[k].name for k in self.kind]


def transients(tile: Tile, cells: Iterable[Cell], first: float, last: float) -> Transients:
    """Return the transients in some cells that may be visible in a span of time."""
    slots = range(floor((first - _MEMORY) / _SLOT), floor((last + 60.0) / _SLOT) + 1)
    rate = round(tile.transient_rate * 1e6)
    parts = [_drawn(tile.seed, rate, cell, slot) for cell in cells for slot in slots]
    return Transients(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Transients)))


@lru_cache(maxsize=4096)
def _drawn(seed: int, micro_rate: int, cell: Cell, slot: int) -> Transients:
    """Return the transients that peak in a cell during a slot."""
    rng = generator("transients", seed, micro_rate, cell.row, cell.column, slot)
    count = int(rng.poisson(micro_rate * 1e-6 * cell.area * _SLOT))
    kind = rng.choice(len(_CLASSES), count, p=np.array([c.weight for c in _CLASSES]))
    ra, dec, host = _places(rng, seed, cell, slot, kind)
    low, high = 10 ** (_SLOPE * _BRIGHTEST), 10 ** (_SLOPE * _FAINTEST)
    return Transients(
        ident=np.array([f"sim-{cell.row}-{cell.column}-{slot}-{i}" for i in range(count)], dtype="U32"),
        kind=kind,
        ra=ra,
        dec=dec,
        peak_r=np.log10(low + (high - low) * rng.random(count)) / _SLOPE,
        mjd_peak=_SLOT * (slot + rng.random(count)),
        stretch=np.clip(rng.normal(1.0, 0.1, count), 0.7, 1.3),
        colour=np.array([_CLASSES[k].colour for k in kind]) + rng.normal(0.0, 0.08, count),
        host=host,
    )


def _places(
    rng: np.random.Generator, seed: int, cell: Cell, slot: int, kind: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return (ra, dec, host name): in galaxies, weighted by light and following it, or anywhere.

    Galaxies take turns, so that none hosts a transient in the science image and another one in
    the reference: a real galaxy does so once in a thousand cases.
    """
    _, galaxies = cell_objects(seed, cell)
    count = kind.size
    ra, dec = cell.ra + cell.width * rng.random(count), cell.dec + 0.1 * rng.random(count)
    host = np.full(count, "", dtype="U24")
    hosted = rng.random(count) < np.array([_CLASSES[k].hosted for k in kind])
    nuclear = np.array([_CLASSES[k].name == "tde" for k in kind], dtype=bool) | (rng.random(count) < 0.12)
    radius, turn, pick = rng.gamma(2.0, 0.6, count), 2 * np.pi * rng.random(count), rng.random(count)
    if galaxies.ra.size == 0:
        return ra, dec, host
    turns = _TURNS
    waiting = np.arange(galaxies.ra.size) % turns != slot % turns
    weight = np.where(waiting, 0.0, 10 ** (-0.2 * galaxies.mag_r))
    chosen = np.zeros(count, int)
    for i in range(count):
        total = np.cumsum(weight)
        if total[-1] <= 0:
            hosted[i:] = False
            break
        chosen[i] = np.searchsorted(total, pick[i] * total[-1]).clip(max=galaxies.ra.size - 1)
        weight[chosen[i]] = 0.0
    at_ra, at_dec = _in_galaxies(galaxies, chosen, np.where(nuclear, 0.0, radius), turn)
    return (
        np.where(hosted, at_ra, ra),
        np.where(hosted, at_dec, dec),
        np.where(hosted, galaxies.ident[chosen], host),
    )


def _in_galaxies(
    galaxies: Galaxies, chosen: np.ndarray, radius: np.ndarray, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions at a radius (half-light radii) and an angle within galaxies."""
    size = galaxies.radius[chosen] * radius / 3600.0
    angle = np.radians(galaxies.angle[chosen])
    major, minor = size * np.cos(turn), size * np.sin(turn) * galaxies.axis_ratio[chosen]
    east = major * np.sin(angle) - minor * np.cos(angle)
    dec = galaxies.dec[chosen] + major * np.cos(angle) + minor * np.sin(angle)
    return galaxies.ra[chosen] + east / np.cos(np.radians(dec)), dec


def transient_magnitudes(found: Transients, mjd: float, band: str) -> np.ndarray:
    """Return AB magnitudes in a band at a time; infinite where the transient is not visible."""
    phase = (mjd - found.mjd_peak) / found.stretch
    relative = np.zeros(phase.size)
    for code, kind in enumerate(_CLASSES):
        own = found.kind == code
        if own.any():
            relative[own] = _light_curve(kind, band, phase[own])
    shift = {"g": 1.0, "r": 0.0, "i": -0.3}[band] * found.colour
    with np.errstate(divide="ignore"):
        mag = found.peak_r + shift - 2.5 * np.log10(relative)
    return np.where((phase > -60) & (phase < _MEMORY) & (mag < _VISIBLE), mag, np.inf)


def _light_curve(kind: _Class, band: str, phase: np.ndarray) -> np.ndarray:
    """Return the flux relative to the peak at days from the peak."""
    rise, fall = kind.rise[band], kind.fall[band]
    top = rise * np.log(fall / rise - 1.0)  # where the derivative of the function below vanishes
    peak = exp(-top / fall) / (1.0 + exp(-top / rise))
    t = phase + top
    flux = np.exp(-t / fall) / (1.0 + np.exp(np.clip(-t / rise, None, 60.0))) / peak
    if kind.plateau:  # drop of two magnitudes in three weeks, then the decay of cobalt-56
        flux = flux * (0.15 + 0.85 / (1.0 + np.exp((phase - kind.plateau) / 5.0)))
    return flux


def variability(stars: Stars, mjd: float, band: str) -> np.ndarray:
    """Return the magnitude of each point source minus its mean at a time."""
    change = np.zeros(stars.ra.size)
    varies = np.flatnonzero(stars.kind)
    kind, amplitude = stars.kind[varies], stars.amplitude[varies] * {"g": 1.25, "r": 1.0, "i": 0.8}[band]
    phase = (mjd / stars.period[varies] + stars.phase[varies]) % 1.0
    angle = 2 * np.pi * phase
    shapes = {
        "rrab": np.where(phase < 0.85, phase / 0.85, (1.0 - phase) / 0.15) - 0.5,
        "contact": 0.5 * np.cos(2 * angle),
        "eclipsing": np.exp(-0.5 * ((phase - 0.5) / 0.03) ** 2),
        "longperiod": 0.5 * np.sin(angle),
        "nucleus": _flicker(mjd, stars.phase[varies]),
    }
    curves = np.stack([np.zeros(varies.size), *(shapes[name] for name in VARIABLE_KINDS[1:])])
    change[varies] = amplitude * curves[kind, np.arange(varies.size)]
    return change


def _flicker(mjd: float, phase: np.ndarray) -> np.ndarray:
    """Return a red-noise curve of unit amplitude: twelve sine waves, amplitude growing with the period."""
    period = 8.0 * 1.55 ** np.arange(12)
    start = (phase[:, None] * 1000.0 * (1.0 + np.arange(12))) % 1.0
    waves = np.sin(2 * np.pi * (mjd / period + start)) * np.sqrt(period)
    return waves.sum(axis=1) / np.sqrt(period.sum() / 2) * 0.5


@dataclass(frozen=True, eq=False)
class Asteroids:
    """Moving objects during one exposure; arrays of shape ``(n,)``."""

    ident: np.ndarray
    """Names."""

    ra: np.ndarray
    """ICRS degrees at mid-exposure."""

    dec: np.ndarray
    """ICRS degrees at mid-exposure."""

    rate: np.ndarray
    """Arcsec per minute."""

    direction: np.ndarray
    """Degrees from north through east."""

    mag_r: np.ndarray
    """AB magnitude in r."""


def asteroids(tile: Tile, cells: Iterable[Cell], night: int, mjd: float) -> Asteroids:
    """Return the asteroids of some cells around a tile: new ones every night, moving through it.

    About 20 per square degree to r = 20.5 at the ecliptic (Jedicke et al. 2002), fewer away from
    it; rates 0.3 to 0.8 arcsec / min, one in twenty-five a near-Earth object of up to 15.
    """
    density = 25.0 * exp(-abs(ecliptic_latitude(tile.ra, tile.dec)) / 12.0) + 1.5
    parts = [_night_of(tile.seed, cell, night, ceil(density * 1000)) for cell in cells]
    ident, ra, dec, rate, direction, mag = (np.concatenate(column) for column in zip(*parts, strict=True))
    travelled = rate * (mjd - night - 0.3) * 1440.0 / 3600.0
    dec_now = dec + travelled * np.cos(np.radians(direction))
    ra_now = ra + travelled * np.sin(np.radians(direction)) / np.cos(np.radians(dec_now))
    return Asteroids(ident, ra_now, dec_now, rate, direction, mag)


def _night_of(seed: int, cell: Cell, night: int, milli_density: int) -> tuple[np.ndarray, ...]:
    rng = generator("asteroids", seed, cell.row, cell.column, night)
    count = int(rng.poisson(milli_density * 1e-3 * cell.area))
    near = rng.random(count) < 0.04
    rate = np.where(near, rng.uniform(3.0, 15.0, count), rng.uniform(0.3, 0.8, count))
    direction = np.where(near, 360.0 * rng.random(count), rng.normal(290.0, 10.0, count))
    mag = 21.0 + np.log10(rng.random(count) + 1e-3) / 0.45
    ident = np.array([f"ast-{cell.row}-{cell.column}-{night}-{i}" for i in range(count)], dtype="U32")
    position = cell.ra + cell.width * rng.random(count), cell.dec + 0.1 * rng.random(count)
    return ident, *position, rate, direction, mag


def trail(rate: float, direction: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets (east, north) in arcsec of points along the path during an exposure."""
    length = rate * seconds / 60.0
    along = np.linspace(-0.5, 0.5, 3 + 2 * ceil(length)) * length
    return along * sin(radians(direction)), along * cos(radians(direction))
