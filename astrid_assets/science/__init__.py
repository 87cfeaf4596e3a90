"""The science: pure functions on images, from a pair to its candidates."""

from astrid_assets.science.classic import classic
from astrid_assets.science.coadd import coadd
from astrid_assets.science.detection import detect
from astrid_assets.science.injection import inject
from astrid_assets.science.photometry import normalize
from astrid_assets.science.registration import align
from astrid_assets.science.stamps import cut_triplets
from astrid_assets.science.zogy import zogy

__all__ = ["align", "classic", "coadd", "cut_triplets", "detect", "inject", "normalize", "zogy"]
