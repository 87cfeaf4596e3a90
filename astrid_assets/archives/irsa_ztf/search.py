"""Searching IRSA's image service IBE for ZTF exposures and references.

astroquery's `Ibe` is not used: with astropy 8 it fails on any width ("Quantity truthiness is
ambiguous"), it sends the number of a width in arcsec as degrees, and it keeps answers for a week.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from astrid_assets.archives.irsa_ztf.names import Quadrant
from astrid_assets.archives.irsa_ztf.tables import number, read_table, whole
from astrid_assets.archives.transport.request import Request
from astrid_assets.clock import parse_time
from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    from astrid_assets.fields import Field, Window

__all__ = [
    "PUBLIC_GROUP",
    "Grid",
    "ReferenceRow",
    "ScienceRow",
    "parse_references",
    "parse_science",
    "reference_request",
    "science_request",
]

PUBLIC_GROUP = 1
"""``ipac_gid`` of images of the public survey; others belong to partners until their date of publication."""

JD_MINUS_MJD = 2400000.5
"""Julian date minus modified Julian date, days."""

_IDENTITY = ("field", "ccdid", "qid", "filtercode")
_GRID = ("crpix1", "crpix2", "crval1", "crval2", "cd11", "cd12", "cd21", "cd22")
_CORNERS = ("ra1", "dec1", "ra2", "dec2", "ra3", "dec3", "ra4", "dec4")
_PLACE = (*_GRID, *_CORNERS)

_SCIENCE = (
    *_IDENTITY,
    "infobits",
    "pid",
    "imgtypecode",
    "obsjd",
    "exptime",
    "filefracday",
    "seeing",
    "airmass",
    "moonillf",
    "maglimit",
    *_PLACE,
    "ipac_pub_date",
    "ipac_gid",
)
_REFERENCE = (*_IDENTITY, "infobits", "rfid", "nframes", "maglimit", "startobsdate", "endobsdate", *_PLACE)


@dataclass(frozen=True)
class Grid:
    """World coordinates of an image as the search knows them: gnomonic, without distortion."""

    crpix: tuple[float, float]
    """Reference pixel, 1-based."""

    crval: tuple[float, float]
    """Right ascension and declination there, ICRS degrees."""

    cd: tuple[float, float, float, float]
    """CD1_1, CD1_2, CD2_1, CD2_2, degrees per pixel."""


@dataclass(frozen=True)
class ScienceRow:
    """One exposure of one quadrant, as the table ``sci`` has it."""

    quadrant: Quadrant
    """Field, detector and filter."""

    filefracday: str
    """Date and a millionth part of the day, ``YYYYMMDDffffff``: part of all file names."""

    pid: int | None
    """Number of the processed image; another one after reprocessing."""

    infobits: int | None
    """Processing flags; the release notes recommend values below 2^25."""

    imgtypecode: str
    """``o`` for images of the sky."""

    mjd_start: float | None
    """Shutter opens, MJD (UTC)."""

    exptime: float | None
    """Exposure time, s."""

    seeing: float | None
    """FWHM, arcsec."""

    airmass: float | None
    """Airmass."""

    moonillf: float | None
    """Illuminated fraction of the Moon, negative while it wanes."""

    limiting_magnitude: float | None
    """5 sigma limit, AB mag."""

    grid: Grid | None
    """World coordinates; None where the row has none."""

    footprint: tuple[tuple[float, float], ...]
    """Corners (ra, dec) in order around the image; empty where the row has none."""

    published_mjd: float | None
    """When it becomes public, MJD (UTC)."""

    group: int | None
    """IPAC's group of owners; `PUBLIC_GROUP` is everybody."""

    def is_public(self, now: float) -> bool:
        """Tell whether everybody may have the image at a time (MJD, UTC).

        The date of publication decides for images of partners; those of the public survey are public
        from the start. `ipac_gid` alone would withhold what partners have published since.
        """
        return self.group == PUBLIC_GROUP or (self.published_mjd is not None and self.published_mjd <= now)


@dataclass(frozen=True)
class ReferenceRow:
    """One reference image, as the table ``ref`` has it."""

    quadrant: Quadrant
    """Field, detector and filter."""

    rfid: int | None
    """Number of the reference; another one where it was made anew."""

    infobits: int | None
    """Processing flags."""

    n_frames: int | None
    """Number of stacked exposures."""

    limiting_magnitude: float | None
    """5 sigma limit, AB mag."""

    mjd_start: float | None
    """Start of the first exposure, MJD (UTC)."""

    mjd_end: float | None
    """The same of the last one."""

    grid: Grid | None
    """World coordinates; None where the row has none."""

    footprint: tuple[tuple[float, float], ...]
    """Corners (ra, dec) in order around the image; empty where the row has none."""


# --- requests -----------------------------------------------------------------------------------


def science_request(sky_field: Field) -> Request | None:
    """Return the search for the exposures of a field; None where ZTF has none of its bands.

    Asked for are the bands and the times of the field alone: cuts in quality are made on the answer,
    so that each exposure that falls out is counted with its reason.
    """
    filters = _filter_ids(sky_field)
    if not filters:
        return None
    where = " AND ".join(part for part in (_filter_clause(filters), _time_clause(sky_field)) if part)
    return _request("sci", sky_field, where, _SCIENCE)


def reference_request(sky_field: Field) -> Request | None:
    """Return the search for the references of a field; None where ZTF has none of its bands.

    All times: whether the span of a reference suits a field is judged when pairs are made.
    """
    filters = _filter_ids(sky_field)
    return _request("ref", sky_field, _filter_clause(filters), _REFERENCE) if filters else None


