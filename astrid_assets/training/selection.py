"""Which of the labelled detections become samples: by strata and a seeded hash, never by brightness.

Within each exposure every domain gets as many bogus samples as real ones, so that neither the domain nor
the exposure says what the class is; and of the bogus candidates those are taken whose surroundings
(level and scatter of the background) are most like those of the real ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astrid_assets.seeds import uniform

__all__ = ["SelectionOptions", "select"]


@dataclass(frozen=True)
class SelectionOptions:
    """Numbers of samples of an exposure."""

    max_real: int = 60
    """Real samples in each domain."""

    bogus_per_real: float = 1.0
    """Bogus samples for each real one; published training sets lie between 0.3 and 3."""

    max_ratio: float = 3.0
    """Largest ratio of the classes, either way; the more frequent class is cut."""

    min_bogus: int = 3
    """Bogus samples in a domain without real ones."""

    max_type_share: float = 0.4
    """Largest share of the bogus samples of a domain that one type has while there are others."""

    max_unlabelled: int = 10
    """Unlabelled samples."""

    max_missing_share: float = 0.35
    """Largest share of the samples of a class that lack pixels by nature; the rest is left out."""


def select(
    names: Sequence[str],
    labels: np.ndarray,
    domains: np.ndarray,
    types: Sequence[str],
    surroundings: np.ndarray,
    missing: np.ndarray,
    *,
    seed: str | int,
    options: SelectionOptions | None = None,
) -> np.ndarray:
    """Return the rows that become samples of an exposure.

    Parameters
    ----------
    names
        Identifiers of the detections; they decide the order in which candidates are taken.

    labels
        1 real, 0 bogus, -1 unlabelled.

    domains
        ``observed`` or ``injected``.

    types
        Class of object or defect.

    surroundings
        Features of the background ``(n, k)``; distances are taken in units of their scatter.

    missing
        Whether pixels are missing, boolean ``(n,)``.

    seed
        Key of the hash.

    options
        Numbers.

    Returns
    -------
    numpy.ndarray
        Row indices, sorted.
    """
    o = options or SelectionOptions()
    order = sorted(range(len(names)), key=lambda row: uniform("selection", seed, names[row]))
    pools = {
        (label, domain): _few_missing(
            [r for r in order if labels[r] == label and domains[r] == domain], missing, o
        )
        for label in (1, 0, -1)
        for domain in ("observed", "injected")
    }
    scaled = _scaled(surroundings)
    chosen: list[int] = []
    for domain in ("observed", "injected"):
        real = pools[1, domain][: o.max_real]
        count = max(round(o.bogus_per_real * len(real)), o.min_bogus)
        chosen += real + _alike(pools[0, domain], real, count, types, scaled, o)
    chosen = _filled_up(chosen, pools, labels, types, scaled, o)
    chosen = _within_ratio(chosen, labels, order, o.max_ratio)
    return np.sort(np.array(chosen + pools[-1, "observed"][: o.max_unlabelled], int))


def _few_missing(rows: list[int], missing: np.ndarray, o: SelectionOptions) -> list[int]:
    """Return the rows without some of those that lack pixels: from the first on never too many."""
    kept: list[int] = []
    n_missing = 0
    for row in rows:
        if missing[row] and n_missing + 1 > o.max_missing_share * (len(kept) + 1):
            continue
        n_missing += bool(missing[row])
        kept.append(row)
    return kept


def _scaled(surroundings: np.ndarray) -> np.ndarray:
    if not len(surroundings):
        return surroundings
    spread = np.percentile(surroundings, 84, axis=0) - np.percentile(surroundings, 16, axis=0)
    return surroundings / np.where(spread > 0, spread, 1.0)


def _alike(
    pool: list[int],
    models: list[int],
    count: int,
    types: Sequence[str],
    scaled: np.ndarray,
    o: SelectionOptions,
) -> list[int]:
    """Return rows of a pool: for one model after the other the one with the most similar surroundings.

    Without models, the first. No type gets more than its share while others are left.
    """
    left = list(pool)
    taken: Counter[str] = Counter()
    limit = max(1, int(o.max_type_share * count))
    chosen: list[int] = []
    while left and len(chosen) < count:
        open_rows = [row for row in left if taken[types[row]] < limit] or left
        best = 0
        if models:
            model = scaled[models[len(chosen) % len(models)]]
            best = int(np.square(scaled[open_rows] - model).sum(axis=1).argmin())
        row = open_rows[best]
        left.remove(row)
        taken[types[row]] += 1
        chosen.append(row)
    return chosen


def _filled_up(
    chosen: list[int],
    pools: dict[tuple[int, str], list[int]],
    labels: np.ndarray,
    types: Sequence[str],
    scaled: np.ndarray,
    o: SelectionOptions,
) -> list[int]:
    """Return the choice with more bogus samples of either domain where one had too few."""
    real = [row for row in chosen if labels[row] == 1]
    lack = round(o.bogus_per_real * len(real)) - (len(chosen) - len(real))
    for domain in ("injected", "observed"):
        rest = [row for row in pools[0, domain] if row not in chosen]
        more = _alike(rest, real, max(lack, 0), types, scaled, o)
        chosen = chosen + more
        lack -= len(more)
    return chosen


def _within_ratio(chosen: list[int], labels: np.ndarray, order: list[int], ratio: float) -> list[int]:
    """Return the choice without the last of a class that has more than `ratio` times the other."""
    counts = {value: sum(labels[row] == value for row in chosen) for value in (0, 1)}
    fewer = min(counts.values())
    if not fewer:
        return chosen
    kept: Counter[int] = Counter()
    rank = {row: place for place, row in enumerate(order)}
    result = []
    for row in sorted(chosen, key=rank.__getitem__):
        kept[labels[row]] += 1
        if kept[labels[row]] <= ratio * fewer:
            result.append(row)
    return result
