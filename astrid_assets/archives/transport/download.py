"""The part of a file that has arrived: continued after a cut, checked when it is whole.

A part lies in the store under the key of its request, so that the next run goes on where this one
was stopped. It is held by one process at a time. What it was a part of (ETag, date) lies beside it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from astrid_assets.archives.transport.limits import locked
from astrid_assets.archives.transport.store import write_atomically
from astrid_assets.archives.transport.wire import Trouble

__all__ = ["Part", "open_part"]

_TELLING = ("etag", "last-modified", "content-length")


@contextmanager
def open_part(folder: Path, key: str) -> Iterator[Part]:
    """Hold the part of a request as long as the block lasts; wait for another process that has it.

    Parameters
    ----------
    folder
        Where parts are.

    key
        Key of the request.
    """
    # few enough to stay; that two keys share a lock costs a moment, not more
    with locked(folder / f"{key[:3]}.lock"):
        yield Part(folder / f"{key}.part")


class Part:
    """A file that has arrived in part.

    Parameters
    ----------
    path
        Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._about = path.with_suffix(".json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def wanted(self) -> dict[str, str]:
        """Return the headers that ask for the rest, if it is still the same file; none for the whole.

        What a server says nothing about cannot be told from another version: it is fetched anew.
        """
        validator = self._validator()
        if not self.size or validator is None:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def fill(self, status: int, headers: Mapping[str, str], chunks: Iterable[bytes]) -> None:
        """Write what a server sends: the rest (206) or the whole.

        Parameters
        ----------
        status
            HTTP status.

        headers
            Headers of the answer, names in lower case.

        chunks
            The body.
        """
        if status == 206:
            self._check_rest(headers)
        else:
            self.drop()
            about = {name: headers[name] for name in _TELLING if name in headers}
            # the length of what was compressed on the way is not that of the file
            about = {} if "content-encoding" in headers else about
            write_atomically(self._about, json.dumps(about).encode())
        with self.path.open("ab") as stream:
            try:
                for chunk in chunks:
                    stream.write(chunk)
            finally:
                stream.flush()
                os.fsync(stream.fileno())

    def end_here(self, headers: Mapping[str, str]) -> None:
        """Raise unless a server that has no more to send (416) says that what has arrived is all.

        Parameters
        ----------
        headers
            Headers of the answer, names in lower case.
        """
        if headers.get("content-range", "").strip() != f"bytes */{self.size}":
            self.drop()
            raise Trouble("it does not know the rest of the file")

    def drop(self) -> None:
        """Forget what has arrived."""
        self._about.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    @property
    def is_whole(self) -> bool:
        """Whether all has arrived that the server announced."""
        return self.size > 0 and str(self.size) == self._known().get("content-length")

    def _check_rest(self, headers: Mapping[str, str]) -> None:
        """Raise where a server sends the rest of another file, or not from where this one ends."""
        known = self._known()
        said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("content-range", "").strip())
        fits = (
            said is not None
            and int(said[1]) == self.size
            and said[2] in ("*", known.get("content-length", said[2]))
            and all(
                headers.get(name, known.get(name)) == known.get(name) for name in ("etag", "last-modified")
            )
        )
        if not fits:
            self.drop()
            raise Trouble("the rest that it sent is of another file")

    def _known(self) -> dict[str, str]:
        """Return what the server has said about the file."""
        try:
            return json.loads(self._about.read_bytes())
        except (OSError, ValueError):
            return {}

    def _validator(self) -> str | None:
        """Return what tells this version of the file from others; weak tags do not (RFC 9110, 13.1.5)."""
        known = self._known()
        etag = known.get("etag")
        return etag if etag and not etag.startswith("W/") else known.get("last-modified")
