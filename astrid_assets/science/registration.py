"""Placing the reference on the science grid: world coordinates or star patterns, refined on stars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.errors import NoOverlapError, RegistrationError
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import AlignedPair, Registration
from astrid_assets.images.psf import polynomial_terms
from astrid_assets.science.artifacts import find_hot_pixels, find_saturation, mark
from astrid_assets.science.asterisms import AsterismMatch, invert_affine, match_asterisms
from astrid_assets.science.background import excess_scatter, robust_std
from astrid_assets.science.centroids import Centroids, find_centroids
from astrid_assets.science.warp import map_pixels, warp

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ["align", "match_sources"]

MIN_MATCHES = (3, 15, 50, 120)
"""Matched stars needed for a refinement of order 0, 1, 2, 3: five to twelve for each coefficient of a
polynomial, three for a shift."""

MATCH_TOLERANCE = 1.5
"""Largest distance of matched stars after the best shift, pixels: centroids, distortions and motions."""

REMATCH_RADIUS = 3.0
"""Largest shift that is searched for once a first solution is known, pixels."""

MANY_STARS = 20
"""Stars of either image in the overlap from which on it tells something that they do not match."""

AGREEING_SHARE = 0.2
"""Least share of the stars in the overlap that must match: depths and filters differ, skies do not."""

CHANCE_LIMIT = 1e-6
"""Largest expected number of shifts that match as many stars by accident."""

OUTLIER_SIGMA = 3.5
"""Residuals beyond this are moving stars, blends or wrong partners."""

SIGNIFICANT = 4.0
"""Fitted offsets above this many times their error are believed; smaller ones are left alone."""

ORDER_GAIN = 0.01
"""Share of the mean squared residual that a higher order must save: distortions of a tenth of the scatter."""

LARGEST_LEVERAGE = 0.9
"""Cap of the weight of a star in its own prediction, so that a star on its own is not blown up."""

FOLDED_SHIFT, FOLDED_BEND = 0.25, 0.01
"""Largest offset of two grids that is left to the subtraction, and its departure from a plane, pixels."""

COVERAGE_STEPS = 64
"""Points along each side of the image at which the coverage is first estimated: it is known to 0.02."""


@dataclass(frozen=True, eq=False)
class _Field:
    """The stars of both images in science pixels, before the refinement."""

    ours: Centroids
    """Of the science image."""

    theirs: Centroids
    """Of the reference, where the WCS or the star patterns put them in the science image."""


def align(
    science: MaskedImage,
    reference: MaskedImage | None = None,
    *,
    reuse: AlignedPair | None = None,
    assume_aligned: bool = False,
    search_radius: float = 30.0,
    max_order: int = 3,
    min_overlap: float = 0.1,
) -> AlignedPair:
    """Resample the reference onto the science grid.

    The world coordinates of both images give a first solution, or the patterns of their stars where one
    has none; the offsets of matched stars refine it by a polynomial of the lowest order that predicts
    them, as far as their number allows.

    Parameters
    ----------
    science, reference
        The images. They may differ in scale, rotation, parity and distortion; without WCS by a factor of
        5 in scale. The reference is not needed with ``reuse``.

    reuse
        The aligned pair of the same exposure, for a copy of it with injected sources: the reference
        lies on its grid already.

    assume_aligned
        Take the two grids as equal, pixel by pixel, and look at neither WCS nor stars. The shapes must agree.

    search_radius
        Largest offset between the two WCS that is searched for, science pixels.

    max_order
        Highest order of the polynomial.

    min_overlap
        Smallest share of the science image that the reference must cover (0.1: ip_diffim's
        ``requiredTemplateFraction``).

    Returns
    -------
    AlignedPair
        Without normalization.

    Raises
    ------
    NoOverlapError
        If the images share less than ``min_overlap`` of the science image.

    RegistrationError
        Without a WCS, if the star patterns of the two images do not agree beyond doubt; or if both images
        have many stars and they do not agree within ``search_radius``.

    ScienceError
        If an image has hardly any usable pixel.
    """
    if reuse is not None:
        return _aligned_as(science, reuse)
    if reference is None:
        raise RegistrationError("there is no reference to align with")
    if assume_aligned:
        return _aligned_by_assumption(science, reference)
    ours, theirs = find_centroids(science), find_centroids(reference)
    blind = science.wcs is None or reference.wcs is None
    first = _first_by_stars(ours, theirs, science, reference) if blind else Registration("wcs")
    _require_overlap(_coverage(science, reference, first), min_overlap)
    registration = _refined(
        first, ours, theirs, science, reference, search_radius=search_radius, max_order=max_order
    )
    if _is_small(science, reference, registration):
        # resampling would correlate the noise; the shift is left to the PSF of the reference
        registration = registration if blind else _unrefined(registration)
        warped = reference.replace(wcs=science.wcs)
    else:
        warped = _placed(science, reference, registration)
        registration = replace(registration, resampled=True)
    overlap = _overlap(science, warped)
    _require_overlap(overlap, min_overlap)
    return AlignedPair(science, warped, registration, overlap)


def _aligned_as(science: MaskedImage, known: AlignedPair) -> AlignedPair:
    """Pair a copy of a science image with the reference that was placed on its grid before."""
    if science.shape != known.science.shape:
        msg = f"an image of shape {science.shape} cannot take over a registration of {known.science.shape}"
        raise RegistrationError(msg)
    return AlignedPair(science, known.reference, known.registration, known.overlap)


def _aligned_by_assumption(science: MaskedImage, reference: MaskedImage) -> AlignedPair:
    """Pair two images pixel by pixel."""
    if science.shape != reference.shape:
        msg = f"images of shape {science.shape} and {reference.shape} cannot be taken as aligned"
        raise RegistrationError(msg)
    return AlignedPair(science, reference, Registration("assumed"), _overlap(science, reference))


# --- where the reference lies ---------------------------------------------------------------------


def _first_by_stars(
    ours: Centroids, theirs: Centroids, science: MaskedImage, reference: MaskedImage
) -> Registration:
    """Return the affine map between two images of which at least one has no WCS."""
    found = match_asterisms(ours.x, ours.y, theirs.x, theirs.y)
    if not found.agrees:
        blind = [n for n, i in (("science", science), ("reference", reference)) if i.wcs is None]
        msg = (
            f"no celestial WCS in the {' and '.join(blind)} image, and the star patterns do not agree: "
            f"{_counts(found, ours, theirs)}; solve it, or state that the grids are equal (assume aligned)"
        )
        raise RegistrationError(msg)
    return Registration("stars", n_matched=len(found.first), transform=_as_tuples(found.matrix))


def _counts(found: AsterismMatch, ours: Centroids, theirs: Centroids) -> str:
    """Say how many stars there are, match, and would have to."""
    need = f"{found.n_needed} needed" if found.n_needed else "no pattern in common"
    if found.n_rival:
        need += f", and {found.n_rival} in another way"
    return f"{len(ours)} and {len(theirs)} sources, {len(found.first)} match, {need}"


def _as_tuples(matrix: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return an affine map as it is stored."""
    return tuple(matrix[0].tolist()), tuple(matrix[1].tolist())


