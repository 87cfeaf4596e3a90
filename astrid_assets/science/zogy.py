"""Proper image subtraction (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27)."""

from __future__ import annotations

import numpy as np

from astrid_assets.images.pairs import AlignedPair, Difference
from astrid_assets.science.filtering import Filters, Spectra, subtract

__all__ = ["zogy"]


def zogy(pair: AlignedPair) -> Difference:
    """Subtract the reference of a normalized pair by ZOGY.

    In tiles with their own PSFs; the residual shift and the flux ratio of the pair are part of
    the reference PSF, correlated noise enters by its power spectrum.

    Parameters
    ----------
    pair
        From `normalize`.

    Returns
    -------
    Difference
        ``data`` is D / F_D (eqs 13 and 15), ``psf`` P_D (eq. 14), ``score`` S over its sky noise
        (eqs 12 and 17), ``score_corrected`` S_corr (eq. 25) with source noise (eqs 26 to 29) and
        astrometric noise (eqs 30 to 33); ``flux`` is S / F_S (eqs 41 to 43).

    Raises
    ------
    ScienceError
        If the pair was not normalized.
    """
    return subtract(pair, _filters, method="zogy")


def _filters(s: Spectra) -> Filters:
    """Return d_n and d_r of equation 13, divided by F_D.

    With F_n = 1 and F_r = 1 / flux_ratio, scaled by flux_ratio throughout so that everything
    stays in the unit of the science image. The noise powers in the denominator are those of the
    images, so that D is white also where their noise is correlated.
    """
    noise = s.variance_science * s.power_science * np.abs(s.psf_reference) ** 2
    noise = noise + s.variance_reference * s.power_reference * s.flux_ratio**2 * np.abs(s.psf_science) ** 2
    # relative floor: where both PSFs have no power left there is nothing to whiten
    root = np.sqrt(np.maximum(noise, 1e-9 * noise.max()))
    # P_D has unit sum: the value at zero frequency
    unit = (root[0, 0] / np.abs(s.psf_science[0, 0] * s.psf_reference[0, 0])).real
    return Filters(
        science=(s.psf_reference / root * unit).astype(np.complex64),
        reference=(s.flux_ratio * s.psf_science / root * unit).astype(np.complex64),
    )
