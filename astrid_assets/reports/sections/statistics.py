"""Sections of charts: noise, ZOGY beside classic, quality over time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from astrid_assets.checks.limits import limits
from astrid_assets.reports.pages import plural
from astrid_assets.reports.plots import (
    ACCENT,
    INK,
    band_colour,
    chart,
    date_axis,
    decades,
    legend_above,
    limit_bands,
)
from astrid_assets.reports.sections.content import Content

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from astrid_assets.reports.results import FieldResults
    from astrid_assets.storage.store import Row

__all__ = ["comparison", "noise", "quality"]

_REACH = 8.0
"""Histograms go from minus to plus this many sigma."""

_BINS = 80

_HISTOGRAMS_MAX = 24
"""Exposures in a histogram; more lines cannot be told apart, and the newest tell about today."""

_QUALITY = (
    ("science_images", "seeing", "seeing"),
    ("science_images", "limiting_magnitude", "depth of the science image, 5σ"),
    ("aligned_pairs", "astrometric_rms", "scatter of the registration"),
    ("normalized_pairs", "flux_ratio_scatter", "scatter of the flux ratio"),
    ("zogy_differences", "scorr_mad_std", "width of S_corr on blank sky"),
    ("zogy_differences", "residual_noise_ratio", "residuals on static sources"),
    ("zogy_differences", "noise_whiteness", "correlation of the noise"),
    ("zogy_differences", "detection_threshold_mag", "depth of the difference, 5σ"),
    ("zogy_differences", "masked_fraction", "pixels not trusted"),
    ("candidates", "n_candidates", "unflagged candidates"),
)
"""Asset, metric and title of the charts over time, in the order in which data flow."""

_COUNT = "number"
"""Unit of what is counted."""

_UNITS = {
    "limiting_magnitude": "AB mag",
    "detection_threshold_mag": "AB mag",
    "masked_fraction": "share of pixels",
    "n_candidates": _COUNT,
    "scorr_mad_std": "sigma",
}
"""Units of metrics that are not judged."""

_COMPARED = (
    ("detection_threshold_mag", "depth, 5σ [AB mag]", "deeper is better"),
    ("detection_threshold", "flux at 5σ [image unit]", "lower is better"),
    ("scorr_mad_std", "width of S_corr [sigma]", "1 is right"),
    ("scorr_std", "S_corr with its tails [sigma]", "1 is right"),
    ("residual_noise_ratio", "residuals on sources [over expected]", "1 is right"),
    ("noise_whiteness", "correlation of the noise", "0 is right"),
    ("merit", "figure of merit (RAPID) [AB mag]", "deeper is better"),
    ("merit_threshold", "threshold for 0.5 false positives per Mpix [sigma]", "5 is noise alone"),
)


def _by_time(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda r: (r["mjd_mid"] or 0.0, r["exposure_id"]))


# --- noise ----------------------------------------------------------------------------------------


def noise(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Show the distribution of S_corr of both methods beside the unit Gaussian."""
    charts = []
    for asset, name in (("zogy_differences", "ZOGY"), ("classic_differences", "classic")):
        rows = _by_time(results.usable(asset))[-_HISTOGRAMS_MAX:]
        if rows:
            shares = [_histogram(results, row) for row in rows]
            label = f"Histogram of S_corr, {name}, {len(rows)} exposures, and the unit Gaussian"
            svg = chart(partial(_draw_noise, rows=rows, shares=shares, name=name), label=label)
            charts.append({"svg": svg, "caption": _noise_caption(rows, name)})
    if not charts:
        return Content(missing="No difference has been made yet.")
    return Content({"charts": charts})


def _noise_caption(rows: Sequence[Row], name: str) -> str:
    widths = [w for r in rows if (w := r.get("metric_scorr_mad_std")) is not None]
    width = f"; width on blank sky {statistics.median(widths):.3f} (median)" if widths else ""
    return f"{name}: {plural(len(rows), 'exposure')}, all trusted pixels, stars and changes included{width}"


def _histogram(results: FieldResults, row: Row) -> np.ndarray:
    """Return the density of S_corr of the trusted pixels in bins of -8 to 8 sigma."""
    from astrid_assets.images import layout
    from astrid_assets.images.fits import open_fits
    from astrid_assets.images.masks import BAD_BITS

    with open_fits(results.store.path(row["path"])) as hdus:
        meta = layout.read_meta(hdus, "difference")
        score = layout.read_plane(hdus, "SCORR")
        good = (layout.decode_mask(hdus, "MASK", meta["planes"]) & BAD_BITS) == 0
    values = score[good & np.isfinite(score)]
    counts, _ = np.histogram(values, bins=_BINS, range=(-_REACH, _REACH))
    return counts / max(values.size * 2 * _REACH / _BINS, 1e-9)


