"""Stars of Gaia DR3 and variables of the AAVSO's VSX."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.votable import Columns, read_votable, shown
from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["parse_gaia", "parse_vsx"]

_SUSPECTED, _CERTAIN = 0.6, 0.95
"""Confidence in a suspected variable of VSX (flag V = 1) and in an accepted one (V = 0)."""

_EXCLUDED = (2, 3)
"""Flags V of VSX for what is no variable after all, and for a second entry of the same star."""


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
