"""``astrid export``: a release for a notebook, or the drafts that announce a candidate."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrid_assets.cli.output import json_option, megabytes, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from astrid_assets.reports.announcements import Announcement
    from astrid_assets.storage.store import Store

__all__ = ["export"]

_ABOUT = ("README.md", "croissant.json", "config.json", "stats.json")
_SPLITS = ("train", "validation", "test")

_FILES: dict[str, tuple[str, ...]] = {
    "hdf5": ("catalog.parquet", "splits.parquet", *(f"{split}.h5" for split in _SPLITS), *_ABOUT),
    "npz": (*(f"{split}.npz" for split in _SPLITS), *_ABOUT),
    "csv": ("catalog.csv", *_ABOUT),
    "fits": _ABOUT,
}
"""Files of a release that belong to a format; all are copied as ``release``. FITS files are written anew."""

_BLOCK = 1 << 20
"""Bytes that are copied at once."""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["release", *_FILES]),
    default="release",
    show_default=True,
    help="The whole release, or one form of its samples.",
)
@click.option("--release", "release_id", help="Identity of the release [the latest].")
@click.option(
    "--candidate", "candidate_id", help="Drafts of a TNS AT report and a VOEvent instead; never sent."
)
@click.option("--field", "name", help="Field of the candidate, where several have one of that name.")
@click.option("--reporter", default="", help="Names that the drafts carry.")
@json_option
def export(
    folder: str,
    kind: str,
    release_id: str | None,
    candidate_id: str | None,
    name: str | None,
    reporter: str,
    as_json: bool,
) -> None:
    """Copy a training release to FOLDER, checksums verified; or write the drafts of a candidate."""
    from astrid_assets.storage import Store

    target = Path(folder)
    if candidate_id is not None:
        found = _export_candidate(Store(), target, candidate_id, name, reporter)
    else:
        found = _export_release(Store(), target, kind, release_id)
    for line in found.pop("lines"):
        click.echo(line)
    if as_json:
        print_json(found)


# --- releases ---------------------------------------------------------------------------------------


def _export_release(store: Store, target: Path, kind: str, release_id: str | None) -> dict[str, Any]:
    from astrid_assets.storage import Store
    from astrid_assets.storage.layout import RELEASE_FOLDERS
    from astrid_assets.training.release import CHECKSUMS, read_checksums

    release_id = release_id or _latest(store)
    source = store.path(RELEASE_FOLDERS["training_release"], release_id)
    sums = read_checksums(source)
    out = Store(str(target))
    names = list(sums) if kind == "release" else list(_FILES[kind])
    for name in names:
        _copy(source / name, out, name, sums[name])
    if kind == "fits":
        names += _write_fits(source, out)
    else:
        lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(names))
        out.write_bytes(CHECKSUMS, lines.encode())
        names.append(CHECKSUMS)
    out.remove_staging()
    size = sum(out.size(name) or 0 for name in names)
    line = f"release {release_id}: {len(names)} files, {megabytes(size)} in {target}"
    return {"release_id": release_id, "folder": str(target), "files": names, "bytes": size, "lines": [line]}


def _latest(store: Store) -> str:
    from astrid_assets.errors import AstridError
    from astrid_assets.storage.layout import RELEASE_FOLDERS

    folder = RELEASE_FOLDERS["training_release"]
    try:
        return json.loads(store.path(folder, "latest.json").read_bytes())["release_id"]
    except FileNotFoundError as error:
        msg = f"{store.path(folder)} holds no release yet; astrid run --all makes one"
        raise AstridError(msg) from error


def _copy(source: Any, out: Store, name: str, wanted: str) -> None:
    """Copy a file; a copy that is not what was written once does not appear."""
    from astrid_assets.errors import AstridError

    checksum = hashlib.sha256()
    with source.open("rb") as stream, out.writing(name) as copy:
        while block := stream.read(_BLOCK):
            checksum.update(block)
            copy.write(block)
        if checksum.hexdigest() != wanted:
            msg = f"{source} is damaged: its checksum is another one; make the release again with --force"
            raise AstridError(msg)


def _write_fits(source: Any, out: Store) -> list[str]:
    """Write one FITS file a split; return their names."""
    import h5py
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from astrid_assets.training.fits_export import write_split_fits

    with (source / "catalog.parquet").open("rb") as stream:
        table = pq.read_table(stream, use_threads=False)
    for split in _SPLITS:
        rows = table.filter(pc.equal(table["split"], split))
        with (
            (source / f"{split}.h5").open("rb") as stream,
            h5py.File(stream, "r") as file,
            out.writing(f"{split}.fits") as target,
        ):
            write_split_fits(target, file, rows)
    return [f"{split}.fits" for split in _SPLITS]


# --- announcements ----------------------------------------------------------------------------------


def _export_candidate(
    store: Store, target: Path, candidate_id: str, name: str | None, reporter: str
) -> dict[str, Any]:
    from datetime import UTC, datetime

    from astrid_assets.errors import AstridError
    from astrid_assets.reports.announcements import DRAFT, at_report, voevent
    from astrid_assets.storage import Store

    event = _announcement(store, _field_of(store, candidate_id, name), candidate_id)
    drafts = {f"{event.name}_voevent.draft.xml": voevent(event, written=datetime.now(UTC), reporter=reporter)}
    lines = [DRAFT]
    try:
        report = at_report(event, reporter=reporter)
        drafts[f"{event.name}_tns_at_report.draft.json"] = (json.dumps(report, indent=1) + "\n").encode()
    except AstridError as error:
        lines.append(f"no AT report: {error}")
    out = Store(str(target))
    for file, content in drafts.items():
        out.write_bytes(file, content)
    out.remove_staging()
    files = list(drafts)
    return {
        "candidate_id": candidate_id,
        "object_id": event.name,
        "folder": str(target),
        "files": files,
        "lines": [*lines, *(str(target / file) for file in files)],
    }


def _field_of(store: Store, candidate_id: str, name: str | None) -> str:
    """Return the field that has a candidate of this name."""
    from astrid_assets.errors import AstridError
    from astrid_assets.fields import get_field
    from astrid_assets.storage.known import known_fields

    names = [get_field(name).name] if name else list(known_fields(store))
    found = [one for one in names if _candidate(store, one, candidate_id) is not None]
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"candidate {candidate_id} is in fields {', '.join(found)}; say which with --field"
    else:
        msg = f"there is no candidate {candidate_id!r} in {', '.join(names) or 'any field'}"
    raise AstridError(msg)


def _candidate(store: Store, name: str, candidate_id: str) -> Mapping[str, Any] | None:
    rows = _rows_where(
        store, f"{store.folder('candidates', name)}/candidates.parquet", candidate_id=candidate_id
    )
    return rows[0] if rows else None


def _rows_where(store: Store, path: str, **wanted: str) -> list[Mapping[str, Any]]:
    """Return the rows of a table with a value in a column; none where there is no table."""
    import pyarrow.compute as pc

    try:
        table = store.read_table(path)
    except FileNotFoundError:
        return []
    for column, value in wanted.items():
        table = table.filter(pc.equal(table[column], value))
    return table.to_pylist()


def _announcement(store: Store, name: str, candidate_id: str) -> Announcement:
    """Gather what is known about a candidate."""
    from astrid_assets.reports.announcements import Announcement
    from astrid_assets.storage.manifest import usable

    candidate = _candidate(store, name, candidate_id)
    manifest = store.manifest("candidates", name)
    exposures = {} if manifest is None else {row["exposure_id"]: row for row in usable(manifest)}
    folder = store.folder("light_curves", name)
    joined = _rows_where(store, f"{folder}/associations.parquet", candidate_id=candidate_id)
    if not joined:
        return Announcement(candidate, exposures)
    wanted = {"object_id": joined[0]["object_id"]}
    objects = _rows_where(store, f"{folder}/objects.parquet", **wanted)
    light_curve = _rows_where(store, f"{folder}/light_curves.parquet", **wanted)
    return Announcement(candidate, exposures, objects[0] if objects else None, light_curve)
