"""Pixels that are not sky: saturated stars with their bleeding charge, and cosmic rays."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.science.background import Background

__all__ = ["find_cosmic_rays", "find_saturation", "mark"]


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


def find_cosmic_rays(
    image: MaskedImage,
    background: Background,
    psf_fwhm: float,
    *,
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

    threshold
        Laplacian significance of a hit.

    contrast
        Laplacian over fine structure that tells a hit from a star.

    Returns
    -------
    numpy.ndarray
        Boolean image.
    """
    import astroscrappy

    data = np.ascontiguousarray(np.where(image.bad, background.level, image.data), np.float32)
    hits, _ = astroscrappy.detect_cosmics(
        data,
        inmask=image.bad,
        inbkg=np.ascontiguousarray(background.level, np.float32),
        invar=np.ascontiguousarray(np.where(image.bad, background.rms**2, image.variance), np.float32),
        satlevel=np.inf,
        sigclip=threshold,
        sigfrac=0.3,
        objlim=contrast,
        niter=1,
        sepmed=True,
        fsmode="convolve",
        psfmodel="moffat",
        psffwhm=float(psf_fwhm),
        psfsize=7,
    )
    return hits
