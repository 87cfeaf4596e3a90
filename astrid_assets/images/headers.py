"""What a header tells about an image, by the keywords of a survey profile."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from astrid_assets.images.image import ZeroPoint
from astrid_assets.images.units import parse_unit

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.units import UnitBase

    from astrid_assets.surveys import Profile, TimeKeys

__all__ = [
    "DAYS_OF_A_STACK",
    "Facts",
    "Times",
    "calibration_version",
    "detector_type",
    "facts",
    "first",
    "gain_of",
    "header_times",
    "header_value",
    "is_stack",
    "parse_time",
    "unit_of",
    "zeropoint_of",
]

SECONDS_PER_DAY = 86400.0
_BTJD = 56999.5  # MJD of TESS's own zero of time, JD 2457000
_UNIX = 40587.0  # MJD of 1970-01-01
# texts that stand for "no value"
_NOTHING = frozenset({"", "nan", "n/a", "none", "null", "unknown", "undefined", "notpresent", "-"})
DAYS_OF_A_STACK = 1.0
"""What is combined within a night is one epoch; what spans more is a stack."""


@dataclass
class Facts:
    """Everything a header tells, with remarks about what was odd."""

    values: dict[str, Any] = field(default_factory=dict)
    """Attributes of `MaskedImage` by name."""

    warnings: list[str] = field(default_factory=list)
    """What was dropped or taken from elsewhere, in words."""

    seeing: float | None = None
    """FWHM in arcsec or pixels, as the profile says."""

    calibration: str = ""
    """Version of the reduction, as far as it matters for pairing."""


@dataclass(frozen=True)
class Times:
    """Start, middle and end of an exposure, MJD (UTC); None where unknown."""

    start: float | None = None
    mid: float | None = None
    end: float | None = None


def header_value(header: Header | Mapping[str, Any], key: str) -> Any:
    """Return the value of a keyword, or None if it is missing, empty, unreadable or "not a number"."""
    from astropy.io.fits import VerifyError
    from astropy.io.fits.card import Undefined

    try:
        value = header.get(key)
    except (VerifyError, ValueError):
        return None
    if value is None or isinstance(value, Undefined):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str) and value.strip().casefold() in _NOTHING:
        return None
    return value.strip() if isinstance(value, str) else value


def _number(value: Any) -> float | None:
    """Return a finite number, also from text, or None."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def first(header: Mapping[str, Any], keys: Sequence[Any], *, number: bool = False) -> Any:
    """Return the first value that some keywords have.

    Parameters
    ----------
    header
        Header to look in.

    keys
        Keywords in order; a nested list means the mean of those of its members that are there.

    number
        Whether only numbers count.
    """
    for key in keys:
        if isinstance(key, list | tuple):
            numbers = [n for k in key if (n := _number(header_value(header, k))) is not None]
            value: Any = sum(numbers) / len(numbers) if numbers else None
        else:
            value = header_value(header, key)
            value = _number(value) if number else value
        if value is not None:
            return value
    return None


# --- times --------------------------------------------------------------------------------------


def parse_time(value: Any, form: str = "") -> tuple[float, bool] | None:
    """Return the day number (MJD in the value's own scale) of a header's time.

    Parameters
    ----------
    value
        MJD, JD, ISO date with or without time, ``DD/MM/YY`` or ``YYMMDD``.

    form
        ``s`` (seconds from MJD 0), ``unix`` (seconds from 1970), ``btjd`` (days from JD 2457000) or empty.

    Returns
    -------
    tuple or None
        The day number, and whether it is known to the day only; None if it is no time.
    """
    number = None if form == "" and isinstance(value, str) and not _is_decimal(value) else _number(value)
    if form:
        return None if number is None else (_from_count(number, form), False)
    if number is None:
        return _parse_date(str(value))
    if 15000 < number < 100000:
        return number, False
    return (number - 2400000.5, False) if 2415000 < number < 2500000 else None


def _is_decimal(text: str) -> bool:
    return re.fullmatch(r"\s*\d+\.\d+\s*", text) is not None


