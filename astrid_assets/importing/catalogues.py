"""Catalogues of supernovae: names, positions and dates as they are written, and what cannot be read."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import separation
from astrid_assets.importing.tables import Line, read_table

__all__ = ["Catalogue", "Reject", "Supernova", "read_catalogue"]

COLUMNS = {
    "name": (
        "sn_name",
        "name",
        "sn",
        "snname",
        "iauid",
        "designation",
        "objname",
        "object",
        "event",
        "ztfid",
    ),
    "prefix": ("name_prefix",),
    "ra": ("sn_ra", "ra", "raj2000", "ra_j2000", "ra_deg", "right_ascension"),
    "dec": ("sn_dec", "dec", "decl", "declination", "dej2000", "dec_j2000", "dec_deg"),
    "discovered": ("disc_date", "discoverydate", "discovery_date", "discdate", "date", "discovered"),
    "brightest": ("max_date", "maxdate", "maximum", "peak_date", "peakdate"),
    "peak": ("peakt",),
    "kind": ("sn_type", "type", "claimedtype", "objtype"),
}
"""Names of columns that mean the same, the first that a table has counts: of the earlier project's catalogue,
the Open Supernova Catalog, the Transient Name Server, the ZTF Bright Transient Survey, VizieR."""

_PEAK_ZERO = 2_458_000.0
"""Julian date from which column ``peakt`` of the ZTF Bright Transient Survey counts (explorer page)."""

_BLANK = {"", "-", "--", "---", "...", "null", "none", "nan", "n/a", "\\n", "?"}
_SAME_PLACE = 5.0 / 3600
"""Degrees within which two rows of one name are one supernova."""

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_MARKS = re.compile(r"(?<=[\d.])[\s:?*OPop]+$")
"""What catalogues put behind a number: uncertain, optical, photographic."""

_MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)


@dataclass(frozen=True)
class Supernova:
    """One row that was understood."""

    name: str
    """Name as the catalogue writes it, with its prefix."""

    ra: float
    """Right ascension, ICRS degrees."""

    dec: float
    """Declination, ICRS degrees."""

    date: str
    """Earliest date that is known of it (UTC)."""

    line: int
    """Line of the file."""

    kind: str | None = None
    """Type as the catalogue writes it."""

    uncertain_days: int = 0
    """Days that it may have been later: a month or a year is all that some rows tell."""

    note: str | None = None
    """Where the date is from, if not from the discovery."""


@dataclass(frozen=True)
class Reject:
    """A row that was not."""

    line: int
    """Line of the file."""

    reason: str
    """Why."""

    text: str
    """The line as it stands."""


@dataclass(frozen=True)
class Catalogue:
    """What a catalogue holds."""

    supernovae: tuple[Supernova, ...]
    rejects: tuple[Reject, ...]

    @property
    def n_rows(self) -> int:
        """Rows of the file."""
        return len(self.supernovae) + len(self.rejects)


class _Day(NamedTuple):
    """A day of the calendar, and how many days it may have been later."""

    day: datetime
    uncertain: int


def read_catalogue(text: str, *, path: str | Path = "catalogue") -> Catalogue:
    """Return the supernovae of a catalogue, and its other rows with the reason.

    Parameters
    ----------
    text
        A table with a header: columns between pipes, commas, semicolons, tabs or blanks.

    path
        File to name in errors.

    Raises
    ------
    ConfigurationError
        No line of it names columns for name and position.
    """
    columns, rows = read_table(text, is_header=_is_header)
    if not columns:
        wanted = "; ".join(f"{what}: {', '.join(COLUMNS[what])}" for what in ("name", "ra", "dec"))
        msg = f"{path}: no line names the columns of a catalogue; needed are one each of {wanted}"
        raise ConfigurationError(msg)
    found, rejects = [], []
    for row in rows:
        try:
            found.append(_supernova(row))
        except ValueError as error:
            rejects.append(Reject(row.number, str(error), row.text))
    return _once(found, rejects, {row.number: row.text for row in rows})


def _is_header(columns: Sequence[str]) -> bool:
    names = {_plain(column) for column in columns}
    return all(set(COLUMNS[what]) & names for what in ("name", "ra", "dec"))


def _plain(column: str) -> str:
    """Return the name of a column as `COLUMNS` has it: ``Discovery Date (UT)`` is ``discovery_date``."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\(.*?\)", "", column)).strip("_")


def _cell(row: Line, what: str) -> str | None:
    """Return the first cell of a row that is not blank among the columns that mean the same."""
    known = {_plain(column): text.strip() for column, text in row.cells.items()}
    cells = (known[column] for column in COLUMNS[what] if column in known)
    return next((cell for cell in cells if cell.lower() not in _BLANK), None)


def _supernova(row: Line) -> Supernova:
    """Return what a row says.

    Raises
    ------
    ValueError
        Position, or date, is missing or cannot be understood.
    """
    ra, dec = _position(_cell(row, "ra"), _cell(row, "dec"))
    name = _name(row, ra, dec)
    day, note = _date(row, name)
    date = day.day.date().isoformat()
    return Supernova(name, ra, dec, date, row.number, _cell(row, "kind"), day.uncertain, note)


def _name(row: Line, ra: float, dec: float) -> str:
    """Return the name with its prefix; one that has none is named after its position."""
    name, prefix = _cell(row, "name"), _cell(row, "prefix") or "SN"
    if name is None:
        return f"J{_digits(ra / 15.0, 1)}{'-' if dec < 0 else '+'}{_digits(abs(dec), 0)}"
    name = " ".join(name.split())
    return f"{prefix} {name}" if re.match(r"^\d{4}[A-Za-z]", name) else name


