"""Catalogue services: what is asked, and recorded answers against what astroquery makes of them."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from astrid_assets.archives.catalogues import PARSERS
from astrid_assets.archives.catalogues.galaxies import count_sdss, ned_request, parse_ned, sdss_request
from astrid_assets.archives.catalogues.panstarrs import parse_ps1, ps1_request, read_mast_table
from astrid_assets.archives.catalogues.resolver import parse_resolver, resolver_request
from astrid_assets.archives.catalogues.simbad import parse_simbad, simbad_request
from astrid_assets.archives.catalogues.solar_system import OBSERVATORIES, parse_skybot, skybot_request
from astrid_assets.archives.catalogues.stars import gaia_request, parse_gaia, vsx_request
from astrid_assets.archives.catalogues.transients import (
    TnsBot,
    bts_request,
    cut_bts,
    cut_tns,
    parse_bts,
    parse_tns,
    parse_tns_object,
    parse_tns_search,
    tns_object_request,
    tns_search_request,
    tns_table_request,
)
from astrid_assets.archives.catalogues.vizier import (
    parse_vizier,
    parse_vizier_ps1,
    vizier_ps1_request,
    vizier_request,
)
from astrid_assets.archives.catalogues.votable import TooManyRowsError, count_rows, read_votable
from astrid_assets.archives.catalogues.xmatch import parse_xmatch, xmatch_request
from astrid_assets.archives.protocol import Cone
from astrid_assets.archives.simulated.votable import votable
from astrid_assets.errors import (
    ArchiveUnavailableError,
    AuthenticationNeededError,
    BadAnswerError,
    NoCoverageError,
)

CONE = Cone(210.802429, -5.34875, 0.25)
BOT = TnsBot(123, "astrid", "s3cret")


def given(request) -> dict[str, str]:
    """Return the parameters of a request, wherever they stand."""
    return dict(request.query + (request.form or ()))


# --- what is asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "target"),
    [
        (gaia_request(CONE), "/tap-server/tap/sync"),
        (simbad_request(CONE), "/simbad/sim-tap/sync"),
    ],
)
def test_queries_are_one_post_with_eight_digits(request_, target: str):
    assert (request_.method, request_.path, request_.query) == ("POST", target, ())
    assert "CIRCLE('ICRS', 210.80242900, -5.34875000, 0.25000000)" in given(request_)["QUERY"]
    assert given(request_)["REQUEST"] == "doQuery"


def test_pages_of_gaia_go_on_after_the_last_source():
    query = given(gaia_request(CONE, after=17, max_rows=100))["QUERY"]
    assert "TOP 100 " in query
    assert query.endswith("source_id > 17 ORDER BY source_id")


def test_cones_have_the_units_of_their_services():
    assert given(ned_request(CONE))["radius"] == "15.000000"  # arcmin
    assert given(ned_request(CONE))["lon"] == "210.80242900d"
    assert given(vsx_request(CONE))["-c.rd"] == "0.25000000"
    assert given(vsx_request(CONE))["-c"] == "210.80242900 -5.34875000"
    assert given(ps1_request(CONE))["radius"] == "0.25000000"
    assert "15.000000)" in given(sdss_request(CONE))["cmd"]
    assert given(vizier_request("II/349/ps1", CONE, columns=("objID", "rmag")))["-out"] == "objID,rmag"


def test_skybot_is_asked_for_a_time_and_an_observatory():
    asked = given(skybot_request(Cone(10.0, 5.0, 0.5, 60000.25), observatory=OBSERVATORIES["ztf"]))
    assert (asked["-ep"], asked["-loc"], asked["-rd"]) == ("2460000.75000000", "I41", "0.50000000")
    assert skybot_request(Cone(10.0, 5.0, 0.5, 60000.25), observatory="I41").kind == "ephemeris"
    with pytest.raises(ValueError, match="time"):
        skybot_request(Cone(10.0, 5.0, 0.5), observatory="I41")


@pytest.mark.real_data
def test_skybot_is_asked_as_astroquery_asks():
    import astropy.units as u
    from astropy.time import Time
    from astroquery.imcce import Skybot

    where = SkyCoord(10.0, 5.0, unit="deg")
    theirs = Skybot.cone_search_async(
        where, 0.5 * u.deg, Time(60000.25, format="mjd"), location="I41", get_query_payload=True
    )
    ours = given(skybot_request(Cone(10.0, 5.0, 0.5, 60000.25), observatory="I41"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == str(value) or float(ours[name]) == pytest.approx(float(value), abs=1e-8)


def test_tns_knows_its_bot_and_nobody_else_sees_the_key():
    search = tns_search_request(BOT, ra=10.0, dec=-5.0, radius_arcsec=3.0)
    assert dict(search.headers)["User-Agent"] == 'tns_marker{"tns_id":123,"type":"bot","name":"astrid"}'
    assert json.loads(given(search)["data"])["units"] == "arcsec"
    for request in (search, tns_object_request(BOT, "2011fe"), tns_table_request(BOT)):
        assert given(request)["api_key"] == "s3cret"
        assert "s3cret" not in request.shown + repr(BOT)
    # another bot finds the same answers in the store
    other = tns_object_request(TnsBot(9, "other", "key"), "2011fe")
    assert other.key == tns_object_request(BOT, "2011fe").key
    assert tns_table_request(BOT).expects == "zip"


@pytest.mark.parametrize(
    ("who", "key"), [(None, "k"), ("123 bot", None), ("bot", "k"), ("bot 123", "k"), ("", "")]
)
def test_tns_without_a_bot_says_what_to_set(who: str | None, key: str | None):
    with pytest.raises(AuthenticationNeededError, match="TNS_BOT"):
        TnsBot.of(who, key)
    assert TnsBot.of("123456 my bot", "k").name == "my bot"


def test_the_bright_transient_survey_is_asked_for_all():
    assert given(bts_request()) == {"f": "s", "subsample": "cantrans", "quality": "y", "format": "csv"}


def test_a_cross_match_uploads_numbered_positions():
    request = xmatch_request([(10.0, -5.0), (11.5, 3.25)], "I/355/gaiadr3", arcsec=1.5)
    assert request.method == "POST"
    assert request.upload == {"cat1": b"row,ra,dec\n0,10.00000000,-5.00000000\n1,11.50000000,3.25000000\n"}
    assert (given(request)["cat2"], given(request)["distMaxArcsec"]) == ("vizier:I/355/gaiadr3", "1.5")
    assert given(xmatch_request([(0.0, 0.0)], "simbad", arcsec=1.0))["cat2"] == "simbad"
    with pytest.raises(ValueError, match="180"):
        xmatch_request([(0.0, 0.0)], "simbad", arcsec=181.0)


# --- answers ---------------------------------------------------------------------------------------

SDSS = b"""#Table1
objID,ra,dec,type,modelMag_r,petroR50_r,z,class
1237648720693755918,150.1,2.2,3,17.2,2.5,0.08,GALAXY
1237648720693755919,150.2,2.3,6,21.0,-9999,null,null
"""

BTS = b"""\
ZTFID,IAUID,RA,Dec,peakt,peakfilt,peakmag,peakabs,duration,rise,fade,type,redshift,b,A_V
ZTF19aamgpuc,AT2019cdg,12:02:05.86,+59:35:36.9,572.78,r,18.9389,-,36.093,14.521,21.572,-,-,56.4,0.051
ZTF19abdgpuv,SN2019iew,16:46:46.14,-00:21:09.2,672.80,g,18.7746,-19.53,>23.6,15.4,>8.2,SN Ia,0.1,39.2,0.08
ZTF20abcdefg,-,00:00:01.00,+01:00:00.0,900.00,r,17.1,-,50,20,30,AGN,0.05,39.2,0.08
"""


def test_bright_transients_keep_type_and_redshift():
    unclassified, ia, nucleus = parse_bts(BTS).to_pylist()
    assert (ia["object_id"], ia["kind"], ia["class"]) == ("ZTF19abdgpuv (SN2019iew)", "transient", "SN Ia")
    assert (ia["redshift"], ia["magnitude"], ia["magnitude_band"]) == (0.1, 18.7746, "g")
    truth = SkyCoord("16h46m46.14s", "-00d21m09.2s")
    assert (ia["ra"], ia["dec"]) == pytest.approx((truth.ra.deg, truth.dec.deg), abs=1e-9)
    assert (unclassified["class"], unclassified["redshift"]) == ("AT", None)
    assert unclassified["confidence"] < ia["confidence"] == 0.99
    assert (nucleus["object_id"], nucleus["kind"]) == ("ZTF20abcdefg", "variable")


def test_tables_of_the_whole_sky_are_cut_to_a_circle():
    cut = cut_bts(BTS, Cone(251.7, -0.35, 0.1))
    assert cut.splitlines() == [BTS.splitlines()[0], BTS.splitlines()[2]]
    assert parse_bts(cut_bts(BTS, Cone(100.0, 0.0, 1.0))).num_rows == 0
    assert parse_bts(cut_bts(BTS, Cone(359.9, 1.0, 0.2))).num_rows == 1  # across RA 0
    tns = (
        b'"2025-09-17 00:00:00"\n"objid","name_prefix","name","ra","declination","redshift","type",'
        b'"discoverydate","discoverymag","filter"\n'
        b'"1","SN","2011fe","210.7738","54.27372","0.000804","SN Ia","2011-08-24 03:59:00","17.2","g-PTF"\n'
        b'"2","AT","2025abc","10.5","-4.5","","","2025-09-01 06:00:00","19.5","r-ZTF"\n'
    )
    (row,) = parse_tns(cut_tns(tns, Cone(210.8, 54.3, 0.2))).to_pylist()
    assert (row["object_id"], row["redshift"], row["class"]) == ("SN 2011fe", 0.000804, "SN Ia")
    assert row["discovered_mjd"] == pytest.approx(55797.165972, abs=1e-5)


@pytest.mark.parametrize("cut", [cut_bts, cut_tns, parse_bts])
def test_a_table_of_transients_that_was_cut_off_is_refused(cut):
    arguments = () if cut is parse_bts else (CONE,)
    for content in (b"", b"<html></html>", BTS[:-60] if cut is not cut_tns else b'"x"\n"objid","ra"\n"1"\n'):
        with pytest.raises(BadAnswerError):
            cut(content, *arguments)


@pytest.mark.parametrize(
    ("parse", "content"),
    [
        (parse_bts, BTS.replace(b"12:02:05.86", b"12:02")),
        (parse_bts, BTS.replace(b"peakmag", b"other")),
        (parse_tns, b'"objid","name_prefix","name","ra"\n"1","SN","2011fe","210.7"\n'),
        (parse_tns, b'"objid","name_prefix","name","ra","declination","type"\n"1","SN","x","1","north",""\n'),
    ],
)
def test_rows_that_cannot_be_read_are_a_bad_answer(parse, content: bytes):
    with pytest.raises(BadAnswerError, match="a row cannot be read"):
        parse(content)


def test_answers_of_the_api_of_tns():
    search = (
        b'{"id_code":200,"id_message":"OK","data":{"reply":[{"objname":"2011fe","prefix":"SN","objid":1}]}}'
    )
    assert parse_tns_search(search) == ["2011fe"]
    assert parse_tns_search(b'{"id_code":200,"id_message":"OK","data":[]}') == []  # without the key reply
    document = {
        "objname": "2011fe",
        "name_prefix": "SN",
        "object_type": {"name": "SN Ia", "id": 3},
        "redshift": 0.000804,
        "radeg": 210.7738,
        "decdeg": 54.27372,
        "discoverydate": "2011-08-24 03:59:00",
        "discoverymag": 17.2,
        "discmagfilter": {"id": 41, "name": "g"},
    }
    answer = json.dumps({"id_code": 200, "id_message": "OK", "data": {"reply": document}}).encode()
    (row,) = parse_tns_object(answer).to_pylist()
    assert (row["object_id"], row["kind"], row["class"]) == ("SN 2011fe", "transient", "SN Ia")
    assert (row["redshift"], row["magnitude"], row["confidence"]) == (0.000804, 17.2, 0.99)
    for parse in (parse_tns_search, parse_tns_object):
        with pytest.raises(AuthenticationNeededError, match="TNS_API_KEY"):
            parse(b'{"id_code":401,"id_message":"Unauthorized","data":{}}')
        for content in (
            b"",
            b"<html>",
            b"[]",
            b'{"id_code":400,"id_message":"Bad request"}',
            b'{"id_code":200}',
        ):
            with pytest.raises(BadAnswerError):
                parse(content)


def test_simbad_has_kinds_by_type():
    fields = [("main_id", "char", ""), ("ra", "double", ""), ("dec", "double", ""), ("otype", "char", "")]
    types = ["*", "RR*", "RR?", "G", "Q?", "SN*", "Cl*", "s?r", "Rad"]
    names = [f"V*  {name}" for name in types]
    content = votable(fields, [names, ["1.0"] * 9, ["2.0"] * 9, types], infos={})
    rows = parse_simbad(content).to_pylist()
    assert [(r["kind"], r["class"]) for r in rows] == [
        ("star", "*"),
        ("variable", "RR*"),
        ("variable", "RR?"),
        ("galaxy", "G"),
        ("variable", "Q?"),
        ("transient", "SN*"),
        ("star", "s?r"),
    ]
    assert rows[0]["object_id"] == "V* *"
    assert rows[2]["confidence"] < rows[1]["confidence"]


def test_ps1_tells_stars_from_galaxies():
    names = ["objID", "raMean", "decMean", "raMeanErr", "decMeanErr", "epochMean", "nDetections"]
    names += ["rMeanPSFMag", "iMeanPSFMag", "iMeanKronMag"]
    info = [{"name": name, "type": "long" if name == "objID" else "double"} for name in names]
    star = ["123456789012345678", 10.0, 5.0, 0.01, 0.02, 56292.75, 40, 18.0, 17.8, 17.79]
    galaxy = ["123456789012345679", 10.1, 5.0, 0.01, 0.02, 56292.75, 40, -999, 18.8, 18.3]
    rows = parse_ps1(json.dumps({"info": info, "data": [star, galaxy]}).encode()).to_pylist()
    assert [r["kind"] for r in rows] == ["star", "galaxy"]
    assert rows[0]["object_id"] == "PS1 123456789012345678"
    assert rows[0]["ref_epoch"] == pytest.approx(2013.0)
    assert rows[0]["position_error_arcsec"] == 0.02
    assert rows[1]["magnitude"] is None
    with pytest.raises(BadAnswerError, match="missing"):
        parse_ps1(b'{"info": [{"name": "objID", "type": "long"}], "data": [["1"]]}')
    for content in (b"", b"[]", b'{"info": [{"name": "objID", "type": "long"}], "data": [[1, 2]]}'):
        with pytest.raises(BadAnswerError):
            parse_ps1(content)


def test_ps1_from_vizier_has_the_same_kinds():
    names = ["objID", "RAJ2000", "DEJ2000", "e_RAJ2000", "e_DEJ2000", "Epoch", "rmag", "imag", "iKmag"]
    fields = [(name, "long" if name == "objID" else "double", "") for name in names]
    values = [["1", "2"], ["10", "10.1"], ["5", "5"], ["0.01"] * 2, ["0.02"] * 2, ["56292.75"] * 2]
    values += [["18", ""], ["17.8", "18.8"], ["17.79", "18.3"]]
    rows = parse_vizier_ps1(votable(fields, values, infos={})).to_pylist()
    assert [(r["object_id"], r["kind"]) for r in rows] == [("PS1 1", "star"), ("PS1 2", "galaxy")]
    assert rows[1]["magnitude"] is None
    assert "rmag" in given(vizier_ps1_request(CONE))["-out"]
    assert parse_vizier_ps1(votable(fields, [[]] * 9, infos={})).num_rows == 0


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"ra,dec\n", b"angDist,ra\n1.0,2.0\n1.0\n"])
def test_what_is_no_cross_match_is_refused(content: bytes):
    with pytest.raises(BadAnswerError):
        parse_xmatch(content)


def test_an_error_of_the_cross_match_service_is_told():
    info = b'<INFO name="QUERY_STATUS" value="ERROR">unknown table</INFO>'
    document = b"<VOTABLE><RESOURCE>%s</RESOURCE></VOTABLE>" % info
    with pytest.raises(BadAnswerError, match="unknown table"):
        parse_xmatch(document)


def test_rows_that_were_left_out_are_an_error_of_their_own():
    info = b'<INFO name="QUERY_STATUS" value="OVERFLOW"/>'
    document = b'<VOTABLE version="1.4"><RESOURCE type="results">%s</RESOURCE></VOTABLE>' % info
    with pytest.raises(TooManyRowsError, match="overflow"):
        count_rows(document, service="SIMBAD")
    assert count_sdss(SDSS) == 2


def test_names():
    assert given(resolver_request("Barnard's star"))["name"] == "Barnard's star"
    with pytest.raises(NoCoverageError, match="no such thing"):
        parse_resolver(b'{"resolvedCoordinate": []}', "no such thing")
    for content in (b"", b"<html>", b"[]", b'{"resolvedCoordinate": [{"searchString": "m1"}]}'):
        with pytest.raises(BadAnswerError):
            parse_resolver(content, "M1")


# --- recorded answers ------------------------------------------------------------------------------


def response(path: Path) -> SimpleNamespace:
    """Return what astroquery's parsers want of a response."""
    content = path.read_bytes()
    return SimpleNamespace(
        content=content, text=content.decode("utf-8", "replace"), json=lambda: json.loads(content)
    )


