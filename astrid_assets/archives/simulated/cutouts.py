"""The simulated sky as other surveys would have seen it, on the grid and with the header of SkyView.

Each survey has its own resolution, depth, unit and year; magnitudes in its band follow from r and g - r.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.archives.protocol import Offer
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.sky import patch, star_positions
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.errors import NoCoverageError

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["cutout", "offers"]


@dataclass(frozen=True)
class _Survey:
    """A survey of the sky and how its images look."""

    title: str
    """Name as SkyView spells it."""

    fwhm: float
    """Resolution, arcsec."""

    scale: float
    """Its own pixels, arcsec."""

    depth: float
    """5 sigma limit of a point source, AB mag."""

    mjd: float
    """When it looked."""

    stars: tuple[float, float]
    """Magnitude of a star minus r: constant and slope with g - r."""

    galaxies: tuple[float, float]
    """The same for a galaxy."""

    unit: str
    """Unit of the pixels."""

    background: float
    """Level of the sky, in the unit."""

    sigma: float
    """Noise of one of its own pixels, in the unit."""

    photographic: bool = False
    """Whether the values are densities of a photographic plate."""


_SURVEYS = {
    survey.title.lower().replace(" ", "_").replace(".", "_").replace("-", "_"): survey
    for survey in (
        _Survey("DSS2 Red", 2.0, 1.0, 20.8, 48000.0, (0.0, 0.0), (0.0, 0.0), "", 6500.0, 220.0, True),
        _Survey("DSS2 Blue", 2.2, 1.7, 21.8, 47000.0, (0.25, 1.1), (0.2, 1.1), "", 5200.0, 240.0, True),
        _Survey("SDSSr", 1.3, 0.396, 22.7, 53000.0, (0.0, 0.0), (0.0, 0.0), "nanomaggies", 0.0, 0.022),
        _Survey("GALEX Near UV", 5.3, 1.5, 20.8, 54000.0, (1.4, 3.2), (1.0, 2.2), "counts/s", 0.0015, 0.0012),
        _Survey("2MASS-J", 2.9, 1.0, 16.7, 51000.0, (-0.4, -0.95), (-0.6, -0.8), "DN", 110.0, 0.75),
        _Survey("WISE 3.4", 6.1, 1.375, 19.2, 55300.0, (0.6, -1.3), (-0.3, -1.0), "DN", 8.0, 0.1),
    )
}
"""Surveys by name of the offer.

Resolutions and 5 sigma limits: Abazajian et al. 2009 (SDSS), Morrissey et al. 2007 (GALEX, all-sky),
Skrutskie et al. 2006 (2MASS), Wright et al. 2010 (WISE), SkyView's descriptions (DSS2). Slopes: roughly
those of the stellar locus (Covey et al. 2007).
"""

_OVERSAMPLED = 2
"""Grid on which light is collected, per pixel of the cutout."""

_SDSS_SOUTH, _SDSS_LATITUDE = -11.0, 25.0
"""Declination and galactic latitude in degrees that SDSS's imaging hardly goes beyond."""


def offers() -> list[Offer]:
    """Return the surveys."""
    return [Offer(name, survey.title, "fits", "1") for name, survey in _SURVEYS.items()]


def cutout(offer: Offer, tile: Tile, *, width: float, pixels: int) -> bytes:
    """Return a survey's image about the centre of a tile as a FITS file.

    Raises
    ------
    NoCoverageError
        The survey has not been there.
    """
    survey = _SURVEYS[offer.name]
    if survey.title == "SDSSr" and not _in_sdss(tile.ra, tile.dec):
        msg = f"{survey.title} has not observed ra {tile.ra} dec {tile.dec}"
        raise NoCoverageError(msg)
    scale = width * 3600.0 / pixels
    light = _light(survey, tile, scale, pixels)
    rng = generator("skyview", tile.seed, offer.name, *tile.key, pixels, round(width * 1e6))
    image = survey.background + light + _noise(survey, scale) * rng.standard_normal(light.shape)
    if survey.photographic:  # plates saturate: density grows with the logarithm of the light
        full = 12000.0
        excess = np.maximum(image - survey.background, 0.0)
        image = np.minimum(image, survey.background) + full * np.log1p(excess / full)
    return _fits(image.astype(">f4"), survey, tile, width)


def _in_sdss(ra: float, dec: float) -> bool:
    a, d = np.radians(ra - 192.85948), np.radians(dec)
    pole = np.radians(27.12825)
    sine = np.sin(d) * np.sin(pole) + np.cos(d) * np.cos(pole) * np.cos(a)
    return bool(dec > _SDSS_SOUTH and abs(np.degrees(np.arcsin(sine))) > _SDSS_LATITUDE)


