"""The platform's own FITS layout: planes as image extensions, everything else twice.

A file has an empty primary HDU with provenance, one image extension per plane, and a one-row
table ``META`` with a JSON text from which every attribute comes back exactly. The numbers a
person looks for also stand as ordinary keywords; those are never read back.

======== =========================== =============================
plane    science image or difference reference of a pair
======== =========================== =============================
pixels   ``SCI``                     ``REF``
variance ``VAR``                     ``REFVAR``
mask     ``MASK``                    ``REFMASK``
PSF      ``PSF`` (n_terms, ny, nx)   ``REFPSF``
noise    ``NOISECORR``               ``REFNOISECORR``
======== =========================== =============================

A difference adds ``SCORE``, ``SCORR``, ``FLUX`` and ``FLUXERR``.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from astrid_assets.errors import ImageError
from astrid_assets.images.image import MaskedImage, ZeroPoint
from astrid_assets.images.masks import MASK_PLANES
from astrid_assets.images.psf import Psf
from astrid_assets.images.units import parse_unit

if TYPE_CHECKING:
    from astropy.units import UnitBase

__all__ = [
    "LAYOUT",
    "META",
    "VERSION",
    "add_cards",
    "decode_image",
    "decode_mask",
    "decode_psf",
    "decode_unit",
    "decode_wcs",
    "encode_image",
    "encode_psf",
    "image_cards",
    "mask_cards",
    "meta_hdu",
    "plane_bits",
    "plane_hdu",
    "primary_hdu",
    "read_meta",
    "read_plane",
    "wcs_hdus",
    "zeropoint_cards",
]

LAYOUT = "ASTRLAY"
"""Keyword of the primary header that tells the layout's version."""

VERSION = 1
"""Version of the layout that this module writes."""

META = "META"
"""Name of the table with the JSON text."""

_PLANE_FIELDS = ("data", "variance", "mask", "noise_correlation", "psf", "wcs", "unit", "zeropoint")
_SCALARS = tuple(f.name for f in fields(MaskedImage) if f.name not in _PLANE_FIELDS)
# keywords that WCS.to_header adds beside the transformation; times stand in our own keywords
_NOT_WCS = (
    "DATE-OBS",
    "MJD-OBS",
    "MJDREF",
    "DATEREF",
    "TIMESYS",
    "MJD-AVG",
    "DATE-AVG",
    "DATE-BEG",
    "DATE-END",
)
_IMAGE_CARDS = (
    ("EXPTIME", "exptime", "[s] exposure time that the data are scaled to"),
    ("GAIN", "gain", "electrons per unit"),
    ("RDNOISE", "read_noise", "[electron] read noise"),
    ("SATURATE", "saturation", "saturation level in units of the data"),
    ("AIRMASS", "airmass", "airmass at mid-exposure"),
    ("TIMESYS", None, "time scale"),
    ("MJD-BEG", "mjd_start", "[d] start of the (first) exposure"),
    ("MJD-AVG", "mjd_mid", "[d] middle"),
    ("MJD-END", "mjd_end", "[d] end of the (last) exposure"),
    ("NCOMBINE", "n_exposures", "number of exposures stacked"),
    ("FILTER", "band", "canonical filter name"),
    ("SURVEY", "survey", "survey profile"),
    ("DETECTOR", "detector", "detector"),
)


def add_cards(header: fits.Header, cards: Mapping[str, Any]) -> None:
    """Set keywords of any name and value, leaving out what FITS cannot hold.

    Parameters
    ----------
    header
        Header that is changed.

    cards
        Value, or (value, comment), by keyword. None and numbers that are not finite are left
        out; long or lower-case names become HIERARCH keywords; text that is not plain ASCII is
        escaped; anything else is written as JSON.
    """
    for key, entry in cards.items():
        value, comment = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, "")
        value = _card_value(value)
        if value is None:
            continue
        name = key.upper()
        plain = len(name) <= 8 and name.replace("-", "").replace("_", "").isalnum()
        # a comment that does not fit beside the value would be a warning
        room = 80 - len(name) - len(str(value)) - 24
        header[name if plain else f"HIERARCH {name}"] = (value, comment if len(comment) <= room else "")


def _card_value(value: Any) -> bool | int | float | str | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("ascii", "backslashreplace").decode().replace("\n", " ").replace("\t", " ")


