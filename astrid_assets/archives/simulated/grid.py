"""World coordinates of the simulated images: exposures TPV, slightly distorted, references TAN."""

from __future__ import annotations

from math import cos, radians, sin
from typing import TYPE_CHECKING

from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.survey import PIXEL_SCALE
from astrid_assets.archives.simulated.tile import Tile

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from astrid_assets.archives.simulated.conditions import Conditions

__all__ = ["Cards", "footprint", "header_cards", "reference_cards", "science_cards", "world"]

Cards = dict[str, float | int | str]
"""Header cards by keyword."""

_CAMERA_ANGLE = 0.25
"""RMS of the fixed rotation of a detector against north, degrees."""

_DISTORTION = 0.004
"""RMS of the quadratic PV terms, 1 / degree: about 0.3 pixels at the corner of 1024 x 1024."""

_REFERENCE_SCALE, _REFERENCE_ANGLE, _REFERENCE_SHIFT = 1.0004, 0.06, (17.37, -11.82)
"""How the grid of a reference differs from the plan of the exposures: scale, degrees, pixels."""


def _cards(tile: Tile, scale: float, angle: float, centre: tuple[float, float]) -> Cards:
    """Return TAN cards, centre in 0-based pixels; north up, east left but for the angle."""
    c, s = scale / 3600.0 * cos(radians(angle)), scale / 3600.0 * sin(radians(angle))
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": tile.ra,
        "CRVAL2": tile.dec,
        "CRPIX1": centre[0] + 1.0,
        "CRPIX2": centre[1] + 1.0,
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CD1_1": -c,
        "CD1_2": s,
        "CD2_1": s,
        "CD2_2": c,
    }


def science_cards(tile: Tile, state: Conditions) -> Cards:
    """Return the true world coordinates of an exposure."""
    fixed = generator("camera", tile.seed, tile.rcid)
    centre = (tile.nx - 1) / 2 - state.offset[0], (tile.ny - 1) / 2 - state.offset[1]
    cards = _cards(tile, PIXEL_SCALE, _CAMERA_ANGLE * fixed.normal() + state.rotation, centre)
    cards |= {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}
    for axis in (1, 2):
        terms = (_DISTORTION * fixed.normal(size=3)).tolist()
        cards |= {f"PV{axis}_0": 0.0, f"PV{axis}_1": 1.0, f"PV{axis}_2": 0.0}
        cards |= {f"PV{axis}_{4 + i}": value for i, value in enumerate(terms)}
    return cards


def header_cards(cards: Cards, error: tuple[float, float, float]) -> Cards:
    """Return world coordinates as the survey's astrometry measures them.

    Parameters
    ----------
    cards
        The truth.

    error
        Shift in x and y in pixels, rotation in degrees.
    """
    c, s = cos(radians(error[2])), sin(radians(error[2]))
    turned = {
        f"CD{row}_{column}": sum(
            float(cards[f"CD{row}_{k}"]) * turn for k, turn in zip((1, 2), pair, strict=True)
        )
        for row in (1, 2)
        for column, pair in ((1, (c, s)), (2, (-s, c)))
    }
    shifted = {f"CRPIX{i}": float(cards[f"CRPIX{i}"]) + error[i - 1] for i in (1, 2)}
    return {**cards, **turned, **shifted}


def reference_cards(tile: Tile) -> tuple[Cards, tuple[int, int]]:
    """Return the world coordinates and the shape of a tile's reference, a grid of its own."""
    shape = tile.ny + 40, tile.nx + 24
    centre = (shape[1] - 1) / 2 + _REFERENCE_SHIFT[0], (shape[0] - 1) / 2 + _REFERENCE_SHIFT[1]
    return _cards(tile, PIXEL_SCALE * _REFERENCE_SCALE, _REFERENCE_ANGLE, centre), shape


def world(cards: Cards) -> WCS:
    """Return the WCS of cards."""
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    return WCS(Header({**cards, "RADESYS": "ICRS", "EQUINOX": 2000.0}))


def footprint(cards: Cards, shape: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """Return the four outer corners (ra, dec) of an image in degrees, in order around it."""
    ny, nx = shape
    corners = [[-0.5, -0.5], [nx - 0.5, -0.5], [nx - 0.5, ny - 0.5], [-0.5, ny - 0.5]]
    return tuple((float(ra), float(dec)) for ra, dec in world(cards).wcs_pix2world(corners, 0))
