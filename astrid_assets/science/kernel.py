"""The kernel that matches two images, fitted on sources that both show.

A sum of Gaussians times polynomials whose coefficients vary over the image as polynomials (Alard &
Lupton 1998; Alard 2000), solved from small matrices of single stamps, so that a stamp can be left
out at no cost. Needs no PSF: registration shift and flux ratio are part of the kernel.

Chosen by measurement, on seven simulated pairs of 512 x 512 pixels (FWHM 1.9 to 3.2 pixels, 25 to 300
Moffat stars), each star judged by a fit that it took no part in: the residuals over the photon and sky
noise are 1.03 to 1.37 (ZOGY 1.06 to 1.36). A delta basis of 11 x 11 pixels with regularized gradients
(Bramich 2008; Becker et al. 2012) has 1.02 to 1.29, no better on the whole, at three times the cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from astrid_assets.errors import PsfError, ScienceError
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.pairs import AlignedPair
from astrid_assets.images.psf import Psf, polynomial_terms
from astrid_assets.science.noise import power_spectrum
from astrid_assets.science.resample import cut_stamps, fill_bad
from astrid_assets.science.stars import Sources, find_sources

__all__ = ["MIN_STAMPS", "MatchingKernel", "fit_kernel", "is_sharper"]

GAUSSIANS = ((0.7, 6), (1.5, 4), (3.0, 2))
"""Width in pixels and degree of the polynomial of each Gaussian: the defaults of hotpants."""

KERNEL_REACH = 10.0 / 3.0
"""Half side of the kernel in units of the widest Gaussian, as in hotpants."""

MATCH_WIDTH = 1.5
"""Width of the matching Gaussian above which all widths grow with it, pixels.

Narrower Gaussians than the default ones are not constrained by any star: with hotpants, whose
documentation scales them down as well, two images of nearly the same seeing subtract badly.
"""

MIN_STAMPS = (3, 15, 40)
"""Stamps needed for a kernel of order 0, 1, 2, as for a PSF; three is the least of LSST's ip_diffim."""

MAX_STAMPS = 150
"""Most stamps of a fit: more do not make it better, and cost."""

CELLS = 8
"""Cells along each axis from which sources are taken in turn, so that they cover the field."""

STAMP_SNR = (10.0, 2000.0)
"""Signal-to-noise ratio of the sources that are used.

LSST's ip_diffim stops at 500. The stars above that are known best, and leave most where they took no part:
without them six of the seven pairs had residuals of 1.04 to 1.30 instead of 1.03 to 1.20. What is not
linear is masked as saturated.
"""

STAMP_RADIUS = 3.0
"""Half side of the fitted area in FWHM of the broader image: 99 % of the light of a Moffat star."""

STAMP_LIMITS = (15, 25)
"""Smallest and largest half side of the fitted area, pixels.

Smaller areas do not tell the wings of a source from its background: the sum of the kernel then
scatters by 1 % instead of 0.3 % (measured, 121 stars). 15 is the default of hotpants.
"""

PRIOR = (0.03, 0.003)
"""Expected size of a coefficient of the kernel, and of its variation over the image, for modes of unit
norm (a Gaussian of 1 pixel has the norm 0.28) and a kernel of unit sum. Keeps back what no star
constrains; three times smaller values give the same residuals, ten times smaller ones large ones.
"""

CUT_MODES = 1e-4
"""Combinations of the Gaussians of less than this share of the largest norm are left out as redundant."""

REJECTION = 5.0
"""Robust standard deviations of the relative residual beyond which a stamp is an outlier."""

TOLERATED_RESIDUAL = 0.02
"""Relative residual that never makes a stamp an outlier: PSF models are not better than that."""

ITERATIONS = 4
"""Most rounds of fit and rejection."""

PLAUSIBLE_SUM = 0.2
"""Largest relative difference between the sum of the kernel and the flux ratio of the pair."""


