"""Tables as text, as catalogue services of the stand-in write them, and what is read from questions."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

import numpy as np

from astrid_assets.archives.protocol import Cone
from astrid_assets.archives.simulated.votable import votable
from astrid_assets.archives.standin.messages import Asked, Reply

__all__ = [
    "TextTable",
    "circle_of",
    "csv_bytes",
    "error_document",
    "separation_arcsec",
    "tap_reply",
    "top_of",
    "vizier_cone",
    "vizier_parameters",
]

XML = "text/xml"
_CSV = "text/csv"


@dataclass(frozen=True)
class TextTable:
    """A table as text: fields with type and unit, and rows."""

    fields: tuple[tuple[str, str, str], ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, content: bytes) -> TextTable:
        """Return the table of a VOTable that the simulated survey wrote."""
        root = ET.fromstring(content)  # noqa: S314 -- our own bytes
        space = "{http://www.ivoa.net/xml/VOTable/v1.3}"
        fields = tuple(
            (f.get("name", ""), f.get("datatype", ""), f.get("unit", "")) for f in root.iter(f"{space}FIELD")
        )
        return cls(fields, tuple(tuple(cell.text or "" for cell in row) for row in root.iter(f"{space}TR")))

    def column(self, name: str) -> list[str]:
        """Return a column."""
        place = [field[0].lower() for field in self.fields].index(name.lower())
        return [row[place] for row in self.rows]

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers."""
        return np.array([float(text or "nan") for text in self.column(name)], dtype=float)

    def select(self, names: Sequence[str]) -> TextTable:
        """Return some columns, in the order of their names; those that are not there are left out."""
        known = [field[0].lower() for field in self.fields]
        places = [known.index(name.lower()) for name in names if name.lower() in known]
        rows = tuple(tuple(row[i] for i in places) for row in self.rows)
        return TextTable(tuple(self.fields[i] for i in places), rows)

    def taking(self, rows: Sequence[int]) -> TextTable:
        """Return some rows."""
        return replace(self, rows=tuple(self.rows[i] for i in rows))

    def spoiled(self, fault: str | None) -> TextTable:
        """Return the table with a fault of its rows."""
        return replace(
            self, rows={"empty_table": (), "duplicates": self.rows * 2}.get(fault or "", self.rows)
        )

    def xml(self, infos: Mapping[str, str], fault: str | None) -> Reply:
        """Return the table as a VOTable."""
        if fault == "error_status":
            return error_document("the query could not be executed")
        table = self.spoiled(fault)
        columns = [[row[i] for row in table.rows] for i in range(len(table.fields))]
        return Reply(votable(table.fields, columns, infos=infos), XML)

    def csv(self) -> Reply:
        """Return the table as CSV."""
        return Reply(csv_bytes([[field[0] for field in self.fields], *self.rows]), _CSV)


def csv_bytes(rows: Sequence[Sequence[str]]) -> bytes:
    """Return rows as CSV."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()


def error_document(text: str, status: int = 200) -> Reply:
    """Return a VOTable that reports an error (DALI 1.1, section 4.4)."""
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="1.4"><RESOURCE type="results">'
        f'<INFO name="QUERY_STATUS" value="ERROR">{text}</INFO></RESOURCE></VOTABLE>\n'
    )
    return Reply(document.encode(), XML, status)


def separation_arcsec(ra: np.ndarray, dec: np.ndarray, cone: Cone) -> np.ndarray:
    """Return distances from the centre of a circle, arcsec."""
    a, d, d0 = np.radians(ra - cone.ra), np.radians(dec), np.radians(cone.dec)
    haversine = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin(a / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(haversine))) * 3600.0


def circle_of(query: str) -> Cone | None:
    """Return the circle of an ADQL query, None where there is none."""
    found = re.search(r"CIRCLE\((?:'ICRS',)?\s*([-\d.]+),\s*([-+\d.]+),\s*([-\d.e]+)\s*\)", query)
    return Cone(*(float(text) for text in found.groups())) if found else None


def top_of(query: str) -> int | None:
    """Return the number of rows after which a query stops."""
    found = re.search(r"SELECT\s+TOP\s+(\d+)", query, re.IGNORECASE)
    return int(found[1]) if found else None


def tap_reply(table: TextTable, asked: Asked, query: str) -> Reply:
    """Return the columns that were asked for; where MAXREC cuts rows off, the service says so."""
    chosen = re.search(r"SELECT\s+(?:TOP\s+\d+\s+)?(.*?)\s+FROM\s", query, re.IGNORECASE | re.DOTALL)
    names = [name.strip() for name in chosen[1].split(",")] if chosen else ["*"]
    table = table if names == ["*"] else table.select(names)
    table = table.taking(range(len(table.rows))[: top_of(query)])
    limit = int(asked.value("maxrec") or len(table.rows))
    kept = table.taking(range(min(limit, len(table.rows))))
    reply = kept.xml({"QUERY": query}, asked.fault)
    if limit >= len(table.rows):
        return reply
    overflow = b'</TABLE>\n<INFO name="QUERY_STATUS" value="OVERFLOW"/>\n'
    return replace(reply, content=reply.content.replace(b"</TABLE>\n", overflow))


def vizier_parameters(asked: Asked) -> dict[str, str]:
    """Return the parameters of a question: of the URL, or the lines that astroquery posts."""
    if asked.method == "GET":
        return dict(asked.query)
    text = asked.body.decode()
    if "\n" not in text:
        return dict(parse_qsl(text, keep_blank_values=True))
    return dict(line.partition("=")[::2] for line in text.splitlines())


def vizier_cone(given: Mapping[str, str]) -> Cone | None:
    """Return the circle that VizieR is asked about, None where there is none."""
    found = re.fullmatch(r"\s*([\d.]+)\s*([-+ ][\d.]+)", given.get("-c", ""))
    radius = next(
        (
            float(given[f"-c.r{u}"]) / per
            for u, per in (("d", 1), ("m", 60), ("s", 3600))
            if f"-c.r{u}" in given
        ),
        None,
    )
    if found is None or radius is None:
        return None
    return Cone(float(found[1]), float(found[2]), radius)
