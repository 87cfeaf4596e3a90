"""A small sky with known truth for the tests of the science: Moffat stars on flat noise.

Profiles are integrated over the pixels on a 5 x 5 sub-grid. Shares no code with the package.
"""

from __future__ import annotations

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.wcs import WCS

from astrid_assets.images import AlignedPair, MaskedImage, Normalization, Psf, Registration, ZeroPoint

GAIN = 6.2
READ_NOISE = 10.0
SKY = 150.0
SUB_PIXELS = (np.arange(5) + 0.5) / 5 - 0.5


def tan_wcs(shape, *, scale=1.01, rotation=0.0, offset=(0.0, 0.0), centre=(150.0, 20.0)):
    """A gnomonic WCS with its reference point at the middle of the image plus an offset in pixels."""
    ny, nx = shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = centre
    wcs.wcs.crpix = [nx / 2 + 0.5 + offset[0], ny / 2 + 0.5 + offset[1]]
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.cd = scale / 3600 * np.array([[-c, s], [s, c]])
    wcs.wcs.set()
    return wcs


def moffat(x0, y0, size, fwhm, *, beta=3.0, ellipticity=0.05):
    """A unit-flux Moffat star at (x0, y0) on a square stamp, integrated over the pixels."""
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    grid = (np.arange(size)[:, None] + SUB_PIXELS).ravel()
    r2 = (grid[None, :] - x0) ** 2 * (1 + ellipticity) + (grid[:, None] - y0) ** 2 * (1 - ellipticity)
    norm = (beta - 1) / np.pi / alpha**2 * np.sqrt(1 - ellipticity**2)
    profile = norm * (1 + r2 / alpha**2) ** -beta
    return profile.reshape(size, 5, size, 5).mean(axis=(1, 3))


def draw(image, x, y, flux, fwhm):
    """Add stars to an image."""
    ny, nx = image.shape
    for x0, y0, f in zip(x, y, flux, strict=True):
        half = 15 if f < 5000 else 40
        ix, iy = round(x0), round(y0)
        stamp = f * moffat(x0 - ix + half, y0 - iy + half, 2 * half + 1, fwhm)
        rows = slice(max(0, iy - half), min(ny, iy + half + 1))
        columns = slice(max(0, ix - half), min(nx, ix + half + 1))
        if rows.start < rows.stop and columns.start < columns.stop:
            image[rows, columns] += stamp[
                rows.start - iy + half : rows.stop - iy + half,
                columns.start - ix + half : columns.stop - ix + half,
            ]


def expose(model, rng, *, frames=1):
    """Photon and read noise of the mean of some frames."""
    electrons = rng.poisson(model * GAIN * frames) + rng.normal(0, READ_NOISE * np.sqrt(frames), model.shape)
    return electrons / GAIN / frames


@dataclass
class Sky:
    """A science image, a reference on its own grid, and what is in them."""

    science: MaskedImage
    reference: MaskedImage
    x: np.ndarray
    """Stars, science pixels."""
    y: np.ndarray
    flux: np.ndarray
    transient_x: np.ndarray
    transient_y: np.ndarray
    transient_flux: np.ndarray


def make_sky(
    *,
    seed=1,
    size=512,
    n_stars=150,
    n_transients=20,
    fwhm=(2.2, 1.8),
    flux_ratio=0.8,
    rotation=0.3,
    offset=(3.3, -2.2),
    transient_flux=(300.0, 3000.0),
    frames=15,
):
    """Simulate a pair: FWHM in pixels, the reference rotated, shifted, deeper and on another flux scale."""
    rng = np.random.default_rng(seed)
    shape, wide = (size, size), (size + 40, size + 40)
    wcs_s, wcs_r = tan_wcs(shape), tan_wcs(wide, rotation=rotation, offset=offset)
    x, y = rng.uniform(-10, size + 10, (2, n_stars))
    flux = 10 ** rng.uniform(2.5, 4.8, n_stars)
    x_r, y_r = wcs_r.all_world2pix(*wcs_s.all_pix2world(x, y, 0), 0)
    t_x, t_y = _apart(rng, n_transients, size, x, y)
    t_flux = rng.uniform(*transient_flux, n_transients) * rng.choice([1, 1, 1, 1], n_transients)
    science = np.full(shape, SKY)
    draw(science, x, y, flux, fwhm[0])
    draw(science, t_x, t_y, t_flux, fwhm[0])
    reference = np.full(wide, SKY)
    draw(reference, x_r, y_r, flux / flux_ratio, fwhm[1])
    zero = 26.3
    return Sky(
        MaskedImage(
            expose(science, rng), u.adu, wcs=wcs_s, gain=GAIN, zeropoint=ZeroPoint(zero), saturation=60000.0
        ),
        MaskedImage(
            expose(reference, rng, frames=frames),
            u.adu,
            wcs=wcs_r,
            gain=GAIN * frames,
            zeropoint=ZeroPoint(zero - 2.5 * np.log10(flux_ratio)),
            saturation=60000.0,
            n_exposures=frames,
        ),
        x,
        y,
        flux,
        t_x,
        t_y,
        t_flux,
    )


def _apart(rng, n, size, x, y):
    """Draw positions at least 12 pixels from all stars and from each other."""
    chosen_x, chosen_y = [], []
    while len(chosen_x) < n:
        a, b = rng.uniform(25, size - 25, 2)
        others_x, others_y = np.r_[x, chosen_x], np.r_[y, chosen_y]
        if np.hypot(others_x - a, others_y - b).min() > 12:
            chosen_x.append(a)
            chosen_y.append(b)
    return np.array(chosen_x), np.array(chosen_y)


def known_pair(*, seed=1, size=256, fwhm=(2.2, 1.8), flux_ratio=0.8, sigma=(5.0, 1.5), sources=()):
    """A normalized pair with everything given: flat noise, exact PSFs, no background.

    ``sources`` holds (x, y, science flux, reference flux on the science scale).
    """
    rng = np.random.default_rng(seed)
    science, reference = (rng.normal(0, s, (size, size)) for s in sigma)
    for x, y, f_s, f_r in sources:
        draw(science, [x], [y], [f_s], fwhm[0])
        draw(reference, [x], [y], [f_r / flux_ratio], fwhm[1])
    images = [
        MaskedImage(
            image,
            u.adu,
            variance=np.full((size, size), s**2),
            psf=Psf(moffat(20, 20, 41, f), (size, size)),
            zeropoint=ZeroPoint(26.3),
            wcs=tan_wcs((size, size)),
        )
        for image, s, f in zip((science, reference), sigma, fwhm, strict=True)
    ]
    normalization = Normalization(
        flux_ratio, 0.0, 0.0, flux_ratio, 100, 0.0, 0.0, sigma[0], sigma[1], shift=(0.0, 0.0)
    )
    return AlignedPair(*images, Registration("assumed"), 1.0, normalization)
