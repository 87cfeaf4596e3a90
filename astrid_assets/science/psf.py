"""The point-spread function, measured on the stars of an image.

The effective PSF (Anderson & King 2000, PASP 112, 1360), pixel integration included, is a mean profile
plus what the stars show beyond it. The profile is a sum of elliptical Gaussians fitted to all pixels of all
stars, good in the wings, where a single pixel is all noise; the rest is free at every sample of a grid finer
than the pixels and a polynomial in the position on the image. Each sample is drawn to the profile with the
strength of a prior: in the core the stars decide, in the far wings the profile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from astrid_assets.errors import PsfError
from astrid_assets.images.psf import Psf, cubic_spline, fwhm_of, polynomial_terms, spline_weights
from astrid_assets.science.resample import cut_stamps, odd_at_least

__all__ = ["StarFits", "fit_stars", "measure_psf"]

MIN_STARS = (3, 12, 25)
"""Stars needed for a PSF of order 0, 1, 2: four for each term, three at least; the priors bear so few."""

MODEL_ERROR = 0.01
"""Error of the empirical PSF relative to its largest value within a pixel, as far as the weights of the stars
go: where an undersampled image was resampled, a core rings on in its wings by more than those have of light.
"""

DEVIATION = (0.1, 0.05)
"""Expected departure of a sample from the elliptical profile, relative to its surroundings: of the mean,
and of what varies over the image beyond width and ellipticity."""

VARIATION = 0.1
"""Expected change of width and ellipticity over an image (ZTF, DECam: 10 % in FWHM)."""

COHERENCE = 0.25
"""Width (sigma) over which departures from the profile are smooth, FWHM: no optics make finer structure."""

SAMPLES_ACROSS = 4.5
"""Least samples in the FWHM: cubic splines then interpolate a seeing profile to 0.1 % of its peak."""

MAX_OVERSAMPLING = 3
"""Most samples in a pixel; at a FWHM of 1.5 pixels the splines are good to 0.3 %."""

SIZE = (17.0, 41, 81)
"""Side of a stamp in units of the FWHM, and its limits in pixels. Beyond it a Moffat profile (beta 3) holds
1.5e-4 of the light."""

WIDTHS = np.geomspace(0.5, 9.0, 8)
"""Widths of the Gaussians of the profile in units of that of the core; apart by 1.5, they follow a Moffat
profile within 1 %."""

LEAST_WHOLE = (0.8, 0.6, 0.4)
"""Share of the pixels of the fitted area that a star must have; the next one where stars are too few."""

CORE = 8.0
"""Side of the area where samples are free, FWHM; beyond it the profile stands alone."""

DESCENT_STEPS = 12
"""Conjugate-gradient steps in a round; the rounds start from where the last one ended."""


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

    usable: np.ndarray
    """Whether the fit converged on a positive flux, with nearly all of the core."""


def measure_psf(
    data: np.ndarray,
    variance: np.ndarray,
    bad: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    *,
    neighbours: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    size: int | None = None,
    max_order: int = 2,
    max_stars: int = 120,
    iterations: int = 3,
) -> Psf:
    """Measure an empirical PSF that varies as a polynomial over the image.

    Positions, fluxes and outliers (neighbours, cosmic rays) are refined in turn with the PSF; the
    last round is the self-consistency check: stars that the PSF of the others does not describe
    are out. Where the image is undersampled the PSF is oversampled.

    Parameters
    ----------
    data, variance
        Background-subtracted image and its variance, ``(ny, nx)``.

    bad
        Boolean image of pixels not to be trusted.

    x, y
        Positions of isolated, unsaturated stars, brightest first.

    neighbours
        Positions (x, y) and heights (sigma of a pixel) of all peaks of the image; the pixels around those
        that are not the star itself take no part.

    size
        Odd side of the stamps; 17 times the FWHM, between 41 and 81, by default.

    max_order
        Highest order of the polynomial; it drops where there are too few stars.

    max_stars
        Number of stars to use, the brightest.

    iterations
        Rounds of refinement.

    Raises
    ------
    PsfError
        With fewer than three usable stars; the message says how many were found and how many it takes.
    """
    x, y = np.asarray(x, float)[:max_stars], np.asarray(y, float)[:max_stars]
    _require(len(x), len(x))
    fwhm = _rough_fwhm(data, bad, x, y)
    size = size or odd_at_least(np.clip(SIZE[0] * fwhm, *SIZE[1:]))
    step = int(np.clip(np.ceil(SAMPLES_ACROSS / fwhm), 1, MAX_OVERSAMPLING))
    # a star is displaced by up to a pixel against its stamp
    stars = _Stars.cut(data, variance, bad, x, y, size)
    if neighbours is not None:
        stars.leave_out(*neighbours, fwhm=fwhm)
    grid = _Grid.round(size, step, fwhm)
    for _ in range(iterations):
        stars.refine(grid)
        stars.relax()
        keep = stars.usable() & stars.agreeing()
        n_kept = int(keep.sum())
        _require(n_kept, len(x))
        order = max(o for o in range(min(max_order, 2) + 1) if n_kept >= MIN_STARS[o])
        grid = grid.fitted(stars, keep, order, data.shape)
    stars.refine(grid)
    used = stars.usable() & stars.agreeing()
    return Psf(
        grid.samples(),
        data.shape,
        order=grid.order,
        n_stars=int(keep.sum()),
        chi2=float(np.median(stars.chi2[used])) if used.any() else None,
        source="stars",
        oversampling=step,
    )


def _require(n_usable: int, n_given: int) -> None:
    """Refuse to make a PSF of less than three stars."""
    if n_usable < MIN_STARS[0]:
        raise PsfError(
            f"{n_usable} of {n_given} stars are usable for a PSF, {MIN_STARS[0]} needed; "
            "give a PSF file or a wider field"
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
    least_whole: float | None = None,
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

    iterations
        Number of steps.

    least_whole
        Share of the pixels of the fitted area that a usable star must have; by default as large as leaves
        three stars.
    """
    size = min(psf.shape[0], odd_at_least(2.0 * FIT_RADIUS * psf.fwhm + 1.0))
    stars = _Stars.cut(data, variance, bad, np.asarray(x, float), np.asarray(y, float), size)
    grid = _Grid.of(psf).core(size)
    for _ in range(iterations):
        stars.refine(grid)
    if least_whole is None:
        stars.relax()
    else:
        stars.least_whole = least_whole
    return StarFits(
        stars.flux, stars.flux_error, stars.x, stars.y, stars.position_error, stars.chi2, stars.usable()
    )


