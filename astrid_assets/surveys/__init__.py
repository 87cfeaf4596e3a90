"""Survey profiles: what the images of a survey call things, as data in one TOML file each.

`generic.toml` explains every entry; its keyword lists, extension names and companions also
serve a survey whose own profile does not have them.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from astrid_assets.errors import ConfigurationError

__all__ = [
    "Band",
    "Companion",
    "MaskTable",
    "Profile",
    "TimeKeys",
    "ZeroPointKeys",
    "guess_profile",
    "load_profile",
    "matches_all",
    "profile_names",
]


@dataclass(frozen=True)
class Band:
    """One physical filter of a survey."""

    name: str
    """Canonical name."""

    aliases: tuple[str, ...] = ()
    """Other spellings in headers and archives."""

    wavelength: float | None = None
    """Effective wavelength, nm."""

    ab_offset: float = 0.0
    """Magnitudes to add to the survey's own system to get AB."""

    zeropoint: float | None = None
    """Magnitude (the survey's own system) of one count per second, where no header has it."""


@dataclass(frozen=True)
class TimeKeys:
    """Keywords that together tell when an exposure was made: one witness among several.

    A key is a keyword whose value is a date, an MJD or a JD; ``DATE+UT`` joins a date and a
    time of day, ``KEY:s`` counts seconds from MJD 0, ``KEY:unix`` seconds from 1970.
    """

    start: str | None = None
    mid: str | None = None
    end: str | None = None

    scale: str | None = None
    """Time scale; None takes the header's TIMESYS, or UTC."""


@dataclass(frozen=True)
class ZeroPointKeys:
    """A keyword with a zero point."""

    keyword: str
    error: str | None = None
    per_second: bool = False
    """Whether it is the magnitude of one count per second, of an image in counts."""


@dataclass(frozen=True)
class MaskTable:
    """How the values of a mask image become planes; without any table, not 0 means BAD."""

    bits: Mapping[int, str] = field(default_factory=dict)
    """Plane by bit number."""

    codes: Mapping[int, str] = field(default_factory=dict)
    """Plane by value, for masks that hold one code per pixel."""

    codes_from: tuple[str, str] | None = None
    """Keyword and version from which on a mask holds codes instead of bits."""


@dataclass(frozen=True)
class Companion:
    """A file beside an image that belongs to it."""

    role: str
    """``mask``, ``weight`` (inverse variance), ``variance``, ``noise`` (1-sigma), ``psf`` or ``coverage``."""

    match: re.Pattern[str]
    """What the name of the image looks like, without ``.gz`` and ``.fz``."""

    name: str
    """Name of the companion, with groups of `match`."""


@dataclass(frozen=True)
class Profile:
    """Everything about a survey that is not in its pixels."""

    name: str
    title: str
    detector_type: str
    """Kind of detector, part of the pairing key."""

    detector_type_keywords: tuple[str, ...] = ()
    """Keywords whose values are appended to it, where one survey has several kinds."""

    space: bool = False
    """Whether the images are taken above the atmosphere."""

    photographic: bool = False
    """Whether the detector is a plate: context, never differenced."""

    unit: str | None = None
    """Unit of the pixels where the header has none."""

    open_bands: bool = False
    """Whether a filter that is not listed keeps the header's name."""

    band_token: bool = False
    """Whether the filter is the first word of the keyword's value."""

    bands: Mapping[str, Band] = field(default_factory=dict)
    keywords: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Keywords to try, by quantity; a nested list means the mean of its members."""

    constants: Mapping[str, float] = field(default_factory=dict)
    """Nominal values for what no keyword tells."""

    times: tuple[TimeKeys, ...] = ()
    zeropoints: tuple[ZeroPointKeys, ...] = ()
    mask: MaskTable = field(default_factory=MaskTable)
    extensions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of extensions by role."""

    companions: tuple[Companion, ...] = ()
    not_images: tuple[str, ...] = ()
    """Patterns of names of files that are no exposures (catalogues, published differences)."""

    required: tuple[str, ...] = ()
    """Attributes of `MaskedImage` that every file of the survey has; one without is broken."""

    stack_keywords: Mapping[str, Any] = field(default_factory=dict)
    stack_files: tuple[str, ...] = ()
    input_dates: Mapping[str, Any] = field(default_factory=dict)
    """Keyword prefix, pattern and offset that give the MJD of each input of a stack."""

    calibration_pattern: re.Pattern[str] | None = None
    """Part of the calibration version that matters for pairing (its first group)."""

    seeing_unit: str = "arcsec"
    """Unit of the seeing keywords: ``arcsec`` or ``pixel``."""

    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Plausible ``seeing`` and ``pixel_scale`` (both arcsec) as lowest and highest value."""

    guess_headers: tuple[Mapping[str, Any], ...] = ()
    guess_files: tuple[str, ...] = ()

    def band(self, value: Any) -> str | None:
        """Return the canonical name of a filter as a header or archive spells it, or None.

        Parameters
        ----------
        value
            Header value: text or number.
        """
        text = " ".join(str(value).split())
        if self.band_token:
            text = text.split(" ")[0]
        for spelling in (str, str.casefold):
            for band in self.bands.values():
                if spelling(text) in {spelling(name) for name in (band.name, *band.aliases)}:
                    return band.name
        return text if self.open_bands and text else None

    def is_image(self, filename: str) -> bool:
        """Tell whether a file name can be that of an exposure."""
        return not any(fnmatch.fnmatchcase(filename, pattern) for pattern in self.not_images)

    def companion_names(self, filename: str) -> list[tuple[str, str]]:
        """Return the (role, name) of the companions that an image may have, uncompressed spelling."""
        stem = re.sub(r"\.(gz|fz)$", "", filename)
        found = [(c.role, c.match.sub(c.name, stem)) for c in self.companions if c.match.fullmatch(stem)]
        return [(role, name) for role, name in found if name != stem]


def profile_names() -> tuple[str, ...]:
    """Return the names of all profiles, ``generic`` last."""
    names = sorted(p.name[:-5] for p in files(__name__).iterdir() if p.name.endswith(".toml"))
    return (*(n for n in names if n != "generic"), "generic")


@cache
def load_profile(name: str) -> Profile:
    """Return a survey profile.

    Raises
    ------
    ConfigurationError
        There is no such profile; the message lists those there are.
    """
    if name not in profile_names():
        msg = f"there is no survey profile {name!r}; there are {', '.join(profile_names())}"
        raise ConfigurationError(msg)
    table = tomllib.loads((files(__name__) / f"{name}.toml").read_text("utf-8"))
    return _profile(name, table if name == "generic" else _inherit(table))


def _inherit(table: dict[str, Any]) -> dict[str, Any]:
    """Add to a survey's table what `generic.toml` says of quantities that it does not mention."""
    base = tomllib.loads((files(__name__) / "generic.toml").read_text("utf-8"))
    merged = dict(table)
    for section in ("keywords", "extensions"):
        merged[section] = {**base[section], **table.get(section, {})}
    for section in ("companions", "not_images"):
        merged[section] = [*table.get(section, []), *base[section]]
    for section in ("times", "zeropoints"):
        merged[section] = table.get(section, base[section])
    return merged


