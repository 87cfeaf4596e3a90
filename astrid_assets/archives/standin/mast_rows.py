"""What the stand-in for MAST has about any position: rows of observations and products, traps included.

A place is a point of a lattice of 0.01 degrees: the one nearest to the position that is asked for. What is
there follows from the point alone. Only JWST in F200W has two epochs; everything else is there to be
rejected for its own reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from astrid_assets.archives.s_region import hull
from astrid_assets.archives.standin import jwst

__all__ = ["FIELDS", "PRODUCT_FIELDS", "Place", "mosaic_of", "observations", "place_at", "products"]

Row = dict[str, Any]

_STEP = 0.01
"""Degrees between places."""

REFERENCE_MJD, SCIENCE_MJD = 59760.4, 60251.3
"""Middles of the two epochs of JWST, MJD: more than a year apart."""

_FAR_FUTURE = 99_000.0
"""MJD of a release that nobody waits for."""

_TEXTS = (
    "intentType",
    "obs_collection",
    "provenance_name",
    "instrument_name",
    "project",
    "filters",
    "wavelength_region",
    "target_name",
    "target_classification",
    "obs_id",
    "dataproduct_type",
    "proposal_id",
    "proposal_pi",
    "obs_title",
    "s_region",
    "jpegURL",
    "dataURL",
    "dataRights",
    "obsid",
    "objID",
)
_NUMBERS = ("s_ra", "s_dec", "t_min", "t_max", "t_exptime", "em_min", "em_max", "t_obs_release", "distance")

FIELDS: Mapping[str, str] = {
    **dict.fromkeys(_TEXTS, "string"),
    **dict.fromkeys(_NUMBERS, "float"),
    "calib_level": "int",
}
"""Columns of observations and their types, as MAST names them."""

PRODUCT_FIELDS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "obsID",
            "obs_collection",
            "dataproduct_type",
            "obs_id",
            "description",
            "type",
            "dataURI",
            "productType",
            "productGroupDescription",
            "productSubGroupDescription",
            "productDocumentationURL",
            "project",
            "prvversion",
            "proposal_id",
            "productFilename",
            "parent_obsid",
            "dataRights",
        ),
        "string",
    ),
    "size": "int",
    "calib_level": "int",
}
"""Columns of products and their types."""


@dataclass(frozen=True)
class Place:
    """A point of the lattice."""

    row: int
    """Steps from the south pole."""

    column: int
    """Steps in right ascension; as many as at the equator."""

    @property
    def ra(self) -> float:
        """Right ascension, degrees."""
        return self.column * _STEP

    @property
    def dec(self) -> float:
        """Declination, degrees."""
        return self.row * _STEP - 90.0

    @property
    def number(self) -> int:
        """A number that no other place has."""
        return self.row * 36_000 + self.column


def place_at(ra: float, dec: float) -> Place:
    """Return the place nearest to a position, degrees."""
    return Place(round((dec + 90.0) / _STEP), round(ra / _STEP) % 36_000)


def mosaic_of(obs_id: str) -> jwst.Mosaic | None:
    """Return the mosaic that an ``obs_id`` of JWST stands for; None for any other."""
    found = re.fullmatch(r"jw(\d{5})-o00([12])_t(\d{5})_nircam_clear-f200w", obs_id)
    if found is None:
        return None
    place = Place(int(found[1]), int(found[3]))
    mjd, angle = ((REFERENCE_MJD, 0.0), (SCIENCE_MJD, 6.0))[int(found[2]) - 1]
    return jwst.Mosaic(place.ra, place.dec, mjd, "F200W", angle, place.number)


def observations(place: Place) -> list[Row]:
    """Return all rows of a place; ``obsid`` is its number followed by two digits."""
    rows = [*_jwst(place), *_hst(place), *_others(place)]
    for index, row in enumerate(rows):
        row.setdefault("obsid", str(place.number * 100 + index))
        row["objID"] = str(place.number * 100 + 50 + index)
    return [{name: row.get(name) for name in FIELDS} for row in rows]


def _row(place: Place, collection: str, instrument: str, filters: str, obs_id: str, **more: Any) -> Row:
    """Return a public science image of calibration level 3, but for what is said otherwise."""
    start = more.pop("t_min", 58_000.0)
    region = f"POLYGON ICRS {_numbers(_square(place, 0.02))}"
    row = {
        "intentType": "science",
        "obs_collection": collection,
        "provenance_name": f"CAL{collection}",
        "instrument_name": instrument,
        "project": collection,
        "filters": filters,
        "target_name": f"FIELD-{place.number}",
        "obs_id": obs_id,
        "dataproduct_type": "image",
        "calib_level": 3,
        "s_ra": place.ra,
        "s_dec": place.dec,
        "t_min": start,
        "t_max": None if start is None else start + 0.02,
        "t_exptime": 1200.0,
        "t_obs_release": 59_000.0 if start is None else start + 366.0,
        "s_region": region,
        "dataRights": "PUBLIC",
        "distance": 0.0,
    }
    return {**row, **more}


def _square(place: Place, half: float) -> list[tuple[float, float]]:
    """Return the corners of a square about a place; half a side in degrees."""
    wide = half / max(math.cos(math.radians(place.dec)), 0.01)
    low, high = max(place.dec - half, -90.0), min(place.dec + half, 90.0)
    return [((place.ra + s * wide) % 360.0, d) for s, d in ((-1, low), (1, low), (1, high), (-1, high))]


def _numbers(corners: list[tuple[float, float]]) -> str:
    return " ".join(f"{value:.9f}" for corner in corners for value in corner)


def _jwst(place: Place) -> list[Row]:
    """Return two epochs in F200W, and rows that are no use: see the reasons beside them."""

    def row(epoch: int, band: str, **more: Any) -> Row:
        obs_id = f"jw{place.row:05d}-o{epoch:03d}_t{place.column:05d}_nircam_clear-{band.lower()}"
        instrument = more.pop("instrument_name", "NIRCAM/IMAGE")
        return _row(place, "JWST", instrument, more.pop("filters", band), obs_id, **more)

    rows = []
    for epoch in (1, 2):
        entry = row(epoch, "F200W")
        mosaic = mosaic_of(entry["obs_id"])
        assert mosaic is not None  # noqa: S101 -- named two lines above
        half = mosaic.exptime / 172_800.0
        corners = _numbers(list(hull(jwst.footprint(mosaic))))
        times = {"t_min": mosaic.mjd - half, "t_max": mosaic.mjd + half, "t_exptime": mosaic.exptime}
        release = {"t_obs_release": mosaic.mjd + 30.0, "s_region": f"POLYGON ICRS  {corners}"}
        rows.append({**entry, **times, **release})
    return [
        *rows,
        row(3, "F200W", t_min=60_900.0, dataRights="EXCLUSIVE_ACCESS", t_obs_release=_FAR_FUTURE),
        row(4, "F150W", t_min=None),  # no time
        row(5, "F770W", t_min=60_000.0, instrument_name="MIRI/IMAGE"),  # no survey profile
        row(6, "F444W", t_min=60_000.0, filters="F444W;F470N"),  # light passes both
        row(7, "F200W", t_min=60_001.0, calib_level=1),  # not calibrated
        row(8, "F200W", t_min=60_002.0, intentType="calibration"),
        row(9, "F322W2", t_min=60_003.0, instrument_name="NIRCAM/WFSS", dataproduct_type="spectrum"),
    ]


def _hst(place: Place) -> list[Row]:
    """Return drizzled images of one epoch.

    Among them a region of two chips, the same visit in another project, a detection image of several filters,
    and a row without region.
    """
    left, right = _square(place, 0.02), _square(Place(place.row + 5, place.column), 0.02)
    hap = {"t_min": 54_000.0, "project": "HAP"}
    chips = f"POLYGON J2000 {_numbers(left)} POLYGON J2000 {_numbers(right)}"
    number = f"{place.number:09d}"
    again = f"hst_{number}_acs_wfc_f606w"
    return [
        _row(place, "HST", "ACS/WFC", "F606W;CLEAR2L", f"j{number}010", t_min=54_000.0, s_region=chips),
        _row(place, "HST", "ACS/WFC", "F606W", again, **hap),
        _row(place, "HST", "WFC3/UVIS", "F275W", f"i{number}020", t_min=56_000.0),
        _row(place, "HST", "WFPC2/WFC", "F814W", f"u{number}03", t_min=50_000.0),
        _row(place, "HST", "WFC3/IR", "DETECTION", f"i{number}040", t_min=56_001.0),
        _row(place, "HST", "ACS/WFC", "F814W", f"j{number}050", t_min=54_001.0, s_region=None),
    ]


def _others(place: Place) -> list[Row]:
    """Return TESS and PS1, which are had elsewhere; both bands of a GALEX tile; Swift's cubes."""
    number = str(place.number)
    galex = str(place.number * 100 + 40)
    circle = f"CIRCLE ICRS {place.ra:.8f}  {place.dec:.8f} 0.625"
    tile: Row = {"calib_level": 2, "t_min": 53_170.2, "s_region": circle, "obsid": galex}
    light = {"dataproduct_type": "timeseries", "t_min": 58_330.0}
    swift = {"dataproduct_type": "cube", "calib_level": 2, "t_min": 57_000.0}
    return [
        _row(place, "TESS", "Photometer", "TESS", "tess-s0001-1-3", t_min=58_324.8, t_max=58_352.6),
        _row(place, "TESS", "Photometer", "TESS", f"tess2018206045859-s0001-{number}-0120-s", **light),
        _row(place, "PS1", "GPC1", "r", f"rings.v3.skycell.{number}.stk.r", t_min=55_200.0, t_max=56_500.0),
        _row(place, "GALEX", "GALEX", "NUV", f"6374{number}", **tile),
        _row(place, "GALEX", "GALEX", "FUV", f"6374{number}", **tile),
        _row(place, "SWIFT", "UVOT", "UVW1", f"{place.number:011d}", **swift),
    ]