@dataclass(frozen=True, eq=False)
class MatchingKernel:
    """A kernel that varies over the image: what turns one image of a pair into the other."""

    basis: np.ndarray
    """Stamps of the modes ``(n_modes, size, size)``: the first of unit sum, the others of zero sum."""

    coefficients: np.ndarray
    """Coefficients ``(n_terms, n_modes)`` in the terms of `polynomial_terms`."""

    image_shape: tuple[int, int]
    """Shape ``(ny, nx)`` of the image that the polynomial spans."""

    order: int
    """Order of the polynomial."""

    convolves: str
    """``reference``, or ``science`` where that is the sharper image."""

    n_stamps: int
    """Sources that the kernel was fitted on."""

    n_rejected: int
    """Sources that were left out as outliers: variable, blended, spoiled."""

    chi2: float
    """Median reduced chi-square of the stamps."""

    residual: float
    """Median residual of a stamp beyond its noise, relative to the source."""

    def at(self, x: float, y: float) -> np.ndarray:
        """Return the kernel ``(size, size)`` at a position, pixels; its sum is the ratio of the fluxes."""
        weights = _terms(np.array(x), np.array(y), self.image_shape, self.order) @ self.coefficients
        return np.tensordot(weights, self.basis, axes=1)

    def sum_at(self, x: float, y: float) -> float:
        """Return the sum of the kernel at a position, pixels."""
        weights = _terms(np.array(x), np.array(y), self.image_shape, self.order) @ self.coefficients
        return float(weights[0])


def is_sharper(first: Psf, second: Psf) -> bool:
    """Return whether the first PSF gathers its light on no more pixels than the second."""
    areas = []
    for psf in (first, second):
        ny, nx = psf.image_shape
        areas.append(1.0 / float((psf.at((nx - 1) / 2, (ny - 1) / 2) ** 2).sum()))
    return areas[0] <= areas[1]


def fit_kernel(
    pair: AlignedPair,
    *,
    max_order: int = 2,
    ratio_order: int = 0,
    gaussians: tuple[tuple[float, int], ...] | None = None,
) -> MatchingKernel:
    """Fit the kernel that turns the sharper image of a normalized pair into the other one.

    Sources of either shape are compared, stars or galaxies, on stamps with a constant background
    each. The weights follow from both variance planes, that of the convolved image carried by the
    kernel (Becker et al. 2012); the noise of that image is taken out of the normal equations, where it
    would broaden the kernel (errors in variables: 5 % of a star for a signal-to-noise ratio of 50).
    Sources that disagree, variable or blended, are left out one round after the other.

    Parameters
    ----------
    pair
        From `normalize`; its PSFs decide which image is convolved, and the widths.

    max_order
        Highest order of the variation over the image; lower where there are fewer sources than
        `MIN_STAMPS` says.

    ratio_order
        Order of the variation of the sum of the kernel, the flux ratio; 0 is constant.

    gaussians
        Width in pixels and degree of each Gaussian; `GAUSSIANS` scaled with the seeing by default.

    Raises
    ------
    PsfError
        If too few sources are usable, or the sum of the kernel is implausible.
    """
    norm = pair.normalization
    if norm is None or pair.science.psf is None or pair.reference.psf is None:
        raise ScienceError("the pair is not normalized: call normalize() first")
    convolves = "reference" if is_sharper(pair.reference.psf, pair.science.psf) else "science"
    sharp, broad = (
        (pair.reference, pair.science) if convolves == "reference" else (pair.science, pair.reference)
    )
    ratio = norm.flux_ratio if convolves == "reference" else 1.0 / norm.flux_ratio
    match = _match_width(sharp.psf, broad.psf)
    shapes = gaussians or _scaled(match)
    basis = _Basis.of(shapes, match)
    fit = _fit(_cut(pair, sharp, broad, ratio, basis.half), basis, max_order, ratio_order)
    offset = fit.coefficients[0, 0] - 1.0
    if abs(offset) > PLAUSIBLE_SUM:
        raise PsfError(
            f"the sum of the matching kernel is {100 * offset:+.0f} % off the flux ratio of the pair"
        )
    return MatchingKernel(
        basis.modes, ratio * fit.coefficients, pair.science.shape, fit.order, convolves, *fit.statistics()
    )


def _terms(x: np.ndarray, y: np.ndarray, shape: tuple[int, int], order: int) -> np.ndarray:
    """Return the polynomial terms at positions, ``(..., n_terms)``."""
    ny, nx = shape
    u = np.clip(2.0 * x / max(nx - 1, 1) - 1.0, -1, 1)
    v = np.clip(2.0 * y / max(ny - 1, 1) - 1.0, -1, 1)
    return np.moveaxis(polynomial_terms(u, v, order), 0, -1)


