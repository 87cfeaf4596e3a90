"""Cell statistics and box sums of images, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["box_mean", "cell_moments", "enlarge", "grow", "photon_variance", "source_levels"]


@njit(cache=True, nogil=True)
def _along(columns: np.ndarray, radius: int, sums: np.ndarray) -> None:
    """Fill the running sums over ``2 radius + 1`` values, fewer at the ends."""
    n = len(columns)
    total = 0.0
    for i in range(min(radius, n)):
        total += columns[i]
    for i in range(n):
        if i + radius < n:
            total += columns[i + radius]
        if i - radius - 1 >= 0:
            total -= columns[i - radius - 1]
        sums[i] = total


@njit(cache=True, nogil=True)
def box_mean(image: np.ndarray, bad: np.ndarray, radius: int) -> np.ndarray:
    """Return the mean over boxes of side ``2 radius + 1``, bad pixels and those outside taken as zero."""
    ny, nx = image.shape
    side = 2 * radius + 1
    norm = np.float32(1.0 / (side * side))
    result = np.zeros((ny, nx), np.float32)
    columns, sums = np.zeros(nx), np.zeros(nx)
    for row in range(-radius, ny):
        ahead, behind = row + radius, row - radius - 1
        if ahead < ny:
            for i in range(nx):
                if not bad[ahead, i]:
                    columns[i] += image[ahead, i]
        if behind >= 0:
            for i in range(nx):
                if not bad[behind, i]:
                    columns[i] -= image[behind, i]
        if row < 0:
            continue
        _along(columns, radius, sums)
        for i in range(nx):
            result[row, i] = sums[i] * norm
    return result


@njit(cache=True, nogil=True)
def grow(mask: np.ndarray, radius: int) -> np.ndarray:
    """Return a boolean mask grown by a box of side ``2 radius + 1``."""
    ny, nx = mask.shape
    along = np.zeros((ny, nx), np.bool_)
    for row in range(ny):
        until = -1
        for i in range(nx):
            if mask[row, i]:
                for k in range(max(until, i - radius), min(nx, i + radius + 1)):
                    along[row, k] = True
                until = i + radius + 1
    result = np.zeros((ny, nx), np.bool_)
    last = np.full(nx, -(10**9))
    for row in range(-radius, ny):
        ahead = row + radius
        if ahead < ny:
            for i in range(nx):
                if along[ahead, i]:
                    last[i] = ahead
        if row >= 0:
            for i in range(nx):
                result[row, i] = last[i] >= row - radius
    return result


@njit(cache=True, nogil=True)
def cell_moments(
    data: np.ndarray, bad: np.ndarray, edges_y: np.ndarray, edges_x: np.ndarray, clip: float, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, standard deviation and number of the pixels of each cell within ``clip`` deviations.

    The clipping is symmetric, about the mean of the round before.
    """
    n_y, n_x = len(edges_y) - 1, len(edges_x) - 1
    mean, std = np.zeros((n_y, n_x)), np.zeros((n_y, n_x))
    count = np.zeros((n_y, n_x), np.int64)
    for j in range(n_y):
        for i in range(n_x):
            low, high = -np.inf, np.inf
            offset = 0.0
            for _turn in range(rounds):
                n, first, second = 0, 0.0, 0.0
                for row in range(edges_y[j], edges_y[j + 1]):
                    for column in range(edges_x[i], edges_x[i + 1]):
                        value = data[row, column]
                        if not bad[row, column] and value >= low and value <= high:
                            n += 1
                            first += value - offset
                            second += (value - offset) ** 2
                if n == 0:
                    break
                centre = first / n
                spread = np.sqrt(max(second / n - centre * centre, 0.0))
                mean[j, i], std[j, i], count[j, i] = centre + offset, spread, n
                offset = mean[j, i]
                low, high = offset - clip * spread, offset + clip * spread
    return mean, std, count


