"""What shines in an image: the objects of the sky as points of light on its pixel grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from astrid_assets.archives.simulated import changing
from astrid_assets.archives.simulated.grid import Cards, world
from astrid_assets.archives.simulated.render import Points
from astrid_assets.archives.simulated.sky import (
    VARIABLE_KINDS,
    Patch,
    Stars,
    band_magnitude,
    star_positions,
)
from astrid_assets.archives.simulated.survey import BANDS, EXPTIME
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.archives.simulated.truth import Truth

__all__ = ["Epoch", "Scene", "asteroid_points", "static_scene", "transient_scene"]

_NEUTRAL_COLOUR = 0.6
"""g - r of the stars that the survey's astrometry is tied to: they do not appear refracted."""

_MARGIN = 64.0
"""Pixels around the image in which objects are kept: their wings reach in."""

Throughput = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Epoch:
    """When and through how much air an image looks."""

    mjds: tuple[float, ...]
    """Middle of each exposure, MJD (UTC): one, or all frames of a stack."""

    band: str
    """Filter."""

    zeropoint: float
    """AB magnitude of 1 ADU."""

    airmass: float
    """Airmass."""

    parallactic: float
    """Direction of the zenith, degrees from north through east."""

    @property
    def mjd(self) -> float:
        """Mean time."""
        return float(np.mean(self.mjds))


