"""A simulated survey like ZTF: the same sky, seen again and again, with the dirt of real life.

Deterministic for a seed and an exposure, whatever the order, process or number of workers; shares
no code with `astrid_assets.science`.

==============  ===========================================================================
module          what it knows
==============  ===========================================================================
`seeds`         random numbers by name
`survey`        telescope, camera, filters
`tile`          where a field's exposures point
`cadence`       when
`ephemeris`     Sun, Moon, airmass
`conditions`    seeing, sky, clouds, pointing of a visit
`sky`           the catalogue of stars and galaxies
`changing`      transients, variable stars, asteroids
`optics`        the point-spread function
`render`        points of light to pixels
`scene`         the catalogue on the pixel grid
`dirt`          defects of detector and sky, the survey's mask
`exposure`      one science exposure
`reference`     the coadd
`products`      FITS files with ZTF's names and headers
`truth`         what is really in an image
`archive`       search and download
==============  ===========================================================================
"""

from astrid_assets.archives.simulated.archive import SimulatedArchive

__all__ = ["SimulatedArchive"]