def _digits(value: float, decimals: int) -> str:
    """Return hours or degrees as in ``140302.1``: cut off, not rounded, as names of objects are."""
    units = 3600 * 10**decimals
    whole = int(value * units + 1e-6)
    seconds = whole % (60 * 10**decimals) / 10**decimals
    width = 3 + decimals if decimals else 2
    return f"{whole // units:02d}{whole // (60 * 10**decimals) % 60:02d}{seconds:0{width}.{decimals}f}"


def _position(ra: str | None, dec: str | None) -> tuple[float, float]:
    if ra is None or dec is None:
        raise ValueError("no position")
    right, down = _angle(ra, hours=True), _angle(dec, hours=False)
    if not 0.0 <= right < 360.0 or abs(down) > 90.0:
        msg = f"position is not on the sky: {ra} {dec}"
        raise ValueError(msg)
    return round(right, 6), round(down, 6)


def _angle(text: str, *, hours: bool) -> float:
    """Return degrees from a number, or from units, minutes and seconds of which the last may be missing."""
    clean = _MARKS.sub("", text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-"))
    match = re.match(r"^([+-]?)\s*([\d.\s:hmsd°'\"]+)$", clean)
    parts = re.split(r"[\s:hmsd°'\"]+", match[2].strip(" :hmsd°'\"")) if match else []
    if match is None or not 1 <= len(parts) <= 3 or not all(re.match(r"^\d+(\.\d*)?$", p) for p in parts):
        msg = f"position cannot be read: {text}"
        raise ValueError(msg)
    units, *smaller = (float(part) for part in parts)
    if any(value > 60.0 for value in smaller):
        msg = f"position has more than 60 minutes or seconds: {text}"
        raise ValueError(msg)
    degrees = units + sum(value / 60**n for n, value in enumerate(smaller, 1))
    degrees *= 15.0 if hours and (smaller or "h" in text) else 1.0
    return -degrees if match[1] == "-" else degrees


def _date(row: Line, name: str) -> tuple[_Day, str | None]:
    """Return the earliest date that a row tells, and where it is from if not from the discovery."""
    discovered, brightest = _cell(row, "discovered"), _cell(row, "brightest")
    peak = _cell(row, "peak")
    if brightest is None and peak is not None:
        brightest = str(float(peak) + _PEAK_ZERO)
    days = [(_day(text), note) for text, note in ((discovered, None), (brightest, "date of maximum")) if text]
    if days:
        return min(days, key=lambda pair: (pair[0].day, pair[1] is not None))
    year = _year_of(name)
    if year is None:
        raise ValueError("no date, neither in the row nor in the name")
    return _Day(datetime(year, 1, 1, tzinfo=UTC), 365), "year of the name"


def _year_of(name: str) -> int | None:
    """Return the year that a name tells: SN 1982aa, SNLS-04D4dw, ZTF18abc."""
    match = re.match(r"^(?:SN|AT)?\s*(\d{4})[A-Za-z]", name)
    if match:
        return int(match[1]) if int(match[1]) >= 1000 else None
    match = re.match(r"^[A-Za-z]+-?(\d{2})[A-Za-z]", name)
    return 2000 + int(match[1]) if match else None


def _day(text: str) -> _Day:
    """Return a date as catalogues write it: ISO, with words or blanks, to the month or year, JD or MJD."""
    clean = _MARKS.sub("", text).replace("/", "-")
    try:
        if re.match(r"^\d{5}(\.\d*)?$|^24\d{5}(\.\d*)?$", clean):
            return _of_mjd(float(clean))
        if re.match(r"^\d{8}(\.\d*)?$", clean):
            clean = f"{clean[:4]}-{clean[4:6]}-{clean[6:8]}"
        parts = [p for p in re.split(r"[-\s,T]+", clean) if p]
        if parts and re.match(r"^\d{1,2}$", parts[0]) and len(parts) >= 3 and len(parts[2]) == 4:
            parts[0], parts[2] = parts[2], parts[0]
        return _of_calendar(parts)
    except (ValueError, IndexError, OverflowError) as error:
        msg = f"date cannot be read: {text}"
        raise ValueError(msg) from error


def _of_mjd(number: float) -> _Day:
    mjd = number - 2_400_000.5 if number > 2_000_000 else number
    return _Day(_MJD_ZERO + timedelta(days=mjd), 0)


def _of_calendar(parts: Sequence[str]) -> _Day:
    """Return the day of year, month and day; 0 or nothing for what is not known."""
    year = int(parts[0])
    if not 1000 <= year <= 2200:
        raise ValueError(year)
    month = _MONTHS.get(parts[1][:3].lower()) or int(parts[1]) if len(parts) > 1 else 0
    day = int(float(parts[2])) if len(parts) > 2 else 0
    uncertain = 365 if not month else 30 if not day else 0
    return _Day(datetime(year, month or 1, day or 1, tzinfo=UTC), uncertain)


def _once(found: Sequence[Supernova], rejects: list[Reject], texts: dict[int, str]) -> Catalogue:
    """Reject rows that repeat an earlier one: the same name at the same place."""
    kept: list[Supernova] = []
    first: dict[str, list[Supernova]] = {}
    for supernova in found:
        namesakes = first.setdefault(supernova.name, [])
        same = [s for s in namesakes if _together(s, supernova)]
        if same:
            reason = f"given twice: {supernova.name} is in line {same[0].line} too"
            rejects.append(Reject(supernova.line, reason, texts[supernova.line]))
        else:
            namesakes.append(supernova)
            kept.append(supernova)
    return Catalogue(tuple(kept), tuple(sorted(rejects, key=lambda r: r.line)))


def _together(one: Supernova, other: Supernova) -> bool:
    return separation(one.ra, one.dec, other.ra, other.dec) < _SAME_PLACE
