"""IRSA's archive of the Zwicky Transient Facility: images, light curves, forced photometry.

================  =================================================================
module            what it knows
================  =================================================================
`names`           what the files are called and where they lie
`search`          which exposures and references there are
`cutouts`         pieces of images, and whether a piece is what it has to be
`light_curves`    photometry of the sources of IRSA's catalogue
`forced`          photometry at any position, ordered and fetched later
`archive`         search and download for the platform
================  =================================================================
"""

from astrid_assets.archives.irsa_ztf.archive import IrsaZtfArchive

__all__ = ["IrsaZtfArchive"]
