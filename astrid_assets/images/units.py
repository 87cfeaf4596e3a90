"""Units of pixel values as surveys spell them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astropy.units import UnitBase

__all__ = ["parse_unit"]

# spellings seen in archives that astropy does not know; "electrons per exposure" is electron
_SPELLINGS = {
    "adu": "adu",
    "adus": "adu",
    "dn": "adu",
    "count": "adu",
    "counts": "adu",
    "cts": "adu",
    "data numbers": "adu",
    "dn/s": "adu / s",
    "adu/s": "adu / s",
    "counts/s": "adu / s",
    "count/s": "adu / s",
    "counts/sec": "adu / s",
    "cps": "adu / s",
    "e": "electron",
    "e-": "electron",
    "electrons": "electron",
    "electron": "electron",
    "e-/s": "electron / s",
    "e/s": "electron / s",
    "electrons/s": "electron / s",
    "electron/s": "electron / s",
    "nanomaggy": "nmgy",
    "nanomaggies": "nmgy",
    "nmgy": "nmgy",
    "mjy/sr": "MJy / sr",
    "njy": "nJy",
    "ujy": "uJy",
    "microjy": "uJy",
    "jy": "Jy",
}


def parse_unit(text: str | None) -> UnitBase | None:
    """Return the unit that a BUNIT value means, or None if it means nothing known.

    Parameters
    ----------
    text
        Value as written: ``ADU``, ``electrons/s``, ``nanomaggy``, ``MJy/sr``, ...
    """
    from astropy import units as u
    from astropy.units import photometric

    cleaned = " ".join((text or "").split())
    spelling = _SPELLINGS.get(cleaned.lower().replace(" / ", "/"), cleaned)
    if spelling in ("", "unknown", "UNKNOWN"):
        return None
    if spelling == "nmgy":
        return photometric.nmgy
    try:
        return u.Unit(spelling)
    except ValueError:
        return None
