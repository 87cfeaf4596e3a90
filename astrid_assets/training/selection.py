"""Which of the labelled detections become samples: by strata and a seeded hash, never by brightness.

Artefacts crowd around bright stars, and a model would learn the stars. So the detections of an exposure are
sorted into bins by how much their surroundings (level and scatter of the background) alone look like those
of a real one, and in every bin both classes get about as many samples; in every bin the bogus ones come
from the domains of the real ones, as far as there are any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from astrid_assets.seeds import uniform
from astrid_assets.training.schema import DOMAINS
from astrid_assets.training.shortcut import propensity

__all__ = ["Pool", "SelectionOptions", "select"]


@dataclass(frozen=True)
class SelectionOptions:
    """Numbers of samples of an exposure."""

    max_real: int = 60
    """Real samples in each domain."""

    max_imbalance: float = 1.5
    """Largest ratio of the classes, either way, among detections with like surroundings."""

    min_bogus: int = 3
    """Bogus samples in a domain without real ones."""

    bin_size: int = 16
    """Detections in a bin of like surroundings."""

    spacing: float = 10.0
    """Distance of bogus samples of a domain from one another, pixels: one bright star leaves many pieces."""

    max_unlabelled: int = 10
    """Unlabelled samples."""

    max_missing_share: float = 0.35
    """Largest share of the samples of a class that lack pixels by nature; the rest is left out."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The labelled detections of an exposure; all of length n."""

    names: Sequence[str]
    """Identifiers; they decide in which order detections are taken."""

    labels: np.ndarray
    """1 real, 0 bogus, -1 unlabelled."""

    domains: Sequence[str]
    """``observed`` or ``injected``."""

    types: Sequence[str]
    """Class of object or defect."""

    synthetic: np.ndarray
    """Whether it was put there, boolean."""

    surroundings: np.ndarray
    """Features of the background ``(n, k)``."""

    missing: np.ndarray
    """Whether pixels are missing, boolean."""

    places: np.ndarray
    """x and y ``(n, 2)``, pixels."""

    vetted: np.ndarray
    """Whether a person looked at it, boolean; those are all taken."""


@dataclass
class _Taken:
    """Bogus samples chosen so far: what the next one should not be again."""

    kinds: Counter[tuple[bool, str]] = field(default_factory=Counter)
    rows: list[int] = field(default_factory=list)

    def pick(self, pool: Pool, candidates: list[int], count: int, spacing: float) -> list[int]:
        """Take some of the candidates, real and synthetic defects in turn, the rarest type first."""
        picked: list[int] = []
        left = list(candidates)
        while left and len(picked) < count:
            row = min(left, key=lambda r: self._rank(pool, r))
            left.remove(row)
            if self._is_apart(pool, row, spacing):
                self._add(pool, row)
                picked.append(row)
        return picked

    def _rank(self, pool: Pool, row: int) -> tuple[int, int]:
        synthetic = bool(pool.synthetic[row])
        of_its_source = sum(n for (kind, _), n in self.kinds.items() if kind == synthetic)
        return of_its_source, self.kinds[synthetic, pool.types[row]]

    def _is_apart(self, pool: Pool, row: int, spacing: float) -> bool:
        near = [r for r in self.rows if pool.domains[r] == pool.domains[row]]
        distance = np.hypot(*(pool.places[near] - pool.places[row]).T)
        return not near or bool(distance.min() >= spacing)

    def _add(self, pool: Pool, row: int) -> None:
        self.kinds[bool(pool.synthetic[row]), pool.types[row]] += 1
        self.rows.append(row)


