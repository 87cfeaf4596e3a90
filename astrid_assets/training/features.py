"""Numbers that describe a triplet: what a person looks at to tell a real change from an artefact.

All features are shapes, shares, significances or correlations; none depends on the unit, on the
background level or on the pixel scale beyond the size of a PSF (about 2 pixels). They are taken
from the middle of the stamp. The difference is expected with the sign of the detection, as alert
packets of ZTF store it: a source that faded is a positive peak. `nneg` and `sumrat` are those of
ZTF's alert schema, the negative share and the summed over absolute flux in 5 x 5 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from astrid_assets.training.views import model_view

__all__ = ["FEATURES", "SIZE", "Model", "features", "train_logistic", "train_trees"]

Model = Callable[[np.ndarray], np.ndarray]
"""Takes encoded triplets ``(n, ...)``, returns scores ``(n,)``, higher for real ones."""

SIZE = 63
"""Side of the part of a stamp that is looked at, pixels."""

_WIDTHS = (1.0, 1.4, 1.8, 2.2, 2.7, 3.3, 4.2, 5.5)
"""FWHM of the Gaussian templates, pixels; below about 1.5 no star is that narrow."""

_OFFSETS = (-0.5, -0.25, 0.0, 0.25, 0.5)
"""Offsets of the templates on each axis, pixels."""

_FIT = 4
"""Half the side of the box in which templates are fitted, pixels."""

_CHANNEL_FEATURES = {
    "snr": "significance of the best Gaussian at the middle (asinh)",
    "correlation": "correlation with that Gaussian in 9 x 9 pixels",
    "width": "its FWHM, pixels",
    "offset": "its distance from the middle, pixels",
    "sharpness": "brightest pixel over the sum of 3 x 3",
    "symmetry": "correlation with its copy turned by 180 degrees, 11 x 11 pixels",
    "concentration": "flux within 1.5 over flux within 3.5 pixels",
}

_DIFFERENCE_FEATURES = {
    "misfit": "scatter about the Gaussian in 9 x 9 pixels, sigma (log)",
    "relative_misfit": "the same over the amplitude",
    "quarter_symmetry": "correlation with its copy turned by 90 degrees, 11 x 11 pixels",
    "growth": "flux within 3.5 over flux within 6 pixels",
    "nneg": "share of negative pixels in 5 x 5",
    "nneg_wide": "share of pixels below -2 sigma within 6 pixels",
    "sumrat": "sum over sum of absolute values, median-filtered 5 x 5",
    "sumrat_wide": "the same within 6 pixels, not filtered",
    "deepest": "lowest value within 6 pixels over the brightest",
    "dipole": "first moment over the absolute flux within 6 pixels, pixels",
    "elongation": "major over minor axis of the positive flux within 4 pixels",
    "size": "root mean square radius of the positive flux within 4 pixels",
    "outliers_near": "share of pixels beyond 4 sigma within 5 pixels",
    "outliers_around": "the same from 5 to 12 pixels",
    "outliers_far": "the same beyond 12 pixels",
    "negative_far": "share of pixels below -4 sigma from 5 to 20 pixels",
    "brightest_far": "largest absolute value beyond 8 pixels over the brightest at the middle (log)",
    "row": "mean of the middle row, without the middle 9 pixels, sigma",
    "column": "the same of the middle column",
}

_PAIR_FEATURES = {
    "difference_science": "correlation of difference and science, 11 x 11 pixels",
    "difference_reference": "correlation of difference and reference",
    "difference_change": "correlation of difference and science minus reference, either sign",
    "science_reference": "correlation of science and reference",
    "difference_edges": "correlation of absolute difference and gradient of the reference",
    "flux_ratio": "difference over reference flux within 3.5 pixels (asinh)",
    "flux_closure": "difference minus absolute (science minus reference) flux, over their sum",
    "bright_near": "brightest pixel of the reference within 12 pixels, sigma of the difference (asinh)",
}

FEATURES = {
    **{
        f"{channel}_{name}": f"{channel}: {text}"
        for channel in ("science", "reference", "difference")
        for name, text in _CHANNEL_FEATURES.items()
    },
    **_DIFFERENCE_FEATURES,
    **_PAIR_FEATURES,
}
"""Names of the features, in their order, and what they are."""


def features(stamps: np.ndarray, *, batch: int = 2000) -> np.ndarray:
    """Return the features of triplets; finite for every stamp.

    Parameters
    ----------
    stamps
        ``(n, 3, S, S)``, science, reference, difference; the difference has the sign of the
        detection. Missing values as `astrid_assets.training.views.model_view` takes them.

    batch
        Triplets that are worked on at a time.

    Returns
    -------
    numpy.ndarray
        float32 ``(n, len(FEATURES))``.
    """
    parts = [_features(stamps[start : start + batch]) for start in range(0, len(stamps), batch)]
    return np.concatenate(parts) if parts else np.empty((0, len(FEATURES)), np.float32)


def _features(stamps: np.ndarray) -> np.ndarray:
    values, _ = model_view(stamps, view="raw", size=SIZE)
    sigma = _scatter(values)
    # the reference is smooth: its own noise would make every faint galaxy significant
    unit = np.where(sigma[:, 2] > 0, sigma[:, 2], np.where(sigma[:, 0] > 0, sigma[:, 0], 1))
    normal = np.clip(values / unit[:, None, None, None], -1e6, 1e6)
    columns: dict[str, np.ndarray] = {}
    for i, channel in enumerate(("science", "reference", "difference")):
        found = _channel(normal[:, i])
        columns |= {f"{channel}_{name}": found[name] for name in _CHANNEL_FEATURES}
        amplitude, misfit = found["amplitude"], found["misfit"]
    columns |= _difference(normal[:, 2], amplitude, misfit)
    columns |= _pair(*normal.swapaxes(0, 1))
    return np.stack([columns[name] for name in FEATURES], axis=1).astype(np.float32)


def _scatter(values: np.ndarray) -> np.ndarray:
    """Return 1.48 times the median absolute deviation of ``(..., y, x)``, missing pixels (0) left out."""
    spread = np.where(values == 0, np.nan, np.abs(values)).reshape(*values.shape[:-2], -1)
    spread[np.isnan(spread).all(axis=-1)] = 0
    return 1.4826 * np.nanmedian(spread, axis=-1)


@lru_cache(maxsize=1)
def _radius() -> np.ndarray:
    """Return the distance of each pixel from the middle."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    return np.hypot(x, y)


