"""Pages: templates filled with text that is always escaped, and what a finished page holds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from astrid_assets import __version__
from astrid_assets.clock import from_mjd

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["PageFacts", "date", "inspect", "number", "plural", "render", "shown"]

_LOADING = {"src", "srcset", "href", "data", "poster", "action", "background"}
"""Attributes that may make a browser fetch something."""

_LINKS = {"a", "area"}
"""Elements that fetch nothing until someone follows them."""

_STYLED = re.compile(r"""@import\s+["'](?P<sheet>[^"']+)|url\(\s*["']?(?!data:|\#)(?P<file>[^"')]+)""")
"""What a style sheet makes a browser fetch."""


def number(value: float | None, digits: int = 4) -> str:
    """Write a number with some significant digits; a dash for what is not known."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e7):
        return f"{int(value)}"
    return f"{value:.{digits}g}"


def shown(value: Any) -> Any:
    """Write a cell of a table: numbers with four digits, a dash for what is not there."""
    if value is None or value == "":
        return "–"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return value


def plural(number_of: int, word: str) -> str:
    """Write a number and what it counts."""
    return f"{number_of} {word}{'' if number_of == 1 else 's'}"


def date(mjd: float | None, *, time: bool = True) -> str:
    """Write an MJD (UTC) as date and time; "unknown" where there is none."""
    if mjd is None or not math.isfinite(mjd):
        return "unknown"
    return f"{from_mjd(mjd):%Y-%m-%d %H:%M}" if time else f"{from_mjd(mjd):%Y-%m-%d}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("astrid_assets.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"num": number, "shown": shown, "date": date, "px": lambda v: f"{v:.1f}"}
    environment.globals["version"] = __version__
    return environment


def render(template: str, **values: Any) -> str:
    """Fill a template of ``reports/templates``; a value that it needs and does not get is an error."""
    return _environment().get_template(template).render(**values)


@dataclass(frozen=True)
class PageFacts:
    """What is in a page."""

    n_figures: int
    """Figures, and images that stand alone."""

    n_blank: int
    """Figures without a picture or a chart in them."""

    external: tuple[str, ...]
    """Addresses that a browser would fetch to show the page; links to be followed are none."""


class _Inspector(HTMLParser):
    """Counts figures and finds what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.filled: list[bool] = []
        self.external: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "figure":
            self.filled.append(False)
            self._inside = True
        elif tag == "img" and not self._inside:
            self.filled.append(self._has_content(tag, dict(attributes)))
        elif self._inside and tag in {"svg", "img", "image"}:
            self.filled[-1] = self._has_content(tag, dict(attributes))
        if tag not in _LINKS:
            values = [(value or "").strip() for name, value in attributes if name.split(":")[-1] in _LOADING]
            self.external += [v for v in values if v and not v.startswith(("data:", "#"))]

    def handle_endtag(self, tag: str) -> None:
        if tag == "figure":
            self._inside = False

    def _has_content(self, tag: str, attributes: dict[str, str | None]) -> bool:
        return tag == "svg" or len(attributes.get("src") or attributes.get("href") or "") > 100


def inspect(html: str) -> PageFacts:
    """Return what is in a page."""
    inspector = _Inspector()
    inspector.feed(html)
    inspector.close()
    blank = sum(not filled for filled in inspector.filled)
    styled = [m["sheet"] or m["file"] for m in _STYLED.finditer(html)]
    return PageFacts(len(inspector.filled), blank, (*inspector.external, *styled))