def primary_hdu(kind: str, header: Mapping[str, Any] | None, cards: Mapping[str, Any]) -> fits.PrimaryHDU:
    """Return the empty primary HDU with the layout's version, our cards and the caller's."""
    from astrid_assets import __version__

    hdu = fits.PrimaryHDU()
    own = {
        LAYOUT: (VERSION, "version of the file layout"),
        "ASTRKIND": (kind, "what the file holds"),
        "CREATOR": f"astrid_assets {__version__}",
    }
    add_cards(hdu.header, {**own, **cards, **dict(header or {})})
    return hdu


def plane_hdu(name: str, data: np.ndarray, cards: Mapping[str, Any] | None = None) -> fits.ImageHDU:
    """Return one image extension."""
    hdu = fits.ImageHDU(data, name=name)
    add_cards(hdu.header, cards or {})
    return hdu


def meta_hdu(meta: Mapping[str, Any]) -> fits.BinTableHDU:
    """Return the table with the JSON text."""
    text = json.dumps(meta, default=_plain)
    column = fits.Column("JSON", f"{len(text)}A", array=np.array([text.encode()]))
    return fits.BinTableHDU.from_columns([column], name=META)


def _plain(value: Any) -> Any:
    """Turn NumPy values and paths into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)


def read_meta(hdus: fits.HDUList, kind: str) -> dict[str, Any]:
    """Return the parsed JSON text; `ImageError` if the file holds something else."""
    found = hdus[0].header.get("ASTRKIND")
    if found != kind:
        msg = f"holds {found or 'no file of this platform'}, not {kind}"
        raise ImageError(msg)
    if META not in hdus:
        msg = f"is cut off: its table {META} is missing"
        raise ImageError(msg)
    return json.loads(hdus[META].data["JSON"][0])


def read_plane(hdus: fits.HDUList, name: str, dtype: type = np.float32) -> np.ndarray | None:
    """Return a plane in native byte order, or None if it is not there."""
    if name not in hdus:
        return None
    return np.ascontiguousarray(hdus[name].data, dtype)


# --- images -------------------------------------------------------------------------------------


def zeropoint_cards(zeropoint: ZeroPoint | None) -> dict[str, Any]:
    """Return the keywords of a zero point."""
    if zeropoint is None:
        return {}
    return {
        "MAGZP": (zeropoint.magnitude, "[mag] AB magnitude of one unit"),
        "MAGZPERR": (zeropoint.error, "[mag] 1-sigma error of MAGZP"),
        "MAGZPSRC": (zeropoint.source, "where MAGZP comes from"),
    }


def image_cards(image: MaskedImage) -> dict[str, Any]:
    """Return the keywords that a person looks for in the header of an image."""
    cards: dict[str, Any] = {
        key: (getattr(image, name) if name else "UTC", text) for key, name, text in _IMAGE_CARDS
    }
    if image.unit is not None:
        cards["BUNIT"] = image.unit.to_string()
    cards["EXPID"] = image.origin.get("exposure_id")
    return {**cards, **zeropoint_cards(image.zeropoint)}


def mask_cards() -> dict[str, Any]:
    """Return the names of the mask planes by bit."""
    return {f"MASK{p.bit}": (p.name, p.description) for p in MASK_PLANES.values()}


def plane_bits() -> dict[str, int]:
    """Return the bit of every mask plane, to be written beside a mask."""
    return {p.name: p.bit for p in MASK_PLANES.values()}


def encode_psf(psf: Psf | None) -> dict[str, Any] | None:
    """Return what of a PSF is not pixels."""
    if psf is None:
        return None
    names = ("image_shape", "order", "n_stars", "chi2", "source")
    return {name: getattr(psf, name) for name in names}


def decode_psf(hdus: fits.HDUList, name: str, meta: Mapping[str, Any] | None) -> Psf | None:
    """Return the PSF of a file."""
    if meta is None:
        return None
    shape = (int(meta["image_shape"][0]), int(meta["image_shape"][1]))
    return Psf(read_plane(hdus, name), **{**meta, "image_shape": shape})


def encode_image(image: MaskedImage, *, prefix: str = "") -> tuple[list[fits.ImageHDU], dict[str, Any]]:
    """Return the extensions and the metadata of an image.

    Parameters
    ----------
    image
        Image to write.

    prefix
        Empty, or ``REF`` for the reference of a pair.
    """
    name = prefix or "SCI"
    wcs_cards, tables = wcs_hdus(image.wcs, name)
    hdus = [plane_hdu(name, image.data, {**image_cards(image), **wcs_cards})]
    if image.variance is not None:
        hdus.append(plane_hdu(f"{prefix}VAR", image.variance))
    hdus.append(plane_hdu(f"{prefix}MASK", image.mask, mask_cards()))
    if image.psf is not None:
        hdus.append(plane_hdu(f"{prefix}PSF", image.psf.basis))
    if image.noise_correlation is not None:
        hdus.append(plane_hdu(f"{prefix}NOISECORR", np.asarray(image.noise_correlation, np.float64)))
    meta = {key: getattr(image, key) for key in _SCALARS}
    meta["unit"] = None if image.unit is None else image.unit.to_string()
    meta["zeropoint"] = None if image.zeropoint is None else asdict(image.zeropoint)
    meta["psf"] = encode_psf(image.psf)
    meta["planes"] = plane_bits()
    meta["has_wcs"] = image.wcs is not None
    return [*hdus, *tables], meta


def decode_image(hdus: fits.HDUList, meta: Mapping[str, Any], *, prefix: str = "") -> MaskedImage:
    """Return the image that `encode_image` wrote."""
    name = prefix or "SCI"
    scalars = {key: meta[key] for key in _SCALARS if key in meta}
    return MaskedImage(
        data=read_plane(hdus, name),
        unit=decode_unit(meta["unit"]),
        variance=read_plane(hdus, f"{prefix}VAR"),
        mask=decode_mask(hdus, f"{prefix}MASK", meta["planes"]),
        noise_correlation=read_plane(hdus, f"{prefix}NOISECORR", np.float64),
        wcs=decode_wcs(hdus, name) if meta["has_wcs"] else None,
        psf=decode_psf(hdus, f"{prefix}PSF", meta["psf"]),
        zeropoint=None if meta["zeropoint"] is None else ZeroPoint(**meta["zeropoint"]),
        **scalars,
    )


def decode_unit(text: str | None) -> UnitBase | None:
    """Return a unit that was written with `to_string`."""
    return None if text is None else parse_unit(text)


def decode_mask(hdus: fits.HDUList, name: str, planes: Mapping[str, int]) -> np.ndarray:
    """Return a mask, its bits moved where a plane has another bit today than when it was written."""
    mask = read_plane(hdus, name, np.int32)
    if all(p in MASK_PLANES and MASK_PLANES[p].bit == bit for p, bit in planes.items()):
        return mask
    moved = np.zeros_like(mask)
    for plane, bit in planes.items():
        if plane in MASK_PLANES:
            moved |= (mask >> bit & 1) << MASK_PLANES[plane].bit
    return moved


# --- world coordinates --------------------------------------------------------------------------


def wcs_hdus(wcs: WCS | None, name: str) -> tuple[dict[str, Any], list[fits.ImageHDU]]:
    """Return the keywords of a WCS, and its distortion tables as extensions.

    Parameters
    ----------
    wcs
        World coordinate system, or None.

    name
        Name of the extension that gets the keywords; the extension versions of the tables
        count from 11 for ``REF``, so that both sides of a pair may have some.
    """
    if wcs is None:
        return {}, []
    with warnings.catch_warnings():
        # to_fits repeats header remarks that were dealt with when the image was read
        warnings.simplefilter("ignore", FITSFixedWarning)
        parts = wcs.to_fits(relax=True)
    first = 10 if name == "REF" else 0
    tables = list(parts[1:])
    for table in tables:
        table.ver += first
    cards = {c.keyword: (c.value, c.comment) for c in parts[0].header.cards if _is_wcs_card(c.keyword)}
    for key in [k for k in cards if k.endswith(".EXTVER")]:
        cards[key] = (cards[key][0] + first, cards[key][1])
    return cards, tables


def _is_wcs_card(keyword: str) -> bool:
    structural = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "", "COMMENT", "HISTORY")
    return keyword not in structural and keyword not in _NOT_WCS


def decode_wcs(hdus: fits.HDUList, name: str) -> WCS:
    """Return the WCS of an extension of our own layout."""
    header = hdus[name].header
    distorted = any(key in header for key in ("CPDIS1", "CPDIS2", "D2IMDIS1", "D2IMDIS2"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header, fobj=hdus if distorted else None)
