"""Pixels that are not sky: saturated stars, bad lines, ghosts, and the halos of bright stars.

Cosmic rays, bright stars with their bleeding charge and spikes, and trails have modules of their own.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import AlignedPair
from astrid_assets.science.background import robust_std
from astrid_assets.science.cosmic_rays import find_cosmic_rays
from astrid_assets.science.resample import embed

__all__ = [
    "find_bad_lines",
    "find_cosmic_rays",
    "find_ghosts",
    "find_hot_pixels",
    "find_saturation",
    "grown",
    "halo_flux",
    "mark",
]


def mark(mask: np.ndarray, where: np.ndarray, plane: str) -> np.ndarray:
    """Return a copy of a mask with one plane set where asked."""
    marked = np.array(mask, np.int32)
    index = np.flatnonzero(where)
    marked.reshape(-1)[index] |= bits(plane)
    return marked


def find_saturation(image: MaskedImage, *, grow: int = 1) -> np.ndarray:
    """Return the saturated pixels and those next to them, from the saturation level.

    Parameters
    ----------
    image
        Not background-subtracted. Without a saturation level nothing is found.

    grow
        Pixels by which to grow: the neighbours of a saturated pixel are no longer linear.
    """
    saturated = (image.mask & bits("SATURATED")) != 0
    if image.saturation is not None:
        with np.errstate(invalid="ignore"):
            saturated = saturated | (image.data >= 0.95 * image.saturation)
    return grown(saturated, grow)


def grown(where: np.ndarray, radius: int) -> np.ndarray:
    """Grow the marked pixels of a boolean image by squares; fast where few are marked.

    Parameters
    ----------
    where
        Boolean image.

    radius
        Half the side of the squares, pixels.
    """
    ny, nx = where.shape
    y, x = np.nonzero(where)
    wide = where.copy()
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            wide[np.clip(y + dy, 0, ny - 1), np.clip(x + dx, 0, nx - 1)] = True
    return wide


HOT_CONTRAST, HOT_SIGNIFICANCE = 8.0, 20.0
"""How much brighter than its brightest neighbour, and than the noise, a pixel is that no star makes: a star
of 1.3 pixels FWHM on the middle of a pixel reaches six times its neighbour."""


def find_hot_pixels(image: MaskedImage, *, grow: int = 0) -> np.ndarray:
    """Find single pixels that are sharper than any star: hot pixels and hits, wherever they lie.

    Parameters
    ----------
    image
        With or without its sky.

    grow
        Pixels around them to be marked as well.

    Returns
    -------
    numpy.ndarray
        Boolean image.
    """
    sample = image.data[::7, ::5]
    sample = sample[np.isfinite(sample)]
    found = np.zeros(image.shape, bool)
    if not sample.size:
        return found
    sky, noise = float(np.median(sample)), robust_std(sample)
    with np.errstate(invalid="ignore"):
        bright = np.flatnonzero(image.data > sky + HOT_SIGNIFICANCE * max(noise, 1e-30))
    ny, nx = image.shape
    y, x = np.divmod(bright, nx)
    inside = (y > 0) & (x > 0) & (y < ny - 1) & (x < nx - 1)
    y, x = y[inside], x[inside]
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    around = np.max([image.data[y + dy, x + dx] for dy, dx in steps], axis=0, initial=-np.inf)
    # the noise of the neighbours is no light
    hot = image.data[y, x] - sky > HOT_CONTRAST * np.maximum(around - sky, noise)
    found[y[hot], x[hot]] = True
    return grown(found, grow)


GHOST_CELL = 16
"""Side of the cells in which smooth extra light is looked for, pixels."""


def find_ghosts(
    residual: np.ndarray, rms: np.ndarray, bad: np.ndarray, *, threshold: float = 5.0
) -> np.ndarray:
    """Find smooth extra light: ghosts, reflections, wings of bright stars that changed.

    In every cell of 16 x 16 pixels of a residual the positive and the negative pixels are counted (the
    sign test, whether the median is zero); at least four neighbouring cells must exceed the threshold. Signs
    leave out what is small enough to be a source; the wings of a star that only this image shows are
    no ghost.

    Parameters
    ----------
    residual
        Science minus scaled reference, both background-subtracted, ``(ny, nx)``; their PSFs
        need not match.

    rms
        Noise of its pixels; tells the new stars.

    bad
        Boolean image of pixels to leave out; cells with less than a quarter of their pixels
        are not judged.

    threshold
        Significance of a cell, sigma.

    Returns
    -------
    numpy.ndarray
        Boolean image.
    """
    ny, nx = residual.shape
    rows, columns = ny // GHOST_CELL, nx // GHOST_CELL
    if rows < 3 or columns < 3:
        return np.zeros(residual.shape, bool)
    sums, usable = (_cell_sums(signs, rows, columns) for signs in _signs(residual, bad))
    judged = (usable >= GHOST_CELL**2 // 4) & ~_around_new_stars(residual, rms, bad, (rows, columns))
    significance = np.where(judged, sums / np.sqrt(np.maximum(usable, 1)), 0.0)
    # the mesh of the background leaves a little structure everywhere
    significance /= max(1.0, robust_std(significance))
    groups, _ = ndimage.label(significance > threshold, structure=np.ones((3, 3), int))
    size = np.bincount(groups.ravel())
    size[0] = 0
    glowing = ndimage.binary_dilation(size[groups] >= 4, structure=np.ones((3, 3), bool))
    whole = np.zeros(residual.shape, bool)
    whole[: rows * GHOST_CELL, : columns * GHOST_CELL] = np.kron(
        glowing, np.ones((GHOST_CELL, GHOST_CELL), bool)
    )
    return whole


NEW_STAR = 200.0
"""Sigma of a pixel above which it is the core of a new star, whose wings reach several cells: no ghost is
that bright, and a star of ten thousand sigma raises the cells around it by ten."""

NEW_STAR_CELLS = 3
"""Cells around such a pixel that its wings may reach."""


def _signs(residual: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the signs of the good pixels, and whether a pixel has one; int8."""
    above, below = ((residual > 0) & ~bad).view(np.int8), ((residual < 0) & ~bad).view(np.int8)
    return above - below, above + below


