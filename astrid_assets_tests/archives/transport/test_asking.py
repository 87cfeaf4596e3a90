"""Questions and answers over a real connection: every fault, the store, replay, secrets, tallies."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from astrid_assets import __version__
from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.server import Reply, StandIn
from astrid_assets.archives.transport import (
    Counts,
    Request,
    Tally,
    Transport,
    load_settings,
    shared_transport,
    with_changes,
)
from astrid_assets.errors import (
    ArchiveUnavailableError,
    AstridError,
    AuthenticationNeededError,
    BadAnswerError,
    NoCoverageError,
)

pytestmark = pytest.mark.service

ROWS = json.dumps({"rows": list(range(2000))}).encode()
SECRET = "/".join(["s3cr3t", "token+value"])


def rows(asked):
    return Reply(ROWS, "application/json")


def search(path="/search", **options) -> Request:
    return Request("mast", path, **{"kind": "search", "expects": "json"} | options)


def travelled(value):
    """Return a value as another process gets it."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301


def saying(status, content=b"", **headers):
    """Return a handler that always says the same."""
    names = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return lambda _: Reply(content, "text/plain", status, names)


def test_an_answer_comes_as_it_was_sent_and_then_from_the_store(connect):
    with StandIn({"mast": rows}) as standin:
        transport = connect(standin)
        first, second = transport.ask(search()), transport.ask(search())
    assert (first.content, first.from_store) == (ROWS, False)
    assert (second.content, second.from_store) == (ROWS, True)
    assert second.fetched_mjd == first.fetched_mjd
    assert len(standin.arrivals) == 1
    total = transport.tally.total
    assert (total.requests, total.bytes, total.cache_hits) == (1, len(ROWS), 1)
    assert total.oldest_mjd == first.fetched_mjd


def test_bodies_of_all_kinds_arrive(connect):
    """Parameters with odd characters, forms, JSON and uploads arrive as they were meant."""
    seen = []

    def handler(asked):
        seen.append(asked)
        return rows(asked)

    odd = "x & y = +5 °/1%"
    with StandIn({"mast": handler}) as standin:
        transport = connect(standin)
        transport.ask(search(query=(("a", odd), ("a", "2"))))
        transport.ask(search(form=(("request", odd),)))
        transport.ask(search(json={"ra": 1.5}))
        transport.ask(search(form=(("name", odd),), upload={"table": b"\x00\x01"}))
    assert seen[0].query == [("a", odd), ("a", "2")]
    assert [asked.method for asked in seen] == ["GET", "POST", "POST", "POST"]
    assert seen[1].form == [("request", odd)]
    assert seen[2].json == {"ra": 1.5}
    assert seen[3].uploads == {"name": odd.encode(), "table": b"\x00\x01"}
    assert {asked.headers["user-agent"] for asked in seen} == {f"astrid_assets/{__version__}"}


def test_volatile_and_secret_parameters_are_not_part_of_the_question(connect):
    hidden = {"volatile": frozenset({"cacheBreaker"}), "secret": frozenset({"token", "Authorization"})}
    with StandIn({"mast": rows}) as standin:
        transport = connect(standin)
        for number in "123":
            query = (("ra", "5"), ("cacheBreaker", number), ("token", number))
            transport.ask(search(query=query, headers=(("authorization", number),), **hidden))
            transport.ask(search(json={"ra": 5, "token": number}, **hidden))
            transport.ask(search(form=(("ra", "5"), ("token", number)), **hidden))
        assert len(standin.arrivals) == 3
        transport.ask(search(query=(("ra", "6"),), **hidden))
        transport.ask(search(json={"ra": 6}, **hidden))
        transport.ask(search(form=(("ra", "6"),), **hidden))
    assert len(standin.arrivals) == 6


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["unavailable", "too_many", "server_error", "html", "truncated", "wrong_length"]
)
def test_a_passing_fault_is_outlived(connect, clock, mode):
    with StandIn({"mast": rows}, [Fault(mode, first_n=3)]) as standin:
        transport = connect(standin)
        assert transport.ask(search()).content == ROWS
    assert len(standin.arrivals) == 4
    assert transport.tally.total.retries == 3
    assert [pause for pause in clock.slept if pause > 0.1] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("unavailable", "HTTP 503"),
        ("too_many", "HTTP 429"),
        ("server_error", "HTTP 500"),
        ("truncated", "cut off"),
        ("wrong_length", "cut off"),
        ("hang", "not a byte for 0.05 s"),
        ("drip", "less than 1e+09 a second"),
    ],
)
def test_a_lasting_outage_is_unavailable(connect, mode, words):
    """Never something else: an outage is not an empty answer, and is not kept."""
    # the pauses of a drip are far shorter than its time-out, so that only its slowness tells
    timeout = {"hang": 0.05, "drip": 0.2}.get(mode, 10.0)
    with StandIn({"mast": rows}, [Fault(mode, seconds=0.03 if mode == "drip" else 0)]) as standin:
        transport = connect(standin, read_timeout=timeout, slowest=1e9, retries=1)
        with pytest.raises(ArchiveUnavailableError, match=r"mast GET /search: .*asked 2 times") as caught:
            transport.ask(search())
    assert words in str(caught.value)
    assert len(standin.arrivals) == 2
    assert not (transport.settings.store / "answers").exists()


