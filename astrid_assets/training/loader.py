"""`TripletDataset`: a release in a notebook, with NumPy alone and as a PyTorch dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.errors import AstridError
from astrid_assets.images.triplets import CHANNELS, crop
from astrid_assets.training.schema import LABELS
from astrid_assets.training.splits import SPLITS
from astrid_assets.training.views import VIEWS, Scaling, apply_view, measure_view

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TripletDataset"]


class TripletDataset:
    """The stamps of one split as a model takes them, with their labels.

    An item is ``(stamps, label)``, or ``(stamps, label, mask)``: stamps float32 ``(3, size, size)``, label 1
    (real), 0 (bogus) or -1 (unlabelled). A slice or an array of indices gives the same with one more axis in
    front. Files are opened when the first stamp is asked for, in each process anew, so that the object can
    be handed to the workers of a ``torch.utils.data.DataLoader`` as it is.

    Parameters
    ----------
    path
        Folder of a release, or the folder ``releases``, whose latest is taken.

    split
        ``train``, ``validation`` or ``test``.

    view
        ``l2``, ``asinh`` or ``raw``; see `astrid_assets.training.views.model_view`. None gives the stamps
        as stored, with NaN where there is nothing.

    size
        Side of the stamps, pixels; cut out about the same centre.

    augment
        ``d4`` turns and mirrors each stamp at random, in one of eight ways, each time it is read.

    return_mask
        Whether items hold the mask, uint8, bits of `astrid_assets.images.triplets.STAMP_BITS`.

    labels
        Labels that take part: ``real``, ``bogus``, ``unlabelled``.

    seed
        Of the turning in `__getitem__`; a worker process that was forked draws its own.

    Raises
    ------
    AstridError
        There is no release in the folder, or no such split.
    """

    catalog: pa.Table
    """One row an item, in their order; all columns of ``catalog.parquet``."""

    labels: np.ndarray
    """Labels of the items, int64 ``(n,)``."""

    def __init__(
        self,
        path: str | Path,
        split: str = "train",
        *,
        view: str | None = "l2",
        size: int = 63,
        augment: str | None = None,
        return_mask: bool = False,
        labels: Sequence[str] = ("real", "bogus"),
        seed: int = 0,
    ) -> None:
        _choice("split", split, SPLITS)
        _choice("view", view, (None, *VIEWS))
        _choice("augment", augment, (None, "d4"))
        for label in labels:
            _choice("label", label, tuple(LABELS))
        self.path = _release_folder(Path(path))
        self.split, self.view, self.size = split, view, size
        self.augment, self.return_mask = augment, return_mask
        self.catalog = _catalogue(self.path, split, [LABELS[label] for label in labels])
        self.labels = self.catalog["label"].to_numpy().astype(np.int64)
        self._rows = self.catalog["h5_row"].to_numpy()
        self._random, self._process = np.random.default_rng(seed), os.getpid()
        self._arrays: dict[str, np.ndarray] = {}
        shape = (len(self), len(CHANNELS))
        self._background, self._factor = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._flags, self._measured = np.zeros(shape, np.uint8), np.zeros(len(self), bool)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        if isinstance(index, int | np.integer):
            return tuple(part[0] for part in self._batch(np.array([range(len(self))[index]]), self._turner()))
        return self._batch(np.arange(len(self))[index], self._turner())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (self[index] for index in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": {}}

    def loader(
        self, batch: int = 128, *, balanced: bool = False, shuffle: bool = True, seed: int = 0
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the items in batches, once each; the same seed gives the same batches.

        Parameters
        ----------
        batch
            Items at a time; the last batch may hold fewer.

        balanced
            Whether all labels take part equally often: items of rarer ones come more than once.

        shuffle
            Whether to draw the items in random order.

        seed
            Of order, repetition and turning; another one for each epoch.
        """
        random = np.random.default_rng(seed)
        order = self._balanced(random) if balanced else np.arange(len(self))
        if shuffle:
            order = random.permutation(order)
        for first in range(0, len(order), batch):
            yield self._batch(order[first : first + batch], random)

    def tiles(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the tiles of the split, for segmentation.

        Returns
        -------
        images
            float32 ``(n, 3, T, T)``: science, reference, difference; NaN where there is nothing.

        truth
            uint8 ``(n, T, T)``: bits of `astrid_assets.training.samples.TILE_BITS`.
        """
        return self._array("tile_images"), self._array("tile_truth")

    def to_torch(self) -> Any:
        """Return all items as a ``torch.utils.data.TensorDataset``, in memory.

        For more than fits into memory hand the dataset itself to a ``DataLoader``.

        Raises
        ------
        AstridError
            PyTorch is not installed.
        """
        try:
            import torch
        except ImportError as error:
            msg = 'to_torch needs PyTorch: pip install "astrid-assets[torch]"'
            raise AstridError(msg) from error
        return torch.utils.data.TensorDataset(*(torch.from_numpy(part) for part in self[:]))

    def _balanced(self, random: np.random.Generator) -> np.ndarray:
        """Return indices such that each label comes as often as the most frequent one."""
        values, counts = np.unique(self.labels, return_counts=True)
        parts = []
        for value, count in zip(values, counts, strict=True):
            mine = np.flatnonzero(self.labels == value)
            parts += [mine, random.choice(mine, counts.max() - count)]
        return np.concatenate(parts)

    def _batch(self, index: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, ...]:
        rows = self._rows[index]
        stamps, mask = self._array("triplet")[rows], self._array("mask")[rows]
        parts = [self._view(index, stamps, mask), self.labels[index]]
        if self.return_mask:
            parts.append(np.ascontiguousarray(crop(mask, self.size)))
        if self.augment is not None:
            ways = random.integers(len(_D4), size=len(index))
            parts = [part if part.ndim == 1 else _turned(part, ways) for part in parts]
        return tuple(parts)

    def _view(self, index: np.ndarray, stamps: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the view of some items; their backgrounds and scales are measured once."""
        if self.view is None:
            return np.ascontiguousarray(crop(stamps, self.size))
        new = ~self._measured[index]
        if new.any():
            found = measure_view(stamps[new], view=self.view, size=self.size, mask=mask[new])
            self._background[index[new]], self._factor[index[new]] = found.background, found.factor
            self._flags[index[new]], self._measured[index[new]] = found.flags, True
        scaling = Scaling(self._background[index], self._factor[index], self._flags[index])
        return apply_view(stamps, scaling, view=self.view, size=self.size, mask=mask)

    def _turner(self) -> np.random.Generator:
        """Return the generator of this process: forked ones would all turn alike."""
        if self._process != os.getpid():
            self._random, self._process = np.random.default_rng(), os.getpid()
        return self._random

    def _array(self, name: str) -> np.ndarray:
        """Return a dataset of the HDF5 file, mapped into memory where it is contiguous (as written)."""
        if name not in self._arrays:
            self._arrays[name] = _mapped(self.path / f"{self.split}.h5", name)
        return self._arrays[name]


_D4 = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""Symmetries of a square; they keep the middle pixel of an odd side."""


def _turned(images: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Return images ``(n, 3, s, s)``, each turned in its way."""
    turned = np.empty_like(images)
    for way, (turns, mirrored) in enumerate(_D4):
        mine = ways == way
        some = images[mine]
        turned[mine] = np.rot90(some[..., ::-1] if mirrored else some, turns, axes=(-2, -1))
    return turned


def _choice(what: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        names = ", ".join(str(name) for name in known)
        msg = f"there is no {what} {value!r}; there are {names}"
        raise AstridError(msg)


def _release_folder(path: Path) -> Path:
    """Return the folder of a release; of several, that of the latest."""
    if (path / "catalog.parquet").exists():
        return path
    latest = path / "latest.json"
    if latest.exists():
        return path / json.loads(latest.read_text())["release_id"]
    msg = f"{path} holds no release: there is neither catalog.parquet nor latest.json"
    raise AstridError(msg)


def _catalogue(folder: Path, split: str, labels: Sequence[int]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "catalog.parquet", use_threads=False)

    wanted = pc.is_in(table["label"], value_set=pa.array(labels, pa.int8()))
    return table.filter(pc.and_(pc.equal(table["split"], split), wanted))


def _mapped(path: Path, name: str) -> np.ndarray:
    import h5py

    if not path.exists():
        msg = f"{path} does not exist: the release was exported without its HDF5 files"
        raise AstridError(msg)
    with h5py.File(path, "r") as file:
        data = file[name]
        offset = data.id.get_offset()
        if offset is None or not data.size:  # somebody packed it again, or it holds nothing
            return data[...]
        return np.memmap(path, data.dtype, "r", offset, data.shape)
