"""Sections about objects: light curves, and how many sources would have been found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.reports.pages import number
from astrid_assets.reports.plots import ACCENT, INK, band_colour, chart, date_axis, decades, legend_above
from astrid_assets.reports.sections.content import Content
from astrid_assets.science.efficiency import efficiency as efficiency_at
from astrid_assets.science.recovery import wilson
from astrid_assets.training.injection_tables import flux_pulls

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

    from astrid_assets.reports.results import FieldResults
    from astrid_assets.storage.store import Row

__all__ = ["binned_efficiency", "efficiency", "light_curves"]

_CURVES = 8
"""Light curves shown: those of most detections."""

_FLUX_UNITS = ((1e6, "mJy"), (1e3, "µJy"), (1.0, "nJy"))
"""Units by their size in nJy, largest first."""

_BIN_WIDTH = 0.5
"""Width of a magnitude bin of the efficiency, mag."""

_LOG_BIN_WIDTH = 0.2
"""Width of a bin of log10(S/N)."""

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
    counts = f"detections: {one['n_detections']}, epochs: {one['n_epochs']}"
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
    if table is None or table.num_rows == 0:
        return Content(missing=_why_no_injections(results))
    sources = [row for row in table.to_pylist() if row["counted"]]
    fits = results.table("injections", "efficiency.parquet")
    fit_rows = [] if fits is None else fits.to_pylist()
    curves = [row for row in fit_rows if row["site"] == "all"]
    charts = [*_magnitude_charts(sources, curves), *_snr_charts(sources, curves)]
    charts += _pull_charts(flux_pulls(table))
    return Content(
        {
            "charts": charts,
            "fits": [_fit_line(row) for row in fit_rows if row["m50"] is not None],
            "outcomes": _outcomes(table),
            "classes": _classes(table),
            "counted": len(sources),
            "number": table.num_rows,
        }
    )


def _why_no_injections(results: FieldResults) -> str:
    rows = results.rows("injections")
    why = next((r["reason"] for r in rows if r["reason"]), None)
    return f"There are no injections ({why})." if why else "Nothing has been injected yet."


def binned_efficiency(
    values: Sequence[float], found: Sequence[bool], *, width: float = _BIN_WIDTH
) -> list[tuple[float, int, int]]:
    """Return middle, found and total of each bin that holds any.

    Parameters
    ----------
    values, found
        One entry an injected source.

    width
        Of a bin.
    """
    bins: dict[int, list[bool]] = {}
    for value, hit in zip(values, found, strict=True):
        bins.setdefault(math.floor(value / width), []).append(hit)
    return [((i + 0.5) * width, sum(hits), len(hits)) for i, hits in sorted(bins.items())]


def _magnitude_charts(sources: Sequence[Row], curves: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the efficiency by magnitude; nothing without a zero point."""
    known = [s for s in sources if s["magnitude"] is not None]
    if not known:
        return []
    bins = binned_efficiency([s["magnitude"] for s in known], [bool(s["found"]) for s in known])
    few = "" if any(row["m50"] is not None for row in curves) else "; too few of them for a fit"
    return [
        {
            "svg": chart(
                partial(_draw_efficiency, bins=bins, curves=curves),
                label="Share of injected sources found, by magnitude, with fit",
            ),
            "caption": f"{len(known)} sources that count, in bins of {_BIN_WIDTH:g} mag, "
            f"68 % binomial intervals{few}",
        }
    ]


def _draw_efficiency(axes: Axes, *, bins: Sequence[tuple[float, int, int]], curves: Sequence[Row]) -> None:
    _draw_shares(axes, bins)
    grid = np.linspace(bins[0][0] - 0.5, bins[-1][0] + 0.5, 120)
    for row in curves:
        if row["m50"] is not None:
            _draw_fit(axes, row, grid)
    axes.set_xlabel("injected magnitude [AB]")
    axes.set_title("efficiency")
    legend_above(axes)


def _draw_shares(axes: Axes, bins: Sequence[tuple[float, int, int]]) -> None:
    """Draw the share found in each bin with its binomial interval."""
    shares = np.array([found / total for _, found, total in bins])
    spans = np.array([wilson(found, total, z=1.0) for _, found, total in bins])
    errors = np.abs(spans.T - shares)
    axes.errorbar(
        [b[0] for b in bins], shares, errors, fmt="o", ms=4.5, lw=1.0, color=ACCENT, label="all bands"
    )
    axes.set_ylim(-0.03, 1.05)
    axes.set_ylabel("share found")


