"""Tables whose columns say what they hold: one schema from names, types, units and descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["described_schema"]


def described_schema(columns: Mapping[str, tuple[str, str, str]]) -> pa.Schema:
    """Return the schema of a table; each column carries its unit and description.

    Parameters
    ----------
    columns
        Type (an alias of pyarrow), unit and description of each column, in order.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field(name, pa.type_for_alias(kind), metadata={"unit": unit, "description": text})
            for name, (kind, unit, text) in columns.items()
        ]
    )
