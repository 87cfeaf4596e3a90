"""Answers of catalogue services: recorded ones, and what they say when they have nothing or fail."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from astrid_assets.archives.catalogues import (
    KNOWN_COLUMNS,
    PARSERS,
    for_exposure,
    known_schema,
    parse_gaia,
    parse_ned,
    parse_sdss,
    parse_skybot,
    parse_tns,
    parse_vsx,
)
from astrid_assets.archives.simulated.votable import votable
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError

HTML = b"<!DOCTYPE html><html><body>Service Temporarily Unavailable</body></html>"


def table_of(text: str) -> bytes:
    """Return a VOTable from lines of ``name:type`` and of values."""
    head, *rows = [line.split("|") for line in text.strip().splitlines()]
    fields = [(*name.strip().split(":"), "") for name in head]
    columns = [[value.strip() for value in column] for column in zip(*rows, strict=True)]
    return votable(fields, columns or [[] for _ in fields], infos={})


def test_gaia():
    table = parse_gaia(
        table_of(
            "source_id:long|ref_epoch:double|ra:double|ra_error:float|dec:double|dec_error:float|parallax:double"
            "|pmra:double|pmdec:double|phot_g_mean_mag:float|phot_variable_flag:char|in_qso_candidates:boolean\n"
            "4583627001381815936|2016.0|268.0|0.5|26.5|0.25|2.3|-8.5|-27.7|15.5|NOT_AVAILABLE|F\n"
            "4583627001381815937|2016.0|268.1|1.0|26.6|2.0||||19.0|VARIABLE|F\n"
            "4583627001381815938|2016.0|268.2|1.0|26.7|1.0||||20.0|VARIABLE|T"
        )
    )
    star, variable, quasar = table.to_pylist()
    assert star["object_id"] == "Gaia DR3 4583627001381815936"  # all 63 bits
    assert (star["kind"], star["class"], star["pm_dec"]) == ("star", "star", -27.7)
    assert star["position_error_arcsec"] == pytest.approx(0.0005)
    assert (variable["kind"], variable["class"], variable["pm_ra"]) == ("star", "variable", None)
    assert (quasar["kind"], quasar["class"]) == ("variable", "qso")


def test_vsx_leaves_out_what_is_no_variable():
    table = parse_vsx(
        table_of(
            "OID:int|Name:char|V:int|RAJ2000:double|DEJ2000:double|Type:char|max:float|n_max:char\n"
            "1|RR Lyr|0|291.366|42.784|RRAB|7.06|V\n"
            "2|NSV 1|1|10.0|20.0||12.5|p\n"
            "3|NSV 2|2|11.0|20.0|CST|12.5|p\n"
            "4|Copy|3|12.0|20.0|EA|12.5|p"
        )
    )
    lyrae, suspect = table.to_pylist()
    assert (lyrae["object_id"], lyrae["class"], lyrae["magnitude_band"]) == ("RR Lyr", "RRAB", "V")
    assert suspect["class"] is None
    assert suspect["confidence"] < lyrae["confidence"]
    assert lyrae["ref_epoch"] is None


SDSS = b"""#Table1
objID,ra,dec,type,modelMag_r,petroR50_r,z,class
1237648720693755918,150.1,2.2,3,17.2,2.5,0.08,GALAXY
1237648720693755919,150.2,2.3,3,21.0,-9999,null,null
1237648720693755920,150.3,2.4,6,19.0,0.7,1.2,QSO
"""


def test_sdss():
    near, faint = parse_sdss(SDSS).to_pylist()
    assert (near["object_id"], near["radius_arcsec"], near["redshift"]) == (
        "SDSS 1237648720693755918",
        2.5,
        0.08,
    )
    assert (faint["radius_arcsec"], faint["redshift"]) == (None, None)
    assert parse_sdss(b"No objects have been found\n").num_rows == 0
    assert parse_sdss(SDSS.splitlines(keepends=True)[1]).num_rows == 0


TNS = """"2025-09-17 00:00:00"
"objid","name_prefix","name","ra","declination","redshift","type","discoverydate","discoverymag","filter"
"1","SN","2011fe","210.7738","54.27372","0.000804","SN Ia","2011-08-24 03:59:00","17.2","g-PTF"
"2","AT","2025abc","10.5","-4.5","","","2025-09-01 06:00:00.500","19.5","r-ZTF"
"""


@pytest.mark.parametrize("packed", [False, True])
def test_tns(packed: bool):
    content = TNS.encode()
    if packed:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("tns_public_objects.csv", content)
        content = stream.getvalue()
    fe, new = parse_tns(content).to_pylist()
    assert (fe["object_id"], fe["class"], fe["redshift"]) == ("SN 2011fe", "SN Ia", 0.000804)
    assert fe["discovered_mjd"] == pytest.approx(55797.165972, abs=1e-5)
    assert (new["class"], new["magnitude_band"], new["redshift"]) == ("AT", "r-ZTF", None)
    assert new["confidence"] < fe["confidence"]


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("content", [b"", HTML, b"\x00\x01\x02", b"PK\x03\x04 broken zip"])
def test_what_is_no_answer_is_refused_with_one_line(name: str, content: bytes):
    with pytest.raises(BadAnswerError) as error:
        PARSERS[name](content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gaia", "vsx", "ned", "skybot"])
def test_complaints_of_services(name: str):
    def answer(info: str) -> bytes:
        return f'<?xml version="1.0"?><VOTABLE version="1.4"><RESOURCE>{info}</RESOURCE></VOTABLE>'.encode()

    with pytest.raises(BadAnswerError, match="query too long"):
        PARSERS[name](answer('<INFO name="QUERY_STATUS" value="ERROR">query too long</INFO>'))
    with pytest.raises(BadAnswerError, match="overflow"):
        PARSERS[name](answer('<INFO name="QUERY_STATUS" value="OVERFLOW"/>'))
    with pytest.raises(ArchiveUnavailableError):
        PARSERS[name](answer('<INFO name="Error" value="The database is not currently reachable."/>'))
    nothing = "No solar system object was found in the requested FOV"
    assert PARSERS[name](answer(f'<INFO name="QUERY_STATUS" value="ERROR">{nothing}</INFO>')).num_rows == 0
    assert PARSERS[name](answer('<INFO name="QUERY_STATUS" value="OK"/>')).schema == known_schema()


def test_rows_of_an_exposure():
    table = for_exposure(parse_tns(TNS.encode()), "e1", 60930.25)
    assert table.schema == known_schema()
    assert table.column("exposure_id").to_pylist() == ["e1", "e1"]
    assert table.column("mjd").to_pylist() == [60930.25] * 2


def test_every_column_is_described():
    assert all(text for _, _, text in KNOWN_COLUMNS.values())


# --- recorded answers ------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "count"), [("1710099405832VAL-result.vot", 2), ("cone_search.json", 50)])
def test_recorded_gaia(real_data: Path, name: str, count: int):
    table = parse_gaia((real_data / "http/gaia" / name).read_bytes())
    assert table.num_rows == count
    assert set(table.column("ref_epoch").to_pylist()) == {2016.0}
    ids = table.column("object_id").to_pylist()
    if name.endswith("vot"):
        assert ids[0] == "Gaia DR3 4583627001381815936"
        assert table.column("class").to_pylist() == ["variable", "variable"]
    else:
        assert table.column("pm_ra").null_count > 0  # some sources have a position only
        away = SkyCoord(280.0, -60.0, unit="deg").separation(
            SkyCoord(table.column("ra").to_numpy(), table.column("dec").to_numpy(), unit="deg")
        )
        assert away.deg.max() < 0.2


@pytest.mark.real_data
def test_recorded_skybot(real_data: Path):
    """The sexagesimal positions are those that the answer also gives in degrees."""
    table = parse_skybot((real_data / "http/skybot/skybot_query.vot").read_bytes())
    first, *_, last = table.to_pylist()
    assert (first["object_id"], last["object_id"]) == ("(229762) G!kun||'homdima", "2007 TE366")
    assert (first["ra"], first["dec"]) == pytest.approx((81.30319059962736, 4.4903001723284355), abs=2e-7)
    assert (last["ra"], last["dec"]) == pytest.approx((81.459514920490165, 4.5092830524710497), abs=2e-7)
    assert last["rate_arcsec_min"] == pytest.approx(np.hypot(30.6513, 6.155) / 60.0)
    assert last["position_angle"] == pytest.approx(180 + np.degrees(np.arctan2(30.6513, 6.155)))


@pytest.mark.real_data
def test_recorded_ned_and_outages(real_data: Path):
    galaxies = parse_ned((real_data / "http/ned/query_near_position.xml").read_bytes())
    assert galaxies.num_rows == 2
    assert parse_ned((real_data / "http/ned/query_object.xml").read_bytes()).num_rows == 0  # a remnant
    assert parse_ned((real_data / "http/ned/error.xml").read_bytes()).num_rows == 0
    with pytest.raises(ArchiveUnavailableError, match="not currently reachable"):
        parse_vsx((real_data / "http/vizier/no_server_error.xml").read_bytes())


@pytest.mark.real_data
@pytest.mark.parametrize("length", [100, 2000, 7000])
def test_a_recorded_answer_that_was_cut_off(real_data: Path, length: int):
    content = (real_data / "http/skybot/skybot_query.vot").read_bytes()[:length]
    with pytest.raises(BadAnswerError):
        parse_skybot(content)
