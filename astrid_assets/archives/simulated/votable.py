"""VOTables as the services write them, from columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

__all__ = ["votable"]


def votable(
    fields: Sequence[tuple[str, str, str]],
    columns: Sequence[Sequence[str]],
    *,
    infos: Mapping[str, str],
    params: Mapping[str, str] | None = None,
) -> bytes:
    """Return a VOTable 1.4 with one table.

    Parameters
    ----------
    fields
        Name, data type (``double``, ``long``, ``char`` ...) and unit of each column.

    columns
        Their values as text; empty for a missing one.

    infos
        INFO elements of the resource by name; QUERY_STATUS OK comes first.

    params
        PARAM elements of the resource by name.
    """
    head = "".join(_field(*field) for field in fields)
    rows = "".join(
        f"<TR>{''.join(f'<TD>{escape(value)}</TD>' for value in row)}</TR>\n"
        for row in zip(*columns, strict=True)
    )
    info = "".join(
        f"<INFO name={quoteattr(name)} value={quoteattr(value)}/>\n"
        for name, value in {"QUERY_STATUS": "OK", **infos}.items()
    )
    param = "".join(
        f'<PARAM name={quoteattr(name)} datatype="char" arraysize="*" value={quoteattr(value)}/>\n'
        for name, value in (params or {}).items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
        f'<RESOURCE type="results">\n{info}{param}<TABLE>\n{head}'
        f"<DATA>\n<TABLEDATA>\n{rows}</TABLEDATA>\n</DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n"
    ).encode()


def _field(name: str, kind: str, unit: str) -> str:
    size = ' arraysize="*"' if kind == "char" else ""
    unit = f" unit={quoteattr(unit)}" if unit else ""
    return f'<FIELD name={quoteattr(name)} datatype="{kind}"{size}{unit}/>\n'
