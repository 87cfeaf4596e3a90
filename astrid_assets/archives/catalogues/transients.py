"""Reported transients: the daily table of public objects of the Transient Name Server."""

from __future__ import annotations

import csv
import zipfile
from datetime import UTC, datetime
from io import BytesIO, StringIO
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.votable import shown
from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["parse_tns"]

_CLASSIFIED, _UNCLASSIFIED = 0.99, 0.9
"""Confidence that a report is a real change: with a spectrum, and without."""

_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


def parse_tns(content: bytes) -> pa.Table:
    """Return the transients of ``tns_public_objects.csv``, zipped or not.

    The class is the spectroscopic type, or the prefix of the name (``AT``) without one.
    """
    lines = _text(content).splitlines()
    start = next((i for i, line in enumerate(lines[:3]) if line.replace('"', "").startswith("objid,")), None)
    if start is None:
        raise BadAnswerError(f"TNS: not a table of objects: {shown(content)}")
    rows = [row for row in csv.DictReader(StringIO("\n".join(lines[start:]))) if row["ra"]]
    return known_table(
        len(rows),
        object_id=[f"{row['name_prefix']} {row['name']}".strip() for row in rows],
        kind="transient",
        **{"class": [row["type"] or row["name_prefix"] for row in rows]},
        ra=_numbers(rows, "ra"),
        dec=_numbers(rows, "declination"),
        magnitude=_numbers(rows, "discoverymag"),
        magnitude_band=[row["filter"] or None for row in rows],
        redshift=_numbers(rows, "redshift"),
        discovered_mjd=[_mjd(row["discoverydate"]) for row in rows],
        catalogue="TNS",
        confidence=[_CLASSIFIED if row["type"] else _UNCLASSIFIED for row in rows],
    )


def _text(content: bytes) -> str:
    if content[:2] != b"PK":
        return content.decode("utf-8", "replace")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            return archive.read(archive.namelist()[0]).decode("utf-8", "replace")
    except (zipfile.BadZipFile, LookupError, EOFError) as error:
        raise BadAnswerError(f"TNS: broken zip: {error}") from error


def _numbers(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) if row.get(name) else np.nan for row in rows], dtype=float)


def _mjd(text: str | None) -> float | None:
    """Return a date of the server, UTC, as MJD."""
    if not text:
        return None
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH).total_seconds() / 86400.0
