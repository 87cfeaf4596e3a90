"""The archives as Dagster resources: how their services are treated, changed for a run or for all.

What is not set here is as ``archives.yaml`` says, or else as it ships (`astrid_assets.archives.transport`,
``services.toml``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import dagster as dg
import pydantic

if TYPE_CHECKING:
    from astrid_assets.archives.transport import Settings

__all__ = [
    "ARCHIVE_RESOURCES",
    "AlertsResource",
    "ArchiveResource",
    "CataloguesResource",
    "IrsaZtfResource",
    "MastResource",
    "Ps1Resource",
    "SkyViewResource",
    "archive_settings",
]


class ArchiveResource(dg.ConfigurableResource):
    """How the services of one archive are treated; None leaves it to ``archives.yaml`` and the defaults."""

    services: ClassVar[tuple[str, ...]] = ()
    """Services that it is made of, by their names in ``services.toml``."""

    base_urls: dict[str, str] = pydantic.Field(
        default={}, description="Address by name of the service: a mirror, or the stand-in on loopback."
    )
    parallel: int | None = pydantic.Field(
        default=None, description="Most requests to a service at a time, over all processes."
    )
    per_second: float | None = pydantic.Field(
        default=None, description="Most requests to a service that start in a second, over all processes."
    )
    read_timeout: float | None = pydantic.Field(
        default=None, description="Seconds without a byte after which a request counts as lost."
    )
    retries: int | None = pydantic.Field(default=None, description="Tries of a request after the first.")

    def changes(self) -> dict[str, dict[str, Any]]:
        """Return the changed settings by service."""
        shared = {
            name: value
            for name in ("parallel", "per_second", "read_timeout", "retries")
            if (value := getattr(self, name)) is not None
        }
        changes = {service: dict(shared) for service in self.services if shared}
        for service, address in self.base_urls.items():
            changes.setdefault(service, {})["base_url"] = address
        return changes


class MastResource(ArchiveResource):
    """MAST: HST, JWST, TESS, GALEX, Swift; TESScut; the name resolver."""

    services: ClassVar[tuple[str, ...]] = ("mast", "tesscut", "mast_resolver")


class Ps1Resource(ArchiveResource):
    """Cutouts and catalogue of Pan-STARRS 1."""

    services: ClassVar[tuple[str, ...]] = ("ps1", "ps1_catalog")


class SkyViewResource(ArchiveResource):
    """SkyView: DSS2, SDSS, GALEX, 2MASS, WISE; hips2fits to look at."""

    services: ClassVar[tuple[str, ...]] = ("skyview", "hips2fits")


class IrsaZtfResource(ArchiveResource):
    """IRSA's ZTF images and light curves."""

    services: ClassVar[tuple[str, ...]] = ("irsa", "ztf_forced")


class AlertsResource(ArchiveResource):
    """Public alerts of ZTF and the brokers."""

    services: ClassVar[tuple[str, ...]] = (
        "ztf_alerts",
        "alerce",
        "alerce_stamps",
        "fink",
        "kowalski",
        "lasair",
        "lasair_stamps",
    )


class CataloguesResource(ArchiveResource):
    """Catalogues: Gaia, VizieR, X-match, SIMBAD, NED, SkyBoT, TNS, BTS."""

    services: ClassVar[tuple[str, ...]] = (
        "gaia",
        "vizier",
        "xmatch",
        "simbad",
        "ned",
        "sdss",
        "skybot",
        "tns",
        "bts",
    )


ARCHIVE_RESOURCES: Mapping[str, ArchiveResource] = {
    "mast": MastResource(),
    "ps1": Ps1Resource(),
    "skyview": SkyViewResource(),
    "irsa_ztf": IrsaZtfResource(),
    "alerts": AlertsResource(),
    "catalogues": CataloguesResource(),
}
"""Resources by their keys."""


def archive_settings(context: dg.AssetExecutionContext) -> Settings:
    """Return how the services of all archives are treated in a run.

    Raises
    ------
    ConfigurationError
        ``archives.yaml`` or the configuration of a resource is wrong.
    """
    from astrid_assets.archives.transport import load_settings, with_changes

    changes: dict[str, dict[str, Any]] = {}
    for key in ARCHIVE_RESOURCES:
        changes |= getattr(context.resources, key).changes()
    return with_changes(load_settings(), changes)
