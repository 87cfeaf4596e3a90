"""Peaks of images and the shapes of sources, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["local_maxima", "window_moments"]


@njit(cache=True, nogil=True)
def local_maxima(image: np.ndarray, noise: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return column and row of the pixels above ``threshold * noise`` that no neighbour exceeds."""
    ny, nx = image.shape
    columns, rows = [], []
    for j in range(1, ny - 1):
        for i in range(1, nx - 1):
            value = image[j, i]
            if value <= threshold * noise[j, i]:
                continue
            highest = True
            for dj in range(-1, 2):
                for di in range(-1, 2):
                    other = image[j + dj, i + di]
                    # of equal neighbours the first one counts
                    first = dj < 0 or (dj == 0 and di < 0)
                    if (dj != 0 or di != 0) and (other > value or (first and other == value)):
                        highest = False
            if highest:
                columns.append(i)
                rows.append(j)
    return np.array(columns, np.int64), np.array(rows, np.int64)


@njit(cache=True, nogil=True)
def window_moments(image: np.ndarray, x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """Return the second moments xx, yy, xy of sources under a round Gaussian window, ``(n, 3)``, pixels^2."""
    ny, nx = image.shape
    reach = int(np.ceil(4.0 * sigma))
    result = np.zeros((len(x), 3))
    for k in range(len(x)):
        ix, iy = int(np.rint(x[k])), int(np.rint(y[k]))
        total = 0.0
        for j in range(max(0, iy - reach), min(ny, iy + reach + 1)):
            for i in range(max(0, ix - reach), min(nx, ix + reach + 1)):
                dx, dy = i - x[k], j - y[k]
                light = image[j, i] * np.exp(-0.5 * (dx * dx + dy * dy) / (sigma * sigma))
                total += light
                result[k, 0] += light * dx * dx
                result[k, 1] += light * dy * dy
                result[k, 2] += light * dx * dy
        if total > 0:
            result[k] /= total
    return result
