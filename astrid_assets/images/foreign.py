"""Reading the FITS files of surveys and observatories, whatever their make."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning

from astrid_assets.errors import ImageError
from astrid_assets.images.celestial import celestial_wcs, pixel_solid_angle
from astrid_assets.images.companions import (
    apply_coverage,
    decode_mask,
    find_companions,
    psf_from_stamp,
    variance_from,
)
from astrid_assets.images.headers import Facts, facts, header_value
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.surveys import Profile, guess_profile, load_profile

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ["ASSUMABLE", "Located", "locate", "read_foreign"]

ASSUMABLE = frozenset({"gain", "band", "mjd", "zeropoint", "saturation", "exptime", "read_noise", "aligned"})
"""What a caller may state about an image whose header does not tell."""

_KEPT_KEYS = ("OBJECT", "TELESCOP", "INSTRUME", "DATE-OBS", "PROPID", "OBSID", "EXPNUM", "FILTER")
_NOISE_ROLES = ("variance", "weight", "noise")


@dataclass(frozen=True)
class Located:
    """Where the image lies in a file, and its headers."""

    index: int
    """Number of the extension."""

    header: fits.Header
    """Header of the extension, with the primary's keywords that it lacks."""

    shape: tuple[int, int]
    """Shape ``(ny, nx)``."""

    profile: Profile
    """Survey profile."""

    planes: Mapping[str, int] = field(default_factory=dict)
    """Extensions of other planes of the same image, by role."""


def _label_of(hdu: Any, index: int) -> str:
    return f"{hdu.name},{hdu.ver}" if hdu.name else str(index)


def _shape_of(header: fits.Header) -> tuple[int, int] | None:
    """Return the shape of a two-dimensional image, or None; further axes must have length 1."""
    naxis = header.get("NAXIS", 0)
    lengths = [header.get(f"NAXIS{i + 1}", 0) for i in range(naxis)]
    # axes beyond the second may only be there pro forma: which plane of a real cube, nobody said
    if naxis < 2 or 0 in lengths or any(length != 1 for length in lengths[2:]):
        return None
    return lengths[1], lengths[0]


def _why_no_image(hdus: fits.HDUList) -> str:
    """Say what a file holds instead of an image."""
    shapes = [s for hdu in hdus if hdu.is_image and (s := hdu.header.get("NAXIS", 0))]
    if any(isinstance(hdu, fits.GroupsHDU) for hdu in hdus):
        return "holds random groups, not an image"
    if any(naxis > 2 for naxis in shapes):
        return "holds a data cube with more than one plane; choose a plane first"
    if shapes:
        return "holds no two-dimensional image with pixels"
    return "holds no image, only tables or headers" if len(hdus) > 1 else "holds no image"


def locate(
    hdus: fits.HDUList, filename: str, *, survey: str | None = None, hdu: int | str | None = None
) -> Located:
    """Find the image in a file by headers only.

    Parameters
    ----------
    hdus
        Open file.

    filename
        Its name, for the profile.

    survey
        Name of the profile, or None to guess.

    hdu
        Number or name of the extension, or None.

    Raises
    ------
    ImageError
        There is no image, or more than one and none was chosen.
    """
    images = {i: s for i, h in enumerate(hdus) if h.is_image and (s := _shape_of(h.header)) is not None}
    images = {i: s for i, s in images.items() if not isinstance(hdus[i], fits.GroupsHDU)}
    if not images:
        raise ImageError(_why_no_image(hdus))
    primary = hdus[0].header
    merged = {i: _merged(primary, hdus[i].header) for i in images}
    guess = guess_profile(merged[min(images)], filename)
    profile = guess if survey is None else load_profile(survey)
    roles = {i: _role(hdus[i].name, profile) for i in images}
    index = _choose(hdus, roles, hdu)
    planes = {
        role: i
        for i, role in roles.items()
        if i != index
        and role not in (None, "image")
        and hdus[i].ver == hdus[index].ver
        and images[i] == images[index]
    }
    psfs = [i for i, role in roles.items() if role == "psf" and i != index]
    if psfs:
        planes["psf"] = psfs[0]
    return Located(index, merged[index], images[index], profile, planes)


