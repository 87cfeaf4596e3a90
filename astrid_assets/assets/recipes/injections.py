"""Recipe of the injections: the exposure once more, with sources and defects that are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
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
    plan_injections,
    reference_stars,
    study_reference,
)
from astrid_assets.science.injection_tables import (
    artifact_columns,
    injection_metrics,
    source_columns,
    truth_table,
)
from astrid_assets.science.recovery import Truth, in_clean_run, match_radius, on_artifacts, recover
from astrid_assets.science.stamps import choose_stamps
from astrid_assets.science.synthetic_artifacts import add_artifacts
from astrid_assets.science.tiles import cut_tiles, truth_mask, write_tiles
from astrid_assets.surveys import load_profile

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


@dataclass(frozen=True, eq=False)
class _Spoiled:
    """The exposure with what was put in, taken through the same functions."""

    planned: list[Planned]
    defects: list[dict[str, Any]]
    drawn: pa.Table
    pair: AlignedPair
    difference: Difference
    table: pa.Table

    @property
    def truth(self) -> Truth:
        return Truth.of([p.source for p in self.planned])


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
    spoiled = _run(task, step, clean, _plan(task, step, clean))
    truth, found = _joined(task, clean, spoiled)
    found = _with_stamps(found, options["max_flagged"])
    cut = found.filter(pa.compute.greater_equal(found.column("stamp"), 0)).sort_by("stamp")
    x, y = (cut.column(name).to_numpy() for name in ("x", "y"))
    triplets = cut_triplets(spoiled.pair, spoiled.difference, x, y, size=options["size"])
    files = written(task, step, "parquet", lambda s, _: write_parquet(s, truth))
    files |= _beside(task, step, "_detections.parquet", lambda s: write_parquet(s, found))
    files |= _beside(task, step, "_stamps.npz", lambda s: write_triplets(s, triplets))
    files |= _beside(task, step, "_tiles.npz", lambda s: _write_tiles(s, task, options, spoiled, found))
    _preview(task, step, triplets, cut)
    state = "ok" if truth.num_rows else "empty"
    metrics = injection_metrics(truth) | {"n_artifacts": float(len(spoiled.defects))}
    if options["zero_flux"]:
        metrics["null_changes"] = float(_changes(clean, spoiled))
    columns = {"n_rows": truth.num_rows}
    return Product(files, metrics, columns, state, space=is_space(task.work.row["survey"]))


def _plan(task: Task, step: Step, clean: _Clean) -> list[Planned]:
    row = task.work.row
    good = clean.difference.flux_error[::4, ::4][~clean.difference.bad[::4, ::4]]
    known = load_profile(row["survey"]).limits.get("pixel_scale")
    planned = plan_injections(
        clean.sky,
        clean.pair,
        key=(task.job.sky_field.name, row["pairing_key"]),
        exposure_id=row["exposure_id"],
        flux_error=float(np.nanmedian(good)),
        pixel_scale=None if known is None else sum(known) / 2,
        detections=np.column_stack([clean.table.column(name).to_numpy() for name in ("x", "y")]),
        options=_options(step, PlanOptions),
    )
    if not step.options["zero_flux"]:
        return planned
    return [dataclasses.replace(p, source=dataclasses.replace(p.source, flux=0.0)) for p in planned]


def _options(step: Step, kind: type) -> Any:
    """Return the options of a step that are those of a class."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in step.options.items() if name in names})


def _run(task: Task, step: Step, clean: _Clean, planned: list[Planned]) -> _Spoiled:
    """Take a copy of the exposure with sources and defects through the functions that it came through."""
    pair, seed = clean.pair, f"{task.job.sky_field.name}/{task.work.row['exposure_id']}"
    gain = effective_gain(pair)
    image, drawn = inject(clean.raw, [p.source for p in planned], psf=pair.science.psf, gain=gain, seed=seed)
    defects: list[dict[str, Any]] = []
    if step.options["n_artifacts"] and not step.options["zero_flux"]:
        image, defects = add_artifacts(
            image,
            psf=pair.science.psf,
            seed=seed,
            gain=gain,
            count=step.options["n_artifacts"],
            avoid=np.array([(p.source.x, p.source.y) for p in planned]).reshape(-1, 2),
            separation=step.options["separation"],
            stars=reference_stars(clean.sky, pair),
        )
    spoiled = normalize(align(image, reuse=pair), reuse=pair, **step.context["normalize"])
    difference = zogy(spoiled)
    table = detect(difference, pair=spoiled, **step.context["detect"])
    return _Spoiled(planned, defects, drawn, spoiled, difference, table)


