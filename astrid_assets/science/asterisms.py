"""Matching two lists of positions by the patterns of their stars, without world coordinates.

Triangles of neighbouring stars are compared by the ratios of their sides, which no shift, rotation,
scale or reflection changes (Groth 1986, AJ 91, 1244; Valdes et al. 1995, PASP 107, 1119). Every pair of
similar triangles votes for a scale, a rotation and a parity (Tabur 2007, PASA 24, 189); where the votes agree
on a shift too, the transformation is fitted and tested on all stars.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

__all__ = ["AsterismMatch", "apply_affine", "invert_affine", "match_asterisms"]

LIST_SIZES = ((150, 150), (60, 60), (400, 40), (40, 400), (400, 400))
"""Brightest sources taken of the first and of the second list, one attempt after the other: lists of
similar depth, bright stars only, a small field within a large one and the reverse, deep lists."""

ALL_TRIANGLES = 16
"""Lists up to this long give all their triangles (560); longer ones those of neighbouring stars."""

NEIGHBOURS = 8
"""Neighbours of a star of which each two make a triangle with it: a match survives that half of them
are spurious (28 triangles, 7 of which are real)."""

RATIO_TOLERANCE = 0.008
"""Largest distance of two triangles in the plane of side ratios: 0.5 pixels on a side of 60."""

MOST_PAIRS = 400_000
"""Largest number of pairs of similar triangles that vote; lists of 400 strangers have 100 000."""

SHORTEST_SIDE = 20.0
"""Smallest longest side of a triangle, pixels: shorter ones have ratios too uncertain to be compared."""

SCALE_LIMIT = 6.0
"""Largest ratio of the pixel scales either way, with room beyond the factor of 5 that is promised."""

VOTE_STEP = 0.02
"""Cell of the votes in ln(scale) and in rotation (radians), twice what the tolerance lets them scatter."""

SHIFT_SHARE = 0.02
"""Radius within which votes agree on a shift, of the diameter of the first list: `VOTE_STEP` on its arm."""

HYPOTHESES = 8
"""Fullest cells of the votes that are tested."""

MATCH_TOLERANCES = (8.0, 4.0, 2.0, 1.5, 1.5)
"""Distances within which stars match in successive fits, pixels of the coarser image."""

TEST_TOLERANCES = (1.5, 0.7)
"""Distances within which the matches are counted: a few stars must fit well, many may fit loosely."""

AFFINE_MATCHES = 8
"""Matched stars from which six coefficients are fitted instead of the four of a similarity."""

CHANCE_LIMIT = 1e-6
"""Largest expected number of accidental agreements as good as the one found (see `_chance`)."""

RIVAL_SHARE = 0.3
"""Matches of a second transformation, of those of the first, from which on neither is believed."""

RIVAL_DISTANCE = 10.0
"""Distance of the same stars under two transformations that makes them different, pixels."""

PROBES = 24
"""Shifts of the second list by which the rate of accidental matches is measured."""

PROBE_REACH = (3.0, 6.0)
"""Shortest and longest of them, in tolerances: beyond the true partners, within a cluster of sources."""


@dataclass(frozen=True, eq=False)
class AsterismMatch:
    """The best agreement of two lists of positions."""

    matrix: np.ndarray
    """Affine map of the first positions to the second, ``(2, 3)``: x2 = m00 x1 + m01 y1 + m02."""

    first: np.ndarray
    """Indices of the matched sources in the first list."""

    second: np.ndarray
    """Their partners in the second list."""

    n_needed: int
    """Matches from which on the agreement cannot be an accident; 0 if nothing was found to test."""

    n_rival: int = 0
    """Matches of the best other transformation that is no accident either: a regular pattern, or the
    defects of a detector beside the stars."""

    @property
    def is_no_accident(self) -> bool:
        """Whether there are more matches than chance makes."""
        return 0 < self.n_needed <= len(self.first)

    @property
    def agrees(self) -> bool:
        """Whether it is no accident, and far better than any other."""
        return self.is_no_accident and self.n_rival < RIVAL_SHARE * len(self.first)


def match_asterisms(x1: np.ndarray, y1: np.ndarray, x2: np.ndarray, y2: np.ndarray) -> AsterismMatch:
    """Find the transformation between two lists of positions, whatever their scale, rotation and parity.

    Parameters
    ----------
    x1, y1, x2, y2
        Positions in pixels of either image, brightest first. The order decides only which sources make
        the patterns; it need not be the same.

    Returns
    -------
    AsterismMatch
        The agreement with most matched sources; ask it whether it ``agrees``.
    """
    first, second = np.c_[x1, y1].astype(float), np.c_[x2, y2].astype(float)
    best = AsterismMatch(np.eye(2, 3), np.zeros(0, int), np.zeros(0, int), 0)
    seen, n_tried = set(), 0
    for sizes in LIST_SIZES:
        used = tuple(min(n, len(stars)) for n, stars in zip(sizes, (first, second), strict=True))
        if min(used) < 3 or used in seen:
            continue
        seen.add(used)
        votes = _votes(first[: used[0]], second[: used[1]])
        n_tried += len(votes.log_scale)
        found = [_tested(first, second, votes.similarity(members), n_tried) for members in _agreeing(votes)]
        best = _best([best, *filter(None, found)], first)
        if best.is_no_accident:
            break
    return best


def _best(matches: list[AsterismMatch], first: np.ndarray) -> AsterismMatch:
    """Return the match of most stars; it knows the best one that is no accident and lies elsewhere."""
    ranked = sorted(matches, key=lambda match: (match.is_no_accident, len(match.first)), reverse=True)
    best = ranked[0]
    for rival in ranked[1:]:
        apart = np.subtract(*(apply_affine(match.matrix, *first[best.first].T) for match in (best, rival)))
        if rival.is_no_accident and np.median(np.hypot(*apart)) > RIVAL_DISTANCE:
            return replace(best, n_rival=len(rival.first))
    return best


def apply_affine(matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positions after an affine map ``(2, 3)``."""
    (a, b, c), (d, e, f) = matrix
    return a * x + b * y + c, d * x + e * y + f


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of an affine map ``(2, 3)``."""
    inverse = np.linalg.inv(np.asarray(matrix)[:, :2])
    return np.c_[inverse, -inverse @ np.asarray(matrix)[:, 2]]


# --- triangles ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Triangles:
    """Triangles of a list; corners are ordered by the sides between them."""

    corners: np.ndarray
    """Indices of the stars, ``(n, 3)``: the longest side joins the first two, the shortest the outer two."""

    ratios: np.ndarray
    """Middle and shortest side over the longest, ``(n, 2)``."""

    side: np.ndarray
    """Longest side as a complex number, from the first to the second corner."""

    centre: np.ndarray
    """Mean of the corners, complex."""

    sense: np.ndarray
    """Whether the corners run counter-clockwise."""


def _triangles(stars: np.ndarray) -> _Triangles:
    """Return the triangles of neighbouring stars."""
    corners = _corners(stars)
    z = (stars[:, 0] + 1j * stars[:, 1])[corners]
    # opposite[k] is the side that corner k does not touch
    opposite = np.abs(z[:, [1, 2, 0]] - z[:, [2, 0, 1]])
    # first corner: opposite of the middle side; second: of the shortest; third: of the longest
    order = np.argsort(opposite, axis=1)[:, [1, 0, 2]]
    corners, z = (np.take_along_axis(values, order, axis=1) for values in (corners, z))
    middle, shortest, longest = np.take_along_axis(opposite, order, axis=1).T
    large = longest > SHORTEST_SIDE
    corners, z, longest = corners[large], z[large], longest[large]
    side, third = z[:, 1] - z[:, 0], z[:, 2] - z[:, 0]
    ratios = np.c_[middle[large], shortest[large]] / longest[:, None]
    return _Triangles(corners, ratios, side, z.mean(axis=1), (np.conj(side) * third).imag > 0)


def _corners(stars: np.ndarray) -> np.ndarray:
    """Return triples of indices: all of a short list, of a long one each star with two of its neighbours."""
    from scipy.spatial import cKDTree

    n = len(stars)
    if n <= ALL_TRIANGLES:
        return np.array(list(combinations(range(n), 3)))
    near = cKDTree(stars).query(stars, NEIGHBOURS + 1)[1]
    pairs = np.array(list(combinations(range(1, NEIGHBOURS + 1), 2)))
    triples = np.sort(np.c_[np.repeat(near[:, 0], len(pairs)), near[:, pairs].reshape(-1, 2)], axis=1)
    keys = np.unique(triples @ np.array([n * n, n, 1]))
    return np.c_[keys // (n * n), keys // n % n, keys % n]


# --- votes ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Votes:
    """One vote for each pair of similar triangles."""

    log_scale: np.ndarray
    """Natural logarithm of the pixels of the second image in one of the first."""

    rotation: np.ndarray
    """Angle of the map, -pi to pi."""

    mirrored: np.ndarray
    """Whether the triangles have opposite senses."""

    shift: np.ndarray
    """Where the map puts the middle of the first list, complex."""

    reach: float
    """Radius of the first list, pixels."""

    from_corners: np.ndarray
    """Corners of the first triangles, complex ``(n, 3)``."""

    to_corners: np.ndarray
    """Corners of the second."""

    def similarity(self, members: np.ndarray) -> np.ndarray:
        """Return the affine map that fits the corners of some votes, all of one parity."""
        source, target = self.from_corners[members].ravel(), self.to_corners[members].ravel()
        return _fit_similarity(source, target, mirrored=bool(self.mirrored[members[0]]))


def _votes(first: np.ndarray, second: np.ndarray) -> _Votes:
    """Compare all triangles of two lists."""
    from scipy.spatial import cKDTree

    ours, theirs = _triangles(first), _triangles(second)
    if len(ours.side) and len(theirs.side):
        tree, other = cKDTree(ours.ratios), cKDTree(theirs.ratios)
        # regular patterns make every triangle like every other: a part of them tells as much
        step = 1 + int(tree.count_neighbors(other, RATIO_TOLERANCE) // MOST_PAIRS)
        close = cKDTree(ours.ratios[::step]).sparse_distance_matrix(
            other, RATIO_TOLERANCE, output_type="ndarray"
        )
        i, j = step * close["i"], close["j"]
    else:
        i, j = np.zeros(0, int), np.zeros(0, int)
    mirrored = ours.sense[i] != theirs.sense[j]
    factor = theirs.side[j] / _mirror(ours.side[i], mirrored)
    near = np.abs(np.log(np.abs(factor))) < np.log(SCALE_LIMIT)
    i, j, mirrored, factor = i[near], j[near], mirrored[near], factor[near]
    middle = first.mean(axis=0) @ [1, 1j]
    arm = _mirror(middle - ours.centre[i], mirrored)
    z1, z2 = first @ [1, 1j], second @ [1, 1j]
    return _Votes(
        log_scale=np.log(np.abs(factor)),
        rotation=np.angle(factor),
        mirrored=mirrored,
        shift=theirs.centre[j] + factor * arm,
        reach=float(np.abs(z1 - middle).max()),
        from_corners=z1[ours.corners[i]],
        to_corners=z2[theirs.corners[j]],
    )


def _mirror(z: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Return complex numbers, those that are mirrored conjugate."""
    return np.where(mirrored, np.conj(z), z)


