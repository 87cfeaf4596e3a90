"""Positions of the bright, well-measured sources of an image, fast: peaks and windowed centroids.

A registration needs some hundred good positions, not a catalogue. The sky is sampled on a coarse mesh, peaks
are found by comparing bright pixels with their neighbours, and their centroids are measured in a
Gaussian window (SExtractor's XWIN, YWIN: Bertin & Arnouts 1996; equal to a fit of the window's width).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from astrid_assets.errors import ScienceError
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import BAD_BITS
from astrid_assets.science.background import finite_median

__all__ = ["Centroids", "find_centroids"]

CELL = 128
"""Side of a cell of the sky mesh, pixels; smaller in small images, so that there are four along a side."""

CELL_SAMPLES = 16
"""Pixels looked at along the side of a cell: 256 in all, which give its level to 0.08 sigma."""

USABLE_SHARE = 0.01
"""Least share of usable pixels; below it there is no image."""

PEAK_SIGMA = 6.0
"""Height of a peak over the sky in units of its noise: noise makes 0.01 such peaks in 10 Mpix."""

ENOUGH = 150
"""Sources from which on fainter ones add nothing to a registration; where there are fewer, peaks are
looked for in means of 3 x 3 pixels."""

BRIGHT_PIXELS = 300_000
"""Largest number of pixels that are examined for peaks, the brightest."""

POINT_SHARE = 0.15
"""Least flux of the two neighbours of a peak in each direction, of its own: a hot pixel or column has
none, an image as narrow as 1 pixel FWHM has 0.3."""

WINDOW = 1.06
"""Sigma of the window over the typical radius at half maximum, a quarter wider than the Gaussian of that
radius: a narrow window follows the phase of the pixel (0.027 px rms at 1.8 pixels FWHM, against 0.007)."""

SMALLEST_WINDOW = 0.9
"""Least sigma of the window, pixels, for images that are undersampled."""

NARROW = 0.6
"""Sources whose radius at half maximum is below this share of the typical one are cosmic rays."""

PROMINENCE_SIGMA = 5.0
"""Least height of a peak over the rings around it, in units of its noise."""

PROFILE_REACH = 8
"""Radius within which the profile of a source is looked at, pixels."""

SATURATION_SHARE = 0.8
"""Share of the saturation level above which a detector is not linear."""

GRID = 8
"""The brightest sources are taken in each of 8 x 8 fields, so that no cluster or corner takes all."""

STAMP_LIMIT = 20
"""Largest half-width of the stamp in which a source is measured, pixels."""

ITERATIONS = 12
"""Steps of the centroid; each halves the distance or better."""

CENTROID_FLOOR = 0.02
"""Error of a windowed centroid that does not fall with S/N (pixel phase), pixels."""

BLEND_SHARE = 0.5
"""Share of the pull of a neighbour on the centroid that is taken as error: the other image pulls too."""

LOWEST_SNR = 10.0
"""Signal-to-noise ratio in the window of a source that is worth having: its position is good to 0.1 FWHM."""


@dataclass(frozen=True, eq=False)
class Centroids:
    """Sources of an image; arrays of equal length, brightest first. Pixels are 0-based."""

    x: np.ndarray
    """Windowed centroid, pixels."""

    y: np.ndarray
    """Windowed centroid, pixels."""

    error: np.ndarray
    """1-sigma error of either coordinate, pixels."""

    flux: np.ndarray
    """Flux in the window, in the image's unit."""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: np.ndarray) -> Centroids:
        return Centroids(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def find_centroids(image: MaskedImage, *, limit: int = 800) -> Centroids:
    """Find the brightest unsaturated sources of an image and measure their positions.

    Parameters
    ----------
    image
        The image, with its sky. Sources that are narrower than any star (hot pixels and columns, cosmic rays)
        and those with bad pixels in their core are left out.

    limit
        Largest number of sources, taken from all over the image.

    Raises
    ------
    ScienceError
        If less than 1 % of the pixels are usable.
    """
    sky = _sky(image)
    found = _search(image, sky, limit, smooth=False)
    if len(found) < ENOUGH:
        found = max(found, _search(image, sky, limit, smooth=True), key=len)
    return found[_highest_in_each_field(found.x, found.y, image.shape, limit)]


def _search(image: MaskedImage, sky: _Sky, limit: int, *, smooth: bool) -> Centroids:
    """Return sources, brightest first; twice as many are measured as are wanted."""
    peaks = _peaks(image, sky, smooth=smooth)
    chosen = peaks[_highest_in_each_field(peaks.x, peaks.y, image.shape, 2 * limit)]
    return _measured(image, sky, chosen)


# --- sky ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Sky:
    """Level and noise on a coarse mesh."""

    level: np.ndarray
    """Sky level of each cell, ``(n_rows, n_columns)``."""

    rms: np.ndarray
    """Noise of a blank pixel, the same shape."""

    cell: int
    """Side of a cell, pixels; the last row and column also hold what is left over."""

    significance: np.ndarray
    """Heights of the sampled pixels over the level in units of the noise, highest last."""

    def row(self, y: np.ndarray) -> np.ndarray:
        """Return the cell row of a pixel row."""
        return np.minimum(y // self.cell, len(self.level) - 1)

    def column(self, x: np.ndarray) -> np.ndarray:
        """Return the cell column of a pixel column."""
        return np.minimum(x // self.cell, self.level.shape[1] - 1)


def _sky(image: MaskedImage) -> _Sky:
    """Sample the sky: medians, and noise from the fainter half, which stars do not widen."""
    from scipy.ndimage import median_filter

    cell = int(np.clip(min(image.shape) // 4, CELL_SAMPLES, CELL))
    step = max(1, cell // CELL_SAMPLES)
    cell = step * CELL_SAMPLES
    bad = (image.mask[::step, ::step] & BAD_BITS) != 0
    if np.mean(~bad) < USABLE_SHARE:
        msg = f"only {np.mean(~bad):.2%} of the pixels are usable: no sources can be found"
        raise ScienceError(msg)
    sample = np.where(bad, np.nan, image.data[::step, ::step])
    rows, columns = (-(-n // CELL_SAMPLES) for n in sample.shape)
    padded = np.full((rows * CELL_SAMPLES, columns * CELL_SAMPLES), np.nan, np.float32)
    padded[: sample.shape[0], : sample.shape[1]] = sample
    boxes = (
        padded.reshape(rows, CELL_SAMPLES, columns, CELL_SAMPLES).swapaxes(1, 2).reshape(rows, columns, -1)
    )
    level, count = finite_median(boxes)
    fainter = np.where(boxes <= level[..., None], level[..., None] - boxes, np.nan)
    rms = 1.4826 * finite_median(fainter)[0]
    poor = count < min(CELL_SAMPLES**2 // 8, count.max())
    level[poor], rms[poor] = np.median(level[~poor]), np.median(rms[~poor])
    rms = np.maximum(rms, 1e-6 * max(float(np.nanmax(np.abs(sample))), 1e-30))
    level, rms = median_filter(level, 3), median_filter(rms, 3)
    significance = (boxes - level[..., None]) / rms[..., None]
    return _Sky(level, rms, cell, np.sort(significance[np.isfinite(significance)]))


# --- peaks ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Peaks:
    """Local maxima, highest first."""

    x: np.ndarray
    y: np.ndarray
    height: np.ndarray
    """Above `level`."""

    level: np.ndarray
    """The sky, or whatever else they stand on."""

    noise: np.ndarray
    """Error of the height that the sky makes."""

    def __getitem__(self, index: np.ndarray) -> _Peaks:
        return _Peaks(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def _peaks(image: MaskedImage, sky: _Sky, *, smooth: bool) -> _Peaks:
    """Return the maxima that stand out from the sky and are wider than a hot pixel."""
    data, noise, lowest = image.data, 1.0, PEAK_SIGMA
    if smooth:
        data, noise = _smoothed(image, sky), 1.0 / 3.0
    elif data.size > BRIGHT_PIXELS:
        share = 1.0 - BRIGHT_PIXELS / data.size
        lowest = max(lowest, float(sky.significance[int(share * (len(sky.significance) - 1))]))
    y, x = _maxima(data, *_bright_pixels(data, sky, lowest * noise))
    level, rms = (mesh[sky.row(y), sky.column(x)] for mesh in (sky.level, sky.rms))
    height = data[y, x] - level
    if smooth:
        y, x = _highest_nearby(image.data, y, x)
    good = _is_wide(image.data, level, y, x) & ((image.mask[y, x] & BAD_BITS) == 0)
    if image.saturation is not None:
        good &= image.data[y, x] < SATURATION_SHARE * image.saturation
    order = np.flatnonzero(good)[np.argsort(-height[good], kind="stable")]
    return _Peaks(x, y, height, level, noise * rms)[order]


def _smoothed(image: MaskedImage, sky: _Sky) -> np.ndarray:
    """Return means of 3 x 3 pixels, in which sources wider than a pixel stand out more."""
    from scipy.ndimage import uniform_filter

    return uniform_filter(np.where(image.bad, np.float32(np.median(sky.level)), image.data), 3)


def _maxima(data: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return those of some pixels that are higher than their eight neighbours; none at the very edge."""
    ny, nx = data.shape
    inner = (x > 1) & (x < nx - 2) & (y > 1) & (y < ny - 2)
    y, x = y[inner], x[inner]
    top = np.ones(len(x), bool)
    value = data[y, x]
    for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1)):
        # of two equal neighbours one is the peak
        top &= (value > data[y + dy, x + dx]) & (value >= data[y - dy, x - dx])
    return y[top], x[top]


def _highest_nearby(data: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest pixel of the 3 x 3 around each of some."""
    dy, dx = (grid.ravel() - 1 for grid in np.mgrid[:3, :3])
    highest = np.argmax(np.nan_to_num(data[y[:, None] + dy, x[:, None] + dx], nan=-np.inf), axis=1)
    return y + dy[highest], x + dx[highest]


def _bright_pixels(data: np.ndarray, sky: _Sky, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the pixels above the sky by some times the noise, in order."""
    limit = (sky.level + threshold * sky.rms).astype(np.float32)
    columns = sky.column(np.arange(data.shape[1]))
    rows, found = [], []
    for k in range(len(limit)):
        start, stop = k * sky.cell, data.shape[0] if k == len(limit) - 1 else (k + 1) * sky.cell
        index = np.flatnonzero(data[start:stop] > limit[k][columns])
        row, column = np.divmod(index, data.shape[1])
        rows.append(row + start)
        found.append(column)
    return np.concatenate(rows), np.concatenate(found)


def _is_wide(data: np.ndarray, level: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return which peaks have light in the neighbouring pixels along both axes, as any star does."""
    peak = data[y, x] - level
    along_x = data[y, x - 1] + data[y, x + 1] - 2.0 * level
    along_y = data[y - 1, x] + data[y + 1, x] - 2.0 * level
    return (along_x > POINT_SHARE * peak) & (along_y > POINT_SHARE * peak)


def _highest_in_each_field(x: np.ndarray, y: np.ndarray, shape: tuple[int, int], limit: int) -> np.ndarray:
    """Return which of some sources, highest first, are among the first of their field; ``limit`` at most."""
    if len(x) <= limit:
        return np.arange(len(x))
    ny, nx = shape
    column = np.clip(x * GRID // nx, 0, GRID - 1).astype(int)
    field = np.clip(y * GRID // ny, 0, GRID - 1).astype(int) * GRID + column
    order = np.argsort(field, kind="stable")
    starts = np.searchsorted(field[order], np.arange(GRID * GRID))
    rank = np.empty(len(x), int)
    rank[order] = np.arange(len(x)) - starts[field[order]]
    return np.sort(np.argsort(rank, kind="stable")[:limit])


# --- centroids ------------------------------------------------------------------------------------


def _measured(image: MaskedImage, sky: _Sky, peaks: _Peaks) -> Centroids:
    """Measure centroids in a window of the typical width."""
    nothing = Centroids(*(np.zeros(0),) * 4)
    if not len(peaks.x):
        return nothing
    base, radius = _profiles(image, peaks)
    clear = peaks.height - base > PROMINENCE_SIGMA * peaks.noise
    if not clear.any():
        return nothing
    typical = _typical_radius((peaks.height - base)[clear], radius[clear])
    sigma = max(SMALLEST_WINDOW, WINDOW * typical)
    half = int(np.clip(np.ceil(3.5 * sigma), 3, STAMP_LIMIT))
    ny, nx = image.shape
    inside = (peaks.x >= half) & (peaks.x < nx - half) & (peaks.y >= half) & (peaks.y < ny - half)
    good = np.flatnonzero(clear & inside & (radius > NARROW * typical))
    if not len(good):
        return nothing
    chosen = replace(peaks, height=peaks.height - base, level=peaks.level + base)[good]
    stamps = _stamps(image, chosen, half)
    grid = np.arange(-half, half + 1)
    core = np.hypot(*np.meshgrid(grid, grid)) <= max(1.5, 1.5 * sigma)
    whole = np.isfinite(stamps[:, core]).all(axis=1)
    stamps = np.nan_to_num(stamps)
    dx, dy, window = _windowed_centroids(stamps, sigma)
    flux = (window * stamps).sum(axis=(1, 2))
    rms = sky.rms[sky.row(chosen.y), sky.column(chosen.x)]
    error, snr = _errors(image, flux, rms, sigma)
    error = np.hypot(error, BLEND_SHARE * _neighbour_pull(chosen, peaks, sigma))
    whole &= (np.hypot(dx, dy) < max(1.0, 1.2 * sigma)) & (snr > LOWEST_SNR)
    found = Centroids(chosen.x + dx, chosen.y + dy, error, flux)[whole]
    found = found[np.argsort(-found.flux, kind="stable")]
    return found[_first_of_each(found, 2.0 * sigma)]


def _stamps(image: MaskedImage, peaks: _Peaks, half: int) -> np.ndarray:
    """Return the pixels around peaks over their level, ``(n, size, size)``; NaN where bad or outside."""
    ny, nx = image.shape
    grid = np.arange(-half, half + 1)
    rows, columns = peaks.y[:, None] + grid, peaks.x[:, None] + grid
    outside = ((rows < 0) | (rows >= ny))[:, :, None] | ((columns < 0) | (columns >= nx))[:, None, :]
    index = (np.clip(rows, 0, ny - 1)[:, :, None], np.clip(columns, 0, nx - 1)[:, None, :])
    lost = outside | ((image.mask[index] & BAD_BITS) != 0)
    return np.where(lost, np.nan, image.data[index] - peaks.level.astype(np.float32)[:, None, None])


def _profiles(image: MaskedImage, peaks: _Peaks) -> tuple[np.ndarray, np.ndarray]:
    """Return the light that peaks stand on, over the sky, and their radii at half of what is above it.

    The base is the lowest mean of the rings around a peak: the halo of a galaxy, the wings of a neighbour.
    """
    half = PROFILE_REACH
    grid = np.arange(-half, half + 1)
    ring = np.rint(np.hypot(*np.meshgrid(grid, grid))).astype(int).ravel()
    rings = (ring[:, None] == np.arange(half + 1)).astype(np.float32)
    stamps = _stamps(image, peaks, half).reshape(len(peaks.x), -1)
    known = np.isfinite(stamps).astype(np.float32) @ rings
    means = np.nan_to_num(stamps) @ rings / np.maximum(known, 1.0)
    means = np.where(known > 0, means, np.inf)
    base = np.minimum(means.min(axis=1), peaks.height)
    above = (means - base[:, None]) / np.maximum(peaks.height - base, 1e-30)[:, None]
    outer = np.argmax(above < 0.5, axis=1)
    outer = np.where((above < 0.5).any(axis=1), outer, half)
    index = np.arange(len(outer))
    inner = np.maximum(outer - 1, 0)
    before, after = above[index, inner], np.minimum(above[index, outer], 0.5)
    before = np.where(np.isfinite(before), np.maximum(before, 0.5 + 1e-6), 1.0)
    return base, inner + (before - 0.5) / (before - after)


def _typical_radius(prominence: np.ndarray, radius: np.ndarray) -> float:
    """Return the radius of the brighter half of the sources; of 20 at least."""
    bright = np.argsort(-prominence)[: max(20, len(radius) // 2)]
    return float(np.median(radius[bright]))


def _windowed_centroids(stamps: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the centroids (x, y) from the middle of the stamps, and the windows at them."""
    half = stamps.shape[1] // 2
    grid = np.arange(-half, half + 1, dtype=np.float32)
    dx, dy = np.zeros((2, len(stamps)))
    for _ in range(ITERATIONS):
        u, v = grid - dx[:, None], grid - dy[:, None]
        wx, wy = np.exp(-0.5 * (u / sigma) ** 2), np.exp(-0.5 * (v / sigma) ** 2)
        rows = np.matmul(stamps, wx[:, :, None].astype(np.float32))[..., 0]
        total = (rows * wy).sum(axis=1)
        total = np.where(total > 0, total, np.inf)
        moment_y = (rows * wy * v).sum(axis=1) / total
        columns = np.matmul(wy[:, None, :].astype(np.float32), stamps)[:, 0]
        moment_x = (columns * wx * u).sum(axis=1) / total
        # a Gaussian source of the window's width is found in one step of twice the moment
        dx, dy = dx + np.clip(2.0 * moment_x, -sigma, sigma), dy + np.clip(2.0 * moment_y, -sigma, sigma)
    u, v = grid - dx[:, None], grid - dy[:, None]
    wx, wy = np.exp(-0.5 * (u / sigma) ** 2), np.exp(-0.5 * (v / sigma) ** 2)
    return dx, dy, wy[:, :, None] * wx[:, None, :]


def _errors(
    image: MaskedImage, flux: np.ndarray, rms: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the error of centroids and their signal-to-noise ratios in the window.

    Cramer and Rao for a Gaussian of the window's width: sqrt(2) sigma / SNR against the noise of the
    sky, sigma / sqrt(electrons) against that of the source.
    """
    # the window holds half of the flux of such a source, and the noise of 4 pi sigma^2 / 4 pixels
    snr = np.maximum(flux, 1e-30) / (rms * np.sqrt(np.pi) * sigma)
    variance = 2.0 * (sigma / snr) ** 2 + CENTROID_FLOOR**2
    if image.gain is not None and image.gain > 0:
        variance = variance + sigma**2 / np.maximum(2.0 * flux * image.gain, 1.0)
    return np.sqrt(variance), snr


def _neighbour_pull(chosen: _Peaks, peaks: _Peaks, sigma: float) -> np.ndarray:
    """Return how far neighbours draw the centroids.

    One of r times the flux at d pixels, all Gaussians of the window's width: r d exp(-d^2 / 4 sigma^2).
    """
    from scipy.spatial import cKDTree

    trees = (cKDTree(np.c_[p.x, p.y]) for p in (chosen, peaks))
    close = next(trees).sparse_distance_matrix(next(trees), 6.0 * sigma, output_type="ndarray")
    i, j, distance = close["i"], close["j"], close["v"]
    pull = peaks.height[j] / chosen.height[i] * distance * np.exp(-((distance / (2.0 * sigma)) ** 2))
    return np.bincount(i, pull, minlength=len(chosen.x))


def _first_of_each(found: Centroids, distance: float) -> np.ndarray:
    """Return which sources have no brighter one that is so close that both are one."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(np.c_[found.x, found.y]).query_pairs(distance, output_type="ndarray")
    keep = np.ones(len(found), bool)
    keep[pairs.max(axis=1)] = False
    return np.flatnonzero(keep)
