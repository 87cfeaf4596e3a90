"""Recipe of the injections: the exposure once more, with sources and defects that are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from astrid_assets.assets.recipes.common import Recipe, is_space, write_parquet, written
from astrid_assets.assets.recipes.images import identified, read_input
from astrid_assets.assets.streaming import Product, Step, Task
from astrid_assets.images import AlignedPair, Difference, MaskedImage, read_difference, read_pair
from astrid_assets.images.triplets import Triplets, write_triplets
from astrid_assets.science import align, cut_triplets, detect, inject, normalize, zogy
from astrid_assets.science.injection import Source, effective_gain
from astrid_assets.science.injection_plan import (
    Planned,
    PlanOptions,
    ReferenceSky,
    places_of,
    plan_injections,
    reference_stars,
    study_reference,
    without_flux,
)
from astrid_assets.science.recovery import count_changes
from astrid_assets.science.synthetic_artifacts import add_artifacts
from astrid_assets.science.tiles import cut_tiles, truth_mask, write_tiles
from astrid_assets.surveys import load_profile
from astrid_assets.training.injection_tables import InjectedRun, injection_metrics, join_truth

__all__ = ["RECIPES"]

_GALLERY = 8
"""Triplets of a preview."""


@dataclass(frozen=True, eq=False)
class _Clean:
    """The exposure as it is."""

    raw: MaskedImage
    pair: AlignedPair
    difference: Difference
    table: pa.Table
    sky: ReferenceSky


def _load(task: Task) -> _Clean:
    store, inputs = task.job.store, task.work.inputs
    return _Clean(
        read_input(task, inputs["science"]),
        read_pair(store.path(inputs["normalized"]["path"])),
        read_difference(store.path(inputs["difference"]["path"])),
        store.read_table(inputs["candidates"]["path"]),
        _sky(task),
    )


_SKIES: dict[str, ReferenceSky] = {}
"""What was found on the last references, by product; exposures of one reference follow each other."""

_SKIES_MAX = 4


def _sky(task: Task) -> ReferenceSky:
    row = task.work.inputs["reference"]
    key = f"{task.job.store.root}/{row['product_id']}"
    if key not in _SKIES:
        if len(_SKIES) >= _SKIES_MAX:
            _SKIES.pop(next(iter(_SKIES)))
        _SKIES[key] = study_reference(read_input(task, row))
    return _SKIES[key]


def _make(task: Task, step: Step, clean: _Clean) -> Product:
    """Put sources and defects into a copy of the exposure, run it, and join the truth to the findings."""
    options = step.options
    run = _run(task, step, clean, _plan(task, step, clean))
    truth, found = join_truth(
        run, clean.difference, clean.table, exposure=task.work.row, max_flagged=options["max_flagged"]
    )
    cut = found.filter(pa.compute.greater_equal(found.column("stamp"), 0)).sort_by("stamp")
    x, y = (cut.column(name).to_numpy() for name in ("x", "y"))
    triplets = cut_triplets(run.pair, run.difference, x, y, size=options["size"])
    files = written(task, step, "parquet", lambda s, _: write_parquet(s, truth))
    files |= _beside(task, step, "_detections.parquet", lambda s: write_parquet(s, found))
    files |= _beside(task, step, "_stamps.npz", lambda s: write_triplets(s, triplets))
    files |= _beside(task, step, "_tiles.npz", lambda s: _write_tiles(s, task, options, run, found))
    _preview(task, step, triplets, cut)
    metrics = injection_metrics(truth) | {"n_artifacts": float(len(run.defects))}
    if options["zero_flux"]:
        changes = count_changes(run.difference, run.table, clean.difference, clean.table)
        metrics["null_changes"] = float(changes)
    state = "ok" if truth.num_rows else "empty"
    space = is_space(task.work.row["survey"])
    return Product(files, metrics, {"n_rows": truth.num_rows}, state, space=space)


def _plan(task: Task, step: Step, clean: _Clean) -> list[Planned]:
    row = task.work.row
    known = load_profile(row["survey"]).limits.get("pixel_scale")
    planned = plan_injections(
        clean.sky,
        clean.pair,
        key=(task.job.sky_field.name, row["pairing_key"]),
        exposure_id=row["exposure_id"],
        difference=clean.difference,
        table=clean.table,
        pixel_scale=None if known is None else sum(known) / 2,
        options=_options(step, PlanOptions),
    )
    return without_flux(planned) if step.options["zero_flux"] else planned


def _options(step: Step, kind: type) -> Any:
    """Return the options of a step that are those of a class."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in step.options.items() if name in names})