def _agreeing(votes: _Votes) -> list[np.ndarray]:
    """Return groups of votes that agree on scale, rotation, parity and shift, the largest first."""
    if not len(votes.log_scale):
        return []
    n_scale, n_angle = int(2 * np.log(SCALE_LIMIT) / VOTE_STEP) + 1, int(2 * np.pi / VOTE_STEP)
    row = ((votes.log_scale + np.log(SCALE_LIMIT)) / VOTE_STEP).astype(int)
    column = ((votes.rotation + np.pi) / (2 * np.pi) * n_angle).astype(int) % n_angle
    shape = (2, n_scale, n_angle)
    cell = np.ravel_multi_index((votes.mirrored.astype(int), row, column), shape)
    counts = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)
    full = _block_sums(counts)
    groups = []
    for _ in range(HYPOTHESES):
        parity, r, c = np.unravel_index(np.argmax(full), shape)
        if full[parity, r, c] == 0:
            break
        turn = np.abs((column - c + n_angle // 2) % n_angle - n_angle // 2)
        members = np.flatnonzero((votes.mirrored == parity) & (np.abs(row - r) <= 1) & (turn <= 1))
        groups.append(_densest(votes, members))
        full[parity, max(r - 1, 0) : r + 2, [(c - 1) % n_angle, c, (c + 1) % n_angle]] = 0
    return sorted(groups, key=len, reverse=True)


def _block_sums(counts: np.ndarray) -> np.ndarray:
    """Return the sums over blocks of 3 x 3 cells in scale and rotation; rotations join at both ends."""
    padded = np.pad(counts, ((0, 0), (1, 1), (0, 0)))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return rows + np.roll(rows, 1, axis=2) + np.roll(rows, -1, axis=2)


def _densest(votes: _Votes, members: np.ndarray) -> np.ndarray:
    """Return the votes around the most frequent shift among some."""
    from scipy.spatial import cKDTree

    scale = float(np.exp(np.median(votes.log_scale[members])))
    radius = 2.0 * SHIFT_SHARE * votes.reach * scale
    shifts = np.c_[votes.shift[members].real, votes.shift[members].imag]
    tree = cKDTree(shifts)
    around = tree.query_ball_point(shifts, radius, return_length=True)
    return members[tree.query_ball_point(shifts[int(np.argmax(around))], radius)]


# --- fits and tests -------------------------------------------------------------------------------


def _fit_similarity(source: np.ndarray, target: np.ndarray, *, mirrored: bool) -> np.ndarray:
    """Return the shift, rotation and scale, with a reflection or not, between complex positions."""
    z = np.conj(source) if mirrored else source
    arm = z - z.mean()
    factor = np.vdot(arm, target) / np.vdot(arm, arm).real
    offset = target.mean() - factor * z.mean()
    sign = -1.0 if mirrored else 1.0
    return np.array(
        [[factor.real, -sign * factor.imag, offset.real], [factor.imag, sign * factor.real, offset.imag]]
    )


def _fit_affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the affine map between positions ``(n, 2)``."""
    terms = np.c_[source, np.ones(len(source))]
    return np.linalg.lstsq(terms, target, rcond=None)[0].T


def _tested(first: np.ndarray, second: np.ndarray, matrix: np.ndarray, n_tried: int) -> AsterismMatch | None:
    """Fit a transformation on all stars that it brings together, and count them."""
    from scipy.spatial import cKDTree

    tree = cKDTree(second)
    mirrored = np.linalg.det(matrix[:, :2]) < 0
    for tolerance in MATCH_TOLERANCES:
        i, j = _partners(first, tree, matrix, tolerance)
        if len(i) < 3:
            return None
        if len(i) >= AFFINE_MATCHES:
            matrix = _fit_affine(first[i], second[j])
        else:
            matrix = _fit_similarity(first[i] @ [1, 1j], second[j] @ [1, 1j], mirrored=mirrored)
        if not _is_plausible(matrix):
            return None
    trials = n_tried * len(MATCH_TOLERANCES) * len(TEST_TOLERANCES)
    for tolerance in TEST_TOLERANCES:
        i, j = _partners(first, tree, matrix, tolerance)
        found = AsterismMatch(matrix, i, j, _matches_needed(first, tree, matrix, tolerance, trials))
        if found.is_no_accident:
            break
    return found


def _is_plausible(matrix: np.ndarray) -> bool:
    """Return whether a map is close to a similarity of a scale that may occur."""
    largest, smallest = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return largest < SCALE_LIMIT and smallest > 1.0 / SCALE_LIMIT and largest < 1.2 * smallest


def _scaled_tolerance(matrix: np.ndarray, tolerance: float) -> float:
    """Return a distance in pixels of the coarser image as one in pixels of the second."""
    return tolerance * max(1.0, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))


def _partners(
    first: np.ndarray, tree: cKDTree, matrix: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of stars that are each other's nearest after a transformation."""
    from scipy.spatial import cKDTree

    moved = first @ matrix[:, :2].T + matrix[:, 2]
    distance, j = tree.query(moved, distance_upper_bound=_scaled_tolerance(matrix, tolerance))
    i = np.flatnonzero(np.isfinite(distance))
    if not len(i):
        return i, i
    back = i[cKDTree(moved[i]).query(tree.data[j[i]])[1]]
    i = i[back == i]
    return i, j[i]


def _matches_needed(
    first: np.ndarray, tree: cKDTree, matrix: np.ndarray, tolerance: float, trials: int
) -> int:
    """Return the number of matches that chance does not reach.

    The model: a wrong transformation throws the n stars of the first list that it puts within the bounds of
    the second onto it at random, and each finds a partner with probability p, so that the number of
    matches is binomial. Four coefficients make two of them, the choice of the triangle that voted a third.
    Each of the pairs of triangles that were compared, times the tolerances at which the fit could settle,
    is one trial: the expected number of accidents is trials times P(matches - 3 or more of n - 3).
    """
    from scipy.special import bdtrc

    n, p = _accidents(first, tree, matrix, tolerance)
    if n <= 3:
        return n + 1
    k = np.arange(n - 2)
    accidents = trials * bdtrc(k - 1.0, n - 3, p)
    accidents[0] = np.inf  # three stars always fit
    enough = np.flatnonzero(accidents < CHANCE_LIMIT)
    return int(enough[0]) + 3 if len(enough) else n + 1


def _accidents(first: np.ndarray, tree: cKDTree, matrix: np.ndarray, tolerance: float) -> tuple[int, float]:
    """Return how many stars could match, and the probability that one does so by accident.

    It is measured with the list thrown off by a little, because sources cluster; it is no lower than for
    sources that are spread evenly over the second list.
    """
    tolerance = _scaled_tolerance(matrix, tolerance)
    moved = first @ matrix[:, :2].T + matrix[:, 2]
    low, high = tree.data.min(axis=0) - tolerance, tree.data.max(axis=0) + tolerance
    inside = ((moved >= low) & (moved <= high)).all(axis=1)
    n = int(inside.sum())
    angle = np.arange(PROBES) * np.pi * (3.0 - np.sqrt(5.0))
    throw = tolerance * np.linspace(*PROBE_REACH, PROBES)[:, None] * np.c_[np.cos(angle), np.sin(angle)]
    probes = (moved[inside][:, None] + throw).reshape(-1, 2)
    hits = np.isfinite(tree.query(probes, distance_upper_bound=tolerance)[0]).mean() if n else 0.0
    even = len(tree.data) * np.pi * tolerance**2 / float(np.prod(high - low))
    return n, float(min(max(hits, even), 1.0))
