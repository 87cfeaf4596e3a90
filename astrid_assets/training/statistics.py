"""Statistics of the pixels of a release: what a model's input looks like, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.images.triplets import CHANNELS
from astrid_assets.training.views import model_view

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["QUANTILES", "pixel_statistics"]

QUANTILES = (0.1, 1.0, 5.0, 16.0, 50.0, 84.0, 95.0, 99.0, 99.9)
"""Percentiles that are listed, per cent."""

_SAMPLES_MAX = 500
"""Samples that statistics are made of, spread evenly over the split: the rest changes no third digit."""

_PIXEL_STEP = 3
"""Every third pixel of them counts; prime to the side of the stamps, so that all columns take part."""

_L2_SIZE = 63
"""Side of the ``l2`` view that is described."""


def pixel_statistics(triplet: Any, mask: Any) -> dict[str, Any]:
    """Describe the pixels of stamps, as stored (``raw``) and in the ``l2`` view.

    Parameters
    ----------
    triplet, mask
        Arrays or HDF5 datasets ``(n, 3, S, S)``.

    Returns
    -------
    dict
        By view and channel: ``mean``, ``std``, ``median``, ``mad``, ``p0.1`` to ``p99.9`` of the finite
        values and ``missing``, the share of those without one; and ``n_samples``, ``n_used``.
    """
    n = len(triplet)
    rows = np.unique(np.linspace(0, n - 1, min(n, _SAMPLES_MAX)).astype(int)) if n else np.array([], int)
    stamps, marks = triplet[rows], mask[rows]
    views = {"raw": stamps}
    if stamps.shape[-1] >= _L2_SIZE:
        views[f"l2_{_L2_SIZE}"] = model_view(stamps, view="l2", size=_L2_SIZE, mask=marks)[0]
    found = {
        name: {channel: _describe(values[:, k]) for k, channel in enumerate(CHANNELS)}
        for name, values in views.items()
    }
    return {"n_samples": n, "n_used": len(rows), **found}


def _describe(values: np.ndarray) -> Mapping[str, float | None]:
    """Return the statistics of one channel, rounded to what they are known to."""
    some = np.ravel(values)[::_PIXEL_STEP]
    finite = np.sort(some[np.isfinite(some)])
    missing = 1 - len(finite) / max(len(some), 1)
    if not len(finite):
        return {"missing": missing}
    middle = _quantile(finite, 50.0)
    spread = np.sort(np.abs(finite - np.float32(middle)))
    numbers = {
        "mean": finite.mean(dtype=np.float64),
        "std": finite.std(dtype=np.float64),
        "median": middle,
        "mad": _quantile(spread, 50.0),
        **{f"p{q:g}": _quantile(finite, q) for q in QUANTILES},
    }
    return {"missing": round(missing, 6)} | {name: float(f"{value:.6g}") for name, value in numbers.items()}


def _quantile(ordered: np.ndarray, percent: float) -> float:
    """Return a percentile of sorted values, the nearest of them."""
    return float(ordered[round(percent / 100 * (len(ordered) - 1))])
