"""`Tile`: the piece of sky that the simulated survey watches for one field, and how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from math import ceil, cos, floor, hypot, radians
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.simulated.seeds import uniform
from astrid_assets.archives.simulated.survey import PIXEL_SCALE

if TYPE_CHECKING:
    from astrid_assets.fields import Field

__all__ = ["Tile"]

_ZONE = 7.0
"""Degrees between the rows of the survey's grid of fields; an image of 64 quadrants fills one."""


@dataclass(frozen=True)
class Tile:
    """Where one detector quadrant points for a field, and the options of the simulation."""

    seed: int
    """Seed of the universe: the same everywhere in the sky."""

    ra: float
    """Right ascension of the centre, ICRS degrees."""

    dec: float
    """Declination of the centre, ICRS degrees."""

    ny: int
    """Rows of an exposure."""

    nx: int
    """Columns of an exposure."""

    dirt: bool
    """Whether cosmic rays, trails, clouds and their like occur."""

    corrupt_rate: float
    """Share of the science files that arrive corrupt."""

    transient_rate: float
    """Transients per square degree and day."""

    @classmethod
    def of(cls, field: Field) -> Tile:
        """Return the tile of a field with ``simulated`` options."""
        options = field.simulated
        return cls(
            seed=options.seed,
            ra=round(field.ra % 360.0, 6),
            dec=round(field.dec, 6),
            ny=options.shape[0],
            nx=options.shape[1],
            dirt=options.dirt,
            corrupt_rate=options.corrupt_rate if options.corrupt else 0.0,
            transient_rate=options.transient_rate,
        )

    @property
    def key(self) -> tuple[int, ...]:
        """Key of random numbers that belong to the pointing."""
        return self.seed, round(self.ra * 1e6), round(self.dec * 1e6)

    @cached_property
    def radius(self) -> float:
        """Degrees from the centre within which an object can touch an exposure, wherever it points."""
        return (hypot(self.ny, self.nx) / 2 + 330) * PIXEL_SCALE / 3600.0

    @cached_property
    def detector(self) -> tuple[int, int, int]:
        """ZTF-like (field, ccd, quadrant) at the centre of the tile."""
        row = min(floor((self.dec + 90.0) / _ZONE), 25)
        middles = (min(abs(_ZONE * (i + 0.5) - 90.0), 89.0) for i in range(26))
        counts = [ceil(360.0 * cos(radians(middle)) / _ZONE) for middle in middles]
        along = self.ra / 360.0 * counts[row]
        field_id = 1 + sum(counts[:row]) + floor(along)
        sub_x, sub_y = floor(along % 1.0 * 8), floor(((self.dec + 90.0) / _ZONE) % 1.0 * 8)
        return field_id, 1 + sub_x // 2 + 4 * (sub_y // 2), 1 + sub_x % 2 + 2 * (sub_y % 2)

    @property
    def rcid(self) -> int:
        """ZTF's number of the readout channel, 0 to 63."""
        return 4 * (self.detector[1] - 1) + self.detector[2] - 1

    def chance(self, *keys: str | int) -> float:
        """Return the random number in [0, 1) of something that belongs to the pointing."""
        return uniform("tile", *self.key, *keys)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers that make the tile, for a locator."""
        return asdict(self)
