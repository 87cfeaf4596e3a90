"""The Avro schema of ZTF's alerts, version 3.3, as far as it matters to a reader: all names and types."""

from __future__ import annotations

from typing import Any

__all__ = ["ALERT_SCHEMA", "empty_candidate"]

_REQUIRED = """
jd:double fid:int pid:long programid:int candid:long isdiffpos:string ra:double dec:double magpsf:float
sigmapsf:float ranr:double decnr:double ndethist:int ncovhist:int nmtchps:int rfid:long jdstartref:double
jdendref:double nframesref:int rbversion:string nmatches:int drbversion:string
"""
"""Fields of the detection that are never null."""

_OPTIONAL = """
diffmaglim:float pdiffimfilename:string programpi:string tblid:long nid:int rcid:int field:int xpos:float
ypos:float chipsf:float magap:float sigmagap:float distnr:float magnr:float sigmagnr:float chinr:float
sharpnr:float sky:float magdiff:float fwhm:float classtar:float mindtoedge:float magfromlim:float
seeratio:float aimage:float bimage:float aimagerat:float bimagerat:float elong:float nneg:int nbad:int
rb:float ssdistnr:float ssmagnr:float ssnamenr:string sumrat:float magapbig:float sigmagapbig:float
sgmag1:float srmag1:float simag1:float szmag1:float sgscore1:float distpsnr1:float jdstarthist:double
jdendhist:double scorr:double tooflag:int objectidps1:long objectidps2:long sgmag2:float srmag2:float
simag2:float szmag2:float sgscore2:float distpsnr2:float objectidps3:long sgmag3:float srmag3:float
simag3:float szmag3:float sgscore3:float distpsnr3:float dsnrms:float ssnrms:float dsdiff:float
magzpsci:float magzpsciunc:float magzpscirms:float clrcoeff:float clrcounc:float zpclrcov:float zpmed:float
clrmed:float clrrms:float neargaia:float neargaiabright:float maggaia:float maggaiabright:float
exptime:float drb:float
"""
"""Fields that may be null."""

_EARLIER = """
diffmaglim:float pdiffimfilename:string programpi:string candid:long isdiffpos:string field:int rcid:int
ra:double dec:double magpsf:float sigmapsf:float rb:float ssdistnr:float ssmagnr:float ssnamenr:string
magzpsci:float
"""
"""Fields of an earlier detection, or upper limit, that may be null."""


def _pairs(text: str) -> list[tuple[str, str]]:
    return [tuple(word.split(":")) for word in text.split()]


def _fields(required: str, optional: str) -> list[dict[str, Any]]:
    always = [{"name": name, "type": kind} for name, kind in _pairs(required)]
    return always + [
        {"name": name, "type": [kind, "null"], "default": None} for name, kind in _pairs(optional)
    ]


def _record(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "ztf.alert", "fields": fields}


_CUTOUT = _record("cutout", [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}])
_PREVIOUS = _record("prv_candidate", _fields("jd:double fid:int pid:long programid:int", _EARLIER))

ALERT_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "ztf",
    "doc": "avro alert schema for ZTF (www.ztf.caltech.edu)",
    "version": "3.3",
    "fields": [
        {"name": "schemavsn", "type": "string"},
        {"name": "publisher", "type": "string"},
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {"name": "candidate", "type": _record("candidate", _fields(_REQUIRED, _OPTIONAL))},
        {
            "name": "prv_candidates",
            "type": ["null", {"type": "array", "items": _PREVIOUS}],
            "default": None,
        },
        {"name": "cutoutScience", "type": ["null", _CUTOUT], "default": None},
        {"name": "cutoutTemplate", "type": ["null", "ztf.alert.cutout"], "default": None},
        {"name": "cutoutDifference", "type": ["null", "ztf.alert.cutout"], "default": None},
    ],
}
"""Schema of a packet."""

_EMPTY = {"double": 0.0, "float": 0.0, "int": 0, "long": 0, "string": ""}


def empty_candidate() -> dict[str, Any]:
    """Return a detection in which nothing is known."""
    candidate: dict[str, Any] = {name: _EMPTY[kind] for name, kind in _pairs(_REQUIRED)}
    candidate |= {name: None for name, _ in _pairs(_OPTIONAL)}
    return candidate | {"rbversion": "t17_f5_c3", "drbversion": "d6_m7"}
