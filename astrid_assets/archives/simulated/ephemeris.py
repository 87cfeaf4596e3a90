"""Where the Sun, the Moon and a field stand over Palomar: low-precision formulae, scalar floats.

Accurate to about 0.01 deg (Sun) and 0.3 deg (Moon): Astronomical Almanac, sections C and D; Meeus,
Astronomical Algorithms, chapters 12, 25, 47.
"""

from __future__ import annotations

from math import acos, asin, atan2, cos, degrees, exp, log10, pi, radians, sin, tan

from astrid_assets.archives.simulated.survey import LATITUDE, LONGITUDE

__all__ = [
    "airmass",
    "altitude",
    "ecliptic_latitude",
    "hour_angle",
    "moon_illumination",
    "moon_position",
    "moon_sky",
    "parallactic_angle",
    "separation",
    "sun_position",
]

_OBLIQUITY = radians(23.4393)


def _equatorial(longitude: float, latitude: float) -> tuple[float, float]:
    """Return (ra, dec) in degrees of an ecliptic position in radians."""
    x = cos(latitude) * cos(longitude)
    y = cos(latitude) * sin(longitude) * cos(_OBLIQUITY) - sin(latitude) * sin(_OBLIQUITY)
    z = cos(latitude) * sin(longitude) * sin(_OBLIQUITY) + sin(latitude) * cos(_OBLIQUITY)
    return degrees(atan2(y, x)) % 360.0, degrees(asin(z))


def ecliptic_latitude(ra: float, dec: float) -> float:
    """Return the ecliptic latitude of a position, all in degrees."""
    a, d = radians(ra), radians(dec)
    return degrees(asin(sin(d) * cos(_OBLIQUITY) - cos(d) * sin(_OBLIQUITY) * sin(a)))


def _sun_longitude(mjd: float) -> float:
    days = mjd - 51544.5
    anomaly = radians(357.528 + 0.9856003 * days)
    return radians(280.460 + 0.9856474 * days + 1.915 * sin(anomaly) + 0.020 * sin(2 * anomaly))


def sun_position(mjd: float) -> tuple[float, float]:
    """Return (ra, dec) of the Sun in degrees."""
    return _equatorial(_sun_longitude(mjd), 0.0)


def _moon_ecliptic(mjd: float) -> tuple[float, float]:
    t = (mjd - 51544.5) / 36525.0
    mean, anomaly = radians(218.316 + 481267.881 * t), radians(134.963 + 477198.867 * t)
    elongation, node = radians(297.850 + 445267.111 * t), radians(93.272 + 483202.018 * t)
    longitude = mean + radians(
        6.289 * sin(anomaly) + 1.274 * sin(2 * elongation - anomaly) + 0.658 * sin(2 * elongation)
    )
    return longitude, radians(5.128 * sin(node))


def moon_position(mjd: float) -> tuple[float, float]:
    """Return geocentric (ra, dec) of the Moon in degrees."""
    return _equatorial(*_moon_ecliptic(mjd))


def moon_illumination(mjd: float) -> float:
    """Return the illuminated fraction of the Moon, negative while it wanes (as ZTF's MOONILLF)."""
    longitude, latitude = _moon_ecliptic(mjd)
    elongation = (longitude - _sun_longitude(mjd)) % (2 * pi)
    fraction = (1 - cos(elongation) * cos(latitude)) / 2
    return fraction if elongation < pi else -fraction


def hour_angle(mjd: float, ra: float) -> float:
    """Return the hour angle at Palomar in degrees, -180 to 180."""
    sidereal = 280.46062 + 360.98564737 * (mjd - 51544.5) + LONGITUDE
    return (sidereal - ra + 180.0) % 360.0 - 180.0


def altitude(mjd: float, ra: float, dec: float) -> float:
    """Return the altitude over Palomar in degrees."""
    h, d, p = radians(hour_angle(mjd, ra)), radians(dec), radians(LATITUDE)
    return degrees(asin(sin(p) * sin(d) + cos(p) * cos(d) * cos(h)))


def airmass(altitude_deg: float) -> float:
    """Return the airmass at an altitude in degrees above 0 (Pickering 2002)."""
    return 1.0 / sin(radians(altitude_deg + 244.0 / (165.0 + 47.0 * altitude_deg**1.1)))


def parallactic_angle(mjd: float, ra: float, dec: float) -> float:
    """Return the direction of the zenith in degrees, counted from north through east."""
    h, d, p = radians(hour_angle(mjd, ra)), radians(dec), radians(LATITUDE)
    return degrees(atan2(sin(h), tan(p) * cos(d) - sin(d) * cos(h)))


def separation(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Return the angle between two (ra, dec) in degrees."""
    (a, b), (c, d) = (tuple(map(radians, position)) for position in (first, second))
    return degrees(acos(max(-1.0, min(1.0, sin(b) * sin(d) + cos(b) * cos(d) * cos(a - c)))))


def moon_sky(mjd: float, ra: float, dec: float, *, extinction: float) -> float:
    """Return the V surface brightness that moonlight adds, mag / arcsec^2; 99 with the Moon down.

    Krisciunas & Schaefer 1991 (PASP 103, 1033), equations 3, 15, 18, 20, 21.
    """
    moon = moon_position(mjd)
    height = altitude(mjd, *moon)
    if height <= 0:
        return 99.0
    phase = degrees(acos(1 - 2 * abs(moon_illumination(mjd))))
    lag = 180.0 - phase
    rho = separation(moon, (ra, dec))
    scatter = 10**5.36 * (1.06 + cos(radians(rho)) ** 2) + 10 ** (6.15 - rho / 40.0)
    light = 10 ** (-0.4 * (3.84 + 0.026 * lag + 4e-9 * lag**4))
    x_moon, x = ((1 - 0.96 * sin(radians(90 - h)) ** 2) ** -0.5 for h in (height, altitude(mjd, ra, dec)))
    nanolambert = light * scatter * 10 ** (-0.4 * extinction * x_moon) * (1 - 10 ** (-0.4 * extinction * x))
    return (20.7233 - log10(max(nanolambert, exp(-20.0)) / 34.08) / log10(exp(1.0))) / 0.92104
