"""The stand-in server: plain HTTP as archives speak it, and every fault as it was ordered."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import socket
import threading
from collections import Counter
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.archives.standin.faults import HANDLER_MODES, LINE_MODES, Fault, clip
from astrid_assets.archives.standin.server import Asked, Reply, StandIn
from astrid_assets.errors import ConfigurationError

pytestmark = pytest.mark.service

TABLE = b"name,value\n" + b"star,1\n" * 200


def image() -> bytes:
    """Return a small FITS image whose pixels all differ."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [210.8, 54.3], [25.5, 20.5], [-1e-4, 1e-4]
    pixels = np.arange(40 * 50, dtype=">f4").reshape(40, 50)
    out = io.BytesIO()
    fits.PrimaryHDU(pixels, wcs.to_header()).writeto(out)
    return out.getvalue()


IMAGE = image()


def answer(asked: Asked) -> Reply:
    """Answer with an image below ``/image``, else with a table; say which fault was ordered."""
    if asked.path.startswith("/image"):
        content = clip(IMAGE) if asked.fault == "clipped" else IMAGE
        return Reply(content, "application/fits")
    content = TABLE[:11] if asked.fault == "empty_table" else TABLE
    return Reply(content, "text/csv", headers=(("X-Fault", asked.fault or "none"),))


def echo(asked: Asked) -> Reply:
    """Answer with what was asked."""
    return Reply(repr((asked.method, asked.path, asked.query, asked.form)).encode(), "text/plain")


def standing(*faults: Fault) -> StandIn:
    """Return a stand-in with two services that answer alike."""
    return StandIn({"irsa": answer, "mast": answer}, faults)


# --- HTTP -----------------------------------------------------------------------------------------


def test_request_reaches_the_handler_as_it_was_sent():
    """Path, parameters and body, decoded, without the name of the service."""
    with StandIn({"mast": echo}) as standin:
        base = standin.base_url("mast")
        got = requests.post(f"{base}/api/v0?POS=1%2C2&empty=", data={"request": "{a b}"}, timeout=10)
        root = requests.get(base, timeout=10)
    assert got.text == repr(("POST", "/api/v0", [("POS", "1,2"), ("empty", "")], [("request", "{a b}")]))
    assert root.text == repr(("GET", "/", [], []))
    assert [arrival[1:] for arrival in standin.arrivals] == [
        ("mast", "POST", "/api/v0?POS=1%2C2&empty="),
        ("mast", "GET", "/"),
    ]


def test_uploads_json_and_single_values_are_read():
    """Multipart files as bytes, JSON as a value, one parameter whatever its case."""
    seen: list[Asked] = []

    def keep(asked: Asked) -> Reply:
        seen.append(asked)
        return Reply(b"{}", "application/json")

    with StandIn({"xmatch": keep}) as standin:
        base = standin.base_url("xmatch")
        requests.post(base, data={"request": "xmatch"}, files={"cat1": b"ra,dec\n1,2\n"}, timeout=10)
        requests.post(base, json={"conditions": [1, 2]}, timeout=10)
        requests.get(f"{base}/q?Position=1,2", timeout=10)
    assert seen[0].uploads["cat1"] == b"ra,dec\n1,2\n"
    assert seen[0].value("REQUEST") == "xmatch"
    assert seen[1].json == {"conditions": [1, 2]}
    assert seen[2].value("position") == "1,2"
    assert seen[2].value("survey", "none") == "none"
    assert seen[2].base_url == base


def test_head_says_the_length_of_the_body_and_sends_none():
    """As archives are asked for sizes before a download."""
    with standing() as standin:
        head = requests.head(f"{standin.base_url('irsa')}/image", timeout=10)
    assert (head.content, int(head.headers["Content-Length"])) == (b"", len(IMAGE))


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("bytes=2880-999999", 2880, None),
    ],
)
def test_ranges(wanted, start, stop):
    """One range of bytes, with the place where it lies."""
    with standing() as standin:
        url = f"{standin.base_url('irsa')}/image"
        got = requests.get(url, headers={"Range": wanted}, timeout=10)
    places = range(len(IMAGE))[start:stop]
    assert (got.status_code, got.content) == (206, IMAGE[start:stop])
    assert got.headers["Content-Range"] == f"bytes {places[0]}-{places[-1]}/{len(IMAGE)}"


