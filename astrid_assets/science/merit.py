"""One number for what a difference image is worth: the figure of merit of the RAPID pipeline of Roman.

An effective limiting magnitude, the weighted mean of five ("RAPID Pipeline Evaluation", Caltech/IPAC):
that of the threshold which meets a tolerated rate of false positives, those at which 80 and 20 % of the
point sources are found, the 5 sigma limit on blank sky, and that of 10 % photometric precision. RAPID
measures them on injected sources; here they follow from the planes of the difference, so that every
difference has them at once, and two methods can be compared on the same pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from scipy.special import ndtr

from astrid_assets.images.pairs import Difference
from astrid_assets.science.background import robust_std

__all__ = ["WEIGHTS", "false_positive_threshold", "figure_of_merit"]

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"m_threshold": 5.0, "m_80": 4.0, "m_20": 3.0, "m_5sigma": 2.0, "m_ph10": 1.0}
)
"""Weights of the terms; RAPID gives their order, not their values."""

TOLERATED_RATE = 0.5
"""False positives of one sign per million pixels that are tolerated; white noise has 0.2 at 5 sigma."""

LOWEST_PEAK = 3.0
"""Significance of the faintest extrema that are counted."""

ANCHOR_PEAKS = 20
"""Number of extrema from which the rate is extrapolated where less than one is tolerated."""

SIDE_LOBE = 0.1
"""Share of a positive peak nearby that the side lobes of a matched filter reach."""

SIDE_LOBE_REACH = 10
"""How far side lobes reach, pixels."""

TRIMMED = 0.001
"""Share of the most extreme pixels that do not count for the scatter: real transients."""

SAMPLE = 200_000
"""Enough pixels for the distribution of the errors."""

QUANTILES = 400
"""Number of values that stand for the distribution of the errors."""


def figure_of_merit(
    difference: Difference,
    *,
    tolerated_rate: float = TOLERATED_RATE,
    weights: Mapping[str, float] = WEIGHTS,
) -> dict[str, float]:
    """Measure the effective limiting magnitude of a difference.

    Parameters
    ----------
    difference
        From `zogy` or `classic`; only its good pixels count.

    tolerated_rate
        False positives of one sign per million good pixels.

    weights
        Of the terms, by the names in `WEIGHTS`.

    Returns
    -------
    dict
        ``merit_threshold`` (sigma), the AB magnitudes ``merit_m_threshold``, ``merit_m_80``,
        ``merit_m_20``, ``merit_m_5sigma`` and ``merit_m_ph10``, and their weighted mean ``merit``.
        Magnitudes are NaN without a zero point, all are NaN where too little is left to judge. The
        photon noise of the point source itself is left out.
    """
    good = ~difference.bad & np.isfinite(difference.score_corrected) & (difference.flux_error > 0)
    threshold = false_positive_threshold(difference, good, tolerated_rate=tolerated_rate)
    fluxes = _limiting_fluxes(difference, good, threshold)
    zeropoint = np.nan if difference.zeropoint is None else difference.zeropoint.magnitude
    magnitudes = {
        name: float(zeropoint - 2.5 * np.log10(flux)) if flux > 0 else np.nan for name, flux in fluxes.items()
    }
    mean = sum(weights[n] * magnitudes[n] for n in weights) / sum(weights.values())
    terms = {f"merit_{name}": magnitude for name, magnitude in magnitudes.items()}
    return {"merit_threshold": threshold, **terms, "merit": float(mean)}


def false_positive_threshold(
    difference: Difference, good: np.ndarray, *, tolerated_rate: float = TOLERATED_RATE
) -> float:
    """Return the significance at which false positives are as rare as tolerated.

    False positives are the extrema of the other sign, where next to nothing on the sky appears: noise
    and bad subtractions make as many of either sign. Where less than one is tolerated in the whole
    image, their number is extrapolated as that of a Gaussian field, t exp(-t^2 / 2) (Adler 1981),
    but never to less than the highest.

    Parameters
    ----------
    difference
        Its ``score_corrected`` is used.

    good
        Boolean image of the pixels that count.

    tolerated_rate
        Extrema per million good pixels.

    Returns
    -------
    float
        In sigma; NaN where there are no extrema.
    """
    peaks = _negative_peaks(difference.score_corrected, good)
    if not peaks.size:
        return np.nan
    tolerated = tolerated_rate * np.count_nonzero(good) / 1e6
    if tolerated >= 1.0:
        return float(peaks[min(int(tolerated), peaks.size - 1)])
    n = min(ANCHOR_PEAKS, peaks.size)
    anchor, width = float(peaks[n - 1]), robust_std(_sample(difference.score_corrected, good))
    threshold = anchor
    # a fixed point of N(t) = tolerated; the logarithm makes it converge at once
    for _ in range(10):
        threshold = np.sqrt(anchor**2 + 2.0 * width**2 * np.log(n * threshold / (anchor * tolerated)))
    return float(max(threshold, peaks[0]))


def _negative_peaks(score: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the depths of the negative extrema on good pixels, deepest first."""
    y, x = np.nonzero(good & (score < -LOWEST_PEAK))
    inside = (y > 0) & (y < score.shape[0] - 1) & (x > 0) & (x < score.shape[1] - 1)
    y, x = y[inside], x[inside]
    value = score[y, x]
    lowest = np.ones(len(y), bool)
    for dy, dx in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b):
        lowest &= value <= score[y + dy, x + dx]
    y, x, depth = y[lowest], x[lowest], -value[lowest]
    real = SIDE_LOBE * _highest_around(score, y, x) < depth
    return np.sort(depth[real])[::-1]


