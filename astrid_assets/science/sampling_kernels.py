"""Compiled inner loops of the resampling. Import this module where it is used: numba loads in a second.

All kernels follow IEEE rules (no fast-math): pixels outside the input are NaN. Indices are unsigned
where speed counts, which spares numba the test for negative ones.
"""

from __future__ import annotations

from math import floor, nan

import numpy as np
from numba import njit

__all__ = [
    "FILL_SHIFT",
    "MASK_SHIFT",
    "evaluate_cells",
    "fill_near",
    "flag_blocks",
    "gather_area",
    "gather_spline",
    "spline_coefficients",
]

MASK_SHIFT = 1
"""Blocks of 2 x 2 pixels tell where a mask plane may be near: larger ones are all near a few bad pixels."""

FILL_SHIFT = 3
"""Blocks of 8 x 8 pixels tell where a good pixel is in reach of the fill."""

SPLINE_POLE = np.float32(np.sqrt(3.0) - 2.0)
"""Pole of the cubic B-spline prefilter (Unser 1999, table 1)."""

SPLINE_START = 14
"""Pixels summed to start the recursion; the pole to this power is 1e-8, the rounding of float32."""

FILL_RADIUS = 5
"""Reach of the Gaussian that fills bad pixels, pixels: 3 sigma, as in `resample.fill_bad`."""

FILL_SIGMA = 1.5
"""Width of that Gaussian, pixels."""

_U = np.uint64


