"""What is asked of a service, and what it said: values, no network.

Service modules make a `Request` from what a user wants (`build`) and rows from the bytes of an
`Answer` (`parse`). The `Transport` alone moves them, live or against a stand-in: only the base URL of
a service differs.
"""

from __future__ import annotations

import hashlib
import json as json_text
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlencode

__all__ = ["Answer", "Format", "Kind", "Request"]

Kind = Literal[
    "search", "products", "catalogue", "ephemeris", "alerts", "cutout", "file", "status", "request"
]
"""What kind of answer it is: decides how long it is good (`services.toml`, table ``lifetime``).

``status`` and ``request`` are never kept: a state that changes, and something that one orders."""

Format = Literal["json", "votable", "csv", "table", "fits", "avro", "zip", "tar", "html", "image", "any"]
"""What an answer has to look like; anything else with status 200 is a bad answer."""


@dataclass(frozen=True)
class Request:
    """One question to a service. Parameters are texts, in the order in which they are sent."""

    service: str
    """Name in ``services.toml``: an alias of the host, so that a recording is good live and on loopback."""

    path: str
    """Path at the service, with a leading slash; appended to its base URL."""

    kind: Kind
    """Kind of answer."""

    expects: Format
    """Format of a good answer."""

    query: tuple[tuple[str, str], ...] = ()
    """Parameters in the URL."""

    form: tuple[tuple[str, str], ...] | None = None
    """Parameters in the body, ``application/x-www-form-urlencoded``; makes it a POST."""

    json: Any = None
    """Body in JSON; makes it a POST."""

    upload: Mapping[str, bytes] | None = None
    """Files of a ``multipart/form-data`` body, beside `form`; makes it a POST."""

    headers: tuple[tuple[str, str], ...] = ()
    """Headers that belong to the question."""

    secret: frozenset[str] = frozenset()
    """Names of parameters, headers and entries of the JSON body that are never logged, stored, or part of
    the key."""

    volatile: frozenset[str] = frozenset()
    """Names of parameters that mean nothing (cache breakers); not part of the key."""

    nothing: frozenset[int] = frozenset()
    """Status codes by which this service says that nothing is there (`NoCoverageError`)."""

    repeatable: bool = True
    """Whether it may be sent again after an error; False for what orders something."""

    @property
    def method(self) -> str:
        """``GET`` or ``POST``."""
        return "GET" if self.form is None and self.json is None and self.upload is None else "POST"

    @property
    def key(self) -> str:
        """SHA-256 of what is asked: the same live, on loopback and in a recording."""
        hidden = {name.lower() for name in self.secret | self.volatile}
        uploads = {name: hashlib.sha256(data).hexdigest() for name, data in (self.upload or {}).items()}
        parts = [
            self.method,
            self.service,
            self.path,
            sorted(p for p in self.query if p[0].lower() not in hidden),
            sorted(p for p in self.form or () if p[0].lower() not in hidden),
            self._json_without(hidden),
            sorted(uploads.items()),
            sorted((name.lower(), value) for name, value in self.headers if name.lower() not in hidden),
        ]
        return hashlib.sha256(json_text.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _json_without(self, hidden: set[str]) -> Any:
        if not isinstance(self.json, dict):
            return self.json
        return {name: value for name, value in self.json.items() if name.lower() not in hidden}

    @property
    def target(self) -> str:
        """Path and query as they are sent."""
        return self.path + (f"?{urlencode(self.query, quote_via=quote)}" if self.query else "")

    @property
    def shown(self) -> str:
        """The request on one line, for messages and logs, without secrets."""
        hidden = {name.lower() for name in self.secret}
        known = [(name, "***" if name.lower() in hidden else value) for name, value in self.query]
        text = f"{self.service} {self.method} {self.path}"
        return text + (f"?{urlencode(known, quote_via=quote, safe='*')}" if known else "")


@dataclass(frozen=True)
class Answer:
    """What a service answered."""

    content: bytes
    """Body, decompressed if it was sent so."""

    status: int = 200
    """HTTP status."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers, names in lower case."""

    fetched_mjd: float = 0.0
    """When it was sent or last found unchanged, MJD (UTC)."""

    from_store: bool = False
    """Whether it was kept from an earlier request."""