def _snr_charts(sources: Sequence[Row], curves: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the efficiency by the S/N that the depth of each difference predicts; it needs no zero point."""
    known = [s for s in sources if s["snr_expected"]]
    if not known:
        return []
    strength = [math.log10(abs(s["snr_expected"])) for s in known]
    bins = binned_efficiency(strength, [bool(s["found"]) for s in known], width=_LOG_BIN_WIDTH)
    half = next((row["snr50"] for row in curves if row["band"] == "all"), None)
    caption = f"{len(known)} sources by the S/N that the depth of the difference predicts"
    return [
        {
            "svg": chart(
                partial(_draw_snr, bins=bins, half=half), label="Share of injected sources found, by S/N"
            ),
            "caption": caption + (f"; half are found at {half:.1f}" if half is not None else ""),
        }
    ]


def _draw_snr(axes: Axes, *, bins: Sequence[tuple[float, int, int]], half: float | None) -> None:
    _draw_shares(axes, [(10.0**middle, found, total) for middle, found, total in bins])
    decades(axes, which="x")
    if half is not None:
        axes.axvline(half, color=INK, lw=0.8, ls=(0, (4, 3)))
    axes.set_xlabel("expected S/N")
    axes.set_title("efficiency by significance")


def _draw_fit(axes: Axes, row: Row, grid: np.ndarray) -> None:
    """Draw a fitted curve; that of all bands in ink, with its m50."""
    share = efficiency_at(grid, row["epsilon0"], row["m50"], row["width"])
    if row["band"] != "all":
        axes.plot(grid, share, color=band_colour(row["band"]), lw=1.0, label=f"fit, {row['band']}")
        return
    axes.plot(grid, share, color=INK, lw=1.4, label="fit, all")
    axes.axvline(row["m50"], color=INK, lw=0.8, ls=(0, (4, 3)))
    axes.text(row["m50"], 0.02, f"m50 = {row['m50']:.2f} ", ha="right", va="bottom", fontsize=8.5)


def _pull_charts(pulls: np.ndarray) -> list[dict[str, Any]]:
    if len(pulls) < 2:
        return []
    text = (
        f"{len(pulls)} sources of S/N 5 to 100 where nothing shows without them: mean {pulls.mean():+.2f}, "
        f"standard deviation {pulls.std(ddof=1):.2f} (1 is right)"
    )
    svg = chart(partial(_draw_pulls, pulls=pulls), label="Histogram of flux pulls and the unit Gaussian")
    return [{"svg": svg, "caption": text}]


def _draw_pulls(axes: Axes, *, pulls: np.ndarray) -> None:
    edges = np.linspace(-_PULL_REACH, _PULL_REACH, 31)
    values = np.clip(pulls, -_PULL_REACH, _PULL_REACH)
    axes.hist(values, edges, density=True, color=ACCENT, alpha=0.55, label="injected sources")
    fine = np.linspace(-_PULL_REACH, _PULL_REACH, 121)
    axes.plot(fine, np.exp(-(fine**2) / 2) / math.sqrt(2 * math.pi), color=INK, lw=1.2, label="unit Gaussian")
    axes.set_xlabel("(measured − injected flux) / error")
    axes.set_ylabel("share per sigma")
    axes.set_xlim(-_PULL_REACH, _PULL_REACH)
    axes.set_ylim(0, max(axes.get_ylim()[1], 0.5))
    axes.set_title("flux pull")
    legend_above(axes)


def _fit_line(row: Row) -> list[Any]:
    names = ("epsilon0", "m50", "width", "m90")
    counts = [row["n_found"], row["n_sources"]]
    return [row["band"], row["site"], *counts, *(_with_error(row[n], row[f"{n}_error"]) for n in names)]


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def _outcomes(table: pa.Table) -> list[list[Any]]:
    """Count what became of the sources that were put in."""
    rows = [r for r in table.to_pylist() if r["kind"] == "source"]
    counts = Counter(r["drop_reason"] or "found" for r in rows)
    return [[reason.replace("_", " "), n, 100.0 * n / len(rows)] for reason, n in counts.most_common()]


def _classes(table: pa.Table) -> list[list[Any]]:
    """Count sources and defects by class, and how many of them are seen as changes."""
    rows = table.select(["kind", "class", "found"]).to_pylist()
    counts = Counter((r["kind"], r["class"]) for r in rows)
    seen = Counter((r["kind"], r["class"]) for r in rows if r["found"])
    ranked = sorted(counts.items(), key=lambda item: (item[0][0] != "source", -item[1], item[0]))
    return [[kind, name.replace("_", " "), n, seen[kind, name]] for (kind, name), n in ranked]
