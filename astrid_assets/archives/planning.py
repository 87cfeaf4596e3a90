"""The yield forecast of a field: every exposure its archives offer, with what was decided about it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.availability import searched, why_nothing
from astrid_assets.archives.footprints import centre
from astrid_assets.archives.pairing import Verdict, pair_exposures, pairing_key
from astrid_assets.archives.protocol import WITHOUT_NETWORK, Exposure
from astrid_assets.archives.transport.shared import shared_transport
from astrid_assets.archives.transport.tally import Tally
from astrid_assets.errors import (
    ArchiveUnavailableError,
    AuthenticationNeededError,
    BadAnswerError,
    NoCoverageError,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.transport import Settings, Transport
    from astrid_assets.fields import Field

__all__ = ["OBSERVATION_COLUMNS", "Plan", "Query", "downloads", "exposure_of", "host_of", "pairs", "plan"]

_NO_EXPOSURES = ("skyview", "alerts", "catalogues")
"""Archives that offer cutouts, alerts and catalogues; what they have is no exposure."""

OBSERVATION_COLUMNS: dict[str, tuple[str, str]] = {
    "exposure_id": ("string", "identifier, unique in the field"),
    "status": ("string", "selected, rejected or failed"),
    "reason": ("string", "why it is rejected, deferred or failed"),
    "role": ("string", "science or reference"),
    "reference_id": ("string", "reference it is compared with, or is part of"),
    "overlap": ("double", "share of a science exposure that its reference covers"),
    "deferred": ("bool", "selected, but left to a later run by the field's limit"),
    "flags": ("string", "COLOUR_TERM_UNKNOWN where the reference is of another survey"),
    "pairing_key": ("string", "survey, detector type, band and calibration"),
    "archive": ("string", "archive it comes from"),
    "survey": ("string", "survey profile"),
    "detector_type": ("string", "kind of detector"),
    "detector": ("string", "detector (CCD, quadrant, chip)"),
    "band": ("string", "canonical filter name"),
    "calibration": ("string", "calibration version"),
    "product": ("string", "exposure, stack, or query (a search that gave no exposures)"),
    "mjd_start": ("double", "start of the (first) exposure, MJD UTC"),
    "mjd_mid": ("double", "middle, MJD UTC"),
    "mjd_end": ("double", "end of the (last) exposure, MJD UTC"),
    "n_exposures": ("int32", "number of stacked exposures"),
    "exptime": ("double", "exposure time, s"),
    "seeing": ("double", "FWHM of a point source, arcsec"),
    "limiting_magnitude": ("double", "5 sigma limit, AB mag"),
    "airmass": ("double", "airmass"),
    "zeropoint": ("double", "AB mag of one unit"),
    "ra": ("double", "centre, ICRS deg"),
    "dec": ("double", "centre, ICRS deg"),
    "footprint": ("list<double>", "corners ra, dec, ra, dec, ... in order, ICRS deg"),
    "bytes": ("int64", "size of all files together"),
    "url": ("string", "locator at the archive"),
    "revision": ("string", "changes when the archive reprocesses the file"),
    "problem": ("string", "why the archive says that it cannot be used"),
    "served_by": ("string", "host that answered in place of the archive: a stand-in, a mirror"),
}
"""Type and description of the columns of the table of observations."""


@dataclass(frozen=True)
class Query:
    """How the search of one archive ended."""

    archive: str
    """Name of the archive."""

    state: str
    """``ok``, ``empty`` (it answered: nothing there), ``failed`` (an outage), or ``not_searched`` (the
    mission did not observe in the windows)."""

    n_rows: int = 0
    """Exposures it offered."""

    reason: str | None = None
    """Why it failed, or was not searched."""

    retry_after: float | None = None
    """Seconds after which the archive asked to be tried again."""

    mission: str | None = None
    """Mission that was left out of the search of its archive."""

    @property
    def name(self) -> str:
        """Archive, and mission where it was left out."""
        return self.archive if self.mission is None else f"{self.archive} {self.mission}"


@dataclass(frozen=True)
class Plan:
    """All that is known about a field before a byte of an image is downloaded."""

    table: pa.Table
    """One row an exposure; `OBSERVATION_COLUMNS`."""

    funnel: dict[str, int]
    """How many exposures were offered, passed, and fell out for which kind of reason."""

    queries: tuple[Query, ...]
    """One for each archive of the field that has exposures, and one for each mission that was left out."""

    traffic: Tally = field(default_factory=Tally)
    """What was asked of the services."""


def plan(sky_field: Field, *, previous: pa.Table | None = None, archives: Settings | None = None) -> Plan:
    """Search all archives of a field and decide about every exposure.

    Parameters
    ----------
    sky_field
        The field.

    previous
        Table of the last plan. An archive that fails now keeps its earlier exposures; one that
        no longer offers an exposure leaves a rejected row.

    archives
        How the services of archives are treated; by default as this installation has it.
    """
    transport = shared_transport(archives)
    served_by = transport.settings.replaced
    earlier = [r for r in _rows(previous) if r["archive"] in sky_field.archives and r["product"] != "query"]
    queries, offered = _unsearched(sky_field), []
    gone: list[Exposure] = []
    asked = _narrowed(sky_field, queries)
    for name in sky_field.archives:
        known = [exposure_of(r) for r in earlier if r["archive"] == name]
        if name not in asked.archives:
            gone += known
            continue
        query, exposures = _search(name, asked, transport)
        exposures = known if query.state == "failed" else [_served(e, served_by) for e in exposures]
        found = {e.exposure_id for e in exposures}
        gone += [e for e in known if e.exposure_id not in found]
        offered += exposures
        queries.append(query)
    taken = {r["exposure_id"] for r in earlier if r["status"] == "selected" and not r["deferred"]}
    verdicts = pair_exposures(offered, sky_field, taken=taken)
    verdicts += [Verdict(e, "rejected", "no longer offered by the archive") for e in gone]
    rows = [_row(v) for v in verdicts] + [r for q in queries for r in _query_rows(q)]
    return Plan(_table(rows), _funnel(verdicts), tuple(queries), transport.take_tally())


def pairs(forecast: Plan) -> list[dict[str, Any]]:
    """Return science and reference exposures to come and their bytes, by pairing key of the science."""
    taken = _taken(forecast)
    key_of = {row["reference_id"]: row["pairing_key"] for row in taken if row["role"] == "science"}
    found: dict[str, dict[str, Any]] = {}
    for row in taken:
        science = row["role"] == "science"
        key = row["pairing_key"] if science else key_of.get(row["reference_id"], row["pairing_key"])
        empty = {"pairing_key": key, "science": 0, "reference": 0, "bytes": 0, "flags": None}
        pair = found.setdefault(key, empty)
        pair[row["role"]] += 1
        pair["bytes"] += row["bytes"] or 0
        pair["flags"] = pair["flags"] or row["flags"]
    return list(found.values())


def downloads(forecast: Plan) -> list[dict[str, Any]]:
    """Return exposures and bytes to come by archive and role; ``unknown`` counts those of unknown size."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _taken(forecast):
        key = (row["archive"], row["role"])
        empty = {"archive": key[0], "role": key[1], "exposures": 0, "bytes": 0, "unknown": 0}
        entry = found.setdefault(key, empty)
        entry["exposures"] += 1
        entry["bytes"] += row["bytes"] or 0
        entry["unknown"] += not row["bytes"]
    return [found[key] for key in sorted(found)]


