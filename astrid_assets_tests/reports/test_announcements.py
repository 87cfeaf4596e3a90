"""Drafts of announcements: what the services ask for, and no more than is known."""

import json
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest

from astrid_assets.errors import AstridError
from astrid_assets.reports.announcements import DRAFT, Announcement, at_report, voevent

CANDIDATE = {
    "candidate_id": "e2_0100_0200",
    "exposure_id": "e2",
    "reference_id": "r1",
    "survey": "ztf",
    "band": "r",
    "ra": 150.1,
    "dec": 2.2,
    "flux_njy": 36307.805,  # AB 20
    "flux_njy_error": 1000.0,
    "magnitude": 20.0,
    "snr": 36.3,
    "artifact": "",
    "star_id": None,
    "galaxy_id": "G 17",
}

OBJECT = {
    "object_id": "J100024.00+021200.0",
    "ra": 150.10002,
    "dec": 2.19998,
    "ra_error": 0.05,
    "dec_error": 0.06,
}


def exposure(name, mjd, archive="local"):
    return {"exposure_id": name, "mjd_mid": mjd, "exptime": 30.0, "seeing": 2.0, "archive": archive}


def epoch(name, mjd, flux, detected, band="r"):
    return {
        "exposure_id": name, "mjd_mid": mjd, "band": band, "flux_njy": flux, "flux_njy_error": 1000.0,
        "limit_5sigma_njy": 5754.399, "detected": detected,
    }  # fmt: skip


def announcement(**more):
    exposures = {n: exposure(n, 60000.0 + k) for k, n in enumerate(["e0", "e1", "e2"])}
    curve = [
        epoch("e2", 60002.0, 36307.805, True),
        epoch("e0", 60000.0, 200.0, False),
        epoch("e1", 60001.0, 22908.68, True, band="g"),
    ]
    given = {"candidate": CANDIDATE, "exposures": exposures, "sky_object": OBJECT, "light_curve": curve}
    return Announcement(**(given | more))


def test_an_at_report_has_what_the_service_asks_for():
    """Discovery, position with error, the last non-detection, photometry in AB magnitudes."""
    draft = at_report(announcement(), reporter="A. Person")
    report = draft["at_report"]["0"]
    assert report["ra"] == {"value": "150.1000200", "error": "0.050", "units": "arcsec"}
    assert report["dec"] == {"value": "+2.1999800", "error": "0.060", "units": "arcsec"}
    assert report["reporter"] == "A. Person"
    assert report["at_type"] == "1"
    assert report["internal_name"] == OBJECT["object_id"]
    # MJD 60001 is 2023-02-26
    assert report["discovery_datetime"] == "2023-02-26 00:00:00"
    assert report["non_detection"]["obsdate"] == "2023-02-25 00:00:00"
    assert report["non_detection"]["limiting_flux"] == "22.00"
    first, second = report["photometry"]["photometry_group"].values()
    assert (first["flux"], second["flux"]) == ("20.500", "20.000")
    assert second["flux_error"] == "0.030"
    assert (first["filter_value"], second["filter_value"]) == ("110", "111")
    assert first["instrument_value"] == "196"
    assert first["exptime"] == "30"
    assert json.loads(json.dumps(draft, allow_nan=False)) == draft


def test_a_draft_says_what_is_missing_and_that_it_is_one():
    draft = at_report(announcement())
    assert draft["draft"] == DRAFT
    assert draft["to_fill_in"] == ["reporting_group_id", "discovery_data_source_id", "reporter"]
    assert DRAFT in draft["at_report"]["0"]["remarks"]
    unknown = at_report(announcement(candidate=CANDIDATE | {"survey": "generic"}))
    assert "photometry.filter_value" in unknown["to_fill_in"]


def test_the_simulated_sky_is_called_so():
    event = announcement(exposures={"e2": exposure("e2", 60002.0, archive="simulated")})
    assert at_report(event)["at_report"]["0"]["remarks"].startswith("SIMULATED SKY")
    assert b"SIMULATED SKY" in voevent(event, written=datetime(2025, 1, 1, tzinfo=UTC))


