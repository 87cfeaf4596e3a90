"""The training release: samples of all fields, split, in files that any notebook can read.

The same samples and options give the same bytes, whenever, wherever and with however many workers:
no file that has a checksum holds a time of writing, a path or a number of processes. Pixels stream
through exposure by exposure.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from astrid_assets.errors import AstridError, ReleaseRefusedError
from astrid_assets.images.triplets import CHANNELS, STAMP_BITS, crop
from astrid_assets.training.card import croissant, dataset_card
from astrid_assets.training.samples import SCHEMA_VERSION, TILE_BITS
from astrid_assets.training.schema import sample_schema
from astrid_assets.training.splits import SHARES, SPLITS, Splits, group_table, split_samples
from astrid_assets.training.statistics import pixel_statistics

if TYPE_CHECKING:
    import h5py
    import pyarrow as pa

__all__ = [
    "CHECKSUMS",
    "EXTRA_COLUMNS",
    "FieldSamples",
    "Release",
    "ReleaseOptions",
    "merge_samples",
    "plan_release",
    "read_checksums",
    "release_metrics",
    "verify_release",
    "write_release",
]

CHECKSUMS = "SHA256SUMS"
"""File with the checksums of all others, as ``sha256sum -c`` reads it."""

EXTRA_COLUMNS = {
    "split": ("string", "", "train, validation or test"),
    "group": ("string", "", "samples of one group are in one split; named after its first HEALPix cell"),
    "healpix": ("int64", "", "HEALPix cell (nested, ICRS) that the groups are made of; null without a WCS"),
    "_healpix_29": ("int64", "", "HEALPix cell of order 29 (nested, ICRS), as HATS catalogues have it"),
}
"""Type, unit and description of the columns that the catalogue of a release has besides those of samples."""

Create = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a new file of a release for writing and reading."""


@dataclass(frozen=True)
class FieldSamples:
    """The training set of a field."""

    name: str
    """The field."""

    table: pa.Table
    """Its samples."""

    open: Callable[[str], AbstractContextManager[BinaryIO]]
    """Opens the HDF5 file that a sample names in ``h5_file``."""


@dataclass(frozen=True)
class ReleaseOptions:
    """Numbers of the split; see `astrid_assets.training.splits.split_samples`."""

    shares: tuple[float, ...] = SHARES
    """Wanted shares of train, validation and test among the labelled samples."""

    nside: int = 16
    """Resolution of the HEALPix cells that groups are made of."""

    radius: float = 5.0
    """Samples closer than this stay together, arcsec."""

    seed: str = "astrid"
    """Decides between equally good splits."""


