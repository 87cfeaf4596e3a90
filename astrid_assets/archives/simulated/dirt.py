"""The dirt of real life: what spoils pixels, and the survey's imperfect mask of it.

Mask bits are ZTF's (Masci et al. 2019, section 4): 0 satellite trail, 1 detected source, 2 low
response, 4 noisy, 5 ghost, 7 cosmic ray, 8 saturated, 9 dead, 11 PSF-fit source, 12 halo of a bright star.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, cos, hypot, pi, sin

import numpy as np

from astrid_assets.archives.simulated.render import Points
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.survey import GAIN, SATURATION
from astrid_assets.archives.simulated.truth import Truth

__all__ = ["BITS", "Detector", "bleed", "cosmic_rays", "detector", "ghosts", "satellite_trails"]

BITS = {
    "trail": 0,
    "detected": 1,
    "low_response": 2,
    "noisy": 4,
    "ghost": 5,
    "cosmic_ray": 7,
    "saturated": 8,
    "dead": 9,
    "psf_source": 11,
    "halo": 12,
}
"""Bits of ZTF's mask image by what they mean."""

_COSMIC_RAYS = 28.0
"""Per Mpix and 30 s exposure (Dekany et al. 2020: thick, red-sensitive detectors)."""

_COSMIC_RAYS_FLAGGED = 0.8
"""Share of the cosmic rays that the survey's own mask has."""

_HOT_PIXELS, _HOT_FLAGGED = 60.0, 0.95
"""Per Mpix, and the share that the mask has."""

_COLUMNS_PER_1024 = 2.0
"""Bad columns, mean number."""

_TRAIL_RATE, _TRAIL_FLAGGED = 0.25, 0.7
"""Satellite trails per Mpix and exposure, and the share that the mask has."""

_GHOST_STAR, _GHOST_SHARE, _GHOST_FLAGGED = 10.8, 0.008, 0.8
"""Magnitude of the faintest star with a visible ghost, its share of the light, share in the mask."""

_MAX_BLEED = 160
"""Pixels that charge bleeds along a column at most, each way."""


