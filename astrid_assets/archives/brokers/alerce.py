"""ALeRCE: objects in a circle, their detections, and the packets as ZTF sent them.

Own requests rather than the package ``alerce``: it knows no time-out and no retry, and takes a page of
HTML for a gzipped stamp (``alerce`` 2.3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.alerts import stamp_image
from astrid_assets.archives.brokers.encoding import CHANNELS, Detection, encode_packets, is_whole, pack
from astrid_assets.archives.brokers.night import Night, asked_for, parse_json, shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.archives.protocol import Cone
    from astrid_assets.archives.transport import Transport

__all__ = [
    "Page",
    "Probability",
    "avro_request",
    "classifiers_request",
    "detections_request",
    "fetch",
    "objects_request",
    "parse_avro",
    "parse_classifiers",
    "parse_detections",
    "parse_objects",
    "parse_probabilities",
    "parse_stamp",
    "probabilities_request",
    "stamp_request",
]

_PAGE_SIZE = 200
"""Objects on a page (own choice; the service gives 10 where nothing is said)."""

_MARGIN = 5.0
"""Arcsec added to the radius: objects are found by their mean position, alerts are chosen by their own."""

_NAME = "ALeRCE"
_STAMPS = "alerce_stamps"
_MISSING = frozenset({404})
_JD_ZERO = 2400000.5


@dataclass(frozen=True)
class Page:
    """Some of the objects that a question has found."""

    objects: tuple[str, ...]
    """ZTF's names."""

    more: bool
    """Whether there is another page."""


@dataclass(frozen=True)
class Probability:
    """What a classifier of ALeRCE thinks of an object."""

    classifier: str
    """Name of the classifier."""

    version: str
    """Its version."""

    name: str
    """Class."""

    probability: float
    """0 to 1."""

    ranking: int
    """1 for the most probable class."""


def objects_request(night: Night, cone: Cone, page: int) -> Request:
    """Return the question for objects in a circle whose detections span a night.

    A coordinate of exactly 0 is moved by 0.00004 arcsec: the service takes 0 for "not given" and then
    answers with the whole sky (``if ra and dec and radius`` in its source).
    """
    query = (
        ("ra", f"{cone.ra or 1e-8:.8f}"),
        ("dec", f"{cone.dec or 1e-8:.8f}"),
        ("radius", f"{3600.0 * cone.radius + _MARGIN:.3f}"),
        ("firstmjd", "0"),
        ("firstmjd", str(night.mjd + 1)),
        ("lastmjd", str(night.mjd)),
        ("page", str(page)),
        ("page_size", str(_PAGE_SIZE)),
        ("count", "false"),
        ("order_by", "oid"),
        ("order_mode", "ASC"),
    )
    return Request("alerce", "/ztf/v1/objects", kind="alerts", expects="json", query=query)


def parse_objects(content: bytes, page: int) -> Page:
    """Return a page of objects.

    Raises
    ------
    BadAnswerError
        It is none, or another page than the one that was asked for.
    """
    document = parse_json(content, _NAME, dict)
    try:
        found = tuple(str(item["oid"]) for item in document["items"])
        number = int(document.get("page") or page)
    except (LookupError, TypeError, ValueError) as error:
        raise BadAnswerError(f"{_NAME}: no page of objects: {shown(content)}") from error
    if number != page:
        raise BadAnswerError(f"{_NAME}: page {number} instead of {page}")
    more = document.get("has_next")
    # an object has a row for each of its classes, where one asks for classes
    return Page(tuple(dict.fromkeys(found)), len(found) >= _PAGE_SIZE if more is None else bool(more))


def detections_request(oid: str, night: Night) -> Request:
    """Return the question for all detections of an object."""
    path = f"/ztf/v1/objects/{oid}/detections"
    return Request("alerce", path, kind="alerts", expects="json", headers=night.headers)


