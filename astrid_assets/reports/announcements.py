"""Drafts of announcements of one candidate: a TNS AT report and a VOEvent. Nothing is ever sent.

Pure functions on rows of tables. A draft says that it is one; who wants to announce reads it, fills
in who reports, takes the mark off, and sends it.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree as ET

from astrid_assets.clock import from_mjd
from astrid_assets.errors import AstridError

__all__ = ["DRAFT", "Announcement", "at_report", "voevent"]

DRAFT = "Draft made by astrid_assets. It was not sent and nobody has looked at it."
"""What every draft says about itself."""

_AB_ZERO_NJY = 31.4
"""AB magnitude of 1 nJy (Oke & Gunn 1983: 3631 Jy at magnitude 0)."""

_FWHM_PER_SIGMA = 2.3548
"""Full width at half maximum over the standard deviation of a Gaussian."""

_TIME = "%Y-%m-%d %H:%M:%S"

_NAMESPACE = "http://www.ivoa.net/xml/VOEvent/v2.0"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMA = "http://www.ivoa.net/xml/VOEvent/VOEvent-v2.0.xsd"

_UNSAFE = re.compile(r"[^A-Za-z0-9_.~+-]")
"""Characters that the name of an event cannot have."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Announcement:
    """A candidate and what is known about it."""

    candidate: Row
    """Row of the table of candidates."""

    exposures: Mapping[str, Row]
    """Rows of a manifest by exposure, with ``mjd_mid``, ``exptime``, ``seeing``, ``archive``."""

    sky_object: Row | None = None
    """Row of the table of objects; None where the candidate belongs to none."""

    light_curve: Sequence[Row] = ()
    """Forced photometry of the object at every epoch."""

    @property
    def exposure(self) -> Row:
        """Exposure of the candidate."""
        return self.exposures[self.candidate["exposure_id"]]

    @property
    def name(self) -> str:
        """Name of the object, or of the candidate."""
        return (self.sky_object or {}).get("object_id") or self.candidate["candidate_id"]

    @property
    def position(self) -> tuple[float, float]:
        """Right ascension and declination, ICRS, deg: of the object, or of the candidate.

        Raises
        ------
        AstridError
            The exposure has no WCS.
        """
        place = self.sky_object if (self.sky_object or {}).get("ra") is not None else self.candidate
        if place["ra"] is None:
            msg = f"{self.candidate['candidate_id']} has no sky position: its exposure has no WCS"
            raise AstridError(msg)
        return place["ra"], place["dec"]

    @property
    def position_error(self) -> tuple[float, float]:
        """One-sigma errors of the position, arcsec: of the object, or from seeing and significance."""
        known = self.sky_object or {}
        if known.get("ra_error") is not None and known.get("dec_error") is not None:
            return known["ra_error"], known["dec_error"]
        # the error of the centre of a Gaussian in noise of the sky (King 1983, PASP 95, 163)
        error = (self.exposure.get("seeing") or 2.0) / _FWHM_PER_SIGMA / max(self.candidate["snr"], 1.0)
        return error, error

    @property
    def simulated(self) -> bool:
        """Whether the sky is a simulated one."""
        return self.exposure.get("archive") == "simulated"

    @property
    def epochs(self) -> list[Row]:
        """Photometry in order of time: forced at the object, or the candidate alone."""
        rows = [row for row in self.light_curve if row["flux_njy"] is not None]
        if not rows:
            detection = {**self.candidate, "detected": True, "limit_5sigma_njy": None}
            rows = [detection | {"mjd_mid": self.exposure["mjd_mid"]}]
        return sorted(rows, key=lambda row: (row["mjd_mid"], row["exposure_id"]))


def at_report(event: Announcement, *, reporter: str = "") -> dict[str, Any]:
    """Return the draft of a TNS AT report, as the bulk-report API takes it (with a mark that it is a draft).

    Parameters
    ----------
    event
        What is announced.

    reporter
        Names as they are to appear; filled in later if empty.

    Returns
    -------
    dict
        ``draft`` (why it must not be sent as it is), ``to_fill_in`` (what is missing), ``at_report``.

    Raises
    ------
    AstridError
        The candidate has no sky position or no calibrated flux, or nothing became brighter.
    """
    bright = [row for row in event.epochs if row["detected"] and (row["flux_njy"] or 0) > 0]
    if not bright:
        msg = (
            f"{event.candidate['candidate_id']}: an AT report announces new light, and no epoch has a "
            "calibrated detection brighter than the reference"
        )
        raise AstridError(msg)
    (ra, dec), (ra_error, dec_error) = event.position, event.position_error
    report = {
        "ra": {"value": f"{ra:.7f}", "error": f"{ra_error:.3f}", "units": "arcsec"},
        "dec": {"value": f"{dec:+.7f}", "error": f"{dec_error:.3f}", "units": "arcsec"},
        "reporting_group_id": "",
        "discovery_data_source_id": "",
        "reporter": reporter,
        "discovery_datetime": _time(bright[0]["mjd_mid"]),
        "at_type": "1",
        "internal_name": event.name,
        "remarks": " ".join([_origin(event), DRAFT]),
        "non_detection": _non_detection(event, bright[0]["mjd_mid"]),
        "photometry": {
            "photometry_group": {str(number): _photometry(event, row) for number, row in enumerate(bright)}
        },
    }
    return {"draft": DRAFT, "to_fill_in": _missing(report), "at_report": {"0": report}}


