"""The field registry: ``fields.yaml`` -> `Field`.

The registry is strict. An option that is not known, given twice, or without effect is a
`ConfigurationError` that names the file and the line.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NoReturn

import pydantic
import yaml
from pydantic_core import PydanticCustomError

from astrid_assets.archives.protocol import ARCHIVE_NAMES
from astrid_assets.clock import parse_time
from astrid_assets.documents import Document, describe, validated
from astrid_assets.errors import ConfigurationError
from astrid_assets.home import dagster_home

__all__ = [
    "FIELD_NAME",
    "AlertsOptions",
    "Assumptions",
    "CataloguesOptions",
    "CrossSurvey",
    "Event",
    "Field",
    "IrsaZtfOptions",
    "Limits",
    "LocalOptions",
    "MastOptions",
    "Ps1Options",
    "SimulatedOptions",
    "SkyviewOptions",
    "Window",
    "add_field",
    "add_fields",
    "check_field",
    "enabled_fields",
    "fields_path",
    "galactic_latitude",
    "get_field",
    "known_position",
    "load_fields",
    "parse_coordinate",
    "parse_fields",
    "separation",
]

FIELD_NAME = re.compile(r"^[a-z0-9][a-z0-9_.+-]{0,62}$")
"""What a field may be called: it is a partition key and a folder name."""

LOW_LATITUDE = 10.0
"""Galactic latitude in degrees below which crowding and extinction spoil differencing (user's plan 1.1)."""

EVENT_FADES_DAYS = 365.0
"""Days after an event before references may be taken (design: "well after it, default over a year")."""

KNOWN_POSITIONS: Mapping[str, tuple[float, float]] = {
    "m101": (210.8023, 54.3490),
    "sn2011fe": (210.7738, 54.2737),
    "sn2023ixf": (210.9107, 54.3116),
    "cosmos": (150.1163, 2.2058),
    "goods-n": (189.2282, 62.2355),
    "goods-s": (53.1228, -27.8050),
    "m31": (10.6847, 41.2690),
    "m51": (202.4696, 47.1952),
    "m82": (148.9684, 69.6797),
    "sn2014j": (148.9256, 69.6739),
}
"""ICRS positions (deg, from NED and TNS) of names people use, to catch coordinates typed wrongly."""

# north galactic pole, ICRS degrees (Hipparcos catalogue, ESA SP-1200, section 1.5.3)
_POLE_RA, _POLE_DEC = 192.85948, 27.12825

DEFAULT = "default"
"""Key in ``fields.yaml`` of the options of fields that are not in it, but whose name tells their position."""

_J_NAME = re.compile(
    r"""^j(?P<ra>\d{6}(?:\.\d+)?|\d{4}(?:\.\d+)?)
        (?P<dec>[+-](?:\d{6}(?:\.\d+)?|\d{4}(?:\.\d+)?))$""",
    re.VERBOSE,
)

_SEXAGESIMAL = re.compile(
    r"""^(?P<sign>[+-]?)\s*
        (?P<a>\d{1,3})(?P<mark>\s*[hd°:]\s*|\s+)
        (?P<b>\d{1,2})(?:\s*[m':]\s*|\s+)
        (?P<c>\d{1,2}(?:\.\d*)?)\s*(?:s|"|'')?$""",
    re.VERBOSE,
)


def parse_coordinate(value: float | str, *, hours: bool = False) -> float:
    """Return degrees from a number of degrees or a sexagesimal text.

    Parameters
    ----------
    value
        Degrees, or a text such as ``"14:03:05.8"``, ``"14h03m05.8s"``, ``"+54 16 25"`` or
        ``"- 8 49 37.0"``. A text that is a plain number is degrees.

    hours
        Whether a sexagesimal text counts hours (right ascension) unless it is marked ``d``.

    Raises
    ------
    ValueError
        The value is not a coordinate.
    """
    try:
        return float(value)
    except ValueError:
        pass
    match = _SEXAGESIMAL.match(str(value).strip())
    if match is None or int(match["b"]) >= 60 or float(match["c"]) >= 60:
        msg = f"{value!r} is neither degrees nor sexagesimal (such as 14:03:05.8 or -8 49 37.0)"
        raise ValueError(msg)
    size = int(match["a"]) + int(match["b"]) / 60 + float(match["c"]) / 3600
    mark = match["mark"].strip()
    size *= 15.0 if mark == "h" or (hours and mark not in {"d", "°"}) else 1.0
    return -size if match["sign"] == "-" else size


def known_position(name: str) -> tuple[float, float] | None:
    """Return the (ra, dec) that the name of a field tells, ICRS degrees, or None.

    Parameters
    ----------
    name
        A position as in ``j140302.1+542057`` (hours and degrees; seconds may be left out), or a name of
        `KNOWN_POSITIONS`, written in any case and with or without blanks.
    """
    plain = name.lower().replace(" ", "")
    if plain in KNOWN_POSITIONS:
        return KNOWN_POSITIONS[plain]
    match = _J_NAME.match(plain)
    if match is None:
        return None
    try:
        return _right_ascension(15.0 * _degrees(match["ra"])), _declination(_degrees(match["dec"]))
    except ValueError:
        return None


def _degrees(digits: str) -> float:
    """Return whole units from ``[+-]DDMMSS.s`` or ``[+-]DDMM.m``."""
    sign, digits = (-1.0 if digits[0] == "-" else 1.0), digits.lstrip("+-")
    whole = digits.split(".")[0]
    units, minutes = float(digits[:2]), float(digits[2:] if len(whole) == 4 else digits[2:4])
    seconds = 0.0 if len(whole) == 4 else float(digits[4:])
    if minutes >= 60 or seconds >= 60:
        msg = f"{digits!r} has 60 minutes or seconds, or more"
        raise ValueError(msg)
    return sign * (units + minutes / 60 + seconds / 3600)


def _right_ascension(value: Any) -> float:
    degrees = parse_coordinate(value, hours=True)
    if not 0.0 <= degrees < 360.0:
        msg = f"a right ascension lies between 0 and 360 degrees, not at {degrees:g}"
        raise ValueError(msg)
    return degrees


def _declination(value: Any) -> float:
    degrees = parse_coordinate(value)
    if not -90.0 <= degrees <= 90.0:
        msg = f"a declination lies between -90 and 90 degrees, not at {degrees:g}"
        raise ValueError(msg)
    return degrees


def _date(value: Any) -> str:
    if not isinstance(value, str):
        msg = f"a date is written as in 2011-08-24 or 2011-08-24T03:00:00, not {value!r}"
        raise ValueError(msg)
    parse_time(value)
    return value


RightAscension = Annotated[float, pydantic.BeforeValidator(_right_ascension)]
Declination = Annotated[float, pydantic.BeforeValidator(_declination)]
Date = Annotated[str, pydantic.BeforeValidator(_date)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Window(_Strict):
    """A span of time; an open side is None."""

    start: Date | None = None
    """First moment (UTC)."""

    end: Date | None = None
    """Last moment (UTC); a date without a time includes that day."""

    @property
    def start_mjd(self) -> float | None:
        """Start as MJD (UTC)."""
        return None if self.start is None else parse_time(self.start)

    @property
    def end_mjd(self) -> float | None:
        """End as MJD (UTC)."""
        if self.end is None:
            return None
        whole_day = re.fullmatch(r"\d{4}-\d{2}-\d{2}", self.end.strip()) is not None
        return parse_time(self.end) + whole_day

    def contains(self, mjd: float) -> bool:
        """Tell whether an MJD (UTC) lies in the window."""
        start, end = self.start_mjd, self.end_mjd
        return (start is None or mjd >= start) and (end is None or mjd < end)

    def overlaps(self, other: Window) -> bool:
        """Tell whether two windows have a moment in common."""
        start = max(w.start_mjd if w.start_mjd is not None else -math.inf for w in (self, other))
        end = min(w.end_mjd if w.end_mjd is not None else math.inf for w in (self, other))
        return start < end

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Window:
        start, end = self.start_mjd, self.end_mjd
        if start is not None and end is not None and end <= start:
            _refuse("end", f"the window ends ({self.end}) before it starts ({self.start})")
        return self


class Event(_Strict):
    """Something that happened in the field: a supernova, a burst, an impact."""

    name: str = pydantic.Field(min_length=1)
    """Name as the catalogues write it."""

    ra: RightAscension
    """Right ascension, ICRS degrees."""

    dec: Declination
    """Declination, ICRS degrees."""

    date: Date
    """First light or discovery (UTC)."""

    guard_days: float = pydantic.Field(default=30.0, ge=0)
    """Days before `date` in which an exposure may not enter a reference: the event may be rising unseen."""

    @property
    def mjd(self) -> float:
        """Date as MJD (UTC)."""
        return parse_time(self.date)


class Limits(_Strict):
    """What bounds the selection of exposures of a field."""

    overlap_min: float = pydantic.Field(default=0.8, gt=0, le=1)
    """Least share of the science footprint that the reference covers."""

    new_exposures_per_run: int = pydantic.Field(default=100, ge=1)
    """Most science exposures that one run takes on; the rest waits for the next."""

    file_size_mb: float = pydantic.Field(default=500.0, gt=0)
    """Largest exposure, all files together, MB."""

    seeing_max_arcsec: float | None = pydantic.Field(default=None, gt=0)
    """Worst seeing (FWHM, arcsec); None takes every seeing."""

    limiting_magnitude_min: float | None = None
    """Least depth of a science exposure (5 sigma, AB mag); None takes every depth."""


class Assumptions(_Strict):
    """What the files of a folder do not say themselves. Never overrides a header."""

    band: str | None = None
    """Canonical filter name."""

    gain: float | None = pydantic.Field(default=None, gt=0)
    """Electrons per unit."""

    mjd: float | None = None
    """Middle of the exposures, MJD (UTC)."""

    zeropoint: float | None = None
    """AB magnitude of one unit per pixel."""

    saturation: float | None = pydantic.Field(default=None, gt=0)
    """Level of saturation, in units of the image."""

    aligned: bool = False
    """Images without WCS share one pixel grid; the pair is taken as it lies."""


class LocalOptions(_Strict):
    """Options of archive ``local``: a folder of FITS files."""

    folder: str = pydantic.Field(min_length=1)
    """Folder, absolute or relative to ``fields.yaml``; ``~`` and ``$VARIABLES`` are expanded."""

    survey: str | None = None
    """Survey profile; None guesses it from each header."""

    pattern: str = "*.fit*"
    """File name pattern, searched recursively."""

    assume: Assumptions = Assumptions()
    """What the headers lack."""

    @property
    def path(self) -> Path:
        """Folder with ``~`` and ``$VARIABLES`` expanded; a relative one starts beside ``fields.yaml``."""
        return fields_path().parent / Path(os.path.expandvars(self.folder)).expanduser()


class SimulatedOptions(_Strict):
    """Options of archive ``simulated``."""

    seed: int = pydantic.Field(default=1, ge=0)
    """Seed of everything that is drawn at random for this field."""

    shape: tuple[int, int] = (1024, 1024)
    """Pixels of an exposure, (ny, nx)."""

    dirt: bool = True
    """Whether exposures have the dirt of real life: cosmic rays, trails, clouds, a pointing offset."""

    corrupt: bool = True
    """Whether now and then a file arrives truncated, without a keyword or with a wrong WCS."""

    corrupt_rate: float = pydantic.Field(default=0.08, ge=0, le=1)
    """Share of the science files that arrive corrupt."""

    transient_rate: float = pydantic.Field(default=2.0, ge=0)
    """Transients per square degree and day; far above nature, so that every field has some."""

    max_epochs_per_band: int | None = pydantic.Field(default=None, ge=1)
    """Most exposures in the science window, for each band; None takes all."""

    @pydantic.field_validator("shape")
    @classmethod
    def _large_enough(cls, shape: tuple[int, int]) -> tuple[int, int]:
        if min(shape) < 128 or max(shape) > 8192:
            msg = f"an exposure has sides of 128 to 8192 pixels, not {shape}"
            raise ValueError(msg)
        return shape


class MastOptions(_Strict):
    """Options of archive ``mast``."""

    missions: tuple[Literal["HST", "JWST", "TESS", "PS1", "GALEX", "SWIFT"], ...] = pydantic.Field(
        default=("HST", "JWST", "TESS", "PS1", "GALEX", "SWIFT"), min_length=1
    )
    """Collections that are searched."""

    instruments: tuple[str, ...] = ()
    """Instruments as MAST writes them (``WFC3/UVIS``, ``NIRCAM/IMAGE``); empty takes every one."""

    calib_level_min: int = pydantic.Field(default=2, ge=1, le=4)
    """Least calibration level: 2 calibrated, 3 combined."""

    search_radius_max: float = pydantic.Field(default=0.5, gt=0, le=1.0)
    """Largest radius of one query, degrees; a wider field is asked for in several."""


class Ps1Options(_Strict):
    """Options of archive ``ps1``: cutouts of Pan-STARRS images."""

    product: Literal["stack", "warp"] = "stack"
    """``stack``: the sum of all epochs, a reference; ``warp``: single epochs."""

    size_arcsec: float | None = pydantic.Field(default=None, gt=0, le=1500)
    """Side of the cutouts, arcsec; None covers the field, at most 6000 pixels of 0.25 arcsec."""


class IrsaZtfOptions(_Strict):
    """Options of archive ``irsa_ztf``: images of the Zwicky Transient Facility."""

    infobits_max: int = pydantic.Field(default=33554431, ge=0)
    """Largest ``infobits``: the release notes recommend below 2^25."""

    seeing_max: float = pydantic.Field(default=4.0, gt=0)
    """Worst seeing, arcsec."""

    limiting_magnitude_min: float = pydantic.Field(default=19.0)
    """Least 5 sigma limit, AB mag."""

    cutouts: bool = True
    """Whether cutouts of the field are fetched rather than whole quadrants."""

    cutout_arcmin: float | None = pydantic.Field(default=None, gt=0)
    """Side of the cutouts, arcmin; None takes twice the radius of the field."""

    with_difference: bool = False
    """Whether IRSA's own difference image is fetched as well, to compare with."""


class SkyviewOptions(_Strict):
    """Options of archive ``skyview``: the field as other surveys saw it."""

    surveys: tuple[str, ...] = (
        "DSS2 Blue",
        "DSS2 Red",
        "DSS2 IR",
        "SDSSg",
        "SDSSr",
        "SDSSi",
        "GALEX Near UV",
        "GALEX Far UV",
        "2MASS-J",
        "2MASS-H",
        "2MASS-K",
        "WISE 3.4",
        "WISE 4.6",
        "WISE 12",
        "WISE 22",
    )
    """Surveys as SkyView spells them."""

    @pydantic.field_validator("surveys")
    @classmethod
    def _known_surveys(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from astrid_assets.archives.skyview import SURVEYS

        if unknown := [name for name in names if name not in SURVEYS]:
            msg = f"{unknown[0]!r} is no survey of SkyView; there are {', '.join(SURVEYS)}"
            raise ValueError(msg)
        return names


class AlertsOptions(_Strict):
    """Options of archive ``alerts``: public alerts of ZTF."""

    source: Literal["nightly", "alerce", "fink", "kowalski", "lasair"] = "fink"
    """Where packets come from: the nightly tar archives (large), or a broker."""


class CataloguesOptions(_Strict):
    """Options of archive ``catalogues``."""

    names: tuple[Literal["gaia", "ps1", "vsx", "sdss", "ned", "simbad", "skybot", "tns", "bts"], ...] = (
        pydantic.Field(default=("gaia", "vsx", "ned", "skybot", "bts"), min_length=1)
    )
    """Catalogues that are asked."""


class CrossSurvey(_Strict):
    """References of another survey, which nothing but this option allows."""

    references: tuple[str, ...] = pydantic.Field(min_length=1)
    """Survey profiles whose images may be references of any other survey of the field, in a band of the
    same name; without a colour term, which the pairs are flagged with."""

    @pydantic.field_validator("references")
    @classmethod
    def _known_surveys(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from astrid_assets.surveys import profile_names

        for name in names:
            if name not in profile_names():
                msg = f"{name!r} is no survey profile; there are {', '.join(profile_names())}"
                raise ValueError(msg)
        return names


class Field(_Strict):
    """A piece of sky and what to do with it."""

    name: str
    """Key in ``fields.yaml``, partition key and folder name."""

    ra: RightAscension
    """Right ascension of the centre, ICRS degrees."""

    dec: Declination
    """Declination of the centre, ICRS degrees."""

    radius: float = pydantic.Field(gt=0, le=5)
    """Radius around the centre in which exposures are searched, degrees."""

    archives: tuple[str, ...] = pydantic.Field(min_length=1)
    """Archives to search, from `ARCHIVE_NAMES`."""

    bands: tuple[str, ...] = ()
    """Canonical filter names; empty takes every band."""

    science_window: Window = Window()
    """When science exposures were taken."""

    reference_window: Window = Window()
    """When reference exposures were taken."""

    event: Event | None = None
    """What is looked for, if known: references keep clear of it."""

    guard_days: float = pydantic.Field(default=30.0, ge=0)
    """Days between the span of a reference and a science exposure, where there is no event."""

    limits: Limits = Limits()
    """Bounds of the selection."""

    priority: int = 0
    """Order in which fields run, higher first."""

    enabled: bool = True
    """Whether ``--all``, sensors and schedules take the field."""

    local: LocalOptions | None = None
    """Options of archive ``local``."""

    simulated: SimulatedOptions | None = None
    """Options of archive ``simulated``; always set where the field uses it."""

    mast: MastOptions | None = None
    """Options of archive ``mast``; always set where the field uses it, as those of the next five."""

    ps1: Ps1Options | None = None
    """Options of archive ``ps1``."""

    irsa_ztf: IrsaZtfOptions | None = None
    """Options of archive ``irsa_ztf``."""

    skyview: SkyviewOptions | None = None
    """Options of archive ``skyview``."""

    alerts: AlertsOptions | None = None
    """Options of archive ``alerts``."""

    catalogues: CataloguesOptions | None = None
    """Options of archive ``catalogues``."""

    cross_survey: CrossSurvey | None = None
    """References of another survey than the science exposures; None allows none."""

    processing: dict[str, dict[str, Any]] = {}
    """Options of the assets for this field alone, by asset."""

    @pydantic.field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not FIELD_NAME.match(name):
            msg = (
                f"a field name has 1 to 63 of a-z, 0-9, '_', '.', '+', '-' "
                f"and starts with a letter or digit, not {name!r}"
            )
            raise ValueError(msg)
        return name

    @pydantic.field_validator("archives", "bands")
    @classmethod
    def _no_duplicates(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            msg = f"a name is given twice in {list(names)}"
            raise ValueError(msg)
        return names

    @pydantic.field_validator("archives")
    @classmethod
    def _known_archives(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in ARCHIVE_NAMES:
                msg = f"{name!r} is no archive; there are {', '.join(ARCHIVE_NAMES)}"
                raise ValueError(msg)
        if "simulated" in names and len(names) > 1:
            raise ValueError("a field is simulated or real, never both")
        return names

    @pydantic.model_validator(mode="before")
    @classmethod
    def _default_options(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        named = values.get("archives") or ()
        return {**{name: {} for name in _DEFAULTED if name in named}, **values}

    @pydantic.model_validator(mode="after")
    def _no_option_without_effect(self) -> Field:
        for archive in ("local", *_DEFAULTED):
            if getattr(self, archive) is not None and archive not in self.archives:
                _refuse(archive, f"has no effect: the field does not use archive {archive!r}")
        if "local" in self.archives and self.local is None:
            _refuse("archives", "archive 'local' needs an option block 'local' with a folder")
        simulated = self.simulated
        if simulated and not simulated.corrupt and "corrupt_rate" in simulated.model_fields_set:
            _refuse("simulated", "corrupt_rate has no effect beside corrupt: false")
        if self.event is not None and "guard_days" in self.model_fields_set:
            _refuse("guard_days", "has no effect beside an event; set event.guard_days")
        return self


_DEFAULTED = ("simulated", "mast", "ps1", "irsa_ztf", "skyview", "alerts", "catalogues")
"""Archives whose options have defaults that work."""


def _refuse(option: str, reason: str) -> NoReturn:
    """Raise a validation error that belongs to one option of the model."""
    raise PydanticCustomError("refused", "{reason}", {"option": option, "reason": reason})


def fields_path() -> Path:
    """Return the path of the registry: ``ASTRID_FIELDS``, or ``fields.yaml`` in ``DAGSTER_HOME``."""
    given = os.environ.get("ASTRID_FIELDS")
    return Path(given).expanduser().absolute() if given else dagster_home() / "fields.yaml"


def parse_fields(text: str, *, path: str | Path = "fields.yaml") -> dict[str, Field]:
    """Return the fields that a YAML text describes, in its order.

    Parameters
    ----------
    text
        A mapping of field names to options.

    path
        File to name in errors.

    Raises
    ------
    ConfigurationError
        An option is unknown, missing, wrong, given twice or without effect.
    """
    fields = _parse(text, Path(path))
    return {name: field for name, field in fields.items() if name != DEFAULT}


# thousands of fields take seconds to read, and every asset of every field asks for its own
@lru_cache(maxsize=2)
def _parse(text: str, path: Path) -> Mapping[str, Field]:
    """Return the fields of a YAML text, and under `DEFAULT` the field that its options stand for."""
    document = Document(text, path)
    if not isinstance(document.value, dict):
        document.fail("a field registry is a mapping of field names to options")
    return MappingProxyType({name: _field(document, name) for name in document.value})


def _field(document: Document, name: str) -> Field:
    options = document.value[name]
    if not isinstance(options, dict):
        document.fail(f"field {name!r} needs options (ra, dec, radius, archives, ...)", at=(name,))
    if "name" in options:
        document.fail(f"field {name!r}: 'name' is no option, the key is the name", at=(name, "name"))
    if name == DEFAULT:
        for option in {"ra", "dec", "event"} & set(options):
            document.fail(f"{name}.{option}: the name of the field tells its position", at=(name, option))
        options = {"ra": 0.0, "dec": 0.0, **options}
    return validated(document, Field, {"name": name, **options}, at=(name,), what=f"field {name!r}")


def load_fields(path: str | Path | None = None) -> dict[str, Field]:
    """Read the registry.

    Parameters
    ----------
    path
        The file; default is `fields_path`.

    Raises
    ------
    ConfigurationError
        There is no such file, or it is wrong; the message names the line.
    """
    return {name: field for name, field in _load(path).items() if name != DEFAULT}


def _load(path: str | Path | None) -> Mapping[str, Field]:
    file = fields_path() if path is None else Path(path)
    try:
        text = file.read_text()
    except OSError as error:
        msg = f"{file}: cannot read the field registry ({error.strerror}); set ASTRID_FIELDS or DAGSTER_HOME"
        raise ConfigurationError(msg) from error
    return _parse(text, file)


def get_field(name: str, path: str | Path | None = None) -> Field:
    """Return one field of the registry, or one that is not in it but whose name tells its position.

    Such a field (``j140302.1+542057``, or a name of `KNOWN_POSITIONS`) has the options of the block
    ``default`` of the registry; its name may be typed as a partition in the Dagster UI.

    Raises
    ------
    ConfigurationError
        The registry is wrong, or has no such field.
    """
    fields = _load(path)
    if name in fields and name != DEFAULT:
        return fields[name]
    position = known_position(name)
    if position is not None and DEFAULT in fields:
        return _at(position, name, fields[DEFAULT])
    file = path or fields_path()
    close = difflib.get_close_matches(name, [n for n in fields if n != DEFAULT], n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"add it to {file}"
    if position is not None and not close:
        hint = (
            f"its name tells a position: give {file} a block 'default' with the options of such fields "
            "(radius, archives, ...), or add it with astrid fields add"
        )
    msg = f"there is no field {name!r}; {hint}"
    raise ConfigurationError(msg)


def _at(position: tuple[float, float], name: str, default: Field) -> Field:
    """Return a field with the default options at a position."""
    options = {option: getattr(default, option) for option in default.model_fields_set}
    try:
        return Field(**{**options, "name": name, "ra": position[0], "dec": position[1]})
    except pydantic.ValidationError as error:
        msg = f"field {name!r}: {describe(error.errors()[0], Field)}"
        raise ConfigurationError(msg) from error


def enabled_fields(path: str | Path | None = None) -> list[Field]:
    """Return the enabled fields in the order in which they run: by priority, then as written."""
    fields = [field for field in load_fields(path).values() if field.enabled]
    return sorted(fields, key=lambda field: -field.priority)


def add_field(name: str, options: Mapping[str, Any], path: str | Path | None = None) -> Field:
    """Append a field to the registry; what is there keeps its text and comments.

    Parameters
    ----------
    name
        Name of the new field.

    options
        Its options, as in ``fields.yaml``.

    path
        The file; default is `fields_path`. It is made where there is none.

    Raises
    ------
    ConfigurationError
        The name is taken, or an option is wrong; the file is then left as it was.
    """
    return add_fields({name: options}, path)[name]


def add_fields(
    blocks: Mapping[str, Mapping[str, Any]], path: str | Path | None = None, *, comment: str = ""
) -> dict[str, Field]:
    """Append several fields to the registry at once.

    Parameters
    ----------
    blocks
        Options by name, as in ``fields.yaml``.

    path
        The file; default is `fields_path`. It is made where there is none.

    comment
        Text that is written above them.

    Raises
    ------
    ConfigurationError
        A name is taken, or an option is wrong; the file is then left as it was.
    """
    file = fields_path() if path is None else Path(path)
    before = file.read_text() if file.exists() else ""
    taken = [name for name in _parse(before, file) if name in blocks]
    if taken:
        msg = f"{file}: there is already a field {taken[0]!r}"
        raise ConfigurationError(msg)
    above = "".join(f"# {line}\n" for line in comment.splitlines())
    plain = {name: dict(options) for name, options in blocks.items()}
    block = above + yaml.dump(plain, Dumper=_Dumper, sort_keys=False, default_flow_style=None)
    text = f"{before.rstrip()}\n\n{block}" if before.strip() else block
    fields = parse_fields(text, path=file)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(file)
    return {name: fields[name] for name in blocks}


# the dumper in C writes thousands of fields in a second
class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes every value where it belongs, never a reference to an equal one."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def galactic_latitude(ra: float, dec: float) -> float:
    """Return the galactic latitude in degrees of an ICRS position in degrees."""
    ra, dec = math.radians(ra - _POLE_RA), math.radians(dec)
    pole = math.radians(_POLE_DEC)
    sine = math.sin(dec) * math.sin(pole) + math.cos(dec) * math.cos(pole) * math.cos(ra)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def separation(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Return the angle between two positions; all in degrees (haversine formula)."""
    dra, ddec = math.radians(ra2 - ra1), math.radians(dec2 - dec1)
    cosines = math.cos(math.radians(dec1)) * math.cos(math.radians(dec2))
    half = math.sin(ddec / 2) ** 2 + cosines * math.sin(dra / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(half))))


def check_field(field: Field, others: Iterable[Field] = ()) -> list[str]:
    """Return what is doubtful about a valid field, one sentence each.

    Parameters
    ----------
    field
        The field.

    others
        The registry, to find fields given twice; the field itself is passed over.
    """
    return [
        *_position_doubts(field),
        *_time_doubts(field),
        *_archive_doubts(field),
        *_duplicate_doubts(field, others),
    ]


def _position_doubts(field: Field) -> Iterable[str]:
    latitude = galactic_latitude(field.ra, field.dec)
    if abs(latitude) < LOW_LATITUDE:
        yield (
            f"galactic latitude {latitude:+.1f} deg: within {LOW_LATITUDE:g} deg of the plane, "
            "crowding and extinction make differences unreliable"
        )
    names = {field.name.lower(): (field.ra, field.dec)}
    if field.event is not None:
        event = field.event
        names[event.name.lower().replace(" ", "")] = (event.ra, event.dec)
        if separation(field.ra, field.dec, event.ra, event.dec) > field.radius:
            yield f"event {event.name} lies outside the field's radius of {field.radius:g} deg"
    for name, (ra, dec) in names.items():
        yield from _name_doubts(name, ra, dec, field.radius)


def _name_doubts(name: str, ra: float, dec: float, radius: float) -> Iterable[str]:
    words = set(re.split(r"[_.+]", name))
    for known, (known_ra, known_dec) in KNOWN_POSITIONS.items():
        away = separation(ra, dec, known_ra, known_dec)
        if known in words and away > max(radius, 0.5):
            yield f"{known} is at {known_ra:.4f} {known_dec:+.4f}, {away:.2f} deg from {name!r}"


def _time_doubts(field: Field) -> Iterable[str]:
    science, reference = field.science_window, field.reference_window
    if (science.start or science.end) and (reference.start or reference.end) and science.overlaps(reference):
        yield "science and reference windows overlap: a reference may hold what is looked for"
    if field.event is not None:
        yield from _event_doubts(field, field.event)
    elif _gap_too_short(science, reference, field.guard_days):
        yield f"the windows are closer than the guard gap of {field.guard_days:g} days"


def _gap_too_short(science: Window, reference: Window, days: float) -> bool:
    if science.overlaps(reference) or science.start_mjd is None or reference.end_mjd is None:
        return False
    return 0 <= science.start_mjd - reference.end_mjd < days


def _event_doubts(field: Field, event: Event) -> Iterable[str]:
    reference = field.reference_window
    guard = Window.model_construct(
        start=f"{event.mjd - event.guard_days}", end=f"{event.mjd + EVENT_FADES_DAYS}"
    )
    if field.science_window.end_mjd is not None and field.science_window.end_mjd < event.mjd:
        yield f"the science window ends before event {event.name}"
    if (reference.start or reference.end) and reference.overlaps(guard):
        yield (
            f"the reference window reaches into the time from {event.guard_days:g} days before to "
            f"{EVENT_FADES_DAYS:g} days after event {event.name}"
        )


def _archive_doubts(field: Field) -> Iterable[str]:
    from astrid_assets.archives.availability import searched, why_nothing

    if field.local is not None and not field.local.path.is_dir():
        yield f"local.folder {field.local.folder!r} is no folder"
    reasons = {mission.name: why_nothing(mission, field) for _, mission in searched(field)}
    named = field.mast is None or "missions" in field.mast.model_fields_set
    # of the missions that a field takes by default some may have ended; all of them is another matter
    if named or all(reasons.values()):
        yield from (reason for reason in reasons.values() if reason)


def _duplicate_doubts(field: Field, others: Iterable[Field]) -> Iterable[str]:
    besides = {"name", "enabled", "priority"}
    # positions first: among thousands of fields few are at the same one
    here = [o for o in others if o.ra == field.ra and o.dec == field.dec and o.name != field.name]
    for other in here:
        if field.model_dump(exclude=besides) == other.model_dump(exclude=besides):
            yield f"the same as field {other.name!r}"
