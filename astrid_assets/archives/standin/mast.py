"""Stand-in for MAST's portal and TESScut: recorded answers where a folder of them is given, else made ones.

The faults of content that it knows are ``executing``, ``error_status``, ``empty_table``, ``pages`` and
``duplicates``.
"""

from __future__ import annotations

import io
import json
import math
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.archives.standin.mast_rows import (
    FIELDS,
    PRODUCT_FIELDS,
    mosaic_of,
    observations,
    place_at,
    products,
)
from astrid_assets.archives.standin.messages import Asked, Reply

if TYPE_CHECKING:
    from astrid_assets.archives.standin.server import Handler

__all__ = ["MastService", "TesscutService", "handlers"]

_PATIENCE = 3
"""Answers to a question that say that it is still executing, under fault ``executing``."""

_MANY_PAGES = 5
"""Pages of an answer under fault ``pages``."""

_RECORDED: Mapping[str, str] = {
    "Mast.Caom.Cone": "caom.json",
    "Mast.Caom.Filtered": "advSearch.json",
    "Mast.Caom.Filtered.Position": "advSearchPos.json",
    "Mast.Caom.Products": "products.json",
}
"""Recorded answer by service of the portal."""

Row = Mapping[str, Any]


def handlers(recorded: Path | None = None) -> dict[str, Handler]:
    """Return the handlers of services ``mast`` and ``tesscut``."""
    folder = None if recorded is None or not (recorded / "mast").is_dir() else recorded / "mast"
    tesscut = TesscutService(folder)
    return {"mast": MastService(folder, tesscut), "tesscut": tesscut}


class MastService:
    """The portal, its files, and below ``/tesscut`` what lives at the same host.

    Parameters
    ----------
    recorded
        Folder of recorded answers; None makes all of them up.

    tesscut
        Handler of ``/tesscut``.
    """

    def __init__(self, recorded: Path | None = None, tesscut: TesscutService | None = None) -> None:
        self._recorded = recorded
        self._tesscut = tesscut or TesscutService(recorded)
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> Reply:
        """Return what MAST answers."""
        if asked.path.startswith("/tesscut/"):
            return self._tesscut.answer(asked)
        routes: dict[str, Callable[[Asked], Reply]] = {
            "/api/v0/invoke": self._invoke,
            "/portal/Mashup/Mashup.asmx/columnsconfig": self._columns,
            "/api/v0.1/Download/file": self._file,
        }
        route = routes.get(asked.path)
        return Reply(b"not found\n", "text/plain", 404) if route is None else route(asked)

    def _columns(self, asked: Asked) -> Reply:  # noqa: ARG002 -- one configuration for all tables
        if self._recorded is not None:
            return Reply((self._recorded / "columnsconfig.json").read_bytes(), "application/json")
        several = ("obs_collection", "project", "filters", "wavelength_region")
        kinds = {"string": "char", "float": "double", "int": "int"}
        columns = {
            name: {"vot.datatype": kinds[kind], **({"separator": ";"} if name in several else {})}
            for name, kind in FIELDS.items()
        }
        return _json(columns)

    def _invoke(self, asked: Asked) -> Reply:
        question = json.loads(asked.value("request"))
        if asked.fault == "executing" and self._still_executing(question):
            return _json({"status": "EXECUTING", "msg": "", "data": [], "fields": []})
        if asked.fault == "error_status":
            return _json({"status": "ERROR", "msg": "Error Executing Command: Timeout expired.", "data": []})
        found = self._table(question)
        if found is None:
            message = f"unknown service {question.get('service')}"
            return _json({"status": "ERROR", "msg": message, "data": []})
        rows, fields = found
        rows = [] if asked.fault == "empty_table" else list(rows)
        if asked.fault == "duplicates":
            rows = [row for row in rows for _ in range(3)]
        size = int(question.get("pagesize") or 50_000)
        if asked.fault == "pages":
            size = max(1, math.ceil(len(rows) / _MANY_PAGES))
        return _json(_paged(rows, fields, size=size, page=int(question.get("page") or 1)))

    def _still_executing(self, question: Row) -> bool:
        key = json.dumps({k: v for k, v in question.items() if k != "cacheBreaker"}, sort_keys=True)
        with self._lock:
            self._asked[key] += 1
            return self._asked[key] <= _PATIENCE

    def _table(self, question: Row) -> tuple[Sequence[Row], Sequence[Row]] | None:
        """Return rows and fields of an answer, before it is cut into pages."""
        service, parameters = question["service"], question["params"]
        counting = str(parameters.get("columns", "")).startswith("COUNT")
        if service not in _RECORDED:
            return None
        if self._recorded is not None:
            name = "countsResp.json" if counting else _RECORDED[service]
            document = json.loads((self._recorded / name).read_bytes())
            return document["data"], document["fields"]
        rows, fields = _made(service, parameters)
        if counting:
            return [{"Column1": len(rows)}], [{"name": "Column1", "type": "string"}]
        return rows, [{"name": name, "type": kind} for name, kind in fields.items()]

    def _file(self, asked: Asked) -> Reply:
        from astrid_assets.archives.standin.jwst import mosaic_file

        name = asked.value("uri").rsplit("/", 1)[-1]
        mosaic = mosaic_of(name.removesuffix("_i2d.fits"))
        if mosaic is None or not name.endswith("_i2d.fits"):
            return Reply(b"The requested file was not found\n", "text/plain", 404)
        return Reply(mosaic_file(mosaic), "application/fits")


