"""One transport in each process: its connections and its tally serve all exposures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from astrid_assets.archives.transport.tally import Tally

if TYPE_CHECKING:
    from astrid_assets.archives.transport.settings import Settings
    from astrid_assets.archives.transport.transport import Transport

__all__ = ["shared_transport", "taken_traffic"]

_transports: dict[str, Transport] = {}
"""Transports of this process by their settings."""


def shared_transport(settings: Settings | None = None) -> Transport:
    """Return the transport of this process with some settings, by default those of the installation."""
    from astrid_assets.archives.transport.settings import load_settings
    from astrid_assets.archives.transport.transport import Transport

    settings = settings or load_settings()
    key = settings.model_dump_json()
    if key not in _transports:
        _transports[key] = Transport.of(settings)
    return _transports[key]


def taken_traffic() -> Tally:
    """Return what the transports of this process have done since this was last called."""
    return sum((transport.take_tally() for transport in _transports.values()), Tally())
