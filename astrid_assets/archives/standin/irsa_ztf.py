"""IRSA's ZTF services over the simulated survey: search, files, cutouts, light curves.

The fields that the stand-in is told of are watched as archive ``simulated`` watches them: same
exposures, same names, same pixels. Anywhere else the sky is covered by whole quadrants on the grid of
the simulated survey, so that every position has an answer and every path that a search has named stays
good, whatever was asked before.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property, lru_cache
from itertools import chain
from math import ceil, cos, floor, hypot, radians
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.archives.footprints import coverage, touches_circle
from astrid_assets.archives.simulated import SimulatedArchive, changing, products, sky
from astrid_assets.archives.simulated.cadence import Visit, visits
from astrid_assets.archives.simulated.conditions import conditions
from astrid_assets.archives.simulated.exposure import expose
from astrid_assets.archives.simulated.grid import footprint, header_cards, reference_cards, science_cards
from astrid_assets.archives.simulated.optics import fwhm
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.survey import BANDS, EXPTIME, PIXEL_SCALE, SURVEY_START
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.archives.standin.faults import clip
from astrid_assets.archives.standin.irsa_ztf_where import Condition, WhereError, parse_where
from astrid_assets.archives.standin.messages import Asked, Reply
from astrid_assets.clock import from_mjd, simulated_now

if TYPE_CHECKING:
    from astropy.io.fits import PrimaryHDU
    from astropy.wcs import WCS

    from astrid_assets.archives.protocol import Exposure
    from astrid_assets.fields import Field, SimulatedOptions

__all__ = ["IrsaZtf", "handlers"]

_QUADRANT = (3080, 3072)
"""Rows and columns of a quadrant (Dekany et al. 2020)."""

_ZONE, _PARTS = 7.0, 8
"""Degrees between rows of the survey's fields, and quadrants along each side of a field (see `Tile`)."""

_KEPT = 8
"""Exposures whose files are kept; others are rendered again."""

_EPOCH = 57754
"""MJD from which ZTF counts its nights, 2017-01-01."""

_CALIBRATION_ERROR = 0.012
"""Magnitudes by which light curves of bright stars scatter (Masci et al. 2019)."""

_CODES = {band.code: name for name, band in BANDS.items()}
_NIGHT = date(1858, 11, 17).toordinal()
_JD = 2400000.5

_WCS_COLUMNS = ["crpix1", "crpix2", "crval1", "crval2", "cd11", "cd12", "cd21", "cd22"]
_CORNERS = ["ra1", "dec1", "ra2", "dec2", "ra3", "dec3", "ra4", "dec4"]
_COLUMNS: Mapping[str, Sequence[str]] = {
    "sci": (
        "ra",
        "dec",
        "infobits",
        "field",
        "ccdid",
        "qid",
        "rcid",
        "fid",
        "filtercode",
        "pid",
        "nid",
        "expid",
        "itid",
        "imgtype",
        "imgtypecode",
        "obsdate",
        "obsjd",
        "exptime",
        "filefracday",
        "seeing",
        "airmass",
        "moonillf",
        "moonesb",
        "maglimit",
        *_WCS_COLUMNS,
        *_CORNERS,
        "ipac_pub_date",
        "ipac_gid",
    ),
    "ref": (
        "infobits",
        "field",
        "ccdid",
        "qid",
        "rcid",
        "fid",
        "filtercode",
        "rfid",
        "nframes",
        "maglimit",
        "startobsdate",
        "endobsdate",
        *_WCS_COLUMNS,
        *_CORNERS,
    ),
}
"""Columns of the tables, as IRSA describes them; ``meta_id`` and ``poly`` are of no use outside."""

_LIGHT_CURVE = [
    "oid",
    "expid",
    "hjd",
    "mjd",
    "mag",
    "magerr",
    "catflags",
    "filtercode",
    "ra",
    "dec",
    "chi",
    "sharp",
    "filefracday",
    "field",
    "ccdid",
    "qid",
    "limitmag",
    "magzp",
    "magzprms",
    "clrcoeff",
    "clrcounc",
    "exptime",
    "airmass",
    "programid",
]

