"""Fink: objects in a circle, their alerts with all fields of the packet, and stamps as arrays.

Packets are not handed out by the service, so they are written anew from columns ``i:`` and stamps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.brokers.encoding import (
    CHANNELS,
    Detection,
    by_number,
    encode_packets,
    gzipped_fits,
)
from astrid_assets.archives.brokers.night import Night, asked_for, parse_json, shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError, ConfigurationError, NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.archives.protocol import Cone
    from astrid_assets.archives.transport import Transport

__all__ = [
    "alerts_request",
    "cone_request",
    "cutouts_request",
    "fetch",
    "parse_alerts",
    "parse_cutouts",
    "parse_objects",
]

_RADIUS = 5.0
"""Largest radius of a circle, degrees (18000 arcsec: documentation of ``/api/v1/conesearch``)."""

_MARGIN = 5.0
"""Arcsec added to the radius: objects are found by one of their alerts, alerts chosen by their own place."""

_FIRST = "2017-01-01 00:00:00"
"""A time before the survey: a circle with an end needs a begin."""

_MOST = 100_000
"""Most alerts that are looked through for a circle; the service takes 1000 where nothing is said."""

_BATCH = 20
"""Objects in one question (own choice)."""

_NAME = "Fink"


def cone_request(night: Night, cone: Cone) -> Request:
    """Return the question for objects in a circle that were first seen before the end of a night.

    The dates of Fink are those of the first detection of an object, not of its alerts; so the begin
    is left open.

    Raises
    ------
    ConfigurationError
        The circle is larger than Fink takes.
    """
    from astrid_assets.clock import from_mjd

    radius = cone.radius + _MARGIN / 3600.0
    if radius > _RADIUS:
        raise ConfigurationError(
            f"Fink takes circles up to {_RADIUS:g} degrees, not {radius:.3f}; "
            "make the field smaller, or choose alerts.source: nightly"
        )
    body = {
        "ra": round(cone.ra, 8),
        "dec": round(cone.dec, 8),
        "radius": round(3600.0 * radius, 3),
        "startdate": _FIRST,
        "stopdate": f"{from_mjd(night.mjd + 1):%Y-%m-%d %H:%M:%S}",
        "n": _MOST,
        "output-format": "json",
    }
    return Request("fink", "/api/v1/conesearch", kind="alerts", expects="json", json=body)


def parse_objects(content: bytes) -> list[str]:
    """Return the names of the objects of a circle.

    Raises
    ------
    BadAnswerError
        It is no table of alerts, or one that was cut off.
    """
    rows = _rows(content)
    if len(rows) >= _MOST:
        raise BadAnswerError(f"{_NAME}: more than {_MOST} alerts in the circle; make the field smaller")
    try:
        return sorted({str(row["i:objectId"]) for row in rows})
    except (LookupError, TypeError) as error:
        raise BadAnswerError(f"{_NAME}: no objects: {shown(content)}") from error


def alerts_request(objects: Sequence[str], night: Night) -> Request:
    """Return the question for all alerts of some objects."""
    body = {"objectId": ",".join(objects), "output-format": "json"}
    return Request("fink", "/api/v1/objects", kind="alerts", expects="json", json=body, headers=night.headers)


def parse_alerts(content: bytes) -> list[Detection]:
    """Return the alerts of some objects, without stamps; columns of Fink's own (``d:``, ``v:``) are left out.

    Raises
    ------
    BadAnswerError
        It is no table of alerts.
    """
    found = []
    for row in _rows(content):
        told = {name[2:]: value for name, value in row.items() if name.startswith("i:")}
        try:
            found.append(
                Detection(str(told["objectId"]), int(told["candid"]), told, schema=told.get("schemavsn"))
            )
        except (LookupError, TypeError, ValueError) as error:
            raise BadAnswerError(f"{_NAME}: no alerts: {shown(content)}") from error
    return found


def cutouts_request(object_id: str, candid: int) -> Request:
    """Return the question for the three stamps of an alert: as arrays in one answer, not as three files."""
    body = {"objectId": object_id, "candid": str(candid), "kind": "All", "output-format": "array"}
    return Request("fink", "/api/v1/cutouts", kind="alerts", expects="json", json=body)


def parse_cutouts(content: bytes) -> dict[str, bytes | None]:
    """Return the stamps of an alert, by channel, as a packet has them. Rows are in the order of the packet.

    Raises
    ------
    BadAnswerError
        A stamp is no array.
    """
    import numpy as np

    document, stamps = parse_json(content, _NAME, dict), {}
    for channel in CHANNELS:
        rows = document.get(f"b:cutout{channel}_stampData")
        try:
            image = np.array(rows or [], dtype=float)  # null becomes NaN
        except (TypeError, ValueError) as error:
            raise BadAnswerError(f"{_NAME}: stamp {channel} is no array: {shown(content)}") from error
        if image.size and image.ndim != 2:
            raise BadAnswerError(f"{_NAME}: stamp {channel} has {image.ndim} axes")
        stamps[channel] = gzipped_fits(image) if image.size else None
    return stamps


def fetch(transport: Transport, night: Night, cone: Cone) -> bytes:
    """Return the alerts of a night in a circle, as one Avro file.

    Raises
    ------
    ArchiveUnavailableError, NoCoverageError, BadAnswerError, ConfigurationError
        As of the network; NoCoverageError where there is no alert.
    """
    objects = parse_objects(transport.ask(cone_request(night, cone)).content)
    rows = [
        row
        for some in (objects[i : i + _BATCH] for i in range(0, len(objects), _BATCH))
        for row in parse_alerts(transport.ask(alerts_request(some, night)).content)
        if asked_for(row.candidate, night, cone)
    ]
    if not rows:
        raise NoCoverageError(f"{_NAME} has no alert in the circle on {night.date}")
    return encode_packets((_with_stamps(transport, row) for row in by_number(rows)), broker=_NAME)


def _rows(content: bytes) -> list[dict[str, Any]]:
    rows = parse_json(content, _NAME, list)
    if not all(isinstance(row, dict) for row in rows):
        raise BadAnswerError(f"{_NAME}: no table: {shown(content)}")
    return rows


def _with_stamps(transport: Transport, row: Detection) -> Detection:
    answer = transport.ask(cutouts_request(row.object_id, row.candid))
    return replace(row, stamps=parse_cutouts(answer.content))
