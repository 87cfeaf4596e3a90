"""Regions of archives: numbers as written, shapes with the right area, everywhere on the sky."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from astrid_assets.archives.footprints import coverage, touches_circle
from astrid_assets.archives.s_region import circle, hull, offset_position, parse_s_region, region_footprint

SQUARE = ((10.0, 20.0), (11.0, 20.0), (11.0, 21.0), (10.0, 21.0))


def sky(corners):
    """Return corners as coordinates."""
    return SkyCoord(*np.array(corners).T, unit="deg")


def solid_angle(corners):
    """Return the area of a convex polygon on the sphere in square degrees: Girard's theorem."""
    points = sky(corners)
    before, after = np.roll(points, 1), np.roll(points, -1)
    angles = (points.position_angle(before) - points.position_angle(after)).wrap_at(360 * u.deg).rad
    inner = np.minimum(angles, 2 * np.pi - angles)
    return math.degrees(math.degrees(inner.sum() - (len(corners) - 2) * np.pi))


@pytest.mark.parametrize("frame", ["ICRS", "J2000", "FK5", "GSC1 ", "UNKNOWNFRAME", ""])
def test_a_polygon_is_read_as_written(frame):
    """The frame changes nothing, a repeated first corner is left out, 360 is 0."""
    text = f"POLYGON {frame} 10.0 20.0 11.0 20.0 11.0 21.0 10.0 21.0 10.0 20.0"
    assert parse_s_region(text) == [SQUARE]
    assert parse_s_region("polygon 360 1 1 1 1 2")[0][0] == (0.0, 1.0)
    assert parse_s_region("POLYGON -1 1 1 1 1 2")[0][0] == (359.0, 1.0)


def test_several_shapes():
    """Two chips are two polygons; parentheses of a union mean nothing."""
    second = "POLYGON ICRS 12 20 13 20 13 21"
    text = f"POLYGON ICRS 10 20 11 20 11 21 10 21 {second}"
    assert parse_s_region(text) == [SQUARE, ((12.0, 20.0), (13.0, 20.0), (13.0, 21.0))]
    assert parse_s_region(f"UNION ICRS ({text})") == parse_s_region(text)
    outline = region_footprint(text)
    assert set(outline) >= {(10.0, 20.0), (13.0, 20.0), (13.0, 21.0), (10.0, 21.0)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "BOX ICRS 1 2 3 4",
        "POLYGON ICRS 1 2 3",
        "POLYGON ICRS 1 2 3 4",
        "POLYGON GALACTIC 1 2 3 4 5 6",
        "POLYGON ICRS 1 2 3 nan 5 6",
        "POLYGON ICRS 1 2 3 91 5 6",
        "CIRCLE ICRS 1 2",
        "CIRCLE ICRS 1 2 0",
        "CIRCLE ICRS 1 2 3 4",
        "10 20 30",
    ],
)
def test_what_is_no_region_is_refused(text):
    """No frame that is not equatorial, no shape that is none."""
    with pytest.raises(ValueError, match=r"."):
        parse_s_region(text)


def test_no_area():
    """Three corners on a line, and more than a hemisphere."""
    with pytest.raises(ValueError, match="without area"):
        region_footprint("POLYGON ICRS 1 0 2 0 3 0")
    with pytest.raises(ValueError, match="hemisphere"):
        region_footprint("POLYGON ICRS 0 0 120 0 240 0")


@pytest.mark.parametrize(
    ("ra", "dec"), [(210.9, 54.5), (0.01, -30.0), (359.99, 0.0), (77.0, 89.9), (5.0, -90.0)]
)
@pytest.mark.parametrize("radius", [0.002, 0.625, 5.0])
def test_a_circle_has_its_area_everywhere(ra, dec, radius):
    """All corners at one distance from the centre, and the area of the circle, at poles and seam."""
    corners = circle(ra, dec, radius)
    distance = sky(corners).separation(SkyCoord(ra, dec, unit="deg")).deg
    np.testing.assert_allclose(distance, radius, rtol=0.006, atol=1e-5)
    assert np.ptp(distance) < 1e-5
    truth = 2 * math.pi * (1 - math.cos(math.radians(radius))) * math.degrees(1.0) ** 2
    if radius > 0.1:  # below, Girard's theorem loses its digits
        assert solid_angle(corners) == pytest.approx(truth, rel=1e-3)
    assert all(0 <= a < 360 and abs(d) <= 90 for a, d in corners)


@pytest.mark.parametrize(
    ("ra", "dec"), [(180.0, 0.0), (0.0, 0.0), (0.0, 89.99), (123.0, -89.95), (300.0, 60.0)]
)
def test_hull_of_points_on_the_sky(ra, dec):
    """The corners of a square, whatever lies within, in order; across the seam and around the poles."""
    square = [offset_position((ra, dec), 0.1, angle) for angle in (45, 135, 225, 315)]
    rng = np.random.default_rng(4)
    inside = [
        offset_position((ra, dec), d, a)
        for d, a in zip(rng.uniform(0, 0.069, 40), rng.uniform(0, 360, 40), strict=True)
    ]
    points = [*square, *inside]
    rng.shuffle(points)
    outline = hull([tuple(p) for p in points])
    assert {(round(a, 9), round(d, 9)) for a, d in outline} == {(round(a, 9), round(d, 9)) for a, d in square}
    assert coverage(outline, square) == pytest.approx(1.0)
    assert solid_angle(outline) == pytest.approx(0.02, rel=2e-2)
    assert touches_circle(outline, ra, dec, 1e-6)


def test_offset_position_agrees_with_astropy():
    """The same place as astropy's spherical offset."""
    rng = np.random.default_rng(5)
    limits = ((0, 360), (-90, 90), (0, 6), (0, 360))
    for ra, dec, distance, angle in rng.uniform(*np.transpose(limits), (30, 4)):
        theirs = SkyCoord(ra, dec, unit="deg").directional_offset_by(angle * u.deg, distance * u.deg)
        ours = SkyCoord(*offset_position((ra, dec), distance, angle), unit="deg")
        assert ours.separation(theirs).deg < 1e-9


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["caom.json", "advSearch.json", "advSearchPos.json"])
def test_every_recorded_region(real_data, name):
    """Every region that MAST sent is read; its outline holds its corners and the recorded position."""
    for row in json.loads((real_data / "http/mast" / name).read_bytes())["data"]:
        text = row["s_region"]
        numbers = [float(w) for w in text.split() if w.replace(".", "").replace("-", "").isdigit()]
        shapes = parse_s_region(text)
        assert len(shapes) == 1
        if text.startswith("POLYGON"):
            assert [v for c in shapes[0] for v in c] == numbers[:-2]
        outline = region_footprint(text)
        assert set(outline) <= set(shapes[0])
        assert touches_circle(outline, row["s_ra"], row["s_dec"], 1e-4)
