"""Answers that are kept: bodies by their checksum, answers by the key of their request.

``objects/ab/<sha256>`` holds a body, ``answers/<key>.json`` what is known about the answer. Entries
know the alias of a service, never its address, so that what was recorded live is good on loopback.
Files appear whole or not at all; an entry that is damaged counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from astrid_assets.archives.transport.request import Request

__all__ = ["KEPT_HEADERS", "Kept", "Store", "copy_file", "place", "sha256_of", "write_atomically"]

_VERSION = 1
_BLOCK = 1024 * 1024
_HEX_DIGITS = 64  # of SHA-256
KEPT_HEADERS = ("content-type", "content-disposition", "etag", "last-modified")
"""Headers that are kept; others are of no use later, or are secrets (cookies)."""


@dataclass(frozen=True)
class Kept:
    """What is known about a kept answer."""

    request: str
    """The request on one line, without secrets."""

    service: str
    """Alias of the host."""

    kind: str
    """Kind of answer."""

    status: int
    """HTTP status."""

    headers: Mapping[str, str]
    """Headers worth keeping, names in lower case."""

    sha256: str
    """Checksum of the body."""

    n_bytes: int
    """Length of the body."""

    fetched_mjd: float
    """When it was sent or last found unchanged, MJD (UTC)."""

    @property
    def is_sound(self) -> bool:
        """Whether it can be what was written."""
        expected = {"sha256": str, "status": int, "n_bytes": int, "fetched_mjd": float, "headers": dict}
        right = all(isinstance(getattr(self, name), kind) for name, kind in expected.items())
        return right and len(self.sha256) == _HEX_DIGITS


class Store:
    """A folder of answers that several processes may use at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Kept | None:
        """Return what is known of the answer to a request; None if there is none, or it is damaged."""
        try:
            entry = json.loads(self._entry(key).read_bytes())
            if entry.pop("version") != _VERSION:
                return None
            kept = Kept(**entry)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return kept if kept.is_sound else None

    def body(self, kept: Kept) -> bytes | None:
        """Return a body; None if it is not there, or not what was kept."""
        try:
            content = self._object(kept.sha256).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == kept.sha256 else None

    def body_path(self, kept: Kept) -> Path | None:
        """Return the file of a body; None if it is not there, or not what was kept."""
        path = self._object(kept.sha256)
        try:
            return path if sha256_of(path) == kept.sha256 else None
        except OSError:
            return None

    def keep(
        self, request: Request, body: bytes | Path, *, status: int, headers: Mapping[str, str], mjd: float
    ) -> Kept:
        """Keep an answer.

        Parameters
        ----------
        request
            What was asked.

        body
            The body, or a file with it, which is copied.

        status
            HTTP status.

        headers
            All headers, names in lower case.

        mjd
            When it was sent.
        """
        checksum = sha256_of(body) if isinstance(body, Path) else hashlib.sha256(body).hexdigest()
        length = body.stat().st_size if isinstance(body, Path) else len(body)
        useful = {name: headers[name] for name in KEPT_HEADERS if name in headers}
        kept = Kept(request.shown, request.service, request.kind, status, useful, checksum, length, mjd)
        if self.body_path(kept) is None:
            path = self._object(checksum)
            if isinstance(body, Path):
                copy_file(body, path)
            else:
                write_atomically(path, body)
        self.describe(request, kept)
        return kept

    def describe(self, request: Request, kept: Kept) -> None:
        """Write what is known of the answer to a request."""
        text = json.dumps({"version": _VERSION, **asdict(kept)}, indent=1)
        write_atomically(self._entry(request.key), text.encode())

    def _entry(self, key: str) -> Path:
        return self.folder / "answers" / f"{key}.json"

    def _object(self, checksum: str) -> Path:
        return self.folder / "objects" / checksum[:2] / checksum


def sha256_of(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, also after a loss of power."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part_beside(path)
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def place(part: Path, path: Path) -> None:
    """Move a finished file to its final name in one step, also to another file system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if part.stat().st_dev == path.parent.stat().st_dev:
        part.replace(path)
        _sync_folder(path.parent)
    else:
        copy_file(part, path)
        part.unlink()


def copy_file(source: Path, path: Path) -> None:
    """Copy a file; the copy appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part_beside(path)
    try:
        with source.open("rb") as reader, part.open("wb") as writer:
            shutil.copyfileobj(reader, writer, _BLOCK)
            writer.flush()
            os.fsync(writer.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _part_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
