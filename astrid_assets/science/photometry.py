"""One flux scale for a pair: backgrounds, point-spread functions, flux ratio, residual shift."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from astrid_assets.errors import PhotometryError, PsfError, ScienceError
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import AlignedPair, Normalization, Registration
from astrid_assets.images.psf import Psf, polynomial_terms
from astrid_assets.science.artifacts import (
    find_bad_lines,
    find_ghosts,
    find_hot_pixels,
    find_saturation,
    grown,
    mark,
)
from astrid_assets.science.background import (
    MOST_SOURCES,
    Background,
    estimate_background,
    excess_scatter,
    find_source_pixels,
    mean_level,
    robust_std,
)
from astrid_assets.science.bright_stars import find_bleeds, find_spikes
from astrid_assets.science.comparison import Comparison, compare_sources
from astrid_assets.science.cosmic_rays import find_cosmic_rays
from astrid_assets.science.noise import PairNoise, has_counts, noise_of_pair, variance_model
from astrid_assets.science.psf import MIN_STARS, fit_stars, measure_psf
from astrid_assets.science.resample import fill_bad
from astrid_assets.science.stars import find_stars, half_light_radius, select_stars
from astrid_assets.science.trails import find_trails
from astrid_assets.science.warp import is_surface_brightness

__all__ = ["normalize", "weighted_ratio"]

MIN_RATIO_STARS = 3
"""Fewest sources for a flux ratio."""

MOST_STEPS = 10.0
"""Powers of ten by which two images may differ in flux scale: 25 magnitudes."""

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
        if not where.any():
            return self
        image = self.image.replace(mask=mark(self.image.mask, where, plane))
        return replace(self, image=image, blank=self.blank & ~where)

    @property
    def data(self) -> np.ndarray:
        return self.image.data

    @property
    def rms(self) -> np.ndarray:
        return self.background.rms


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a subtracted image shows, told from itself alone: a stored one gives the same as a new one."""

    image: MaskedImage
    """Without its sky."""

    @property
    def data(self) -> np.ndarray:
        return self.image.data

    @cached_property
    def rms(self) -> np.ndarray:
        """Noise of each pixel, photon noise included."""
        return np.sqrt(self.image.variance)

    @cached_property
    def blank(self) -> np.ndarray:
        """Where there is only sky."""
        return ~(find_source_pixels(self.data, self.rms, self.image.bad) | self.image.bad)


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
    if flux_ratio is not None and not 0 < flux_ratio < np.inf:
        raise PhotometryError(f"a flux ratio is positive, not {flux_ratio:g}")
    if psf_order not in range(len(MIN_STARS)):
        raise PsfError(f"the order of a PSF is 0, 1 or 2, not {psf_order}")
    if cosmic_rays is None:
        cosmic_rays = has_counts(pair.science) and pair.science.n_exposures == 1
    if reuse is not None:
        return _normalize_again(pair, reuse, cosmic_rays=cosmic_rays, background_box=background_box)
    science = _subtract(pair.science, background_box)
    reference = _subtract(pair.reference, background_box)
    found = _common_sources(science, reference)
    psf_s = _psf(science, found, found.near_science, psf_order, prefer_given_psf)
    psf_r = _psf(reference, found, found.near_reference, psf_order, prefer_given_psf)
    science, reference = _without_spikes(science, psf_s), _without_spikes(reference, psf_r)
    if cosmic_rays:
        science = _without_cosmic_rays(science, _Seen(reference.image), psf_s)
    comparison = _compare(science.image.replace(psf=psf_s), reference.image.replace(psf=psf_r), found)
    normalization = _match(pair, science, reference, comparison, flux_ratio)
    trails = find_trails(*_residual(reference, science, 1.0 / normalization.flux_ratio))
    reference = reference.marked(trails, "STREAK")
    noise = _pair_noise(science, reference, normalization.flux_ratio)
    shares = dict(zip(("science_static_share", "reference_static_share"), noise.static_shares, strict=True))
    known = pair.replace(
        science=science.image.replace(psf=psf_s, noise_correlation=noise.correlations[0]),
        reference=_with_noise(reference, noise, 1).replace(psf=psf_r),
        normalization=replace(normalization, **shares),
    )
    return _completed(pair, science, known, background_box)


