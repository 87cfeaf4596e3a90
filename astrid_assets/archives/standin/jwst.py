"""Mosaics as NIRCam's pipeline writes them (``i2d``), of stars and galaxies drawn from a seed.

The layout is that of the JWST user documentation: a primary header, then SCI, ERR, CON and WHT. Noise and
background are those of the real pair in F200W of Abell 2744 (programmes 1324 and 2561): 0.0043 and
0.0023 MJy/sr.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["SHAPE", "Mosaic", "footprint", "mosaic_file", "sources"]

SHAPE = (768, 768)
"""Pixels of a mosaic, (ny, nx)."""

PIXEL_ARCSEC = 0.031
"""Side of a pixel of the short channel, arcsec."""

_STARS, _GALAXIES, _NEW = 140, 60, 3
_BRIGHT, _FAINT = 20.5, 26.5
"""AB magnitudes between which sources are drawn, fainter ones more often (slope 0.25 per magnitude)."""
_FWHM = {"F200W": 2.2, "F150W": 1.9, "F444W": 4.6}
"""Pixels; JWST user documentation, "NIRCam point spread functions", for `PIXEL_ARCSEC`."""
_NOISE, _BACKGROUND, _EXPTIME = 0.0043, 0.0023, 44_579.0
_PHOTON = 4.0e-5
"""MJy/sr of variance per MJy/sr of light: the photons of a source, at the gain of the real pair's header."""
_STAMP = 30
"""Half a side of the stamp of a source, pixels."""


@dataclass(frozen=True)
class Mosaic:
    """One mosaic: where, when, through what."""

    ra: float
    """Centre, degrees (ICRS)."""

    dec: float
    """Centre, degrees (ICRS)."""

    mjd: float
    """Middle, MJD (UTC)."""

    band: str
    """Filter."""

    angle: float
    """Direction of the rows from north, degrees."""

    seed: int
    """Seed of the sources."""

    @property
    def exptime(self) -> float:
        """Exposure time, s."""
        return _EXPTIME


@dataclass(frozen=True, eq=False)
class _Sources:
    """Sources by offset from the centre in pixels, flux, and size in pixels (0 for stars)."""

    east: np.ndarray
    north: np.ndarray
    flux: np.ndarray
    size: np.ndarray


def footprint(mosaic: Mosaic) -> list[tuple[float, float]]:
    """Return the corners (ra, dec) of a mosaic, degrees."""
    ny, nx = SHAPE
    corners = [(-0.5, -0.5), (nx - 0.5, -0.5), (nx - 0.5, ny - 0.5), (-0.5, ny - 0.5)]
    ra, dec = _world(mosaic).all_pix2world(np.array(corners), 0).T
    return [(float(a) % 360.0, float(d)) for a, d in zip(ra, dec, strict=True)]


def sources(mosaic: Mosaic) -> np.ndarray:
    """Return x, y (pixels) and flux (MJy/sr summed over pixels) of all sources, shape ``(n, 3)``.

    The last `_NEW` of a mosaic are in no other epoch.
    """
    drawn = _drawn(mosaic)
    return np.stack([*_pixels(drawn, mosaic.angle), drawn.flux], axis=1)


@lru_cache(maxsize=8)
def mosaic_file(mosaic: Mosaic) -> bytes:
    """Return a mosaic as FITS file; the same bytes each time."""
    from astropy.io import fits

    light = _light(mosaic)
    variance = _NOISE**2 + _PHOTON * light
    rng = np.random.default_rng([mosaic.seed, int(mosaic.mjd * 100), 1])
    data = light + _BACKGROUND + rng.normal(size=SHAPE) * np.sqrt(variance)
    header = _image_header(mosaic)
    ones = np.ones(SHAPE, np.float32)
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(header=_primary_header(mosaic)),
            fits.ImageHDU(data.astype(np.float32), header, name="SCI"),
            fits.ImageHDU(np.sqrt(variance).astype(np.float32), name="ERR"),
            fits.ImageHDU(np.ones((1, *SHAPE), np.int32), name="CON"),
            fits.ImageHDU(ones * np.float32(_EXPTIME), name="WHT"),
        ]
    )
    out = io.BytesIO()
    hdus.writeto(out)
    return out.getvalue()


# --- light --------------------------------------------------------------------------------------


def _drawn(mosaic: Mosaic) -> _Sources:
    """Return the sources of a place, and those of one epoch behind them."""
    fixed = _draw(np.random.default_rng([mosaic.seed, 0]), _STARS + _GALAXIES)
    fixed.size[:_STARS] = 0.0
    new = _draw(np.random.default_rng([mosaic.seed, int(mosaic.mjd)]), _NEW)
    new.size[:] = 0.0
    parts = zip(vars(fixed).values(), vars(new).values(), strict=True)
    return _Sources(*(np.concatenate(pair) for pair in parts))


