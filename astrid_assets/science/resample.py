"""Small operations on stamps: cutting them out, shifting them, placing them for a transform."""

from __future__ import annotations

import numpy as np
from scipy import fft

__all__ = ["cut_stamps", "embed", "fill_bad", "odd_at_least", "shift_stamps"]


def odd_at_least(size: float) -> int:
    """Return the smallest odd integer that is not below ``size``."""
    whole = int(np.ceil(size))
    return whole + 1 - whole % 2


def cut_stamps(
    image: np.ndarray, x: np.ndarray, y: np.ndarray, size: int, *, fill: float = np.nan
) -> np.ndarray:
    """Cut square stamps centred on the pixels nearest to positions.

    Parameters
    ----------
    image
        ``(ny, nx)``.

    x, y
        Positions, pixels; ``(n,)``.

    size
        Odd side of a stamp.

    fill
        Value outside the image.

    Returns
    -------
    numpy.ndarray
        ``(n, size, size)``, of the type of the image.
    """
    ny, nx = image.shape
    offsets = np.arange(size) - size // 2
    rows = np.clip(np.rint(np.asarray(y)).astype(int), 0, ny - 1)[:, None] + offsets
    columns = np.clip(np.rint(np.asarray(x)).astype(int), 0, nx - 1)[:, None] + offsets
    stamps = image[np.clip(rows, 0, ny - 1)[:, :, None], np.clip(columns, 0, nx - 1)[:, None, :]]
    outside = ((rows < 0) | (rows >= ny))[:, :, None] | ((columns < 0) | (columns >= nx))[:, None, :]
    stamps[outside] = np.asarray(fill).astype(image.dtype)
    return stamps


def shift_stamps(stamps: np.ndarray, dx: np.ndarray | float, dy: np.ndarray | float) -> np.ndarray:
    """Move the content of stamps by a fraction of a pixel, by the shift theorem.

    Exact for images without power above the Nyquist frequency. Stamps are padded by their own
    reflection-free border of zeros, so that nothing wraps around.

    Parameters
    ----------
    stamps
        ``(..., ny, nx)``.

    dx, dy
        Shift of each stamp in pixels, positive to larger x and y; broadcast against the
        leading axes.
    """
    ny, nx = stamps.shape[-2:]
    size = (fft.next_fast_len(ny + 16, real=True), fft.next_fast_len(nx + 16, real=True))
    ky = 2j * np.pi * np.fft.fftfreq(size[0])[:, None]
    kx = 2j * np.pi * np.fft.rfftfreq(size[1])[None, :]
    dx = np.asarray(dx, float)[..., None, None]
    dy = np.asarray(dy, float)[..., None, None]
    return fft.irfft2(fft.rfft2(stamps, size) * (np.exp(-ky * dy) * np.exp(-kx * dx)), size)[..., :ny, :nx]


def embed(stamp: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Place an odd-sized stamp in an image of zeros with its centre at pixel (0, 0), wrapping around.

    A stamp larger than the image is cut symmetrically.
    """
    ny, nx = stamp.shape
    cut_y, cut_x = max(0, (ny - shape[0] + 1) // 2), max(0, (nx - shape[1] + 1) // 2)
    stamp = stamp[cut_y : ny - cut_y, cut_x : nx - cut_x]
    ny, nx = stamp.shape
    image = np.zeros(shape, np.float32)
    image[:ny, :nx] = stamp
    return np.roll(image, (-(ny // 2), -(nx // 2)), axis=(0, 1))


def fill_bad(data: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Replace bad pixels by a weighted mean of the good ones around them.

    The weights are a Gaussian of 1.5 pixels; where that reaches no good pixel the mean of the
    cell of 16, then of 64 pixels is taken. What is left is set to zero, the background.

    Parameters
    ----------
    data
        Background-subtracted image ``(ny, nx)``.

    bad
        Boolean image of the pixels to replace.
    """
    if not bad.any():
        return data
    from astrid_assets.science.resample_kernels import cell_means, fill_near

    grid = np.arange(-4, 5)
    weights = np.exp(-0.5 * (grid[:, None] ** 2 + grid[None, :] ** 2) / 1.5**2)
    data = np.ascontiguousarray(data, np.float32)
    filled, rows, columns = fill_near(data, bad, weights / weights.sum(), 0.05)
    if len(rows):
        near, far = (cell_means(data, bad, rows, columns, side) for side in (16, 64))
        filled[rows, columns] = np.nan_to_num(np.where(np.isfinite(near), near, far))
    return filled
