"""World coordinates: the sky before and after is the same sky."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import wcs_to_celestial_frame

from astrid_assets.images.celestial import celestial_wcs, pixel_solid_angle

SHAPE = (200, 300)


def header(**cards: object) -> Header:
    base = {"NAXIS": 2, "NAXIS1": SHAPE[1], "NAXIS2": SHAPE[0], "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    base |= {"CRVAL1": 210.8, "CRVAL2": 54.3, "CRPIX1": 150.0, "CRPIX2": 90.0}
    step = {} if any(str(k).startswith(("CD", "PC")) for k in cards) else {"CDELT1": -3e-4, "CDELT2": 3e-4}
    return Header({**base, **step, **{k.replace("__", "-"): v for k, v in cards.items()}})


def truth(head: Header, x: np.ndarray, y: np.ndarray) -> SkyCoord:
    """Return the sky by astropy's own reading of the header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(head)
    return SkyCoord(*wcs.all_pix2world(x, y, 0), unit="deg", frame=wcs_to_celestial_frame(wcs)).icrs


@pytest.mark.parametrize(
    ("cards", "arcsec"),
    [
        ({"RADESYS": "ICRS"}, 1e-6),
        ({"RADESYS": "FK5", "EQUINOX": 2000.0}, 1e-5),
        ({"EQUINOX": 2000.0}, 1e-5),
        ({"RADECSYS": "FK5", "EQUINOX": 1975.0}, 1e-5),
        # FK4 has elliptic aberration in it, which no rotation takes out: 0.01 pixels are 0.01 arcsec
        ({"RADESYS": "FK4", "EQUINOX": 1950.0}, 0.011),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, 1e-5),
        ({"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CRVAL2": 0.0}, 1e-5),
        ({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "RADESYS": "FK5"}, 1e-5),
        ({"CD1_1": -2e-4, "CD1_2": 2e-5, "CD2_1": 2e-5, "CD2_2": 2e-4}, 1e-6),
        (
            {
                "CDELT1": 3e-4,
                "CDELT2": 3e-4,
                "PC001001": -1.0,
                "PC001002": 0.0,
                "PC002001": 0.0,
                "PC002002": 1.0,
            },
            1e-6,
        ),
        ({"CROTA2": 33.0, "CDELT1": -3e-4, "CDELT2": 3e-4}, 1e-6),
        (
            {
                "CTYPE1": "RA---TPV",
                "CTYPE2": "DEC--TPV",
                "PV1_1": 1.01,
                "PV1_4": 0.01,
                "PV2_1": 0.99,
                "RADESYS": "FK5",
            },
            1e-5,
        ),
    ],
)
def test_the_sky_stays_where_it_is(cards: dict, arcsec: float) -> None:
    head = header(**cards)
    wcs, reason = celestial_wcs(head, SHAPE)
    assert reason is None
    assert wcs.wcs.radesys == "ICRS"
    y, x = np.mgrid[0:200:50, 0:300:60].reshape(2, -1).astype(float)
    after = SkyCoord(*wcs.all_pix2world(x, y, 0), unit="deg")
    assert after.separation(truth(head, x, y)).arcsec.max() < arcsec


def test_the_old_matrix_of_pan_starrs_turns_the_first_axis() -> None:
    cards = {"CDELT1": 3e-4, "CDELT2": 3e-4, "PC001001": -1.0, "PC001002": 0.0}
    wcs, _ = celestial_wcs(header(**cards, PC002001=0.0, PC002002=1.0), SHAPE)
    assert wcs.all_pix2world(200, 89, 0)[0] < 210.8


def test_sip_is_kept() -> None:
    cards = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "RADESYS": "FK5"}
    cards |= {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_0_2": -2e-5, "A_0_2": 0.0, "B_2_0": 0.0}
    head = header(**cards)
    wcs, _ = celestial_wcs(head, SHAPE)
    x, y = np.array([0.0, 299.0]), np.array([0.0, 199.0])
    after = SkyCoord(*wcs.all_pix2world(x, y, 0), unit="deg")
    assert after.separation(truth(head, x, y)).arcsec.max() < 1e-5
    straight = SkyCoord(*wcs.wcs_pix2world(x, y, 0), unit="deg")
    assert after.separation(straight).arcsec.min() > 0.1


def test_latitude_first() -> None:
    swapped = header(CTYPE1="DEC--TAN", CTYPE2="RA---TAN", CRVAL1=54.3, CRVAL2=210.8, RADESYS="ICRS")
    wcs, reason = celestial_wcs(swapped, SHAPE)
    assert reason is None
    ra, dec = wcs.all_pix2world(149, 99, 0)
    assert ra > 210.8
    assert dec == pytest.approx(54.3, abs=1e-6)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (Header({"RA": "12:00:00", "DEC": "+10:00:00"}), "no world coordinates in the header"),
        (
            Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 1.0, "CRVAL2": 2.0}),
            "no world coordinates",
        ),
        (header(CTYPE1="LINEAR", CTYPE2="LINEAR"), "not celestial"),
        (header(CTYPE1="HPLN-TAN", CTYPE2="HPLT-TAN"), "not on the sky"),
        (header(CD1_1=0.0, CD1_2=0.0, CD2_1=0.0, CD2_2=0.0), "no world coordinates"),
        (header(CTYPE1="RA---XYZ", CTYPE2="DEC--XYZ"), "world coordinates"),
    ],
)
def test_no_sky_is_invented(head: Header, reason: str) -> None:
    wcs, told = celestial_wcs(head, SHAPE)
    assert wcs is None
    assert reason in told


def test_solid_angle() -> None:
    wcs, _ = celestial_wcs(header(RADESYS="ICRS"), SHAPE)
    assert pixel_solid_angle(wcs) == pytest.approx(np.radians(3e-4) ** 2, rel=1e-6)
    assert pixel_solid_angle(None) is None