def theirs(parse, *arguments):
    """Return what astroquery makes of an answer; it warns about units and the like."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parse(*arguments)


def same(ours: np.ndarray, other) -> None:
    """Compare a column with astroquery's: numbers as numbers, with the same values missing."""
    masked = np.ma.asarray(other)
    if masked.dtype.kind in "fiu":
        numbers = np.ma.filled(masked.astype(float), np.nan)
        np.testing.assert_array_equal(
            np.array([np.nan if v is None else v for v in ours], dtype=float), numbers
        )
    else:
        texts = [str(v).strip() for v in np.ma.filled(masked, "")]
        assert [("" if v is None else str(v).strip()) for v in ours] == texts


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["query_near_position.xml", "query_object.xml"])
def test_recorded_ned_as_astroquery_reads_it(real_data: Path, name: str):
    from astroquery.ipac.ned import Ned

    path = real_data / "http/ned" / name
    table = theirs(Ned._parse_result, response(path))
    columns = read_votable(path.read_bytes(), service="NED")
    assert len(columns["object name"]) == len(table) > 0
    assert list(columns) == [column.lower() for column in table.colnames]
    for column in table.colnames:
        same(columns[column.lower()], table[column])
    galaxies = table[[str(t) in ("G", "GPair", "GTrpl", "QSO", "G_Lens") for t in table["Type"]]]
    ours = parse_ned(path.read_bytes())
    assert ours.column("object_id").to_pylist() == [str(text).strip() for text in galaxies["Object Name"]]


