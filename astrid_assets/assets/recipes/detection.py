"""Recipes of what is made of the candidates: cutouts of an exposure, light curves of a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from astrid_assets.assets.recipes.common import Recipe, is_space, write_parquet, written
from astrid_assets.assets.streaming import Product, Step, Task
from astrid_assets.images import (
    AlignedPair,
    Difference,
    PairGeometry,
    read_difference,
    read_geometry,
    read_pair,
)
from astrid_assets.images.celestial import pixel_side
from astrid_assets.images.cutouts import write_cutouts
from astrid_assets.images.triplets import Triplets, write_triplets
from astrid_assets.science.association import (
    Detections,
    Places,
    associate,
    join_detections,
    name_objects,
    place_detections,
    place_objects,
)
from astrid_assets.science.forced import blank_places, forced_flux, forced_photometry
from astrid_assets.science.objects import (
    Epoch,
    association_table,
    forced_ratio,
    light_curve_metrics,
    light_curve_table,
    object_table,
)
from astrid_assets.science.positions import from_reference, to_reference
from astrid_assets.science.stamps import choose_stamps, cut_triplets, triplet_metrics
from astrid_assets.seeds import generator
from astrid_assets.storage.store import Row

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


# --- light curves ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Night:
    """What is kept of an exposure while all of them are joined: no pixels."""

    rows: Mapping[str, Row]
    table: pa.Table
    geometry: PairGeometry

    @property
    def name(self) -> str:
        return self.rows["difference"]["exposure_id"]


def _load_nights(task: Task) -> list[_Night]:
    store = task.job.store
    return [
        _Night(
            rows,
            store.read_table(rows["candidates"]["path"]),
            read_geometry(store.path(rows["normalized"]["path"])),
        )
        for rows in task.work.inputs["exposures"]
    ]


def _make_light_curves(task: Task, step: Step, nights: list[_Night]) -> Product:
    """Join candidates to objects, measure each object in each exposure, and write the tables."""
    options = dict(step.options)
    frames = _frames(nights)
    limits = {name: options.pop(name) for name in ("sigma_floor", "max_separation")}
    detections = join_detections(
        [_detections(night, i, frames[i], **limits) for i, night in enumerate(nights)]
    )
    objects = associate(detections, max_sigma=options.pop("max_sigma"))
    places = place_objects(detections, objects)
    ids = [name for night in nights for name in night.table.column("candidate_id").to_pylist()]
    snr, flux = (_joined(nights, name) for name in ("snr", "flux"))
    names = _names(detections, places)
    n_blank = options.pop("n_blank")
    measured = [_measure(task, n, frame, places, n_blank) for n, frame in zip(nights, frames, strict=True)]
    epochs = [epoch for epoch, _ in measured]
    curves = light_curve_table(names, detections, objects, ids, epochs, **options)
    tables = {
        "light_curves": curves,
        "objects": object_table(names, detections, objects, places, snr, epochs),
        "associations": association_table(names, ids, objects, places),
    }
    ratio = forced_ratio(epochs, detections, objects, snr, flux)
    pulls = np.concatenate([pulls for _, pulls in measured])
    metrics = light_curve_metrics(curves, detections, objects, places, pulls, ratio)
    files = _write_tables(task, step, tables)
    state = "ok" if names else "empty"
    return Product(files, metrics, {"n_rows": curves.num_rows}, state)


def _frames(nights: Sequence[_Night]) -> list[int | None]:
    """Return None for exposures on the sky, a number for each reference of those without a WCS."""
    grids: dict[str, int] = {}
    frames = []
    for night in nights:
        reference = night.rows["difference"]["reference_id"]
        on_sky = night.geometry.wcs is not None
        frames.append(None if on_sky else grids.setdefault(reference, len(grids)))
    return frames


def _detections(night: _Night, epoch: int, frame: int | None, **limits: float) -> Detections:
    """Return the candidates of one exposure in the frame of its reference."""
    x, y, snr = (night.table.column(name).to_numpy() for name in ("x", "y", "snr"))
    u, v = to_reference(night.geometry, x, y)
    fwhm = night.geometry.psf.fwhm * (1.0 if frame is not None else pixel_side(night.geometry.wcs))
    return place_detections(u, v, snr, _flagged(night.table), epoch=epoch, fwhm=fwhm, frame=frame, **limits)


def _joined(nights: Sequence[_Night], name: str) -> np.ndarray:
    return np.concatenate([night.table.column(name).to_numpy() for night in nights])


def _names(detections: Detections, places: Places) -> list[str]:
    """Return the names of objects, after where each was seen first."""
    u, v = detections.place_of(places.first)
    return name_objects(u, v, places.frame)


def _measure(
    task: Task, night: _Night, frame: int | None, places: Places, n_blank: int
) -> tuple[Epoch, np.ndarray]:
    """Return the forced photometry of one exposure, and the pulls at its blank places."""
    store, rows = task.job.store, night.rows
    difference = read_difference(store.path(rows["difference"]["path"]))
    pair = read_pair(store.path(rows["normalized"]["path"]))
    shown = np.flatnonzero(places.frame == (-1 if frame is None else frame))
    x, y = from_reference(night.geometry, places.u[shown], places.v[shown])
    ny, nx = difference.shape
    inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    columns = forced_photometry(difference, pair, x[inside], y[inside])
    row = rows["difference"]
    mjd = np.nan if row["mjd_mid"] is None else row["mjd_mid"]
    known = Epoch(night.name, row["reference_id"], row["band"], mjd, shown[inside], columns)
    occupied = tuple(night.table.column(name).to_numpy() for name in ("x", "y"))
    rng = generator("blank places", night.name)
    flux, error, _ = forced_flux(difference, *blank_places(difference, pair, occupied, rng, n_blank=n_blank))
    return known, flux / error


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
    "light_curves": Recipe(_load_nights, _make_light_curves),
}
"""Recipes of this module by name of the job."""
