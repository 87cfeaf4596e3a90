"""One try on the wire: sends a request, follows redirects, hands out the body as it comes.

Whatever goes wrong below becomes a `Trouble` that knows nothing of addresses and parameters: the
errors of HTTP libraries quote whole URLs, and with them tokens.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from astrid_assets import __version__
from astrid_assets.archives.transport.clock import Clock
from astrid_assets.archives.transport.request import Request
from astrid_assets.archives.transport.settings import ServiceSettings

if TYPE_CHECKING:
    import requests

__all__ = ["Reply", "Trouble", "Wire"]

USER_AGENT = f"astrid_assets/{__version__}"
"""How the platform calls itself; a request may say otherwise (TNS wants the name of a bot)."""

_CHUNK = 256 * 1024
_LONGEST_CHAIN = 5  # redirects
_KEEPS_METHOD = (307, 308)  # the other redirects turn a POST into a GET
_REDIRECTS = (301, 302, 303, *_KEEPS_METHOD)
_ALWAYS_SECRET = {"authorization", "cookie"}
_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 47}

_T = TypeVar("_T")


class Trouble(Exception):  # noqa: N818 - never leaves the transport
    """Why a try failed that may be made again.

    Parameters
    ----------
    why
        In words, without secrets.

    wait
        Seconds that the service asked to be left alone.

    bad
        Whether something came that is not an answer.
    """

    def __init__(self, why: str, *, wait: float | None = None, bad: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.wait = wait
        self.bad = bad


@dataclass
class Reply:
    """Status and headers of an answer, and its body as it comes."""

    status: int
    """HTTP status."""

    headers: Mapping[str, str]
    """Names in lower case."""

    chunks: Iterator[bytes]
    """The body, decompressed if it was sent so; raises `Trouble` when it is cut off or too slow."""

    def wait(self, now: float) -> float | None:
        """Return the seconds for which the service asks to be left alone, if it does."""
        text = self.headers.get("retry-after", "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - now)
        except ValueError:
            return None


class _Silence(logging.Filter):
    """Keeps a library from logging the addresses of our requests."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - whatever it is
        return not getattr(self.here, "wanted", False)

    @contextmanager
    def kept(self) -> Iterator[None]:
        self.here.wanted = True
        try:
            yield
        finally:
            self.here.wanted = False


_SILENCE = _Silence()


class Wire:
    """Connections to services, kept open for the next request.

    Parameters
    ----------
    clock
        What time it is.

    received
        Told the service and the number of bytes of each chunk.

    sent
        Told the service of each request.
    """

    def __init__(
        self, clock: Clock, *, sent: Callable[[str], None], received: Callable[[str, int], None]
    ) -> None:
        self._clock = clock
        self._sent = sent
        self._received = received
        self._sessions: dict[int, requests.Session] = {}

    @contextmanager
    def send(
        self, request: Request, settings: ServiceSettings, headers: Mapping[str, str]
    ) -> Iterator[Reply]:
        """Send a request once and yield what comes.

        Parameters
        ----------
        request
            What to ask.

        settings
            Where and how.

        headers
            More headers.

        Raises
        ------
        Trouble
            No answer came; to be tried again.
        """
        prepared = _prepared(request, settings, headers)
        for _ in range(_LONGEST_CHAIN):
            response = self._exchange(request, settings, prepared)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                break
            response.close()
            prepared = _redirected(request, prepared, response.status_code, location)
        else:
            raise Trouble("it redirects without end", bad=True)
        told = {name.lower(): value for name, value in response.headers.items()}
        try:
            yield Reply(response.status_code, told, self._chunks(request.service, settings, response))
        finally:
            response.close()

    def _exchange(
        self, request: Request, settings: ServiceSettings, prepared: requests.PreparedRequest
    ) -> requests.Response:
        session = self._session()
        local = (urlsplit(prepared.url).hostname or "") in ("127.0.0.1", "localhost", "::1")
        # a proxy of the environment cannot reach what listens on this machine
        routes = {} if local else session.merge_environment_settings(prepared.url, {}, True, None, None)
        options = {
            "stream": True,
            "timeout": (settings.connect_timeout, settings.read_timeout),
            "verify": routes.get("verify", True),
            "proxies": routes.get("proxies", {}),
        }
        adapter = session.get_adapter(prepared.url)  # below the session: no cookies, no netrc
        self._sent(request.service)
        with _SILENCE.kept():
            return _guarded(lambda: adapter.send(prepared, **options), settings)

    def _chunks(
        self, service: str, settings: ServiceSettings, response: requests.Response
    ) -> Iterator[bytes]:
        """Yield the body, decompressed; raise `Trouble` where it breaks off or only drips."""
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        decoder = zlib.decompressobj(_WBITS[encoding]) if encoding in _WBITS else None
        since, arrived = self._clock.now(), 0
        while data := _guarded(lambda: response.raw.read1(_CHUNK, decode_content=False), settings):
            self._received(service, len(data))
            yield _decoded(decoder, data) if decoder else data
            arrived += len(data)
            elapsed = self._clock.now() - since
            if elapsed >= settings.read_timeout:
                if arrived < settings.slowest * elapsed:
                    msg = (
                        f"it sent {arrived} bytes in {elapsed:.3g} s, less than {settings.slowest:g} a second"
                    )
                    raise Trouble(msg)
                since, arrived = self._clock.now(), 0
        if decoder and not decoder.eof:
            raise Trouble("the compressed answer was cut off")

    def _session(self) -> requests.Session:
        """Return the session of this process: a connection cannot be shared with a forked child."""
        found = self._sessions.get(os.getpid())
        return found or self._sessions.setdefault(os.getpid(), _new_session())


