"""Classic subtraction: the sharper image is convolved to the PSF of the other, then subtracted."""

from __future__ import annotations

import numpy as np

from astrid_assets.images.pairs import AlignedPair, Difference
from astrid_assets.science.filtering import Filters, Spectra, subtract

__all__ = ["classic"]


def classic(pair: AlignedPair) -> Difference:
    """Subtract the PSF-matched reference of a normalized pair.

    The baseline beside `zogy` (Phillips & Davis 1995; Alard & Lupton 1998): the image with the
    smaller PSF is convolved with the kernel that turns its PSF into the other one, a regularized
    division of the two measured PSFs. The noise of the difference is correlated by that kernel;
    the scores take it into account.

    Parameters
    ----------
    pair
        From `normalize`.

    Returns
    -------
    Difference
        ``data`` is science minus matched reference in the science image's unit (or matched
        science minus reference, where the science image is the sharper one).

    Raises
    ------
    ScienceError
        If the pair was not normalized.
    """
    return subtract(pair, _filters, method="classic")


def _filters(s: Spectra) -> Filters:
    """Return the kernel on the side of the sharper image, a delta function on the other."""
    one = np.ones_like(s.psf_science)
    if _width(s.psf_reference) <= _width(s.psf_science):
        kernel = _matching_kernel(s.psf_reference, s.psf_science)
        return Filters(one.astype(np.complex64), (s.flux_ratio * kernel).astype(np.complex64))
    kernel = _matching_kernel(s.psf_science, s.psf_reference)
    return Filters(kernel.astype(np.complex64), (s.flux_ratio * one).astype(np.complex64))


def _width(psf: np.ndarray) -> float:
    """Return a measure of the size of a PSF: the inverse of its noise-equivalent bandwidth."""
    return float(1.0 / (np.abs(psf) ** 2).sum())


def _matching_kernel(sharp: np.ndarray, broad: np.ndarray, *, regularization: float = 1e-3) -> np.ndarray:
    """Return the kernel that turns a sharp PSF into a broad one, by Wiener division, of unit sum."""
    power = np.abs(sharp) ** 2
    kernel = broad * np.conj(sharp) / (power + regularization * power[0, 0])
    return kernel / kernel[0, 0].real
