"""One flux scale for a pair: backgrounds, point-spread functions, flux ratio, residual shift."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from astrid_assets.errors import PhotometryError, PsfError
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.pairs import AlignedPair, Normalization
from astrid_assets.images.psf import Psf, polynomial_terms
from astrid_assets.science.artifacts import (
    find_bad_lines,
    find_cosmic_rays,
    find_ghosts,
    find_saturation,
    mark,
)
from astrid_assets.science.background import Background, estimate_background, excess_scatter, robust_std
from astrid_assets.science.comparison import Comparison, compare_sources
from astrid_assets.science.noise import blank_pixels, correlation_of, has_counts, variance_model
from astrid_assets.science.psf import MIN_STARS, measure_psf
from astrid_assets.science.stars import Sources, find_sources, select_stars
from astrid_assets.science.warp import is_surface_brightness

__all__ = ["normalize", "weighted_ratio"]

MIN_RATIO_STARS = 3
"""Fewest sources for a flux ratio."""

MIN_PLANE_STARS = 12
"""Fewest sources for a shift that varies over the image: four for each coefficient."""


@dataclass(frozen=True, eq=False)
class _Side:
    """One image of a pair on its way to the common scale."""

    image: MaskedImage
    background: Background
    variance_scale: float
    blank: np.ndarray

    def marked(self, where: np.ndarray, plane: str) -> _Side:
        """Return a copy with a mask plane set where asked."""
        image = self.image.replace(mask=mark(self.image.mask, where, plane))
        return replace(self, image=image, blank=self.blank & ~where)

    @property
    def data(self) -> np.ndarray:
        return self.image.data

    @property
    def rms(self) -> np.ndarray:
        return self.background.rms


def normalize(
    pair: AlignedPair,
    *,
    background_box: int = 64,
    psf_order: int = 2,
    prefer_given_psf: bool = False,
    cosmic_rays: bool | None = None,
    flux_ratio: float | None = None,
    reuse: AlignedPair | None = None,
) -> AlignedPair:
    """Subtract the backgrounds, measure the PSFs and the flux ratio, complete the masks.

    Both images keep their own flux scale; the ratio is stored. The variance planes include the
    sky and the photon noise of the sources, and meet the measured noise of blank pixels.

    Parameters
    ----------
    pair
        From `align`.

    background_box
        Side of a cell of the background mesh, pixels.

    psf_order
        Highest order of the variation of the PSF over the image.

    prefer_given_psf
        Use the PSF that came with an image even where the image has enough stars.

    cosmic_rays
        Whether to look for cosmic rays in the science image; by default only in single
        exposures of ground-based counts.

    flux_ratio
        Science over reference, where the user knows it; measured on stars by default.

    reuse
        The normalized pair of the same exposure, for a copy of it with injected sources: its PSFs,
        flux ratio, shift and noise correlation are taken over. Background, variance, saturation,
        cosmic rays and faults of the copy are measured again, so that whatever the masks do to a
        source they do to an injected one. An unchanged copy gives the same bits.

    Raises
    ------
    PsfError
        If an image has too few stars and brought no PSF.

    PhotometryError
        If there are too few common stars for a flux ratio and no zero points predict it.
    """
    if cosmic_rays is None:
        cosmic_rays = has_counts(pair.science) and pair.science.n_exposures == 1
    science = _subtract(pair.science, background_box)
    if reuse is not None:
        known = _known_side(reuse.reference, background_box)
        return _normalize_again(pair, science, known, reuse, cosmic_rays=cosmic_rays)
    reference = _subtract(pair.reference, background_box)
    sources, star, common = _common_sources(science, reference)
    x, y = sources.x[star], sources.y[star]
    psf_s = _psf(science, x, y, psf_order, prefer_given_psf)
    psf_r = _psf(reference, x, y, psf_order, prefer_given_psf)
    if cosmic_rays:
        science = _without_cosmic_rays(science, reference, psf_s)
    chosen = star if star.sum() >= MIN_STARS[1] else common
    comparison = compare_sources(
        science.image.replace(psf=psf_s),
        reference.image.replace(psf=psf_r),
        sources.x[chosen],
        sources.y[chosen],
    )
    normalization = _match(pair, science, reference, comparison, flux_ratio)
    science = _without_faults(science, reference, normalization.flux_ratio)
    return pair.replace(
        science=science.image.replace(psf=psf_s, noise_correlation=_correlation(science)),
        reference=reference.image.replace(psf=psf_r, noise_correlation=_correlation(reference)),
        normalization=normalization,
    )


def _normalize_again(
    pair: AlignedPair, science: _Side, reference: _Side, known: AlignedPair, *, cosmic_rays: bool
) -> AlignedPair:
    """Normalize a copy of a science image with what was measured on the image itself."""
    if cosmic_rays:
        science = _without_cosmic_rays(science, reference, known.science.psf)
    science = _without_faults(science, reference, known.normalization.flux_ratio)
    image = science.image.replace(psf=known.science.psf, noise_correlation=known.science.noise_correlation)
    levels = {
        "science_background": science.background.median,
        "science_sky_rms": science.background.median_rms,
        "science_variance_scale": science.variance_scale,
    }
    normalization = replace(known.normalization, **levels)
    return pair.replace(science=image, reference=known.reference, normalization=normalization)


def _subtract(image: MaskedImage, box: int) -> _Side:
    """Subtract the background and bring the variance to the measured sky noise."""
    image = image.replace(mask=mark(image.mask, find_saturation(image), "SATURATED"))
    background = estimate_background(image.data, image.bad, box=box)
    data = image.data - background.level
    given = image.variance
    variance = given if given is not None else variance_model(data, background, _gain(image, background))
    blank = blank_pixels(data, image.bad, background.rms)
    scale = 1.0
    if blank.sum() > 500:
        scale = _variance_scale(data, variance, blank)
    variance = np.where(variance > 0, variance * np.float32(scale), np.nan)
    saturation = None if image.saturation is None else image.saturation - background.median
    image = image.replace(data=data, variance=variance, saturation=saturation)
    return _Side(image, background, scale, blank)


def _known_side(image: MaskedImage, box: int) -> _Side:
    """Return an image that was subtracted before, with the noise and the blank pixels that it has."""
    background = estimate_background(image.data, image.bad, box=box)
    data = image.data - background.level
    return _Side(image.replace(data=data), background, 1.0, blank_pixels(data, image.bad, background.rms))


def _variance_scale(data: np.ndarray, variance: np.ndarray, blank: np.ndarray) -> float:
    """Return measured over stated variance of the blank pixels."""
    with np.errstate(invalid="ignore", divide="ignore"):
        normal = data[blank] / np.sqrt(variance[blank])
    return robust_std(normal) ** 2


def _gain(image: MaskedImage, background: Background) -> float | None:
    """Return the gain, or estimate it from sky level and sky noise where it is unknown.

    The noise of the sky in counts is sky / gain; an image whose sky was subtracted, or that
    is not in counts, has no such relation.
    """
    if not has_counts(image):
        return None
    if image.gain is not None:
        return image.gain
    sky, rms = background.median, background.median_rms
    return sky / rms**2 if sky > 5.0 * rms > 0.0 else None


def _psf(side: _Side, x: np.ndarray, y: np.ndarray, order: int, prefer_given: bool) -> Psf:
    """Measure the PSF on stars; use the one that came with the image where there are few."""
    given = side.image.psf
    if given is not None and (prefer_given or len(x) < MIN_STARS[1]):
        return given
    try:
        return measure_psf(side.data, side.image.variance, side.image.bad, x, y, max_order=order)
    except PsfError:
        if given is None:
            raise
        return given


def _common_sources(science: _Side, reference: _Side) -> tuple[Sources, np.ndarray, np.ndarray]:
    """Return the sources both images show unsaturated, whether each is a star, and its place."""
    bad = science.image.bad | reference.image.bad
    # the reference is usually the deeper image: it tells stars from galaxies, and shows faint neighbours
    theirs = find_sources(reference.data, reference.rms, bad)
    ours = find_sources(science.data, science.rms, bad)
    star = np.zeros(len(theirs), bool)
    star[select_stars(theirs, science.image.shape, saturation=reference.image.saturation)] = True
    common = np.zeros(len(theirs), bool)
    if len(ours) and len(theirs):
        distance, i = cKDTree(np.c_[ours.x, ours.y]).query(
            np.c_[theirs.x, theirs.y], distance_upper_bound=2.0
        )
        # blends compare as well as single sources: both images show the same
        common = np.isfinite(distance) & (star | ~theirs.touched) & (theirs.snr > 20.0)
        i = np.where(common, i, 0)
        common &= ours.snr[i] > 15.0
        for sources, index, image in ((ours, i, science.image), (theirs, slice(None), reference.image)):
            if image.saturation is not None:
                common &= sources.peak[index] < 0.8 * image.saturation
    return theirs, star & common, common


def _without_cosmic_rays(science: _Side, reference: _Side, psf: Psf) -> _Side:
    """Mask cosmic rays; what the reference shows as well is a star."""
    image = science.image.replace(data=science.data + science.background.level)
    # a hit on a star is rare, a star core taken for a hit is not
    static = reference.data > 10.0 * reference.rms
    suspects = (science.data > 5.0 * science.rms) & ~static & ~science.image.bad
    hits = find_cosmic_rays(image, science.background, psf.fwhm, suspects=suspects)
    return science.marked(hits & ~static, "COSMIC_RAY")


def _without_faults(science: _Side, reference: _Side, flux_ratio: float) -> _Side:
    """Mask bad rows and columns and smooth light that only the science image shows."""
    residual = science.data - flux_ratio * reference.data
    rms = np.hypot(science.rms, flux_ratio * reference.rms)
    bad = science.image.bad | reference.image.bad
    lines = find_bad_lines(residual, rms, bad)
    # the PSFs are not matched here: whatever the reference shows leaves rings
    ghosts = find_ghosts(residual, rms, bad | lines | ~reference.blank)
    return science.marked(lines, "BAD").marked(ghosts, "GHOST")


def _correlation(side: _Side) -> np.ndarray | None:
    """Return the noise correlation measured on blank sky, else the one derived earlier."""
    if side.blank.sum() < 5000:
        return side.image.noise_correlation
    return correlation_of(side.data, side.blank, side.rms)


def _match(
    pair: AlignedPair, science: _Side, reference: _Side, sources: Comparison, given_ratio: float | None
) -> Normalization:
    """Return the parameters of a pair from the comparison of its sources."""
    predicted = _predicted_ratio(pair.science, pair.reference)
    good = (sources.ratio > 0) & np.isfinite(sources.ratio_error)
    if good.sum() >= MIN_RATIO_STARS:
        ratio = _fit_ratio(sources, good, pair.science.shape)
    elif predicted is not None:
        # nothing to measure it on: as uncertain as zero points usually are
        ratio = _Ratio(predicted, 0.05 * predicted, 0.05, np.zeros(len(good), bool))
    elif given_ratio is None:
        raise PhotometryError(
            f"{int(good.sum())} common sources for a flux ratio, {MIN_RATIO_STARS} needed, and no zero points"
        )
    if given_ratio is not None:
        ratio = _Ratio(given_ratio, 0.0, 0.0, good)
    kept = ratio.kept
    shift = _residual_shift(sources, kept, pair.science.shape)
    return Normalization(
        flux_ratio=ratio.mean,
        flux_ratio_error=ratio.error,
        flux_ratio_scatter=ratio.scatter,
        flux_ratio_gradient=ratio.gradient,
        flux_ratio_predicted=predicted,
        n_stars=int(kept.sum()),
        science_background=science.background.median,
        reference_background=reference.background.median,
        science_sky_rms=science.background.median_rms,
        reference_sky_rms=reference.background.median_rms,
        science_variance_scale=science.variance_scale,
        reference_variance_scale=reference.variance_scale,
        **asdict(shift),
        psf_mismatch=excess_scatter(sources.mismatch[kept], sources.mismatch_error[kept]),
    )


@dataclass(frozen=True)
class _Ratio:
    """Flux ratio of a pair; see the fields of `Normalization`."""

    mean: float
    error: float
    scatter: float
    kept: np.ndarray
    gradient: tuple[float, float] = (0.0, 0.0)


def _fit_ratio(sources: Comparison, good: np.ndarray, shape: tuple[int, int]) -> _Ratio:
    """Fit the logarithm of the flux ratio by a plane, or a constant where no slope is significant.

    Thin clouds and flat fields change the ratio over an image.
    """
    ratio, error = np.where(good, sources.ratio, 1.0), np.where(good, sources.ratio_error, 1.0)
    terms = _plane_terms(sources, shape)
    plane, _ = _fit_plane(terms[:, good], np.log(ratio[good]), (error / ratio)[good])
    slope = np.tensordot(plane[1:], terms[1:], axes=1)
    mean, mean_error, scatter, kept = weighted_ratio(ratio / np.exp(slope), error / np.exp(slope), good)
    return _Ratio(mean, mean_error, scatter, kept, (float(plane[1]), float(plane[2])))


def _plane_terms(sources: Comparison, shape: tuple[int, int]) -> np.ndarray:
    """Return the terms 1, x', y' at the sources, ``(3, n)``."""
    ny, nx = shape
    return polynomial_terms(2 * sources.x / max(nx - 1, 1) - 1, 2 * sources.y / max(ny - 1, 1) - 1, 1)


def _predicted_ratio(science: MaskedImage, reference: MaskedImage) -> float | None:
    """Return the flux ratio that units, zero points or, failing these, exposure times predict."""
    if science.unit is not None and is_surface_brightness(science) and is_surface_brightness(reference):
        # the pixels of the warped reference have the size of the science pixels
        return float(reference.unit.to(science.unit))
    if science.zeropoint is not None and reference.zeropoint is not None:
        return float(10 ** (0.4 * (science.zeropoint.magnitude - reference.zeropoint.magnitude)))
    same_scale = science.unit == reference.unit and science.survey == reference.survey
    if same_scale and science.exptime and reference.exptime and has_counts(science):
        return science.exptime / reference.exptime
    return None


def weighted_ratio(
    ratio: np.ndarray, error: np.ndarray, good: np.ndarray
) -> tuple[float, float, float, np.ndarray]:
    """Average flux ratios of many sources, rejecting outliers such as variable stars.

    Parameters
    ----------
    ratio, error
        Ratios and their 1-sigma errors, ``(n,)``.

    good
        Which sources to use; their ratios are positive.

    Returns
    -------
    tuple
        Mean ratio, its error, the relative scatter beyond the errors, and which sources were
        kept. The error is the weighted standard error, with the scatter added to each source.
    """
    positive = np.where(good, ratio, 1.0)
    log, noise = np.log(positive), np.where(good, error, 1.0) / positive
    keep, scatter = good.copy(), 0.0
    centre = float(np.median(log[good]))
    for _ in range(6):
        total = np.hypot(noise, scatter)
        inside = good & (np.abs(log - centre) < 3.5 * total)
        if inside.sum() < MIN_RATIO_STARS:
            inside = good
        weight = np.where(inside, 1.0 / total**2, 0)
        centre = float((weight * log).sum() / weight.sum())
        scatter = excess_scatter(log[inside] - centre, noise[inside])
        if (inside == keep).all():
            break
        keep = inside
    mean = float(np.exp(centre))
    return mean, mean * float(1.0 / np.sqrt(weight.sum())), scatter, keep


@dataclass(frozen=True)
class _Shift:
    """Residual shift of a pair; see the fields of `Normalization` of the same names."""

    shift: tuple[float, float] = (0.0, 0.0)
    shift_gradient: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    astrometric_noise: tuple[float, float] = (0.0, 0.0)


def _residual_shift(sources: Comparison, kept: np.ndarray, shape: tuple[int, int]) -> _Shift:
    """Fit the shift between both images by a plane, or a constant where no slope is significant."""
    if kept.sum() < MIN_RATIO_STARS:
        return _Shift()
    terms, error = _plane_terms(sources, shape)[:, kept], sources.position_error[kept]
    (x_fit, x_noise), (y_fit, y_noise) = (
        _fit_plane(terms, shift[kept], error) for shift in (sources.dx, sources.dy)
    )
    return _Shift(
        shift=(float(x_fit[0]), float(y_fit[0])),
        shift_gradient=tuple((float(x_fit[k]), float(y_fit[k])) for k in (1, 2)),
        astrometric_noise=(x_noise, y_noise),
    )


def _fit_plane(terms: np.ndarray, values: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the coefficients of a robust plane, and the scatter about it beyond the errors.

    The slopes are zero where there are fewer than `MIN_PLANE_STARS`, or none is significant.
    """
    solution = np.array([np.median(values), 0.0, 0.0])
    noise = 0.0
    for _ in range(4):
        rest = values - solution @ terms
        noise = excess_scatter(rest, error)
        total = np.hypot(np.hypot(error, noise), 1e-3)
        weight = (np.abs(rest) < 4.0 * total) / total**2
        covariance = np.linalg.pinv((weight * terms) @ terms.T)
        solution = covariance @ ((weight * terms) @ values)
        slope = solution[1:] / np.sqrt(np.diag(covariance)[1:])
        if len(values) < MIN_PLANE_STARS or np.abs(slope).max() < 4.0:
            solution = np.array([(weight * values).sum() / weight.sum(), 0.0, 0.0])
    return solution, noise