def _highest_around(score: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the highest value around pixels."""
    steps = np.arange(-SIDE_LOBE_REACH, SIDE_LOBE_REACH + 1)
    rows = np.clip(y[:, None, None] + steps[:, None], 0, score.shape[0] - 1)
    columns = np.clip(x[:, None, None] + steps, 0, score.shape[1] - 1)
    return np.nan_to_num(score[rows, columns]).max(axis=(1, 2), initial=0.0)


def _limiting_fluxes(difference: Difference, good: np.ndarray, threshold: float) -> dict[str, float]:
    """Return the flux of each term, in the unit of the difference; NaN where there is nothing to judge."""
    scores = _sample(difference.score_corrected, good)
    if scores.size < QUANTILES or not np.isfinite(threshold):
        return dict.fromkeys(WEIGHTS, np.nan)
    plain, flux = _sample(difference.flux_error, good), _sample(difference.flux, good)
    # significance and flux have the same numerator: their ratio is the error with all terms
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.fmax(plain, np.abs(flux / scores))
    errors = np.quantile(errors[np.isfinite(errors)], (np.arange(QUANTILES) + 0.5) / QUANTILES)
    median = float(np.median(errors))
    return {
        "m_threshold": threshold * median,
        "m_80": _flux_at(0.8, errors, threshold),
        "m_20": _flux_at(0.2, errors, threshold),
        "m_5sigma": 5.0 * float(np.median(plain)) * robust_std(scores),
        "m_ph10": 10.0 * median * _trimmed_std(scores),
    }


def _flux_at(completeness: float, errors: np.ndarray, threshold: float) -> float:
    """Return the flux at which a share of the point sources is above the threshold, by bisection."""
    low, high = 0.0, (threshold + 5.0) * float(errors[-1])
    for _ in range(50):
        flux = 0.5 * (low + high)
        if ndtr(flux / errors - threshold).mean() < completeness:
            low = flux
        else:
            high = flux
    return high


def _trimmed_std(values: np.ndarray) -> float:
    """Return the standard deviation without the most extreme values."""
    size = np.abs(values)
    return float(values[size <= np.quantile(size, 1.0 - TRIMMED)].std(dtype=float))


def _sample(plane: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the good pixels of every n-th row, where that leaves enough of them."""
    step = max(plane.size // SAMPLE, 1)
    return plane[::step][good[::step]].astype(float)
