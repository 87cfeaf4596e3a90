"""Pixels that are not sky: saturated stars with their bleeding charge, and cosmic rays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import fft, ndimage

from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import AlignedPair
from astrid_assets.science.background import Background, finite_median, robust_std
from astrid_assets.science.resample import embed

__all__ = ["find_bad_lines", "find_cosmic_rays", "find_ghosts", "find_saturation", "halo_flux", "mark"]


def mark(mask: np.ndarray, where: np.ndarray, plane: str) -> np.ndarray:
    """Return a copy of a mask with one plane set where asked."""
    return np.where(where, mask | bits(plane), mask).astype(np.int32)


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
    if not saturated.any():
        return saturated
    return ndimage.binary_dilation(saturated, structure=np.ones((3, 3), bool), iterations=grow)


GHOST_CELL = 16
"""Side of the cells in which smooth extra light is looked for, pixels."""


def find_ghosts(
    residual: np.ndarray, rms: np.ndarray, bad: np.ndarray, *, threshold: float = 5.0
) -> np.ndarray:
    """Find smooth extra light: ghosts, reflections, wings of bright stars that changed.

    The median of every cell of 16 x 16 pixels of a residual is compared with its own error;
    at least four neighbouring cells must exceed the threshold. Medians leave out what is small
    enough to be a source; the wings of a star that only this image shows are no ghost.

    Parameters
    ----------
    residual
        Science minus scaled reference, both background-subtracted, ``(ny, nx)``; their PSFs
        need not match.

    rms
        Noise of its pixels.

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
    normal = np.where(bad, np.nan, residual / rms)[: rows * GHOST_CELL, : columns * GHOST_CELL]
    cells = normal.reshape(rows, GHOST_CELL, columns, GHOST_CELL).swapaxes(1, 2).reshape(rows, columns, -1)
    level, usable = finite_median(cells)
    judged = (usable >= GHOST_CELL**2 // 4) & ~_around_new_stars(normal, (rows, columns))
    level = np.where(judged, level, 0.0)
    # the error of a median is 1.25 times that of a mean
    significance = level * np.sqrt(usable) / 1.25
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


def _around_new_stars(normal: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the cells in which the wings of a new bright star would look like a ghost."""
    y, x = np.nonzero(normal > NEW_STAR)
    cores = np.zeros(shape, bool)
    cores[y // GHOST_CELL, x // GHOST_CELL] = True
    if not cores.any():
        return cores
    side = 2 * NEW_STAR_CELLS + 1
    return ndimage.binary_dilation(cores, structure=np.ones((side, side), bool))


LINE_SEGMENT = 256
"""Length of the pieces of rows and columns that are tested, pixels."""


def find_bad_lines(
    residual: np.ndarray, rms: np.ndarray, bad: np.ndarray, *, threshold: float = 6.0
) -> np.ndarray:
    """Find bad rows and columns: lines of pixels that differ from their neighbours all along.

    The median of each piece of 256 pixels is compared with the medians of the 15 lines around
    it. A fault too small to see in a pixel shows in the median, and in every matched filter.

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
    normal = np.where(bad, np.nan, residual / rms)
    found = np.zeros(residual.shape, bool)
    for values, marked in ((normal, found), (normal.T, found.T)):
        for start in range(0, len(values), LINE_SEGMENT):
            level, usable = finite_median(values[start : start + LINE_SEGMENT].T)
            level -= ndimage.median_filter(level, 15)
            # the error of a median is 1.25 times that of a mean
            significance = np.abs(level) * np.sqrt(usable) / 1.25
            lines = (significance > threshold) & (usable > LINE_SEGMENT // 4)
            marked[start : start + LINE_SEGMENT, lines] = True
    return found


HALO_RADIUS = 25
"""Distance in pixels to which wings and spikes of bright stars are expected to change."""

HALO_FRACTION = 0.01
"""Share of the flux of a star that a change of its wings three pixels from it may bring: their
scatter from night to night around the stars of the simulated survey."""


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
        image's unit, float32 ``(ny, nx)``.
    """
    norm = pair.normalization
    data = np.nan_to_num(pair.reference.data)
    bright = np.where(data > 10.0 * norm.reference_sky_rms, data, 0).astype(np.float32)
    grid = np.arange(-HALO_RADIUS, HALO_RADIUS + 1)
    distance = np.hypot(grid[:, None], grid[None, :])
    kernel = np.where(distance <= HALO_RADIUS, 3.0 / np.maximum(distance, 3.0), 0).astype(np.float32)
    shape = tuple(fft.next_fast_len(n + HALO_RADIUS, real=True) for n in data.shape)
    product = fft.rfft2(bright, shape) * fft.rfft2(embed(kernel, shape))
    return fft.irfft2(product, shape)[: data.shape[0], : data.shape[1]] * np.float32(norm.flux_ratio)


def find_cosmic_rays(
    image: MaskedImage,
    background: Background,
    psf_fwhm: float,
    *,
    suspects: np.ndarray | None = None,
    threshold: float = 5.0,
    contrast: float = 3.0,
) -> np.ndarray:
    """Find cosmic rays by Laplacian edge detection (van Dokkum 2001), with astroscrappy.

    Parameters
    ----------
    image
        Single exposure, not background-subtracted, with variance.

    background
        Sky model; added back because the algorithm expects it.

    psf_fwhm
        Seeing in pixels; the fine structure of stars is told from it.

    suspects
        Boolean image of pixels that may be hit; only cells of 32 pixels that hold one are
        searched. All by default.

    threshold
        Laplacian significance of a hit.

    contrast
        Laplacian over fine structure that tells a hit from a star.

    Returns
    -------
    numpy.ndarray
        Boolean image.
    """
    planes = (
        np.where(image.bad, background.level, image.data).astype(np.float32),
        image.bad,
        background.level.astype(np.float32),
        np.where(image.bad, background.rms**2, image.variance).astype(np.float32),
    )
    # the medians inside leave a border as it is: stars at the edge of an image would pass for hits
    planes = tuple(np.pad(plane, _CELL_BORDER, mode="reflect") for plane in planes)
    hits = np.zeros(image.shape, bool)
    for core, wide in _cells(image.shape):
        if suspects is None or suspects[core].any():
            part = (np.ascontiguousarray(plane[wide]) for plane in planes)
            found = _laplacian_hits(*part, psf_fwhm, threshold, contrast)
            hits[core] = found[_CELL_BORDER:-_CELL_BORDER, _CELL_BORDER:-_CELL_BORDER]
    return hits


_CELL, _CELL_BORDER = 32, 8
"""Side of a cell and of the border around it, pixels; the medians reach six."""


def _cells(shape: tuple[int, int]) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Yield the cells of an image, and with their borders in the padded image."""
    for y in range(0, shape[0], _CELL):
        for x in range(0, shape[1], _CELL):
            ends = (min(y + _CELL, shape[0]), min(x + _CELL, shape[1]))
            core = (slice(y, ends[0]), slice(x, ends[1]))
            yield core, (slice(y, ends[0] + 2 * _CELL_BORDER), slice(x, ends[1] + 2 * _CELL_BORDER))


def _laplacian_hits(
    data: np.ndarray,
    bad: np.ndarray,
    level: np.ndarray,
    variance: np.ndarray,
    psf_fwhm: float,
    threshold: float,
    contrast: float,
) -> np.ndarray:
    """Return the cosmic rays of one cell."""
    import astroscrappy

    hits, _ = astroscrappy.detect_cosmics(
        data,
        inmask=bad,
        inbkg=level,
        invar=variance,
        satlevel=np.inf,
        sigclip=threshold,
        sigfrac=0.3,
        objlim=contrast,
        niter=1,
        sepmed=True,
        fsmode="convolve",
        psfmodel="moffat",
        psffwhm=float(psf_fwhm),
        psfsize=5,
    )
    return hits