def _from_count(number: float, form: str) -> float:
    if form == "btjd":
        return number + _BTJD
    return number / SECONDS_PER_DAY + (_UNIX if form == "unix" else 0.0)


def _parse_date(text: str) -> tuple[float, bool] | None:
    """Return the MJD of a date with or without a time of day."""
    match = re.fullmatch(r"(\S+?)(?:[T\s]+(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d*)?))?Z?)?", text.strip())
    if match is None or (day := _parse_day(match[1])) is None:
        return None
    mjd = float((day - datetime(1858, 11, 17)).days)  # noqa: DTZ001 - the scale comes from the header
    if match[2] is None:
        return mjd, True
    hours = int(match[2]) + int(match[3]) / 60 + float(match[4] or 0) / 3600
    return mjd + hours / 24, False


def _parse_day(text: str) -> datetime | None:
    """Return the day of ``YYYY-MM-DD``, ``DD/MM/YY`` (20th century, FITS before 1999) or ``YYMMDD``."""
    for pattern, order in (
        (r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})", (1, 2, 3)),
        (r"(\d{1,2})/(\d{1,2})/(\d{2,4})", (3, 2, 1)),
        (r"(\d{2})(\d{2})(\d{2})", (1, 2, 3)),
    ):
        match = re.fullmatch(pattern, text)
        if match is None:
            continue
        year, month, day = (int(match[i]) for i in order)
        if year < 100:
            # DD/MM/YY means 19YY by the FITS standard; YYMMDD is used by surveys after 1997 too
            year += 1900 if "/" in text or year >= 50 else 2000
        try:
            return datetime(year, month, day)  # noqa: DTZ001 - the scale comes from the header
        except ValueError:
            return None
    return None


def _lookup(header: Mapping[str, Any], spec: str | None) -> tuple[float, bool] | None:
    """Return the day number of a key as `astrid_assets.surveys.TimeKeys` describes it."""
    if spec is None:
        return None
    key, _, form = spec.partition(":")
    date_key, _, clock_key = key.partition("+")
    value = header_value(header, date_key)
    if value is None:
        return None
    if not clock_key:
        return parse_time(value, form)
    clock = header_value(header, clock_key)
    return None if clock is None or "T" in str(value) else _parse_date(f"{value} {clock}")


def _to_utc(mjd: float, scale: str) -> float:
    """Convert a day number from a time scale to UTC; TT, TAI, TDB and UT1-like names are known."""
    if scale not in ("TAI", "TT", "TDB", "TDT", "ET"):
        return mjd
    from astropy.time import Time

    name = {"TDT": "tt", "ET": "tt"}.get(scale, scale.lower())
    day = math.floor(mjd)
    return float(Time(day, mjd - day, format="mjd", scale=name).utc.mjd)


def _witness(header: Mapping[str, Any], keys: TimeKeys, exptime: float) -> tuple[Times, bool] | None:
    """Return what one group of keywords tells, and whether only to the day."""
    found = {name: _lookup(header, getattr(keys, name)) for name in ("start", "mid", "end")}
    known = {name: value for name, value in found.items() if value is not None}
    if not known or ("start" not in known and "mid" not in known):
        return None
    # TIMESYS speaks for the standard's keywords; a profile that names a scale knows better
    scale = keys.scale or str(header_value(header, "TIMESYS") or "UTC").upper()
    utc = {name: _to_utc(value, scale) for name, (value, _) in known.items()}
    coarse = any(day_only for _, day_only in known.values())
    if coarse and "mid" not in utc:
        return Times(utc["start"], utc["start"] + 0.5, utc["start"] + 1.0), True
    if "mid" not in utc:
        end = utc.get("end")
        utc["mid"] = utc["start"] + exptime / 2 if end is None else (utc["start"] + end) / 2
    return Times(utc.get("start"), utc["mid"], utc.get("end")), coarse


