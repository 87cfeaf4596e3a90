"""Stand-in for STScI's image service of Pan-STARRS1: file names and cutouts over the simulated sky.

Sky cells lie and are numbered as in the real tessellation (RINGS.V3) where its projection cells are on
the celestial equator; elsewhere only the numbers of the projection cells differ. Headers are written as
fitscut leaves them: CDELT1 positive with the sign in PC001001, HIERARCH cards, CRPIX shifted for the cutout.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.archives.ps1 import EXPOSURE_TIMES, PIXEL_SCALE, SIZE_MAX, SKYCELL_SHAPE
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.standin.messages import Asked, Reply

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    from astrid_assets.archives.standin.server import Handler

__all__ = ["Ps1Service", "handlers"]

_HEADER = "projcell subcell ra dec filter mjd type filename shortname badflag"
_ZONE_HEIGHT, _CELLS = 4.0, 10  # degrees of a zone of projection cells; sky cells along their side
_OVERLAP = 240  # pixels that a sky cell reaches over each side of its share of a projection cell
_ZONES = 45  # from pole to pole
_FIRST_CELL = 1322  # the real number of the first projection cell at declination 2; a thousand for each zone
_SOUTHERN_LIMIT = -30.0  # degrees
_STACKED = 12  # exposures in a stack
_FWHM = {"g": 1.31, "r": 1.19, "i": 1.11, "z": 1.07, "y": 1.02}
"""Arcsec; medians of the 3 pi survey (Chambers et al. 2016, arXiv:1612.05560)."""
_DEPTH = {"g": 22.0, "r": 21.8, "i": 21.5, "z": 20.9, "y": 19.7}
"""5 sigma limits of one exposure, AB mag (Chambers et al. 2016, arXiv:1612.05560)."""
_ZEROPOINT = {"g": 24.56, "r": 24.76, "i": 24.74, "z": 24.33, "y": 23.33}
"""AB mag of one count per second of an exposure, as of the inputs in headers of stacks."""
_COLOUR = {"g": 1.0, "r": 0.0, "i": -0.36, "z": -0.55, "y": -0.65}
"""Magnitude minus that in r, per magnitude of g - r: roughly the stellar locus."""
_STACK_MJD = 56100.0  # epoch of the positions of stars in stacks
_TRANSIENT_RATE = 2.0  # transients per square degree and day, far above nature
_GAIN, _SATURATION = 1.1, 60_000.0  # e per count; counts of one exposure
_NAME = re.compile(
    r"/rings\.v3\.skycell/\d+/\d+/rings\.v3\.skycell\.(\d+)\.(\d+)\."
    r"(?:stk\.([grizy])\.unconv|wrp\.([grizy])\.(\d+)_(\d+))(\.wt|\.mask)?\.fits"
)


def handlers(recorded: Path | None = None) -> dict[str, Handler]:  # noqa: ARG001 -- nothing is recorded
    """Return the handler of service ``ps1``."""
    return {"ps1": Ps1Service()}


# --- sky cells ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Skycell:
    """One sky cell of a projection cell."""

    zone: int
    column: int
    subcell: int

    @classmethod
    def at(cls, ra: float, dec: float) -> _Skycell:
        """Return the sky cell that a position belongs to."""
        zone = math.floor(dec / _ZONE_HEIGHT)
        count = _columns(zone)
        column = round(ra / 360.0 * count) % count
        x, y = cls(zone, column, 0).world().world_to_pixel_values(ra, dec)
        pitch = 3600.0 / PIXEL_SCALE * _ZONE_HEIGHT / _CELLS
        ix, iy = (min(max(int((float(v) - _OVERLAP) // pitch), 0), _CELLS - 1) for v in (x, y))
        return cls(zone, column, _CELLS * iy + ix)

    @classmethod
    def of(cls, projcell: int, subcell: int) -> _Skycell:
        """Return the sky cell of these numbers."""
        zone, column = divmod(projcell - _FIRST_CELL, 1000)
        return cls(zone if zone < _ZONES / 2 else zone - _ZONES, column, subcell)

    @property
    def projcell(self) -> int:
        """Number of the projection cell."""
        return _FIRST_CELL + 1000 * (self.zone % _ZONES) + self.column

    @property
    def centre(self) -> tuple[float, float]:
        """(ra, dec) of the middle, degrees."""
        ny, nx = SKYCELL_SHAPE
        ra, dec = self.world().pixel_to_world_values((nx - 1) / 2, (ny - 1) / 2)
        return float(ra) % 360.0, float(dec)

    def world(self) -> WCS:
        """Return the world coordinates of the whole sky cell: x runs to the west."""
        from astropy.wcs import WCS

        ny, nx = SKYCELL_SHAPE
        iy, ix = divmod(self.subcell, _CELLS)
        pitch = 3600.0 / PIXEL_SCALE * _ZONE_HEIGHT / _CELLS
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [360.0 * self.column / _columns(self.zone), _ZONE_HEIGHT * (self.zone + 0.5)]
        wcs.wcs.crpix = [nx / 2 - (ix - 4.5) * pitch, (ny + 1) / 2 - (iy - 4.5) * pitch]
        wcs.wcs.cdelt = [PIXEL_SCALE / 3600.0] * 2
        wcs.wcs.pc = [[-1.0, 0.0], [0.0, 1.0]]
        return wcs


def _columns(zone: int) -> int:
    """Return the number of projection cells of a zone."""
    nearest = min(abs(zone * _ZONE_HEIGHT), abs((zone + 1) * _ZONE_HEIGHT))
    return max(1, math.ceil(360.0 * math.cos(math.radians(nearest)) / _ZONE_HEIGHT))


# --- files --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """One file of a sky cell."""

    cell: _Skycell
    band: str
    epoch: tuple[int, int] | None
    """Day (MJD) and second of a warp; None for a stack."""
    plane: str = ""
    """``.wt``, ``.mask`` or nothing."""

    @classmethod
    def named(cls, path: str) -> _File | None:
        """Return the file of a path, or None if there is none."""
        match = _NAME.fullmatch(path)
        if match is None:
            return None
        projcell, subcell, stack, warp, day, second, plane = match.groups()
        epoch = None if stack else (int(day), int(second))
        return cls(_Skycell.of(int(projcell), int(subcell)), stack or warp, epoch, plane or "")

    @property
    def type(self) -> str:
        """Type as the list of files has it."""
        return ("warp" if self.epoch else "stack") + self.plane

    @property
    def path(self) -> str:
        """Path at the service."""
        numbers = f"{self.cell.projcell:04d}", f"{self.cell.subcell:03d}"
        kind = (
            f"wrp.{self.band}.{self.epoch[0]}_{self.epoch[1]:05d}"
            if self.epoch
            else f"stk.{self.band}.unconv"
        )
        folder = "/rings.v3.skycell/" + "/".join(numbers)
        return f"{folder}/rings.v3.skycell.{'.'.join(numbers)}.{kind}{self.plane}.fits"

    @property
    def mjd(self) -> float:
        """Time as the list has it: 0 for a stack."""
        return self.epoch[0] + self.epoch[1] / 86400.0 if self.epoch else 0.0

    @property
    def row(self) -> str:
        """Row of the list of files."""
        ra, dec = self.cell.centre
        numbers = f"{self.cell.projcell} {self.cell.subcell} {ra:.10f} {dec:.10f} {self.band} {self.mjd:.8f}"
        return f"{numbers} {self.type} {self.path} {self.path.rsplit('/', 1)[1]} 0"


def _epochs(cell: _Skycell, band: str) -> list[tuple[int, int]]:
    """Return the exposures of a sky cell in a band, two a night."""
    rng = generator("ps1", "epochs", cell.projcell, cell.subcell, band)
    days = np.sort(rng.choice(np.arange(55250, 56950), _STACKED // 2, replace=False))
    seconds = rng.integers(22_000, 52_000, days.size)
    return [(int(d), int(s) + wait) for d, s in zip(days, seconds, strict=True) for wait in (0, 1150)]


def _files(cell: _Skycell, band: str, kind: str) -> list[_File]:
    """Return the files of a type in a sky cell; none of an unknown type."""
    product, dot, plane = kind.partition(".")
    if band not in _FWHM or product not in ("stack", "warp") or plane not in ("", "wt", "mask"):
        return []
    epochs = [None] if product == "stack" else _epochs(cell, band)
    return [_File(cell, band, epoch, dot + plane) for epoch in epochs]


# --- pixels -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Depth:
    """How deep an image is."""

    exptime: float
    """Seconds."""

    zeropoint: float
    """AB magnitude of one count per second."""

    sigma: float
    """Noise of a pixel of blank sky, counts."""

    @classmethod
    def of(cls, file: _File) -> _Depth:
        """Return the depth of a stack or of one exposure."""
        count = 1 if file.epoch else _STACKED
        exptime = count * EXPOSURE_TIMES[file.band]
        zeropoint = _ZEROPOINT[file.band] if file.epoch else 25.0
        limit = _DEPTH[file.band] + 1.25 * math.log10(count)
        faintest = 10 ** (0.4 * (zeropoint + 2.5 * math.log10(exptime) - limit))
        width = _FWHM[file.band] / PIXEL_SCALE / 2.355
        return cls(exptime, zeropoint, faintest / 5.0 / math.sqrt(4.0 * math.pi * width**2))


def _cutout(file: _File, ra: float, dec: float, size: int) -> tuple[np.ndarray, Header]:
    """Return pixels and header of a cutout; what lies outside the sky cell is NaN."""
    wcs = file.cell.world()
    x, y = (float(v) for v in wcs.world_to_pixel_values(ra, dec))
    x0, y0 = (math.floor(v + 0.5) - size // 2 for v in (x, y))
    planes = _planes(file, ra, dec, (x0, y0), size)
    pixels = planes[file.plane]
    columns, rows = np.arange(x0, x0 + size), np.arange(y0, y0 + size)
    ny, nx = SKYCELL_SHAPE
    outside = ((rows < 0) | (rows >= ny))[:, None] | ((columns < 0) | (columns >= nx))[None, :]
    return np.where(outside, np.nan, pixels).astype(">f4"), _header(file, wcs, x0, y0)


def _planes(file: _File, ra: float, dec: float, corner: tuple[int, int], size: int) -> dict[str, np.ndarray]:
    """Return image, variance and mask of a square of a sky cell."""
    depth = _Depth.of(file)
    light = _light(file, depth, ra, dec, corner, size)
    variance = depth.sigma**2 + light / _GAIN
    rng = generator("ps1", replace(file, plane="").path, *corner, size)
    image = light + np.sqrt(variance) * rng.standard_normal(light.shape)
    full = _SATURATION * depth.exptime / EXPOSURE_TIMES[file.band]
    mask = np.where(light > full, 32, 0)
    image = np.minimum(image, full)
    if file.epoch:  # gaps between the cells of the camera
        gap = (np.arange(corner[0], corner[0] + size) + file.epoch[1]) % 600 < 8
        image[:, gap], variance[:, gap], mask[:, gap] = np.nan, np.nan, 8
    # fitscut writes NaN where a mask is 0
    return {"": image, ".wt": variance, ".mask": np.where(mask == 0, np.nan, mask)}


def _light(
    file: _File, depth: _Depth, ra: float, dec: float, corner: tuple[int, int], size: int
) -> np.ndarray:
    """Return the light of stars and galaxies in counts, seeing included."""
    from scipy import ndimage

    x, y, mag = _points(file, ra, dec, size)
    flux = 10 ** (0.4 * (depth.zeropoint + 2.5 * math.log10(depth.exptime) - mag))
    grid = np.zeros((size, size))
    x, y = x - corner[0], y - corner[1]
    left, low = np.floor(x).astype(int), np.floor(y).astype(int)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):  # to the four next pixels: centroids stay where they are
        share = np.abs(1 - dx - (x - left)) * np.abs(1 - dy - (y - low))
        inside = (left + dx >= 0) & (left + dx < size) & (low + dy >= 0) & (low + dy < size)
        np.add.at(grid, (low[inside] + dy, left[inside] + dx), (flux * share)[inside])
    return ndimage.gaussian_filter(grid, _FWHM[file.band] / PIXEL_SCALE / 2.355, mode="constant")


def _points(file: _File, ra: float, dec: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (x, y, magnitude) of all light near a cutout, in pixels of the sky cell.

    Warps show the sky as it was: variables vary, transients come and go. Stacks show what stays.
    """
    from astrid_assets.archives.simulated import changing
    from astrid_assets.archives.simulated.sky import patch, star_positions
    from astrid_assets.archives.simulated.survey import PIXEL_SCALE as SURVEY_PIXEL
    from astrid_assets.archives.simulated.tile import Tile

    side = math.ceil(size * PIXEL_SCALE / SURVEY_PIXEL)
    tile = Tile(1, round(ra % 360.0, 6), round(dec, 6), side, side, False, 0.0, _TRANSIENT_RATE)
    sky, slope = patch(tile), _COLOUR[file.band]
    stars, galaxies, owner = sky.stars, sky.galaxies, sky.owner
    star_ra, star_dec = star_positions(stars, file.mjd or _STACK_MJD)
    star_mag = stars.mag_r + slope * stars.colour
    with np.errstate(divide="ignore"):
        ring_mag = (galaxies.mag_r + slope * galaxies.colour)[owner] - 2.5 * np.log10(sky.share)
    ring_dec = galaxies.dec[owner] + sky.north / 3600.0
    ring_ra = galaxies.ra[owner] + sky.east / 3600.0 / np.cos(np.radians(galaxies.dec[owner]))
    light = [(star_ra, star_dec, star_mag), (ring_ra, ring_dec, ring_mag)]
    if file.epoch:
        near = file.band if file.band in "gr" else "i"  # the reddest band that the simulation knows
        star_mag += changing.variability(stars, file.mjd, near)
        new = changing.transients(tile, sky.cells, file.mjd, file.mjd)
        light.append((new.ra, new.dec, changing.transient_magnitudes(new, file.mjd, near)))
    all_ra, all_dec, mag = (np.concatenate(parts) for parts in zip(*light, strict=True))
    return *file.cell.world().world_to_pixel_values(all_ra, all_dec), mag