def _normalize_again(
    pair: AlignedPair, known: AlignedPair, *, cosmic_rays: bool, background_box: int
) -> AlignedPair:
    """Normalize a copy of a science image with what was measured on the image itself."""
    science = _without_spikes(_subtract(pair.science, background_box), known.science.psf)
    if cosmic_rays:
        science = _without_cosmic_rays(science, _Seen(known.reference), known.science.psf)
    return _completed(pair, science, known, background_box)


def _completed(pair: AlignedPair, science: _Side, known: AlignedPair, box: int) -> AlignedPair:
    """Finish the science image of a pair whose parameters and reference are known."""
    normalization, seen = known.normalization, _Seen(known.reference)
    science = _without_faults(science, seen, normalization.flux_ratio)
    science = _levelled(science, seen, known, box)
    noise = PairNoise((known.science.noise_correlation, None), (normalization.science_static_share, 0.0))
    levels = {
        "science_background": science.background.median,
        "science_sky_rms": science.background.median_rms,
        "science_variance_scale": science.variance_scale,
    }
    return pair.replace(
        science=_with_noise(science, noise, 0).replace(psf=known.science.psf),
        reference=known.reference,
        normalization=replace(normalization, **levels),
    )


def _subtract(image: MaskedImage, box: int) -> _Side:
    """Subtract the background and bring the variance to the measured sky noise."""
    _require_gain(image)
    core = find_saturation(image, grow=0)
    if core.any():
        mask = mark(image.mask, grown(core, SATURATION_GROWTH), "SATURATED")
        image = image.replace(mask=mark(mask, find_bleeds(image, core), "BLEED"))
    hot = find_hot_pixels(image)
    if hot.any():
        image = image.replace(mask=mark(image.mask, hot, "BAD"))
    background = estimate_background(image.data, image.bad, box=box)
    data = image.data - background.level
    if background.crowded:
        background = _counting_noise(image, background)
    blank = _blank(background, image)
    scale = 1.0
    if image.variance is None:
        variance = variance_model(data, background, _gain(image, background))
    else:
        variance = _given_variance(image)
        if np.count_nonzero(blank) > 500:
            scale = _variance_scale(data, variance, blank)
            variance = variance * np.float32(scale)
    saturation = None if image.saturation is None else image.saturation - background.median
    image = image.replace(data=data, variance=variance, saturation=saturation)
    return _Side(image, background, scale, blank)


SATURATION_GROWTH = 1
"""Pixels around saturated ones that are not linear either."""


def _counting_noise(image: MaskedImage, background: Background) -> Background:
    """Take the noise of a crowded field from the level of its sky, if that still is there, by photon counts.

    What is measured there is the scatter of the stars.
    """
    if not image.gain or not has_counts(image):
        return background
    electrons = np.maximum(background.level, 0) * image.gain + (image.read_noise or 0.0) ** 2
    counted = np.sqrt(electrons) / image.gain
    believable = (counted > 0) & (counted < background.rms)
    return replace(background, rms=np.where(believable, counted, background.rms).astype(np.float32))


def _given_variance(image: MaskedImage) -> np.ndarray:
    """Return the variance an image brought, NaN where it is not positive."""
    if not (image.variance[~image.bad] > 0).any():
        raise ScienceError("the variance is not positive in any pixel: wrong sign, or no variance plane?")
    return np.where(image.variance > 0, image.variance, np.nan)


def _blank(background: Background, image: MaskedImage) -> np.ndarray:
    """Return where there is only sky."""
    return ~(background.sources | image.bad)


def _variance_scale(data: np.ndarray, variance: np.ndarray, blank: np.ndarray) -> float:
    """Return measured over stated variance of the blank pixels."""
    # every n-th pixel is enough: the error of a variance is 0.2 % for half a million
    step = max(1, int(np.sqrt(data.size / ENOUGH_PIXELS)))
    part = (slice(None, None, step), slice(None, None, step))
    data, variance, blank = data[part], variance[part], blank[part]
    with np.errstate(invalid="ignore", divide="ignore"):
        normal = data[blank] / np.sqrt(variance[blank])
    return robust_std(normal) ** 2


