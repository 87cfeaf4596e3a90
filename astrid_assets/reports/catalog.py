"""The data catalogue: what exists over all fields, what it is worth, and what it cannot do."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from astrid_assets.checks.limits import COLOURS, worst
from astrid_assets.reports.funnel import exposure_funnel, sample_counts
from astrid_assets.reports.limitations import Limitation, limitations_of
from astrid_assets.reports.pages import PageFacts, inspect, render
from astrid_assets.reports.results import FieldResults
from astrid_assets.storage.layout import ASSETS, FOLDERS

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.fields import Field
    from astrid_assets.storage.store import Store

__all__ = ["CATALOG_COLUMNS", "Catalog", "FieldChecks", "catalog_of", "catalog_table", "field_summary"]

FieldChecks = Sequence[Mapping[str, Any]]
"""Results of all checks of a field: ``asset``, ``name``, ``colour`` and ``text`` of each."""

_UPSTREAM = tuple(asset for asset in ASSETS if asset != "field_report")

_MEDIANS = (
    ("seeing", "science_images", "seeing", "arcsec", "FWHM of the science images"),
    ("depth", "science_images", "limiting_magnitude", "mag", "5 sigma depth of the science images, AB"),
    (
        "registration_rms",
        "aligned_pairs",
        "astrometric_rms",
        "pixel",
        "scatter of the stars after registration",
    ),
    ("difference_depth", "zogy_differences", "detection_threshold_mag", "mag", "5 sigma depth, AB"),
    ("scorr_width", "zogy_differences", "scorr_mad_std", "sigma", "width of S_corr on blank sky"),
    (
        "residual_ratio",
        "zogy_differences",
        "residual_noise_ratio",
        "",
        "residuals on static sources over expected noise",
    ),
    ("masked_fraction", "zogy_differences", "masked_fraction", "", "share of pixels not trusted"),
)
"""Column, asset, metric, unit and description of the medians in the table."""

_COLUMNS = (
    ("field", "string", "", "name in the registry"),
    ("ra", "double", "deg", "centre, ICRS"),
    ("dec", "double", "deg", "centre, ICRS"),
    ("radius", "double", "deg", "radius of the field"),
    ("enabled", "bool", "", "whether schedules and --all take it"),
    ("simulated", "bool", "", "whether its images come from the simulated survey"),
    ("archives", "string", "", "archives that are searched"),
    ("surveys", "string", "", "survey profiles of the images"),
    ("bands", "string", "", "bands of the differences"),
    ("first_mjd", "double", "day", "first differenced exposure, MJD (UTC)"),
    ("last_mjd", "double", "day", "last differenced exposure, MJD (UTC)"),
    ("n_nights", "int64", "", "nights with a difference (whole MJDs)"),
    ("n_offered", "int64", "", "science exposures that the archives offer"),
    ("n_selected", "int64", "", "of these selected"),
    ("n_downloaded", "int64", "", "of these downloaded intact"),
    ("n_aligned", "int64", "", "of these aligned"),
    ("n_normalized", "int64", "", "of these normalized"),
    ("n_differenced", "int64", "", "of these differenced by ZOGY"),
    ("n_searched", "int64", "", "of these searched for candidates"),
    ("n_detections", "int64", "", "detections of both signs"),
    ("n_candidates", "int64", "", "detections without a reason to doubt them"),
    ("n_objects", "int64", "", "objects after association over epochs"),
    ("n_known_objects", "int64", "", "catalogued objects in the field"),
    ("n_alerts", "int64", "", "public alerts in the field"),
    ("n_injected", "int64", "", "synthetic sources injected"),
    ("n_recovered", "int64", "", "of these found and not flagged"),
    ("m50", "double", "mag", "magnitude at which half of the injected sources are found, AB"),
    ("n_samples", "int64", "", "training samples"),
    ("n_real", "int64", "", "of these real"),
    ("n_bogus", "int64", "", "of these bogus"),
    ("n_unlabelled", "int64", "", "of these unlabelled"),
    *((name, "double", unit, f"median: {text}") for name, _, _, unit, text in _MEDIANS),
    ("worst_colour", "string", "", "worst result of all checks"),
    ("n_bytes", "int64", "byte", "size of all files of the field"),
    ("report", "string", "", "page of the field, relative to the data folder; null where there is none"),
)

CATALOG_COLUMNS = {name: (kind, unit, text) for name, kind, unit, text in _COLUMNS}
"""Type, unit and description of the columns of the catalogue, one row a field."""


_COLUMNS_MAX = 8
"""Fields that the table of checks has a column for each; of more it gives numbers."""


@dataclass(frozen=True)
class Catalog:
    """The catalogue as files."""

    page: str
    """HTML."""

    rows: tuple[Mapping[str, Any], ...]
    """One a field; columns are `CATALOG_COLUMNS`."""

    document: Mapping[str, Any]
    """The same with checks, limitations and the release, JSON-compatible."""

    facts: PageFacts
    """What is in the page."""


def catalog_of(
    store: Store,
    fields: Sequence[Field],
    checks: Mapping[str, FieldChecks],
    release: Mapping[str, Any] | None,
) -> Catalog:
    """Return the catalogue of all fields.

    Parameters
    ----------
    store
        The results.

    fields
        Fields of the registry; those that hold nothing are told with zeros.

    checks
        Results of the checks by field.

    release
        What is known about the newest training release; None where there is none.
    """
    results = [FieldResults(store, one, _UPSTREAM) for one in fields]
    rows = [field_summary(r, checks.get(r.sky_field.name, ())) for r in results]
    found = {r.sky_field.name: limitations_of(r) for r in results if r.manifest("observations") is not None}
    sizes = {r.sky_field.name: _sizes(r) for r in results}
    document = {
        "fields": rows,
        "release": release,
        "checks": {name: _short(results) for name, results in checks.items()},
        "limitations": {n: {one.key: one.text for one in some} for n, some in found.items()},
        "bytes": sizes,
    }
    page = render(
        "catalog.html",
        rows=rows,
        release=release,
        total=_totals(rows),
        colours=_colour_table(checks),
        counts=Counter(c["colour"] for some in checks.values() for c in some),
        medians=_MEDIANS,
        issues=_issues(found),
        sizes=_size_table(sizes),
    )
    return Catalog(page, tuple(rows), document, inspect(page))


def catalog_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the rows as a table whose columns carry unit and description."""
    import pyarrow as pa

    schema = pa.schema(
        [
            pa.field(name, pa.type_for_alias(kind), metadata={"unit": unit, "description": text})
            for name, (kind, unit, text) in CATALOG_COLUMNS.items()
        ]
    )
    return pa.Table.from_pylist([dict(row) for row in rows], schema)


