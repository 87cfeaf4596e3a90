"""Twin images with one known fault: the simulation behind table B.5, with analytic scores.

Both images have the same Gaussian PSF, sky and stars, so the plain subtraction is optimal and
the matched filter gives the exact significance; every fault is put in by hand.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.ndimage import maximum_filter
from scipy.signal import fftconvolve

from astrid_assets.images.image import MaskedImage, ZeroPoint
from astrid_assets.images.pairs import AlignedPair, Difference, Normalization, Registration
from astrid_assets.images.psf import Psf

SKY = 400.0
"""Sky of either image in electrons per pixel."""


def gaussian_stamp(sigma: float, *, half: int = 10, dx: float = 0.0, dy: float = 0.0) -> np.ndarray:
    """Unit-sum Gaussian stamp of side ``2 half + 1``."""
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    stamp = np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / (2.0 * sigma**2))
    return stamp / stamp.sum()


def scene(
    n: int, stars: int, rng: np.random.Generator, *, margin: int = 20
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (x, y) and fluxes (electrons) of stars of S/N 10 to 500."""
    position = rng.uniform(margin, n - margin, (2, stars))
    noise = np.sqrt(SKY * 4.0 * np.pi * 1.7**2)
    return position[0], position[1], noise * 10.0 ** rng.uniform(1.0, 2.7, stars)


def draw(
    n: int,
    stars: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    sigma: float = 1.7,
    dx: float = 0.0,
    scale: float = 1.0,
) -> np.ndarray:
    """Noiseless image of stars without sky."""
    image = np.zeros((n, n))
    for x, y, flux in zip(*stars, strict=True):
        ix, iy = round(x), round(y)
        stamp = gaussian_stamp(sigma, dx=x + dx - ix, dy=y - iy)
        image[iy - 10 : iy + 11, ix - 10 : ix + 11] += scale * flux * stamp
    return image


def twins(
    *,
    n: int = 512,
    seed: int = 1,
    dx: float = 0.0,
    scale: float = 1.0,
    sigma: float = 1.7,
    ramp: float = 0.0,
    transients: tuple[tuple[float, float, float], ...] = (),
) -> tuple[AlignedPair, Difference]:
    """Return a pair with a fault in the science image, and its optimal difference.

    Parameters
    ----------
    n, seed
        Side in pixels and seed.

    dx, scale, sigma, ramp
        Faults: shift in x (pixels), flux scale, PSF width (1.7 = none), and a sky ramp from
        ``-ramp`` to ``+ramp`` (in sigma of a pixel of the difference).

    transients
        New sources ``(x, y, flux)``.
    """
    rng = np.random.default_rng(seed)
    stars = scene(n, stars=max(n * n * 500 // 1024**2, 8), rng=rng)
    truth = draw(n, stars)
    faulty = draw(n, stars, sigma=sigma, dx=dx, scale=scale)
    if transients:
        faulty += draw(n, tuple(np.array(column, float) for column in zip(*transients, strict=True)))
    tilt = ramp * np.sqrt(2.0 * SKY) * np.linspace(-1.0, 1.0, n)[None, :]
    images = [rng.poisson(level + SKY) - SKY for level in (faulty, truth)]
    images[0] = images[0] + tilt
    psf = Psf(gaussian_stamp(1.7), (n, n), source="given")
    science, reference = (
        MaskedImage(
            image, variance=level + SKY, psf=psf, gain=1.0, exptime=30.0, zeropoint=ZeroPoint(27.0, 0.01)
        )
        for image, level in zip(images, (faulty, truth), strict=True)
    )
    pair = AlignedPair(science, reference, Registration("assumed"), 1.0, normalization(ratio=scale))
    return pair, matched_filter(pair)


def normalization(*, ratio: float = 1.0) -> Normalization:
    """Parameters of a pair whose predicted flux ratio is 1."""
    return Normalization(ratio, 0.001, 0.01, 1.0, 100, SKY, SKY, np.sqrt(SKY), np.sqrt(SKY))


def matched_filter(pair: AlignedPair) -> Difference:
    """Subtract, and filter with the PSF: exact for twins."""
    data = pair.science.data.astype(float) - pair.reference.data
    variance = pair.science.variance.astype(float) + pair.reference.variance
    kernel = gaussian_stamp(1.7)
    numerator = fftconvolve(data, kernel, mode="same")
    error = np.sqrt(fftconvolve(variance, kernel**2, mode="same").clip(1e-6))
    norm = (kernel**2).sum()
    return Difference(
        data=data.astype(np.float32),
        variance=variance.astype(np.float32),
        mask=pair.science.mask | pair.reference.mask,
        psf=pair.science.psf,
        score=numerator / np.sqrt(2.0 * SKY * norm),
        score_corrected=(numerator / error).astype(np.float32),
        flux=(numerator / norm).astype(np.float32),
        flux_error=(error / norm).astype(np.float32),
        method="classic",
        zeropoint=pair.science.zeropoint,
    )


def peaks(difference: Difference, *, threshold: float = 5.0) -> pa.Table:
    """Local extrema of S_corr as a table with the columns that the metrics read."""
    size = np.abs(difference.score_corrected)
    y, x = np.nonzero((size == maximum_filter(size, 9)) & (size > threshold))
    snr = difference.score_corrected[y, x]
    return pa.table(
        {
            "x": x.astype(float),
            "y": y.astype(float),
            "snr": np.abs(snr).astype(float),
            "positive": snr > 0,
            "artifact": [""] * len(x),
        }
    )
