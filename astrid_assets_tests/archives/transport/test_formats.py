"""What passes as an answer of each format, and what does not."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from astrid_assets.archives.transport.formats import check_content, check_file, first_bytes
from astrid_assets.errors import BadAnswerError

PAGE = b"\n<!DOCTYPE html>\n<html><body>We are down for\tmaintenance \x00\xff</body></html>"
XML_ERROR = b'<?xml version="1.0"?><response><error>no such table</error></response>'


def fits_file() -> bytes:
    out = io.BytesIO()
    pixels = np.arange(5000, dtype=np.float32).reshape(50, 100)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels), fits.ImageHDU(pixels)]).writeto(out)
    return out.getvalue()


def zip_file() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.fits", bytes(3000))
    return out.getvalue()


def tar_file(mode="w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name in "ab":
            entry = tarfile.TarInfo(name)
            entry.size = 30_000
            archive.addfile(entry, io.BytesIO(np.random.default_rng(1).bytes(30_000)))
    return out.getvalue()


def avro_file(codec="deflate", n=5000) -> bytes:
    out = io.BytesIO()
    schema = {"type": "record", "name": "a", "fields": [{"name": "x", "type": "long"}]}
    fastavro.writer(out, schema, ({"x": n * 7919} for n in range(n)), codec=codec, metadata={"who": "é" * 99})
    return out.getvalue()


def picture(kind) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(10_000, dtype=np.uint8).reshape(100, 100)).save(out, kind)
    return out.getvalue()


VOTABLE = (
    b'<?xml version="1.0"?>\n<!-- x -->\n<VOTABLE version="1.3"><RESOURCE/>' + b" " * 500 + b"</VOTABLE>\n"
)
GOOD = {
    "json": [b"[]", b'\n{"a": NaN}', json.dumps("é").encode()],
    "votable": [VOTABLE, VOTABLE.replace(b"VOTABLE", b"vo:VOTABLE")],
    "csv": [b"a,b\n", b"\xef\xbb\xbfa,b\n1,2\n", b"# remark\na\n"],
    "table": [b"\\fixlen = T\n| ra | dec |\n", b"projcell subcell\n"],
    "fits": [fits_file(), gzip.compress(fits_file(), mtime=0)],
    "zip": [zip_file()],
    "tar": [tar_file(), tar_file("w:gz")],
    "avro": [avro_file(), avro_file("null"), avro_file("snappy")],
    "html": [PAGE, b"<h1>Query result</h1>"],
    "image": [picture("jpeg"), picture("png"), picture("gif")],
}
CASES = [(name, content) for name, contents in GOOD.items() for content in contents]


@pytest.mark.parametrize(("expects", "content"), CASES, ids=lambda v: v if isinstance(v, str) else None)
def test_an_answer_passes_and_half_of_it_does_not(tmp_path, expects, content):
    check_content(content, expects, "x")
    path = tmp_path / "answer"
    path.write_bytes(content)
    check_file(path, expects, "x")
    if expects in ("csv", "table", "html"):
        return  # nothing in them says where they end
    # what FITS and tar end with is padding
    lost = {"fits": 3000, "tar": 12_000}.get(expects, 20)
    for part in (content[: len(content) // 2], content[:-lost]):
        path.write_bytes(part)
        with pytest.raises(BadAnswerError):
            check_content(part, expects, "x")
        with pytest.raises(BadAnswerError):
            check_file(path, expects, "x")


@pytest.mark.parametrize("expects", [name for name in GOOD if name != "html"])
@pytest.mark.parametrize("content", [b"", PAGE, XML_ERROR, b"\x00\x01" * 300, gzip.compress(PAGE, mtime=0)])
def test_something_else_does_not_pass(tmp_path, expects, content):
    path = tmp_path / "answer"
    path.write_bytes(content)
    for check in (
        lambda: check_content(content, expects, "mast GET /x"),
        lambda: check_file(path, expects, "mast GET /x"),
    ):
        with pytest.raises(BadAnswerError, match=r"^mast GET /x: expected .*, got ") as caught:
            check()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("content", [b"", PAGE, b"\x00"])
def test_anything_is_anything(content):
    check_content(content, "any", "x")


def test_the_start_is_one_line_and_hides_secrets():
    assert first_bytes(PAGE) == "<!DOCTYPE html> <html><body>We are down for maintenance \ufffd</body></html>"
    assert first_bytes(b"") == "(empty)"
    assert first_bytes(b"x" * 190 + b" my-secret-token", hide=["my-secret-token"]) == "x" * 190 + " ***"
    assert len(first_bytes(b"x" * 5000)) == 200


def test_numbers_of_avro_headers_may_come_in_counted_blocks():
    """Writers may give the length of a block of names in bytes: its count is then negative."""
    schema = b'"long"'
    pair = b"\x16avro.schema" + struct.pack("B", 2 * len(schema)) + schema
    marker = bytes(range(16))
    content = b"Obj\x01" + b"\x01" + struct.pack("B", 2 * len(pair)) + pair + b"\x00" + marker
    content += b"\x02\x02\x0e" + marker
    assert list(fastavro.reader(io.BytesIO(content))) == [7]
    check_content(content, "avro", "x")


@pytest.mark.real_data
def test_recorded_answers_pass(real_data):
    """All that services have really sent."""
    kinds = {"json": "json", "xml": "votable", "vot": "votable", "csv": "csv", "tbl": "table", "fits": "fits"}
    kinds |= {"zip": "zip", "avro": "avro", "html": "html"}
    checked = 0
    for name, expects in kinds.items():
        for file in sorted((real_data / "http").rglob(f"*.{name}")):
            if file.parent.name == "irsa_dust" and name == "xml":
                continue  # a dialect of its own
            check_content(file.read_bytes(), expects, file.name)
            checked += 1
    assert checked > 80