# --- one field ------------------------------------------------------------------------------------


def field_summary(results: FieldResults, checks: FieldChecks) -> dict[str, Any]:
    """Return the row of a field."""
    sky_field = results.sky_field
    row: dict[str, Any] = dict.fromkeys(CATALOG_COLUMNS)
    row |= {name: getattr(sky_field, name) for name in ("ra", "dec", "radius", "enabled")}
    row |= {"field": sky_field.name, "archives": ", ".join(sky_field.archives)}
    row |= _images(results) | _funnel(results) | _detections(results) | _injections(results)
    row |= _samples(results) | _medians(results)
    row["worst_colour"] = worst(check["colour"] for check in checks)
    row["n_bytes"] = sum(_sizes(results).values())
    page = f"{results.store.folder('field_report', sky_field.name)}/index.html"
    row["report"] = page if results.store.size(page) else None
    return row


def _images(results: FieldResults) -> dict[str, Any]:
    images, differences = results.usable("science_images"), results.usable("zogy_differences")
    times = [r["mjd_mid"] for r in differences if r["mjd_mid"] is not None]
    return {
        "simulated": "simulated" in {r["archive"] for r in images},
        "surveys": ", ".join(sorted({r["survey"] for r in images if r["survey"]})),
        "bands": ", ".join(sorted({r["band"] for r in differences if r["band"]})),
        "first_mjd": min(times, default=None),
        "last_mjd": max(times, default=None),
        "n_nights": len({int(t) for t in times}),
    }


def _funnel(results: FieldResults) -> dict[str, int]:
    return {f"n_{stage.label}": stage.number for stage in exposure_funnel(results)}


