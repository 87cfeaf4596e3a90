"""What all recipes share: how a product is written and says where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from astrid_assets.assets.streaming import Product, Step, Task
from astrid_assets.surveys import load_profile

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Recipe", "is_space", "preview", "provenance", "write_parquet", "written"]


@dataclass(frozen=True)
class Recipe:
    """How an asset makes its product of one exposure."""

    load: Callable[[Task], Any]
    """Read the input; called once, also where several assets share it."""

    make: Callable[[Task, Step, Any], Product]
    """Compute and write what one asset holds."""


def is_space(survey: str | None) -> bool:
    """Tell whether a survey is made from space; metrics of the atmosphere do not apply then."""
    return load_profile(survey).space if survey else False


def write_parquet(stream: Any, table: pa.Table) -> None:
    """Write a table to an open file."""
    import pyarrow.parquet as pq

    pq.write_table(table, stream, compression="zstd")


def written(
    task: Task, step: Step, suffix: str, write: Callable[[Any, dict[str, Any]], None]
) -> dict[str, int]:
    """Write the file of a product and return its size by path.

    The old row goes first: from here on its file may be another one.
    """
    store, name = task.job.store, task.work.row["exposure_id"]
    path = f"{store.folder(step.asset, task.job.sky_field.name)}/{name}.{suffix}"
    store.discard(step.asset, task.job.sky_field.name, name)
    with store.writing(path) as stream:
        write(stream, provenance(task, step))
    return {path: store.size(path) or 0}


def provenance(task: Task, step: Step) -> dict[str, Any]:
    """Return the FITS keywords that say where a file comes from."""
    from astrid_assets.storage.manifest import product_id

    row = dict(task.work.row) | {"input_sha256": task.work.input_sha256}
    row |= {"parameter_hash": step.parameter_hash, "code_version": step.code_version}
    return {
        "ASSET": step.asset,
        "SKYFIELD": task.job.sky_field.name,
        "EXPID": row["exposure_id"],
        "REFID": row.get("reference_id"),
        "INSHA256": row["input_sha256"],
        "PARHASH": step.parameter_hash,
        "CODEVERS": step.code_version,
        "PRODID": product_id(row),
    }


def preview(task: Task, step: Step, **what: Any) -> None:
    """Draw the preview picture of an asset, for the last of its new exposures."""
    if not task.preview:
        return
    from astrid_assets.reports.figures import preview_png

    path = f"{task.job.store.folder(step.asset, task.job.sky_field.name)}/preview.png"
    task.job.store.write_bytes(path, preview_png(**what))
