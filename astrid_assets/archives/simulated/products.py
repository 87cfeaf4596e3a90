"""Files of the simulated survey: names, headers and companions as ZTF's, and now and then a broken one.

Names and products: ZTF Science Data System explanatory supplement, sections 3 and 4. Arrays are
written as they are; every number in the headers is what the survey would believe, not the truth.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.archives.simulated.cadence import Visit
from astrid_assets.archives.simulated.conditions import Conditions
from astrid_assets.archives.simulated.exposure import ScienceExposure
from astrid_assets.archives.simulated.grid import Cards, header_cards
from astrid_assets.archives.simulated.optics import fwhm
from astrid_assets.archives.simulated.reference import ReferenceStack
from astrid_assets.archives.simulated.render import psf_stamp
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.survey import (
    BANDS,
    EXPTIME,
    GAIN,
    PIXEL_SCALE,
    READ_NOISE,
    SATURATION,
)
from astrid_assets.archives.simulated.tile import Tile

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = [
    "CORRUPTIONS",
    "corruption",
    "limiting_magnitude",
    "reference_name",
    "science_name",
    "stored_bytes",
    "write_reference",
    "write_science",
]

CORRUPTIONS = ("truncated", "missing_keyword", "wrong_wcs")
"""What can be wrong with a file of the archive."""

_PSF_SIZE = 25
"""Side of ZTF's PSF image ``sciimgdaopsfcent``, pixels."""

_BLOCK = 2880
"""Bytes of a FITS block."""

_HEADER_BLOCKS = {"image": 3, "mask": 2, "psf": 1, "coverage": 2, "noise": 2}
_ITEM_BYTES = {"image": 4, "mask": 2, "psf": 4, "coverage": 4, "noise": 4}

_MISSING = (
    ("OBSMJD", "OBSJD", "SHUTOPEN", "SHUTCLSD"),
    ("MAGZP", "MAGZPUNC"),
    ("CTYPE1", "CTYPE2"),
)
"""Keywords that a broken header lacks: the time, the zero point or the projection."""

_SUFFIXES = {
    "science": {"image": "sciimg.fits", "mask": "mskimg.fits", "psf": "sciimgdaopsfcent.fits"},
    "reference": {"image": "refimg.fits", "coverage": "refcov.fits", "noise": "refunc.fits"},
}


def science_name(tile: Tile, visit: Visit) -> str:
    """Return ZTF's name of an exposure, without the product."""
    field_id, ccd, quadrant = tile.detector
    return f"ztf_{visit.filefracday}_{field_id:06d}_{BANDS[visit.band].code}_c{ccd:02d}_o_q{quadrant}"


def reference_name(tile: Tile, band: str) -> str:
    """Return ZTF's name of a reference, without the product."""
    field_id, ccd, quadrant = tile.detector
    return f"ztf_{field_id:06d}_{BANDS[band].code}_c{ccd:02d}_q{quadrant}"


def corruption(tile: Tile, visit: Visit) -> str | None:
    """Return what is wrong with the files of an exposure: one of `CORRUPTIONS`, or None."""
    if tile.chance("spoiled", visit.band, visit.night) >= tile.corrupt_rate:
        return None
    return CORRUPTIONS[int(tile.chance("spoiled", "kind", visit.band, visit.night) * len(CORRUPTIONS))]


def limiting_magnitude(state: Conditions) -> float:
    """Return the 5 sigma limit of a point source, AB mag.

    Noise-equivalent area 3.3 FWHM^2, as for a Moffat profile with exponent 3.
    """
    width = fwhm(state.psf)
    noise = np.sqrt(3.3 * width**2 * (state.sky / GAIN + (READ_NOISE / GAIN) ** 2))
    return float(state.zeropoint - 2.5 * np.log10(5.0 * noise))