_SCIENCE_PATH = re.compile(
    r"/ibe/data/ztf/products/sci/(?P<year>\d{4})/(?P<day>\d{4})/(?P<fraction>\d{6})/"
    r"ztf_(?P<filefracday>\d{14})_(?P<field>\d{6})_(?P<filter>z[gri])_c(?P<ccd>\d\d)_o_q(?P<q>[1-4])_(?P<end>.+)"
)
_REFERENCE_PATH = re.compile(
    r"/ibe/data/ztf/products/ref/(?P<root>\d{3})/field(?P<folder>\d{6})/z[gri]/ccd\d\d/q[1-4]/"
    r"ztf_(?P<field>\d{6})_(?P<filter>z[gri])_c(?P<ccd>\d\d)_q(?P<q>[1-4])_(?P<end>.+)"
)

_SIZE_UNITS = {"": 3600.0, "deg": 3600.0, "arcmin": 60.0, "arcsec": 1.0}
"""Arcsec in the units of a size; pixels are apart."""

_ERROR = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="1.3"><RESOURCE type="results">'
    b'<INFO name="QUERY_STATUS" value="ERROR">The database is not available</INFO></RESOURCE></VOTABLE>\n'
)

Row = dict[str, Any]


def handlers(recorded: Path | None = None) -> dict[str, Any]:  # noqa: ARG001 -- no recorded ZTF answer exists
    """Return the handlers of the services of this module.

    The fields of the registry that name ``irsa_ztf`` are watched as archive ``simulated`` would.
    """
    from astrid_assets.fields import fields_path, load_fields

    registered = load_fields().values() if fields_path().is_file() else ()
    fields = [field for field in registered if "irsa_ztf" in field.archives]
    return {"irsa": IrsaZtf(fields), "ztf_forced": forced}