def test_nobody_listens(connect):
    with StandIn({"mast": rows}) as standin:
        transport = connect(standin, retries=1)
    with pytest.raises(ArchiveUnavailableError, match=r"no connection .asked 2 times"):
        transport.ask(search())


def test_a_page_where_data_were_expected_is_a_bad_answer_with_its_start(connect):
    with StandIn({"mast": rows}, [Fault("html")]) as standin:
        transport = connect(standin, retries=2)
        with pytest.raises(BadAnswerError, match=r"expected JSON, got an HTML page: <!DOCTYPE html> <html>"):
            transport.ask(search())
    assert len(standin.arrivals) == 3
    assert not (transport.settings.store / "answers").exists()


def test_other_refusals_are_bad_answers_and_not_repeated(connect):
    page = b"<h1>no such\n column</h1>" + bytes(1000)
    with StandIn({"mast": saying(400, page)}) as standin:
        transport = connect(standin)
        with pytest.raises(BadAnswerError, match=r"HTTP 400: <h1>no such column</h1>$"):
            transport.ask(search())
    assert len(standin.arrivals) == 1


def test_compressed_answers_are_unpacked(connect):
    with StandIn({"mast": rows}, [Fault("gzip")]) as standin:
        transport = connect(standin)
        assert transport.ask(search()).content == ROWS
        assert transport.ask(search()).content == ROWS
    assert transport.tally.total.bytes < len(ROWS)


@pytest.mark.parametrize("damage", [lambda packed: packed[:-20], lambda packed: b"\x1f\x8b" + packed[10:]])
def test_damaged_compression_is_not_an_answer(connect, damage):
    import gzip

    content = damage(gzip.compress(ROWS, mtime=0))
    with StandIn({"mast": saying(200, content, Content_Encoding="gzip")}) as standin:
        transport = connect(standin, retries=0)
        with pytest.raises(ArchiveUnavailableError, match=r"compressed answer"):
            transport.ask(search())


def test_what_orders_something_is_sent_once(connect):
    with StandIn({"mast": rows}, [Fault("unavailable")]) as standin:
        transport = connect(standin)
        with pytest.raises(ArchiveUnavailableError, match=r"asked once"):
            transport.ask(search(repeatable=False))
    assert len(standin.arrivals) == 1


def test_a_thousand_requests_with_a_tenth_of_faults_lose_none(connect):
    modes = ("unavailable", "too_many", "html", "truncated", "wrong_length")
    faults = [Fault(mode, share=0.02, seed=seed) for seed, mode in enumerate(modes)]

    def echo(asked):
        return Reply(json.dumps(asked.query).encode(), "application/json")

    with StandIn({"mast": echo}, faults) as standin, ThreadPoolExecutor(8) as pool:
        transport = connect(standin, retries=12)
        asked = [search(query=(("n", str(number)),), kind="status") for number in range(1000)]
        answers = list(pool.map(transport.ask, asked))
    assert [json.loads(answer.content) for answer in answers] == [[["n", str(n)]] for n in range(1000)]
    assert len(standin.faulted) > 60
    assert transport.tally.total.retries == len(standin.faulted)
    assert transport.tally.total.requests == len(standin.arrivals) == 1000 + len(standin.faulted)
    assert standin.concurrent["mast"] <= 8


# --- what a status says ---------------------------------------------------------------------------


