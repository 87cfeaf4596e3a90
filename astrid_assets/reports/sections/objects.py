"""Sections about objects: light curves, and how many sources would have been found."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.reports.pages import number
from astrid_assets.reports.plots import ACCENT, INK, band_colour, chart, date_axis, legend_above
from astrid_assets.reports.sections.content import Content

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

    from astrid_assets.reports.results import FieldResults
    from astrid_assets.storage.store import Row

__all__ = ["binned_efficiency", "efficiency", "light_curves", "wilson"]

_CURVES = 8
"""Light curves shown: those of most detections."""

_FLUX_UNITS = ((1e6, "mJy"), (1e3, "µJy"), (1.0, "nJy"))
"""Units by their size in nJy, largest first."""

_BIN_WIDTH = 0.5
"""Width of a magnitude bin of the efficiency."""

_PULL_REACH = 5.0
"""Pulls go from minus to plus this many sigma; what lies beyond is in the outermost bins."""


# --- light curves ---------------------------------------------------------------------------------


def light_curves(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Show forced photometry of the objects with most detections."""
    objects, curves = results.table("light_curves", "objects.parquet"), results.output("light_curves")
    if objects is None or curves is None:
        return Content(missing=_why_no_curves(results))
    ranked = sorted(
        objects.to_pylist(), key=lambda o: (-o["n_detections"], -(o["max_snr"] or 0.0), o["object_id"])
    )
    points: dict[str, list[Row]] = {}
    for row in curves.to_pylist():
        points.setdefault(row["object_id"], []).append(row)
    shown = [o for o in ranked if points.get(o["object_id"])][:_CURVES]
    if not shown:
        return Content(missing="No object was seen: there is no unflagged candidate in this field.")
    charts = [_curve(o, points[o["object_id"]]) for o in shown]
    return Content({"charts": charts, "total": len(ranked), "epochs": _epochs(ranked)})


def _why_no_curves(results: FieldResults) -> str:
    rows = results.rows("light_curves")
    why = next((r["reason"] for r in rows if r["reason"]), None)
    return f"There are no light curves ({why})." if why else "Light curves have not been made yet."


def _epochs(objects: Sequence[Row]) -> str:
    several = sum(o["n_detections"] > 1 for o in objects)
    return f"{several} of {len(objects)} objects were detected more than once"


def _curve(one: Row, points: Sequence[Row]) -> dict[str, Any]:
    points = sorted(points, key=lambda p: (p["mjd_mid"] or 0.0, p["exposure_id"]))
    calibrated = any(p["flux_njy"] is not None for p in points)
    label = f"Light curve of {one['object_id']}"
    svg = chart(
        partial(_draw_curve, points=points, calibrated=calibrated, name=one["object_id"]), label=label
    )
    place = "" if one["ra"] is None else f"{one['ra']:.5f} {one['dec']:+.5f}; "
    counts = f"{one['n_detections']} detections in {one['n_epochs']} epochs"
    text = f"{place}{counts}, largest S/N {number(one['max_snr'], 3)}"
    return {"svg": svg, "caption": text}


