"""The same sources in two images of different PSFs: flux ratio and shift of each.

Each image is convolved with the PSF of the other, so that both have the same PSF whatever the
shape of a source, and the science stamp is fitted by the reference stamp and its gradients.
Where this fit is perfect, ZOGY leaves nothing: it solves N * P_r = f R * P_n.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import fft

from astrid_assets.images.image import MaskedImage
from astrid_assets.science.resample import cut_stamps, embed, fill_bad, odd_at_least

__all__ = ["Comparison", "compare_sources"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Flux ratio and shift of single sources; arrays ``(n,)``, NaN where a fit is impossible."""

    x: np.ndarray
    """Position, pixels."""

    y: np.ndarray
    """Position, pixels."""

    ratio: np.ndarray
    """Flux in the science image over flux in the reference."""

    ratio_error: np.ndarray
    """1-sigma error from both variance planes."""

    dx: np.ndarray
    """Shift science - reference in x, pixels."""

    dy: np.ndarray
    """Shift science - reference in y, pixels."""

    position_error: np.ndarray
    """1-sigma error of a coordinate of the shift, mean of both axes, pixels."""

    mismatch: np.ndarray
    """What is left at the peak after the fit, as a share of the peak: the error of the PSFs."""

    mismatch_error: np.ndarray
    """Its 1-sigma error from both variance planes."""

    def replaced(self, where: np.ndarray, other: Comparison, which: np.ndarray) -> Comparison:
        """Return a copy with some entries taken from another comparison, in order."""
        columns = {}
        for column in fields(self):
            columns[column.name] = getattr(self, column.name).copy()
            columns[column.name][where] = getattr(other, column.name)[which]
        return Comparison(**columns)


def compare_sources(science: MaskedImage, reference: MaskedImage, x: np.ndarray, y: np.ndarray) -> Comparison:
    """Fit the sources of a science image by those of its aligned reference.

    Parameters
    ----------
    science, reference
        Background-subtracted, on the same grid, with PSF and variance.

    x, y
        Positions, pixels; ``(n,)``. The sources need not be stars.
    """
    n = len(x)
    if n == 0:
        return Comparison(*(np.zeros(0),) * 9)
    x, y = np.asarray(x, float), np.asarray(y, float)
    radius = 1.25 * max(science.psf.fwhm, reference.psf.fwhm)
    reach = odd_at_least(2 * radius + 1)
    # the convolution needs the pixels that scatter into the fitted area
    size = reach + 2 * odd_at_least(2.0 * radius)
    bad_pixels = science.bad | reference.bad
    bad = cut_stamps(bad_pixels, x, y, size, fill=True)
    psf_s, psf_r = _fitting(science.psf.at(x, y), size), _fitting(reference.psf.at(x, y), size)
    ours = _convolved(_filled(science.data, bad_pixels, x, y, size), psf_r)
    theirs = _convolved(_filled(reference.data, bad_pixels, x, y, size), psf_s)
    slope_y, slope_x = _gradient(theirs)
    grid = np.arange(size) - size // 2
    area = (grid[:, None] ** 2 + grid[None, :] ** 2) <= radius**2
    parts = np.stack([theirs, slope_x, slope_y], axis=1) * area
    normal = np.einsum("nayx,nbyx->nab", parts, parts)
    scale = np.sqrt(np.maximum(np.einsum("naa->na", normal), 1e-30))
    scaled = normal / scale[:, :, None] / scale[:, None, :] + 1e-9 * np.eye(3)
    weights = (
        np.einsum("nab,nbyx->nayx", np.linalg.inv(scaled), parts / scale[..., None, None])
        / scale[..., None, None]
    )
    fitted = np.einsum("nayx,nyx->na", weights, ours)
    # both images are filled alike: a few pixels in the wings do little harm
    broken = (bad & area).sum(axis=(1, 2)) > 0.15 * area.sum()
    broken |= cut_stamps(bad_pixels, x, y, 3, fill=True).any(axis=(1, 2)) | ~(fitted[:, 0] > 0)
    ratio = np.where(broken, np.nan, fitted[:, 0])
    middle = size // 2
    model = np.einsum("na,nayx->nyx", fitted, parts)
    peak = np.abs(model[:, middle, middle])
    # weights of the residual at the peak: the pixel itself less what the fit makes of it
    rest = -np.einsum("na,nayx->nyx", parts[:, :, middle, middle], weights)
    rest[:, middle, middle] += 1.0
    weights = np.concatenate([weights, rest[:, None] / np.maximum(peak, 1e-30)[:, None, None, None]], axis=1)
    variance = _error(weights, psf_r, _stamps(np.where(bad_pixels, 0, science.variance), x, y, size))
    variance += fitted[:, :1] ** 2 * _error(
        weights, psf_s, _stamps(np.where(bad_pixels, 0, reference.variance), x, y, size)
    )
    errors = np.sqrt(variance)
    return Comparison(
        x,
        y,
        ratio,
        np.where(broken, np.nan, errors[:, 0]),
        -fitted[:, 1] / ratio,
        -fitted[:, 2] / ratio,
        0.5 * (errors[:, 1] + errors[:, 2]) / ratio,
        np.where(broken, np.nan, (ours[:, middle, middle] - model[:, middle, middle]) / peak),
        errors[:, 3],
    )


def _stamps(image: np.ndarray, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Cut stamps, with zeros outside the image and where there is no value."""
    return np.nan_to_num(cut_stamps(image, x, y, size, fill=0.0)).astype(float)


def _filled(image: np.ndarray, bad: np.ndarray, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Cut stamps whose bad pixels are filled from their surroundings; zeros outside the image."""
    stamps, spoiled = _stamps(image, x, y, size), cut_stamps(bad, x, y, size, fill=False)
    for i in np.flatnonzero(spoiled.any(axis=(1, 2))):
        stamps[i] = fill_bad(stamps[i], spoiled[i])
    return stamps


def _fitting(psf: np.ndarray, size: int) -> np.ndarray:
    """Return PSF stamps as images of a given size with their centre on pixel (0, 0)."""
    return np.array([embed(stamp, (size, size)) for stamp in psf])


def _convolved(stamps: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Convolve each stamp with its own kernel; edges wrap around and are not used."""
    return fft.irfft2(fft.rfft2(stamps) * fft.rfft2(kernels), stamps.shape[-2:])


def _gradient(stamps: np.ndarray) -> list[np.ndarray]:
    """Return the derivatives along y and x, by the derivative theorem."""
    ny, nx = stamps.shape[-2:]
    transform = fft.rfft2(stamps)
    ky = 2j * np.pi * np.fft.fftfreq(ny)[:, None]
    kx = 2j * np.pi * np.fft.rfftfreq(nx)[None, :]
    return [fft.irfft2(transform * k, (ny, nx)) for k in (ky, kx)]


def _error(weights: np.ndarray, psf: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the variance of linear combinations of a convolved image, ``(n, n_weights)``."""
    shape = weights.shape[-2:]
    # a weight on the convolved image is the correlated weight on the image itself
    spread = fft.irfft2(fft.rfft2(weights) * np.conj(fft.rfft2(psf))[:, None], shape)
    return np.einsum("nayx,nyx->na", spread**2, variance)
