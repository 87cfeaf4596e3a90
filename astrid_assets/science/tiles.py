"""Tiles: large pieces of an exposure with a mask that says which pixels belong to what changed.

For models that segment images; stamps are for models that classify detections.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from astrid_assets.images.masks import BAD_BITS
from astrid_assets.images.pairs import AlignedPair, Difference
from astrid_assets.science.injection import Source, overlap, source_stamp
from astrid_assets.seeds import generator

__all__ = ["TRUTH_BITS", "Tiles", "cut_tiles", "truth_mask", "write_tiles"]

TRUTH_BITS = {
    "SOURCE": 1,  # an injected source is above the noise of the pixel
    "DETECTION": 2,  # so is a detection of the exposure as it is, unflagged: a change, for all that is known
    "UNTRUSTED": 4,  # a plane of `BAD_BITS` on either side
}
"""Bits of the truth mask of a tile."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """Pieces of one exposure."""

    images: np.ndarray
    """Science, reference on the scale of the science image, difference; float32 ``(n, 3, size, size)``."""

    truth: np.ndarray
    """Bits of `TRUTH_BITS`, uint8 ``(n, size, size)``."""

    x0: np.ndarray
    """First column in the exposure, int32 ``(n,)``."""

    y0: np.ndarray
    """First row."""


def truth_mask(
    difference: Difference, sources: Iterable[Source], detections: Iterable[Source], *, threshold: float = 1.0
) -> np.ndarray:
    """Return which pixels of a difference belong to what.

    Parameters
    ----------
    difference
        The difference.

    sources, detections
        Injected sources, and real detections with their measured fluxes.

    threshold
        Light of a source in a pixel from which the pixel is its own, sigma of the pixel.

    Returns
    -------
    numpy.ndarray
        uint8, bits of `TRUTH_BITS`.
    """
    truth = np.where((difference.mask & BAD_BITS) != 0, TRUTH_BITS["UNTRUSTED"], 0).astype(np.uint8)
    for bit, members in ((TRUTH_BITS["SOURCE"], sources), (TRUTH_BITS["DETECTION"], detections)):
        for source in members:
            stamp = source.flux * source_stamp(difference.psf, source)
            places = overlap(truth.shape, source, stamp.shape)
            if places is not None:
                inside, part = places
                seen = np.abs(stamp[part]) > threshold * np.sqrt(difference.variance[inside])
                truth[inside] |= np.where(seen, bit, 0).astype(np.uint8)
    return truth


def cut_tiles(
    pair: AlignedPair, difference: Difference, truth: np.ndarray, *, count: int, size: int, seed: str
) -> Tiles:
    """Cut tiles at random places; fewer where the image is too small for any.

    Parameters
    ----------
    pair, difference
        The normalized pair and its difference.

    truth
        From `truth_mask`.

    count, size
        Number of tiles and their side, pixels.

    seed
        Name that decides the places.
    """
    ny, nx = difference.shape
    count = count if min(ny, nx) >= size else 0
    rng = generator("tiles", seed)
    x0, y0 = rng.integers(nx - size + 1, size=count), rng.integers(ny - size + 1, size=count)
    images = np.empty((count, 3, size, size), np.float32)
    masks = np.empty((count, size, size), np.uint8)
    for i, (x, y) in enumerate(zip(x0.tolist(), y0.tolist(), strict=True)):
        part = np.s_[y : y + size, x : x + size]
        ratio = pair.normalization.flux_ratio_at(x + size / 2, y + size / 2, difference.shape)
        images[i] = pair.science.data[part], pair.reference.data[part] * ratio, difference.data[part]
        masks[i] = truth[part]
    return Tiles(images, masks, x0.astype(np.int32), y0.astype(np.int32))


def write_tiles(stream: BinaryIO, tiles: Tiles) -> None:
    """Write tiles as an uncompressed ``.npz``; the same tiles give the same bytes."""
    np.savez(stream, images=tiles.images, truth=tiles.truth, x0=tiles.x0, y0=tiles.y0)