@pytest.mark.real_data
def test_recorded_ned_without_a_note_is_nothing_there(real_data: Path):
    assert parse_ned((real_data / "http/ned/error.xml").read_bytes()).num_rows == 0


@pytest.mark.real_data
def test_recorded_skybot_as_astroquery_reads_it(real_data: Path):
    from astroquery.imcce import Skybot

    path = real_data / "http/skybot/skybot_query.vot"
    table, ours = theirs(Skybot._parse_result, response(path)), parse_skybot(path.read_bytes())
    assert ours.num_rows == len(table) == 4
    for ours_name, name in (
        ("ra", "RA"),
        ("dec", "DEC"),
        ("magnitude", "V"),
        ("position_error_arcsec", "posunc"),
    ):
        np.testing.assert_allclose(ours.column(ours_name).to_numpy(), np.asarray(table[name]), rtol=1e-7)
    rate = np.hypot(np.asarray(table["RA_rate"]), np.asarray(table["DEC_rate"])) / 60.0
    np.testing.assert_allclose(ours.column("rate_arcsec_min").to_numpy(), rate)
    numbers = [None if number is np.ma.masked else int(number) for number in table["Number"]]
    names = [
        str(n) if number is None else f"({number}) {n}"
        for n, number in zip(table["Name"], numbers, strict=True)
    ]
    assert ours.column("object_id").to_pylist() == names