def _origin(event: Announcement) -> str:
    if event.simulated:
        return "SIMULATED SKY: this object does not exist."
    return f"Difference imaging (ZOGY) of {event.candidate['survey']} exposures."


def _time(mjd: float) -> str:
    return from_mjd(mjd).strftime(_TIME)


def _magnitude(flux_njy: float) -> float:
    return _AB_ZERO_NJY - 2.5 * math.log10(flux_njy)


def _photometry(event: Announcement, row: Row) -> dict[str, str]:
    flux, error, limit = row["flux_njy"], row["flux_njy_error"], row.get("limit_5sigma_njy")
    return {
        "obsdate": _time(row["mjd_mid"]),
        "flux": f"{_magnitude(flux):.3f}",
        "flux_error": f"{2.5 / math.log(10) * error / flux:.3f}" if error else "",
        "limiting_flux": f"{_magnitude(limit):.2f}" if limit else "",
        **_observed_with(event, row),
        "comments": "flux of the difference from the reference; AB",
    }


def _observed_with(event: Announcement, row: Row) -> dict[str, str]:
    """Return what TNS calls unit, filter, instrument; empty where it is not known."""
    table, survey = _tns(), event.candidate["survey"]
    exposure = event.exposures.get(row["exposure_id"], {})
    return {
        "flux_units": "1",
        "filter_value": str(table["filters"].get(survey, {}).get(row["band"], "")),
        "instrument_value": str(table["instruments"].get(survey, "")),
        "exptime": f"{exposure['exptime']:g}" if exposure.get("exptime") else "",
        "observer": "Robot",
    }


def _non_detection(event: Announcement, first: float) -> dict[str, str]:
    """Return the last epoch before the discovery at which there was nothing, or the reference."""
    before = [
        row
        for row in event.epochs
        if row["mjd_mid"] < first and not row["detected"] and (row.get("limit_5sigma_njy") or 0) > 0
    ]
    if not before:
        return {
            "archiveid": "0",
            "archival_remarks": f"not in the reference image {event.candidate['reference_id']}",
        }
    last = before[-1]
    return {
        "obsdate": _time(last["mjd_mid"]),
        "limiting_flux": f"{_magnitude(last['limit_5sigma_njy']):.2f}",
        **_observed_with(event, last),
        "comments": "5 sigma, forced photometry",
    }


def _missing(report: Row) -> list[str]:
    """Name the compulsory entries that are empty."""
    first = report["photometry"]["photometry_group"]["0"]
    names = [n for n in ("reporting_group_id", "discovery_data_source_id", "reporter") if not report[n]]
    return names + [
        f"photometry.{n}" for n in ("filter_value", "instrument_value", "exptime") if not first[n]
    ]


@cache
def _tns() -> dict[str, Any]:
    """Read ``tns.toml``."""
    return tomllib.loads(files(__package__).joinpath("tns.toml").read_text("utf-8"))


# --- VOEvent ----------------------------------------------------------------------------------------


def voevent(event: Announcement, *, written: datetime, reporter: str = "") -> bytes:
    """Return the draft of a VOEvent 2.0 packet (IVOA Recommendation of 2011-07-11), role ``test``.

    Parameters
    ----------
    event
        What is announced.

    written
        Time (UTC) of the draft.

    reporter
        Contact name.

    Returns
    -------
    bytes
        XML, UTF-8.

    Raises
    ------
    AstridError
        The candidate has no sky position.
    """
    ET.register_namespace("voe", _NAMESPACE)
    ET.register_namespace("xsi", _INSTANCE)
    root = ET.Element(
        f"{{{_NAMESPACE}}}VOEvent",
        {
            "version": "2.0",
            "role": "test",
            "ivorn": "ivo://astrid-assets.draft/candidates#"
            + _UNSAFE.sub("_", event.candidate["candidate_id"]),
            f"{{{_INSTANCE}}}schemaLocation": f"{_NAMESPACE} {_SCHEMA}",
        },
    )
    _who(root, written, reporter)
    _what(root, event)
    _where_when(root, event)
    how = _add(root, "How")
    _add(how, "Description", _origin(event) + f" Reference {event.candidate['reference_id']}.")
    _why(root, event)
    _add(root, "Description", " ".join([DRAFT, _origin(event)]))
    ET.indent(root, " ")
    return ET.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"