@dataclass(frozen=True, eq=False)
class Detector:
    """What is wrong with one detector for ever."""

    texture: np.ndarray
    """Response left after flat-fielding, pixels and dust, float32, about 1."""

    smooth: tuple[float, float, float]
    """The smooth part of the response: change per X, Y and X Y."""

    hot_x: np.ndarray
    """Columns of hot pixels."""

    hot_y: np.ndarray
    """Rows of hot pixels."""

    hot_level: np.ndarray
    """ADU that a hot pixel collects in an exposure."""

    hot_flagged: np.ndarray
    """Whether the mask knows it."""

    columns: tuple[tuple[int, int, int, float], ...]
    """Bad columns: column, first and last row, response."""

    def response(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the smooth part of the response at field coordinates (-1 to 1)."""
        a, b, c = self.smooth
        return 1.0 + a * x + b * y + c * x * y


@lru_cache(maxsize=4)
def detector(seed: int, rcid: int, shape: tuple[int, int]) -> Detector:
    """Return the detector behind a readout channel.

    Flat residuals: 0.3 % smooth, 0.2 % from pixel to pixel, a few shadows of dust of 0.6 %.
    """
    ny, nx = shape
    rng = generator("detector", seed, rcid, ny, nx)
    smooth = tuple((0.003 * rng.normal(size=3)).tolist())
    texture = 1 + np.float32(0.002) * rng.standard_normal(shape, dtype=np.float32)
    for _ in range(rng.poisson(3.0 * nx * ny / 2**20)):
        _shadow(texture, rng)
    count = int(rng.poisson(_HOT_PIXELS * nx * ny / 2**20))
    return Detector(
        texture=texture,
        smooth=smooth,
        hot_x=rng.integers(0, nx, count),
        hot_y=rng.integers(0, ny, count),
        hot_level=300.0 * np.exp(rng.normal(0.0, 1.0, count)),
        hot_flagged=rng.random(count) < _HOT_FLAGGED,
        columns=tuple(_bad_column(rng, shape) for _ in range(rng.poisson(_COLUMNS_PER_1024 * nx / 1024))),
    )


def _shadow(flat: np.ndarray, rng: np.random.Generator) -> None:
    ny, nx = flat.shape
    cx, cy, radius = rng.uniform(0, nx), rng.uniform(0, ny), rng.uniform(10, 25)
    area = _box(flat.shape, cx, cy, 1.5 * radius)
    y, x = np.ogrid[area]
    flat[area] *= 1 - 0.006 * np.exp(-((np.hypot(x - cx, y - cy) - radius) ** 2) / 18.0)


def _box(shape: tuple[int, int], x: float, y: float, radius: float) -> tuple[slice, slice]:
    """Return the slices of a square around a position, cut at the edges of the image."""
    ny, nx = shape
    rows = slice(max(int(y - radius), 0), max(min(ceil(y + radius) + 1, ny), 0))
    return rows, slice(max(int(x - radius), 0), max(min(ceil(x + radius) + 1, nx), 0))


def _bad_column(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[int, int, int, float]:
    ny, nx = shape
    begin = 0 if rng.random() < 0.5 else int(rng.integers(0, ny))
    return int(rng.integers(0, nx)), begin, ny, float(rng.choice([0.0, 0.05, 0.8]))


def cosmic_rays(
    shape: tuple[int, int], rng: np.random.Generator, mask: np.ndarray, truth: Truth
) -> np.ndarray:
    """Return the charge of cosmic rays in electrons; flags most of them in the mask.

    Tracks are straight, a few pixels long, and know nothing of the PSF.
    """
    ny, nx = shape
    charge = np.zeros(shape, np.float32)
    for _ in range(rng.poisson(_COSMIC_RAYS * nx * ny / 2**20)):
        x, y, angle = rng.uniform(0, nx - 1), rng.uniform(0, ny - 1), rng.uniform(0, 2 * pi)
        length, density = min(float(np.exp(rng.normal(0.7, 0.8))), 60.0), np.exp(rng.normal(7.2, 0.7))
        steps = np.arange(0.0, length + 0.25, 0.25)
        flagged = bool(rng.random() < _COSMIC_RAYS_FLAGGED)
        hit = _deposit(charge, x + steps * cos(angle), y + steps * sin(angle), density * 0.25)
        if flagged:
            mask[hit] |= 1 << BITS["cosmic_ray"]
        truth.add(
            kind="cosmic_ray",
            x=x,
            y=y,
            x_end=x + length * cos(angle),
            y_end=y + length * sin(angle),
            extent=1.0,
            flux=density * 0.25 * steps.size / GAIN,
            flagged=flagged,
        )
    return charge


def _deposit(image: np.ndarray, x: np.ndarray, y: np.ndarray, amount: float) -> tuple[np.ndarray, np.ndarray]:
    """Add an amount at each of some positions to the nearest pixels, a little to their neighbours."""
    ny, nx = image.shape
    ix, iy = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (ix >= 0) & (ix < nx) & (iy >= 0) & (iy < ny)
    ix, iy = ix[inside], iy[inside]
    np.add.at(image, (iy, ix), 0.9 * amount)
    np.add.at(image, (iy, np.minimum(ix + 1, nx - 1)), 0.05 * amount)
    np.add.at(image, (np.minimum(iy + 1, ny - 1), ix), 0.05 * amount)
    return iy, ix


def satellite_trails(
    shape: tuple[int, int], rng: np.random.Generator, mask: np.ndarray, truth: Truth
) -> Points:
    """Return the light of satellites that cross the image, slightly out of focus; flags most in the mask."""
    ny, nx = shape
    parts = [Points(np.empty(0), np.empty(0), np.empty(0))]
    for _ in range(rng.poisson(_TRAIL_RATE * nx * ny / 2**20)):
        angle, cx, cy = rng.uniform(0, pi), rng.uniform(0.1, 0.9) * nx, rng.uniform(0.1, 0.9) * ny
        along = np.arange(-hypot(nx, ny), hypot(nx, ny), 0.5)
        brightness = 10 ** rng.uniform(1.2, 2.6)
        tumbling = 1.0 + rng.uniform(0.0, 0.3) * np.sin(along / rng.uniform(40.0, 300.0))
        x, y = cx + along * cos(angle), cy + along * sin(angle)
        near = (x > -20) & (x < nx + 20) & (y > -20) & (y < ny + 20)
        x, y, light = x[near], y[near], 0.5 * brightness * tumbling[near]
        parts += [
            Points(x - side * sin(angle), y + side * cos(angle), light * share)
            for side, share in ((-0.7, 0.3), (0.0, 0.4), (0.7, 0.3))
        ]
        flagged = bool(rng.random() < _TRAIL_FLAGGED)
        if flagged:
            _flag_line(mask, x, y)
        truth.add(
            kind="trail",
            x=x[0],
            y=y[0],
            x_end=x[-1],
            y_end=y[-1],
            extent=4.0,
            flux=float(light.sum()),
            flagged=flagged,
        )
    return Points.joined(*parts)


def _flag_line(mask: np.ndarray, x: np.ndarray, y: np.ndarray, half_width: int = 5) -> None:
    ny, nx = mask.shape
    ix, iy = np.rint(x).astype(int), np.rint(y).astype(int)
    for dx in range(-half_width, half_width + 1):
        for dy in range(-half_width, half_width + 1):
            ok = (ix + dx >= 0) & (ix + dx < nx) & (iy + dy >= 0) & (iy + dy < ny)
            mask[iy[ok] + dy, ix[ok] + dx] |= 1 << BITS["trail"]


def ghosts(
    stars: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    image: np.ndarray,
    rng: np.random.Generator,
    mask: np.ndarray,
    truth: Truth,
) -> None:
    """Add the out-of-focus reflections of the brightest stars, rings beside them, in place.

    Parameters
    ----------
    stars
        x, y, flux in ADU and magnitude of stars.

    image, mask
        Changed in place.

    rng
        Random numbers.

    truth
        Collects the rows.
    """
    ny, nx = image.shape
    for x, y, flux, mag in zip(*stars, strict=True):
        chance, radius = rng.random(), rng.uniform(35.0, 55.0)
        if mag > _GHOST_STAR:
            continue
        gx, gy = x + 0.25 * (nx / 2 - x) + 45.0, y + 0.25 * (ny / 2 - y) - 30.0
        area = _box(image.shape, gx, gy, radius + 2)
        rows, columns = np.ogrid[area]
        away = np.hypot(columns - gx, rows - gy)
        ring = ((away < radius) & (away > 0.3 * radius)).astype(np.float32)
        level = flux * _GHOST_SHARE / (pi * 0.91 * radius**2)
        image[area] += level * ring
        flagged = bool(chance < _GHOST_FLAGGED)
        if flagged:
            mask[area] |= np.where(away < radius + 2, 1 << BITS["ghost"], 0).astype(mask.dtype)
        if ring.any():
            light = level * float(ring.sum())
            truth.add(kind="ghost", x=gx, y=gy, extent=radius, flux=light, mag=mag, flagged=flagged)


def bleed(image: np.ndarray, mask: np.ndarray) -> None:
    """Let charge above the full well run along the columns, in place, and flag it.

    Parameters
    ----------
    image
        ADU, changed in place.

    mask
        Bits are set where a pixel is full, but for the last pixels of each bleed.
    """
    full = image >= SATURATION
    for column in np.flatnonzero(full.any(axis=0)):
        edges = np.flatnonzero(np.diff(full[:, column].astype(np.int8), prepend=0, append=0))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            _bleed_run(image[:, column], mask[:, column], first, last)
    np.minimum(image, SATURATION, out=image)


def _bleed_run(line: np.ndarray, mask: np.ndarray, first: int, last: int) -> None:
    excess = float((line[first:last] - SATURATION).sum())
    reach = min(ceil(excess / SATURATION / 2.0), _MAX_BLEED)
    low, high = max(first - reach, 0), min(last + reach, line.size)
    line[low:high] = np.maximum(line[low:high], SATURATION)
    mask[min(low + 1, first) : max(high - 1, last)] |= 1 << BITS["saturated"]
