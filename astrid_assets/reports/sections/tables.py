"""Sections in words and tables: overview, exposures, checks, limitations, provenance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from astrid_assets.checks.limits import COLOURS, worst
from astrid_assets.reports.funnel import detection_funnel, exposure_funnel, sample_counts
from astrid_assets.reports.limitations import limitations_of
from astrid_assets.reports.pages import date, number, plural
from astrid_assets.reports.sections.content import Content

if TYPE_CHECKING:
    from astrid_assets.reports.results import FieldResults
    from astrid_assets.storage.store import Row

__all__ = ["checks", "exposures", "limitations", "overview", "provenance"]

_EXPOSURES_MAX = 120
"""Rows of the table of exposures; of a longer list the newest are shown."""

_CHAIN = (
    "science_images",
    "aligned_pairs",
    "normalized_pairs",
    "zogy_differences",
    "candidates",
)


def overview(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Show position, kind of data, key numbers and the funnel."""
    sky_field = results.sky_field
    stages = exposure_funnel(results)
    samples = sample_counts(results.output("training_set"))
    return Content(
        {
            "field": sky_field,
            "sexagesimal": _sexagesimal(sky_field.ra, sky_field.dec),
            "tiles": _tiles(results, samples),
            "stages": stages,
            "detections": detection_funnel(results),
            "samples": samples,
        }
    )


