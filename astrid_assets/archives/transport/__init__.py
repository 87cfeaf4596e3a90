"""The only door to the network: polite, patient, verifying; what it fetched is kept."""

from __future__ import annotations

from astrid_assets.archives.transport.clock import Clock
from astrid_assets.archives.transport.formats import first_bytes
from astrid_assets.archives.transport.request import Answer, Format, Kind, Request
from astrid_assets.archives.transport.settings import ServiceSettings, Settings, load_settings, with_changes
from astrid_assets.archives.transport.shared import shared_transport, taken_traffic
from astrid_assets.archives.transport.tally import Counts, Tally
from astrid_assets.archives.transport.transport import Fetched, Transport

__all__ = [
    "Answer",
    "Clock",
    "Counts",
    "Fetched",
    "Format",
    "Kind",
    "Request",
    "ServiceSettings",
    "Settings",
    "Tally",
    "Transport",
    "first_bytes",
    "load_settings",
    "shared_transport",
    "taken_traffic",
    "with_changes",
]
