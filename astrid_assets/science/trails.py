"""Trails of satellites and aircraft, also those far too faint to be seen in single pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from astrid_assets.science.background import robust_std

__all__ = ["find_trails", "line_sums"]

CELLS = 512
"""Most cells along a side of the image that lines are summed over; their own side is 4 pixels at least."""

SMALLEST_CELL = 4
"""Pixels; a trail of seeing width fills about that."""

CLIP = 3.0
"""Sigma at which pixels are cut, so that no source weighs more in a sum than a bright trail does."""

FLAT_CELLS = 17
"""Side of the box of cells whose mean is subtracted: a wrong sky or a halo makes no trail."""

SHORTEST_LINE = 40
"""Fewest cells of a line that is judged; shorter ones cut the corners of the image."""

SIGNIFICANCE = 7.0
"""Sigma of the sum along a line. A million lines cross an image of 512 x 512 cells: noise alone exceeds 5.9
in one of 200 images (a tail of 2e-9). What badly matched stars leave is no Gaussian noise: the highest line
of an image had 5.6 in the median of 120 images and 7.8 at most, and the parts of the line decide."""

PIECES = 12
"""Parts of a line that are looked at one by one: a trail shines along all of its way, a bright star in one
place only."""

PIECE_SIGNIFICANCE = 5.0
"""Sigma of the median of the parts, as an estimate of the mean along the line."""

STRIP = 24
"""Distance from a line that is looked at around it, pixels; wider than any trail of a satellite."""

HALF_WIDTH = 2
"""Half the width of the band that tells whether there is a trail, pixels; also the least that is masked."""

REFINED = 12
"""Pixels by which the ends of a line are moved to fit the trail: two cells of a large image."""

LEAST_PROFILE = 0.05
"""Share of the height of a trail down to which its wings are masked, where noise does not hide them."""

MOST_TRAILS = 8
"""Trails after which the search ends: an image with more is no image of the sky."""


@dataclass(frozen=True)
class _Line:
    """A straight line across an image: y = y0 + slope (x - x0), or with x and y exchanged if ``steep``."""

    steep: bool
    start: float
    slope: float

    def across(self, along: np.ndarray) -> np.ndarray:
        """Return the coordinate across at places along the main axis."""
        return self.start + self.slope * along


def find_trails(residual: np.ndarray, rms: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Find straight trails that cross an image.

    Pixels over their noise are cut at three sigma, summed in cells, and the cells along all
    straight lines (Brady's fast discrete Radon transform). A line that stands out is a trail if
    it does so along more than half of its way; its place and width are then measured on the pixels.

    Parameters
    ----------
    residual
        Difference image, or science minus scaled reference, ``(ny, nx)``. Trails are positive;
        those of the reference are found in the negative residual.

    rms
        Noise of its pixels, scalar or ``(ny, nx)``.

    bad
        Boolean image of pixels to leave out, among them bad lines.

    Returns
    -------
    numpy.ndarray
        Boolean image of the trails with their wings.

    References
    ----------
    Brady 1998, SIAM J. Comput. 27, 107, doi:10.1137/S0097539793256673; used for trails by Nir, Zackay &
    Ofek 2018, AJ 156, 229, doi:10.3847/1538-3881/aaddff.
    """
    found = np.zeros(residual.shape, bool)
    cell = max(SMALLEST_CELL, -(-max(residual.shape) // CELLS))
    if min(residual.shape) < cell * SHORTEST_LINE:
        return found
    normal = residual / np.asarray(rms, np.float32)
    good = ~bad & np.isfinite(normal)
    normal[~good] = 0
    np.clip(normal, -CLIP, CLIP, out=normal)
    total, number = _cells(normal, cell), _cells(good, cell)
    for _ in range(MOST_TRAILS):
        trail = next(_trails(total, number, cell, normal, good), None)
        if trail is None:
            break
        found |= trail
        seen = _cells(trail, cell) > 0
        total, number = (np.where(seen, np.float32(0), plane) for plane in (total, number))
    return found


def _cells(image: np.ndarray, cell: int) -> np.ndarray:
    """Return the sums over whole cells; the rest at the far edges is left out."""
    rows, columns = (n // cell for n in image.shape)
    part = image[: rows * cell, : columns * cell].reshape(rows, cell, columns * cell)
    lines = part.sum(axis=1, dtype=np.float32)
    return sum(lines[:, k::cell] for k in range(cell))


def _trails(
    total: np.ndarray, number: np.ndarray, cell: int, normal: np.ndarray, good: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the masks of trails, the most significant line first."""
    box = {"size": FLAT_CELLS, "mode": "constant"}
    smooth = ndimage.uniform_filter(total, **box) / np.maximum(ndimage.uniform_filter(number, **box), 1e-3)
    flat = (total - smooth * number) + 1j * number
    for line in _significant_lines(flat.astype(np.complex64), cell):
        trail = _trail(line, normal, good)
        if trail is not None:
            yield trail


def _significant_lines(cells: np.ndarray, cell: int) -> list[_Line]:
    """Return the most significant line of each of the four ranges of direction, where it is enough.

    The real part of the cells is summed; the imaginary part holds their variance.
    """
    lines = []
    for steep, plane in ((False, cells), (True, cells.T)):
        for sign, turned in ((1, plane), (-1, plane[::-1])):
            sums, first = line_sums(np.ascontiguousarray(turned))
            long = sums.imag > SHORTEST_LINE * cell**2
            significance = np.where(long, sums.real / np.sqrt(np.maximum(sums.imag, 1)), 0)
            scatter = max(1.0, robust_std(significance[::7][long[::7]]))
            k, i = np.unravel_index(significance.argmax(), significance.shape)
            height = significance[k, i] / scatter
            if height > SIGNIFICANCE:
                lines.append(
                    (height, _line(steep, sign, int(k), int(i) - first, cell, plane.shape, len(sums)))
                )
    return [line for _, line in sorted(lines, key=lambda found: -found[0])]


def _line(
    steep: bool, sign: int, rise: int, start: int, cell: int, shape: tuple[int, int], width: int
) -> _Line:
    """Return a line of cells in pixels."""
    slope = rise / (width - 1)
    if sign < 0:
        start, slope = shape[0] - 1 - start, -slope
    middle = (cell - 1) / 2
    return _Line(steep, cell * start + middle - slope * middle, slope)


def line_sums(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the sums of an image along all lines that rise by up to 45 degrees.

    Brady's recursion: a line over 2 n columns is one over the first n and one over the last n of them,
    half as much of the rise in each.

    Parameters
    ----------
    image
        Any type, ``(ny, nx)``; zeros are added up to the next power of two of columns, n.

    Returns
    -------
    tuple
        Sums ``(n, n + ny)`` by rise over all columns and row of the start, and the index of the start
        in row 0: lines may enter from below.
    """
    ny, nx = image.shape
    n = 1 << max(0, int(nx - 1).bit_length())
    rows = n + ny
    sums = np.zeros((n, 1, rows), image.dtype)
    sums[:nx, 0, n:] = image.T
    while len(sums) > 1:
        left, right = sums[0::2], sums[1::2]
        rises = left.shape[1]
        sums = np.empty((len(left), 2 * rises, rows), image.dtype)
        for rise in range(rises):
            for half in (0, 1):
                shift = rise + half
                line = sums[:, 2 * rise + half]
                line[:] = left[:, rise]
                line[:, : rows - shift] += right[:, rise, shift:]
    return sums[0], n


def _trail(line: _Line, normal: np.ndarray, good: np.ndarray) -> np.ndarray | None:
    """Return the mask of a trail near a line, or None if there is none along most of it."""
    if line.steep:
        trail = _trail(_Line(False, line.start, line.slope), normal.T, good.T)
        return None if trail is None else trail.T
    line = _refined(line, normal, good)
    sums, numbers = _pieces(line, normal, good)
    middle = slice(STRIP - HALF_WIDTH, STRIP + HALF_WIDTH + 1)
    heights = sums[:, middle].sum(axis=1) / np.sqrt(np.maximum(numbers[:, middle].sum(axis=1), 1))
    # the error of a median is 1.25 times that of a mean
    if np.median(heights) * np.sqrt(len(heights)) / 1.25 < PIECE_SIGNIFICANCE * _scatter(sums, numbers):
        return None
    half = _half_width(sums.sum(axis=0), numbers.sum(axis=0))
    ny, nx = normal.shape
    away = np.arange(ny)[:, None] - line.across(np.arange(nx))
    return np.abs(away) <= half


def _refined(line: _Line, normal: np.ndarray, good: np.ndarray) -> _Line:
    """Move both ends of a line to where the sum along it is largest."""
    sums, numbers = _pieces(line, normal, good)
    width = 2 * HALF_WIDTH + 1
    sums, numbers = (
        ndimage.uniform_filter1d(v, width, axis=1, mode="constant") * width for v in (sums, numbers)
    )
    moves = np.arange(-REFINED, REFINED + 1)
    left, right = (v.ravel() for v in np.meshgrid(moves, moves))
    share = (np.arange(PIECES) + 0.5) / PIECES
    place = np.rint(STRIP + left[:, None] + (right - left)[:, None] * share).astype(int)
    piece = np.arange(PIECES)[None, :]
    height = sums[piece, place].sum(axis=1) / np.sqrt(np.maximum(numbers[piece, place].sum(axis=1), 1))
    best = int(height.argmax())
    slope = (right[best] - left[best]) / normal.shape[1]
    return _Line(False, line.start + left[best], line.slope + slope)


def _pieces(line: _Line, normal: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums and the numbers of pixels at each distance from a line, for its parts.

    Returns
    -------
    tuple
        Both ``(PIECES, 2 STRIP + 1)``.
    """
    ny, nx = normal.shape
    x = np.arange(nx)
    y = np.rint(line.across(x)).astype(int)[:, None] + np.arange(-STRIP, STRIP + 1)
    inside = (y >= 0) & (y < ny)
    y = np.clip(y, 0, ny - 1)
    number = (good[y, x[:, None]] & inside).astype(np.float32)
    values = normal[y, x[:, None]] * number
    # the parts are of the way through the image
    within = np.flatnonzero(inside[:, STRIP])
    edges = np.linspace(within[0], within[-1] + 1, PIECES + 1).astype(int)[:-1] if within.size else None
    if edges is None:
        return np.zeros((PIECES, values.shape[1])), np.zeros((PIECES, values.shape[1]))
    stop = within[-1] + 1
    return np.add.reduceat(values[:stop], edges), np.add.reduceat(number[:stop], edges)


def _scatter(sums: np.ndarray, numbers: np.ndarray) -> float:
    """Return the scatter of the parts beside a line over that of noise, at least 1."""
    far = np.abs(np.arange(-STRIP, STRIP + 1)) > STRIP // 2
    return max(1.0, robust_std(sums[:, far] / np.sqrt(np.maximum(numbers[:, far], 1))))


def _half_width(sums: np.ndarray, numbers: np.ndarray) -> int:
    """Return the distance from a trail to which its light reaches, pixels along the minor axis."""
    profile = sums / np.maximum(numbers, 1)
    far = np.abs(np.arange(-STRIP, STRIP + 1)) > STRIP // 2
    profile = profile - np.median(profile[far])
    error = 1.0 / np.sqrt(max(float(np.median(numbers)), 1.0))
    least = max(LEAST_PROFILE * float(profile[STRIP - 1 : STRIP + 2].max()), 2.0 * error)
    both = np.maximum(profile[STRIP:], profile[STRIP::-1])
    faint = both < least
    reach = int(faint.argmax()) if faint.any() else STRIP
    return max(HALF_WIDTH, reach) + 1