def test_range_beyond_the_end_is_refused():
    """Status 416 with the true length."""
    with standing() as standin:
        url = f"{standin.base_url('irsa')}/image"
        got = requests.get(url, headers={"Range": f"bytes={len(IMAGE)}-"}, timeout=10)
    assert (got.status_code, got.headers["Content-Range"]) == (416, f"bytes */{len(IMAGE)}")


def test_range_of_a_file_that_has_changed_is_the_whole_file():
    """If-Range: the rest of the file that one has begun, or a new beginning."""
    with standing() as standin:
        url = f"{standin.base_url('irsa')}/image"
        tag = requests.head(url, timeout=10).headers["ETag"]
        rest = {"Range": "bytes=100-"}
        same = requests.get(url, headers={**rest, "If-Range": tag}, timeout=10)
        changed = requests.get(url, headers={**rest, "If-Range": '"older"'}, timeout=10)
    assert (same.status_code, same.content) == (206, IMAGE[100:])
    assert (changed.status_code, changed.content) == (200, IMAGE)


def test_unchanged_answer_is_not_sent_again():
    """If-None-Match with the ETag gives status 304 and no body."""
    with standing() as standin:
        url = f"{standin.base_url('irsa')}/table"
        tag = requests.get(url, timeout=10).headers["ETag"]
        same = requests.get(url, headers={"If-None-Match": tag}, timeout=10)
        other = requests.get(url, headers={"If-None-Match": '"older"'}, timeout=10)
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    assert (other.status_code, other.content) == (200, TABLE)


def test_many_requests_on_one_connection():
    """The connection stays open, also after 304 and 404."""
    with standing() as standin:
        where = urlsplit(standin.url).netloc
        connection = http.client.HTTPConnection(where, timeout=10)
        seen = []
        for path in ("/irsa/t", "/nothing/t", "/mast/image", "/irsa/t"):
            connection.request("GET", path)
            response = connection.getresponse()
            seen.append((response.status, len(response.read())))
        port = connection.sock.getsockname()[1]
        connection.request("GET", "/irsa/t")
        assert connection.sock.getsockname()[1] == port
        connection.close()
    assert [status for status, _ in seen] == [200, 404, 200, 200]
    assert [size for _, size in seen] == [len(TABLE), len(b"no service nothing\n"), len(IMAGE), len(TABLE)]


def test_what_a_handler_raises_is_told():
    """Status 500 with the error, which is also kept."""

    def broken(asked: Asked) -> Reply:
        raise ValueError(asked.path)

    with StandIn({"ned": broken}) as standin:
        got = requests.get(standin.base_url("ned") + "/x", timeout=10)
    assert (got.status_code, got.text) == (500, "stand-in: ValueError: /x\n")
    assert [str(error) for error in standin.errors] == ["/x"]


def test_a_module_or_an_object_with_answer_is_a_handler():
    """Besides a function."""

    class Archive:
        def answer(self, asked: Asked) -> Reply:
            return Reply(asked.path.encode(), "text/plain")

    with StandIn({"ps1": Archive()}) as standin:
        assert requests.get(standin.base_url("ps1") + "/cgi", timeout=10).text == "/cgi"
        assert standin.services() == {"ps1": {"base_url": f"{standin.url}/ps1"}}


def test_unknown_service_is_named():
    """A service without a handler has no base URL."""
    with standing() as standin, pytest.raises(KeyError, match="gaia has no handler; there are irsa, mast"):
        standin.base_url("gaia")


