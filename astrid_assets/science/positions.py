"""One sky for all exposures: positions in the frame of the reference.

The world coordinates of an exposure are often wrong by a tenth of a pixel, each in its own way;
those of the reference are the same for all. The registration of a pair says where a source of
the reference lies in the science image, so that one position holds at every epoch.
"""

from __future__ import annotations

import numpy as np

from astrid_assets.images.pairs import PairGeometry
from astrid_assets.images.psf import polynomial_terms
from astrid_assets.science.asterisms import apply_affine, invert_affine

__all__ = ["from_reference", "to_reference"]

_ITERATIONS = 4
"""Offsets change by less than a hundredth from pixel to pixel, so that each step gains two digits."""


def to_reference(geometry: PairGeometry, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of sources in the frame of the reference.

    Parameters
    ----------
    geometry
        Of the normalized pair.

    x, y
        Positions in the science image, pixels, ``(n,)``.

    Returns
    -------
    tuple of numpy.ndarray
        ICRS right ascension and declination, deg, by the reference's own WCS; without a WCS
        pixels of the reference.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    dx, dy = _offset(geometry, x, y)
    if geometry.wcs is None or not len(x):
        transform = geometry.registration.transform
        return (x - dx, y - dy) if transform is None else apply_affine(np.array(transform), x - dx, y - dy)
    ra, dec = geometry.wcs.all_pix2world(x - dx, y - dy, 0)
    return ra, dec


def from_reference(geometry: PairGeometry, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where positions of the frame of the reference lie in the science image, pixels.

    The inverse of `to_reference`. Places that the WCS cannot reach are NaN.
    """
    u, v = np.asarray(u, float), np.asarray(v, float)
    if geometry.wcs is not None and len(u):
        u, v = _pixels(geometry, u, v)
    elif geometry.registration.transform is not None:
        u, v = apply_affine(invert_affine(np.array(geometry.registration.transform)), u, v)
    x, y = u, v
    for _ in range(_ITERATIONS):
        dx, dy = _offset(geometry, x, y)
        x, y = u + dx, v + dy
    return x, y


def _pixels(geometry: PairGeometry, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of sky positions; only those near the image, where a distortion has an inverse."""
    x, y = geometry.wcs.wcs_world2pix(ra, dec, 0)
    ny, nx = geometry.shape
    near = (np.abs(x - nx / 2) < nx) & (np.abs(y - ny / 2) < ny)
    x[~near], y[~near] = np.nan, np.nan
    if near.any():
        x[near], y[near] = geometry.wcs.all_world2pix(ra[near], dec[near], 0, quiet=True)
    return x, y


def _offset(geometry: PairGeometry, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far sources lie from where the two WCS put them, science pixels."""
    ny, nx = geometry.shape
    registration, norm = geometry.registration, geometry.normalization
    # the polynomials are only supported inside the image
    u = np.clip(2.0 * x / max(nx - 1, 1) - 1.0, -1.0, 1.0)
    v = np.clip(2.0 * y / max(ny - 1, 1) - 1.0, -1.0, 1.0)
    terms = polynomial_terms(u, v, registration.order)
    dx, dy = (np.tensordot(c, terms, axes=1) for c in registration.coefficients)
    if norm is not None:
        along_x, along_y = norm.shift_gradient
        dx = dx + norm.shift[0] + along_x[0] * u + along_y[0] * v
        dy = dy + norm.shift[1] + along_x[1] * u + along_y[1] * v
    return dx, dy
