"""Known objects: where they are at the time of an exposure, and which detection is one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import erfa
import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KINDS", "crossmatch", "crossmatch_schema", "outside_fraction", "positions_at"]

KINDS = ("star", "galaxy", "variable", "transient", "solar_system")
"""Kinds of known objects; a detection is matched with each on its own."""

_J2000 = 51544.5
"""MJD (TT) of J2000.0."""

_JULIAN_YEAR = 365.25
"""Days."""

_MAS = np.pi / 180 / 3.6e6
"""Radians of a milliarcsecond."""

_ARCSEC = np.pi / 180 / 3600
"""Radians of an arcsecond."""


def positions_at(known: pa.Table, mjd: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where objects are seen at a time, by proper motion and parallax.

    The direction moves uniformly along its tangent and is shifted by the position of the Earth
    (ESA 1997, The Hipparcos and Tycho Catalogues, vol. 1, equations 1.2.9 to 1.2.16, without radial
    velocities). Objects without an epoch or a motion stay where the catalogue has them.

    Parameters
    ----------
    known
        Columns ``ra``, ``dec`` (degrees, ICRS), ``ref_epoch`` (Julian year), ``pm_ra`` (cos(dec) included),
        ``pm_dec`` (mas / year) and ``parallax`` (mas); nulls allowed in all but the first two.

    mjd
        Time, MJD (UTC); NaN leaves everything in its place.

    Returns
    -------
    ra, dec : arrays
        ICRS degrees, ``(n,)``.
    """
    if not np.isfinite(mjd):
        return _numbers(known, "ra"), _numbers(known, "dec")
    ra, dec = np.radians(_numbers(known, "ra")), np.radians(_numbers(known, "dec"))
    epoch = _numbers(known, "ref_epoch")
    moves = np.isfinite(epoch)
    now = 2000.0 + (mjd - _J2000) / _JULIAN_YEAR
    years = np.where(moves, now - np.where(moves, epoch, now), 0.0)
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros(ra.size)], axis=1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=1)
    pm_ra, pm_dec, parallax = (
        np.where(moves, np.nan_to_num(_numbers(known, name)), 0.0)[:, None] * _MAS
        for name in ("pm_ra", "pm_dec", "parallax")
    )
    seen = _unit(ra, dec) + years[:, None] * (pm_ra * east + pm_dec * north)
    seen = seen - np.maximum(parallax, 0.0) * _earth(mjd)
    return (
        np.degrees(np.arctan2(seen[:, 1], seen[:, 0])) % 360.0,
        np.degrees(np.arctan2(seen[:, 2], np.hypot(seen[:, 0], seen[:, 1]))),
    )


def _earth(mjd: float) -> np.ndarray:
    """Return the barycentric position of the Earth in au, ICRS axes; UTC for TDB is good to 1e-5 au."""
    return erfa.epv00(2400000.5, mjd)[1]["p"]


