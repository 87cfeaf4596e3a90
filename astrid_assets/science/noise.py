"""Variance planes and the correlation of the noise."""

from __future__ import annotations

import numpy as np
from scipy import fft

from astrid_assets.images.image import MaskedImage
from astrid_assets.science.background import Background, robust_std

__all__ = [
    "blank_pixels",
    "correlation_of",
    "has_counts",
    "power_spectrum",
    "variance_model",
]

CORRELATION_SIDE = 600
"""Side of the part of an image a noise correlation is measured on, pixels: good to 0.002."""

CORRELATION_RADIUS = 5
"""Largest lag of a measured noise correlation, pixels; resampling kernels reach 4."""


def blank_pixels(data: np.ndarray, bad: np.ndarray, rms: np.ndarray, *, threshold: float = 3.0) -> np.ndarray:
    """Return where there is only sky: no source above ``threshold`` sigma after smoothing, and not bad.

    Parameters
    ----------
    data
        Background-subtracted image ``(ny, nx)``.

    bad
        Boolean image of pixels not to be trusted.

    rms
        Noise of a blank pixel, same shape.
    """
    from scipy.ndimage import gaussian_filter, uniform_filter

    significance = gaussian_filter(np.where(bad, 0, data / rms).astype(np.float32), 2.0, truncate=3.0)
    source = np.abs(significance) > threshold * robust_std(significance[::3, ::3])
    # a box sum grows them by three pixels, ten times faster than a dilation
    return uniform_filter((source | bad).astype(np.float32), 7) < 1e-3


def variance_model(data: np.ndarray, background: Background, gain: float | None) -> np.ndarray:
    """Return the variance of each pixel: measured sky noise plus the photon noise of the sources.

    The photon noise is taken from the image smoothed over 3 x 3 pixels and only where that is
    significant, because a variance that follows the noise of its own pixel biases every
    significance (0.8 % on blank sky for unsmoothed data).

    Parameters
    ----------
    data
        Background-subtracted image, ``(ny, nx)``, in counts.

    background
        Sky model with the noise.

    gain
        Electrons per count; None leaves the photon noise of sources out.
    """
    from scipy.ndimage import uniform_filter

    sky = background.rms.astype(np.float32) ** 2
    if gain is None:
        return sky
    signal = uniform_filter(np.nan_to_num(data), 3)
    # the noise of a 3 x 3 mean is a third of the noise of a pixel
    significant = signal > background.rms
    return sky + np.where(significant, signal, 0).astype(np.float32) / np.float32(gain)


def correlation_of(
    data: np.ndarray, blank: np.ndarray, rms: np.ndarray, *, radius: int = CORRELATION_RADIUS
) -> np.ndarray | None:
    """Measure the autocorrelation of the noise on blank sky.

    Parameters
    ----------
    data, rms
        Background-subtracted image and the noise of its pixels.

    blank
        Boolean image of the pixels to use.

    radius
        Largest lag, pixels.

    Returns
    -------
    numpy.ndarray or None
        ``(2 radius + 1, 2 radius + 1)``, 1 at the centre; None where the noise is white within
        three times the error of the measurement, or there are fewer than 1000 blank pixels.
    """
    middle = tuple(slice((n - CORRELATION_SIDE) // 2, (n + CORRELATION_SIDE) // 2) for n in data.shape)
    if min(data.shape) > CORRELATION_SIDE:
        data, blank, rms = data[middle], blank[middle], rms[middle]
    n_blank = int(blank.sum())
    if n_blank < 1000:
        return None
    normal = np.where(blank, data / rms, 0)
    normal = np.clip(normal, -4, 4).astype(np.float32)
    normal = np.where(blank, normal - normal[blank].mean(), 0)
    size = [fft.next_fast_len(n + 2 * radius, real=True) for n in data.shape]
    spectrum = fft.rfft2(normal, size)
    weight = fft.rfft2(blank.astype(np.float32), size)
    product = fft.irfft2(np.abs(spectrum) ** 2, size)
    pairs = fft.irfft2(np.abs(weight) ** 2, size)
    lags = np.arange(-radius, radius + 1)
    window = np.ix_(lags, lags)
    correlation = product[window] / np.maximum(pairs[window], 1.0)
    correlation /= correlation[radius, radius]
    noise = 1.0 / np.sqrt(n_blank)
    # what is left of sources and sky gradients is a pedestal, not pixel noise
    edge = np.median(np.r_[correlation[0], correlation[-1], correlation[:, 0], correlation[:, -1]])
    correlation = (correlation - edge) / (1.0 - edge)
    off_centre = correlation.copy()
    off_centre[radius, radius] = 0
    if np.abs(off_centre).max() < max(3.0 * noise, 0.01):
        return None
    return correlation


def power_spectrum(correlation: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray | float:
    """Return the noise power at the frequencies of `scipy.fft.rfft2`, 1 on average over all.

    Parameters
    ----------
    correlation
        Autocorrelation from `correlation_of`; None gives 1.0 (white).

    shape
        Shape of the transformed image.

    Returns
    -------
    numpy.ndarray or float
        Positive, ``(ny, nx // 2 + 1)``, float32. Values are kept above 1 % of the mean: the
        measured correlation is truncated, and its transform may dip below zero.
    """
    if correlation is None:
        return 1.0
    radius_y, radius_x = correlation.shape[0] // 2, correlation.shape[1] // 2
    image = np.zeros(shape, np.float32)
    lag_y, lag_x = np.arange(-radius_y, radius_y + 1), np.arange(-radius_x, radius_x + 1)
    taper = np.outer(
        *(np.cos(np.pi * lags / (2 * r + 2)) for lags, r in ((lag_y, radius_y), (lag_x, radius_x)))
    )
    image[np.ix_(lag_y, lag_x)] = correlation * taper
    return np.maximum(fft.rfft2(image).real, 0.01).astype(np.float32)


def has_counts(image: MaskedImage) -> bool:
    """Return whether the pixels are counts, so that photon noise follows from a gain."""
    return image.unit is None or image.unit.to_string() in {"adu", "electron", "DN", "ct", "count"}
