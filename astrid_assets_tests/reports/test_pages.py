"""Pages: text is escaped, numbers are readable, and nothing that is fetched from elsewhere goes unseen."""

from __future__ import annotations

import math

import pytest

from astrid_assets.reports.field_page import SECTIONS
from astrid_assets.reports.pages import date, inspect, number, render, shown
from astrid_assets.reports.sections import DRAWERS

DASH = "\N{EN DASH}"
PICTURE = "data:image/png;base64," + "A" * 200


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (12, "12"), (3.0, "3"), (1.5e-9, "1.5e-09"), (None, DASH), (math.nan, DASH)],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text


def test_cells_show_what_is_there():
    assert [shown(v) for v in ("", None, "word", True, 0.5)] == [DASH, DASH, "word", True, "0.5"]


def test_dates_are_utc_or_unknown():
    assert date(60000.25) == "2023-02-25 06:00"
    assert date(60000.25, time=False) == "2023-02-25"
    assert date(None) == "unknown"


def test_text_is_escaped():
    html = render("sections/limitations.html", found=[{"text": "<script>alert(1)</script>"}])
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_every_section_is_drawn_by_someone():
    assert list(DRAWERS) == list(SECTIONS)


@pytest.mark.parametrize(
    "html",
    [
        "<img src='https://a.org/x.png'>",
        "<script src=x.js></script>",
        "<link rel=stylesheet href=style.css>",
        "<svg><image xlink:href='x.png'/></svg>",
        "<style>body { background: url(x.png) }</style>",
        "<style>@import 'x.css'</style>",
    ],
)
def test_what_a_browser_would_fetch_is_found(html):
    assert len(inspect(html).external) == 1


def test_links_and_pictures_in_the_page_are_not_fetched():
    html = f"<a href='https://a.org'>x</a><img src='{PICTURE}'><svg><use href='#marks'/></svg>"
    assert inspect(html).external == ()


def test_blank_figures_are_counted():
    html = f"<figure><img src='{PICTURE}'></figure><figure><img src=''></figure><figure><p>no</p></figure>"
    facts = inspect(html)
    assert (facts.n_figures, facts.n_blank) == (3, 2)
