"""Public alerts: ZTF's packets as its stream, its archive and the brokers hand them out.

A packet is an Avro record with its schema (2018 to 4.01); it comes alone, with others in one file, or in a
tar. Its three stamps are gzipped FITS images without world coordinates.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from astrid_assets.archives.alert_columns import ALERT_COLUMNS, alert_schema
from astrid_assets.errors import BadAnswerError
from astrid_assets.images.triplets import CHANNELS, STAMP_BITS, Triplets

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "STAMP_SIZE",
    "Packet",
    "alert_table",
    "alert_triplets",
    "decode_stamps",
    "label_of",
    "packet_files",
    "read_packets",
    "stamp_image",
]

STAMP_SIZE = 63
"""Side of a stamp, pixels."""

_CUTOUTS = dict(zip(CHANNELS, ("cutoutScience", "cutoutTemplate", "cutoutDifference"), strict=True))
"""Name in the packet of each channel."""

_BANDS = {1: "g", 2: "r", 3: "i"}
"""Filter by ``fid``."""

_SENTINEL = -999.0
"""What stands for "no value" in the packets; below it are other ones (-99999)."""

_HUGE = 1e30
"""Pixels beyond hold no measurement: templates are filled with the largest float32 where they end."""

_QUADRANT = 3072, 3080
"""Columns and rows of a readout channel (Bellm et al. 2019)."""

_BROKEN = (
    ArithmeticError,
    LookupError,
    ValueError,
    EOFError,
    TypeError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What the Avro reader raises on a file that is cut off or damaged."""

_REAL, _BOGUS, _BOGUS_RB = 0.65, 0.10, 0.30
"""Real from drb 0.65 on, bogus below drb 0.1 and rb 0.3, else undecided (ZTF's notes on filtering alerts)."""

_ASTEROID_DISTANCE = 5.0
"""Arcsec from the predicted place of a known asteroid within which an alert is that asteroid."""


@dataclass(frozen=True, eq=False)
class Packet:
    """One alert."""

    object_id: str
    """ZTF's name of the object."""

    candid: str
    """Number of the detection; 64 bits, so a text."""

    mjd: float
    """Begin of the exposure, MJD (UTC)."""

    ra: float
    """ICRS degrees."""

    dec: float
    """ICRS degrees."""

    band: str
    """Filter."""

    magnitude: float | None
    """AB magnitude of the absolute difference flux."""

    magnitude_error: float | None
    """Its 1-sigma error."""

    positive: bool
    """Brighter than in the template. The difference stamp always shows the change as positive."""

    rb: float | None
    """Real-bogus score of the random forest, 0 to 1."""

    drb: float | None
    """Real-bogus score of the network; absent before schema 3.3."""

    solar_system_name: str | None
    """Known asteroid nearby."""

    solar_system_distance: float | None
    """Its separation, arcsec."""

    x: float | None
    """Column in the readout channel, 1-based as in the packet."""

    y: float | None
    """Row."""

    schema: str | None
    """Version of the schema; None in 2018."""

    publisher: str | None
    """Who wrote the packet: ZTF, or a broker that has encoded it anew; None in 2018."""

    stamps: Mapping[str, bytes | None] = field(repr=False, default_factory=dict)
    """Gzipped FITS by channel; None where the packet has none."""

    candidate: Mapping[str, Any] = field(repr=False, default_factory=dict)
    """All fields of the detection as they came."""


# --- reading --------------------------------------------------------------------------------------


def read_packets(source: Path | str | bytes) -> Iterator[Packet]:
    """Yield the alerts of a file: a packet, a file of several, or a tar (also gzipped) of such files.

    Tars are streamed, never unpacked to disk. Needs ``cramjam`` for records that a broker has
    compressed with snappy.

    Raises
    ------
    BadAnswerError
        The file is no Avro, is cut off or damaged. What can be read is yielded first: the records before
        the fault, and all other packets of a tar.
    """
    name = "packet" if isinstance(source, bytes) else Path(source).name
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as stream:
        yield from _read_stream(stream, name)


def _read_stream(stream: BinaryIO, name: str) -> Iterator[Packet]:
    head = stream.read(512)
    stream.seek(0)
    if head[:4] == b"Obj\x01":
        yield from _read_avro(stream, name)
    elif head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar":
        yield from _read_tar(stream, name)
    else:
        raise BadAnswerError(f"{name}: neither Avro nor tar")


