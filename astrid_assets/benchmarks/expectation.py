"""How many sources a perfect subtraction detects, its peak search included."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from astrid_assets.benchmarks.scenes import SCENARIOS, optics_stamp, sky_variances

__all__ = ["Expectation", "expectation", "position_error", "score_correlation"]

SIDE = 128
"""Side of the grid on which the optics are sampled, pixels."""

PHASES = 8
"""Sub-pixel places of a source along each axis."""

HALF = 3
"""Half width of the stamps of simulated score around a source, pixels: they hold every maximum that the
search radius allows and its neighbours."""

LEVELS = np.linspace(2.0, 9.0, 29)
"""Signal-to-noise ratios of the table; nothing is found below the first one, everything beyond the last."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """The chance that a source of a true signal-to-noise ratio is detected."""

    snr: np.ndarray
    """Ascending, ``(n,)``."""

    probability: np.ndarray
    """Of at least one local maximum beyond the threshold within the search radius, ``(n,)``."""

    def at(self, snr: np.ndarray) -> np.ndarray:
        """Return the chance at some signal-to-noise ratios."""
        return np.interp(snr, self.snr, self.probability)


def difference_power(name: str) -> np.ndarray:
    """Return |P_D|^2 F_D^2 of the true optics, ``(SIDE, SIDE)``: Zackay et al. 2016, eqs 13 and 14."""
    scenario = SCENARIOS[name]
    p_n, p_r = (
        np.abs(np.fft.fft2(optics_stamp(o, SIDE))) ** 2 for o in (scenario.science, scenario.reference)
    )
    v_n, v_r = sky_variances(scenario)
    return p_n * p_r / np.maximum(v_n * p_r + v_r * p_n, 1e-12 * v_n)


def score_correlation(name: str) -> np.ndarray:
    """Return the autocorrelation of the noise of the score, which is also the shape of a source in it.

    Parameters
    ----------
    name
        Of a scenario.

    Returns
    -------
    numpy.ndarray
        ``(SIDE, SIDE)``, 1 at zero lag, which is the first pixel.
    """
    image = np.fft.ifft2(difference_power(name)).real
    return image / image[0, 0]


def position_error(name: str) -> float:
    """Return the smallest error of a position along an axis for a signal-to-noise ratio of 1, pixels.

    The Cramer-Rao bound ``1 / sqrt(<k_x^2>)``, the mean weighted with |P_D|^2; of both axes.
    """
    power = difference_power(name)
    k = 2 * np.pi * np.fft.fftfreq(SIDE)
    mean = [(power * k2).sum() / power.sum() for k2 in (k[None, :] ** 2, k[:, None] ** 2)]
    return float(np.sqrt(np.mean([1.0 / m for m in mean])))


@lru_cache(maxsize=8)
def expectation(
    name: str, *, threshold: float = 5.0, radius: float = 2.0, trials: int = 40_000, seed: int = 5
) -> Expectation:
    """Return how often a source is found, by simulating its score at random places of the pixels.

    Parameters
    ----------
    name
        Of a scenario; the optics in the middle of its image count.

    threshold
        Significance of a detection.

    radius
        Largest distance of a detection from the truth, pixels.

    trials
        Simulated sources at each level.

    seed
        Of the noise.
    """
    rng = np.random.default_rng(seed)
    power = difference_power(name)
    noise = _noise_stamps(rng, power, trials)
    phase = rng.integers(0, PHASES, (2, trials))
    dx, dy = (phase + 0.5) / PHASES - 0.5
    signal = _source_stamps(power)[phase[1], phase[0]]
    near = _near(dx, dy, radius)
    found = [_found(noise + level * signal, near, threshold) for level in LEVELS]
    return Expectation(LEVELS, np.array(found))


def _noise_stamps(rng: np.random.Generator, power: np.ndarray, trials: int) -> np.ndarray:
    """Return stamps of unit noise with the spectrum of a score, ``(trials, n, n)``, some pixels apart."""
    size, step = 2 * HALF + 1, 2 * HALF + 5
    per_field = (SIDE // step) ** 2
    stamps = []
    root = np.sqrt(power / power.mean())
    for _ in range(-(-trials // per_field)):
        field = np.fft.ifft2(np.fft.fft2(rng.normal(size=power.shape)) * root).real
        views = np.lib.stride_tricks.sliding_window_view(field, (size, size))[::step, ::step]
        stamps.append(views[: SIDE // step, : SIDE // step].reshape(-1, size, size).astype(np.float32))
    return np.concatenate(stamps)[:trials]


def _source_stamps(power: np.ndarray) -> np.ndarray:
    """Return the score of a source of unit signal-to-noise at each phase ``(y, x, n, n)``."""
    offsets = (np.arange(PHASES) + 0.5) / PHASES - 0.5
    frequency = np.fft.fftfreq(SIDE)
    size = 2 * HALF + 1
    stamps = np.empty((PHASES, PHASES, size, size), np.float32)
    for i, dy in enumerate(offsets):
        for j, dx in enumerate(offsets):
            ramp = np.exp(-2j * np.pi * (frequency[:, None] * dy + frequency[None, :] * dx))
            image = np.fft.ifft2(power * ramp).real / power.mean()
            stamps[i, j] = np.roll(image, (HALF, HALF), axis=(0, 1))[:size, :size]
    return stamps


def _near(dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """Return the pixels inside the outer ones that lie within the radius of each source."""
    grid = np.arange(-HALF + 1, HALF)
    away = (grid[None, None, :] - dx[:, None, None]) ** 2 + (grid[None, :, None] - dy[:, None, None]) ** 2
    return away <= radius**2


def _found(score: np.ndarray, near: np.ndarray, threshold: float) -> float:
    """Return the share of stamps with a local maximum beyond the threshold near the source."""
    inner = score[:, 1:-1, 1:-1]
    peak = near & (inner >= threshold)
    hit = peak.any(axis=(1, 2))
    score, inner, peak = score[hit], inner[hit], peak[hit]
    ny, nx = inner.shape[1:]
    for y in range(3):
        for x in range(3):
            peak &= inner >= score[:, y : y + ny, x : x + nx]
    return float(peak.any(axis=(1, 2)).sum() / len(hit))
