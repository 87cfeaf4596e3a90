"""What a model sees: a view of the stamps about their centre, normalized, with nothing missing.

The order matters: the background goes first, then what is missing becomes 0 (so that it looks like
sky), then the scale. A missing pixel never takes part in a statistic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from astrid_assets.images.triplets import LARGEST_VALUE, STAMP_BITS, crop

__all__ = ["VIEWS", "VIEW_BITS", "Scaling", "apply_view", "measure_view", "model_view"]

VIEWS = ("l2", "asinh", "raw")
"""Normalizations: over the Euclidean norm, ``asinh((x - median) / (3 MAD))``, and none."""

VIEW_BITS = {
    "MISSING": 1,  # some pixels had no value; they are 0
    "EMPTY": 2,  # no pixel had a value; all are 0
    "FLAT": 4,  # all values are equal, so that there is no scale; all are 0
}
"""Bits of the flags of a view, one number a channel."""

_NO_VALUE = STAMP_BITS["OUTSIDE"] | STAMP_BITS["MISSING"]

_MADS = 3.0
"""Scale of the asinh view in median absolute deviations: linear for the noise, logarithmic for sources."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """What makes a view of stamps: their background and scale."""

    background: np.ndarray
    """Median of the stamp, float32 ``(n, 3)``."""

    factor: np.ndarray
    """What the values are multiplied with after the background is off, float32 ``(n, 3)``."""

    flags: np.ndarray
    """uint8 ``(n, 3)``, bits of `VIEW_BITS`."""


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
    seen, good, marks = _seen(stamps, mask, size)
    scaling = _measured(seen, good, marks, view)
    return _applied(seen, good, scaling, view), scaling.flags


def measure_view(
    stamps: np.ndarray, *, view: str = "l2", size: int = 63, mask: np.ndarray | None = None
) -> Scaling:
    """Return background and scale of stamps, to be kept: they are most of the work of `model_view`."""
    return _measured(*_seen(stamps, mask, size), view)


def apply_view(
    stamps: np.ndarray,
    scaling: Scaling,
    *,
    view: str = "l2",
    size: int = 63,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return what `model_view` returns, with the `Scaling` that `measure_view` found before."""
    lacking = (scaling.flags & VIEW_BITS["MISSING"]).any(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):  # what is missing is put right below
        values = _applied(crop(stamps, size), None, scaling, view)
    if lacking.any():
        some = Scaling(scaling.background[lacking], scaling.factor[lacking], scaling.flags[lacking])
        seen, good, _ = _seen(stamps[lacking], None if mask is None else mask[lacking], size)
        values[lacking] = _applied(seen, good, some, view)
    return values


def _seen(
    stamps: np.ndarray, mask: np.ndarray | None, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return values (0 where missing), where there are any, and the mask, about the centre."""
    with np.errstate(invalid="ignore"):  # a NaN compares as False, with a warning on some processors
        seen = crop(np.asarray(stamps), size)
        good = np.abs(seen) <= LARGEST_VALUE
    marks = None if mask is None else crop(mask, size)
    if marks is not None:
        good &= (marks & _NO_VALUE) == 0
    return np.where(good, seen, np.float32(0)).astype(np.float32, copy=False), good, marks


def _measured(seen: np.ndarray, good: np.ndarray, marks: np.ndarray | None, view: str) -> Scaling:
    if view not in VIEWS:
        msg = f"there is no view {view!r}; there are {', '.join(VIEWS)}"
        raise ValueError(msg)
    trusted = good if marks is None else _trusted(good, marks)
    background = _median(seen, trusted)
    values = seen - background[..., None, None]
    values *= good
    scale = _scale(values, trusted, view)
    usable = scale > np.finfo(np.float32).tiny
    factor = np.where(usable, 1 / np.where(usable, scale, 1), 0).astype(np.float32)
    return Scaling(background, factor, _flags(good, ~usable))


def _applied(seen: np.ndarray, good: np.ndarray | None, scaling: Scaling, view: str) -> np.ndarray:
    values = np.subtract(seen, scaling.background[..., None, None], dtype=np.float32)
    if good is not None:
        values *= good
    if view != "raw":
        with np.errstate(over="ignore"):  # one huge value on almost nothing
            values *= scaling.factor[..., None, None]
        np.clip(values, -LARGEST_VALUE, LARGEST_VALUE, out=values)
    return np.arcsinh(values, out=values) if view == "asinh" else values


def _scale(values: np.ndarray, trusted: np.ndarray, view: str) -> np.ndarray:
    """Return what the values of a view are divided by, ``(n, 3)``; 0 where nothing varies."""
    if view == "raw":
        return values.any(axis=(-2, -1)).astype(np.float64)
    if view == "l2":  # in double precision the squares of the largest values still fit
        return np.sqrt(np.einsum("...yx,...yx->...", values, values, dtype=np.float64))
    spread = np.abs(values)
    mad = _median(spread, trusted).astype(np.float64)
    # more than half of the pixels may be equal; then the mean deviation is the scale
    mean = np.where(trusted, spread, 0).mean(axis=(-2, -1), dtype=np.float64)
    return _MADS * np.where(mad > 0, mad, mean)


def _trusted(good: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Return the pixels that statistics are made of: all with a value where none is unflagged."""
    unflagged = good & (marks == 0)
    return np.where(unflagged.any(axis=(-2, -1), keepdims=True), unflagged, good)


def _median(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Return the median over the last two axes, float32; 0 where no pixel is of use."""
    pixels = values.shape[-1] * values.shape[-2]
    flat, usable = values.reshape(-1, pixels), use.reshape(-1, pixels)
    count = np.count_nonzero(usable, axis=1)
    medians = np.zeros(len(flat), np.float32)
    whole = count == pixels
    if whole.any():
        medians[whole] = _middle(flat if whole.all() else flat[whole])
    for row in np.flatnonzero(~whole & (count > 0)):
        medians[row] = _middle(flat[row, usable[row]])
    return medians.reshape(values.shape[:-2])


def _middle(values: np.ndarray) -> np.ndarray:
    """Return the median over the last axis of finite values; `numpy.median` takes twice as long."""
    count = values.shape[-1]
    kth = sorted({(count - 1) // 2, count // 2})
    return np.partition(values, kth, axis=-1)[..., kth].mean(axis=-1)


def _flags(good: np.ndarray, flat: np.ndarray) -> np.ndarray:
    found = {
        "MISSING": ~good.all(axis=(-2, -1)),
        "EMPTY": ~good.any(axis=(-2, -1)),
        "FLAT": flat,
    }
    return np.sum([VIEW_BITS[name] * where for name, where in found.items()], axis=0).astype(np.uint8)
