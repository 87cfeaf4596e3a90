"""The element-wise steps of a tile of a subtraction, compiled: one pass over the pixels each."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["cut_tile", "grow_bits", "score_planes", "spectral_products", "variance_products"]


@njit(cache=True, nogil=True)
def cut_tile(
    image: np.ndarray,
    first_row: int,
    first_column: int,
    shape: tuple[int, int],
    outside: float,
    taper_y: np.ndarray,
    taper_x: np.ndarray,
) -> np.ndarray:
    """Copy a window of an image, times a taper along each axis; ``outside`` stands beyond the edges."""
    ny, nx = image.shape
    tile = np.empty(shape, np.float32)
    for j in range(shape[0]):
        row = first_row + j
        for i in range(shape[1]):
            column = first_column + i
            value = np.float32(outside)
            if 0 <= row < ny and 0 <= column < nx:
                value = image[row, column]
            tile[j, i] = value * taper_y[j] * taper_x[i]
    return tile


@njit(cache=True, nogil=True)
def spectral_products(
    d_n: np.ndarray,
    d_r: np.ndarray,
    psf_n: np.ndarray,
    n_hat: np.ndarray,
    r_hat: np.ndarray,
    power_n: np.ndarray,
    power_r: np.ndarray,
    band: np.ndarray,
    width: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the transforms of D, of both parts of S and of their kernels, and sums of squares.

    Parameters
    ----------
    d_n, d_r
        Filters of the tile.

    psf_n
        Transform of the science PSF.

    n_hat, r_hat
        Transforms of the two tiles.

    power_n, power_r
        Noise powers, 1 on average; of shape ``(1, 1)`` where white.

    band
        Weight of the frequencies in the matched filter; of shape ``(1, 1)`` for all of them.

    width
        Columns of the tile: those of a half transform that stand for two count twice.

    Returns
    -------
    tuple
        D, science part of S, reference part of S, k_n, k_r as transforms; and the means over all frequencies
        of P_D times its matched filter, of k_n^2, of k_n^2 times the noise power, and so on of k_r, d_n, d_r.
    """
    ny, half = d_n.shape
    difference, ours, theirs = np.empty_like(d_n), np.empty_like(d_n), np.empty_like(d_n)
    k_n, k_r = np.empty_like(d_n), np.empty_like(d_n)
    sums = np.zeros(9)
    whole = band.shape[0] == 1
    white_n, white_r = power_n.shape[0] == 1, power_r.shape[0] == 1
    last = (width + 1) // 2
    for j in range(ny):
        for i in range(half):
            weight = 2.0 if 0 < i < last else 1.0
            a, b = d_n[j, i], d_r[j, i]
            psf = a * psf_n[j, i]
            part = np.float32(1.0) if whole else band[j, i]
            matched = np.conj(psf) * part
            n, r = a * n_hat[j, i], b * r_hat[j, i]
            difference[j, i] = n - r
            ours[j, i], theirs[j, i] = matched * n, matched * r
            k_n[j, i], k_r[j, i] = matched * a, matched * b
            power = weight * (psf.real * psf.real + psf.imag * psf.imag) * part
            p2 = power * part
            a2, b2 = a.real * a.real + a.imag * a.imag, b.real * b.real + b.imag * b.imag
            c_n = 1.0 if white_n else power_n[j, i]
            c_r = 1.0 if white_r else power_r[j, i]
            sums[0] += power
            sums[1] += p2 * a2
            sums[2] += p2 * a2 * c_n
            sums[3] += p2 * b2
            sums[4] += p2 * b2 * c_r
            sums[5] += weight * a2
            sums[6] += weight * a2 * c_n
            sums[7] += weight * b2
            sums[8] += weight * b2 * c_r
    return difference, ours, theirs, k_n, k_r, sums / (ny * width)


