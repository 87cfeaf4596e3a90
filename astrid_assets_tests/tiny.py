"""Data small enough to be run in a test: a field of the simulated survey, a pair of files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from astrid_assets.clock import DEMO_CLOCK, pin_simulated_clock
from astrid_assets.home import dagster_home

__all__ = ["SHIPPED", "install", "tiny_field", "write_pair"]

SHIPPED = Path(__file__).parent.parent / "dagster_home"
"""Folder of the configuration that comes with the repository."""

_FIELD = """
{name}:
  ra: {ra}
  dec: {dec}
  radius: 0.05
  archives: [simulated]
  bands: [r]
  science_window: {{start: {start}}}
  reference_window: {{end: 2025-03-01}}
  simulated: {{seed: {seed}, shape: [{side}, {side}], dirt: false, corrupt: false{epochs}}}
{more}"""


def tiny_field(
    name: str = "tiny",
    *,
    ra: float = 265.0,
    dec: float = 62.0,
    side: int = 256,
    epochs: int | None = 2,
    start: str = "2025-09-01",
    seed: int = 3,
    more: str = "",
) -> str:
    """Return the block of ``fields.yaml`` of a small, clean field in one band.

    Parameters
    ----------
    name
        Of the field.

    ra, dec
        Where it is, ICRS degrees; the default never sets.

    side
        Side of an exposure, pixels.

    epochs
        Most science exposures; None takes all since `start`.

    start
        First night of the science window.

    seed
        Of the simulated sky.

    more
        More lines of the block, indented by two spaces.
    """
    cap = "" if epochs is None else f", max_epochs_per_band: {epochs}"
    return _FIELD.format(name=name, ra=ra, dec=dec, side=side, epochs=cap, start=start, seed=seed, more=more)


def install(*blocks: str) -> Path:
    """Fill ``DAGSTER_HOME`` with the shipped instance and these fields, at the demo's clock; return it."""
    home = dagster_home()
    (home / "fields.yaml").write_text("".join(blocks))
    shutil.copy(SHIPPED / "dagster.yaml", home)
    pin_simulated_clock(DEMO_CLOCK)
    return home


def write_pair(
    folder: Path,
    *,
    wcs: bool = True,
    ra: float = 150.0,
    dec: float = 2.0,
    mjds: tuple[float, float] = (60000.0, 60000.0),
) -> tuple[Path, Path]:
    """Write two images of 60 stars; the first has one more, of 4000 units at (x, y) = (150, 100)."""
    from astropy.io import fits
    from astropy.wcs import WCS

    rng = np.random.default_rng(5)
    y, x = np.mgrid[:256, :256]
    stars = np.column_stack([rng.uniform(12, 244, (60, 2)), 10 ** rng.uniform(3.3, 4.6, 60)])
    paths = []
    for name, mjd, extra in zip(("science", "reference"), mjds, ([(150.0, 100.0, 4000.0)], []), strict=True):
        image = np.full((256, 256), 200.0)
        for x0, y0, flux in [*stars, *extra]:
            image += flux / (2 * np.pi * 1.5**2) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.5**2))
        header = fits.Header({"MJD-OBS": mjd, "EXPTIME": 30.0, "FILTER": "r"})
        if wcs:
            sky = WCS(naxis=2)
            sky.wcs.ctype, sky.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, dec]
            sky.wcs.crpix, sky.wcs.cdelt = [128, 128], [-1 / 3600, 1 / 3600]
            header.update(sky.to_header())
        path = folder / f"{name}.fits"
        fits.writeto(path, rng.poisson(image).astype(np.float32), header)
        paths.append(path)
    return paths[0], paths[1]
