"""Files over a real connection: cut, continued, changed, damaged, killed, recorded."""

from __future__ import annotations

import gzip
import hashlib
import io
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.server import Reply, StandIn
from astrid_assets.archives.transport import Request, Transport
from astrid_assets.archives.transport.download import open_part
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError, NoCoverageError

pytestmark = pytest.mark.service


def image(seed=0, size=1200) -> bytes:
    """Return a FITS file of some megabytes that does not compress, with an extension."""
    pixels = np.random.default_rng(seed).integers(0, 2**15, (size, size), dtype=np.int16)
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(pixels), fits.ImageHDU(pixels[:9])]).writeto(out)
    return out.getvalue()


IMAGE = image()
CHECKSUM = hashlib.sha256(IMAGE).hexdigest()


class Files:
    """Serves one file and remembers what was asked."""

    def __init__(self, content=IMAGE, content_type="application/fits", headers=(), status=200):
        self.reply = Reply(content, content_type, status, headers)
        self.asked = []

    def answer(self, asked):
        self.asked.append(asked)
        return self.reply

    @property
    def ranges(self):
        return [asked.headers.get("range") for asked in self.asked]


def file(path="/image.fits", **options) -> Request:
    return Request("irsa", path, **{"kind": "file", "expects": "fits"} | options)


def leftovers(transport: Transport) -> list[Path]:
    """Return what is left of downloads in the store, besides locks."""
    return [f for f in transport.settings.store.glob("parts/*") if f.suffix != ".lock"]


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "data" / "night" / "image.fits"


def test_a_file_arrives_whole(connect, target):
    files = Files()
    with StandIn({"irsa": files}) as standin:
        transport = connect(standin)
        fetched = transport.download(file(), target, n_bytes=len(IMAGE), sha256=CHECKSUM.upper())
    assert (fetched.path, fetched.n_bytes, fetched.sha256) == (target, len(IMAGE), CHECKSUM)
    assert target.read_bytes() == IMAGE
    assert [f.name for f in target.parent.iterdir()] == ["image.fits"]
    assert leftovers(transport) == []
    assert files.asked[0].headers["accept-encoding"] == "identity"
    assert transport.tally.total.requests == 1
    assert transport.tally.total.bytes == len(IMAGE)


@pytest.mark.parametrize("mode", ["truncated", "wrong_length"])
def test_a_cut_file_is_continued(connect, target, mode):
    files = Files()
    with StandIn({"irsa": files}, [Fault(mode, first_n=1)]) as standin:
        transport = connect(standin)
        transport.download(file(), target)
    assert target.read_bytes() == IMAGE
    arrived = len(IMAGE) // 2 if mode == "truncated" else len(IMAGE)
    assert files.ranges == [None, f"bytes={arrived}-"]
    assert "if-range" in files.asked[1].headers
    assert transport.tally.total.bytes == len(IMAGE)


@pytest.mark.parametrize("tag", ['W/"weak"', '"changes"'])
def test_what_may_be_another_version_is_fetched_anew(connect, target, tag):
    """A weak tag promises no equal bytes, so that no rest is asked for; a new tag says that they differ."""
    files = Files(headers=(("ETag", tag),))
    new = image(seed=1)

    def answer(asked):
        reply = files.answer(asked)
        files.reply = Reply(new, "application/fits", 200, (("ETag", '"new"'),))
        return reply

    with StandIn({"irsa": answer}, [Fault("truncated", first_n=1)]) as standin:
        connect(standin).download(file(), target)
    assert target.read_bytes() == new
    assert [wanted is None for wanted in files.ranges] == [True, tag.startswith("W/")]


@pytest.mark.parametrize("where", ["bytes 7-99/100", "bytes 1440000-2/5", "nonsense", ""])
def test_a_rest_that_does_not_fit_is_not_believed(connect, target, where):
    replies = iter(
        [
            Reply(IMAGE, "application/fits", 200, (("ETag", '"a"'),)),
            Reply(b"x" * 100, "application/fits", 206, (("Content-Range", where),)),
        ]
    )
    whole = Files()
    answer = lambda asked: next(replies, None) or whole.answer(asked)  # noqa: E731
    with StandIn({"irsa": answer}, [Fault("truncated", first_n=1)]) as standin:
        # nothing in the bytes of "anything" would tell that they are mixed
        connect(standin).download(file(expects="any"), target)
    assert target.read_bytes() == IMAGE
    assert whole.ranges == [None]


