"""Draws points of light through a varying PSF: a non-uniform FFT, exact at every sub-pixel position.

Points are spread onto a grid of half pixels with a short kernel, whose transform is divided out
again; the convolution and the folding back to whole pixels happen in Fourier space. Spreading
kernel: "exponential of semicircle", Barnett, Magland & af Klinteberg 2019 (SIAM J. Sci. Comput. 41).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from astrid_assets.archives.simulated.optics import PsfField, instrument, phase_structure

__all__ = ["Points", "draw", "field_coordinates", "psf_stamp"]

_PAD = 64
"""Pixels drawn around the image, so that light from outside falls in and none wraps around."""

_WIDTH = 6
"""Half pixels that a point is spread over; errors are below 1e-5 of the peak."""

_BETA = 2.30 * _WIDTH

_CHUNK = 150_000
"""Points spread at a time, to bound the memory."""


@dataclass(frozen=True, eq=False)
class Points:
    """Point-like light: three arrays of shape ``(n,)``."""

    x: np.ndarray
    """Column, pixels."""

    y: np.ndarray
    """Row, pixels."""

    flux: np.ndarray
    """Total flux, ADU."""

    @classmethod
    def joined(cls, *parts: Points) -> Points:
        """Return all points of several sets."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "y", "flux")))


def field_coordinates(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return X of shape ``(1, nx)`` and Y of shape ``(ny, 1)``, -1 to 1 from edge to edge, float32."""
    ny, nx = shape
    x = (2.0 * np.arange(nx, dtype=np.float32) - (nx - 1)) / nx
    y = (2.0 * np.arange(ny, dtype=np.float32) - (ny - 1)) / ny
    return x[None, :], y[:, None]


def draw(points: Points, psf: PsfField, shape: tuple[int, int]) -> np.ndarray:
    """Return the image of points, ADU per pixel, without noise.

    Parameters
    ----------
    points
        What shines.

    psf
        How it is blurred.

    shape
        ``(ny, nx)`` of the image.

    Returns
    -------
    image : 2D array of float32
    """
    coordinates = field_coordinates(shape)
    return _compose(_transformed(points, psf, shape), psf.weights(*coordinates), shape)


def psf_stamp(psf: PsfField, shape: tuple[int, int], x: float, y: float, size: int) -> np.ndarray:
    """Return the PSF at a pixel of an image of ``shape`` as a stamp, centred; its sum is the light inside."""
    half = size // 2
    ny, nx = shape
    local = (np.float32((2 * x - (nx - 1)) / nx), np.float32((2 * y - (ny - 1)) / ny))
    point = Points(*(np.array([value], float) for value in (half, half, 1.0)))
    return _compose(_transformed(point, psf, (size, size)), psf.weights(*local), (size, size))


def _compose(layers: list[np.ndarray], weights: tuple[np.ndarray, ...], shape: tuple[int, int]) -> np.ndarray:
    window = slice(_PAD, _PAD + shape[0]), slice(_PAD, _PAD + shape[1])
    image = layers[0][window].copy()
    for layer, weight in zip(layers[1:], weights, strict=True):
        image += weight * layer[window]
    return image


def _transformed(points: Points, psf: PsfField, shape: tuple[int, int]) -> list[np.ndarray]:
    """Return the convolution with the transfer function and with its three derivatives, padded images."""
    from scipy import fft

    py, px = _padded(shape)
    u, cosine, sine, fixed = _frequency_planes(py, px, psf.spike_angle)
    spectrum = fft.rfft2(_spread(points, py, px))
    u = u * np.float32(psf.fwhm ** (5.0 / 3.0))
    spectrum *= fixed * np.exp(-u)
    images = [_folded_image(spectrum, py, px)]
    spectrum *= u
    images.append(_folded_image(spectrum, py, px))
    images.extend(_folded_image(spectrum * angle, py, px) for angle in (cosine, sine))
    return images


def _padded(shape: tuple[int, int]) -> tuple[int, int]:
    """Return a padded shape that is fast to transform, even sides."""
    from scipy import fft

    sides = ((n + 2 * _PAD + 1) // 2 for n in shape)
    return tuple(2 * fft.next_fast_len(side, real=True) for side in sides)


@lru_cache(maxsize=4)
def _frequency_planes(py: int, px: int, angle: float) -> tuple[np.ndarray, ...]:
    """Return u, cos, sin and the fixed transfer function on the grid of half pixels, float32."""
    from scipy import fft

    fy = fft.fftfreq(2 * py, 0.5).astype(np.float32)[:, None]
    fx = fft.rfftfreq(2 * px, 0.5).astype(np.float32)[None, :]
    spread = _kernel_transform(fy * 0.5) * _kernel_transform(fx * 0.5)
    fixed = instrument(fx, fy, angle) / spread
    return tuple(plane.astype(np.float32) for plane in (*phase_structure(fx, fy), fixed))


def _kernel_transform(frequency: np.ndarray) -> np.ndarray:
    """Return the Fourier transform of the spreading kernel; frequency in cycles per half pixel."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    z = nodes * _WIDTH / 2
    values = weights * _WIDTH / 2 * np.exp(_BETA * (np.sqrt(1 - nodes * nodes) - 1))
    return (np.cos(2 * np.pi * frequency[..., None] * z) @ values).astype(np.float32)


def _spread(points: Points, py: int, px: int) -> np.ndarray:
    """Return the points on the grid of half pixels, float32 ``(2 py, 2 px)``."""
    ny, nx = 2 * py, 2 * px
    u, v = 2.0 * (points.x + _PAD), 2.0 * (points.y + _PAD)
    inside = (u >= _WIDTH) & (u < nx - _WIDTH) & (v >= _WIDTH) & (v < ny - _WIDTH) & (points.flux != 0)
    u, v, flux = u[inside], v[inside], points.flux[inside]
    grid = np.zeros(ny * nx)
    for start in range(0, u.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        (ix, wx), (iy, wy) = _taps(u[part]), _taps(v[part])
        index = iy[:, :, None] * nx + ix[:, None, :]
        weight = (flux[part, None] * wy)[:, :, None] * wx[:, None, :]
        grid += np.bincount(index.ravel(), weight.ravel(), minlength=ny * nx)
    return grid.reshape(ny, nx).astype(np.float32)


def _taps(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid indices, ``(n, 6)``, that points touch and the kernel there."""
    first = np.floor(u - _WIDTH / 2).astype(np.int64) + 1
    index = first[:, None] + np.arange(_WIDTH)
    z = (index - u[:, None]) * (2.0 / _WIDTH)
    return index, np.exp(_BETA * (np.sqrt(np.clip(1.0 - z * z, 0.0, None)) - 1.0))


def _folded_image(spectrum: np.ndarray, py: int, px: int) -> np.ndarray:
    """Return every second sample of the inverse transform: frequencies beyond a half fold back."""
    from scipy import fft

    rows = spectrum[:py] + spectrum[py:]
    mirrored = np.roll(rows[::-1], 1, axis=0)[:, px // 2 :][:, ::-1]
    folded = rows[:, : px // 2 + 1] + np.conj(mirrored)
    return fft.irfft2(folded, (py, px))
