"""TESScut: the full-frame images of TESS around a position, one cube for each sector.

A sector is 27 days of frames, 1,300 to 12,000 of them, with pixels of 21 arcsec. As exposures they would
be thousands of images of a few stars each, all alike; so a field gets them as what they are, a cube of
flux, error and time for each sector, to look up how bright a candidate was in between. They are never
differenced here.

Asked without astroquery, which names its zip files by the second, so that two at a time overwrite
each other (read in ``mast/cutouts.py``), and has no time-out; the parameters are the same.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.transport.formats import first_bytes
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    import numpy as np
    from astropy.io import fits

    from astrid_assets.archives.transport import Transport

__all__ = [
    "PIXELS_MAX",
    "Sector",
    "SectorCube",
    "cutout_request",
    "fetch_cubes",
    "parse_cutout",
    "parse_sectors",
    "sectors_request",
    "write_cube",
]

PIXEL_ARCSEC = 21.0
"""Side of a pixel, arcsec (TESS Instrument Handbook v0.1)."""

PIXELS_MAX = 99
"""Most pixels along a side: a cutout has fewer than 10,000 (spacetelescope/tike_content#6)."""

BTJD_MJD = 56999.5
"""MJD of BTJD 0, the zero of TESS's times: BJD - 2457000 (TESS Science Data Products Description)."""


@dataclass(frozen=True)
class Sector:
    """A sector that has seen a position."""

    name: str
    """Name, ``tess-s0001-1-3``."""

    sector: int
    """Number of the sector."""

    camera: int
    """Camera, 1 to 4."""

    ccd: int
    """CCD of the camera, 1 to 4."""


@dataclass(frozen=True, eq=False)
class SectorCube:
    """The frames of a sector around a position."""

    name: str
    """Name of the file that TESScut made."""

    header: fits.Header
    """Keywords of the sector, and the world coordinates of a frame, if good (``WCS(header, naxis=2)``)."""

    mjd: np.ndarray
    """Middle of each frame, MJD (TDB, at the barycentre), shape ``(n,)``; NaN where TESS has none."""

    quality: np.ndarray
    """Quality flags of each frame, 0 for a good one, shape ``(n,)``."""

    flux: np.ndarray
    """Electrons per second, background still in, shape ``(n, ny, nx)``."""

    error: np.ndarray
    """1 sigma of it, shape ``(n, ny, nx)``."""


def sectors_request(ra: float, dec: float) -> Request:
    """Return the request for the sectors that have seen a position, degrees (ICRS)."""
    form = (("ra", f"{ra:.8f}"), ("dec", f"{dec:.8f}"))
    return Request("tesscut", "/api/v0.1/sector", "search", "json", form=form)


def parse_sectors(content: bytes) -> list[Sector]:
    """Return the sectors of an answer, in order; none where TESS has not been there.

    Raises
    ------
    BadAnswerError
        It is no list of sectors.
    """
    try:
        rows = json.loads(content)["results"]
        found = [
            Sector(str(row["sectorName"]), *(int(row[name]) for name in ("sector", "camera", "ccd")))
            for row in rows
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise BadAnswerError(f"TESScut: not a list of sectors: {first_bytes(content)}") from error
    return sorted(found, key=lambda s: (s.sector, s.camera, s.ccd))


def cutout_request(ra: float, dec: float, *, sector: int, pixels: int) -> Request:
    """Return the request for the cutout of one sector; several at a time run out of the server's time.

    Parameters
    ----------
    ra, dec
        Centre, degrees (ICRS).

    sector
        Number of the sector.

    pixels
        Side, at most `PIXELS_MAX`.
    """
    if not 1 <= pixels <= PIXELS_MAX:
        msg = f"a cutout of TESS has 1 to {PIXELS_MAX} pixels along a side, not {pixels}"
        raise ValueError(msg)
    query = (
        ("ra", f"{ra:.8f}"),
        ("dec", f"{dec:.8f}"),
        ("y", str(pixels)),
        ("x", str(pixels)),
        ("units", "px"),
        ("sector", str(sector)),
    )
    return Request("tesscut", "/api/v0.1/astrocut", "cutout", "zip", query=query)


def parse_cutout(content: bytes) -> list[SectorCube]:
    """Return the cubes of an answer, a zip of target pixel files.

    Raises
    ------
    NoCoverageError
        The archive is empty: TESS has not been there.

    BadAnswerError
        It is no zip archive (TESScut writes messages in JSON then), or what is in it is broken.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {name: archive.read(name) for name in sorted(archive.namelist())}
        cubes = [_cube(name, data) for name, data in files.items()]
    except (zipfile.BadZipFile, OSError, LookupError, EOFError, ValueError) as error:
        raise BadAnswerError(f"TESScut: {error}: {first_bytes(content)}") from error
    if not cubes:
        raise NoCoverageError("TESScut: no sector has seen this position")
    return cubes


def _cube(name: str, data: bytes) -> SectorCube:
    import numpy as np
    from astropy.io import fits

    with fits.open(io.BytesIO(data)) as hdus:
        table = hdus["PIXELS"].data
        return SectorCube(
            name,
            _frame_header(hdus),
            np.asarray(table["TIME"], float) + BTJD_MJD,
            np.asarray(table["QUALITY"], np.int32),
            np.asarray(table["FLUX"], np.float32),
            np.asarray(table["FLUX_ERR"], np.float32),
        )


def _frame_header(hdus: fits.HDUList) -> fits.Header:
    """Return what holds for every frame: the keywords of the sector, and the WCS of the aperture image.

    Cutouts of 2018 have a WCS that puts the target far outside of the frame (recorded); it is left out.
    """
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    from astrid_assets.fields import separation

    primary, aperture = hdus[0].header, hdus["APERTURE"]
    wcs = WCS(aperture.header, fix=False)
    ny, nx = aperture.shape
    ra, dec = (float(v) for v in wcs.all_pix2world((nx - 1) / 2.0, (ny - 1) / 2.0, 0))
    off = separation(ra, dec, primary["RA_OBJ"], primary["DEC_OBJ"]) * 3600.0 / PIXEL_ARCSEC
    header = wcs.to_header(relax=True) if off <= max(ny, nx) else Header()
    for key in ("TELESCOP", "INSTRUME", "SECTOR", "CAMERA", "CCD", "RA_OBJ", "DEC_OBJ", "PROCVER"):
        if key in primary:
            header[key] = (primary[key], primary.comments[key])
    return header


def write_cube(cube: SectorCube, path: Path) -> None:
    """Write a cube as FITS: images FLUX and ERROR of shape ``(n, ny, nx)``, and table TIME.

    The file appears under its name when it is whole.
    """
    from astropy.io import fits

    unit: dict[str, Any] = {"BUNIT": "electron/s"}
    columns = [
        fits.Column("MJD", "D", unit="d", array=cube.mjd),
        fits.Column("QUALITY", "J", array=cube.quality),
    ]
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(cube.flux, fits.Header({**cube.header, **unit})),
            fits.ImageHDU(cube.error, fits.Header({**cube.header, **unit}), name="ERROR"),
            fits.BinTableHDU.from_columns(columns, name="TIME"),
        ]
    )
    hdus[0].header["EXTNAME"] = "FLUX"
    hdus["TIME"].header["TIMESYS"] = ("TDB", "at the barycentre of the solar system")
    part = path.with_name(f".{path.name}.part")
    hdus.writeto(part, overwrite=True)
    part.replace(path)


def fetch_cubes(transport: Transport, ra: float, dec: float, *, width: float, folder: Path) -> list[Path]:
    """Fetch the cubes of all sectors that have seen a position, one request a sector.

    Parameters
    ----------
    transport
        The door to the network.

    ra, dec
        Centre, degrees (ICRS).

    width
        Side, degrees; no more than `PIXELS_MAX` pixels are fetched.

    folder
        Where the files go.

    Returns
    -------
    list of Path
        In order of the sectors; empty where TESS has not been.

    Raises
    ------
    ArchiveUnavailableError, BadAnswerError
        As for the network.
    """
    pixels = max(1, min(PIXELS_MAX, round(width * 3600.0 / PIXEL_ARCSEC)))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for sector in parse_sectors(transport.ask(sectors_request(ra, dec)).content):
        answer = transport.ask(cutout_request(ra, dec, sector=sector.sector, pixels=pixels))
        for cube in parse_cutout(answer.content):
            paths.append(folder / cube.name)
            write_cube(cube, paths[-1])
    return paths
