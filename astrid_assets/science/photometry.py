"""One flux scale for a pair: backgrounds, point-spread functions, flux ratio, residual shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from astrid_assets.errors import PhotometryError, PsfError
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import AlignedPair, Normalization
from astrid_assets.images.psf import Psf
from astrid_assets.science.artifacts import find_cosmic_rays, find_saturation, mark
from astrid_assets.science.background import Background, estimate_background, robust_std
from astrid_assets.science.noise import blank_pixels, correlation_of, has_counts, variance_model
from astrid_assets.science.psf import StarFits, fit_stars, measure_psf
from astrid_assets.science.stars import find_sources, select_stars

__all__ = ["normalize", "weighted_ratio"]

MIN_RATIO_STARS = 3
"""Fewest stars for a flux ratio."""


@dataclass(frozen=True, eq=False)
class _Side:
    """One image of a pair on its way to the common scale."""

    image: MaskedImage
    background: Background
    variance_scale: float

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

    Raises
    ------
    PsfError
        If an image has too few stars and brought no PSF.

    PhotometryError
        If there are too few common stars for a flux ratio and no zero points predict it.
    """
    science = _subtract(pair.science, background_box)
    reference = _subtract(pair.reference, background_box)
    common_bad = science.image.bad | reference.image.bad
    stars = _common_stars(science, reference, pair)
    x, y = stars
    psf_s = _psf(science, x, y, psf_order, prefer_given_psf)
    psf_r = _psf(reference, x, y, psf_order, prefer_given_psf)
    if cosmic_rays is None:
        cosmic_rays = has_counts(pair.science) and pair.science.n_exposures == 1
    if cosmic_rays:
        science = _without_cosmic_rays(science, reference, psf_s)
    fit_s = fit_stars(science.data, science.image.variance, common_bad, psf_s, x, y)
    fit_r = fit_stars(reference.data, reference.image.variance, common_bad, psf_r, x, y)
    normalization = _match(pair, science, reference, fit_s, fit_r, flux_ratio)
    return pair.replace(
        science=science.image.replace(psf=psf_s, noise_correlation=_correlation(science)),
        reference=reference.image.replace(psf=psf_r, noise_correlation=_correlation(reference)),
        normalization=normalization,
    )


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
    return _Side(image.replace(data=data, variance=variance, saturation=saturation), background, scale)


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
    return sky / rms**2 if sky > 5.0 * rms else None


def _psf(side: _Side, x: np.ndarray, y: np.ndarray, order: int, prefer_given: bool) -> Psf:
    """Measure the PSF on stars; use the one that came with the image where that fails."""
    given = side.image.psf
    if prefer_given and given is not None:
        return given
    try:
        return measure_psf(side.data, side.image.variance, side.image.bad, x, y, max_order=order)
    except PsfError:
        if given is None:
            raise
        return given


