"""The page of a field: which sections it has, what each reads, and how they become one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from astrid_assets.reports.pages import PageFacts, inspect, render
from astrid_assets.storage.layout import ASSETS
from astrid_assets.storage.manifest import digest

if TYPE_CHECKING:
    from astrid_assets.fields import Field
    from astrid_assets.reports.results import FieldResults
    from astrid_assets.storage.store import Row

__all__ = ["SECTIONS", "Part", "Section", "choose_exposures", "finish", "parts_of"]

_UPSTREAM = tuple(asset for asset in ASSETS if asset != "field_report")


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    title: str
    """Its heading, also in the navigation."""

    needs: tuple[str, ...]
    """Assets that it reads; it is drawn again when one of them changed."""

    words: str = ""
    """Short title for the navigation."""


_SEARCHED = ("zogy_differences", "candidates")
_PANELS = (
    "science_images",
    "normalized_pairs",
    "zogy_differences",
    "classic_differences",
    "candidates",
)
"""What the panels of an exposure read. Of these the exposure's own rows decide, see `parts_of`."""

SECTIONS: Mapping[str, Section] = {
    "overview": Section("Overview", (*_UPSTREAM,)),
    "exposures": Section("Exposures", (*_UPSTREAM[:2], *_PANELS, "aligned_pairs")),
    "panels": Section("Images", _PANELS),
    "comparison": Section("ZOGY beside classic", ("zogy_differences", "classic_differences")),
    "noise": Section("Noise", ("zogy_differences", "classic_differences")),
    "quality": Section(
        "Quality over time",
        ("science_images", "aligned_pairs", "normalized_pairs", *_SEARCHED),
        "Quality",
    ),
    "gallery": Section("Candidates", ("cutouts", "light_curves", "candidates")),
    "light_curves": Section("Light curves", ("light_curves",)),
    "efficiency": Section("Efficiency and flux closure", ("injections",), "Efficiency"),
    "checks": Section("Checks", ()),
    "limitations": Section("Known limitations found in this data", (*_UPSTREAM,), "Limitations"),
    "provenance": Section("Provenance", (*_UPSTREAM,)),
}
"""Sections by name, in the order of the page."""


@dataclass(frozen=True)
class Part:
    """A piece of the page that is drawn by itself: a section, or the panels of one exposure."""

    key: str
    """Name of the piece."""

    section: str
    """Section that it belongs to."""

    input_sha256: str
    """Identity of all that it shows."""

    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What the section needs beside the tables."""

    html: str | None = None
    """What was drawn; None where nothing could be."""

    reason: str | None = None
    """Why there is nothing."""


def parts_of(results: FieldResults, checks: Sequence[Mapping[str, Any]], *, panels_max: int) -> list[Part]:
    """Return the pieces of the page of a field.

    Parameters
    ----------
    results
        Tables of the field; all assets allowed.

    checks
        Results of the checks of all assets, as the page shows them.

    panels_max
        Exposures of which images are shown.
    """
    parts = []
    for name, section in SECTIONS.items():
        if name == "panels":
            parts += _panel_parts(results, panels_max)
            continue
        inputs = {"checks": list(checks)} if name == "checks" else {}
        identity = digest([results.digest(section.needs), inputs, _described(results.sky_field)])
        parts.append(Part(name, name, identity, inputs))
    return parts


def _described(sky_field: Field) -> Mapping[str, Any]:
    """Return what the page says about the field itself."""
    return sky_field.model_dump(mode="json", include={"name", "ra", "dec", "radius", "archives", "event"})


def _panel_parts(results: FieldResults, panels_max: int) -> list[Part]:
    """Return the panels of the exposures that are shown; each is drawn again when its own rows changed."""
    chosen = choose_exposures(results.usable("zogy_differences"), panels_max)
    parts = []
    for slot, row in enumerate(chosen, start=1):
        name = row["exposure_id"]
        rows = [r["product_id"] for a in _PANELS for r in results.usable(a) if r["exposure_id"] == name]
        inputs = {"exposure_id": name, "slot": slot}
        parts.append(Part(f"panels_{slot}", "panels", digest([rows, inputs]), inputs))
    return parts


def choose_exposures(rows: Sequence[Row], number_max: int) -> list[Row]:
    """Return the exposures to show: the newest of each band, then the newest of the rest.

    Parameters
    ----------
    rows
        Usable rows of the differences.

    number_max
        Most of them.
    """
    newest = sorted(rows, key=lambda r: (r["mjd_mid"] or 0.0, r["exposure_id"]), reverse=True)
    seen: set[str | None] = set()
    first = [r for r in newest if not (r["band"] in seen or seen.add(r["band"]))]
    rest = [r for r in newest if r not in first]
    return [*first, *rest][:number_max]


def finish(sky_field: Field, parts: Sequence[Part], *, archives: Sequence[str]) -> tuple[str, PageFacts]:
    """Put the pieces together.

    Parameters
    ----------
    sky_field
        The field.

    parts
        All pieces, drawn.

    archives
        Archives that images of the field came from; decides whether the page calls its data simulated.
    """
    blocks = []
    for name, section in SECTIONS.items():
        mine = [part for part in parts if part.section == name]
        missing = next((p.reason for p in mine if p.html is None), "No exposure has been differenced yet.")
        html = [p.html for p in mine if p.html is not None]
        title, words = section.title, section.words or section.title
        blocks.append({"name": name, "title": title, "words": words, "html": html, "missing": missing})
    page = render("field.html", field=sky_field, sections=blocks, archives=archives)
    return page, inspect(page)
