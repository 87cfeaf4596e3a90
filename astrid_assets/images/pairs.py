"""What flows from a pair of images to their difference."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.images.image import MaskedImage, ZeroPoint
from astrid_assets.images.masks import BAD_BITS

if TYPE_CHECKING:
    from astropy.units import UnitBase
    from astropy.wcs import WCS

    from astrid_assets.images.psf import Psf

__all__ = [
    "AlignedPair",
    "Difference",
    "Normalization",
    "PairGeometry",
    "Registration",
    "difference_parameters",
]


@dataclass(frozen=True)
class Registration:
    """How the reference was placed on the science grid. All lengths are science pixels."""

    method: str
    """``wcs+stars``, ``wcs`` (nothing to refine), ``stars`` (star patterns, without WCS) or ``assumed``
    (grids taken as equal)."""

    n_matched: int = 0
    """Stars matched between the two images."""

    initial_offset: tuple[float, float] = (0.0, 0.0)
    """Median (x, y) offset science - reference of matched stars before the refinement."""

    residual_offset: tuple[float, float] = (0.0, 0.0)
    """Median (x, y) offset after it."""

    residual_rms: tuple[float, float] = (np.nan, np.nan)
    """Robust scatter (1.4826 MAD) of the (x, y) offsets after it, with the fitted terms counted."""

    order: int = 0
    """Order of the polynomial of the refinement; 0 is a shift."""

    coefficients: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,), (0.0,))
    """Offsets (x, y) in the terms of `polynomial_terms`, added to the position in the science image."""

    transform: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    """Affine map ((a, b, c), (d, e, f)) of science to reference pixels, x_ref = a x + b y + c, for ``stars``:
    it takes the place of the two WCS, after the offsets are subtracted. None otherwise."""

    resampled: bool = False
    """Whether the reference was interpolated or averaged; else its pixels are as they were."""


@dataclass(frozen=True)
class Normalization:
    """Parameters that put a pair on one flux scale. Fluxes are in the science image's unit."""

    flux_ratio: float
    """Flux of a source in the science image over its flux in the reference image."""

    flux_ratio_error: float
    """1-sigma error of `flux_ratio`."""

    flux_ratio_scatter: float
    """Robust relative scatter of the stars about `flux_ratio`, beyond their noise."""

    flux_ratio_predicted: float | None
    """Ratio expected from zero points (or exposure times); None if unknown."""

    n_stars: int
    """Stars the ratio was measured on."""

    science_background: float
    """Median sky level that was subtracted from the science image."""

    reference_background: float
    """The same of the reference image, in its own unit."""

    science_sky_rms: float
    """Robust standard deviation of blank science pixels."""

    reference_sky_rms: float
    """The same of the warped reference, in its own unit."""

    science_variance_scale: float = 1.0
    """Factor that the science variance was multiplied with to meet the measured sky noise."""

    reference_variance_scale: float = 1.0
    """The same of the reference."""

    science_static_share: float = 0.0
    """Share of the sky variance of the science image that is light both show, and that was taken out."""

    reference_static_share: float = 0.0
    """The same of the reference."""

    flux_ratio_gradient: tuple[float, float] = (0.0, 0.0)
    """Relative change of `flux_ratio` from the middle of the image to its edge in x, and to that in y."""

    shift: tuple[float, float] = (0.0, 0.0)
    """Residual (x, y) shift science - reference left to be folded into the reference PSF, pixels."""

    shift_gradient: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    """Change of the (x, y) shift from the middle of the image to its edge in x, and to that in y."""

    astrometric_noise: tuple[float, float] = (0.0, 0.0)
    """1-sigma scatter (x, y) of the registration per source, pixels, beyond photon noise."""

    psf_mismatch: float = 0.0
    """Scatter of what is left at the peaks of static sources, relative to them, beyond noise."""

    def flux_ratio_at(self, x: float, y: float, shape: tuple[int, int]) -> float:
        """Return the flux ratio at a position of an image of a given shape."""
        ny, nx = shape
        u, v = 2.0 * x / max(nx - 1, 1) - 1.0, 2.0 * y / max(ny - 1, 1) - 1.0
        along_x, along_y = self.flux_ratio_gradient
        return self.flux_ratio * float(np.exp(along_x * u + along_y * v))

    def shift_at(self, x: float, y: float, shape: tuple[int, int]) -> tuple[float, float]:
        """Return the residual (x, y) shift at a position of an image of a given shape, pixels."""
        ny, nx = shape
        u, v = 2.0 * x / max(nx - 1, 1) - 1.0, 2.0 * y / max(ny - 1, 1) - 1.0
        along_x, along_y = self.shift_gradient
        return (
            self.shift[0] + along_x[0] * u + along_y[0] * v,
            self.shift[1] + along_x[1] * u + along_y[1] * v,
        )


