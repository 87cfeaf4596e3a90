"""A reference from several exposures: resampled onto one grid, scaled and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astrid_assets.errors import ScienceError
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.science.background import estimate_background, robust_std
from astrid_assets.science.photometry import weighted_ratio
from astrid_assets.science.registration import align
from astrid_assets.science.stars import Sources, find_sources

__all__ = ["coadd"]

LOWEST_SNR = 20.0
"""Signal-to-noise ratio in the first exposure of a source that the others are scaled on; half in them."""

LEAST_SOURCES = 3
"""Sources that a flux scale takes: one that varies can be told from two that do not."""


def coadd(images: Sequence[MaskedImage], *, clip: float = 5.0, assume_aligned: bool = False) -> MaskedImage:
    """Average several exposures of the same sky and band on the grid of the first.

    Exposures are registered on stars, brought to the flux scale of the first and averaged with
    the inverse of their sky variance, after clipping outliers (cosmic rays, trails, asteroids)
    against the median. One image is returned unchanged.

    Parameters
    ----------
    images
        At least one; the first gives grid, flux scale and zero point.

    clip
        Outliers beyond this many sigma of the pixel are left out where there are three or more.

    assume_aligned
        Take the grids of images without WCS as equal, as in `align`; otherwise their star patterns tell.

    Raises
    ------
    ScienceError
        If there is no image, or one cannot be registered.
    """
    if not images:
        raise ScienceError("no exposure to make a reference of")
    if len(images) == 1:
        return images[0]
    first = images[0]
    scene = _scene(first)
    layers = [(scene.data, _weight(scene.rms, first.bad, 1.0), first.mask)]
    for image in images[1:]:
        assumed = assume_aligned and (first.wcs is None or image.wcs is None)
        layers.append(_layer(scene, align(first, image, assume_aligned=assumed).reference))
    data = np.array([layer[0] for layer in layers])
    weight = np.array([layer[1] for layer in layers])
    if len(images) >= 3:
        weight = np.where(_outliers(data, weight, clip), 0, weight)
    total = weight.sum(axis=0)
    covered = total > 0
    mean = np.where(covered, (weight * np.nan_to_num(data)).sum(axis=0) / np.where(covered, total, 1), np.nan)
    mask = np.where(covered, 0, bits("NO_DATA")).astype(np.int32)
    for layer in layers:
        # a pixel that any exposure saturates has lost flux in the mean
        mask |= layer[2] & bits("SATURATED", "BLEED")
    used = (weight > 0).sum(axis=0)
    return first.replace(
        data=mean,
        variance=np.where(covered, 1.0 / np.where(covered, total, 1), np.nan),
        mask=mask,
        gain=None if first.gain is None else first.gain * float(np.median(used[covered])),
        noise_correlation=None,
        psf=None,
        n_exposures=len(images),
        mjd_start=_extreme(min, [i.mjd_start for i in images]),
        mjd_mid=_mean([i.mjd_mid for i in images]),
        mjd_end=_extreme(max, [i.mjd_end for i in images]),
        origin={"coadd": [i.origin for i in images]},
    )


@dataclass(frozen=True, eq=False)
class _Scene:
    """The first exposure without its sky, and the sources that the others are scaled on."""

    data: np.ndarray
    """Pixels over the sky, float32."""

    rms: np.ndarray
    """Noise of a blank pixel."""

    sources: Sources
    """Clean sources of a signal-to-noise ratio above `LOWEST_SNR`."""


def _scene(first: MaskedImage) -> _Scene:
    """Measure the first exposure, once for all others."""
    background = estimate_background(first.data, first.bad)
    data = first.data - background.level
    sources = find_sources(data, background.rms, first.bad)
    clean = ~sources.flagged & ~sources.touched & (sources.snr > LOWEST_SNR)
    return _Scene(data, background.rms, sources[np.flatnonzero(clean)])


def _layer(scene: _Scene, image: MaskedImage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return data on the first image's scale, weight (inverse sky variance) and mask."""
    background = estimate_background(image.data, image.bad)
    data = image.data - background.level
    ratio = _ratio(scene, data, background.rms, image.bad)
    return data * np.float32(ratio), _weight(background.rms, image.bad, ratio), image.mask


def _weight(rms: np.ndarray, bad: np.ndarray, ratio: float) -> np.ndarray:
    """Return the inverse sky variance after scaling; zero where a pixel is bad."""
    return np.where(bad, 0, 1.0 / (ratio * rms) ** 2)


def _ratio(scene: _Scene, data: np.ndarray, rms: np.ndarray, bad: np.ndarray) -> float:
    """Return the flux scale of the first image over that of another, from aperture fluxes."""
    import sep

    ours = scene.sources
    clean = np.ascontiguousarray(np.where(bad, 0, data), np.float32)
    flux, error, flag = sep.sum_circle(clean, ours.x, ours.y, ours.aperture, err=rms, mask=bad, subpix=5)
    good = (flag == 0) & (flux > LOWEST_SNR / 2.0 * error)
    if good.sum() < LEAST_SOURCES:
        raise ScienceError(
            f"{int(good.sum())} common sources to scale an exposure of the reference, {LEAST_SOURCES} needed"
        )
    theirs = np.where(good, flux, 1.0)
    ratio = ours.flux / theirs
    relative = np.hypot(ours.flux_error / ours.flux, error / theirs)
    return weighted_ratio(ratio, ratio * relative, good)[0]


def _outliers(data: np.ndarray, weight: np.ndarray, clip: float) -> np.ndarray:
    """Return the pixels far from the median of all exposures, with room for seeing differences."""
    valid = np.where(weight > 0, data, np.nan)
    with np.errstate(all="ignore"):
        middle = np.nanmedian(np.where((weight > 0).any(axis=0), valid, 0), axis=0)
    sigma = 1.0 / np.sqrt(np.where(weight > 0, weight, np.inf))
    sigma = np.where(np.isfinite(sigma) & (sigma > 0), sigma, robust_std(data))
    return np.abs(data - middle) > clip * sigma + 0.3 * np.abs(middle)


def _extreme(choose: object, values: list[float | None]) -> float | None:
    """Return the smallest or largest of the known values."""
    known = [v for v in values if v is not None]
    return choose(known) if known else None


def _mean(values: list[float | None]) -> float | None:
    """Return the mean if all are known."""
    return None if any(v is None for v in values) else float(np.mean(values))