def _add(parent: ET.Element, tag: str, text: str | None = None, /, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = text
    return child


def _who(root: ET.Element, written: datetime, reporter: str) -> None:
    who = _add(root, "Who")
    _add(who, "Description", DRAFT)
    _add(who, "AuthorIVORN", "ivo://astrid-assets.draft/author")
    _add(who, "Date", written.strftime("%Y-%m-%dT%H:%M:%S"))
    author = _add(who, "Author")
    _add(author, "title", "astrid_assets")
    if reporter:
        _add(author, "contactName", reporter)


_PARAMETERS = (
    ("candidate_id", "meta.id", "", "string"),
    ("exposure_id", "meta.id;obs", "", "string"),
    ("reference_id", "meta.ref", "", "string"),
    ("band", "instr.filter", "", "string"),
    ("flux_njy", "phot.flux.density", "nJy", "float"),
    ("flux_njy_error", "stat.error;phot.flux.density", "nJy", "float"),
    ("magnitude", "phot.mag", "mag", "float"),
    ("snr", "stat.snr", "", "float"),
)

_FIELDS = (
    ("mjd_mid", "time.epoch", "d", "float"),
    ("band", "instr.filter", "", "string"),
    ("flux_njy", "phot.flux.density", "nJy", "float"),
    ("flux_njy_error", "stat.error;phot.flux.density", "nJy", "float"),
    ("detected", "meta.code", "", "int"),
)


def _what(root: ET.Element, event: Announcement) -> None:
    """Write parameters of the candidate and the light curve as a table."""
    what = _add(root, "What")
    _add(what, "Param", name="object_id", ucd="meta.id;src", value=event.name, dataType="string")
    for name, ucd, unit, kind in _PARAMETERS:
        value = event.candidate.get(name)
        if value is not None:
            more = {"unit": unit} if unit else {}
            _add(what, "Param", name=name, ucd=ucd, value=_text(value), dataType=kind, **more)
    table = _add(what, "Table", name="light_curve")
    _add(table, "Description", "Forced photometry at the object; fluxes are science minus reference.")
    for name, ucd, unit, kind in _FIELDS:
        _add(table, "Field", name=name, ucd=ucd, dataType=kind, **({"unit": unit} if unit else {}))
    data = _add(table, "Data")
    for row in event.epochs:
        line = _add(data, "TR")
        for name, *_ in _FIELDS:
            _add(line, "TD", _text(row.get(name)))


def _text(value: Any) -> str:
    if value is None:
        return "NaN"
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _where_when(root: ET.Element, event: Announcement) -> None:
    """Write time (UTC) and position (ICRS) with their errors."""
    place = _add(_add(root, "WhereWhen"), "ObsDataLocation")
    _add(place, "ObservatoryLocation", id=event.candidate["survey"] or "unknown")
    location = _add(place, "ObservationLocation")
    _add(location, "AstroCoordSystem", id="UTC-ICRS-TOPO")
    coordinates = _add(location, "AstroCoords", coord_system_id="UTC-ICRS-TOPO")
    moment = _add(coordinates, "Time", unit="s")
    instant = _add(moment, "TimeInstant")
    _add(instant, "ISOTime", from_mjd(event.exposure["mjd_mid"]).strftime("%Y-%m-%dT%H:%M:%S.%f"))
    _add(moment, "Error", f"{(event.exposure.get('exptime') or 0.0) / 2:g}")
    position = _add(coordinates, "Position2D", unit="deg")
    _add(position, "Name1", "RA")
    _add(position, "Name2", "Dec")
    ra, dec = event.position
    value = _add(position, "Value2")
    _add(value, "C1", f"{ra:.7f}")
    _add(value, "C2", f"{dec:.7f}")
    _add(position, "Error2Radius", f"{max(event.position_error) / 3600:.3g}")


def _why(root: ET.Element, event: Announcement) -> None:
    """Write what it may be: what is known at its place, and no more than that."""
    why = _add(root, "Why", importance="0.0")
    for kind in ("solar_system", "transient", "variable", "star", "galaxy"):
        name = event.candidate.get(f"{kind}_id")
        if name is not None:
            _add(_add(why, "Inference", relation="associated"), "Name", f"{kind.replace('_', '-')} {name}")
    doubt = event.candidate.get("artifact")
    said = f"taken for an artefact: {doubt}" if doubt else "not explained as an artefact"
    _add(why, "Description", f"A change of flux, {said}; not classified.")