def header_times(
    header: Mapping[str, Any], profile: Profile, *, exptime: float | None
) -> tuple[Times, list[str]]:
    """Return the times of an exposure, and remarks on keys that were dropped.

    Every group of time keywords of the profile is a witness. Witnesses agree if their middles lie
    within the exposure (its length, or the span that the witness itself tells, at least a minute)
    of each other. The largest group of agreeing witnesses is believed, the first one if two are
    equally large; the others are dropped with a remark.

    Parameters
    ----------
    header
        Header of the image, primary and extension together.

    profile
        Survey profile.

    exptime
        Exposure time in seconds, or None.
    """
    length = (exptime or 0.0) / SECONDS_PER_DAY
    told = [(keys, _witness(header, keys, length)) for keys in profile.times]
    witnesses = [(keys, *times) for keys, times in told if times is not None]
    # a date alone says nothing where another keyword has the time of day
    exact = [w for w in witnesses if not w[2]] or witnesses[:1]
    if not exact:
        return Times(), []
    agreeing = max(([w for w in exact if _agree(a[1], w[1], length)] for a in exact), key=len)
    remarks = [
        f"time by {_names(w[0])} contradicts the others and was dropped" for w in exact if w not in agreeing
    ]
    if agreeing[0][2]:
        remarks.append("the time is known to the day only")
    return _merge([w[1] for w in agreeing], length), remarks


def _names(keys: TimeKeys) -> str:
    return "/".join(key for key in (keys.start, keys.mid, keys.end) if key is not None)


def _agree(one: Times, other: Times, length: float) -> bool:
    spans = [t.end - t.start for t in (one, other) if t.start is not None and t.end is not None]
    return abs(one.mid - other.mid) <= max([length, 60.0 / SECONDS_PER_DAY, *spans])


def _merge(witnesses: list[Times], length: float) -> Times:
    """Take the middle, and start and end from the first witness that tells them in order."""
    best = witnesses[0]
    mid = best.mid
    start = next((t.start for t in witnesses if t.start is not None and t.start <= mid), None)
    end = next((t.end for t in witnesses if t.end is not None and t.end >= mid), None)
    if start is None:
        start = mid - length / 2
    if end is None:
        end = start + length if start + length >= mid else mid + length / 2
    return Times(start, mid, end)


def _input_span(header: Mapping[str, Any], profile: Profile) -> tuple[float, float] | None:
    """Return first and last night of the inputs that a stack's header lists."""
    rule = profile.input_dates
    if not rule:
        return None
    pattern = re.compile(rule["pattern"])
    names = [str(header_value(header, k)) for k in header if str(k).startswith(rule["prefix"])]
    days = [int(m[1]) + rule["offset"] for name in names if (m := pattern.match(name))]
    return (float(min(days)), float(max(days)) + 1.0) if days else None


# --- flux ---------------------------------------------------------------------------------------


def unit_of(header: Mapping[str, Any], profile: Profile) -> UnitBase | None:
    """Return the unit of the pixels by BUNIT or the profile."""
    return parse_unit(first(header, profile.keywords["unit"])) or parse_unit(profile.unit)


def _is_rate(unit: UnitBase | None) -> bool:
    return unit is not None and any(
        base.is_equivalent("s") and power == -1 for base, power in zip(unit.bases, unit.powers, strict=True)
    )


def zeropoint_of(
    header: Mapping[str, Any],
    profile: Profile,
    *,
    unit: UnitBase | None,
    band: str | None,
    exptime: float | None,
    pixel_area: float | None,
) -> ZeroPoint | None:
    """Return the AB magnitude of one unit per pixel, or None.

    Tried in this order: units of flux density; MJy/sr with the pixel's solid angle (PIXAR_SR, or
    `pixel_area`); zero point keywords of the profile; PHOTFLAM and PHOTPLAM; the nominal zero point
    of the band. Magnitudes in the survey's own system become AB by the band's offset.

    Parameters
    ----------
    header, profile
        Where to look.

    unit
        Unit of the pixels.

    band
        Canonical filter name.

    exptime
        Exposure time, s, for zero points that belong to one count per second.

    pixel_area
        Solid angle of a pixel, sr, from the WCS.
    """
    absolute = unit_zeropoint(header, unit, pixel_area)
    offset = profile.bands[band].ab_offset if band in profile.bands else 0.0
    if absolute is not None:
        return ZeroPoint(absolute + offset, source="header")
    # a zero point of one count per second, for an image in counts, is fainter by the exposure time
    per_second = 0.0 if _is_rate(unit) else (2.5 * math.log10(exptime) if exptime else None)
    for keys in profile.zeropoints:
        value = _number(header_value(header, keys.keyword))
        extra = per_second if keys.per_second else 0.0
        if value is not None and extra is not None:
            error = _number(header_value(header, keys.error)) if keys.error else None
            return ZeroPoint(value + extra + offset, math.nan if error is None else error, "header")
    nominal = _nominal_zeropoint(header, profile, band)
    return None if nominal is None or per_second is None else ZeroPoint(nominal + per_second + offset)


