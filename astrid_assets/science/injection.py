"""Synthetic sources put into an image as the sky would have: PSF, photon noise, variance, saturation.

Injection comes before alignment and subtraction, on a copy of the raw science image, so that an injected
source meets everything that a real one meets (practice of DES, PTF and Rubin's source_injection).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from astrid_assets.errors import ScienceError
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import BAD_BITS, bits
from astrid_assets.images.psf import Psf
from astrid_assets.science.background import robust_std
from astrid_assets.science.noise import has_counts
from astrid_assets.seeds import generator

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.images.pairs import AlignedPair

__all__ = ["Source", "effective_gain", "inject", "overlap", "source_stamp"]


@dataclass(frozen=True)
class Source:
    """A point of light, or a point that moved during the exposure."""

    injection_id: str
    """Name; its photon noise is seeded by it, so that the order of sources does not matter."""

    x: float
    """Column in the image, 0-based; the middle of a trail. It may lie outside."""

    y: float
    """Row."""

    flux: float
    """Total flux in the unit of the image; negative for light that is taken away."""

    length_x: float = 0.0
    """How far it moved along x during the exposure, pixels."""

    length_y: float = 0.0
    """The same along y."""

    base: float | None = None
    """Flux in the image of the star that fades, where all light but the sky is its own; None: not known."""


def inject(
    image: MaskedImage,
    sources: Sequence[Source],
    *,
    psf: Psf | None = None,
    gain: float | None = None,
    seed: str | int = 0,
) -> tuple[MaskedImage, pa.Table]:
    """Add sources to a copy of an image.

    Each source gets the PSF at its place, shifted to its sub-pixel position, and the photon noise of its
    own light: new light N is drawn as Poisson(F g) / g; light that vanishes is thinned out of the
    electrons that are there, which leaves the Poisson noise of what remains. The variance plane,
    where there is one, changes by F / g. A pixel without a value stays without; nothing rises above the
    saturation level. Sources of zero flux leave every bit as it is.

    Parameters
    ----------
    image
        The raw science image, sky included.

    sources
        What to add; what lies partly outside is drawn as far as it reaches in.

    psf
        Point-spread function measured on the image; that of the image by default. Light beyond its
        stamp is not drawn.

    gain
        Electrons per unit; that of the image by default. None: no photon noise.

    seed
        Name of the injection run.

    Returns
    -------
    tuple
        The image, and one row a source: ``injection_id, x, y, x_end, y_end`` (one end of a trail, as
        far from the middle as the other; NaN for a point), ``flux`` (expected, image unit),
        ``psf_fwhm`` (pixels), ``gain``, ``seed``.

    Raises
    ------
    ScienceError
        If there is no PSF.
    """
    psf = psf or image.psf
    if psf is None:
        raise ScienceError("injecting needs a PSF: measure one or give it")
    gain = image.gain if gain is None else gain
    light, change = np.zeros(image.shape), np.zeros(image.shape)
    # in the order of their names: sums of floating-point numbers depend on it
    for source in sorted(sources, key=lambda s: s.injection_id):
        if source.flux != 0:
            _add(
                light,
                change,
                image.data,
                psf,
                source,
                gain,
                generator("injection", seed, source.injection_id),
            )
    return _changed(image, light, change, gain), _truth(sources, psf, gain, seed)


def effective_gain(pair: AlignedPair) -> float | None:
    """Return the electrons per unit of the science image of a normalized pair.

    That of its header; else, for counts, from the level and noise of the sky; else from the slope
    of the variance plane with the flux of the sources; None where none of them says.
    """
    image, norm = pair.science, pair.normalization
    if image.gain is not None:
        return image.gain
    sky, rms = norm.science_background, norm.science_sky_rms
    if has_counts(image) and sky > 5.0 * rms > 0.0:
        return sky / rms**2
    return _gain_of_variance(image, rms)


def _gain_of_variance(image: MaskedImage, rms: float) -> float | None:
    """Return the inverse slope of variance against flux of bright pixels, where it is significant."""
    bright = (image.data > 10.0 * rms) & ((image.mask & BAD_BITS) == 0)
    if image.variance is None or bright.sum() < 50:
        return None
    sky = float(np.median(image.variance[image.data < rms]))
    slope = (image.variance[bright] - sky) / image.data[bright]
    typical = float(np.median(slope))
    error = 1.25 * robust_std(slope) / np.sqrt(bright.sum())
    return 1.0 / typical if typical > 5.0 * error > 0.0 else None


def source_stamp(psf: Psf, source: Source) -> np.ndarray:
    """Return the unit-flux image of a source on the pixels around the one nearest to it.

    The shift to the sub-pixel place and the motion during the exposure, a uniform line, are applied in
    Fourier space: exact for a PSF without power above the Nyquist frequency.

    Parameters
    ----------
    psf
        Point-spread function.

    source
        What to draw.

    Returns
    -------
    numpy.ndarray
        Odd-sided, larger than the PSF by the length of a trail, its centre on ``(rint(x), rint(y))``.
    """
    dx, dy = source.x - np.rint(source.x), source.y - np.rint(source.y)
    kernel = psf.at(source.x, source.y, dx=dx, dy=dy)
    reach = [1 + int(np.ceil(abs(length) / 2)) for length in (source.length_y, source.length_x)]
    size = [n + 2 * r for n, r in zip(kernel.shape, reach, strict=True)]
    # room beyond the stamp, so that the ringing of the motion does not wrap around
    shape = [fft.next_fast_len(n + 16, real=True) for n in size]
    ky, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    shift = np.exp(-2j * np.pi * (ky * reach[0] + kx * reach[1]))
    motion = np.sinc(ky * source.length_y + kx * source.length_x)
    moved = fft.irfft2(fft.rfft2(kernel, shape) * (shift * motion), shape)
    return moved[: size[0], : size[1]]


def overlap(
    shape: tuple[int, int], source: Source, size: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Return the pixels of an image that a stamp covers, and those of the stamp; None without any."""
    inside, part = [], []
    for centre, n, side in zip((source.y, source.x), shape, size, strict=True):
        first = int(np.rint(centre)) - side // 2
        low, high = max(first, 0), min(first + side, n)
        if low >= high:
            return None
        inside.append(slice(low, high))
        part.append(slice(low - first, high - first))
    return tuple(inside), tuple(part)