def parse_detections(content: bytes) -> list[dict[str, Any]]:
    """Return the detections of an object that were alerts, under the names of ZTF's schema.

    Those that came as the history of another alert have no packet of their own and are left out.

    Raises
    ------
    BadAnswerError
        It is no list of detections.
    """
    rows = parse_json(content, _NAME, list)
    try:
        return [
            {**row, "candid": int(row["candid"]), "jd": float(row["mjd"]) + _JD_ZERO}
            for row in rows
            if row["has_stamp"]
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise BadAnswerError(f"{_NAME}: no detections: {shown(content)}") from error


def avro_request(oid: str, candid: int) -> Request:
    """Return the question for the packet of an alert."""
    query = (("oid", oid), ("candid", str(candid)))
    return Request(_STAMPS, "/get_avro", kind="alerts", expects="avro", query=query, nothing=_MISSING)


def parse_avro(content: bytes) -> bytes:
    """Return a packet as it was sent.

    Raises
    ------
    BadAnswerError
        It is no Avro file, or only the begin of one.
    """
    if not is_whole(content):
        raise BadAnswerError(f"{_NAME}: no whole Avro file: {shown(content)}")
    return content


def stamp_request(oid: str, candid: int, channel: str) -> Request:
    """Return the question for a stamp, ``Science``, ``Template`` or ``Difference``."""
    query = (("oid", oid), ("candid", str(candid)), ("type", channel.lower()), ("format", "fits"))
    return Request(_STAMPS, "/get_stamp", kind="alerts", expects="fits", query=query, nothing=_MISSING)


def parse_stamp(content: bytes) -> bytes:
    """Return a stamp as it was sent: a FITS file, gzipped as in the packet.

    Raises
    ------
    BadAnswerError
        It is no image, or only a part of one.
    """
    if stamp_image(content) is None:
        raise BadAnswerError(f"{_NAME}: no stamp: {shown(content)}")
    return content


def classifiers_request() -> Request:
    """Return the question which classifiers there are."""
    return Request("alerce", "/ztf/v1/classifiers", kind="products", expects="json")


def parse_classifiers(content: bytes) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the classes of each classifier, by its name and version.

    Raises
    ------
    BadAnswerError
        It is no list of classifiers.
    """
    try:
        return {
            (row["classifier_name"], row["classifier_version"]): tuple(row["classes"])
            for row in parse_json(content, _NAME, list)
        }
    except (LookupError, TypeError) as error:
        raise BadAnswerError(f"{_NAME}: no classifiers: {shown(content)}") from error


def probabilities_request(oid: str) -> Request:
    """Return the question for the classes of an object."""
    return Request("alerce", f"/ztf/v1/objects/{oid}/probabilities", kind="alerts", expects="json")


def parse_probabilities(content: bytes) -> list[Probability]:
    """Return the classes of an object. They are weak labels: opinions, by name and version of who has them.

    Raises
    ------
    BadAnswerError
        It is no list of classes.
    """
    try:
        return [
            Probability(
                row["classifier_name"],
                row["classifier_version"],
                row["class_name"],
                float(row["probability"]),
                int(row["ranking"]),
            )
            for row in parse_json(content, _NAME, list)
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise BadAnswerError(f"{_NAME}: no classes: {shown(content)}") from error


def fetch(transport: Transport, night: Night, cone: Cone) -> bytes:
    """Return the packets of a night in a circle, as a tar.

    An alert whose packet ALeRCE has lost is written anew from its row and stamps.

    Raises
    ------
    ArchiveUnavailableError, NoCoverageError, BadAnswerError
        As of the network; NoCoverageError where there is no alert.
    """
    files = [
        (f"{row['candid']}.avro", _packet(transport, oid, row))
        for oid in dict.fromkeys(_objects(transport, night, cone))
        for row in parse_detections(transport.ask(detections_request(oid, night)).content)
        if asked_for(row, night, cone)
    ]
    if not files:
        raise NoCoverageError(f"{_NAME} has no alert in the circle on {night.date}")
    return pack(sorted(files))


def _objects(transport: Transport, night: Night, cone: Cone) -> Iterator[str]:
    number, more = 0, True
    while more:
        number += 1
        page = parse_objects(transport.ask(objects_request(night, cone, number)).content, number)
        yield from page.objects
        more = page.more and bool(page.objects)


def _packet(transport: Transport, oid: str, row: Mapping[str, Any]) -> bytes:
    try:
        return parse_avro(transport.ask(avro_request(oid, row["candid"])).content)
    except NoCoverageError:  # this one packet only: the alert is known, and must not get lost
        stamps = {channel: _stamp(transport, oid, row["candid"], channel) for channel in CHANNELS}
        return encode_packets([Detection(oid, row["candid"], row, stamps)], broker=_NAME)


def _stamp(transport: Transport, oid: str, candid: int, channel: str) -> bytes | None:
    try:
        return parse_stamp(transport.ask(stamp_request(oid, candid, channel)).content)
    except NoCoverageError:
        return None
