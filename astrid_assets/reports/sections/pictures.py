"""Sections of images: panels of whole exposures, and the gallery of candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.reports.pages import date
from astrid_assets.reports.pictures import Picture, ScaleBar, grey, north, scale_bar, signed, stamp_strip
from astrid_assets.reports.sections.content import Content

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.reports.results import FieldResults
    from astrid_assets.storage.store import Row

__all__ = ["gallery", "panels"]

_WIDTH = 512
"""Most columns of a picture."""

_SIGMA = 8.0
"""S_corr that is white in its picture."""

_BEST = 12
"""Unflagged candidates in the gallery."""

_PER_ARTIFACT = 3
"""Flagged detections of each kind in the gallery."""


@dataclass(frozen=True)
class Panel:
    """One picture of an exposure, with what is drawn over it."""

    title: str
    """What it shows."""

    picture: Picture
    """The pixels."""

    bar: ScaleBar
    """Scale."""

    north: tuple[float, float, float, float] | None
    """Where north and east are; None without world coordinates."""

    marks: Sequence[Mapping[str, Any]] = ()
    """Detections: x and y (of the picture, y downwards), flagged, title."""

    marks_id: str = ""
    """Name of the marks, for other panels."""

    marks_from: str = ""
    """Marks of another panel to show."""


def panels(results: FieldResults, inputs: Mapping[str, Any]) -> Content:
    """Show science, reference, both differences and S_corr of one exposure with its detections."""
    name = inputs["exposure_id"]
    difference = _row(results, "zogy_differences", name)
    pair = _row(results, "normalized_pairs", name)
    if difference is None or pair is None:
        return Content(missing=f"{name} has no difference.")
    classic = _row(results, "classic_differences", name)
    image = _row(results, "science_images", name) or {}
    shown = [*_pair_pictures(results, pair), *_difference_pictures(results, difference, "ZOGY")]
    marks = _marks(results.output("candidates"), name, shown[0][1])
    if classic is not None:
        shown += _difference_pictures(results, classic, "classic")
    bar = scale_bar(shown[0][1].nx, image.get("metric_pixel_scale"))
    compass, key = north(difference), f"marks-{inputs['slot']}"
    drawn = [
        _panel(i, title, picture, bar, compass, marks=marks, key=key)
        for i, (title, picture) in enumerate(shown)
    ]
    counts = Counter(m["flagged"] for m in marks)
    head = {"name": name, "slot": inputs["slot"], "date": date(difference["mjd_mid"])}
    head["band"] = f"band {difference['band']}" if difference["band"] else "unknown band"
    return Content({**head, "panels": drawn, "kept": counts[False], "flagged": counts[True]})


def _row(results: FieldResults, asset: str, name: str) -> Row | None:
    return next((r for r in results.usable(asset) if r["exposure_id"] == name), None)


def _panel(
    i: int,
    title: str,
    picture: Picture,
    bar: ScaleBar,
    compass: tuple[float, float, float, float] | None,
    *,
    marks: Sequence[Mapping[str, Any]],
    key: str,
) -> Panel:
    """Draw the marks once and refer to them in the other panels."""
    if not marks:
        return Panel(title, picture, bar, compass)
    return Panel(title, picture, bar, compass, marks if i == 0 else (), key, "" if i == 0 else key)


def _pair_pictures(results: FieldResults, row: Row) -> list[tuple[str, Picture]]:
    """Return the science image and its reference."""
    planes = _planes(results, row, "pair", {"science": ("SCI", "MASK"), "reference": ("REF", "REFMASK")})
    titles = {"science": "science", "reference": "reference, warped onto it"}
    return [(titles[name], grey(data, good, width=_WIDTH)) for name, (data, good) in planes.items()]


def _difference_pictures(results: FieldResults, row: Row, method: str) -> list[tuple[str, Picture]]:
    """Return the difference and its significance."""
    names = {"difference": ("SCI", "MASK"), "score": ("SCORR", "MASK")}
    planes = _planes(results, row, "difference", names)
    return [
        (f"{method} difference, ±10σ of its noise", signed(*planes["difference"], width=_WIDTH)),
        (f"{method} significance S_corr, ±{_SIGMA:g}σ", signed(*planes["score"], width=_WIDTH, reach=_SIGMA)),
    ]


def _planes(
    results: FieldResults, row: Row, kind: str, names: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read planes and which of their pixels are trusted, and nothing else of a file."""
    from astrid_assets.images import layout
    from astrid_assets.images.fits import open_fits
    from astrid_assets.images.masks import BAD_BITS

    found = {}
    with open_fits(results.store.path(row["path"])) as hdus:
        meta = layout.read_meta(hdus, kind)
        for name, (plane, mask) in names.items():
            bits = meta["planes"] if kind == "difference" else meta[name]["planes"]
            data = layout.read_plane(hdus, plane)
            bad = (layout.decode_mask(hdus, mask, bits) & BAD_BITS) != 0
            found[name] = data, ~bad & np.isfinite(data)
    return found


