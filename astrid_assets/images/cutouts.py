"""Cutouts of one exposure as a multi-extension FITS file.

After the primary HDU with the provenance come, for each candidate and with its number as
EXTVER, the images ``SCI``, ``REF``, ``DIFF``, ``SCORE`` and ``MASK``, each with its own world
coordinates; then the table ``CANDIDATES`` with a row for each, and ``META``. The images are put
together as text and bytes: hundreds of small extensions would take astropy longer than the science.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, Sip

from astrid_assets.images import layout
from astrid_assets.images.triplets import STAMP_BITS, Triplets

if TYPE_CHECKING:
    import pyarrow as pa
    from astropy.units import UnitBase

__all__ = ["IMAGES", "stamp_wcs", "write_cutouts"]

IMAGES = ("SCI", "REF", "DIFF", "SCORE", "MASK")
"""Names of the image extensions of a candidate."""

_BLOCK = 2880
_TABLES = ("cpdis1", "cpdis2", "det2im1", "det2im2")
_CANDIDATE_CARDS = (
    ("CANDID", "candidate_id", "candidate"),
    ("MJD-AVG", "mjd_mid", "[d] middle of the exposure (UTC)"),
    ("FILTER", "band", "canonical filter name"),
    ("CANDX", "x", "[pix] position in the exposure, 0-based"),
    ("CANDY", "y", "[pix] position in the exposure, 0-based"),
    ("CANDRA", "ra", "[deg] right ascension (ICRS)"),
    ("CANDDEC", "dec", "[deg] declination (ICRS)"),
    ("SNR", "snr", "absolute S_corr at the peak"),
    ("FLUX", "flux", "signed PSF flux of the change"),
    ("FLUXERR", "flux_error", "1-sigma error of FLUX"),
)


def write_cutouts(
    stream: BinaryIO,
    triplets: Triplets,
    table: pa.Table,
    *,
    wcs: WCS | None = None,
    unit: UnitBase | None = None,
    header: Mapping[str, Any] | None = None,
) -> None:
    """Write cutouts with checksums; the same cutouts give the same bytes.

    Parameters
    ----------
    stream
        Open binary file.

    triplets
        Cutouts of one exposure.

    table
        What is known about each, in the same order: columns of a candidate table, and ``mjd_mid``.

    wcs
        WCS of the exposure.

    unit
        Unit of the stamps.

    header
        More keywords for the primary header (provenance).
    """
    cards = {
        "NCAND": (len(triplets), "candidates, numbered by EXTVER"),
        "STAMPSZ": (triplets.size, "[pix] side of a stamp"),
        "CENTPIX": (triplets.size // 2 + 1, "[pix] pixel that holds the position, 1-based"),
    }
    frame = [
        layout.primary_hdu("cutouts", header, cards),
        _table_hdu(table),
        layout.meta_hdu({"images": IMAGES, "mask": _mask_bits(), "n_candidates": len(triplets)}),
    ]
    for hdu in frame:
        # the default remark is the time of writing
        hdu.add_checksum(when="of this extension")
    whole = BytesIO()
    fits.HDUList(frame).writeto(whole)
    first = len(frame[0].header.tostring())
    stream.write(whole.getbuffer()[:first])
    stream.writelines(_extensions(triplets, table, wcs, unit))
    stream.write(whole.getbuffer()[first:])


def stamp_wcs(wcs: WCS, x: int, y: int, size: int) -> WCS:
    """Return the WCS of a stamp: that of the image with its reference pixel moved.

    Parameters
    ----------
    wcs
        WCS of the image. A SIP polynomial moves along; where there are distortion tables, a
        gnomonic projection about the middle of the stamp takes their place.

    x, y
        Middle pixel of the stamp in the image, 0-based.

    size
        Odd side of the stamp, pixels.
    """
    if _has_tables(wcs):
        return _gnomonic(wcs, x, y, size)
    first = np.array([x - size // 2, y - size // 2], float)
    moved = wcs.deepcopy()
    moved.wcs.crpix = wcs.wcs.crpix - first
    if wcs.sip is not None:
        moved.sip = Sip(wcs.sip.a, wcs.sip.b, wcs.sip.ap, wcs.sip.bp, wcs.sip.crpix - first)
    return moved


def _has_tables(wcs: WCS) -> bool:
    return any(getattr(wcs, name) is not None for name in _TABLES)


def _gnomonic(wcs: WCS, x: int, y: int, size: int) -> WCS:
    """Return a gnomonic WCS that agrees with another one around a pixel to first order."""
    local = WCS(naxis=2)
    local.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    local.wcs.radesys = "ICRS"
    local.wcs.crval = wcs.all_pix2world([[x, y]], 0)[0]
    local.wcs.crpix = [1.0, 1.0]
    local.wcs.cd = np.eye(2)
    half = size / 2
    sides = np.array([[x + half, y], [x - half, y], [x, y + half], [x, y - half]])
    plane = local.wcs_world2pix(wcs.all_pix2world(sides, 0), 0)
    local.wcs.cd = np.column_stack([plane[0] - plane[1], plane[2] - plane[3]]) / size
    local.wcs.crpix = [size // 2 + 1.0, size // 2 + 1.0]
    local.wcs.set()
    return local


def _mask_bits() -> dict[str, int]:
    """Return the bits of the MASK images by name, those of `STAMP_BITS` for each channel."""
    wide = len(STAMP_BITS)
    return {
        f"{channel}_{name}": bit << wide * i
        for i, channel in enumerate(IMAGES[:3])
        for name, bit in STAMP_BITS.items()
    }


# --- the table ------------------------------------------------------------------------------------


def _table_hdu(table: pa.Table) -> fits.BinTableHDU:
    """Return the candidates as a binary table; EXTVER says which images are whose."""
    numbers = fits.Column("EXTVER", "J", array=np.arange(1, table.num_rows + 1))
    columns = [_column(table, name) for name in table.column_names]
    return fits.BinTableHDU.from_columns([numbers, *columns], name="CANDIDATES")


def _column(table: pa.Table, name: str) -> fits.Column:
    """Return one column; a missing number is NaN, a missing text empty."""
    import pyarrow as pa

    column, kind = table.column(name), table.schema.field(name).type
    unit = (table.schema.field(name).metadata or {}).get(b"unit", b"").decode()
    if pa.types.is_boolean(kind):
        return fits.Column(name, "L", array=column.fill_null(False).to_numpy())
    if pa.types.is_integer(kind):
        return fits.Column(name, "K", unit=unit or None, array=column.fill_null(0).to_numpy())
    if pa.types.is_floating(kind):
        return fits.Column(name, "D", unit=unit or None, array=column.to_numpy().astype(float))
    texts = [str(v or "").encode("ascii", "backslashreplace") for v in column.to_pylist()]
    return fits.Column(name, f"{max(map(len, texts), default=0) or 1}A", array=np.array(texts, "S"))


# --- the images -----------------------------------------------------------------------------------


def _extensions(
    triplets: Triplets, table: pa.Table, wcs: WCS | None, unit: UnitBase | None
) -> Iterator[bytes]:
    """Yield the image extensions, those of one candidate after those of the other."""
    shifts = (np.arange(3) * len(STAMP_BITS))[None, :, None, None]
    masks = np.bitwise_or.reduce(triplets.mask.astype(np.int16) << shifts, axis=1).astype(">i2")
    planes = [triplets.stamps[:, i].astype(">f4") for i in range(3)] + [triplets.score.astype(">f4"), masks]
    remarks = _cards({"BUNIT": None if unit is None else unit.to_string()})
    names = _cards({f"MBIT{bit.bit_length() - 1}": name for name, bit in _mask_bits().items()})
    notes = {"SCI": remarks, "REF": remarks, "DIFF": remarks, "SCORE": [], "MASK": names}
    known = {key: (name, text) for key, name, text in _CANDIDATE_CARDS if name in table.column_names}
    dates = _dates(table)
    sky = _sky_cards(wcs, triplets)
    for i, row in enumerate(table.select([name for name, _ in known.values()]).to_pylist()):
        cards = {key: (row[name], text) for key, (name, text) in known.items()}
        own = _cards(cards | dates.get(row.get("mjd_mid"), {})) + sky[i]
        for name, plane in zip(IMAGES, planes, strict=True):
            yield _extension(name, i + 1, plane[i], [*notes[name], *own])


def _dates(table: pa.Table) -> dict[float | None, dict[str, str]]:
    """Return the calendar date of each time; without it astropy warns that it had to add one."""
    from astropy.time import Time

    times = set(table.column("mjd_mid").to_pylist()) if "mjd_mid" in table.column_names else set()
    return {mjd: {"DATE-AVG": Time(mjd, format="mjd").isot} for mjd in times if mjd is not None}


def _cards(cards: Mapping[str, Any]) -> list[str]:
    """Return header lines of 80 characters."""
    header = fits.Header()
    layout.add_cards(header, cards)
    return [str(card) for card in header.cards]


def _sky_cards(wcs: WCS | None, triplets: Triplets) -> list[list[str]]:
    """Return the lines with the WCS of each stamp."""
    places = list(zip(triplets.x.tolist(), triplets.y.tolist(), strict=True))
    if wcs is None:
        return [[] for _ in places]
    if _has_tables(wcs):
        stamps = [stamp_wcs(wcs, x, y, triplets.size) for x, y in places]
        return [_cards(layout.wcs_hdus(stamp, "SCI")[0]) for stamp in stamps]
    cards, _ = layout.wcs_hdus(wcs, "SCI")
    same = _cards({key: card for key, card in cards.items() if key not in {"CRPIX1", "CRPIX2"}})
    # only the reference pixel differs: the rest is written once
    first = wcs.wcs.crpix + triplets.size // 2 - np.array(places, float).reshape(-1, 2)
    text = "pixel coordinate of reference point"
    return [[*same, _line("CRPIX1", x, text), _line("CRPIX2", y, text)] for x, y in first.tolist()]


def _line(key: str, value: int | float | str, text: str = "") -> str:
    """Return one header line of a plain value, laid out as astropy does (it compares CHECKSUM as text)."""
    shown = f"'{value:<8}'".ljust(20) if isinstance(value, str) else f"{value!r:>20}"
    return f"{key:<8}= {shown}{' / ' if text else ''}{text}"[:80].ljust(80)


def _extension(name: str, version: int, image: np.ndarray, cards: Sequence[str]) -> bytes:
    """Return the bytes of an image extension with DATASUM and CHECKSUM."""
    data = image.tobytes()
    data += bytes(-len(data) % _BLOCK)
    data_sum = _sum32(data)
    lines = [
        _line("XTENSION", "IMAGE", "Image extension"),
        _line("BITPIX", -32 if image.dtype.kind == "f" else 16),
        _line("NAXIS", 2),
        _line("NAXIS1", image.shape[1]),
        _line("NAXIS2", image.shape[0]),
        _line("PCOUNT", 0),
        _line("GCOUNT", 1),
        _line("EXTNAME", name),
        _line("EXTVER", version, "number of the candidate"),
        *cards,
        _line("DATASUM", str(data_sum), "of this extension"),
        _line("CHECKSUM", "0" * 16, "of this extension"),
        "END",
    ]
    header = "".join(lines)
    header = header.ljust(len(header) + -len(header) % _BLOCK).encode("ascii")
    total = _folded(_sum32(header) + data_sum)
    return header.replace(b"'" + b"0" * 16 + b"'", b"'" + _encoded(total) + b"'", 1) + data


def _sum32(block: bytes) -> int:
    """Return the ones'-complement sum of the 32-bit words of a block (FITS 4.0, 4.4.2.7)."""
    return _folded(int(np.frombuffer(block, ">u4").sum(dtype=np.uint64)))


def _folded(total: int) -> int:
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


_PUNCTUATION = frozenset(range(0x3A, 0x41)) | frozenset(range(0x5B, 0x61))


def _encoded(total: int) -> bytes:
    """Return the complement of a sum as the sixteen characters of CHECKSUM (FITS 4.0, appendix J)."""
    text = bytearray(16)
    for i, byte in enumerate((0xFFFFFFFF ^ total).to_bytes(4, "big")):
        four = [byte // 4 + 0x30] * 4
        four[0] += byte % 4
        while any(c in _PUNCTUATION for c in four):
            for j in (0, 2):
                if four[j] in _PUNCTUATION or four[j + 1] in _PUNCTUATION:
                    four[j], four[j + 1] = four[j] + 1, four[j + 1] - 1
        text[i::4] = bytes(four)
    return bytes(text[-1:] + text[:-1])
