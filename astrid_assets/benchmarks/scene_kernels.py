"""Moffat light on pixels, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["draw_points"]


@njit(cache=True, nogil=True)
def draw_points(
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    shape: np.ndarray,
    beta: float,
    half: np.ndarray,
    nodes: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Add elliptical Moffat points to an image, integrated over each pixel by Gauss-Legendre quadrature.

    Parameters
    ----------
    image
        Changed in place, float64 ``(ny, nx)``.

    x, y, flux
        Positions in pixels and total fluxes, ``(n,)``.

    shape
        Coefficients a, b, c of ``q = a dx^2 + b dx dy + c dy^2`` in the profile ``(1 + q)^-beta``,
        ``(n, 3)``.

    beta
        Exponent; 3 is fast.

    half
        Half side of the stamp of each point, pixels, ``(n,)``.

    nodes, weights
        Of the quadrature on a pixel, from -0.5 to 0.5; the weights sum to 1.
    """
    ny, nx = image.shape
    for i in range(len(x)):
        a, b, c = shape[i, 0], shape[i, 1], shape[i, 2]
        peak = flux[i] * (beta - 1.0) / np.pi * np.sqrt(a * c - 0.25 * b * b)
        ix, iy = int(np.rint(x[i])), int(np.rint(y[i]))
        for row in range(max(0, iy - half[i]), min(ny, iy + half[i] + 1)):
            for column in range(max(0, ix - half[i]), min(nx, ix + half[i] + 1)):
                total = 0.0
                for j in range(len(nodes)):
                    dy = row + nodes[j] - y[i]
                    for k in range(len(nodes)):
                        dx = column + nodes[k] - x[i]
                        q = 1.0 + a * dx * dx + b * dx * dy + c * dy * dy
                        value = 1.0 / (q * q * q) if beta == 3.0 else q**-beta
                        total += weights[j] * weights[k] * value
                image[row, column] += peak * total