def _cell_sums(signs: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the sums over whole cells."""
    part = signs[: rows * GHOST_CELL, : columns * GHOST_CELL].reshape(rows, GHOST_CELL, -1)
    # sixteen signs fit a byte
    lines = part.sum(axis=1, dtype=np.int8)
    return lines.reshape(rows, columns, GHOST_CELL).sum(axis=2, dtype=np.int64)


def _around_new_stars(
    residual: np.ndarray, rms: np.ndarray, bad: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Return the cells in which the wings of a new bright star would look like a ghost."""
    part = np.s_[: shape[0] * GHOST_CELL, : shape[1] * GHOST_CELL]
    y, x = np.nonzero(residual[part] > NEW_STAR * float(np.min(rms)))
    real = ~bad[y, x] & (residual[y, x] > NEW_STAR * rms[y, x])
    y, x = y[real], x[real]
    cores = np.zeros(shape, bool)
    cores[y // GHOST_CELL, x // GHOST_CELL] = True
    if not cores.any():
        return cores
    side = 2 * NEW_STAR_CELLS + 1
    return ndimage.binary_dilation(cores, structure=np.ones((side, side), bool))


LINE_SEGMENT = 256
"""Length of the pieces of rows and columns that are tested, pixels."""

LINES_AROUND = 15
"""Lines whose median a line is compared with."""

SIGNS_OF_A_BYTE = 64
"""Signs that are summed in one byte, which holds 127."""


def find_bad_lines(
    residual: np.ndarray, rms: np.ndarray, bad: np.ndarray, *, threshold: float = 6.0
) -> np.ndarray:
    """Find bad rows and columns: lines of pixels that differ from their neighbours all along.

    The balance of positive and negative pixels in each piece of 256 is compared with the median of the
    15 lines around it. A fault too small to see in a pixel shows in it, and in every matched filter.

    Parameters
    ----------
    residual, rms, bad
        As for `find_ghosts`.

    threshold
        Significance of a piece, sigma.

    Returns
    -------
    numpy.ndarray
        Boolean image.
    """
    del rms  # asked for by all searches in residuals; signs need none
    found = np.zeros(residual.shape, bool)
    signs, counted = _signs(residual, bad)
    for along in (0, 1):
        sums, usable = (_segment_sums(plane, along) for plane in (signs, counted))
        balance = sums / np.maximum(usable, 1)
        balance -= ndimage.median_filter(balance, (1, LINES_AROUND))
        lines = (np.abs(balance) * np.sqrt(usable) > threshold) & (usable > LINE_SEGMENT // 4)
        marked = found.T if along else found
        for piece, line in zip(*np.nonzero(lines), strict=True):
            marked[piece * LINE_SEGMENT : (piece + 1) * LINE_SEGMENT, line] = True
    return found


def _segment_sums(signs: np.ndarray, along: int) -> np.ndarray:
    """Return the sums over pieces along one axis, ``(piece, line)``; the last piece may be short."""
    starts = np.arange(0, signs.shape[along], SIGNS_OF_A_BYTE)
    small = np.add.reduceat(signs, starts, axis=along, dtype=np.int8)
    small = small.T if along else small
    return np.add.reduceat(small, np.arange(0, len(small), LINE_SEGMENT // SIGNS_OF_A_BYTE), dtype=np.int64)


HALO_RADIUS = 25
"""Distance in pixels to which wings and spikes of bright stars are expected to change."""

HALO_FRACTION = 0.01
"""Share of the flux of a star that a change of its wings three pixels from it may bring: their
scatter from night to night around the stars of the simulated survey."""

HALO_CELL = 4
"""Side of the cells that the halos are summed in, pixels: they change little over it, and what they mark
is uncertain by more than that."""


def halo_flux(pair: AlignedPair) -> np.ndarray:
    """Return the flux of the static sources around each pixel, falling off with their distance.

    Parameters
    ----------
    pair
        Normalized.

    Returns
    -------
    numpy.ndarray
        Sum of ``flux * min(1, 3 / distance)`` over the sources within 25 pixels, in the science
        image's unit, float32 ``(ny, nx)``; the nearest pixels and steep edges are good to a fifth.
    """
    norm = pair.normalization
    data = pair.reference.data
    # comparing with NaN is false
    bright = np.flatnonzero(data > 10.0 * norm.reference_sky_rms)
    coarse = _cell_light(data.ravel()[bright], bright, data.shape)
    kernel = _halo_kernel()
    shape = tuple(fft.next_fast_len(n + len(kernel), real=True) for n in coarse.shape)
    product = fft.rfft2(coarse, shape) * fft.rfft2(embed(kernel, shape))
    field = fft.irfft2(product, shape)[: coarse.shape[0], : coarse.shape[1]] * np.float32(norm.flux_ratio)
    return _enlarged(field, HALO_CELL, data.shape)


def _halo_kernel() -> np.ndarray:
    """Return min(1, 3 / distance) between cells, averaged over the pixels of the cell that shines."""
    reach = -(-HALO_RADIUS // HALO_CELL)
    centres = HALO_CELL * np.arange(-reach, reach + 1)
    inside = np.arange(HALO_CELL) - (HALO_CELL - 1) / 2
    places = (centres[:, None] + inside).ravel()
    distance = np.hypot(places[:, None], places)
    values = np.where(distance <= HALO_RADIUS, 3.0 / np.maximum(distance, 3.0), 0)
    shape = (len(centres), HALO_CELL, len(centres), HALO_CELL)
    return values.reshape(shape).mean(axis=(1, 3)).astype(np.float32)


def _cell_light(values: np.ndarray, place: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the sums over cells of pixels given by their flat index; those at the far edges may be cut."""
    rows, columns = (-(-n // HALO_CELL) for n in shape)
    y, x = np.divmod(place, shape[1])
    cell = (y // HALO_CELL) * columns + x // HALO_CELL
    return np.bincount(cell, values, rows * columns).astype(np.float32).reshape(rows, columns)


def _enlarged(coarse: np.ndarray, cell: int, shape: tuple[int, int]) -> np.ndarray:
    """Return an image whose cells have the given values, linear between their middles."""
    # along x while there are few rows; then the rows are filled whole
    across = _stretched(coarse.T, cell, shape[1]).T
    return _stretched(np.ascontiguousarray(across), cell, shape[0])


def _stretched(coarse: np.ndarray, cell: int, size: int) -> np.ndarray:
    """Enlarge an image along its first axis."""
    padded = np.pad(coarse, ((1, 1), (0, 0)), mode="edge")
    fine = np.empty((len(coarse) * cell, coarse.shape[1]), np.float32)
    for k in range(cell):
        place = (k + 0.5) / cell + 0.5
        below, share = int(place), np.float32(place - int(place))
        low, high = (padded[below + j : below + j + len(coarse)] for j in (0, 1))
        fine[k::cell] = (1 - share) * low + share * high if share else low
    return fine[:size]