def _run(task: Task, step: Step, clean: _Clean, planned: list[Planned]) -> InjectedRun:
    """Take a copy of the exposure with sources and defects through the functions that it came through."""
    pair, seed = clean.pair, f"{task.job.sky_field.name}/{task.work.row['exposure_id']}"
    gain = effective_gain(pair)
    image, drawn = inject(clean.raw, [p.source for p in planned], psf=pair.science.psf, gain=gain, seed=seed)
    defects: Sequence[dict[str, Any]] = []
    if step.options["n_artifacts"] and not step.options["zero_flux"]:
        image, defects = add_artifacts(
            image,
            psf=pair.science.psf,
            seed=seed,
            gain=gain,
            count=step.options["n_artifacts"],
            avoid=places_of(planned),
            separation=step.options["separation"],
            stars=reference_stars(clean.sky, pair),
        )
    again = normalize(align(image, reuse=pair), reuse=pair, **step.context["normalize"])
    difference = zogy(again)
    table = detect(difference, pair=again, **step.context["detect"])
    return InjectedRun(planned, drawn, defects, again, difference, identified(task, table, run="inj-"))


def _beside(task: Task, step: Step, ending: str, write: Callable[[BinaryIO], None]) -> dict[str, int]:
    """Write a further file of an exposure; the row was discarded with the first one."""
    store, name = task.job.store, task.work.row["exposure_id"]
    path = f"{store.folder(step.asset, task.job.sky_field.name)}/{name}{ending}"
    with store.writing(path) as stream:
        write(stream)
    return {path: store.size(path) or 0}


def _write_tiles(stream: BinaryIO, task: Task, options: Any, run: InjectedRun, found: pa.Table) -> None:
    real = [
        Source("", row["x"], row["y"], row["flux"])
        for row in found.select(["x", "y", "flux", "artifact", "in_clean_run"]).to_pylist()
        if row["in_clean_run"] and not row["artifact"]
    ]
    mask = truth_mask(run.difference, [p.source for p in run.planned], real)
    name = f"{task.job.sky_field.name}/{task.work.row['exposure_id']}"
    count, size = options["n_tiles"], options["tile_size"]
    write_tiles(stream, cut_tiles(run.pair, run.difference, mask, count=count, size=size, seed=name))


def _preview(task: Task, step: Step, triplets: Triplets, cut: pa.Table) -> None:
    """Draw some of what was put in, from the strongest to the faintest."""
    ours = [i for i, name in enumerate(cut.column("injection_id").to_pylist()) if name]
    if not task.preview or not ours:
        return
    from astrid_assets.reports.gallery import gallery_png

    snr = cut.column("snr").to_pylist()
    ours.sort(key=lambda i: -snr[i])
    some = ours[:: max(len(ours) // _GALLERY, 1)][:_GALLERY]
    captions = [f"injected, S/N {snr[i]:.1f}" for i in some]
    title = f"{task.work.row['exposure_id']}   {task.work.row['band']}"
    folder = task.job.store.folder(step.asset, task.job.sky_field.name)
    png = gallery_png(triplets.take(some), captions, title=title)
    task.job.store.write_bytes(f"{folder}/preview.png", png)


RECIPES: dict[str, Recipe] = {"injections": Recipe(_load, _make)}
"""Recipes of this module by name of the job."""
