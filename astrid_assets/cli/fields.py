"""``astrid fields``: the registry of fields."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrid_assets.archives.protocol import ARCHIVE_NAMES
from astrid_assets.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from astrid_assets.fields import Field
    from astrid_assets.importing import Catalogue, Configuration, Import

__all__ = ["fields"]

NIGHTLY = "to run them every night: dagster schedule start nightly, and make ui (or dagster-daemon run)"


@click.group()
def fields() -> None:
    """List, add, import and check the fields of the registry (fields.yaml)."""


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
    return "yes" if field.enabled else "no: disabled"


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
@click.option("--ra", help="Right ascension, ICRS: degrees or 14:03:05.8 [that of --object].")
@click.option("--dec", help="Declination, ICRS: degrees or -8:49:37 [that of --object].")
@click.option("--object", "target", metavar="TEXT", help="Object whose position is looked up [NAME].")
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
    """Append a field to the registry; the rest of the file stays as it is.

    Without --ra and --dec the position is that of the object: from its name (j140302.1+542057), from the
    list of known fields, or from the name resolver of MAST.
    """
    from astrid_assets.fields import add_field, check_field, fields_path, load_fields

    given["ra"], given["dec"] = _position(given, name)
    field = add_field(name, _options(given))
    doubts = check_field(field, load_fields().values())
    click.echo(f"{fields_path()}: added {name}")
    for doubt in doubts:
        click.echo(f"warning: {name}: {doubt}")
    if as_json:
        print_json({"added": field.model_dump(), "warnings": doubts})


def _position(given: dict[str, Any], name: str) -> tuple[str, str]:
    """Return right ascension and declination as given, or those of the object."""
    ra, dec, target = given["ra"], given["dec"], given["target"]
    if (ra is None) != (dec is None) or (ra is not None and target is not None):
        raise click.UsageError("give --ra and --dec, or --object, or neither")
    if ra is not None:
        return ra, dec
    from astrid_assets.fields import known_position

    place = known_position(target or name)
    if place is None:
        from astrid_assets.archives.catalogues.resolver import resolve
        from astrid_assets.archives.transport import Transport

        found = resolve(Transport.open(), target or name)
        click.echo(f"{found.canonical} ({found.resolver}): {found.ra:.6f} {found.dec:+.6f}")
        place = found.ra, found.dec
    return str(place[0]), str(place[1])


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


@fields.command()
@json_option
def presets(as_json: bool) -> None:
    """List the configurations that ship for `astrid fields import`."""
    from astrid_assets.importing import load_preset, preset_names

    found = {name: load_preset(name) for name in preset_names()}
    columns = ("preset", "missions", "bands", "years", "days", "radius", "overlap")
    print_table(columns, [_preset_row(name, c) for name, c in found.items()], decimals={"overlap": 2})
    click.echo()
    for name, configuration in found.items():
        click.echo(f"{name}: {configuration.description}")
        for reason in configuration.why_nothing():
            click.echo(f"  nothing from {reason}")
    if as_json:
        print_json({"presets": {name: _preset_json(c) for name, c in found.items()}})


def _years(configuration: Configuration) -> str:
    query = configuration.query
    return f"{query.min_year} to {query.max_year or 'today'}"


def _preset_row(name: str, configuration: Configuration) -> tuple[Any, ...]:
    query = configuration.query
    return (
        name,
        ",".join(query.missions),
        ",".join(configuration.bands) or "all",
        _years(configuration),
        f"-{query.days_before} +{query.days_after}",
        query.radius_deg,
        configuration.quality.min_overlap_fraction,
    )


def _preset_json(configuration: Configuration) -> dict[str, Any]:
    query = configuration.query
    return {
        "description": configuration.description,
        "years": [query.min_year, query.max_year],
        "days": [query.days_before, query.days_after],
        "options": configuration.options(),
        "usable": configuration.usable,
        "nothing_from": configuration.why_nothing(),
    }


@fields.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--preset", help="A preset, or a YAML file of the earlier project [its defaults].")
@click.option(
    "--catalogue",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Catalogue of supernovae, where FILE is a configuration.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Most fields [that of the configuration].")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="CSV of the rejected rows.")
@click.option("--disabled", is_flag=True, help="Leave the fields out of --all, sensors and schedules.")
@json_option
def import_fields(
    *,
    file: Path,
    preset: str | None,
    catalogue: Path | None,
    limit: int | None,
    report: Path | None,
    disabled: bool,
    as_json: bool,
) -> None:
    """Append one field for each supernova of FILE, a catalogue, to the registry.

    FILE may also be a configuration (YAML) of the earlier project: it is checked, and with --catalogue the
    fields are made.
    """
    from astrid_assets.fields import add_fields, fields_path, load_fields
    from astrid_assets.importing import import_catalogue, load_preset, read_catalogue, read_configuration

    if file.suffix.lower() in {".yaml", ".yml"}:
        if preset is not None:
            raise click.UsageError("a configuration takes no --preset; give --catalogue")
        preset, file = str(file), catalogue
    elif catalogue is not None:
        raise click.UsageError(f"{file} is taken for a catalogue: --catalogue belongs to a configuration")
    configuration = read_configuration("") if preset is None else load_preset(preset)
    summary = {"configuration": _print_configuration(configuration)}
    if file is not None:
        rows = read_catalogue(file.read_text("utf-8", errors="replace"), path=file)
        known = load_fields() if fields_path().exists() else {}
        found = import_catalogue(rows, configuration, known=known, limit=limit, enabled=not disabled)
        if found.blocks:
            add_fields(found.blocks, comment=_comment(file, configuration))
        summary |= _print_import(file, rows, found, configuration)
        _report(rows, report)
    if as_json:
        print_json(summary)


def _print_configuration(configuration: Configuration) -> list[dict[str, Any]]:
    """Tell what became of the options of a configuration that does not ship."""
    from astrid_assets.importing import preset_names

    fates = configuration.fates
    if fates and configuration.name not in preset_names():
        rows = [(f.option, "honoured" if f.honoured else "not applicable", f.words) for f in fates]
        print_table(("option", "", "as, or because"), rows)
        click.echo()
    return [{"option": f.option, "honoured": f.honoured, "words": f.words} for f in fates]


def _comment(file: Path, configuration: Configuration) -> str:
    words = f": {configuration.description}" if configuration.description else ""
    return f"--- from {file.name} with {configuration.name}{words} ---"


def _print_import(file: Path, rows: Catalogue, found: Import, configuration: Configuration) -> dict[str, Any]:
    """Tell what became of the rows of a catalogue."""
    from astrid_assets.fields import fields_path

    counts = {
        "rows": rows.n_rows,
        "rejected": len(rows.rejects),
        "other years": found.other_years,
        "no mission before and after": len(found.unseen),
        "fields already": found.known,
        "beyond the limit": found.beyond,
        "fields added": len(found.blocks),
    }
    print_table(("supernovae", "number"), list(counts.items()))
    if rows.supernovae and found.other_years == len(rows.supernovae):
        last = max(int(s.date[:4]) for s in rows.supernovae)
        click.echo(
            f"warning: {file} ends in {last}, the configuration takes {_years(configuration)}; newer "
            "supernovae are in the public tables of the Transient Name Server and of the ZTF Bright "
            "Transient Survey"
        )
    for why, number in Counter(why for _, why in found.unseen).most_common(3):
        click.echo(f"{number} without a pair, such as: {why}")
    notes = Counter(s.note for s in rows.supernovae if s.note)
    for note, number in notes.items():
        click.echo(f"{number} supernovae without a date of discovery: {note} taken")
    click.echo(f"{fields_path()}: added {len(found.blocks)} fields")
    return {
        **{name.replace(" ", "_"): number for name, number in counts.items()},
        "added": list(found.blocks),
        "dated_by": dict(notes),
        "unseen": [{"name": s.name, "line": s.line, "reason": why} for s, why in found.unseen],
    }


def _report(rows: Catalogue, report: Path | None) -> None:
    """Write the rejected rows, or tell the first ones."""
    from astrid_assets.importing import reject_report

    for reject in rows.rejects[:3] if report is None else ():
        click.echo(f"rejected: line {reject.line}: {reject.reason}")
    if report is None and len(rows.rejects) > 3:
        click.echo(f"... and {len(rows.rejects) - 3} more; --report FILE lists all")
    if report is not None:
        report.write_text(reject_report(rows.rejects))
        click.echo(f"{report}: {len(rows.rejects)} rejected rows")
