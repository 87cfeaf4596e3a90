"""Efficiency curves against drawn truth."""

from __future__ import annotations

import numpy as np
import pytest

from astrid_assets.science.efficiency import efficiency, fit_efficiency, fleming

TRUTH = (0.97, 20.4, 0.25)


def drawn(seed, *, n=600, exposures=12, scatter=0.0, truth=TRUTH):
    """Magnitudes, whether found, and exposures; each exposure has its own depth."""
    rng = np.random.default_rng(seed)
    magnitude, exposure = rng.uniform(17, 22, n), rng.integers(exposures, size=n)
    depth = rng.normal(0, scatter, exposures)[exposure]
    found = rng.random(n) < efficiency(magnitude - depth, *truth)
    return magnitude, found, exposure


def test_the_curve_has_its_parameters():
    assert efficiency(20.4, *TRUTH) == pytest.approx(0.97 / 2)
    assert efficiency(np.array([10.0, 40.0]), *TRUTH) == pytest.approx([0.97, 0.0])
    assert fleming(20.4, 0.97, 20.4, 2.0) == pytest.approx(0.97 / 2)
    assert fleming(np.array([-1e4, 1e4]), 0.97, 20.4, 2.0) == pytest.approx([0.97, 0.0], abs=1e-6)


def test_a_large_sample_gives_the_truth_back():
    fit = fit_efficiency(*drawn(1, n=20_000, exposures=20))
    assert fit.epsilon0 == pytest.approx(0.97, abs=0.005)
    assert fit.m50 == pytest.approx(20.4, abs=0.02)
    assert fit.width == pytest.approx(0.25, abs=0.02)
    assert fit.m90 == pytest.approx(20.4 + 0.25 * np.log(0.97 / 0.9 - 1), abs=0.05)
    assert fit.m50_fleming == pytest.approx(20.4, abs=0.05)
    assert (fit.n_sources, fit.n_exposures) == (20_000, 20)


def test_intervals_cover_the_truth_as_often_as_they_should():
    fits = [fit_efficiency(*drawn(seed, scatter=0.15), n_bootstrap=40, seed=seed) for seed in range(40)]
    off = np.array([(f.m50 - 20.4) / f.m50_error for f in fits])
    # 68 percent, with a spread of 7 percent for forty trials
    assert 0.5 <= np.mean(np.abs(off) < 1) <= 0.88
    assert np.mean(np.abs(off) < 3) >= 0.95
    # errors that ignore what exposures share would be too small
    independent = [
        fit_efficiency(m, f, np.arange(len(m)), n_bootstrap=20) for m, f, _ in [drawn(0, scatter=0.15)]
    ]
    assert np.mean([f.m50_error for f in fits]) > independent[0].m50_error


def test_efficiency_in_significance_is_the_same_fit():
    rng = np.random.default_rng(3)
    snr = 10 ** rng.uniform(0, 2, 5000)
    # Gaussian noise of unit width about a threshold of 5
    found = snr + rng.normal(size=5000) > 5.0
    fit = fit_efficiency(-2.5 * np.log10(snr), found, np.arange(5000) % 10, n_bootstrap=20)
    assert 10 ** (-0.4 * fit.m50) == pytest.approx(5.0, abs=0.15)
    assert fit.epsilon0 > 0.99


def test_the_same_seed_gives_the_same_errors():
    sample = drawn(2)
    assert fit_efficiency(*sample, n_bootstrap=10, seed="a") == fit_efficiency(
        *sample, n_bootstrap=10, seed="a"
    )


def test_too_little_gives_no_fit():
    magnitude, found, exposure = drawn(4, n=20)
    assert fit_efficiency(magnitude, found, exposure) is None
    magnitude, _, exposure = drawn(4)
    assert fit_efficiency(magnitude, np.ones(600, bool), exposure) is None
    one = fit_efficiency(*drawn(4, exposures=1))
    assert np.isnan(one.m50_error)
    low = fit_efficiency(*drawn(5, n=5000, truth=(0.6, 20.4, 0.25)), n_bootstrap=10)
    assert np.isnan(low.m90)
    assert low.epsilon0 == pytest.approx(0.6, abs=0.02)
