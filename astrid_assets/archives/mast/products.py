"""Which files of an observation are its image, its weight and its mask: by the archive's own fields.

MAST lists everything that belongs to an observation: raw data, catalogues, previews, jitter files, and
for a mosaic of JWST each of its exposures, the same file up to hundreds of times (astropy/astroquery#2496).
What is taken is on a list; whatever is not, is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astrid_assets.surveys import Profile

__all__ = ["ALLOWED", "Allowed", "Product", "choose", "parse_products", "product_of", "unique"]


@dataclass(frozen=True)
class Allowed:
    """A kind of file that is taken from a mission."""

    role: str
    """``image``, or a role of a companion (`astrid_assets.archives.protocol.Download`)."""

    reason: str
    """What it is and why it is taken."""

    subgroup: str | None = None
    """``productSubGroupDescription``; None where the archive leaves that column empty."""

    filename: str | None = None
    """Pattern of ``productFilename``, for missions whose kinds of files no other column tells apart. Its
    group ``band`` is what the archive calls the filter there."""

    def takes(self, product: Product, profile: Profile, band: str) -> bool:
        """Tell whether a product is of this kind, and of a band where files of several are listed."""
        if self.filename is None:
            return product.subgroup == self.subgroup
        match = re.fullmatch(self.filename, product.filename)
        return match is not None and profile.band(match["band"]) == band


@dataclass(frozen=True)
class Product:
    """One file of an observation."""

    obsid: str
    """Number of the observation (``obsID``)."""

    obs_id: str
    """Name of the observation that the file was made for; a mosaic also lists files of its members."""

    uri: str
    """``dataURI``, what one downloads by."""

    filename: str
    """``productFilename``."""

    product_type: str
    """``SCIENCE``, ``AUXILIARY``, ``PREVIEW``, ``INFO``, ``THUMBNAIL``, ``CATALOG``."""

    subgroup: str
    """``productSubGroupDescription``: ``DRZ``, ``I2D``, ``FLC``, ...; empty where there is none."""

    kind: str
    """``dataproduct_type``: ``image``, ``cube``, ``spectrum``, ``measurements``, ..."""

    size: int
    """Bytes; 0 where the archive does not say."""

    version: str
    """``prvversion``, version of the software that made it; empty where the archive does not say."""

    rights: str
    """``dataRights``; empty where the archive does not say."""


ALLOWED: Mapping[str, tuple[Allowed, ...]] = {
    "HST": (
        Allowed("image", "drizzled and corrected for charge transfer: undistorted, cosmic rays out", "DRC"),
        Allowed("image", "drizzled: undistorted, cosmic rays out", "DRZ"),
        Allowed("image", "calibrated and corrected for charge transfer, with error and mask planes", "FLC"),
        Allowed("image", "calibrated exposure, with error and mask planes", "FLT"),
    ),
    "JWST": (
        Allowed("image", "mosaic of the dithers of an observation, with error and weight planes", "I2D"),
        Allowed("image", "calibrated exposure of one detector, with error and mask planes", "CAL"),
    ),
    "GALEX": (
        Allowed("image", "intensity map, counts per second", filename=r".+-(?P<band>[nf]d)-int\.fits(\.gz)?"),
        Allowed(
            "coverage", "relative response: exposure time", filename=r".+-(?P<band>[nf]d)-rrhr\.fits(\.gz)?"
        ),
    ),
    "SWIFT": (
        Allowed("image", "sky image, counts", filename=r"sw\d+(?P<band>u\w\w)_sk\.img(\.gz)?"),
        Allowed("coverage", "exposure map of it", filename=r"sw\d+(?P<band>u\w\w)_ex\.img(\.gz)?"),
    ),
}
"""What is taken, best first, by ``obs_collection``: of each role only the first kind that is there.

HST and JWST tell kinds apart by ``productSubGroupDescription``; planes of error, weight and mask are
extensions of the same file. GALEX and Swift leave that column empty, and list the files of all bands of a
visit, so there the documented file names decide (MAST: "GALEX file naming conventions", "Swift UVOT file
formats"), and the survey profile says which band their filter codes are."""

_NEVER = frozenset({"PREVIEW", "THUMBNAIL", "CATALOG", "INFO"})
"""Product types that hold no image to measure on."""

_LIST_MEMBERS = frozenset({"HST", "JWST"})
"""Missions whose mosaics list the files of their members as well, under the names of those."""


def parse_products(content: bytes) -> list[Product]:
    """Return the products of one page, as they are listed; errors as of `portal.parse_page`."""
    from astrid_assets.archives.mast.portal import parse_page

    return [product_of(row) for row in parse_page(content).rows]


def product_of(row: Mapping[str, Any]) -> Product:
    """Return a product from a row of the portal."""

    def text(name: str) -> str:
        value = row.get(name)
        return "" if value is None else str(value)

    return Product(
        obsid=text("obsID"),
        obs_id=text("obs_id"),
        uri=text("dataURI"),
        filename=text("productFilename"),
        product_type=text("productType").upper(),
        subgroup=text("productSubGroupDescription").upper(),
        kind=text("dataproduct_type").lower(),
        size=int(row.get("size") or 0),
        version=text("prvversion"),
        rights=text("dataRights").upper(),
    )


def unique(products: Iterable[Product]) -> list[Product]:
    """Return the products of each observation once for each ``dataURI``, in order of that."""
    first: dict[tuple[str, str], Product] = {}
    for product in products:
        first.setdefault((product.obsid, product.uri), product)
    return [first[key] for key in sorted(first)]


def choose(
    products: Sequence[Product], *, mission: str, obs_id: str, profile: Profile, band: str
) -> dict[str, Product]:
    """Return the files of an observation that are taken, by role; without ``image`` it has none.

    Parameters
    ----------
    products
        Products of the observation.

    mission
        ``obs_collection``.

    obs_id
        Name of the observation: files of the members of a mosaic are none of its own.

    profile
        Survey profile of the observation.

    band
        Its canonical band.
    """
    own = [p for p in unique(products) if p.product_type not in _NEVER and p.uri]
    if mission in _LIST_MEMBERS:
        own = [p for p in own if p.obs_id.casefold() == obs_id.casefold()]
    chosen: dict[str, Product] = {}
    for allowed in ALLOWED.get(mission, ()):
        found = [p for p in own if allowed.takes(p, profile, band)]
        if found and allowed.role not in chosen:
            chosen[allowed.role] = found[0]
    return chosen
