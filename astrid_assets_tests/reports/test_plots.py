"""Charts: part of the page, in the page's ink, the same bytes for the same numbers."""

from __future__ import annotations

import html
import re

import numpy as np

from astrid_assets.reports.plots import INK, chart, date_axis, decades, legend_above, limit_bands


def texts(svg: str) -> list[str]:
    """Return what is written in a chart."""
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def draw(plot) -> str:
    return str(chart(plot, label="a <chart>"))


def test_a_chart_is_part_of_its_page():
    def plot(axes):
        axes.plot([1, 2], [3, 4], label="line & dots")
        axes.set_xlabel("x [pixel]")
        legend_above(axes)

    svg = draw(plot)
    assert svg.startswith('<svg class="chart" viewBox=')
    assert 'aria-label="a &lt;chart&gt;"' in svg
    assert "currentColor" in svg
    assert INK not in svg
    for word in ("http", "<?xml", "DOCTYPE", "<style", "font-family", ' id="axes'):
        assert word not in svg
    assert {"x [pixel]", "line & dots"} <= set(texts(svg))
    assert draw(plot) == svg


def test_dates_name_the_days():
    def plot(axes):
        axes.plot([60919.2, 60927.1], [1, 2])
        date_axis(axes, [60919.2, 60927.1])

    found = texts(draw(plot))
    assert "date 2025 (UTC)" in found
    assert "6 Sep" in found


def test_dates_over_a_turn_of_the_year_name_the_year():
    def plot(axes):
        date_axis(axes, [60600.0, 61000.0])

    assert any("2025" in text for text in texts(draw(plot)))


def test_decades_are_written_plainly():
    def plot(axes):
        axes.plot([1, 2], [1e-7, 10])
        decades(axes)

    found = texts(draw(plot))
    assert any(text.startswith("10⁻") for text in found)
    assert not any("mathdefault" in text for text in found)


def test_bands_lie_beside_each_other():
    def plot(axes):
        limit_bands(axes, (("green", 0.0, 1.0), ("yellow", 0.0, 2.0)), [0.5, 1.8])
        spans = sorted((round(p.get_y(), 3), round(p.get_y() + p.get_height(), 3)) for p in axes.patches)
        low, high = axes.get_ylim()
        # green from 0 to 1, yellow above it; below zero is neither
        assert spans[0] == (0.0, 1.0)
        assert spans[1][0] == 1.0
        assert low < 0.0 < 1.8 < high

    draw(plot)


def test_bands_of_nothing_do_no_harm():
    draw(lambda axes: limit_bands(axes, (), [np.nan]))
