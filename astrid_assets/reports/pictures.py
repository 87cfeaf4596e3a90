"""Pictures for pages: images as small files written into the page, with marks drawn over them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from astrid_assets.reports.pixels import asinh, binned, spread

__all__ = ["Picture", "ScaleBar", "grey", "north", "scale_bar", "signed", "stamp_strip"]

_JPEG_QUALITY = 68
"""Of images that are mostly noise: no difference can be seen above it."""

_MASKED = 0.16
"""Grey of pixels that are not trusted; darker than any sky."""


@dataclass(frozen=True)
class Picture:
    """An image in a page."""

    src: str
    """Data URI."""

    nx: int
    """Columns of the image that it shows; marks are placed in pixels of the image."""

    ny: int
    """Rows of it; row 0 lies at the bottom."""


@dataclass(frozen=True)
class ScaleBar:
    """A round length on the sky, or in pixels where the scale is not known."""

    length: float
    """In image pixels."""

    label: str
    """With unit."""


def grey(data: np.ndarray, good: np.ndarray, *, width: int) -> Picture:
    """Show an image from black sky to white stars.

    Parameters
    ----------
    data, good
        Image ``(ny, nx)``, and which of its pixels may be trusted.

    width
        Most columns of the picture; the image is binned to fit.
    """
    bins = _bins(data.shape, width)
    return _picture(asinh(binned(data, good, bins)), bins)


def signed(data: np.ndarray, good: np.ndarray, *, width: int, reach: float | None = None) -> Picture:
    """Show a difference: grey is nothing, white is brighter, black is fainter.

    Parameters
    ----------
    data, good, width
        As in `grey`.

    reach
        Value that becomes white; by default ten times the noise of the picture.
    """
    bins = _bins(data.shape, width)
    small = binned(data, good, bins)
    if reach is None:
        reach = 10.0 * spread(small)[1]
    return _picture(np.clip(small / (2.0 * reach) + 0.5, 0.0, 1.0), bins)


def stamp_strip(stamps: np.ndarray, *, gap: int = 3) -> str:
    """Put the channels of a triplet side by side; return a data URI.

    Parameters
    ----------
    stamps
        Science, reference and difference, float ``(3, size, size)``. The first two share one stretch, so
        that a source in one only shows as such; the difference goes from -6 to 6 sigma.
    """
    size = stamps.shape[-1]
    static = asinh(np.concatenate([stamps[0], stamps[1]], axis=1), bright=99.5)
    middle, noise = spread(stamps[2])
    change = np.clip((stamps[2] - middle) / (12.0 * noise) + 0.5, 0.0, 1.0)
    blank = np.full((size, gap), np.nan)
    row = np.concatenate([static[:, :size], blank, static[:, size:], blank, change], axis=1)
    return _encoded(Image.fromarray(_shades(row, number=48)), "PNG", optimize=False)


def scale_bar(nx: int, pixel_scale: float | None) -> ScaleBar:
    """Return a round length of about a quarter of an image of `nx` columns.

    Parameters
    ----------
    nx
        Columns of the image.

    pixel_scale
        Arcsec per pixel, or None.
    """
    if pixel_scale is None or not pixel_scale > 0:
        length = _round_below(nx / 4.0)
        return ScaleBar(length, f"{length:g} px")
    quarter = nx * pixel_scale / 4.0
    if quarter >= 60.0:
        minutes = _round_below(quarter / 60.0)
        return ScaleBar(60.0 * minutes / pixel_scale, f"{minutes:g} arcmin")
    seconds = _round_below(quarter)
    return ScaleBar(seconds / pixel_scale, f"{seconds:g} arcsec")


def north(row: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """Return where north and east point in a picture: dx, dy of both, y downwards, unit length.

    Parameters
    ----------
    row
        Of a manifest, with ``footprint`` (corners from the first pixel counter-clockwise in pixel space);
        None comes back without one.
    """
    corners = row.get("footprint")
    if not corners or len(corners) < 8:
        return None
    (ra0, dec0), (ra1, dec1), _, (ra3, dec3) = zip(corners[0:8:2], corners[1:8:2], strict=True)
    squeeze = math.cos(math.radians(dec0))
    along_x = (_turn(ra1 - ra0) * squeeze, dec1 - dec0)
    along_y = (_turn(ra3 - ra0) * squeeze, dec3 - dec0)
    length_x, length_y = (math.hypot(*side) for side in (along_x, along_y))
    if not (length_x > 0 and length_y > 0):
        return None
    east = (along_x[0] / length_x, -along_y[0] / length_y)
    up = (along_x[1] / length_x, -along_y[1] / length_y)
    return (*_unit(up), *_unit(east))


def _turn(degrees: float) -> float:
    return (degrees + 180.0) % 360.0 - 180.0


def _unit(vector: Sequence[float]) -> tuple[float, float]:
    length = math.hypot(*vector) or 1.0
    return vector[0] / length, vector[1] / length


def _round_below(value: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not above a value."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return max(f * power for f in (1, 2, 5) if f * power <= value * (1 + 1e-9))


def _bins(shape: tuple[int, int], width: int) -> int:
    return max(1, -(-max(shape) // width))


def _shades(levels: np.ndarray, *, number: int = 256) -> np.ndarray:
    """Return bytes of levels 0..1, row 0 at the bottom; NaN is the grey of masked pixels."""
    steps = number - 1
    known = np.isfinite(levels)
    shades = np.rint(np.nan_to_num(levels) * steps) * (255.0 / steps)
    return np.where(known, shades, 255.0 * _MASKED).astype(np.uint8)[::-1]


def _picture(levels: np.ndarray, bins: int) -> Picture:
    ny, nx = (n * bins for n in levels.shape)
    return Picture(_encoded(Image.fromarray(_shades(levels)), "JPEG", quality=_JPEG_QUALITY), nx, ny)


def _encoded(image: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
