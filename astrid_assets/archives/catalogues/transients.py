"""Reported and confirmed transients: the Transient Name Server and the ZTF Bright Transient Survey.

The daily table of TNS and the table of the Bright Transient Survey are of the whole sky: they are
fetched once for all fields, and the rows of a circle are cut out of them as they are (`cut_table`).
"""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.cones import inside
from astrid_assets.archives.catalogues.votable import shown
from astrid_assets.archives.transport.request import Format, Request
from astrid_assets.errors import AuthenticationNeededError, BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.protocol import Cone

__all__ = [
    "TnsBot",
    "bts_request",
    "cut_bts",
    "cut_tns",
    "parse_bts",
    "parse_tns",
    "parse_tns_object",
    "parse_tns_search",
    "tns_object_request",
    "tns_search_request",
    "tns_table_request",
]

_CLASSIFIED, _UNCLASSIFIED = 0.99, 0.9
"""Confidence that a report is a real change: with a spectrum, and without."""

_VARIABLE_TYPES = ("AGN", "AGN?", "QSO", "blazar", "Galaxy", "Varstar", "M dwarf")
"""Types of TNS and BTS for what was there before: these objects vary, and are no new sources."""

_SECRET = frozenset({"api_key"})
_BOT_HEADER = "User-Agent"

_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


@dataclass(frozen=True)
class TnsBot:
    """A bot registered at the Transient Name Server, which answers nobody else (status 401)."""

    number: int
    """Number of the bot."""

    name: str
    """Name of the bot."""

    key: str = field(repr=False)
    """Its API key; never logged, never kept."""

    @classmethod
    def of(cls, who: str | None, key: str | None) -> TnsBot:
        """Return the bot of number and name in one text (``123456 my_bot``) and its key.

        Raises
        ------
        AuthenticationNeededError
            One of them is missing or cannot be understood.
        """
        number, _, name = (who or "").strip().partition(" ")
        if not (key and name.strip() and number.isdigit()):
            msg = (
                "TNS: register a bot at www.wis-tns.org and set TNS_BOT to its number and name "
                "(123456 my_bot) and TNS_API_KEY to its key, or take tns out of catalogues.names"
            )
            raise AuthenticationNeededError(msg)
        return cls(int(number), name.strip(), key)

    @property
    def marker(self) -> str:
        """The User-Agent that TNS asks for."""
        document = {"tns_id": self.number, "type": "bot", "name": self.name}
        return f"tns_marker{json.dumps(document, separators=(',', ':'))}"


def tns_table_request(bot: TnsBot) -> Request:
    """Return the request for the zipped table of all public objects; TNS writes it once a day."""
    path = "/system/files/tns_public_objects/tns_public_objects.csv.zip"
    return _tns_request(bot, path, {}, expects="zip")


def tns_search_request(bot: TnsBot, *, ra: float, dec: float, radius_arcsec: float) -> Request:
    """Return the search for the objects about a position (degrees)."""
    data = {"ra": f"{ra:.8f}", "dec": f"{dec:.8f}", "radius": f"{radius_arcsec:g}", "units": "arcsec"}
    return _tns_request(bot, "/api/get/search", data)


def tns_object_request(bot: TnsBot, name: str) -> Request:
    """Return the request for what is known about an object, by its name without prefix (``2011fe``)."""
    data = {"objname": name, "photometry": "0", "spectra": "0"}
    return _tns_request(bot, "/api/get/object", data)


def _tns_request(bot: TnsBot, path: str, data: dict[str, str], *, expects: Format = "json") -> Request:
    form = (("api_key", bot.key), *((("data", json.dumps(data)),) if data else ()))
    headers = ((_BOT_HEADER, bot.marker),)
    return Request(
        "tns",
        path,
        "search",
        expects,
        form=form,
        headers=headers,
        secret=_SECRET,
        volatile=frozenset({_BOT_HEADER}),
    )


def parse_tns_search(content: bytes) -> list[str]:
    """Return the names, without prefix, that a search found."""
    reply = _tns_reply(content)
    try:
        return [str(entry["objname"]) for entry in reply]
    except (LookupError, TypeError) as error:
        raise BadAnswerError(f"TNS: not the answer to a search: {shown(content)}") from error


