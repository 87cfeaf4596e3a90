"""The point-spread function, measured on the stars of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from astrid_assets.errors import PsfError
from astrid_assets.images.psf import Psf, polynomial_terms
from astrid_assets.science.resample import cut_stamps, odd_at_least, shift_stamps

__all__ = ["StarFits", "fit_stars", "measure_psf"]

MIN_STARS = (3, 15, 40)
"""Stars needed for a PSF of order 0, 1, 2: five for each coefficient stamp, three at least."""

MODEL_ERROR = 0.01
"""Error of the empirical PSF relative to its value, as far as the weights of the stars go."""

VARIATION = 0.2
"""Expected relative variation of a PSF pixel over an image (ZTF, DECam: 10 % in FWHM)."""

_EDGE = 4


@dataclass(frozen=True, eq=False)
class StarFits:
    """PSF fits of stars: arrays ``(n,)``; NaN where a fit failed."""

    flux: np.ndarray
    """Flux in the unit of the image."""

    flux_error: np.ndarray
    """1-sigma error of `flux` from the variance plane."""

    x: np.ndarray
    """Fitted position, pixels."""

    y: np.ndarray
    """Fitted position, pixels."""

    position_error: np.ndarray
    """1-sigma error of a coordinate from the variance plane, mean of both axes, pixels."""

    chi2: np.ndarray
    """Reduced chi-square within the fit radius."""


def measure_psf(
    data: np.ndarray,
    variance: np.ndarray,
    bad: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    *,
    size: int | None = None,
    max_order: int = 2,
    max_stars: int = 100,
    iterations: int = 3,
) -> Psf:
    """Measure an empirical PSF that varies as a polynomial over the image.

    Each star is moved to the centre of a pixel by the shift theorem and divided by its flux;
    every pixel of the PSF is then a weighted least-squares polynomial in the position of the
    stars. Positions, fluxes and outliers (neighbours, cosmic rays) are refined in turn. The
    wings are not smoothed.

    Parameters
    ----------
    data, variance
        Background-subtracted image and its variance, ``(ny, nx)``.

    bad
        Boolean image of pixels not to be trusted.

    x, y
        Positions of isolated, unsaturated stars, brightest first.

    size
        Odd side of the stamps; 14 times the FWHM, between 31 and 71, by default.

    max_order
        Highest order of the polynomial; it drops where there are too few stars.

    max_stars
        Number of stars to use, the brightest.

    iterations
        Rounds of refinement.

    Raises
    ------
    PsfError
        With fewer than three usable stars; the message says how many were found.
    """
    x, y = np.asarray(x, float)[:max_stars], np.asarray(y, float)[:max_stars]
    if len(x) < MIN_STARS[0]:
        raise PsfError(
            f"{len(x)} usable stars for a PSF, {MIN_STARS[0]} needed; give a PSF file or a wider field"
        )
    size = size or odd_at_least(np.clip(14.0 * _rough_fwhm(data, bad, x, y), 31, 71))
    # shifting a stamp spoils its edge: measure on more and cut it off
    stars = _Stamps.cut(data, variance, bad, x, y, size + 2 * _EDGE)
    keep = stars.usable()
    psf = None
    for _ in range(iterations):
        n_kept = int(keep.sum())
        if n_kept < MIN_STARS[0]:
            raise PsfError(f"{n_kept} of {len(x)} stars are usable for a PSF, {MIN_STARS[0]} needed")
        order = max(o for o in range(max_order + 1) if n_kept >= MIN_STARS[o])
        psf = stars.solve(keep, order, data.shape, psf)
        stars.refine(psf)
        keep = stars.usable() & stars.agreeing()
    return Psf(
        psf.basis[:, _EDGE:-_EDGE, _EDGE:-_EDGE],
        data.shape,
        order=psf.order,
        n_stars=int(keep.sum()),
        chi2=float(np.median(stars.chi2[keep])) if keep.any() else None,
        source="stars",
    )


def fit_stars(
    data: np.ndarray,
    variance: np.ndarray,
    bad: np.ndarray,
    psf: Psf,
    x: np.ndarray,
    y: np.ndarray,
    *,
    iterations: int = 3,
) -> StarFits:
    """Fit flux and position of stars with a PSF, by Gauss-Newton steps.

    Parameters
    ----------
    data, variance, bad
        Background-subtracted image, its variance, pixels to leave out.

    psf
        Point-spread function.

    x, y
        Starting positions, pixels.
    """
    stars = _Stamps.cut(data, variance, bad, np.asarray(x, float), np.asarray(y, float), psf.shape[0])
    for _ in range(iterations):
        stars.refine(psf)
    return StarFits(stars.flux, stars.flux_error, stars.x, stars.y, stars.position_error, stars.chi2)


def _rough_fwhm(data: np.ndarray, bad: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Return the FWHM from the mean of the brightest stars, not re-centred."""
    from astrid_assets.images.psf import fwhm_of

    stamps = cut_stamps(np.where(bad, np.nan, data), x[:30], y[:30], 31)
    peaks = np.nanmax(stamps[:, 14:17, 14:17], axis=(1, 2), initial=-np.inf)
    stamps = stamps[peaks > 0] / peaks[peaks > 0][:, None, None]
    if len(stamps) == 0:
        return 2.5
    filled = np.where(np.isfinite(stamps), stamps, 0)
    return fwhm_of(np.median(filled, axis=0))