def _merged(primary: fits.Header, header: fits.Header) -> fits.Header:
    """Return a header with the primary's keywords where it lacks them, its own world coordinates only."""
    merged = header.copy(strip=False)
    for card in primary.cards:
        if card.keyword and card.keyword not in ("COMMENT", "HISTORY") and card.keyword not in header:
            merged.append(card, end=True)
    return merged


def _role(name: str, profile: Profile) -> str | None:
    """Return the role of an extension by its name; None if the name says nothing."""
    upper = name.strip().upper()
    return next((role for role, names in profile.extensions.items() if upper in names), None)


def _choose(hdus: fits.HDUList, roles: Mapping[int, str | None], hdu: int | str | None) -> int:
    """Return the number of the extension with the image."""
    if hdu is not None:
        if isinstance(hdu, str) and hdu not in hdus:
            raise ImageError(f"has no extension {hdu!r}")
        index = hdu if isinstance(hdu, int) else hdus.index_of(hdu)
        if index not in roles:
            msg = f"extension {hdu} is no two-dimensional image"
            raise ImageError(msg)
        return index
    candidates = [i for i, role in roles.items() if role == "image"]
    candidates = candidates or [i for i, role in roles.items() if role is None]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ImageError("holds masks or weights, but no image")
    if 0 in candidates:
        return 0
    labels = ", ".join(_label_of(hdus[i], i) for i in candidates[:4])
    more = ", ..." if len(candidates) > 4 else ""
    msg = f"holds {len(candidates)} images ({labels}{more}); choose one by hdu"
    raise ImageError(msg)


# --- pixels -------------------------------------------------------------------------------------


