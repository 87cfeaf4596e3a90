"""Recipes of the images, from the archive to the candidates: load, call the science, write."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from astrid_assets.archives import open_archive
from astrid_assets.archives.planning import exposure_of
from astrid_assets.assets.recipes.common import Recipe, is_space, preview, provenance, write_parquet, written
from astrid_assets.assets.streaming import ATTEMPTS_MAX, Product, Step, Task
from astrid_assets.errors import BadAnswerError, ImageError, NoReferenceError
from astrid_assets.images import (
    AlignedPair,
    Difference,
    MaskedImage,
    read_difference,
    read_image,
    read_pair,
    write_difference,
    write_image,
    write_pair,
)
from astrid_assets.science import align, classic, coadd, detect, normalize, quality, zogy
from astrid_assets.surveys import load_profile

if TYPE_CHECKING:
    from astrid_assets.archives.protocol import Exposure
    from astrid_assets.storage.store import Row

__all__ = ["RECIPES", "identified", "read_input"]


# --- acquisition ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fetched:
    """One downloaded exposure."""

    image: MaskedImage
    files: Mapping[str, int]
    sha256: str


def _fetch(task: Task, row: Row, folder: str) -> _Fetched:
    """Download an exposure, read it, and put its files into a folder of the store."""
    exposure = exposure_of(dict(row))
    store = task.job.store
    with store.staging(folder) as staging:
        place = staging / exposure.exposure_id
        place.mkdir()
        main, sha256 = _download(task, exposure, place)
        image = _described(read_image(main, survey=exposure.survey, **_assumed(task)), row, sha256)
        _require_complete(image, main.name)
        names = [main, *sorted(p for p in place.rglob("*") if p.is_file() and p != main)]
        files = {f"{folder}/{p.relative_to(place).as_posix()}": p.stat().st_size for p in names}
        # the old row goes first: from here on its files may be other ones
        store.discard(task.steps[0].asset, task.job.sky_field.name, task.work.row["exposure_id"])
        store.adopt(place, folder)
    return _Fetched(image, files, sha256)


_REQUIRED_WORDS = {"wcs": "world coordinates", "mjd_mid": "time of observation", "zeropoint": "zero point"}


def _require_complete(image: MaskedImage, filename: str) -> None:
    """Refuse a file whose header lacks what every file of its survey has."""
    from astrid_assets.surveys import load_profile

    missing = [name for name in load_profile(image.survey).required if getattr(image, name) is None]
    if missing:
        words = ", ".join(_REQUIRED_WORDS.get(name, name) for name in missing)
        msg = f"{filename}: the header has no usable {words}, which every {image.survey} file has: broken"
        raise ImageError(msg)


def _download(task: Task, exposure: Exposure, place: Path) -> tuple[Path, str]:
    """Return the image file and its checksum; what is broken three times stays broken."""
    archive = open_archive(exposure.archive, task.job.sky_field, task.transport)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            download = archive.download(exposure, place)
        except BadAnswerError:
            if attempt == ATTEMPTS_MAX:
                raise
        else:
            break
    main = Path(download.files["image"])
    return main, download.sha256.get("image") or hashlib.sha256(main.read_bytes()).hexdigest()


def _assumed(task: Task) -> dict[str, Any]:
    """Return what the field says about images whose headers do not."""
    return dict(task.steps[0].context.get("assume") or {})


def _described(image: MaskedImage, row: Row, sha256: str | None) -> MaskedImage:
    """Add to an image what its row knows about it."""
    origin = {**image.origin, "exposure_id": row["exposure_id"], "sha256": sha256}
    if row.get("url") is not None:
        origin["archive"] = row["archive"]
    return image.replace(origin=origin, band=image.band or row["band"])


def _image_columns(image: MaskedImage) -> dict[str, Any]:
    """Return what an image says about itself, for its row."""
    ny, nx = image.shape
    known = {
        "ny": ny,
        "nx": nx,
        "exptime": image.exptime,
        "airmass": image.airmass,
        "zeropoint": None if image.zeropoint is None else image.zeropoint.magnitude,
        "mjd_start": image.mjd_start,
        "mjd_mid": image.mjd_mid,
        "mjd_end": image.mjd_end,
    }
    return {name: value for name, value in known.items() if value is not None} | _sky_columns(image)


def _sky_columns(image: MaskedImage) -> dict[str, Any]:
    if image.wcs is None:
        return {}
    ny, nx = image.shape
    x, y = [-0.5, nx - 0.5, nx - 0.5, -0.5, (nx - 1) / 2], [-0.5, -0.5, ny - 0.5, ny - 0.5, (ny - 1) / 2]
    ra, dec = (v.tolist() for v in image.wcs.all_pix2world(x, y, 0))
    footprint = [value for corner in zip(ra[:4], dec[:4], strict=True) for value in corner]
    return {"ra": ra[4], "dec": dec[4], "footprint": footprint}


def _seeing(metrics: Mapping[str, float]) -> dict[str, float]:
    return {"seeing": metrics["seeing"]} if metrics["seeing"] == metrics["seeing"] else {}


def _pixel_scale(image: MaskedImage, survey: str) -> float | None:
    """Return the pixel scale of a survey in arcsec: of its range the value nearest to the image's."""
    known = load_profile(survey).limits.get("pixel_scale")
    if known is None or image.pixel_scale is None:
        return None
    return min(max(image.pixel_scale, known[0]), known[1])