def _marks(table: pa.Table | None, name: str, picture: Picture) -> list[dict[str, Any]]:
    """Return the detections of an exposure in pixels of a picture."""
    if table is None:
        return []
    columns = ("x", "y", "snr", "positive", "artifact", "magnitude", "exposure_id")
    rows = [r for r in table.select(columns).to_pylist() if r["exposure_id"] == name]
    rows.sort(key=lambda r: bool(r["artifact"]), reverse=True)
    return [
        {
            "x": row["x"] + 0.5,
            "y": picture.ny - 0.5 - row["y"],
            "flagged": bool(row["artifact"]),
            "title": _describe(row),
        }
        for row in rows
    ]


def _describe(row: Row) -> str:
    sign = "brighter" if row["positive"] else "fainter"
    magnitude = "" if row["magnitude"] is None else f", {row['magnitude']:.2f} mag"
    doubt = f", flagged: {row['artifact']}" if row["artifact"] else ""
    return f"S/N {row['snr']:.1f}, {sign}{magnitude}{doubt}"


# --- gallery --------------------------------------------------------------------------------------


def gallery(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Show triplets of the best unflagged candidates, and some of each kind of artefact."""
    from astrid_assets.images.triplets import read_triplets

    rows = [r for r in results.rows("cutouts") if r["state"] == "ok"]
    if not rows:
        return Content(missing=_why_no_cutouts(results))
    matches = _matches(results)
    candidates = [c | matches.get(c["candidate_id"], {}) for row in rows for c in _cut_out(results, row)]
    groups = _chosen(candidates, _objects(results))
    wanted = [c for _, members in groups for c in members]
    strips = {}
    for row in rows:
        mine = [c for c in wanted if c["cutouts"] == row["path"]]
        if mine:
            triplets = read_triplets(results.store.path(row["path"]))
            strips |= {(row["path"], c["row"]): stamp_strip(triplets.stamps[c["row"]]) for c in mine}
    return Content(
        {
            "groups": [
                {
                    "title": title,
                    "stamps": [
                        {"src": strips[c["cutouts"], c["row"]], "title": _title(c), "text": _text(c)}
                        for c in members
                    ],
                }
                for title, members in groups
            ],
            "cut": len(candidates),
        }
    )


def _why_no_cutouts(results: FieldResults) -> str:
    rows = results.rows("cutouts")
    reasons = Counter(f"{r['state']}: {r['reason']}" if r["reason"] else r["state"] for r in rows)
    why = "; ".join(f"{n} × {reason}" for reason, n in reasons.most_common(3))
    return f"There are no cutouts ({why})." if why else "No cutouts have been made yet."


def _cut_out(results: FieldResults, row: Row) -> list[dict[str, Any]]:
    """Return the candidates that were cut out of an exposure, each with its row among the triplets."""
    folder, _, file = row["path"].rpartition("/")
    table = results.store.read_table(f"{folder}/{file.removesuffix('.npz')}.parquet")
    rows = table.to_pylist()
    return [{**candidate, "cutouts": row["path"], "row": i} for i, candidate in enumerate(rows)]


_MATCHED = ("variable", "transient", "solar_system")
"""Kinds of known objects that a candidate may be."""


def _matches(results: FieldResults) -> dict[str, dict[str, Any]]:
    """Return the known objects beside each candidate; they stand in the table of the field only."""
    table = results.output("candidates")
    names = [f"{kind}_id" for kind in _MATCHED]
    if table is None or not {"candidate_id", *names} <= set(table.column_names):
        return {}
    return {row["candidate_id"]: row for row in table.select(["candidate_id", *names]).to_pylist()}


def _objects(results: FieldResults) -> dict[str, str]:
    """Return the object of each candidate."""
    table = results.table("light_curves", "associations.parquet")
    if table is None:
        return {}
    return dict(zip(*(table.column(n).to_pylist() for n in ("candidate_id", "object_id")), strict=True))


def _chosen(
    candidates: Sequence[dict[str, Any]], objects: Mapping[str, str]
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Choose the brightest candidate of each object, and the most significant ones of each artefact."""
    ranked = sorted(candidates, key=lambda c: (-c["snr"], c["candidate_id"]))
    best: dict[str, dict[str, Any]] = {}
    for c in ranked:
        if not c["artifact"]:
            best.setdefault(objects.get(c["candidate_id"], c["candidate_id"]), c)
    groups = [("Unflagged, one an object, by significance", list(best.values())[:_BEST])]
    for kind, _ in Counter(c["artifact"] for c in ranked if c["artifact"]).most_common():
        members = [c for c in ranked if c["artifact"] == kind]
        # the middle of the list is more typical of its kind than the brightest
        middle = max(0, len(members) // 2 - _PER_ARTIFACT // 2)
        groups.append((f"Flagged: {kind.replace('_', ' ')}", members[middle : middle + _PER_ARTIFACT]))
    return [(title, members) for title, members in groups if members]


def _title(candidate: Mapping[str, Any]) -> str:
    return candidate["candidate_id"]


def _text(candidate: Mapping[str, Any]) -> str:
    place = f"x {candidate['x']:.0f}, y {candidate['y']:.0f}"
    matches = [
        f"{kind.replace('_', ' ')} {candidate[f'{kind}_id']}"
        for kind in _MATCHED
        if candidate.get(f"{kind}_id")
    ]
    parts = [candidate["band"], _describe(candidate), place, *matches]
    return "; ".join(str(part) for part in parts if part)
