"""``astrid run``: fields through the graph."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from astrid_assets.cli.output import ProgressBar, json_option, print_json, print_table

if TYPE_CHECKING:
    from astrid_assets.automation.runs import ReleaseRun, RunSummary

__all__ = ["materialize", "print_summary", "run"]

NOTHING_NEW = "nothing new: no exposure was processed"


@click.command()
@click.argument("names", metavar="[FIELD]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All enabled fields, by priority.")
@click.option("--assets", multiple=True, metavar="ASSET", help="Only these; may be repeated, or a,b [all].")
@click.option("--no-release", is_flag=True, help="Fields only; leave release, catalogue and notebook.")
@click.option("--force", is_flag=True, help="Redo what is done.")
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes [number of cores].")
@json_option
def run(
    names: tuple[str, ...],
    every: bool,
    assets: tuple[str, ...],
    no_release: bool,
    force: bool,
    workers: int | None,
    as_json: bool,
) -> int:
    """Materialize fields, then the release; only what is new is worked on. Status 1 if something failed."""
    from astrid_assets.storage.layout import RELEASE_ASSETS

    chosen = [name for text in assets for name in text.split(",") if name]
    needs_fields = not chosen or not set(chosen) <= set(RELEASE_ASSETS)
    if (every and names) or (needs_fields and not (every or names)):
        raise click.UsageError("name the fields, or give --all")
    if every:
        from astrid_assets.fields import enabled_fields

        names = tuple(field.name for field in enabled_fields())
    summary = materialize(names, assets=chosen or None, release=not no_release, force=force, workers=workers)
    print_summary(summary)
    if as_json:
        print_json(to_json(summary))
    return 0 if summary.ok else 1


def materialize(names: Sequence[str], **options: Any) -> RunSummary:
    """Run fields with a progress bar; options are those of `astrid_assets.automation.runs.run_fields`.

    Raises
    ------
    ConfigurationError
        A field or an asset is unknown.
    """
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    from astrid_assets.automation.runs import run_fields

    with ProgressBar() as bar:
        return run_fields(names, progress=bar, **options)


def to_json(summary: RunSummary) -> dict[str, Any]:
    """Return a summary as plain values."""
    return {
        "ok": summary.ok,
        "new": summary.n_new,
        **summary.counts,
        "checks": summary.checks,
        "stages": {name: round(seconds, 2) for name, seconds in summary.stages.items()},
        "seconds": summary.seconds,
        "fields": [dataclasses.asdict(field) for field in summary.fields],
        "release": None if summary.release is None else _release(summary.release),
    }


def _release(made: ReleaseRun) -> dict[str, Any]:
    return dataclasses.asdict(made) | {
        "release_id": made.release_id,
        "samples": made.samples,
        "path": made.path,
    }


def print_summary(summary: RunSummary) -> None:
    """Print where each field stands, the release, what went wrong, and the time of each stage."""
    columns = ("exposures", "differenced", "candidates", "rejected", "quarantined", "failed")
    rows = [
        [
            field.name,
            field.status,
            field.n_new,
            *(field.counts.get(name, 0) for name in columns),
            "/".join(str(field.checks.get(name, 0)) for name in ("passed", "warned", "failed")),
            f"{field.seconds:.1f}",
        ]
        for field in summary.fields
    ]
    print_table(["field", "status", "new", *columns, "checks ok/warn/fail", "seconds"], rows)
    for field in summary.fields:
        if field.error:
            click.echo(f"{field.name}: {field.error}")
    if summary.release is not None:
        click.echo(_release_line(summary.release))
    if summary.stages:
        click.echo()
        print_table(["stage", "seconds"], [[name, f"{s:7.2f}"] for name, s in summary.stages.items()])
    if summary.n_new == 0 and any(field.status == "ok" for field in summary.fields):
        click.echo(NOTHING_NEW)


def _release_line(made: ReleaseRun) -> str:
    if made.status != "ok":
        return f"release {made.status}: {made.reason}"
    if made.release_id is None:
        return "release: " + ", ".join(sorted(made.made))
    return f"release {made.release_id}: {made.samples} samples in {made.path}"
