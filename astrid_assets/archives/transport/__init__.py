"""The only door to the network: polite, patient, verifying; what it fetched is kept."""

from __future__ import annotations

from astrid_assets.archives.transport.request import Answer, Format, Kind, Request

__all__ = ["Answer", "Format", "Kind", "Request"]
