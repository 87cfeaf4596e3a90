"""The planes that come with an image, in other extensions or in files beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.errors import ImageError
from astrid_assets.images.headers import header_value
from astrid_assets.images.masks import bits
from astrid_assets.images.psf import Psf

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from astrid_assets.surveys import MaskTable, Profile

__all__ = [
    "apply_coverage",
    "decode_mask",
    "find_companions",
    "psf_from_stamp",
    "variance_from",
]

_SUFFIXES = ("", ".fz", ".gz")


def find_companions(path: Path, profile: Profile) -> dict[str, Path]:
    """Return the companion files that lie beside an image, by role; the first of each role counts.

    Parameters
    ----------
    path
        The image, local or a `upath.UPath`.

    profile
        Survey profile with the patterns.
    """
    found: dict[str, Path] = {}
    for role, name in profile.companion_names(path.name):
        if role in found:
            continue
        for suffix in _SUFFIXES:
            candidate = path.parent / f"{name}{suffix}"
            if candidate.is_file():
                found[role] = candidate
                break
    return found


# --- masks --------------------------------------------------------------------------------------


def decode_mask(values: np.ndarray, table: MaskTable, header: Mapping[str, Any]) -> np.ndarray:
    """Return our bit planes for the values of a survey's mask image.

    Parameters
    ----------
    values
        Mask image, integers or numbers; not finite counts as 0.

    table
        Meaning of its bits or codes.

    header
        Header of the image, for the version that decides between bits and codes.
    """
    values = np.nan_to_num(np.asarray(values), nan=0, posinf=0, neginf=0).astype(np.int64)
    if not table.bits and not table.codes:
        return np.where(values != 0, bits("BAD"), 0).astype(np.int32)
    mask = np.zeros(values.shape, np.int32)
    if table.codes and _uses_codes(table, header):
        for code, plane in table.codes.items():
            mask[values == code] |= bits(plane)
        return mask
    for bit, plane in table.bits.items():
        mask[(values >> bit & 1) == 1] |= bits(plane)
    return mask


def _uses_codes(table: MaskTable, header: Mapping[str, Any]) -> bool:
    if table.codes_from is None or not table.bits:
        return True
    key, since = table.codes_from
    version = header_value(header, key)
    # pipelines that do not tell their version are taken as today's
    return version is None or _version(str(version)) >= _version(since)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


# --- noise --------------------------------------------------------------------------------------


def variance_from(
    role: str, values: np.ndarray, data: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the variance, and the mask with the pixels that have none.

    Parameters
    ----------
    role
        ``variance``, ``weight`` (inverse variance) or ``noise`` (1 sigma).

    values
        The plane, of the same shape as the image.

    data
        The image.

    mask
        Our bit planes.

    Returns
    -------
    tuple
        Variance, or None if no pixel has a usable one; new mask. Where the plane is not positive
        or not finite, the pixel becomes BAD (NO_DATA where the image has no value either) and
        gets the median variance, so that nothing downstream divides by zero.
    """
    values = np.asarray(values, np.float32)
    usable = np.isfinite(values) & (values > 0)
    if not usable.any():
        return None, mask
    variance = np.empty(values.shape, np.float32)
    good = values[usable].astype(np.float64)
    variance[usable] = {"weight": lambda v: 1.0 / v, "noise": np.square, "variance": np.asarray}[role](good)
    variance[~usable] = np.median(variance[usable])
    flagged = mask | np.where(usable, 0, np.where(np.isfinite(data), bits("BAD"), bits("NO_DATA")))
    return variance, flagged.astype(np.int32)


def apply_coverage(coverage: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mask with NO_DATA where nothing was observed (coverage not positive)."""
    return mask | np.where(np.nan_to_num(coverage) > 0, 0, bits("NO_DATA")).astype(np.int32)


# --- point-spread functions ---------------------------------------------------------------------


def psf_from_stamp(
    stamp: np.ndarray, header: Header | Mapping[str, Any], shape: tuple[int, int], pixel_scale: float | None
) -> Psf:
    """Return a PSF at the pixels of the image: odd-sized, unit sum, centred.

    Parameters
    ----------
    stamp
        Image of the PSF, two-dimensional (the first plane of a cube).

    header
        Its header; ``OVERSAMP`` or ``PIXELSCL`` (arcsec) tell a finer sampling. Without them the
        stamp has the pixels of the image.

    shape
        Shape ``(ny, nx)`` of the image.

    pixel_scale
        Pixel scale of the image, arcsec, or None.
    """
    stamp = np.nan_to_num(np.asarray(stamp, np.float64))
    while stamp.ndim > 2:
        stamp = stamp[0]
    if stamp.ndim != 2 or min(stamp.shape) < 3 or stamp.sum() <= 0:
        msg = f"the PSF image of shape {stamp.shape} is no point-spread function"
        raise ImageError(msg)
    factor = _oversampling(header, pixel_scale)
    if factor > 1 or 0 in (stamp.shape[0] % 2, stamp.shape[1] % 2):
        stamp = _resample(stamp, factor)
    stamp = stamp / stamp.sum()
    return Psf(stamp, shape, source="file")


def _oversampling(header: Mapping[str, Any], pixel_scale: float | None) -> int:
    """Return how many stamp pixels make one image pixel."""
    own = header_value(header, "PIXELSCL")
    if isinstance(own, int | float) and own > 0 and pixel_scale:
        return max(1, round(pixel_scale / own))
    factor = header_value(header, "OVERSAMP")
    return int(factor) if isinstance(factor, int | float) and factor >= 1 else 1


def _resample(stamp: np.ndarray, factor: int) -> np.ndarray:
    """Integrate a stamp over pixels `factor` times larger, centred where the stamp's flux is.

    For even sides the middle lies between pixels; a spline brings it onto one.
    """
    from scipy.ndimage import convolve1d, map_coordinates

    ny, nx = stamp.shape
    box = np.ones(factor) if factor % 2 else np.r_[0.5, np.ones(factor - 1), 0.5]
    if factor > 1:
        stamp = convolve1d(convolve1d(stamp, box, axis=0, mode="constant"), box, axis=1, mode="constant")
    half_y, half_x = (ny - 1) // 2 // factor, (nx - 1) // 2 // factor
    y = (ny - 1) / 2 + factor * np.arange(-half_y, half_y + 1)
    x = (nx - 1) / 2 + factor * np.arange(-half_x, half_x + 1)
    grid = np.meshgrid(y, x, indexing="ij")
    return map_coordinates(stamp, grid, order=3, mode="nearest")
