"""Filling holes of images, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["cell_means", "fill_near"]


@njit(cache=True, nogil=True)
def fill_near(
    data: np.ndarray, bad: np.ndarray, weights: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Replace bad pixels by the weighted mean of the good ones around them.

    Parameters
    ----------
    data, bad
        Image and the pixels to replace.

    weights
        Odd-sided, of unit sum.

    least
        Weight of good pixels that it takes.

    Returns
    -------
    tuple
        The filled image, and rows and columns of the pixels that are left, set to zero.
    """
    ny, nx = data.shape
    reach = weights.shape[0] // 2
    filled = np.empty((ny, nx), np.float32)
    rows, columns = [], []
    for j in range(ny):
        for i in range(nx):
            if not bad[j, i]:
                filled[j, i] = data[j, i]
                continue
            total, norm = 0.0, 0.0
            for dj in range(max(-reach, -j), min(reach, ny - 1 - j) + 1):
                for di in range(max(-reach, -i), min(reach, nx - 1 - i) + 1):
                    if not bad[j + dj, i + di]:
                        weight = weights[reach + dj, reach + di]
                        total += weight * data[j + dj, i + di]
                        norm += weight
            filled[j, i] = 0.0
            if norm > least:
                filled[j, i] = total / norm
            else:
                rows.append(j)
                columns.append(i)
    return filled, np.array(rows, np.int64), np.array(columns, np.int64)


@njit(cache=True, nogil=True)
def cell_means(
    data: np.ndarray, bad: np.ndarray, rows: np.ndarray, columns: np.ndarray, side: int
) -> np.ndarray:
    """Return for some pixels the mean of the good pixels of their cell, NaN where there is none."""
    ny, nx = data.shape
    means = np.full(((ny + side - 1) // side, (nx + side - 1) // side), np.inf)
    result = np.empty(len(rows))
    for k in range(len(rows)):
        cell_y, cell_x = rows[k] // side, columns[k] // side
        if means[cell_y, cell_x] == np.inf:
            total, count = 0.0, 0
            for j in range(cell_y * side, min(ny, (cell_y + 1) * side)):
                for i in range(cell_x * side, min(nx, (cell_x + 1) * side)):
                    if not bad[j, i]:
                        total += data[j, i]
                        count += 1
            means[cell_y, cell_x] = total / count if count > 0 else np.nan
        result[k] = means[cell_y, cell_x]
    return result