def _draw_curve(axes: Axes, *, points: Sequence[Row], calibrated: bool, name: str) -> None:
    flux, error = ("flux_njy", "flux_njy_error") if calibrated else ("flux", "flux_error")
    size, unit = _unit([p[flux] for p in points]) if calibrated else (1.0, "image unit")
    timed = all(p["mjd_mid"] is not None for p in points)
    place = {id(p): p["mjd_mid"] if timed else i for i, p in enumerate(points, start=1)}
    axes.axhline(0.0, color=INK, lw=0.6, alpha=0.5)
    for band in sorted({p["band"] or "unknown" for p in points}):
        mine = [p for p in points if (p["band"] or "unknown") == band and p[flux] is not None]
        colour, named = band_colour(band), band
        for seen in (True, False):
            chosen = [p for p in mine if bool(p["detected"]) is seen]
            if chosen:
                axes.errorbar(
                    [place[id(p)] for p in chosen],
                    [p[flux] / size for p in chosen],
                    [(p[error] or 0.0) / size for p in chosen],
                    fmt="o",
                    ms=4.5,
                    mfc=colour if seen else "none",
                    color=colour,
                    lw=1.0,
                    label=named,
                )
                named = None
        limits = [p for p in mine if calibrated and not p["detected"] and p["limit_5sigma_njy"] is not None]
        axes.plot(
            [place[id(p)] for p in limits],
            [p["limit_5sigma_njy"] / size for p in limits],
            "v",
            ms=5,
            mfc="none",
            mew=0.9,
            color=colour,
        )
    if timed:
        date_axis(axes, [p["mjd_mid"] for p in points])
    else:
        axes.set_xlabel("exposure (times unknown)")
    axes.set_ylabel(f"change of flux [{unit}]")
    axes.set_title(name)
    legend_above(axes)


def _unit(fluxes: Sequence[float | None]) -> tuple[float, str]:
    """Return a unit in which the largest flux is a number of few digits."""
    largest = max((abs(f) for f in fluxes if f is not None), default=0.0)
    return next(((size, unit) for size, unit in _FLUX_UNITS if largest >= size), _FLUX_UNITS[-1])


# --- efficiency -----------------------------------------------------------------------------------