ENOUGH_PIXELS = 500_000
"""Pixels that a variance is measured on."""


def _require_gain(image: MaskedImage) -> None:
    """Refuse a gain that is no gain."""
    if image.gain is not None and not 0 < image.gain < np.inf:
        raise ScienceError(
            f"the gain is {image.gain:g} electrons per unit: it must be positive "
            "(leave it unknown, and it is estimated from the sky)"
        )


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


@dataclass(frozen=True, eq=False)
class _Common:
    """Sources that both images of a pair show, brightest first."""

    x: np.ndarray
    """Pixels."""

    y: np.ndarray
    """Pixels."""

    star: np.ndarray
    """Whether each is an isolated, unsaturated point source."""

    near_science: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Positions and heights of all peaks of the science image, faint ones too."""

    near_reference: tuple[np.ndarray, np.ndarray, np.ndarray]
    """The same of the reference."""


def _psf(
    side: _Side,
    found: _Common,
    neighbours: tuple[np.ndarray, np.ndarray, np.ndarray],
    order: int,
    prefer_given: bool,
) -> Psf:
    """Measure the PSF on stars; use the one that came with the image where there are few."""
    given = side.image.psf
    x, y = found.x[found.star], found.y[found.star]
    if given is not None and (prefer_given or len(x) < MIN_STARS[1]):
        return given
    try:
        return measure_psf(
            side.data, side.image.variance, side.image.bad, x, y, neighbours=neighbours, max_order=order
        )
    except PsfError:
        if given is None:
            raise
        return given


WIDER = 1.15
"""Ratio of half-light radii beyond which sources are no stars, where a PSF came with the image."""


def _common_sources(science: _Side, reference: _Side) -> _Common:
    """Return the sources both images show unsaturated, and which of them are stars."""
    bad = science.image.bad | reference.image.bad
    # the reference is usually the deeper image: it tells stars from galaxies, and shows faint neighbours
    theirs, near_reference = find_stars(reference.data, reference.rms, bad, limit=MAX_SOURCES)
    ours, near_science = find_stars(science.data, science.rms, bad, limit=MAX_SOURCES)
    star = np.zeros(len(theirs), bool)
    crowded = science.background.crowded or reference.background.crowded
    chosen = select_stars(
        theirs,
        science.image.shape,
        saturation=reference.image.saturation,
        # in a crowd hardly a star is alone: rather more of them, and less of each
        min_count=MIN_STARS[-1] if crowded else MIN_STARS[0],
    )
    given = reference.image.psf
    if (
        given is None
        or not len(chosen)
        or np.median(theirs.radius[chosen]) < WIDER * half_light_radius(given)
    ):
        star[chosen] = True
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
    return _Common(theirs.x[common], theirs.y[common], star[common], near_science, near_reference)


MAX_SOURCES = 1000
"""Sources of an image that are measured, the brightest."""

MAX_COMPARED = 150
"""Sources whose residuals are looked at one by one, the brightest."""

MAX_RATIO_STARS = 600
"""Stars for the flux ratio and the shift, the brightest."""


def _compare(science: MaskedImage, reference: MaskedImage, found: _Common) -> Comparison:
    """Return flux ratio and shift of the common sources: PSF fits of stars where there are enough.

    Fits to both images with their own PSFs are exact for undersampled stars, and bear bad pixels; convolved
    with the PSF of the other image any source can be compared, galaxies as well.
    """
    fitted = _compare_stars(science, reference, found)
    if len(fitted.x) >= MIN_STARS[1]:
        return fitted
    crossed = compare_sources(science, reference, found.x, found.y)
    lost = np.zeros(len(found.x), bool)
    lost[found.star] = ~np.isfinite(crossed.ratio[found.star])
    return crossed.replaced(lost, fitted, lost[found.star])


def _compare_stars(science: MaskedImage, reference: MaskedImage, found: _Common) -> Comparison:
    """Return flux ratio and shift of stars by PSF fits to both images."""
    x, y = (place[found.star][:MAX_RATIO_STARS] for place in (found.x, found.y))
    ours, theirs = (
        fit_stars(image.data, image.variance, image.bad, image.psf, x, y) for image in (science, reference)
    )
    crossed = compare_sources(science, reference, x[:MAX_COMPARED], y[:MAX_COMPARED])
    usable = ours.usable & theirs.usable
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(usable, ours.flux / theirs.flux, np.nan)
        relative = np.hypot(ours.flux_error / ours.flux, theirs.flux_error / theirs.flux)
    missing = np.full(len(x) - len(crossed.x), np.nan)
    return Comparison(
        x,
        y,
        ratio,
        np.abs(ratio) * relative,
        np.where(usable, ours.x - theirs.x, np.nan),
        np.where(usable, ours.y - theirs.y, np.nan),
        np.hypot(ours.position_error, theirs.position_error),
        np.r_[crossed.mismatch, missing],
        np.r_[crossed.mismatch_error, missing],
    )


def _without_cosmic_rays(science: _Side, reference: _Seen, psf: Psf) -> _Side:
    """Mask cosmic rays; what the reference shows as well is a star."""
    image = science.image.replace(data=science.data + science.background.level)
    # a hit on a star is rare, a star core taken for a hit is not
    static = reference.data > 10.0 * reference.rms
    suspects = (science.data > 5.0 * science.rms) & ~static & ~science.image.bad
    hits = find_cosmic_rays(image, science.background, psf.fwhm, suspects=suspects)
    return science.marked(hits & ~static, "COSMIC_RAY")


def _without_spikes(side: _Side, psf: Psf) -> _Side:
    """Mask the diffraction spikes of saturated stars."""
    cores = (side.image.mask & bits("SATURATED", "BLEED")) != 0
    if not cores.any():
        return side
    spikes = find_spikes(side.data, side.rms, side.image.bad, cores, psf.fwhm)
    return side.marked(spikes & ~cores, "SPIKE")


def _residual(one: _Side, other: _Side | _Seen, ratio: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what one image shows beyond the other, its noise, and the pixels where that says nothing.

    The PSFs are not matched here: whatever the other image shows leaves rings.
    """
    residual = one.data - np.float32(ratio) * other.data
    rms = np.sqrt(np.square(one.rms) + np.square(np.float32(ratio) * other.rms))
    return residual, rms, one.image.bad | ~other.blank


