"""The yield forecast of a field: every exposure its archives offer, with what was decided about it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.footprints import centre
from astrid_assets.archives.pairing import Verdict, pair_exposures, pairing_key
from astrid_assets.archives.protocol import Exposure
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.fields import Field

__all__ = ["OBSERVATION_COLUMNS", "Plan", "Query", "exposure_of", "plan"]

OBSERVATION_COLUMNS: dict[str, tuple[str, str]] = {
    "exposure_id": ("string", "identifier, unique in the field"),
    "status": ("string", "selected, rejected or failed"),
    "reason": ("string", "why it is rejected, deferred or failed"),
    "role": ("string", "science or reference"),
    "reference_id": ("string", "reference it is compared with, or is part of"),
    "overlap": ("double", "share of a science exposure that its reference covers"),
    "deferred": ("bool", "selected, but left to a later run by the field's limit"),
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
}
"""Type and description of the columns of the table of observations."""


@dataclass(frozen=True)
class Query:
    """How the search of one archive ended."""

    archive: str
    """Name of the archive."""

    state: str
    """``ok``, ``empty`` (it answered: nothing there), ``failed`` (an outage), or ``not_built``."""

    n_rows: int = 0
    """Exposures it offered."""

    reason: str | None = None
    """Why it failed."""


@dataclass(frozen=True)
class Plan:
    """All that is known about a field before a byte of an image is downloaded."""

    table: pa.Table
    """One row an exposure; `OBSERVATION_COLUMNS`."""

    funnel: dict[str, int]
    """How many exposures were offered, passed, and fell out for which kind of reason."""

    queries: tuple[Query, ...]
    """One for each archive of the field."""


def plan(sky_field: Field, *, previous: pa.Table | None = None) -> Plan:
    """Search all archives of a field and decide about every exposure.

    Parameters
    ----------
    sky_field
        The field.

    previous
        Table of the last plan. An archive that fails now keeps its earlier exposures; one that
        no longer offers an exposure leaves a rejected row.
    """
    earlier = [r for r in _rows(previous) if r["archive"] in sky_field.archives and r["product"] != "query"]
    queries, offered = [], []
    gone: list[Exposure] = []
    for name in sky_field.archives:
        query, exposures = _search(name, sky_field)
        known = [exposure_of(r) for r in earlier if r["archive"] == name]
        if query.state in {"failed", "not_built"}:
            exposures = known
        found = {e.exposure_id for e in exposures}
        gone += [e for e in known if e.exposure_id not in found]
        offered += exposures
        queries.append(query)
    taken = {r["exposure_id"] for r in earlier if r["status"] == "selected" and not r["deferred"]}
    verdicts = pair_exposures(offered, sky_field, taken=taken)
    verdicts += [Verdict(e, "rejected", "no longer offered by the archive") for e in gone]
    rows = [_row(v) for v in verdicts] + [r for q in queries for r in _query_rows(q)]
    return Plan(_table(rows), _funnel(verdicts), tuple(queries))


def exposure_of(row: dict[str, Any]) -> Exposure:
    """Return the archive's exposure from a row of the table of observations."""
    names = {f.name for f in dataclasses.fields(Exposure)}
    values = {name: row[name] for name in names}
    flat = row["footprint"] or []
    times = {t: float("nan") if row[t] is None else row[t] for t in ("mjd_start", "mjd_mid", "mjd_end")}
    corners = tuple(zip(flat[::2], flat[1::2], strict=True))
    return Exposure(**{**values, **times, "footprint": corners})


def _search(name: str, sky_field: Field) -> tuple[Query, list[Exposure]]:
    from astrid_assets.archives import open_archive

    archive = open_archive(name, sky_field)
    if archive is None:
        return Query(name, "not_built", reason=f"archive {name} is not built yet"), []
    try:
        exposures = list(archive.search(sky_field))
    except (ArchiveUnavailableError, BadAnswerError) as error:
        return Query(name, "failed", reason=str(error)), []
    strangers = {e.archive for e in exposures} - {name}
    if strangers:
        reason = f"archive {name} offered exposures of {', '.join(sorted(strangers))}"
        return Query(name, "failed", reason=reason), []
    return Query(name, "ok" if exposures else "empty", len(exposures)), exposures


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
    }


def _query_rows(query: Query) -> Iterable[dict[str, Any]]:
    """Yield the row that stands for a search without an answer."""
    if query.state in {"failed", "not_built"}:
        status = "failed" if query.state == "failed" else "rejected"
        reason = query.reason if query.state == "not_built" else f"search failed: {query.reason}"
        yield {
            "exposure_id": f"query-{query.archive}",
            "archive": query.archive,
            "product": "query",
            "status": status,
            "reason": reason,
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