def stored_bytes(product: str, shape: tuple[int, int]) -> dict[str, int]:
    """Return the length of each file of an exposure (``science``) or a stack (``reference``), by role."""
    lengths = {}
    for role in _SUFFIXES[product]:
        pixels = _PSF_SIZE**2 if role == "psf" else shape[0] * shape[1]
        blocks = -(-pixels * _ITEM_BYTES[role] // _BLOCK)
        lengths[role] = (_HEADER_BLOCKS[role] + blocks) * _BLOCK
    return lengths


def write_science(exposure: ScienceExposure, tile: Tile, visit: Visit, folder: Path) -> dict[str, Path]:
    """Write the files of an exposure, broken where the archive has it broken; return them by role."""
    name, state = science_name(tile, visit), exposure.state
    broken = corruption(tile, visit)
    paths = {role: folder / f"{name}_{suffix}" for role, suffix in _SUFFIXES["science"].items()}
    paths["truth"] = folder / f"{name}_truth.parquet"
    cards = header_cards(exposure.cards, state.wcs_error)
    if broken == "wrong_wcs":
        cards = _wrong_wcs(cards, tile, visit)
    header = _header(cards, _science_cards(tile, visit, state))
    if broken == "missing_keyword":
        _drop_keywords(header, tile, visit)
    _write(paths["image"], exposure.data, header, "image")
    _write(paths["mask"], exposure.mask, _header(cards, _identity_cards(tile, visit)), "mask")
    middle = (tile.nx - 1) / 2, (tile.ny - 1) / 2
    stamp = psf_stamp(state.psf, exposure.data.shape, *middle, _PSF_SIZE)
    _write(paths["psf"], stamp / stamp.sum(), _header({}, _identity_cards(tile, visit)), "psf")
    if broken:
        exposure.truth.add(kind="corrupt", label=broken, flagged=False)
    exposure.truth.write(paths["truth"])
    if broken == "truncated":
        _truncate(paths["image"], tile.chance("cut", visit.band, visit.night))
    return paths


def write_reference(reference: ReferenceStack, tile: Tile, folder: Path) -> dict[str, Path]:
    """Write the files of a reference; return them by role."""
    band = reference.frames[0].band
    name = reference_name(tile, band)
    paths = {role: folder / f"{name}_{suffix}" for role, suffix in _SUFFIXES["reference"].items()}
    paths["truth"] = folder / f"{name}_reftruth.parquet"
    error = generator("reference-wcs", *tile.key, band).normal(0.0, 0.02, 2).tolist()
    cards = header_cards(reference.cards, (*error, 0.0))
    _write(paths["image"], reference.data, _header(cards, _reference_cards(tile, reference)), "image")
    short = {"FILTER": f"ZTF_{band}", "FIELDID": tile.detector[0]}
    _write(paths["coverage"], reference.coverage, _header(cards, {**short, "BUNIT": "count"}), "coverage")
    _write(paths["noise"], reference.noise, _header(cards, {**short, "BUNIT": "DN"}), "noise")
    reference.truth.write(paths["truth"])
    return paths


def _iso(mjd: float) -> str:
    moment = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(milliseconds=round(mjd * 86400000))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]


def _identity_cards(tile: Tile, visit: Visit) -> dict[str, Any]:
    field_id, ccd, quadrant = tile.detector
    return {
        "ORIGIN": ("Simulated ZTF-like survey", "not a real observation"),
        "INSTRUME": "ZTF/MOSAIC",
        "TELESCOP": "Simulated P48",
        "FIELDID": (field_id, "field of the survey grid"),
        "CCDID": ccd,
        "QID": quadrant,
        "RCID": tile.rcid,
        "FILTER": (f"ZTF_{visit.band}", "filter"),
        "FILTERID": BANDS[visit.band].filter_id,
        "FILENAME": f"{science_name(tile, visit)}_sciimg.fits",
    }


def _science_cards(tile: Tile, visit: Visit, state: Conditions) -> dict[str, Any]:
    """Return the cards of a science image beyond its world coordinates: value, or (value, comment)."""
    band = BANDS[visit.band]
    return {
        **_identity_cards(tile, visit),
        "IMGTYPE": "object",
        "BUNIT": ("DN", "data numbers"),
        "EXPTIME": (EXPTIME, "[s]"),
        "OBSMJD": (visit.mjd_start, "MJD (UTC), shutter opens"),
        "OBSJD": (visit.mjd_start + 2400000.5, "JD (UTC), shutter opens"),
        "SHUTOPEN": (_iso(visit.mjd_start), "UTC"),
        "SHUTCLSD": (_iso(visit.mjd_end), "UTC"),
        "AIRMASS": (round(state.airmass, 3), "at mid-exposure"),
        "GAIN": (GAIN, "[electron/DN]"),
        "READNOI": (READ_NOISE, "[electron]"),
        "SATURATE": (0.95 * SATURATION, "[DN]"),
        "MAGZP": (round(state.zeropoint + state.zeropoint_error, 4), "AB mag of 1 DN"),
        "MAGZPUNC": (0.008, "[mag]"),
        "MAGZPRMS": (round(0.025 + 0.1 * state.cloud, 4), "[mag] scatter of the calibrators"),
        "CLRCOEFF": (band.colour_coefficient, "linear colour coefficient"),
        "CLRCOUNC": 0.0002,
        "PCOLOR": "g-r",
        "SEEING": (round(fwhm(state.psf), 3), "[pixel] FWHM"),
        "MAGLIM": (round(limiting_magnitude(state), 3), "[mag] 5 sigma"),
        "MOONILLF": (round(state.moon_illumination, 4), "illuminated fraction, negative: waning"),
        "MOONESB": (round(state.moon_altitude, 2), "[deg] altitude of the Moon"),
        "MOONSEP": (round(state.moon_separation, 2), "[deg]"),
        "PROGRMID": (1, "public survey"),
        "PIXSCALE": (PIXEL_SCALE, "[arcsec/pixel]"),
        "INFOBITS": (0, "processing flags"),
    }