def _without_faults(science: _Side, reference: _Seen, flux_ratio: float) -> _Side:
    """Mask bad rows and columns, trails, and smooth light that only the science image shows."""
    residual, rms, hidden = _residual(science, reference, flux_ratio)
    lines = find_bad_lines(residual, rms, science.image.bad | reference.image.bad)
    hidden |= lines
    ghosts, trails = find_ghosts(residual, rms, hidden), find_trails(residual, rms, hidden)
    return science.marked(lines, "BAD").marked(ghosts, "GHOST").marked(trails, "STREAK")


def _levelled(science: _Side, reference: _Seen, known: AlignedPair, box: int) -> _Side:
    """Match the background of the science image to that of the reference, where neither shows a source.

    The two backgrounds were measured each for itself; what they differ by would be left in the difference. In
    a crowded field there is no such place, and the light of the stars is made to cancel first.
    """
    hidden = ~(science.blank & reference.blank)
    ours, theirs = science.data, reference.data
    if np.mean(hidden) > MOST_SOURCES:
        hidden = science.image.bad | reference.image.bad
        ours = _crossed(fill_bad(ours, hidden), known.reference.psf)
        theirs = _crossed(fill_bad(theirs, hidden), known.science.psf)
        box //= 2  # what moonlight and haloes leave there is rough
    level = mean_level(ours - np.float32(known.normalization.flux_ratio) * theirs, hidden, box=box)
    return replace(science, image=science.image.replace(data=science.data - level))


