"""Lasair: objects by SQL, their light curves with links to stamps, for those who have a token.

An account has 100 calls an hour. So objects are found by one query rather than by the cone search,
which ends at 1000 arcsec and knows no time; a night with n objects takes 1 + n / 10 calls and the
stamps. Light curves hold 15 of the 103 fields of a packet (no place on the detector, no ``rb``): the
rest is null in what is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import cos, radians
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from astrid_assets.archives.alerts import stamp_image
from astrid_assets.archives.brokers.encoding import CHANNELS, Detection, encode_packets
from astrid_assets.archives.brokers.night import Night, asked_for, parse_json, shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import AuthenticationNeededError, BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.archives.protocol import Cone
    from astrid_assets.archives.transport import Transport

__all__ = [
    "Candidate",
    "fetch",
    "objects_request",
    "parse_objects",
    "parse_query",
    "parse_stamp",
    "query_request",
    "stamp_request",
]

_LIMIT, _LEAST = 10_000, 1_000
"""Rows that are asked for (the most for an account), and the most for a visitor: fewer are the last page."""

_BATCH = 10
"""Most objects in one call (Lasair's client)."""

_MARGIN = 5.0 / 3600.0
"""Degrees added to the radius: objects are found by their mean position, alerts are chosen by their own."""

_NAME = "Lasair"

Candidate = tuple[Detection, Mapping[str, str]]
"""An alert without stamps, and where each of them is."""


def query_request(night: Night, cone: Cone, *, token: str, offset: int = 0) -> Request:
    """Return the question for objects in a box around a circle whose detections span a night."""
    start, end = night.jd
    form = (
        ("selected", "objects.objectId"),
        ("tables", "objects"),
        (
            "conditions",
            f"objects.jdmin < {end} AND objects.jdmax >= {start} AND {_box(cone)} ORDER BY objects.objectId",
        ),
        ("limit", str(_LIMIT)),
        ("offset", str(offset)),
    )
    return _request("/api/query/", form, token, night)


def parse_query(content: bytes) -> list[str]:
    """Return the names of the objects that a query found.

    Raises
    ------
    BadAnswerError
        It reports an error, or is no table.
    """
    try:
        return [str(row["objectId"]) for row in _rows(content)]
    except (LookupError, TypeError) as error:
        raise BadAnswerError(f"{_NAME}: no objects: {shown(content)}") from error


def objects_request(objects: Sequence[str], night: Night, *, token: str) -> Request:
    """Return the question for the light curves of some objects, at most 10."""
    return _request("/api/objects/", (("objectIds", ",".join(objects)),), token, night)


def parse_objects(content: bytes) -> list[Candidate]:
    """Return the alerts of some objects; upper limits are left out.

    Raises
    ------
    BadAnswerError
        It reports an error, or is no list of objects.
    """
    found = []
    try:
        for entry in _rows(content):
            for row in entry["candidates"] if entry else ():
                if row.get("candid"):
                    detection = Detection(str(entry["objectId"]), int(row["candid"]), row)
                    found.append((detection, dict(row.get("image_urls") or {})))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswerError(f"{_NAME}: no light curves: {shown(content)}") from error
    return found


def stamp_request(url: str) -> Request:
    """Return the question for a stamp, by the link of a light curve.

    Only the path of a link is used: links name the machine that made them, not always the one that is asked.
    """
    path = urlsplit(url).path
    return Request("lasair_stamps", path, kind="alerts", expects="fits", nothing=frozenset({404}))


def parse_stamp(content: bytes) -> bytes:
    """Return a stamp as it was sent, a FITS file.

    Raises
    ------
    BadAnswerError
        It is no image, or only a part of one.
    """
    if stamp_image(content) is None:
        raise BadAnswerError(f"{_NAME}: no stamp: {shown(content)}")
    return content


def fetch(transport: Transport, night: Night, cone: Cone) -> bytes:
    """Return the alerts of a night in a circle, as one Avro file.

    Raises
    ------
    AuthenticationNeededError
        There is no token in ``LASAIR_TOKEN``.

    ArchiveUnavailableError, NoCoverageError, BadAnswerError
        As of the network; NoCoverageError where there is no alert.
    """
    token = transport.token("lasair")
    if token is None:
        raise AuthenticationNeededError("Lasair wants a token; put it into LASAIR_TOKEN")
    objects = list(_objects(transport, night, cone, token))
    found = {
        candidate[0].candid: candidate
        for some in (objects[i : i + _BATCH] for i in range(0, len(objects), _BATCH))
        for candidate in parse_objects(transport.ask(objects_request(some, night, token=token)).content)
        if asked_for(candidate[0].candidate, night, cone)
    }
    if not found:
        raise NoCoverageError(f"{_NAME} has no alert in the circle on {night.date}")
    in_order = (candidate for _, candidate in sorted(found.items()))
    return encode_packets((_with_stamps(transport, *candidate) for candidate in in_order), broker=_NAME)


def _box(cone: Cone) -> str:
    """Return the condition for a box around a circle, also across 0 h and at the poles."""
    radius = cone.radius + _MARGIN
    low, high = cone.dec - radius, cone.dec + radius
    box = f"objects.decmean BETWEEN {low:.8f} AND {high:.8f}"
    if max(abs(low), abs(high)) >= 89.0:
        return box
    half = radius / cos(radians(max(abs(low), abs(high))))
    if half >= 180.0:
        return box
    west, east = (cone.ra - half) % 360.0, (cone.ra + half) % 360.0
    word = "AND" if west <= east else "OR"
    return f"{box} AND (objects.ramean >= {west:.8f} {word} objects.ramean <= {east:.8f})"


def _request(path: str, form: tuple[tuple[str, str], ...], token: str, night: Night) -> Request:
    return Request(
        "lasair",
        path,
        kind="alerts",
        expects="json",
        form=form,
        headers=(("Authorization", f"Token {token}"), *night.headers),
        secret=frozenset({"Authorization"}),
    )


def _rows(content: bytes) -> list[Any]:
    if content.lstrip()[:1] == b"{":
        error = parse_json(content, _NAME, dict).get("error") or shown(content)
        raise BadAnswerError(f"{_NAME}: {error}")
    return parse_json(content, _NAME, list)


def _objects(transport: Transport, night: Night, cone: Cone, token: str) -> Iterator[str]:
    offset = 0
    while True:
        request = query_request(night, cone, token=token, offset=offset)
        page = parse_query(transport.ask(request).content)
        yield from page
        offset += len(page)
        if len(page) < _LEAST:
            return


def _with_stamps(transport: Transport, row: Detection, links: Mapping[str, str]) -> Detection:
    stamps = {channel: _stamp(transport, links[channel]) for channel in CHANNELS if channel in links}
    return replace(row, stamps=stamps)


def _stamp(transport: Transport, url: str) -> bytes | None:
    try:
        return parse_stamp(transport.ask(stamp_request(url)).content)
    except NoCoverageError:  # old stamps are removed; the alert stays, its stamp is marked as missing
        return None
