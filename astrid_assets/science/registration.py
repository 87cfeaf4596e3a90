"""Placing the reference on the science grid: world coordinates, refined on stars."""

from __future__ import annotations

import numpy as np

from astrid_assets.errors import NoOverlapError, RegistrationError
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import AlignedPair, Registration
from astrid_assets.images.psf import polynomial_terms
from astrid_assets.science.background import estimate_background, excess_scatter, robust_std
from astrid_assets.science.stars import Sources, find_sources
from astrid_assets.science.warp import PixelMap, map_pixels, warp

__all__ = ["align", "match_sources"]

MIN_MATCHES = (3, 15, 50, 120)
"""Matched stars needed for a refinement of order 0, 1, 2, 3: five to twelve for each coefficient of a
polynomial, three for a shift."""


CENTROID_FLOOR = 0.02
"""Error of a windowed centroid that does not fall with S/N (pixel phase, blends), pixels."""


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

    The world coordinates of both images give a first solution; the offsets of matched stars
    refine it by a polynomial of the lowest order that the number of stars allows.

    Parameters
    ----------
    science, reference
        The images. Their WCS may have any scale, rotation, parity and distortion. The reference is not
        needed with ``reuse``.

    reuse
        The aligned pair of the same exposure, for a copy of it with injected sources: the reference
        lies on its grid already.

    assume_aligned
        Take the two grids as equal, pixel by pixel; for images without WCS. The shapes must agree.

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
        Without a WCS, unless ``assume_aligned``; or if both images have many stars and they
        do not agree within ``search_radius``.
    """
    if reuse is not None:
        return _aligned_as(science, reuse)
    if reference is None:
        raise RegistrationError("there is no reference to align with")
    if assume_aligned:
        return _aligned_by_assumption(science, reference)
    for name, image in (("science", science), ("reference", reference)):
        if image.wcs is None:
            raise RegistrationError(
                f"the {name} image has no celestial WCS; say so (assume aligned) or solve it"
            )
    first = map_pixels(science.wcs, science.shape, reference.wcs)
    _require_overlap(_coverage(first, reference), min_overlap)
    registration = _refine(science, reference, search_radius, max_order)
    pixels = first
    if registration.method == "wcs+stars":
        pixels = map_pixels(
            science.wcs,
            science.shape,
            reference.wcs,
            shift=registration.coefficients,
            order=registration.order,
        )
    warped = warp(reference, pixels, wcs=science.wcs)
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


def _coverage(pixels: PixelMap, reference: MaskedImage) -> float:
    """Return the share of the output grid that lies on the reference image."""
    ny, nx = reference.shape
    return float(np.mean((pixels.x > 0) & (pixels.x < nx - 1) & (pixels.y > 0) & (pixels.y < ny - 1)))


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


def _refine(
    science: MaskedImage, reference: MaskedImage, search_radius: float, max_order: int
) -> Registration:
    """Fit the offsets of matched stars."""
    ours, theirs = _positions(science), _positions(reference)
    if len(ours) < MIN_MATCHES[0] or len(theirs) < MIN_MATCHES[0]:
        return Registration("wcs")
    ra, dec = reference.wcs.all_pix2world(theirs.x, theirs.y, 0)
    x, y = science.wcs.all_world2pix(ra, dec, 0, quiet=True)
    ny, nx = science.shape
    near = np.isfinite(x) & (x > -search_radius) & (x < nx + search_radius)
    near &= np.isfinite(y) & (y > -search_radius) & (y < ny + search_radius)
    if near.sum() < MIN_MATCHES[0]:
        return Registration("wcs")
    i, j = match_sources(ours.x, ours.y, x[near], y[near], search_radius=search_radius)
    _require_agreement(len(i), min(len(ours), int(near.sum())), search_radius)
    if len(i) < MIN_MATCHES[0]:
        return Registration("wcs")
    offset_x, offset_y = ours.x[i] - x[near][j], ours.y[i] - y[near][j]
    error = np.hypot(_centroid_error(ours)[i], _centroid_error(theirs)[near][j])
    fitted = _fit_offsets(ours.x[i], ours.y[i], offset_x, offset_y, error, science.shape, max_order)
    return fitted if _is_significant(fitted) else _unrefined(fitted)


def _centroid_error(sources: Sources) -> np.ndarray:
    """Return the 1-sigma error of a centroid, pixels: size over S/N, and what blends and pixels add."""
    return np.hypot(1.2 * sources.radius / sources.snr, CENTROID_FLOOR)


def _is_significant(registration: Registration) -> bool:
    """Return whether the fitted offsets are larger than their error; else the two WCS agree."""
    error = np.array(registration.residual_rms) / np.sqrt(registration.n_matched)
    size = np.abs(registration.coefficients).sum(axis=1)
    return bool((size > 4.0 * error * np.sqrt(len(registration.coefficients[0]))).any())


def _unrefined(registration: Registration) -> Registration:
    """Return the same matches with the WCS left as they are."""
    return Registration(
        "wcs",
        n_matched=registration.n_matched,
        initial_offset=registration.initial_offset,
        residual_offset=registration.initial_offset,
        residual_rms=registration.residual_rms,
    )


def _require_agreement(n_matched: int, n_possible: int, search_radius: float) -> None:
    """Refuse a pair of images that both show many stars, but not the same ones."""
    if n_possible >= 20 and n_matched < max(MIN_MATCHES[0], 0.2 * n_possible):
        msg = (
            f"only {n_matched} of {n_possible} stars match within {search_radius:g} pixels: "
            "the WCS of one image is wrong, or the images show different sky"
        )
        raise RegistrationError(msg)


def _positions(image: MaskedImage) -> Sources:
    """Return the unsaturated, unblended sources of an image, brightest first."""
    background = estimate_background(image.data, image.bad, refine=False)
    data = image.data - background.level
    sources = find_sources(data, background.rms, image.bad, threshold=7.0, limit=1500)
    good = ~sources.flagged & ~sources.touched & (sources.snr > 15.0)
    if image.saturation is not None:
        good &= sources.peak < 0.8 * (image.saturation - background.median)
    # galaxies do not move: they are welcome beside the stars
    return sources[np.flatnonzero(good)]


def match_sources(
    x1: np.ndarray,
    y1: np.ndarray,
    x2: np.ndarray,
    y2: np.ndarray,
    *,
    search_radius: float,
    tolerance: float = 1.5,
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
    near = tree.query_ball_point(second, search_radius)
    if not any(near):
        return np.zeros(0, int), np.zeros(0, int)
    offsets = np.concatenate([first[n] - p for n, p in zip(near, second, strict=True) if n])
    shift = _peak_offset(offsets, search_radius, tolerance)
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
    x: np.ndarray,
    y: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
    error: np.ndarray,
    shape: tuple[int, int],
    max_order: int,
) -> Registration:
    """Fit polynomials to the offsets, rejecting outliers (moving stars, blends) at 3.5 sigma."""
    ny, nx = shape
    initial = (float(np.median(dx)), float(np.median(dy)))
    offsets, weight = np.c_[dx, dy], 1.0 / error[:, None]
    keep = np.hypot(dx - initial[0], dy - initial[1]) < 3.0
    for _ in range(5):
        order = max(o for o in range(max_order + 1) if o == 0 or keep.sum() >= MIN_MATCHES[o])
        terms = polynomial_terms(2 * x / (nx - 1) - 1, 2 * y / (ny - 1) - 1, order).T
        solution = np.linalg.lstsq((terms * weight)[keep], (offsets * weight)[keep], rcond=None)[0]
        rest = offsets - terms @ solution
        spread = [excess_scatter(axis[keep], error[keep]) for axis in rest.T]
        agreed = (np.abs(rest) < 3.5 * np.hypot(error[:, None], spread)).all(axis=1)
        if agreed.sum() < MIN_MATCHES[0] or (agreed == keep).all():
            break
        keep = agreed
    best = keep & (error <= np.median(error[keep]))
    return Registration(
        method="wcs+stars",
        n_matched=int(keep.sum()),
        initial_offset=initial,
        residual_offset=tuple(float(np.median(axis[keep])) for axis in rest.T),
        residual_rms=tuple(robust_std(axis[best]) for axis in rest.T),
        order=order,
        coefficients=(tuple(solution[:, 0].tolist()), tuple(solution[:, 1].tolist())),
    )