def _draw(rng: np.random.Generator, count: int) -> _Sources:
    side = max(SHAPE) * 0.6
    slope = 0.25 * np.log(10.0)
    span = np.expm1(slope * (_FAINT - _BRIGHT))
    magnitude = _BRIGHT + np.log1p(rng.random(count) * span) / slope
    return _Sources(
        rng.uniform(-side, side, count),
        rng.uniform(-side, side, count),
        10.0 ** (0.4 * (_zeropoint() - magnitude)),
        rng.uniform(1.5, 5.0, count),
    )


def _zeropoint() -> float:
    """Return the AB magnitude of a source whose pixels sum to 1 MJy/sr."""
    area = np.radians(PIXEL_ARCSEC / 3600.0) ** 2
    return float(-2.5 * np.log10(area * 1e6 / 3631.0))


def _pixels(drawn: _Sources, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of offsets to the east and north, for rows turned by an angle."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    ny, nx = SHAPE
    x = -drawn.east * cosine + drawn.north * sine + (nx - 1) / 2.0
    y = drawn.east * sine + drawn.north * cosine + (ny - 1) / 2.0
    return x, y


def _light(mosaic: Mosaic) -> np.ndarray:
    """Return the light of all sources, MJy/sr, shape `SHAPE`: Gaussian cores with a faint halo."""
    drawn = _drawn(mosaic)
    ny, nx = SHAPE
    image = np.zeros((ny + 2 * _STAMP, nx + 2 * _STAMP))
    core = _FWHM[mosaic.band] / 2.3548
    offsets = np.arange(-_STAMP, _STAMP + 1)
    for x, y, flux, size in zip(*_pixels(drawn, mosaic.angle), drawn.flux, drawn.size, strict=True):
        column, row = round(x), round(y)
        if not (0 <= column < nx and 0 <= row < ny):
            continue
        radius2 = (offsets - (x - column)) ** 2 + ((offsets - (y - row)) ** 2)[:, None]
        stamp = sum(
            share * np.exp(-radius2 / (2.0 * width**2)) / (2.0 * np.pi * width**2)
            for share, width in ((0.9, np.hypot(core, size)), (0.1, np.hypot(3.0 * core, size)))
        )
        image[row : row + 2 * _STAMP + 1, column : column + 2 * _STAMP + 1] += flux * stamp
    return image[_STAMP:-_STAMP, _STAMP:-_STAMP]


# --- headers ------------------------------------------------------------------------------------


def _world(mosaic: Mosaic):  # noqa: ANN202 -- astropy is imported where it is used
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    ny, nx = SHAPE
    cosine, sine = np.cos(np.radians(mosaic.angle)), np.sin(np.radians(mosaic.angle))
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [mosaic.ra, mosaic.dec]
    wcs.wcs.crpix = [(nx + 1) / 2.0, (ny + 1) / 2.0]
    wcs.wcs.cdelt = [PIXEL_ARCSEC / 3600.0] * 2
    wcs.wcs.pc = [[-cosine, sine], [sine, cosine]]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    return wcs


def _primary_header(mosaic: Mosaic) -> fits.Header:
    from astropy.io import fits

    from astrid_assets.clock import from_mjd

    half = mosaic.exptime / 172_800.0
    return fits.Header(
        {
            "TELESCOP": "JWST",
            "TIMESYS": "UTC",
            "DATE-OBS": from_mjd(mosaic.mjd - half).strftime("%Y-%m-%d"),
            "TIME-OBS": from_mjd(mosaic.mjd - half).strftime("%H:%M:%S.%f")[:-3],
            "EXPSTART": mosaic.mjd - half,
            "EXPMID": mosaic.mjd,
            "EXPEND": mosaic.mjd + half,
            "EFFEXPTM": mosaic.exptime,
            "INSTRUME": "NIRCAM",
            "CHANNEL": "LONG" if mosaic.band == "F444W" else "SHORT",
            "MODULE": "MULTIPLE",
            "DETECTOR": "MULTIPLE",
            "FILTER": mosaic.band,
            "PUPIL": "CLEAR",
            "CAL_VER": "1.14.0",
            "DATAMODL": "ImageModel",
        }
    )


def _image_header(mosaic: Mosaic) -> fits.Header:
    header = _world(mosaic).to_header()
    half = mosaic.exptime / 172_800.0
    corners = " ".join(f"{value:.9f}" for corner in footprint(mosaic) for value in corner)
    header["BUNIT"] = "MJy/sr"
    header["PIXAR_SR"] = float(np.radians(PIXEL_ARCSEC / 3600.0) ** 2)
    header["PIXAR_A2"] = PIXEL_ARCSEC**2
    header["XPOSURE"] = mosaic.exptime
    header["MJD-BEG"], header["MJD-AVG"], header["MJD-END"] = mosaic.mjd - half, mosaic.mjd, mosaic.mjd + half
    header["S_REGION"] = f"POLYGON ICRS  {corners}"
    return header