@pytest.mark.real_data
def test_recorded_gaia_as_astropy_reads_it(real_data: Path):
    path = real_data / "http/gaia/1710099405832VAL-result.vot"
    table = theirs(Table.read, path)
    columns = read_votable(path.read_bytes(), service="Gaia")
    assert len(columns) == len(table.colnames)
    for column in table.colnames:
        if table[column].dtype.kind in "fOU":
            same(columns[column.lower()], table[column])
    assert [int(v) for v in columns["source_id"]] == [int(v) for v in table["SOURCE_ID"]]
    job = read_votable((real_data / "http/gaia/job_1.vot").read_bytes(), service="Gaia")
    assert (job["alpha"].tolist(), job["source_id"].tolist()) == ([1.0, 3.0, 5.0], ["a", "b", "c"])


@pytest.mark.real_data
def test_recorded_gaia_in_json(real_data: Path):
    document = json.loads((real_data / "http/gaia/cone_search.json").read_text())
    names = [field["name"] for field in document["metadata"]]
    ours = parse_gaia((real_data / "http/gaia/cone_search.json").read_bytes()).to_pylist()
    for row, values in zip(ours, document["data"], strict=True):
        truth = dict(zip(names, values, strict=True))
        assert row["object_id"] == f"Gaia DR3 {truth['source_id']}"
        for name, theirs_name in (("ra", "ra"), ("dec", "dec"), ("pm_ra", "pmra"), ("parallax", "parallax")):
            assert row[name] == truth[theirs_name]
        assert row["magnitude"] == pytest.approx(truth["phot_g_mean_mag"])