def _box(images: np.ndarray, half: int) -> np.ndarray:
    middle = images.shape[-1] // 2
    return images[..., middle - half : middle + half + 1, middle - half : middle + half + 1]


def _within(images: np.ndarray, outer: float, inner: float = -1.0) -> np.ndarray:
    """Return the pixels ``(n, k)`` in a ring around the middle."""
    return images[:, (_radius() > inner) & (_radius() <= outer)]


def _share(top: np.ndarray, bottom: np.ndarray, limit: float = 5.0) -> np.ndarray:
    """Return a quotient within limits, 0 where there is nothing to divide by."""
    safe = np.where(np.abs(bottom) > 1e-6, bottom, 1)
    return np.where(np.abs(bottom) > 1e-6, np.clip(top / safe, -limit, limit), 0)


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation coefficient of boxes ``(n, y, x)``; 0 where one is constant."""
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (first, second))
    a, b = (v - v.mean(axis=1, keepdims=True) for v in (a, b))
    return _share((a * b).sum(axis=1), np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)), 1.0)


@lru_cache(maxsize=1)
def _templates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Gaussians of unit norm ``(k, 81)``, their FWHM and their distance from the middle."""
    from scipy.special import erf

    edges = np.arange(2 * _FIT + 2) - _FIT - 0.5
    images, widths, offsets = [], [], []
    for width in _WIDTHS:
        steps = [np.diff(erf((edges - shift) / (width / 1.66511))) for shift in _OFFSETS]
        for dy, row in zip(_OFFSETS, steps, strict=True):
            for dx, column in zip(_OFFSETS, steps, strict=True):
                images.append(np.outer(row, column).ravel())
                widths.append(width)
                offsets.append(np.hypot(dx, dy))
    stack = np.array(images)
    return stack / np.linalg.norm(stack, axis=1, keepdims=True), np.array(widths), np.array(offsets)