def _add(
    light: np.ndarray,
    change: np.ndarray,
    data: np.ndarray,
    psf: Psf,
    source: Source,
    gain: float | None,
    rng: np.random.Generator,
) -> None:
    """Add one source to the expected light and to the drawn change."""
    stamp = source_stamp(psf, source)
    places = overlap(light.shape, source, stamp.shape)
    # drawn on the whole stamp: what the edge of the image cuts off does not change the rest
    drawn = source.flux * stamp
    if gain is not None and source.flux > 0:
        drawn = np.minimum(drawn, 0.0) + rng.poisson(np.maximum(drawn, 0.0) * gain) / gain
    if places is None:
        return
    inside, part = places
    light[inside] += source.flux * stamp[part]
    if gain is not None and source.flux < 0:
        change[inside] += _thinned(data[inside], stamp[part], source, gain, rng)
    else:
        change[inside] += drawn[part]


_THINNED = 4
"""Half the side of the box around a fading star in which its electrons are thinned out, pixels: outside
it the star hardly adds to the noise of the sky."""


def _thinned(
    data: np.ndarray, stamp: np.ndarray, source: Source, gain: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the negative change of pixels in which a star fades.

    Thinning Poisson counts by the same share for each electron leaves Poisson counts. The share is
    what goes over what is expected: the sky around it and the star, whose flux must come from
    elsewhere: taken from these pixels it would follow their noise. Where it is not known, what
    goes goes without noise.
    """
    change = source.flux * stamp
    if source.base is None:
        return change
    y, x = np.unravel_index(np.argmax(stamp), stamp.shape)
    core = np.zeros(stamp.shape, bool)
    core[max(y - _THINNED, 0) : y + _THINNED + 1, max(x - _THINNED, 0) : x + _THINNED + 1] = True
    sky = np.nanmedian((data - source.base * stamp)[~core])
    expected = (sky + source.base * stamp) * gain
    counts, gone = np.rint(data * gain), -change * gain
    core &= np.isfinite(counts) & (counts >= 0) & (gone > 0) & (expected > gone)
    change[core] = -rng.binomial(counts[core].astype(np.int64), gone[core] / expected[core]) / gain
    return change


def _changed(image: MaskedImage, light: np.ndarray, change: np.ndarray, gain: float | None) -> MaskedImage:
    """Return the image with the change, its variance and its saturation."""
    touched = change != 0
    data = np.where(touched, image.data + change, image.data).astype(np.float32)
    mask = image.mask
    if image.saturation is not None:
        full = touched & (data >= image.saturation)
        data = np.where(full, np.maximum(image.data, np.float32(image.saturation)), data)
        mask = np.where(full, mask | bits("SATURATED"), mask)
    variance = image.variance
    if variance is not None and gain is not None:
        # however much light goes, read-out and sky leave some noise
        variance = np.where(light != 0, np.maximum(variance + light / gain, 0.1 * variance), variance)
        variance = variance.astype(np.float32)
    return image.replace(data=data, mask=mask, variance=variance)


def _truth(sources: Sequence[Source], psf: Psf, gain: float | None, seed: str | int) -> pa.Table:
    import pyarrow as pa

    moving = np.array([bool(s.length_x or s.length_y) for s in sources], bool)
    x, y, flux, length_x, length_y = (
        np.array([getattr(s, name) for s in sources], float)
        for name in ("x", "y", "flux", "length_x", "length_y")
    )
    n = len(sources)
    return pa.table(
        {
            "injection_id": pa.array([s.injection_id for s in sources], pa.string()),
            "x": x,
            "y": y,
            "x_end": np.where(moving, x + length_x / 2, np.nan),
            "y_end": np.where(moving, y + length_y / 2, np.nan),
            "flux": flux,
            "psf_fwhm": _widths(psf, x, y),
            "gain": pa.array([gain] * n, pa.float64()),
            "seed": pa.array([str(seed)] * n, pa.string()),
        }
    )


def _widths(psf: Psf, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the FWHM at positions, from that at the middle and the height of the peak."""
    ny, nx = psf.image_shape
    middle = psf.at((nx - 1) / 2, (ny - 1) / 2).max()
    peaks = psf.at(x, y).max(axis=(-2, -1)) if len(x) else np.zeros(0)
    return psf.fwhm * np.sqrt(middle / peaks)
