"""Cutout triplets: science, reference and difference around a position, all on one grid.

A triplet is an integer crop, never resized or shifted: the pixel that holds the position is the
middle one. What the image does not have is NaN and flagged; untrusted pixels keep their values and
are flagged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CHANNELS",
    "LARGEST_VALUE",
    "STAMP_BITS",
    "Triplets",
    "crop",
    "read_triplets",
    "write_triplets",
]

CHANNELS = ("science", "reference", "difference")
"""Order of the channels."""

STAMP_BITS = {
    "OUTSIDE": 1,  # beyond the edge of the image
    "MISSING": 2,  # no finite value there (also sentinels such as 3.4e38)
    "BAD": 4,  # a plane of `BAD_BITS` says that the value is not to be trusted
    "SATURATED": 8,  # saturated or bled
}
"""Bits of `Triplets.mask`."""

LARGEST_VALUE = 1e30
"""Larger absolute values are no measurement but a sentinel, such as FLT_MAX in ZTF alert packets."""


@dataclass(frozen=True, eq=False)
class Triplets:
    """Cutouts of n positions of one exposure."""

    stamps: np.ndarray
    """float32 ``(n, 3, size, size)``, channels as `CHANNELS`, size odd.

    All channels are background-subtracted and on the flux scale and in the unit of the science image; NaN
    where `mask` has OUTSIDE or MISSING.
    """

    mask: np.ndarray
    """uint8 ``(n, 3, size, size)``, bits of `STAMP_BITS`."""

    score: np.ndarray
    """S_corr, float32 ``(n, size, size)``; NaN where there is none."""

    x: np.ndarray
    """Column of the middle pixel in the exposure, int32 ``(n,)``, 0-based."""

    y: np.ndarray
    """Row of the middle pixel."""

    def __post_init__(self) -> None:
        n, size = len(self.x), self.stamps.shape[-1]
        if size % 2 == 0:
            msg = f"a stamp has an odd size, so that there is a middle pixel, not {size}"
            raise ValueError(msg)
        expected = {"stamps": (n, 3, size, size), "mask": (n, 3, size, size), "score": (n, size, size)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                msg = f"{name} has shape {getattr(self, name).shape}, not {shape}"
                raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def size(self) -> int:
        """Side of a stamp, pixels."""
        return self.stamps.shape[-1]

    @property
    def bad_fraction(self) -> np.ndarray:
        """Share of flagged pixels of each channel, ``(n, 3)``."""
        return (self.mask != 0).mean(axis=(2, 3))

    @property
    def at_edge(self) -> np.ndarray:
        """Whether a stamp reaches beyond the image, boolean ``(n,)``."""
        return (self.mask & STAMP_BITS["OUTSIDE"] != 0).any(axis=(1, 2, 3))

    def take(self, rows: Any) -> Triplets:
        """Return some of the triplets, by index or boolean mask."""
        return Triplets(*(getattr(self, name)[rows] for name in _ARRAYS))


_ARRAYS = ("stamps", "mask", "score", "x", "y")


def write_triplets(stream: BinaryIO, triplets: Triplets) -> None:
    """Write triplets as an uncompressed ``.npz``; the same triplets give the same bytes."""
    np.savez(stream, **{name: getattr(triplets, name) for name in _ARRAYS})


def read_triplets(path: Path | Any) -> Triplets:
    """Read what `write_triplets` wrote; ``path`` may be of an object store."""
    with path.open("rb") as stream, np.load(stream) as arrays:
        return Triplets(*(arrays[name] for name in _ARRAYS))


def crop(stamps: np.ndarray, size: int) -> np.ndarray:
    """Return a view of stamps about the same centre.

    The centre of a side of N pixels is pixel ``N // 2`` (0-based), for odd and even N alike: 63 and 64 of
    65 and 128 of 129 all have the middle pixel of the stamp as theirs.

    Parameters
    ----------
    stamps
        Array ``(..., S, S)``.

    size
        Side of the view, pixels.

    Raises
    ------
    ValueError
        The stamps do not reach that far.
    """
    full = stamps.shape[-1]
    start = full // 2 - size // 2
    if size < 1 or start < 0 or start + size > full:
        msg = f"stamps of {full} pixels have no view of {size} pixels about their centre"
        raise ValueError(msg)
    return stamps[..., start : start + size, start : start + size]