def select(pool: Pool, *, seed: str | int, options: SelectionOptions | None = None) -> np.ndarray:
    """Return the rows that become samples of an exposure, sorted.

    Parameters
    ----------
    pool
        Detections.

    seed
        Key of the hash.

    options
        Numbers.
    """
    o = options or SelectionOptions()
    order = sorted(range(len(pool.names)), key=lambda row: uniform("selection", seed, pool.names[row]))
    rows = {
        value: _few_missing([r for r in order if pool.labels[r] == value], pool, o) for value in (1, 0, -1)
    }
    # real changes that were observed are rare: none is given up for an injected one
    real = [r for d in DOMAINS for r in [r for r in rows[1] if pool.domains[r] == d][: o.max_real]]
    taken, chosen = _Taken(), []
    parts = _bins(pool, real, rows[0], o)
    for real_part, bogus_part in parts:
        bogus = _bogus_of_bin(pool, real_part, bogus_part, taken, o)
        kept = int(o.max_imbalance * len(bogus)) if rows[0] else len(real_part)
        chosen += bogus + real_part[:kept]
    chosen += _made_up(pool, parts, chosen, taken, o)
    chosen += _least(pool, rows[0], chosen, taken, o)
    unlabelled = [r for r in rows[-1] if pool.domains[r] == "observed"][: o.max_unlabelled]
    return np.unique(np.array([*chosen, *unlabelled, *np.flatnonzero(pool.vetted)], int))


def _few_missing(rows: list[int], pool: Pool, o: SelectionOptions) -> list[int]:
    """Return the rows without some of those that lack pixels: from the first on never too many."""
    kept: list[int] = []
    n_missing = 0
    for row in rows:
        if pool.missing[row] and n_missing + 1 > o.max_missing_share * (len(kept) + 1):
            continue
        n_missing += bool(pool.missing[row])
        kept.append(row)
    return kept


def _bins(
    pool: Pool, real: list[int], bogus: list[int], o: SelectionOptions
) -> list[tuple[list[int], list[int]]]:
    """Return real and bogus rows by bin: quantiles of what the surroundings say about the class."""
    both = real + bogus
    count = len(both) // o.bin_size if real and bogus else 1
    if count < 2:
        return [(real, bogus)]
    score = propensity(pool.surroundings[both], pool.labels[both] == 1)
    edges = np.quantile(score, np.arange(1, count) / count)
    place = dict(zip(both, np.searchsorted(edges, score), strict=True))
    return [([r for r in real if place[r] == b], [r for r in bogus if place[r] == b]) for b in range(count)]


def _bogus_of_bin(
    pool: Pool, real: list[int], bogus: list[int], taken: _Taken, o: SelectionOptions
) -> list[int]:
    """Return bogus rows for the real ones of a bin: of the same domains, then of any."""
    picked: list[int] = []
    for domain in DOMAINS:
        count = sum(pool.domains[r] == domain for r in real)
        picked += taken.pick(pool, [r for r in bogus if pool.domains[r] == domain], count, o.spacing)
    rest = [r for r in bogus if r not in picked]
    return picked + taken.pick(pool, rest, len(real) - len(picked), o.spacing)


def _made_up(
    pool: Pool,
    parts: list[tuple[list[int], list[int]]],
    chosen: list[int],
    taken: _Taken,
    o: SelectionOptions,
) -> list[int]:
    """Return bogus rows of bins that have more of them, for the bins that have too few."""
    lack = sum(1 if pool.labels[r] == 1 else -1 for r in chosen)
    more: list[int] = []
    for real, bogus in parts:
        rest = [r for r in bogus if r not in chosen]
        room = int(o.max_imbalance * len(real)) - (len(bogus) - len(rest))
        more += taken.pick(pool, rest, min(room, lack - len(more)), o.spacing)
    return more


def _least(pool: Pool, bogus: list[int], chosen: list[int], taken: _Taken, o: SelectionOptions) -> list[int]:
    """Return a few bogus rows for each domain that has none."""
    more: list[int] = []
    for domain in DOMAINS:
        if not any(pool.labels[r] == 0 and pool.domains[r] == domain for r in chosen):
            rest = [r for r in bogus if pool.domains[r] == domain]
            more += taken.pick(pool, rest, o.min_bogus, o.spacing)
    return more
