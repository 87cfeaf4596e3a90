"""Objects: candidates of many epochs at one place, joined in units of their position errors.

The limits are those of the LSST alert production (ap_association: within 1 arcsec, position errors of
at least 0.05 arcsec), and smaller where the images are sharper than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

__all__ = [
    "Detections",
    "Places",
    "associate",
    "join_detections",
    "name_objects",
    "place_detections",
    "place_objects",
]

_ARCSEC = 180.0 * 3600.0 / np.pi
_FRAME_GAP = 1e7
"""Distance between frames of pixels, which keeps them apart from each other and from the sky."""

_FLOOR_SHARE = 0.1
"""The floor of the position error is no more than this share of the FWHM: that of a tenth of a pixel at
two pixels FWHM, where 0.05 arcsec would be whole pixels of a space telescope."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Candidates of all exposures, ready to be joined. Lengths are arcsec, or pixels without a WCS."""

    epoch: np.ndarray
    """Number of the exposure in order of time, int ``(n,)``."""

    where: np.ndarray
    """Places as vectors, ``(n, 3)``: on the sphere of radius 206265, or on a plane of pixels."""

    sigma: np.ndarray
    """1-sigma error of the position along an axis, ``(n,)``."""

    floor: np.ndarray
    """Part of `sigma` that does not fall with the number of detections, ``(n,)``."""

    reach: np.ndarray
    """Largest separation from the object, ``(n,)``."""

    flagged: np.ndarray
    """Whether it is taken for an artefact, ``(n,)``."""

    def place_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return right ascension and declination of some, deg; where there is no WCS, pixels."""
        return _unplaced(self.where[rows])


def place_detections(
    u: np.ndarray,
    v: np.ndarray,
    snr: np.ndarray,
    flagged: np.ndarray,
    *,
    epoch: int,
    fwhm: float,
    frame: int | None = None,
    sigma_floor: float = 0.05,
    max_separation: float = 1.0,
) -> Detections:
    """Return the candidates of one exposure with their position errors.

    The centroid of a point source has an error of ``sqrt(2) FWHM / (2.355 S/N)`` along an axis
    (Condon 1997, PASP 109, 166, eq. 21); `sigma_floor` is added in quadrature.

    Parameters
    ----------
    u, v
        Right ascension and declination, deg, or pixels of the reference.

    snr
        Significance.

    flagged
        Whether a candidate is taken for an artefact.

    epoch
        Number of the exposure in order of time.

    fwhm
        Of a point source, arcsec (pixels without a WCS).

    frame
        None for the sky; a number for each grid of pixels.

    sigma_floor
        Error that does not fall with the significance, arcsec (pixels without a WCS); at most a
        tenth of the FWHM.

    max_separation
        Largest separation of a candidate from its object, arcsec (pixels without a WCS); at
        most one FWHM, within which two sources are one peak.
    """
    floor = min(sigma_floor, _FLOOR_SHARE * fwhm)
    n = len(u)
    return Detections(
        epoch=np.full(n, epoch),
        where=_sphere(u, v) if frame is None else np.c_[u, v, np.full(n, _FRAME_GAP * (frame + 1))],
        sigma=np.hypot(np.sqrt(2.0) * fwhm / 2.355 / np.maximum(snr, 1.0), floor),
        floor=np.full(n, floor),
        reach=np.full(n, min(max_separation, fwhm)),
        flagged=np.asarray(flagged, bool),
    )


def join_detections(parts: Sequence[Detections]) -> Detections:
    """Put the candidates of all exposures together."""
    names = Detections.__dataclass_fields__
    return Detections(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def _sphere(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Return places on the sphere whose radius is a radian in arcsec: chords are separations."""
    a, d = np.radians(ra), np.radians(dec)
    return _ARCSEC * np.c_[np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)]


