"""Noise after a resampling: variance by phase and correlation, against drawn noise."""

import numpy as np
import pytest
from scipy import ndimage

from astrid_assets.images import MaskedImage
from astrid_assets.science.noise import correlation_of
from astrid_assets.science.warp import PixelMap, map_pixels, warp
from astrid_assets_tests.science.sky import tan_wcs

SIDE = 1500
EDGE = 8


@pytest.fixture(scope="module")
def white():
    return np.random.default_rng(11).standard_normal((SIDE, SIDE)).astype(np.float32)


@pytest.fixture(scope="module")
def correlated(white):
    """Noise of unit variance and its true correlation."""
    kernel = np.array([[0.1, 0.3, 0.1], [0.25, 1.0, 0.25], [0.1, 0.3, 0.1]])
    kernel /= np.sqrt((kernel**2).sum())
    padded = np.pad(kernel, 4)
    correlation = ndimage.correlate(padded, kernel, mode="constant")
    return ndimage.convolve(white, kernel.astype(np.float32)), correlation


def _measured_correlation(data, radius=3):
    """The mean product at each lag over the mean square, without assumptions about the pixels."""
    ny, nx = data.shape
    result = np.zeros((2 * radius + 1, 2 * radius + 1))
    core = data[radius : ny - radius, radius : nx - radius]
    for i in range(2 * radius + 1):
        for j in range(2 * radius + 1):
            moved = data[i : i + core.shape[0], j : j + core.shape[1]]
            result[i, j] = np.mean(core * moved)
    return result / result[radius, radius]


def _assert_noise(warped, pixels, *, quartiles=True):
    inner = (slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    data, variance = warped.data[inner].astype(float), warped.variance[inner]
    if quartiles:
        for position in (pixels.x[inner], pixels.y[inner]):
            quartile = np.floor(position % 1.0 * 4).astype(int)
            for q in range(4):
                of = quartile == q
                assert (data[of] ** 2).mean() / variance[of].mean() == pytest.approx(1, abs=0.01)
    assert (data**2).mean() / variance.mean() == pytest.approx(1, abs=0.01)
    expected = warped.noise_correlation
    middle = expected.shape[0] // 2
    expected = expected[middle - 3 : middle + 4, middle - 3 : middle + 4]
    assert np.abs(_measured_correlation(data) - expected).max() < 0.01


def _map(rotation=0.7, scale=1.013):
    output, source = (
        tan_wcs((SIDE - 60, SIDE - 60), scale=1.01 * scale),
        tan_wcs((SIDE, SIDE), rotation=rotation),
    )
    shape = (int((SIDE - 60) / scale), int((SIDE - 60) / scale))
    return map_pixels(output, shape, source)


def test_white_noise(white):
    pixels = _map()
    image = MaskedImage(white, variance=np.ones(white.shape))
    _assert_noise(warp(image, pixels), pixels)


def test_correlated_noise(correlated):
    noise, correlation = correlated
    pixels = _map()
    image = MaskedImage(noise, variance=np.ones(noise.shape), noise_correlation=correlation)
    _assert_noise(warp(image, pixels), pixels)


def test_variance_follows_that_of_the_input(white):
    """Noise whose strength changes from pixel to pixel: the weights are squared pixel by pixel."""
    rng = np.random.default_rng(4)
    strength = rng.uniform(0.5, 2.0, white.shape).astype(np.float32)
    strength[:, ::2] *= 2
    y, x = np.mgrid[20 : SIDE - 20, 20 : SIDE - 20].astype(float)
    warped = warp(
        MaskedImage(white * strength, variance=strength**2), PixelMap(x + 0.3, y - 0.4, np.ones_like(x))
    )
    pull = warped.data / np.sqrt(warped.variance)
    for columns in (slice(0, None, 2), slice(1, None, 2)):
        assert pull[:, columns].var() == pytest.approx(1, abs=0.01)
    rank = np.argsort(warped.variance, axis=None)
    for part in np.array_split(rank, 4):
        assert pull.ravel()[part].var() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("phase", [(0.0, 0.0), (0.25, 0.5), (0.5, 0.5), (0.1, 0.9)])
def test_noise_of_one_phase(white, phase):
    y, x = np.mgrid[20 : SIDE - 20, 20 : SIDE - 20].astype(float)
    pixels = PixelMap(x + phase[0], y + phase[1], np.ones_like(x))
    warped = warp(MaskedImage(white, variance=np.ones(white.shape)), pixels)
    if phase == (0.0, 0.0):
        assert warped.noise_correlation is None
        assert warped.variance == pytest.approx(1.0, abs=1e-3)
    else:
        _assert_noise(warped, pixels, quartiles=False)


@pytest.mark.parametrize("given", ["white", "correlated"])
@pytest.mark.parametrize(("scale", "rotation"), [(1.7, 33.0), (2.4, 0.7)])
def test_noise_of_averages(white, correlated, given, scale, rotation):
    noise, correlation = (white, None) if given == "white" else correlated
    n = int(0.7 * SIDE / scale)
    output, source = tan_wcs((n, n), scale=scale), tan_wcs((SIDE, SIDE), scale=1.0, rotation=rotation)
    pixels = map_pixels(output, (n, n), source)
    image = MaskedImage(noise, variance=np.ones(noise.shape), noise_correlation=correlation)
    warped = warp(image, pixels)
    data = warped.data[EDGE:-EDGE, EDGE:-EDGE].astype(float)
    error = 4.0 * np.sqrt(2.0 / data.size) + 0.002
    assert (data**2).mean() / np.nanmean(warped.variance) == pytest.approx(1, abs=max(0.01, error))
    middle = warped.noise_correlation.shape[0] // 2
    expected = warped.noise_correlation[middle - 3 : middle + 4, middle - 3 : middle + 4]
    assert np.abs(_measured_correlation(data) - expected).max() < 0.01


def test_correlation_is_that_of_a_measurement(white):
    pixels = _map(rotation=20.0)
    warped = warp(MaskedImage(white, variance=np.ones(white.shape)), pixels)
    data = warped.data[400:1000, 400:1000]
    measured = correlation_of(data, np.ones(data.shape, bool), np.ones(data.shape, np.float32))
    assert np.abs(measured - warped.noise_correlation).max() < 0.02
