"""Where images come from. The only part of the platform that opens a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from astrid_assets.archives.protocol import (
    ARCHIVE_NAMES,
    AlertArchive,
    Archive,
    CatalogueArchive,
    Cone,
    CutoutArchive,
    Download,
    Exposure,
    Offer,
)
from astrid_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from astrid_assets.fields import Field

__all__ = [
    "ARCHIVE_NAMES",
    "AlertArchive",
    "Archive",
    "CatalogueArchive",
    "Cone",
    "CutoutArchive",
    "Download",
    "Exposure",
    "Offer",
    "open_archive",
]


def open_archive(name: str, sky_field: Field) -> Archive | None:
    """Return an archive as a field has configured it, or None if it is not built yet.

    Parameters
    ----------
    name
        One of `ARCHIVE_NAMES`.

    sky_field
        A field that names this archive; no other can ever receive its data.

    Raises
    ------
    ConfigurationError
        If the field does not name the archive.
    """
    if name not in sky_field.archives:
        msg = f"field {sky_field.name} does not use archive {name!r}; add it to its archives in fields.yaml"
        raise ConfigurationError(msg)
    if name == "simulated":
        from astrid_assets.archives.simulated import SimulatedArchive

        return SimulatedArchive()
    if name == "local":
        from astrid_assets.archives.local import LocalArchive

        return LocalArchive()
    return None
