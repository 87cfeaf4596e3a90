"""Where public alerts of ZTF come from: the nightly archive, and the brokers that took the stream in."""

from __future__ import annotations

from astrid_assets.archives.brokers.archive import AlertsArchive

__all__ = ["AlertsArchive"]