def _unit(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Return unit vectors, ``(n, 3)``, of positions in radians."""
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as float64, nulls as NaN."""
    return table.column(name).to_numpy(zero_copy_only=False).astype(np.float64)


def crossmatch(
    ra: np.ndarray,
    dec: np.ndarray,
    exposure_id: list[str],
    mjd: np.ndarray,
    known: pa.Table,
    *,
    star_radius: float = 2.0,
    variable_radius: float = 2.0,
    transient_radius: float = 2.0,
    galaxy_radius: float = 2.0,
    galaxy_radii: float = 3.0,
    solar_system_radius: float = 5.0,
) -> pa.Table:
    """Find the nearest known object of every kind for each detection.

    Stars are moved to the time of the exposure; bodies of the solar system count in the exposure only
    that they were computed for. Of several galaxies the nearest in units of its own limit is taken.

    Parameters
    ----------
    ra, dec
        Positions, ICRS degrees, ``(n,)``; NaN matches nothing.

    exposure_id, mjd
        Exposure of each position and its middle, MJD (UTC).

    known
        Known objects, with the columns of `astrid_assets.archives.catalogues`.

    star_radius, variable_radius, transient_radius
        Largest separations, arcsec.

    galaxy_radius, galaxy_radii
        A galaxy reaches as far as its radius times ``galaxy_radii``, and at least ``galaxy_radius`` arcsec.

    solar_system_radius
        Largest separation from the ephemeris, arcsec.

    Returns
    -------
    pyarrow.Table
        One row a position, columns of `crossmatch_schema`; null where there is nothing.
    """
    import pyarrow as pa

    radius = {
        "star": star_radius,
        "galaxy": galaxy_radius,
        "variable": variable_radius,
        "transient": transient_radius,
        "solar_system": solar_system_radius,
    }
    exposures = np.asarray(exposure_id, dtype=object)
    places = np.asarray(ra, float), np.asarray(dec, float)
    columns: dict[str, pa.Array] = {}
    for kind in KINDS:
        part = _of_kind(known, kind)
        limit = np.full(part.num_rows, radius[kind])
        if kind == "galaxy":
            limit = np.fmax(limit, galaxy_radii * _numbers(part, "radius_arcsec"))
        match, separation = _match(places, exposures, np.asarray(mjd, float), part, limit)
        columns |= _described(kind, part, match, separation)
    return pa.table(columns, schema=crossmatch_schema())


def crossmatch_schema() -> pa.Schema:
    """Return the columns of `crossmatch` with units and descriptions."""
    import pyarrow as pa

    fields = []
    for kind in KINDS:
        name = kind.replace("_", " ").replace("solar system", "solar-system object")
        parts = (
            ("id", pa.string(), "", f"{name} at this place at the time of the exposure; null if none"),
            ("class", pa.string(), "", f"class of the {name} by its catalogue"),
            ("sep", pa.float64(), "arcsec", f"separation from the {name}"),
        )
        fields += [
            pa.field(f"{kind}_{suffix}", type_, metadata={"unit": unit, "description": text})
            for suffix, type_, unit, text in parts
        ]
    return pa.schema(fields)


def _of_kind(known: pa.Table, kind: str) -> pa.Table:
    import pyarrow.compute as pc

    return known.filter(pc.equal(known.column("kind"), kind))


def _match(
    places: tuple[np.ndarray, np.ndarray],
    exposures: np.ndarray,
    mjd: np.ndarray,
    part: pa.Table,
    limit: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the matched object (-1 for none) and the separation in arcsec of each position."""
    match, separation = np.full(exposures.size, -1), np.full(exposures.size, np.nan)
    if part.num_rows == 0:
        return match, separation
    owner = np.array(part.column("exposure_id").to_pylist(), dtype=object)
    for name in sorted(set(exposures)):
        rows = np.flatnonzero((exposures == name) & np.isfinite(places[0]) & np.isfinite(places[1]))
        objects = np.flatnonzero((owner == name) | np.equal(owner, None))
        if rows.size and objects.size:
            sky = positions_at(part.take(objects), float(mjd[rows[0]]))
            chosen, distance = _nearest(places[0][rows], places[1][rows], *sky, limit[objects])
            match[rows] = np.where(chosen >= 0, objects[chosen], -1)
            separation[rows] = distance
    return match, separation


def _nearest(
    ra: np.ndarray, dec: np.ndarray, known_ra: np.ndarray, known_dec: np.ndarray, limit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return index and separation in arcsec of the object nearest in units of its limit (arcsec); -1, NaN."""
    here = _unit(np.radians(ra), np.radians(dec))
    there = _unit(np.radians(known_ra), np.radians(known_dec))
    reach = 2 * np.sin(limit.max() * _ARCSEC / 2)
    pairs = cKDTree(here).sparse_distance_matrix(cKDTree(there), reach, output_type="ndarray")
    separation = 2 * np.arcsin(pairs["v"] / 2) / _ARCSEC
    share = separation / limit[pairs["j"]]
    order = np.lexsort((pairs["j"], share))[::-1]  # the last one written is the nearest
    order = order[share[order] <= 1.0]
    chosen, distance = np.full(ra.size, -1), np.full(ra.size, np.nan)
    chosen[pairs["i"][order]] = pairs["j"][order]
    distance[pairs["i"][order]] = separation[order]
    return chosen, distance


def _described(kind: str, part: pa.Table, match: np.ndarray, separation: np.ndarray) -> dict[str, pa.Array]:
    import pyarrow as pa

    index = pa.array(match, mask=match < 0)
    return {
        f"{kind}_id": part.column("object_id").combine_chunks().take(index),
        f"{kind}_class": part.column("class").combine_chunks().take(index),
        f"{kind}_sep": pa.array(separation, mask=match < 0),
    }


def outside_fraction(known: pa.Table, *, ra: float, dec: float, radius: float) -> float:
    """Return the share of objects outside the circle that was asked for; NaN without objects.

    Parameters
    ----------
    known
        Columns ``ra`` and ``dec``, degrees.

    ra, dec, radius
        The circle, degrees; an arcsecond beyond it is still inside.
    """
    if known.num_rows == 0:
        return float("nan")
    here = _unit(np.radians(_numbers(known, "ra")), np.radians(_numbers(known, "dec")))
    middle = _unit(np.radians(np.array([ra])), np.radians(np.array([dec])))
    distance = 2 * np.arcsin(np.clip(np.linalg.norm(here - middle, axis=1) / 2, 0.0, 1.0))
    return float(np.mean(distance > np.radians(radius) + _ARCSEC))