class IrsaZtf:
    """Handler of service ``irsa``.

    Parameters
    ----------
    fields
        Fields that are watched as archive ``simulated`` watches them; of two in one quadrant the first.

    simulation
        Options of the simulation, for fields that have none of their own; None takes the defaults.

    clock
        The present as MJD (UTC); None takes `astrid_assets.clock.simulated_now` at every request.
    """

    def __init__(
        self,
        fields: Iterable[Field] = (),
        *,
        simulation: SimulatedOptions | None = None,
        clock: float | None = None,
    ) -> None:
        from astrid_assets.fields import SimulatedOptions

        self._simulation = simulation or SimulatedOptions()
        self._clock = clock
        self._files = _Files()
        watched = [_Pointing(_simulated(field, field.simulated or self._simulation)) for field in fields]
        self._watched = {pointing.tile.detector: pointing for pointing in reversed(watched)}

    def answer(self, asked: Asked) -> Reply:
        """Return the reply to a request."""
        search = re.fullmatch(r"/ibe/search/ztf/products/(sci|ref)", asked.path)
        try:
            if search:
                return self._search(search[1], asked)
            if asked.path == "/cgi-bin/ZTF/nph_light_curves":
                return self._light_curves(asked)
            if asked.path.startswith("/ibe/data/ztf/products/"):
                return self._file(asked)
        except (WhereError, ValueError) as error:
            return Reply(f"{error}\n".encode(), "text/plain", 400)
        return _not_found(asked.path)

    def _now(self) -> float:
        return simulated_now() if self._clock is None else self._clock

    # --- where ------------------------------------------------------------------------------------

    def _around(self, ra: float, dec: float, width: float) -> list[_Pointing]:
        """Return the pointings that may touch a box: those of a watched field alone where one is there."""
        watched = [p for p in self._watched.values() if touches_circle(p.outline, ra, dec, 1e-6)]
        if watched:
            return watched
        cells = {_cell_of(*place) for place in _sampled(ra, dec, width)}
        found = [_quadrant(self._simulation, *cell) for cell in sorted(cells)]
        reach = max(width / 2.0 * hypot(1.0, 1.0), 1e-6)
        return [
            p
            for p in found
            if p.tile.detector not in self._watched and touches_circle(p.outline, ra, dec, reach)
        ]

    def pointing(self, detector: tuple[int, int, int]) -> _Pointing | None:
        """Return the pointing of (field, ccd, quadrant); None where the survey has no such field."""
        if detector in self._watched:
            return self._watched[detector]
        cell = _cell_named(*detector)
        return None if cell is None else _quadrant(self._simulation, *cell)

    # --- search -----------------------------------------------------------------------------------

    def _search(self, table: str, asked: Asked) -> Reply:
        if asked.fault == "error_status":
            return Reply(_ERROR, "text/xml")
        where = parse_where(asked.value("where")) if asked.value("where") else lambda _: True
        columns = [c.strip().lower() for c in asked.value("columns").split(",") if c.strip()]
        unknown = set(columns) - set(_COLUMNS[table])
        if unknown:
            raise WhereError(f"unknown columns: {', '.join(sorted(unknown))}")
        form = {"csv": _csv, "ipac_table": _ipac}.get(asked.value("ct", "ipac_table"))
        if form is None:
            raise WhereError("the stand-in answers with ct=csv or ct=ipac_table")
        rows = [] if asked.fault == "empty_table" else list(self._rows(table, asked, where))
        copies = 2 if asked.fault == "duplicates" else 1
        return form(columns or _COLUMNS[table], [row for row in rows for _ in range(copies)])

    def _rows(self, table: str, asked: Asked, where: Condition) -> Iterator[Row]:
        ra, dec, sides = _box(asked)
        touches = _relation(asked.value("intersect", "OVERLAPS").upper(), ra, dec, sides)
        for pointing in self._around(ra, dec, max(sides)):
            rows = (
                pointing.science(self._now(), where) if table == "sci" else pointing.references(self._now())
            )
            for row in rows:
                corners = tuple((row[f"ra{i}"], row[f"dec{i}"]) for i in (1, 2, 3, 4))
                if where(row) and touches(corners):
                    yield row

    # --- files ------------------------------------------------------------------------------------

    def _file(self, asked: Asked) -> Reply:
        content = self._content(asked.path)
        if content is None:
            return _not_found(asked.path)
        broken = content.startswith(b"SIMPLE") and len(content) % 2880
        if not (asked.value("center") or asked.value("size")) or "_sciimgdaopsfcent" in asked.path or broken:
            return Reply(content, "application/fits")
        cut = _cutout(content, asked.value("center"), asked.value("size"))
        if cut is None:
            return Reply(b"The requested subimage does not overlap the image.\n", "text/plain", 400)
        cut = clip(cut) if asked.fault == "clipped" else cut
        if asked.value("gzip", "true").lower() in ("false", "0"):
            return Reply(cut, "application/fits")
        return Reply(gzip.compress(cut, mtime=0), "application/gzip")

    def _content(self, path: str) -> bytes | None:
        """Return the bytes of a file; None where the survey has none of that name."""
        science, reference = _SCIENCE_PATH.fullmatch(path), _REFERENCE_PATH.fullmatch(path)
        match = science or reference
        if match is None:
            return None
        pointing = self.pointing((int(match["field"]), int(match["ccd"]), int(match["q"])))
        if pointing is None:
            return None
        make = self._science_maker(pointing, match) if science else self._reference_maker(pointing, match)
        name = path.rsplit("/", 1)[1]
        return None if make is None else self._files.get(name, name[: -len(match["end"])], make)

    def _science_maker(self, pointing: _Pointing, path: re.Match[str]) -> Callable[[Path], Any] | None:
        stamp = path["filefracday"]
        if stamp != path["year"] + path["day"] + path["fraction"]:
            return None
        night = date(int(stamp[:4]), int(stamp[4:6]), int(stamp[6:8])).toordinal() - _NIGHT
        tile, band = pointing.tile, _CODES[path["filter"]]
        found = [v for v in visits(tile, band, night, night + 1.0) if v.filefracday == stamp]
        if not found or found[0].mjd_end > self._now():
            return None
        return lambda folder: products.write_science(expose(tile, found[0]), tile, found[0], folder)

    def _reference_maker(self, pointing: _Pointing, path: re.Match[str]) -> Callable[[Path], Any] | None:
        # the first folder is the number of the field in thousands: 000, or 001 for the secondary grids
        if path["folder"] != path["field"] or path["root"] != path["field"][:3]:
            return None
        stacks = {stack.band: stack for stack in pointing.stacks(self._now())}
        stack = stacks.get(_CODES[path["filter"]])
        return None if stack is None else lambda folder: SimulatedArchive().download(stack, folder)

    # --- light curves -----------------------------------------------------------------------------

    def _light_curves(self, asked: Asked) -> Reply:
        match = re.fullmatch(r"CIRCLE\s+(\S+)\s+(\S+)\s+(\S+)", asked.value("pos").strip())
        if match is None or asked.value("format").lower() != "csv":
            raise WhereError("the stand-in answers to POS=CIRCLE ra dec radius with FORMAT=csv")
        ra, dec, radius = (float(text) for text in match.groups())
        codes = [code for code, name in _CODES.items() if name in asked.value("bandname", "g,r,i").split(",")]
        seen = [] if asked.fault == "empty_table" else self._around(ra, dec, 0.0)[:1]
        curves = [p.light_curves(code, ra, dec, radius, self._now()) for p in seen for code in codes]
        return _csv(_LIGHT_CURVE, chain.from_iterable(curves))


