"""Kowalski: whole alerts by position and time, for those who have an account there.

Documents of its database are JSON as MongoDB writes it. They hold the fields and stamps of the packet,
but not the packet itself, so it is written anew.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.brokers.encoding import CHANNELS, Detection, by_number, encode_packets
from astrid_assets.archives.brokers.night import Night, asked_for, parse_json, shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import AuthenticationNeededError, BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.archives.protocol import Cone
    from astrid_assets.archives.transport import Transport

__all__ = ["cone_request", "fetch", "parse_alerts"]

_CATALOGUE, _CIRCLE = "ZTF_alerts", "field"
"""Collection of the database, and our name of the circle."""

_PAGE_SIZE = 100
"""Alerts in one answer: about 10 MB (own choice)."""

_PUBLIC = 1
"""``programid`` of the public survey; an account may see others."""

_WANTED = ("objectId", "candid", "schemavsn", "candidate", *(f"cutout{channel}" for channel in CHANNELS))
_NAME = "Kowalski"


def cone_request(night: Night, cone: Cone, *, token: str, skip: int = 0) -> Request:
    """Return the question for the public alerts of a night in a circle, without the first `skip`."""
    start, end = night.jd
    wanted = {
        "filter": {"candidate.jd": {"$gte": start, "$lt": end}, "candidate.programid": _PUBLIC},
        "projection": {"_id": 0, **dict.fromkeys(_WANTED, 1)},
    }
    circle = {
        "radec": {_CIRCLE: [round(cone.ra, 8), round(cone.dec, 8)]},
        "cone_search_radius": round(3600.0 * cone.radius, 3),
        "cone_search_unit": "arcsec",
    }
    body = {
        "query_type": "cone_search",
        "query": {"object_coordinates": circle, "catalogs": {_CATALOGUE: wanted}},
        "kwargs": {"limit": _PAGE_SIZE, "skip": skip, "sort": [["candid", 1]]},
    }
    return Request(
        "kowalski",
        "/api/queries",
        kind="alerts",
        expects="json",
        json=body,
        headers=(("Authorization", token),),
        secret=frozenset({"Authorization"}),
    )


def parse_alerts(content: bytes) -> list[Detection]:
    """Return the alerts of an answer.

    Raises
    ------
    BadAnswerError
        The answer says that the query failed, or is none.
    """
    document = parse_json(content, _NAME, dict)
    if document.get("status") != "success":
        raise BadAnswerError(f"{_NAME}: query failed: {document.get('message') or shown(content)}")
    try:
        return [_detection(_plain(row)) for row in document["data"][_CATALOGUE][_CIRCLE]]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswerError(f"{_NAME}: no alerts: {shown(content)}") from error


def fetch(transport: Transport, night: Night, cone: Cone) -> bytes:
    """Return the alerts of a night in a circle, as one Avro file.

    Raises
    ------
    AuthenticationNeededError
        There is no token in ``KOWALSKI_TOKEN``.

    ArchiveUnavailableError, NoCoverageError, BadAnswerError
        As of the network; NoCoverageError where there is no alert.
    """
    token = transport.token("kowalski")
    if token is None:
        raise AuthenticationNeededError("Kowalski wants a token; put it into KOWALSKI_TOKEN")
    rows: list[Detection] = []
    while True:
        request = cone_request(night, cone, token=token, skip=len(rows))
        page = parse_alerts(transport.ask(request).content)
        rows += page
        if len(page) < _PAGE_SIZE:
            break
    mine = [row for row in rows if asked_for(row.candidate, night, cone)]
    if not mine:
        raise NoCoverageError(f"{_NAME} has no alert in the circle on {night.date}")
    return encode_packets(by_number(mine), broker=_NAME)


def _detection(row: Mapping[str, Any]) -> Detection:
    stamps = {channel: (row.get(f"cutout{channel}") or {}).get("stampData") for channel in CHANNELS}
    return Detection(str(row["objectId"]), int(row["candid"]), row["candidate"], stamps, row.get("schemavsn"))


def _plain(value: Any) -> Any:
    """Return a value of MongoDB's extended JSON as Python has it: numbers and bytes."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$binary" in value:
        return _bytes(value["$binary"])
    if "$numberLong" in value or "$numberInt" in value:
        return int(value.get("$numberLong", value.get("$numberInt")))
    if "$numberDouble" in value:
        return float(value["$numberDouble"])
    return {name: _plain(item) for name, item in value.items()}


def _bytes(value: Any) -> bytes:
    """Return bytes; newer servers write them with their type, older ones as a bare text."""
    text = value["base64"] if isinstance(value, dict) else value
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadAnswerError(f"{_NAME}: a stamp is not base64") from error
