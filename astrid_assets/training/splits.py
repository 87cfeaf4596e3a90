"""Splits without leaks: what belongs together stays together, and a table proves it.

Samples belong together that lie in one HEALPix cell, show one object or one host, hold the same
pixels or overlapping cutouts of one exposure, or lie a few arcseconds apart. Whole groups are
assigned, so that no model is tested on what it was trained with.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.errors import ReleaseRefusedError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SHARES",
    "SPLITS",
    "Splits",
    "group_samples",
    "group_table",
    "healpix_cells",
    "prove",
    "split_samples",
]

SPLITS = ("train", "validation", "test")
"""Names of the splits."""

SHARES = (0.8, 0.1, 0.1)
"""Wanted shares of the labelled samples, those of BTSbot (Rehemtulla et al. 2024: 0.81, 0.09, 0.10)."""

_EXACT_GROUPS = 7
"""Up to this many groups all assignments are tried (3 to the 7th); more are improved step by step."""

_THIN = 0.25
"""Part of its wanted share of a label below which a split is thin: too little to measure anything on."""

_WISH = 2.5
"""Cost of a thin split for each label; more than any misfit of the shares, which is 2 at most."""

_MUST = 100.0
"""Cost of a broken condition; more than all thin splits together."""


@dataclass(frozen=True, eq=False)
class Splits:
    """Which split each sample is in."""

    split: np.ndarray
    """Name of the split, ``(n,)``."""

    group: np.ndarray
    """Name of the group: that of its first cell or field, ``(n,)``."""

    cell: np.ndarray
    """HEALPix cell (nested), int64 ``(n,)``; -1 without a sky position."""

    proof: tuple[dict[str, Any], ...]
    """How much any two splits share, row by row; see `prove`."""


def split_samples(
    table: pa.Table,
    *,
    shares: Sequence[float] = SHARES,
    nside: int = 16,
    radius: float = 5.0,
    size: int = 65,
    seed: str = "",
) -> Splits:
    """Assign samples to train, validation and test.

    Parameters
    ----------
    table
        Samples with the columns of `astrid_assets.training.schema.SAMPLE_COLUMNS`.

    shares
        Wanted shares of the labelled samples.

    nside
        Resolution of the HEALPix cells (nested, ICRS); 16 are cells of 3.7 degrees, as in the
        Multimodal Universe.

    radius
        Samples closer than this belong together, arcsec.

    size
        Side of the stamps, pixels: stamps of one exposure that overlap belong together.

    seed
        Decides between assignments that are equally good.

    Raises
    ------
    ReleaseRefusedError
        The groups do not allow a split: one would be empty, or train or test would lack a label.
    """
    cell = healpix_cells(table, nside)
    links = {"nside": nside, "radius": radius, "size": size}
    label = group_samples(table, cell, radius=radius, size=size)
    names = _group_names(table, cell, label)
    counts = _label_counts(table, label, len(names))
    chosen = _assign(counts, shares, [_hash(seed, name) for name in names])
    _refuse_if_broken(counts, chosen, names, nside)
    split = np.array(SPLITS)[chosen][label]
    return Splits(split, np.array(names)[label], cell, tuple(prove(table, split, **links)))


def healpix_cells(table: pa.Table, nside: int) -> np.ndarray:
    """Return the HEALPix cell (nested, ICRS) of each sample, int64; -1 without a sky position."""
    from astropy_healpix import lonlat_to_healpix

    ra, dec = _degrees(table)
    cell = np.full(table.num_rows, -1, np.int64)
    placed = np.isfinite(ra) & np.isfinite(dec)
    if placed.any():
        cell[placed] = lonlat_to_healpix(*_radians(ra[placed], dec[placed]), nside, order="nested")
    return cell


def group_samples(table: pa.Table, cell: np.ndarray, *, radius: float, size: int) -> np.ndarray:
    """Return the number of the group of each sample, from 0 in the order of the rows.

    Parameters
    ----------
    table
        Samples.

    cell
        Their HEALPix cells; samples without one belong to their field.

    radius
        Samples closer than this belong together, arcsec.

    size
        Side of the stamps, pixels.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = table.num_rows
    pairs = [
        *_pairs_of_equals(table, cell),
        _close_pairs(table, radius),
        _overlapping_pairs(table, cell, size),
    ]
    first, second = np.concatenate([np.empty((2, 0), np.int64), *pairs], axis=1)
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    # numbered by first appearance, whatever the order in which the library found them
    _, where, number = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(where))[number]