def _common_stars(science: _Side, reference: _Side, pair: AlignedPair) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of stars that are isolated, unsaturated and seen in both images."""
    bad = science.image.bad | reference.image.bad
    # the deeper image tells stars from galaxies better, but both must see the star
    deep = find_sources(reference.data, reference.rms, bad)
    index = select_stars(deep, pair.science.shape, saturation=reference.image.saturation)
    x, y = deep.x[index], deep.y[index]
    ours = find_sources(science.data, science.rms, bad, threshold=3.0)
    if len(ours) == 0 or len(x) == 0:
        return x, y
    return _seen_in_science(ours, x, y, science)


def _seen_in_science(ours: object, x: np.ndarray, y: np.ndarray, science: _Side) -> tuple[np.ndarray, np.ndarray]:
    """Keep the stars that the science image shows, unsaturated and at S/N above 15."""
    from scipy.spatial import cKDTree

    distance, i = cKDTree(np.c_[ours.x, ours.y]).query(np.c_[x, y], distance_upper_bound=2.0)
    seen = np.isfinite(distance)
    i = np.where(seen, i, 0)
    seen &= (ours.snr[i] > 15.0) & ~ours.flagged[i]
    if science.image.saturation is not None:
        seen &= ours.peak[i] < 0.8 * science.image.saturation
    return x[seen], y[seen]


def _without_cosmic_rays(science: _Side, reference: _Side, psf: Psf) -> _Side:
    """Mask cosmic rays; what the reference shows as well is a star."""
    image = science.image.replace(data=science.data + science.background.level)
    hits = find_cosmic_rays(image, science.background, psf.fwhm)
    # a hit on a star is rare, a star core taken for a hit is not
    static = reference.data > 10.0 * reference.rms
    image = science.image
    return _Side(
        image.replace(mask=mark(image.mask, hits & ~static, "COSMIC_RAY")), science.background, science.variance_scale
    )


def _correlation(side: _Side) -> np.ndarray | None:
    """Return the noise correlation measured on blank sky, else the one derived earlier."""
    blank = blank_pixels(side.data, side.image.bad, side.rms)
    if blank.sum() < 5000:
        return side.image.noise_correlation
    return correlation_of(side.data, blank, side.rms)


def _match(
    pair: AlignedPair,
    science: _Side,
    reference: _Side,
    fit_s: StarFits,
    fit_r: StarFits,
    given_ratio: float | None,
) -> Normalization:
    """Compare the stars of both images."""
    predicted = _predicted_ratio(pair.science, pair.reference)
    good = np.isfinite(fit_s.flux_error) & np.isfinite(fit_r.flux_error)
    good &= (fit_s.flux > 0) & (fit_r.flux > 0)
    if given_ratio is not None:
        ratio, error, scatter, kept = given_ratio, 0.0, 0.0, np.zeros(len(good), bool)
    elif good.sum() >= MIN_RATIO_STARS:
        ratio, error, scatter, kept = weighted_ratio(
            fit_s.flux, fit_s.flux_error, fit_r.flux, fit_r.flux_error, good
        )
    elif predicted is not None:
        ratio, error, scatter, kept = predicted, 0.05 * predicted, 0.05, np.zeros(len(good), bool)
    else:
        raise PhotometryError(
            f"{int(good.sum())} common stars for a flux ratio, {MIN_RATIO_STARS} needed, and no zero points"
        )
    shift, noise = _residual_shift(fit_s, fit_r, kept)
    return Normalization(
        flux_ratio=ratio,
        flux_ratio_error=error,
        flux_ratio_scatter=scatter,
        flux_ratio_predicted=predicted,
        n_stars=int(kept.sum()),
        science_background=science.background.median,
        reference_background=reference.background.median,
        science_sky_rms=science.background.median_rms,
        reference_sky_rms=reference.background.median_rms,
        science_variance_scale=science.variance_scale,
        reference_variance_scale=reference.variance_scale,
        shift=shift,
        astrometric_noise=noise,
    )


def _predicted_ratio(science: MaskedImage, reference: MaskedImage) -> float | None:
    """Return the flux ratio that zero points predict, or exposure times where only those are known."""
    if science.zeropoint is not None and reference.zeropoint is not None:
        return float(10 ** (0.4 * (science.zeropoint.magnitude - reference.zeropoint.magnitude)))
    same_scale = science.unit == reference.unit and science.survey == reference.survey
    if same_scale and science.exptime and reference.exptime and has_counts(science):
        return science.exptime / reference.exptime
    return None


def weighted_ratio(
    flux_1: np.ndarray, error_1: np.ndarray, flux_2: np.ndarray, error_2: np.ndarray, good: np.ndarray
) -> tuple[float, float, float, np.ndarray]:
    """Return the ratio of two sets of fluxes of the same sources, rejecting outliers.

    Parameters
    ----------
    flux_1, error_1, flux_2, error_2
        Fluxes and 1-sigma errors, ``(n,)``.

    good
        Which sources to use.

    Returns
    -------
    tuple
        Ratio 1 / 2, its error, the relative scatter beyond the errors, and which sources were
        kept. The error is the weighted standard error, with the scatter added to each source.
    """
    log = np.log(np.where(good, flux_1 / np.where(good, flux_2, 1.0), 1.0))
    noise = np.hypot(error_1 / np.where(good, flux_1, 1.0), error_2 / np.where(good, flux_2, 1.0))
    keep, scatter = good.copy(), 0.0
    centre = float(np.median(log[good]))
    for _ in range(6):
        total = np.hypot(noise, scatter)
        normal = (log - centre) / total
        inside = good & (np.abs(normal) < 3.5)
        if inside.sum() < MIN_RATIO_STARS:
            inside = good
        weight = np.where(inside, 1.0 / total**2, 0)
        centre = float((weight * log).sum() / weight.sum())
        spread = robust_std(log[inside])
        scatter = float(np.sqrt(max(0.0, spread**2 - np.median(noise[inside]) ** 2)))
        if (inside == keep).all():
            break
        keep = inside
    ratio = float(np.exp(centre))
    return ratio, ratio * float(1.0 / np.sqrt(weight.sum())), scatter, keep


def _residual_shift(
    fit_s: StarFits, fit_r: StarFits, kept: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the median offset between the PSF positions of both images, and its intrinsic scatter."""
    if kept.sum() < MIN_RATIO_STARS:
        return (0.0, 0.0), (0.0, 0.0)
    photon = float(np.median(np.hypot(fit_s.position_error, fit_r.position_error)[kept]))
    offsets = [(fit_s.x - fit_r.x)[kept], (fit_s.y - fit_r.y)[kept]]
    shift = [float(np.median(offset)) for offset in offsets]
    noise = [float(np.sqrt(max(0.0, robust_std(offset) ** 2 - photon**2))) for offset in offsets]
    return (shift[0], shift[1]), (noise[0], noise[1])