def test_nothing_there_is_final_and_kept(connect, clock):
    with StandIn({"mast": saying(404)}) as standin:
        transport = connect(standin)
        for _ in range(2):
            with pytest.raises(NoCoverageError, match=r"nothing there .HTTP 404"):
                transport.ask(search(nothing=frozenset({404}), kind="file"))
        assert len(standin.arrivals) == 1
        with pytest.raises(BadAnswerError, match=r"HTTP 404"):  # another reading of the same status
            transport.ask(search(kind="file"))
        clock.sleep(8 * 86400)  # files are kept for ever, their absence is not
        with pytest.raises(NoCoverageError):
            transport.ask(search(nothing=frozenset({404}), kind="file"))
    assert len(standin.arrivals) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_is_asked_for_by_name(connect, monkeypatch, status):
    monkeypatch.delenv("MAST_API_TOKEN", raising=False)
    with StandIn({"mast": saying(status), "gaia": saying(status)}) as standin:
        transport = connect(standin)
        assert transport.token("mast") is None
        with pytest.raises(AuthenticationNeededError, match=f"MAST_API_TOKEN .HTTP {status}"):
            transport.ask(search())
        monkeypatch.setenv("MAST_API_TOKEN", "old")
        assert transport.token("mast") == "old"
        with pytest.raises(AuthenticationNeededError, match=r"refuses the token in MAST_API_TOKEN"):
            transport.ask(search())
        with pytest.raises(AuthenticationNeededError, match=r"its own users only"):
            transport.ask(Request("gaia", "/", "search", "json"))
    assert transport.token("gaia") is None


def test_the_wait_that_a_service_asks_for_is_kept_by_all(connect, clock):
    with StandIn({"mast": rows}, [Fault("unavailable", first_n=1, seconds=7)]) as standin:
        transport = connect(standin)
        assert transport.ask(search()).content == ROWS
    assert sum(clock.slept) == pytest.approx(7.0, abs=0.5)
    assert transport.tally.total.waited_s == pytest.approx(7.0, abs=0.5)


def test_a_wait_until_a_date(connect, clock):
    until = datetime.fromtimestamp(clock.now() + 30, UTC)
    wait = (("Retry-After", format_datetime(until, usegmt=True)),)
    answers = iter([Reply(b"", "text/plain", 429, wait), Reply(ROWS, "application/json")])
    with StandIn({"mast": lambda _: next(answers)}) as standin:
        assert connect(standin).ask(search()).content == ROWS
    assert 28 < sum(clock.slept) < 31


def test_a_service_that_wants_a_long_rest_is_left_alone(connect, clock):
    """By this question at once, by the next without asking, until the time has come."""
    with StandIn({"mast": rows}, [Fault("too_many", first_n=1, seconds=3600)]) as standin:
        transport = connect(standin)
        with pytest.raises(ArchiveUnavailableError, match=r"HTTP 429") as caught:
            transport.ask(search())
        assert caught.value.retry_after == 3600.0
        with pytest.raises(ArchiveUnavailableError, match=r"asked to be left alone") as caught:
            connect(standin).ask(search("/other"))
        assert caught.value.retry_after == pytest.approx(3600.0, abs=5)
        assert len(standin.arrivals) == 1
        clock.sleep(3601)
        assert transport.ask(search()).content == ROWS


# --- answers in the making ------------------------------------------------------------------------


def test_an_answer_in_the_making_is_waited_for(connect, clock):
    states = iter([b'{"status": "EXECUTING"}'] * 3 + [ROWS])
    with StandIn({"mast": lambda _: Reply(next(states), "application/json")}) as standin:
        transport = connect(standin)
        answer = transport.ask(search(form=(("q", "1"),)), pending=lambda body: b"EXECUTING" in body)
        assert answer.content == ROWS
        assert transport.ask(search(form=(("q", "1"),))).content == ROWS
    assert len(standin.arrivals) == 4
    assert [pause for pause in clock.slept if pause > 0.5] == [1.0, 2.0, 4.0]


def test_an_answer_in_the_making_is_not_waited_for_for_ever(connect, clock):
    with StandIn({"mast": lambda _: Reply(b"{}", "application/json")}) as standin:
        transport = connect(standin, longest_pending=100.0)
        with pytest.raises(ArchiveUnavailableError, match=r"still at work after 100 s"):
            transport.ask(search(), pending=lambda _: True)
    assert sum(clock.slept) <= 100
    assert not (transport.settings.store / "answers").exists()


# --- the store ------------------------------------------------------------------------------------


def test_an_old_answer_is_confirmed_without_its_body(connect, clock):
    with StandIn({"mast": rows}) as standin:
        transport = connect(standin)
        first = transport.ask(search())
        clock.sleep(21_601)
        second = transport.ask(search())
        third = transport.ask(search())
    assert (second.content, second.from_store) == (ROWS, True)
    assert second.fetched_mjd > first.fetched_mjd + 0.24
    assert third.fetched_mjd == second.fetched_mjd
    assert len(standin.arrivals) == 2
    assert transport.tally.total.revalidations == 1
    assert transport.tally.total.bytes == len(ROWS)


