"""The preview of cutouts: a few triplets side by side as a small palette PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from astrid_assets.images.triplets import Triplets, crop
from astrid_assets.reports.figures import BYTES_MAX
from astrid_assets.reports.pixels import asinh, spread

__all__ = ["gallery_png"]

_GREYS = 14
"""Grey levels; noise in more of them would not compress."""

_MISSING = _GREYS
"""Palette entry of pixels without a value."""

_SIDE = 65
"""Side of a stamp on the page, pixels; of a larger one its middle is shown."""

_GAP, _LINE, _TOP = 8, 16, 40


def gallery_png(triplets: Triplets, captions: Sequence[str], *, title: str, columns: int = 2) -> bytes:
    """Draw triplets: science, reference and difference of each candidate.

    Science and reference are stretched by asinh, the difference runs from -10 to 10 sigma of its
    own scatter. Pixels without a value are blue.

    Parameters
    ----------
    triplets
        What is drawn, in this order; as many as fit into `BYTES_MAX` bytes.

    captions
        A short line for each.

    title
        Line above all.

    columns
        Triplets in a row.
    """
    shown = len(triplets)
    while True:
        png = _encoded(_page(triplets, captions[:shown], title, columns))
        if len(png) <= BYTES_MAX or shown <= columns:
            return png
        shown -= 1 + (shown - 1) % columns


def _page(triplets: Triplets, captions: Sequence[str], title: str, columns: int) -> Image.Image:
    """Put the triplets on a page of palette entries, row by row."""
    font, small = ImageFont.load_default(13), ImageFont.load_default(11)
    side = min(triplets.size, _SIDE)
    wide, high = 3 * side + _GAP // 2, side + _LINE + _GAP // 2
    rows = -(-len(captions) // columns)
    width = max(columns * (wide + _GAP) + _GAP, int(font.getlength(title)) + 2 * _GAP)
    page = Image.new("L", (width, _TOP + rows * high + _GAP), 255)
    draw = ImageDraw.Draw(page)
    draw.text((_GAP, 4), title, fill=0, font=font)
    draw.text((_GAP, 22), "science, reference, difference (±10 sigma)", fill=0, font=small)
    corners = [(_GAP + i % columns * (wide + _GAP), _TOP + i // columns * high) for i in range(len(captions))]
    for (left, top), caption in zip(corners, captions, strict=True):
        draw.text((left, top), caption, fill=0, font=small)
    entries = Image.fromarray(np.rint(np.asarray(page) * ((_GREYS - 1) / 255.0)).astype(np.uint8))
    for (left, top), stamps in zip(corners, crop(triplets.stamps, side), strict=False):
        for channel, stamp in enumerate(stamps):
            # row 0 at the bottom, as everywhere
            picture = Image.fromarray(_entries(stamp, signed=channel == 2)[::-1])
            entries.paste(picture, (left + channel * (side + 2), top + _LINE))
    return entries


def _entries(stamp: np.ndarray, *, signed: bool) -> np.ndarray:
    """Return the palette entries of a stamp."""
    middle, noise = spread(stamp)
    levels = np.clip((stamp - middle) / (20.0 * noise) + 0.5, 0.0, 1.0) if signed else asinh(stamp)
    greys = np.rint(np.nan_to_num(levels) * (_GREYS - 1)).astype(np.uint8)
    return np.where(np.isfinite(stamp), greys, np.uint8(_MISSING))


def _encoded(page: Image.Image) -> bytes:
    greys = [round(i * 255 / (_GREYS - 1)) for i in range(_GREYS) for _ in range(3)]
    page.putpalette([*greys, 70, 85, 150])
    stream = io.BytesIO()
    page.save(stream, "PNG", compress_level=9)
    return stream.getvalue()