def _frame(where: np.ndarray) -> np.ndarray:
    """Return -1 for places on the sphere, else the number of the grid of pixels."""
    return np.rint(where[:, 2] / _FRAME_GAP).astype(int) - 1


def _unplaced(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates of places: deg on the sphere, pixels on a plane."""
    on_sky = _frame(where) < 0
    ra = np.degrees(np.arctan2(where[:, 1], where[:, 0])) % 360.0
    dec = np.degrees(np.arctan2(where[:, 2], np.hypot(where[:, 0], where[:, 1])))
    return np.where(on_sky, ra, where[:, 0]), np.where(on_sky, dec, where[:, 1])


def associate(detections: Detections, *, max_sigma: float = 5.0) -> np.ndarray:
    """Join candidates at one place to objects, exposure by exposure in order of time.

    Unflagged candidates found objects and say where they are: each joins the object that it agrees with
    best, as far as that has none of the exposure yet, or is a new one. What later exposures bring
    changes no earlier object. Flagged candidates then join objects that lack one in their exposure.

    Parameters
    ----------
    detections
        Candidates of all exposures.

    max_sigma
        Largest separation in units of the error of candidate and object along an axis; 5 loses
        four in a million (chi-square of two degrees of freedom).

    Returns
    -------
    numpy.ndarray
        Number of the object of each candidate, int ``(n,)``, in order of discovery; -1 for
        flagged ones that belong to none.
    """
    objects = np.full(len(detections.epoch), -1)
    weight, moment = np.zeros(0), np.zeros((0, 3))
    for rows in _by_epoch(detections, ~detections.flagged):
        mine = _matched(detections, rows, moment, weight, np.zeros(len(weight), bool), max_sigma)
        new = np.flatnonzero(mine < 0)
        mine[new] = len(weight) + np.arange(len(new))
        weight = np.r_[weight, np.zeros(len(new))]
        moment = np.r_[moment, np.zeros((len(new), 3))]
        own = 1.0 / detections.sigma[rows] ** 2
        weight[mine] += own
        moment[mine] += own[:, None] * detections.where[rows]
        objects[rows] = mine
    for rows in _by_epoch(detections, detections.flagged):
        taken = np.zeros(len(weight), bool)
        same = (detections.epoch == detections.epoch[rows[0]]) & ~detections.flagged
        taken[objects[same]] = True
        objects[rows] = _matched(detections, rows, moment, weight, taken, max_sigma)
    return objects


def _by_epoch(detections: Detections, which: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each exposure that has some, in order of time."""
    rows = np.flatnonzero(which)
    rows = rows[np.argsort(detections.epoch[rows], kind="stable")]
    cuts = np.flatnonzero(np.diff(detections.epoch[rows])) + 1
    return [part for part in np.split(rows, cuts) if len(part)]


def _matched(
    detections: Detections,
    rows: np.ndarray,
    moment: np.ndarray,
    weight: np.ndarray,
    taken: np.ndarray,
    max_sigma: float,
) -> np.ndarray:
    """Return the object of each candidate of an exposure, -1 for none; the best agreement first."""
    mine = np.full(len(rows), -1)
    free = np.flatnonzero(~taken)
    if not len(free):
        return mine
    tree = cKDTree(moment[free] / weight[free, None])
    reach = detections.reach[rows]
    near = tree.query_ball_point(detections.where[rows], reach)
    i = np.repeat(np.arange(len(rows)), [len(n) for n in near])
    j = np.array([k for n in near for k in sorted(n)], int)
    error = np.maximum(1.0 / weight[free[j]], detections.floor[rows[i]] ** 2) + detections.sigma[rows[i]] ** 2
    apart = np.linalg.norm(detections.where[rows[i]] - tree.data[j], axis=1) / np.sqrt(error)
    used = np.zeros(len(free), bool)
    for k in np.lexsort((j, i, apart)):
        if apart[k] <= max_sigma and mine[i[k]] < 0 and not used[j[k]]:
            mine[i[k]] = free[j[k]]
            used[j[k]] = True
    return mine


@dataclass(frozen=True, eq=False)
class Places:
    """Where objects are. Lengths are arcsec, or pixels without a WCS."""

    u: np.ndarray
    """Right ascension, deg, or pixels of the reference; ``(n,)``."""

    v: np.ndarray
    """Declination, deg, or pixels of the reference."""

    error: np.ndarray
    """1-sigma error along an axis."""

    frame: np.ndarray
    """-1 for the sky, else the number of the grid of pixels."""

    first: np.ndarray
    """Row of the first unflagged detection, int."""

    residual: np.ndarray
    """Separation of each detection from its object, ``(n_detections,)``; NaN for those of none."""

    pull: float
    """Root mean square separation of unflagged detections from their objects along an axis, in
    units of their error; NaN if no object has two."""


def place_objects(detections: Detections, objects: np.ndarray) -> Places:
    """Return the weighted mean position of the unflagged detections of each object.

    Parameters
    ----------
    detections
        Candidates of all exposures.

    objects
        Number of the object of each, from `associate`.
    """
    n = int(objects.max(initial=-1)) + 1
    found = (objects >= 0) & ~detections.flagged
    own = np.where(found, 1.0 / detections.sigma**2, 0.0)
    weight = np.bincount(objects[found], own[found], minlength=n)
    sums = [np.bincount(objects[found], (own * axis)[found], minlength=n) for axis in detections.where.T]
    mean = np.array(sums).T / weight[:, None]
    residual = np.full(len(objects), np.nan)
    joined = objects >= 0
    residual[joined] = np.linalg.norm(detections.where[joined] - mean[objects[joined]], axis=1)
    count = np.bincount(objects[found], minlength=n)
    freedom = 2.0 * (count[count > 1] - 1).sum()
    many = found & (count[np.maximum(objects, 0)] > 1) if n else found
    pull = np.sqrt((own * residual**2)[many].sum() / freedom) if freedom else np.nan
    order = np.flatnonzero(found)
    order = order[np.argsort(detections.epoch[order], kind="stable")]
    u, v = _unplaced(mean)
    return Places(
        u=u,
        v=v,
        error=1.0 / np.sqrt(weight),
        frame=_frame(mean),
        first=order[np.unique(objects[order], return_index=True)[1]],
        residual=residual,
        pull=float(pull),
    )


def name_objects(u: np.ndarray, v: np.ndarray, frame: np.ndarray) -> list[str]:
    """Return names after positions, which stay when the position is refined.

    Parameters
    ----------
    u, v
        Position of the first detection: deg, or pixels of the reference.

    frame
        -1 for the sky, else the number of the grid of pixels.

    Returns
    -------
    list
        ``J173958.12+620123.4`` (hours and degrees, cut off as the IAU recommends),
        ``P0-0123.4+0234.5`` for pixels; a letter behind where two would be the same.
    """
    names, seen = [], {}
    for a, b, f in zip(u, v, frame, strict=True):
        name = _sky_name(a, b) if f < 0 else f"P{f}-{a:06.1f}{b:+07.1f}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _sky_name(ra: float, dec: float) -> str:
    """Return the IAU name of a position, 0.15 arcsec fine."""
    # what rounding in the last binary digit would tip over stays where it is
    ticks = int(ra / 15.0 * 360_000.0 + 1e-5) % (24 * 360_000)
    tenths = int(abs(dec) * 36_000.0 + 1e-5)
    right = f"{ticks // 360_000:02d}{ticks // 6_000 % 60:02d}{ticks // 100 % 60:02d}.{ticks % 100:02d}"
    up = f"{tenths // 36_000:02d}{tenths // 600 % 60:02d}{tenths // 10 % 60:02d}.{tenths % 10}"
    return f"J{right}{'-' if dec < 0 else '+'}{up}"
