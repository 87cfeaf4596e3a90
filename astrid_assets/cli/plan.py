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
@json_option
def plan(field: str, as_json: bool) -> None:
    """Forecast the yield of FIELD: exposures, pairs, bytes, and why the rest falls out."""
    from astrid_assets.archives.planning import plan as make_plan
    from astrid_assets.fields import get_field

    summary = {"field": field, **_summarize(make_plan(get_field(field)))}
    _print(summary)
    if as_json:
        print_json(summary)


def _summarize(forecast: Plan) -> dict[str, Any]:
    rows = forecast.table.to_pylist()
    taken = [row for row in rows if row["status"] == "selected" and not row["deferred"]]
    rejected = Counter(row["reason"] for row in rows if row["status"] == "rejected")
    return {
        "queries": [
            {"archive": q.archive, "state": q.state, "exposures": q.n_rows, "reason": q.reason}
            for q in forecast.queries
        ],
        "funnel": forecast.funnel,
        "pairs": _by_key(taken),
        "rejected": dict(rejected.most_common()),
        "bytes": sum(row["bytes"] or 0 for row in taken),
    }


def _by_key(taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return science and reference exposures and bytes for each pairing key."""
    pairs: dict[str, dict[str, Any]] = {}
    for row in taken:
        key = row["pairing_key"]
        pair = pairs.setdefault(key, {"pairing_key": key, "science": 0, "reference": 0, "bytes": 0})
        pair[row["role"]] += 1
        pair["bytes"] += row["bytes"] or 0
    return list(pairs.values())


def _print(summary: dict[str, Any]) -> None:
    for query in summary["queries"]:
        reason = f" ({query['reason']})" if query["reason"] else ""
        click.echo(f"archive {query['archive']}: {query['state']}, {query['exposures']} exposures{reason}")
    click.echo()
    print_table(["exposures", "number"], list(summary["funnel"].items()))
    if summary["pairs"]:
        click.echo()
        rows = [
            [p["pairing_key"], p["science"], p["reference"], megabytes(p["bytes"])] for p in summary["pairs"]
        ]
        print_table(["survey, detector, band, calibration", "science", "reference", "to download"], rows)
    if summary["rejected"]:
        click.echo()
        print_table(["why not", "number"], list(summary["rejected"].items()))
    click.echo(f"\n{megabytes(summary['bytes'])} to download")
