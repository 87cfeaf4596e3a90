"""``astrid fields``: the registry of fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from astrid_assets.archives.protocol import ARCHIVE_NAMES
from astrid_assets.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from astrid_assets.fields import Field

__all__ = ["fields"]

NIGHTLY = "to run them every night: dagster schedule start nightly, and make ui (or dagster-daemon run)"


@click.group()
def fields() -> None:
    """List, add and check the fields of the registry (fields.yaml)."""


@fields.command(name="list")
@json_option
def list_fields(as_json: bool) -> None:
    """List all fields."""
    from astrid_assets.fields import load_fields

    found = list(load_fields().values())
    columns = ("field", "ra", "dec", "radius", "archives", "bands", "priority", "runs")
    print_table(columns, [_row(field) for field in found])
    click.echo(NIGHTLY)
    if as_json:
        print_json({"fields": [{**field.model_dump(), "runs": _runs(field)} for field in found]})


def _row(field: Field) -> tuple[Any, ...]:
    return (
        field.name,
        field.ra,
        field.dec,
        field.radius,
        ",".join(field.archives),
        ",".join(field.bands) or "all",
        field.priority,
        _runs(field),
    )


def _runs(field: Field) -> str:
    if not field.enabled:
        return "no: disabled"
    if field.runs_nothing:
        return "no: archives not built yet"
    return "yes"


@fields.command()
@click.argument("names", metavar="[FIELD]...", nargs=-1)
@json_option
def check(names: tuple[str, ...], as_json: bool) -> None:
    """Check the registry: errors stop it (status 1), doubts are warnings (status 0)."""
    from astrid_assets.assets.config import check_processing
    from astrid_assets.fields import check_field, fields_path, get_field, load_fields

    registry = load_fields()
    chosen = [get_field(name) for name in names] if names else list(registry.values())
    for field in chosen:
        check_processing(field)
    doubts = {field.name: check_field(field, registry.values()) for field in chosen}
    for name, found in doubts.items():
        for doubt in found:
            click.echo(f"warning: {name}: {doubt}")
    count = sum(map(len, doubts.values()))
    click.echo(f"{fields_path()}: {len(chosen)} fields valid, {count} warnings")
    if as_json:
        print_json({"valid": True, "fields": len(chosen), "warnings": doubts})


@fields.command()
@click.argument("name")
@click.option("--ra", required=True, help="Right ascension, ICRS: degrees or 14:03:05.8.")
@click.option("--dec", required=True, help="Declination, ICRS: degrees or -8:49:37.")
@click.option("--radius", type=float, default=0.1, show_default=True, help="Radius, degrees.")
@click.option(
    "--archive",
    "archives",
    type=click.Choice(ARCHIVE_NAMES),
    multiple=True,
    required=True,
    help="Archive to search; may be repeated.",
)
@click.option("--band", "bands", multiple=True, help="Canonical filter name; may be repeated [all].")
@click.option("--science", nargs=2, metavar="START END", help="Science window; - leaves a side open.")
@click.option("--reference", nargs=2, metavar="START END", help="Reference window; - leaves a side open.")
@click.option("--event", nargs=4, metavar="NAME RA DEC DATE", help="Event that is looked for.")
@click.option("--folder", help="Folder of FITS files, for archive local.")
@click.option("--survey", help="Survey profile of the files, for archive local [guessed].")
@click.option("--seed", type=int, help="Seed, for archive simulated.")
@click.option("--priority", type=int, default=0, help="Higher runs first.")
@click.option("--disabled", is_flag=True, help="Leave the field out of --all, sensors and schedules.")
@json_option
def add(name: str, as_json: bool, **given: Any) -> None:
    """Append a field to the registry; the rest of the file stays as it is."""
    from astrid_assets.fields import add_field, check_field, fields_path, load_fields

    field = add_field(name, _options(given))
    doubts = check_field(field, load_fields().values())
    click.echo(f"{fields_path()}: added {name}")
    for doubt in doubts:
        click.echo(f"warning: {name}: {doubt}")
    if as_json:
        print_json({"added": field.model_dump(), "warnings": doubts})


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the block of ``fields.yaml`` that the options of ``add`` stand for, without what is left out."""
    event = dict(zip(("name", "ra", "dec", "date"), given["event"] or (), strict=False))
    options = {
        "ra": _number(given["ra"]),
        "dec": _number(given["dec"]),
        "radius": given["radius"],
        "archives": list(given["archives"]),
        "bands": list(given["bands"]),
        "science_window": _window(given["science"]),
        "reference_window": _window(given["reference"]),
        "event": {key: _number(value) if key in {"ra", "dec"} else value for key, value in event.items()},
        "priority": given["priority"] or None,
        "enabled": False if given["disabled"] else None,
        "local": _present(folder=given["folder"], survey=given["survey"]),
        "simulated": _present(seed=given["seed"]),
    }
    return {key: value for key, value in options.items() if value not in (None, [], {})}


def _window(sides: tuple[str, str] | None) -> dict[str, str]:
    start, end = sides or ("-", "-")
    return _present(start=None if start == "-" else start, end=None if end == "-" else end)


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