def _header(file: _File, wcs: WCS, x0: int, y0: int) -> Header:
    """Return the header of a cutout as fitscut leaves it."""
    from astropy.io.fits import Header

    depth, header = _Depth.of(file), Header()
    (crval1, crval2), (crpix1, crpix2) = wcs.wcs.crval, wcs.wcs.crpix
    cards: dict[str, Any] = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": crval1, "CRVAL2": crval2}
    cards |= {"CRPIX1": crpix1 - x0, "CRPIX2": crpix2 - y0}
    cards |= {"CDELT1": PIXEL_SCALE / 3600.0, "CDELT2": PIXEL_SCALE / 3600.0}
    cards |= {"PC001001": -1.0, "PC001002": 0.0, "PC002001": 0.0, "PC002002": 1.0}
    for name, value in (cards | _story(file)).items():
        header[name] = value
    header["PSCAMERA"], header["PSFORMAT"] = "GPC1", "SKYCELL"
    for name, value in (
        ("FPA.TELESCOPE", "PS1"),
        ("FPA.INSTRUMENT", "GPC1"),
        ("FPA.FILTERID", f"{file.band}.00000"),
        ("FPA.FILTER", f"{file.band}.00000"),
        ("FPA.ZP", depth.zeropoint),
        ("CELL.GAIN", _GAIN),
        ("CELL.SATURATION", _SATURATION * depth.exptime / EXPOSURE_TIMES[file.band]),
    ):
        header[f"HIERARCH {name}"] = value
    header["EXPTIME"] = depth.exptime
    header["MJD-OBS"] = file.mjd or float(np.mean([day for day, _ in _epochs(file.cell, file.band)]))
    header.add_history("Simulated sky; not an observation of Pan-STARRS1")
    header["RADESYS"] = ("FK5", "added by fitscut")
    header["TIMESYS"] = ("TAI", "added by fitscut")
    return header


