"""Cutouts of other surveys: is what came what was asked for."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

from astrid_assets.errors import BadAnswerError

__all__ = ["describe_cutout"]


def describe_cutout(content: bytes, *, ra: float, dec: float, width: float) -> dict[str, Any]:
    """Return what a FITS cutout holds.

    Parameters
    ----------
    content
        Bytes of the file.

    ra, dec
        Centre that was asked for, ICRS degrees.

    width
        Side that was asked for, degrees.

    Returns
    -------
    dict
        ``nx``, ``ny``; ``coverage``: share of the pixels that have a value (SkyView fills with zeros or NaN
        what a survey has not seen; where photons are counted, dark sky is zero, too); ``centre_offset``:
        pixels between the middle of the image and the centre (SkyView clients have rounded positions);
        ``width_ratio``: side of the image over that asked for.

    Raises
    ------
    BadAnswerError
        The file is no FITS image with world coordinates, or is cut off.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning
    from astropy.wcs import WCS

    if content[:6] != b"SIMPLE":
        shown = " ".join(content[:200].decode("utf-8", "replace").split()) or "(empty)"
        raise BadAnswerError(f"cutout: not a FITS file: {shown}")
    try:
        with warnings.catch_warnings():  # a short file fails below, odd headers are those of the surveys
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(io.BytesIO(content), memmap=False) as hdus:
                image, wcs = np.asarray(hdus[0].data, float), WCS(hdus[0].header)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise BadAnswerError(f"cutout: broken FITS file: {' '.join(str(error).split())[:200]}") from error
    if image.ndim != 2 or not wcs.has_celestial:
        raise BadAnswerError("cutout: not an image with celestial coordinates")
    ny, nx = image.shape
    x, y = (float(v) for v in wcs.celestial.wcs_world2pix(ra, dec, 0))
    scale = float(np.sqrt(np.abs(np.linalg.det(wcs.celestial.pixel_scale_matrix))))
    return {
        "nx": nx,
        "ny": ny,
        "coverage": float(np.mean(np.isfinite(image) & (image != 0))),
        "centre_offset": float(np.hypot(x - (nx - 1) / 2, y - (ny - 1) / 2)),
        "width_ratio": scale * nx / width,
    }
