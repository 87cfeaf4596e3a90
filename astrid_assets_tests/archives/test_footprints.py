"""Footprints against areas and positions known from geometry."""

from __future__ import annotations

import numpy as np
import pytest

from astrid_assets.archives.footprints import (
    centre,
    coverage,
    enclosing_radius,
    polygon_area,
    touches_circle,
)


def box(ra: float, dec: float, width: float, height: float | None = None, angle: float = 0.0) -> list:
    """Return corners (ra, dec) of a rectangle of so many degrees on the tangent plane at a point."""
    height = width if height is None else height
    x = np.array([-1, 1, 1, -1]) * width / 2
    y = np.array([-1, -1, 1, 1]) * height / 2
    turn = np.radians(angle)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    x, y = np.radians(x), np.radians(y)
    ra0, dec0 = np.radians([ra, dec])
    bottom = np.cos(dec0) - y * np.sin(dec0)
    lon = ra0 + np.arctan2(x, bottom)
    lat = np.arctan2(np.sin(dec0) + y * np.cos(dec0), np.hypot(x, bottom))
    return list(zip(np.degrees(lon) % 360, np.degrees(lat), strict=True))


@pytest.mark.parametrize(("ra", "dec"), [(150.0, 2.0), (0.0, -30.0), (359.99, 60.0), (40.0, 89.5)])
def test_half_of_an_image_is_covered_by_one_moved_by_half_its_height(ra: float, dec: float):
    image = box(ra, dec, 0.2)
    moved = box(ra, dec + 0.1, 0.2) if dec < 80 else None
    assert coverage(image, image) == pytest.approx(1.0)
    assert centre(image) == pytest.approx((ra, dec), abs=1e-6)
    if moved:
        assert coverage(image, moved) == pytest.approx(0.5, abs=2e-3)


def test_coverage_is_a_share_of_the_first():
    small, large = box(10, 0, 0.1), box(10, 0, 0.2)
    assert coverage(small, large) == pytest.approx(1.0)
    assert coverage(large, small) == pytest.approx(0.25, rel=1e-4)


def test_a_square_turned_by_45_degrees_covers_an_octagon():
    """Two equal squares at 45 degrees share a regular octagon: 2 sqrt(2) - 2 of the square."""
    assert coverage(box(10, 20, 0.2), box(10, 20, 0.2, angle=45)) == pytest.approx(2 * 2**0.5 - 2, rel=1e-4)


def test_corners_may_run_either_way_around():
    image, other = box(10, 20, 0.2), box(10.05, 20, 0.2)
    expected = coverage(image, other)
    assert coverage(image[::-1], other) == pytest.approx(expected)
    assert coverage(image, other[::-1]) == pytest.approx(expected)


def test_images_apart_or_on_the_other_side_of_the_sky_do_not_overlap():
    assert coverage(box(10, 0, 0.2), box(10.3, 0, 0.2)) == 0
    assert coverage(box(10, 0, 0.2), box(190, 0, 0.2)) == 0


def test_a_footprint_touches_a_circle_at_its_side_its_corner_or_around_it():
    image = box(10, 0, 0.2)
    assert touches_circle(image, 10, 0, 0.001)
    assert touches_circle(image, 10.15, 0, 0.0501)
    assert not touches_circle(image, 10.15, 0, 0.0499)
    assert not touches_circle(image, 10.15, 0.15, 0.0501)
    assert touches_circle(image, 10.15, 0.15, 0.0708)
    assert touches_circle(image, 10, 0, 1.0)
    assert not touches_circle(image, 190, 0, 1.0)


def test_the_area_of_a_line_is_zero():
    assert polygon_area(np.zeros((2, 2))) == 0
    assert polygon_area(np.array([[0, 0], [2, 0], [2, 3], [0, 3]])) == 6


@pytest.mark.parametrize(("ra", "dec"), [(150.0, 2.0), (0.0, -30.0), (40.0, 89.5)])
def test_the_circle_that_holds_images(ra: float, dec: float):
    """Half the diagonal of one about its centre, on the tangent plane; nothing holds nothing."""
    half = np.degrees(np.arctan(np.radians(np.hypot(0.2, 0.1))))
    image = box(ra, dec, 0.4, 0.2)
    assert enclosing_radius(ra, dec, [image]) == pytest.approx(half, rel=1e-6)
    assert enclosing_radius(ra, dec, [image, box(ra, dec, 0.1)]) == pytest.approx(half, rel=1e-6)
    assert enclosing_radius(ra, dec, []) == 0.0


def corners(*points: tuple[float, float]) -> list:
    """Return positions so many degrees east and north of (10, 20) on the tangent plane."""
    x, y = np.radians(np.array(points, float)).T
    bottom = np.cos(np.radians(20)) - y * np.sin(np.radians(20))
    lon = np.radians(10) + np.arctan2(x, bottom)
    lat = np.arctan2(np.sin(np.radians(20)) + y * np.cos(np.radians(20)), np.hypot(x, bottom))
    return list(zip(np.degrees(lon), np.degrees(lat), strict=True))


ELL = ((0, 0), (0.2, 0), (0.2, 0.1), (0.1, 0.1), (0.1, 0.2), (0, 0.2))
"""Three of four squares: as the outline of chips of which one is missing."""


def test_a_general_quadrilateral():
    """A trapezium with sides of 0.2 and 0.1 deg covers three quarters of the square around it."""
    square, trapezium = ((0, 0), (0.2, 0), (0.2, 0.2), (0, 0.2)), ((0, 0), (0.2, 0), (0.15, 0.2), (0.05, 0.2))
    assert coverage(corners(*square), corners(*trapezium)) == pytest.approx(0.75, rel=1e-4)
    assert coverage(corners(*trapezium), corners(*square)) == pytest.approx(1.0)


@pytest.mark.parametrize("turn", range(6))
@pytest.mark.parametrize("step", [1, -1])
def test_an_outline_that_is_not_convex(turn: int, step: int):
    """Whichever corner comes first, and either way around."""
    ell = corners(*(ELL[turn:] + ELL[:turn])[::step])
    square, missing = (
        corners((0, 0), (0.2, 0), (0.2, 0.2), (0, 0.2)),
        corners((0.1, 0.1), (0.2, 0.1), (0.2, 0.2), (0.1, 0.2)),
    )
    assert coverage(square, ell) == pytest.approx(0.75, rel=1e-4)
    assert coverage(ell, square) == pytest.approx(1.0)
    assert coverage(ell, ell) == pytest.approx(1.0)
    assert coverage(missing, ell) == pytest.approx(0.0, abs=1e-9)
    inside, outside = corners((0.05, 0.15), (0.15, 0.15))
    assert touches_circle(ell, *inside, 0.001)
    assert not touches_circle(ell, *outside, 0.001)


def test_a_closed_outline_repeats_its_first_corner():
    square = corners((0, 0), (0.2, 0), (0.2, 0.2), (0, 0.2))
    half = corners((0, 0), (0.1, 0), (0.1, 0.2), (0, 0.2), (0, 0))
    assert coverage(square, half) == pytest.approx(0.5, rel=1e-4)
    assert touches_circle(half, *corners((0.05, 0.05))[0], 0.001)