def test_a_large_file_may_be_cut_more_often_than_there_are_tries(connect, target):
    """Half of what is left comes each time, always more than a megabyte; one retry is enough."""
    files = Files(content=image(size=2400))
    with StandIn({"irsa": files}, [Fault("truncated", first_n=3)]) as standin:
        connect(standin, retries=1).download(file(), target)
    assert target.read_bytes() == files.reply.content
    assert len(files.ranges) == 4


def test_an_outage_leaves_nothing_under_the_name_and_the_next_run_goes_on(connect, target):
    files = Files()
    with StandIn(
        {"irsa": files}, [Fault("truncated", first_n=1), Fault("unavailable", first_n=3)]
    ) as standin:
        transport = connect(standin, retries=2)
        with pytest.raises(ArchiveUnavailableError, match="HTTP 503"):
            transport.download(file(), target)
        assert not target.exists()
        assert len(leftovers(transport)) == 2
        connect(standin).download(file(), target)
    assert target.read_bytes() == IMAGE
    assert files.ranges[-1] is not None
    assert leftovers(transport) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from astrid_assets.archives.transport import Clock, Request, Transport

class Deadly(Clock):
    chunks = 0
    def now(self):
        self.chunks += bool(list(Path(sys.argv[2]).glob("parts/*.part")))
        if self.chunks > 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().now()

services = {"irsa": {"base_url": sys.argv[1]}}
transport = Transport.open(services, Path(sys.argv[2]), clock=Deadly())
transport.download(Request("irsa", "/image.fits", "file", "fits"), Path(sys.argv[3]))
"""


def test_a_killed_download_leaves_nothing_under_the_name_and_the_next_goes_on(connect, tmp_path, target):
    files = Files()
    with StandIn({"irsa": files}) as standin:
        transport = connect(standin)
        command = [sys.executable, "-c", KILLED, standin.base_url("irsa"), tmp_path / "store", target]
        died = subprocess.run(command, cwd=Path(__file__).parents[3], check=False)
        assert died.returncode == -signal.SIGKILL
        assert not target.exists()
        assert 0 < max(f.stat().st_size for f in leftovers(transport)) < len(IMAGE)
        transport.download(file(), target, sha256=CHECKSUM)
    assert target.read_bytes() == IMAGE
    assert files.ranges[1] is not None
    assert transport.tally.total.bytes < len(IMAGE)


def test_a_part_that_is_whole_is_not_fetched_again(connect, target):
    """A process was killed between the last byte and the final name."""
    files = Files()
    with StandIn({"irsa": files}) as standin:
        transport = connect(standin)
        headers = {"etag": '"x"', "content-length": str(len(IMAGE))}
        with open_part(transport.settings.store / "parts", file().key) as part:
            part.fill(200, headers, [IMAGE])
        transport.download(file(), target)
    assert target.read_bytes() == IMAGE
    assert files.asked == []


def test_a_damaged_part_is_thrown_away(connect, target):
    files = Files(headers=(("ETag", '"x"'),))
    with StandIn({"irsa": files}) as standin:
        transport = connect(standin)
        with open_part(transport.settings.store / "parts", file().key) as part:
            part.fill(200, {"etag": '"x"'}, [b"rubbish" * 100])
        transport.download(file(), target, sha256=CHECKSUM)
    assert target.read_bytes() == IMAGE
    assert files.ranges == ["bytes=700-", None]


def test_a_range_beyond_the_end(connect, target):
    files = Files(headers=(("ETag", '"x"'),))
    with StandIn({"irsa": files}) as standin:
        transport = connect(standin)
        with open_part(transport.settings.store / "parts", file().key) as part:
            part.fill(200, {"etag": '"x"'}, [IMAGE, b"more"])
        transport.download(file(), target)
    assert target.read_bytes() == IMAGE


@pytest.mark.parametrize("mode", ["html", "half"])
def test_what_is_not_the_file_never_gets_its_name(connect, target, mode):
    with StandIn({"irsa": Files()}, [Fault(mode)]) as standin:
        transport = connect(standin, retries=1)
        with pytest.raises(
            BadAnswerError, match=r"irsa GET /image.fits: (expected a FITS file|the file is cut)"
        ):
            transport.download(file(), target)
    assert not target.exists()
    assert leftovers(transport) == []


@pytest.mark.parametrize("mode", ["html", "half", "unavailable", "truncated"])
def test_a_passing_fault_of_a_file_is_outlived(connect, target, mode):
    with StandIn({"irsa": Files()}, [Fault(mode, first_n=2)]) as standin:
        connect(standin).download(file(), target, n_bytes=len(IMAGE))
    assert target.read_bytes() == IMAGE


def test_what_was_announced_has_to_come(connect, target):
    with StandIn({"irsa": Files()}) as standin:
        transport = connect(standin, retries=0)
        with pytest.raises(BadAnswerError, match=f"{len(IMAGE)} bytes are offered, 12345 were announced"):
            transport.download(file(), target, n_bytes=12345)
        assert transport.tally.total.bytes == 0
        with pytest.raises(BadAnswerError, match=f"its SHA-256 is {CHECKSUM}, {'0' * 64} was announced"):
            transport.download(file(), target, sha256="0" * 64)
    assert not target.exists()


def test_a_file_that_is_not_there_is_no_coverage(connect, target):
    with StandIn({"irsa": Files(content=b"gone", status=404)}) as standin:
        transport = connect(standin)
        for _ in range(2):
            with pytest.raises(NoCoverageError):
                transport.download(file(nothing=frozenset({404})), target)
    assert len(standin.arrivals) == 1
    assert not target.exists()


def test_compression_on_the_way_is_undone(connect, target):
    packed = gzip.compress(IMAGE, mtime=0)
    with StandIn({"irsa": Files(packed, headers=(("Content-Encoding", "gzip"),))}) as standin:
        fetched = connect(standin).download(file(), target, n_bytes=len(IMAGE), sha256=CHECKSUM)
    assert fetched.n_bytes == len(IMAGE)
    assert target.read_bytes() == IMAGE


def test_a_file_that_is_compressed_stays_so(connect, target):
    packed = gzip.compress(IMAGE, mtime=0)
    with StandIn({"irsa": Files(packed, "application/gzip")}) as standin:
        connect(standin).download(file(), target)
    assert target.read_bytes() == packed


def test_large_archives_are_walked_through(connect, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        entry = tarfile.TarInfo("image.fits")
        entry.size = len(IMAGE)
        archive.addfile(entry, io.BytesIO(IMAGE))
    files = Files(out.getvalue(), "application/x-tar")
    with StandIn({"irsa": files}, [Fault("half", first_n=1)]) as standin:
        transport = connect(standin)
        transport.download(file(expects="tar"), tmp_path / "night.tar.gz")
    assert (tmp_path / "night.tar.gz").read_bytes() == out.getvalue()
    assert transport.tally.total.retries == 1


def test_two_threads_that_want_the_same_file_get_it(connect, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with StandIn({"irsa": Files()}) as standin, ThreadPoolExecutor(4) as pool:
        transport = connect(standin)
        targets = [tmp_path / f"{number}.fits" for number in range(4)]
        fetched = list(pool.map(lambda path: transport.download(file(), path), targets))
    assert {one.sha256 for one in fetched} == {CHECKSUM}
    assert all(path.read_bytes() == IMAGE for path in targets)


FULL = """
import resource, sys
from pathlib import Path
from astrid_assets.archives.transport import Request, Transport
from astrid_assets.errors import AstridError

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
transport = Transport.open({"irsa": {"base_url": sys.argv[1]}}, Path(sys.argv[2]))
try:
    transport.download(Request("irsa", "/image.fits", "file", "fits"), Path(sys.argv[3]))
