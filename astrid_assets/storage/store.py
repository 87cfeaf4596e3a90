"""`Store`: files, rows and tables of the results, written so that a kill leaves nothing half done.

A file is written beside its place and renamed into it. The results of one exposure count from
the moment its row file exists: pixels come first, ``rows/<exposure>.json`` last.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from astrid_assets.storage.layout import FOLDERS, MANIFEST, METADATA_FOLDER, data_root

if TYPE_CHECKING:
    import pyarrow as pa
    from upath import UPath

__all__ = ["Row", "Store"]

Row = dict[str, Any]
"""What is known about one exposure in one asset; JSON-compatible."""

_ROWS = "rows"
_STAGING = ".staging"


@dataclass(frozen=True)
class Store:
    """The results below one root, on a local disk or an object store.

    Paths in rows are relative to the root, with forward slashes, so that a data folder can be moved.
    """

    root: str = field(default_factory=data_root)
    """Folder or fsspec URL (``s3://bucket/prefix``, ``memory://name``)."""

    @property
    def local(self) -> bool:
        """Whether the root is a folder of this machine."""
        return "://" not in self.root or self.root.startswith("file://")

    def path(self, *parts: str) -> Path | UPath:
        """Return the place of a path relative to the root."""
        if self.local:
            return Path(self.root.removeprefix("file://")).joinpath(*parts)
        from upath import UPath

        return UPath(self.root).joinpath(*parts)

    def folder(self, asset: str, sky_field: str) -> str:
        """Return the folder of an asset and field, relative to the root."""
        return f"{FOLDERS[asset]}/{sky_field}"

    def exists(self, files: Mapping[str, int]) -> bool:
        """Tell whether all files are there with the sizes in bytes that were written."""
        return all(self.size(path) == size for path, size in files.items())

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes; None where there is none."""
        try:
            return self.path(path).stat().st_size
        except FileNotFoundError:
            return None

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        """Open a file that appears at its place, whole, when the block ends without an error."""
        target = self.path(path)
        if not self.local:
            buffer = io.BytesIO()
            yield buffer
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(buffer.getbuffer())
            return
        part = self._staging_place(path)
        try:
            with part.open("w+b") as stream:
                yield stream
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a file at once."""
        with self.writing(path) as stream:
            stream.write(content)

    @contextmanager
    def staging(self, path: str) -> Iterator[Path]:
        """Make an empty folder on the local disk for files on their way to `path`."""
        folder = self._staging_place(path) if self.local else Path(tempfile.mkdtemp(prefix="astrid-"))
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, source: Path, folder: str) -> None:
        """Move a local folder and all it holds to `folder`; what lay there is replaced."""
        target = self.path(folder)
        self.remove(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.local:
            source.replace(target)
            return
        for file in source.rglob("*"):
            if file.is_file():
                place = target.joinpath(*file.relative_to(source).parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.read_bytes())

    @contextmanager
    def new_folder(self, folder: str) -> Iterator[Callable[[str], BinaryIO]]:
        """Make a folder that appears at its place, whole, when the block ends without an error.

        The block gets a function that opens a new file of the folder, for writing and reading. What killed
        processes left on the way is removed; call with the lock held of those who write there.
        """
        self.remove(f"{_STAGING}/{folder.rpartition('/')[0]}")
        with self.staging(folder) as staging:
            yield lambda name: (staging / name).open("w+b")
            self.adopt(staging, folder)

    def remove(self, path: str) -> None:
        """Remove a file or a folder; nothing happens where there is none."""
        target = self.path(path)
        if target.is_dir():
            shutil.rmtree(target) if self.local else target.rmdir(recursive=True)
        else:
            target.unlink(missing_ok=True)

    def clean_staging(self, sky_field: str) -> None:
        """Remove what killed runs of a field left on the way. Call with the lock of the field held."""
        for folder in (*FOLDERS.values(), METADATA_FOLDER):
            self.remove(f"{_STAGING}/{folder}/{sky_field}")

    def remove_staging(self) -> None:
        """Remove the place of files on their way. Call when nobody else writes below the root."""
        self.remove(_STAGING)

    def commit(self, asset: str, sky_field: str, row: Row, *, key: str | None = None) -> None:
        """Write the row of one exposure; from now on its results count."""
        name = key or row["exposure_id"]
        content = json.dumps(row, allow_nan=False, sort_keys=True)
        self.write_bytes(self._row_path(asset, sky_field, name), content.encode())

    def discard(self, asset: str, sky_field: str, key: str) -> None:
        """Take back the row of one exposure, before its files change."""
        self.remove(self._row_path(asset, sky_field, key))

    def rows(self, asset: str, sky_field: str) -> dict[str, Row]:
        """Return all committed rows by key, sorted by key."""
        folder = self.path(self.folder(asset, sky_field), _ROWS)
        if not folder.is_dir():
            return {}
        files = sorted(p for p in folder.iterdir() if p.name.endswith(".json"))
        return {p.name.removesuffix(".json"): json.loads(p.read_bytes()) for p in files}

    def write_table(self, path: str, table: pa.Table) -> None:
        """Write a Parquet file."""
        import pyarrow.parquet as pq

        with self.writing(path) as stream:
            pq.write_table(table, stream, compression="zstd")

    def read_table(self, path: str) -> pa.Table:
        """Read a Parquet file; FileNotFoundError where there is none."""
        import pyarrow.parquet as pq

        with self.path(path).open("rb") as stream:
            # threads of pyarrow 26 that are still there at the end of a process abort it now and then
            return pq.read_table(io.BytesIO(stream.read()), use_threads=False)

    def manifest(self, asset: str, sky_field: str) -> pa.Table | None:
        """Return the manifest of an asset and field as last written, or None."""
        try:
            return self.read_table(f"{self.folder(asset, sky_field)}/{MANIFEST}")
        except FileNotFoundError:
            return None

    def write_json(self, path: str, document: Mapping[str, Any]) -> None:
        """Write a JSON file that people read; it is left alone where nothing changed."""
        content = (json.dumps(document, allow_nan=False, indent=1, sort_keys=True) + "\n").encode()
        place = self.path(path)
        if not (place.exists() and place.read_bytes() == content):
            self.write_bytes(path, content)

    def _staging_place(self, path: str) -> Path:
        """Return a name that nobody else uses, on the disk of `path`."""
        folder = Path(self.path(_STAGING, path)).parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def _row_path(self, asset: str, sky_field: str, key: str) -> str:
        return f"{self.folder(asset, sky_field)}/{_ROWS}/{key}.json"