def test_an_old_answer_that_has_changed_is_replaced(connect, clock):
    bodies = iter([b"[1]", b"[1, 2]"])
    with StandIn({"mast": lambda _: Reply(next(bodies), "application/json")}) as standin:
        transport = connect(standin)
        assert transport.ask(search()).content == b"[1]"
        clock.sleep(21_601)
        assert transport.ask(search()).content == b"[1, 2]"
        assert transport.ask(search()).content == b"[1, 2]"


def test_the_same_again_is_confirmed_too(connect, clock):
    """Services that know no ETag, and all that is asked by POST."""
    with StandIn({"mast": rows}) as standin:
        transport = connect(standin)
        for _ in range(2):
            assert transport.ask(search(form=(("q", "1"),))).content == ROWS
            clock.sleep(21_601)
    assert transport.tally.total.requests == 2
    assert transport.tally.total.revalidations == 1


def test_an_old_answer_is_not_served_in_an_outage(connect, clock):
    with StandIn({"mast": rows}) as standin:
        transport = connect(standin, retries=0)
        transport.ask(search())
    clock.sleep(21_601)
    with pytest.raises(ArchiveUnavailableError):
        transport.ask(search())


def test_states_are_asked_for_each_time(connect):
    with StandIn({"mast": rows}) as standin:
        transport = connect(standin)
        assert not any(transport.ask(search(kind="status")).from_store for _ in range(2))
    assert not (transport.settings.store / "answers").exists()


def test_a_damaged_entry_counts_as_absent(connect):
    with StandIn({"mast": rows}) as standin:
        transport = connect(standin)
        transport.ask(search())
        for pattern in ("objects/*/*", "answers/*"):
            (file,) = transport.settings.store.glob(pattern)
            for damage in (b"", b"{}", b"[]", ROWS[:-1], file.read_bytes()[:-5]):
                file.write_bytes(damage)
                answer = transport.ask(search())
                assert (answer.content, answer.from_store) == (ROWS, False)
            assert transport.ask(search()).from_store


def test_a_recording_replays_without_a_socket(connect, tmp_path):
    """Made at one address, good at every other, of any age; what is missing is an outage."""
    with StandIn({"mast": rows}) as standin:
        connect(standin).ask(search())
        connect(standin, record=True).ask(search("/status", kind="status"))
    replay = Transport.open(store=tmp_path / "store", mode="replay")  # the addresses are the live ones
    assert replay.ask(search()).content == ROWS
    assert replay.ask(search("/status", kind="status")).content == ROWS
    with pytest.raises(ArchiveUnavailableError, match=r"mast GET /other: not in the store .* record it"):
        replay.ask(search("/other"))
    assert replay.tally.total == Counts(cache_hits=2, oldest_mjd=replay.tally.total.oldest_mjd)


# --- redirects and secrets ------------------------------------------------------------------------


def secretive(**options) -> Request:
    return search(
        query=(("token", SECRET),),
        headers=(("Authorization", f"Token {SECRET}"),),
        secret=frozenset({"token", "Authorization"}),
        **options,
    )


def test_a_redirect_is_followed_without_secrets_to_another_place(connect):
    """Another host, or what listens at another port."""
    seen = []

    def handler(asked):
        seen.append(asked.headers.get("authorization"))
        if asked.path == "/here":
            return rows(asked)
        places = {
            "/near": standin.base_url("mast"),
            "/host": standin.base_url("mast").replace("127.0.0.1", "localhost"),
            "/port": other.base_url("mast"),
        }
        return Reply(b"", "text/plain", 302, (("Location", f"{places[asked.path]}/here"),))

    with StandIn({"mast": handler}) as standin, StandIn({"mast": handler}) as other:
        transport = connect(standin)
        for path in ("/near", "/host", "/port"):
            assert transport.ask(secretive(path=path)).content == ROWS
    token = f"Token {SECRET}"
    assert seen == [token, token, token, None, token, None]


@pytest.mark.parametrize("location", ["/mast/search", "ftp://127.0.0.1/x", "file:///etc/hostname"])
def test_a_redirect_to_nowhere_is_a_bad_answer(connect, location):
    with StandIn({"mast": saying(302, Location=location)}) as standin:
        transport = connect(standin, retries=0)
        with pytest.raises(BadAnswerError, match=r"it redirects"):
            transport.ask(search())