@njit(cache=True, nogil=True)
def source_levels(
    data: np.ndarray,
    bad: np.ndarray,
    level: np.ndarray,
    noise: np.ndarray,
    step: int,
    radius: int,
    thresholds: np.ndarray,
) -> np.ndarray:
    """Return how many thresholds the mean over a box around each pixel exceeds, either way, uint8.

    Parameters
    ----------
    data, bad
        Image and the pixels to leave out (they count as sky).

    level, noise
        Sky and its noise on every ``step``-th pixel.

    radius
        Of the box, side ``2 radius + 1``.

    thresholds
        Rising, in units of the noise.
    """
    ny, nx = data.shape
    area = (2 * radius + 1) ** 2
    result = np.zeros((ny, nx), np.uint8)
    columns, sums, sky, sigma = np.zeros(nx), np.zeros(nx), np.zeros(nx), np.zeros(nx)
    for row in range(-radius, ny):
        ahead, behind = row + radius, row - radius - 1
        if ahead < ny:
            if ahead % step == 0:
                _spread(level[ahead // step], step, sky)
            _add_row(columns, data[ahead], bad[ahead], sky, 1.0)
        if behind >= 0:
            _spread(level[behind // step], step, sky)
            _add_row(columns, data[behind], bad[behind], sky, -1.0)
            _spread(level[min(ahead, ny - 1) // step], step, sky)
        if row < 0:
            continue
        if row % step == 0:
            _spread(noise[row // step], step, sigma)
        _along(columns, radius, sums)
        for i in range(nx):
            height = abs(sums[i])
            if height > thresholds[0] * area * sigma[i]:
                count = 1
                while count < len(thresholds) and height > thresholds[count] * area * sigma[i]:
                    count += 1
                result[row, i] = count
    return result


@njit(cache=True, nogil=True)
def _spread(coarse: np.ndarray, step: int, fine: np.ndarray) -> None:
    """Repeat each value ``step`` times."""
    for k in range(len(coarse)):
        fine[k * step : (k + 1) * step] = coarse[k]


@njit(cache=True, nogil=True)
def _add_row(columns: np.ndarray, row: np.ndarray, bad: np.ndarray, sky: np.ndarray, sign: float) -> None:
    """Add the good pixels of a row, less the sky, to the sums of the columns."""
    for i in range(len(columns)):
        if not bad[i]:
            columns[i] += sign * (row[i] - sky[i])


@njit(cache=True, nogil=True)
def enlarge(coarse: np.ndarray, step: int, ny: int, nx: int) -> np.ndarray:
    """Interpolate a plane known at every ``step``-th pixel, and at one beyond the last, linearly; float32."""
    result = np.empty((ny, nx), np.float32)
    line = np.empty(coarse.shape[1])
    for j in range(ny):
        k = j // step
        f = (j - k * step) / step
        for i in range(len(line)):
            line[i] = (1.0 - f) * coarse[k, i] + f * coarse[k + 1, i]
        for cell in range(len(line) - 1):
            first, slope = line[cell], (line[cell + 1] - line[cell]) / step
            for i in range(cell * step, min(nx, (cell + 1) * step)):
                result[j, i] = first + slope * (i - cell * step)
    return result


@njit(cache=True, nogil=True)
def photon_variance(
    data: np.ndarray, smooth: np.ndarray, rms: np.ndarray, gain: float, faint: float, bright: float
) -> np.ndarray:
    """Return sky variance plus photon noise of sources (none for ``gain`` 0), for `noise.variance_model`."""
    ny, nx = data.shape
    result = np.empty((ny, nx), np.float32)
    for j in range(ny):
        for i in range(nx):
            sigma, mean = rms[j, i], smooth[j, i]
            variance = sigma * sigma
            if gain > 0.0 and mean > faint * sigma:
                signal = max(data[j, i], np.float32(0.0)) if mean > bright * sigma else mean
                variance += signal / gain
            result[j, i] = variance
    return result
