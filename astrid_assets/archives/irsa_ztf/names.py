"""What ZTF's files are called, and where they lie below ``/ibe/data/ztf/products``.

Sources: ZTF Science Data System explanatory supplement, sections 3 and 4; IRSA's page of the ZTF
image service. Names are made from the columns of a search, never guessed from other names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PRODUCTS", "REFERENCE_FILES", "SCIENCE_FILES", "Quadrant"]

PRODUCTS = "/ibe/data/ztf/products"
"""Where the files lie at service ``irsa``."""

SCIENCE_FILES: Mapping[str, str] = {
    "image": "sciimg.fits",
    "mask": "mskimg.fits",
    "psf": "sciimgdaopsfcent.fits",
    "difference": "scimrefdiffimg.fits.fz",
}
"""End of the name of each file of an exposure, by role."""

REFERENCE_FILES: Mapping[str, str] = {
    "image": "refimg.fits",
    "noise": "refunc.fits",
    "coverage": "refcov.fits",
}
"""End of the name of each file of a reference, by role."""


@dataclass(frozen=True)
class Quadrant:
    """A detector quadrant on a field of the survey, seen through a filter."""

    field: int
    """Field of the survey's grid; from 1000 on of the secondary grids and special pointings."""

    ccd: int
    """CCD, 1 to 16."""

    quadrant: int
    """Quadrant of the CCD, 1 to 4."""

    filtercode: str
    """``zg``, ``zr`` or ``zi``."""

    @property
    def detector(self) -> str:
        """CCD and quadrant on one word."""
        return f"c{self.ccd:02d}_q{self.quadrant}"

    @property
    def reference_name(self) -> str:
        """Name of the reference, without the product."""
        return f"ztf_{self.field:06d}_{self.filtercode}_{self.detector}"

    def science_name(self, filefracday: str) -> str:
        """Return the name of an exposure, without the product.

        Parameters
        ----------
        filefracday
            Date and a millionth part of the day of the exposure, ``YYYYMMDDffffff``.
        """
        return f"ztf_{filefracday}_{self.field:06d}_{self.filtercode}_c{self.ccd:02d}_o_q{self.quadrant}"

    def science_path(self, filefracday: str, suffix: str) -> str:
        """Return the path of a file of an exposure.

        Parameters
        ----------
        filefracday
            As for `science_name`.

        suffix
            End of the name, such as those in `SCIENCE_FILES`.
        """
        year, day, fraction = filefracday[:4], filefracday[4:8], filefracday[8:]
        return f"{PRODUCTS}/sci/{year}/{day}/{fraction}/{self.science_name(filefracday)}_{suffix}"

    def reference_path(self, suffix: str) -> str:
        """Return the path of a file of the reference.

        Parameters
        ----------
        suffix
            End of the name, such as those in `REFERENCE_FILES`.
        """
        # the first folder holds a thousand fields: 000, or 001 for the secondary grids
        number = f"{self.field:06d}"
        folder = f"{number[:3]}/field{number}/{self.filtercode}/ccd{self.ccd:02d}/q{self.quadrant}"
        return f"{PRODUCTS}/ref/{folder}/{self.reference_name}_{suffix}"
