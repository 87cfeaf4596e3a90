"""``astrid plan``: what a field would yield, before a byte of an image is downloaded."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from astrid_assets.cli.output import json_option, megabytes, print_json, print_table

if TYPE_CHECKING:
    from astrid_assets.archives.planning import Plan

__all__ = ["plan"]


@click.command()
@click.argument("field")
@click.option("--rejected", is_flag=True, help="List every exposure that is rejected, with the reason.")
@json_option
def plan(field: str, *, rejected: bool, as_json: bool) -> None:
    """Forecast the yield of FIELD: exposures, pairs, bytes, and why the rest falls out."""
    from astrid_assets.archives.planning import plan as make_plan
    from astrid_assets.fields import get_field

    forecast = make_plan(get_field(field))
    summary = {"field": field, **_summarize(forecast)}
    _print(summary)
    if rejected:
        summary["rejections"] = _rejections(forecast)
        _print_rejections(summary["rejections"])
    if as_json:
        print_json(summary)


def _summarize(forecast: Plan) -> dict[str, Any]:
    from astrid_assets.archives.planning import downloads, pairs

    reasons = Counter(
        row["reason"]
        for row in forecast.table.to_pylist()
        if row["status"] == "rejected" and row["product"] != "query"
    )
    to_come = downloads(forecast)
    return {
        "queries": [
            {
                "archive": q.archive,
                "mission": q.mission,
                "state": q.state,
                "exposures": q.n_rows,
                "reason": q.reason,
            }
            for q in forecast.queries
        ],
        "funnel": forecast.funnel,
        "pairs": pairs(forecast),
        "rejected": dict(reasons.most_common()),
        "downloads": to_come,
        "bytes": sum(entry["bytes"] for entry in to_come),
        "unknown_sizes": sum(entry["unknown"] for entry in to_come),
    }


def _rejections(forecast: Plan) -> list[dict[str, Any]]:
    names = ("exposure_id", "archive", "survey", "band", "role", "mjd_mid", "reason")
    rows = forecast.table.to_pylist()
    return [
        {name: row[name] for name in names}
        for row in rows
        if row["status"] == "rejected" and row["product"] != "query"
    ]


def _print(summary: dict[str, Any]) -> None:
    for query in summary["queries"]:
        _print_query(query)
    click.echo()
    print_table(["exposures", "number"], list(summary["funnel"].items()))
    if summary["pairs"]:
        click.echo()
        columns = ["survey, detector, band, calibration", "science", "reference", "to download", "flags"]
        rows = [
            [p["pairing_key"], p["science"], p["reference"], megabytes(p["bytes"]), p["flags"]]
            for p in summary["pairs"]
        ]
        print_table(columns, rows)
    if summary["rejected"]:
        click.echo()
        print_table(["why not", "number", "such as"], _kinds(summary["rejected"]))
    _print_downloads(summary)


def _print_query(query: dict[str, Any]) -> None:
    reason = f" ({query['reason']})" if query["reason"] else ""
    if query["state"] == "not_searched":
        click.echo(f"archive {query['archive']}: {query['mission']} not searched{reason}")
    else:
        click.echo(f"archive {query['archive']}: {query['state']}, {query['exposures']} exposures{reason}")


def _kinds(reasons: dict[str, int]) -> list[tuple[str, int, str]]:
    """Return kinds of reasons with their number and, where there is more to say, the most frequent one."""
    kinds: dict[str, list[Any]] = {}
    for reason, number in reasons.items():
        kind, _, details = reason.partition(": ")
        kinds.setdefault(kind, [0, details])[0] += number
    return sorted(((k, n, details) for k, (n, details) in kinds.items()), key=lambda row: -row[1])


def _print_downloads(summary: dict[str, Any]) -> None:
    if summary["downloads"]:
        click.echo()
        rows = [
            [e["archive"], e["role"], e["exposures"], megabytes(e["bytes"]), e["unknown"]]
            for e in summary["downloads"]
        ]
        print_table(["archive", "role", "exposures", "to download", "of unknown size"], rows)
    unknown = summary["unknown_sizes"]
    more = f", and {unknown} exposures whose size the archive does not tell" if unknown else ""
    click.echo(f"\n{megabytes(summary['bytes'])} to download{more}")


def _print_rejections(rejections: list[dict[str, Any]]) -> None:
    if not rejections:
        click.echo("nothing is rejected")
        return
    click.echo()
    columns = ["exposure", "archive", "band", "role", "MJD", "why not"]
    rows = [
        [r["exposure_id"], r["archive"], r["band"], r["role"], r["mjd_mid"], r["reason"]] for r in rejections
    ]
    print_table(columns, rows)
