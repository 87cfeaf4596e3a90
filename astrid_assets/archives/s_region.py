"""Regions of ObsCore's ``s_region``: what an archive says that an observation covers.

The text is that of STC-S as archives write it: ``POLYGON`` or ``CIRCLE``, a frame (or none), numbers in
degrees; several shapes one after the other. Examples: ``POLYGON ICRS 3.50 -30.28 ...``,
``CIRCLE ICRS 210.9 54.5 0.625``, ``POLYGON GSC1  23.17  60.66 ...``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

__all__ = ["CIRCLE_CORNERS", "circle", "hull", "offset_position", "parse_s_region", "region_footprint"]

CIRCLE_CORNERS = 24
"""Corners of the polygon that takes the place of a circle; it has the circle's area, so that shares of
covered sky are right, and departs from the circle by 0.6 % of the radius at most."""

_EQUATORIAL = frozenset({"ICRS", "J2000", "FK5", "GSC1", "UNKNOWNFRAME"})
"""Frames that are taken for ICRS: FK5 differs by 0.02 arcsec (Feissel & Mignard 1998), and MAST's oldest
polygons, in the frame of the Guide Star Catalog 1, by about an arcsec (STScI, GSC 1.2): less than the
margin that any image has."""

_IGNORED = frozenset(
    {"UNION", "INTERSECTION", "(", ")", "BARYCENTER", "GEOCENTER", "TOPOCENTER", "UNKNOWNREFPOS"}
)

_SAME_POINT = 1e-9
"""Degrees below which two corners are the same point."""

_STRAIGHT = 1e-13
"""Square degrees (0.001 square arcsec) of the triangle of three corners below which they lie on a line."""

Corner = tuple[float, float]


def parse_s_region(text: str) -> list[tuple[Corner, ...]]:
    """Return the corners (ra, dec) of each shape of a region, degrees (ICRS), as the archive lists them.

    Parameters
    ----------
    text
        The region. A repeated first corner at the end of a polygon is left out.

    Returns
    -------
    list of tuple of (ra, dec)
        Right ascension in [0, 360). A circle becomes a polygon of `CIRCLE_CORNERS` corners.

    Raises
    ------
    ValueError
        It is no region, or in a frame that is not equatorial of J2000.
    """
    words = re.sub(r"([()])", r" \1 ", text).upper().split()
    shapes: list[tuple[str, list[float]]] = []
    for word in words:
        if word in ("POLYGON", "CIRCLE"):
            shapes.append((word, []))
        elif word in _EQUATORIAL or word in _IGNORED:
            continue
        elif shapes:
            shapes[-1][1].append(_number(word, text))
        else:
            msg = f"neither POLYGON nor CIRCLE: {text[:80]!r}"
            raise ValueError(msg)
    if not shapes:
        msg = "an empty region"
        raise ValueError(msg)
    return [_shape(kind, numbers, text) for kind, numbers in shapes]


def _number(word: str, text: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        msg = f"{word!r} is neither a number nor an equatorial frame: {text[:80]!r}"
        raise ValueError(msg)
    return value


def _shape(kind: str, numbers: Sequence[float], text: str) -> tuple[Corner, ...]:
    if kind == "CIRCLE" and len(numbers) == 3 and 0.0 < numbers[2] < 90.0 and abs(numbers[1]) <= 90.0:
        return circle(*numbers)
    corners = [(ra % 360.0, dec) for ra, dec in zip(numbers[::2], numbers[1::2], strict=False)]
    if len(corners) > 1 and _distance(corners[0], corners[-1]) < _SAME_POINT:
        corners.pop()
    good = len(numbers) % 2 == 0 and all(abs(dec) <= 90.0 for _, dec in corners)
    if kind != "POLYGON" or len(corners) < 3 or not good:
        msg = f"not a {kind.lower()}: {text[:80]!r}"
        raise ValueError(msg)
    return tuple(corners)


def circle(ra: float, dec: float, radius: float) -> tuple[Corner, ...]:
    """Return the corners of a polygon with the area of a circle on the sky; all in degrees."""
    step = 2.0 * math.pi / CIRCLE_CORNERS
    # a regular polygon of n corners has n / 2 sin(2 pi / n) R^2 of area
    outer = radius * math.sqrt(step / math.sin(step))
    return tuple(offset_position((ra, dec), outer, math.degrees(i * step)) for i in range(CIRCLE_CORNERS))


def region_footprint(text: str) -> tuple[Corner, ...]:
    """Return the convex outline of a region: what pairing compares.

    Footprints of the platform are convex. Dithered mosaics (many corners) and pairs of chips (several
    polygons) are not quite: their outline covers more than they do, by the gap between chips and by
    the steps of the edge. The pixels decide in the end.

    Raises
    ------
    ValueError
        As `parse_s_region`; or the region has no area.
    """
    shapes = parse_s_region(text)
    return hull([corner for shape in shapes for corner in shape])


def hull(corners: Sequence[Corner]) -> tuple[Corner, ...]:
    """Return the corners, in order, of the convex hull of points on the sky, degrees.

    Points are projected on the plane that touches the sky at their mean, where great circles are
    straight (gnomonic); Andrew's monotone chain (1979).

    Raises
    ------
    ValueError
        The points have no area, or reach farther than 80 degrees from their mean.
    """
    from astrid_assets.archives.footprints import centre

    middle = centre(corners)
    if max(_distance(middle, c) for c in corners) > 80.0:
        msg = "a region of more than a hemisphere"
        raise ValueError(msg)
    points = sorted({(*_plane(c, middle), c) for c in corners})
    outline = [*_chain(points), *_chain(points[::-1])]
    if len(outline) < 3:
        msg = "a region without area"
        raise ValueError(msg)
    return tuple(corner for *_, corner in outline)


def _chain(points: Sequence[tuple[float, float, Corner]]) -> list[tuple[float, float, Corner]]:
    """Return one half of the hull of sorted points, without its last point."""
    half: list[tuple[float, float, Corner]] = []
    for point in points:
        while len(half) > 1 and _turn(half[-2], half[-1], point) <= 2.0 * _STRAIGHT * math.radians(1.0) ** 2:
            half.pop()
        half.append(point)
    return half[:-1]


def _turn(a: tuple, b: tuple, c: tuple) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _plane(corner: Corner, middle: Corner) -> tuple[float, float]:
    """Return gnomonic coordinates, radians."""
    ra, dec, ra0, dec0 = (math.radians(v) for v in (*corner, *middle))
    cosine = math.sin(dec0) * math.sin(dec) + math.cos(dec0) * math.cos(dec) * math.cos(ra - ra0)
    x = math.cos(dec) * math.sin(ra - ra0)
    y = math.cos(dec0) * math.sin(dec) - math.sin(dec0) * math.cos(dec) * math.cos(ra - ra0)
    return x / cosine, y / cosine


def offset_position(start: Corner, distance: float, angle: float) -> Corner:
    """Return the position at a distance and position angle (north through east) from another; degrees."""
    ra, dec, d, t = (math.radians(v) for v in (*start, distance, angle))
    # by vectors towards the start, north and east: exact at the poles too
    out, north, east = math.cos(d), math.sin(d) * math.cos(t), math.sin(d) * math.sin(t)
    level = out * math.cos(dec) - north * math.sin(dec)
    x = level * math.cos(ra) - east * math.sin(ra)
    y = level * math.sin(ra) + east * math.cos(ra)
    z = out * math.sin(dec) + north * math.cos(dec)
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.atan2(z, math.hypot(x, y)))


def _distance(a: Corner, b: Corner) -> float:
    from astrid_assets.fields import separation

    return separation(*a, *b)
