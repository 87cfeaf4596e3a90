"""Objects of SIMBAD: stars, galaxies, variables and transients, by their main type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.catalogues.columns import known_table
from astrid_assets.archives.catalogues.tap import circle, tap_request
from astrid_assets.archives.catalogues.votable import read_votable

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.protocol import Cone
    from astrid_assets.archives.transport.request import Request

__all__ = ["SIMBAD_ROWS", "parse_simbad", "simbad_request"]

SIMBAD_ROWS = 50_000
"""Rows of one answer; own choice, far below the 2 million of the service."""

_VARIABLES = (
    "V* Ir* Er* RC* RV* Ro* a2* Psr BY* RS* Pu* RR* Ce* dS* SX* WV* bC* cC* gD* El* EB* Mi* LP* Or* TT* Y*O "
    "Ae* CV* No* Sy* XB* LXB HXB BLL Bla QSO"
)
"""Types that change: variable, eruptive, pulsating and eclipsing stars, young ones, quasars."""

_GALAXIES = "G GiC GiP GiG BiC IG PaG LSB H2G SBG bCG EmG rG SyG Sy1 Sy2 AGN LIN"
"""Types of galaxies, those with an active nucleus included."""

_STARS = (
    "* ** PM* HB* RG* AB* HV* WD* LM* BD* MS* sg* s*r s*y s*b WR* Be* Em* Pe* C* S* pA* BS* SB* OH* HS* Ma* "
    "Ev* N*"
)
"""Types of stars that are not known to change."""

_TRANSIENTS = "SN* ev gB"
"""Types of transients: supernovae, transient events, gamma-ray bursts."""

_ABBREVIATED = {"Q?": "QSO", "AG?": "AGN", "Bz?": "Bla", "BL?": "BLL", "LX?": "LXB", "HX?": "HXB"}
"""Candidates whose code is not that of the type with a question mark."""

_KINDS = {
    name: kind
    for kind, names in (
        ("variable", _VARIABLES),
        ("galaxy", _GALAXIES),
        ("star", _STARS),
        ("transient", _TRANSIENTS),
    )
    for name in names.split()
}

_CERTAIN, _CANDIDATE = 0.95, 0.6
"""Confidence in a type, and in one that SIMBAD marks with a question mark; own choice."""

_QUERY = """
SELECT TOP {rows} main_id, ra, dec, otype, pmra, pmdec, plx_value, rvz_redshift, coo_err_maj
FROM basic WHERE {circle}
"""


def simbad_request(cone: Cone, *, max_rows: int = SIMBAD_ROWS) -> Request:
    """Return the query for the objects in a circle."""
    query = _QUERY.format(rows=max_rows, circle=circle(cone))
    return tap_request("simbad", "/simbad/sim-tap", query, max_rows=max_rows)


def parse_simbad(content: bytes) -> pa.Table:
    """Return the objects of a SIMBAD answer that are stars, galaxies, variables or transients.

    Parts of galaxies, clusters, radio and X-ray sources and the like explain no detection and are left
    out. A candidate (``RR?``) has the kind of the confirmed type, with less confidence.
    """
    columns = read_votable(content, service="SIMBAD")
    types = [str(t or "") for t in columns.get("otype", ())]
    kinds = np.array([_kind(name) for name in types], dtype=object)
    keep = np.flatnonzero(kinds != None)  # noqa: E711 -- elementwise
    if not keep.size:
        return known_table(0)

    def numbers(name: str) -> np.ndarray | None:
        return columns[name][keep].astype(float) if name in columns else None

    error = numbers("coo_err_maj")
    return known_table(
        keep.size,
        object_id=[" ".join(str(name).split()) for name in columns["main_id"][keep]],
        kind=kinds[keep].tolist(),
        **{"class": [types[i] for i in keep]},
        ra=numbers("ra"),
        dec=numbers("dec"),
        ref_epoch=2000.0,
        pm_ra=numbers("pmra"),
        pm_dec=numbers("pmdec"),
        parallax=numbers("plx_value"),
        redshift=np.where(kinds[keep] == "star", np.nan, _or_nan(numbers("rvz_redshift"), keep.size)),
        position_error_arcsec=None if error is None else error / 1000.0,
        catalogue="SIMBAD",
        confidence=[_CANDIDATE if "?" in types[i] else _CERTAIN for i in keep],
    )


def _or_nan(values: np.ndarray | None, count: int) -> np.ndarray:
    return np.full(count, np.nan) if values is None else values


def _kind(name: str) -> str | None:
    """Return the kind of a type, None for what is left out; of a candidate that of the confirmed type."""
    names = (name, _ABBREVIATED.get(name, ""), name.replace("?", "*"), name.replace("?", ""))
    return next((_KINDS[n] for n in names if n in _KINDS), None)