@pytest.mark.real_data
def test_recorded_vizier_as_astroquery_reads_it(real_data: Path):
    """242 catalogues in one answer."""
    from astroquery.vizier import Vizier

    path = real_data / "http/vizier/viz.xml"
    tables, ours = theirs(Vizier._parse_result, response(path)), parse_vizier(path.read_bytes())
    assert len(tables) > 200
    assert [name for name in ours if name in tables.keys()] == list(tables.keys())  # noqa: SIM118
    for name in tables.keys():  # noqa: SIM118
        assert len(ours[name]) == len(tables[name].colnames)
        for column, values in zip(tables[name].colnames, ours[name].values(), strict=True):
            same(values, tables[name][column])


@pytest.mark.real_data
@pytest.mark.parametrize("parse", [parse_vizier, PARSERS["vsx"], parse_vizier_ps1])
def test_recorded_outage_of_vizier_is_an_outage(real_data: Path, parse):
    with pytest.raises(ArchiveUnavailableError, match="not currently reachable"):
        parse((real_data / "http/vizier/no_server_error.xml").read_bytes())


@pytest.mark.real_data
def test_recorded_cross_match(real_data: Path):
    content = (real_data / "http/xmatch/query_res.csv").read_bytes()
    ours, truth = parse_xmatch(content).to_pylist(), list(csv.DictReader(content.decode().splitlines()))
    assert len(ours) == len(truth) == 11
    for row, texts in zip(ours, truth, strict=True):
        assert row.keys() == texts.keys()
        for name, text in texts.items():
            value = row[name]
            assert (value is None and text == "") or str(value) == text or float(value) == float(text)
    table = Table.read(content.decode(), format="ascii.csv")  # as astroquery read it
    np.testing.assert_array_equal([row["angDist"] for row in ours], table["angDist"])