def test_without_earlier_epoch_the_reference_is_the_non_detection():
    report = at_report(announcement(sky_object=None, light_curve=()))["at_report"]["0"]
    assert report["non_detection"] == {"archiveid": "0", "archival_remarks": "not in the reference image r1"}
    assert report["photometry"]["photometry_group"]["0"]["flux"] == "20.000"
    # a Gaussian of 2 arcsec at S/N 36.3
    assert float(report["ra"]["error"]) == pytest.approx(2 / 2.3548 / 36.3, abs=5e-4)


@pytest.mark.parametrize("flux", [-5000.0, None])
def test_what_faded_or_has_no_flux_is_no_discovery(flux):
    event = announcement(candidate=CANDIDATE | {"flux_njy": flux}, light_curve=())
    with pytest.raises(AstridError, match="announces new light"):
        at_report(event)
    # a VOEvent can say it
    assert voevent(event, written=datetime(2025, 1, 1, tzinfo=UTC))


def test_nothing_without_a_position():
    event = announcement(candidate=CANDIDATE | {"ra": None, "dec": None}, sky_object=None, light_curve=())
    with pytest.raises(AstridError, match="no sky position"):
        at_report(event)
    with pytest.raises(AstridError, match="no sky position"):
        voevent(event, written=datetime(2025, 1, 1, tzinfo=UTC))


def packet(**more):
    content = voevent(
        announcement(**more), written=datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC), reporter="A. Person"
    )
    return ET.fromstring(content)  # noqa: S314 - its own words


def test_a_voevent_has_the_structure_of_the_standard():
    """Root, attributes and order of IVOA's VOEvent 2.0; no citations, role test."""
    root = packet()
    assert root.tag == "{http://www.ivoa.net/xml/VOEvent/v2.0}VOEvent"
    assert root.get("version") == "2.0"
    assert root.get("role") == "test"
    assert root.get("ivorn") == "ivo://astrid-assets.draft/candidates#e2_0100_0200"
    assert [child.tag for child in root] == ["Who", "What", "WhereWhen", "How", "Why", "Description"]
    assert root.findtext("Who/Date") == "2025-03-04T05:06:07"
    assert root.findtext("Who/Author/contactName") == "A. Person"
    assert root.find("Citations") is None
    assert DRAFT in root.findtext("Description")


def test_a_voevent_says_where_and_when():
    place = packet().find("WhereWhen/ObsDataLocation/ObservationLocation")
    assert place.find("AstroCoordSystem").get("id") == "UTC-ICRS-TOPO"
    coordinates = place.find("AstroCoords")
    assert coordinates.get("coord_system_id") == "UTC-ICRS-TOPO"
    assert coordinates.findtext("Time/TimeInstant/ISOTime") == "2023-02-27T00:00:00.000000"
    assert float(coordinates.findtext("Time/Error")) == 15
    position = coordinates.find("Position2D")
    assert position.get("unit") == "deg"
    assert float(position.findtext("Value2/C1")) == pytest.approx(150.10002)
    assert float(position.findtext("Value2/C2")) == pytest.approx(2.19998)
    assert float(position.findtext("Error2Radius")) == pytest.approx(0.06 / 3600, rel=1e-2)


def test_a_voevent_says_what():
    what = packet().find("What")
    values = {p.get("name"): (p.get("value"), p.get("unit")) for p in what.findall("Param")}
    assert values["flux_njy"] == ("36307.805", "nJy")
    assert values["object_id"] == (OBJECT["object_id"], None)
    rows = [[cell.text for cell in line] for line in what.findall("Table/Data/TR")]
    assert [row[0] for row in rows] == ["60000", "60001", "60002"]
    assert [row[-1] for row in rows] == ["0", "1", "1"]
    assert packet().findtext("Why/Inference/Name") == "galaxy G 17"


def test_the_same_event_gives_the_same_bytes():
    written = datetime(2025, 3, 4, tzinfo=UTC)
    assert voevent(announcement(), written=written) == voevent(announcement(), written=written)
