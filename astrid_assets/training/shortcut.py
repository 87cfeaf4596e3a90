"""The shortcut probe: what a model could learn without looking at the sources.

A logistic regression that is shown nothing but missing pixels, background level and scatter of each
channel should not tell the classes apart. Where it does, the surroundings of a class give it away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from astrid_assets.images.triplets import CHANNELS, LARGEST_VALUE
from astrid_assets.seeds import uniform

__all__ = ["PROBE_FEATURES", "auc", "probe_features", "propensity", "shortcut_auc"]

PROBE_FEATURES = tuple(
    f"{what}_{channel}" for channel in CHANNELS for what in ("missing", "level", "scatter")
)
"""Names of the features, three a channel."""

_FOLDS = 5
"""Parts for the cross-validation."""

_RIDGE = 1.0
"""Penalty on the squared weights of standardised features, per sample of weight 1."""


def probe_features(stamps: np.ndarray) -> np.ndarray:
    """Return share of missing pixels, background level and scatter of each channel.

    Parameters
    ----------
    stamps
        Triplets ``(n, 3, S, S)``, raw.

    Returns
    -------
    numpy.ndarray
        float32 ``(n, 9)``, columns `PROBE_FEATURES`. The level is the median over its scatter (1.4826 MAD),
        as arcsinh; the scatter is a natural logarithm of the image unit. 0 where a channel is missing.
    """
    n = len(stamps)
    flat = stamps.reshape(n * 3, stamps.shape[-1] ** 2)
    with np.errstate(invalid="ignore"):
        good = np.abs(flat) <= LARGEST_VALUE
    rows = np.zeros((n * 3, 3), np.float32)
    for row, (values, use) in enumerate(zip(flat, good, strict=True)):
        kept = values if use.all() else values[use]
        rows[row] = (1.0 - use.mean(), *_level_and_scatter(kept))
    return rows.reshape(n, 9)


def _level_and_scatter(values: np.ndarray) -> tuple[float, float]:
    if not values.size:
        return 0.0, 0.0
    middle = values.size // 2
    level = np.partition(values, middle)[middle]
    spread = 1.4826 * np.partition(np.abs(values - level), middle)[middle]
    if spread <= 0:
        return 0.0, 0.0
    return float(np.arcsinh(level / spread)), float(np.log(spread))


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve; ties count one half (Mann and Whitney 1947).

    Parameters
    ----------
    scores
        ``(n,)``, higher for positives.

    positive
        Boolean ``(n,)``.

    Returns
    -------
    float
        NaN where a class is empty.
    """
    from scipy.stats import rankdata

    n_positive = int(np.count_nonzero(positive))
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    total = rankdata(scores)[positive].sum()
    return float((total - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def shortcut_auc(
    features: np.ndarray, labels: np.ndarray, groups: Sequence[str], *, least: int = 50
) -> float:
    """Return how well the probe tells real from bogus on samples that it was not fitted to.

    Parameters
    ----------
    features
        Of `probe_features`, ``(n, k)``.

    labels
        1 real, 0 bogus; other values are left out.

    groups
        Object of each sample: all samples of one are in the same part of the cross-validation.

    least
        Samples that each class must have; below, chance is too large to say anything.

    Returns
    -------
    float
        AUC over all samples, 0.5 for chance; NaN with too few samples.
    """
    known = np.isin(labels, (0, 1))
    if min((np.count_nonzero(labels == value) for value in (0, 1)), default=0) < least:
        return float("nan")
    x, y = _standardised(np.asarray(features, float)[known]), np.asarray(labels)[known] == 1
    fold = np.array([int(_FOLDS * uniform("probe", g)) for g, use in zip(groups, known, strict=True) if use])
    scores = np.zeros(len(y))
    for part in range(_FOLDS):
        inside = fold == part
        if inside.any() and 0 < y[~inside].mean() < 1:
            scores[inside] = x[inside] @ _fitted(x[~inside], y[~inside])
    return auc(scores, y)


def propensity(features: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return how much the features of each sample alone speak for the positive class.

    Parameters
    ----------
    features
        ``(n, k)``.

    positive
        Boolean ``(n,)``; both values occur.

    Returns
    -------
    numpy.ndarray
        Logit of a ridge logistic regression that was fitted to the same samples, ``(n,)``.
    """
    x = _standardised(np.asarray(features, float))
    return x @ _fitted(x, positive)


def _standardised(x: np.ndarray) -> np.ndarray:
    """Return features of zero mean and unit scatter, with a constant in front."""
    scatter = x.std(axis=0)
    return np.c_[np.ones(len(x)), (x - x.mean(axis=0)) / np.where(scatter > 0, scatter, 1.0)]


def _fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the weights of a ridge logistic regression, classes weighted equally, by Newton's method."""
    from scipy.special import expit

    balance = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    penalty = _RIDGE * np.eye(x.shape[1])
    penalty[0, 0] = 0.0
    weights = np.zeros(x.shape[1])
    for _ in range(20):
        p = expit(x @ weights)
        gradient = x.T @ (balance * (p - y)) + penalty @ weights
        curvature = (x * (balance * p * (1 - p))[:, None]).T @ x + penalty
        weights -= np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
    return weights
