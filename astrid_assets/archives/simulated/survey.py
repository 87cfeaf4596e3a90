"""The telescope, its camera and its sky: every number of the simulated survey that is a fact of ZTF.

Sources: Bellm et al. 2019 (PASP 131, 018002), Dekany et al. 2020 (PASP 132, 038001), Masci et al.
2019 (PASP 131, 018003).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "BANDS",
    "EXPTIME",
    "GAIN",
    "LATITUDE",
    "LONGITUDE",
    "PIXEL_SCALE",
    "READ_NOISE",
    "SATURATION",
    "SURVEY_START",
    "Band",
]

PIXEL_SCALE = 1.01
"""Arcsec per pixel (Bellm et al. 2019, table 1)."""

GAIN = 6.2
"""Electrons per ADU (Dekany et al. 2020)."""

READ_NOISE = 10.0
"""Electrons (Bellm et al. 2019, table 1)."""

SATURATION = 50000.0
"""ADU; full well of 310 000 electrons (within the range of Dekany et al. 2020)."""

EXPTIME = 30.0
"""Seconds, of every exposure of the public survey (Bellm et al. 2019)."""

LATITUDE, LONGITUDE = 33.3563, -116.8650
"""Palomar Observatory, degrees north and east."""

SURVEY_START = 58194
"""MJD of the first night, 2018-03-17 (begin of the public survey)."""


@dataclass(frozen=True)
class Band:
    """A filter and what the air and the sky do in it."""

    name: str
    """Canonical name."""

    filter_id: int
    """ZTF's ``fid``."""

    code: str
    """ZTF's code in file names."""

    zeropoint: float
    """AB magnitude of 1 ADU in 30 s at airmass 1, clear sky (ZTF reference image zero points)."""

    extinction: float
    """Magnitudes per airmass (ZTF Science Data System explanatory supplement, section 13.4)."""

    sky: float
    """Dark sky at the zenith, AB mag / arcsec^2 (Bellm et al. 2019)."""

    moon: float
    """Colour of moonlit sky, V - band, mag."""

    seeing: float
    """Median FWHM in arcsec at airmass 1 (Bellm et al. 2019: 2.1 g, 2.0 r, 2.1 i)."""

    refraction: float
    """Differential refraction, arcsec per mag of g-r and tan z, redder stars lower (Filippenko 1982)."""

    cadence: float
    """Share of a field's nights in which the band is taken."""

    colour_coefficient: float
    """CLRCOEFF: slope of the calibration against PS1 g-r (median over ZTF's science images)."""


BANDS: Mapping[str, Band] = {
    band.name: band
    for band in (
        Band("g", 1, "zg", 26.325, 0.20, 22.01, -0.1, 2.10, 0.060, 0.90, -0.05),
        Band("r", 2, "zr", 26.275, 0.15, 21.15, 0.2, 2.00, 0.020, 0.95, 0.10),
        Band("i", 3, "zi", 25.660, 0.07, 19.89, 0.4, 2.00, 0.008, 0.40, 0.02),
    )
}
"""Filters by canonical name."""