@dataclass(frozen=True, eq=False)
class Release:
    """What a release will hold."""

    release_id: str
    """Identity: 12 hexadecimal digits of inputs and options."""

    table: pa.Table
    """Catalogue: one row a sample, split by split, in the order of the HDF5 files."""

    size: int
    """Side of the stamps, pixels."""

    proof: tuple[dict[str, Any], ...]
    """What the splits share: nothing."""

    groups: list[dict[str, Any]]
    """Groups with their splits and counts."""

    left_out: Mapping[str, int]
    """Samples and tiles that were left out, by reason."""

    tiles: Mapping[str, Sequence[tuple[str, str]]]
    """Exposures (field, HDF5 file) whose tiles each split holds."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """How it came about; ``config.json``."""


def merge_samples(tables: Sequence[pa.Table]) -> tuple[pa.Table, dict[str, int]]:
    """Put samples together; of those with the same pixels one is kept.

    Labelled ones go before unlabelled ones, sure ones before doubtful ones. Where real and bogus are said
    of the same pixels, nobody knows: all of them are left out.

    Returns
    -------
    table
        Sorted by field, exposure and row.

    left_out
        Number of samples left out, by reason.
    """
    import pyarrow as pa

    whole = pa.concat_tables([sample_schema().empty_table(), *tables])
    whole = whole.sort_by([(name, "ascending") for name in ("field", "exposure_id", "h5_row")])
    columns = ("sha1", "label", "label_confidence", "sample_id")
    rows = list(zip(*(whole[name].to_pylist() for name in columns), strict=True))
    same: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        same.setdefault(row[0], []).append(number)
    keep, duplicates, contradicting = [], 0, 0
    for numbers in same.values():
        if {0, 1} <= {rows[i][1] for i in numbers}:
            contradicting += len(numbers)
            continue
        keep.append(min(numbers, key=lambda i: (rows[i][1] < 0, -(rows[i][2] or 0.0), rows[i][3])))
        duplicates += len(numbers) - 1
    left_out = {"duplicate_pixels": duplicates, "contradicting_labels": contradicting}
    return whole.take(pa.array(sorted(keep), pa.int64())), left_out


def plan_release(
    fields: Sequence[FieldSamples],
    options: ReleaseOptions,
    *,
    release_id: str,
    config: Mapping[str, Any],
    min_samples: int = 1,
) -> Release:
    """Decide what a release holds and which split everything goes to.

    Parameters
    ----------
    fields
        Training sets.

    options
        Numbers of the split.

    release_id
        Identity of inputs and options.

    config
        What is to stand in ``config.json``.

    min_samples
        Fewer labelled samples are no release.

    Raises
    ------
    ReleaseRefusedError
        There are too few samples, or no split without leaks exists.
    """
    table, left_out = merge_samples([f.table for f in fields])
    _refuse_if_small(table, min_samples)
    shapes = _shapes(fields, table)
    size = min(stamp for stamp, _ in shapes.values())
    splits = split_samples(
        table,
        shares=options.shares,
        nside=options.nside,
        radius=options.radius,
        size=size,
        seed=options.seed,
    )
    groups = group_table(splits, table["label"].to_numpy())
    tiles, n_torn = _tiles(table, splits, shapes)
    catalogue = _catalogue(table, splits)
    left_out |= {"tiles_of_two_splits": n_torn}
    return Release(release_id, catalogue, size, splits.proof, groups, left_out, tiles, config)


def _refuse_if_small(table: pa.Table, min_samples: int) -> None:
    n_labelled = sum(label >= 0 for label in table["label"].to_pylist())
    if n_labelled < max(min_samples, 1):
        msg = (
            f"{n_labelled} labelled samples, of {table.num_rows}, are too few for a release, which needs "
            f"{max(min_samples, 1)} (option min_samples): run more fields, or more nights"
        )
        raise ReleaseRefusedError(msg)


def _shapes(fields: Sequence[FieldSamples], table: pa.Table) -> dict[tuple[str, str], tuple[int, int]]:
    """Return size of the stamps and number of tiles of each HDF5 file that samples are in."""
    import h5py

    shapes = {}
    sources = {f.name: f for f in fields}
    for name, file_name in sorted(set(_files(table))):
        with sources[name].open(file_name) as stream, h5py.File(stream, "r") as file:
            n_tiles = len(file["tile_images"]) if "tile_images" in file else 0
            shapes[name, file_name] = (file["triplet"].shape[-1], n_tiles)
    return shapes


def _files(table: pa.Table) -> list[tuple[str, str]]:
    """Return field and HDF5 file of each sample."""
    return list(zip(table["field"].to_pylist(), table["h5_file"].to_pylist(), strict=True))


def _tiles(
    table: pa.Table, splits: Splits, shapes: Mapping[tuple[str, str], tuple[int, int]]
) -> tuple[dict[str, list[tuple[str, str]]], int]:
    """Return the exposures whose tiles each split holds, and how many tiles are left out.

    A tile shows more sky than a stamp: those of an exposure with samples in two splits are left out.
    """
    of_file: dict[tuple[str, str], set[str]] = {}
    for file, split in zip(_files(table), splits.split.tolist(), strict=True):
        of_file.setdefault(file, set()).add(split)
    whole = {file: found for file, found in sorted(of_file.items()) if shapes[file][1]}
    held = {name: [file for file, found in whole.items() if found == {name}] for name in SPLITS}
    return held, sum(shapes[file][1] for file, found in whole.items() if len(found) > 1)


def _catalogue(table: pa.Table, splits: Splits) -> pa.Table:
    """Return the samples split by split, with the columns of the release; file and row are the old ones."""
    import pyarrow as pa

    from astrid_assets.training.splits import healpix_cells

    values = {
        "split": splits.split.tolist(),
        "group": splits.group.tolist(),
        "healpix": [c if c >= 0 else None for c in splits.cell.tolist()],
        "_healpix_29": [c if c >= 0 else None for c in healpix_cells(table, 2**29).tolist()],
    }
    for name, (kind, unit, text) in EXTRA_COLUMNS.items():
        column = pa.field(name, pa.type_for_alias(kind), metadata={"unit": unit, "description": text})
        table = table.append_column(column, pa.array(values[name], column.type))
    order = np.argsort([SPLITS.index(name) for name in values["split"]], kind="stable")
    return table.take(order)


# --- writing ----------------------------------------------------------------------------------------


def write_release(release: Release, fields: Sequence[FieldSamples], create: Create) -> dict[str, str]:
    """Write all files of a release.

    Parameters
    ----------
    release
        What it holds.

    fields
        Where the pixels are.

    create
        Opens a new file by name.

    Returns
    -------
    dict
        sha256 of each file by name.

    Raises
    ------
    AstridError
        Pixels are not those that their table names.
    """
    writer = _Writer(create)
    catalogue = _renumbered(release.table)
    statistics: dict[str, Any] = {}
    for split in SPLITS:
        rows = release.table.filter(_is(release.table, split))
        columns = _columns(catalogue.filter(_is(catalogue, split)))
        with writer.file(f"{split}.h5") as stream, _hdf5(stream) as file:
            _describe(file, release, split)
            _write_pixels(file, release, split, rows, fields)
            for name, values in columns.items():
                _write_column(file, name, values)
            statistics[split] = pixel_statistics(file["triplet"], file["mask"])
            with writer.file(f"{split}.npz") as target:
                _write_npz(target, {"triplet": file["triplet"], "mask": file["mask"], **columns})
    with writer.file("catalog.parquet") as stream:
        _write_parquet(stream, catalogue)
    with writer.file("catalog.csv") as stream:
        _write_csv(stream, catalogue)
    with writer.file("splits.parquet") as stream:
        _write_parquet(stream, catalogue.select(["sample_id", *EXTRA_COLUMNS]))
    writer.text("config.json", _json(release.config))
    writer.text("stats.json", _json(_statistics(release, statistics)))
    writer.text("README.md", dataset_card(release, statistics))
    writer.text("croissant.json", _json(croissant(release, catalogue.schema, writer.sums)))
    sums = dict(writer.sums)
    writer.text(CHECKSUMS, "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())))
    return sums


class _Writer:
    """Makes the files of a release and remembers their checksums."""

    def __init__(self, create: Create) -> None:
        self._create = create
        self.sums: dict[str, str] = {}

    def file(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file; its checksum is taken when it is done."""
        from contextlib import contextmanager

        @contextmanager
        def opened() -> Iterator[BinaryIO]:
            with self._create(name) as stream:
                yield stream
                stream.seek(0)
                self.sums[name] = hashlib.file_digest(stream, "sha256").hexdigest()

        return opened()

    def text(self, name: str, text: str) -> None:
        """Write a text file."""
        with self.file(name) as stream:
            stream.write(text.encode())


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _is(table: pa.Table, split: str) -> pa.Array:
    import pyarrow.compute as pc

    return pc.equal(table["split"], split)