def _planes(science: MaskedImage, reference: MaskedImage, registration: Registration) -> tuple[WCS, WCS]:
    """Return the WCS of both images; for star patterns two linear ones that share a plane."""
    if registration.transform is None:
        return science.wcs, reference.wcs
    from astropy.wcs import WCS

    matrix = invert_affine(np.array(registration.transform))
    plane, placed = WCS(naxis=2), WCS(naxis=2)
    for wcs in (plane, placed):
        wcs.wcs.crpix = [1.0, 1.0]
    placed.wcs.crval = matrix[:, 2]
    placed.wcs.cd = matrix[:, :2]
    for wcs in (plane, placed):
        wcs.wcs.set()
    return plane, placed


def _placed(science: MaskedImage, reference: MaskedImage, registration: Registration) -> MaskedImage:
    """Return the reference on the science grid."""
    output, source = _planes(science, reference, registration)
    refined = registration.method in ("wcs+stars", "stars")
    pixels = map_pixels(
        output,
        science.shape,
        source,
        shift=registration.coefficients if refined else None,
        order=registration.order if refined else 0,
    )
    return warp(_flagged(reference), pixels, wcs=science.wcs)


def _flagged(reference: MaskedImage) -> MaskedImage:
    """Mark what is saturated or hot: that is told from pixels that were read out, not from means of them."""
    for found, plane in ((find_saturation(reference), "SATURATED"), (find_hot_pixels(reference), "BAD")):
        if found.any():
            reference = reference.replace(mask=mark(reference.mask, found, plane))
    return reference


