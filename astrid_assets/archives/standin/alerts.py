"""Stand-ins of ZTF's alert archive and of the brokers ALeRCE, Fink, Kowalski and Lasair.

Answers have the form of the services' own sources and documentation (2026); what a service rounds,
leaves out or writes in its own way is rounded, left out and written so here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import math
import re
import tarfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from astrid_assets.archives.standin.alert_sky import Alert, AlertSky, read_folder
from astrid_assets.archives.standin.messages import Asked, Reply
from astrid_assets.archives.standin.server import Handler

__all__ = ["alert_handlers", "handlers"]

_POSITION = (210.8023, 54.349)
"""M 101: what the nightly archive is about where nothing is recorded; nobody tells it a position."""

_NIGHTS = 14
"""Nights that the nightly archive then has."""

_CHANNELS = ("Science", "Template", "Difference")
_STAMPS = "https://lasair-ztf.lsst.ac.uk/lasair/static/fits"


def handlers(recorded: Path | None = None) -> dict[str, Handler]:
    """Return the handlers of all services of alerts, by service.

    Parameters
    ----------
    recorded
        Folder of recorded answers; packets are taken from ``ztf_alerts`` in it.
    """
    folder = None if recorded is None else recorded / "ztf_alerts"
    alerts = read_folder(folder) if folder is not None and folder.is_dir() else []
    return alert_handlers(AlertSky(alerts, [_POSITION]))


def alert_handlers(sky: AlertSky) -> dict[str, Handler]:
    """Return the handlers that tell of given alerts, by service."""
    return {
        "ztf_alerts": _Nightly(sky),
        "alerce": _Alerce(sky),
        "alerce_stamps": _AlerceStamps(sky),
        "fink": _Fink(sky),
        "kowalski": _Kowalski(sky),
        "lasair": _Lasair(sky),
        "lasair_stamps": _LasairStamps(sky),
    }


def _json(document: Any, status: int = 200) -> Reply:
    return Reply(json.dumps(document).encode(), "application/json", status)


def _plain_fits(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def _stamp(alert: Alert, channel: str) -> bytes | None:
    cutout = alert.record[f"cutout{channel}"]
    return cutout["stampData"] if cutout else None


def _by_object(alerts: Iterable[Alert]) -> dict[str, list[Alert]]:
    found: dict[str, list[Alert]] = {}
    for alert in sorted(alerts, key=lambda a: (a.object_id, a.mjd)):
        found.setdefault(alert.object_id, []).append(alert)
    return found


# --- the nightly archive --------------------------------------------------------------------------


class _Nightly:
    """``/alerts/public/``: MD5SUMS and a tar of each night."""

    def __init__(self, sky: AlertSky) -> None:
        self._sky = sky
        self._tar = lru_cache(maxsize=_NIGHTS)(self._make)

    def answer(self, asked: Asked) -> Reply:
        """Return the list of checksums, or a tar."""
        if asked.path.endswith("/MD5SUMS"):
            lines = [f"{_md5(self._tar(night))}  {_name(night)}\n" for night in self._nights()]
            return Reply("".join(lines).encode(), "text/plain")
        night = next((n for n in self._nights() if asked.path.endswith(f"/{_name(n)}")), None)
        if night is None:
            return Reply(b"<html><body>404 Not Found</body></html>", "text/html", 404)
        return Reply(self._tar(night), "application/x-gzip")

    def _nights(self) -> list[int]:
        from astrid_assets.clock import now_mjd

        over = math.floor(now_mjd())
        return self._sky.recorded_nights or list(range(over - _NIGHTS, over))

    def _make(self, night: int) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for alert in self._sky.on(night):
                member = tarfile.TarInfo(f"{alert.candid}.avro")
                member.size = len(alert.content)
                archive.addfile(member, io.BytesIO(alert.content))
        return gzip.compress(stream.getvalue(), compresslevel=1, mtime=0)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _name(night: int) -> str:
    from astrid_assets.clock import from_mjd

    return f"ztf_public_{from_mjd(night):%Y%m%d}.tar.gz"


# --- ALeRCE ---------------------------------------------------------------------------------------


class _Alerce:
    """``/ztf/v1``: objects by page, detections, classes."""

    def __init__(self, sky: AlertSky) -> None:
        self._sky = sky

    def answer(self, asked: Asked) -> Reply:
        """Return what the path names."""
        path = asked.path.removeprefix("/ztf/v1").rstrip("/")
        if path == "/objects":
            return _json(self._objects(asked))
        if path == "/classifiers":
            return _json([_CLASSIFIER])
        match = re.fullmatch(r"/objects/(\w+)/(detections|probabilities)", path)
        alerts = self._sky.of(match[1]) if match else []
        if match is None or not alerts:
            return _json({"message": "Object ID not found"}, 404)
        if match[2] == "detections":
            return _json([row for alert in alerts for row in _alerce_rows(alert)])
        return _json(_probabilities(alerts[0]))

    def _objects(self, asked: Asked) -> dict[str, Any]:
        first = [float(value) for name, value in asked.query if name == "firstmjd"]
        last = float(asked.value("lastmjd", "0"))
        radius = float(asked.value("radius", "30")) / 3600.0
        place = float(asked.value("ra")), float(asked.value("dec"))
        found = _by_object(self._sky.around(*place, radius, start=0.0, end=first[-1]))
        items = [_alerce_object(name, alerts) for name, alerts in found.items() if alerts[-1].mjd >= last]
        if asked.fault == "duplicates":
            items = [item for item in items for _ in range(3)]
        items = [] if asked.fault == "empty_table" else items
        size = 1 if asked.fault == "pages" else int(asked.value("page_size", "10"))
        page = int(asked.value("page", "1"))
        more, less = page * size < len(items), page > 1
        return {
            "total": None,
            "page": page,
            "next": page + 1 if more else None,
            "has_next": more,
            "prev": page - 1 if less else None,
            "has_prev": less,
            "items": items[(page - 1) * size : page * size],
        }


_CLASSIFIER = {
    "classifier_name": "stamp_classifier",
    "classifier_version": "stamp_classifier_1.0.4",
    "classes": ["SN", "AGN", "VS", "asteroid", "bogus"],
}


def _probabilities(alert: Alert) -> list[dict[str, Any]]:
    """Return classes: what drb leaves goes to bogus, the rest to asteroid where one is known, or SN."""
    known = alert.candidate["ssnamenr"] not in (None, "null")
    real = float(alert.candidate["drb"] or 0.0)
    shares = dict.fromkeys(_CLASSIFIER["classes"], 0.0)
    shares |= {"asteroid" if known else "SN": real, "bogus": 1.0 - real}
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    names = {key: _CLASSIFIER[key] for key in ("classifier_name", "classifier_version")}
    return [
        {**names, "class_name": name, "probability": share, "ranking": rank}
        for rank, (name, share) in enumerate(ranked, 1)
    ]


def _alerce_object(name: str, alerts: list[Alert]) -> dict[str, Any]:
    newest = alerts[-1].candidate
    ra, dec = ([a.place[i] for a in alerts] for i in (0, 1))
    return {
        "oid": name,
        "ndethist": str(newest["ndethist"]),
        "ncovhist": newest["ncovhist"],
        "jdstarthist": newest["jdstarthist"],
        "jdendhist": newest["jdendhist"],
        "corrected": False,
        "stellar": False,
        "ndet": len(alerts),
        "firstmjd": alerts[0].mjd,
        "lastmjd": alerts[-1].mjd,
        "deltamjd": alerts[-1].mjd - alerts[0].mjd,
        "meanra": sum(ra) / len(ra),
        "meandec": sum(dec) / len(dec),
        "class": None,
        "probability": None,
    }


def _alerce_rows(alert: Alert) -> list[dict[str, Any]]:
    """Return an alert as detection, with a stamp, and those of its history, without."""
    earlier = [row for row in alert.record["prv_candidates"] or () if row["candid"] is not None]
    rows = [_alerce_row(row, alert, has_stamp=False) for row in earlier]
    return [*rows, _alerce_row(alert.candidate, alert, has_stamp=True)]


def _alerce_row(row: Mapping[str, Any], alert: Alert, *, has_stamp: bool) -> dict[str, Any]:
    names = ("fid", "pid", "diffmaglim", "nid", "distnr", "magpsf", "magap", "sigmapsf", "sigmagap", "ra")
    names += ("dec", "rb", "rbversion", "drb", "magapbig", "sigmagapbig", "rfid")
    return {
        **{name: row.get(name) for name in names},
        "candid": str(row["candid"]),
        "mjd": row["jd"] - 2400000.5,
        "isdiffpos": 1 if row["isdiffpos"] in ("t", "1") else -1,
        "has_stamp": has_stamp,
        "corrected": False,
        "dubious": False,
        "parent_candid": None if has_stamp else alert.candid,
    }


class _AlerceStamps:
    """``/get_avro`` and ``/get_stamp``."""

    def __init__(self, sky: AlertSky) -> None:
        self._sky = sky

    def answer(self, asked: Asked) -> Reply:
        """Return a packet, or a stamp gzipped as in the packet."""
        alert = self._sky.alert(int(asked.value("candid", "0")))
        if alert is None or alert.object_id != asked.value("oid"):
            return _json({"message": "AVRO not found"}, 404)
        if asked.path == "/get_avro":
            return Reply(alert.content, "app/avro+binary")
        content = _stamp(alert, asked.value("type").capitalize())
        if content is None:
            return _json({"message": "AVRO not found"}, 404)
        return Reply(content, "application/fits+gzip")


# --- Fink -----------------------------------------------------------------------------------------


class _Fink:
    """``/api/v1``: conesearch, objects, cutouts; all POST JSON."""

    def __init__(self, sky: AlertSky) -> None:
        self._sky = sky

    def answer(self, asked: Asked) -> Reply:
        """Return what the path names."""
        answers = {"conesearch": self._cone, "objects": self._objects, "cutouts": self._cutouts}
        answer = answers.get(asked.path.removeprefix("/api/v1/"))
        if answer is None:
            return Reply(b"<!doctype html><title>404 Not Found</title>", "text/html", 404)
        try:
            return answer(asked, asked.json)
        except KeyError as error:
            text = {"status": "error", "text": f"A value for `{error.args[0]}` is required.\n"}
            return Reply(str(text).encode(), "text/html", 400)

    def _cone(self, asked: Asked, body: Mapping[str, Any]) -> Reply:
        """Return the last alert of each object in a circle that was first seen before a date."""
        from astrid_assets.clock import parse_time

        place, radius = (float(body["ra"]), float(body["dec"])), float(body["radius"]) / 3600.0
        end = parse_time(body["stopdate"])
        found = _by_object(self._sky.around(*place, radius, start=0.0, end=end))
        rows = [_fink_row(alerts[-1]) for alerts in found.values()]
        if asked.fault == "duplicates":
            rows = [row for row in rows for _ in range(3)]
        return _json([] if asked.fault == "empty_table" else rows[: int(body.get("n", 1000))])

    def _objects(self, asked: Asked, body: Mapping[str, Any]) -> Reply:
        names = [name.strip() for name in body["objectId"].split(",")]
        rows = [_fink_row(alert) for name in names for alert in reversed(self._sky.of(name))]
        return _json([] if asked.fault == "empty_table" else rows)

    def _cutouts(self, asked: Asked, body: Mapping[str, Any]) -> Reply:  # noqa: ARG002
        """Return stamps as nested lists; NaN is written as such, as the service does."""
        alert = self._sky.alert(int(body["candid"]))
        if alert is None:
            return Reply(b"<!doctype html><title>500 Internal Server Error</title>", "text/html", 500)
        kinds = _CHANNELS if body["kind"] == "All" else (body["kind"],)
        return _json({f"b:cutout{kind}_stampData": _pixels(_stamp(alert, kind)) for kind in kinds})


def _fink_row(alert: Alert) -> dict[str, Any]:
    """Return an alert as a row; pandas, which writes them there, rounds to ten decimals."""
    row = {
        "i:objectId": alert.object_id,
        "i:candid": alert.candid,
        "i:schemavsn": alert.record.get("schemavsn"),
        "i:publisher": "Fink",
        "d:cdsxmatch": "Unknown",
        "v:classification": "Unknown",
    }
    return row | {f"i:{name}": _rounded(value) for name, value in alert.candidate.items()}


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 10) if math.isfinite(value) else None


def _pixels(content: bytes | None) -> list[list[float]]:
    from astrid_assets.archives.alerts import stamp_image

    image = None if content is None else stamp_image(content)
    return [] if image is None else image.tolist()


# --- Kowalski -------------------------------------------------------------------------------------


class _Kowalski:
    """``/api/queries``: cone searches of the collection ``ZTF_alerts``."""

    def __init__(self, sky: AlertSky) -> None:
        self._sky = sky

    def answer(self, asked: Asked) -> Reply:
        """Return documents as MongoDB writes them."""
        if not asked.headers.get("authorization"):
            return _json({"status": "error", "message": "auth required"}, 401)
        if asked.fault == "error_status":
            return _json({"status": "error", "message": "failure: operation exceeded time limit"})
        body = asked.json
        circle, options = body["query"]["object_coordinates"], body["kwargs"]
        unit = {"deg": 1.0, "arcmin": 60.0, "arcsec": 3600.0}[circle["cone_search_unit"]]
        wanted = body["query"]["catalogs"]["ZTF_alerts"]
        span = wanted["filter"]["candidate.jd"]
        data = {}
        for name, place in circle["radec"].items():
            alerts = self._sky.around(
                *place,
                circle["cone_search_radius"] / unit,
                start=span["$gte"] - 2400000.5,
                end=span["$lt"] - 2400000.5,
            )
            alerts.sort(key=lambda alert: alert.candid)
            some = alerts[options["skip"] : options["skip"] + options["limit"]]
            fields = {field for field, taken in wanted["projection"].items() if taken}
            data[name] = [_document(alert, fields) for alert in some]
            if asked.fault == "empty_table":
                data[name] = []
        found = {"status": "success", "message": "Successfully executed query"}
        return _json({**found, "data": {"ZTF_alerts": data}})


def _document(alert: Alert, fields: set[str]) -> dict[str, Any]:
    return {name: _extended(value) for name, value in alert.record.items() if name in fields}


def _extended(value: Any) -> Any:
    """Return a value in MongoDB's extended JSON (relaxed)."""
    if isinstance(value, Mapping):
        return {name: _extended(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": "00"}}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$numberDouble": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return value


# --- Lasair ---------------------------------------------------------------------------------------

_LIGHT_CURVE = ("candid", "jd", "ra", "dec", "fid", "nid", "magpsf", "sigmapsf", "magnr", "sigmagnr")
_LIGHT_CURVE += ("magzpsci", "isdiffpos", "ssdistnr", "ssnamenr", "drb")


class _Lasair:
    """``/api``: queries of the table of objects, and light curves."""

    def __init__(self, sky: AlertSky) -> None:
        self._sky = sky

    def answer(self, asked: Asked) -> Reply:
        """Return rows."""
        if not asked.headers.get("authorization", "").startswith("Token "):
            return _json({"detail": "Invalid token."}, 401)
        if asked.fault == "error_status":
            return _json({"error": "Your query returned the error: lost connection"})
        if asked.path == "/api/query/":
            names = [] if asked.fault == "empty_table" else self._found(asked.value("conditions"))
            start = int(asked.value("offset", "0"))
            names = names[start : start + int(asked.value("limit", "1000"))]
            return _json([{"objectId": name} for name in names])
        return _json([self._curve(name.strip()) for name in asked.value("objectIds").split(",")])

    def _found(self, conditions: str) -> list[str]:
        """Return the objects that fulfil the conditions: a box and a span of time."""
        number = r"(-?[\d.]+)"
        low, high = map(float, re.search(rf"decmean BETWEEN {number} AND {number}", conditions).groups())
        end = float(re.search(rf"jdmin < {number}", conditions)[1]) - 2400000.5
        start = float(re.search(rf"jdmax >= {number}", conditions)[1]) - 2400000.5
        box = re.search(rf"ramean >= {number} (AND|OR) objects.ramean <= {number}", conditions)
        west, east = (float(box[1]), float(box[3])) if box else (0.0, 360.0)
        width = (east - west) % 360.0 or 360.0
        ra, dec = (west + width / 2) % 360.0, (low + high) / 2
        radius = math.hypot(min(width, 180.0) / 2, (high - low) / 2)
        found = _by_object(self._sky.around(ra, dec, radius, start=0.0, end=end))
        return [
            name
            for name, alerts in found.items()
            if alerts[-1].mjd >= start
            and low <= alerts[0].place[1] <= high
            and (alerts[0].place[0] - west) % 360.0 <= width
        ]

    def _curve(self, name: str) -> dict[str, Any] | None:
        alerts = self._sky.of(name)
        if not alerts:
            return None
        limit = {"jd": alerts[0].candidate["jd"] - 1, "fid": 2, "diffmaglim": 20.5, "magpsf": 20.5}
        rows = [_lasair_row(alert) for alert in reversed(alerts)]
        return {"objectId": name, "objectData": {"ncand": len(alerts)}, "candidates": [*rows, limit]}


def _lasair_row(alert: Alert) -> dict[str, Any]:
    row = {name: alert.candidate.get(name) for name in _LIGHT_CURVE}
    row["isdiffpos"] = "t" if row["isdiffpos"] in ("t", "1") else "f"
    return row | {
        "mjd": alert.mjd,
        "image_urls": {
            channel: f"{_STAMPS}/{alert.candid % 4096:03x}/{alert.candid}_cutout{channel}.fits"
            for channel in _CHANNELS
            if _stamp(alert, channel) is not None
        },
    }


class _LasairStamps:
    """``/lasair/static/fits``: stamps, not gzipped."""

    def __init__(self, sky: AlertSky) -> None:
        self._sky = sky

    def answer(self, asked: Asked) -> Reply:
        """Return a stamp."""
        match = re.search(r"/(\d+)_cutout(\w+)\.fits$", asked.path)
        alert = self._sky.alert(int(match[1])) if match else None
        content = _stamp(alert, match[2]) if alert is not None else None
        if content is None:
            return Reply(b"<html><body>404 Not Found</body></html>", "text/html", 404)
        return Reply(_plain_fits(content), "image/fits")