def prove(
    table: pa.Table, split: np.ndarray, *, nside: int, radius: float, size: int
) -> list[dict[str, Any]]:
    """Count what any two splits have in common; all counts of a release are zero.

    Made from the samples and their splits alone, not from the groups that the splits were made of.

    Parameters
    ----------
    table
        Samples.

    split
        Name of the split of each.

    nside, radius, size
        As for `split_samples`.

    Returns
    -------
    list of dict
        ``what`` (healpix_cell, field_without_position, object_id, host_id, sha1, sample_id,
        pairs_within_radius, overlapping_stamps), ``first``, ``second`` (splits), ``shared`` (number).
    """
    cell = healpix_cells(table, nside)
    keys = {
        "healpix_cell": [c if c >= 0 else None for c in cell.tolist()],
        "field_without_position": _field_without_cell(table, cell),
        **{name: _texts(table, name) for name in ("object_id", "host_id", "sha1", "sample_id")},
    }
    pairs = {
        "pairs_within_radius": _close_pairs(table, radius),
        "overlapping_stamps": _overlapping_pairs(table, cell, size),
    }
    rows = []
    for first, second in itertools.combinations(SPLITS, 2):
        for what, values in keys.items():
            shared = _values_of(values, split == first) & _values_of(values, split == second)
            rows.append({"what": what, "first": first, "second": second, "shared": len(shared)})
        for what, (a, b) in pairs.items():
            across = (split[a] == first) & (split[b] == second) | (split[a] == second) & (split[b] == first)
            rows.append({"what": what, "first": first, "second": second, "shared": int(across.sum())})
    return rows


# --- what belongs together --------------------------------------------------------------------------


def _pairs_of_equals(table: pa.Table, cell: np.ndarray) -> Iterable[np.ndarray]:
    """Yield the pairs that chain samples with equal keys, one array ``(2, m)`` a kind of key."""
    yield _chain([c if c >= 0 else None for c in cell.tolist()])
    yield _chain(_field_without_cell(table, cell))
    for name in ("object_id", "host_id", "sha1"):
        yield _chain(_texts(table, name))


def _chain(keys: Sequence[Any]) -> np.ndarray:
    """Return pairs of rows with equal keys, each with the one before; None is equal to nothing."""
    last: dict[Any, int] = {}
    pairs = []
    for row, key in enumerate(keys):
        if key is not None:
            if key in last:
                pairs.append((last[key], row))
            last[key] = row
    return np.array(pairs, np.int64).reshape(-1, 2).T


def _close_pairs(table: pa.Table, radius: float) -> np.ndarray:
    """Return all pairs of samples closer than the radius on the sky, ``(2, m)``."""
    from scipy.spatial import cKDTree

    ra, dec = _degrees(table)
    rows = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    a, d = _radians(ra[rows], dec[rows])
    points = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)
    chord = 2 * np.sin(np.radians(radius / 3600) / 2)
    found = cKDTree(points).query_pairs(chord, output_type="ndarray") if len(rows) else np.empty((0, 2), int)
    return rows[found].T.astype(np.int64).reshape(2, -1)


def _overlapping_pairs(table: pa.Table, cell: np.ndarray, size: int) -> np.ndarray:
    """Return pairs of samples of one exposure in different cells whose stamps share pixels, ``(2, m)``."""
    from scipy.spatial import cKDTree

    exposures: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(*(_texts(table, n) for n in ("field", "exposure_id")), strict=True)):
        exposures.setdefault(key, []).append(row)
    x, y = (table.column(name).to_numpy(zero_copy_only=False) for name in "xy")
    found = [np.empty((0, 2), np.int64)]
    for rows in map(np.array, exposures.values()):
        if len(set(cell[rows].tolist())) > 1:
            tree = cKDTree(np.rint(np.stack([x[rows], y[rows]], axis=1)))
            pairs = rows[tree.query_pairs(size - 0.5, p=np.inf, output_type="ndarray")]
            found.append(pairs[cell[pairs[:, 0]] != cell[pairs[:, 1]]])
    return np.concatenate(found).T


def _field_without_cell(table: pa.Table, cell: np.ndarray) -> list[str | None]:
    return [f if c < 0 else None for f, c in zip(_texts(table, "field"), cell, strict=True)]


def _texts(table: pa.Table, name: str) -> list[str | None]:
    """Return a column of texts; what is empty is None."""
    return [value or None for value in table.column(name).to_pylist()]


def _values_of(values: Sequence[Any], rows: np.ndarray) -> set[Any]:
    return {value for value, take in zip(values, rows, strict=True) if take and value is not None}


