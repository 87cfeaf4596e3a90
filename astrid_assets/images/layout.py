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

    from astrid_assets.images.pairs import Difference

__all__ = [
    "LAYOUT",
    "META",
    "VERSION",
    "add_cards",
    "date_cards",
    "decode_image",
    "decode_mask",
    "decode_planes",
    "decode_psf",
    "decode_unit",
    "decode_wcs",
    "encode_image",
    "encode_planes",
    "encode_psf",
    "image_cards",
    "mask_cards",
    "meta_hdu",
    "parameter_cards",
    "plane_bits",
    "plane_hdu",
    "primary_hdu",
    "read_meta",
    "read_plane",
    "unit_cards",
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
        name = name if plain else f"HIERARCH {name}"
        # a later value without a comment keeps the comment that is there
        header[name] = (
            value if not comment and name in header else (value, comment if len(comment) <= room else "")
        )


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
    for part in (own, cards, header or {}):
        add_cards(hdu.header, part)
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
    return {**cards, **date_cards(cards), **zeropoint_cards(image.zeropoint)}


def date_cards(cards: Mapping[str, Any]) -> dict[str, Any]:
    """Return the calendar dates of the MJDs among some keywords.

    Without them astropy warns that it has set them itself.
    """
    from astropy.time import Time

    dates = {}
    for key, text in (("BEG", "start"), ("AVG", "middle"), ("END", "end")):
        value = cards.get(f"MJD-{key}", (None, ""))[0]
        if value is not None and math.isfinite(value):
            dates[f"DATE-{key}"] = (Time(value, format="mjd").isot, text)
    return dates


_SIDE_CARDS = (
    # keyword for the science image and the reference, what of it, comment
    ("SCIID", "REFID", "exposure_id", "{} exposure"),
    ("MJD-BEG", "REFMJDB", "mjd_start", "[d] {} start"),
    ("MJD-AVG", "REFMJDA", "mjd_mid", "[d] {} middle"),
    ("MJD-END", "REFMJDE", "mjd_end", "[d] {} end"),
    ("EXPTIME", "REFEXPT", "exptime", "[s] {} exposure time"),
    ("NCOMBINE", "REFNCOMB", "n_exposures", "{} exposures stacked"),
    ("FILTER", "REFFILT", "band", "{} filter"),
    ("SURVEY", "REFSURV", "survey", "{} survey profile"),
    ("DETECTOR", "REFDET", "detector", "{} detector"),
    ("AIRMASS", "REFAIRM", "airmass", "{} airmass"),
    ("SCIUNIT", "REFUNIT", "unit", "{} unit of the pixels"),
    ("GAIN", "REFGAIN", "gain", "[electron/unit] {} gain"),
    ("RDNOISE", "REFRDN", "read_noise", "[electron] {} read noise"),
    ("SATURATE", "REFSATUR", "saturation", "[unit] {} saturation"),
    ("MAGZP", "REFMAGZP", "zeropoint.magnitude", "[mag] {} AB magnitude of a unit"),
    ("MAGZPERR", "REFMZERR", "zeropoint.error", "[mag] 1-sigma error of it"),
    ("MAGZPSRC", "REFMZSRC", "zeropoint.source", "where it comes from"),
    ("SCIFWHM", "REFFWHM", "psf.fwhm", "[pix] {} PSF FWHM"),
    ("SCIPSRC", "REFPSRC", "psf.source", "source of the {} PSF"),
    ("SCIPNST", "REFPNST", "psf.n_stars", "stars of the {} PSF"),
    ("SCIPCHI2", "REFPCHI2", "psf.chi2", "chi2/dof of the {} PSF"),
    ("SCIPORD", "REFPORD", "psf.order", "order of the {} PSF"),
)
_MATCH_CARDS = (
    ("OVERLAP", "overlap", "share of science pixels covered"),
    ("REGMETH", "registration.method", "registration method"),
    ("REGNSTAR", "registration.n_matched", "stars matched"),
    ("REGORDER", "registration.order", "order of the refinement"),
    ("REGDX", "registration.residual_offset.0", "[pix] residual offset, x"),
    ("REGDY", "registration.residual_offset.1", "[pix] residual offset, y"),
    ("REGRMSX", "registration.residual_rms.0", "[pix] residual scatter, x"),
    ("REGRMSY", "registration.residual_rms.1", "[pix] residual scatter, y"),
    ("FLXRATIO", "normalization.flux_ratio", "flux in science / flux in reference"),
    ("FLXRERR", "normalization.flux_ratio_error", "1-sigma error of FLXRATIO"),
    ("FLXRSCAT", "normalization.flux_ratio_scatter", "relative scatter of the stars about it"),
    ("FLXRPRED", "normalization.flux_ratio_predicted", "FLXRATIO by zero points"),
    ("FLXRNST", "normalization.n_stars", "stars for FLXRATIO"),
    ("SHIFTX", "normalization.shift.0", "[pix] shift folded into the PSF, x"),
    ("SHIFTY", "normalization.shift.1", "[pix] shift folded into the PSF, y"),
    ("ASTNOISX", "normalization.astrometric_noise.0", "[pix] scatter of positions, x"),
    ("ASTNOISY", "normalization.astrometric_noise.1", "[pix] scatter of positions, y"),
    ("PSFMISM", "normalization.psf_mismatch", "relative error of the PSF match"),
    ("SCIBKG", "normalization.science_background", "[unit] science sky level"),
    ("REFBKG", "normalization.reference_background", "[unit] reference sky level"),
    ("SCIRMS", "normalization.science_sky_rms", "[unit] science sky noise"),
    ("REFRMS", "normalization.reference_sky_rms", "[unit] reference sky noise"),
    ("SCIVSCL", "normalization.science_variance_scale", "science variance scale"),
    ("REFVSCL", "normalization.reference_variance_scale", "reference variance scale"),
)


def parameter_cards(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a pair or a difference.

    Parameters
    ----------
    parameters
        From `astrid_assets.images.pairs.difference_parameters`, or parts of it.
    """
    rows = [("TIMESYS", "UTC", "time scale")]
    for *keys, path, text in _SIDE_CARDS:
        for side, key in zip(("science", "reference"), keys, strict=True):
            rows.append((key, _at(parameters, f"{side}.{path}"), text.format(side)))
    rows += [(key, _at(parameters, path), text) for key, path, text in _MATCH_CARDS]
    cards = {key: (value, text) for key, value, text in rows}
    return {**cards, **date_cards(cards)}


def _at(parameters: Any, path: str) -> Any:
    """Return the value at a path of keys and indices; None where there is none."""
    for key in path.split("."):
        if isinstance(parameters, list) and key.isdecimal() and int(key) < len(parameters):
            parameters = parameters[int(key)]
        elif isinstance(parameters, Mapping):
            parameters = parameters.get(key)
        else:
            return None
    return parameters


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
    names = ("image_shape", "order", "n_stars", "chi2", "source", "oversampling")
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
    hdus, meta = encode_planes(image, image_cards(image), prefix=prefix)
    if image.noise_correlation is not None:
        hdus.append(plane_hdu(f"{prefix}NOISECORR", np.asarray(image.noise_correlation, np.float64)))
    return hdus, meta | {key: getattr(image, key) for key in _SCALARS}


def decode_image(hdus: fits.HDUList, meta: Mapping[str, Any], *, prefix: str = "") -> MaskedImage:
    """Return the image that `encode_image` wrote."""
    return MaskedImage(
        **decode_planes(hdus, meta, prefix=prefix),
        noise_correlation=read_plane(hdus, f"{prefix}NOISECORR", np.float64),
        **{key: meta[key] for key in _SCALARS if key in meta},
    )


def encode_planes(
    image: MaskedImage | Difference, cards: Mapping[str, Any], *, prefix: str = ""
) -> tuple[list[Any], dict[str, Any]]:
    """Return the extensions and the metadata that images and differences have in common.

    Parameters
    ----------
    image
        Has data, variance, mask, PSF, WCS, unit and zero point.

    cards
        Keywords of the extension of the pixels, beside those of the WCS.

    prefix
        As for `encode_image`.
    """
    name = prefix or "SCI"
    wcs_cards, tables = wcs_hdus(image.wcs, name)
    hdus = [plane_hdu(name, image.data, {**cards, **wcs_cards})]
    if image.variance is not None:
        hdus.append(plane_hdu(f"{prefix}VAR", image.variance, unit_cards(image, power=2)))
    hdus.append(plane_hdu(f"{prefix}MASK", image.mask, mask_cards()))
    if image.psf is not None:
        hdus.append(plane_hdu(f"{prefix}PSF", image.psf.basis))
    meta = {
        "unit": None if image.unit is None else image.unit.to_string(),
        "zeropoint": None if image.zeropoint is None else asdict(image.zeropoint),
        "psf": encode_psf(image.psf),
        "planes": plane_bits(),
        "has_wcs": image.wcs is not None,
    }
    return [*hdus, *tables], meta


def unit_cards(image: MaskedImage | Difference, *, power: int = 1) -> dict[str, Any]:
    """Return the keyword of the unit of a plane, a power of that of the pixels."""
    return {} if image.unit is None else {"BUNIT": (image.unit**power).to_string()}


def decode_planes(hdus: fits.HDUList, meta: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Return the attributes that `encode_planes` wrote, by name."""
    name = prefix or "SCI"
    return {
        "data": read_plane(hdus, name),
        "variance": read_plane(hdus, f"{prefix}VAR"),
        "mask": decode_mask(hdus, f"{prefix}MASK", meta["planes"]),
        "unit": decode_unit(meta["unit"]),
        "wcs": decode_wcs(hdus, name) if meta["has_wcs"] else None,
        "psf": decode_psf(hdus, f"{prefix}PSF", meta["psf"]),
        "zeropoint": None if meta["zeropoint"] is None else ZeroPoint(**meta["zeropoint"]),
    }


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
