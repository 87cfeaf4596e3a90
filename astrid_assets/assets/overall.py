"""What is made of all fields together: done again when any of its inputs changed, in a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from astrid_assets.compute import run_exposures
from astrid_assets.storage.layout import RELEASE_FOLDERS
from astrid_assets.storage.manifest import is_done

if TYPE_CHECKING:
    from astrid_assets.fields import Field
    from astrid_assets.storage.store import Row, Store

__all__ = ["ROW", "Summary", "bring_up_to_date"]

ROW = "row.json"
"""File of the row of an asset that holds all fields; it is written last."""


@dataclass(frozen=True)
class Summary:
    """What is to be told about all fields."""

    asset: str
    """``data_catalog`` or ``exploration_notebook``."""

    store: Store
    """Where results lie and go."""

    identity: Mapping[str, str]
    """``input_sha256``, ``parameter_hash`` and ``code_version``."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the asset."""

    fields: tuple[Field, ...] = ()
    """Fields of the registry."""

    checks: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Results of the checks of each field."""

    release: Mapping[str, Any] | None = None
    """The newest training release."""

    @property
    def row_path(self) -> str:
        """File of the row, relative to the root."""
        return f"{RELEASE_FOLDERS[self.asset]}/{ROW}"


def bring_up_to_date(summary: Summary, *, force: bool) -> tuple[Row, bool]:
    """Make an asset of all fields where it is not what it should be.

    Parameters
    ----------
    summary
        What is to be told.

    force
        Whether to make it in any case.

    Returns
    -------
    row, new
        Its row, and whether it was made now.
    """
    row = _last(summary)
    if not force and is_done(row, summary.store, **summary.identity):
        return row, False
    outcome = next(run_exposures(_make, [summary]))
    if outcome.error is not None:
        raise outcome.error
    return outcome.result, True


def _last(summary: Summary) -> Row | None:
    try:
        return json.loads(summary.store.path(summary.row_path).read_bytes())
    except FileNotFoundError:
        return None


def _make(summary: Summary) -> Row:
    """Called in a worker, which has the libraries at hand."""
    from astrid_assets.assets.recipes.reporting import OVERALL

    return OVERALL[summary.asset](summary)