def _taken(forecast: Plan) -> list[dict[str, Any]]:
    return [r for r in forecast.table.to_pylist() if r["status"] == "selected" and not r["deferred"]]


def _unsearched(sky_field: Field) -> list[Query]:
    """Return the missions that cannot have anything for a field, each with the reason."""
    reasons = [(archive, m.name, why_nothing(m, sky_field)) for archive, m in searched(sky_field)]
    return [
        Query(archive, "not_searched", 0, reason, mission=name) for archive, name, reason in reasons if reason
    ]


def _narrowed(sky_field: Field, unsearched: Sequence[Query]) -> Field:
    """Return the field with the archives and missions that are worth asking for exposures."""
    left = Counter(archive for archive, _ in searched(sky_field))
    left.subtract(q.archive for q in unsearched)
    names = [name for name in sky_field.archives if name not in _NO_EXPOSURES and left.get(name, 1) > 0]
    changes: dict[str, Any] = {"archives": tuple(names)}
    if sky_field.mast is not None:
        ended = {q.mission for q in unsearched if q.archive == "mast"}
        missions = tuple(m for m in sky_field.mast.missions if m not in ended)
        changes["mast"] = sky_field.mast.model_copy(update={"missions": missions})
    return sky_field.model_copy(update=changes)


def exposure_of(row: dict[str, Any]) -> Exposure:
    """Return the archive's exposure from a row of the table of observations."""
    names = {f.name for f in dataclasses.fields(Exposure)}
    values = {name: row[name] for name in names}
    flat = row["footprint"] or []
    times = {t: float("nan") if row[t] is None else row[t] for t in ("mjd_start", "mjd_mid", "mjd_end")}
    corners = tuple(zip(flat[::2], flat[1::2], strict=True))
    return Exposure(**{**values, **times, "footprint": corners})