def _noise(survey: _Survey, scale: float) -> float:
    """Return the noise of a pixel of the cutout: coarser pixels average, finer ones only repeat."""
    return survey.sigma * min(1.0, survey.scale / scale)


def _light(survey: _Survey, tile: Tile, scale: float, pixels: int) -> np.ndarray:
    """Return the light of stars and galaxies in the survey's unit, resolution included."""
    from scipy import ndimage

    x, y, mag = _points(survey, tile, scale, pixels)
    side = pixels * _OVERSAMPLED
    edges = np.arange(side + 1) / _OVERSAMPLED - 0.5
    flux = 10 ** (-0.4 * (mag - _zeropoint(survey)))
    grid, _, _ = np.histogram2d(y, x, bins=(edges, edges), weights=flux)
    sigma = survey.fwhm / scale / 2.355 * _OVERSAMPLED
    blurred = ndimage.gaussian_filter(grid, sigma, mode="constant", truncate=5.0)
    per_pixel = blurred.reshape(pixels, _OVERSAMPLED, pixels, _OVERSAMPLED).sum(axis=(1, 3))
    return per_pixel * (survey.scale / scale) ** 2  # values stay those of the survey's own pixels


def _zeropoint(survey: _Survey) -> float:
    """Return the AB magnitude of one unit, from depth and noise: noise-equivalent area of a Gaussian PSF."""
    area = 4 * np.pi * max(survey.fwhm / survey.scale / 2.355, 0.5) ** 2
    return survey.depth + 2.5 * np.log10(5.0 * survey.sigma * sqrt(area))


def _points(
    survey: _Survey, tile: Tile, scale: float, pixels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (x, y, magnitude) of all light near the cutout, galaxies as rings of points."""
    sky, middle = patch(tile), (pixels - 1) / 2
    stars, galaxies = sky.stars, sky.galaxies
    star_x, star_y = _plane(*star_positions(stars, survey.mjd), tile)
    galaxy_x, galaxy_y = _plane(galaxies.ra, galaxies.dec, tile)
    star_mag = stars.mag_r + survey.stars[0] + survey.stars[1] * stars.colour
    mag = galaxies.mag_r + survey.galaxies[0] + survey.galaxies[1] * galaxies.colour
    with np.errstate(divide="ignore"):
        ring_mag = mag[sky.owner] - 2.5 * np.log10(sky.share)
    east = np.concatenate([star_x, galaxy_x[sky.owner] + sky.east])
    north = np.concatenate([star_y, galaxy_y[sky.owner] + sky.north])
    return middle - east / scale, middle + north / scale, np.concatenate([star_mag, ring_mag])


def _plane(ra: np.ndarray, dec: np.ndarray, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """Return gnomonic coordinates (east, north) about the centre of a tile, arcsec."""
    a, d, d0 = np.radians(ra - tile.ra), np.radians(dec), np.radians(tile.dec)
    cosine = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)
    east = np.cos(d) * np.sin(a) / cosine
    north = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)) / cosine
    return np.degrees(east) * 3600.0, np.degrees(north) * 3600.0


def _fits(image: np.ndarray, survey: _Survey, tile: Tile, width: float) -> bytes:
    from astropy.io import fits

    stream = io.BytesIO()
    fits.PrimaryHDU(image, _header(survey, tile, width, image.shape[0])).writeto(stream)
    return stream.getvalue()


def _header(survey: _Survey, tile: Tile, width: float, pixels: int) -> Header:
    """Return the header as SkyView writes it: the grid, then the survey in comments."""
    from astropy.io.fits import Header

    cards: dict[str, Any] = {
        "CRVAL1": (tile.ra, "Reference longitude"),
        "CRVAL2": (tile.dec, "Reference latitude"),
        "RADESYS": ("FK5", "Coordinate system"),
        "EQUINOX": (2000.0, "Epoch of the equinox"),
        "CTYPE1": ("RA---TAN", "Coordinates -- projection"),
        "CTYPE2": ("DEC--TAN", "Coordinates -- projection"),
        "CRPIX1": ((pixels + 1) / 2, "X reference pixel"),
        "CRPIX2": ((pixels + 1) / 2, "Y reference pixel"),
        "CDELT1": (-width / pixels, "X scale"),
        "CDELT2": (width / pixels, "Y scale"),
        "SURVEY": survey.title,
        "BUNIT": survey.unit,
    }
    header = Header()
    for name, value in cards.items():
        header[name] = value
    for line in (
        "",
        "SkyView Survey metadata",
        "",
        f"Survey name:  {survey.title}",
        "Provenance:   Simulated sky; not an observation of this survey",
        f"Resolution:   {survey.fwhm} arcsec",
        f"PixelScale:   {survey.scale} arcsec",
        "Image resampling: Clip",
    ):
        header.add_comment(line)
    return header
