"""Charts for pages: Matplotlib without state, as SVG that takes its ink from the page.

A chart is inline SVG: text stays text (a phone shows it sharp, a reader finds it), and axes and labels
have the colour of the text around them, light or dark. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from astrid_assets.clock import from_mjd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "ACCENT",
    "COLOURS",
    "INK",
    "band_colour",
    "chart",
    "date_axis",
    "decades",
    "legend_above",
    "limit_bands",
]

INK = "#010203"
"""Stands for the colour of the page's text while Matplotlib draws."""

ACCENT = "#4c7fd0"
"""Colour of what is not of one band."""

COLOURS: Mapping[str, str] = {"green": "#2f9e44", "yellow": "#e0b000", "orange": "#e8772e", "red": "#d6336c"}
"""Colours of judgements, the same as in the style sheet of the pages."""

_BANDS = {
    "nuv": "#9c6ade",
    "u": "#7a5fd0",
    "b": "#4c6fe0",
    "g": "#2f9e6e",
    "v": "#74a12e",
    "r": "#d9534f",
    "i": "#c98a1b",
    "z": "#a0603a",
    "y": "#80543c",
    "j": "#b0566f",
    "h": "#8c5a86",
    "k": "#6b5f8f",
}
"""Colours by the first letter of a band; middle tones, to be read on white and on black."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "astrid",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.labelpad": 3.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.4,
    "legend.labelspacing": 0.25,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.4,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color", "legend.labelcolor"), INK),
}

_INCHES = (4.4, 2.75)
"""Size of a chart; the page scales it to the width that there is."""

_MARGINS = (0.74, 0.5, 0.2, 0.3)
"""Room in inches left, below, right and above the axes."""

_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_LEFT_OVER = re.compile(
    r' id="(?:figure|axes|patch|line2d|text|matplotlib\.axis|[xy]tick|legend|PathCollection|PolyCollection'
    r"|FillBetweenPolyCollection|LineCollection|Line2DCollection|QuadMesh)_\d+\""
)
_FONT = re.compile(r" font-family: [^;\"]*;?")
_FONT_SHORT = re.compile(r"font: ([\d.]+px) [^;\"]*")


def band_colour(band: str | None) -> str:
    """Return the colour that stands for a band, the same in all charts."""
    return _BANDS.get((band or "").lower(), _BANDS.get((band or " ")[0].lower(), ACCENT))


def chart(
    plot: Callable[[Axes], None],
    *,
    label: str,
    size: tuple[float, float] = _INCHES,
    margins: tuple[float, float, float, float] = _MARGINS,
) -> Markup:
    """Draw one chart as an inline SVG.

    Parameters
    ----------
    plot
        Called with the axes; it draws, names the axes and sets the title.

    label
        What the chart shows, for those who cannot see it.

    size
        Width and height in inches; the text is 9.5 points high.

    margins
        Room left, below, right and above the axes, inches.
    """
    (width, height), (left, below, right, above) = size, margins
    box = (left / width, below / height, 1 - (left + right) / width, 1 - (below + above) / height)
    stream = io.StringIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        axes = figure.add_axes(box)
        plot(axes)
        # names of y axes at the same place in all charts, however wide the numbers are
        axes.yaxis.set_label_coords(-(left - 0.16) / (width - left - right), 0.5)
        figure.savefig(stream, format="svg", transparent=True, metadata=_NO_METADATA)
    figure.clear()
    return Markup(_inline(stream.getvalue(), label))  # noqa: S704 - Matplotlib escapes what it writes


def _inline(text: str, label: str) -> str:
    """Make a file of Matplotlib part of a page: no prologue, no names of its own, ink of the page."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = _LEFT_OVER.sub("", body)
    body = _FONT.sub("", _FONT_SHORT.sub(r"font-size: \1", body)).replace(INK, "currentColor")
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"\n\s*", "\n", body)
    box = re.search(r'viewBox="[^"]*"', body).group()
    head = f'<svg class="chart" {box} role="img" aria-label="{escape(label)}">'
    return head + body[body.index(">") + 1 :].replace("xlink:href", "href").strip()


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, at the right, where it hides no point."""
    # a little above the axes: the title stands there too, at the left
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=8,
        handlelength=1.0,
        handletextpad=0.3,
        columnspacing=0.9,
    )


def date_axis(axes: Axes, mjd: Sequence[float]) -> None:
    """Name the ticks of an x axis of MJDs (UTC) by dates; no more of them than can be read."""
    low, high = (min(mjd), max(mjd)) if len(mjd) else (0.0, 1.0)
    # two days at least, or the same date would stand at several ticks
    pad = max(0.04 * (high - low), 1.0 - 0.5 * (high - low), 0.1)
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=2))
    first, last = from_mjd(low), from_mjd(high)
    if first.year == last.year:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{from_mjd(v):%-d %b}"))
        axes.set_xlabel(f"date {first.year} (UTC)")
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{from_mjd(v):%b %Y}"))
        axes.set_xlabel("date (UTC)")


def decades(axes: Axes, *, which: str = "y") -> None:
    """Make an axis logarithmic and name its decades without mathematical typesetting."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    (axes.set_yscale if which == "y" else axes.set_xscale)("log")
    axis.set_major_locator(LogLocator(10, numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda v, _: _power(v)))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    """Write a power of ten: 0.01 to 1000 as they are, others with an exponent."""
    if value <= 0:
        return ""
    exponent = round(math.log10(value))
    if -2 <= exponent <= 3:
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def limit_bands(axes: Axes, ranges: Sequence[tuple[str, float, float]], values: Sequence[float]) -> None:
    """Shade behind values what is green, yellow and orange.

    Parameters
    ----------
    axes
        Axes with the values on y; its limits are set to hold them and the end of green near them.

    ranges
        ``(colour, low, high)``, best first, each holding the one before.

    values
        What is drawn.
    """
    low, high = _window([v for v in values if math.isfinite(v)], ranges)
    axes.set_ylim(low, high)
    inner_low, inner_high = math.inf, -math.inf
    for colour, start, end in ranges:
        # each range holds the one before: only what it adds is shaded
        pieces = [(start, min(end, inner_low)), (max(start, inner_high), end)]
        for piece in pieces if inner_low < inner_high else [(start, end)]:
            bottom, top = max(piece[0], low), min(piece[1], high)
            if bottom < top:
                axes.axhspan(bottom, top, color=COLOURS[colour], alpha=0.16, lw=0, zorder=-9)
        inner_low, inner_high = start, end


def _window(values: Sequence[float], ranges: Sequence[tuple[str, float, float]]) -> tuple[float, float]:
    """Return the range of y: all values, and an end of green that lies no further than twice their span."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    # a tenth of the value at least: labels of a narrower range would have too many digits
    span = max(high - low, 0.1 * max(abs(low), abs(high)), 1e-12)
    for edge in ranges[0][1:] if ranges else ():
        if math.isfinite(edge):
            if high < edge < high + 2.0 * span:
                high = edge
            if low - 2.0 * span < edge < low:
                low = edge
    pad = max(0.12 * (high - low), 0.5 * (span - (high - low)))
    return low - pad, high + pad
