"""What can go wrong between an archive and its user, on purpose and repeatably.

A `Fault` says which requests it hits, by their number: the first so many, or a share drawn from a
seed. Faults of the line (`LINE_MODES`) are made by the server whatever the handler answers. Faults of
the content (`HANDLER_MODES`) are known only to the handler that makes the content: it reads
`Asked.fault` and answers so, or ignores what does not exist at its service.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from astrid_assets.archives.standin.messages import Reply
from astrid_assets.errors import ConfigurationError

__all__ = ["HANDLER_MODES", "LINE_MODES", "Chooser", "Fault", "Sending", "clip", "spoil"]

LINE_MODES: Mapping[str, str] = {
    "hang": "takes the request and says nothing until the client leaves",
    "drip": "sends the body in 20 pieces with a pause before each",
    "unavailable": "status 503 with Retry-After",
    "too_many": "status 429 with Retry-After",
    "server_error": "status 500 with a page of HTML",
    "html": "status 200 with a page of HTML instead of the answer",
    "truncated": "the connection breaks in the middle of a chunked body",
    "wrong_length": "Content-Length says more than is sent",
    "half": "half of a FITS, Avro, zip or tar file, with the length of the half: only the content tells",
    "gzip": "a FITS file gzipped as a whole; anything else with Content-Encoding gzip",
    "no_overlap": "status 400 with a text instead of a FITS file",
    "stale": "status 404 instead of a FITS file: the search knows more than the archive still has",
}
"""Faults that the server makes, by name."""

HANDLER_MODES: Mapping[str, str] = {
    "clipped": "a cutout that ends at the edge of its image: fewer pixels than asked for (`clip`)",
    "empty_table": "a table without rows",
    "executing": "the first three answers to a question say that it is still being worked on (mast)",
    "error_status": "status 200 with a document of the service that reports an error",
    "pages": "few rows on a page, so that an answer has many",
    "duplicates": "each row several times",
}
"""Faults that handlers make, by name."""

_BINARY = ("fits", "avro", "zip", "tar", "octet-stream")
_PIECES = 20
_EXCESS = 1024
_PAGE = b"<!DOCTYPE html>\n<html><head><title>Message</title></head><body>Please try later.</body></html>\n"
_STATUS = {"unavailable": 503, "too_many": 429, "server_error": 500, "html": 200}
_WAITING = ("unavailable", "too_many")


@dataclass(frozen=True)
class Fault:
    """One kind of fault, and the requests that it hits."""

    mode: str
    """Name from `LINE_MODES` or `HANDLER_MODES`."""

    share: float = 1.0
    """Share of the requests, 0 to 1, drawn from `seed` and the number of the request."""

    services: tuple[str, ...] = ()
    """Services that it happens at; empty for all. Requests are counted for each service by itself."""

    first_n: int | None = None
    """Only the first so many requests of a service; None for no end."""

    seed: int = 0
    """Seed of the draw."""

    only: str = ""
    """Text that the path and query hold; others are neither hit nor counted."""

    seconds: float = 0.0
    """Seconds: pause before a piece of a ``drip``, Retry-After of ``unavailable`` and ``too_many``."""

    def __post_init__(self) -> None:
        """Refuse a mode that does not exist and a share that is none."""
        if self.mode not in {**LINE_MODES, **HANDLER_MODES}:
            known = ", ".join(sorted({**LINE_MODES, **HANDLER_MODES}))
            msg = f"fault {self.mode!r} does not exist; known are {known}"
            raise ConfigurationError(msg)
        if not 0.0 <= self.share <= 1.0:
            msg = f"fault {self.mode}: share {self.share:g} is not between 0 and 1"
            raise ConfigurationError(msg)

    def concerns(self, service: str, target: str) -> bool:
        """Return whether a request counts for this fault."""
        return (not self.services or service in self.services) and self.only in target

    def hits(self, service: str, number: int) -> bool:
        """Return whether the fault happens to the request of this number (from 0) at a service."""
        if self.first_n is not None and number >= self.first_n:
            return False
        drawn = hashlib.sha256(f"{self.seed} {self.mode} {service} {number}".encode()).digest()
        return int.from_bytes(drawn[:8]) < self.share * 2.0**64


class Chooser:
    """Counts requests and says which fault each of them meets."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = tuple(faults)
        self._numbers: Counter[tuple[int, str]] = Counter()
        self._lock = threading.Lock()

    def choose(self, service: str, target: str) -> Fault | None:
        """Return the first fault that hits the next request, and count the request for all.

        Parameters
        ----------
        service
            Name of the service.

        target
            Path and query of the request.
        """
        found = None
        with self._lock:
            for index, fault in enumerate(self._faults):
                if not fault.concerns(service, target):
                    continue
                number = self._numbers[index, service]
                self._numbers[index, service] += 1
                if found is None and fault.hits(service, number):
                    found = fault
        return found