def _no_input(_: Task) -> None:
    return None


def _make_science(task: Task, step: Step, _: None) -> Product:
    row = task.work.row
    folder = f"{task.job.store.folder(step.asset, task.job.sky_field.name)}/{row['exposure_id']}"
    fetched = _fetch(task, task.work.inputs["exposure"], folder)
    metrics = quality.image_metrics(
        fetched.image, survey_pixel_scale=_pixel_scale(fetched.image, row["survey"])
    )
    preview(task, step, image=fetched.image)
    columns = _image_columns(fetched.image) | _seeing(metrics) | {"sha256": fetched.sha256}
    return Product(fetched.files, metrics, columns, space=is_space(row["survey"]))


def _make_reference(task: Task, step: Step, _: None) -> Product:
    """Download the members of a reference; coadd them where there are several."""
    row = task.work.row
    base = task.job.store.folder(step.asset, task.job.sky_field.name)
    members = task.work.inputs["members"]
    fetched, faults = _fetch_members(task, members, f"{base}/{row['exposure_id']}")
    if len(fetched) == 1:
        one = next(iter(fetched.values()))
        image, files, sha256 = one.image, dict(one.files), one.sha256
    else:
        aligned = bool(step.context.get("assume_aligned"))
        image = coadd([f.image for f in fetched.values()], assume_aligned=aligned, **step.options)
        image = image.replace(origin={**image.origin, "exposure_id": row["exposure_id"]})
        sha256 = hashlib.sha256("".join(f.sha256 for f in fetched.values()).encode()).hexdigest()
        files = written(task, step, "fits", lambda s, h: write_image(s, image, header=h))
    metrics = quality.image_metrics(image, survey_pixel_scale=_pixel_scale(image, row["survey"]))
    metrics |= quality.reference_metrics(image)
    preview(task, step, image=image)
    columns = _image_columns(image) | _seeing(metrics)
    columns |= {"sha256": sha256, "members": list(fetched), "n_exposures": image.n_exposures}
    return Product(files, metrics, columns, reason=faults, space=is_space(row["survey"]))


def _fetch_members(task: Task, members: list[Row], base: str) -> tuple[dict[str, _Fetched], str | None]:
    """Download the members of a reference; a broken one is left out while others are whole."""
    fetched, faults = {}, []
    for member in members:
        name = member["exposure_id"]
        try:
            fetched[name] = _fetch(task, member, base if len(members) == 1 else f"{base}/{name}")
        except (BadAnswerError, ImageError) as error:
            if len(members) == 1:
                raise
            faults.append(f"{name}: {error}")
    if not fetched:
        raise BadAnswerError("; ".join(faults))
    return fetched, f"left out {'; '.join(faults)}" if faults else None


# --- alignment ------------------------------------------------------------------------------------


def read_input(task: Task, row: Row) -> MaskedImage:
    """Read the image of a row of science_images or references."""
    path = task.job.store.path(row["path"])
    image = read_image(path, survey=row["survey"], **_assumed(task))
    return _described(image, row, row["sha256"])


def _load_images(task: Task) -> tuple[MaskedImage, MaskedImage]:
    inputs = task.work.inputs
    if inputs["reference"].get("state") != "ok":
        raise NoReferenceError(inputs["reference"].get("reason") or "the reference is not there")
    return read_input(task, inputs["science"]), read_input(task, inputs["reference"])


