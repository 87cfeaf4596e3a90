"""From synthetic samples to real stamps: train on a release alone, test on labelled real alerts.

Nothing here looks at the real stamps before the models are finished: numbers of epochs, sizes,
weights, views are fixed, and the real stamps enter the last step only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.errors import BenchmarkError
from astrid_assets.images.triplets import LARGEST_VALUE, crop
from astrid_assets.science.filtering import BAND
from astrid_assets.training.benchmark import (
    LabelledStamps,
    auc,
    domain_auc,
    shortcut_features,
    summarise,
)
from astrid_assets.training.features import SIZE, Model, features, train_logistic, train_trees
from astrid_assets.training.network import train_network
from astrid_assets.training.views import model_view

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "RECIPES",
    "Recipe",
    "TransferSamples",
    "balanced_weights",
    "band_limited",
    "measure",
    "oriented",
    "read_samples",
    "shortcut_auc",
]


_PAD = 8
"""Pixels of sky around a stamp that is filtered, so that its sides do not touch."""


@dataclass(frozen=True, eq=False)
class TransferSamples:
    """Labelled synthetic triplets; arrays over n samples."""

    stamps: np.ndarray
    """float32 ``(n, 3, 63, 63)``; the difference has the sign of the detection."""

    label: np.ndarray
    """1 real, 0 bogus."""

    type: np.ndarray
    """Class of the object or defect."""

    domain: np.ndarray
    """``observed`` or ``injected``."""

    snr: np.ndarray
    """Absolute significance."""

    group: np.ndarray
    """Object."""


@dataclass(frozen=True)
class Recipe:
    """A way to learn from triplets."""

    encode: Callable[[np.ndarray], np.ndarray]
    """Turns stamps into what the model sees."""

    train: Callable[[np.ndarray, np.ndarray, np.ndarray, int], Model]
    """Takes encoded samples, labels, weights and the seed."""


def band_limited(stamps: np.ndarray) -> np.ndarray:
    """Return alert stamps whose differences lack the frequencies that the platform's differences give up.

    ZTF's differences have white noise; ours fall to nothing towards the Nyquist frequency
    (`astrid_assets.science.filtering.BAND`). A model that was trained on ours would take the other
    texture for something.

    Parameters
    ----------
    stamps
        ``(n, 3, S, S)``, missing values as `model_view` takes them.

    Returns
    -------
    numpy.ndarray
        float32, background-subtracted, NaN where missing.
    """
    values, _ = model_view(stamps, view="raw", size=stamps.shape[-1])
    with np.errstate(invalid="ignore"):
        missing = ~(np.abs(stamps) <= LARGEST_VALUE)
    n = stamps.shape[-1]
    side = n + 2 * _PAD
    padded = np.pad(values[:, 2], ((0, 0), (_PAD, _PAD), (_PAD, _PAD)))
    low, high = BAND
    y, x = np.abs(np.fft.fftfreq(side)), np.fft.rfftfreq(side)
    fall = [np.cos(0.5 * np.pi * np.clip((f - low) / (high - low), 0, 1)) ** 2 for f in (y, x)]
    smooth = np.fft.irfft2(np.fft.rfft2(padded) * np.outer(*fall), (side, side))
    values[:, 2] = smooth[:, _PAD : _PAD + n, _PAD : _PAD + n]
    return np.where(missing, np.float32(np.nan), values)


def oriented(stamps: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """Return the middle of stamps with the difference in the sign of the detection, as alerts store it.

    ZTF cuts the difference of a source that faded out of the negative difference image.

    Parameters
    ----------
    stamps
        ``(n, 3, S, S)``, difference as science minus reference.

    flux
        Signed flux of the detections, ``(n,)``.
    """
    seen = np.array(crop(stamps, SIZE), dtype=np.float32)
    seen[:, 2] *= np.where(flux < 0, np.float32(-1), np.float32(1))[:, None, None]
    return seen


def read_samples(folder: Path, splits: Sequence[str]) -> TransferSamples:
    """Read the labelled samples of some splits of a release.

    Those whose middle lacks pixels are left out: a detection at the very edge of the data is an artefact
    whatever it looks like, and alert streams have none.

    Raises
    ------
    BenchmarkError
        The splits do not hold both classes.
    """
    from astrid_assets.training.loader import TripletDataset

    names = ("label", "type", "domain", "snr", "object_id")
    parts = []
    for split in splits:
        data = TripletDataset(folder, split, view=None, size=SIZE)
        columns = [data.catalog[name].to_numpy(zero_copy_only=False) for name in names]
        stamps = oriented(data[:][0], data.catalog["flux"].to_numpy())
        rows = _has_middle(stamps)
        parts.append(tuple(column[rows] for column in (stamps, *columns)))
    samples = TransferSamples(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if len(np.unique(samples.label)) < 2:
        msg = f"{folder}: splits {', '.join(splits)} hold no samples of both classes"
        raise BenchmarkError(msg)
    return samples


def _has_middle(stamps: np.ndarray) -> np.ndarray:
    """Tell which stamps have the middle 9 x 9 pixels of science image and difference."""
    return np.isfinite(crop(stamps[:, ::2], 9)).all(axis=(1, 2, 3))


def balanced_weights(label: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Return weights of mean 1: classes weigh the same, types within one by the root of their number.

    Parameters
    ----------
    label
        1 or 0, ``(n,)``.

    kind
        Type of each sample.
    """
    _, place, count = np.unique(
        np.char.add(label.astype(str), kind.astype(str)), return_inverse=True, return_counts=True
    )
    weight = 1 / np.sqrt(count[place])
    for value in (0, 1):
        weight[label == value] *= 0.5 * len(label) / weight[label == value].sum()
    return weight


