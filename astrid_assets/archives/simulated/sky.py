"""The one catalogue of the simulated sky: stars and galaxies, drawn cell by cell.

The sky is cut into cells of 0.1 degrees; a cell's objects depend on the seed and the cell alone, so
that overlapping fields see the same sky. Stellar density follows the galactic latitude.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from math import asin, ceil, cos, degrees, floor, radians, sin

import numpy as np

from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.tile import Tile

__all__ = [
    "VARIABLE_KINDS",
    "Cell",
    "Galaxies",
    "Patch",
    "Stars",
    "band_magnitude",
    "cell_objects",
    "cells_around",
    "objects_around",
    "patch",
    "star_positions",
]

CELL = 0.1
"""Side of a cell, degrees."""

_EPOCH = 58849.0
"""MJD of the positions of stars, 2020.0."""

_FAINTEST = 21.8
"""r magnitude of the faintest objects; about half a magnitude below the 5 sigma limit."""

_BRIGHTEST_STAR, _BRIGHTEST_GALAXY = 9.8, 14.5
"""r magnitude of the brightest objects."""

_STAR_SLOPE, _GALAXY_SLOPE = 0.20, 0.45
"""Logarithmic slopes of the counts per magnitude (Bahcall & Soneira 1980; Yasuda et al. 2001)."""

_STARS_AT_POLE, _STARS_RISE = 3500.0, 7.0
"""Stars per square degree to the limit at the pole, and the factor by which the plane has more (exponent)."""

_GALAXY_DENSITY = 4200.0
"""Galaxies per square degree to the limit."""

_VARIABLE_SHARE, _ACTIVE_SHARE = 0.025, 0.02
"""Share of stars that vary visibly, and of galaxies with a varying nucleus."""

_POLE = radians(192.85948), radians(27.12825)
"""North galactic pole, ICRS."""

VARIABLE_KINDS = ("none", "rrab", "contact", "eclipsing", "longperiod", "nucleus")
"""Kinds of variability, by code."""


@dataclass(frozen=True, eq=False)
class Stars:
    """Point sources; arrays of shape ``(n,)``."""

    ident: np.ndarray
    """Names, unique in the universe of a seed."""

    ra: np.ndarray
    """ICRS degrees at epoch 2020.0."""

    dec: np.ndarray
    """ICRS degrees at epoch 2020.0."""

    mag_r: np.ndarray
    """Mean AB magnitude in r."""

    colour: np.ndarray
    """g - r, mag."""

    pm_ra: np.ndarray
    """Proper motion, mas / year, times cos(dec)."""

    pm_dec: np.ndarray
    """Proper motion, mas / year."""

    kind: np.ndarray
    """Code of the variability, index into `VARIABLE_KINDS`."""

    period: np.ndarray
    """Days."""

    amplitude: np.ndarray
    """Peak to peak in r, mag."""

    phase: np.ndarray
    """0 to 1 at MJD 0."""


@dataclass(frozen=True, eq=False)
class Galaxies:
    """Extended sources; arrays of shape ``(n,)``."""

    ident: np.ndarray
    """Names, unique in the universe of a seed."""

    ra: np.ndarray
    """ICRS degrees."""

    dec: np.ndarray
    """ICRS degrees."""

    mag_r: np.ndarray
    """AB magnitude in r."""

    colour: np.ndarray
    """g - r, mag."""

    radius: np.ndarray
    """Half-light radius along the major axis, arcsec."""

    axis_ratio: np.ndarray
    """Minor over major axis."""

    angle: np.ndarray
    """Position angle, degrees from north through east."""

    sersic: np.ndarray
    """Sersic index."""


@dataclass(frozen=True)
class Cell:
    """A cell of the sky."""

    row: int
    """Counted from the south pole."""

    column: int
    """Counted from right ascension 0."""

    @property
    def dec(self) -> float:
        """Declination of the lower edge, degrees."""
        return -90.0 + self.row * CELL

    @property
    def width(self) -> float:
        """Extent in right ascension, degrees."""
        return 360.0 / _columns(self.row)

    @property
    def ra(self) -> float:
        """Right ascension of the lower edge, degrees."""
        return self.column * self.width

    @property
    def area(self) -> float:
        """Square degrees."""
        return degrees(sin(radians(self.dec + CELL)) - sin(radians(self.dec))) * self.width


def _columns(row: int) -> int:
    return max(1, round(360.0 * cos(radians(-90.0 + (row + 0.5) * CELL)) / CELL))


def cells_around(ra: float, dec: float, radius: float) -> Iterator[Cell]:
    """Yield the cells that a box around a position touches; degrees."""
    rows = floor((dec - radius + 90.0) / CELL), floor((dec + radius + 90.0) / CELL)
    for row in range(max(rows[0], 0), min(rows[1], round(180 / CELL) - 1) + 1):
        count = _columns(row)
        near_pole = abs(dec) + radius > 89.0
        reach = 180.0 if near_pole else radius / cos(radians(abs(dec) + radius))
        first, last = (floor((ra + side) / 360.0 * count) for side in (-reach, reach))
        for column in range(first, min(last, first + count - 1) + 1):
            yield Cell(row, column % count)


def band_magnitude(mag_r: np.ndarray, colour: np.ndarray, band: str) -> np.ndarray:
    """Return magnitudes in a band from r and g - r.

    The i band follows the stellar locus (Covey et al. 2007): shallow up to g - r = 1.2, steep beyond.
    """
    if band == "g":
        return mag_r + colour
    if band == "i":
        return mag_r - (0.36 * colour + 2.0 * np.clip(colour - 1.2, 0.0, None))
    return mag_r


def _counts_magnitudes(rng: np.random.Generator, count: int, bright: float, slope: float) -> np.ndarray:
    """Return magnitudes of exponential number counts between a bright end and the faint limit."""
    low, high = 10 ** (slope * bright), 10 ** (slope * _FAINTEST)
    return np.log10(low + (high - low) * rng.random(count)) / slope


def _positions(rng: np.random.Generator, cell: Cell, count: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = sin(radians(cell.dec)), sin(radians(cell.dec + CELL))
    ra = cell.ra + cell.width * rng.random(count)
    return ra, np.degrees(np.arcsin(low + (high - low) * rng.random(count)))


def _star_density(cell: Cell) -> float:
    """Return stars per square degree at a cell: exponential in the sine of the galactic latitude."""
    a, d = radians(cell.ra + cell.width / 2) - _POLE[0], radians(cell.dec + CELL / 2)
    sine = sin(d) * sin(_POLE[1]) + cos(d) * cos(_POLE[1]) * cos(a)
    latitude = abs(degrees(asin(max(-1.0, min(1.0, sine)))))
    return _STARS_AT_POLE * _STARS_RISE ** (1.0 - min(latitude, 90.0) / 75.0)


def _names(prefix: str, cell: Cell, count: int) -> np.ndarray:
    return np.array([f"{prefix}{cell.row:04d}{cell.column:04d}-{i}" for i in range(count)], dtype="U24")


def _draw_stars(seed: int, cell: Cell) -> Stars:
    rng = generator("stars", seed, cell.row, cell.column)
    count = int(rng.poisson(_star_density(cell) * cell.area))
    ra, dec = _positions(rng, cell, count)
    red = rng.random(count) < 0.45
    colour = np.where(red, rng.normal(1.35, 0.12, count), rng.normal(0.50, 0.15, count))
    speed = np.minimum(6.0 * np.exp(rng.normal(0.0, 1.0, count)), 800.0)
    direction = 2 * np.pi * rng.random(count)
    kind, period, amplitude = _draw_variability(rng, count, red)
    return Stars(
        ident=_names("star-", cell, count),
        ra=ra,
        dec=dec,
        mag_r=_counts_magnitudes(rng, count, _BRIGHTEST_STAR, _STAR_SLOPE),
        colour=colour,
        pm_ra=speed * np.sin(direction),
        pm_dec=speed * np.cos(direction),
        kind=kind,
        period=period,
        amplitude=amplitude,
        phase=rng.random(count),
    )


def _draw_variability(rng: np.random.Generator, count: int, red: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return code, period in days and amplitude in mag of each star.

    Periods and amplitudes: RR Lyrae 0.45 to 0.8 d, 0.5 to 1.2 mag; contact binaries 0.22 to 0.8 d, 0.1 to
    0.8 mag; detached 0.8 to 6 d; long-period variables (red stars) 80 to 400 d.
    """
    code = np.where(red, rng.choice([2, 3, 4], count), rng.choice([1, 2, 3], count))
    code = np.where(rng.random(count) < _VARIABLE_SHARE, code, 0)
    spread, height = rng.random(count), rng.random(count)
    low = np.array([1.0, 0.45, 0.22, 0.8, 80.0])[code]
    high = np.array([1.0, 0.80, 0.80, 6.0, 400.0])[code]
    least = np.array([0.0, 0.5, 0.1, 0.2, 0.3])[code]
    most = np.array([0.0, 1.2, 0.8, 1.2, 1.5])[code]
    return code, low * (high / low) ** spread, least + (most - least) * height


