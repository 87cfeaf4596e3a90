"""Footprints of images on the sky: polygons of (ra, dec) corners joined by great circles, in degrees.

Any simple polygon will do, convex or not: a rotated quadrant, the outline of two chips, a long strip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

__all__ = ["centre", "coverage", "enclosing_radius", "polygon_area", "touches_circle"]

Footprint = Sequence[tuple[float, float]]


def centre(footprint: Footprint) -> tuple[float, float]:
    """Return the (ra, dec) of the mean direction of the corners."""
    ra, dec = np.radians(np.asarray(footprint, float)).T
    x, y, z = np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)
    lon = np.degrees(np.arctan2(y.mean(), x.mean())) % 360.0
    lat = np.degrees(np.arctan2(z.mean(), np.hypot(x.mean(), y.mean())))
    return float(lon), float(lat)


def coverage(of: Footprint, by: Footprint) -> float:
    """Return the share of the area of one footprint that another covers, 0 to 1.

    Both are clipped on the plane that touches the sky at the centre of the first (gnomonic
    projection; corners more than 80 deg away count as no overlap). Sides are great circles, which
    that projection keeps straight, so that the clipping is exact; areas are those of the plane,
    right to 0.1 % for images up to 3 deg wide.

    Parameters
    ----------
    of, by
        Corners (ra, dec) in order around each image, either way.
    """
    tangent = centre(of)
    mine, other = _project(of, tangent), _project(by, tangent)
    if mine is None or other is None:
        return 0.0
    area = polygon_area(mine)
    return float(np.clip(_common_area(mine, other) / area, 0.0, 1.0)) if area > 0 else 0.0


def touches_circle(footprint: Footprint, ra: float, dec: float, radius: float) -> bool:
    """Tell whether a footprint has a point in common with a circle on the sky; all in degrees."""
    corners = _project(footprint, (ra, dec))
    if corners is None:
        return False
    limit = np.tan(np.radians(radius))
    following = np.roll(corners, -1, axis=0)
    side = following - corners
    length2 = np.maximum((side**2).sum(1), 1e-300)
    along = np.clip(-(corners * side).sum(1) / length2, 0, 1)
    nearest = np.hypot(*(corners + along[:, None] * side).T).min()
    return _around_origin(corners, following) or bool(nearest <= limit)


def _around_origin(corners: np.ndarray, following: np.ndarray) -> bool:
    """Tell whether a polygon holds the origin: a ray along x crosses its sides an odd number of times."""
    crosses = (corners[:, 1] > 0) != (following[:, 1] > 0)
    start, end = corners[crosses], following[crosses]
    x = start[:, 0] - start[:, 1] * (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1])
    return bool(np.count_nonzero(x > 0) % 2)


def enclosing_radius(ra: float, dec: float, footprints: Sequence[Footprint]) -> float:
    """Return the radius of the circle about a position that holds some footprints, degrees; 0 for none."""
    corners = np.radians(np.array([c for footprint in footprints for c in footprint], float).reshape(-1, 2))
    a, d, d0 = corners[:, 0] - np.radians(ra), corners[:, 1], np.radians(dec)
    haversine = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin(a / 2) ** 2
    return float(np.degrees(2 * np.arcsin(np.sqrt(np.clip(haversine.max(initial=0.0), 0.0, 1.0)))))


def polygon_area(corners: np.ndarray) -> float:
    """Return the area of a polygon of corners ``(n, 2)`` (shoelace formula)."""
    if len(corners) < 3:
        return 0.0
    return abs(_twice_area(corners)) / 2


def _project(footprint: Footprint, tangent: tuple[float, float]) -> np.ndarray | None:
    """Return gnomonic coordinates ``(n, 2)`` about a point, or None if a corner lies too far away."""
    ra, dec = np.radians(np.asarray(footprint, float)).T
    ra0, dec0 = np.radians(tangent)
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    if (cosine < np.cos(np.radians(80.0))).any():
        return None
    x = np.cos(dec) * np.sin(ra - ra0) / cosine
    y = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cosine
    return np.stack([x, y], axis=1)


def _common_area(subject: np.ndarray, window: np.ndarray) -> float:
    """Return the area that two simple polygons share.

    The window is the sum of the triangles from its first corner to each side, with the sign of their
    turn: what lies outside a window that is not convex cancels.
    """
    area = 0.0
    for second, third in pairwise(window[1:]):
        triangle = np.stack([window[0], second, third])
        turn = np.sign(_twice_area(triangle))
        area += turn * polygon_area(_clip(subject, triangle[:: int(turn) or 1]))
    return abs(area)


def _twice_area(corners: np.ndarray) -> float:
    """Return twice the area of a polygon, negative where its corners go clockwise."""
    x, y = corners.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _clip(subject: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the part of a polygon inside a convex, counterclockwise one (Sutherland & Hodgman 1974)."""
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        if len(subject) == 0:
            break
        subject = _clip_side(subject, start, end - start)
    return subject


def _clip_side(subject: np.ndarray, start: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Keep what lies to the left of a line."""
    height = side[0] * (subject[:, 1] - start[1]) - side[1] * (subject[:, 0] - start[0])
    kept: list[np.ndarray] = []
    for i, (point, h) in enumerate(zip(subject, height, strict=True)):
        j = (i + 1) % len(subject)
        if h >= 0:
            kept.append(point)
        if (h >= 0) != (height[j] >= 0):
            kept.append(point + (subject[j] - point) * h / (h - height[j]))
    return np.array(kept).reshape(-1, 2)
