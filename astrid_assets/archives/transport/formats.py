"""Whether a body is what was asked for, and whole.

A page that says "down for maintenance" comes with status 200 more often than not. What a body is, is
seen from its first bytes (and for formats with an end, from its last), never from its Content-Type.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from astrid_assets.archives.transport.request import Format
from astrid_assets.errors import BadAnswerError, ImageError

__all__ = ["check_content", "check_file", "first_bytes"]

SHOWN_BYTES = 200
"""Characters of a bad answer that its message shows."""

_HEAD = 4096  # enough for any magic, and for the declarations before a root element
_BLOCK = 1024 * 1024
_GZIP = b"\x1f\x8b"
_IMAGES = ((b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND"), (b"GIF8", b";"))  # start, end
_TAIL = 64  # bytes in which the end of an image is looked for
_LARGE = ("fits", "tar", "any")  # files of these are not read into memory
_VERIFYING = threading.Lock()  # filters of warnings belong to the process, not to the thread


def first_bytes(content: bytes, *, hide: Sequence[str] = ()) -> str:
    """Return the start of a body on one line, for messages.

    Parameters
    ----------
    content
        The body.

    hide
        Texts that nobody may see, in case the service repeats them.
    """
    text = content[:_HEAD].decode("utf-8", "replace")
    for secret in hide:
        text = text.replace(secret, "***")
    text = text[:SHOWN_BYTES]
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "(empty)"


def check_content(content: bytes, expects: Format, shown: str, *, hide: Sequence[str] = ()) -> None:
    """Check that a body is what was expected.

    Parameters
    ----------
    content
        The body.

    expects
        Format of a good answer.

    shown
        The request, for the message.

    hide
        Texts that the message may not hold.

    Raises
    ------
    BadAnswerError
        It is something else; the message has the first bytes.
    """
    if not _looks_right(content, expects):
        msg = f"{shown}: expected {_WORDS[expects]}, got {_what(content)}: {first_bytes(content, hide=hide)}"
        raise BadAnswerError(msg)
    if expects == "fits" or (expects == "any" and content.startswith(b"SIMPLE  =")):
        _verify_fits(_unpacked(content, shown), shown)


def check_file(path: Path, expects: Format, shown: str, *, hide: Sequence[str] = ()) -> None:
    """Check that a downloaded file is what was expected; a FITS file also, that all of it is there.

    Parameters
    ----------
    path
        The file.

    expects
        Format of a good answer.

    shown
        The request, for the message.

    hide
        Texts that the message may not hold.

    Raises
    ------
    BadAnswerError
        It is something else, or damaged.
    """
    if expects not in _LARGE:
        check_content(path.read_bytes(), expects, shown, hide=hide)
        return
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        if expects == "fits" and _is_fits(head):
            _verify_fits(path, shown)
        elif expects == "tar" and _is_tar(stream):
            pass
        elif expects != "any":
            msg = f"{shown}: expected {_WORDS[expects]}, got {_what(head)}: {first_bytes(head, hide=hide)}"
            raise BadAnswerError(msg)


def _unpacked(content: bytes, shown: str) -> io.BytesIO:
    """Return a FITS file as astropy reads it from memory: not compressed."""
    unpacked = io.BytesIO()
    for block in _unpack(io.BytesIO(content), shown):
        unpacked.write(block)
    unpacked.seek(0)
    return unpacked


def _unpack(stream: BinaryIO, shown: str) -> Iterator[bytes]:
    """Yield a file block by block, decompressed if it is gzip; its end and checksum are checked."""
    stream.seek(0)
    packed = stream.read(len(_GZIP)) == _GZIP
    stream.seek(0)
    source = gzip.GzipFile(fileobj=stream) if packed else stream
    while True:
        try:
            block = source.read(_BLOCK)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            break
        if not block:
            return
        yield block
    msg = f"{shown}: the compressed file is cut off or damaged"
    raise BadAnswerError(msg)


def _verify_fits(source: Path | io.BytesIO, shown: str) -> None:
    from astrid_assets.images.fits import verify_fits

    name = source.name if isinstance(source, Path) else "<file>"
    try:
        with _VERIFYING:
            verify_fits(source)
    except ImageError as error:
        said = str(error).removeprefix(f"{name}:").strip()
    else:
        return
    msg = f"{shown}: the file {said}"
    raise BadAnswerError(msg)


def _what(content: bytes) -> str:
    if not content:
        return "an empty body"
    return "an HTML page" if _is_html(content) else f"{len(content)} bytes of something else"


def _looks_right(content: bytes, expects: Format) -> bool:
    return expects == "any" or (bool(content) and _TESTS[expects](content))


def _start(content: bytes) -> bytes:
    return content[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip().lower()


def _is_html(content: bytes) -> bool:
    return re.search(rb"<!doctype html|<html[\s>]", _start(content)) is not None


def _is_markup(content: bytes) -> bool:
    return _start(content).startswith(b"<")


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _is_votable(content: bytes) -> bool:
    """Begin with the root element and end with its end: a table that was cut off has none."""
    begun = re.search(rb"<(\w+:)?votable[\s>]", _start(content))
    return begun is not None and re.search(rb"</(\w+:)?votable\s*>", content[-_HEAD:].lower()) is not None


def _is_text_table(content: bytes) -> bool:
    start = _start(content)
    return bool(start) and b"\0" not in start and not start.startswith((b"<", b"{"))


def _is_fits(content: bytes) -> bool:
    if content.startswith(_GZIP):
        try:
            content = zlib.decompressobj(wbits=31).decompress(content[:_HEAD], 80)
        except zlib.error:
            return False
    return re.match(rb"SIMPLE  = +T", content) is not None


def _is_zip(content: bytes) -> bool:
    return content.startswith(b"PK") and zipfile.is_zipfile(io.BytesIO(content))


def _is_tar(source: bytes | BinaryIO) -> bool:
    """Walk through all members, compressed or not: a tar that was cut off ends inside of one."""
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    stream.seek(0)
    try:
        with tarfile.open(fileobj=stream, mode="r:*") as archive:
            sizes = [member.offset_data + member.size for member in archive]
            # members are skipped, not read: the end of the last has to be there, and that of the gzip
            archive.fileobj.seek(max(sizes, default=1) - 1)
            whole = len(archive.fileobj.read(1)) == 1
            while archive.fileobj.read(_BLOCK):
                pass
            return whole
    except (tarfile.TarError, EOFError, OSError, zlib.error):
        return False


def _is_avro(content: bytes) -> bool:
    """End with the marker that the header announces: it closes every block."""
    if not content.startswith(b"Obj\x01"):
        return False
    stream = io.BytesIO(content)
    stream.seek(4)
    try:
        while entries := _avro_long(stream):
            if entries < 0:
                _avro_long(stream)  # the length of the block in bytes
            for _ in range(2 * abs(entries)):  # names and values
                stream.seek(_avro_long(stream), io.SEEK_CUR)
        marker = stream.read(16)
    except (IndexError, ValueError):
        return False
    return len(marker) == 16 and content.endswith(marker)


def _avro_long(stream: BinaryIO) -> int:
    """Read a number: 7 bits a byte, lowest first, sign in the lowest bit."""
    number, shift = 0, 0
    while True:
        byte = stream.read(1)[0]
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1)


def _is_image(content: bytes) -> bool:
    """Begin and end like a JPEG, PNG or GIF; some writers leave a few bytes behind the end."""
    return any(content.startswith(start) and end in content[-_TAIL:] for start, end in _IMAGES)


_TESTS: dict[str, Callable[[bytes], bool]] = {
    "json": _is_json,
    "votable": _is_votable,
    "csv": _is_text_table,
    "table": _is_text_table,
    "fits": _is_fits,
    "avro": _is_avro,
    "zip": _is_zip,
    "tar": _is_tar,
    "html": _is_markup,
    "image": _is_image,
}

_WORDS: dict[str, str] = {
    "json": "JSON",
    "votable": "a whole VOTable",
    "csv": "CSV",
    "table": "a table of text",
    "fits": "a FITS file",
    "avro": "a whole Avro file",
    "zip": "a whole zip archive",
    "tar": "a whole tar archive",
    "html": "a web page",
    "image": "a whole JPEG, PNG or GIF image",
    "any": "anything",
}