def _draw_galaxies(seed: int, cell: Cell) -> Galaxies:
    rng = generator("galaxies", seed, cell.row, cell.column)
    count = int(rng.poisson(_GALAXY_DENSITY * cell.area))
    ra, dec = _positions(rng, cell, count)
    mag = _counts_magnitudes(rng, count, _BRIGHTEST_GALAXY, _GALAXY_SLOPE)
    sersic = rng.choice([1.0, 1.0, 2.0, 4.0], count)
    colour = np.where(sersic > 3, rng.normal(0.95, 0.12, count), rng.normal(0.60, 0.18, count))
    # median of Shen et al. 2003 at the typical redshift of each magnitude
    radius = 3.0 * 10 ** (-0.13 * (mag - 17.0)) * np.exp(rng.normal(0.0, 0.3, count))
    return Galaxies(
        ident=_names("gal-", cell, count),
        ra=ra,
        dec=dec,
        mag_r=mag,
        colour=colour,
        radius=np.clip(radius, 0.3, 25.0),
        axis_ratio=rng.uniform(0.3, 1.0, count),
        angle=180.0 * rng.random(count),
        sersic=sersic,
    )


def _nuclei(seed: int, cell: Cell, galaxies: Galaxies) -> Stars:
    """Return the active nuclei of a cell's galaxies: point sources that vary."""
    rng = generator("nuclei", seed, cell.row, cell.column)
    chosen = np.flatnonzero(rng.random(galaxies.ra.size) < _ACTIVE_SHARE)
    count = chosen.size
    zero = np.zeros(count)
    return Stars(
        ident=np.array([f"agn{name[3:]}" for name in galaxies.ident[chosen]], dtype="U24"),
        ra=galaxies.ra[chosen],
        dec=galaxies.dec[chosen],
        mag_r=galaxies.mag_r[chosen] + rng.uniform(-0.5, 1.5, count),
        colour=rng.normal(0.25, 0.1, count),
        pm_ra=zero,
        pm_dec=zero,
        kind=np.full(count, VARIABLE_KINDS.index("nucleus")),
        period=np.full(count, 300.0),
        amplitude=rng.uniform(0.3, 1.0, count),
        phase=rng.random(count),
    )


