"""Variance planes and the correlation of the noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from astrid_assets.images.image import MaskedImage
from astrid_assets.science.background import Background

__all__ = [
    "PairNoise",
    "correlation_of",
    "has_counts",
    "noise_of_pair",
    "power_spectrum",
    "variance_model",
]

CORRELATION_SIDE = 600
"""Side of the part of an image a noise correlation is measured on, pixels: good to 0.002."""

CORRELATION_RADIUS = 8
"""Largest lag of a measured noise correlation, pixels; resampling kernels reach 4, drizzled noise further."""


def variance_model(data: np.ndarray, background: Background, gain: float | None) -> np.ndarray:
    """Return the variance of each pixel: measured sky noise plus the photon noise of the sources.

    A variance that follows the noise of its own pixel biases every significance (0.8 % on blank sky), and
    one that is smoothed misses a fifth of the photon noise of a star of S/N 20. So the photon noise is that
    of the pixel itself where the mean of 3 x 3 pixels is far above the noise, that of the mean where it is
    significant, and none elsewhere.

    Parameters
    ----------
    data
        Background-subtracted image, ``(ny, nx)``, in counts.

    background
        Sky model with the noise.

    gain
        Electrons per count; None leaves the photon noise of sources out.
    """
    from astrid_assets.science.background_kernels import box_mean, photon_variance

    data, rms = (np.ascontiguousarray(plane, np.float32) for plane in (data, background.rms))
    smooth = box_mean(data, ~np.isfinite(data), 1)
    return photon_variance(data, smooth, rms, gain or 0.0, FAINT, BRIGHT)


BRIGHT, FAINT = 5.0, 0.5
"""Means of 3 x 3 pixels above which the pixel itself is taken, and above which the mean is, in units of the
noise of a pixel: 15 and 1.5 sigma of the mean. On blank sky the second adds 0.1 % to the variance."""


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
        ``(2 radius + 1, 2 radius + 1)``, 1 at the centre; None where the noise is white within the error of
        the measurement, or there are fewer than 1000 blank pixels.
    """
    sky = _Sky.of((data,), (rms,), blank, radius)
    return None if sky is None else sky.significant(sky.product(0, 0))


@dataclass(frozen=True)
class PairNoise:
    """The noise of two images of the same sky, without the light that both show.

    Faint stars and galaxies that no mask holds are noise in one image, and cancel in the difference.
    """

    correlations: tuple[np.ndarray | None, np.ndarray | None]
    """Of science image and reference, as from `correlation_of`."""

    static_shares: tuple[float, float]
    """Share of the variance of blank pixels that is light both show; 0 where it is not significant."""


def noise_of_pair(
    images: tuple[np.ndarray, np.ndarray],
    rms: tuple[np.ndarray, np.ndarray],
    blank: np.ndarray,
    flux_ratio: float,
    *,
    radius: int = CORRELATION_RADIUS,
) -> PairNoise | None:
    """Measure the noise correlations of a pair on pixels that are blank in both.

    The covariance of the two images is that of the static light, and is taken out of both
    autocovariances, for PSFs that are not too different.

    Parameters
    ----------
    images, rms
        Background-subtracted science image and reference, and the noise of their pixels.

    blank
        Boolean image of the pixels to use.

    flux_ratio
        Science over reference.

    radius
        Largest lag, pixels.

    Returns
    -------
    PairNoise or None
        None with fewer than 1000 blank pixels.
    """
    sky = _Sky.of(images, rms, blank, radius)
    if sky is None:
        return None
    own = sky.product(0, 0), sky.product(1, 1)
    shared = sky.product(0, 1)
    shared = 0.5 * (shared + shared[::-1, ::-1])
    shared[np.abs(shared) < KEPT_LAG * sky.error] = 0.0
    scale = flux_ratio * sky.noise[1] / sky.noise[0]
    correlations, shares = [], []
    for covariance, factor in zip(own, (scale, 1.0 / scale), strict=True):
        share = float(shared[radius, radius] * factor)
        usable = 0.0 < share < MOST_STATIC
        correlations.append(sky.significant(covariance - shared * factor if usable else covariance))
        shares.append(share if usable else 0.0)
    return PairNoise(tuple(correlations), tuple(shares))


MOST_STATIC = 0.5
"""Share of static light in the variance of blank pixels above which they are not blank."""

SEEN_LAG, KEPT_LAG = 4.5, 3.0
"""Significance, sigma, of the largest lag of noise that is taken as correlated, and of the lags that are kept
then: hundreds of insignificant ones would add up at low frequencies."""

WHITE = 0.01
"""Correlation below which noise is taken as white."""


@dataclass(frozen=True, eq=False)
class _Sky:
    """Blank pixels of images of the same sky, in units of their noise, as transforms."""

    spectra: list[np.ndarray]
    pairs: np.ndarray
    noise: list[float]
    shape: tuple[int, int]
    radius: int

    @classmethod
    def of(
        cls, images: tuple[np.ndarray, ...], rms: tuple[np.ndarray, ...], blank: np.ndarray, radius: int
    ) -> _Sky | None:
        """Take the middle of images; None with too few blank pixels."""
        middle = tuple(
            slice(max(0, (n - CORRELATION_SIDE) // 2), (n + CORRELATION_SIDE) // 2) for n in blank.shape
        )
        blank = blank[middle]
        if blank.sum() < 1000:
            return None
        shape = tuple(fft.next_fast_len(n + 2 * radius, real=True) for n in blank.shape)
        spectra, noise = [], []
        for image, sigma in zip(images, rms, strict=True):
            local = sigma[middle]
            normal = np.clip(np.where(blank, image[middle], 0) / local, -4, 4).astype(np.float32)
            normal = np.where(blank, normal - normal[blank].mean(), 0)
            spread = float(np.sqrt(np.mean(normal[blank] ** 2)))
            noise.append(spread * float(np.median(local)))
            spectra.append(fft.rfft2(normal / spread, shape))
        weight = fft.rfft2(blank.astype(np.float32), shape)
        pairs = _lags(fft.irfft2(np.abs(weight) ** 2, shape), radius)
        return cls(spectra, np.maximum(pairs, 1.0), noise, shape, radius)

    @property
    def error(self) -> float:
        """1-sigma error of a lag."""
        return float(1.0 / np.sqrt(self.pairs.min()))

    def product(self, i: int, j: int) -> np.ndarray:
        """Return the covariance of two of the images at all lags."""
        whole = fft.irfft2(np.conj(self.spectra[i]) * self.spectra[j], self.shape)
        return _lags(whole, self.radius) / self.pairs

    def significant(self, covariance: np.ndarray) -> np.ndarray | None:
        """Return the lags of a correlation that stand out; None for white noise."""
        correlation = covariance / covariance[self.radius, self.radius]
        off_centre = np.abs(correlation)
        off_centre[self.radius, self.radius] = 0.0
        if off_centre.max() < max(SEEN_LAG * self.error, WHITE):
            return None
        correlation[off_centre < KEPT_LAG * self.error] = 0.0
        correlation[self.radius, self.radius] = 1.0
        return correlation


def _lags(image: np.ndarray, radius: int) -> np.ndarray:
    """Return the lags up to a radius of a correlation that starts at lag zero and wraps around."""
    lags = np.arange(-radius, radius + 1)
    return image[np.ix_(lags, lags)].astype(float)


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
