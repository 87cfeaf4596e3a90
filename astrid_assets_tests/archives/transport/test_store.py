"""What is kept, how it is found again, and how files get their names."""

from __future__ import annotations

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from astrid_assets.archives.transport import Request
from astrid_assets.archives.transport.store import Store, place

REQUEST = Request(
    "mast", "/x", "search", "json", query=(("ra", "1"), ("token", "abc")), secret=frozenset({"token"})
)
SENT = {"etag": '"1"', "set-cookie": "session=abc", "content-type": "application/json", "server": "x"}


def keep(store: Store, body: bytes | Path = b"[]", request: Request = REQUEST):
    return store.keep(request, body, status=200, headers=SENT, mjd=60000.5)


def test_what_is_kept_is_found_again(tmp_path):
    kept = keep(Store(tmp_path))
    found = Store(tmp_path).find(REQUEST.key)
    assert found == kept
    assert Store(tmp_path).body(found) == b"[]"
    assert found.headers == {"etag": '"1"', "content-type": "application/json"}
    assert found.request == "mast GET /x?ra=1&token=***"
    checksum = hashlib.sha256(b"[]").hexdigest()
    assert [str(f.relative_to(tmp_path)) for f in sorted(tmp_path.rglob("*")) if f.is_file()] == [
        f"answers/{REQUEST.key}.json",
        f"objects/{checksum[:2]}/{checksum}",
    ]


def test_a_file_is_kept_as_a_copy(tmp_path):
    source = tmp_path / "file"
    source.write_bytes(b"content")
    store = Store(tmp_path / "store")
    kept = keep(store, source)
    source.write_bytes(b"changed")
    assert store.body(kept) == b"content"
    assert kept.n_bytes == 7


def test_what_is_missing_or_damaged_is_absent(tmp_path):
    store = Store(tmp_path)
    assert store.find(REQUEST.key) is None
    kept = keep(store)
    (body,) = tmp_path.glob("objects/*/*")
    body.write_bytes(b"[1]")
    assert store.body(kept) is None
    assert store.body_path(kept) is None
    keep(store)
    assert store.body(kept) == b"[]"
    (entry,) = tmp_path.glob("answers/*")
    good = entry.read_text()
    for old, new in (('"version": 1', '"version": 2'), ("60000.5", '"soon"'), ("200", "null"), ("{", "[")):
        entry.write_text(good.replace(old, new, 1))
        assert store.find(REQUEST.key) is None


def test_many_writers_of_one_entry(tmp_path):
    """Whoever comes last, the entry is whole; nothing half-written stays."""
    bodies = [bytes([n]) * 100_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda body: keep(Store(tmp_path), body), bodies * 4))
    store = Store(tmp_path)
    assert store.body(store.find(REQUEST.key)) in bodies
    assert not [f for f in tmp_path.rglob("*") if f.name.endswith(".part")]


def test_a_file_gets_its_name_over_file_systems(tmp_path):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        part = Path(other) / "x.part"
        part.write_bytes(b"content")
        place(part, tmp_path / "new" / "x.fits")
        assert not part.exists()
    assert [(f.name, f.read_bytes()) for f in (tmp_path / "new").iterdir()] == [("x.fits", b"content")]


def test_a_file_that_is_there_is_replaced(tmp_path):
    (tmp_path / "x.fits").write_bytes(b"old")
    (tmp_path / "x.part").write_bytes(b"new")
    place(tmp_path / "x.part", tmp_path / "x.fits")
    assert [(f.name, f.read_bytes()) for f in tmp_path.glob("x*")] == [("x.fits", b"new")]