def _renumbered(table: pa.Table) -> pa.Table:
    """Let file and row of each sample be those of the release."""
    import pyarrow as pa

    splits = table["split"].to_pylist()
    counters = dict.fromkeys(SPLITS, 0)
    rows = []
    for split in splits:
        rows.append(counters[split])
        counters[split] += 1
    for name, values in {"h5_file": [f"{split}.h5" for split in splits], "h5_row": rows}.items():
        place = table.schema.get_field_index(name)
        column = table.schema.field(name)
        table = table.set_column(place, column, pa.array(values, column.type))
    return table


def _hdf5(stream: BinaryIO) -> h5py.File:
    """Open a new HDF5 file: one version of the format and no times, so that the bytes are always the same."""
    import h5py

    return h5py.File(stream, "w", libver=("v110", "v110"), track_order=False)


def _describe(file: h5py.File, release: Release, split: str) -> None:
    """Write the attributes of a file."""
    size = release.size
    attributes = {
        "schema_version": SCHEMA_VERSION,
        "release_id": release.release_id,
        "split": split,
        "channels": json.dumps(CHANNELS),
        "centre_pixel": json.dumps([size // 2, size // 2]),
        "centre_pixel_of_views": json.dumps({str(n): [n // 2, n // 2] for n in _views(size)}, sort_keys=True),
        "unit": "unit of the science image (see column zeropoint), background-subtracted, reference and "
        "difference on the same scale",
        "missing": "NaN, and bit OUTSIDE or MISSING in mask",
        "mask_bits": json.dumps(STAMP_BITS, sort_keys=True),
        "tile_bits": json.dumps(TILE_BITS, sort_keys=True),
        "column_units": json.dumps(_units(release.table.schema), sort_keys=True),
        "config_sha256": hashlib.sha256(_json(release.config).encode()).hexdigest(),
    }
    for name, value in sorted(attributes.items()):
        file.attrs[name] = value


def _views(size: int) -> list[int]:
    """Return the usual sides of views that stamps of a size hold."""
    return [n for n in (63, 64, 65, 128, 129) if n <= size and size // 2 - n // 2 >= 0]


def _units(schema: pa.Schema) -> dict[str, str]:
    return {column.name: (column.metadata or {}).get(b"unit", b"").decode() for column in schema}


def _write_pixels(
    file: h5py.File, release: Release, split: str, rows: pa.Table, fields: Sequence[FieldSamples]
) -> None:
    """Copy stamps, masks and tiles of a split, one exposure at a time."""
    import h5py

    sources = {f.name: f for f in fields}
    shape = (rows.num_rows, len(CHANNELS), release.size, release.size)
    triplet = file.create_dataset("triplet", shape, "<f4", track_times=False)
    mask = file.create_dataset("mask", shape, "u1", track_times=False)
    first = 0
    for (name, file_name), part in _by_file(rows):
        with sources[name].open(file_name) as stream, h5py.File(stream, "r") as source:
            places = part["h5_row"].to_numpy()
            stamps = source["triplet"][...][places]
            _verify_pixels(stamps, part, f"{name}: {file_name}")
            last = first + len(places)
            triplet[first:last] = crop(stamps, release.size)
            mask[first:last] = crop(source["mask"][...][places], release.size)
            first = last
    _write_tiles(file, release.tiles[split], sources)


def _by_file(rows: pa.Table) -> Iterator[tuple[tuple[str, str], pa.Table]]:
    """Yield field, file and rows of each run of samples from one file."""
    files = _files(rows)
    start = 0
    for end in range(1, len(files) + 1):
        if end == len(files) or files[end] != files[start]:
            yield files[start], rows.slice(start, end - start)
            start = end


def _verify_pixels(stamps: np.ndarray, rows: pa.Table, where: str) -> None:
    """Compare stamps with the checksums in their table."""
    for stamp, row in zip(stamps, rows.select(["sample_id", "sha1"]).to_pylist(), strict=True):
        found = hashlib.sha1(np.ascontiguousarray(stamp).data).hexdigest()  # noqa: S324 - names pixels, guards nothing
        if found != row["sha1"]:
            msg = (
                f"{where}: the pixels of {row['sample_id']} are not those that the table names; run the field"
            )
            raise AstridError(msg)


def _write_tiles(
    file: h5py.File, held: Sequence[tuple[str, str]], sources: Mapping[str, FieldSamples]
) -> None:
    """Copy the tiles of some exposures, with the exposure that each is of."""
    import h5py

    shapes, names = [], []
    for name, file_name in held:
        with sources[name].open(file_name) as stream, h5py.File(stream, "r") as source:
            shapes.append(source["tile_truth"].shape)
            names += [f"{name}/{file_name.removesuffix('.h5')}"] * len(source["tile_truth"])
    side = max((s[-1] for s in shapes), default=0)
    n = len(names)
    images = file.create_dataset("tile_images", (n, len(CHANNELS), side, side), "<f4", track_times=False)
    truth = file.create_dataset("tile_truth", (n, side, side), "u1", track_times=False)
    corner = file.create_dataset("tile_corner", (n, 2), "<i4", track_times=False)
    first = 0
    for (name, file_name), shape in zip(held, shapes, strict=True):
        last = first + shape[0]
        with sources[name].open(file_name) as stream, h5py.File(stream, "r") as source:
            images[first:last] = source["tile_images"][...]
            truth[first:last] = source["tile_truth"][...]
            if "tile_corner" in source:
                corner[first:last] = source["tile_corner"][...]
        first = last
    _write_column(file, "tile_exposure", _text_array(names))


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    """Return the columns of a table as arrays: texts of fixed length, null as empty, NaN or -1."""
    import pyarrow as pa

    arrays = {}
    for column in table.schema:
        values = table[column.name].to_pylist()
        if pa.types.is_string(column.type):
            arrays[column.name] = _text_array([v or "" for v in values])
        elif pa.types.is_floating(column.type):
            arrays[column.name] = np.array([np.nan if v is None else v for v in values], "<f8")
        else:
            kind = np.dtype(column.type.to_pandas_dtype()).newbyteorder("<")
            arrays[column.name] = np.array([-1 if v is None else v for v in values], kind)
    return arrays


def _text_array(values: Sequence[str]) -> np.ndarray:
    """Return texts as an array; also of none, and of empty ones."""
    return np.array(values, f"<U{max(map(len, values), default=0) or 1}")


def _write_column(file: h5py.File, name: str, values: np.ndarray) -> None:
    """Write a column; texts as UTF-8 of fixed length."""
    import h5py

    if values.dtype.kind == "U":
        encoded = np.char.encode(values, "utf-8")
        kind = h5py.string_dtype("utf-8", max(encoded.dtype.itemsize, 1))
        file.create_dataset(name, data=encoded.astype(kind), track_times=False)
    else:
        file.create_dataset(name, data=values, track_times=False)


_BLOCK = 256
"""Rows that are copied at once."""


def _write_npz(stream: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """Write arrays, or datasets block by block, as an uncompressed ``.npz`` without times."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            header = {
                "descr": npy.dtype_to_descr(values.dtype),
                "fortran_order": False,
                "shape": values.shape,
            }
            with archive.open(entry, "w", force_zip64=True) as target:
                npy.write_array_header_1_0(target, header)
                for first in range(0, len(values), _BLOCK):
                    target.write(np.ascontiguousarray(values[first : first + _BLOCK]).tobytes())


def _write_parquet(stream: BinaryIO, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, stream, compression="zstd")


def _write_csv(stream: BinaryIO, table: pa.Table) -> None:
    import pyarrow.csv

    pyarrow.csv.write_csv(table, stream)


def _statistics(release: Release, pixels: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``stats.json`` holds: pixels, groups, what was left out, and that nothing is shared."""
    return {
        "pixels": dict(pixels),
        "groups": release.groups,
        "leakage": list(release.proof),
        "left_out": dict(release.left_out),
        "tiles": {split: len(files) for split, files in release.tiles.items()},
    }


# --- looking at a release -----------------------------------------------------------------------------


def read_checksums(folder: Any) -> dict[str, str]:
    """Return the sha256 of each file of a release by name.

    Parameters
    ----------
    folder
        `pathlib.Path` (or one of an object store) of the release.

    Raises
    ------
    AstridError
        There is no release in the folder.
    """
    try:
        lines = (folder / CHECKSUMS).read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{folder} holds no release: there is no file {CHECKSUMS}"
        raise AstridError(msg) from error
    return {name: value for value, name in (line.split("  ", 1) for line in lines)}


def verify_release(folder: Any) -> dict[str, str]:
    """Compare the files of a release with their checksums.

    Parameters
    ----------
    folder
        `pathlib.Path` (or one of an object store) of the release.

    Returns
    -------
    dict
        ``missing`` or ``changed`` by the name of each file that is not as it was written.

    Raises
    ------
    AstridError
        There is no release in the folder.
    """
    wrong = {}
    for name, wanted in read_checksums(folder).items():
        try:
            with (folder / name).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            wrong[name] = "missing"
            continue
        if found != wanted:
            wrong[name] = "changed"
    return wrong


def release_metrics(folder: Any, *, floor: int) -> dict[str, float]:
    """Return the numbers by which a release is judged, from its files.

    Parameters
    ----------
    folder
        Folder of the release.

    floor
        Number of labelled samples that a release should have.

    Returns
    -------
    dict
        ``shared``, things that two splits have in common; ``checksum_errors``, files that are not as they
        were written; ``samples_over_floor``; ``minority_share_train`` and ``minority_share_test``, share of
        the rarer label; ``shape_errors``, splits whose arrays and catalogue do not have the same rows;
        ``sources_filled``, share of the samples with a label source.
    """
    import pyarrow.parquet as pq

    with (folder / "catalog.parquet").open("rb") as stream:
        table = pq.read_table(stream, columns=["split", "label", "label_source"], use_threads=False)
    labels, splits = table["label"].to_numpy(), np.array(table["split"].to_pylist())
    leakage = json.loads((folder / "stats.json").read_text())["leakage"]
    counts = {name: int((splits == name).sum()) for name in SPLITS}
    sources = table["label_source"].to_pylist()
    return {
        "shared": float(sum(row["shared"] for row in leakage)),
        "checksum_errors": float(len(verify_release(folder))),
        "samples_over_floor": float((labels >= 0).sum()) / max(floor, 1),
        **{f"minority_share_{s}": _minority(labels[splits == s]) for s in ("train", "test")},
        "shape_errors": float(sum(not _rows_agree(folder, name, n) for name, n in counts.items())),
        "sources_filled": float(np.mean([bool(source) for source in sources])),
    }


def _minority(labels: np.ndarray) -> float:
    known = labels[labels >= 0]
    return float(min((known == 1).mean(), (known == 0).mean())) if len(known) else float("nan")


def _rows_agree(folder: Any, split: str, n: int) -> bool:
    """Whether arrays and columns of a split have as many rows as the catalogue, and stamps are square."""
    import h5py

    try:
        with (folder / f"{split}.h5").open("rb") as stream, h5py.File(stream, "r") as file:
            shape, side = file["triplet"].shape, file["triplet"].shape[-1]
            whole = shape == (n, len(CHANNELS), side, side) and file["mask"].shape == shape
            tiles = len(file["tile_images"]) == len(file["tile_truth"])
            return whole and tiles and side % 2 == 1 and len(file["label"]) == n
    except (OSError, KeyError):
        return False