def test_two_clients_at_once_are_counted():
    """Concurrency is that of the requests, for each service by itself; one client in turn counts as one."""
    together = threading.Barrier(2, timeout=10)

    def meet(asked: Asked) -> Reply:
        together.wait()
        return Reply(b"met", "text/plain")

    with StandIn({"irsa": meet, "mast": answer}) as standin:
        url = standin.base_url("irsa")
        first = threading.Thread(target=requests.get, args=(url,), kwargs={"timeout": 10})
        first.start()
        requests.get(url, timeout=10)
        first.join()
        for _ in range(50):
            requests.get(standin.base_url("mast") + "/image", timeout=10)
    assert standin.concurrent == {"irsa": 2, "mast": 1}
    assert (standin.count("irsa"), standin.count("mast")) == (2, 50)


def test_port_is_free_after_the_end():
    """Nothing stays open, also where a client has not closed its connection."""
    with standing() as standin:
        port = urlsplit(standin.url).port
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        client.sendall(b"GET /irsa/t HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(15).startswith(b"HTTP/1.1 200")
    client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "status"), [("unavailable", 503), ("too_many", 429)])
def test_retry_after(mode, status):
    """The first two requests are refused with a time to wait, the third is answered."""
    with standing(Fault(mode, first_n=2, services=("irsa",), seconds=3)) as standin:
        irsa = [requests.get(standin.base_url("irsa"), timeout=10) for _ in range(3)]
        mast = requests.get(standin.base_url("mast"), timeout=10)
    assert [got.status_code for got in irsa] == [status, status, 200]
    assert irsa[0].headers["Retry-After"] == "3"
    assert (mast.status_code, irsa[2].content) == (200, TABLE)
    assert standin.faulted == [("irsa", mode)] * 2


def test_hang():
    """Not a byte comes; others are answered meanwhile."""
    with standing(Fault("hang", only="/image")) as standin:
        client = socket.create_connection(("127.0.0.1", urlsplit(standin.url).port), timeout=10)
        client.sendall(b"GET /irsa/image HTTP/1.1\r\nHost: x\r\n\r\n")
        assert requests.get(standin.base_url("irsa") + "/table", timeout=10).content == TABLE
        with pytest.raises(requests.ReadTimeout):
            requests.get(standin.base_url("irsa") + "/image", timeout=(10, 0.05))
    assert client.recv(1) == b""
    client.close()
    assert standin.concurrent["irsa"] >= 2


def test_drip():
    """The body comes whole, in pieces."""
    with standing(Fault("drip", seconds=0.0)) as standin:
        got = requests.get(standin.base_url("irsa") + "/image", timeout=10)
    assert got.content == IMAGE


@pytest.mark.parametrize("mode", ["truncated", "wrong_length"])
@pytest.mark.parametrize("path", ["/image", "/table"])
def test_broken_off(mode, path):
    """HTTP itself notices that bytes are missing, and only the beginning has come."""
    received = bytearray()

    def read(url: str) -> None:
        for piece in requests.get(url, timeout=10, stream=True).iter_content(100):
            received.extend(piece)

    with standing(Fault(mode)) as standin, pytest.raises(requests.exceptions.ChunkedEncodingError):
        read(standin.base_url("irsa") + path)
    assert (IMAGE if path == "/image" else TABLE).startswith(received)