def parse_tns_object(content: bytes) -> pa.Table:
    """Return what TNS knows about one object, as `parse_tns` returns a row of the daily table."""
    reply = _tns_reply(content)
    try:
        row = {
            "name_prefix": reply["name_prefix"] or "",
            "name": reply["objname"],
            "ra": reply["radeg"],
            "declination": reply["decdeg"],
            "redshift": reply.get("redshift"),
            "type": (reply.get("object_type") or {}).get("name") or "",
            "discoverydate": reply.get("discoverydate"),
            "discoverymag": reply.get("discoverymag"),
            "filter": (reply.get("discmagfilter") or {}).get("name"),
        }
        return _reported([row])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise BadAnswerError(f"TNS: not an object: {shown(content)}") from error


def _tns_reply(content: bytes) -> Any:
    """Return the reply in an answer of the API; the key ``reply`` is there in one of its versions."""
    try:
        document = json.loads(content)
        code, data = document["id_code"], document.get("data")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadAnswerError(f"TNS: not an answer of the API: {shown(content)}") from error
    if code in (401, 403):
        raise AuthenticationNeededError(
            "TNS: the key or the bot is not known there; see TNS_API_KEY, TNS_BOT"
        )
    if code != 200:
        raise BadAnswerError(f"TNS: {document.get('id_message')} ({code})")
    return data["reply"] if isinstance(data, dict) and "reply" in data else data


def parse_tns(content: bytes) -> pa.Table:
    """Return the transients of ``tns_public_objects.csv``, zipped or not.

    The class is the spectroscopic type, or the prefix of the name (``AT``) without one.
    """
    lines = _text(content).splitlines()
    start = next((i for i, line in enumerate(lines[:3]) if line.replace('"', "").startswith("objid,")), None)
    if start is None:
        raise BadAnswerError(f"TNS: not a table of objects: {shown(content)}")
    return _reported([row for row in csv.DictReader(StringIO("\n".join(lines[start:]))) if row["ra"]])


def _reported(rows: list[dict[str, Any]]) -> pa.Table:
    with _values_of("TNS"):
        return _reported_table(rows)


@contextmanager
def _values_of(service: str) -> Iterator[None]:
    """Make a value that cannot be read a bad answer."""
    try:
        yield
    except (ValueError, LookupError) as error:
        raise BadAnswerError(f"{service}: a row cannot be read: {error}") from error


