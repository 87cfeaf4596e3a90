"""Recipes of what is made of the candidates: cutouts of an exposure, light curves of a field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from astrid_assets.assets.recipes.common import Recipe, is_space, write_parquet, written
from astrid_assets.assets.streaming import Product, Step, Task
from astrid_assets.images import AlignedPair, Difference, read_difference, read_geometry, read_pair
from astrid_assets.images.cutouts import write_cutouts
from astrid_assets.images.triplets import write_triplets
from astrid_assets.science.stamps import Cutouts, cut_candidates
from astrid_assets.science.visits import Visit, join_visits, light_curve_tables, measure_visit
from astrid_assets.storage.store import Row, Store

__all__ = ["RECIPES"]

_GALLERY = 8
"""Triplets of a preview."""


# --- cutouts --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Exposure:
    """The candidates of an exposure and the images that they were found on."""

    table: pa.Table
    difference: Difference
    pair: AlignedPair


def _load_exposure(task: Task) -> _Exposure:
    store, rows = task.job.store, task.work.inputs
    return _Exposure(store.read_table(rows["candidates"]["path"]), *_images(store, rows))


def _images(store: Store, rows: Mapping[str, Row]) -> tuple[Difference, AlignedPair]:
    return (
        read_difference(store.path(rows["difference"]["path"])),
        read_pair(store.path(rows["normalized"]["path"])),
    )


def _make_cutouts(task: Task, step: Step, loaded: _Exposure) -> Product:
    """Cut the candidates out: as arrays, as a table in the same order, and the unflagged ones as FITS."""
    cutouts = cut_candidates(loaded.pair, loaded.difference, loaded.table, **step.options)
    space, n = is_space(task.work.row["survey"]), len(cutouts.triplets)
    if not n:
        return Product({}, cutouts.metrics, {"n_rows": 0}, "empty", space=space)
    good = cutouts.unflagged()
    files = written(task, step, "npz", lambda s, _: write_triplets(s, cutouts.triplets))
    files |= written(task, step, "parquet", lambda s, _: write_parquet(s, cutouts.table))
    files |= _write_fits(task, step, loaded.difference, good)
    _preview(task, step, good)
    return Product(files, cutouts.metrics, {"n_rows": n}, space=space)


def _write_fits(task: Task, step: Step, difference: Difference, good: Cutouts) -> dict[str, int]:
    """Write cutouts as multi-extension FITS."""
    times = pa.array([difference.mjd_mid] * good.table.num_rows, pa.float64())
    table = good.table.append_column(pa.field("mjd_mid", pa.float64(), metadata={"unit": "d"}), times)
    sky = {"wcs": difference.wcs, "unit": difference.unit}
    return written(task, step, "fits", lambda s, h: write_cutouts(s, good.triplets, table, header=h, **sky))


def _preview(task: Task, step: Step, good: Cutouts) -> None:
    """Draw some unflagged candidates."""
    if not task.preview or not len(good.triplets):
        return
    from astrid_assets.reports.gallery import gallery_png

    triplets, strength = good.spread(_GALLERY)
    title = f"{task.work.row['exposure_id']}   {task.work.row['band']}"
    png = gallery_png(triplets, [f"S/N {snr:.1f}" for snr in strength], title=title)
    folder = task.job.store.folder(step.asset, task.job.sky_field.name)
    task.job.store.write_bytes(f"{folder}/preview.png", png)


# --- light curves ---------------------------------------------------------------------------------


def _load_visits(task: Task) -> list[Visit]:
    return [_visit(task.job.store, rows) for rows in task.work.inputs["exposures"]]


def _visit(store: Store, rows: Mapping[str, Row]) -> Visit:
    known = {n: rows["difference"][n] for n in ("exposure_id", "reference_id", "band", "mjd_mid")}
    table = store.read_table(rows["candidates"]["path"])
    return Visit(**known, table=table, geometry=read_geometry(store.path(rows["normalized"]["path"])))


def _make_light_curves(task: Task, step: Step, visits: list[Visit]) -> Product:
    """Join candidates to objects, measure each object in each exposure, and write the tables."""
    store, options = task.job.store, dict(step.options)
    how = {name: options.pop(name) for name in ("sigma_floor", "max_separation", "max_sigma")}
    n_blank = options.pop("n_blank")
    joined = join_visits(visits, **how)
    rows = {r["difference"]["exposure_id"]: r for r in task.work.inputs["exposures"]}
    measured = [
        measure_visit(joined, i, *_images(store, rows[visit.exposure_id]), n_blank=n_blank)
        for i, visit in enumerate(joined.visits)
    ]
    tables, metrics = light_curve_tables(joined, measured, **options)
    files = _write_tables(task, step, tables)
    columns = {"n_rows": tables["light_curves"].num_rows}
    return Product(files, metrics, columns, "ok" if joined.names else "empty")


def _write_tables(task: Task, step: Step, tables: Mapping[str, pa.Table]) -> dict[str, int]:
    """Write tables by name; the old row goes first, since from here on its files may be other ones."""
    store = task.job.store
    folder = store.folder(step.asset, task.job.sky_field.name)
    store.discard(step.asset, task.job.sky_field.name, task.work.row["exposure_id"])
    files = {}
    for name, table in tables.items():
        path = f"{folder}/{name}.parquet"
        store.write_table(path, table)
        files[path] = store.size(path) or 0
    return files


RECIPES: dict[str, Recipe] = {
    "cutouts": Recipe(_load_exposure, _make_cutouts),
    "light_curves": Recipe(_load_visits, _make_light_curves),
}
"""Recipes of this module by name of the job."""