@pytest.mark.real_data
def test_recorded_simbad_answers(real_data: Path):
    for name in ("simbad_basic_columns", "simbad_linked_to_basic", "simbad_output_options"):
        path = real_data / f"http/simbad/{name}.xml"
        table, columns = theirs(Table.read, path), read_votable(path.read_bytes(), service="SIMBAD")
        assert list(columns) == [column.lower() for column in table.colnames]
        for column in table.colnames:
            same(columns[column.lower()], table[column])
    basic = read_votable((real_data / "http/simbad/simbad_basic_columns.xml").read_bytes(), service="SIMBAD")
    known = set(basic["column_name"])
    asked = given(simbad_request(CONE))["QUERY"].split(" FROM ")[0].split(" ", 3)[3].split(", ")
    assert set(asked) <= known


@pytest.mark.real_data
def test_recorded_ps1_as_astroquery_reads_it(real_data: Path):
    from astroquery.mast.services import _json_to_table

    content = (real_data / "http/mast/panstarrs.json").read_bytes()
    table, ours = theirs(_json_to_table, json.loads(content)), read_mast_table(content)
    assert list(ours) == [name.lower() for name in table.colnames]
    for name in table.colnames:
        same(ours[name.lower()], table[name])
    assert np.isnan(ours["imeanapmag"]).sum() == content.count(b"-999,")


@pytest.mark.real_data
def test_the_columns_that_ps1_is_asked_for_are_there(real_data: Path):
    known = {
        column["name"] for column in json.loads((real_data / "http/mast/panstarrs_columns.json").read_text())
    }
    assert set(given(ps1_request(CONE))["columns"].strip("[]").split(",")) <= known


@pytest.mark.real_data
def test_recorded_names(real_data: Path):
    content = (real_data / "http/mast/resolver.json").read_bytes()
    for name in {row["searchString"] for row in json.loads(content)["resolvedCoordinate"]}:
        first = next(r for r in json.loads(content)["resolvedCoordinate"] if r["searchString"] == name)
        found = parse_resolver(content, name.upper())
        assert (found.ra, found.dec, found.resolver) == (first["ra"], first["decl"], first["resolver"])
    assert parse_resolver(content, "M101").type == "GinPair"
    star = parse_resolver(content, "TIC 307210830")
    assert (star.resolver, star.canonical) == ("TIC", "TIC 307210830")  # as astroquery: the first