def test_a_secret_body_does_not_go_to_another_host(connect):
    def handler(asked):
        port = standin.url.rpartition(":")[2]
        return Reply(b"", "text/plain", 307, (("Location", f"http://localhost:{port}/mast/here"),))

    with StandIn({"mast": handler}) as standin:
        request = search(form=(("api_key", SECRET),), secret=frozenset({"api_key"}))
        with pytest.raises(BadAnswerError, match=r"another host"):
            connect(standin, retries=0).ask(request)
    assert len(standin.arrivals) == 1


@pytest.mark.parametrize("status", [200, 400, 403, 404, 500])
def test_secrets_appear_nowhere(connect, tmp_path, caplog, status):
    """Not in messages, tracebacks, logs or files, even where the service repeats them."""

    def echo(asked):
        return Reply(f"you sent {asked.query} {asked.headers}".encode(), "text/plain", status)

    caplog.set_level(logging.DEBUG)
    told = []
    with StandIn({"mast": echo}) as standin:
        transport = connect(standin, retries=1)
        gone = connect(standin, store=tmp_path / "gone", retries=0)
        for expects in ("any", "json"):
            try:
                told.append(repr(transport.ask(secretive(expects=expects, nothing=frozenset({404}))).status))
            except AstridError as error:
                told += traceback.format_exception(error)
    try:
        gone.ask(secretive())
    except ArchiveUnavailableError as error:
        told += traceback.format_exception(error)
    files = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    seen = "".join(told) + caplog.text + files.decode(errors="replace") + repr(transport.tally)
    assert "mast GET /search" in seen
    for form in (SECRET, "s3cr3t%2Ftoken%2Bvalue", "s3cr3t"):
        assert form not in seen


def test_nothing_of_the_machine_is_told(connect, monkeypatch, tmp_path):
    """No password of a .netrc, no cookie that a service has set."""
    (tmp_path / "netrc").write_text("default login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen = []

    def handler(asked):
        seen.append(asked.headers)
        return Reply(b"[]", "application/json", 200, (("Set-Cookie", "session=1; Path=/"),))

    with StandIn({"mast": handler}) as standin:
        transport = connect(standin)
        for _ in range(2):
            transport.ask(search(kind="status"))
    assert len(seen) == 2
    assert not any({"authorization", "cookie"} & set(headers) for headers in seen)


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(connect, monkeypatch):
    with StandIn({"mast": rows}) as standin, StandIn({"http:": rows}) as proxy:
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        transport = connect(standin)
        transport.ask(search("/here"))
        Transport.open({"ps1": {"base_url": "http://far.invalid"}}, transport.settings.store).ask(
            Request("ps1", "/there", "search", "json")
        )
    assert [arrival.target for arrival in standin.arrivals] == ["/here"]
    assert [arrival.target for arrival in proxy.arrivals] == ["//far.invalid/there"]


# --- tallies --------------------------------------------------------------------------------------


def test_tallies_add_up_and_travel(connect):
    with StandIn({"mast": rows, "gaia": rows}) as standin:
        one, other = connect(standin), connect(standin)
        one.ask(search())
        other.ask(search())
        other.ask(Request("gaia", "/", "search", "json"))
    total = travelled(one.tally) + other.tally
    assert total.services["mast"].requests == 1
    assert total.services["mast"].cache_hits == 1
    assert total.services["gaia"].requests == 1
    assert total + Tally() == total
    shown = total.as_metadata()
    assert (shown["requests"], shown["cache_hits"]) == (2, 1)
    assert shown["oldest_mjd"] == one.tally.total.oldest_mjd
    assert set(shown["services"]) == {"mast", "gaia"}
    json.dumps(shown)


def test_a_tally_is_taken_once(connect):
    with StandIn({"mast": rows}) as standin:
        transport = connect(standin)
        transport.ask(search())
        assert transport.take_tally().total.requests == 1
        assert transport.take_tally() == transport.tally == Tally()
        transport.ask(search())
    assert transport.take_tally().total.cache_hits == 1


def test_a_process_has_one_transport_for_its_settings(connect):
    settings = load_settings()
    assert shared_transport(settings) is shared_transport(load_settings()) is shared_transport()
    assert shared_transport(settings) is not shared_transport(with_changes(settings, mode="replay"))


def test_a_transport_travels_to_other_processes(connect):
    with StandIn({"mast": rows}) as standin:
        transport = travelled(connect(standin))
        assert transport.ask(search()).content == ROWS
