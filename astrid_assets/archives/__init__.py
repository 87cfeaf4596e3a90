"""Where images come from. The only part of the platform that opens a socket."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from astrid_assets.archives.protocol import (
    ARCHIVE_NAMES,
    WITHOUT_NETWORK,
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
    from astrid_assets.archives.transport import Transport
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


_ARCHIVES = {
    "simulated": ("astrid_assets.archives.simulated", "SimulatedArchive"),
    "local": ("astrid_assets.archives.local", "LocalArchive"),
    "mast": ("astrid_assets.archives.mast", "MastArchive"),
    "ps1": ("astrid_assets.archives.ps1", "Ps1Archive"),
    "skyview": ("astrid_assets.archives.skyview", "SkyviewArchive"),
    "irsa_ztf": ("astrid_assets.archives.irsa_ztf", "IrsaZtfArchive"),
    "alerts": ("astrid_assets.archives.brokers", "AlertsArchive"),
    "catalogues": ("astrid_assets.archives.catalogues.archive", "CataloguesArchive"),
}
"""Module and class of each archive; imported when it is opened."""


def open_archive(name: str, sky_field: Field, transport: Transport | None = None) -> object:
    """Return an archive as a field has configured it.

    Parameters
    ----------
    name
        One of `ARCHIVE_NAMES`.

    sky_field
        A field that names this archive; no other can ever receive its data.

    transport
        What asks the services; by default one with the settings of this installation.

    Returns
    -------
    object
        It keeps to `Archive` where it has images, and to the other protocols where it offers more.

    Raises
    ------
    ConfigurationError
        If the field does not name the archive.
    """
    if name not in sky_field.archives:
        msg = f"field {sky_field.name} does not use archive {name!r}; add it to its archives in fields.yaml"
        raise ConfigurationError(msg)
    module, kind = _ARCHIVES[name]
    make = getattr(import_module(module), kind)
    if name in WITHOUT_NETWORK:
        return make()
    from astrid_assets.archives.transport import Transport

    return make(transport or Transport.open())