RECIPES: Mapping[str, Recipe] = {
    "network": Recipe(
        encode=lambda stamps: model_view(stamps, view="l2", size=SIZE)[0],
        train=lambda values, labels, weights, seed: train_network(values, labels, weights, seed=seed),
    ),
    "features": Recipe(
        encode=features,
        train=lambda values, labels, weights, seed: train_trees(values, labels, weights, seed=seed),
    ),
}
"""Models by name: the small network, which needs PyTorch, and boosted trees on features."""


def measure(
    training: TransferSamples,
    held_out: TransferSamples,
    real: LabelledStamps,
    *,
    recipe: str,
    seeds: int,
    workers: int = 1,
) -> dict[str, Any]:
    """Train models on synthetic samples and test them on held-out ones and on real stamps.

    Parameters
    ----------
    training, held_out
        Synthetic samples of different splits.

    real
        Labelled real stamps; they are looked at once, by finished models.

    recipe
        Key of `RECIPES`.

    seeds
        Number of trainings; medians over them count.

    workers
        Processes in which trainings run side by side; the numbers do not depend on it.

    Returns
    -------
    dict
        ``real_auc, real_auc_low, real_auc_high`` (95 %, bootstrap over objects), ``synthetic_auc``,
        ``shortcut_auc``, ``shortcut_auc_trees``, ``domain_auc``, ``subsets``, ``seeds`` (values of each
        training), ``n``.
    """
    scores = _all_scores(
        training, (held_out.stamps, band_limited(real.stamps)), recipe, range(seeds), workers
    )
    synthetic = [float(auc(held_out.label, row)) for row, _ in scores]
    on_real = np.array([row for _, row in scores])
    summary = summarise(real, on_real)
    whole = summary.pop("all")
    return {
        "real_auc": whole["auc"],
        "real_auc_low": whole["low"],
        "real_auc_high": whole["high"],
        "synthetic_auc": float(np.median(synthetic)),
        "shortcut_auc": shortcut_auc(training, held_out),
        "shortcut_auc_trees": shortcut_auc(training, held_out, trees=True),
        "domain_auc": _domain(training, held_out),
        "subsets": summary,
        "seeds": [
            {"real_auc": float(auc(real.label, row)), "synthetic_auc": value}
            for row, value in zip(on_real, synthetic, strict=True)
        ],
        "n": {"training": len(training.label), "held_out": len(held_out.label), **_counts(whole)},
    }


def _all_scores(
    training: TransferSamples, unseen: Sequence[np.ndarray], recipe: str, seeds: Sequence[int], workers: int
) -> list[list[np.ndarray]]:
    """Return what the model of each seed says about unseen sets of stamps."""
    encode = RECIPES[recipe].encode
    weights = balanced_weights(training.label, training.type)
    train = partial(
        _scores, recipe, encode(training.stamps), training.label, weights, [encode(s) for s in unseen]
    )
    workers = min(workers, len(seeds))
    if workers <= 1:
        return [train(seed) for seed in seeds]
    # PyTorch must not be forked
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(train, seeds))


def _scores(
    recipe: str,
    values: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    unseen: Sequence[np.ndarray],
    seed: int,
) -> list[np.ndarray]:
    """Train with one seed; only the finished model sees the unseen."""
    model = RECIPES[recipe].train(values, labels, weights, seed)
    return [model(inputs) for inputs in unseen]


def _counts(summary: Mapping[str, Any]) -> dict[str, int]:
    return {name: summary[name] for name in ("n_real", "n_bogus", "objects")}


def shortcut_auc(training: TransferSamples, held_out: TransferSamples, *, trees: bool = False) -> float:
    """Return how well mask and background alone tell the classes apart; 0.5 is not at all.

    Parameters
    ----------
    training, held_out
        Samples of different splits.

    trees
        Ask boosted trees instead of a logistic regression: they also find shares that differ in corners of
        the space only, such as the few stamps full of the light of a ghost.
    """
    values = shortcut_features(training.stamps)
    model = (train_trees if trees else train_logistic)(values, training.label)
    return float(auc(held_out.label, model(shortcut_features(held_out.stamps))))


def _domain(*parts: TransferSamples) -> float | None:
    """Return `domain_auc` of all positives of both splits."""
    found: dict[str, dict[str, np.ndarray]] = {"features": {}, "snr": {}, "group": {}}
    for domain in ("injected", "observed"):
        rows = [np.flatnonzero((part.label == 1) & (part.domain == domain)) for part in parts]
        pairs = list(zip(parts, rows, strict=True))
        found["features"][domain] = features(np.concatenate([part.stamps[own] for part, own in pairs]))
        found["snr"][domain] = np.concatenate([part.snr[own] for part, own in pairs])
        found["group"][domain] = np.concatenate([part.group[own] for part, own in pairs])
    return domain_auc(found["features"], found["snr"], found["group"])