def efficiency(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Show which share of injected sources was found, and whether their fluxes came back."""
    table = results.output("injections")
    sources = None if table is None else _clean_sources(table)
    if not sources:
        return Content(missing=_why_no_injections(results))
    fits = results.table("injections", "efficiency.parquet")
    fit_rows = [] if fits is None else fits.to_pylist()
    charts = [_efficiency_chart(sources, fit_rows), *_pull_charts(sources)]
    reasons = _drop_reasons(table)
    return Content(
        {"charts": charts, "fits": _fit_table(fit_rows), "reasons": reasons, "number": len(sources)}
    )


def _why_no_injections(results: FieldResults) -> str:
    rows = results.rows("injections")
    why = next((r["reason"] for r in rows if r["reason"]), None)
    return f"There are no injections ({why})." if why else "Nothing has been injected yet."


def _clean_sources(table: pa.Table) -> list[Row]:
    """Return the injected sources on clean pixels that have a magnitude."""
    rows = table.to_pylist()
    return [r for r in rows if r["kind"] == "source" and r["clean"] and r["magnitude"] is not None]


def wilson(found: int, total: int) -> tuple[float, float]:
    """Return the 68 % interval of a share (Wilson 1927, JASA 22, 209)."""
    share, z2 = found / total, 1.0
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def binned_efficiency(
    magnitude: Sequence[float], found: Sequence[bool], *, width: float = _BIN_WIDTH
) -> list[tuple[float, int, int]]:
    """Return middle, found and total of each magnitude bin that holds any.

    Parameters
    ----------
    magnitude, found
        One entry an injected source.

    width
        Of a bin, mag.
    """
    bins: dict[int, list[bool]] = {}
    for m, hit in zip(magnitude, found, strict=True):
        bins.setdefault(math.floor(m / width), []).append(hit)
    return [((i + 0.5) * width, sum(hits), len(hits)) for i, hits in sorted(bins.items())]


def _efficiency_chart(sources: Sequence[Row], fits: Sequence[Row]) -> dict[str, Any]:
    bins = binned_efficiency([s["magnitude"] for s in sources], [bool(s["found"]) for s in sources])
    plot = partial(_draw_efficiency, bins=bins, fits=fits)
    return {
        "svg": chart(plot, label="Share of injected sources found, by magnitude, with fit"),
        "caption": "Injected sources on clean pixels, detected and not flagged; 68 % binomial intervals.",
    }


def _draw_efficiency(axes: Axes, *, bins: Sequence[tuple[float, int, int]], fits: Sequence[Row]) -> None:
    middles = np.array([b[0] for b in bins])
    shares = np.array([found / total for _, found, total in bins])
    spans = np.array([wilson(found, total) for _, found, total in bins])
    errors = np.abs(spans.T - shares)
    axes.errorbar(middles, shares, errors, fmt="o", ms=4.5, lw=1.0, color=ACCENT, label="all bands")
    for row in fits:
        curve = _curve_of(row)
        if curve is not None:
            grid = np.linspace(middles.min() - 0.5, middles.max() + 0.5, 120)
            band = row.get("band")
            everything = not band or band == "all"
            colour = INK if everything else band_colour(band)
            name = "fit" if everything else f"fit, {band}"
            axes.plot(grid, curve(grid), color=colour, lw=1.3 if everything else 1.0, label=name)
            if everything:
                axes.axvline(row["m50"], color=INK, lw=0.8, ls=(0, (4, 3)))
                axes.text(
                    row["m50"], 1.06, f" m50 = {row['m50']:.2f}", va="bottom", ha="center", fontsize=8.5
                )
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("injected magnitude [AB]")
    axes.set_ylabel("share found")
    axes.legend(loc="lower left")


def _curve_of(row: Row) -> Any:
    """Return the fitted curve of a row of the efficiency table; None where the fit failed."""
    if any(row.get(name) is None for name in ("epsilon0", "m50", "width")):
        return None
    return lambda m: row["epsilon0"] / (1.0 + np.exp((m - row["m50"]) / row["width"]))


def _pull_charts(sources: Sequence[Row]) -> list[dict[str, Any]]:
    pulls = [
        (s["flux_forced"] - s["flux"]) / s["flux_forced_error"]
        for s in sources
        if s["flux_forced"] is not None and s["flux_forced_error"]
    ]
    pulls = [p for p in pulls if math.isfinite(p)]
    if len(pulls) < 2:
        return []
    middle, width = statistics.median(pulls), _robust_width(pulls)
    spread = f"width {width:.2f} (1.4826 MAD), std {statistics.stdev(pulls):.2f}"
    text = f"{len(pulls)} sources: median {middle:+.2f}, {spread}"
    svg = chart(partial(_draw_pulls, pulls=pulls), label="Histogram of flux pulls and the unit Gaussian")
    return [{"svg": svg, "caption": text}]


def _robust_width(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(v - middle) for v in values)


def _draw_pulls(axes: Axes, *, pulls: Sequence[float]) -> None:
    edges = np.linspace(-_PULL_REACH, _PULL_REACH, 41)
    values = np.clip(pulls, -_PULL_REACH, _PULL_REACH)
    axes.hist(values, edges, density=True, color=ACCENT, alpha=0.55, label="injected sources")
    axes.plot(
        edges, np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi), color=INK, lw=1.2, label="unit Gaussian"
    )
    axes.set_xlabel("(measured − injected flux) / error")
    axes.set_ylabel("share per sigma")
    axes.set_xlim(-_PULL_REACH, _PULL_REACH)
    axes.set_ylim(0, max(axes.get_ylim()[1], 0.5))
    axes.legend(loc="upper right")


def _fit_table(fits: Sequence[Row]) -> list[list[Any]]:
    names = ("epsilon0", "m50", "width", "m90")
    return [
        [row.get("band") or "all", *(_with_error(row.get(n), row.get(f"{n}_error")) for n in names)]
        for row in fits
    ]


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def _drop_reasons(table: pa.Table) -> list[list[Any]]:
    """Count why injected sources were not found."""
    from collections import Counter

    rows = [r for r in table.to_pylist() if r["kind"] == "source"]
    counts = Counter(r["drop_reason"] or "found" for r in rows)
    return [[reason.replace("_", " "), n, 100.0 * n / len(rows)] for reason, n in counts.most_common()]