def test_half_is_right_for_http_and_no_fits_file():
    """Only who opens the file sees it; text stays whole, since half a table is a table."""
    with standing(Fault("half")) as standin:
        got = requests.get(standin.base_url("irsa") + "/image", timeout=10)
        table = requests.get(standin.base_url("irsa") + "/table", timeout=10)
    assert got.content == IMAGE[: len(IMAGE) // 2]
    assert int(got.headers["Content-Length"]) == len(got.content)
    assert table.content == TABLE


@pytest.mark.parametrize(("mode", "status"), [("html", 200), ("server_error", 500)])
def test_page_instead_of_an_answer(mode, status):
    """HTML, whatever was asked."""
    with standing(Fault(mode)) as standin:
        got = requests.get(standin.base_url("irsa") + "/image", timeout=10)
    assert (got.status_code, got.headers["Content-Type"]) == (status, "text/html")
    assert got.content.startswith(b"<!DOCTYPE html>")


def test_gzip():
    """FITS files come as gzip files, everything else with a content encoding."""
    with standing(Fault("gzip")) as standin:
        file = requests.get(standin.base_url("irsa") + "/image", timeout=10)
        table = requests.get(standin.base_url("irsa") + "/table", timeout=10)
    assert (gzip.decompress(file.content), "Content-Encoding" in file.headers) == (IMAGE, False)
    assert (table.content, table.headers["Content-Encoding"]) == (TABLE, "gzip")


@pytest.mark.parametrize(("mode", "status"), [("no_overlap", 400), ("stale", 404)])
def test_no_file(mode, status):
    """Files only; searches are answered."""
    with standing(Fault(mode)) as standin:
        file = requests.get(standin.base_url("irsa") + "/image", timeout=10)
        table = requests.get(standin.base_url("irsa") + "/table", timeout=10)
    assert (file.status_code, table.content) == (status, TABLE)


@pytest.mark.parametrize("mode", HANDLER_MODES)
def test_faults_of_the_content_are_told_to_the_handler(mode):
    """It alone can make them."""
    with standing(Fault(mode)) as standin:
        assert requests.get(standin.base_url("irsa"), timeout=10).headers["X-Fault"] == mode


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_clipped_cutout_shows_the_same_sky(packed):
    """Fewer columns, the same pixels at the same places."""
    content = gzip.compress(IMAGE, mtime=0) if packed else IMAGE
    clipped = clip(content, keep=0.5)
    clipped = gzip.decompress(clipped) if packed else clipped
    with fits.open(io.BytesIO(clipped)) as cut, fits.open(io.BytesIO(IMAGE)) as whole:
        np.testing.assert_array_equal(cut[0].data, whole[0].data[:, :25])
        np.testing.assert_array_equal(
            WCS(cut[0].header).all_pix2world([[3, 4]], 0), WCS(whole[0].header).all_pix2world([[3, 4]], 0)
        )


def test_share_of_all_requests_is_drawn_from_the_seed():
    """A tenth of 5000 within 3 sigma; the same again with the same seed, others with another."""
    hits = [Fault("html", share=0.1, seed=1).hits("irsa", n) for n in range(5000)]
    assert abs(sum(hits) - 500) < 3 * np.sqrt(450)
    assert hits == [Fault("html", share=0.1, seed=1).hits("irsa", n) for n in range(5000)]
    assert hits != [Fault("html", share=0.1, seed=2).hits("irsa", n) for n in range(5000)]
    assert hits != [Fault("html", share=0.1, seed=1).hits("mast", n) for n in range(5000)]


def test_first_fault_that_hits_wins_and_all_count():
    """Two faults, each of them for the first two requests that it concerns."""
    faults = (Fault("html", first_n=1), Fault("unavailable", first_n=2), Fault("stale", only="/image"))
    with standing(*faults) as standin:
        base = standin.base_url("irsa")
        paths = ("/t", "/t", "/t", "/image")
        statuses = [requests.get(base + path, timeout=10).status_code for path in paths]
    assert statuses == [200, 503, 200, 404]
    assert Counter(mode for _, mode in standin.faulted) == {"html": 1, "unavailable": 1, "stale": 1}


@pytest.mark.parametrize("mode", sorted({*LINE_MODES} - {"hang"}))
def test_after_a_fault_the_next_answer_is_right(mode):
    """Every fault passes."""
    with standing(Fault(mode, first_n=1)) as standin, requests.Session() as session:
        url = standin.base_url("irsa") + "/image"
        try:
            session.get(url, timeout=10)
        except requests.exceptions.ChunkedEncodingError:
            assert mode in {"truncated", "wrong_length"}
        again = session.get(url, timeout=10)
    assert hashlib.sha256(again.content).digest() == hashlib.sha256(IMAGE).digest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sulk"}, "fault 'sulk' does not exist; known are"),
        ({"mode": "html", "share": 2}, "share 2 is not"),
    ],
)
def test_wrong_faults_are_refused(options, message):
    """At once, with what would be right."""
    with pytest.raises(ConfigurationError, match=message):
        Fault(**options)