def _weighted_polynomial(stamps: np.ndarray, precision: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Fit a polynomial to each pixel of normalized stars.

    The variation over the image is expected to be a fraction of the mean PSF (`VARIATION`): a
    prior that keeps noise out of the wings, where no variation could be measured.

    Parameters
    ----------
    stamps, precision
        Normalized stars and their inverse variance, ``(n, ny, nx)``.

    terms
        Polynomial terms of each star, ``(n, n_terms)``.
    """
    mean = (precision * stamps).sum(axis=0) / precision.sum(axis=0)
    if terms.shape[1] == 1:
        return mean[None]
    scale = VARIATION * maximum_filter(np.abs(mean), 3) + 1e-7
    normal = np.einsum("nk,nl,nyx->yxkl", terms, terms, precision, optimize=True)
    right = np.einsum("nk,nyx->yxk", terms, precision * stamps, optimize=True)
    prior = np.zeros(normal.shape[-1])
    prior[1:] = 1.0
    normal += (prior * np.eye(len(prior))) / scale[:, :, None, None] ** 2
    return np.moveaxis(np.linalg.solve(normal, right[..., None])[..., 0], -1, 0)


class _Stamps:
    """Stars cut out of an image, and what is known of each so far."""

    def __init__(self, data: np.ndarray, weight: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        self.data, self.weight = data, weight
        self.ix, self.iy = np.rint(x), np.rint(y)
        self.x, self.y = x.copy(), y.copy()
        n, size = len(x), data.shape[-1]
        grid = np.arange(size) - size // 2
        self.fit_area = (grid[:, None] ** 2 + grid[None, :] ** 2) <= max(4.0, size / 5.0) ** 2
        middle = slice(size // 2 - 3, size // 2 + 4)
        self.flux = np.maximum((data * (weight > 0))[:, middle, middle].sum(axis=(1, 2)), 1e-30)
        self.flux_error = np.full(n, np.nan)
        self.position_error = np.full(n, np.nan)
        self.chi2 = np.ones(n)
        self.failed = np.zeros(n, bool)

    @classmethod
    def cut(
        cls, data: np.ndarray, variance: np.ndarray, bad: np.ndarray, x: np.ndarray, y: np.ndarray, size: int
    ) -> _Stamps:
        """Cut the stamps; the weight is the inverse variance, zero on bad pixels."""
        weight = np.where(bad | ~(variance > 0), 0, 1.0 / np.maximum(variance, 1e-30))
        stamps = cut_stamps(np.where(weight > 0, data, 0), x, y, size, fill=0.0).astype(float)
        return cls(stamps, cut_stamps(weight, x, y, size, fill=0.0).astype(float), x, y)

    def usable(self) -> np.ndarray:
        """Return which stars have a positive flux and nearly all of their core."""
        core = (self.weight > 0)[:, self.fit_area].mean(axis=1)
        return (core > 0.9) & (self.flux > 0) & ~self.failed

    def agreeing(self) -> np.ndarray:
        """Return which stars look like the others: no outliers in chi-square."""
        usable = self.usable()
        if usable.sum() < 2 * MIN_STARS[0]:
            # too few to tell which one is wrong
            return usable
        typical = np.median(self.chi2[usable])
        spread = 1.4826 * np.median(np.abs(self.chi2[usable] - typical))
        return self.chi2 < typical + max(5.0 * spread, 0.5 * typical)

    def model(self, psf: Psf) -> np.ndarray:
        """Return the unit-flux model of each star on its pixels."""
        return shift_stamps(psf.at(self.x, self.y), self.x - self.ix, self.y - self.iy)

    def solve(self, keep: np.ndarray, order: int, shape: tuple[int, int], previous: Psf | None) -> Psf:
        """Return the polynomial PSF of the kept stars."""
        data, weight = self.data[keep], self.weight[keep]
        flux = self.flux[keep][:, None, None]
        if previous is not None:
            # bad pixels and neighbours take the value of the model, so that shifting them does no harm
            expected = flux * self.model(previous)[keep]
            tolerance = 5.0 / np.sqrt(np.maximum(weight, 1e-30)) + 0.1 * np.abs(expected)
            outlier = (weight > 0) & (np.abs(data - expected) > tolerance)
            weight = np.where(outlier, 0, weight)
            data = np.where(weight > 0, data, expected)
        dx, dy = (self.ix - self.x)[keep], (self.iy - self.y)[keep]
        normal = shift_stamps(data / flux, dx, dy)
        if previous is None:
            # a median is a start that no neighbour of a bright star can spoil
            bright = np.argsort(-self.flux[keep])[: max(MIN_STARS[0], len(normal) // 2)]
            start = np.median(normal[bright], axis=0)
            return Psf(self._centred(start[None] / start.sum()), shape, source="stars")
        ny, nx = shape
        terms = polynomial_terms(2 * self.x[keep] / (nx - 1) - 1, 2 * self.y[keep] / (ny - 1) - 1, order).T
        basis = _weighted_polynomial(normal, self._precision(keep, previous), terms)
        return Psf(self._centred(basis / basis[0].sum()), shape, order=order, source="stars")

    def _precision(self, keep: np.ndarray, previous: Psf) -> np.ndarray:
        """Return the inverse variance of each pixel of the normalized stars.

        To the noise of the pixels comes the error of the model itself, one per cent, so that
        the core is not decided by the one brightest star.
        """
        typical = np.nanmedian(
            np.where(self.weight[keep] > 0, self.weight[keep], np.nan), axis=(1, 2), keepdims=True
        )
        variance = 1.0 / np.where(self.weight[keep] > 0, self.weight[keep], typical)
        flux = self.flux[keep][:, None, None]
        relative = variance / flux**2
        centre = previous.at((previous.image_shape[1] - 1) / 2, (previous.image_shape[0] - 1) / 2)
        return 1.0 / (relative + (MODEL_ERROR * centre) ** 2)

    @staticmethod
    def _centred(basis: np.ndarray) -> np.ndarray:
        """Move the centroid of the core of the mean PSF to the middle pixel."""
        size = basis.shape[-1]
        half = size // 2
        grid = np.arange(size) - half
        core = np.exp(-0.5 * (grid[:, None] ** 2 + grid[None, :] ** 2) / 2.0**2)
        weighted = basis[0] * core
        dx = 2.0 * float((weighted * grid[None, :]).sum() / weighted.sum())
        dy = 2.0 * float((weighted * grid[:, None]).sum() / weighted.sum())
        return shift_stamps(basis, np.clip(-dx, -0.5, 0.5), np.clip(-dy, -0.5, 0.5))

    def refine(self, psf: Psf) -> None:
        """Improve flux and position of every star by one Gauss-Newton step."""
        model = self.model(psf)
        gradient_y, gradient_x = np.gradient(model, axis=(1, 2))
        weight = self.weight * self.fit_area
        flux = self.flux[:, None, None]
        parts = np.stack([model, -flux * gradient_x, -flux * gradient_y], axis=1)
        residual = self.data - flux * model
        normal = np.einsum("nayx,nbyx,nyx->nab", parts, parts, weight)
        right = np.einsum("nayx,nyx,nyx->na", parts, residual, weight)
        trace = np.einsum("naa->na", normal)
        self.failed |= ~(trace > 0).all(axis=1)
        normal[self.failed] = np.eye(3)
        right[self.failed] = 0
        scale = np.sqrt(np.einsum("naa->na", normal))
        scaled = normal / scale[:, :, None] / scale[:, None, :] + 1e-9 * np.eye(3)
        step = np.linalg.solve(scaled, (right / scale)[..., None])[..., 0] / scale
        self.flux = self.flux + step[:, 0]
        self.x = self.x + np.clip(step[:, 1], -0.5, 0.5)
        self.y = self.y + np.clip(step[:, 2], -0.5, 0.5)
        self.failed |= (np.hypot(self.x - self.ix, self.y - self.iy) > 2.0) | ~np.isfinite(self.flux)
        self.x = np.where(self.failed, self.ix, self.x)
        self.y = np.where(self.failed, self.iy, self.y)
        self.flux_error = np.where(self.failed, np.nan, 1.0 / scale[:, 0])
        self.position_error = np.where(self.failed, np.nan, 0.5 / scale[:, 1] + 0.5 / scale[:, 2])
        used = (weight > 0).sum(axis=(1, 2))
        residual = self.data - self.flux[:, None, None] * model
        self.chi2 = (weight * residual**2).sum(axis=(1, 2)) / np.maximum(used - 3, 1)
