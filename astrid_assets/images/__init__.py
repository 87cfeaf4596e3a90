"""What flows through the platform: images, point-spread functions, pairs and differences."""

from astrid_assets.images.fits import (
    read_difference,
    read_geometry,
    read_image,
    read_pair,
    write_difference,
    write_image,
    write_pair,
)
from astrid_assets.images.image import MaskedImage, ZeroPoint
from astrid_assets.images.masks import MASK_PLANES
from astrid_assets.images.pairs import AlignedPair, Difference, Normalization, PairGeometry, Registration
from astrid_assets.images.psf import Psf

__all__ = [
    "MASK_PLANES",
    "AlignedPair",
    "Difference",
    "MaskedImage",
    "Normalization",
    "PairGeometry",
    "Psf",
    "Registration",
    "ZeroPoint",
    "read_difference",
    "read_geometry",
    "read_image",
    "read_pair",
    "write_difference",
    "write_image",
    "write_pair",
]