FIT_RADIUS = 2.0
"""Radius of the area that flux and position of a star are fitted on, FWHM; holds 97 % of a seeing profile."""


def _largest_near(stamps: np.ndarray) -> np.ndarray:
    """Return the largest value among a pixel and its neighbours, of stamps ``(n, ny, nx)``."""
    return maximum_filter(stamps, size=(1, 3, 3), mode="nearest")


def _rough_fwhm(data: np.ndarray, bad: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Return the FWHM from the mean of the brightest stars, not re-centred."""
    stamps = cut_stamps(np.where(bad, np.nan, data), x[:30], y[:30], 31)
    peaks = np.nanmax(stamps[:, 14:17, 14:17], axis=(1, 2), initial=-np.inf)
    stamps = stamps[peaks > 0] / peaks[peaks > 0][:, None, None]
    if len(stamps) == 0:
        return 2.5
    filled = np.where(np.isfinite(stamps), stamps, 0)
    return fwhm_of(np.median(filled, axis=0))


@dataclass(frozen=True, eq=False)
class _Grid:
    """A PSF as coefficients of cubic B-splines on a grid finer than the pixels."""

    coefficients: np.ndarray
    """``(n_terms, m, m)``; unit flux is a sum of ``step^2``."""

    size: int
    """Pixels along a side, odd."""

    step: int
    """Samples in a pixel."""

    fwhm: float
    """Pixels."""

    order: int
    """Of the polynomial in the position."""

    shape: tuple[int, int]
    """Of the image."""

    departure: _Free | None = None
    """Where the fit ended, to start the next round from."""

    @classmethod
    def round(cls, size: int, step: int, fwhm: float) -> _Grid:
        """Return a circular Moffat profile (beta 3), where to start from."""
        radius2 = _radius2(size, step, np.eye(2))
        alpha2 = (0.5 * fwhm) ** 2 / (2.0 ** (1.0 / 3.0) - 1.0)
        samples = (1.0 + radius2 / alpha2) ** -3.0
        return cls(_coefficients(samples / samples.sum() * step**2)[None], size, step, fwhm, 0, (1, 1))

    @classmethod
    def of(cls, psf: Psf) -> _Grid:
        """Return a PSF as it is."""
        size, step = psf.shape[0], psf.oversampling
        coefficients = _coefficients(psf.basis.astype(float))
        totals = coefficients.sum(axis=(1, 2))
        coefficients[1:] -= (totals[1:] / totals[0])[:, None, None] * coefficients[0]
        return cls(coefficients, size, step, psf.fwhm, psf.order, psf.image_shape)

    def terms(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the polynomial terms at places of the image, ``(n, n_terms)``."""
        ny, nx = self.shape
        u, v = 2 * x / max(nx - 1, 1) - 1, 2 * y / max(ny - 1, 1) - 1
        return polynomial_terms(np.clip(u, -1, 1), np.clip(v, -1, 1), self.order).T

    def model(self, stars: _Stars) -> np.ndarray:
        """Return the unit-flux models of stars on all pixels of their stamps, ``(n, size, size)``."""
        local = np.tensordot(self.terms(stars.x, stars.y), self.coefficients, axes=1)
        down, across = (self.weights(shift) for shift in (stars.y - stars.iy, stars.x - stars.ix))
        return down @ local @ np.swapaxes(across, 1, 2)

    def core(self, size: int) -> _Grid:
        """Return the middle of this PSF."""
        cut = self.step * (self.size - size) // 2
        inner = slice(cut, self.coefficients.shape[-1] - cut)
        return replace(self, coefficients=self.coefficients[:, inner, inner], size=size, departure=None)

    def models(self, stars: _Stars) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the unit-flux models of stars, and their derivatives by x and y."""
        local = np.tensordot(self.terms(stars.x, stars.y), self.coefficients, axes=1)
        reach = 1e-3
        sides = []
        for shift in (stars.y - stars.iy, stars.x - stars.ix):
            ahead, behind = self.weights(shift + reach), self.weights(shift - reach)
            sides.append((self.weights(shift), (ahead - behind) / (2.0 * reach)))
        (down, slope_y), (across, slope_x) = sides
        rows = down @ local
        return (
            rows @ np.swapaxes(across, 1, 2),
            rows @ np.swapaxes(slope_x, 1, 2),
            slope_y @ local @ np.swapaxes(across, 1, 2),
        )

    def weights(self, shift: np.ndarray) -> np.ndarray:
        """Return the B-spline weights of moved stamps, ``(n, size, m)``."""
        return spline_weights(np.asarray(shift, float)[:, None, None], self.size, self.step, self.size)

    def fitted(self, stars: _Stars, keep: np.ndarray, order: int, shape: tuple[int, int]) -> _Grid:
        """Return the PSF of some stars: profile, then what their cores show beyond it."""
        normal, precision = stars.normalized(keep, self.model(stars))
        x, y = stars.x[keep], stars.y[keep]
        dx, dy = x - stars.ix[keep], y - stars.iy[keep]
        profile = _profile(normal, precision, dx, dy, self)
        coefficients = np.zeros(((order + 1) * (order + 2) // 2, *profile.shape))
        coefficients[0] = profile
        whole = replace(self, coefficients=coefficients, order=order, shape=shape)
        core = whole.core(min(self.size, odd_at_least(CORE * self.fwhm)))
        cut = (self.size - core.size) // 2
        inner = slice(cut, self.size - cut)
        fitted, departure = _descend(
            normal[:, inner, inner].astype(np.float32),
            precision[:, inner, inner].astype(np.float32),
            core.terms(x, y).astype(np.float32),
            [core.weights(shift).astype(np.float32) for shift in (dy, dx)],
            _Prior.of(core.coefficients[0], len(coefficients), self.fwhm, self.step),
            _Free.zeros(len(coefficients), core.coefficients.shape[-1], self.departure),
        )
        cut = (profile.shape[0] - fitted.shape[-1]) // 2
        inner = slice(cut, profile.shape[0] - cut)
        coefficients[:, inner, inner] = fitted
        # the flux of a star is the business of the star: what varies over the image holds none
        totals = coefficients.sum(axis=(1, 2))
        coefficients[1:] -= (totals[1:] / totals[0])[:, None, None] * coefficients[0]
        return replace(whole, coefficients=_centred(coefficients, self.step, self.fwhm), departure=departure)

    def samples(self) -> np.ndarray:
        """Return the values of the PSF on the grid, ``(n_terms, m, m)``; the mean has unit flux."""
        values = _samples(self.coefficients)
        return values / (values[0].sum() / self.step**2)


def _radius2(size: int, step: int, form: np.ndarray) -> np.ndarray:
    """Return the squared elliptical radius of the samples, pixels^2."""
    grid = (np.arange(step * (size - 1) + 1) - step * (size // 2)) / step
    x, y = grid[None, :], grid[:, None]
    return form[0, 0] * x**2 + 2.0 * form[0, 1] * x * y + form[1, 1] * y**2


def _spline_matrix(m: int) -> np.ndarray:
    """Return the matrix that turns B-spline coefficients into samples."""
    return cubic_spline(np.arange(m)[:, None] - np.arange(m)[None, :])


def _samples(coefficients: np.ndarray) -> np.ndarray:
    matrix = _spline_matrix(coefficients.shape[-1])
    return matrix @ coefficients @ matrix


def _coefficients(samples: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(_spline_matrix(samples.shape[-1]))
    return inverse @ samples @ inverse


def _profile(
    normal: np.ndarray, precision: np.ndarray, dx: np.ndarray, dy: np.ndarray, grid: _Grid
) -> np.ndarray:
    """Fit a sum of concentric elliptical Gaussians to stars; return its B-spline coefficients, ``(m, m)``."""
    from scipy.optimize import lsq_linear

    form = _ellipse(_samples(grid.coefficients[0]), grid.step, grid.fwhm)
    pixel = np.arange(grid.size) - grid.size // 2
    u, v = pixel[None, None, :] - dx[:, None, None], pixel[None, :, None] - dy[:, None, None]
    radius = np.sqrt(form[0, 0] * u**2 + 2.0 * form[0, 1] * u * v + form[1, 1] * v**2)
    edges = np.r_[np.arange(0.0, 6.0, 0.2), np.geomspace(6.0, 1.5 * grid.size, 30)]
    place = np.digitize(radius.ravel(), edges)
    total = np.bincount(place, precision.ravel(), len(edges) + 1)
    filled = total > 0
    mean_radius2 = np.bincount(place, (precision * radius**2).ravel(), len(edges) + 1)[filled] / total[filled]
    mean = np.bincount(place, (precision * normal).ravel(), len(edges) + 1)[filled] / total[filled]
    widths = WIDTHS * grid.fwhm / 2.355
    shapes = np.exp(-0.5 * mean_radius2[:, None] / widths**2)
    weight = np.sqrt(total[filled])
    norms = np.sqrt(((shapes * weight[:, None]) ** 2).sum(axis=0))
    fit = lsq_linear(shapes * weight[:, None] / norms, mean * weight, bounds=(0.0, np.inf))
    amplitudes = fit.x / norms
    radius2 = _radius2(grid.size, grid.step, form)
    samples = sum(a * np.exp(-0.5 * radius2 / w**2) for a, w in zip(amplitudes, widths, strict=True))
    return _coefficients(samples)


def _ellipse(samples: np.ndarray, step: int, fwhm: float) -> np.ndarray:
    """Return the quadratic form, of unit determinant, whose ellipses are those of the core of a PSF."""
    half = samples.shape[0] // 2
    grid = (np.arange(samples.shape[0]) - half) / step
    window = np.exp(-0.5 * (grid[:, None] ** 2 + grid[None, :] ** 2) / (fwhm / 1.6) ** 2)
    light = samples * window
    xx, yy = (light * grid[None, :] ** 2).sum(), (light * grid[:, None] ** 2).sum()
    xy = (light * grid[None, :] * grid[:, None]).sum()
    window_form = np.eye(2) / (fwhm / 1.6) ** 2
    # the window rounds the moments: take its curvature off again
    inverse = np.linalg.inv(np.array([[xx, xy], [xy, yy]]) / light.sum()) - window_form
    determinant = np.linalg.det(inverse)
    return inverse / np.sqrt(determinant) if determinant > 0 and inverse[0, 0] > 0 else np.eye(2)


@dataclass(frozen=True, eq=False)
class _Prior:
    """What a PSF is expected to look like before the stars are looked at.

    The mean is a profile; over the image its width and ellipticity change, and with them core and wings
    together; what else departs from it is small, and as smooth as a PSF can be. Free numbers of unit variance
    stand for all of this: `spread` turns them into B-spline coefficients.
    """

    centre: np.ndarray
    """``(n_terms, m, m)``; zero but for the first term."""

    scale: np.ndarray
    """Expected size of the departures, ``(n_terms, m, m)``."""

    modes: np.ndarray
    """Change of the profile with width and with both ellipticities, times what is expected, ``(3, m, m)``."""

    smoothing: np.ndarray
    """``(m, m)``."""

    @classmethod
    def of(cls, profile: np.ndarray, n_terms: int, fwhm: float, step: int) -> _Prior:
        """Return the prior of a profile ``(m, m)``."""
        around = maximum_filter(np.abs(profile), 3) + 1e-6 * profile.max()
        relative = np.full(n_terms, DEVIATION[1])
        relative[0] = DEVIATION[0]
        centre = np.zeros((n_terms, *profile.shape))
        centre[0] = profile
        planes = centre, relative[:, None, None] * around, VARIATION * _modes(profile)
        smoothing = _smoothing(profile.shape[0], COHERENCE * fwhm * step)
        return cls(*(plane.astype(np.float32) for plane in planes), smoothing)

    def spread(self, free: np.ndarray, shapes: np.ndarray) -> np.ndarray:
        """Return coefficients less the centre, of free numbers ``(n_terms, m, m)`` and ``(n_terms, 3)``."""
        fine = self.scale * (self.smoothing @ free @ self.smoothing.T)
        return fine + np.tensordot(shapes, self.modes, axes=1)

    def gathered(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the transpose of `spread`."""
        shapes = np.tensordot(values, self.modes, axes=([1, 2], [1, 2]))
        shapes[0] = 0.0  # the mean profile has been fitted
        return self.smoothing.T @ (self.scale * values) @ self.smoothing, shapes


def _modes(profile: np.ndarray) -> np.ndarray:
    """Return the derivatives of a profile by its log width and its two ellipticities, ``(3, m, m)``."""
    samples = _samples(profile)
    slope_y, slope_x = np.gradient(samples)
    grid = np.arange(samples.shape[0]) - samples.shape[0] // 2
    x, y = grid[None, :], grid[:, None]
    changes = (
        -(x * slope_x + y * slope_y) - 2.0 * samples,
        y * slope_y - x * slope_x,
        -(y * slope_x + x * slope_y),
    )
    return _coefficients(np.array(changes))


def _descend(
    normal: np.ndarray,
    precision: np.ndarray,
    terms: np.ndarray,
    weights: list[np.ndarray],
    prior: _Prior,
    start: _Free,
) -> tuple[np.ndarray, _Free]:
    """Return the coefficients that fit the stars under the prior, and where it ended; conjugate gradients.

    Parameters
    ----------
    normal, precision
        Stars over their flux and the inverse variance of that, ``(n, size, size)``.

    terms
        Polynomial terms of each star, ``(n, n_terms)``.

    weights
        B-spline weights of each star along y and x, ``(n, size, m)``.

    prior
        What is expected.

    start
        Free numbers to start from.
    """
    down, across = weights
    up, back = np.ascontiguousarray(np.swapaxes(down, 1, 2)), np.ascontiguousarray(np.swapaxes(across, 1, 2))

    def model(values: np.ndarray) -> np.ndarray:
        return down @ np.tensordot(terms, values, axes=1) @ back

    def adjoint(stamps: np.ndarray) -> _Free:
        return _Free(*prior.gathered(np.tensordot(terms.T, up @ stamps @ across, axes=1)))

    hessian = np.tensordot(terms.T**2, up**2 @ precision @ across**2, axes=1)
    curvature = _Free(
        (prior.smoothing**2).T @ (hessian * prior.scale**2) @ prior.smoothing**2 + 1.0,
        np.tensordot(hessian, prior.modes**2, axes=([1, 2], [1, 2])) + 1.0,
    )
    free = start
    rest = adjoint(precision * (normal - model(prior.centre + prior.spread(*free)))).plus(free, -1.0)
    ahead = rest.over(curvature)
    direction, power = ahead, rest.dot(ahead)
    for _ in range(DESCENT_STEPS):
        image = adjoint(precision * model(prior.spread(*direction))).plus(direction, 1.0)
        length = power / max(direction.dot(image), 1e-30)
        free, rest = free.plus(direction, length), rest.plus(image, -length)
        ahead = rest.over(curvature)
        power, before = rest.dot(ahead), power
        direction = ahead.plus(direction, power / max(before, 1e-30))
    return (prior.centre + prior.spread(*free)).astype(float), free


class _Free(NamedTuple):
    """The free numbers of a PSF: fine structure ``(n_terms, m, m)`` and shapes ``(n_terms, 3)``."""

    fine: np.ndarray
    shapes: np.ndarray

    def plus(self, other: _Free, factor: float) -> _Free:
        return _Free(
            self.fine + np.float32(factor) * other.fine, self.shapes + np.float32(factor) * other.shapes
        )

    def over(self, other: _Free) -> _Free:
        return _Free(self.fine / other.fine, self.shapes / other.shapes)

    def dot(self, other: _Free) -> float:
        return float((self.fine * other.fine).sum() + (self.shapes * other.shapes).sum())

    @classmethod
    def zeros(cls, n_terms: int, m: int, before: _Free | None) -> _Free:
        """Return zeros, or where an earlier round ended as far as it went."""
        fine, shapes = np.zeros((n_terms, m, m), np.float32), np.zeros((n_terms, 3), np.float32)
        if before is not None:
            common = min(n_terms, len(before.shapes))
            fine[:common], shapes[:common] = before.fine[:common], before.shapes[:common]
        return cls(fine, shapes)


def _smoothing(m: int, width: float) -> np.ndarray:
    """Return a matrix of Gaussians of a width in samples, whose rows have unit length."""
    away = np.arange(m)[:, None] - np.arange(m)[None, :]
    rows = np.exp(-0.5 * (away / max(width, 0.3)) ** 2)
    return (rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))).astype(np.float32)