@dataclass(frozen=True, eq=False)
class AlignedPair:
    """A science image and its reference on the same grid."""

    science: MaskedImage
    """The science image, on its own pixels."""

    reference: MaskedImage
    """The reference resampled onto the science grid; its planes keep image names."""

    registration: Registration
    """How it got there."""

    overlap: float
    """Share of the usable science pixels that the reference covers, 0 to 1."""

    normalization: Normalization | None = None
    """Set by `astrid_assets.science.normalize`."""

    def replace(self, **changes: Any) -> AlignedPair:
        """Return a copy with some attributes changed."""
        return replace(self, **changes)


@dataclass(frozen=True, eq=False)
class PairGeometry:
    """Where the pixels of a pair lie, without the pixels."""

    shape: tuple[int, int]
    """Shape ``(ny, nx)`` of the science image."""

    wcs: WCS | None
    """WCS of the science image."""

    psf: Psf | None
    """PSF of the science image."""

    registration: Registration
    """How the reference got onto the science grid."""

    normalization: Normalization | None = None
    """Holds what shift was left."""

    @classmethod
    def of(cls, pair: AlignedPair) -> PairGeometry:
        """Return the geometry of a pair."""
        science = pair.science
        return cls(science.shape, science.wcs, science.psf, pair.registration, pair.normalization)


@dataclass(frozen=True, eq=False)
class Difference:
    """Science minus reference. Images are float32 ``(ny, nx)``; fluxes in the science image's unit."""

    data: np.ndarray
    """Difference image (ZOGY: D / F_D)."""

    variance: np.ndarray
    """Variance of `data`."""

    mask: np.ndarray
    """Bit planes of both images, int32; reference planes have ``REF_`` names."""

    psf: Psf
    """PSF of `data` (ZOGY: P_D)."""

    score: np.ndarray
    """Matched-filter significance without source noise (ZOGY: S); dimensionless."""

    score_corrected: np.ndarray
    """Significance with source and astrometric noise (ZOGY: S_corr); dimensionless."""

    flux: np.ndarray
    """PSF flux of a point source centred on each pixel."""

    flux_error: np.ndarray
    """1-sigma error of `flux`."""

    method: str = "zogy"
    """``zogy`` or ``classic``."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Quality metrics by name (`astrid_assets.science.quality`)."""

    unit: UnitBase | None = None
    """Unit of `data`."""

    wcs: WCS | None = None
    """WCS of the science image."""

    zeropoint: ZeroPoint | None = None
    """Zero point of the science image."""

    mjd_mid: float | None = None
    """Middle of the science exposure, MJD (UTC)."""

    band: str | None = None
    """Canonical filter name."""

    survey: str = "generic"
    """Survey profile."""

    origin: dict[str, Any] = field(default_factory=dict)
    """Provenance: ids of both images, parameters; JSON-compatible."""

    parameters: dict[str, Any] = field(default_factory=dict)
    """What it was made with (`difference_parameters`); JSON-compatible, more keys are kept."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(ny, nx)``."""
        return self.data.shape

    @property
    def bad(self) -> np.ndarray:
        """Boolean image of the pixels that are not to be trusted on either side."""
        return (self.mask & BAD_BITS) != 0

    def replace(self, **changes: Any) -> Difference:
        """Return a copy with some attributes changed."""
        return replace(self, **changes)


_IMAGE_PARAMETERS = (
    "mjd_start",
    "mjd_mid",
    "mjd_end",
    "exptime",
    "airmass",
    "n_exposures",
    "gain",
    "read_noise",
    "saturation",
    "band",
    "survey",
    "detector",
)


def difference_parameters(pair: AlignedPair) -> dict[str, Any]:
    """Return what a difference of a pair is made with, for `Difference.parameters`.

    Parameters
    ----------
    pair
        Aligned; also normalized, for the noise, the flux ratio and the shift.

    Returns
    -------
    dict
        ``science`` and ``reference`` (exposure id, times, exposure, gain, read noise, band, survey, unit,
        zero point, PSF), ``overlap``, ``registration`` and ``normalization`` (their fields, or None).
        JSON-compatible: lists for tuples, Python's own numbers.
    """
    return {
        "science": _image_parameters(pair.science),
        "reference": _image_parameters(pair.reference),
        "overlap": _plain(pair.overlap),
        "registration": _plain(asdict(pair.registration)),
        "normalization": None if pair.normalization is None else _plain(asdict(pair.normalization)),
    }


def _image_parameters(image: MaskedImage) -> dict[str, Any]:
    """Return the parameters of one side."""
    psf, zero = image.psf, image.zeropoint
    known = {name: getattr(image, name) for name in _IMAGE_PARAMETERS}
    known |= {
        "exposure_id": image.origin.get("exposure_id"),
        "unit": None if image.unit is None else image.unit.to_string(),
        "zeropoint": None if zero is None else asdict(zero),
        "psf": None,
    }
    if psf is not None:
        names = ("source", "n_stars", "chi2", "order")
        known["psf"] = {"fwhm": psf.fwhm, **{name: getattr(psf, name) for name in names}}
    return _plain(known)


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
