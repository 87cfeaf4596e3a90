"""The state of air, sky and telescope during one visit."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

import numpy as np

from astrid_assets.archives.simulated import ephemeris
from astrid_assets.archives.simulated.cadence import Visit
from astrid_assets.archives.simulated.optics import PsfField
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.survey import BANDS, PIXEL_SCALE
from astrid_assets.archives.simulated.tile import Tile

__all__ = ["Conditions", "conditions"]

_CLOUDY_NIGHTS = 0.15
"""Share of the observed nights that are not photometric."""

_OFFSET_RATE = 0.04
"""Share of the visits in which the telescope points visibly beside the field."""

_POINTING = 6.0
"""RMS of the pointing on each axis, pixels."""

_ATMOSPHERE = 0.92
"""FWHM of the Kolmogorov part of the PSF over the delivered FWHM (the rest is optics and pixel)."""


@dataclass(frozen=True)
class Conditions:
    """What changes from visit to visit."""

    airmass: float
    """Airmass at mid-exposure."""

    parallactic: float
    """Direction of the zenith, degrees from north through east."""

    zeropoint: float
    """True AB magnitude of 1 ADU at the centre of the field, through the clouds."""

    zeropoint_error: float
    """What the survey's calibration gets wrong: header minus truth, mag."""

    sky: float
    """ADU per pixel at the centre."""

    sky_slope: tuple[float, float]
    """Change of the sky from the centre to the right and upper edge, relative."""

    cloud: float
    """Extinction by clouds, mag."""

    cloud_slope: tuple[float, float, float]
    """Change of the transparency to the right edge, the upper edge and their product, relative."""

    psf: PsfField
    """PSF over the field."""

    offset: tuple[float, float]
    """Pointing minus plan, pixels (x, y)."""

    rotation: float
    """Rotation of the camera, degrees."""

    wcs_error: tuple[float, float, float]
    """Header WCS minus truth: shift in x and y in pixels, rotation in degrees."""

    misplaced: bool
    """Whether the pointing is visibly off (dirt)."""

    moon_illumination: float
    """Illuminated fraction, negative while the Moon wanes."""

    moon_separation: float
    """Angle from field to Moon, degrees."""

    moon_altitude: float
    """Altitude of the Moon, degrees."""


def conditions(tile: Tile, visit: Visit) -> Conditions:
    """Return the conditions of a visit; they depend on the seed and the visit alone."""
    band, mjd = BANDS[visit.band], visit.mjd_mid
    height = ephemeris.altitude(mjd, tile.ra, tile.dec)
    airmass = ephemeris.airmass(height)
    night = generator("night", tile.seed, visit.night)
    seeing_night, transparency, glow = night.normal(size=3).tolist()
    cloudiness, cloud_mean = night.random(), night.exponential(0.25)
    rng = generator("visit", *tile.key, visit.band, visit.night)
    cloud = 0.0
    if tile.dirt and cloudiness < _CLOUDY_NIGHTS:
        cloud = min(0.1 + cloud_mean * rng.uniform(0.6, 1.4), 1.8)
    clear = band.zeropoint - band.extinction * (airmass - 1.0) + 0.02 * transparency
    seeing = band.seeing * airmass**0.6 * 10 ** (0.05 * seeing_night + rng.normal(0.0, 0.02))
    offset, misplaced = _pointing(tile, rng)
    return Conditions(
        airmass=airmass,
        parallactic=ephemeris.parallactic_angle(mjd, tile.ra, tile.dec),
        zeropoint=clear - cloud,
        zeropoint_error=rng.normal(0.0, 0.008),
        sky=_sky(tile, visit, airmass, clear, 0.08 * glow) * (1.0 + 0.2 * cloud),
        sky_slope=tuple(rng.normal(0.0, 0.012, 2).tolist()),
        cloud=cloud,
        cloud_slope=tuple((rng.normal(0.0, 0.06, 3) * min(cloud / 0.3, 1.5)).tolist()),
        psf=_psf(tile, seeing, rng),
        offset=offset,
        rotation=rng.normal(0.0, 0.01),
        wcs_error=(*rng.normal(0.0, 0.06, 2).tolist(), rng.normal(0.0, 0.0025)),
        misplaced=misplaced,
        moon_illumination=ephemeris.moon_illumination(mjd),
        moon_separation=ephemeris.separation(ephemeris.moon_position(mjd), (tile.ra, tile.dec)),
        moon_altitude=ephemeris.altitude(mjd, *ephemeris.moon_position(mjd)),
    )


def _sky(tile: Tile, visit: Visit, airmass: float, clear: float, glow: float) -> float:
    """Return the sky in ADU per pixel: airglow, longer through slanting air, and moonlight."""
    band = BANDS[visit.band]
    dark = band.sky - 2.5 * log10(airmass) * 0.6 + glow
    moon = ephemeris.moon_sky(visit.mjd_mid, tile.ra, tile.dec, extinction=band.extinction) - band.moon
    return sum(10 ** (-0.4 * (mag - clear)) for mag in (dark, moon)) * PIXEL_SCALE**2


def _pointing(tile: Tile, rng: np.random.Generator) -> tuple[tuple[float, float], bool]:
    """Return the pointing offset in pixels and whether it is out of the ordinary."""
    usual = rng.normal(0.0, _POINTING, 2)
    jump, far, sign = rng.random(), rng.uniform(0.08, 0.25, 2), rng.choice([-1.0, 1.0], 2)
    misplaced = tile.dirt and jump < _OFFSET_RATE
    if misplaced:
        usual = sign * far * (min(tile.nx, 1024), min(tile.ny, 1024))
    return tuple(usual.tolist()), misplaced


def _psf(tile: Tile, seeing: float, rng: np.random.Generator) -> PsfField:
    """Return the PSF over the field: the telescope's part is fixed, focus and tracking vary."""
    optics = generator("optics", tile.seed, tile.rcid)
    fixed = optics.normal(0.0, 0.02, 9)
    moving = rng.normal(0.0, 0.015, 9)
    size, first, second = (fixed + moving).reshape(3, 3)
    return PsfField(
        fwhm=max(seeing * _ATMOSPHERE / PIXEL_SCALE, 1.3),
        ellipticity=tuple((optics.normal(0.0, 0.03, 2) + rng.normal(0.0, 0.03, 2)).tolist()),
        size_terms=tuple(size.tolist()),
        ellipticity_terms=(tuple(first.tolist()), tuple(second.tolist())),
        spike_angle=12.0,
    )
