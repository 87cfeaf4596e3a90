"""Stand-ins for catalogue services: what they know about the simulated sky, in their own formats.

Where a folder of recorded answers is given and a question is about the place of one of them, the
recorded answer is sent. The tables of transients are of the whole sky at the real services; here they
hold the transients about the fields that are configured.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.archives.catalogues.cones import inside
from astrid_assets.archives.protocol import Cone, Offer
from astrid_assets.archives.simulated import catalogues as simulated
from astrid_assets.archives.simulated.survey import PIXEL_SCALE
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.archives.simulated.votable import votable
from astrid_assets.archives.standin.catalogue_rows import (
    BTS_HEAD,
    NED_FIELDS,
    PS1_TYPES,
    VIZIER_PS1,
    bts_row,
    ned_row,
    ps1_rows,
    tns_object,
    tns_search,
    vizier_ps1_row,
    with_skybot_identifiers,
    zipped,
)
from astrid_assets.archives.standin.catalogue_tables import (
    XML,
    TextTable,
    circle_of,
    csv_bytes,
    error_document,
    separation_arcsec,
    tap_reply,
    top_of,
    vizier_cone,
    vizier_parameters,
)
from astrid_assets.archives.standin.messages import Asked, Reply

if TYPE_CHECKING:
    from astrid_assets.archives.standin.server import Handler

__all__ = ["CatalogueServices", "handlers"]

_SEED, _TRANSIENT_RATE = 1, 2.0  # as `astrid_assets.fields.SimulatedOptions` has them
_SIDE = 1024  # pixels of the tile of a place that belongs to no field
_NEAR = 2.0  # degrees about a field within which its own sky is served
_MEMORY = 0.5  # degrees about a field whose transients are in the tables
_SIMBAD_STARS = 13.0  # G magnitude to which the stars of SIMBAD are complete here
_JSON, _CSV = "application/json", "text/csv"

_SIMBAD_TYPES = {"RRAB": "RR*", "EW": "EB*", "EA": "EB*", "SR": "LP*", "AGN": "QSO", "VAR": "V*?"}

_NAMES = {
    "m1": (83.6324, 22.0174, "M   1", "SNRemnant"),
    "m31": (10.684708, 41.26875, "M  31", "Galaxy"),
    "m51": (202.469575, 47.195258, "M  51", "Seyfert2"),
    "m101": (210.802429, 54.34875, "M 101", "GinPair"),
    "sn 2011fe": (210.77417, 54.27372, "SN 2011fe", "SN"),
}
"""Positions of a few objects (SIMBAD), for a resolver without recorded answers."""


@dataclass(frozen=True)
class _Recording:
    """A recorded answer and the place that it is about."""

    file: str
    ra: float
    dec: float
    media_type: str = XML


_RECORDED = {
    "ned": _Recording("ned/query_near_position.xml", 83.822083, -5.391111),
    "skybot": _Recording("skybot/skybot_query.vot", 81.2833, 4.49278),
    "vizier": _Recording("vizier/viz.xml", 101.287155, -16.716116),
    "ps1_catalog": _Recording("mast/panstarrs.json", 5.97, -32.53, _JSON),
}
_MATCHED = {
    "I/355/gaiadr3": ("RA_ICRS", "DE_ICRS"),
    "II/349/ps1": ("RAJ2000", "DEJ2000"),
    "B/vsx/vsx": ("RAJ2000", "DEJ2000"),
}
"""Tables of the cross-match service, with the columns of their positions."""

_SAME_PLACE = 1.0 / 60.0  # degrees


def handlers(recorded: Path | None = None) -> dict[str, Handler]:
    """Return the handlers of the catalogue services.

    Parameters
    ----------
    recorded
        Folder of recorded answers; None to synthesise all.
    """
    return CatalogueServices(recorded=recorded).handlers()


# --- the sky --------------------------------------------------------------------------------------


def _configured() -> list[Tile]:
    """Return the tiles of the fields that are configured; none without a file of fields."""
    from astrid_assets.fields import SimulatedOptions, fields_path, load_fields

    if not fields_path().is_file():
        return []
    default = {"simulated": SimulatedOptions()}
    fields = load_fields().values()
    return [Tile.of(f if f.simulated else f.model_copy(update=default)) for f in fields]


class CatalogueServices:
    """Services that know the objects of the simulated sky.

    Parameters
    ----------
    recorded
        Folder of recorded answers, or None.

    tiles
        Fields whose sky is served, and whose transients are in the tables; None takes those of
        ``fields.yaml``.

    clock
        The present, MJD (UTC); None takes the clock of the simulated survey.
    """

    def __init__(
        self,
        *,
        recorded: Path | None = None,
        tiles: Sequence[Tile] | None = None,
        clock: float | None = None,
    ) -> None:
        self._recorded, self._tiles, self._clock = recorded, tiles, clock

    def handlers(self) -> dict[str, Handler]:
        """Return what answers for each service."""
        own: dict[str, Callable[[Asked], Reply]] = {
            "gaia": self.gaia,
            "ps1_catalog": self.ps1,
            "vizier": self.vizier,
            "xmatch": self.xmatch,
            "simbad": self.simbad,
            "ned": self.ned,
            "sdss": self.sdss,
            "skybot": self.skybot,
            "tns": self.tns,
            "bts": self.bts,
            "mast_resolver": self.resolver,
        }
        return dict(own)

    @property
    def _now(self) -> float:
        from astrid_assets.clock import simulated_now

        return simulated_now() if self._clock is None else self._clock

    def _places(self) -> Sequence[Tile]:
        return _configured() if self._tiles is None else self._tiles

    def _tile(self, cone: Cone) -> Tile:
        """Return the tile of the field at a circle, wide enough for it; else one of the circle's own."""
        near = [tile for tile in self._places() if _distance(tile, cone) < _NEAR]
        tile = min(near, key=lambda tile: _distance(tile, cone), default=_tile_at(cone.ra, cone.dec))
        side = ceil(2 * (_distance(tile, cone) + cone.radius) * 3600.0 / PIXEL_SCALE)
        return replace(tile, ny=max(side, tile.ny), nx=max(side, tile.nx))

    def _known(self, name: str, cone: Cone) -> bytes:
        offer = Offer(name, name, name, "")
        return simulated.answer(offer, self._tile(cone), cone, self._now)

    def _table(self, name: str, cone: Cone) -> TextTable:
        return TextTable.of(self._known(name, cone))

    def _galaxies(self, cone: Cone) -> list[dict[str, str]]:
        lines = self._known("sdss", cone).decode().splitlines()[1:]
        return list(csv.DictReader(lines))

    def _recording(self, service: str, cone: Cone) -> Reply | None:
        """Return the recorded answer about a place."""
        known = _RECORDED.get(service)
        if self._recorded is None or known is None:
            return None
        here = inside(np.array([known.ra]), np.array([known.dec]), replace(cone, radius=_SAME_PLACE))
        path = self._recorded / known.file
        return Reply(path.read_bytes(), known.media_type) if here[0] and path.is_file() else None

    # --- TAP --------------------------------------------------------------------------------------

    def gaia(self, asked: Asked) -> Reply:
        """Answer a synchronous query of Gaia's archive."""
        query = asked.value("query")
        cone = circle_of(query)
        if not asked.path.endswith("/tap-server/tap/sync") or cone is None:
            return error_document("only queries for sources in a circle", 400)
        table = self._table("gaia_dr3", cone)
        numbers = np.array([int(text) for text in table.column("source_id")], dtype=np.int64)
        after = re.search(r"source_id\s*>\s*(\d+)", query)
        order = [i for i in np.argsort(numbers) if after is None or numbers[i] > int(after[1])]
        return tap_reply(table.taking(order), asked, query)

    def simbad(self, asked: Asked) -> Reply:
        """Answer a synchronous query of SIMBAD's table ``basic``, or about its columns as recorded."""
        query = asked.value("query")
        if self._recorded is not None and "TAP_SCHEMA" in query:
            return Reply((self._recorded / "simbad/simbad_basic_columns.xml").read_bytes(), XML)
        cone = circle_of(query)
        if not asked.path.endswith("/sim-tap/sync") or cone is None:
            return error_document("only queries for objects in a circle", 400)
        return tap_reply(self._simbad_table(cone), asked, query)

    def _simbad_table(self, cone: Cone) -> TextTable:
        fields = (
            ("main_id", "char", ""),
            ("ra", "double", "deg"),
            ("dec", "double", "deg"),
            ("otype", "char", ""),
            ("pmra", "double", "mas.yr-1"),
            ("pmdec", "double", "mas.yr-1"),
            ("plx_value", "double", "mas"),
            ("rvz_redshift", "double", ""),
            ("coo_err_maj", "float", "mas"),
        )
        stars = self._table("gaia_dr3", cone)
        bright = np.flatnonzero(stars.numbers("phot_g_mean_mag") < _SIMBAD_STARS)
        names = ("designation", "ra", "dec", "pmra", "pmdec", "parallax", "ra_error")
        rows = [
            (name, ra, dec, "*", pm_ra, pm_dec, parallax, "", error)
            for name, ra, dec, pm_ra, pm_dec, parallax, error in stars.select(names).taking(bright).rows
        ]
        variables = self._table("vsx", cone).select(("Name", "RAJ2000", "DEJ2000", "Type"))
        rows += [
            (f"V* {name}", ra, dec, _SIMBAD_TYPES.get(kind, "V*"), "", "", "", "", "")
            for name, ra, dec, kind in variables.rows
        ]
        rows += [
            (f"SDSS {row['objid']}", row["ra"], row["dec"], "G", "", "", "", row["z"], "")
            for row in self._galaxies(cone)
            if row["z"] != "null"
        ]
        return TextTable(fields, tuple(rows))

    # --- cones ------------------------------------------------------------------------------------

    def vizier(self, asked: Asked) -> Reply:
        """Answer for the catalogues ``B/vsx/vsx``, ``I/355/gaiadr3`` and ``II/349/ps1``."""
        given = vizier_parameters(asked)
        cone = vizier_cone(given)
        if cone is None:
            return error_document("no position")
        recording = self._recording("vizier", cone)
        if recording is not None:
            return recording
        table = self._vizier_table(given.get("-source", ""), cone)
        if table is None:
            return Reply(votable((), (), infos={"-source": given.get("-source", "")}), XML)
        limit = given.get("-out.max", "50")
        kept = table.taking(range(len(table.rows))[: None if limit == "unlimited" else int(limit)])
        return kept.xml({"-source": given["-source"], "-c": given["-c"], "-out.max": limit}, asked.fault)

    def _vizier_table(self, source: str, cone: Cone) -> TextTable | None:
        if source.startswith("B/vsx"):
            return self._table("vsx", cone)
        if source.startswith("I/355"):
            found = self._table("gaia_dr3", cone)
            names = (
                "ra",
                "dec",
                "source_id",
                "ra_error",
                "dec_error",
                "parallax",
                "pmra",
                "pmdec",
                "phot_g_mean_mag",
            )
            told = ("RA_ICRS", "DE_ICRS", "Source", "e_RA_ICRS", "e_DE_ICRS", "Plx", "pmRA", "pmDE", "Gmag")
            chosen = found.select(names)
            fields = tuple((name, *field[1:]) for name, field in zip(told, chosen.fields, strict=True))
            return replace(chosen, fields=fields)
        if source.startswith("II/349"):
            rows = [vizier_ps1_row(row) for row in ps1_rows(self._tile(cone).seed, cone)]
            return TextTable(VIZIER_PS1, tuple(rows))
        return None

    def ps1(self, asked: Asked) -> Reply:
        """Answer a search for mean objects."""
        cone = Cone(*(float(asked.value(name)) for name in ("ra", "dec", "radius")))
        recording = self._recording("ps1_catalog", cone)
        if recording is not None:
            return recording
        if asked.fault == "error_status":
            return Reply(b'{"status": "ERROR", "msg": "the query could not be executed"}', _JSON)
        names = asked.value("columns").strip("[]").split(",")
        size, page = int(asked.value("pagesize", "50001")), int(asked.value("page", "1"))
        found = [] if asked.fault == "empty_table" else ps1_rows(self._tile(cone).seed, cone)
        found = found * 2 if asked.fault == "duplicates" else found
        rows = [[row[name] for name in names] for row in found[size * (page - 1) : size * page]]
        info = [{"name": name, "type": PS1_TYPES[name], "description": ""} for name in names]
        return Reply(json.dumps({"info": info, "data": rows}).encode(), _JSON)

    def ned(self, asked: Asked) -> Reply:
        """Answer a search near a position; a longitude without a unit is in hours, as astroquery sends it."""
        lon = asked.value("lon")
        ra = float(lon[:-1]) if lon.endswith("d") else 15.0 * float(lon)
        cone = Cone(ra, float(asked.value("lat").removesuffix("d")), float(asked.value("radius")) / 60.0)
        recording = self._recording("ned", cone)
        if recording is not None:
            return recording
        rows = [row for row in self._galaxies(cone) if row["z"] != "null"]
        rows.sort(key=lambda row: float(row["ra"]))
        table = TextTable(NED_FIELDS, tuple(ned_row(i, row, cone) for i, row in enumerate(rows, 1)))
        return table.xml({}, asked.fault)

    def sdss(self, asked: Asked) -> Reply:
        """Answer a query for the galaxies near a position."""
        query = asked.value("cmd")
        found = re.search(r"fGetNearbyObjEq\(([-\d.]+), *([-\d.]+), *([-\d.]+)\)", query)
        if found is None:
            return Reply(b"only queries for galaxies near a position", "text/plain", 400)
        ra, dec, arcmin = (float(text) for text in found.groups())
        first, head, *rows = self._known("sdss", Cone(ra, dec, arcmin / 60.0)).decode().splitlines()
        limit = top_of(query)
        rows = {"empty_table": [], "duplicates": rows * 2}.get(asked.fault or "", rows)[:limit]
        return Reply(("\n".join([first, head, *rows]) + "\n").encode(), _CSV)

    def skybot(self, asked: Asked) -> Reply:
        """Answer a search for the bodies in a circle at a time."""
        ra, dec, radius, epoch = (float(asked.value(name)) for name in ("-ra", "-dec", "-rd", "-ep"))
        cone = Cone(ra, dec, radius, epoch - 2400000.5)
        recording = self._recording("skybot", cone)
        if recording is not None:
            return recording
        if asked.fault == "error_status":
            return error_document("the database is not currently reachable")
        reply = self._table("skybot", cone).xml({"Ticket": "0", "Epoch": f"{epoch}"}, asked.fault)
        return replace(reply, content=with_skybot_identifiers(reply.content))

    # --- cross-match ------------------------------------------------------------------------------

    def xmatch(self, asked: Asked) -> Reply:
        """Match an uploaded table with a table of VizieR; ``/tables`` lists those there are."""
        if asked.path.endswith("/tables"):
            return Reply("".join(f"{name}\n" for name in _MATCHED).encode(), "text/plain")
        upload = asked.uploads.get("cat1", b"")
        source = asked.value("cat2").removeprefix("vizier:")
        recorded = None if self._recorded is None else self._recorded / "xmatch"
        if (
            recorded is not None
            and source == "II/246/out"
            and upload == (recorded / "posList.csv").read_bytes()
        ):
            return Reply((recorded / "query_res.csv").read_bytes(), _CSV)
        head, *rows = list(csv.reader(io.StringIO(upload.decode())))
        if source not in _MATCHED:
            return error_document(f"unknown table {source}", 400)
        places = [head.index(asked.value(name)) for name in ("colRA1", "colDec1")]
        distance = float(asked.value("distMaxArcsec"))
        table = self._pairs(source, [row for row in rows if row], places, distance)
        fields = (("angDist", "double", "arcsec"), *((n, _type_of(n), "") for n in head), *table.fields)
        table = TextTable(fields, table.rows)
        if asked.value("RESPONSEFORMAT") == "votable":
            return table.xml({}, asked.fault)
        return table.spoiled(asked.fault).csv()

    def _pairs(
        self, source: str, rows: Sequence[Sequence[str]], places: list[int], arcsec: float
    ) -> TextTable:
        pairs: list[tuple[str, ...]] = []
        fields: tuple[tuple[str, str, str], ...] = ()
        for row in rows:
            ra, dec = (float(row[place]) for place in places)
            cone = Cone(ra, dec, arcsec / 3600.0)
            table = self._vizier_table(source, cone)
            if table is None:
                continue
            fields = table.fields
            away = separation_arcsec(*(table.numbers(name) for name in _MATCHED[source]), cone)
            pairs += [(f"{away[i]:.6f}", *row, *table.rows[i]) for i in np.argsort(away)]
        return TextTable(fields, tuple(pairs))

    # --- transients -------------------------------------------------------------------------------

    def tns(self, asked: Asked) -> Reply:
        """Answer with the daily table, a search or an object; strangers and wrong keys are refused."""
        if not asked.headers.get("user-agent", "").startswith("tns_marker{") or not asked.value("api_key"):
            return Reply(b'{"id_code": 401, "id_message": "Unauthorized", "data": {}}', _JSON, 401)
        rows = self._reports(asked.fault)
        if asked.path.endswith(".csv.zip"):
            first = [f"{day_of(floor(self._now))} 00:00:00"]
            return Reply(zipped("tns_public_objects.csv", csv_bytes([first, *rows])), "application/zip")
        if asked.fault == "error_status":
            return Reply(b'{"id_code": 400, "id_message": "Bad request", "data": {}}', _JSON)
        objects = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
        data = json.loads(asked.value("data") or "{}")
        reply = tns_search(objects, data) if asked.path.endswith("/search") else tns_object(objects, data)
        code, text = (200, "OK") if reply is not None else (110, "No results found.")
        document = {"id_code": code, "id_message": text, "data": {"received_data": data, "reply": reply}}
        return Reply(json.dumps(document).encode(), _JSON)

    def _reports(self, fault: str | None) -> list[list[str]]:
        """Return header and rows of the reports about all fields, each once."""
        rows: dict[tuple[str, ...], None] = {}
        header: list[str] = []
        for tile in self._places() or [_tile_at(0.0, 0.0)]:
            cone = Cone(tile.ra, tile.dec, _MEMORY)
            content = simulated.answer(Offer("tns", "", "", ""), tile, cone, self._now)
            _, header, *found = list(csv.reader(io.StringIO(content.decode())))
            rows |= dict.fromkeys(map(tuple, found))
        kept = [] if fault == "empty_table" else [list(row) for row in rows]
        return [header, *(kept * 2 if fault == "duplicates" else kept)]

    def bts(self, asked: Asked) -> Reply:
        """Answer with the table of the Bright Transient Survey."""
        head, *rows = self._reports(asked.fault)
        objects = [dict(zip(head, row, strict=True)) for row in rows]
        return Reply(csv_bytes([BTS_HEAD, *(bts_row(row) for row in objects)]), _CSV)

    # --- names ------------------------------------------------------------------------------------

    def resolver(self, asked: Asked) -> Reply:
        """Answer where a few well-known objects are, or those that were recorded."""
        name = asked.value("name").strip().lower()
        found: list[dict[str, Any]] = []
        path = None if self._recorded is None else self._recorded / "mast" / "resolver.json"
        if path is not None and path.is_file():
            known = json.loads(path.read_bytes())["resolvedCoordinate"]
            found = [row for row in known if row["searchString"] == name]
        if not found and name in _NAMES:
            ra, dec, canonical, kind = _NAMES[name]
            row = {"searchString": name, "resolver": "SIMBAD", "canonicalName": canonical, "objectType": kind}
            found = [{**row, "cached": False, "ra": ra, "decl": dec}]
        if asked.fault in ("empty_table", "error_status"):
            found = []
        return Reply(json.dumps({"resolvedCoordinate": found}).encode(), _JSON)


def _tile_at(ra: float, dec: float) -> Tile:
    return Tile(_SEED, round(ra % 360.0, 6), round(dec, 6), _SIDE, _SIDE, True, 0.0, _TRANSIENT_RATE)


def _distance(tile: Tile, cone: Cone) -> float:
    """Return the distance of the centres, degrees."""
    return float(separation_arcsec(np.array([tile.ra]), np.array([tile.dec]), cone)[0]) / 3600.0


def _type_of(name: str) -> str:
    return "double" if name in ("ra", "dec") else "char"


def day_of(mjd: int) -> str:
    from astrid_assets.clock import from_mjd

    return from_mjd(mjd).strftime("%Y-%m-%d")
