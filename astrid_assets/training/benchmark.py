"""What a benchmark measures: areas under curves, intervals, subsets; and the probes of a training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.errors import BenchmarkError
from astrid_assets.training.features import train_trees
from astrid_assets.training.shortcut import probe_features

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "LabelledStamps",
    "auc",
    "bootstrap_interval",
    "domain_auc",
    "matched",
    "read_labelled_stamps",
    "shortcut_features",
    "subset_of",
    "subsets",
]

SUBSETS = {
    "solar_system": "known solar-system object at the place, against all bogus",
    "human_labelled": "label given by a person",
    "pseudo_labelled": "agreement with drb and braai: their scores are the labels",
}
"""Subsets of labelled stamps by who labelled them."""


@dataclass(frozen=True, eq=False)
class LabelledStamps:
    """Real alert stamps with labels; arrays over n stamps."""

    stamps: np.ndarray
    """float32 ``(n, 3, 63, 63)``: science, reference, difference, as in the alert packets."""

    label: np.ndarray
    """1 real, 0 bogus."""

    group: np.ndarray
    """Object; all alerts of an object stand or fall together in an interval."""

    subset: np.ndarray
    """Key of `SUBSETS`."""


def read_labelled_stamps(path: Path) -> LabelledStamps:
    """Read the rows of a Parquet file of ZTF alerts that are labelled real or bogus.

    Parameters
    ----------
    path
        Columns ``cutout_science``, ``cutout_template``, ``cutout_difference`` (flat or 63 x 63),
        ``label`` (1, 0, other values are left out), ``label_source`` and ``objectId``. No score of
        another classifier is read.

    Raises
    ------
    BenchmarkError
        The file lacks a column or has stamps of one class only.
    """
    import pyarrow.parquet as pq

    names = [f"cutout_{name}" for name in ("science", "template", "difference")]
    try:
        table = pq.read_table(path, columns=[*names, "label", "label_source", "objectId"], use_threads=False)
    except (OSError, ValueError, KeyError) as error:
        msg = f"{path}: no Parquet file of labelled alert stamps ({' '.join(str(error).split())})"
        raise BenchmarkError(msg) from error
    label = table["label"].to_numpy()
    chosen = np.flatnonzero((label == 0) | (label == 1))
    if len(np.unique(label[chosen])) < 2:
        msg = f"{path}: labelled stamps of both classes are needed"
        raise BenchmarkError(msg)
    sources = table["label_source"].to_pylist()
    return LabelledStamps(
        stamps=np.stack([_images(table[name])[chosen] for name in names], axis=1),
        label=label[chosen].astype(int),
        group=np.array(table["objectId"].to_pylist(), dtype=str)[chosen],
        subset=np.array([subset_of(source) for source in sources])[chosen],
    )


def _images(column: pa.ChunkedArray) -> np.ndarray:
    import pyarrow as pa

    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    storage = whole.storage if isinstance(whole, pa.ExtensionArray) else whole
    values = np.asarray(storage.flatten().to_numpy(zero_copy_only=False), np.float32)
    side = round((values.size / max(len(storage), 1)) ** 0.5)
    return values.reshape(len(storage), side, side)


def subset_of(label_source: str) -> str:
    """Return the subset of `SUBSETS` that a label belongs to, from the text that says who gave it."""
    text = label_source.lower()
    if "solar" in text:
        return "solar_system"
    return "pseudo_labelled" if any(word in text for word in ("pseudo", "drb", "braai")) else "human_labelled"


def subsets(stamps: LabelledStamps) -> dict[str, np.ndarray]:
    """Return the rows of each subset that is there; one without bogus is set against the bogus of all."""
    found = {}
    for name in SUBSETS:
        own = stamps.subset == name
        if not (own & (stamps.label == 1)).any():
            continue
        bogus = stamps.label == 0
        own_bogus = own & bogus
        found[name] = np.flatnonzero((own & ~bogus) | (own_bogus if own_bogus.any() else bogus))
    return found


def auc(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Return the area under the ROC curve: the chance that a real one scores above a bogus one.

    Ties count one half (Mann & Whitney 1947).

    Parameters
    ----------
    label
        1 or 0, ``(n,)``.

    score
        ``(n,)``.

    weight
        ``(..., n)``; default is 1 for each.

    Returns
    -------
    numpy.ndarray
        Shape ``(...)``; NaN where a class has no weight.
    """
    weight = np.ones(len(label)) if weight is None else np.asarray(weight, float)
    _, place = np.unique(score, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    real, bogus = (
        np.add.reduceat((weight * (label == value))[..., order], starts, axis=-1) for value in (1, 0)
    )
    below = np.cumsum(bogus, axis=-1) - bogus / 2
    total = real.sum(axis=-1) * bogus.sum(axis=-1)
    return np.where(total > 0, (real * below).sum(axis=-1) / np.where(total > 0, total, 1), np.nan)


def bootstrap_interval(
    label: np.ndarray,
    scores: np.ndarray,
    group: np.ndarray,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the median AUC over training seeds and its interval by bootstrap over objects.

    Parameters
    ----------
    label
        ``(n,)``.

    scores
        ``(seeds, n)``; the statistic is the median of the AUCs of the rows.

    group
        Object of each stamp: objects are drawn with replacement, with all their stamps.

    resamples, level, seed
        Number of draws, probability inside the interval, seed of the draws.

    Returns
    -------
    tuple
        AUC, lower and upper end (percentiles). Draws without both classes are left out.
    """
    names, index = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)[:, index]
    value = np.median([auc(label, row) for row in scores])
    drawn = np.median([auc(label, row, draws) for row in scores], axis=0)
    tails = 100 * np.array([1 - level, 1 + level]) / 2
    low, high = np.percentile(drawn[np.isfinite(drawn)], tails)
    return float(value), float(low), float(high)


def summarise(stamps: LabelledStamps, scores: np.ndarray) -> dict[str, Any]:
    """Return AUC, interval and numbers of all stamps and of each subset."""
    rows = {"all": np.arange(len(stamps.label)), **subsets(stamps)}
    return {name: _summary(stamps, scores, chosen) for name, chosen in rows.items()}


def _summary(stamps: LabelledStamps, scores: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    label, group = stamps.label[rows], stamps.group[rows]
    value, low, high = bootstrap_interval(label, scores[:, rows], group)
    counts = {"n_real": int((label == 1).sum()), "n_bogus": int((label == 0).sum())}
    return {"auc": value, "low": low, "high": high, **counts, "objects": len(np.unique(group))}


_CELLS = 9
"""The picture of missing pixels is seen as shares of cells, so many a side."""


def shortcut_features(stamps: np.ndarray) -> np.ndarray:
    """Return what tells nothing of a source: where pixels are missing, and the background.

    Parameters
    ----------
    stamps
        ``(n, 3, size, size)``, NaN where missing.

    Returns
    -------
    numpy.ndarray
        ``(n, 252)``: `astrid_assets.training.shortcut.probe_features`, and the share of missing pixels in
        9 x 9 cells of each channel.
    """
    missing = ~np.isfinite(stamps)
    edges = np.linspace(0, stamps.shape[-1], _CELLS + 1).astype(int)[:-1]
    shares = np.add.reduceat(np.add.reduceat(missing.astype(np.int32), edges, axis=2), edges, axis=3)
    return np.concatenate([probe_features(stamps), shares.reshape(len(stamps), -1)], axis=1)


_FOLDS, _FEWEST = 5, 20
"""Parts of the cross-validation over domains, and the fewest samples of each that say anything."""


def matched(
    first: np.ndarray, second: np.ndarray, *, bins: int = 12, seed: int = 0
) -> tuple[np.ndarray, ...]:
    """Return rows of two sets such that both have equally many in each bin of a quantity.

    Parameters
    ----------
    first, second
        The quantity (S/N) of each member of the sets.

    bins
        Bins of equal numbers of the second set.

    seed
        Of the choice where one set has more.
    """
    rng = np.random.default_rng(seed)
    edges = np.quantile(second, np.linspace(0, 1, bins + 1)[1:-1])
    places = [np.digitize(values, edges) for values in (first, second)]
    parts: tuple[list[np.ndarray], ...] = ([], [])
    for k in range(bins):
        inside = [np.flatnonzero(place == k) for place in places]
        count = min(len(rows) for rows in inside)
        for part, rows in zip(parts, inside, strict=True):
            part.append(rng.permutation(rows)[:count])
    return tuple(np.sort(np.concatenate(part)) for part in parts)


def domain_auc(
    features: Mapping[str, np.ndarray], snr: Mapping[str, np.ndarray], group: Mapping[str, np.ndarray]
) -> float | None:
    """Return how well injected and observed positives of equal S/N are told apart; 0.5 is not at all.

    Parameters
    ----------
    features, snr, group
        For ``injected`` and ``observed``: features ``(n, m)``, S/N and object ``(n,)``. Folds of the
        cross-validation hold whole objects.

    Returns
    -------
    float or None
        None where there are too few to tell.
    """
    from sklearn.model_selection import GroupKFold

    rows = dict(zip(("injected", "observed"), matched(snr["injected"], snr["observed"]), strict=True))
    if min(len(chosen) for chosen in rows.values()) < _FEWEST:
        return None
    label = np.repeat([1, 0], [len(rows["injected"]), len(rows["observed"])])
    values = np.concatenate([features[name][rows[name]] for name in rows])
    groups = np.concatenate([group[name][rows[name]] for name in rows])
    chance = np.zeros(len(label))
    for train, test in GroupKFold(_FOLDS).split(values, label, groups):
        chance[test] = train_trees(values[train], label[train])(values[test])
    return float(auc(label, chance))