def _is_small(science: MaskedImage, reference: MaskedImage, registration: Registration) -> bool:
    """Return whether the grids agree but for a shift well below a pixel, that may slope over the image."""
    if science.shape != reference.shape:
        return False
    ny, nx = science.shape
    cells = np.linspace(0.0, 1.0, COVERAGE_STEPS // 4)
    x, y = (grid.ravel() for grid in np.meshgrid(cells * (nx - 1), cells * (ny - 1)))
    terms = _terms(x, y, science.shape, registration.order)
    dx, dy = (np.tensordot(c, terms, axes=1) for c in registration.coefficients)
    output, source = _planes(science, reference, registration)
    there = _from_one_to_the_other(output, source, x - dx, y - dy, reference.shape)
    plane = polynomial_terms(2.0 * x / nx - 1.0, 2.0 * y / ny - 1.0, 1).T
    for axis, place in zip(there, (x, y), strict=True):
        offset = axis - place
        if not np.isfinite(offset).all() or np.abs(offset).max() > FOLDED_SHIFT:
            return False
        rest = offset - plane @ np.linalg.lstsq(plane, offset, rcond=None)[0]
        if np.abs(rest).max() > FOLDED_BEND:
            return False
    return True


def _coverage(science: MaskedImage, reference: MaskedImage, registration: Registration) -> float:
    """Return the share of the science image that lies on the reference image, before the refinement."""
    ny, nx = science.shape
    cells = (np.arange(COVERAGE_STEPS) + 0.5) / COVERAGE_STEPS
    x, y = (grid.ravel() for grid in np.meshgrid(cells * nx - 0.5, cells * ny - 0.5))
    output, source = _planes(science, reference, registration)
    x, y = _from_one_to_the_other(output, source, x, y, reference.shape)
    ny, nx = reference.shape
    return float(np.mean((x > 0) & (x < nx - 1) & (y > 0) & (y < ny - 1)))


def _from_one_to_the_other(
    one: WCS, other: WCS, x: np.ndarray, y: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of one image in another of some shape; NaN far from it.

    Distortions are not inverted far outside the image they describe, where they diverge.
    """
    ny, nx = shape
    world = one.all_pix2world(x, y, 0)
    x, y = other.wcs_world2pix(*world, 0)
    with np.errstate(invalid="ignore"):
        near = (np.abs(x - 0.5 * nx) < nx) & (np.abs(y - 0.5 * ny) < ny)
    x[~near], y[~near] = np.nan, np.nan
    if near.any():
        x[near], y[near] = other.all_world2pix(*(axis[near] for axis in world), 0, quiet=True)
    return x, y


def _overlap(science: MaskedImage, warped: MaskedImage) -> float:
    """Return the share of the science pixels with data that the reference covers."""
    has_data = (science.mask & bits("NO_DATA")) == 0
    covered = has_data & ((warped.mask & bits("NO_DATA")) == 0)
    return float(covered.sum() / max(has_data.sum(), 1))


def _require_overlap(overlap: float, minimum: float) -> None:
    """Refuse a pair that hardly shares any sky."""
    if overlap < minimum:
        msg = f"science and reference overlap by {overlap:.1%} of the science image, {minimum:.0%} needed"
        raise NoOverlapError(msg)


# --- refinement -----------------------------------------------------------------------------------


def _refined(
    first: Registration,
    ours: Centroids,
    theirs: Centroids,
    science: MaskedImage,
    reference: MaskedImage,
    *,
    search_radius: float,
    max_order: int,
) -> Registration:
    """Fit the offsets of matched stars; return the first solution where they tell nothing."""
    field = _field(first, ours, theirs, science, reference, margin=search_radius)
    if min(len(field.ours), len(field.theirs)) < MIN_MATCHES[0]:
        return first
    blind = first.transform is not None
    radius = REMATCH_RADIUS if blind else search_radius
    i, j = _match(field.ours, field.theirs, radius)
    if not blind:
        n_possible = min(_n_covered(field.ours, field.theirs), len(field.theirs))
        if not _agree(len(i), n_possible, field, search_radius):
            patterns = _verdict_of_patterns(ours, theirs, science, reference)
            msg = f"only {len(i)} of {n_possible} stars match within {search_radius:g} pixels: {patterns}"
            raise RegistrationError(msg)
    if len(i) < MIN_MATCHES[0]:
        return first
    fitted = _fit_offsets(field, i, j, science.shape, max_order)
    again = _match(field.ours, _shifted(field.theirs, fitted, science.shape), REMATCH_RADIUS)
    if len(again[0]) > len(i):
        i, j = again
        fitted = _fit_offsets(field, i, j, science.shape, max_order)
    if blind:
        return replace(fitted, method="stars", transform=first.transform)
    return fitted if _is_significant(fitted) else _unrefined(fitted)


def _field(
    first: Registration,
    ours: Centroids,
    theirs: Centroids,
    science: MaskedImage,
    reference: MaskedImage,
    *,
    margin: float,
) -> _Field:
    """Bring the stars of the reference to science pixels, and keep those near the image."""
    output, source = _planes(science, reference, first)
    x, y = _from_one_to_the_other(source, output, theirs.x, theirs.y, science.shape)
    ny, nx = science.shape
    with np.errstate(invalid="ignore"):
        near = (x > -margin) & (x < nx + margin) & (y > -margin) & (y < ny + margin)
    # a pixel of the reference is not one of the science image
    error = theirs.error * _pixel_ratio(x, y, theirs)
    return _Field(ours, Centroids(x, y, error, theirs.flux)[np.flatnonzero(near)])


def _pixel_ratio(x: np.ndarray, y: np.ndarray, theirs: Centroids) -> float:
    """Return the science pixels in one of the reference, from the extents of the same stars."""
    known = np.isfinite(x)
    if known.sum() < MIN_MATCHES[0]:
        return 1.0
    ours = np.hypot(x[known].std(), y[known].std())
    return float(ours / max(np.hypot(theirs.x[known].std(), theirs.y[known].std()), 1e-9))


def _match(ours: Centroids, theirs: Centroids, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Match stars in the same pixels."""
    return match_sources(ours.x, ours.y, theirs.x, theirs.y, search_radius=radius, tolerance=MATCH_TOLERANCE)


def _shifted(theirs: Centroids, fitted: Registration, shape: tuple[int, int]) -> Centroids:
    """Move stars by fitted offsets."""
    terms = _terms(theirs.x, theirs.y, shape, fitted.order)
    dx, dy = (np.tensordot(c, terms, axes=1) for c in fitted.coefficients)
    return replace(theirs, x=theirs.x + dx, y=theirs.y + dy)


def _terms(x: np.ndarray, y: np.ndarray, shape: tuple[int, int], order: int) -> np.ndarray:
    """Return the terms of the offsets at positions in the science image, not followed beyond its edges."""
    ny, nx = shape
    u, v = (np.clip(2.0 * p / max(n - 1, 1) - 1.0, -1.1, 1.1) for p, n in ((x, nx), (y, ny)))
    return polynomial_terms(u, v, order)


def _n_covered(ours: Centroids, theirs: Centroids) -> int:
    """Return how many of our stars lie within the bounds of theirs."""
    inside = (ours.x >= theirs.x.min()) & (ours.x <= theirs.x.max())
    inside &= (ours.y >= theirs.y.min()) & (ours.y <= theirs.y.max())
    return int(inside.sum())


def _agree(n_matched: int, n_possible: int, field: _Field, search_radius: float) -> bool:
    """Return whether as many stars match as must if both images show the same sky.

    Each shift within the search radius that the tolerance tells apart is one trial; in each, a star finds
    one of ours by accident with the probability of their density times the area of the tolerance.
    """
    if n_possible < MANY_STARS:
        return True
    from scipy.special import bdtrc

    area = np.ptp(field.ours.x) * np.ptp(field.ours.y)
    p = min(1.0, len(field.ours) * np.pi * MATCH_TOLERANCE**2 / max(float(area), 1.0))
    trials = max(1.0, (search_radius / MATCH_TOLERANCE) ** 2)
    accidents = trials * bdtrc(n_matched - 1.0, max(len(field.theirs), n_matched), p) if n_matched else 1.0
    return n_matched >= AGREEING_SHARE * n_possible and bool(accidents < CHANCE_LIMIT)


def _verdict_of_patterns(
    ours: Centroids, theirs: Centroids, science: MaskedImage, reference: MaskedImage
) -> str:
    """Say whether the stars match when the WCS is ignored, and by how much it is off."""
    found = match_asterisms(ours.x, ours.y, theirs.x, theirs.y)
    if not found.agrees:
        return (
            "the images show different sky, for the star patterns do not match with the WCS ignored either "
            f"({_counts(found, ours, theirs)})"
        )
    x, y = theirs.x[found.second], theirs.y[found.second]
    x, y = science.wcs.all_world2pix(*reference.wcs.all_pix2world(x, y, 0), 0, quiet=True)
    dx, dy = ours.x[found.first] - x, ours.y[found.first] - y
    scatter = float(np.hypot(robust_std(dx), robust_std(dy)))
    return (
        f"the WCS of one image is wrong, for {len(found.first)} stars match by their patterns with the WCS "
        f"ignored, {np.nanmedian(dx):+.1f} and {np.nanmedian(dy):+.1f} pixels in x and y from where it puts "
        f"them (scatter {scatter:.1f} pixels)"
    )


def _is_significant(registration: Registration) -> bool:
    """Return whether the fitted offsets are larger than their error; else the two WCS agree."""
    error = np.array(registration.residual_rms) / np.sqrt(registration.n_matched)
    size = np.abs(registration.coefficients).sum(axis=1)
    return bool((size > SIGNIFICANT * error * np.sqrt(len(registration.coefficients[0]))).any())


def _unrefined(registration: Registration) -> Registration:
    """Return the same matches with the WCS left as they are."""
    return Registration(
        "wcs",
        n_matched=registration.n_matched,
        initial_offset=registration.initial_offset,
        residual_offset=registration.initial_offset,
        residual_rms=registration.residual_rms,
    )


def match_sources(
    x1: np.ndarray,
    y1: np.ndarray,
    x2: np.ndarray,
    y2: np.ndarray,
    *,
    search_radius: float,
    tolerance: float = MATCH_TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """Match two lists of positions that differ by an unknown shift and small distortions.

    All pairs closer than the search radius vote for their offset; the fullest cell of the
    histogram wins, and mutual nearest neighbours within the tolerance of it are the matches.

    Parameters
    ----------
    x1, y1, x2, y2
        Positions on the same grid, pixels.

    search_radius
        Largest shift, pixels.

    tolerance
        Largest distance after the shift, pixels.

    Returns
    -------
    tuple of numpy.ndarray
        Indices into the first and the second list.
    """
    from scipy.spatial import cKDTree

    first, second = np.c_[x1, y1], np.c_[x2, y2]
    tree = cKDTree(first)
    near = tree.sparse_distance_matrix(cKDTree(second), search_radius, output_type="ndarray")
    if not len(near):
        return np.zeros(0, int), np.zeros(0, int)
    shift = _peak_offset(first[near["i"]] - second[near["j"]], search_radius, tolerance)
    for width in (2.0 * tolerance, tolerance):
        distance, i = tree.query(second + shift, distance_upper_bound=width)
        found = np.isfinite(distance)
        if not found.any():
            return np.zeros(0, int), np.zeros(0, int)
        shift = np.median(first[i[found]] - second[found], axis=0)
    j = np.flatnonzero(found)
    i = i[found]
    back = cKDTree(second + shift).query(first[i])[1]
    mutual = back == j
    return i[mutual], j[mutual]


def _peak_offset(offsets: np.ndarray, search_radius: float, tolerance: float) -> np.ndarray:
    """Return the most frequent offset, from a histogram smoothed over the tolerance."""
    from scipy.ndimage import uniform_filter

    n_cells = int(np.ceil(2 * search_radius / (0.5 * tolerance)))
    limits = (-search_radius, search_radius)
    counts, edges_x, edges_y = np.histogram2d(*offsets.T, bins=n_cells, range=(limits, limits))
    smooth = uniform_filter(counts, 3, mode="constant")
    # of equally good offsets the smallest is the most plausible
    centre = np.hypot(*np.meshgrid(edges_x[:-1], edges_y[:-1], indexing="ij"))
    ix, iy = np.unravel_index(np.argmax(smooth - 1e-6 * centre), counts.shape)
    step = edges_x[1] - edges_x[0]
    return np.array([edges_x[ix] + step / 2, edges_y[iy] + step / 2])


def _fit_offsets(
    field: _Field, i: np.ndarray, j: np.ndarray, shape: tuple[int, int], max_order: int
) -> Registration:
    """Fit polynomials to the offsets of matched stars, rejecting outliers (moving stars, blends)."""
    ours, theirs = field.ours[i], field.theirs[j]
    offsets = np.c_[ours.x - theirs.x, ours.y - theirs.y]
    error = np.hypot(ours.error, theirs.error)
    initial = np.median(offsets, axis=0)
    keep = np.hypot(*(offsets - initial).T) < 2.0 * MATCH_TOLERANCE
    scatter = 0.0
    for _ in range(8):
        # what the errors do not explain is common to all stars: it keeps the brightest from ruling
        weight = 1.0 / np.hypot(error, scatter)
        fit = _best_fit(ours, offsets, weight, keep, shape, max_order)
        rest = offsets - fit.terms @ fit.solution
        spread = np.array([excess_scatter(axis[keep], error[keep]) for axis in rest.T])
        scatter = float(np.sqrt(np.mean(spread**2)))
        agreed = (np.abs(rest) < OUTLIER_SIGMA * np.hypot(error[:, None], spread)).all(axis=1)
        if agreed.sum() < MIN_MATCHES[0] or (agreed == keep).all():
            break
        keep = agreed
    best = keep & (error <= np.median(error[keep]))
    return Registration(
        method="wcs+stars",
        n_matched=int(keep.sum()),
        initial_offset=tuple(initial.tolist()),
        residual_offset=tuple(float(np.median(axis[keep])) for axis in rest.T),
        # a fit draws each star to itself by its leverage: without it, the residual is larger
        residual_rms=tuple(robust_std((axis / (1.0 - fit.leverage))[best]) for axis in rest.T),
        order=fit.order,
        coefficients=(tuple(fit.solution[:, 0].tolist()), tuple(fit.solution[:, 1].tolist())),
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    """A polynomial fitted to the offsets of some of the stars."""

    order: int
    """Order of the polynomial."""

    terms: np.ndarray
    """Its terms at all stars, ``(n, n_terms)``."""

    solution: np.ndarray
    """Its coefficients in x and y, ``(n_terms, 2)``."""

    leverage: np.ndarray
    """Weight of each star in its own prediction, below 1; zero for those that were not fitted."""

    score: float
    """Weighted mean square of the residuals of each star to the fit without it."""


def _best_fit(
    ours: Centroids,
    offsets: np.ndarray,
    weight: np.ndarray,
    keep: np.ndarray,
    shape: tuple[int, int],
    max_order: int,
) -> _Fit:
    """Return the fit of the lowest order that predicts stars it has not seen as well as any."""
    allowed = [o for o in range(max_order + 1) if o == 0 or keep.sum() >= MIN_MATCHES[o]]
    fits = [_fit(order, ours, offsets, weight, keep, shape) for order in allowed]
    enough = (1.0 + ORDER_GAIN) * min(fit.score for fit in fits)
    return next(fit for fit in fits if fit.score <= enough)


def _fit(
    order: int,
    ours: Centroids,
    offsets: np.ndarray,
    weight: np.ndarray,
    keep: np.ndarray,
    shape: tuple[int, int],
) -> _Fit:
    """Fit a polynomial of one order."""
    terms = _terms(ours.x, ours.y, shape, order).T
    basis, triangle = np.linalg.qr(terms[keep] * weight[keep, None])
    solution = np.linalg.lstsq(triangle, basis.T @ (offsets[keep] * weight[keep, None]), rcond=None)[0]
    leverage = np.zeros(len(keep))
    leverage[keep] = np.minimum((basis**2).sum(axis=1), LARGEST_LEVERAGE)
    unseen = (offsets - terms @ solution)[keep] / (1.0 - leverage[keep, None])
    return _Fit(order, terms, solution, leverage, float(np.mean((unseen * weight[keep, None]) ** 2)))
