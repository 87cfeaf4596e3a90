"""What a handler of the stand-in is asked, and what it replies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["Asked", "Reply"]


@dataclass(frozen=True)
class Asked:
    """One request to a service, without the name of the service in front of the path."""

    method: str
    """``GET`` or ``POST``; the server answers HEAD from the reply to a GET."""

    path: str
    """Path, decoded."""

    query: list[tuple[str, str]] = field(default_factory=list)
    """Parameters of the URL, decoded."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers, names in lower case."""

    body: bytes = b""
    """What was posted."""

    fault: str | None = None
    """Fault of `astrid_assets.archives.standin.faults.HANDLER_MODES` that this reply is to have."""

    base_url: str = ""
    """Base URL of the service, for replies that hold links."""

    @cached_property
    def form(self) -> list[tuple[str, str]]:
        """Fields of the body, urlencoded or multipart (files as text where they are)."""
        if "multipart" in self.headers.get("content-type", ""):
            return [(name, data.decode(errors="replace")) for name, data in self.uploads.items()]
        return parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True)

    @cached_property
    def uploads(self) -> dict[str, bytes]:
        """Parts of a multipart body by name."""
        from email.parser import BytesParser

        head = f"Content-Type: {self.headers.get('content-type', '')}\r\n\r\n".encode()
        parts = BytesParser().parsebytes(head + self.body).get_payload()
        if isinstance(parts, str):
            return {}
        return {
            str(part.get_param("name", "", "content-disposition")): part.get_payload(decode=True)
            for part in parts
        }

    @cached_property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def value(self, name: str, default: str = "") -> str:
        """Return a parameter of the URL or of the body, whatever the case of its name.

        Parameters
        ----------
        name
            Name of the parameter.

        default
            What is returned if it was not given.
        """
        pairs = [*self.query, *(self.form if self.method == "POST" else ())]
        return next((value for key, value in pairs if key.lower() == name.lower()), default)


@dataclass(frozen=True)
class Reply:
    """What a handler answers."""

    content: bytes
    """Body."""

    content_type: str
    """Media type, as the service says it."""

    status: int = 200
    """HTTP status."""

    headers: tuple[tuple[str, str], ...] = ()
    """More headers. The server adds Content-Length, and to replies to a GET ETag and Accept-Ranges."""
