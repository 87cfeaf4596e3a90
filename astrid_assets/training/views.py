"""What a model sees: a view of the stamps about their centre, normalized, with nothing missing.

The order matters: the background goes first, then what is missing becomes 0 (so that it looks like
sky), then the scale. A missing pixel never takes part in a statistic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.images.triplets import LARGEST_VALUE, STAMP_BITS, crop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["VIEWS", "VIEW_BITS", "model_view"]

VIEW_BITS = {
    "MISSING": 1,  # some pixels had no value; they are 0
    "EMPTY": 2,  # no pixel had a value; all are 0
    "FLAT": 4,  # all values are equal, so that there is no scale; all are 0
}
"""Bits of the flags of a view, one number a channel."""

_NO_VALUE = STAMP_BITS["OUTSIDE"] | STAMP_BITS["MISSING"]

_MADS = 3.0
"""Scale of the asinh view in median absolute deviations: linear for the noise, logarithmic for sources."""


def model_view(
    stamps: np.ndarray, *, view: str = "l2", size: int = 63, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return stamps as a model takes them; always finite, whatever the stamps hold.

    Parameters
    ----------
    stamps
        Triplets ``(n, 3, S, S)``. NaN, infinite and sentinel values (above `LARGEST_VALUE`) are missing.

    view
        ``l2`` (each stamp over its Euclidean norm, as braai and BTSbot do), ``asinh``
        (``asinh((x - median) / (3 MAD))``), or ``raw`` (the unit of the stamps); the background, the median
        of the stamp, is off in all of them.

    size
        Side of the view, pixels, about the same centre (see `astrid_assets.images.triplets.crop`).

    mask
        Bits of `STAMP_BITS` ``(n, 3, S, S)``: flagged pixels take no part in background and MAD where there
        are enough others.

    Returns
    -------
    values
        float32 ``(n, 3, size, size)``; 0 where a value is missing.

    flags
        uint8 ``(n, 3)``, bits of `VIEW_BITS`.

    Raises
    ------
    ValueError
        There is no such view, or the stamps are too small for it.
    """
    if view not in VIEWS:
        msg = f"there is no view {view!r}; there are {', '.join(VIEWS)}"
        raise ValueError(msg)
    with np.errstate(invalid="ignore"):  # a NaN compares as False, with a warning on some processors
        seen = crop(np.asarray(stamps), size)
        good = np.abs(seen) <= LARGEST_VALUE
    marks = np.zeros(good.shape, np.uint8) if mask is None else crop(mask, size)
    good &= (marks & _NO_VALUE) == 0
    values = np.where(good, seen, np.float32(0)).astype(np.float32, copy=False)
    trusted = _trusted(good, marks)
    values -= _median(values, trusted)
    values *= good
    scaled, flat = VIEWS[view](values, trusted)
    return scaled, _flags(good, flat)


def _trusted(good: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Return the pixels that statistics are made of: all with a value where none is unflagged."""
    unflagged = good & (marks == 0)
    return np.where(unflagged.any(axis=(-2, -1), keepdims=True), unflagged, good)


def _median(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Return the median over the last two axes, kept as axes of length 1; 0 where no pixel is of use."""
    pixels = values.shape[-1] * values.shape[-2]
    flat, usable = values.reshape(-1, pixels), use.reshape(-1, pixels)
    count = np.count_nonzero(usable, axis=1)
    medians = np.zeros(len(flat), np.float32)
    whole = count == pixels
    if whole.any():
        medians[whole] = _middle(flat if whole.all() else flat[whole])
    for row in np.flatnonzero(~whole & (count > 0)):
        medians[row] = _middle(flat[row, usable[row]])
    return medians.reshape(*values.shape[:-2], 1, 1)


def _middle(values: np.ndarray) -> np.ndarray:
    """Return the median over the last axis of finite values; `numpy.median` takes twice as long."""
    count = values.shape[-1]
    kth = sorted({(count - 1) // 2, count // 2})
    return np.partition(values, kth, axis=-1)[..., kth].mean(axis=-1)


def _l2(values: np.ndarray, _use: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # in double precision the squares of the largest values still fit
    norm = np.sqrt(np.einsum("...yx,...yx->...", values, values, dtype=np.float64))[..., None, None]
    return _divided(values, norm)


def _asinh(values: np.ndarray, use: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spread = np.abs(values)
    mad = _median(spread, use).astype(np.float64)
    # more than half of the pixels may be equal; then the mean deviation is the scale
    mean = np.where(use, spread, 0).mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    scaled, flat = _divided(values, _MADS * np.where(mad > 0, mad, mean))
    return np.arcsinh(scaled), flat


def _raw(values: np.ndarray, _use: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values, ~values.any(axis=(-2, -1))


def _divided(values: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values over scale, and where there is none."""
    usable = scale > np.finfo(np.float32).tiny
    factor = np.where(usable, 1 / np.where(usable, scale, 1), 0).astype(np.float32)
    with np.errstate(over="ignore"):  # one huge value on almost nothing
        scaled = values * factor
    return np.clip(scaled, -LARGEST_VALUE, LARGEST_VALUE, out=scaled), ~usable[..., 0, 0]


def _flags(good: np.ndarray, flat: np.ndarray) -> np.ndarray:
    found = {
        "MISSING": ~good.all(axis=(-2, -1)),
        "EMPTY": ~good.any(axis=(-2, -1)),
        "FLAT": flat,
    }
    return np.sum([VIEW_BITS[name] * where for name, where in found.items()], axis=0).astype(np.uint8)


VIEWS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "l2": _l2,
    "asinh": _asinh,
    "raw": _raw,
}
"""Normalizations by name."""