def _tiles(results: FieldResults, samples: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and a remark of the numbers that a reader wants first."""
    rows = results.usable("zogy_differences")
    times = [r["mjd_mid"] for r in rows if r["mjd_mid"] is not None]
    days = sorted({date(t, time=False) for t in times})
    span = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "times unknown"
    bands = sorted({r["band"] for r in rows if r["band"]})
    table = results.output("candidates")
    kept = 0 if table is None else sum(not a for a in table.column("artifact").to_pylist())
    objects = results.table("light_curves", "objects.parquet")
    return [
        ("exposures differenced", number(len(rows)), span),
        ("bands", ", ".join(bands) or "unknown", plural(len({int(t) for t in times}), "night")),
        ("unflagged candidates", number(kept), f"of {0 if table is None else table.num_rows} detections"),
        ("objects", "–" if objects is None else number(objects.num_rows), "associated over epochs"),
        (
            "training samples",
            number(samples["total"]) if samples else "–",
            f"{samples['real']} real, {samples['bogus']} bogus" if samples else "none yet",
        ),
        _judged(rows),
    ]


def _judged(rows: Sequence[Row]) -> tuple[str, str, str]:
    counts = Counter(r["colour"] for r in rows)
    words = ", ".join(f"{counts[c]} {c}" for c in ("green", "yellow", "orange") if counts[c])
    return "quality of differences", worst(filter(None, (r["colour"] for r in rows))), words or "not judged"


def _sexagesimal(ra: float, dec: float) -> str:
    """Write a position in hours and degrees."""
    hours, degrees = round(ra / 15.0 * 36000) % 864000, round(abs(dec) * 3600)
    sign = "−" if dec < 0 else "+"
    east = f"{hours // 36000:02d}h {hours // 600 % 60:02d}m {hours % 600 / 10.0:04.1f}s"
    return f"{east}, {sign}{degrees // 3600:02d}° {degrees // 60 % 60:02d}′ {degrees % 60:02d}″"


# --- exposures ------------------------------------------------------------------------------------


def exposures(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Show one row a selected science exposure: what it is and how far it came."""
    chosen = [
        r
        for r in results.rows("observations")
        if r["role"] == "science" and r["status"] == "selected" and r["product"] != "query"
    ]
    if not chosen:
        return Content(missing="No science exposure of this field was selected.")
    by_asset = {a: {r["exposure_id"]: r for r in results.rows(a)} for a in _CHAIN}
    counts = _candidate_counts(results)
    chosen.sort(key=lambda r: (r["mjd_mid"] or 0.0, r["exposure_id"]))
    rows = [_exposure(r, by_asset, counts) for r in chosen[-_EXPOSURES_MAX:]]
    return Content({"rows": rows, "total": len(chosen), "shown": len(rows)})


def _candidate_counts(results: FieldResults) -> dict[str, tuple[int, int]]:
    """Return unflagged and all detections by exposure."""
    table = results.output("candidates")
    if table is None:
        return {}
    pairs = list(
        zip(table.column("exposure_id").to_pylist(), table.column("artifact").to_pylist(), strict=True)
    )
    every = Counter(name for name, _ in pairs)
    kept = Counter(name for name, doubt in pairs if not doubt)
    return {name: (kept[name], n) for name, n in every.items()}


def _exposure(row: Row, by_asset: Mapping[str, Mapping[str, Row]], counts: Mapping[str, Any]) -> list[Any]:
    name = row["exposure_id"]
    found = {asset: rows[name] for asset, rows in by_asset.items() if name in rows}
    image = found.get("science_images", {})
    reached, text = _reached(found)
    kept, every = counts.get(name, (0, 0)) if "candidates" in found else (None, None)
    return [
        name,
        row["band"],
        date(image.get("mjd_mid") or row["mjd_mid"]),
        reached,
        worst(r["colour"] for r in found.values() if r.get("colour")),
        kept,
        every,
        row["exptime"] if image.get("exptime") is None else image["exptime"],
        image.get("seeing"),
        image.get("zeropoint"),
        image.get("metric_limiting_magnitude"),
        found.get("zogy_differences", {}).get("metric_detection_threshold_mag"),
        text,
    ]


def _reached(found: Mapping[str, Row]) -> tuple[str, str]:
    """Return how far an exposure came, and what stopped it."""
    last = next((a for a in reversed(_CHAIN) if a in found), None)
    if last is None:
        return "selected", "not downloaded yet"
    row = found[last]
    if row["state"] in {"ok", "empty"}:
        return last.replace("_", " "), "" if last == _CHAIN[-1] else "the next step has not run"
    return f"{last.replace('_', ' ')}: {row['state']}", row["reason"] or ""


# --- checks, limitations, provenance ---------------------------------------------------------------


def checks(_results: FieldResults, inputs: Mapping[str, Any]) -> Content:
    """Show the checks as the assets reported them."""
    if not inputs["checks"]:
        return Content(missing="No asset of this field has been made yet.")
    counts = Counter(check["colour"] for check in inputs["checks"])
    poor = [check for check in inputs["checks"] if check["colour"] in COLOURS[2:]]
    poor.sort(key=lambda check: -COLOURS.index(check["colour"]))
    fine = [check for check in inputs["checks"] if check["colour"] not in COLOURS[2:]]
    return Content({"poor": poor, "fine": fine, "counts": counts})


def limitations(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Show what this field's data cannot do."""
    found = limitations_of(results)
    return Content({"found": found}) if found else Content(missing="None of the known limitations applies.")


def provenance(results: FieldResults, _inputs: Mapping[str, Any]) -> Content:
    """Show versions, parameters and identities of what the page was made from."""
    assets = [_made(asset, results.rows(asset)) for asset in results.assets if asset != "observations"]
    differences = results.usable("zogy_differences")
    products = [
        [r["exposure_id"], r["reference_id"], r["input_sha256"][:16], r["parameter_hash"], r["product_id"]]
        for r in differences[-_EXPOSURES_MAX:]
    ]
    sources = [
        [r["exposure_id"], r["archive"], r["survey"], r["calibration"], (r["sha256"] or "")[:16], _size(r)]
        for asset in ("science_images", "references")
        for r in results.usable(asset)[-_EXPOSURES_MAX:]
    ]
    return Content({"assets": [a for a in assets if a], "products": products, "sources": sources})


def _made(asset: str, rows: Sequence[Row]) -> list[Any] | None:
    if not rows:
        return None
    parts = (sorted({str(r[name]) for r in rows if r[name]}) for name in ("code_version", "parameter_hash"))
    versions, parameters = (", ".join(part) for part in parts)
    states = Counter(r["state"] for r in rows)
    return [asset, versions, parameters, ", ".join(f"{n} {state}" for state, n in states.most_common())]


def _size(row: Row) -> str:
    return f"{sum(json.loads(row['files'] or '{}').values()) / 1e6:.1f}"
