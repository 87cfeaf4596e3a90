"""MAST, the archive of HST, JWST, TESS, Pan-STARRS, GALEX and Swift at STScI."""

from __future__ import annotations

from astrid_assets.archives.mast.archive import MastArchive

__all__ = ["MastArchive"]