def _reported_table(rows: list[dict[str, Any]]) -> pa.Table:
    return known_table(
        len(rows),
        object_id=[f"{row['name_prefix']} {row['name']}".strip() for row in rows],
        kind=[_kind(row["type"]) for row in rows],
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
    except (zipfile.BadZipFile, zlib.error, LookupError, EOFError) as error:
        raise BadAnswerError(f"TNS: broken zip: {error}") from error


def _kind(type_: str) -> str:
    return "variable" if type_ in _VARIABLE_TYPES else "transient"


def bts_request() -> Request:
    """Return the request for the candidates of the Bright Transient Survey, all of them.

    ``subsample=cantrans`` leaves out what is known to be no transient, ``quality=y`` asks for well
    covered light curves (Perley et al. 2020); both as ``ztfquery`` asks, but without its limit of
    magnitude: a faint transient with a spectrum is as true as a bright one.
    """
    query = (("f", "s"), ("subsample", "cantrans"), ("quality", "y"), ("format", "csv"))
    return Request("bts", "/ztf/bts/explorer.php", "search", "csv", query=query)


def parse_bts(content: bytes) -> pa.Table:
    """Return the transients of the table of the Bright Transient Survey.

    Objects have the name of the survey and, where there is one, that of the IAU. The table has no
    date of discovery, only of the peak; it stays null.
    """
    rows = _bts_rows(_text(content), content)
    with _values_of("BTS"):
        return _bts_table(rows)


def _bts_table(rows: list[dict[str, str]]) -> pa.Table:
    types = [_given(row["type"]) for row in rows]
    return known_table(
        len(rows),
        object_id=[_bts_name(row) for row in rows],
        kind=[_kind(name) for name in types],
        **{"class": [name or "AT" for name in types]},
        ra=[_ra(row["RA"]) for row in rows],
        dec=[_dec(row["Dec"]) for row in rows],
        magnitude=[_number(row["peakmag"]) for row in rows],
        magnitude_band=[_given(row.get("peakfilt")) or None for row in rows],
        redshift=[_number(row["redshift"]) for row in rows],
        catalogue="BTS",
        confidence=[_CLASSIFIED if name else _UNCLASSIFIED for name in types],
    )


def _bts_rows(text: str, content: bytes) -> list[dict[str, str]]:
    rows = list(csv.DictReader(StringIO(text.strip()), skipinitialspace=True))
    head = text.strip().split("\n", 1)[0]
    if not head.startswith("ZTFID,") or "type" not in head:
        raise BadAnswerError(f"BTS: not a table of transients: {shown(content)}")
    if any(None in row.values() for row in rows):
        raise BadAnswerError("BTS: the table ends in the middle of a row")
    return rows


def _bts_name(row: dict[str, str]) -> str:
    iau = _given(row["IAUID"])
    return f"{row['ZTFID']} ({iau})" if iau else row["ZTFID"]


def _given(text: str | None) -> str:
    """Return a text, empty for the dash that stands for nothing."""
    return "" if text is None or text.strip() in ("-", "") else text.strip()


def _number(text: str | None) -> float | None:
    """Return a number; limits such as ``>20.1`` and dashes are none."""
    try:
        return float(_given(text))
    except ValueError:
        return None


def _ra(text: str) -> float:
    """Return ``hh:mm:ss.s`` in degrees."""
    return 15.0 * _dec(text)


def _dec(text: str) -> float:
    """Return ``+dd:mm:ss.s`` in the unit of its first part."""
    first, minutes, seconds = text.strip().split(":")
    size = abs(float(first)) + float(minutes) / 60.0 + float(seconds) / 3600.0
    return -size if first.startswith("-") else size


def cut_tns(content: bytes, cone: Cone) -> bytes:
    """Return the daily table of TNS with the rows of a circle only, not zipped."""
    return _cut(_text(content), "objid", ("ra", "declination"), (float, float), cone, content)


def cut_bts(content: bytes, cone: Cone) -> bytes:
    """Return the table of the Bright Transient Survey with the rows of a circle only."""
    return _cut(_text(content), "ZTFID", ("RA", "Dec"), (_ra, _dec), cone, content)


def _cut(
    text: str,
    first: str,
    names: tuple[str, str],
    readers: tuple[Callable[[str], float], Callable[[str], float]],
    cone: Cone,
    content: bytes,
) -> bytes:
    """Return a table with the rows of a circle; what stands above the header is kept."""
    rows = list(csv.reader(StringIO(text)))
    start = next((i for i, row in enumerate(rows[:3]) if row[:1] == [first]), None)
    if start is None:
        raise BadAnswerError(f"not a table of transients: {shown(content)}")
    head, body = rows[start], [row for row in rows[start + 1 :] if row]
    if any(len(row) != len(head) for row in body):
        raise BadAnswerError("a table of transients ends in the middle of a row")
    if not set(names) <= set(head):
        raise BadAnswerError(f"a table of transients without positions: {shown(content)}")
    columns = [head.index(name) for name in names]
    body = [row for row in body if all(row[i].strip() for i in columns)]
    with _values_of(first):
        ra, dec = (
            np.array([read(row[i]) for row in body], dtype=float)
            for i, read in zip(columns, readers, strict=True)
        )
    kept = [body[i] for i in np.flatnonzero(inside(ra, dec, cone))]
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows([*rows[: start + 1], *kept])
    return stream.getvalue().encode()


def _numbers(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) if row.get(name) else np.nan for row in rows], dtype=float)


def _mjd(text: str | None) -> float | None:
    """Return a date of the server, UTC, as MJD."""
    if not text:
        return None
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH).total_seconds() / 86400.0
