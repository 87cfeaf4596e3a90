"""Pieces of images: how they are asked for, what they can be, and whether they are.

IBE cuts on the pixels of the image and does not resample. Where the piece would reach beyond the
image it is shorter and no longer centred on the position, with right world coordinates. Nothing is
padded here: the files stay as the archive sent them, and the row of the exposure has the footprint
of what there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from astrid_assets.archives.irsa_ztf.search import Grid

__all__ = ["Box", "Piece", "check_pieces", "piece"]

NO_OVERLAP = 400
"""Status by which IBE says that a piece lies off its image."""

_TOLERANCE = 10.0
"""Pixels by which a piece may be off: the search does not know the distortion of an image (own choice)."""

Footprint = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Box:
    """A square on the sky."""

    ra: float
    """Right ascension of the centre, ICRS degrees."""

    dec: float
    """Declination of the centre, ICRS degrees."""

    side: float
    """Arcsec."""

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """Parameters that ask for this piece of a file.

        ``gzip=false``: the default would be a gzip file under the name of a FITS file.
        """
        return (
            ("center", f"{self.ra:.8f},{self.dec:.8f}"),
            ("size", f"{self.side:.3f}arcsec"),
            ("gzip", "false"),
        )


@dataclass(frozen=True)
class Piece:
    """What there is of an image: all of it, or what a cutout holds."""

    footprint: Footprint
    """Corners (ra, dec), in order around it."""

    n_pixels: int
    """Number of pixels."""


def piece(grid: Grid, footprint: Footprint, box: Box | None) -> Piece | None:
    """Return what can be had of an image.

    Parameters
    ----------
    grid
        World coordinates of the image.

    footprint
        Its corners, which tell where its pixels end.

    box
        What is cut out; None takes the whole image.

    Returns
    -------
    Piece or None
        None where the box lies off the image.
    """
    wcs = _wcs(grid)
    # corners are those of pixels or their middles: half a pixel does not matter
    corners = np.column_stack(wcs.wcs_world2pix(*zip(*footprint, strict=True), 0))
    if box is None:
        return Piece(footprint, int(np.prod(np.rint(np.ptp(corners, axis=0)))))
    half = box.side / 3600.0 / _pixel_side(grid) / 2.0
    middle = np.array([float(v[0]) for v in wcs.wcs_world2pix([box.ra], [box.dec], 0)])
    first, last = _edges(corners, middle)
    low, high = np.maximum(first, middle - half), np.minimum(last, middle + half)
    if (low >= high).any():
        return None
    x, y = [low[0], high[0], high[0], low[0]], [low[1], low[1], high[1], high[1]]
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    cut = tuple((float(a) % 360.0, float(d)) for a, d in zip(ra, dec, strict=True))
    return Piece(cut, int(np.prod(np.maximum(np.rint(high - low), 1.0))))


def _edges(corners: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the image begins and ends on each axis, next to a position; pixels.

    The corners are where they are on the sky, so the image is not quite a rectangle on a grid that
    knows no distortion: each edge is taken at the position, between its two corners.
    """
    first, last = np.empty(2), np.empty(2)
    for axis in (0, 1):
        order = np.argsort(corners[:, axis])
        for edge, pair in ((first, order[:2]), (last, order[2:])):
            ends = corners[pair][np.argsort(corners[pair, 1 - axis])]
            edge[axis] = np.interp(middle[1 - axis], ends[:, 1 - axis], ends[:, axis])
    return first, last


def _wcs(grid: Grid) -> WCS:
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix, wcs.wcs.crval = grid.crpix, grid.crval
    wcs.wcs.cd = [grid.cd[:2], grid.cd[2:]]
    return wcs


def _pixel_side(grid: Grid) -> float:
    """Return the side of a pixel in degrees; the sign of the determinant is the handedness of the image."""
    a, b, c, d = grid.cd
    return math.sqrt(abs(a * d - b * c))


def check_pieces(paths: list[Path], footprint: Footprint) -> None:
    """Check that cutouts hold what they have to, and all of them the same pixels.

    Parameters
    ----------
    paths
        Files of the same piece: an image, its mask ...

    footprint
        Corners of what they have to hold, as the search promised it.

    Raises
    ------
    BadAnswerError
        One is cut shorter than its image is, or has other pixels than the first.
    """
    shapes = [_check_piece(path, footprint) for path in paths]
    for path, shape in zip(paths, shapes, strict=True):
        if shape != shapes[0]:
            msg = f"{path.name}: {shape} pixels, but those of {paths[0].name} are {shapes[0]}"
            raise BadAnswerError(msg)


def _check_piece(path: Path, footprint: Footprint) -> tuple[int, ...]:
    """Return the shape of a cutout."""
    from astrid_assets.errors import ImageError
    from astrid_assets.images.celestial import celestial_wcs
    from astrid_assets.images.fits import open_fits

    try:
        with open_fits(path) as hdus:
            shape = hdus[0].shape
            wcs, _ = celestial_wcs(hdus[0].header, shape, hdus=hdus)
    except ImageError as error:
        raise BadAnswerError(str(error)) from error
    # an image without world coordinates is refused by whoever reads it, with a better reason
    if wcs is not None and footprint:
        _require_covered(path.name, shape, wcs, footprint)
    return shape


def _require_covered(name: str, shape: tuple[int, ...], wcs: WCS, footprint: Footprint) -> None:
    x, y = wcs.all_world2pix(*zip(*footprint, strict=True), 0, quiet=True)
    ny, nx = shape
    beyond = max(-0.5 - min(x), max(x) - (nx - 0.5), -0.5 - min(y), max(y) - (ny - 0.5))
    if not beyond <= _TOLERANCE:
        msg = f"{name}: the cutout has {nx} x {ny} pixels, {beyond:.0f} short of what its image covers"
        raise BadAnswerError(msg)
