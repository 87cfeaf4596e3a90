"""What an archive is: something that can be searched for a field and downloaded from.

A search answers with `Exposure` rows, before a byte of an image is moved. An outage raises
`ArchiveUnavailableError`; an empty list means that the archive answered and has nothing.

Catalogues, alerts and cutouts of other surveys are optional: an archive that has them also keeps to
`CatalogueArchive`, `AlertArchive` or `CutoutArchive`. What it offers (`Offer`) it says without asking
anybody; only fetching one goes over the network, and hands back the bytes that the service sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from astrid_assets.fields import Field

__all__ = [
    "ARCHIVE_NAMES",
    "WITHOUT_NETWORK",
    "AlertArchive",
    "Archive",
    "CatalogueArchive",
    "Cone",
    "CutoutArchive",
    "Download",
    "Exposure",
    "Offer",
]

ARCHIVE_NAMES = ("simulated", "local", "mast", "ps1", "skyview", "irsa_ztf", "alerts", "catalogues")
"""Closed vocabulary of archives."""

WITHOUT_NETWORK = ("simulated", "local")
"""Archives that ask no service."""


@dataclass(frozen=True)
class Exposure:
    """One exposure or stack that an archive offers. Times are MJD (UTC), angles degrees (ICRS)."""

    exposure_id: str
    """Unique within the archive and usable as a file name."""

    archive: str
    """Name of the archive, from `ARCHIVE_NAMES`."""

    survey: str
    """Survey profile (``ztf``, ``decam``, ...)."""

    detector_type: str
    """Kind of detector: two images with the same pixels and filter set share it."""

    band: str
    """Canonical filter name."""

    calibration: str
    """Calibration version; part of the pairing key."""

    product: str
    """``exposure`` or ``stack``. A stack can only be a reference."""

    mjd_start: float
    """Start of the (first) exposure."""

    mjd_mid: float
    """Middle."""

    mjd_end: float
    """End of the (last) exposure; with `mjd_start` the whole span of a stack."""

    footprint: tuple[tuple[float, float], ...]
    """Corners (ra, dec) of the image, in order around it."""

    url: str
    """Locator for `Archive.download`, opaque to everybody else."""

    revision: str
    """Changes when the archive reprocesses the file (version, size and time, checksum)."""

    bytes: int = 0
    """Size of all files of the exposure together."""

    n_exposures: int | None = 1
    """Number of stacked exposures; None if unknown."""

    detector: str | None = None
    """Detector (CCD and quadrant, chip)."""

    exptime: float | None = None
    """Exposure time, s."""

    seeing: float | None = None
    """FWHM of a point source, arcsec."""

    limiting_magnitude: float | None = None
    """5 sigma limit, AB mag."""

    airmass: float | None = None
    """Airmass."""

    zeropoint: float | None = None
    """AB magnitude of one unit, where the archive says it before the download."""

    problem: str | None = None
    """Why the archive's own row says that the exposure cannot be used (no WCS, no time, ...)."""


@dataclass(frozen=True)
class Download:
    """Files of one exposure, complete and verified."""

    files: Mapping[str, Path]
    """Path by role: ``image`` always; where offered ``mask``, ``psf``, ``variance``, ``noise`` (1-sigma),
    ``weight`` (inverse variance), ``coverage``, ``difference`` (the archive's own, to compare with), and
    ``truth`` from the simulated survey."""

    sha256: Mapping[str, str] = field(default_factory=dict)
    """Checksum by role."""


@runtime_checkable
class Archive(Protocol):
    """An archive of images."""

    name: str
    """One of `ARCHIVE_NAMES`."""

    def search(self, sky_field: Field) -> Sequence[Exposure]:
        """Return all that the archive offers for the field's position, bands and windows.

        Raises
        ------
        ArchiveUnavailableError
            The archive did not answer.

        BadAnswerError
            It answered with something that is not an answer.
        """
        ...

    def download(self, exposure: Exposure, folder: Path) -> Download:
        """Fetch the files of an exposure into ``folder``, under the archive's own file names.

        Raises
        ------
        ArchiveUnavailableError, NoCoverageError, BadAnswerError
            As for the network; a truncated or unreadable file is a `BadAnswerError`.
        """
        ...


@dataclass(frozen=True)
class Offer:
    """What an archive offers about a field besides images: a catalogue, a night of alerts, a cutout."""

    name: str
    """Unique among the offers of its kind of all archives; usable as a file name."""

    title: str
    """Name of the catalogue or survey as its users write it."""

    format: str
    """Format of the answer: for a catalogue one of `astrid_assets.archives.catalogues.PARSERS`, else ``avro``
    or ``fits``."""

    revision: str
    """Changes when another answer is to be expected (release of a catalogue, day of a growing one)."""

    moving: bool = False
    """Whether a catalogue has to be asked for each exposure: the objects move."""

    mjd: float | None = None
    """Time that the offer belongs to (night of alerts), MJD (UTC)."""


@dataclass(frozen=True)
class Cone:
    """A circle on the sky, and a time for what moves."""

    ra: float
    """Right ascension of the centre, ICRS degrees."""

    dec: float
    """Declination of the centre, ICRS degrees."""

    radius: float
    """Degrees."""

    mjd: float | None = None
    """MJD (UTC); None where positions do not depend on it."""

    survey: str | None = None
    """Survey whose exposure is asked about, for what moves: a body is seen elsewhere from another place."""


@runtime_checkable
class CatalogueArchive(Protocol):
    """An archive that knows objects: stars, galaxies, variables, transients, bodies of the solar system."""

    def catalogues(self, sky_field: Field) -> Sequence[Offer]:
        """Return the catalogues that a field can be looked up in, without asking anybody."""
        ...

    def catalogue(self, offer: Offer, sky_field: Field, cone: Cone) -> bytes:
        """Return the answer of a catalogue about a circle, as it was sent.

        Raises
        ------
        ArchiveUnavailableError, NoCoverageError, BadAnswerError
            As for images.
        """
        ...


@runtime_checkable
class AlertArchive(Protocol):
    """An archive of public alerts."""

    def alert_nights(self, sky_field: Field) -> Sequence[Offer]:
        """Return the nights in the field's science window that may have alerts, without asking anybody."""
        ...

    def alerts(self, offer: Offer, sky_field: Field, cone: Cone) -> bytes:
        """Return the packets of a night in a circle: Avro, with several records or as a tar of packets.

        Raises
        ------
        ArchiveUnavailableError, NoCoverageError, BadAnswerError
            As for images; NoCoverageError where the night has no alert there.
        """
        ...


@runtime_checkable
class CutoutArchive(Protocol):
    """An archive that renders pieces of other surveys on a grid that one asks for."""

    def cutout_surveys(self, sky_field: Field) -> Sequence[Offer]:
        """Return the surveys that it renders, without asking anybody."""
        ...

    def cutout(self, offer: Offer, sky_field: Field, *, width: float, pixels: int) -> bytes:
        """Return a FITS image of a survey centred on the field, north up, gnomonic projection.

        Parameters
        ----------
        offer
            The survey.

        sky_field
            The field.

        width
            Side of the image, degrees.

        pixels
            The same in pixels.

        Raises
        ------
        ArchiveUnavailableError, NoCoverageError, BadAnswerError
            As for images; NoCoverageError where the survey has not been there.
        """
        ...
