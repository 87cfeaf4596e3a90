"""Candidates beside known objects; a module of its own, so that a worker need not load Dagster for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from astrid_assets.compute import run_exposures

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Matching", "matched"]


@dataclass(frozen=True)
class Matching:
    """Candidates of a field and what they are matched with."""

    table: pa.Table
    """Candidates."""

    known: pa.Table
    """Known objects."""

    mjd: Mapping[str, float | None]
    """Middle of each exposure, MJD (UTC)."""

    options: Mapping[str, Any]
    """Options of `astrid_assets.science.catalogue.crossmatch`."""


def matched(work: Matching) -> pa.Table:
    """Return the candidates with the known objects beside them; done in a worker, which has the libraries."""
    outcome = next(run_exposures(_crossmatch, [work]))
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def _crossmatch(work: Matching) -> pa.Table:
    import pyarrow as pa

    from astrid_assets.science.catalogue import crossmatch

    table, names = work.table, work.table.column("exposure_id").to_pylist()
    ra, dec = (table.column(name).to_numpy() for name in ("ra", "dec"))
    times = [work.mjd.get(name) for name in names]
    mjd = pa.array(times, pa.float64()).to_numpy(zero_copy_only=False)
    found = crossmatch(ra, dec, names, mjd, work.known, **work.options)
    for field in found.schema:
        table = table.append_column(field, found.column(field.name))
    return table
