"""What an archive is: something that can be searched for a field and downloaded from.

A search answers with `Exposure` rows, before a byte of an image is moved. An outage raises
`ArchiveUnavailableError`; an empty list means that the archive answered and has nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from astrid_assets.fields import Field

__all__ = ["ARCHIVE_NAMES", "Archive", "Download", "Exposure"]

ARCHIVE_NAMES = ("simulated", "local", "mast", "ps1", "skyview", "irsa_ztf")
"""Closed vocabulary of archives; a field may name one that is not built yet."""


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
    ``weight`` (inverse variance), ``coverage``, and ``truth`` from the simulated survey."""

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