def _peaked(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 9 x 9 pixels about the brightest of the middle 3 x 3, and how far that is from the middle."""
    near = _box(images, 1).reshape(len(images), -1).argmax(axis=1)
    dy, dx = near // 3 - 1, near % 3 - 1
    reach = np.arange(-_FIT, _FIT + 1) + SIZE // 2
    rows, columns = reach + dy[:, None], reach + dx[:, None]
    boxes = images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return boxes, np.hypot(dx, dy)


def _channel(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return `_CHANNEL_FEATURES` of images in units of sigma, with amplitude and misfit of the fit."""
    boxes, moved = _peaked(images)
    flat = boxes.reshape(len(boxes), -1).astype(np.float64)
    templates, widths, offsets = _templates()
    amplitudes = flat @ templates.T
    best = amplitudes.argmax(axis=1)
    amplitude = np.take_along_axis(amplitudes, best[:, None], axis=1)[:, 0]
    residual = flat - amplitude[:, None] * templates[best]
    inner = _box(images, 5)
    return {
        "snr": np.arcsinh(amplitude),
        "correlation": _share(amplitude, np.linalg.norm(flat, axis=1), 1.0),
        "width": widths[best],
        "offset": moved + offsets[best],
        "sharpness": _share(boxes[:, _FIT, _FIT], _box(boxes, 1).sum(axis=(1, 2))),
        "symmetry": _correlation(inner, inner[:, ::-1, ::-1]),
        "concentration": _share(_within(images, 1.5).sum(axis=1), _within(images, 3.5).sum(axis=1)),
        "amplitude": amplitude,
        "misfit": residual.std(axis=1),
    }


def _difference(images: np.ndarray, amplitude: np.ndarray, misfit: np.ndarray) -> dict[str, np.ndarray]:
    """Return `_DIFFERENCE_FEATURES` of difference images in units of sigma."""
    from scipy.ndimage import median_filter

    inner, close, wide = _box(images, 5), _box(images, 2), _within(images, 6)
    smooth = _box(median_filter(_box(images, 4), size=(1, 3, 3)), 2)
    brightest = _within(images, 3).max(axis=1)
    middle, rest = SIZE // 2, np.abs(np.arange(SIZE) - SIZE // 2) > 4
    reach = np.sqrt(rest.sum())
    return {
        "misfit": np.log1p(misfit),
        "relative_misfit": _share(misfit, amplitude),
        "quarter_symmetry": _correlation(inner, np.rot90(inner, axes=(1, 2))),
        "growth": _share(_within(images, 3.5).sum(axis=1), wide.sum(axis=1)),
        "nneg": (close < 0).mean(axis=(1, 2)),
        "nneg_wide": (wide < -2).mean(axis=1),
        "sumrat": _share(smooth.sum(axis=(1, 2)), np.abs(smooth).sum(axis=(1, 2))),
        "sumrat_wide": _share(wide.sum(axis=1), np.abs(wide).sum(axis=1)),
        "deepest": _share(wide.min(axis=1), brightest),
        **_moments(images),
        "outliers_near": (np.abs(_within(images, 5)) > 4).mean(axis=1),
        "outliers_around": (np.abs(_within(images, 12, 5)) > 4).mean(axis=1),
        "outliers_far": (np.abs(_within(images, 99, 12)) > 4).mean(axis=1),
        "negative_far": (_within(images, 20, 5) < -4).mean(axis=1),
        "brightest_far": np.log1p(
            _share(np.abs(_within(images, 99, 8)).max(axis=1), np.maximum(brightest, 1), 1e4)
        ),
        "row": np.arcsinh(images[:, middle, rest].mean(axis=1) * reach),
        "column": np.arcsinh(images[:, rest, middle].mean(axis=1) * reach),
    }


def _moments(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the first moment of the absolute flux and the second moments of the positive flux."""
    y, x = np.mgrid[:SIZE, :SIZE] - float(SIZE // 2)
    wide, near = (_radius() <= 6), (_radius() <= 4)
    flux = images[:, wide].astype(np.float64)
    total = np.abs(flux).sum(axis=1)
    first = np.hypot(_share(flux @ x[wide], total, 9), _share(flux @ y[wide], total, 9))
    light = np.clip(images[:, near], 0, None).astype(np.float64)
    total = light.sum(axis=1)
    cx, cy = _share(light @ x[near], total), _share(light @ y[near], total)
    xx = _share(light @ x[near] ** 2, total, 20) - cx**2
    yy = _share(light @ y[near] ** 2, total, 20) - cy**2
    xy = _share(light @ (x[near] * y[near]), total, 20) - cx * cy
    half, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    axes = _share(half + spread, np.maximum(half - spread, 0.05), 50.0)
    return {
        "dipole": first,
        "elongation": np.sqrt(np.maximum(axes, 0)),
        "size": np.sqrt(np.maximum(xx + yy, 0)),
    }


def _pair(science: np.ndarray, reference: np.ndarray, difference: np.ndarray) -> dict[str, np.ndarray]:
    """Return `_PAIR_FEATURES`."""
    s, r, d = (_box(images, 5) for images in (science, reference, difference))
    slope = np.hypot(*np.gradient(r, axis=(1, 2)))
    flux = _within(difference, 3.5).sum(axis=1)
    change = np.abs(_within(science - reference, 3.5).sum(axis=1))
    return {
        "difference_science": _correlation(d, s),
        "difference_reference": _correlation(d, r),
        "difference_change": np.abs(_correlation(d, s - r)),
        "science_reference": _correlation(s, r),
        "difference_edges": _correlation(np.abs(d), slope),
        "flux_ratio": np.arcsinh(_share(flux, np.abs(_within(reference, 3.5).sum(axis=1)), 1e4)),
        "flux_closure": _share(flux - change, np.abs(flux) + change),
        "bright_near": np.arcsinh(_within(reference, 12).max(axis=1)),
    }


def train_trees(
    values: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, *, seed: int = 0
) -> Model:
    """Return gradient-boosted trees that tell two classes apart; of fixed size, never stopped early.

    Parameters
    ----------
    values
        Features ``(n, k)``.

    labels
        1 or 0, ``(n,)``.

    weights
        Weight of each sample.

    seed
        Of the features that each split may choose from.

    Returns
    -------
    Model
        Takes features, returns the probability of class 1.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    trees = HistGradientBoostingClassifier(
        max_iter=300,
        learning_rate=0.05,
        max_leaf_nodes=15,
        min_samples_leaf=20,
        l2_regularization=1.0,
        max_features=0.5,
        early_stopping=False,
        random_state=seed,
    )

    def predict(new: np.ndarray) -> np.ndarray:
        with threadpool_limits(1, user_api="openmp"):
            return trees.predict_proba(new)[:, 1]

    # threads that wait for one another on a busy machine take ten times as long as one alone
    with threadpool_limits(1, user_api="openmp"):
        trees.fit(values, labels, sample_weight=weights)
    return predict


def train_logistic(values: np.ndarray, labels: np.ndarray) -> Model:
    """Return a ridge logistic regression on standardised features, classes weighted equally.

    Parameters
    ----------
    values
        Features ``(n, k)``.

    labels
        1 or 0, ``(n,)``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    fitted = make_pipeline(StandardScaler(), regression).fit(values, labels)
    return lambda new: fitted.predict_proba(new)[:, 1]
