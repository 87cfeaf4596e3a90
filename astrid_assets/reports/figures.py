"""Preview pictures: small palette PNGs that say at a glance what an exposure looks like.

Drawn with NumPy and Pillow, because a run draws one for each asset and field and Matplotlib would
cost more than the science. North and east are as in the pixels; row 0 is at the bottom.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from astrid_assets.reports.pixels import asinh, binned

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.images.image import MaskedImage
    from astrid_assets.images.pairs import AlignedPair, Difference

__all__ = ["BYTES_MAX", "preview_png"]

BYTES_MAX = 37_000
"""Largest size of a preview; as base64 text in the event log it is a third longer."""

_GAP = 6
_GREYS = 14
"""Grey levels; noise in more of them would not compress."""

_STEPS = 6
"""Levels of red and of cyan in the overlay of two images."""

_MASKED, _KEPT, _FLAGGED, _OVERLAY = _GREYS, _GREYS + 1, _GREYS + 2, _GREYS + 3
"""Palette entries after the greys: masked pixels, marks, and the grid of red and cyan."""


def _palette() -> list[int]:
    """Return RGB values of all palette entries."""
    greys = [(round(i * 255 / (_GREYS - 1)),) * 3 for i in range(_GREYS)]
    levels = [round(i * 255 / (_STEPS - 1)) for i in range(_STEPS)]
    overlay = [(red, cyan, cyan) for red in levels for cyan in levels]
    return [v for rgb in [*greys, (70, 85, 150), (60, 210, 90), (255, 140, 30), *overlay] for v in rgb]


@dataclass(frozen=True)
class _Panel:
    """One picture with its caption."""

    caption: str
    pixels: np.ndarray
    """Palette entries, uint8 ``(ny, nx)``, row 0 at the bottom."""


def preview_png(
    *,
    image: MaskedImage | None = None,
    pair: AlignedPair | None = None,
    difference: Difference | None = None,
    table: pa.Table | None = None,
    width: int = 208,
) -> bytes:
    """Draw what an asset holds of one exposure.

    An image alone gives one panel. A pair gives science, reference and both in one (science red,
    reference cyan: what is in one only, or not in register, shows in colour). With a difference
    the third panel is that, from -10 to 10 sigma; with candidates they are marked on all panels.

    Parameters
    ----------
    image
        A science image or a reference.

    pair
        An aligned or normalised pair.

    difference
        A difference made from `pair`.

    table
        Candidates found in `difference`.

    width
        Width of a panel in pixels (of a single image: one and a half times that).

    Returns
    -------
    bytes
        PNG of at most `BYTES_MAX` bytes.
    """
    if image is None and pair is None:
        raise ValueError("a preview needs an image or a pair")
    subject = image if pair is None else pair.science
    bins = _bins(subject.shape, width * 3 // 2 if pair is None else width)
    while True:
        panels = _image_panel(image, bins) if pair is None else _pair_panels(pair, difference, bins)
        if table is not None:
            panels = [_Panel(p.caption, _marked(p.pixels, table, bins)) for p in panels]
        png = _encode(_compose(panels, _title(subject), _footer(subject, bins, table)))
        if len(png) <= BYTES_MAX:
            return png
        bins += 1  # smaller pictures rather than a smaller page, whose text could not be read


def _image_panel(image: MaskedImage, bins: int) -> list[_Panel]:
    ny, nx = image.shape
    return [_Panel(f"{nx} x {ny} pixels, asinh", _grey(image, bins))]


def _pair_panels(pair: AlignedPair, difference: Difference | None, bins: int) -> list[_Panel]:
    panels = [_Panel("science", _grey(pair.science, bins)), _Panel("reference", _grey(pair.reference, bins))]
    if difference is None:
        return [*panels, _Panel("science red, reference cyan", _overlay(pair, bins))]
    return [*panels, _Panel(f"{difference.method} difference, ±10 sigma", _signed(difference, bins))]


def _bins(shape: tuple[int, int], width: int) -> int:
    """Return how many image pixels make one pixel of a panel, a side."""
    return max(1, -(-max(shape) // width))


def _entries(levels: np.ndarray) -> np.ndarray:
    """Return the grey palette entries of 0..1, and that of masked pixels for NaN."""
    greys = np.rint(np.nan_to_num(levels) * (_GREYS - 1)).astype(np.uint8)
    return np.where(np.isfinite(levels), greys, np.uint8(_MASKED))


def _grey(image: MaskedImage, bins: int) -> np.ndarray:
    """Draw an image in grey."""
    return _entries(asinh(binned(image.data, ~image.bad, bins)))


def _overlay(pair: AlignedPair, bins: int) -> np.ndarray:
    """Draw science in red and reference in cyan."""
    red, cyan = (asinh(binned(i.data, ~i.bad, bins)) for i in (pair.science, pair.reference))
    known = np.isfinite(red) & np.isfinite(cyan)
    red, cyan = (np.rint(np.nan_to_num(c) * (_STEPS - 1)).astype(np.uint8) for c in (red, cyan))
    return np.where(known, _OVERLAY + _STEPS * red + cyan, np.uint8(_MASKED)).astype(np.uint8)


def _signed(difference: Difference, bins: int) -> np.ndarray:
    """Draw a difference in grey, -10 to 10 sigma of the binned noise."""
    values = binned(difference.data, ~difference.bad, bins)
    finite = values[np.isfinite(values)]
    noise = 1.4826 * np.median(np.abs(finite - np.median(finite))) if finite.size else 1.0
    return _entries(np.clip(values / (20.0 * (noise or 1.0)) + 0.5, 0.0, 1.0))


def _marked(pixels: np.ndarray, table: pa.Table, bins: int) -> np.ndarray:
    """Draw circles around candidates, and small squares on flagged detections."""
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    columns = (table.column(name).to_pylist() for name in ("x", "y", "artifact"))
    for x, y, reason in zip(*columns, strict=True):
        column, row = (x + 0.5) / bins - 0.5, (y + 0.5) / bins - 0.5
        if reason:
            draw.rectangle([column - 2, row - 2, column + 2, row + 2], outline=_FLAGGED)
        else:
            draw.ellipse([column - 6, row - 6, column + 6, row + 6], outline=_KEPT, width=2)
    return np.asarray(picture)


def _title(image: MaskedImage) -> str:
    """Return exposure, band and time, as far as they are known."""
    parts = [image.origin.get("exposure_id") or image.survey, image.band]
    if image.mjd_mid is not None and np.isfinite(image.mjd_mid):
        from astropy.time import Time

        parts.append(f"{Time(image.mjd_mid, format='mjd').strftime('%Y-%m-%d %H:%M')} UTC")
    if image.n_exposures > 1:
        parts.append(f"{image.n_exposures} frames")
    return "   ".join(str(part) for part in parts if part)


def _footer(image: MaskedImage, bins: int, table: pa.Table | None) -> tuple[float, str, str]:
    """Return the length of the scale bar in panel pixels, its label, and what the marks mean."""
    length, label = _scale_bar(image, bins)
    marks = ""
    if table is not None:
        flagged = sum(map(bool, table.column("artifact").to_pylist()))
        marks = f"{table.num_rows - flagged} candidates (green), {flagged} flagged (orange)"
    return length, label, marks


def _scale_bar(image: MaskedImage, bins: int) -> tuple[float, str]:
    """Return a round length of about a quarter of a panel, in panel pixels, and its label."""
    scale = image.pixel_scale
    quarter = image.shape[1] * (scale or 1.0) / 4.0
    power = 10.0 ** np.floor(np.log10(quarter))
    size = max(f * power for f in (1, 2, 5) if f * power <= quarter)
    if scale is None:
        label = f"{size:g} px"
    elif size >= 60.0:
        size = 60.0 * max(n for n in (1, 2, 5, 10, 20, 30, 60, 120) if n == 1 or 60.0 * n <= quarter)
        label = f"{size / 60:g} arcmin"
    else:
        label = f"{size:g} arcsec"
    return size / (scale or 1.0) / bins, label


def _compose(panels: list[_Panel], title: str, footer: tuple[float, str, str]) -> Image.Image:
    """Put panels side by side, with title above and scale bar below."""
    font, small = ImageFont.load_default(13), ImageFont.load_default(11)
    # a caption may be wider than the picture of a small image
    columns = [max(p.pixels.shape[1], math.ceil(small.getlength(p.caption))) for p in panels]
    width = sum(columns) + _GAP * (len(panels) + 1)
    width = max(width, int(font.getlength(title)) + 2 * _GAP, 300)
    page = Image.new("L", (width, max(p.pixels.shape[0] for p in panels) + 62), 255)
    draw = ImageDraw.Draw(page)
    draw.text((_GAP, 4), title, fill=0, font=font)
    length, label, marks = footer
    y = page.height - 9
    draw.line([_GAP, y, _GAP + length, y], fill=0, width=2)
    draw.text((_GAP + length + 6, y - 7), label, fill=0, font=small)
    draw.text((page.width - _GAP, y - 7), marks, fill=0, font=small, anchor="ra")
    corners = [_GAP + sum(c + _GAP for c in columns[:i]) for i in range(len(panels))]
    for left, panel in zip(corners, panels, strict=True):
        draw.text((left, 23), panel.caption, fill=0, font=small)
    entries = Image.fromarray(np.rint(np.asarray(page) * ((_GREYS - 1) / 255.0)).astype(np.uint8))
    for left, panel in zip(corners, panels, strict=True):
        entries.paste(Image.fromarray(panel.pixels[::-1]), (left, 40))
    return entries


def _encode(page: Image.Image) -> bytes:
    """Return a palette PNG."""
    page.putpalette(_palette())
    stream = io.BytesIO()
    page.save(stream, "PNG", compress_level=9)
    return stream.getvalue()