def _crossed(data: np.ndarray, psf: Psf) -> np.ndarray:
    """Return an image convolved with the PSF of the other one, as it is in the middle."""
    from scipy.signal import oaconvolve

    ny, nx = data.shape
    stamp = psf.at((nx - 1) / 2, (ny - 1) / 2).astype(np.float32)
    return oaconvolve(data, stamp, mode="same").astype(np.float32)


def _pair_noise(science: _Side, reference: _Side, flux_ratio: float) -> PairNoise:
    """Return the noise that a difference has: measured on blank sky, without static light.

    A correlation that was derived from a resampling is not replaced by a poor measurement.
    """
    sides, blank = (science, reference), science.blank & reference.blank
    crowded = any(side.background.crowded for side in sides)
    known = tuple(side.image.noise_correlation for side in sides)
    n_blank = np.count_nonzero(blank)
    found = None
    if n_blank >= FEWEST_BLANK and not crowded:
        images, rms = (tuple(getattr(side, name) for side in sides) for name in ("data", "rms"))
        found = noise_of_pair(images, rms, blank, flux_ratio)
    if found is None:
        return PairNoise(known, (0.0, 0.0))
    if n_blank < ENOUGH_BLANK:
        pairs = zip(known, found.correlations, strict=True)
        found = replace(found, correlations=tuple(old if old is not None else new for old, new in pairs))
    return found


def _with_noise(side: _Side, noise: PairNoise, which: int) -> MaskedImage:
    """Return an image (0: science, 1: reference) with its noise, less the static light in that of its sky."""
    variance = side.image.variance
    if noise.static_shares[which]:
        # a stated variance may be less than that of the sky around it
        variance = variance - np.float32(noise.static_shares[which]) * np.minimum(variance, side.rms**2)
    return side.image.replace(variance=variance, noise_correlation=noise.correlations[which])


FEWEST_BLANK, ENOUGH_BLANK = 5_000, 50_000
"""Blank pixels it takes to measure a correlation (to 0.014), and to replace one that is known (0.004)."""


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
    shift = _residual_shift(sources, kept, pair.science.shape, pair.registration)
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
        psf_mismatch=_mismatch(sources, kept),
    )


def _mismatch(sources: Comparison, kept: np.ndarray) -> float:
    """Return the scatter of what is left at the peaks, beyond noise."""
    seen = kept & np.isfinite(sources.mismatch) & np.isfinite(sources.mismatch_error)
    return excess_scatter(sources.mismatch[seen], sources.mismatch_error[seen])


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
    points = [image.zeropoint for image in (science, reference)]
    if all(point is not None and np.isfinite(point.magnitude) for point in points):
        steps = 0.4 * (points[0].magnitude - points[1].magnitude)
        if abs(steps) > MOST_STEPS:
            raise PhotometryError(f"the zero points predict a flux ratio of 10^{steps:.0f}")
        return float(10**steps)
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


def _residual_shift(
    sources: Comparison, kept: np.ndarray, shape: tuple[int, int], registration: Registration
) -> _Shift:
    """Fit the shift between both images by a plane, or a constant where no slope is significant.

    Galaxies have larger errors than noise alone gives; the scatter of the registration, where it stands on
    stars enough, is a limit to what is believed of theirs.
    """
    if kept.sum() < MIN_RATIO_STARS:
        return _Shift()
    terms, error = _plane_terms(sources, shape)[:, kept], sources.position_error[kept]
    (x_fit, x_noise), (y_fit, y_noise) = (
        _fit_plane(terms, shift[kept], error) for shift in (sources.dx, sources.dy)
    )
    if registration.n_matched >= MIN_PLANE_STARS:
        x_noise, y_noise = np.fmin((x_noise, y_noise), registration.residual_rms)
    return _Shift(
        shift=(float(x_fit[0]), float(y_fit[0])),
        shift_gradient=tuple((float(x_fit[k]), float(y_fit[k])) for k in (1, 2)),
        astrometric_noise=(float(x_noise), float(y_noise)),
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
