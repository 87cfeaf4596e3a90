"""Mask planes: every bit of a mask, registered once.

A mask is an int32 image in which 0 means good. Planes that come from the reference keep a
name of their own (``REF_`` in front), so that a flag on a difference image says which side
it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = [
    "BAD_BITS",
    "HOLLOW_BITS",
    "MASK_PLANES",
    "MaskPlane",
    "bits",
    "names",
    "reference_mask",
]


@dataclass(frozen=True)
class MaskPlane:
    """One bit of a mask."""

    name: str
    """Name, as written to the FITS header."""

    bit: int
    """Bit number, counted from 0."""

    description: str
    """What a set bit means."""

    bad: bool = True
    """Whether the value of such a pixel is not to be trusted."""


_IMAGE_PLANES = (
    ("BAD", "dead, hot or noisy pixel, or bad column", True),
    ("SATURATED", "at or above the saturation level", True),
    ("BLEED", "charge bled from a saturated pixel", True),
    ("COSMIC_RAY", "hit by a cosmic ray", True),
    ("STREAK", "satellite or aircraft trail", True),
    ("GHOST", "reflection of a bright star", True),
    ("SPIKE", "diffraction spike or halo of a bright star", True),
    ("EDGE", "too near the edge of the image to be trusted", True),
    ("NO_DATA", "no finite value, or outside the image", True),
    ("INTERPOLATED", "value filled in from neighbouring pixels", True),
    ("SUSPECT", "known doubt (non-linear, low response), still usable", False),
    ("CROWDED", "a catalogued or detected source covers the pixel", False),
)
_REFERENCE_OFFSET = len(_IMAGE_PLANES)
_DIFFERENCE_PLANES = (("NEAR_BRIGHT_STAR", "residuals of a bright star may dominate the noise here", False),)


def _register() -> dict[str, MaskPlane]:
    own = [MaskPlane(n, i, d, b) for i, (n, d, b) in enumerate(_IMAGE_PLANES)]
    reference = [
        MaskPlane(f"REF_{p.name}", p.bit + _REFERENCE_OFFSET, f"reference: {p.description}", p.bad)
        for p in own
    ]
    first = 2 * _REFERENCE_OFFSET
    difference = [MaskPlane(n, first + i, d, b) for i, (n, d, b) in enumerate(_DIFFERENCE_PLANES)]
    return {plane.name: plane for plane in own + reference + difference}


MASK_PLANES: dict[str, MaskPlane] = _register()
"""All planes by name; the order is that of their bits."""


def bits(*plane_names: str) -> np.int32:
    """Return the bit mask of some planes.

    Parameters
    ----------
    *plane_names
        Names from `MASK_PLANES`; an unknown name is a `KeyError`.
    """
    value = 0
    for name in plane_names:
        value |= 1 << MASK_PLANES[name].bit
    return np.int32(value)


BAD_BITS: np.int32 = bits(*(p.name for p in MASK_PLANES.values() if p.bad))
"""Bits of all planes whose pixels are not to be trusted."""


HOLLOW_BITS: np.int32 = BAD_BITS & ~bits("GHOST", "SPIKE", "REF_GHOST", "REF_SPIKE")
"""Bits of the planes whose pixel values say nothing about the sky; under extra light they still do."""


def reference_mask(mask: np.ndarray) -> np.ndarray:
    """Move the planes of an image's mask to their ``REF_`` counterparts."""
    own = (1 << _REFERENCE_OFFSET) - 1
    moved = np.bitwise_and(mask, np.int32(own), dtype=np.int32)
    return np.left_shift(moved, np.int32(_REFERENCE_OFFSET), out=moved)


def names(value: int) -> list[str]:
    """Return the names of the planes set in one mask value, in order of bit."""
    return [p.name for p in MASK_PLANES.values() if value >> p.bit & 1]
