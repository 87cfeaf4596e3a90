"""Recipes of what is made of the candidates: cutouts of an exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from astrid_assets.assets.recipes.common import Recipe, is_space, write_parquet, written
from astrid_assets.assets.streaming import Product, Step, Task
from astrid_assets.images import AlignedPair, Difference, read_difference, read_pair
from astrid_assets.images.cutouts import write_cutouts
from astrid_assets.images.triplets import Triplets, write_triplets
from astrid_assets.science.stamps import choose_stamps, cut_triplets, triplet_metrics

__all__ = ["RECIPES"]

_GALLERY = 8
"""Triplets of a preview."""


@dataclass(frozen=True)
class _Exposure:
    """The candidates of an exposure and the images that they were found on."""

    table: pa.Table
    difference: Difference
    pair: AlignedPair


def _load_exposure(task: Task) -> _Exposure:
    store, inputs = task.job.store, task.work.inputs
    return _Exposure(
        store.read_table(inputs["candidates"]["path"]),
        read_difference(store.path(inputs["difference"]["path"])),
        read_pair(store.path(inputs["normalized"]["path"])),
    )


def _make_cutouts(task: Task, step: Step, loaded: _Exposure) -> Product:
    """Cut the candidates out: as arrays, as a table in the same order, and the unflagged ones as FITS."""
    flagged = _flagged(loaded.table)
    names = loaded.table.column("candidate_id").to_pylist()
    chosen = choose_stamps(names, flagged, max_flagged=step.options["max_flagged"])
    table, flagged = loaded.table.take(pa.array(chosen)), flagged[chosen]
    x, y = (table.column(name).to_numpy() for name in ("x", "y"))
    triplets = cut_triplets(loaded.pair, loaded.difference, x, y, size=step.options["size"])
    metrics = triplet_metrics(triplets, x, y, flagged)
    metrics["n_left_out"] = float(loaded.table.num_rows - len(chosen))
    space = is_space(task.work.row["survey"])
    if not len(triplets):
        return Product({}, metrics, {"n_rows": 0}, "empty", space=space)
    described = _described(table, triplets)
    good = np.flatnonzero(~flagged)
    files = written(task, step, "npz", lambda s, _: write_triplets(s, triplets))
    files |= written(task, step, "parquet", lambda s, _: write_parquet(s, described))
    files |= _write_fits(task, step, loaded.difference, triplets.take(good), described.take(pa.array(good)))
    _preview(task, step, triplets.take(good), table.take(pa.array(good)))
    return Product(files, metrics, {"n_rows": len(triplets)}, space=space)


def _flagged(table: pa.Table) -> np.ndarray:
    return np.array([bool(reason) for reason in table.column("artifact").to_pylist()], bool)


def _described(table: pa.Table, triplets: Triplets) -> pa.Table:
    """Add to the rows of candidates what their stamps lack."""
    known = {"at_edge": (triplets.at_edge, "the stamp reaches beyond the image")}
    for channel, share in zip(("science", "reference", "difference"), triplets.bad_fraction.T, strict=True):
        known[f"bad_{channel}"] = (share, f"share of flagged pixels in the {channel} stamp")
    for name, (values, text) in known.items():
        array = pa.array(values)
        field = pa.field(name, array.type, metadata={"unit": "", "description": text})
        table = table.append_column(field, array)
    return table


def _write_fits(
    task: Task, step: Step, difference: Difference, triplets: Triplets, table: pa.Table
) -> dict[str, int]:
    """Write the cutouts of unflagged candidates as multi-extension FITS."""
    times = pa.array([difference.mjd_mid] * table.num_rows, pa.float64())
    table = table.append_column(pa.field("mjd_mid", pa.float64(), metadata={"unit": "d"}), times)
    sky = {"wcs": difference.wcs, "unit": difference.unit}
    return written(task, step, "fits", lambda s, h: write_cutouts(s, triplets, table, header=h, **sky))


def _preview(task: Task, step: Step, triplets: Triplets, table: pa.Table) -> None:
    """Draw some unflagged candidates, from the strongest to the faintest."""
    if not task.preview or not len(triplets):
        return
    from astrid_assets.reports.gallery import gallery_png

    some = np.unique(np.linspace(0, len(triplets) - 1, _GALLERY).astype(int))
    captions = [f"S/N {table.column('snr')[int(i)].as_py():.1f}" for i in some]
    title = f"{task.work.row['exposure_id']}   {task.work.row['band']}"
    folder = task.job.store.folder(step.asset, task.job.sky_field.name)
    png = gallery_png(triplets.take(some), captions, title=title)
    task.job.store.write_bytes(f"{folder}/preview.png", png)


RECIPES: dict[str, Recipe] = {"cutouts": Recipe(_load_exposure, _make_cutouts)}
"""Recipes of this module by name of the job."""
