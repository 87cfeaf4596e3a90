"""Archive ``catalogues``: what services know about a field, asked over the network.

Answers are handed on as they were sent. Two are not the answer to one question: a circle that needed
several (`astrid_assets.archives.catalogues.cones.pack`), and the tables of transients, which are of the
whole sky and have their other rows cut out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import floor
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.catalogues.asking import ask_readable
from astrid_assets.archives.catalogues.cones import ask_whole, pack
from astrid_assets.archives.catalogues.galaxies import SDSS_ROWS, count_sdss, ned_request, sdss_request
from astrid_assets.archives.catalogues.panstarrs import PS1_RADIUS, PS1_ROWS, ps1_request, read_mast_table
from astrid_assets.archives.catalogues.simbad import SIMBAD_ROWS, simbad_request
from astrid_assets.archives.catalogues.solar_system import (
    GEOCENTRE,
    OBSERVATORIES,
    SKYBOT_RADIUS,
    skybot_request,
)
from astrid_assets.archives.catalogues.stars import gaia_pages, parse_gaia, vsx_request
from astrid_assets.archives.catalogues.transients import (
    TnsBot,
    bts_request,
    cut_bts,
    cut_tns,
    parse_bts,
    tns_table_request,
)
from astrid_assets.archives.catalogues.vizier import VIZIER_ROWS
from astrid_assets.archives.catalogues.votable import TooManyRowsError, count_rows
from astrid_assets.archives.protocol import Cone, Download, Exposure, Offer
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import NoCoverageError

if TYPE_CHECKING:
    from pathlib import Path

    from astrid_assets.archives.transport import Transport
    from astrid_assets.fields import Field

__all__ = ["CataloguesArchive"]

_MONTH = 30
"""Days after which a catalogue that grows slowly is asked again; as long as its answers are kept."""

_BOT_VARIABLE = "TNS_BOT"
"""Environment variable with number and name of the bot at TNS; its key is the token of the service."""


@dataclass(frozen=True)
class _Known:
    """A catalogue that can be asked."""

    offer: str
    """Name of the offer: service and catalogue."""

    title: str
    """Name as its users write it."""

    release: str | int
    """Release, or the days after which it has grown."""

    moving: bool = False
    """Whether its objects move."""


_CATALOGUES = {
    "gaia": _Known("esa_gaia_dr3", "Gaia DR3", "DR3"),
    "ps1": _Known("mast_ps1_dr2", "Pan-STARRS DR2", "DR2"),
    "vsx": _Known("vizier_vsx", "VSX", _MONTH),
    "sdss": _Known("skyserver_sdss_dr17", "SDSS DR17", "DR17"),
    "ned": _Known("ipac_ned", "NED", _MONTH),
    "simbad": _Known("cds_simbad", "SIMBAD", _MONTH),
    "skybot": _Known("imcce_skybot", "SkyBoT", "1", moving=True),
    "tns": _Known("tns_public", "TNS", 1),
    "bts": _Known("ztf_bts", "ZTF Bright Transient Survey", 1),
}


@dataclass(frozen=True)
class _Asking:
    """How a service is asked about a circle, and how one sees that it left out rows."""

    request: Callable[[Cone], Request]
    """Builds the question."""

    count: Callable[[bytes], int]
    """Reads an answer and counts its rows."""

    limit: int | None = None
    """Rows after which the service stops; None where it does not."""

    largest: float | None = None
    """Largest radius, degrees."""

    def is_cut(self, content: bytes) -> bool:
        """Tell whether an answer may lack rows."""
        try:
            return self.limit is not None and self.count(content) >= self.limit
        except TooManyRowsError:
            return True


def _mast_rows(content: bytes) -> int:
    return len(read_mast_table(content).get("objid", ()))


_ASKING = {
    "ps1": _Asking(ps1_request, _mast_rows, PS1_ROWS, PS1_RADIUS),
    "vsx": _Asking(vsx_request, partial(count_rows, service="VizieR"), VIZIER_ROWS),
    "sdss": _Asking(sdss_request, count_sdss, SDSS_ROWS),
    "ned": _Asking(ned_request, partial(count_rows, service="NED")),
    "simbad": _Asking(simbad_request, partial(count_rows, service="SIMBAD"), SIMBAD_ROWS),
}


class CataloguesArchive:
    """Catalogues of stars, galaxies, variables, transients and bodies of the solar system.

    Parameters
    ----------
    transport
        The way to the services.
    """

    name = "catalogues"

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(self, sky_field: Field) -> list[Exposure]:  # noqa: ARG002 -- no catalogue has images
        """Return nothing: catalogues have no images."""
        return []

    def download(self, exposure: Exposure, folder: Path) -> Download:  # noqa: ARG002 -- as above
        """Refuse: catalogues have no images."""
        raise NoCoverageError(f"{exposure.exposure_id}: catalogues have no images")

    def catalogues(self, sky_field: Field) -> list[Offer]:
        """Return the catalogues that the field's options name, in their order."""
        from astrid_assets.clock import now_mjd

        today = now_mjd()
        return [_offer(name, today) for name in sky_field.catalogues.names]

    def catalogue(self, offer: Offer, sky_field: Field, cone: Cone) -> bytes:  # noqa: ARG002 -- protocol
        """Return what a catalogue knows about a circle.

        Bodies of the solar system are seen from the observatory of the cone's survey; from the centre of
        the Earth where the survey has several sites or none with a code.

        Raises
        ------
        AuthenticationNeededError
            TNS is asked without a bot and its key.

        ArchiveUnavailableError, NoCoverageError, BadAnswerError
            As of the transport.
        """
        if offer.format == "gaia":
            pages = list(gaia_pages(partial(self._ask, read=parse_gaia), cone))
            return pages[0] if len(pages) == 1 else pack(cone, pages)
        if offer.format == "tns":
            request, cut = tns_table_request(self._bot()), partial(cut_tns, cone=cone)
            return cut(self._ask(request, cut))
        if offer.format == "bts":
            return cut_bts(self._ask(bts_request(), parse_bts), cone)
        if offer.format == "skybot":
            build = partial(skybot_request, observatory=OBSERVATORIES.get(cone.survey or "", GEOCENTRE))
            count = partial(count_rows, service="SkyBoT")
            return self._whole(_Asking(build, count, largest=SKYBOT_RADIUS), cone)
        return self._whole(_ASKING[offer.format], cone)

    def _ask(self, request: Request, read: Callable[[bytes], Any]) -> bytes:
        return ask_readable(self._transport, request, read)

    def _whole(self, asking: _Asking, cone: Cone) -> bytes:
        return ask_whole(
            lambda part: self._ask(asking.request(part), asking.count),
            cone,
            is_cut=asking.is_cut,
            largest=asking.largest,
        )

    def _bot(self) -> TnsBot:
        return TnsBot.of(os.environ.get(_BOT_VARIABLE), self._transport.token("tns"))


def _offer(name: str, today: float) -> Offer:
    known = _CATALOGUES[name]
    grows = isinstance(known.release, int)
    revision = str(floor(today / known.release)) if grows else str(known.release)
    return Offer(known.offer, known.title, name, revision, moving=known.moving)