# --- what the survey sees -------------------------------------------------------------------------


class _Pointing:
    """A quadrant of the survey: what archive ``simulated`` offers for a field, as rows of IRSA's tables."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.tile = Tile.of(field)

    @cached_property
    def outline(self) -> tuple[tuple[float, float], ...]:
        """Corners of what is covered, by plan."""
        return footprint(*reference_cards(self.tile))

    def science(self, now: float, where: Condition) -> Iterator[Row]:
        """Yield the rows of the exposures up to now that a condition may take."""
        for band in BANDS:
            for visit in visits(self.tile, band, SURVEY_START, now):
                known = {**_identity(self.tile, band), "obsjd": visit.mjd_start + _JD}
                # what is unknown here does not decide; the whole row is judged again
                if visit.mjd_end <= now and where(known) is not False:
                    yield _science_row(self.tile, visit)

    def stacks(self, now: float) -> list[Exposure]:
        """Return the references: one a band, as archive ``simulated`` offers them for the field."""
        # one exposure a band: those of the search are of no use here
        options = self.field.simulated.model_copy(update={"max_epochs_per_band": 1})
        field = self.field.model_copy(update={"bands": (), "simulated": options})
        return [row for row in SimulatedArchive(now).search(field) if row.product == "stack"]

    def references(self, now: float) -> Iterator[Row]:
        """Yield the rows of the references."""
        cards, _ = reference_cards(self.tile)
        for stack in self.stacks(now):
            yield {
                **_identity(self.tile, stack.band),
                "infobits": 0,
                "rfid": self.tile.detector[0] * 10000 + self.tile.rcid * 10 + BANDS[stack.band].filter_id,
                "nframes": stack.n_exposures,
                "maglimit": None,
                "startobsdate": _moment(stack.mjd_start),
                "endobsdate": _moment(stack.mjd_end),
                **_place(cards, stack.footprint),
            }

    def light_curves(self, code: str, ra: float, dec: float, radius: float, now: float) -> Iterator[Row]:
        """Yield the measurements of the stars in a circle, with noise and without what is too faint."""
        band, tile = _CODES[code], self.tile
        stars, _ = sky.objects_around(tile.seed, tile.ra, tile.dec, tile.radius)
        east = (stars.ra - ra + 180.0) % 360.0 - 180.0
        near = np.flatnonzero(np.hypot(east * cos(radians(dec)), stars.dec - dec) <= radius)
        mean = sky.band_magnitude(stars.mag_r, stars.colour, band)
        for visit in visits(tile, band, SURVEY_START, now) if near.size else ():
            limit = products.limiting_magnitude(conditions(tile, visit))
            true = mean + changing.variability(stars, visit.mjd_mid, band)
            noise = generator("light-curve", *tile.key, band, visit.night).normal(size=stars.ra.size)
            ra_now, dec_now = sky.star_positions(stars, visit.mjd_mid)
            for i in near[true[near] < limit]:
                error = 1.0857 / (5.0 * 10 ** (0.4 * (limit - true[i]))) + _CALIBRATION_ERROR
                yield {
                    **_measurement(tile, visit, int(i), limit),
                    "mag": round(float(true[i] + error * noise[i]), 6),
                    "magerr": round(float(error), 6),
                    "ra": round(float(ra_now[i]), 7),
                    "dec": round(float(dec_now[i]), 7),
                }


def _simulated(field: Field, options: SimulatedOptions) -> Field:
    """Return a field as archive ``simulated`` knows it; the rest of it, windows above all, stays."""
    return field.model_copy(update={"archives": ("simulated",), "simulated": options})


@lru_cache(maxsize=8192)
def _science_row(tile: Tile, visit: Visit) -> Row:
    """Return the row of an exposure; the same object each time, not to be changed."""
    state = conditions(tile, visit)
    cards = science_cards(tile, state)
    return {
        **_identity(tile, visit.band),
        **_exposure(tile, visit),
        "infobits": 0,
        "itid": 1,
        "imgtype": "object",
        "imgtypecode": "o",
        "obsdate": _moment(visit.mjd_start),
        "obsjd": round(visit.mjd_start + _JD, 7),
        "exptime": EXPTIME,
        "seeing": round(fwhm(state.psf) * PIXEL_SCALE, 3),
        "airmass": round(state.airmass, 3),
        "moonillf": round(state.moon_illumination, 4),
        "moonesb": round(state.moon_altitude, 2),
        "maglimit": round(products.limiting_magnitude(state), 3),
        **_place(header_cards(cards, state.wcs_error), footprint(cards, (tile.ny, tile.nx))),
        "ipac_pub_date": _moment(visit.night),
        "ipac_gid": 1,
        "ra": tile.ra,
        "dec": tile.dec,
    }


def _identity(tile: Tile, band: str) -> Row:
    """Return the columns by which ZTF knows a quadrant and a filter."""
    field_id, ccd, quadrant = tile.detector
    return {
        "field": field_id,
        "ccdid": ccd,
        "qid": quadrant,
        "rcid": tile.rcid,
        "fid": BANDS[band].filter_id,
        "filtercode": BANDS[band].code,
    }


def _exposure(tile: Tile, visit: Visit) -> Row:
    """Return the columns by which ZTF knows an exposure."""
    number = round((visit.mjd_start - _EPOCH) * 1e5)
    return {
        "pid": int(f"{number}{tile.rcid:02d}15"),
        "nid": visit.night - _EPOCH,
        "expid": number,
        "filefracday": int(visit.filefracday),
    }


def _place(cards: Mapping[str, Any], corners: Sequence[tuple[float, float]]) -> Row:
    """Return world coordinates and corners; without the distortion, as the tables have them."""
    keywords = ["CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CD2_1", "CD2_2"]
    grid = {name: float(cards[key]) for name, key in zip(_WCS_COLUMNS, keywords, strict=True)}
    values = [float(value) for corner in corners for value in corner]
    return grid | dict(zip(_CORNERS, values, strict=True))


def _measurement(tile: Tile, visit: Visit, star: int, limit: float) -> Row:
    """Return what a light curve says about an exposure and a star, but for magnitude and position."""
    identity, exposure, band = _identity(tile, visit.band), _exposure(tile, visit), BANDS[visit.band]
    return {
        **{name: identity[name] for name in ("filtercode", "field", "ccdid", "qid")},
        "expid": exposure["expid"],
        "filefracday": visit.filefracday,
        "oid": int(f"{identity['field']:04d}{band.filter_id}{tile.rcid:02d}{star:08d}"),
        "hjd": round(visit.mjd_mid + _JD, 6),
        "mjd": round(visit.mjd_start, 6),
        "catflags": 0,
        "chi": 1.0,
        "sharp": 0.0,
        "limitmag": round(limit, 3),
        "magzp": band.zeropoint,
        "magzprms": 0.025,
        "clrcoeff": band.colour_coefficient,
        "clrcounc": 0.0002,
        "exptime": EXPTIME,
        "airmass": round(conditions(tile, visit).airmass, 3),
        "programid": 1,
    }


def _moment(mjd: float) -> str:
    """Return a time as IRSA writes it, ``2018-04-11 11:16:02.998+00``."""
    return f"{from_mjd(round(mjd * 86400e3) / 86400e3):%Y-%m-%d %H:%M:%S.%f}"[:-3] + "+00"


# --- the grid of whole quadrants ------------------------------------------------------------------


def _fields_in(row: int) -> int:
    """Return how many of the survey's fields lie around the sky in a row; as `Tile.detector` counts."""
    return ceil(360.0 * cos(radians(min(abs(_ZONE * (row + 0.5) - 90.0), 89.0))) / _ZONE)