def _new_session() -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter

    for name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_SILENCE)
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=32, pool_maxsize=64, max_retries=0))
    return session


def _prepared(
    request: Request, settings: ServiceSettings, headers: Mapping[str, str]
) -> requests.PreparedRequest:
    import requests

    named = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
    return requests.Request(
        request.method,
        settings.base_url + request.target,
        headers={**named, **dict(request.headers), **headers},
        data=list(request.form) if request.form is not None else None,
        json=request.json,
        files=dict(request.upload) if request.upload else None,
    ).prepare()


def _redirected(
    request: Request, prepared: requests.PreparedRequest, status: int, location: str
) -> requests.PreparedRequest:
    """Return the request for the place that a service names, without secrets if it is another host."""
    import requests

    url = urljoin(prepared.url, location)
    old, new = urlsplit(prepared.url), urlsplit(url)
    if new.scheme not in ("http", "https") or not new.hostname:
        raise Trouble("it redirects to something that is no web address", bad=True)
    keeps_method = status in _KEEPS_METHOD
    safer = (old.scheme, new.scheme) == ("http", "https")
    same_place = old.hostname == new.hostname and (safer or old[:2] == new[:2])
    secret = {name.lower() for name in request.secret} | _ALWAYS_SECRET
    headers = {n: v for n, v in prepared.headers.items() if same_place or n.lower() not in secret}
    if keeps_method and request.method == "POST":
        if request.secret and not same_place:
            raise Trouble("it redirects to another host, which is not to see the secrets", bad=True)
        followed = prepared.copy()
        followed.url = url
        return followed
    for name in ("Content-Type", "Content-Length", "Transfer-Encoding"):
        headers.pop(name, None)
    return requests.Request("GET", url, headers=headers).prepare()


def _decoded(decoder: Any, data: bytes) -> bytes:
    try:
        return decoder.decompress(data)
    except zlib.error:
        pass
    raise Trouble("the compressed answer is damaged")


def _guarded(call: Callable[[], _T], settings: ServiceSettings) -> _T:
    """Call the library below; raise `Trouble`, outside of its own error, which would show the address."""
    import requests
    import urllib3

    try:
        return call()
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        why = _words(error, settings)
    raise Trouble(why)


def _words(error: Exception, settings: ServiceSettings) -> str:
    """Return what an error of the library means, without what it quotes."""
    import requests
    import urllib3

    classes = (
        (requests.ConnectTimeout, f"no connection within {settings.connect_timeout:g} s"),
        (requests.ReadTimeout, f"not a byte for {settings.read_timeout:g} s"),
        (urllib3.exceptions.ReadTimeoutError, f"not a byte for {settings.read_timeout:g} s"),
        (requests.exceptions.SSLError, "no secure connection"),
        (requests.exceptions.ProxyError, "no connection through the proxy"),
        (http.client.IncompleteRead, "the answer was cut off"),
        (urllib3.exceptions.NameResolutionError, "the name of its host is not known here (no network?)"),
        (urllib3.exceptions.NewConnectionError, "no connection"),
    )
    causes = list(_causes(error))
    return next((w for c, w in classes if any(isinstance(e, c) for e in causes)), "the connection broke")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was made of."""
    yield error
    inner = [*error.args, getattr(error, "reason", None), error.__cause__]
    for cause in inner:
        if isinstance(cause, BaseException) and cause is not error:
            yield from _causes(cause)
