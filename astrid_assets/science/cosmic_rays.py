"""Cosmic rays by Laplacian edge detection, computed only where a pixel may be hit."""

from __future__ import annotations

import numpy as np

from astrid_assets.images.image import MaskedImage
from astrid_assets.science.background import Background

__all__ = ["find_cosmic_rays"]

NEIGHBOUR_SHARE = 0.3
"""Share of the threshold that a neighbour of a hit must reach (``sigfrac`` of astroscrappy)."""

STRUCTURE_FLOOR = 0.01
"""Least fine structure, sigma, so that the contrast stays finite (astroscrappy)."""

KERNEL_RADIUS = 2
"""Radius of the PSF that the fine structure is smoothed with, pixels."""

CHUNK = 4096
"""Pixels whose surroundings are looked at together; bounds the memory to 40 MB."""


def find_cosmic_rays(
    image: MaskedImage,
    background: Background,
    psf_fwhm: float,
    *,
    suspects: np.ndarray | None = None,
    threshold: float = 5.0,
    contrast: float = 3.0,
) -> np.ndarray:
    """Find cosmic rays by Laplacian edge detection.

    The algorithm and its numbers are those of astroscrappy (one pass, separable medians, fine
    structure by convolution with a Moffat), of which every step looks at a few pixels around
    the one that it judges; a test holds both against each other.

    Parameters
    ----------
    image
        Single exposure, not background-subtracted, with variance.

    background
        Sky model.

    psf_fwhm
        Seeing in pixels; the fine structure of stars is told from it.

    suspects
        Boolean image of pixels that may be the middle of a hit; its neighbours are added where
        they stand out. All pixels by default.

    threshold
        Laplacian significance of a hit.

    contrast
        Laplacian over fine structure that tells a hit from a star.

    Returns
    -------
    numpy.ndarray
        Boolean image.

    References
    ----------
    van Dokkum 2001, PASP 113, 1420, doi:10.1086/323894.
    """
    around = _Surroundings(image, background, _moffat(psf_fwhm))
    y, x = np.nonzero(~image.bad if suspects is None else suspects & ~image.bad)
    y, x, edge = around.edges(y, x, threshold)
    hit = edge > contrast * around.fine_structure(y, x)
    y, x = y[hit], x[hit]
    # next to a hit the contrast does not count, and further out a fainter edge will do
    for least in (threshold, NEIGHBOUR_SHARE * threshold):
        y, x, _ = around.edges(*around.neighbours(y, x), least)
    found = np.zeros(image.shape, bool)
    found[y, x] = True
    return found