def _search(name: str, sky_field: Field, transport: Transport) -> tuple[Query, list[Exposure]]:
    from astrid_assets.archives import open_archive

    try:
        exposures = list(open_archive(name, sky_field, transport).search(sky_field))
    except NoCoverageError as answer:
        return Query(name, "empty", reason=str(answer)), []
    except (ArchiveUnavailableError, AuthenticationNeededError, BadAnswerError) as error:
        return Query(name, "failed", reason=str(error), retry_after=getattr(error, "retry_after", None)), []
    strangers = {e.archive for e in exposures} - {name}
    if strangers:
        reason = f"archive {name} offered exposures of {', '.join(sorted(strangers))}"
        return Query(name, "failed", reason=reason), []
    return Query(name, "ok" if exposures else "empty", len(exposures)), exposures


_SERVED = "@served-by:"
"""Stands in a revision before the host that answered in place of the archive."""


def _served(exposure: Exposure, host: str | None) -> Exposure:
    """Return an exposure with the host in its revision: the archive's own file is another one."""
    if host is None or exposure.archive in WITHOUT_NETWORK:
        return exposure
    return dataclasses.replace(exposure, revision=f"{exposure.revision}{_SERVED}{host}")


def _rows(table: pa.Table | None) -> list[dict[str, Any]]:
    return [] if table is None else table.to_pylist()


def _row(verdict: Verdict) -> dict[str, Any]:
    exposure = verdict.exposure
    row = {f.name: getattr(exposure, f.name) for f in dataclasses.fields(exposure)}
    place = centre(exposure.footprint) if exposure.footprint else (None, None)
    return row | {
        "footprint": [float(v) for corner in exposure.footprint for v in corner],
        "ra": place[0],
        "dec": place[1],
        "pairing_key": pairing_key(exposure),
        "status": verdict.status,
        "reason": verdict.reason,
        "role": verdict.role,
        "reference_id": verdict.reference_id,
        "overlap": verdict.overlap,
        "deferred": verdict.deferred,
        "flags": verdict.flags,
        "served_by": host_of(exposure.revision),
    }


def host_of(revision: str | None) -> str | None:
    """Return the host that answered in place of the archive, from the revision of an exposure."""
    return (revision or "").partition(_SERVED)[2] or None


def _query_rows(query: Query) -> Iterable[dict[str, Any]]:
    """Yield the row that stands for a search without an answer, or one that was not made."""
    if query.state in {"failed", "not_searched"}:
        status, words = (
            ("failed", "search failed") if query.state == "failed" else ("rejected", "not searched")
        )
        yield {
            "exposure_id": f"query-{query.name.replace(' ', '-').lower()}",
            "archive": query.archive,
            "product": "query",
            "status": status,
            "reason": f"{words}: {query.reason}",
            "deferred": False,
        }


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    types = {"string": pa.string(), "double": pa.float64(), "int32": pa.int32(), "int64": pa.int64()}
    types |= {"bool": pa.bool_(), "list<double>": pa.list_(pa.float64())}
    return pa.table(
        {
            name: pa.array([row.get(name) for row in rows], types[kind], from_pandas=True)
            for name, (kind, _) in OBSERVATION_COLUMNS.items()
        }
    )


def _funnel(verdicts: Sequence[Verdict]) -> dict[str, int]:
    counts = Counter(_kind(v) for v in verdicts)
    rejected = {k: n for k, n in counts.most_common() if k not in {"science", "reference", "deferred"}}
    return {
        "offered": len(verdicts),
        "selected science exposures": counts["science"],
        "selected reference exposures": counts["reference"],
        "deferred": counts["deferred"],
        **{f"rejected: {kind}": n for kind, n in rejected.items()},
    }


def _kind(verdict: Verdict) -> str:
    if verdict.status != "selected":
        return (verdict.reason or "").split(":")[0]
    return "deferred" if verdict.deferred else str(verdict.role)
