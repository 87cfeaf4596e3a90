"""Background and noise against known planes and kernels."""

import numpy as np
import pytest
from scipy.ndimage import convolve

from astrid_assets.errors import ScienceError
from astrid_assets.science.background import estimate_background, find_source_pixels, robust_std
from astrid_assets.science.noise import (
    CORRELATION_RADIUS,
    correlation_of,
    power_spectrum,
    variance_model,
)
from astrid_assets_tests.science.sky import draw


def test_sloping_sky_is_recovered_below_stars():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:400, :500]
    sky = 150 + 0.02 * x - 0.01 * y
    image = sky + rng.normal(0, 5, sky.shape)
    draw(image, rng.uniform(0, 500, 80), rng.uniform(0, 400, 80), 10 ** rng.uniform(2.5, 4.5, 80), 2.5)
    background = estimate_background(image.astype(np.float32), np.zeros(sky.shape, bool))
    assert abs(np.median(background.level - sky)) < 0.02 * 5
    assert np.abs(background.level - sky).max() < 0.4 * 5
    assert background.median_rms == pytest.approx(5, rel=0.03)


def test_nothing_usable_is_an_error():
    with pytest.raises(ScienceError, match="usable"):
        estimate_background(np.zeros((50, 50), np.float32), np.ones((50, 50), bool))


def test_robust_std_of_nothing_is_nan():
    assert np.isnan(robust_std(np.array([np.nan])))


def test_correlation_of_smoothed_noise_is_the_autocorrelation_of_the_kernel():
    kernel = np.array([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])
    noise = convolve(np.random.default_rng(5).normal(size=(600, 600)), kernel, mode="wrap")
    noise /= noise.std()
    measured = correlation_of(noise, np.ones(noise.shape, bool), np.ones(noise.shape))
    middle = CORRELATION_RADIUS
    full = convolve(np.pad(kernel, middle - 1), kernel, mode="constant")
    assert np.abs(measured - full / full[middle, middle]).max() < 0.01


def test_white_noise_has_no_correlation():
    noise = np.random.default_rng(6).normal(size=(400, 400))
    assert correlation_of(noise, np.ones(noise.shape, bool), np.ones(noise.shape)) is None
    assert power_spectrum(None, (64, 64)) == 1.0


def test_power_spectrum_has_unit_mean():
    correlation = np.zeros((11, 11))
    correlation[5, 5], correlation[5, 4], correlation[5, 6] = 1, 0.3, 0.3
    power = power_spectrum(correlation, (64, 65))
    weights = np.ones(33)
    weights[1:] = 2
    assert (power * weights).sum() / (64 * 65) == pytest.approx(1, abs=1e-3)


def test_variance_is_sky_plus_photons():
    rng = np.random.default_rng(8)
    truth = np.zeros((200, 200))
    draw(truth, [100.0], [100.0], [50000.0], 6.0)
    data = rng.poisson((truth + 150) * 6.2) / 6.2
    background = estimate_background(data.astype(np.float32), np.zeros(data.shape, bool), box=32)
    variance = variance_model(data - background.level, background, 6.2)
    expected = (truth + 150) / 6.2
    core = truth > 200
    assert np.median(variance[core] / expected[core]) == pytest.approx(1, rel=0.06)


def test_the_pixels_of_stars_are_found_with_their_wings():
    data = np.random.default_rng(9).normal(0, 1, (200, 200)).astype(np.float32)
    truth = np.zeros(data.shape)
    draw(truth, [60.0], [80.0], [500.0], 3.0)
    sources = find_source_pixels(
        data + truth.astype(np.float32), np.ones_like(data), np.zeros(data.shape, bool)
    )
    assert sources[truth > 0.5].all()
    assert sources.mean() < 0.1