def _degrees(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    ra, dec = (table.column(n).to_numpy(zero_copy_only=False).astype(np.float64) for n in ("ra", "dec"))
    return ra, dec


def _radians(ra: np.ndarray, dec: np.ndarray) -> tuple[Any, Any]:
    """Return angles as quantities that the trigonometric functions and HEALPix both take."""
    import astropy.units as u

    return np.radians(ra) * u.rad, np.radians(dec) * u.rad


# --- who goes where ---------------------------------------------------------------------------------


def _group_names(table: pa.Table, cell: np.ndarray, label: np.ndarray) -> list[str]:
    """Name each group after the smallest of its cells, or fields where it has no sky position."""
    own = [
        f"healpix:{c}" if c >= 0 else f"field:{f}" for c, f in zip(cell, _texts(table, "field"), strict=True)
    ]
    names: dict[int, str] = {}
    for number, name in zip(label.tolist(), own, strict=True):
        names[number] = min(names.get(number, name), name)
    return [names[number] for number in sorted(names)]


def _label_counts(table: pa.Table, label: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the number of bogus and real samples of each group, ``(groups, 2)``."""
    value = table.column("label").to_numpy(zero_copy_only=False)
    return np.stack([np.bincount(label[value == k], minlength=n_groups) for k in (0, 1)], axis=1)


def _hash(*texts: str) -> float:
    digest = blake2b("/".join(texts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def _assign(counts: np.ndarray, shares: Sequence[float], order: Sequence[float]) -> np.ndarray:
    """Return the number of the split of each group."""
    size = counts.sum(axis=1)
    wanted = np.array(shares) / np.sum(shares)
    if len(counts) <= _EXACT_GROUPS:
        # equally good ones are told apart by the hashes of their groups
        options = itertools.product(range(len(SPLITS)), repeat=len(counts))
        return min(
            map(np.array, options), key=lambda chosen: (_cost(counts, chosen, wanted), float(chosen @ order))
        )
    chosen = np.zeros(len(counts), np.int64)
    best = _cost(counts, chosen, wanted)
    turns = sorted(range(len(counts)), key=lambda g: (-size[g], order[g]))
    improved = True
    while improved:
        improved = False
        for group in turns:
            for target in range(len(SPLITS)):
                trial = chosen.copy()
                trial[group] = target
                cost = _cost(counts, trial, wanted)
                if cost < best - 1e-12:
                    chosen, best, improved = trial, cost, True
    return chosen


def _cost(counts: np.ndarray, chosen: np.ndarray, wanted: np.ndarray) -> float:
    """Return the misfit of the shares, plus much for each broken condition."""
    held = np.stack([counts[chosen == k].sum(axis=0) for k in range(len(SPLITS))])
    shares = held.sum(axis=1) / max(held.sum(), 1)
    of_label = held / np.maximum(held.sum(axis=0), 1)
    thin = int((of_label < _THIN * wanted[:, None]).sum())
    return float(np.round(np.abs(shares - wanted).sum(), 9)) + _WISH * thin + _MUST * len(_broken(held))


def _broken(held: np.ndarray) -> list[str]:
    """Name the conditions that the label counts of the splits, ``(3, 2)``, do not meet."""
    train, validation, test = held
    broken = [
        f"{s} would hold no {k}"
        for s, row in (("train", train), ("test", test))
        for k, n in zip(("bogus", "real"), row, strict=True)
        if n == 0
    ]
    return broken + (["validation would be empty"] if validation.sum() == 0 else [])


def _refuse_if_broken(counts: np.ndarray, chosen: np.ndarray, names: Sequence[str], nside: int) -> None:
    held = np.stack([counts[chosen == k].sum(axis=0) for k in range(len(SPLITS))])
    broken = _broken(held)
    if not broken:
        return
    groups = ", ".join(
        f"{name} ({row[1]} real, {row[0]} bogus)"
        for name, row in itertools.islice(zip(names, counts, strict=True), 8)
    )
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    msg = (
        f"no split without leaks: {'; '.join(broken)}. The labelled samples are {len(names)} groups that "
        f"must stay together: {groups or 'none'}{more}. At least three are needed, two of them with both "
        f"labels: add a field in another part of the sky (another HEALPix cell of nside {nside}), or run the "
        "fields that have no training set yet"
    )
    raise ReleaseRefusedError(msg)


def group_table(splits: Splits, label: np.ndarray) -> list[dict[str, Any]]:
    """Return one row a group: name, split, HEALPix cells, and samples by label.

    Parameters
    ----------
    splits
        Groups and splits of the samples.

    label
        Their labels: 1 real, 0 bogus, -1 unlabelled.
    """
    rows = []
    for name in sorted(set(splits.group.tolist())):
        mine = splits.group == name
        values = label[mine]
        rows.append(
            {
                "group": name,
                "split": str(splits.split[mine][0]),
                "cells": sorted(set(splits.cell[mine].tolist()) - {-1}),
                "real": int((values == 1).sum()),
                "bogus": int((values == 0).sum()),
                "unlabelled": int((values == -1).sum()),
            }
        )
    return rows