def _reference_cards(tile: Tile, reference: ReferenceStack) -> dict[str, Any]:
    frames, band = reference.frames, reference.frames[0].band
    field_id, ccd, quadrant = tile.detector
    return {
        "ORIGIN": ("Simulated ZTF-like survey", "not a real observation"),
        "INSTRUME": "ZTF/MOSAIC",
        "TELESCOP": "Simulated P48",
        "FIELDID": field_id,
        "CCDID": ccd,
        "QID": quadrant,
        "RCID": tile.rcid,
        "FILTER": f"ZTF_{band}",
        "FILTERID": BANDS[band].filter_id,
        "IMGTYPE": "reference",
        "BUNIT": ("DN", "mean of the frames, scaled to MAGZP"),
        "EXPTIME": (EXPTIME, "[s] that the data are scaled to"),
        "NFRAMES": (len(frames), "frames stacked"),
        "STRTMJD": (frames[0].mjd_start, "MJD (UTC), first frame begins"),
        "ENDMJD": (frames[-1].mjd_end, "MJD (UTC), last frame ends"),
        "STARTOBS": (_iso(frames[0].mjd_start), "UTC"),
        "ENDOBS": (_iso(frames[-1].mjd_end), "UTC"),
        "GAIN": (round(reference.gain, 4), "[electron/DN] of the coadd"),
        "READNOI": (round(READ_NOISE * len(frames) ** 0.5, 3), "[electron] of the coadd"),
        "SATURATE": (round(reference.saturation, 1), "[DN]"),
        "MAGZP": (reference.zeropoint, "AB mag of 1 DN"),
        "MAGZPUNC": 0.004,
        "SEEING": (round(reference.fwhm, 3), "[pixel] FWHM"),
        "INFOBITS": 0,
    }


def _header(cards: Cards, rest: dict[str, Any]) -> Header:
    from astropy.io.fits import Header

    header = Header()
    for key, value in rest.items():
        header[key] = value
    for key, value in cards.items():
        header[key] = value
    if cards:
        header["RADESYS"] = "ICRS"
        header["EQUINOX"] = 2000.0
    return header


def _write(path: Path, data: np.ndarray, header: Header, role: str) -> None:
    """Write one image, its header padded with blank cards to a known number of blocks."""
    from astropy.io import fits

    hdu = fits.PrimaryHDU(data, header)
    while len(hdu.header.tostring()) < _HEADER_BLOCKS[role] * _BLOCK:
        hdu.header.append(None, bottom=True, end=True)
    hdu.add_checksum(when="checksum")  # the default comment is the time: never twice the same file
    hdu.writeto(path, overwrite=True)


def _wrong_wcs(cards: Cards, tile: Tile, visit: Visit) -> Cards:
    """Return world coordinates of a failed astrometry: far off, a little off, or mirrored."""
    rng = generator("wrong-wcs", *tile.key, visit.band, visit.night)
    kind, far, turn = rng.integers(3), rng.uniform(0.8, 2.0), rng.uniform(0.02, 0.04)
    if kind == 0:
        return {**cards, "CRVAL2": float(cards["CRVAL2"]) - np.sign(tile.dec) * far}
    if kind == 1:
        return {**cards, "CRVAL2": float(cards["CRVAL2"]) + turn}
    return {**cards, "CD1_1": -float(cards["CD1_1"])}


def _drop_keywords(header: Header, tile: Tile, visit: Visit) -> None:
    for key in _MISSING[int(tile.chance("keyword", visit.band, visit.night) * len(_MISSING))]:
        del header[key]


def _truncate(path: Path, chance: float) -> None:
    """Cut a file somewhere in its middle, as an interrupted transfer does."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(size * (0.2 + 0.7 * chance)))