def unit_zeropoint(
    header: Mapping[str, Any], unit: UnitBase | None, pixel_area: float | None
) -> float | None:
    """Return the AB magnitude of a unit that is a flux density, or a surface brightness times a pixel."""
    from astropy import units as u
    from astropy.units import photometric

    if unit is None:
        return None
    if unit == photometric.nmgy:
        return 22.5
    if unit.is_equivalent(u.Jy):
        jansky = unit.to(u.Jy)
    elif unit.is_equivalent(u.Jy / u.sr):
        area = _number(header_value(header, "PIXAR_SR")) or pixel_area
        if not area:
            return None
        jansky = unit.to(u.Jy / u.sr) * area
    else:
        return None
    return -2.5 * math.log10(jansky / 3631.0)


def _nominal_zeropoint(header: Mapping[str, Any], profile: Profile, band: str | None) -> float | None:
    """Return the magnitude of one count per second by PHOTFLAM (ACS Data Handbook, 5.1) or the profile."""
    photflam, photplam = (_number(header_value(header, k)) for k in ("PHOTFLAM", "PHOTPLAM"))
    if photflam and photplam and photflam > 0 and photplam > 0:
        return -2.5 * math.log10(photflam) - 5.0 * math.log10(photplam) - 2.408
    return profile.bands[band].zeropoint if band in profile.bands else None


def gain_of(
    header: Mapping[str, Any], profile: Profile, *, unit: UnitBase | None, exptime: float | None
) -> float | None:
    """Return the electrons per unit; for rates this is the gain times the exposure time."""
    gain = first(header, profile.keywords["gain"], number=True) or profile.constants.get("gain")
    if gain is None and unit is not None and any(str(base) == "electron" for base in unit.bases):
        gain = 1.0
    if gain is None or gain <= 0:
        return None
    if _is_rate(unit):
        return gain * exptime if exptime else None
    return float(gain)


# --- everything ---------------------------------------------------------------------------------


def calibration_version(header: Mapping[str, Any], profile: Profile) -> str:
    """Return the version of the reduction, as far as it matters for pairing; empty if unknown."""
    text = str(first(header, profile.keywords["calibration"]) or "")
    if profile.calibration_pattern is None:
        return text
    match = profile.calibration_pattern.match(text)
    return match[1] if match else text


def detector_type(header: Mapping[str, Any], profile: Profile) -> str:
    """Return the kind of detector for the pairing key."""
    parts = [str(v) for key in profile.detector_type_keywords if (v := header_value(header, key)) is not None]
    words = [profile.detector_type, *parts]
    return " ".join(" ".join(words).split()).lower()


def is_stack(header: Mapping[str, Any], profile: Profile, filename: str, times: Times) -> bool:
    """Tell whether an image combines exposures of more than one night."""
    import fnmatch

    from astrid_assets.surveys import matches_all

    marked = bool(profile.stack_keywords) and matches_all(header, profile.stack_keywords)
    marked |= any(fnmatch.fnmatchcase(filename, pattern) for pattern in profile.stack_files)
    if not marked:
        return False
    known = times.start is not None and times.end is not None
    return not known or times.end - times.start > DAYS_OF_A_STACK


