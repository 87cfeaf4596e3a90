"""The expected share of detections against a simulation that draws whole images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from astrid_assets.benchmarks.expectation import (
    SIDE,
    difference_power,
    expectation,
    position_error,
    score_correlation,
)


def brute_force(name: str, snr: float, fields: int = 40) -> tuple[float, int]:
    """Return the share found in images of white noise and P_D, filtered with P_D; and how many there were."""
    rng = np.random.default_rng(17)
    psf = np.sqrt(difference_power(name))
    k = np.fft.fftfreq(SIDE)
    size = np.sqrt(np.mean(psf**2))  # root of the sum of the squares of P_D
    found = total = 0
    for _ in range(fields):
        corner = np.stack(np.meshgrid(*[np.arange(8, SIDE - 7, 16)] * 2), axis=-1).reshape(-1, 2)
        x, y = (corner + rng.uniform(-0.5, 0.5, corner.shape)).T
        ramps = np.exp(-2j * np.pi * k[:, None] * y), np.exp(-2j * np.pi * k[:, None] * x)
        sources = psf * (ramps[0] @ ramps[1].T)
        image = np.fft.ifft2(sources).real * snr / size + rng.normal(size=(SIDE, SIDE))
        score = np.fft.ifft2(np.fft.fft2(image) * psf).real / size
        peaks = (score >= 5.0) & (score == ndimage.maximum_filter(score, 3, mode="wrap"))
        py, px = np.nonzero(peaks)
        away = np.hypot(px[None] - x[:, None], py[None] - y[:, None])
        found += int((away <= 2.0).any(axis=1).sum())
        total += len(x)
    return found / total, total


@pytest.mark.parametrize("snr", [4.0, 5.0, 6.5])
def test_agrees_with_whole_images(snr):
    """To three standard errors of both simulations."""
    share, n = brute_force("ztf", snr)
    expected = float(expectation("ztf").at(snr))
    error = np.sqrt(expected * (1 - expected) * (1 / n + 1 / 40_000))
    assert abs(share - expected) < 3 * error


def test_rises_from_nothing_to_everything():
    table = expectation("ideal", trials=4000)
    assert table.at(0.0) < 0.01
    assert table.at(40.0) > 0.99
    assert (np.diff(table.probability) > -0.01).all()


def test_the_score_of_a_source_is_the_autocorrelation_of_its_noise():
    correlation = score_correlation("ideal")
    assert correlation[0, 0] == 1.0
    # circular optics
    assert correlation[0, 1] == pytest.approx(correlation[1, 0], abs=1e-6)
    assert correlation[0, 1] == pytest.approx(correlation[0, -1], abs=1e-9)


def test_the_position_error_is_that_of_the_slopes_of_the_psf():
    """Cramer-Rao in the image: 1 over the root of the sum of the squared slopes of P_D."""
    psf = np.fft.ifft2(np.sqrt(difference_power("ideal"))).real
    fine = 0.02
    k = np.fft.fftfreq(SIDE)
    moved = [
        np.fft.ifft2(np.fft.fft2(psf) * np.exp(-2j * np.pi * k[None] * s * fine)).real for s in (0.5, -0.5)
    ]
    slope = (moved[0] - moved[1]) / fine
    expected = np.sqrt((psf**2).sum() / (slope**2).sum())
    assert position_error("ideal") == pytest.approx(expected, rel=0.01)