def _match_width(sharp: Psf, broad: Psf) -> float:
    """Return the width of the Gaussian that turns one seeing into the other, pixels."""
    return float(np.sqrt(max(broad.fwhm**2 - sharp.fwhm**2, 0.0)) / np.sqrt(8.0 * np.log(2.0)))


def _scaled(match: float) -> tuple[tuple[float, int], ...]:
    """Return the default Gaussians, wider where the seeings differ by more than they can bridge."""
    scale = max(1.0, match / MATCH_WIDTH)
    return tuple((scale * sigma, degree) for sigma, degree in GAUSSIANS)


# --- basis ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Basis:
    """Separable functions, and the well-behaved combinations of them that are fitted."""

    rows: list[np.ndarray]
    """One-dimensional functions ``(degree + 1, size)`` of each Gaussian."""

    combination: np.ndarray
    """Modes in the separable functions, ``(n_modes, n_functions)``."""

    modes: np.ndarray
    """Stamps of the modes."""

    half: int
    """Half side of a stamp."""

    @classmethod
    def of(cls, shapes: tuple[tuple[float, int], ...], match: float) -> _Basis:
        """Make the functions of some Gaussians; the first mode is a Gaussian about as wide as the kernel."""
        half = int(np.ceil(KERNEL_REACH * max(sigma for sigma, _ in shapes)))
        shapes = ((max(match, shapes[0][0]), 0), *shapes)
        rows = [_hermite(np.arange(-half, half + 1), sigma, degree) for sigma, degree in shapes]
        functions = np.array(
            [np.outer(r[j], r[i]) for r in rows for j in range(len(r)) for i in range(len(r) - j)]
        ).reshape(-1, (2 * half + 1) ** 2)
        combination = _unit_and_zero_sums(functions)
        modes = (combination @ functions).reshape(-1, 2 * half + 1, 2 * half + 1)
        return cls(rows, combination, modes, half)

    def convolved(self, stamps: np.ndarray, size: int) -> np.ndarray:
        """Convolve stamps with all functions: ``(n, size, size, n_functions)``, ends cut off."""
        images = []
        n, side = len(stamps), stamps.shape[-1]
        for functions in self.rows:
            across = np.array([_band_matrix(f, size, side) for f in functions])
            along_x = np.einsum("nyx,kix->nkyi", stamps, across, optimize=True)
            for j, matrix in enumerate(across):
                images.append(matrix @ along_x[:, : len(functions) - j])
        return np.moveaxis(np.concatenate(images, axis=1), 1, -1).reshape(n, size * size, -1)


def _hermite(u: np.ndarray, sigma: float, degree: int) -> np.ndarray:
    """Return a Gaussian times Hermite polynomials of degree 0 to ``degree``: better behaved than powers."""
    gauss = np.exp(-0.5 * (u / sigma) ** 2)
    rows = np.array(
        [np.polynomial.hermite_e.hermeval(u / sigma, np.eye(degree + 1)[k]) for k in range(degree + 1)]
    )
    rows = rows * gauss
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def _unit_and_zero_sums(functions: np.ndarray) -> np.ndarray:
    """Return the combinations with sum 1 (the first function) and with sum 0, these orthonormal."""
    sums = functions.sum(axis=1)
    first = np.zeros(len(sums))
    first[0] = 1.0 / sums[0]
    zero = np.eye(len(sums))[1:] - sums[1:, None] * first
    left, size, _ = np.linalg.svd(zero @ functions, full_matrices=False)
    kept = size > CUT_MODES * size[0]
    return np.vstack([first, (left[:, kept] / size[kept]).T @ zero])


def _band_matrix(kernel: np.ndarray, size: int, side: int) -> np.ndarray:
    """Return the matrix ``(size, side)`` that convolves a line and cuts off its ends."""
    matrix = np.zeros((size, side))
    start = (side - size) // 2 - len(kernel) // 2
    for i in range(size):
        matrix[i, start + i : start + i + len(kernel)] = kernel[::-1]
    return matrix


