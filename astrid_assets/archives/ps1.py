"""Archive ``ps1``: cutouts of the stacks and warps of Pan-STARRS1, by STScI's image service.

Two steps, as STScI documents them: a list of the files of the sky cell at a position (``ps1filenames.py``),
then a piece of each file (``fitscut.cgi``). What the service does not say in its answers:

* FITS cutouts have linear fluxes, while the files of whole stacks are compressed by asinh; the reader
  undoes that where a header has ``BSOFTEN`` and ``BOFFSET``, and nowhere else. Whole files are not fetched.
* A weight image (``wt``) holds variances. In a cutout of a mask, fitscut writes NaN for 0 (nothing flagged).
* The zero point is 25 + 2.5 log10(EXPTIME) for a stack (profile ``ps1``), known after the download.

astroquery has no client of this service; `astroquery.mast` knows the catalogues of Pan-STARRS1 alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from astrid_assets.archives.protocol import Download, Exposure
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from astrid_assets.archives.transport import Transport
    from astrid_assets.fields import Field, Ps1Options
    from astrid_assets.surveys import Profile

__all__ = [
    "PIXEL_SCALE",
    "SIZE_MAX",
    "SKYCELL_SHAPE",
    "ImageFile",
    "Ps1Archive",
    "cutout_request",
    "display_request",
    "filenames_request",
    "parse_filenames",
]

PIXEL_SCALE = 0.25
"""Arcsec; all sky cells share it (Waters et al. 2020, ApJS 251, 4)."""

SIZE_MAX = 6000
"""Pixels along a side of the largest cutout that fitscut makes (thespacedoctor/panstamps#6)."""

SKYCELL_SHAPE = (6243, 6240)
"""Pixels of a sky cell of the tessellation RINGS.V3, (ny, nx): CELL.TRIMSEC in the headers of cutouts."""

EXPOSURE_TIMES = {"g": 43.0, "r": 40.0, "i": 45.0, "z": 30.0, "y": 30.0}
"""Seconds of one exposure of the 3 pi survey (Chambers et al. 2016, arXiv:1612.05560)."""

SOUTHERN_LIMIT = -30.0
"""Declination in degrees where the survey ends (Chambers et al. 2016)."""

_COLUMNS = ("projcell", "subcell", "ra", "dec", "filter", "mjd", "type", "filename", "shortname")
_CENTRE_TOLERANCE = 1.5  # pixels between the asked centre and the middle: fitscut cuts at whole pixels
_SCALE_TOLERANCE = 0.01  # share by which the pixel scale may differ
_CLIPPED_COVERAGE = 0.9  # share of the expected footprint that an image smaller than asked must cover
_HEADER_BYTES = 17_280  # a header of about 210 cards
_SCHEME = "ps1:"


# --- requests and answers -----------------------------------------------------------------------


@dataclass(frozen=True)
class ImageFile:
    """One row of the list of files: an image of a whole sky cell."""

    skycell: str
    """Projection cell and cell, as ``1329.005``."""

    ra: float
    """Right ascension of the middle of the sky cell, ICRS degrees."""

    dec: float
    """Declination of the middle, ICRS degrees."""

    filter: str
    """Filter as the service writes it."""

    mjd: float
    """Time of a warp (MJD-OBS of its header: start of the exposure); 0 for a stack."""

    type: str
    """``stack``, ``warp``, or these with ``.wt`` (variance) and ``.mask``."""

    filename: str
    """Path at the service."""

    shortname: str
    """Its last part: name of the file."""

    badflag: int = 0
    """Not 0 where the service warns of the data."""


def filenames_request(ra: float, dec: float, *, bands: str, types: Sequence[str]) -> Request:
    """Return the request for the files of the sky cell at a position.

    Parameters
    ----------
    ra, dec
        Position, ICRS degrees.

    bands
        Filters, as ``grizy``.

    types
        ``stack``, ``stack.wt``, ``stack.mask``, ``warp``, ``warp.wt``, ``warp.mask``.
    """
    query = (("ra", f"{ra:.8f}"), ("dec", f"{dec:.8f}"), ("filters", bands), ("type", ",".join(types)))
    return Request("ps1", "/cgi-bin/ps1filenames.py", "search", "table", query=query)


def parse_filenames(content: bytes) -> list[ImageFile]:
    """Return the files of an answer to `filenames_request`; none outside the survey's footprint.

    Raises
    ------
    BadAnswerError
        It is no such table, or a row is not whole.
    """
    lines = [line.split() for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines or not set(_COLUMNS) <= set(lines[0]):
        raise BadAnswerError(f"ps1: not a table of file names: {_shown(content)}")
    try:
        return [_image_file(dict(zip(lines[0], row, strict=True))) for row in lines[1:]]
    except ValueError as error:
        raise BadAnswerError(f"ps1: a broken row ({error}) in: {_shown(content)}") from error


def _image_file(row: Mapping[str, str]) -> ImageFile:
    return ImageFile(
        skycell=f"{int(row['projcell']):04d}.{int(row['subcell']):03d}",
        ra=float(row["ra"]) % 360.0,  # cells at ra 0 are listed with negative values
        dec=float(row["dec"]),
        filter=row["filter"],
        mjd=float(row["mjd"]),
        type=row["type"],
        filename=row["filename"],
        shortname=row["shortname"],
        badflag=int(row.get("badflag", "0")),
    )


def _shown(content: bytes) -> str:
    return " ".join(content[:200].decode("utf-8", "replace").split()) or "(empty)"


def cutout_request(filename: str, ra: float, dec: float, *, size: int) -> Request:
    """Return the request for a FITS cutout, with linear fluxes.

    Parameters
    ----------
    filename
        Path at the service (`ImageFile.filename`), of an image, a variance or a mask.

    ra, dec
        Centre, ICRS degrees.

    size
        Pixels along a side, at most `SIZE_MAX`.
    """
    _check_size(size)
    query = (("red", filename), ("format", "fits"), *_where(ra, dec, size))
    return Request("ps1", "/cgi-bin/fitscut.cgi", "file", "fits", query=query)


def display_request(
    filenames: Sequence[str], ra: float, dec: float, *, size: int, output_size: int | None = None
) -> Request:
    """Return the request for a JPEG, to look at and never to measure on: it is stretched and clipped.

    Parameters
    ----------
    filenames
        One image for a grey picture, or three for a coloured one: red, green, blue.

    ra, dec
        Centre, ICRS degrees.

    size
        Pixels of the survey along a side.

    output_size
        Pixels of the picture along a side; None for those of the survey.
    """
    _check_size(size)
    colours = tuple(zip(("red", "green", "blue"), filenames, strict=False))
    scaled = () if output_size is None else (("output_size", str(output_size)),)
    query = (*colours, ("format", "jpg"), *_where(ra, dec, size), *scaled, ("autoscale", "99.5"))
    return Request("ps1", "/cgi-bin/fitscut.cgi", "cutout", "image", query=query)


def _check_size(size: int) -> None:
    if not 1 <= size <= SIZE_MAX:
        msg = f"a Pan-STARRS1 cutout has 1 to {SIZE_MAX} pixels along a side, not {size}"
        raise ValueError(msg)


def _where(ra: float, dec: float, size: int) -> tuple[tuple[str, str], ...]:
    return ("x", f"{ra:.8f}"), ("y", f"{dec:.8f}"), ("size", str(size)), ("wcs", "1")


# --- the archive --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cutout:
    """A square of the sky that is cut out of files."""

    ra: float
    dec: float
    size: int

    @property
    def half(self) -> float:
        """Half its side, degrees."""
        return self.size * PIXEL_SCALE / 7200.0

    def corners(self) -> list[tuple[float, float]]:
        half = self.half
        square = ((-half, -half), (half, -half), (half, half), (-half, half))
        return [_sky(x, y, (self.ra, self.dec)) for x, y in square]

    def inside(self, cell: ImageFile) -> tuple[tuple[float, float], ...]:
        """Return the corners of what it has in common with a sky cell; none if nothing.

        Sky cells are taken as aligned with north, which is right to a few arcmin at declination 80.
        """
        x, y = _plane(self.ra, self.dec, (cell.ra, cell.dec))
        half_y, half_x = (pixels * PIXEL_SCALE / 7200.0 for pixels in SKYCELL_SHAPE)
        west, east = max(x - self.half, -half_x), min(x + self.half, half_x)
        south, north = max(y - self.half, -half_y), min(y + self.half, half_y)
        if west >= east or south >= north:
            return ()
        box = ((west, south), (east, south), (east, north), (west, north))
        return tuple(_sky(*corner, (cell.ra, cell.dec)) for corner in box)

    def leaves(self, cell: ImageFile) -> bool:
        """Tell whether part of it lies outside a sky cell."""
        x, y = _plane(self.ra, self.dec, (cell.ra, cell.dec))
        half_y, half_x = (pixels * PIXEL_SCALE / 7200.0 for pixels in SKYCELL_SHAPE)
        return abs(x) + self.half > half_x or abs(y) + self.half > half_y


class Ps1Archive:
    """Cutouts of Pan-STARRS1: stacks as references, or warps as single epochs.

    Parameters
    ----------
    transport
        The door to the network.
    """

    name = "ps1"

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(self, sky_field: Field) -> list[Exposure]:
        """Return one row for each stack or warp at the field.

        The footprint of a row is what its sky cell has of the cutout. A cutout that reaches over the edge
        of the sky cell at its centre is looked up at its corners, too, for the neighbours.

        Parameters
        ----------
        sky_field
            Field with options `astrid_assets.fields.Ps1Options`.

        Raises
        ------
        ArchiveUnavailableError, BadAnswerError
            As `astrid_assets.archives.protocol` has it.
        """
        from astrid_assets.surveys import load_profile

        profile, options = load_profile("ps1"), _options(sky_field)
        wanted = [b for b in profile.bands if not sky_field.bands or b in sky_field.bands]
        cutout = _Cutout(sky_field.ra, sky_field.dec, _pixels(sky_field, options))
        if not wanted or cutout.dec + cutout.half < SOUTHERN_LIMIT:
            return []
        files = self._files(cutout, "".join(wanted), options.product)
        companions = {f.shortname: f for f in files if f.type != options.product}
        rows = [_row(f, cutout, companions, profile) for f in files if f.type == options.product]
        return sorted(rows, key=lambda row: (row.mjd_start, row.band, row.exposure_id))

    def download(self, exposure: Exposure, folder: Path) -> Download:
        """Fetch the cutouts of an exposure and check where they lie.

        Roles: ``image`` and, where the list of files has them, ``variance`` and ``mask``.

        Raises
        ------
        NoCoverageError
            The image has no value in the cutout: the exposure or its chip ends beside it.

        ArchiveUnavailableError, BadAnswerError
            As `astrid_assets.archives.protocol` has it; also where a cutout shows another place, scale or
            size than was asked for. No such file stays behind.
        """
        cutout, names = _located(exposure.url)
        folder.mkdir(parents=True, exist_ok=True)
        files, sums = {}, {}
        for role, name in names.items():
            path = folder / PurePosixPath(name).name
            request = cutout_request(name, cutout.ra, cutout.dec, size=cutout.size)
            fetched = self._transport.download(request, path)
            _accept(path, role, cutout, exposure.footprint)
            files[role], sums[role] = path, fetched.sha256
        return Download(files, sums)

    def _files(self, cutout: _Cutout, bands: str, product: str) -> list[ImageFile]:
        """Return the files of all sky cells that a cutout touches, each once."""
        files = self._at(cutout.ra, cutout.dec, bands, product)
        if files and cutout.leaves(files[0]):
            files += [f for corner in cutout.corners() for f in self._at(*corner, bands, product)]
        return list({f.filename: f for f in files}.values())

    def _at(self, ra: float, dec: float, bands: str, product: str) -> list[ImageFile]:
        types = (product, f"{product}.wt", f"{product}.mask")
        answer = self._transport.ask(filenames_request(ra, dec, bands=bands, types=types))
        return parse_filenames(answer.content)


def _options(sky_field: Field) -> Ps1Options:
    from astrid_assets.fields import Ps1Options

    return sky_field.ps1 or Ps1Options()


def _pixels(sky_field: Field, options: Ps1Options) -> int:
    """Return the side of a cutout: as the field says, or its diameter, as far as the service goes."""
    side = options.size_arcsec or 2 * sky_field.radius * 3600.0
    return min(SIZE_MAX, math.ceil(side / PIXEL_SCALE))


# --- rows ---------------------------------------------------------------------------------------


def _row(file: ImageFile, cutout: _Cutout, companions: Mapping[str, ImageFile], profile: Profile) -> Exposure:
    """Return the row of an image. All public images are of one processing (PV3): no calibration to tell."""
    band = profile.band(file.filter)
    beside: dict[str, str] = {}
    for role, name in profile.companion_names(file.shortname):
        if name in companions:
            beside.setdefault(role, companions[name].filename)
    stack = file.type == "stack"
    exptime = None if stack else EXPOSURE_TIMES.get(band or "")
    start, end = _observed() if stack else _epoch(file.mjd, exptime)
    url = _locator(cutout, {"image": file.filename, **beside})
    return Exposure(
        exposure_id=file.shortname.removesuffix(".fits"),
        archive=Ps1Archive.name,
        survey=profile.name,
        detector_type=profile.detector_type,
        band=band or "",
        calibration="",
        product="stack" if stack else "exposure",
        mjd_start=start,
        mjd_mid=(start + end) / 2,
        mjd_end=end,
        footprint=cutout.inside(file),
        url=url,
        revision=hashlib.sha256(url.encode()).hexdigest()[:16],
        bytes=(1 + len(beside)) * (4 * cutout.size**2 + _HEADER_BYTES),
        n_exposures=None if stack else 1,
        detector=f"skycell.{file.skycell}",
        exptime=exptime,
        problem=_problem(file, band),
    )


def _problem(file: ImageFile, band: str | None) -> str | None:
    if band is None:
        return f"filter {file.filter!r} is none of Pan-STARRS1's"
    if file.badflag:
        return f"the archive warns of its data (badflag {file.badflag})"
    return None


def _observed() -> tuple[float, float]:
    """Return first and last MJD of the survey: a list of files does not tell the epochs of a stack.

    Every exposure of the survey may be in a stack, so nothing shorter is safe.
    """
    from astrid_assets.archives.availability import missions

    observed = missions()["PS1"].observed
    start, end = observed.start_mjd, observed.end_mjd
    return math.nan if start is None else start, math.nan if end is None else end


def _epoch(mjd: float, exptime: float | None) -> tuple[float, float]:
    """Return start and end of a warp as MJD (UTC); headers and the list have them in TAI."""
    if mjd <= 0:
        return math.nan, math.nan
    from astropy.time import Time

    start = float(Time(mjd, format="mjd", scale="tai").utc.mjd)
    return start, start + (exptime or 0.0) / 86400.0


def _locator(cutout: _Cutout, names: Mapping[str, str]) -> str:
    where = {"ra": f"{cutout.ra:.8f}", "dec": f"{cutout.dec:.8f}", "size": str(cutout.size)}
    return _SCHEME + urlencode({**names, **where})


def _located(url: str) -> tuple[_Cutout, dict[str, str]]:
    """Return what `_locator` was made of."""
    parts = dict(parse_qsl(url.removeprefix(_SCHEME)))
    try:
        cutout = _Cutout(float(parts.pop("ra")), float(parts.pop("dec")), int(parts.pop("size")))
    except (KeyError, ValueError) as error:
        raise BadAnswerError(f"{url} is no locator of archive ps1; search again") from error
    return cutout, parts


# --- is a cutout what was asked for -------------------------------------------------------------


def _accept(path: Path, role: str, cutout: _Cutout, expected: Sequence[tuple[float, float]]) -> None:
    """Refuse a cutout that shows something else, or nothing; a refused file is removed."""
    fault = _misplaced(path, cutout, expected)
    if fault is not None:
        path.unlink()
        raise BadAnswerError(f"ps1: {path.name} {fault}")
    if role == "image" and _is_blank(path):
        path.unlink()
        msg = f"ps1: {path.name} has no value about ra {cutout.ra:.6f} dec {cutout.dec:.6f}"
        raise NoCoverageError(msg)


def _misplaced(path: Path, cutout: _Cutout, expected: Sequence[tuple[float, float]]) -> str | None:
    """Say what is wrong with the place, scale or size of a cutout, by its WCS; None if nothing is.

    An image of the full size has the asked centre in its middle. A smaller one ends with its sky cell: it
    has to cover what the sky cell was expected to have.
    """
    import numpy as np
    from astropy.io import fits

    from astrid_assets.archives.footprints import coverage, enclosing_radius
    from astrid_assets.images.celestial import celestial_wcs

    header = fits.getheader(path)
    nx, ny = (header.get(f"NAXIS{axis}", 0) for axis in (1, 2))
    wcs, reason = celestial_wcs(header, (ny, nx))
    if wcs is None:
        return f"has {reason}"
    # the determinant, since CDELT1 is positive here and the sign is in PC001001
    scale = math.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600.0
    if abs(scale / PIXEL_SCALE - 1) > _SCALE_TOLERANCE:
        return f"has pixels of {scale:.4g} arcsec, not {PIXEL_SCALE}"
    if max(nx, ny) > cutout.size:
        return f"has {nx} x {ny} pixels, more than the {cutout.size} that were asked for"
    if min(nx, ny) == cutout.size:
        ra, dec = (float(v) for v in wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))
        # on the sky: in the plane of the image the other half of the sky has no place
        off = enclosing_radius(cutout.ra, cutout.dec, [[(ra, dec)]]) * 3600.0 / PIXEL_SCALE
        return f"is centred {off:.1f} pixels beside the asked position" if off > _CENTRE_TOLERANCE else None
    share = coverage(expected, _outline(wcs, nx, ny)) if expected else 0.0
    if share >= _CLIPPED_COVERAGE:
        return None
    return f"is cut off: {nx} x {ny} of {cutout.size} pixels, {share:.2f} of what its sky cell has"


def _outline(wcs: WCS, nx: int, ny: int) -> list[tuple[float, float]]:
    """Return the outer corners of an image on the sky."""
    ra, dec = wcs.all_pix2world([-0.5, nx - 0.5, nx - 0.5, -0.5], [-0.5, -0.5, ny - 0.5, ny - 0.5], 0)
    return [(float(a) % 360.0, float(d)) for a, d in zip(ra, dec, strict=True)]


def _is_blank(path: Path) -> bool:
    """Tell whether an image has no value at all."""
    import numpy as np
    from astropy.io import fits

    return not np.isfinite(fits.getdata(path)).any()


# --- the plane of the sky -----------------------------------------------------------------------


def _plane(ra: float, dec: float, tangent: tuple[float, float]) -> tuple[float, float]:
    """Return gnomonic coordinates (east, north) about a point, degrees."""
    a, d, d0 = math.radians(ra - tangent[0]), math.radians(dec), math.radians(tangent[1])
    cosine = math.sin(d0) * math.sin(d) + math.cos(d0) * math.cos(d) * math.cos(a)
    east = math.cos(d) * math.sin(a) / cosine
    north = (math.cos(d0) * math.sin(d) - math.sin(d0) * math.cos(d) * math.cos(a)) / cosine
    return math.degrees(east), math.degrees(north)


def _sky(east: float, north: float, tangent: tuple[float, float]) -> tuple[float, float]:
    """Return (ra, dec) of gnomonic coordinates about a point; all in degrees."""
    x, y, d0 = math.radians(east), math.radians(north), math.radians(tangent[1])
    a = math.atan2(x, math.cos(d0) - y * math.sin(d0))
    dec = math.atan2(math.sin(d0) + y * math.cos(d0), math.hypot(x, math.cos(d0) - y * math.sin(d0)))
    return (tangent[0] + math.degrees(a)) % 360.0, math.degrees(dec)
