"""``astrid record``: what the archives answer about a field, frozen for replay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrid_assets.cli.output import json_option, megabytes, print_json, print_table

if TYPE_CHECKING:
    from astrid_assets.archives.recording import Recorded
    from astrid_assets.fields import Field

__all__ = ["record"]

STORE = "store"
"""Folder of the answers in a recording, beside its archives.yaml."""


@click.command()
@click.argument("field")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the recording; several fields may share one.",
)
@json_option
def record(field: str, folder: Path, as_json: bool) -> int:
    """Freeze what the archives answer about FIELD: searches, images, catalogues, alerts, cutouts.

    With the variables that it prints at the end, a run asks the recording alone. Status 1 if something
    could not be had.
    """
    from astrid_assets.archives.recording import record_field
    from astrid_assets.archives.transport import load_settings, with_changes
    from astrid_assets.clock import from_mjd, now_mjd
    from astrid_assets.fields import get_field

    sky_field, now = get_field(field), from_mjd(now_mjd())
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    settings = with_changes(load_settings(), store=folder / STORE, mode="live", record=True)
    summary = _summary(field, record_field(sky_field, settings, cutout_grid=_cutout_grid(sky_field)))
    config = folder / "archives.yaml"
    config.write_text("mode: replay\n")
    _print(summary)
    places = f"ASTRID_ARCHIVES={config} ASTRID_STORE={folder / STORE}"
    click.echo(f"replay: export {places} ASTRID_NOW={now:%Y-%m-%dT%H:%M:%S}")
    if as_json:
        print_json(summary)
    return 0 if summary["complete"] else 1


def _cutout_grid(sky_field: Field) -> dict[str, Any]:
    """Return width and pixels of the cutouts of other surveys, as a run of the field asks for them."""
    from astrid_assets.assets.config import SurveyCutoutsConfig, effective_options

    options = effective_options(SurveyCutoutsConfig(), sky_field, "survey_cutouts")
    return {"width": options["width"] or 2 * sky_field.radius, "pixels": options["pixels"]}


def _summary(field: str, recorded: Recorded) -> dict[str, Any]:
    return {
        "field": field,
        "complete": recorded.complete,
        "searches": [
            {"archive": q.name, "state": q.state, "exposures": q.n_rows, "reason": q.reason}
            for q in recorded.queries
        ],
        "kept": dict(recorded.kept),
        "nothing": [{"name": name, "reason": reason} for name, reason in recorded.nothing],
        "requests": recorded.traffic.total.requests,
        "bytes": recorded.traffic.total.bytes,
        "lacking": [{"name": name, "reason": reason} for name, reason in recorded.lacking],
    }


def _print(summary: dict[str, Any]) -> None:
    for query in summary["searches"]:
        reason = f" ({query['reason']})" if query["reason"] else ""
        click.echo(f"archive {query['archive']}: {query['state']}, {query['exposures']} exposures{reason}")
    if summary["kept"]:
        print_table(["answers", "kept"], list(summary["kept"].items()))
    for title, rows in (("nothing there", summary["nothing"]), ("could not be had", summary["lacking"])):
        for row in rows:
            click.echo(f"{title}: {row['name']}: {row['reason']}")
    click.echo(f"{summary['requests']} requests, {megabytes(summary['bytes'])}")