# --- stamps ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Stamps:
    """The same sources in both images."""

    x: np.ndarray
    y: np.ndarray
    image_shape: tuple[int, int]
    sharp: np.ndarray
    """Stamps ``(n, side, side)`` of the image that is convolved, wider by the kernel."""

    sharp_variance: np.ndarray
    broad: np.ndarray
    """Stamps ``(n, size, size)`` of the other image."""

    broad_variance: np.ndarray
    good: np.ndarray
    """Pixels to be used, ``(n, size, size)``."""

    sharp_correlation: np.ndarray | None
    """Autocorrelation of the noise of the image that is convolved; None for white noise."""

    def noise_shape(self, modes: np.ndarray) -> np.ndarray:
        """Return the products of kernel modes, as the noise of the convolved image weighs them."""
        side = 2 * modes.shape[-1]
        transforms = fft.fft2(modes, (side, side)).reshape(len(modes), -1) / side
        power = power_spectrum(self.sharp_correlation, (side, side))
        if not np.isscalar(power):
            power = _whole(power, side).ravel()
        return ((transforms * power) @ np.conj(transforms).T).real


def _cut(pair: AlignedPair, sharp: MaskedImage, broad: MaskedImage, ratio: float, half: int) -> _Stamps:
    """Choose sources and cut them out of both images, on the flux scale of the broad one."""
    radius = int(np.clip(np.ceil(STAMP_RADIUS * broad.psf.fwhm), *STAMP_LIMITS))
    size, side = 2 * radius + 1, 2 * (radius + half) + 1
    bad = pair.science.bad | pair.reference.bad
    x, y = _choose(pair, bad, half)
    spoiled = cut_stamps(bad, x, y, side, fill=True)
    images, variances = [], []
    for image, scale in ((sharp, ratio), (broad, 1.0)):
        variance = np.nan_to_num(cut_stamps(image.variance, x, y, side, fill=0.0))
        variances.append(scale**2 * variance.astype(float))
        stamps = np.nan_to_num(cut_stamps(image.data, x, y, side, fill=0.0)).astype(float)
        for i in np.flatnonzero(spoiled.any(axis=(1, 2))):
            stamps[i] = fill_bad(stamps[i], spoiled[i])
        images.append(scale * stamps)
    inner = (slice(None), slice(half, half + size), slice(half, half + size))
    good = ~_near(spoiled, max(1, round(0.5 * broad.psf.fwhm)))[inner]
    return _Stamps(
        x,
        y,
        pair.science.shape,
        images[0],
        variances[0],
        images[1][inner],
        variances[1][inner],
        good,
        sharp.noise_correlation,
    )