@njit(cache=True, fastmath=False, nogil=True)
def evaluate_cells(
    cells: np.ndarray,
    step: int,
    first_row: int,
    x: np.ndarray,
    y: np.ndarray,
    area: np.ndarray,
    width_x: np.ndarray,
    width_y: np.ndarray,
) -> None:
    """Evaluate a piecewise bicubic map and its Jacobian on some rows of the output grid.

    Parameters
    ----------
    cells
        float64 ``(n_cells_y, n_cells_x, 2, 4, 4)``: coefficients of v^i u^j of the input x and y, with
        u and v from 0 to 1 over a cell.

    step
        Side of a cell, output pixels.

    first_row
        Output row of the first row of the results.

    x, y
        Results, float64 ``(n, nx)``: input position.

    area
        Result: input pixels in an output pixel.

    width_x, width_y
        Results: root-mean-square widths of its footprint; empty arrays stay so.
    """
    n_rows, nx = x.shape
    per_pixel = 1.0 / step
    row = np.empty((4, 4))
    with_widths = width_x.size > 0
    for r in range(n_rows):
        at = first_row + r
        cell_y = at // step
        v = (at - cell_y * step) * per_pixel
        for cell_x in range((nx + step - 1) // step):
            for axis in range(2):
                c = cells[cell_y, cell_x, axis]
                for j in range(4):
                    row[axis, j] = c[0, j] + v * (c[1, j] + v * (c[2, j] + v * c[3, j]))
                    row[2 + axis, j] = (c[1, j] + v * (2 * c[2, j] + v * 3 * c[3, j])) * per_pixel
            x0, x1, x2, x3 = row[0, 0], row[0, 1], row[0, 2], row[0, 3]
            y0, y1, y2, y3 = row[1, 0], row[1, 1], row[1, 2], row[1, 3]
            a0, a1, a2, a3 = row[2, 0], row[2, 1], row[2, 2], row[2, 3]
            b0, b1, b2, b3 = row[3, 0], row[3, 1], row[3, 2], row[3, 3]
            part = slice(cell_x * step, min((cell_x + 1) * step, nx))
            # views from 0 on: their loops are vectorised
            to_x, to_y, to_area = x[r, part], y[r, part], area[r, part]
            for k in range(len(to_x)):
                u = k * per_pixel
                to_x[k] = x0 + u * (x1 + u * (x2 + u * x3))
                to_y[k] = y0 + u * (y1 + u * (y2 + u * y3))
                x_u = (x1 + u * (2 * x2 + u * 3 * x3)) * per_pixel
                y_u = (y1 + u * (2 * y2 + u * 3 * y3)) * per_pixel
                x_v = a0 + u * (a1 + u * (a2 + u * a3))
                y_v = b0 + u * (b1 + u * (b2 + u * b3))
                to_area[k] = abs(x_u * y_v - x_v * y_u)
            if with_widths:
                to_width_x, to_width_y = width_x[r, part], width_y[r, part]
                for k in range(len(to_x)):
                    u = k * per_pixel
                    x_u = (x1 + u * (2 * x2 + u * 3 * x3)) * per_pixel
                    y_u = (y1 + u * (2 * y2 + u * 3 * y3)) * per_pixel
                    x_v = a0 + u * (a1 + u * (a2 + u * a3))
                    y_v = b0 + u * (b1 + u * (b2 + u * b3))
                    to_width_x[k] = np.sqrt(x_u * x_u + x_v * x_v)
                    to_width_y[k] = np.sqrt(y_u * y_u + y_v * y_v)


@njit(cache=True, fastmath=False, nogil=True)
def _filter_rows(c: np.ndarray) -> None:
    """Apply the recursive filter of a spline along the rows, in place, without its gain."""
    ny, nx = c.shape
    z = SPLINE_POLE
    end = z / (z * z - np.float32(1.0))
    for i in range(ny):
        value = c[i, 0]
        power = z
        for j in range(1, min(nx, SPLINE_START)):
            value += power * c[i, j]
            power *= z
        c[i, 0] = value
        for j in range(1, nx):
            value = c[i, j] + z * value
            c[i, j] = value
        value = end * (value + z * c[i, nx - 2])
        c[i, nx - 1] = value
        for j in range(nx - 2, -1, -1):
            value = z * (value - c[i, j])
            c[i, j] = value


@njit(cache=True, fastmath=False, nogil=True)
def spline_coefficients(data: np.ndarray, c: np.ndarray) -> None:
    """Write the coefficients of the cubic spline through an image, mirrored at its borders.

    The recursive filter of Unser (1999, IEEE Signal Proc. Mag. 16, 22, box 2), first along the
    columns, all at once, then along the rows.

    Parameters
    ----------
    data
        float32 ``(ny, nx)``, finite; at least 2 pixels a side.

    c
        Result, float32 ``(ny, nx)``; may be the data itself.
    """
    ny, nx = data.shape
    z = SPLINE_POLE
    end = z / (z * z - np.float32(1.0))
    gain = np.float32(36.0)
    for j in range(nx):
        c[0, j] = gain * data[0, j]
    power = z
    for i in range(1, min(ny, SPLINE_START)):
        for j in range(nx):
            c[0, j] += gain * power * data[i, j]
        power *= z
    for i in range(1, ny):
        for j in range(nx):
            c[i, j] = gain * data[i, j] + z * c[i - 1, j]
    for j in range(nx):
        c[ny - 1, j] = end * (c[ny - 1, j] + z * c[ny - 2, j])
    for i in range(ny - 2, -1, -1):
        for j in range(nx):
            c[i, j] = z * (c[i + 1, j] - c[i, j])
    _filter_rows(c)


@njit(cache=True, fastmath=False, nogil=True)
def flag_blocks(flags: np.ndarray, shift: int, reach: int) -> np.ndarray:
    """Return the square blocks of pixels that have a set pixel, and all blocks within ``reach`` of them.

    Parameters
    ----------
    flags
        ``(ny, nx)``, any integer or boolean type; not 0 is set.

    shift
        Binary logarithm of the side of a block.

    reach
        Blocks.

    Returns
    -------
    numpy.ndarray
        Boolean, the shape divided by the side, rounded up.
    """
    ny, nx = flags.shape
    rows, columns = ((ny - 1) >> shift) + 1, ((nx - 1) >> shift) + 1
    found = np.zeros((rows, columns), np.bool_)
    for i in range(ny):
        line, pixels = found[i >> shift], flags[i]
        for j in range(nx):
            if pixels[j]:
                line[j >> shift] = True
    near = found.copy()
    for i in range(rows):
        for j in range(columns):
            # blocks amid set ones are covered by those at their border
            if found[i, j] and not found[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].all():
                near[max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1] = True
    return near


@njit(cache=True, fastmath=False, nogil=True)
def fill_near(
    data: np.ndarray, variance: np.ndarray, mask: np.ndarray, bad_bits: int, far: float, typical: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return data and variance with every bad pixel replaced from the good ones around it.

    Parameters
    ----------
    data
        float32 ``(ny, nx)``; may be NaN where bad. A bad pixel takes the Gaussian mean of the good ones
        in reach.

    variance
        float32, of the same shape, or empty.

    mask, bad_bits
        Mask planes, int32 ``(ny, nx)``, and those that mean bad.

    far
        Value of bad pixels that have no good pixel in reach.

    typical
        Variance of bad pixels.

    Returns
    -------
    tuple of numpy.ndarray
        Data and variance.
    """
    ny, nx = data.shape
    filled, known = data.copy(), variance.copy()
    weight = np.empty(FILL_RADIUS + 1)
    for k in range(FILL_RADIUS + 1):
        weight[k] = np.exp(-0.5 * (k / FILL_SIGMA) ** 2)
    good = _good_blocks(mask, bad_bits)
    for i in range(ny):
        planes = mask[i]
        for j in range(nx):
            if not planes[j] & bad_bits:
                continue
            filled[i, j] = far
            if known.size:
                known[i, j] = typical
            row, column = i >> FILL_SHIFT, j >> FILL_SHIFT
            if good[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].any():
                filled[i, j] = _good_mean(data, mask, bad_bits, i, j, weight, far)
    return filled, known


@njit(cache=True, fastmath=False, nogil=True)
def _good_blocks(mask: np.ndarray, bad_bits: int) -> np.ndarray:
    """Return which blocks have a good pixel."""
    ny, nx = mask.shape
    side = 1 << FILL_SHIFT
    good = np.zeros((((ny - 1) >> FILL_SHIFT) + 1, ((nx - 1) >> FILL_SHIFT) + 1), np.bool_)
    for row in range(good.shape[0]):
        for column in range(good.shape[1]):
            for i in range(row * side, min(ny, row * side + side)):
                for j in range(column * side, min(nx, column * side + side)):
                    if not mask[i, j] & bad_bits:
                        good[row, column] = True
                        break
                if good[row, column]:
                    break
    return good


@njit(cache=True, fastmath=False, nogil=True)
def _good_mean(
    data: np.ndarray, mask: np.ndarray, bad_bits: int, row: int, column: int, weight: np.ndarray, far: float
) -> float:
    """Return the Gaussian mean of the good pixels in reach of a pixel."""
    ny, nx = data.shape
    total = 0.0
    norm = 0.0
    for i in range(max(0, row - FILL_RADIUS), min(ny, row + FILL_RADIUS + 1)):
        for j in range(max(0, column - FILL_RADIUS), min(nx, column + FILL_RADIUS + 1)):
            if not mask[i, j] & bad_bits:
                w = weight[abs(i - row)] * weight[abs(j - column)]
                total += w * data[i, j]
                norm += w
    return total / norm if norm > 0 else far


@njit(cache=True, fastmath=False, nogil=True)
def _mirror(index: int, n: int) -> int:
    """Return an index reflected at the first and last pixel."""
    index = abs(index)
    if index >= n:
        index = 2 * n - 2 - index
    return min(max(index, 0), n - 1)


@njit(cache=True, fastmath=False, nogil=True)
def _weighted(
    image: np.ndarray, column: int, row: int, weight_x: np.ndarray, weight_y: np.ndarray, start: int
) -> float:
    """Return the separable weighted sum around a pixel near the border, mirrored there."""
    ny, nx = image.shape
    total = np.float32(0)
    for b in range(len(weight_y)):
        line = image[_mirror(row - start + b, ny)]
        part = np.float32(0)
        for a in range(len(weight_x)):
            part += weight_x[a] * line[_mirror(column - start + a, nx)]
        total += weight_y[b] * part
    return total


@njit(cache=True, fastmath=False, nogil=True)
def _planes(mask: np.ndarray, first_x: int, last_x: int, first_y: int, last_y: int) -> int:
    """Return all mask planes of a box of pixels, both ends included."""
    planes = np.int32(0)
    for i in range(first_y, last_y + 1):
        for j in range(first_x, last_x + 1):
            planes |= mask[i, j]
    return planes


@njit(cache=True, fastmath=False, nogil=True)
def _basis(f: float, g: float) -> tuple[float, float, float, float]:
    """Return the values of the four cubic B-splines at a fraction of a pixel, with its complement."""
    sixth = np.float32(1.0 / 6.0)
    first, last = g * g * g * sixth, f * f * f * sixth
    second = (np.float32(4.0) + f * f * (np.float32(3.0) * f - np.float32(6.0))) * sixth
    return first, second, np.float32(1.0) - first - second - last, last


@njit(cache=True, fastmath=False, nogil=True)
def _sum_of_4(flat: np.ndarray, p: int, weight: tuple[float, float, float, float]) -> float:
    """Return the weighted sum of four pixels of a flattened image from an index on."""
    first = weight[0] * flat[p] + weight[1] * flat[p + _U(1)]
    return first + (weight[2] * flat[p + _U(2)] + weight[3] * flat[p + _U(3)])


@njit(cache=True, fastmath=False, nogil=True)
def _sum_of_16(
    flat: np.ndarray,
    p: int,
    width: int,
    weight_x: tuple[float, float, float, float],
    weight_y: tuple[float, float, float, float],
) -> float:
    """Return the weighted sum of 4 x 4 pixels of a flattened image of a width, from an index on."""
    total = weight_y[0] * _sum_of_4(flat, p, weight_x)
    total += weight_y[1] * _sum_of_4(flat, p + width, weight_x)
    total += weight_y[2] * _sum_of_4(flat, p + _U(2) * width, weight_x)
    total += weight_y[3] * _sum_of_4(flat, p + _U(3) * width, weight_x)
    return total


@njit(cache=True, fastmath=False, nogil=True)
def _sum_of_36(flat: np.ndarray, p: int, width: int, weight: np.ndarray, taps: tuple[int, int]) -> float:
    """Return the sum of 6 x 6 pixels, weighted from two places (x, y) of a flattened table on."""
    x, y = taps
    s0 = s1 = s2 = s3 = s4 = s5 = np.float32(0)
    for b in range(6):
        w = weight[y + _U(b)]
        s0 += w * flat[p]
        s1 += w * flat[p + _U(1)]
        s2 += w * flat[p + _U(2)]
        s3 += w * flat[p + _U(3)]
        s4 += w * flat[p + _U(4)]
        s5 += w * flat[p + _U(5)]
        p += width
    total = s0 * weight[x] + s1 * weight[x + _U(1)]
    total += s2 * weight[x + _U(2)] + s3 * weight[x + _U(3)]
    return total + s4 * weight[x + _U(4)] + s5 * weight[x + _U(5)]


@njit(cache=True, fastmath=False, nogil=True)
def gather_spline(
    coefficients: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    near: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    area: np.ndarray,
    squared: np.ndarray,
    reach: np.ndarray,
    excess: np.ndarray,
    no_data: int,
    out: np.ndarray,
    out_variance: np.ndarray,
    out_mask: np.ndarray,
) -> None:
    """Interpolate with cubic splines at given positions.

    Parameters
    ----------
    coefficients
        From `spline_coefficients`, ``(ny, nx)``.

    variance
        Variance of the input, float32; ``(0, 0)`` leaves ``out_variance`` alone.

    mask, near
        Mask planes, int32, and the blocks near a set one.

    x, y, area
        Input positions of the output pixels, and the factor to put on their values; float64 ``(n, m)``.

    squared
        Squared weights of the six central taps by phase, float32 ``(n_phases + 1, 6)``.

    reach
        First and last significant tap by phase, counted from the pixel below; int8 ``(n_phases + 1, 2)``.

    excess
        Variance of the correlated noise of the input over that of white noise, by phase (y, x); float32
        ``(q, q)``, ``(1, 1)`` for white noise.

    no_data
        Mask of pixels whose significant taps leave the input.

    out, out_variance, out_mask
        Results, ``(n, m)``; float32, float32, int32.
    """
    ny, nx = coefficients.shape
    n_phases = squared.shape[0] - 1
    q = excess.shape[0]
    with_variance = variance.size > 0
    flat, flat_variance, flat_squared = coefficients.reshape(-1), variance.reshape(-1), squared.reshape(-1)
    width, shift = _U(nx), _U(MASK_SHIFT)
    border_x, border_y = np.empty(4, np.float32), np.empty(4, np.float32)
    for r in range(x.shape[0]):
        row_x, row_y, row_area = x[r], y[r], area[r]
        row_out, row_mask, row_variance = out[r], out_mask[r], out_variance[r if with_variance else 0]
        for k in range(x.shape[1]):
            px, py = row_x[k], row_y[k]
            # a NaN fails both tests
            inner = px >= 2.0 and py >= 2.0 and px < nx - 3 and py < ny - 3
            covered = inner or (px > -1.0 and py > -1.0 and px < nx and py < ny)
            if covered:
                ix, iy = int(px + 1.0) - 1, int(py + 1.0) - 1
                fx, fy = px - ix, py - iy
                phase_x, phase_y = _U(fx * n_phases + 0.5), _U(fy * n_phases + 0.5)
                if not inner:
                    covered = ix + reach[phase_x, 0] >= 0 and ix + reach[phase_x, 1] < nx
                    covered &= iy + reach[phase_y, 0] >= 0 and iy + reach[phase_y, 1] < ny
            if not covered:
                row_out[k] = nan
                row_mask[k] = no_data
                if with_variance:
                    row_variance[k] = nan
                continue
            along_x = _basis(np.float32(fx), np.float32(1.0 - fx))
            along_y = _basis(np.float32(fy), np.float32(1.0 - fy))
            corner = _U(iy) * width + _U(ix)
            if inner:
                value = _sum_of_16(flat, corner - width - _U(1), width, along_x, along_y)
            else:
                border_x[:] = along_x
                border_y[:] = along_y
                value = _weighted(coefficients, ix, iy, border_x, border_y, 1)
            scale = np.float32(row_area[k])
            row_out[k] = value * scale
            if with_variance:
                if inner:
                    taps = (phase_x * _U(6), phase_y * _U(6))
                    spread = _sum_of_36(
                        flat_variance, corner - _U(2) * width - _U(2), width, flat_squared, taps
                    )
                else:
                    spread = _weighted(variance, ix, iy, squared[phase_x], squared[phase_y], 2)
                spread *= excess[_U(fy * q), _U(fx * q)]
                row_variance[k] = spread * scale * scale
            row_mask[k] = 0
            if near[_U(max(iy, 0)) >> shift, _U(max(ix, 0)) >> shift]:
                row_mask[k] = _planes(
                    mask,
                    ix + reach[phase_x, 0],
                    ix + reach[phase_x, 1],
                    iy + reach[phase_y, 0],
                    iy + reach[phase_y, 1],
                )


@njit(cache=True, fastmath=False, nogil=True)
def _overlaps(
    centre: float, width: float, n: int, significant: float, weight: np.ndarray
) -> tuple[int, int, int, int]:
    """Write the shares of an interval that lie in each pixel; return the taps, -1 where it leaves the input.

    Returns the first and last pixel of the interval, and the first and last significant ones.
    """
    low, high = centre - 0.5 * width, centre + 0.5 * width
    first, last = floor(low + 0.5), floor(high + 0.5)
    largest = 0.0
    for k in range(first, last + 1):
        weight[k - first] = max(0.0, min(high, k + 0.5) - max(low, k - 0.5))
        largest = max(largest, weight[k - first])
    begin, end = first, last
    while weight[begin - first] < significant * largest:
        begin += 1
    while weight[end - first] < significant * largest:
        end -= 1
    if begin < 0 or end >= n:
        return first, last, -1, -1
    total = 0.0
    for k in range(first, last + 1):
        if k < 0 or k >= n:
            weight[k - first] = 0.0
        total += weight[k - first]
    for k in range(first, last + 1):
        weight[k - first] /= total
    return first, last, begin, end


@njit(cache=True, fastmath=False, nogil=True)
def _largest(widths: np.ndarray) -> float:
    """Return the largest width, at least 1; a NaN, where there is no position, is none."""
    largest = 1.0
    for row in widths:
        for width in row:
            if width > largest:
                largest = width
    return largest


@njit(cache=True, fastmath=False, nogil=True)
def gather_area(
    data: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    near: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    area: np.ndarray,
    width_x: np.ndarray,
    width_y: np.ndarray,
    significant: float,
    excess: np.ndarray,
    no_data: int,
    out: np.ndarray,
    out_variance: np.ndarray,
    out_mask: np.ndarray,
) -> None:
    """Average the input over a box around given positions, with the exact overlap of each pixel.

    Parameters
    ----------
    data, variance, mask, near, x, y, area, excess, no_data, out, out_variance, out_mask
        As in `gather_spline`, with the data itself.

    width_x, width_y
        Sides of the box, input pixels, at least 1; float64 ``(n, m)``.

    significant
        Share of the largest weight from which a tap is significant.
    """
    ny, nx = data.shape
    q = excess.shape[0]
    with_variance = variance.size > 0
    n_taps = int(max(_largest(width_x), _largest(width_y))) + 3
    weight_x, weight_y, squared_x = np.zeros(n_taps), np.zeros(n_taps), np.zeros(n_taps)
    flat, flat_variance = data.reshape(-1), variance.reshape(-1)
    for r in range(x.shape[0]):
        for k in range(x.shape[1]):
            px, py = x[r, k], y[r, k]
            out[r, k] = nan
            out_mask[r, k] = no_data
            if with_variance:
                out_variance[r, k] = nan
            if not (px > -1.0 and py > -1.0 and px < nx and py < ny):
                continue
            x0, x1, x_first, x_last = _overlaps(px, width_x[r, k], nx, significant, weight_x)
            y0, y1, y_first, y_last = _overlaps(py, width_y[r, k], ny, significant, weight_y)
            if x_first < 0 or y_first < 0:
                continue
            start, n_x = max(x0, 0), _U(min(x1, nx - 1) + 1 - max(x0, 0))
            tap_x, tap_y = _U(start - x0), _U(max(y0, 0) - y0)
            for j in range(n_x):
                squared_x[j] = weight_x[tap_x + j] * weight_x[tap_x + j]
            p = _U(max(y0, 0)) * _U(nx) + _U(start)
            value = 0.0
            spread = 0.0
            for i in range(_U(min(y1, ny - 1) + 1 - max(y0, 0))):
                w = weight_y[tap_y + i]
                part = 0.0
                for j in range(n_x):
                    part += weight_x[tap_x + j] * flat[p + j]
                value += w * part
                part = 0.0
                for j in range(n_x if with_variance else _U(0)):
                    part += squared_x[j] * flat_variance[p + j]
                spread += w * w * part
                p += _U(nx)
            scale = area[r, k]
            out[r, k] = value * scale
            if with_variance:
                spread *= excess[int((py - floor(py)) * q), int((px - floor(px)) * q)]
                out_variance[r, k] = spread * scale * scale
            out_mask[r, k] = 0
            if near[max(int(py), 0) >> MASK_SHIFT, max(int(px), 0) >> MASK_SHIFT]:
                out_mask[r, k] = _planes(mask, x_first, x_last, y_first, y_last)
