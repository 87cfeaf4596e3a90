"""Light curves of the sources of ZTF's catalogue, from IRSA's service ``nph_light_curves``.

These are detections on single exposures; positions where nothing was found have no rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from astrid_assets.archives.irsa_ztf.tables import read_table, shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.columns import described_schema
from astrid_assets.errors import BadAnswerError, ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.protocol import Cone

__all__ = ["LIGHT_CURVE_COLUMNS", "light_curve_request", "parse_light_curves"]

LARGEST_RADIUS = 600.0 / 3600.0
"""Degrees; the service refuses larger circles."""

_BAD = 32768
"""Bit of ``catflags`` of measurements that are not to be used (clouds, ghosts, the Moon)."""

LIGHT_CURVE_COLUMNS = {
    "oid": ("int64", "", "source, one for each field, quadrant and filter"),
    "expid": ("int64", "", "exposure"),
    "hjd": ("float64", "day", "heliocentric Julian date of the middle of the exposure"),
    "mjd": ("float64", "day", "start of the exposure, MJD (UTC)"),
    "mag": ("float64", "mag", "PSF magnitude (AB, calibrated against PS1)"),
    "magerr": ("float64", "mag", "1-sigma error"),
    "catflags": ("int64", "", "flags of the measurement"),
    "filtercode": ("string", "", "zg, zr or zi"),
    "ra": ("float64", "deg", "right ascension of the source (ICRS)"),
    "dec": ("float64", "deg", "declination"),
    "limitmag": ("float64", "mag", "5 sigma limit of the exposure"),
}
"""Type, unit and description of the columns that are kept."""


def light_curve_request(cone: Cone, *, bands: tuple[str, ...] = (), release: str | None = None) -> Request:
    """Return the request for the light curves of the sources in a circle.

    Parameters
    ----------
    cone
        Circle, at most 600 arcsec.

    bands
        Canonical names, of ``g``, ``r``, ``i``; empty takes all.

    release
        Collection such as ``ztf_dr24``; None takes the newest.

    Raises
    ------
    ConfigurationError
        The circle is too large.
    """
    if cone.radius > LARGEST_RADIUS:
        msg = f"light curves come for circles of at most 600 arcsec, not {cone.radius * 3600.0:.0f}"
        raise ConfigurationError(msg)
    return Request(
        service="irsa",
        path="/cgi-bin/ZTF/nph_light_curves",
        kind="catalogue",
        expects="csv",
        query=(
            ("POS", f"CIRCLE {cone.ra:.8f} {cone.dec:.8f} {cone.radius:.8f}"),
            *((("BANDNAME", ",".join(bands)),) if bands else ()),
            ("BAD_CATFLAGS_MASK", str(_BAD)),
            *((("COLLECTION", release),) if release else ()),
            ("FORMAT", "csv"),
        ),
    )


def parse_light_curves(content: bytes) -> pa.Table:
    """Return the measurements of an answer; columns `LIGHT_CURVE_COLUMNS`, by source and time.

    Raises
    ------
    ArchiveUnavailableError
        IRSA answered with a page that reports a fault.

    BadAnswerError
        The answer is no such table.
    """
    import pyarrow as pa

    rows = read_table(content, required=LIGHT_CURVE_COLUMNS)
    convert = {"int64": int, "float64": float, "string": str}
    try:
        columns = {
            name: [convert[kind](row[name]) if row[name] else None for row in rows]
            for name, (kind, _, _) in LIGHT_CURVE_COLUMNS.items()
        }
    except ValueError as error:
        raise BadAnswerError(f"IRSA: light curve with {error}: {shown(content)}") from error
    table = pa.table(columns, schema=described_schema(LIGHT_CURVE_COLUMNS))
    return table.sort_by([("oid", "ascending"), ("mjd", "ascending")])
