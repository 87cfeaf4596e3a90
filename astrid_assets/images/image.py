"""`MaskedImage`: pixels with everything that is known about them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.images.masks import BAD_BITS, bits

if TYPE_CHECKING:
    from astropy.units import UnitBase
    from astropy.wcs import WCS

    from astrid_assets.images.psf import Psf

__all__ = ["MaskedImage", "ZeroPoint"]


@dataclass(frozen=True)
class ZeroPoint:
    """AB magnitude of one unit per pixel."""

    magnitude: float
    """AB magnitude of a source of one `MaskedImage.unit`."""

    error: float = np.nan
    """1-sigma error in magnitudes; NaN where unknown."""

    source: str = "header"
    """``header`` or ``catalogue``."""

    @property
    def njy(self) -> float:
        """Flux density of one unit, in nanojansky (AB zero point 31.4 mag for 1 nJy)."""
        return float(10 ** (-0.4 * (self.magnitude - 31.4)))


LARGEST = 1e18
"""Values beyond this are sentinels for missing data (3.4e38 is usual); their squares overflow in float32."""


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """An image of the sky. Only `data` is required; what is unknown is None.

    Pixels are addressed (y, x), 0-based, with centres at integers. Instances are never changed
    in place; `replace` makes a changed copy.
    """

    data: np.ndarray
    """Pixel values, float32 ``(ny, nx)``, native byte order; NaN where there is none."""

    unit: UnitBase | None = None
    """Unit of `data`, per pixel (adu, electron, nJy) or per solid angle (MJy/sr)."""

    variance: np.ndarray | None = None
    """Variance in unit^2, float32; includes the sky, also after the sky is subtracted."""

    mask: np.ndarray | None = None
    """Bit planes of `astrid_assets.images.masks`, int32, 0 = good. A boolean mask means BAD."""

    noise_correlation: np.ndarray | None = None
    """Autocorrelation of the noise, odd-sized, 1 at zero lag; None means white."""

    wcs: WCS | None = None
    """Celestial world coordinate system (ICRS), or None."""

    psf: Psf | None = None
    """Point-spread function."""

    zeropoint: ZeroPoint | None = None
    """Photometric zero point (AB); None gives null magnitudes, never a default."""

    gain: float | None = None
    """Electrons per unit; for a mean of n frames, n times that of one frame."""

    read_noise: float | None = None
    """Read noise in electrons."""

    saturation: float | None = None
    """Level in `unit` at and above which pixels are saturated."""

    exptime: float | None = None
    """Exposure time in seconds that `data` is scaled to."""

    airmass: float | None = None
    """Airmass at mid-exposure."""

    mjd_start: float | None = None
    """Start of the (first) exposure, MJD (UTC)."""

    mjd_mid: float | None = None
    """Middle, MJD (UTC)."""

    mjd_end: float | None = None
    """End of the (last) exposure, MJD (UTC)."""

    n_exposures: int = 1
    """Number of exposures that were stacked."""

    band: str | None = None
    """Canonical name of the physical filter, from the survey profile."""

    survey: str = "generic"
    """Name of the survey profile."""

    detector: str | None = None
    """Detector (CCD, quadrant, chip)."""

    origin: dict[str, Any] = field(default_factory=dict)
    """Provenance: exposure id, path, sha256, header values worth keeping; JSON-compatible."""

    def __post_init__(self) -> None:
        data = np.ascontiguousarray(self.data, np.float32)
        if data.ndim != 2 or data.size == 0:
            msg = f"an image is two-dimensional and not empty, not of shape {data.shape}"
            raise ValueError(msg)
        if not _all_known(data):
            with np.errstate(invalid="ignore"):
                data = np.where(np.abs(data) < LARGEST, data, np.float32(np.nan))
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "mask", self._full_mask())
        if self.variance is not None:
            variance = np.ascontiguousarray(self.variance, np.float32)
            if variance.shape != data.shape:
                msg = f"the variance has shape {variance.shape}, the image {data.shape}"
                raise ValueError(msg)
            object.__setattr__(self, "variance", variance)

    def _full_mask(self) -> np.ndarray:
        """Return the mask as bit planes, with NO_DATA wherever a value is not finite."""
        if self.mask is None:
            mask = np.zeros(self.data.shape, np.int32)
        elif np.asarray(self.mask).dtype == bool:
            mask = np.where(self.mask, bits("BAD"), 0).astype(np.int32)
        else:
            mask = np.asarray(self.mask).astype(np.int32, copy=False)
        if mask.shape != self.data.shape:
            msg = f"the mask has shape {mask.shape}, the image {self.data.shape}"
            raise ValueError(msg)
        for plane in (self.data, self.variance):
            if plane is not None and not _all_known(plane):
                with np.errstate(invalid="ignore"):
                    mask = np.where(np.abs(plane) < LARGEST, mask, mask | bits("NO_DATA"))
        return mask

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(ny, nx)``."""
        return self.data.shape

    @cached_property
    def bad(self) -> np.ndarray:
        """Boolean image of the pixels that are not to be trusted; not to be changed in place."""
        return (self.mask & BAD_BITS) != 0

    @property
    def pixel_scale(self) -> float | None:
        """Side of a pixel at the centre of the image in arcsec (root of its area); None without WCS."""
        if self.wcs is None:
            return None
        from astropy.wcs.utils import proj_plane_pixel_area

        return float(np.sqrt(proj_plane_pixel_area(self.wcs)) * 3600.0)

    def replace(self, **changes: Any) -> MaskedImage:
        """Return a copy with some attributes changed."""
        unknown = changes.keys() - {f.name for f in fields(self)}
        if unknown or not changes.keys().isdisjoint({"data", "variance", "mask"}):
            return replace(self, **changes)
        # pixels that were checked before are not checked again
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__ | changes)
        return copy


def _all_known(plane: np.ndarray) -> bool:
    """Return whether all values are finite and no sentinels; the extremes tell without a copy."""
    low, high = plane.min(), plane.max()
    return bool(low > -LARGEST and high < LARGEST)