def _whole(half: np.ndarray, side: int) -> np.ndarray:
    """Return the whole of a symmetric real spectrum from what `scipy.fft.rfft2` gives, of even side."""
    mirrored = np.roll(half[::-1, 1 : side // 2][:, ::-1], 1, axis=0)
    return np.concatenate([half, mirrored], axis=1)


def _near(spoiled: np.ndarray, reach: int) -> np.ndarray:
    """Grow bad pixels of stamps by a square: a filled pixel spoils what the kernel makes of it."""
    if not spoiled.any():
        return spoiled
    from scipy.ndimage import maximum_filter

    return maximum_filter(spoiled, size=(1, 2 * reach + 1, 2 * reach + 1))


def _choose(pair: AlignedPair, bad: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of sources to fit, pixels: bright, whole, compact, all over the field."""
    science, rms = pair.science, pair.normalization.science_sky_rms
    sources = find_sources(science.data, rms, bad, threshold=STAMP_SNR[0], limit=20 * MAX_STAMPS)
    ny, nx = science.shape
    usable = ~sources.flagged & ~sources.touched & (sources.elongation < 2.0)
    usable &= (sources.snr > STAMP_SNR[0]) & (sources.snr < STAMP_SNR[1])
    usable &= (np.abs(sources.x - (nx - 1) / 2) < nx / 2 - margin) & (
        np.abs(sources.y - (ny - 1) / 2) < ny / 2 - margin
    )
    chosen = sources[np.flatnonzero(usable)]
    order = _by_cell(chosen, science.shape)[:MAX_STAMPS]
    return chosen.x[order], chosen.y[order]


def _by_cell(sources: Sources, shape: tuple[int, int]) -> np.ndarray:
    """Return an order of sources: the brightest of each cell, then the second brightest of each."""
    ny, nx = shape
    cell = (sources.y * CELLS / ny).astype(int) * CELLS + (sources.x * CELLS / nx).astype(int)
    by_cell = np.lexsort((-sources.snr, cell))
    _, start, count = np.unique(cell[by_cell], return_index=True, return_counts=True)
    rank = np.empty(len(cell), int)
    rank[by_cell] = np.arange(len(cell)) - np.repeat(start, count)
    return np.lexsort((-sources.snr, rank))


# --- fit ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Normals:
    """Normal equations of single stamps in the modes."""

    matrix: np.ndarray
    """``(n, n_modes, n_modes)``."""

    vector: np.ndarray
    """``(n, n_modes)``."""

    square: np.ndarray
    """Weighted sum of squares of the stamps."""

    freedom: np.ndarray
    """Pixels less the background."""

    noise: np.ndarray
    """What the noise of the convolved image adds to the matrix, in units of `noise_shape`."""

    noise_shape: np.ndarray
    """Products of the modes, ``(n_modes, n_modes)``, weighted by the power spectrum of that noise."""


@dataclass(frozen=True, eq=False)
class _Fit:
    """A solution and how the stamps agree with it."""

    coefficients: np.ndarray
    order: int
    kept: np.ndarray
    chi2: np.ndarray
    residual: np.ndarray

    def statistics(self) -> tuple[int, int, float, float]:
        """Return the numbers of stamps kept and left out, median chi-square and relative residual."""
        kept = self.kept
        return (
            int(kept.sum()),
            int((~kept).sum()),
            float(np.median(self.chi2[kept])),
            float(np.median(self.residual[kept])),
        )


def _fit(stamps: _Stamps, basis: _Basis, max_order: int, ratio_order: int) -> _Fit:
    """Solve, carry the variance by the kernel found, and solve again without outliers."""
    n = len(stamps.x)
    enough = stamps.good.mean(axis=(1, 2)) > 0.5 if n else np.zeros(0, bool)
    _refuse_few(int(enough.sum()), n)
    images = basis.convolved(stamps.sharp, stamps.broad.shape[-1])
    normals = _normals(images, stamps, _carried(stamps, basis.modes[0]), basis)
    fit = _solve(normals, stamps, enough, max_order, ratio_order)
    kernel = np.tensordot(fit.coefficients[0], basis.modes, axes=1)
    normals = _normals(images, stamps, _carried(stamps, kernel), basis)
    for _ in range(ITERATIONS):
        fit = _solve(normals, stamps, fit.kept, max_order, ratio_order)
        kept = enough & ~_outliers(fit)
        if (kept == fit.kept).all():
            break
        _refuse_few(int(kept.sum()), n)
        fit = _Fit(fit.coefficients, fit.order, kept, fit.chi2, fit.residual)
    return fit


def _refuse_few(n_usable: int, n_found: int) -> None:
    """Raise where there are too few sources for a kernel."""
    if n_usable < MIN_STAMPS[0]:
        msg = f"{n_usable} of {n_found} sources are usable for a matching kernel, {MIN_STAMPS[0]} needed"
        raise PsfError(f"{msg}; use the PSFs or a wider field")


def _carried(stamps: _Stamps, kernel: np.ndarray) -> np.ndarray:
    """Return the variance of broad - kernel * sharp for each pixel of the stamps."""
    side, size = stamps.sharp.shape[-1], stamps.broad.shape[-1]
    square = np.zeros((side, side))
    square[: len(kernel), : len(kernel)] = kernel**2
    spread = fft.irfft2(fft.rfft2(stamps.sharp_variance) * fft.rfft2(square), (side, side))
    return stamps.broad_variance + np.maximum(spread[:, side - size :, side - size :], 0.0)


def _normals(images: np.ndarray, stamps: _Stamps, variance: np.ndarray, basis: _Basis) -> _Normals:
    """Reduce the pixels of each stamp to its normal equations, a constant background taken out."""
    n = len(images)
    weight = np.where(stamps.good & (variance > 0), 1.0 / np.maximum(variance, 1e-30), 0.0).reshape(n, -1)
    total = np.maximum(weight.sum(axis=1), 1e-30)
    broad = stamps.broad.reshape(n, -1)
    weighted = images * weight[..., None]
    sums, level = weighted.sum(axis=1), (weight * broad).sum(axis=1)
    matrix = np.swapaxes(images, 1, 2) @ weighted - sums[:, :, None] * sums[:, None, :] / total[:, None, None]
    vector = np.einsum("npk,np->nk", weighted, broad, optimize=True) - sums * (level / total)[:, None]
    square = (weight * broad**2).sum(axis=1) - level**2 / total
    to_modes = basis.combination
    inner = (stamps.sharp.shape[-1] - stamps.broad.shape[-1]) // 2
    own = stamps.sharp_variance[:, inner:-inner, inner:-inner].reshape(n, -1)
    return _Normals(
        to_modes @ matrix @ to_modes.T,
        vector @ to_modes.T,
        square,
        np.count_nonzero(weight, axis=1) - 1.0,
        (weight * own).sum(axis=1),
        stamps.noise_shape(basis.modes),
    )


def _solve(normals: _Normals, stamps: _Stamps, kept: np.ndarray, max_order: int, ratio_order: int) -> _Fit:
    """Solve for the kernel as a polynomial over the image."""
    order = max(o for o in range(min(max_order, len(MIN_STAMPS) - 1) + 1) if kept.sum() >= MIN_STAMPS[o])
    terms = _terms(stamps.x, stamps.y, stamps.image_shape, order)
    n_terms, n_modes = terms.shape[1], normals.vector.shape[1]
    products = (terms[:, :, None] * terms[:, None, :])[kept].reshape(int(kept.sum()), -1)
    n_unknown, n_pixels = n_terms * n_modes, max(normals.freedom[kept].sum(), 1.0)
    # noise in what is convolved must not pull the kernel towards zero (errors in variables); no more is
    # taken out than there surely is, the lower edge of the spectrum of random matrices (Marchenko & Pastur)
    sure = max(1.0 - np.sqrt(n_unknown / n_pixels), 0.0) ** 2
    matrix = normals.matrix[kept] - sure * normals.noise[kept, None, None] * normals.noise_shape
    matrix = (products.T @ matrix.reshape(len(products), -1)).reshape(n_terms, n_terms, n_modes, n_modes)
    matrix = np.swapaxes(matrix, 1, 2).reshape(n_terms * n_modes, -1)
    vector = (terms[kept].T @ normals.vector[kept]).ravel()
    free, prior = _unknowns(n_terms, n_modes, min(ratio_order, order))
    solution = np.zeros(n_terms * n_modes)
    solution[free] = np.linalg.solve(matrix[np.ix_(free, free)] + np.diag(prior[free]), vector[free])
    coefficients = solution.reshape(n_terms, n_modes)
    return _Fit(coefficients, order, kept, *_agreement(normals, terms @ coefficients))


def _unknowns(n_terms: int, n_modes: int, ratio_order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which coefficients are fitted, and the inverse variance that is expected of each."""
    prior = np.full((n_terms, n_modes), PRIOR[1] ** -2)
    prior[0] = PRIOR[0] ** -2
    prior[:, 0] = 0.0
    free = np.ones((n_terms, n_modes), bool)
    free[(ratio_order + 1) * (ratio_order + 2) // 2 :, 0] = False
    return np.flatnonzero(free), prior.ravel()


def _agreement(normals: _Normals, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the reduced chi-square of each stamp and its residual beyond noise, relative to the source."""
    model = np.einsum("nk,nkl,nl->n", local, normals.matrix, local, optimize=True)
    chi2 = normals.square - 2.0 * np.einsum("nk,nk->n", local, normals.vector) + model
    freedom = np.maximum(normals.freedom, 1.0)
    # three standard deviations of chi-square are noise
    excess = np.maximum(chi2 - freedom - 3.0 * np.sqrt(2.0 * freedom), 0.0)
    return chi2 / freedom, np.sqrt(excess / np.maximum(model, 1e-30))


def _outliers(fit: _Fit) -> np.ndarray:
    """Return which stamps disagree with the kernel by more than the others do."""
    typical = np.median(fit.residual[fit.kept])
    spread = 1.4826 * np.median(np.abs(fit.residual[fit.kept] - typical))
    return fit.residual > max(TOLERATED_RESIDUAL, typical + REJECTION * spread)