def facts(
    header: Mapping[str, Any],
    profile: Profile,
    *,
    pixel_area: float | None = None,
    assume: Mapping[str, Any] | None = None,
) -> Facts:
    """Return everything that a header tells about an image.

    Parameters
    ----------
    header
        Header of the image, primary and extension together.

    profile
        Survey profile.

    pixel_area
        Solid angle of a pixel, sr.

    assume
        Values for what the header lacks, by name (``gain``, ``band``, ``mjd``, ``zeropoint``,
        ``saturation``, ``exptime``, ``read_noise``); a different value in the header wins, with a remark.
    """
    told = Facts(calibration=calibration_version(header, profile))
    assumed = {k: v for k, v in (assume or {}).items() if v is not None}

    def settle(name: str, value: Any) -> Any:
        wanted = assumed.get(name)
        if value is None and wanted is not None:
            told.warnings.append(f"{name} = {wanted} is assumed")
            return wanted
        if wanted is not None and not _same(value, wanted):
            told.warnings.append(f"{name} = {wanted} was given, but the header says {value}")
        return value

    unit = unit_of(header, profile)
    exptime = settle("exptime", _quantity(header, profile, "exptime"))
    band = settle("band", _band(header, profile, told.warnings))
    zeropoint = zeropoint_of(header, profile, unit=unit, band=band, exptime=exptime, pixel_area=pixel_area)
    magnitude = settle("zeropoint", None if zeropoint is None else zeropoint.magnitude)
    if zeropoint is not None and profile.open_bands and unit_zeropoint(header, unit, pixel_area) is None:
        told.warnings.append("the zero point of the header is taken as AB")
    if zeropoint is None and magnitude is not None:
        zeropoint = ZeroPoint(magnitude, source="assumed")
    times, remarks = header_times(header, profile, exptime=exptime)
    told.warnings += remarks
    mid = settle("mjd", times.mid)
    start, end = _span(header, profile, times, mid, exptime)
    told.seeing = _quantity(header, profile, "seeing")
    told.values = {
        "unit": unit,
        "exptime": exptime,
        "band": band,
        "zeropoint": zeropoint,
        "gain": settle("gain", gain_of(header, profile, unit=unit, exptime=exptime)),
        "read_noise": settle("read_noise", _quantity(header, profile, "read_noise")),
        "saturation": settle("saturation", _quantity(header, profile, "saturation")),
        "airmass": None if profile.space else _quantity(header, profile, "airmass"),
        "mjd_start": start,
        "mjd_mid": mid,
        "mjd_end": end,
        "n_exposures": int(_quantity(header, profile, "n_exposures") or 1),
        "survey": profile.name,
        "detector": _text(first(header, profile.keywords["detector"])),
    }
    return told


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, str) or isinstance(wanted, str):
        return value == wanted
    return math.isclose(value, wanted, rel_tol=1e-6)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _quantity(header: Mapping[str, Any], profile: Profile, name: str) -> float | None:
    """Return a positive number by the profile's keywords, or its constant."""
    value = first(header, profile.keywords.get(name, ()), number=True)
    if value is None:
        value = profile.constants.get(name)
    return value if value is not None and value > 0 else None


def _band(header: Mapping[str, Any], profile: Profile, remarks: list[str]) -> str | None:
    """Return the canonical filter; a value that the profile does not know is remarked."""
    unknown = None
    for key in profile.keywords["band"]:
        value = header_value(header, key)
        if value is None:
            continue
        name = profile.band(value)
        if name is not None:
            return name
        unknown = unknown or f"{key} = {value}"
    if unknown:
        remarks.append(f"the profile {profile.name} does not know the filter {unknown}")
    return None


def _span(
    header: Mapping[str, Any], profile: Profile, times: Times, mid: float | None, exptime: float | None
) -> tuple[float | None, float | None]:
    """Return start and end: of all inputs of a stack, of the exposure, or around an assumed middle."""
    inputs = _input_span(header, profile)
    if inputs is not None:
        return inputs
    if times.mid is None and mid is not None:
        half = (exptime or 0.0) / SECONDS_PER_DAY / 2
        return mid - half, mid + half
    return times.start, times.end