def _profile(name: str, table: dict[str, Any]) -> Profile:
    """Build a profile of its table; an unknown entry is an error of the file."""
    guess, stack = table.pop("guess", {}), table.pop("stack", {})
    pattern = table.pop("calibration_pattern", None)
    mask = table.pop("mask", {})
    try:
        return Profile(
            name=name,
            bands={n: Band(n, **_tuples(b)) for n, b in table.pop("bands", {}).items()},
            keywords={k: tuple(v) for k, v in table.pop("keywords").items()},
            times=tuple(TimeKeys(**t) for t in table.pop("times")),
            zeropoints=tuple(ZeroPointKeys(**z) for z in table.pop("zeropoints")),
            mask=_mask(mask),
            companions=tuple(
                Companion(c["role"], re.compile(c["match"]), c["name"]) for c in table.pop("companions")
            ),
            calibration_pattern=None if pattern is None else re.compile(pattern),
            guess_headers=tuple(guess.get("headers", ())),
            guess_files=tuple(guess.get("files", ())),
            stack_keywords=stack.get("keywords", {}),
            stack_files=tuple(stack.get("files", ())),
            **_tuples(table),
        )
    except (TypeError, KeyError) as error:
        msg = f"surveys/{name}.toml: {error}"
        raise ConfigurationError(msg) from error


def _mask(table: dict[str, Any]) -> MaskTable:
    """Return the mask table; TOML has no integer keys."""
    numbers = {kind: {int(k): v for k, v in table.get(kind, {}).items()} for kind in ("bits", "codes")}
    since = table.get("codes_from")
    return MaskTable(codes_from=None if since is None else (since[0], since[1]), **numbers)


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the lists of a table into tuples, one level deep in tables too."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, list):
            out[key] = tuple(value)
        elif isinstance(value, dict) and key in ("extensions", "limits"):
            out[key] = {k: tuple(v) for k, v in value.items()}
        else:
            out[key] = value
    return out


def guess_profile(header: Mapping[str, Any], filename: str = "") -> Profile:
    """Return the profile that a header, or else a file name, belongs to; ``generic`` if none does.

    Parameters
    ----------
    header
        Header of the image, primary and extension together.

    filename
        Name of the file, without folder.
    """
    profiles = [load_profile(name) for name in profile_names()]
    for profile in profiles:
        if any(matches_all(header, condition) for condition in profile.guess_headers):
            return profile
    for profile in profiles:
        if any(fnmatch.fnmatchcase(filename, pattern) for pattern in profile.guess_files):
            return profile
    return profiles[-1]


def matches_all(header: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Tell whether all keywords of a condition have (one of) their values; ``*`` means any."""
    return all(_value_matches(header.get(key), wanted) for key, wanted in condition.items())


def _value_matches(value: Any, wanted: Any) -> bool:
    if value is None:
        return False
    choices = wanted if isinstance(wanted, list) else [wanted]
    text = str(value).strip().casefold()
    return any(choice == "*" or str(choice).casefold() == text for choice in choices)
