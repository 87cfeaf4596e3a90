"""Asking a service so that only what can be read is kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.catalogues.votable import TooManyRowsError

if TYPE_CHECKING:
    from astrid_assets.archives.transport import Request, Transport

__all__ = ["ask_readable"]


def ask_readable(transport: Transport, request: Request, read: Callable[[bytes], Any]) -> bytes:
    """Return the answer of a service, read once before the transport keeps it.

    Services report outages and errors with status 200, in the format of an answer: astroquery 0.4.11
    kept such a document of VizieR for a week as a table without rows (#3632).

    Parameters
    ----------
    transport
        The way to the service.

    request
        The question.

    read
        Reads the answer and raises where it is none. An answer that says that it was cut off is kept:
        it would be cut off again.

    Raises
    ------
    ArchiveUnavailableError, NoCoverageError, BadAnswerError, AuthenticationNeededError
        As of the transport and of ``read``.
    """

    def is_pending(content: bytes) -> bool:
        with suppress(TooManyRowsError):
            read(content)
        return False

    return transport.ask(request, pending=is_pending).content