def packet_files(stream: BinaryIO, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files of a tar (also gzipped) that are packets, as a stream.

    Parameters
    ----------
    stream
        The tar, at its begin.

    name
        Its name, for the message.

    Raises
    ------
    BadAnswerError
        The tar is none, is cut off or damaged; what comes before the fault is yielded first.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and member.name.endswith(".avro"):
                    yield member.name, content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise BadAnswerError(f"{name}: broken tar: {error}") from error


def _read_tar(stream: BinaryIO, name: str) -> Iterator[Packet]:
    faults: list[str] = []
    try:
        for member, content in packet_files(stream, name):
            yield from _read_member(content, member, faults)
    except BadAnswerError as error:
        faults.append(str(error).removeprefix(f"{name}: "))
    if faults:
        raise BadAnswerError(f"{name}: {'; '.join(faults[:3])}{' ...' if len(faults) > 3 else ''}")


def _read_member(content: bytes, name: str, faults: list[str]) -> Iterator[Packet]:
    """Yield the alerts of one file of a tar; note a fault and go on."""
    try:
        yield from _read_avro(io.BytesIO(content), name)
    except BadAnswerError as error:
        faults.append(str(error))


def _read_avro(stream: BinaryIO, name: str) -> Iterator[Packet]:
    import fastavro

    try:
        for record in fastavro.reader(stream):
            yield _packet(record)
    except _BROKEN as error:
        raise BadAnswerError(f"{name}: broken Avro: {' '.join(str(error).split())[:200]}") from error


def _packet(record: Mapping[str, Any]) -> Packet:
    candidate = record["candidate"]
    return Packet(
        object_id=record["objectId"],
        candid=str(record.get("candid") or candidate["candid"]),
        mjd=candidate["jd"] - 2400000.5,
        ra=candidate["ra"],
        dec=candidate["dec"],
        band=_BANDS[candidate["fid"]],
        magnitude=_number(candidate.get("magpsf")),
        magnitude_error=_number(candidate.get("sigmapsf")),
        positive=str(candidate["isdiffpos"]).lower() in {"t", "1", "true"},
        rb=_number(candidate.get("rb")),
        drb=_number(candidate.get("drb")),
        solar_system_name=_text(candidate.get("ssnamenr")),
        solar_system_distance=_number(candidate.get("ssdistnr")),
        x=_number(candidate.get("xpos")),
        y=_number(candidate.get("ypos")),
        schema=_text(record.get("schemavsn")),
        publisher=_text(record.get("publisher")),
        stamps={channel: _stamp_data(record.get(key)) for channel, key in _CUTOUTS.items()},
        candidate=candidate,
    )


def _stamp_data(cutout: Mapping[str, Any] | None) -> bytes | None:
    return (cutout or {}).get("stampData") or None


def _number(value: float | None) -> float | None:
    """Return a number, None for missing ones, sentinels and what is not finite."""
    if value is None or not np.isfinite(value) or value <= _SENTINEL:
        return None
    return float(value)


def _text(value: str | None) -> str | None:
    """Return a text; the packets spell "none" as ``null``."""
    return None if value in (None, "", "null", "None") else str(value).strip()


# --- stamps ---------------------------------------------------------------------------------------


def decode_stamps(packet: Packet) -> tuple[np.ndarray, np.ndarray]:
    """Return the three stamps of an alert, source in the middle, and what is wrong with their pixels.

    Stamps clipped at the edge of the detector are padded on the side where they were clipped (or
    evenly, where the packet does not say). Values are those of the packet: science and template
    with their sky, the difference with the sign that makes the change positive.

    Returns
    -------
    stamps : float32 ``(3, 63, 63)``
        Channels as `astrid_assets.images.triplets.CHANNELS`; NaN where there is no measurement.

    mask : uint8 ``(3, 63, 63)``
        Bits of `STAMP_BITS`: OUTSIDE where padded, MISSING where the packet has no value.
    """
    stamps = np.full((len(CHANNELS), STAMP_SIZE, STAMP_SIZE), np.nan, np.float32)
    mask = np.full(stamps.shape, STAMP_BITS["MISSING"], np.uint8)
    for channel, name in enumerate(CHANNELS):
        content = packet.stamps.get(name)
        image = None if content is None else stamp_image(content)
        if image is None:
            continue
        mask[channel] = STAMP_BITS["OUTSIDE"]
        (to_y, from_y), (to_x, from_x) = (
            _overlap(length, position, size)
            for length, position, size in zip(image.shape, (packet.y, packet.x), _QUADRANT[::-1], strict=True)
        )
        piece = image[from_y, from_x]
        good = np.isfinite(piece) & (np.abs(piece) < _HUGE)
        stamps[channel, to_y, to_x] = np.where(good, piece, np.nan)
        mask[channel, to_y, to_x] = np.where(good, 0, STAMP_BITS["MISSING"])
    return stamps, mask


def stamp_image(content: bytes) -> np.ndarray | None:
    """Return the image of a stamp (FITS, gzipped or not) as float64; None where none can be read."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    try:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        with warnings.catch_warnings():  # their headers begin with a SIMPLE card of free format
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(io.BytesIO(plain), memmap=False) as hdus:
                data = next((hdu.data for hdu in hdus if hdu.data is not None), None)
    except (OSError, EOFError, ValueError, TypeError, LookupError, zlib.error):
        return None
    return data.astype(np.float64) if data is not None and data.ndim == 2 and data.size else None


def _overlap(length: int, position: float | None, size: int) -> tuple[slice, slice]:
    """Return where a side of a stamp goes and what of it is taken."""
    if length >= STAMP_SIZE:
        start = (length - STAMP_SIZE) // 2
        return slice(0, STAMP_SIZE), slice(start, start + STAMP_SIZE)
    lack = STAMP_SIZE - length
    before = lack // 2
    if position is not None and position < STAMP_SIZE / 2 + 1:
        before = lack
    elif position is not None and position > size - STAMP_SIZE / 2:
        before = 0
    return slice(before, before + length), slice(0, length)


def alert_triplets(packets: Sequence[Packet]) -> Triplets:
    """Return the stamps of alerts as triplets; ``x`` and ``y`` are pixels of the detector, -1 if unknown."""
    count, shape = len(packets), (STAMP_SIZE, STAMP_SIZE)
    decoded = [decode_stamps(packet) for packet in packets]
    return Triplets(
        stamps=np.array([s for s, _ in decoded], np.float32).reshape(count, len(CHANNELS), *shape),
        mask=np.array([m for _, m in decoded], np.uint8).reshape(count, len(CHANNELS), *shape),
        score=np.full((count, *shape), np.nan, np.float32),
        x=np.array([-1 if p.x is None else round(p.x) - 1 for p in packets], np.int32),
        y=np.array([-1 if p.y is None else round(p.y) - 1 for p in packets], np.int32),
    )


# --- labels and table -----------------------------------------------------------------------------


def label_of(packet: Packet) -> tuple[int, str, float | None]:
    """Return what a packet itself says: label (1 real, 0 bogus, -1 undecided), its source and confidence.

    Only the match with a known asteroid is knowledge; scores of real-bogus classifiers are
    pseudo-labels, and named so.
    """
    distance = packet.solar_system_distance
    if packet.solar_system_name and distance is not None and 0 <= distance <= _ASTEROID_DISTANCE:
        return 1, "solar_system_match", 0.98
    if packet.drb is None:
        return -1, "none", None
    if packet.drb >= _REAL:
        return 1, "drb", float(packet.drb)
    if packet.drb < _BOGUS and (packet.rb is None or packet.rb < _BOGUS_RB):
        return 0, "drb", 1.0 - float(packet.drb)
    return -1, "none", None


def alert_table(packets: Sequence[Packet], *, night: str, packet: str, stamps: str) -> pa.Table:
    """Return the table of some alerts.

    Parameters
    ----------
    packets
        The alerts, in the order of their stamps.

    night
        Name of the row of the manifest.

    packet, stamps
        Files of the packets and of the stamps, relative to the data folder.
    """
    import pyarrow as pa

    schema = alert_schema()
    places = {"night": night, "packet": packet, "stamps": stamps}
    rows = [_table_row(p) | places | {"stamp": i} for i, p in enumerate(packets)]
    return pa.table({name: [row[name] for row in rows] for name in schema.names}, schema=schema)


def _table_row(packet: Packet) -> dict[str, Any]:
    label, source, confidence = label_of(packet)
    row = {
        name: getattr(packet, name) for name in ALERT_COLUMNS if hasattr(packet, name) and name != "stamps"
    }
    return row | {
        "schema_version": packet.schema,
        "label": label,
        "label_source": source,
        "label_confidence": confidence,
    }