def _detections(results: FieldResults) -> dict[str, int]:
    table = results.output("candidates")
    doubts = [] if table is None else table.column("artifact").to_pylist()
    return {
        "n_detections": len(doubts),
        "n_candidates": sum(not doubt for doubt in doubts),
        "n_objects": _length(results.table("light_curves", "objects.parquet")),
        "n_known_objects": _length(results.output("known_objects")),
        "n_alerts": _length(results.output("ztf_alerts")),
    }


def _length(table: pa.Table | None) -> int:
    return 0 if table is None else table.num_rows


def _injections(results: FieldResults) -> dict[str, Any]:
    table, fits = results.output("injections"), results.table("injections", "efficiency.parquet")
    rows = [] if table is None else table.select(["kind", "found"]).to_pylist()
    sources = [row for row in rows if row["kind"] == "source"]
    return {
        "n_injected": len(sources),
        "n_recovered": sum(bool(row["found"]) for row in sources),
        "m50": fits.column("m50")[0].as_py() if fits is not None and fits.num_rows else None,
    }


def _samples(results: FieldResults) -> dict[str, int]:
    counts = sample_counts(results.output("training_set"))
    names = {"n_samples": "total", "n_real": "real", "n_bogus": "bogus", "n_unlabelled": "unlabelled"}
    return {name: counts.get(key, 0) for name, key in names.items()}


def _medians(results: FieldResults) -> dict[str, float | None]:
    medians: dict[str, float | None] = {}
    for name, asset, metric, _, _ in _MEDIANS:
        values = [v for r in results.usable(asset) if (v := r.get(f"metric_{metric}")) is not None]
        medians[name] = statistics.median(values) if values else None
    return medians


def _sizes(results: FieldResults) -> dict[str, int]:
    """Return the bytes of the files of each asset, by its folder."""
    sizes = {}
    for asset in results.assets:
        if asset != "observations":
            files = [json.loads(row["files"] or "{}") for row in results.rows(asset)]
            sizes[FOLDERS[asset]] = sum(size for one in files for size in one.values())
    return sizes


# --- all fields -----------------------------------------------------------------------------------


def _short(checks: FieldChecks) -> dict[str, str]:
    return {f"{check['asset']}.{check['name']}": check["colour"] for check in checks}


def _totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the sums over all fields of what can be added."""
    names = ("n_offered", "n_selected", "n_differenced", "n_detections", "n_candidates", "n_objects")
    names += ("n_injected", "n_recovered", "n_samples", "n_real", "n_bogus", "n_bytes")
    return {name: sum(row[name] or 0 for row in rows) for name in names}


def _colour_table(checks: Mapping[str, FieldChecks]) -> dict[str, Any]:
    """Return the checks that some field does not pass: the colour of each field, or how many of many."""
    by_field = {
        name: {(c["asset"], c["name"]): c["colour"] for c in some} for name, some in checks.items() if some
    }
    every = dict.fromkeys(key for some in by_field.values() for key in some)
    poor = {key: [some.get(key, "none") for some in by_field.values()] for key in every}
    poor = {key: found for key, found in poor.items() if worst(found) in COLOURS[2:]}
    few = len(by_field) <= _COLUMNS_MAX
    rows = [[*key, *(found if few else map(found.count, COLOURS[:1:-1]))] for key, found in poor.items()]
    names = list(by_field) if few else [f"{colour} fields" for colour in COLOURS[:1:-1]]
    return {"names": names, "few": few, "rows": rows, "passed": len(every) - len(rows), "every": len(every)}


def _issues(found: Mapping[str, Sequence[Limitation]]) -> list[dict[str, Any]]:
    """Group the limitations of all fields by their kind; the most common first."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, some in found.items():
        for one in some:
            groups.setdefault(one.key, []).append((name, one.text))
    ranked = sorted(groups.items(), key=lambda item: -len({name for name, _ in item[1]}))
    return [
        {"key": key.replace("_", " "), "number": len({name for name, _ in cases}), "cases": cases}
        for key, cases in ranked
    ]


def _size_table(sizes: Mapping[str, Mapping[str, int]]) -> list[list[Any]]:
    """Return the megabytes of each folder, all fields together."""
    total: Counter[str] = Counter()
    for one in sizes.values():
        total.update(one)
    return [[folder, size / 1e6] for folder, size in total.most_common() if size]
