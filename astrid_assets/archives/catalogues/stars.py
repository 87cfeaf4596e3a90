"""Stars of Gaia DR3 and variables of the AAVSO's VSX."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.tap import circle, tap_request
from astrid_assets.archives.catalogues.vizier import vizier_request
from astrid_assets.archives.catalogues.votable import Columns, read_votable, shown
from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.protocol import Cone
    from astrid_assets.archives.transport.request import Request

__all__ = ["GAIA_ROWS", "gaia_pages", "gaia_request", "parse_gaia", "parse_vsx", "vsx_request"]

GAIA_ROWS = 2000
"""Rows of a synchronous answer without an account: ``astroquery.gaia`` documents this limit."""

_GAIA_QUERY = """
SELECT TOP {rows} source_id, ref_epoch, ra, ra_error, dec, dec_error, parallax, pmra, pmdec,
phot_g_mean_mag, phot_variable_flag, in_qso_candidates, in_galaxy_candidates
FROM gaiadr3.gaia_source WHERE {circle} AND source_id > {after} ORDER BY source_id
"""

_SUSPECTED, _CERTAIN = 0.6, 0.95
"""Confidence in a suspected variable of VSX (flag V = 1) and in an accepted one (V = 0)."""

_EXCLUDED = (2, 3)
"""Flags V of VSX for what is no variable after all, and for a second entry of the same star."""


def gaia_request(cone: Cone, *, after: int = 0, max_rows: int = GAIA_ROWS) -> Request:
    """Return the query for the sources in a circle, in the order of their numbers.

    Parameters
    ----------
    cone
        The circle.

    after
        Number of the last source of the page before; 0 for the first page.

    max_rows
        Rows of a page.
    """
    query = _GAIA_QUERY.format(rows=max_rows, circle=circle(cone), after=after)
    # one more than are asked for: that TOP has been reached is no overflow
    return tap_request("gaia", "/tap-server/tap", query, max_rows=max_rows + 1, format="votable_plain")


def gaia_pages(ask: Callable[[Request], bytes], cone: Cone, *, max_rows: int = GAIA_ROWS) -> Iterator[bytes]:
    """Yield all pages of Gaia's answer about a circle: a page that is full is followed by another.

    Parameters
    ----------
    ask
        Asks the service.

    cone
        The circle.

    max_rows
        Rows of a page.
    """
    after = 0
    while True:
        content = ask(gaia_request(cone, after=after, max_rows=max_rows))
        yield content
        numbers = read_votable(content, service="Gaia").get("source_id", ())
        if len(numbers) < max_rows:
            return
        after = max(int(number) for number in numbers)


def vsx_request(cone: Cone) -> Request:
    """Return the query for the variables in a circle."""
    return vizier_request("B/vsx/vsx", cone)


def parse_gaia(content: bytes) -> pa.Table:
    """Return the sources of a Gaia TAP answer (table ``gaia_source``), VOTable or JSON.

    Sources that Gaia takes for quasars are variables, those it takes for galaxies are galaxies;
    class ``variable`` are stars of its variability catalogue.
    """
    columns = _tap_json(content) if content.lstrip()[:1] == b"{" else read_votable(content, service="Gaia")
    count = len(columns.get("source_id", ()))
    if not count:
        return known_table(0)
    quasar, galaxy = (_flags(columns, name, count) for name in ("in_qso_candidates", "in_galaxy_candidates"))
    variable = columns.get("phot_variable_flag", np.full(count, "")) == "VARIABLE"
    return known_table(
        count,
        object_id=[f"Gaia DR3 {name}" for name in columns["source_id"]],
        kind=np.select([quasar, galaxy], ["variable", "galaxy"], "star").tolist(),
        **{"class": np.select([quasar, galaxy, variable], ["qso", "galaxy", "variable"], "star").tolist()},
        ra=columns["ra"],
        dec=columns["dec"],
        ref_epoch=columns["ref_epoch"],
        pm_ra=columns.get("pmra"),
        pm_dec=columns.get("pmdec"),
        parallax=columns.get("parallax"),
        position_error_arcsec=_position_error(columns),
        magnitude=columns.get("phot_g_mean_mag"),
        magnitude_band="G",
        catalogue="Gaia DR3",
        confidence=np.where(quasar | galaxy, 0.8, 0.99),
    )


def _tap_json(content: bytes) -> Columns:
    """Return the columns of a TAP answer in JSON (``metadata`` and ``data``)."""
    try:
        document = json.loads(content)
        names, rows = [field["name"].lower() for field in document["metadata"]], document["data"]
        numeric = {f["name"].lower() for f in document["metadata"] if f["datatype"] in ("double", "float")}
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    except (ValueError, LookupError, TypeError) as error:
        raise BadAnswerError(f"Gaia: broken JSON: {shown(content)}") from error
    kinds = [np.float64 if name in numeric else object for name in names]
    return {
        name: np.array(values, dtype=kind) for name, values, kind in zip(names, columns, kinds, strict=True)
    }


def _flags(columns: Columns, name: str, count: int) -> np.ndarray:
    """Return a boolean column; missing ones are False."""
    return np.array([bool(v) for v in columns.get(name, np.zeros(count))], dtype=bool)


def _position_error(columns: Columns) -> np.ndarray | None:
    """Return the larger of the two errors in arcsec; Gaia has them in mas."""
    if not {"ra_error", "dec_error"} <= columns.keys():
        return None
    return np.fmax(columns["ra_error"], columns["dec_error"]) / 1000.0


def parse_vsx(content: bytes) -> pa.Table:
    """Return the variables of a VizieR answer (catalogue ``B/vsx/vsx``).

    Positions have equinox J2000 and no stated epoch, so they are not moved. Stars that turned out to
    be constant, and second entries, are left out.
    """
    columns = read_votable(content, service="VizieR")
    flags = np.array([-1 if v is None else int(v) for v in columns.get("v", ())], dtype=int)
    keep = np.flatnonzero(~np.isin(flags, _EXCLUDED))
    if not keep.size:
        return known_table(0)
    kind = [text or None for text in columns["type"][keep]]
    return known_table(
        keep.size,
        object_id=columns["name"][keep],
        kind="variable",
        **{"class": kind},
        ra=columns["raj2000"][keep].astype(float),
        dec=columns["dej2000"][keep].astype(float),
        magnitude=columns["max"][keep] if "max" in columns else None,
        magnitude_band=columns["n_max"][keep] if "n_max" in columns else None,
        catalogue="VSX",
        confidence=np.where(flags[keep] == 1, _SUSPECTED, _CERTAIN),
    )
