"""The celestial coordinate system of a header, expressed in ICRS; never an invented one."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from astropy.wcs import WCS, FITSFixedWarning

if TYPE_CHECKING:
    from astropy.coordinates import BaseCoordinateFrame, SkyCoord
    from astropy.io.fits import HDUList, Header

__all__ = ["celestial_wcs", "pixel_side", "pixel_solid_angle", "to_icrs"]

_ZENITHAL = ("AZP", "SZP", "TAN", "TPV", "STG", "SIN", "ARC", "ZPN", "ZEA", "AIR")
# what the change of frame may add, far below any registration: pixels, but not less than arcsec
_TOLERANCE_PIXELS, _TOLERANCE_ARCSEC = 0.01, 1e-3
_STEP_KEYS = ("CDELT1", "CD1_1", "CD1_2", "PC1_1", "CD001001")


def celestial_wcs(
    header: Header, shape: tuple[int, int], *, hdus: HDUList | None = None
) -> tuple[WCS | None, str | None]:
    """Return the WCS of a header in ICRS, or None and the reason why there is none.

    Linear (CD, PC, CDELT, the old PC001001), SIP, TPV and table distortions are kept.

    Parameters
    ----------
    header
        Header of the image extension.

    shape
        Shape ``(ny, nx)`` of the image.

    hdus
        The file, for distortion tables.
    """
    # without a step, or with a matrix of zeros, wcslib would take one degree for a pixel
    if "CRVAL1" not in header or not any(header.get(key) for key in _STEP_KEYS):
        return None, "no world coordinates in the header"
    try:
        with warnings.catch_warnings():
            # repairs of old headers (dates, units, RADECSYS) and of SIP without its suffix: all meant
            warnings.simplefilter("ignore", FITSFixedWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            wcs = WCS(header, fobj=hdus, fix=True)
        return _checked(wcs, shape)
    except Exception as error:  # noqa: BLE001 - wcslib raises a dozen unrelated types
        return None, f"world coordinates cannot be used ({' '.join(str(error).split())[:120]})"


def _checked(wcs: WCS, shape: tuple[int, int]) -> tuple[WCS | None, str | None]:
    """Return the celestial part in ICRS if it is sound."""
    from astropy.wcs.utils import wcs_to_celestial_frame

    if not wcs.has_celestial:
        return None, f"world coordinates are not celestial ({', '.join(map(str, wcs.wcs.ctype))})"
    if wcs.naxis > 2:
        wcs = wcs.celestial
    if wcs.wcs.lng == 1:
        wcs = _swap_axes(wcs)
    try:
        frame = wcs_to_celestial_frame(wcs)
    except ValueError:
        return None, f"world coordinates are not on the sky ({', '.join(map(str, wcs.wcs.ctype))})"
    corners = _sky(wcs, frame, shape)
    if not (np.isfinite(corners.ra.deg).all() and abs(np.linalg.det(wcs.pixel_scale_matrix)) > 0):
        return None, "world coordinates are not finite over the image"
    converted = to_icrs(wcs, frame, shape)
    if converted is None:
        return None, f"world coordinates in {frame.name}, {wcs.wcs.ctype[0]}, have no form in ICRS"
    converted.array_shape = shape
    return converted, None


def _sky(wcs: WCS, frame: BaseCoordinateFrame, shape: tuple[int, int]) -> SkyCoord:
    """Return the ICRS positions of the corners and the centre."""
    from astropy.coordinates import SkyCoord

    ny, nx = shape
    x = np.array([0, nx - 1, nx - 1, 0, (nx - 1) / 2])
    y = np.array([0, 0, ny - 1, ny - 1, (ny - 1) / 2])
    lon, lat = wcs.all_pix2world(x, y, 0)
    return SkyCoord(lon, lat, unit="deg", frame=frame).icrs


def _swap_axes(wcs: WCS) -> WCS:
    """Put longitude first; the pixel axes stay."""
    if wcs.wcs.get_pv():
        raise ValueError("latitude before longitude with projection parameters")
    swapped = wcs.deepcopy()
    swapped.wcs.ctype = [wcs.wcs.ctype[1], wcs.wcs.ctype[0]]
    swapped.wcs.crval = wcs.wcs.crval[::-1]
    swapped.wcs.cunit = [wcs.wcs.cunit[1], wcs.wcs.cunit[0]]
    matrix = wcs.pixel_scale_matrix[::-1]
    if wcs.wcs.has_cd():
        swapped.wcs.cd = matrix
    else:
        swapped.wcs.pc, swapped.wcs.cdelt = matrix, [1.0, 1.0]
    swapped.wcs.set()
    return swapped


def to_icrs(wcs: WCS, frame: BaseCoordinateFrame, shape: tuple[int, int]) -> WCS | None:
    """Express a WCS in ICRS, or return None if that cannot be done to 0.01 pixels.

    A change between frames turns the sphere, so the same projection serves with the new
    coordinates of the reference point and the native longitude of the new pole as LONPOLE.

    Parameters
    ----------
    wcs
        Celestial WCS, longitude first.

    frame
        Its frame.

    shape
        Shape ``(ny, nx)`` of the image on which the result is checked.
    """
    from astropy.coordinates import ICRS, SkyCoord

    before = _sky(wcs, frame, shape)
    turned = wcs.deepcopy()
    if frame.name != "icrs":
        reference = SkyCoord(*wcs.wcs.crval, unit="deg", frame=frame)
        phi, theta = _native_pole(wcs, reference)
        turned.wcs.crval = [reference.icrs.ra.deg, reference.icrs.dec.deg]
        turned.wcs.lonpole, turned.wcs.latpole = phi, theta
    suffixes = [str(name)[4:] for name in wcs.wcs.ctype]
    turned.wcs.ctype = [f"RA--{suffixes[0]}", f"DEC-{suffixes[1]}"]
    turned.wcs.radesys, turned.wcs.equinox = "ICRS", np.nan
    turned.wcs.set()
    after = _sky(turned, ICRS(), shape)
    side = np.degrees(np.sqrt(pixel_solid_angle(wcs))) * 3600.0
    limit = max(_TOLERANCE_ARCSEC, _TOLERANCE_PIXELS * side)
    return turned if (after.separation(before).arcsec < limit).all() else None


def _native_pole(wcs: WCS, reference: SkyCoord) -> tuple[float, float]:
    """Return native longitude and latitude of the ICRS pole, degrees.

    In a zenithal projection the native longitude of the pole turns with the direction of north at
    the reference point (Calabretta & Greisen 2002, section 2.2), which is measured there: FK4 is
    not quite a rotation of ICRS, so its pole would be the wrong place to measure.
    """
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    if str(wcs.wcs.ctype[0])[5:8] not in _ZENITHAL:
        pole = SkyCoord(0.0, 90.0, unit="deg", frame="icrs").transform_to(reference.frame)
        native = wcs.wcs.s2p([[pole.spherical.lon.deg, pole.spherical.lat.deg]], 0)
        return float(native["phi"][0]), float(native["theta"][0])
    north = reference.directional_offset_by(0.0 * u.deg, 0.1 * u.deg)
    turn = reference.icrs.position_angle(north.icrs)
    return float(wcs.wcs.lonpole + turn.wrap_at(180 * u.deg).deg), float(reference.icrs.dec.deg)


def pixel_solid_angle(wcs: WCS | None) -> float | None:
    """Return the solid angle of a pixel at the reference point, sr; None without WCS."""
    if wcs is None:
        return None
    return float(abs(np.linalg.det(wcs.pixel_scale_matrix)) * np.radians(1.0) ** 2)


def pixel_side(wcs: WCS) -> float:
    """Return the side of a pixel at the reference point, arcsec: the root of its area."""
    return float(np.degrees(np.sqrt(pixel_solid_angle(wcs))) * 3600.0)
