"""Recipe of the training set: label, select and write the samples of an exposure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from astrid_assets.assets.recipes.common import Recipe, is_space, provenance, write_parquet, written
from astrid_assets.assets.streaming import Product, Step, Task
from astrid_assets.images.triplets import read_triplets
from astrid_assets.training.labels import LabelRules
from astrid_assets.training.nuisances import NuisanceOptions
from astrid_assets.training.samples import Detections, Samples, build_samples, read_tiles, write_samples
from astrid_assets.training.selection import SelectionOptions
from astrid_assets.training.summary import exposure_metrics
from astrid_assets.training.vetting import Vetting

if TYPE_CHECKING:
    import numpy as np

    from astrid_assets.storage.store import Row

__all__ = ["RECIPES"]


@dataclass(frozen=True, eq=False)
class _Exposure:
    """Detections of an exposure with and without injections, and what was injected."""

    observed: Detections
    injected: Detections | None
    truth: list[Row]
    tiles: dict[str, np.ndarray] | None


def _beside(row: Row, name: str) -> str:
    """Return the path of a file of an exposure, beside its main file."""
    return str(PurePosixPath(row["path"]).with_name(f"{row['exposure_id']}{name}"))


def _load(task: Task) -> _Exposure:
    store, inputs = task.job.store, task.work.inputs
    row = inputs["injections"]
    if row is None:
        return _Exposure(_observed(task, inputs["cutouts"], 65), None, [], None)
    found = store.read_table(_beside(row, "_detections.parquet")).to_pylist()
    triplets = read_triplets(store.path(_beside(row, "_stamps.npz")))
    injected = Detections(found, triplets, [r["stamp"] for r in found])
    truth = store.read_table(row["path"]).to_pylist()
    truth = [t | {"host_id": inputs["hosts"].get(t["host_id"], t["host_id"])} for t in truth]
    tiles = read_tiles(store.path(_beside(row, "_tiles.npz")))
    return _Exposure(_observed(task, inputs["cutouts"], triplets.size), injected, truth, tiles)


def _observed(task: Task, row: Row, size: int) -> Detections:
    """Return the candidates that were cut out, with what is known about them; maybe none."""
    store, known = task.job.store, task.work.inputs["known"]
    if row["path"] is None:
        return Detections.none(size)
    rows = store.read_table(_beside(row, ".parquet")).to_pylist()
    rows = [r | known.get(r["candidate_id"], {}) for r in rows]
    return Detections(rows, read_triplets(store.path(row["path"])), range(len(rows)))


def _options(step: Step, kind: type) -> Any:
    """Return the options of a step that are those of a class."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in step.options.items() if name in names})


def _make(task: Task, step: Step, loaded: _Exposure) -> Product:
    row, inputs = task.work.row, task.work.inputs
    samples = build_samples(
        {**row, "field": task.job.sky_field.name},
        loaded.observed,
        loaded.injected,
        truth=loaded.truth,
        alerts=inputs["alerts"],
        verdicts=[Vetting(**verdict) for verdict in inputs["verdicts"]],
        rules=_options(step, LabelRules),
        select=_options(step, SelectionOptions),
        spoil=_options(step, NuisanceOptions),
    )
    space = is_space(row["survey"])
    if not samples.table.num_rows:
        return Product({}, {}, {"n_rows": 0}, "empty", "no detection with a stamp", space=space)
    metrics = exposure_metrics(samples.table, samples.stamps, samples.mask)
    described = _described(provenance(task, step))
    files = written(task, step, "parquet", lambda s, _: write_parquet(s, samples.table))
    files |= written(
        task, step, "h5", lambda s, _: write_samples(s, samples, described=described, tiles=loaded.tiles)
    )
    files |= written(task, step, "probe.parquet", lambda s, _: write_parquet(s, samples.probe_table()))
    _preview(task, step, samples)
    return Product(files, metrics, {"n_rows": samples.table.num_rows}, space=space)


def _described(keywords: Mapping[str, Any]) -> dict[str, str]:
    """Return where a file comes from, as attributes."""
    return {name.lower(): str(value) for name, value in keywords.items() if value is not None}


_GALLERY = 12
"""Triplets of a preview."""


def _preview(task: Task, step: Step, samples: Samples) -> None:
    """Draw some labelled samples, real and bogus in turn."""
    if not task.preview:
        return
    from astrid_assets.reports.gallery import gallery_png

    rows = samples.table.to_pylist()
    by_label = [[i for i, r in enumerate(rows) if r["label"] == value] for value in (1, 0)]
    some = [i for pair in zip(*(_spread(part) for part in by_label), strict=False) for i in pair]
    if not some:
        return
    captions = [f"{'real' if rows[i]['label'] else 'bogus'}: {rows[i]['type']}" for i in some]
    title = f"{task.work.row['exposure_id']}   {task.work.row['band']}"
    folder = task.job.store.folder(step.asset, task.job.sky_field.name)
    task.job.store.write_bytes(
        f"{folder}/preview.png", gallery_png(samples.triplets(some), captions, title=title)
    )


def _spread(rows: list[int]) -> list[int]:
    """Return as many rows as a preview holds of one label, evenly."""
    count = min(len(rows), _GALLERY // 2)
    return [rows[i * len(rows) // count] for i in range(count)]


RECIPES: dict[str, Recipe] = {"training_set": Recipe(_load, _make)}
"""Recipes of this module by name of the job."""