@lru_cache(maxsize=512)
def cell_objects(seed: int, cell: Cell) -> tuple[Stars, Galaxies]:
    """Return what stands in a cell: stars together with active nuclei, and galaxies."""
    galaxies = _draw_galaxies(seed, cell)
    return _joined([_draw_stars(seed, cell), _nuclei(seed, cell, galaxies)]), galaxies


def objects_around(seed: int, ra: float, dec: float, radius: float) -> tuple[Stars, Galaxies]:
    """Return what stands in the cells that a box around a position touches; degrees."""
    stars, galaxies = zip(*(cell_objects(seed, c) for c in cells_around(ra, dec, radius)), strict=True)
    return _joined(list(stars)), _joined(list(galaxies))


def star_positions(stars: Stars, mjd: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (ra, dec) of stars at a time in degrees, by their proper motions; parallaxes are left out."""
    years = (mjd - _EPOCH) / 365.25
    dec = stars.dec + stars.pm_dec * years / 3.6e6
    return stars.ra + stars.pm_ra * years / 3.6e6 / np.cos(np.radians(stars.dec)), dec


def _joined(parts: list) -> Stars | Galaxies:
    kind = type(parts[0])
    return kind(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(kind)))


@dataclass(frozen=True, eq=False)
class Patch:
    """The catalogue around a tile."""

    cells: tuple[Cell, ...]
    """Cells that are covered."""

    stars: Stars
    """Point sources."""

    galaxies: Galaxies
    """Extended sources."""

    owner: np.ndarray
    """Galaxy that each point of light belongs to, ``(m,)``."""

    east: np.ndarray
    """Offset of each point from its galaxy towards east, arcsec, ``(m,)``."""

    north: np.ndarray
    """The same towards north."""

    share: np.ndarray
    """Share of the galaxy's light, ``(m,)``; sums to 1 for each."""


@lru_cache(maxsize=4)
def patch(tile: Tile) -> Patch:
    """Return the catalogue around a tile."""
    cells = tuple(cells_around(tile.ra, tile.dec, tile.radius))
    stars, galaxies = objects_around(tile.seed, tile.ra, tile.dec, tile.radius)
    return Patch(cells, stars, galaxies, *_galaxy_points(galaxies))


def _galaxy_points(galaxies: Galaxies) -> tuple[np.ndarray, ...]:
    """Return (owner, east, north, share): galaxies as rings of points, as smooth as the PSF can tell.

    Rings are closest at the centre and carry the light of their annulus; neighbouring rings are
    turned by the golden angle.
    """
    parts = [_rings(galaxies, i) for i in range(galaxies.ra.size)]
    owner = np.repeat(np.arange(len(parts)), [p.shape[1] for p in parts])
    return owner, *np.concatenate(parts, axis=1)


def _rings(galaxies: Galaxies, index: int) -> np.ndarray:
    radius, axis_ratio = galaxies.radius[index], galaxies.axis_ratio[index]
    detail = 1.0 if galaxies.mag_r[index] < 19.0 else 0.5  # faint ones drown in the noise
    rings, spokes = 6 + ceil(3.5 * detail * radius), 6 + ceil(11 * detail * radius)
    edges = 5.0 * radius * (np.arange(1, rings + 1) / rings) ** 2
    light = np.diff(_sersic_light(edges / radius, galaxies.sersic[index]), prepend=0.0)
    middle = (np.append(0.0, edges[:-1]) + edges) / 2
    turn = np.arange(rings)[:, None] * 2.39996 + 2 * np.pi * np.arange(spokes) / spokes
    major, minor = middle[:, None] * np.cos(turn), axis_ratio * middle[:, None] * np.sin(turn)
    angle = radians(galaxies.angle[index])
    east, north = major * sin(angle) - minor * cos(angle), major * cos(angle) + minor * sin(angle)
    share = np.broadcast_to((light / light.sum() / spokes)[:, None], east.shape)
    return np.stack([east.ravel(), north.ravel(), share.ravel()])


def _sersic_light(radius: np.ndarray, index: float) -> np.ndarray:
    """Return the light inside a radius in half-light radii (Ciotti & Bertin 1999, equation 18 for b)."""
    from scipy.special import gammainc

    b = 2 * index - 1 / 3 + 4 / (405 * index) + 46 / (25515 * index**2)
    return gammainc(2 * index, b * radius ** (1 / index))