# --- products -----------------------------------------------------------------------------------


def products(obsid: str) -> list[Row]:
    """Return the files of an observation, as MAST lists them: also what nobody wants, and many times."""
    number = int(obsid) // 100
    place = Place(number // 36_000, number % 36_000)
    rows = [row for row in observations(place) if row["obsid"] == obsid]
    found = [file for row in rows[:1] for file in _files(row)]
    return [{name: file.get(name) for name in PRODUCT_FIELDS} for file in found]


def _files(row: Row) -> list[Row]:
    if row["obs_collection"] == "JWST":
        return _jwst_files(row)
    if row["obs_collection"] == "HST":
        return [
            _file(row, f"{row['obs_id']}_{kind.lower()}.fits", subgroup=kind, size=170_000_000)
            for kind in ("RAW", "FLT", "FLC", "DRZ", "DRC")
        ] + [_file(row, f"{row['obs_id']}_drc.jpg", product_type="PREVIEW", subgroup="DRC")]
    if row["obs_collection"] == "GALEX":
        stem = f"AIS_{row['obs_id']}"
        kinds = [f"{band}-{kind}.fits.gz" for band in ("nd", "fd") for kind in ("int", "rrhr", "cnt", "cat")]
        return [_file(row, f"{stem}-{kind}", size=9_000_000) for kind in (*kinds, "xd-mcat.fits.gz")]
    if row["obs_collection"] == "SWIFT":
        names = [
            f"sw{row['obs_id']}u{band}_{kind}.img.gz" for band in ("w1", "uu") for kind in ("sk", "ex", "rw")
        ]
        return [_file(row, name, size=4_000_000) for name in names]
    return []


def _jwst_files(row: Row) -> list[Row]:
    """Return the mosaic with its catalogue and previews; each file of a member a hundred times."""
    mosaic = mosaic_of(row["obs_id"])
    size = 0 if mosaic is None else len(jwst.mosaic_file(mosaic))
    name = row["obs_id"]
    member: Row = {"obs_id": f"{name[:7]}001001_02101_00001_nrca1", "calib_level": 2}
    many = [
        _file(row, f"{member['obs_id']}_cal.fits", subgroup="CAL", size=117_000_000, **member),
        _file(row, f"{member['obs_id']}_uncal.fits", subgroup="UNCAL", size=110_000_000, **member),
        _file(row, f"{member['obs_id']}_cal.jpg", subgroup="CAL", product_type="PREVIEW", **member),
    ]
    return [
        *many * 100,
        _file(row, f"{name}_i2d.jpg", subgroup="I2D", product_type="PREVIEW"),
        _file(row, f"{name}_i2d.fits", subgroup="I2D", size=size, prvversion="1.14.0"),
        _file(row, f"{name}_segm.fits", subgroup="SEGM", size=2_000_000),
        _file(row, f"{name}_cat.ecsv", subgroup="CAT", dataproduct_type="measurements"),
        *many,
    ]


def _file(
    row: Row, filename: str, *, subgroup: str | None = None, product_type: str = "SCIENCE", **more: Any
) -> Row:
    file = {
        "obsID": row["obsid"],
        "parent_obsid": row["obsid"],
        "obs_collection": row["obs_collection"],
        "obs_id": row["obs_id"],
        "dataproduct_type": "image",
        "type": "S",
        "dataURI": f"mast:{row['obs_collection']}/product/{filename}",
        "productType": product_type,
        "productSubGroupDescription": subgroup,
        "project": row["project"],
        "productFilename": filename,
        "size": 50_000,
        "dataRights": row["dataRights"],
        "calib_level": row["calib_level"],
    }
    return {**file, **more}