@njit(cache=True, nogil=True)
def variance_products(
    k_n: np.ndarray, k_r: np.ndarray, v_n: np.ndarray, v_r: np.ndarray, factor_n: float, factor_r: float
) -> np.ndarray:
    """Return the transform of a variance: squared kernels times variance planes, all transforms."""
    result = np.empty_like(v_n)
    f_n, f_r = np.float32(factor_n), np.float32(factor_r)
    for j in range(v_n.shape[0]):
        for i in range(v_n.shape[1]):
            result[j, i] = f_n * k_n[j, i] * v_n[j, i] + f_r * k_r[j, i] * v_r[j, i]
    return result


@njit(cache=True, nogil=True)
def score_planes(
    ours: np.ndarray,
    theirs: np.ndarray,
    variance: np.ndarray,
    border: int,
    score: np.ndarray,
    corrected: np.ndarray,
    flux: np.ndarray,
    flux_error: np.ndarray,
    sky_variance: float,
    response: float,
    moved: tuple[float, float],
    relative: float,
) -> None:
    """Fill the planes of the core of a tile.

    Parameters
    ----------
    ours, theirs
        Science and reference part of S on the whole tile.

    variance
        Variance of S from the pixels.

    border
        Of the tile, pixels, at least 1.

    score, corrected, flux, flux_error
        Parts of the planes of the difference; changed in place.

    sky_variance
        Variance of S on blank sky.

    response
        S of a source of unit flux.

    moved
        Variance of the registration along x and y, pixels^2.

    relative
        Relative variance of the flux ratio and of the PSFs.
    """
    rows, columns = score.shape
    one, half = np.float32(1.0), np.float32(0.5)
    sky, floor = np.float32(1.0 / np.sqrt(sky_variance)), np.float32(0.5 * sky_variance)
    scale, moved_x, moved_y = np.float32(1.0 / response), np.float32(moved[0]), np.float32(moved[1])
    share = np.float32(relative)
    # what both images show, the fainter of the two: no new or vanished source raises its own error
    static = np.empty((rows + 2, columns + 2), np.float32)
    for j in range(rows + 2):
        for i in range(columns + 2):
            n, r = ours[j + border - 1, i + border - 1], theirs[j + border - 1, i + border - 1]
            static[j, i] = n if abs(n) < abs(r) else r
    for j in range(rows):
        for i in range(columns):
            s = ours[j + border, i + border] - theirs[j + border, i + border]
            # rounding must not let the variance fall to nothing beside bright sources
            v = max(variance[j + border, i + border], floor)
            middle = static[j + 1, i + 1]
            slope_x = half * (static[j + 1, i + 2] - static[j + 1, i])
            slope_y = half * (static[j + 2, i + 1] - static[j, i + 1])
            whole = v + moved_x * slope_x * slope_x + moved_y * slope_y * slope_y + share * middle * middle
            score[j, i] = s * sky
            corrected[j, i] = s * (one / np.sqrt(whole))
            flux[j, i] = s * scale
            flux_error[j, i] = np.sqrt(v) * scale


@njit(cache=True, nogil=True)
def grow_bits(mask: np.ndarray, which: int, radius: float, cores: int, core_radius: float) -> np.ndarray:
    """Return a mask in which some bits of every pixel also stand on all pixels around it.

    The bits ``which`` within ``radius``, and of these the bits ``cores`` within the larger ``core_radius``.
    """
    ny, nx = mask.shape
    grown = mask.copy()
    for j in range(ny):
        for i in range(nx):
            value = mask[j, i] & which
            if value == 0:
                continue
            _paint(grown, j, i, value, radius)
            if value & cores:
                _paint(grown, j, i, value & cores, core_radius)
    return grown


@njit(cache=True, nogil=True)
def _paint(grown: np.ndarray, j: int, i: int, value: int, radius: float) -> None:
    """Set bits on a disc."""
    ny, nx = grown.shape
    reach = int(np.ceil(radius))
    limit = radius * radius + 0.5
    for dj in range(max(-reach, -j), min(reach, ny - 1 - j) + 1):
        for di in range(max(-reach, -i), min(reach, nx - 1 - i) + 1):
            if dj * dj + di * di <= limit:
                grown[j + dj, i + di] |= value
