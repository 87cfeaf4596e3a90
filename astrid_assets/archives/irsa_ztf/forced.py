"""ZTF's forced photometry: fluxes at a position on all difference images, whether or not anything is seen.

It is ordered with an account of one's own and computed within hours to days; the service sends an
e-mail with the address of the answer. Fluxes need a correction of their baseline before they are
used: the references may hold light of the source.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from astrid_assets.archives.irsa_ztf.search import JD_MINUS_MJD
from astrid_assets.archives.irsa_ztf.tables import shown
from astrid_assets.archives.transport.request import Request
from astrid_assets.columns import described_schema
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORCED_COLUMNS", "forced_answer_request", "forced_request", "parse_forced"]

_SECRET = frozenset({"email", "userpass", "Authorization"})

FORCED_COLUMNS = {
    "field": ("int64", "", "field of the survey's grid"),
    "ccdid": ("int64", "", "CCD"),
    "qid": ("int64", "", "quadrant"),
    "filter": ("string", "", "ZTF_g, ZTF_r or ZTF_i"),
    "pid": ("int64", "", "processed image"),
    "infobitssci": ("int64", "", "processing flags of the science image"),
    "sciinpseeing": ("float64", "arcsec", "FWHM of the science image"),
    "scisigpix": ("float64", "DN", "noise of a pixel of the science image"),
    "diffmaglim": ("float64", "mag", "5 sigma limit of the difference image"),
    "zpdiff": ("float64", "mag", "AB magnitude of 1 DN of the difference image"),
    "programid": ("int64", "", "programme: 1 is the public survey"),
    "jd": ("float64", "day", "start of the exposure, Julian date (UTC)"),
    "forcediffimflux": ("float64", "DN", "PSF flux on the difference image"),
    "forcediffimfluxunc": ("float64", "DN", "its 1-sigma error"),
    "procstatus": ("string", "", "codes of what went wrong; 0 for nothing"),
}
"""Type, unit and description of the columns that are kept."""


def forced_request(
    ra: float,
    dec: float,
    *,
    mjd_start: float,
    mjd_end: float,
    email: str,
    password: str,
    login: str,
) -> Request:
    """Return the order of forced photometry at a position. It is never sent twice by itself.

    Parameters
    ----------
    ra, dec
        ICRS degrees.

    mjd_start, mjd_end
        First and last time, MJD (UTC).

    email, password
        The account of the user at the service.

    login
        ``user:password`` of the service itself, the same for all users; its manual has it.
    """
    return Request(
        service="ztf_forced",
        path="/cgi-bin/requestForcedPhotometry.cgi",
        kind="request",
        expects="html",
        query=(
            ("ra", f"{ra:.7f}"),
            ("dec", f"{dec:.7f}"),
            ("jdstart", f"{mjd_start + JD_MINUS_MJD:.6f}"),
            ("jdend", f"{mjd_end + JD_MINUS_MJD:.6f}"),
            ("email", email),
            ("userpass", password),
        ),
        headers=_authorization(login),
        secret=_SECRET,
        repeatable=False,
    )


def forced_answer_request(path: str, *, login: str) -> Request:
    """Return the request for an answer.

    Parameters
    ----------
    path
        Path of the file ``..._lc.txt`` that the service's e-mail names.

    login
        As for `forced_request`.
    """
    return Request(
        service="ztf_forced",
        path=path,
        kind="file",
        expects="any",
        headers=_authorization(login),
        secret=_SECRET,
    )


def _authorization(login: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}"),)


def parse_forced(content: bytes) -> pa.Table:
    """Return the measurements of an answer; columns `FORCED_COLUMNS`, in order of time.

    Comments begin with ``#``; the first other line has the names with commas behind them, the rest
    the values with blanks between them, ``null`` for none. Columns that an older answer lacks are null.

    Raises
    ------
    ArchiveUnavailableError
        The service answered with a page of HTML.

    BadAnswerError
        The answer is no such table.
    """
    import pyarrow as pa

    text = content.decode(errors="replace").lstrip()
    if text.startswith("<"):
        raise ArchiveUnavailableError(f"ZTF forced photometry cannot answer: {shown(content)}")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    names = [name.strip(",") for name in lines[0].split()] if lines else []
    rows = [[value.strip(",") for value in line.split()] for line in lines[1:]]
    if not {"jd", "forcediffimflux", "forcediffimfluxunc", "zpdiff"} <= set(names):
        raise BadAnswerError(f"ZTF forced photometry: no table: {shown(content)}")
    if any(len(row) != len(names) for row in rows):
        raise BadAnswerError(f"ZTF forced photometry: a row is cut off: {shown(content)}")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
    try:
        table = pa.table(
            {
                name: _column(columns.get(name), kind, len(rows))
                for name, (kind, _, _) in FORCED_COLUMNS.items()
            },
            schema=described_schema(FORCED_COLUMNS),
        )
    except ValueError as error:
        raise BadAnswerError(f"ZTF forced photometry: {error}: {shown(content)}") from error
    return table.sort_by("jd")


def _column(values: tuple[str, ...] | None, kind: str, n_rows: int) -> list[object]:
    if values is None:
        return [None] * n_rows
    convert = {"int64": lambda text: int(float(text)), "float64": float, "string": str}[kind]
    return [None if value == "null" else convert(value) for value in values]