def _json(document: Any) -> Reply:
    return Reply(json.dumps(document).encode(), "application/json")


def _paged(rows: Sequence[Row], fields: Sequence[Row], *, size: int, page: int) -> Row:
    """Return the document of one page."""
    part = rows[(page - 1) * size : page * size]
    paging = {
        "page": page,
        "pageSize": size,
        "pagesFiltered": max(1, math.ceil(len(rows) / size)),
        "rows": len(part),
        "rowsFiltered": len(rows),
        "rowsTotal": len(rows),
    }
    return {"status": "COMPLETE", "msg": "", "data": part, "fields": fields, "paging": paging}


# --- made answers -------------------------------------------------------------------------------


def _made(service: str, parameters: Row) -> tuple[list[Row], Mapping[str, str]]:
    """Return rows and types of columns of an answer about any position."""
    if service == "Mast.Caom.Products":
        obsids = str(parameters["obsid"]).split(",")
        return [row for obsid in obsids for row in products(obsid.strip())], PRODUCT_FIELDS
    if service == "Mast.Caom.Cone":
        return list(observations(place_at(float(parameters["ra"]), float(parameters["dec"])))), FIELDS
    if service == "Mast.Caom.Filtered":
        return [], FIELDS  # nothing is anywhere until somebody looks there
    ra, dec, _ = (float(text) for text in str(parameters["position"]).split(","))
    rows = observations(place_at(ra, dec))
    return [row for row in rows if all(_passes(row, f) for f in parameters["filters"])], FIELDS


def _passes(row: Row, criterion: Row) -> bool:
    """Tell whether a row meets a criterion: one of some texts, a range, or a text with ``%``."""
    value = row.get(criterion["paramName"])
    for wanted in criterion["values"]:
        if isinstance(wanted, Mapping):
            if value is not None and float(wanted["min"]) <= float(value) <= float(wanted["max"]):
                return True
        elif str(value) == str(wanted) or str(wanted) in str(value).split(";"):
            return True
    pattern = criterion.get("freeText")
    return pattern is not None and str(value).startswith(str(pattern).rstrip("%"))


# --- TESScut ------------------------------------------------------------------------------------


class TesscutService:
    """TESScut: one sector everywhere, with a cube of a star on a falling background.

    Parameters
    ----------
    recorded
        Folder of recorded answers; None makes all of them up.
    """

    def __init__(self, recorded: Path | None = None) -> None:
        self._recorded = recorded

    def answer(self, asked: Asked) -> Reply:
        """Return what TESScut answers."""
        path = asked.path.removeprefix("/tesscut")
        if path == "/api/v0.1/sector":
            return self._sectors(asked)
        if path == "/api/v0.1/astrocut":
            return self._cutout(asked)
        return Reply(b"not found\n", "text/plain", 404)

    def _sectors(self, asked: Asked) -> Reply:
        if asked.fault == "empty_table":
            return _json({"results": []})
        if self._recorded is not None:
            return Reply((self._recorded / "tess_sector.json").read_bytes(), "application/json")
        return _json(
            {"results": [{"sectorName": "tess-s0001-1-3", "sector": "1", "camera": "1", "ccd": "3"}]}
        )

    def _cutout(self, asked: Asked) -> Reply:
        if self._recorded is not None:
            name = "astrocut_107.27_-70.0_5x5.zip"
            return Reply((self._recorded / name).read_bytes(), "application/zip")
        ra, dec = float(asked.value("ra")), float(asked.value("dec"))
        nx, ny = int(asked.value("x")), int(asked.value("y"))
        name = f"tess-s0001-1-3_{ra:.6f}_{dec:.6f}_{nx}x{ny}_astrocut.fits"
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), _target_pixels(ra, dec, (ny, nx)))
        return Reply(out.getvalue(), "application/zip")


def _target_pixels(ra: float, dec: float, shape: tuple[int, int], *, frames: int = 24) -> bytes:
    """Return a target pixel file in the layout of Astrocut: PIXELS, a row for each frame, and APERTURE."""
    from astropy.io import fits

    ny, nx = shape
    y, x = np.indices(shape)
    star = np.exp(-((x - (nx - 1) / 2.0) ** 2 + (y - (ny - 1) / 2.0) ** 2) / 2.0)
    flux = 100.0 * star + np.linspace(20.0, 10.0, frames)[:, None, None]
    values = {"FLUX": flux, "FLUX_ERR": np.sqrt(flux / 1800.0)}
    columns = [
        fits.Column("TIME", "D", unit="BJD - 2457000, days", array=1325.3 + np.arange(frames) / 48.0),
        fits.Column("QUALITY", "J", array=np.zeros(frames, np.int32)),
        *(
            fits.Column(name, f"{ny * nx}E", dim=f"({nx},{ny})", unit="e-/s", array=array.astype(np.float32))
            for name, array in values.items()
        ),
    ]
    world = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": (nx + 1) / 2.0,
        "CRPIX2": (ny + 1) / 2.0,
        "CDELT1": -21.0 / 3600.0,
        "CDELT2": 21.0 / 3600.0,
    }
    primary = {"TELESCOP": "TESS", "SECTOR": 1, "CAMERA": 1, "CCD": 3, "RA_OBJ": ra, "DEC_OBJ": dec}
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(header=fits.Header(primary)),
            fits.BinTableHDU.from_columns(columns, name="PIXELS"),
            fits.ImageHDU(np.ones(shape, np.int32), fits.Header(world), name="APERTURE"),
        ]
    )
    out = io.BytesIO()
    hdus.writeto(out)
    return out.getvalue()