def _story(file: _File) -> dict[str, Any]:
    """Return the cards that tell what an image was made of."""
    name = f"skycell.{file.cell.projcell:04d}.{file.cell.subcell:03d}"
    if file.epoch:
        return {"SKYCELL": name, "TESS_ID": "RINGS.V3"}
    inputs = {
        f"INP_{i:04d}": f"o{day - 50000}g{second // 60:04d}o.wrp.{name}.fits"
        for i, (day, second) in enumerate(_epochs(file.cell, file.band))
    }
    first: dict[str, Any] = {
        "NINPUTS": _STACKED,
        "STK_TYPE": "DEEP_STACK",
        "SKYCELL": name,
        "TESS_ID": "RINGS.V3",
    }
    return {**first, **inputs}


# --- the service --------------------------------------------------------------------------------


class Ps1Service:
    """Answers ``ps1filenames.py`` and ``fitscut.cgi``."""

    def answer(self, asked: Asked) -> Reply:
        """Return the reply to a request."""
        if asked.path == "/cgi-bin/ps1filenames.py":
            return Reply(self._table(asked), "text/plain")
        if asked.path == "/cgi-bin/fitscut.cgi":
            return self._cut(asked)
        return Reply(b"not found\n", "text/plain", 404)

    def _table(self, asked: Asked) -> bytes:
        ra, dec = float(asked.value("ra")), float(asked.value("dec"))
        files: list[_File] = []
        if dec >= _SOUTHERN_LIMIT and asked.fault != "empty_table":
            cell, kinds = _Skycell.at(ra % 360.0, dec), asked.value("type", "stack").split(",")
            bands = asked.value("filters", "grizy")
            files = [file for kind in kinds for band in bands for file in _files(cell, band, kind)]
        repeat = 3 if asked.fault == "duplicates" else 1
        return "\n".join([_HEADER, *(file.row for file in files for _ in range(repeat)), ""]).encode()

    def _cut(self, asked: Asked) -> Reply:
        from astrid_assets.archives.standin.faults import clip

        size = int(float(asked.value("size", "240")))
        names = [asked.value(colour) for colour in ("red", "green", "blue") if asked.value(colour)]
        files = [file for name in names if (file := _File.named(name)) is not None]
        if not files or len(files) < len(names) or not 1 <= size <= SIZE_MAX:
            return Reply(b"fitscut: cannot do that\n", "text/plain", 400)
        cutouts = [_cutout(f, float(asked.value("x")), float(asked.value("y")), size) for f in files]
        if asked.value("format", "jpg") != "fits":
            return Reply(_picture([pixels for pixels, _ in cutouts]), "image/jpeg")
        content = _fits(*cutouts[0])
        return Reply(clip(content) if asked.fault == "clipped" else content, "image/fits")


def _fits(pixels: np.ndarray, header: Header) -> bytes:
    from astropy.io import fits

    stream = io.BytesIO()
    fits.PrimaryHDU(pixels, header).writeto(stream)
    return stream.getvalue()


def _picture(planes: list[np.ndarray]) -> bytes:
    """Return a JPEG: grey, or of three colours."""
    from PIL import Image

    scaled = [np.clip(np.nan_to_num(plane) / max(np.nanmax(plane), 1e-9), 0.0, 1.0) for plane in planes]
    grey = [(255 * np.sqrt(plane[::-1])).astype(np.uint8) for plane in scaled]
    stream = io.BytesIO()
    Image.fromarray(np.dstack(grey) if len(grey) == 3 else grey[0]).save(stream, "JPEG")
    return stream.getvalue()
