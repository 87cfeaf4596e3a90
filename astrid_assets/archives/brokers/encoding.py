"""Alerts of a broker as packets again: what is not handed out as a packet is written in ZTF's schema.

So that one reader is enough for all sources. A packet that was written here says so in ``publisher``.
"""

from __future__ import annotations

import gzip
import io
import math
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from astrid_assets.errors import BadAnswerError

__all__ = ["CHANNELS", "Detection", "by_number", "encode_packets", "gzipped_fits", "is_whole", "pack"]

CHANNELS = ("Science", "Template", "Difference")
"""Stamps of a packet."""

_MARKER = b"astrid re-encode"
"""Mark between the blocks of a file; always the same, so that equal alerts give equal bytes."""

_KINDS = {"double": float, "float": float, "int": int, "long": int, "string": str}
"""What holds a value of each type of the schema."""


@dataclass(frozen=True)
class Detection:
    """One alert as a broker tells it."""

    object_id: str
    """ZTF's name of the object."""

    candid: int
    """Number of the detection."""

    candidate: Mapping[str, Any]
    """What is known about it, by the names of ZTF's schema; others are left out."""

    stamps: Mapping[str, bytes | None] = field(repr=False, default_factory=dict)
    """FITS image (gzipped or not) by channel; None where the broker has none."""

    schema: str | None = None
    """Version of the schema that the broker got it in."""


def by_number(detections: Iterable[Detection]) -> list[Detection]:
    """Return alerts in order of their number, each once: pages overlap where alerts came in between them."""
    return [one for _, one in sorted({one.candid: one for one in detections}.items())]


def encode_packets(detections: Iterable[Detection], *, broker: str) -> bytes:
    """Return alerts as one Avro file in ZTF's schema.

    Every field may be null: what a broker does not tell is null, never a number that looks like one.

    Parameters
    ----------
    detections
        The alerts.

    broker
        Name of the broker, for the field ``publisher``.

    Raises
    ------
    BadAnswerError
        A value is not of the type that ZTF gave it.
    """
    import fastavro

    stream = io.BytesIO()
    records = [_record(detection, broker) for detection in detections]
    fastavro.writer(stream, _schema(), records, codec="null", sync_marker=_MARKER)
    return stream.getvalue()


def pack(files: Sequence[tuple[str, bytes]]) -> bytes:
    """Return packets, by file name, as a tar; equal packets give equal bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def gzipped_fits(image: np.ndarray) -> bytes:
    """Return an image as the gzipped FITS file of a packet."""
    from astropy.io import fits

    stream = io.BytesIO()
    fits.PrimaryHDU(np.asarray(image, ">f4")).writeto(stream)
    return gzip.compress(stream.getvalue(), compresslevel=1, mtime=0)


def is_whole(content: bytes) -> bool:
    """Tell whether something is an Avro file with at least one record, and all of it is there."""
    import fastavro

    try:
        return sum(block.num_records for block in fastavro.block_reader(io.BytesIO(content))) > 0
    except (ArithmeticError, LookupError, ValueError, EOFError, TypeError, MemoryError):
        return False


def _record(detection: Detection, broker: str) -> dict[str, Any]:
    told = detection.candidate
    candidate = {name: _value(told.get(name), kind, name) for name, kind in _fields().items()}
    record = {
        "schemavsn": detection.schema,
        "publisher": f"{broker}, re-encoded",
        "objectId": detection.object_id,
        "candid": detection.candid,
        "candidate": candidate | {"candid": detection.candid},
        "prv_candidates": None,
    }
    for channel in CHANNELS:
        content = detection.stamps.get(channel)
        name = f"candid{detection.candid}_{channel}.fits.gz"
        record[f"cutout{channel}"] = content and {"fileName": name, "stampData": content}
    return record


def _value(value: Any, kind: str, name: str) -> Any:
    """Return a value as the schema wants it; None for what is not there."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        return _KINDS[kind](value)
    except (TypeError, ValueError) as error:
        raise BadAnswerError(f"{name} of an alert is {value!r}, not of type {kind}") from error


@lru_cache(maxsize=1)
def _fields() -> dict[str, str]:
    """Return the type of each field of a detection."""
    from astrid_assets.archives.simulated.alert_schema import ALERT_SCHEMA

    candidate = next(f["type"] for f in ALERT_SCHEMA["fields"] if f["name"] == "candidate")
    return {f["name"]: f["type"] if isinstance(f["type"], str) else f["type"][0] for f in candidate["fields"]}


@lru_cache(maxsize=1)
def _schema() -> Any:
    """Return ZTF's schema with every field of a detection, and its version, allowed to be null."""
    import fastavro

    from astrid_assets.archives.simulated.alert_schema import ALERT_SCHEMA

    def changed(entry: dict[str, Any]) -> dict[str, Any]:
        if entry["name"] == "schemavsn":
            return {"name": "schemavsn", "type": ["string", "null"], "default": None}
        if entry["name"] != "candidate":
            return entry
        fields = [{"name": n, "type": [k, "null"], "default": None} for n, k in _fields().items()]
        return {"name": "candidate", "type": {**entry["type"], "fields": fields}}

    return fastavro.parse_schema({**ALERT_SCHEMA, "fields": [changed(f) for f in ALERT_SCHEMA["fields"]]})
