"""The figure of one differenced pair: what a person wants to see first."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

    from astrid_assets.images import AlignedPair, Difference

__all__ = ["difference_figure"]

_MAX_SIDE = 1200
"""Pixels of an image in the figure; larger ones are thinned out."""


def difference_figure(pair: AlignedPair, difference: Difference, candidates: pa.Table) -> bytes:
    """Draw science, reference, difference and significance with the candidates, and the noise.

    Parameters
    ----------
    pair
        The normalised pair.

    difference
        Its difference.

    candidates
        From `astrid_assets.science.detect`.

    Returns
    -------
    bytes
        A PNG.
    """
    from matplotlib.figure import Figure

    ny, nx = difference.shape
    # rows as high as the images: five inches wide, and one for titles and axes
    height = min(max(4.5 * ny / nx, 2.0), 9.0) + 1.0
    figure = Figure(figsize=(15, 2 * height), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    noise = np.sqrt(np.nanmedian(difference.variance))
    panels = (
        ("science", pair.science.data, _stretch(pair.science.data)),
        ("reference, aligned", pair.reference.data, _stretch(pair.reference.data)),
        (f"difference ({difference.method})", difference.data, (-5 * noise, 5 * noise)),
        ("significance S_corr", difference.score_corrected, (-5.0, 5.0)),
    )
    for axis, (title, data, limits) in zip(axes, panels, strict=False):
        _image(axis, data, limits, title)
    _mark(axes[3], candidates)
    good = (~difference.bad).astype(np.float32)
    _image(axes[4], good, (0.0, 1.0), f"black: not trusted ({np.mean(difference.bad):.1%})")
    _histogram(axes[5], difference)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=80)
    return stream.getvalue()


def _stretch(data: np.ndarray) -> tuple[float, float]:
    finite = data[np.isfinite(data)]
    low, high = np.percentile(finite, [1.0, 99.5]) if finite.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-9))


def _image(axis: Axes, data: np.ndarray, limits: tuple[float, float], title: str) -> None:
    ny, nx = data.shape
    step = max(1, max(data.shape) // _MAX_SIDE)
    axis.imshow(
        data[::step, ::step],
        cmap="gray",
        origin="lower",
        vmin=limits[0],
        vmax=limits[1],
        extent=(-0.5, nx - 0.5, -0.5, ny - 0.5),
    )
    axis.set_title(title)
    axis.set_xlabel("x [pixel]")
    axis.set_ylabel("y [pixel]")


def _mark(axis: Axes, candidates: pa.Table) -> None:
    """Ring the candidates: brighter ones orange, fainter ones blue, likely artefacts grey and small."""
    x, y, positive = (candidates[name].to_numpy() for name in ("x", "y", "positive"))
    doubtful = np.array([bool(reason) for reason in candidates["artifact"].to_pylist()], bool)
    groups = (
        (doubtful, "tab:gray", 15, "flagged"),
        (~doubtful & positive, "tab:orange", 80, "brighter"),
        (~doubtful & ~positive, "tab:blue", 80, "fainter"),
    )
    for chosen, colour, size, label in groups:
        axis.scatter(x[chosen], y[chosen], s=size, facecolors="none", edgecolors=colour, label=label)
    axis.legend(loc="upper right")


def _histogram(axis: Axes, difference: Difference) -> None:
    """Draw the distribution of S_corr beside the one of perfect noise."""
    score = difference.score_corrected[~difference.bad & np.isfinite(difference.score_corrected)]
    bins = np.linspace(-8, 8, 81)
    axis.hist(np.clip(score, bins[0], bins[-1]), bins, density=True, histtype="step", label="S_corr")
    axis.plot(bins, np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi), label="Gaussian of width 1")
    axis.set_yscale("log")
    axis.set_ylim(1e-6, 1.0)
    axis.set_xlabel("S_corr of pixels that are trusted")
    axis.legend()