class _Surroundings:
    """Looks at squares of pixels around places of an image, mirrored at its edges."""

    def __init__(self, image: MaskedImage, background: Background, kernel: np.ndarray) -> None:
        self._data, self._variance, self._bad = image.data, image.variance, image.bad
        self._level, self._rms = background.level, background.rms
        self._kernel = kernel

    def edges(self, y: np.ndarray, x: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which pixels reach some S' (van Dokkum 2001, eqs 8 to 13), rows, columns and their S'."""
        parts = [self._edges(y[i : i + CHUNK], x[i : i + CHUNK], least) for i in range(0, len(y), CHUNK)]
        none = (np.empty(0, int), np.empty(0, int), np.empty(0, np.float32))
        return tuple(np.concatenate(column) for column in zip(none, *parts, strict=True))

    def fine_structure(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the fine structure (eq. 14) at some pixels, in sigma."""
        parts = [self._fine_structure(y[i : i + CHUNK], x[i : i + CHUNK]) for i in range(0, len(y), CHUNK)]
        return np.concatenate([np.empty(0, np.float32), *parts])

    def neighbours(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return some pixels and the good ones that touch them, each once."""
        ny, nx = self._data.shape
        dy, dx = (d.ravel() for d in np.mgrid[-1:2, -1:2])
        rows, columns = (np.asarray(v)[:, None] + d for v, d in ((y, dy), (x, dx)))
        inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
        place = np.unique(rows[inside] * nx + columns[inside])
        place = place[~self._bad.ravel()[place]]
        return place // nx, place % nx

    def _edges(self, y: np.ndarray, x: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # the edge alone first, over the least noise that there may be: most pixels are none
        edge = _laplacian(self._pixels(y, x, 1)[0])[:, 0, 0]
        quiet = self._pixels(y, x, 3)[1].min(axis=(1, 2))
        y, x = (place[edge > 2.0 * least * np.sqrt(quiet)] for place in (y, x))
        around = _laplacian(self._pixels(y, x, 4)[0]) / (2.0 * self._noise(y, x, 3))
        edge = around[:, 3, 3] - _median_of_square(around, 7)[:, 0, 0]
        high = edge > least
        return y[high], x[high], edge[high]

    def _fine_structure(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        radius = 4 + KERNEL_RADIUS
        noise = self._noise(y, x, radius)
        weight = 1.0 / noise**2
        flux = _correlate(self._pixels(y, x, radius)[0] * weight, self._kernel)
        flux = flux / _correlate(weight, self._kernel)
        fine = flux[:, 4, 4] - _median_of_square(flux, 9)[:, 0, 0]
        return np.maximum(fine / noise[:, radius, radius], STRUCTURE_FLOOR)

    def _noise(self, y: np.ndarray, x: np.ndarray, radius: int) -> np.ndarray:
        """Return the noise that no hit has raised around some pixels."""
        variance = self._pixels(y, x, radius + 3)[1]
        return np.sqrt(np.maximum(_median_of_square(variance, 7), 1e-5))

    def _pixels(self, y: np.ndarray, x: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
        """Return sky-subtracted data and variance around some pixels, ``(n, side, side)``."""
        step = np.arange(-radius, radius + 1)
        rows, columns = (
            _mirrored(place[:, None] + step, n) for place, n in zip((y, x), self._data.shape, strict=True)
        )
        where = (rows[:, :, None], columns[:, None, :])
        bad = self._bad[where]
        data = np.where(bad, np.float32(0), self._data[where] - self._level[where])
        return data, np.where(bad, self._rms[where] ** 2, self._variance[where])


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    """Return indices with those outside mirrored at the first and last pixel."""
    index = np.abs(index)
    return np.clip(np.where(index >= n, 2 * (n - 1) - index, index), 0, n - 1)


def _laplacian(pixels: np.ndarray) -> np.ndarray:
    """Return the positive Laplacian of pixels halved in each direction, summed back to pixels; eqs 2 to 5.

    Each quarter of a pixel borders on two others, of the pixels beside, above or below it.
    """
    middle = pixels[:, 1:-1, 1:-1]
    up, down = middle - pixels[:, :-2, 1:-1], middle - pixels[:, 2:, 1:-1]
    left, right = middle - pixels[:, 1:-1, :-2], middle - pixels[:, 1:-1, 2:]
    quarters = (np.maximum(a + b, 0) for a in (up, down) for b in (left, right))
    return sum(quarters) * np.float32(0.25)


def _median_of_square(values: np.ndarray, side: int) -> np.ndarray:
    """Return the medians of the medians of rows in squares around each pixel that has one whole."""
    for axis in (-1, -2):
        windows = np.lib.stride_tricks.sliding_window_view(values, side, axis=axis)
        values = np.partition(windows, side // 2, axis=-1)[..., side // 2]
    return values


def _correlate(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return images smoothed with a symmetric kernel, without their borders."""
    side = len(kernel)
    ny, nx = (n - side + 1 for n in values.shape[1:])
    return sum(kernel[j, i] * values[:, j : j + ny, i : i + nx] for j in range(side) for i in range(side))


def _moffat(fwhm: float, beta: float = 4.765) -> np.ndarray:
    """Return the PSF that stars are told by (Trujillo et al. 2001), unit sum."""
    step = np.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1)
    alpha = fwhm / (2.0 * np.sqrt(2.0 ** (1.0 / beta) - 1.0))
    kernel = (1.0 + (step[:, None] ** 2 + step**2) / alpha**2) ** -beta
    return (kernel / kernel.sum()).astype(np.float32)
