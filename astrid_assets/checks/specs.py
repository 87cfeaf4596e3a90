"""Specifications and results of all checks of an asset, for ``@dg.asset(check_specs=...)``.

A check that rests on metrics reports the colours stored in the manifest; ``limits.toml`` names it.
A check that rests on the table itself is registered in the module of its group. None costs a step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from astrid_assets.checks import (
    acquisition,
    alignment,
    catalogues,
    detection,
    differencing,
    reporting,
    training,
)
from astrid_assets.checks.limits import COLOURS, Check, checks, worst
from astrid_assets.checks.table import Context, Row, TableCheck, Verdict, live

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_results", "check_specs", "shown"]

_GROUPS = (acquisition, catalogues, alignment, differencing, detection, reporting, training)
_TABLE_CHECKS: dict[str, tuple[TableCheck, ...]] = {k: v for g in _GROUPS for k, v in g.CHECKS.items()}
_REQUIRED: dict[str, tuple[str, ...]] = {k: v for g in _GROUPS for k, v in g.REQUIRED.items()}
_CAUSES = {
    "scorr_distribution": differencing.cause,
    "residual_footprint_ratio": differencing.cause,
    "transient_fraction": detection.cause,
    "sky_source_control": detection.cause,
}
"""Checks whose description names the likely cause."""


def check_specs(asset: str, partitions_def: dg.PartitionsDefinition | None = None) -> list[dg.AssetCheckSpec]:
    """Return the checks of an asset.

    Parameters
    ----------
    asset
        Name of the asset.

    partitions_def
        Partitions of the asset; each evaluation then belongs to one of them.
    """
    table = [(check.name, check.text, check.blocking) for check in _TABLE_CHECKS.get(asset, ())]
    metric = [(check.name, check.text, False) for check in _metric_checks(asset)]
    return [
        dg.AssetCheckSpec(
            name, asset=asset, partitions_def=partitions_def, blocking=blocking, description=text
        )
        for name, text, blocking in table + metric
    ]


def check_results(
    asset: str,
    manifest: pa.Table,
    *,
    reference_ids: Sequence[str] | None = None,
    now_mjd: float | None = None,
    field_row: Row | None = None,
) -> Iterator[dg.AssetCheckResult]:
    """Report all checks of an asset from its manifest.

    Parameters
    ----------
    asset
        Name of the asset.

    manifest
        Its manifest, one row an exposure, with ``metric_*`` and ``colour_*`` columns.

    reference_ids
        Identifiers of the usable references, to verify the links; None leaves that out.

    now_mjd
        Time that freshness is measured against; None where the field's science window is closed.

    field_row
        Metrics and colours of the field as a whole, as a row named like the field; for checks on metrics.

    Yields
    ------
    dagster.AssetCheckResult
        One a check of `check_specs`, in that order.
    """
    rows = manifest.to_pylist()
    known = None if reference_ids is None else frozenset(reference_ids)
    context = Context(asset, _REQUIRED.get(asset, ()), known, now_mjd)
    for check in _TABLE_CHECKS.get(asset, ()):
        yield _result(asset, check.name, check.function(rows, context))
    judged = [*live(rows), *([] if field_row is None else [field_row])]
    for check in _metric_checks(asset):
        yield _result(asset, check.name, _metric_verdict(check, judged))


def _metric_checks(asset: str) -> list[Check]:
    """Return the checks of ``limits.toml`` that no table check of the same name takes over."""
    taken = {check.name for check in _TABLE_CHECKS.get(asset, ())}
    return [check for check in checks(asset) if check.name not in taken]


def _result(asset: str, name: str, verdict: Verdict) -> dg.AssetCheckResult:
    """Green passes, yellow and orange warn, red is an error."""
    severity = dg.AssetCheckSeverity.ERROR if verdict.colour == "red" else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        passed=verdict.colour in ("green", "none"),
        asset_key=asset,
        check_name=name,
        severity=severity,
        description=verdict.text,
        metadata={"colour": verdict.colour, **_plain(verdict.metadata)},
    )


def shown(value: float) -> float:
    """Return a number as the user interface shows it: with six significant digits."""
    return float(f"{value:.6g}")


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not finite: it would break the plotted series."""
    finite = {k: v for k, v in metadata.items() if not isinstance(v, float) or math.isfinite(v)}
    return {k: shown(v) if isinstance(v, float) else v for k, v in finite.items()}


def _metric_verdict(check: Check, rows: Sequence[Row]) -> Verdict:
    """Summarise the stored colours of a check over the exposures of a field."""
    colours = {row["exposure_id"]: _colour(check, row) for row in rows}
    counts = Counter(colours.values())
    judged = len(rows) - counts["none"]
    metadata: dict[str, Any] = {f"n_{colour}": counts[colour] for colour in COLOURS}
    for limit in check.limits:
        metadata |= _statistics(limit.metric, rows)
    if not judged:
        return Verdict("none", "Not applicable to any exposure.", metadata)
    verdict = worst(colours.values())
    # one bad exposure is quarantined and warns; a whole field of them is an error
    if verdict == "red" and counts["red"] < judged:
        verdict = "orange"
    text = ", ".join(f"{counts[c]} {c}" for c in COLOURS[1:] if counts[c])
    if verdict != "green":
        poor = sorted(rows, key=lambda row: -COLOURS.index(colours[row["exposure_id"]]))
        poor = [row for row in poor if colours[row["exposure_id"]] not in ("green", "none")]
        metadata["worst_exposures"] = ", ".join(row["exposure_id"] for row in poor[:5])
        text += f". Worst: {_explain(check, poor[0])}"
    return Verdict(verdict, f"{text}.", metadata)


def _colour(check: Check, row: Row) -> str:
    """Return the worst stored colour of a check's metrics; red where its reason stopped the exposure."""
    reason = (row.get("reason") or "").split(":")[0]
    if row.get("state") in ("rejected", "failed"):
        return "red" if reason in check.reasons else "none"
    return worst(row.get(f"colour_{limit.metric}") or "none" for limit in check.limits)


def _statistics(metric: str, rows: Sequence[Row]) -> dict[str, float]:
    """Return median, lowest and highest stored value of a metric."""
    values = sorted(v for row in rows if (v := row.get(f"metric_{metric}")) is not None)
    if not values:
        return {}
    return {
        f"{metric}_median": float(values[len(values) // 2]),
        f"{metric}_min": float(values[0]),
        f"{metric}_max": float(values[-1]),
    }


def _explain(check: Check, row: Row) -> str:
    """Say what is wrong with an exposure: value, unit, green range and, where it can be told, the cause."""
    if row.get("state") in ("rejected", "failed"):
        return f"{row['exposure_id']}: {row.get('reason')}"
    limit = max(check.limits, key=lambda one: COLOURS.index(row.get(f"colour_{one.metric}") or "none"))
    _, low, high = limit.ranges[0]
    value = row.get(f"metric_{limit.metric}")
    text = (
        f"{row['exposure_id']}: {limit.metric} {value:.4g} {limit.unit} "
        f"({row[f'colour_{limit.metric}']}; green {low:g} to {high:g})"
    )
    likely = _CAUSES[check.name](row) if check.name in _CAUSES else None
    return f"{text}; likely cause: {likely}" if likely else text