def _make_aligned(task: Task, step: Step, images: tuple[MaskedImage, MaskedImage]) -> Product:
    science, reference = images
    aligned = bool(step.context.get("assume_aligned")) and (science.wcs is None or reference.wcs is None)
    pair = align(science, reference, assume_aligned=aligned, **step.options)
    metrics = quality.registration_metrics(pair)
    metrics |= quality.reference_metrics(reference, science) if science.wcs and reference.wcs else {}
    preview(task, step, pair=pair)
    files = written(task, step, "fits", lambda s, h: write_pair(s, pair, header=h, with_science=False))
    return Product(files, metrics, _image_columns(science), space=is_space(task.work.row["survey"]))


def _load_aligned(task: Task) -> AlignedPair:
    inputs = task.work.inputs
    science = read_input(task, inputs["science"])
    return read_pair(task.job.store.path(inputs["aligned"]["path"]), science=science)


def _make_normalized(task: Task, step: Step, aligned: AlignedPair) -> Product:
    pair = normalize(aligned, **step.options)
    metrics = quality.normalization_metrics(pair)
    preview(task, step, pair=pair)
    files = written(task, step, "fits", lambda s, h: write_pair(s, pair, header=h))
    return Product(files, metrics, space=is_space(task.work.row["survey"]))


# --- differencing ---------------------------------------------------------------------------------

_METHODS = {"zogy_differences": zogy, "classic_differences": classic}


def _load_normalized(task: Task) -> AlignedPair:
    return read_pair(task.job.store.path(task.work.inputs["normalized"]["path"]))


def _make_difference(task: Task, step: Step, pair: AlignedPair) -> Product:
    difference = _METHODS[step.asset](pair, **step.options)
    metrics = quality.difference_metrics(difference, pair)
    origin = {**difference.origin, **provenance(task, step)}
    difference = dataclasses.replace(difference, metrics={**difference.metrics, **metrics}, origin=origin)
    preview(task, step, pair=pair, difference=difference)
    files = written(task, step, "fits", lambda s, h: write_difference(s, difference, header=h))
    return Product(files, difference.metrics, space=is_space(task.work.row["survey"]))


# --- detection ------------------------------------------------------------------------------------


def _load_difference(task: Task) -> tuple[Difference, AlignedPair]:
    store, inputs = task.job.store, task.work.inputs
    difference = read_difference(store.path(inputs["difference"]["path"]))
    return difference, read_pair(store.path(inputs["normalized"]["path"]))


def _make_candidates(task: Task, step: Step, loaded: tuple[Difference, AlignedPair]) -> Product:
    difference, pair = loaded
    table = detect(difference, pair=pair, **step.options)
    metrics = quality.candidate_metrics(table, difference, pair)
    preview(task, step, pair=pair, difference=difference, table=table)
    files = written(task, step, "parquet", lambda s, _: write_parquet(s, identified(task, table)))
    columns = {"n_rows": table.num_rows}
    state = "ok" if table.num_rows else "empty"
    return Product(files, metrics, columns, state, space=is_space(task.work.row["survey"]))


def identified(task: Task, table: pa.Table, *, run: str = "") -> pa.Table:
    """Put in front of a candidate table which exposure it belongs to, and give each row a name.

    The name of the exposure, of the run where it is not that of the exposure as it is, and a number.
    """
    row = task.work.row
    values = {"field": task.job.sky_field.name, "exposure_id": row["exposure_id"]}
    values |= {"reference_id": row["reference_id"], "survey": row["survey"], "band": row["band"]}
    for name, value in reversed(values.items()):
        if name not in table.column_names:
            table = table.add_column(0, name, pa.array([value] * table.num_rows, pa.string()))
    names = [f"{row['exposure_id']}-{run}{i:04d}" for i in range(table.num_rows)]
    return table.add_column(0, "candidate_id", pa.array(names, pa.string()))


RECIPES: dict[str, Recipe] = {
    "science_images": Recipe(_no_input, _make_science),
    "references": Recipe(_no_input, _make_reference),
    "aligned_pairs": Recipe(_load_images, _make_aligned),
    "normalized_pairs": Recipe(_load_aligned, _make_normalized),
    "differences": Recipe(_load_normalized, _make_difference),
    "candidates": Recipe(_load_difference, _make_candidates),
}
"""Recipes of this module by name of the job."""