except AstridError as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_is_said_and_what_came_is_continued(connect, tmp_path, target):
    """A process that may not write more than a megabyte gets what a full disk gives."""
    files = Files()
    with StandIn({"irsa": files}) as standin:
        command = [sys.executable, "-c", FULL, standin.base_url("irsa"), tmp_path / "store", target]
        said = subprocess.run(
            command, cwd=Path(__file__).parents[3], check=True, capture_output=True, text=True
        )
        assert said.stdout == (
            f"AstridError cannot write {target}: File too large; mend that and try again: nothing is lost\n"
        )
        assert not target.parent.exists()
        transport = connect(standin)
        transport.download(file(), target)
    assert target.read_bytes() == IMAGE
    assert files.ranges == [None, "bytes=1000000-"]


def test_recorded_files_replay(connect, tmp_path, target):
    with StandIn({"irsa": Files()}) as standin:
        connect(standin, record=True).download(file(), target)
        connect(standin).download(file(), tmp_path / "again.fits")
    assert len(standin.arrivals) == 1
    replay = Transport.open(store=tmp_path / "store", mode="replay")
    assert replay.download(file(), tmp_path / "replayed.fits", sha256=CHECKSUM).n_bytes == len(IMAGE)
    assert (tmp_path / "replayed.fits").read_bytes() == (tmp_path / "again.fits").read_bytes() == IMAGE
    with pytest.raises(ArchiveUnavailableError, match="not in the store"):
        replay.download(file("/other.fits"), tmp_path / "other.fits")
    with pytest.raises(ArchiveUnavailableError, match="not in the store"):
        replay.download(file(), tmp_path / "other.fits", n_bytes=5)
    assert not (tmp_path / "other.fits").exists()