def _pixels(hdu: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels of an extension in native byte order; scaled and blank values are resolved."""
    with warnings.catch_warnings():
        # a BLANK in an image of floats means nothing, and astropy says so
        warnings.simplefilter("ignore", VerifyWarning)
        data = hdu.data
    if data is None:
        raise ImageError("has no pixels")
    return np.asarray(data).reshape(shape)


def _full_scale(header: Mapping[str, Any]) -> float | None:
    """Return the largest value that unsigned 8-bit or 16-bit pixels can hold, None for others."""
    bitpix, zero, scale = (header.get(key, d) for key, d in (("BITPIX", 0), ("BZERO", 0), ("BSCALE", 1)))
    if scale == 1 and bitpix == 16 and zero == 32768:
        return 65535.0
    return 255.0 if scale == 1 and zero == 0 and bitpix == 8 else None


def _with_full_scale(image: MaskedImage, full: float | None) -> MaskedImage:
    """Flag pixels at the end of the converter's range: clipped, whatever the header says."""
    if full is None or not (clipped := image.data >= full).any():
        return image
    mask = image.mask | np.where(clipped, bits("SATURATED"), 0).astype(np.int32)
    level = full if image.saturation is None else min(full, image.saturation)
    return image.replace(mask=mask, saturation=level)


def _linear(data: np.ndarray, header: Mapping[str, Any]) -> np.ndarray:
    """Undo the asinh compression of Pan-STARRS pixels (Waters et al. 2020, eq. 14); others stay."""
    softening, offset = header_value(header, "BSOFTEN"), header_value(header, "BOFFSET")
    if softening is None or offset is None:
        return data
    scaled = np.asarray(data, np.float64) / (2.5 * math.log10(math.e))
    return offset + softening * 2.0 * np.sinh(scaled)


def read_foreign(
    hdus: fits.HDUList,
    path: Path | None,
    *,
    filename: str,
    survey: str | None,
    companions: bool,
    hdu: int | str | None,
    assume: Mapping[str, Any],
) -> MaskedImage:
    """Read an image from an open file of any make.

    Parameters
    ----------
    hdus
        Open file.

    path
        Where it lies, for companions; None for a stream.

    filename
        Its name.

    survey, companions, hdu, assume
        As for `astrid_assets.images.read_image`.
    """
    unknown = sorted(set(assume) - ASSUMABLE)
    if unknown:
        msg = f"cannot assume {', '.join(unknown)}; only {', '.join(sorted(ASSUMABLE))}"
        raise TypeError(msg)
    place = locate(hdus, filename, survey=survey, hdu=hdu)
    own_header = hdus[place.index].header
    full = _full_scale(own_header)
    stored = _pixels(hdus[place.index], place.shape)
    data = np.asarray(_linear(stored, own_header), np.float32)
    if not np.isfinite(data).any():
        raise ImageError("has no finite pixel value")
    wcs, reason = celestial_wcs(own_header, place.shape, hdus=hdus)
    told = facts(place.header, place.profile, pixel_area=pixel_solid_angle(wcs), assume=assume)
    if reason is not None:
        told.warnings.append(reason)
    beside = find_companions(path, place.profile) if companions and path is not None else {}
    planes = {role: (hdus[i], None) for role, i in place.planes.items()}
    image = _assemble(data, wcs, told, place, planes, beside, filename)
    return _with_full_scale(image, full)


def _assemble(
    data: np.ndarray,
    wcs: WCS | None,
    told: Facts,
    place: Located,
    planes: Mapping[str, Any],
    beside: Mapping[str, Path],
    filename: str,
) -> MaskedImage:
    """Put pixels, planes and header together."""
    arrays = {
        role: (_pixels(hdu, _plane_shape(role, hdu, place.shape)), hdu.header)
        for role, (hdu, _) in planes.items()
    }
    for role, file in beside.items():
        if role not in arrays:
            arrays[role] = _companion(file, role, place.shape)
    mask = np.zeros(place.shape, np.int32)
    if "mask" in arrays:
        mask = decode_mask(arrays["mask"][0], place.profile.mask, place.header)
    if "coverage" in arrays:
        mask = apply_coverage(arrays["coverage"][0], mask)
    variance = None
    for role in _NOISE_ROLES:
        if role in arrays and variance is None:
            variance, mask = variance_from(role, arrays[role][0], data, mask)
            if variance is None:
                told.warnings.append(f"the {role} plane holds no positive value and is not used")
    image = MaskedImage(data, variance=variance, mask=mask, wcs=wcs, **told.values)
    if "psf" in arrays:
        image = image.replace(psf=psf_from_stamp(*arrays["psf"], image.shape, image.pixel_scale))
    return image.replace(origin=_origin(told, place, beside, filename))


def _plane_shape(role: str, hdu: Any, shape: tuple[int, int]) -> tuple[int, ...]:
    return hdu.shape if role == "psf" else shape


def _companion(file: Path, role: str, shape: tuple[int, int]) -> tuple[np.ndarray, fits.Header]:
    """Return pixels and header of a companion file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VerifyWarning)
        with file.open("rb") as handle, fits.open(handle, memmap=False) as hdus:
            index = next(
                (i for i, h in enumerate(hdus) if h.is_image and h.header.get("NAXIS", 0) >= 2), None
            )
            if index is None:
                msg = f"its companion {file.name} holds no image"
                raise ImageError(msg)
            hdu = hdus[index]
            found = hdu.shape if role == "psf" else _shape_of(hdu.header)
            if role != "psf" and found != shape:
                msg = f"its companion {file.name} has shape {found}, the image {shape}"
                raise ImageError(msg)
            return _pixels(hdu, found), hdu.header


def _origin(told: Facts, place: Located, beside: Mapping[str, Path], filename: str) -> dict[str, Any]:
    """Return the provenance of an image."""
    origin: dict[str, Any] = {
        "exposure_id": filename.split(".fit", maxsplit=1)[0],
        "file": filename,
        "hdu": place.index,
        "calibration": told.calibration,
        "companions": {role: file.name for role, file in sorted(beside.items())},
        "header": {k: v for k in _KEPT_KEYS if (v := header_value(place.header, k)) is not None},
        "warnings": told.warnings,
    }
    if told.seeing is not None:
        origin["seeing"] = told.seeing
        origin["seeing_unit"] = place.profile.seeing_unit
    return origin
