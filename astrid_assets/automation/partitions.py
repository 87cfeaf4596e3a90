"""Fields of the registry as partitions of the instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from astrid_assets.fields import Field, load_fields

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["missing_fields", "register_fields"]

_CHUNK = 500
"""Partitions added in one request; SQLite refuses tens of thousands (dagster issue 16260)."""


def missing_fields(instance: dg.DagsterInstance, fields: Sequence[Field] | None = None) -> list[Field]:
    """Return the fields that are no partitions yet; by default of the whole registry."""
    from astrid_assets.assets.common import sky_fields

    known = set(instance.get_dynamic_partitions(str(sky_fields.name)))
    chosen = list(load_fields().values()) if fields is None else fields
    return [field for field in chosen if field.name not in known]


def register_fields(instance: dg.DagsterInstance, fields: Sequence[Field]) -> None:
    """Make fields partitions that are none yet; nothing is ever removed, their history would go."""
    from astrid_assets.assets.common import sky_fields

    missing = [field.name for field in missing_fields(instance, fields)]
    for start in range(0, len(missing), _CHUNK):
        instance.add_dynamic_partitions(str(sky_fields.name), missing[start : start + _CHUNK])