def _centred(coefficients: np.ndarray, step: int, fwhm: float) -> np.ndarray:
    """Move the centroid of the core of the mean PSF to the middle sample."""
    m = coefficients.shape[-1]
    grid = (np.arange(m) - m // 2) / step
    mean = _samples(coefficients[0])
    core = mean * np.exp(-0.5 * (grid[:, None] ** 2 + grid[None, :] ** 2) / (fwhm / 2.355) ** 2)
    # a window of the width of the PSF itself halves the centroid
    dx, dy = (2.0 * float((core * g).sum() / core.sum()) for g in (grid[None, :], grid[:, None]))
    across, down = (spline_weights(-np.clip(d, -0.5, 0.5) * step, m, 1, m) for d in (dx, dy))
    return _coefficients(down @ coefficients @ across.T)


class _Stars:
    """Stars cut out of an image, and what is known of each so far."""

    def __init__(self, data: np.ndarray, weight: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        self.data, self.weight = data, weight
        self.ix, self.iy = np.rint(x), np.rint(y)
        self.x, self.y = x.copy(), y.copy()
        n, size = len(x), data.shape[-1]
        middle = slice(size // 2 - 3, size // 2 + 4)
        self.flux = np.maximum((data * (weight > 0))[:, middle, middle].sum(axis=(1, 2)), 1e-30)
        self.flux_error = np.full(n, np.nan)
        self.position_error = np.full(n, np.nan)
        self.chi2 = np.ones(n)
        self.failed = np.zeros(n, bool)
        self.least_whole = LEAST_WHOLE[0]
        self.whole = (weight[:, middle, middle] > 0).mean(axis=(1, 2))

    @classmethod
    def cut(
        cls, data: np.ndarray, variance: np.ndarray, bad: np.ndarray, x: np.ndarray, y: np.ndarray, size: int
    ) -> _Stars:
        """Cut the stamps; the weight is the inverse variance, zero on bad pixels."""
        spoiled = cut_stamps(bad, x, y, size, fill=True)
        noise = cut_stamps(variance, x, y, size, fill=0.0).astype(float)
        weight = np.where(spoiled | ~(noise > 0), 0, 1.0 / np.maximum(noise, 1e-30))
        stamps = cut_stamps(data, x, y, size, fill=0.0).astype(float)
        return cls(np.where(weight > 0, stamps, 0.0), weight, x, y)

    def leave_out(self, x: np.ndarray, y: np.ndarray, height: np.ndarray, *, fwhm: float) -> None:
        """Give no weight to the pixels around sources other than the star of a stamp itself.

        A Moffat profile (beta 3) falls to a tenth of the noise within the radius that is left out; where that
        leaves too little of a star, in a crowd, only the cores of its neighbours are.
        """
        from scipy.spatial import cKDTree

        wide = fwhm * np.maximum(10.0 * height, 10.0) ** (1.0 / 6.0)
        half = self.data.shape[-1] // 2
        pixel = np.arange(-half, half + 1)
        core = pixel[:, None] ** 2 + pixel[None, :] ** 2 <= (FIT_RADIUS * fwhm) ** 2
        near = cKDTree(np.c_[x, y]).query_ball_point(np.c_[self.x, self.y], 1.5 * half + wide.max(initial=0))
        for i, others in enumerate(near):
            away = np.hypot(x[others] - self.x[i], y[others] - self.y[i])
            chosen = np.array(others, int)[away > 1.5 * fwhm]
            dx, dy = x[chosen] - self.ix[i], y[chosen] - self.iy[i]
            distance2 = (pixel[None, None, :] - dx[:, None, None]) ** 2
            distance2 = distance2 + (pixel[None, :, None] - dy[:, None, None]) ** 2
            for radius in (wide[chosen], np.full(len(chosen), fwhm)):
                free = (distance2 >= radius[:, None, None] ** 2).all(axis=0)
                if free[core].mean() > LEAST_WHOLE[0]:
                    break
            self.weight[i] *= free

    def usable(self) -> np.ndarray:
        """Return which stars have a positive flux and enough of their core."""
        return (self.whole > self.least_whole) & (self.flux > 0) & ~self.failed

    def relax(self) -> None:
        """Accept stars with more bad pixels where too few are whole: fits leave such pixels out."""
        for share in LEAST_WHOLE:
            self.least_whole = share
            if self.usable().sum() >= MIN_STARS[0]:
                break

    def agreeing(self) -> np.ndarray:
        """Return which stars look like the others: no outliers in chi-square."""
        usable = self.usable()
        if usable.sum() < 2 * MIN_STARS[0]:
            # too few to tell which one is wrong
            return usable
        typical = np.median(self.chi2[usable])
        spread = 1.4826 * np.median(np.abs(self.chi2[usable] - typical))
        agreeing = usable & (self.chi2 < typical + max(5.0 * spread, 0.5 * typical))
        return agreeing if agreeing.sum() >= MIN_STARS[0] else usable

    def normalized(self, keep: np.ndarray, model: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the kept stars over their flux, and the inverse variance of that, without outliers.

        To the noise of the pixels comes the error of the model itself, one per cent, so that
        the core is not decided by the one brightest star.
        """
        data, weight, flux = self.data[keep], self.weight[keep], self.flux[keep][:, None, None]
        expected = flux * model[keep]
        variance = 1.0 / np.where(weight > 0, weight, 1.0)
        outlier = np.abs(data - expected) > 5.0 * np.sqrt(variance) + 0.1 * np.abs(expected)
        precision = 1.0 / (variance / flux**2 + (MODEL_ERROR * _largest_near(model[keep])) ** 2)
        return data / flux, np.where((weight > 0) & ~outlier, precision, 0.0)

    def refine(self, grid: _Grid) -> None:
        """Improve flux and position of every star by one Gauss-Newton step."""
        size = min(grid.size, odd_at_least(2.0 * FIT_RADIUS * grid.fwhm + 1.0))
        cut = (grid.size - size) // 2
        inner = (slice(None), slice(cut, grid.size - cut), slice(cut, grid.size - cut))
        data, given = self.data[inner], self.weight[inner]
        pixel = np.arange(size) - size // 2
        area = pixel[:, None] ** 2 + pixel[None, :] ** 2 <= max(2.0, FIT_RADIUS * grid.fwhm) ** 2
        self.whole = (given > 0)[:, area].mean(axis=1)
        model, slope_x, slope_y = grid.core(size).models(self)
        flux = self.flux[:, None, None]
        variance = 1.0 / np.where(given > 0, given, 1.0)
        weight = area * (given > 0) / (variance + (MODEL_ERROR * flux * _largest_near(model)) ** 2)
        parts = np.stack([model, flux * slope_x, flux * slope_y], axis=1)
        residual = data - flux * model
        n, area = len(parts), size * size
        flat = parts.reshape(n, 3, area)
        normal = (flat * weight.reshape(n, 1, area)) @ np.swapaxes(flat, 1, 2)
        right = (flat @ (residual * weight).reshape(n, area, 1))[..., 0]
        trace = np.einsum("naa->na", normal)
        self.failed |= ~(trace > 0).all(axis=1)
        normal[self.failed] = np.eye(3)
        right[self.failed] = 0
        scale = np.sqrt(np.einsum("naa->na", normal))
        scaled = normal / scale[:, :, None] / scale[:, None, :] + 1e-9 * np.eye(3)
        step = np.linalg.solve(scaled, (right / scale)[..., None])[..., 0] / scale
        used = (weight > 0).sum(axis=(1, 2))
        self.chi2 = (weight * residual**2).sum(axis=(1, 2)) / np.maximum(used - 3, 1)
        self.flux = self.flux + step[:, 0]
        self.x = self.x + np.clip(step[:, 1], -0.5, 0.5)
        self.y = self.y + np.clip(step[:, 2], -0.5, 0.5)
        self.failed |= (np.hypot(self.x - self.ix, self.y - self.iy) > 2.0) | ~np.isfinite(self.flux)
        self.x = np.where(self.failed, self.ix, self.x)
        self.y = np.where(self.failed, self.iy, self.y)
        self.flux_error = np.where(self.failed, np.nan, 1.0 / scale[:, 0])
        self.position_error = np.where(self.failed, np.nan, 0.5 / scale[:, 1] + 0.5 / scale[:, 2])
