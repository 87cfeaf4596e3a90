"""Differencing: science minus reference, always by both methods."""

import time
from collections.abc import Iterator

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
from astrid_assets.assets.config import DifferencesConfig
from astrid_assets.assets.streaming import Work, stream
from astrid_assets.checks.specs import check_specs
from astrid_assets.fields import get_field
from astrid_assets.storage.manifest import digest, usable

__all__ = ["differences"]

_ZOGY = """Difference images by proper image subtraction (Zackay, Ofek & Gal-Yam 2016).

D, its PSF, the score S, S_corr with source and astrometric noise, and PSF fluxes with errors; metrics
in the header and in the manifest. Scores and errors are never rescaled by their own scatter."""

_CLASSIC = """Difference images by subtraction of the PSF-matched reference: the baseline beside ZOGY.

The same planes and metrics, so that both methods can be compared exposure by exposure."""


def _out(asset: str, description: str) -> dg.AssetOut:
    return dg.AssetOut(
        dagster_type=Table,
        description=description,
        group_name="differencing",
        owners=OWNERS,
        kinds={"fits"},
        code_version=CODE_VERSIONS[asset],
        metadata={"dagster/column_schema": manifest_schema(asset)},
        is_required=False,
    )


@dg.multi_asset(
    outs={
        "zogy_differences": _out("zogy_differences", _ZOGY),
        "classic_differences": _out("classic_differences", _CLASSIC),
    },
    check_specs=[
        *check_specs("zogy_differences", sky_fields),
        *check_specs("classic_differences", sky_fields),
    ],
    partitions_def=sky_fields,
    can_subset=True,
    required_resource_keys={"run_lock"},
)
def differences(
    context: dg.AssetExecutionContext, config: DifferencesConfig, normalized_pairs: pa.Table
) -> Iterator[dg.MaterializeResult]:
    """Subtract the reference of every normalized pair; one loading of the pair serves both methods."""
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    wanted = [key.to_user_string() for key in sorted(context.selected_asset_keys, reverse=True)]
    job = job_of(sky_field, "differences", dict.fromkeys(wanted, config))
    works = [Work(identity(r), digest(r["product_id"]), {"normalized": r}) for r in usable(normalized_pairs)]
    for asset, report in stream(job, works).items():
        yield result_of(context, job, asset, report, started=started)