@dataclass(frozen=True)
class Sending:
    """A reply, and how it goes over the line."""

    reply: Reply
    """What is sent."""

    pieces: int = 1
    """Number of pieces of the body."""

    pause: float = 0.0
    """Pause before each piece, s."""

    cut: float = 1.0
    """Share of the body after which the connection breaks; below 1 the body is chunked."""

    excess: int = 0
    """Bytes that Content-Length says too much."""

    silent: bool = False
    """Whether nothing is sent at all."""


def spoil(reply: Reply, fault: Fault) -> Sending:
    """Return how a reply is sent under a fault of the line; unchanged under faults of the content.

    Parameters
    ----------
    reply
        What the handler answered.

    fault
        The fault.
    """
    if fault.mode in _STATUS:
        wait = (("Retry-After", f"{fault.seconds:g}"),) if fault.mode in _WAITING else ()
        return Sending(Reply(_PAGE, "text/html", _STATUS[fault.mode], wait))
    return Sending(
        _changed(reply, fault.mode),
        pieces=_PIECES if fault.mode == "drip" else 1,
        pause=fault.seconds if fault.mode == "drip" else 0.0,
        cut=0.5 if fault.mode == "truncated" else 1.0,
        excess=_EXCESS if fault.mode == "wrong_length" else 0,
        silent=fault.mode == "hang",
    )


def _changed(reply: Reply, mode: str) -> Reply:
    """Return the reply with another body, where the mode is one that changes it."""
    if mode == "gzip":
        return _gzipped(reply)
    if mode == "half" and _is_binary(reply):
        return replace(reply, content=reply.content[: len(reply.content) // 2])
    if mode == "no_overlap" and _is_fits(reply):
        return Reply(b"The requested subimage does not overlap the image.\n", "text/plain", 400)
    if mode == "stale" and _is_fits(reply):
        return Reply(_PAGE, "text/html", 404)
    return reply


def _is_fits(reply: Reply) -> bool:
    return reply.status == 200 and reply.content.startswith((b"SIMPLE  =", b"\x1f\x8b"))


def _is_binary(reply: Reply) -> bool:
    return reply.status == 200 and (_is_fits(reply) or any(k in reply.content_type for k in _BINARY))


def _gzipped(reply: Reply) -> Reply:
    content = gzip.compress(reply.content, mtime=0)
    if reply.content.startswith(b"SIMPLE  ="):
        return replace(reply, content=content, content_type="application/gzip")
    return replace(reply, content=content, headers=(*reply.headers, ("Content-Encoding", "gzip")))


def clip(content: bytes, *, keep: float = 0.6) -> bytes:
    """Return a FITS image with only its first columns, as at the edge of a larger image.

    Parameters
    ----------
    content
        FITS file with one image, as it is served.

    keep
        Share of the columns that stay.

    Returns
    -------
    bytes
        FITS file; the WCS is still right, since the first pixel stays.
    """
    import io

    from astropy.io import fits

    packed = content.startswith(b"\x1f\x8b")
    with fits.open(io.BytesIO(gzip.decompress(content) if packed else content)) as hdus:
        image = next(hdu for hdu in hdus if hdu.is_image and hdu.data is not None)
        image.data = image.data[..., : max(1, int(image.data.shape[-1] * keep))]
        out = io.BytesIO()
        hdus.writeto(out)
    return gzip.compress(out.getvalue(), mtime=0) if packed else out.getvalue()
