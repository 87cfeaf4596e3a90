"""The fast source finder against stars whose places are known."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from astrid_assets.errors import ScienceError
from astrid_assets.images import MaskedImage
from astrid_assets.science.centroids import find_centroids
from astrid_assets_tests.science.sky import GAIN, SKY, draw, expose


def field(*, fwhm=2.2, n=120, size=400, seed=1, faintest=3.0):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(5, size - 6, (2, n))
    flux = 10 ** rng.uniform(faintest, 5.0, n)
    model = np.full((size, size), SKY)
    draw(model, x, y, flux, fwhm)
    return MaskedImage(expose(model, rng), gain=GAIN, saturation=60000.0), x, y, flux


def against_truth(found, x, y):
    distance, i = cKDTree(np.c_[x, y]).query(np.c_[found.x, found.y])
    return distance, found.x - x[i], found.y - y[i], i


@pytest.mark.parametrize("fwhm", [1.5, 2.2, 4.0, 8.0])
def test_positions_and_their_errors(fwhm):
    image, x, y, _ = field(fwhm=fwhm)
    found = find_centroids(image)
    found = found[found.error < 0.3]  # the others stand in the light of a neighbour, and say so
    distance, dx, dy, _ = against_truth(found, x, y)
    assert len(found) > 40
    assert np.mean(distance < 1.0) > 0.95
    good = distance < 1.0
    pull = np.r_[dx[good], dy[good]] / np.r_[found.error[good], found.error[good]]
    assert 1.4826 * np.median(np.abs(pull)) < 1.3
    assert np.abs([np.median(dx[good]), np.median(dy[good])]).max() < 0.02


def test_no_bias_with_brightness():
    image, x, y, flux = field(n=400, size=900, seed=3)
    found = find_centroids(image)
    distance, dx, dy, i = against_truth(found, x, y)
    clean = (distance < 1.0) & (found.error < 0.1)
    bright = flux[i] > np.median(flux[i][clean])
    for axis in (dx, dy):
        assert abs(np.median(axis[clean & bright]) - np.median(axis[clean & ~bright])) < 0.02


def test_hot_pixels_columns_and_bad_pixels_are_no_sources():
    image, x, y, _ = field(n=40)
    rng = np.random.default_rng(4)
    data = image.data.copy()
    rows, columns = rng.integers(5, 395, (2, 400))
    data[rows, columns] += 20000.0
    data[:, 200] += 5000.0
    mask = np.zeros(data.shape, bool)
    mask[100:120, 100:120] = True
    data[105:115, 105:115] += 30000.0
    found = find_centroids(image.replace(data=data, mask=mask))
    distance, *_ = against_truth(found, x, y)
    assert len(found) > 15
    assert np.mean(distance < 1.0) > 0.9


def test_sources_come_from_all_over_the_image():
    """A cluster in one corner, brighter than all other stars, does not take all places."""
    rng = np.random.default_rng(6)
    model = np.full((600, 600), SKY)
    draw(model, *rng.uniform(10, 120, (2, 120)), np.full(120, 4e4), 2.2)
    draw(model, *rng.uniform(10, 590, (2, 150)), np.full(150, 8e3), 2.2)
    found = find_centroids(MaskedImage(expose(model, rng), gain=GAIN), limit=80)
    assert len(found) <= 80
    assert np.sum((found.x > 150) | (found.y > 150)) > 40


@pytest.mark.parametrize("shape", [(20, 20), (9, 31), (5, 5), (64, 300)])
def test_blank_images_have_no_sources(shape):
    noise = np.random.default_rng(1).normal(100, 5, shape)
    assert len(find_centroids(MaskedImage(noise))) == 0
    assert len(find_centroids(MaskedImage(np.full(shape, 7.0)))) == 0


def test_image_without_pixels_is_an_error():
    with pytest.raises(ScienceError, match=r"0\.00% of the pixels"):
        find_centroids(MaskedImage(np.full((50, 60), np.nan)))


def test_gaps_do_no_harm():
    image, x, y, _ = field(size=300, n=100)
    data = image.data.copy()
    data[:, :130] = np.nan
    found = find_centroids(image.replace(data=data))
    distance, *_ = against_truth(found, x, y)
    assert len(found) > 20
    assert found.x.min() > 130
    assert np.mean(distance < 1.0) > 0.95
