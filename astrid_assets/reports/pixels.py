"""Pixels for people: images made smaller and stretched to what an eye can see."""

from __future__ import annotations

import numpy as np

__all__ = ["asinh", "binned", "spread"]


def binned(data: np.ndarray, good: np.ndarray, bins: int) -> np.ndarray:
    """Return the mean of the good pixels of each bin; NaN where most are bad.

    Parameters
    ----------
    data
        Image ``(ny, nx)``.

    good
        Pixels that may be trusted, same shape.

    bins
        Image pixels to a pixel of the result, a side; what does not fill a bin is left out.
    """
    ny, nx = (n // bins for n in data.shape)
    shape = (ny, bins, nx, bins)
    values = np.where(good, data, np.float32(0))
    # rows first: adding whole rows is many times faster than adding inside them
    weight, total = (
        plane[: ny * bins, : nx * bins].reshape(shape).sum(axis=1, dtype=np.float32).sum(axis=2)
        for plane in (good, values)
    )
    return np.where(weight > 0.5 * bins**2, total / np.maximum(weight, 1), np.nan)


def spread(values: np.ndarray) -> tuple[float, float]:
    """Return median and robust standard deviation (1.4826 MAD) of the finite values; (0, 1) of none.

    The deviation is 1 where it would be 0, so that it can be divided by.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    middle = float(np.median(finite))
    return middle, float(1.4826 * np.median(np.abs(finite - middle))) or 1.0


def asinh(values: np.ndarray, *, floor: float = -1.0, soft: float = 5.0, bright: float = 99.7) -> np.ndarray:
    """Stretch to 0..1: the sky a dark grey with little noise, bright sources not burnt out.

    Parameters
    ----------
    values
        Pixels of any unit; NaN stays NaN.

    floor
        What becomes black, in sigma of the sky.

    soft
        Where the stretch turns from linear to logarithmic, in sigma.

    bright
        Percentile that becomes white.
    """
    sky, noise = spread(values)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros_like(values)
    top = max(float(np.percentile(finite, bright) - sky) / noise, 10.0)
    low, high, scaled = (np.arcsinh(v / soft) for v in (floor, top, (values - sky) / noise))
    return np.clip((scaled - low) / (high - low), 0.0, 1.0)