def _cell_of(ra: float, dec: float) -> tuple[int, int, int]:
    """Return row of fields, and place along it and up in it in quadrants, of a position."""
    row = min(floor((dec + 90.0) / _ZONE), 25)
    up = floor((dec + 90.0) / _ZONE % 1.0 * _PARTS)
    return row, floor(ra % 360.0 / 360.0 * _fields_in(row) * _PARTS), up


def _cell_named(field_id: int, ccd: int, quadrant: int) -> tuple[int, int, int] | None:
    """Return the same from the numbers of a detector; None where the survey has no such field."""
    along, up = 2 * ((ccd - 1) % 4) + (quadrant - 1) % 2, 2 * ((ccd - 1) // 4) + (quadrant - 1) // 2
    first = 1
    for row in range(26):
        if first <= field_id < first + _fields_in(row) and 1 <= ccd <= 16:
            return row, (field_id - first) * _PARTS + along, up
        first += _fields_in(row)
    return None


@lru_cache(maxsize=64)
def _quadrant(simulation: SimulatedOptions, row: int, along: int, up: int) -> _Pointing:
    """Return the pointing of a whole quadrant."""
    from astrid_assets.fields import Field

    ra = (along + 0.5) / _PARTS / _fields_in(row) * 360.0
    dec = -90.0 + (row + (up + 0.5) / _PARTS) * _ZONE
    options = simulation.model_copy(update={"shape": _QUADRANT})
    field = Field(name="quadrant", ra=ra, dec=min(dec, 90.0), radius=0.6, archives=("simulated",))
    return _Pointing(field.model_copy(update={"simulated": options}))


def _sampled(ra: float, dec: float, width: float) -> Iterator[tuple[float, float]]:
    """Yield positions all over a box and a quadrant's width around it, closer than quadrants lie."""
    step = _ZONE / _PARTS / 2.0
    reach = ceil(width / 2.0 / step) + 1
    for north in range(-reach, reach + 1):
        there = max(-89.99, min(89.99, dec + north * step))
        for east in range(-reach, reach + 1):
            yield (ra + east * step / cos(radians(there))) % 360.0, there


# --- parameters -----------------------------------------------------------------------------------


def _box(asked: Asked) -> tuple[float, float, tuple[float, float]]:
    """Return position and sides in degrees of a search."""
    position = asked.value("pos").split(",")
    if len(position) != 2:
        raise WhereError("the stand-in wants POS=ra,dec")
    sides = [float(text) for text in asked.value("size", "0").split(",")]
    return float(position[0]), float(position[1]), (sides[0], sides[-1])


def _relation(
    name: str, ra: float, dec: float, sides: tuple[float, float]
) -> Callable[[Sequence[tuple[float, float]]], bool]:
    """Return the test of an image's corners against the box of a search."""
    if min(sides) == 0.0 or name == "CENTER":
        point = min(sides) == 0.0 and name == "ENCLOSED"
        return lambda image: not point and touches_circle(image, ra, dec, 1e-7)
    east, north = sides[0] / 2.0 / cos(radians(dec)), sides[1] / 2.0
    box = [
        (ra - east, dec - north),
        (ra + east, dec - north),
        (ra + east, dec + north),
        (ra - east, dec + north),
    ]
    relations = {
        "OVERLAPS": lambda image: coverage(image, box) > 0.0,
        "COVERS": lambda image: coverage(box, image) > 1.0 - 1e-9,
        "ENCLOSED": lambda image: coverage(image, box) > 1.0 - 1e-9,
    }
    if name not in relations:
        raise WhereError(f"INTERSECT={name} does not exist")
    return relations[name]


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> Reply:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return Reply(stream.getvalue().encode(), "text/csv")


def _ipac(columns: Sequence[str], rows: Sequence[Row]) -> Reply:
    """Return a table in IPAC's format: what one gets who does not ask for another."""
    texts = [["null" if row.get(c) is None else str(row[c]) for c in columns] for row in rows]
    kinds = [_kind([row.get(c) for row in rows]) for c in columns]
    head = [list(columns), kinds, [""] * len(columns), ["null"] * len(columns)]
    widths = [max(len(line[i]) for line in [*head, *texts]) for i in range(len(columns))]
    lines = [f"|{'|'.join(v.rjust(w) for v, w in zip(line, widths, strict=True))}|" for line in head]
    lines += [f" {' '.join(v.rjust(w) for v, w in zip(line, widths, strict=True))} " for line in texts]
    return Reply(("\n".join(lines) + "\n").encode(), "text/plain")


def _kind(values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, int) for value in known):
        return "long"
    return "double" if known and all(isinstance(value, int | float) for value in known) else "char"


