"""Pictures: the right way up, the right grey, with a scale and a compass that are right."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from astrid_assets.reports.pictures import grey, north, scale_bar, signed, stamp_strip
from astrid_assets_tests.science.sky import tan_wcs


def pixels(src: str) -> np.ndarray:
    """Return the grey values of a data URI, top row first."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(src.split(",")[1]))), float)


def test_a_star_is_where_it_is():
    rng = np.random.default_rng(1)
    data = rng.normal(100.0, 1.0, (60, 80)).astype(np.float32)
    data[8:12, 60:64] += 500.0
    shown = pixels(grey(data, np.ones(data.shape, bool), width=80).src)
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert abs(column - 61.5) < 3
    assert abs((59 - row) - 9.5) < 3


def test_binning_keeps_the_scale_of_the_image():
    data = np.zeros((101, 205), np.float32)
    picture = grey(data, np.ones(data.shape, bool), width=60)
    assert (picture.nx, picture.ny) == (204, 100)
    assert pixels(picture.src).shape == (25, 51)


def test_nothing_is_grey_and_untrusted_is_dark():
    data = np.zeros((40, 40), np.float32)
    good = np.ones(data.shape, bool)
    good[:, 20:] = False
    shown = pixels(signed(data, good, width=40, reach=5.0).src)
    assert shown[:, :16].mean() == pytest.approx(127.5, abs=3)
    assert shown[:, 24:].mean() < 60


def test_a_strip_shows_three_stamps():
    rng = np.random.default_rng(2)
    stamps = rng.normal(0, 1, (3, 21, 21))
    stamps[2, 10, 10] = -30.0
    shown = pixels(stamp_strip(stamps))
    assert shown.shape == (21, 3 * 21 + 2 * 3)
    assert shown[10, 2 * 24 + 10] == 0


def test_a_stamp_without_a_pixel_is_dark():
    shown = pixels(stamp_strip(np.full((3, 9, 9), np.nan)))
    assert shown.max() < 60


@pytest.mark.parametrize(
    ("nx", "scale", "length", "label"),
    [(1024, 1.01, 2 * 60 / 1.01, "2 arcmin"), (400, 0.05, 100.0, "5 arcsec"), (300, None, 50.0, "50 px")],
)
def test_scale_bars_are_round(nx, scale, length, label):
    bar = scale_bar(nx, scale)
    assert (bar.length, bar.label) == (pytest.approx(length), label)


def test_the_compass_follows_the_corners():
    wcs = tan_wcs((100, 100))
    x, y = [-0.5, 99.5, 99.5, -0.5], [-0.5, -0.5, 99.5, 99.5]
    corners = np.stack(wcs.all_pix2world(x, y, 0), axis=1).ravel().tolist()
    up, east = np.split(np.array(north({"footprint": corners})), 2)
    # where a step to the north and to the east leads, y downwards
    ra, dec = wcs.all_pix2world(50, 50, 0)
    for direction, (dra, ddec) in ((up, (0.0, 1e-3)), (east, (1e-3, 0.0))):
        px, py = wcs.all_world2pix(ra + dra / np.cos(np.radians(dec)), dec + ddec, 0)
        step = np.array([px - 50, -(py - 50)])
        assert direction == pytest.approx(step / np.hypot(*step), abs=0.01)


def test_no_corners_no_compass():
    assert north({"footprint": None}) is None
