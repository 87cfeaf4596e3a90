"""An HTTP server on loopback that takes the place of the archives.

It knows nothing about astronomy: handlers answer, one for each service, and the server adds what HTTP
servers add (lengths, ETags, byte ranges) and the faults that it was told to make. Every service has
its own base URL, ``http://127.0.0.1:PORT/SERVICE``, so only base URLs differ from live use.
"""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from astrid_assets.archives.standin.faults import HANDLER_MODES, Chooser, Fault, Sending, spoil
from astrid_assets.archives.standin.messages import Asked, Reply

__all__ = ["Answers", "Arrival", "Asked", "Handler", "Reply", "StandIn"]


class Answers(Protocol):
    """Something that answers for a service: a module or an object."""

    def answer(self, asked: Asked) -> Reply:
        """Return the reply to a request."""
        ...


Handler = Answers | Callable[[Asked], Reply]
"""What answers for a service."""


class Arrival(NamedTuple):
    """One request that came in."""

    time: float
    """When, seconds of `time.monotonic`: the same clock in all processes of a machine."""

    service: str
    """Service that was asked."""

    method: str
    """HTTP method."""

    target: str
    """Path and query, without the name of the service in front."""


class StandIn:
    """A server on loopback, running from ``with`` to its end.

    Parameters
    ----------
    handlers
        What answers, by name of the service.

    faults
        Faults to make; the first that hits a request wins.

    port
        Port on 127.0.0.1; 0 for any free one.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], faults: Sequence[Fault] | None = None, *, port: int = 0
    ) -> None:
        self._handlers = dict(handlers)
        self._chooser = Chooser(faults or ())
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._server = _Server(self, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.arrivals: list[Arrival] = []
        """Requests in the order in which they came."""
        self.faulted: list[tuple[str, str]] = []
        """Service and mode of each fault that was made."""
        self.concurrent: Counter[str] = Counter()
        """Most requests at one time, by service."""
        self.errors: list[Exception] = []
        """What handlers raised; the client got status 500."""

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Break the connections that are open, and end."""
        self._server.shutdown()
        self._thread.join()
        self._server.close()

    @property
    def url(self) -> str:
        """Address of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def base_url(self, service: str) -> str:
        """Return the base URL of a service: what its live address is replaced with.

        Parameters
        ----------
        service
            One of the services that have a handler.
        """
        if service not in self._handlers:
            msg = f"{service} has no handler; there are {', '.join(sorted(self._handlers))}"
            raise KeyError(msg)
        return f"{self.url}/{service}"

    def services(self) -> dict[str, dict[str, str]]:
        """Return the base URLs of all services in the form of ``services`` in ``archives.yaml``."""
        return {name: {"base_url": self.base_url(name)} for name in sorted(self._handlers)}

    def count(self, service: str) -> int:
        """Return how many requests a service got."""
        return sum(arrival.service == service for arrival in self.arrivals)

    # --- one request, called by its thread -------------------------------------------------------

    def _arrive(self, service: str, method: str, target: str) -> None:
        with self._lock:
            self.arrivals.append(Arrival(time.monotonic(), service, method, target))
            self._busy[service] += 1
            self.concurrent[service] = max(self.concurrent[service], self._busy[service])

    def _leave(self, service: str) -> None:
        with self._lock:
            self._busy[service] -= 1

    def _reply(self, service: str, asked: Asked, target: str) -> Sending:
        if service not in self._handlers:
            return Sending(Reply(f"no service {service}\n".encode(), "text/plain", 404))
        fault = self._chooser.choose(service, target)
        if fault is None:
            return Sending(self._answer(service, asked))
        with self._lock:
            self.faulted.append((service, fault.mode))
        if fault.mode in HANDLER_MODES:
            return Sending(self._answer(service, replace(asked, fault=fault.mode)))
        return spoil(self._answer(service, asked), fault)

    def _answer(self, service: str, asked: Asked) -> Reply:
        handler: Any = self._handlers[service]
        try:
            return getattr(handler, "answer", handler)(asked)
        except Exception as error:  # noqa: BLE001 -- a fault of the stand-in is told, not hidden
            self.errors.append(error)
            return Reply(f"stand-in: {type(error).__name__}: {error}\n".encode(), "text/plain", 500)


class _Server(ThreadingHTTPServer):
    """Threads are waited for at the end, after their connections are broken: nothing leaks."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128  # a test may open that many connections at once

    def __init__(self, standin: StandIn, port: int) -> None:
        self.standin = standin
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, and serve it in a thread of its own."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Break all connections, wait for their threads, and give the port back."""
        with self._lock:
            for connection in self._open:
                _break(connection)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 -- base class
        """Be silent where a client has left; keep anything else."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            self.standin.errors.append(error)


def _break(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster


class _Connection(BaseHTTPRequestHandler):
    """One connection; several requests may come over it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- name of the base class
        """Say nothing: `StandIn.arrivals` holds it."""

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve("GET")

    def do_HEAD(self) -> None:
        """Answer a HEAD as the GET, without body."""
        self._serve("GET")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._serve("POST")

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        standin = self.server.standin
        service, target = _split(self.path)
        url = urlsplit(target)
        asked = Asked(
            method,
            unquote(url.path),
            parse_qsl(url.query, keep_blank_values=True),
            {name.lower(): value for name, value in self.headers.items()},
            body,
            base_url=f"{standin.url}/{service}",
        )
        standin._arrive(service, self.command, target)
        self._service: str | None = service
        try:
            sending = standin._reply(service, asked, target)
            self._send(replace(sending, reply=_with_http(sending.reply, asked)))
        finally:
            self._leave()

    def _leave(self) -> None:
        """Count the request as done: before its last byte, lest the client is seen twice at a time."""
        if self._service is not None:
            self.server.standin._leave(self._service)
            self._service = None

    def _send(self, sending: Sending) -> None:
        if sending.silent:
            self.close_connection = True
            self.connection.recv(1)  # returns when the client or the stand-in closes the connection
            return
        reply, broken = sending.reply, sending.cut < 1.0
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers:
            self.send_header(name, value)
        if broken:
            self.send_header("Transfer-Encoding", "chunked")
        elif reply.status != 304:
            self.send_header("Content-Length", str(len(reply.content) + sending.excess))
        if broken or sending.excess:
            self.close_connection = True
            self.send_header("Connection", "close")
        self._finish(sending, broken=broken)

    def _finish(self, sending: Sending, *, broken: bool) -> None:
        """Send the end of the headers and the body."""
        content = sending.reply.content
        if self.command == "HEAD" or not content:
            self._leave()
            self.end_headers()
        elif broken:
            self.end_headers()
            part = content[: max(1, int(len(content) * sending.cut))]
            self._leave()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))  # and no last chunk
        else:
            self.end_headers()
            self._write(content, sending)

    def _write(self, content: bytes, sending: Sending) -> None:
        size = -(-len(content) // sending.pieces)
        for start in range(0, len(content) - 1, size):
            if sending.pause:
                time.sleep(sending.pause)
            self.wfile.write(content[start : min(start + size, len(content) - 1)])
        self._leave()
        self.wfile.write(content[-1:])


def _split(path: str) -> tuple[str, str]:
    """Return the service of a request, and its path and query at the service."""
    service, slash, rest = path.lstrip("/").partition("/")
    name, mark, query = service.partition("?")
    return name, (slash or "/") + rest + mark + query


# --- what HTTP servers add ----------------------------------------------------------------------


def _with_http(reply: Reply, asked: Asked) -> Reply:
    """Return the reply with ETag, as part of itself or as unchanged if the client asks for that."""
    if asked.method != "GET" or reply.status != 200:
        return reply
    known = {name.lower(): value for name, value in reply.headers}
    tag = known.get("etag") or f'"{hashlib.sha256(reply.content).hexdigest()[:32]}"'
    more = () if "etag" in known else (("ETag", tag),)
    reply = replace(reply, headers=(*reply.headers, *more, ("Accept-Ranges", "bytes")))
    wanted = [text.strip().removeprefix("W/") for text in asked.headers.get("if-none-match", "").split(",")]
    if tag.removeprefix("W/") in wanted or "*" in wanted:
        return replace(reply, content=b"", status=304)
    if asked.headers.get("if-range", tag) not in (tag, known.get("last-modified", tag)):
        return reply
    return _part(reply, asked.headers.get("range", ""))


def _part(reply: Reply, wanted: str) -> Reply:
    """Return the bytes of one range of a reply; all of it where no range, or several, are asked for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted.strip())
    if match is None or match.group() == "bytes=-":
        return reply
    size = len(reply.content)
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
    else:
        start, stop = max(size - int(last), 0), size
    if start >= stop:
        where = (("Content-Range", f"bytes */{size}"),)
        return Reply(b"", "text/plain", 416, where)
    where = (("Content-Range", f"bytes {start}-{stop - 1}/{size}"),)
    return replace(reply, content=reply.content[start:stop], status=206, headers=(*reply.headers, *where))