@dataclass(frozen=True, eq=False)
class Scene:
    """Places objects of the sky on one image."""

    cards: Cards
    """True world coordinates."""

    shape: tuple[int, int]
    """``(ny, nx)`` of the image."""

    epoch: Epoch
    """When and how it is seen."""

    throughput: Throughput
    """Transparency and response at pixels (x, y) relative to the zero point."""

    def pixels(self, ra: np.ndarray, dec: np.ndarray, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (x, y) of positions, with differential refraction of objects of some colours."""
        epoch = self.epoch
        tangent = np.sqrt(max(epoch.airmass**2 - 1.0, 0.0))
        lift = -BANDS[epoch.band].refraction / 3600.0 * (colour - _NEUTRAL_COLOUR) * tangent
        angle = np.radians(epoch.parallactic)
        seen_dec = dec + lift * np.cos(angle)
        seen_ra = ra + lift * np.sin(angle) / np.cos(np.radians(dec))
        if seen_ra.size == 0:
            return np.empty(0), np.empty(0)
        x, y = world(self.cards).wcs_world2pix(seen_ra, seen_dec, 0)
        return x, y

    def flux(self, mag: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return total fluxes in ADU."""
        return 10 ** (-0.4 * (mag - self.epoch.zeropoint)) * self.throughput(x, y)

    def offsets(self, east: np.ndarray, north: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel offsets of small angles in arcsec."""
        matrix = np.array([[float(self.cards[f"CD{i}_{j}"]) for j in (1, 2)] for i in (1, 2)]) * 3600.0
        x, y = np.linalg.solve(matrix, np.stack([east, north]))
        return x, y

    def inside(self, x: np.ndarray, y: np.ndarray, margin: float = _MARGIN) -> np.ndarray:
        """Return which positions lie on the image or within a margin around it."""
        ny, nx = self.shape
        return (x > -margin) & (x < nx - 1 + margin) & (y > -margin) & (y < ny - 1 + margin)


def static_scene(scene: Scene, patch: Patch, truth: Truth) -> Points:
    """Return stars and galaxies of the catalogue, variable ones at their present brightness."""
    return Points.joined(_stars(scene, patch.stars, truth), _galaxies(scene, patch, truth))


def _averaged(magnitudes: list[np.ndarray]) -> np.ndarray:
    """Return the magnitude of the mean flux; infinite where there is none."""
    if len(magnitudes) == 1:
        return magnitudes[0]
    with np.errstate(divide="ignore"):
        return -2.5 * np.log10((10 ** (-0.4 * np.stack(magnitudes))).mean(axis=0))


def _stars(scene: Scene, stars: Stars, truth: Truth) -> Points:
    band = scene.epoch.band
    ra, dec = star_positions(stars, scene.epoch.mjd)
    x, y = scene.pixels(ra, dec, stars.colour)
    mean = band_magnitude(stars.mag_r, stars.colour, band)
    mag = mean + _averaged([changing.variability(stars, mjd, band) for mjd in scene.epoch.mjds])
    flux = scene.flux(mag, x, y)
    keep = scene.inside(x, y)
    truth.add(
        kind=np.where(stars.kind[keep] > 0, "variable", "star"),
        label=np.array(VARIABLE_KINDS)[stars.kind[keep]],
        ident=stars.ident[keep],
        ra=ra[keep],
        dec=dec[keep],
        x=x[keep],
        y=y[keep],
        mag=mag[keep],
        mag_mean=mean[keep],
        flux=flux[keep],
    )
    return Points(x[keep], y[keep], flux[keep])


def _galaxies(scene: Scene, patch: Patch, truth: Truth) -> Points:
    galaxies = patch.galaxies
    x, y = scene.pixels(galaxies.ra, galaxies.dec, galaxies.colour)
    mag = band_magnitude(galaxies.mag_r, galaxies.colour, scene.epoch.band)
    flux = scene.flux(mag, x, y)
    keep = scene.inside(x, y)
    truth.add(
        kind="galaxy",
        ident=galaxies.ident[keep],
        ra=galaxies.ra[keep],
        dec=galaxies.dec[keep],
        x=x[keep],
        y=y[keep],
        mag=mag[keep],
        mag_mean=mag[keep],
        flux=flux[keep],
        extent=galaxies.radius[keep],
    )
    used = keep[patch.owner]
    owner = patch.owner[used]
    dx, dy = scene.offsets(patch.east[used], patch.north[used])
    return Points(x[owner] + dx, y[owner] + dy, flux[owner] * patch.share[used])


def transient_scene(scene: Scene, tile: Tile, patch: Patch, truth: Truth) -> Points:
    """Return the transients; in a stack with the median of their magnitudes.

    Stacks are clipped: what shines in a few of the frames only does not survive.
    """
    epoch = scene.epoch
    found = changing.transients(tile, patch.cells, min(epoch.mjds), max(epoch.mjds))
    x, y = scene.pixels(found.ra, found.dec, found.colour)
    mags = [changing.transient_magnitudes(found, mjd, epoch.band) for mjd in epoch.mjds]
    mag = np.sort(mags, axis=0)[len(mags) // 2]
    keep = scene.inside(x, y) & np.isfinite(mag)
    x, y, mag = x[keep], y[keep], mag[keep]
    flux = scene.flux(mag, x, y)
    truth.add(
        kind="transient",
        label=np.array(found.kind_name, dtype=object)[keep],
        ident=found.ident[keep],
        host=found.host[keep],
        ra=found.ra[keep],
        dec=found.dec[keep],
        x=x,
        y=y,
        mag=mag,
        mag_mean=mag,
        flux=flux,
    )
    return Points(x, y, flux)


def asteroid_points(scene: Scene, tile: Tile, patch: Patch, night: int, truth: Truth) -> Points:
    """Return the asteroids of a night as short trails."""
    found = changing.asteroids(tile, patch.cells, night, scene.epoch.mjd)
    colour = np.full(found.ra.size, 0.55)
    x, y = scene.pixels(found.ra, found.dec, colour)
    mag = band_magnitude(found.mag_r, colour, scene.epoch.band)
    flux = scene.flux(mag, x, y)
    parts = [Points(np.empty(0), np.empty(0), np.empty(0))]
    for i in np.flatnonzero(scene.inside(x, y)):
        dx, dy = scene.offsets(*changing.trail(found.rate[i], found.direction[i], EXPTIME))
        parts.append(Points(x[i] + dx, y[i] + dy, np.full(dx.size, flux[i] / dx.size)))
        truth.add(
            kind="asteroid",
            label="near_earth" if found.rate[i] > 2.0 else "main_belt",
            ident=found.ident[i],
            ra=found.ra[i],
            dec=found.dec[i],
            x=x[i] + dx[0],
            y=y[i] + dy[0],
            x_end=x[i] + dx[-1],
            y_end=y[i] + dy[-1],
            mag=mag[i],
            mag_mean=mag[i],
            flux=flux[i],
        )
    return Points.joined(*parts)