def _draw_noise(axes: Axes, *, rows: Sequence[Row], shares: Sequence[np.ndarray], name: str) -> None:
    edges = np.linspace(-_REACH, _REACH, _BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    named: set[str] = set()
    for row, share in zip(rows, shares, strict=True):
        band = row["band"] or "unknown"
        axes.plot(
            middles,
            np.where(share > 0, share, np.nan),
            drawstyle="steps-mid",
            color=band_colour(band),
            lw=1.0,
            alpha=0.8,
            label=None if band in named else f"band {band}",
        )
        named.add(band)
    gauss = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
    axes.plot(edges, gauss, color=INK, lw=1.2, ls=(0, (5, 3)), label="unit Gaussian")
    decades(axes)
    axes.set_xlim(-_REACH, _REACH)
    axes.set_ylim(1e-7, 2.0)
    axes.set_xlabel("S_corr [sigma]")
    axes.set_ylabel("share of pixels per sigma")
    axes.set_title(f"{name}: noise of the difference")
    axes.legend(loc="upper right")


# --- ZOGY beside classic --------------------------------------------------------------------------


def comparison(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Compare both methods on the same exposures."""
    ours = {r["exposure_id"]: r for r in results.usable("zogy_differences")}
    base = {r["exposure_id"]: r for r in results.usable("classic_differences")}
    pairs = [(row, base[r]) for r, row in ours.items() if r in base]
    if not pairs:
        return Content(missing="No exposure has been differenced by both methods.")
    rows = [row for metric in _COMPARED if (row := _compared(metric, pairs)) is not None]
    charts = [
        {
            "svg": chart(
                partial(_draw_pairs, pairs=pairs, metric=m, title=title, unit=unit),
                label=f"{title}, both methods",
            )
        }
        for m, title, unit in (
            ("residual_noise_ratio", "residuals on static sources", "mean |D| over expected"),
            ("noise_whiteness", "correlation of the noise", "largest autocorrelation"),
        )
        if any(a.get(f"metric_{m}") is not None and b.get(f"metric_{m}") is not None for a, b in pairs)
    ]
    return Content({"rows": rows, "charts": charts, "number": plural(len(pairs), "exposure")})


def _compared(metric: tuple[str, str, str], pairs: Sequence[tuple[Row, Row]]) -> list[Any] | None:
    """Return a row of the table: medians of both methods over the same exposures."""
    name, label, remark = metric
    both = [(a.get(f"metric_{name}"), b.get(f"metric_{name}")) for a, b in pairs]
    both = [(a, b) for a, b in both if a is not None and b is not None]
    if not both:
        return None
    zogy, classic = (statistics.median(side) for side in zip(*both, strict=True))
    return [label, zogy, classic, remark]


def _draw_pairs(axes: Axes, *, pairs: Sequence[tuple[Row, Row]], metric: str, title: str, unit: str) -> None:
    pairs = sorted(pairs, key=lambda p: (p[0]["mjd_mid"] or 0.0, p[0]["exposure_id"]))
    values = [[side.get(f"metric_{metric}") for side in pair] for pair in pairs]
    for i, (a, b) in enumerate(values, start=1):
        if a is not None and b is not None:
            axes.plot([i, i], [a, b], color=INK, lw=0.7, alpha=0.5)
    places = range(1, len(pairs) + 1)
    for side, (name, marker, colour) in enumerate((("ZOGY", "o", ACCENT), ("classic", "s", "#e8772e"))):
        heights = [math.nan if v[side] is None else v[side] for v in values]
        axes.plot(places, heights, marker, ms=5, color=colour, label=name)
    axes.set_xlim(0.4, len(pairs) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.set_xlabel("exposure, in order of time")
    axes.set_ylabel(unit)
    axes.set_title(title)
    legend_above(axes)


# --- quality over time ----------------------------------------------------------------------------


def quality(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Show the main quality metrics over time, with the ranges of their limits behind them."""
    charts = []
    for asset, metric, title in _QUALITY:
        rows = [r for r in results.rows(asset) if r.get(f"metric_{metric}") is not None]
        if rows:
            unit = _UNITS.get(metric) or limits(asset)[metric].unit
            plot = partial(
                _draw_metric, rows=_by_time(rows), asset=asset, metric=metric, title=title, unit=unit
            )
            charts.append({"svg": chart(plot, label=f"{title} [{unit}] over time"), "caption": ""})
    if not charts:
        return Content(missing="Nothing has been measured yet.")
    return Content({"charts": charts})


def _draw_metric(axes: Axes, *, rows: Sequence[Row], asset: str, metric: str, title: str, unit: str) -> None:
    values = [row[f"metric_{metric}"] for row in rows]
    timed = all(row["mjd_mid"] is not None for row in rows)
    places = [row["mjd_mid"] for row in rows] if timed else list(range(1, len(rows) + 1))
    limit = limits(asset, survey=rows[-1]["survey"]).get(metric)
    judged = any(row.get(f"colour_{metric}") not in {None, "none"} for row in rows)
    limit_bands(axes, limit.ranges if limit and judged else (), values)
    for band in sorted({row["band"] or "unknown" for row in rows}):
        chosen = [i for i, row in enumerate(rows) if (row["band"] or "unknown") == band]
        axes.plot(
            [places[i] for i in chosen],
            [values[i] for i in chosen],
            "o",
            ms=4.5,
            color=band_colour(band),
            label=band,
        )
    if timed:
        date_axis(axes, places)
    else:
        axes.set_xlabel("exposure (times unknown)")
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    if unit == _COUNT:
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.set_ylabel(unit)
    axes.set_title(title)
    legend_above(axes)
