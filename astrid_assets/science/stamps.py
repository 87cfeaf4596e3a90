"""Cutting triplets out of a normalized pair and its difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.errors import ScienceError
from astrid_assets.images.masks import BAD_BITS, bits
from astrid_assets.images.triplets import LARGEST_VALUE, STAMP_BITS, Triplets

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from astrid_assets.images.pairs import AlignedPair, Difference

__all__ = ["STAMP_SIZE", "cut_triplets", "stamp_wcs"]

STAMP_SIZE = 65
"""Side of a stamp, pixels: the smallest odd size that holds views of 63 (ZTF) and 64 pixels."""

_NO_DATA = bits("NO_DATA", "REF_NO_DATA")
_SATURATED = bits("SATURATED", "BLEED", "REF_SATURATED", "REF_BLEED")


def cut_triplets(
    pair: AlignedPair, difference: Difference, x: np.ndarray, y: np.ndarray, *, size: int = STAMP_SIZE
) -> Triplets:
    """Cut science, reference and difference around positions; integer crops, never resampled.

    Parameters
    ----------
    pair
        The normalized pair.

    difference
        Its difference, from `zogy` or `classic`.

    x, y
        Positions in the science image, pixels, 0-based; ``(n,)``. They may lie beyond the image.

    size
        Odd side of a stamp, pixels.

    Returns
    -------
    Triplets
        In the order of the positions, whose nearest pixel is the middle one. All channels are
        background-subtracted and in the unit of the science image: the reference is multiplied
        with the flux ratio at the middle pixel. Beyond the image: NaN and OUTSIDE. Where either
        image has no value: NaN and MISSING, in the difference too, whose filters fill such
        pixels. Untrusted pixels keep their values; the bits BAD and SATURATED of a channel come
        from the planes of its own image, those of the difference from both, grown by what its
        filters reach.

    Raises
    ------
    ScienceError
        If the pair was not normalized.
    """
    if pair.normalization is None:
        raise ScienceError("the pair is not normalized: call normalize() first")
    window = _Window.around(np.atleast_1d(x), np.atleast_1d(y), size, difference.shape)
    places = zip(window.x.tolist(), window.y.tolist(), strict=True)
    ratio = np.array([pair.normalization.flux_ratio_at(u, v, difference.shape) for u, v in places])
    missing = (pair.science.mask | pair.reference.mask) & _NO_DATA
    channels = (
        (pair.science.data, pair.science.mask),
        (pair.reference.data, pair.reference.mask),
        (difference.data, difference.mask & ~_NO_DATA | missing),
    )
    stamps = np.stack([window.cut(data) for data, _ in channels], axis=1)
    stamps[:, 1] *= ratio[:, None, None].astype(np.float32)
    flags = np.stack([window.flags(mask) for _, mask in channels], axis=1)
    flags[_absent(stamps) & (flags & STAMP_BITS["OUTSIDE"] == 0)] |= STAMP_BITS["MISSING"]
    stamps[(flags & (STAMP_BITS["OUTSIDE"] | STAMP_BITS["MISSING"])) != 0] = np.nan
    score = window.cut(difference.score_corrected)
    score[_absent(score)] = np.nan
    return Triplets(stamps, flags, score, window.x, window.y)


def _absent(values: np.ndarray) -> np.ndarray:
    """Tell where there is no value, or one that stands for none."""
    return ~(np.abs(values) <= LARGEST_VALUE)


@dataclass(frozen=True, eq=False)
class _Window:
    """Pixels of the stamps in an image."""

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    outside: np.ndarray

    @classmethod
    def around(cls, x: np.ndarray, y: np.ndarray, size: int, shape: tuple[int, int]) -> _Window:
        """Return the windows of stamps whose middle pixels are the nearest to some positions."""
        if size % 2 == 0:
            msg = f"a stamp has an odd size, so that there is a middle pixel, not {size}"
            raise ValueError(msg)
        reach = np.arange(size, dtype=np.int32) - size // 2
        ix, iy = np.rint(x).astype(np.int32), np.rint(y).astype(np.int32)
        rows, columns = iy[:, None] + reach, ix[:, None] + reach
        inside_y, inside_x = (rows >= 0) & (rows < shape[0]), (columns >= 0) & (columns < shape[1])
        return cls(
            ix,
            iy,
            np.clip(rows, 0, shape[0] - 1)[:, :, None],
            np.clip(columns, 0, shape[1] - 1)[:, None, :],
            ~(inside_y[:, :, None] & inside_x[:, None, :]),
        )

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return the stamps of a float image, NaN outside."""
        stamps = image[self.rows, self.columns].astype(np.float32)
        stamps[self.outside] = np.nan
        return stamps

    def flags(self, mask: np.ndarray) -> np.ndarray:
        """Return the bits of the stamps from the planes of a mask."""
        planes = mask[self.rows, self.columns]
        flags = np.zeros(planes.shape, np.uint8)
        for name, plane_bits in (("MISSING", _NO_DATA), ("BAD", BAD_BITS), ("SATURATED", _SATURATED)):
            flags[(planes & plane_bits) != 0] |= STAMP_BITS[name]
        flags[self.outside] = STAMP_BITS["OUTSIDE"]
        return flags


def stamp_wcs(wcs: WCS, x: int, y: int, size: int) -> WCS:
    """Return the WCS of a stamp: that of the image with its reference pixel moved.

    Parameters
    ----------
    wcs
        WCS of the image; SIP polynomials move along, distortion tables as well.

    x, y
        Middle pixel of the stamp in the image, 0-based.

    size
        Odd side of the stamp, pixels.
    """
    from astropy.wcs import Sip

    first = np.array([x - size // 2, y - size // 2], float)
    moved = wcs.deepcopy()
    moved.wcs.crpix = wcs.wcs.crpix - first
    if wcs.sip is not None:
        moved.sip = Sip(wcs.sip.a, wcs.sip.b, wcs.sip.ap, wcs.sip.bp, wcs.sip.crpix - first)
    for name in ("cpdis1", "cpdis2", "det2im1", "det2im2"):
        table = getattr(moved, name)
        if table is not None:
            table.crval = tuple(np.array(table.crval) - first)
    return moved
