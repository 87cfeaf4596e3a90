"""Archive ``alerts``: ZTF's public alerts, from the source that a field has chosen."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING

from astrid_assets.archives.brokers.night import Night
from astrid_assets.archives.protocol import Cone, Download, Exposure, Offer
from astrid_assets.errors import ConfigurationError, NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.archives.transport import Transport
    from astrid_assets.fields import Field

__all__ = ["AlertsArchive"]

_TITLES = {
    "nightly": "ZTF alerts (public archive)",
    "alerce": "ZTF alerts (ALeRCE)",
    "fink": "ZTF alerts (Fink)",
    "kowalski": "ZTF alerts (Kowalski)",
    "lasair": "ZTF alerts (Lasair)",
}
"""Sources, each a module of this package."""

_FIRST = {"fink": 58788}
"""First night (MJD) of a source that did not take in the stream from its begin; Fink: 2019-11-01."""

_BEGIN = 58270
"""First night (MJD) of the public alerts, 2018-06-01."""

_DELAY = 0.5
"""Days after the end of a UTC day until its alerts are complete everywhere (own choice): the night itself
ends at about 14 h UTC, the archive writes its tar after the day."""


class AlertsArchive:
    """ZTF's public alerts.

    Parameters
    ----------
    transport
        The way to the network.

    clock
        The present as MJD (UTC): nights that are not over are not offered. None takes
        `astrid_assets.clock.now_mjd` at every question.
    """

    name = "alerts"

    def __init__(self, transport: Transport, *, clock: float | None = None) -> None:
        self._transport = transport
        self._clock = clock

    def search(self, sky_field: Field) -> Sequence[Exposure]:  # noqa: ARG002 - alerts are no images
        """Return nothing: alerts are no images."""
        return []

    def download(self, exposure: Exposure, folder: Path) -> Download:  # noqa: ARG002
        """Raise `NoCoverageError`: there are no images here."""
        raise NoCoverageError(f"archive alerts has no images, so not {exposure.exposure_id} either")

    def alert_nights(self, sky_field: Field) -> list[Offer]:
        """Return the nights in the field's science window that are over, by date."""
        source = _source(sky_field)
        window = sky_field.science_window
        first = _FIRST.get(source, _BEGIN)
        start = first if window.start_mjd is None else max(first, floor(window.start_mjd))
        over = floor(self._now() - _DELAY)
        end = over if window.end_mjd is None else min(over, ceil(window.end_mjd))
        return [
            Offer(
                name=f"alerts_{Night(mjd).date}",
                title=_TITLES[source],
                format="avro",
                revision=source,
                mjd=float(mjd),
            )
            for mjd in range(start, end)
        ]

    def alerts(self, offer: Offer, sky_field: Field, cone: Cone) -> bytes:
        """Return the alerts of a night in a circle: a tar of packets, or one Avro file.

        Raises
        ------
        ArchiveUnavailableError, NoCoverageError, BadAnswerError, AuthenticationNeededError
            As of the network; NoCoverageError where there is no alert.
        """
        if offer.mjd is None:
            raise ConfigurationError(f"offer {offer.name} names no night")
        module = import_module(f"astrid_assets.archives.brokers.{_source(sky_field)}")
        content: bytes = module.fetch(self._transport, Night(floor(offer.mjd)), cone)
        return content

    def _now(self) -> float:
        if self._clock is not None:
            return self._clock
        from astrid_assets.clock import now_mjd

        return now_mjd()


def _source(sky_field: Field) -> str:
    if sky_field.alerts is None:
        raise ConfigurationError(f"field {sky_field.name} does not use archive alerts")
    return sky_field.alerts.source