def _joined(task: Task, clean: _Clean, spoiled: _Spoiled) -> tuple[pa.Table, pa.Table]:
    """Return the truth with what became of it, and the detections with what they stand for."""
    difference, radius = spoiled.difference, match_radius(spoiled.difference.psf.fwhm)
    recovered = recover(
        spoiled.truth, difference, spoiled.table, clean=clean.difference, clean_table=clean.table
    )
    before = in_clean_run(spoiled.table, clean.table, radius)
    lying = on_artifacts(spoiled.table, spoiled.defects, radius)
    lying[before | np.isin(np.arange(len(lying)), recovered["row"])] = -1
    found = identified(task, spoiled.table, run="inj-")
    names = found.column("candidate_id").to_pylist()
    row = task.work.row
    shared = {name: row[name] for name in ("exposure_id", "reference_id", "survey", "band", "mjd_mid")}
    sources = source_columns(spoiled.planned, spoiled.drawn, recovered, names, clean.difference)
    defects = artifact_columns(row["exposure_id"], spoiled.defects, lying, found, clean.difference)
    truth = pa.concat_tables(
        truth_table(shared | columns, len(columns["x"])) for columns in (sources, defects)
    )
    ids = np.full(len(names), "", object)
    matched = recovered["row"] >= 0
    ids[recovered["row"][matched]] = np.array(sources["injection_id"], object)[matched]
    ids[lying >= 0] = np.array([*defects["injection_id"], ""], object)[lying[lying >= 0]]
    found = found.append_column("injection_id", pa.array(ids.tolist(), pa.string()))
    return truth, found.append_column("in_clean_run", pa.array(before))


def _with_stamps(found: pa.Table, max_flagged: int) -> pa.Table:
    """Number the detections that get a stamp: what stands for an injection, and some flagged ones."""
    ours = np.array([bool(name) for name in found.column("injection_id").to_pylist()], bool)
    flagged = np.array([bool(reason) for reason in found.column("artifact").to_pylist()], bool)
    others = np.flatnonzero(flagged & ~ours)
    names = found.column("candidate_id").to_pylist()
    some = choose_stamps([names[i] for i in others], np.ones(len(others), bool), max_flagged=max_flagged)
    chosen = np.union1d(np.flatnonzero(ours), others[some])
    stamp = np.full(len(names), -1, np.int32)
    stamp[chosen] = np.arange(len(chosen))
    return found.append_column("stamp", pa.array(stamp))


def _changes(clean: _Clean, spoiled: _Spoiled) -> int:
    """Count the pixels and candidates that differ from those of the exposure as it is, bit by bit."""
    count = 0
    for name in ("data", "variance", "mask", "score", "score_corrected", "flux", "flux_error"):
        ours, theirs = (getattr(d, name) for d in (spoiled.difference, clean.difference))
        count += int(np.count_nonzero(~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))))
    before = clean.table.select(spoiled.table.column_names)
    return count + (0 if before.equals(spoiled.table) else max(before.num_rows, spoiled.table.num_rows, 1))


def _beside(task: Task, step: Step, ending: str, write: Callable[[BinaryIO], None]) -> dict[str, int]:
    """Write a further file of an exposure; the row was discarded with the first one."""
    store, name = task.job.store, task.work.row["exposure_id"]
    path = f"{store.folder(step.asset, task.job.sky_field.name)}/{name}{ending}"
    with store.writing(path) as stream:
        write(stream)
    return {path: store.size(path) or 0}


def _write_tiles(stream: BinaryIO, task: Task, options: Any, spoiled: _Spoiled, found: pa.Table) -> None:
    real = [
        Source("", row["x"], row["y"], row["flux"])
        for row in found.select(["x", "y", "flux", "artifact", "in_clean_run"]).to_pylist()
        if row["in_clean_run"] and not row["artifact"]
    ]
    mask = truth_mask(spoiled.difference, [p.source for p in spoiled.planned], real)
    name = f"{task.job.sky_field.name}/{task.work.row['exposure_id']}"
    count, size = options["n_tiles"], options["tile_size"]
    write_tiles(stream, cut_tiles(spoiled.pair, spoiled.difference, mask, count=count, size=size, seed=name))


def _preview(task: Task, step: Step, triplets: Triplets, cut: pa.Table) -> None:
    """Draw some of what was put in, from the strongest to the faintest."""
    ours = [i for i, name in enumerate(cut.column("injection_id").to_pylist()) if name]
    if not task.preview or not ours:
        return
    from astrid_assets.reports.gallery import gallery_png

    snr = cut.column("snr").to_pylist()
    ours.sort(key=lambda i: -snr[i])
    some = [ours[i] for i in np.unique(np.linspace(0, len(ours) - 1, _GALLERY).astype(int))]
    captions = [f"injected, S/N {snr[i]:.1f}" for i in some]
    title = f"{task.work.row['exposure_id']}   {task.work.row['band']}"
    folder = task.job.store.folder(step.asset, task.job.sky_field.name)
    png = gallery_png(triplets.take(some), captions, title=title)
    task.job.store.write_bytes(f"{folder}/preview.png", png)


RECIPES: dict[str, Recipe] = {"injections": Recipe(_load, _make)}
"""Recipes of this module by name of the job."""
