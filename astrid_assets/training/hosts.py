"""One name for one host: injections name theirs by its place, catalogues by their own names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["catalogue_hosts"]

_PLACE = re.compile(r"J(\d+\.\d+)([+-]\d+\.\d+)")

_KINDS = ("galaxy", "star", "variable")
"""Kinds of known objects that are hosts, the first that fits wins."""


def catalogue_hosts(hosts: Iterable[str | None], known: pa.Table, *, radius: float = 2.0) -> dict[str, str]:
    """Return the catalogued galaxy or star at the place of each host of an injection.

    A galaxy with a real supernova and an injected one then is one host, and all its samples fall in one
    part of a split.

    Parameters
    ----------
    hosts
        Names ``J<ra><+dec>`` in degrees; others are left alone.

    known
        Known objects: ``object_id``, ``kind``, ``ra``, ``dec``.

    radius
        Largest distance, arcsec.

    Returns
    -------
    dict
        Catalogue name by name; without those that are in no catalogue.
    """
    names = sorted({name for name in hosts if name})
    places = {name: match.groups() for name in names if (match := _PLACE.fullmatch(name))}
    found: dict[str, str] = {}
    kinds = np.array(known["kind"].to_pylist(), object)
    for kind in _KINDS:
        part = known.filter(kinds == kind)
        missing = [name for name in places if name not in found]
        if part.num_rows and missing:
            found |= _nearest(missing, np.array([places[name] for name in missing], float), part, radius)
    return found


def _nearest(names: list[str], places: np.ndarray, known: pa.Table, radius: float) -> dict[str, str]:
    """Return the nearest known object of each place, within a radius."""
    from scipy.spatial import cKDTree

    there = np.array([known["ra"].to_pylist(), known["dec"].to_pylist()], float).T
    distance, index = cKDTree(_unit(there)).query(_unit(places))
    ids = known["object_id"].to_pylist()
    near = distance <= np.radians(radius / 3600.0)
    return {name: ids[i] for name, i, close in zip(names, index, near, strict=True) if close}


def _unit(places: np.ndarray) -> np.ndarray:
    """Return unit vectors of positions in degrees."""
    ra, dec = np.radians(places).T
    return np.c_[np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]