def _request(table: str, sky_field: Field, where: str, columns: Sequence[str]) -> Request:
    """Return a search of the box around the circle of a field; the number of a SIZE is degrees."""
    return Request(
        service="irsa",
        path=f"/ibe/search/ztf/products/{table}",
        kind="search",
        expects="csv",
        query=(
            ("POS", f"{sky_field.ra:.8f},{sky_field.dec:.8f}"),
            ("SIZE", f"{2.0 * sky_field.radius:.8f}"),
            ("INTERSECT", "OVERLAPS"),
            ("WHERE", where),
            ("COLUMNS", ",".join(columns)),
            ("ct", "csv"),
        ),
    )


def _filter_ids(sky_field: Field) -> list[int]:
    """Return ZTF's numbers of the field's filters: the profile lists them among their other names."""
    from astrid_assets.surveys import load_profile

    bands = load_profile("ztf").bands.values()
    wanted = [band for band in bands if not sky_field.bands or band.name in sky_field.bands]
    return sorted(int(alias) for band in wanted for alias in band.aliases if alias.isdigit())


def _filter_clause(filters: Sequence[int]) -> str:
    return f"fid IN ({','.join(map(str, filters))})"


def _time_clause(sky_field: Field) -> str:
    """Return the condition on ``obsjd``; empty where an open window takes every time."""
    windows = [sky_field.science_window]
    # single exposures make a reference only where the archive's own stack may not do
    if sky_field.event is not None or sky_field.reference_window.model_fields_set:
        windows.append(sky_field.reference_window)
    clauses = [_span_clause(window) for window in windows]
    if not all(clauses):
        return ""
    return clauses[0] if len(clauses) == 1 else f"({' OR '.join(clauses)})"


def _span_clause(window: Window) -> str:
    start, end = (
        None if t is None else f"{t + JD_MINUS_MJD:.6f}" for t in (window.start_mjd, window.end_mjd)
    )
    if start and end:
        return f"obsjd BETWEEN {start} AND {end}"
    return f"obsjd >= {start}" if start else f"obsjd < {end}" if end else ""


# --- answers ------------------------------------------------------------------------------------


def parse_science(content: bytes) -> list[ScienceRow]:
    """Return the exposures of a search of ``sci``, CSV or IPAC table.

    Raises
    ------
    ArchiveUnavailableError
        IRSA answered with a page that reports a fault.

    BadAnswerError
        The answer is no such table.
    """
    rows = read_table(content, required=(*_IDENTITY, "filefracday", "obsjd"))
    return [
        ScienceRow(
            quadrant=_quadrant(row),
            filefracday=row["filefracday"],
            pid=whole(row.get("pid", "")),
            infobits=whole(row.get("infobits", "")),
            imgtypecode=row.get("imgtypecode", ""),
            mjd_start=_less(number(row["obsjd"])),
            exptime=number(row.get("exptime", "")),
            seeing=number(row.get("seeing", "")),
            airmass=number(row.get("airmass", "")),
            moonillf=number(row.get("moonillf", "")),
            limiting_magnitude=number(row.get("maglimit", "")),
            grid=_grid(row),
            footprint=_footprint(row),
            published_mjd=_time(row.get("ipac_pub_date", "")),
            group=whole(row.get("ipac_gid", "")),
        )
        for row in rows
    ]


def parse_references(content: bytes) -> list[ReferenceRow]:
    """Return the references of a search of ``ref``, CSV or IPAC table.

    Raises
    ------
    ArchiveUnavailableError, BadAnswerError
        As for `parse_science`.
    """
    rows = read_table(content, required=(*_IDENTITY, "startobsdate", "endobsdate"))
    return [
        ReferenceRow(
            quadrant=_quadrant(row),
            rfid=whole(row.get("rfid", "")),
            infobits=whole(row.get("infobits", "")),
            n_frames=whole(row.get("nframes", "")),
            limiting_magnitude=number(row.get("maglimit", "")),
            mjd_start=_time(row["startobsdate"]),
            mjd_end=_time(row["endobsdate"]),
            grid=_grid(row),
            footprint=_footprint(row),
        )
        for row in rows
    ]


def _quadrant(row: dict[str, str]) -> Quadrant:
    numbers = [whole(row[name]) for name in ("field", "ccdid", "qid")]
    if None in numbers or not row["filtercode"]:
        raise BadAnswerError(f"IRSA: a row does not say what it is of: {row}")
    return Quadrant(*numbers, row["filtercode"])


def _less(jd: float | None) -> float | None:
    # a day's 1e-8 is all that a Julian date in double precision holds
    return None if jd is None else round(jd - JD_MINUS_MJD, 8)


def _time(text: str) -> float | None:
    """Return the MJD of a time such as ``2018-04-11 11:16:02.998+00``; None where there is none."""
    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise BadAnswerError(f"IRSA: {error}") from error


def _grid(row: dict[str, str]) -> Grid | None:
    values = [number(row.get(name, "")) for name in _GRID]
    if None in values:
        return None
    return Grid((values[0], values[1]), (values[2], values[3]), tuple(values[4:]))


def _footprint(row: dict[str, str]) -> tuple[tuple[float, float], ...]:
    """Return the corners by their direction from the middle: no order is promised."""
    from astrid_assets.archives.footprints import centre

    values = [number(row.get(name, "")) for name in _CORNERS]
    if None in values:
        return ()
    corners = list(zip(values[::2], values[1::2], strict=True))
    ra0, dec0 = centre(corners)
    shrink = math.cos(math.radians(dec0))

    def direction(corner: tuple[float, float]) -> float:
        return math.atan2(corner[1] - dec0, ((corner[0] - ra0 + 180.0) % 360.0 - 180.0) * shrink)

    return tuple(sorted(corners, key=direction))
