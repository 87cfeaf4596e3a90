"""A small convolutional network that tells real changes from artefacts (PyTorch, optional).

The layers are those of braai (Duev et al. 2019, MNRAS 489, 3582): two blocks of two 3 x 3
convolutions with 16 and 32 filters and a dense layer, on triplets of 63 x 63 pixels in the L2 view.
Everything is fixed beforehand: number of epochs, rates, size. There is no early stopping, so no data
beyond the training samples decide anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from astrid_assets.training.features import Model

__all__ = ["augment", "available", "train_network", "turned"]

_TURNS = 8
"""Copies of a view that are averaged: the rotations and mirror images of the square."""


def available() -> bool:
    """Tell whether PyTorch is installed."""
    from importlib.util import find_spec

    return find_spec("torch") is not None


def train_network(
    views: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    seed: int,
    epochs: int = 12,
    batch: int = 64,
    rate: float = 3e-3,
    decay: float = 1e-4,
    nuisance_rate: float = 0.25,
) -> Model:
    """Train a network in one thread; the same seed gives the same network.

    Parameters
    ----------
    views
        float32 ``(n, 3, 63, 63)``, each channel of norm 1 (or 0 where it is missing).

    labels
        1 real, 0 bogus, ``(n,)``.

    weights
        Weight of each sample in the loss, mean about 1.

    seed
        Of initial weights, order and augmentation.

    epochs, batch, rate, decay
        Passes over the samples, samples in a step, largest rate of Adam (falls to zero along a
        cosine), weight decay.

    nuisance_rate
        Share of the samples, of both classes alike, that lose an edge or their reference.

    Returns
    -------
    Model
        Takes views, returns scores between 0 and 1, averaged over the orientations of a view.
    """
    import torch

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = _layers()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(views) // batch))
    with _one_thread():
        for _ in range(epochs):
            order = rng.permutation(len(views))
            for rows in np.split(order, range(batch, len(order), batch)):
                seen = augment(views[rows], rng, nuisance_rate=nuisance_rate)
                target, weight = (torch.from_numpy(v[rows].astype(np.float32)) for v in (labels, weights))
                optimizer.zero_grad()
                logits = model(_tensor(seen))[:, 0]
                torch.nn.functional.binary_cross_entropy_with_logits(logits, target, weight).backward()
                optimizer.step()
                schedule.step()
    return lambda new: _scores(model.eval(), new)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch compute in one thread: sums then have one order, and trainings can run side by side."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _layers() -> torch.nn.Sequential:
    import torch
    from torch import nn

    def block(inputs: int, filters: int, pool: int) -> list[nn.Module]:
        convolutions = [nn.Conv2d(inputs, filters, 3), nn.ReLU(), nn.Conv2d(filters, filters, 3), nn.ReLU()]
        return [*convolutions, nn.MaxPool2d(pool), nn.Dropout(0.25)]

    head = [nn.Flatten(), nn.Linear(32 * 6 * 6, 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 1)]
    model = nn.Sequential(*block(3, 16, 2), *block(16, 32, 4), *head)
    return model.to(memory_format=torch.channels_last)


def _tensor(views: np.ndarray) -> torch.Tensor:
    """Return views as the network takes them: blank sky has a variance of 1."""
    import torch

    values = torch.from_numpy(np.ascontiguousarray(views, np.float32)) * views.shape[-1]
    return values.contiguous(memory_format=torch.channels_last)


def _scores(model: torch.nn.Module, views: np.ndarray) -> np.ndarray:
    """Return the scores, averaged over the rotations and mirror images of each view."""
    import torch

    scores = np.zeros(len(views))
    with torch.no_grad(), _one_thread():
        for start in range(0, len(views), 256):
            part = views[start : start + 256]
            for turn in range(_TURNS):
                logits = model(_tensor(turned(part, turn)))[:, 0]
                scores[start : start + 256] += torch.sigmoid(logits).numpy() / _TURNS
    return scores


def turned(views: np.ndarray, turn: int) -> np.ndarray:
    """Return views in one of the eight orientations of a square; the middle pixel stays where it is."""
    mirrored = views[..., ::-1] if turn >= 4 else views
    return np.rot90(mirrored, turn % 4, axes=(-2, -1))


def augment(views: np.ndarray, rng: np.random.Generator, *, nuisance_rate: float) -> np.ndarray:
    """Return turned copies; some, whatever their class, lack an edge or their reference.

    Real stamps lack pixels at the edge of a detector, in science and difference or in all
    channels, and now and then a whole reference.
    """
    seen = np.empty_like(views)
    turns = rng.integers(_TURNS, size=len(views))
    for turn in range(_TURNS):
        seen[turns == turn] = turned(views[turns == turn], turn)
    for row in np.flatnonzero(rng.random(len(views)) < nuisance_rate):
        _spoil(seen[row], rng)
    norm = np.sqrt(np.einsum("ncyx,ncyx->nc", seen, seen))[..., None, None]
    return seen / np.where(norm > 0, norm, 1)


def _spoil(view: np.ndarray, rng: np.random.Generator) -> None:
    """Blank the side of a view (beyond the middle pixel), or its reference, in place."""
    kind, half = rng.random(), view.shape[-1] // 2
    if kind < 0.05:
        view[1] = 0
        return
    lost = int(rng.integers(1, half - 2))
    blank = np.zeros(view.shape[-2:], bool)
    blank[:, :lost] = True
    blank = np.rot90(blank, int(rng.integers(4)))
    view[:, blank] *= np.array([0, float(kind < 0.5), 0], view.dtype)[:, None]
