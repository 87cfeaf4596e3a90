"""Naive subtraction: the reference is scaled and subtracted, whatever the PSFs are."""

from __future__ import annotations

import numpy as np

from astrid_assets.science.filtering import Filters, Spectra

__all__ = ["decorrelated", "naive_filters"]

NOISE_FLOOR = 1e-9
"""Noise power, relative to the largest, below which there is nothing to whiten."""


def naive_filters(s: Spectra) -> Filters:
    """Return the filters of science minus scaled reference; static sources leave what the PSFs differ by."""
    one = np.ones_like(s.psf_science)
    return decorrelated(s, one, s.flux_ratio * one)


def decorrelated(s: Spectra, science: np.ndarray, reference: np.ndarray) -> Filters:
    """Whiten the noise of ``science * N - reference * R`` (Reiss & Lupton 2016, DMTN-021, eq. 2).

    The filter is the square root of the noise power at zero frequency over that at each frequency,
    ``sqrt((v_n + v_r) / (v_n + v_r |K|^2))`` for white noise and a kernel of unit sum on the reference;
    it changes the PSF of the difference, too. Noise powers of the images are taken out as well.

    Parameters
    ----------
    s
        Of the tile.

    science, reference
        Transforms of the kernels on either image.
    """
    noise = s.variance_science * s.power_science * np.abs(science) ** 2
    noise = noise + s.variance_reference * s.power_reference * np.abs(reference) ** 2
    white = np.sqrt(noise[0, 0] / np.maximum(noise, NOISE_FLOOR * noise.max()))
    return Filters((science * white).astype(np.complex64), (reference * white).astype(np.complex64))
