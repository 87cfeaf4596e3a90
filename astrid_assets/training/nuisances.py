"""Nuisances: what spoils stamps whatever they show, given to copies of samples of both classes alike.

Where edges, holes and missing references go with one class only, a model learns them instead of the
sky. A share of samples, the same in every class, gets a copy that is spoiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astrid_assets.images.triplets import STAMP_BITS
from astrid_assets.seeds import generator, uniform

__all__ = ["NUISANCES", "NuisanceOptions", "missing", "plan", "spoil"]

NUISANCES = {
    "edge": "beyond an edge of the detector there is nothing",
    "masked": "a box of pixels without a value",
    "no_reference": "there is no reference image",
}
"""Values of the column ``nuisance``."""


@dataclass(frozen=True)
class NuisanceOptions:
    """How often and how much."""

    missing_share: float = 0.14
    """Share of the samples of each class in which some pixel has no value: 97 of 685 public ZTF alerts."""

    masked_share: float = 0.3
    """Share of the spoiled copies that get a hole instead of an edge. Own choice."""

    no_reference_share: float = 0.009
    """Share of the samples without a reference: 6 of 685 public ZTF alerts."""

    edge_in_reference: float = 0.93
    """Share of edges that the reference has as well: 91 of 97."""

    keep_radius: int = 4
    """Pixels around the middle that always stay: a detection needs them."""

    hole: tuple[int, int] = (3, 20)
    """Sides of a hole, pixels."""


def missing(mask: np.ndarray) -> np.ndarray:
    """Return which samples lack a value somewhere: boolean ``(n,)`` of masks ``(n, 3, S, S)``."""
    no_value = STAMP_BITS["OUTSIDE"] | STAMP_BITS["MISSING"]
    return ((mask & no_value) != 0).any(axis=(1, 2, 3))


def plan(
    names: Sequence[str],
    labels: Sequence[int],
    spoiled: np.ndarray,
    *,
    seed: str | int,
    options: NuisanceOptions | None = None,
) -> list[tuple[int, str]]:
    """Decide which samples get a spoiled copy, so that the same share of every class is spoiled.

    Parameters
    ----------
    names
        Identifiers of the samples.

    labels
        Class of each; every value gets the same shares.

    spoiled
        Whether a sample lacks pixels already, boolean ``(n,)``: the class that has fewer of them by nature
        gets more copies.

    seed
        Key of the random numbers.

    options
        Shares.

    Returns
    -------
    list of tuple
        Row and kind of nuisance of each copy, by row.
    """
    o = options or NuisanceOptions()
    labels = np.asarray(labels)
    classes = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    natural = [float(spoiled[rows].mean()) for rows in classes]
    share = max([o.missing_share, *natural])
    # what is left of a whole copy is rounded by the same throw in all classes
    throw = uniform("nuisance", seed), uniform("no_reference", seed)
    copies = []
    for rows, already in zip(classes, natural, strict=True):
        whole = rows[~spoiled[rows]]
        order = sorted(whole.tolist(), key=lambda row: uniform("nuisance", seed, names[row]))
        # n (already) + k of n + k samples are spoiled
        count = int(len(rows) * (share - already) / (1 - share) + throw[0]) if share < 1 else 0
        bare = int(len(rows) * o.no_reference_share / (1 - share) + throw[1]) if share < 1 else 0
        chosen = order[: count + bare]
        copies += [(row, "no_reference") for row in chosen[:bare]]
        copies += [(row, _kind(seed, names[row], o)) for row in chosen[bare:]]
    return sorted(copies)


def _kind(seed: str | int, name: str, options: NuisanceOptions) -> str:
    return "masked" if uniform("masked", seed, name) < options.masked_share else "edge"


def spoil(
    stamps: np.ndarray,
    mask: np.ndarray,
    kind: str,
    *,
    seed: str | int,
    options: NuisanceOptions | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a spoiled copy of one triplet.

    Parameters
    ----------
    stamps, mask
        Pixels and bits of `STAMP_BITS`, ``(3, S, S)``.

    kind
        One of `NUISANCES`.

    seed
        Key of the random numbers.

    options
        Sizes.

    Raises
    ------
    KeyError
        There is no such nuisance.
    """
    o = options or NuisanceOptions()
    rng = generator("spoil", kind, seed)
    where, bit = _RECIPES[kind](stamps.shape[-1], rng, o)
    return np.where(where, np.float32(np.nan), stamps), np.where(where, mask | np.uint8(bit), mask)


def _edge(size: int, rng: np.random.Generator, o: NuisanceOptions) -> tuple[np.ndarray, int]:
    """Return what lies beyond an edge at a random distance, now and then beyond a corner."""
    where = np.zeros((3, size, size), bool)
    sides = rng.permutation(4)[: 1 + int(rng.random() < 0.1)]
    for side in sides:
        depth = int(rng.integers(1, size // 2 - o.keep_radius + 1))
        part = np.s_[:, :depth] if side < 2 else np.s_[:, :, :depth]
        flipped = where[:, ::-1, ::-1] if side % 2 else where
        flipped[part] = True
    if rng.random() > o.edge_in_reference:
        where[1] = False
    return where, STAMP_BITS["OUTSIDE"]


def _masked(size: int, rng: np.random.Generator, o: NuisanceOptions) -> tuple[np.ndarray, int]:
    """Return a box of the science image that does not touch the middle; the difference lacks it too."""
    where = np.zeros((3, size, size), bool)
    steps = np.abs(np.arange(size) - size // 2)
    around = np.maximum(steps[:, None], steps[None, :]) > o.keep_radius
    box = np.zeros((size, size), bool)
    while not box.any():
        height, width = rng.integers(o.hole[0], o.hole[1] + 1, 2)
        y, x = rng.integers(0, size - height), rng.integers(0, size - width)
        box[y : y + height, x : x + width] = around[y : y + height, x : x + width]
    where[[0, 2]] = box
    return where, STAMP_BITS["MISSING"]


def _no_reference(size: int, _: np.random.Generator, __: NuisanceOptions) -> tuple[np.ndarray, int]:
    """Return the whole reference; surveys publish such alerts with the difference they once made."""
    where = np.zeros((3, size, size), bool)
    where[1] = True
    return where, STAMP_BITS["MISSING"]


_RECIPES = {"edge": _edge, "masked": _masked, "no_reference": _no_reference}
