"""Alignment: each science exposure with its reference, first on one grid, then on one flux scale."""

import time
from typing import Any

import dagster as dg
import pyarrow as pa

from astrid_assets.assets.common import (
    CODE_VERSIONS,
    OWNERS,
    Table,
    identity,
    job_of,
    manifest_schema,
    result_of,
    sky_fields,
)
from astrid_assets.assets.config import AlignConfig, NormalizeConfig
from astrid_assets.assets.streaming import Work, stream
from astrid_assets.checks.specs import check_specs
from astrid_assets.fields import Field, get_field
from astrid_assets.storage.manifest import digest, usable
from astrid_assets.storage.store import Row

__all__ = ["aligned_pairs", "image_settings", "normalized_pairs"]

_SHARED: dict[str, Any] = {
    "partitions_def": sky_fields,
    "dagster_type": Table,
    "group_name": "alignment",
    "owners": OWNERS,
    "kinds": {"fits"},
    "required_resource_keys": {"run_lock"},
}


@dg.asset(
    **_SHARED,
    code_version=CODE_VERSIONS["aligned_pairs"],
    metadata={"dagster/column_schema": manifest_schema("aligned_pairs")},
    check_specs=check_specs("aligned_pairs", sky_fields),
)
def aligned_pairs(
    context: dg.AssetExecutionContext, config: AlignConfig, science_images: pa.Table, references: pa.Table
) -> dg.MaterializeResult:
    """Each science exposure with its reference on the science pixels.

    The registration starts from the world coordinates of both and is refined on stars; variance and
    mask of the reference are warped with it, flux is conserved. The science pixels stay as they are,
    so that the files hold the warped reference and the registration.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(sky_field, "aligned_pairs", {"aligned_pairs": config}, settings=image_settings(sky_field))
    by_id = {r["exposure_id"]: r for r in references.to_pylist() if r["state"] != "superseded"}
    works = [_pair_work(r, by_id.get(r["reference_id"])) for r in usable(science_images)]
    report = stream(job, works)["aligned_pairs"]
    ready = [r["exposure_id"] for r in usable(references)]
    return result_of(context, job, "aligned_pairs", report, started=started, reference_ids=ready)


def _pair_work(science: Row, reference: Row | None) -> Work:
    reference = reference or {}
    inputs = digest([science["product_id"], reference.get("product_id"), reference.get("state")])
    return Work(identity(science), inputs, {"science": science, "reference": reference})


def image_settings(sky_field: Field) -> dict[str, Any]:
    """Return what the field says about images whose headers do not say it."""
    if sky_field.local is None:
        return {}
    assumed = sky_field.local.assume.model_dump(exclude_none=True)
    return {"assume_aligned": assumed.pop("aligned"), "assume": assumed}


@dg.asset(
    **_SHARED,
    code_version=CODE_VERSIONS["normalized_pairs"],
    metadata={"dagster/column_schema": manifest_schema("normalized_pairs")},
    check_specs=check_specs("normalized_pairs", sky_fields),
)
def normalized_pairs(
    context: dg.AssetExecutionContext,
    config: NormalizeConfig,
    aligned_pairs: pa.Table,
    science_images: pa.Table,
) -> dg.MaterializeResult:
    """Each pair without its backgrounds, with PSFs, complete masks and the flux ratio from common stars.

    All parameters of the normalization are stored with the pair; the ratio is compared with the one
    that exposure times and zero points predict.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    settings = image_settings(sky_field)
    job = job_of(sky_field, "normalized_pairs", {"normalized_pairs": config}, settings=settings)
    science = {r["exposure_id"]: r for r in usable(science_images)}
    works = [
        Work(identity(r), digest(r["product_id"]), {"science": science[r["exposure_id"]], "aligned": r})
        for r in usable(aligned_pairs)
        if r["exposure_id"] in science
    ]
    report = stream(job, works)["normalized_pairs"]
    return result_of(context, job, "normalized_pairs", report, started=started)