def _not_found(path: str) -> Reply:
    return Reply(f"<html><body>404 Not Found: {path}</body></html>\n".encode(), "text/html", 404)


# --- files and cutouts ----------------------------------------------------------------------------


class _Files:
    """The files of the exposures that were asked for last, on disk."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="standin-ztf-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._lock = threading.Lock()
        self._made: OrderedDict[str, Path] = OrderedDict()

    def get(self, name: str, exposure: str, make: Callable[[Path], Any]) -> bytes | None:
        """Return the bytes of a file; its exposure is rendered if it was not of late."""
        with self._lock:
            if exposure not in self._made:
                folder = self._folder / exposure
                folder.mkdir()
                make(folder)
                self._made[exposure] = folder
            self._made.move_to_end(exposure)
            while len(self._made) > _KEPT:
                shutil.rmtree(self._made.popitem(last=False)[1])
            path = self._made[exposure] / name
            return path.read_bytes() if path.is_file() and path.suffix == ".fits" else None


def _cutout(content: bytes, centre: str, size: str) -> bytes | None:
    """Return a piece of an image on its own pixels, shorter where the image ends; None beside it."""
    from astropy.io import fits
    from astropy.wcs import WCS

    with fits.open(io.BytesIO(content)) as hdus:
        image = hdus[0]
        wcs = WCS(image.header)
        x, y = _centre(centre, wcs)
        width, height = (max(1, round(side)) for side in _sides(size, wcs))
        ny, nx = image.data.shape
        left, bottom = round(x - (width - 1) / 2), round(y - (height - 1) / 2)
        left, right = max(0, left), min(nx, left + width)
        bottom, top = max(0, bottom), min(ny, bottom + height)
        if left >= right or bottom >= top:
            return None
        return _written(image, slice(bottom, top), slice(left, right))


def _written(image: PrimaryHDU, rows: slice, columns: slice) -> bytes:
    from astropy.io import fits

    header = image.header.copy()
    for key, start in (("CRPIX1", columns.start), ("CRPIX2", rows.start)):
        if key in header:
            header[key] -= start
    cut, out = fits.PrimaryHDU(image.data[rows, columns], header), io.BytesIO()
    cut.add_checksum(when="checksum")
    cut.writeto(out)
    return out.getvalue()


def _pair(text: str) -> tuple[list[float], str]:
    match = re.fullmatch(r"\s*([-+0-9.eE]+)(?:\s*,\s*([-+0-9.eE]+))?\s*([a-z]*)\s*", text)
    if match is None:
        raise WhereError(f"{text!r} is no pair of numbers with a unit")
    return [float(match[1]), float(match[2] or match[1])], match[3]


def _centre(text: str, wcs: WCS) -> tuple[float, float]:
    """Return the middle of a cutout in pixels, 0-based."""
    values, unit = _pair(text)
    if unit in ("px", "pix"):
        return values[0] - 1.0, values[1] - 1.0
    if unit not in ("", "deg", "rad"):
        raise WhereError(f"{unit!r} is no unit of a position")
    if not wcs.has_celestial:
        raise WhereError("the image has no world coordinates")
    ra, dec = np.degrees(values) if unit == "rad" else values
    x, y = wcs.all_world2pix([ra], [dec], 0, quiet=True)
    return float(x[0]), float(y[0])


def _sides(text: str, wcs: WCS) -> tuple[float, float]:
    """Return width and height of a cutout in pixels."""
    values, unit = _pair(text)
    if unit in ("px", "pix"):
        return values[0], values[1]
    if unit not in _SIZE_UNITS:
        raise WhereError(f"{unit!r} is no unit of a size")
    scale = float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))) * 3600.0
    return values[0] * _SIZE_UNITS[unit] / scale, values[1] * _SIZE_UNITS[unit] / scale


# --- forced photometry ----------------------------------------------------------------------------


def forced(asked: Asked) -> Reply:
    """Return the reply of service ``ztf_forced``: it takes orders, and never has an answer at once."""
    if not asked.headers.get("authorization", "").startswith("Basic "):
        return Reply(b"<html><body>Authorization Required</body></html>\n", "text/html", 401)
    wanted = ("ra", "dec", "jdstart", "jdend", "email", "userpass")
    if asked.path == "/cgi-bin/requestForcedPhotometry.cgi" and all(asked.value(name) for name in wanted):
        return Reply(b"<html><body>Your request has been queued for processing.</body></html>\n", "text/html")
    return _not_found(asked.path)
