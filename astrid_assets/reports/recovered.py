"""How many of the injected sources were found, over fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from astrid_assets.reports.scoring import WORKING_POINT
from astrid_assets.storage import Store
from astrid_assets.storage.layout import OUTPUTS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["recovered"]

_COLUMNS = ["kind", "counted", "snr_expected", "found"]


def recovered(names: Sequence[str], *, store: Store | None = None) -> dict[str, Any]:
    """Count the injected sources of some fields.

    What counts is the same as for the transients of the simulated survey: new light of points whose
    expected significance is 10 or more, on clean pixels where nothing was (``counted``); found is one that a
    candidate without an artefact flag stands for.

    Parameters
    ----------
    names
        Fields.

    store
        Where the results lie.

    Returns
    -------
    dict
        ``injections`` (all that were put in), ``injected`` (those that count), ``recovered`` (those of
        them that were found); None where no field has injections.
    """
    tables = [table for name in names if (table := _truth(name, store or Store())) is not None]
    if not tables:
        return dict.fromkeys(("injections", "injected", "recovered"))
    rows = [row for table in tables for row in table.select(_COLUMNS).to_pylist()]
    counted = [row for row in rows if _counts(row)]
    return {
        "injections": len(rows),
        "injected": len(counted),
        "recovered": sum(bool(row["found"]) for row in counted),
    }


def _truth(sky_field: str, store: Store) -> pa.Table | None:
    try:
        return store.read_table(f"{store.folder('injections', sky_field)}/{OUTPUTS['injections']}")
    except FileNotFoundError:
        return None


def _counts(row: dict[str, Any]) -> bool:
    expected = row["snr_expected"]
    return bool(row["counted"]) and abs(expected or 0.0) >= WORKING_POINT
