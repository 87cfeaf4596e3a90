"""What is asked of the sources of alerts, and what is read from their answers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import fastavro
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from astrid_assets.archives.alerts import Packet, alert_triplets, read_packets, stamp_image
from astrid_assets.archives.brokers import AlertsArchive, alerce, fink, kowalski, lasair, nightly
from astrid_assets.archives.brokers.encoding import (
    CHANNELS,
    Detection,
    by_number,
    encode_packets,
    gzipped_fits,
    is_whole,
    pack,
)
from astrid_assets.archives.brokers.night import Night, asked_for
from astrid_assets.archives.protocol import AlertArchive, Archive, Cone
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import (
    ArchiveUnavailableError,
    BadAnswerError,
    ConfigurationError,
    NoCoverageError,
)
from astrid_assets.fields import Field

TOKEN = "any"  # noqa: S105 - a word that a test looks for
NIGHT = Night(60229)  # 2023-10-12
CONE = Cone(47.0, 9.4, 0.5)
ALERT = {"jd": 2460229.9338542, "fid": 1, "isdiffpos": "f", "ra": 47.0, "dec": 9.4, "magpsf": 17.5}


def detection(candid: int = 2475433850015010009, **more) -> Detection:
    return Detection("ZTF18abc", candid, ALERT | more)


def sky_field(source: str = "fink", **options) -> Field:
    given = {"name": "f", "ra": 47.0, "dec": 9.4, "radius": 0.5, "archives": ("alerts",)}
    return Field(**given, alerts={"source": source}, **options)


# --- nights ---------------------------------------------------------------------------------------


def test_a_night_is_a_day_of_utc():
    assert NIGHT.date == "20231012"
    assert NIGHT.jd == (2460229.5, 2460230.5)
    assert [NIGHT.holds(jd) for jd in (2460229.49, 2460229.5, 2460230.49, 2460230.5)] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("place", "inside"), [((47.0, 9.89), True), ((47.0, 9.91), False), ((47.505, 9.4), True)]
)
def test_alerts_are_chosen_by_their_own_place_and_time(place: tuple, inside: bool):
    ra, dec = place
    assert asked_for({**ALERT, "ra": ra, "dec": dec}, NIGHT, CONE) == inside
    assert not asked_for({**ALERT, "jd": 2460230.6}, NIGHT, CONE)


def test_an_alert_without_a_place_is_a_bad_answer():
    with pytest.raises(BadAnswerError, match="without time or position"):
        asked_for({**ALERT, "dec": None}, NIGHT, CONE)


def test_only_nights_that_are_over_are_offered():
    """Alerts of a day are complete half a day after it."""
    window = {"science_window": {"start": "2023-10-10", "end": "2023-10-12"}}

    def dates(now: float) -> list[str]:
        archive = AlertsArchive(None, clock=now)
        return [offer.name for offer in archive.alert_nights(sky_field(**window))]

    assert dates(60400.0) == ["alerts_20231010", "alerts_20231011", "alerts_20231012"]
    assert dates(60230.49) == ["alerts_20231010", "alerts_20231011"]
    assert dates(60200.0) == []


def test_the_first_night_is_that_of_the_source():
    first = {
        source: AlertsArchive(None, clock=59000.0).alert_nights(sky_field(source))[0].mjd
        for source in ("nightly", "alerce", "fink")
    }
    assert first == {"nightly": 58270.0, "alerce": 58270.0, "fink": 58788.0}


def test_another_source_is_another_offer():
    window = {"science_window": {"start": "2023-10-12", "end": "2023-10-12"}}
    archive = AlertsArchive(None, clock=60400.0)
    offers = [archive.alert_nights(sky_field(source, **window))[0] for source in ("fink", "lasair")]
    assert len({(offer.title, offer.revision) for offer in offers}) == 2
    assert isinstance(archive, Archive)
    assert isinstance(archive, AlertArchive)
    assert archive.search(sky_field()) == []


# --- questions ------------------------------------------------------------------------------------


def test_objects_of_alerce_span_the_night():
    request = alerce.objects_request(NIGHT, CONE, 3)
    assert request.target == (
        "/ztf/v1/objects?ra=47.00000000&dec=9.40000000&radius=1805.000&firstmjd=0&firstmjd=60230"
        "&lastmjd=60229&page=3&page_size=200&count=false&order_by=oid&order_mode=ASC"
    )


def test_alerce_is_never_asked_about_a_coordinate_of_zero():
    """It takes 0 for "not given", and would answer with the whole sky."""
    query = dict(alerce.objects_request(NIGHT, Cone(0.0, 0.0, 0.1), 1).query)
    assert float(query["ra"]) == float(query["dec"]) == 1e-8


def test_a_circle_of_fink_ends_with_the_night():
    body = fink.cone_request(NIGHT, CONE).json
    assert body["stopdate"] == "2023-10-13 00:00:00"
    assert (body["ra"], body["dec"], body["radius"]) == (47.0, 9.4, 1805.0)
    with pytest.raises(ConfigurationError, match=r"up to 5 degrees.*nightly"):
        fink.cone_request(NIGHT, Cone(47.0, 9.4, 5.0))


def test_kowalski_is_asked_for_public_alerts_of_the_night():
    body = kowalski.cone_request(NIGHT, CONE, token=TOKEN, skip=100).json
    wanted = body["query"]["catalogs"]["ZTF_alerts"]
    assert wanted["filter"] == {
        "candidate.jd": {"$gte": 2460229.5, "$lt": 2460230.5},
        "candidate.programid": 1,
    }
    assert body["query"]["object_coordinates"]["cone_search_radius"] == 1800.0
    assert body["kwargs"] == {"limit": 100, "skip": 100, "sort": [["candid", 1]]}


@pytest.mark.parametrize("place", [(47.0, 9.4), (0.2, -30.0), (359.9, 60.0), (120.0, 89.7), (0.0, -90.0)])
def test_the_query_of_lasair_finds_what_lies_in_the_circle(place: tuple):
    """Also across 0 h and around the pole; asked of a database with objects on the edge of the circle."""
    cone = Cone(*place, 0.5)
    conditions = dict(lasair.query_request(NIGHT, cone, token=TOKEN).form)["conditions"]
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE objects (objectId, ramean, decmean, jdmin, jdmax)")
        rim = [
            SkyCoord(*place, unit="deg").directional_offset_by(angle * u.deg, 0.5 * u.deg)
            for angle in range(0, 360, 10)
        ]
        rows = [(f"a{i:02d}", c.ra.deg, c.dec.deg, 2460000.0, 2460229.7) for i, c in enumerate(rim)]
        rows += [
            ("far", place[0], place[1] * 0.9 + 3.0, 2460000.0, 2460229.7),
            ("before", *place, 2460000.0, 2460229.4),
            ("after", *place, 2460230.5, 2460231.0),
            ("long", *place, 2460000.0, 2460300.0),
        ]
        database.executemany("INSERT INTO objects VALUES (?, ?, ?, ?, ?)", rows)
        query = f"SELECT objectId FROM objects WHERE {conditions}"  # noqa: S608 - as the service does
        found = [name for (name,) in database.execute(query)]
    assert found == [*(row[0] for row in rows[:36]), "long"]


@pytest.mark.parametrize("module", [kowalski, lasair])
def test_tokens_are_shown_to_nobody(module):
    ask = module.cone_request if module is kowalski else module.query_request
    first, second = (ask(NIGHT, CONE, token=token) for token in ("hidden", "other"))
    assert first.key == second.key
    assert "hidden" not in first.shown
    assert any("hidden" in value for _, value in first.headers)


@pytest.mark.parametrize(
    "ask",
    [
        nightly.checksums_request,
        lambda night: alerce.detections_request("ZTF18abc", night),
        lambda night: alerce.objects_request(night, CONE, 1),
        lambda night: fink.cone_request(night, CONE),
        lambda night: fink.alerts_request(["ZTF18abc"], night),
        lambda night: lasair.objects_request(["ZTF18abc"], night, token=TOKEN),
    ],
)
def test_an_answer_kept_for_one_night_is_not_taken_for_the_next(ask):
    requests: list[Request] = [ask(Night(60229)), ask(Night(60230))]
    assert requests[0].key != requests[1].key
    assert requests[0].key == ask(Night(60229)).key


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "content"),
    [
        (nightly.parse_checksums, b"<html>down for maintenance</html>"),
        (lambda c: alerce.parse_objects(c, 1), b'{"message": "down for maintenance"}'),
        (lambda c: alerce.parse_objects(c, 1), b"down for maintenance"),
        (alerce.parse_detections, b'[{"candid": "down for maintenance"}]'),
        (alerce.parse_avro, b"down for maintenance"),
        (alerce.parse_stamp, b"down for maintenance"),
        (alerce.parse_classifiers, b'["down for maintenance"]'),
        (alerce.parse_probabilities, b'[{"class_name": "down for maintenance"}]'),
        (fink.parse_objects, b'["down for maintenance"]'),
        (fink.parse_alerts, b'[{"i:objectId": "down for maintenance"}]'),
        (fink.parse_cutouts, b'{"b:cutoutScience_stampData": ["down for maintenance"]}'),
        (kowalski.parse_alerts, b'{"status": "error", "message": "down for maintenance"}'),
        (kowalski.parse_alerts, b'{"status": "success", "data": "down for maintenance"}'),
        (lasair.parse_query, b'{"error": "down for maintenance"}'),
        (lasair.parse_query, b'["down for maintenance"]'),
        (lasair.parse_objects, b'{"detail": "down for maintenance"}'),
        (lasair.parse_objects, b'[{"objectId": "down for maintenance"}]'),
        (lasair.parse_stamp, b"down for maintenance"),
    ],
)
def test_a_bad_answer_is_told_with_its_first_bytes(parse, content: bytes):
    with pytest.raises(BadAnswerError, match="down for maintenance"):
        parse(content)


def test_checksums_of_the_nightly_archive():
    sums = nightly.parse_checksums(
        b"0cc175b9c0f1b6a831c399e269772661  ztf_public_20231011.tar.gz\n"
        b"# comment\n92eb5ffee6ae2fec3ad71c777531578f *./ztf_public_20231013.tar.gz\n"
    )
    assert nightly.checksum_of(Night(60228), sums) == "0cc175b9c0f1b6a831c399e269772661"
    with pytest.raises(NoCoverageError, match="no alerts in this night"):
        nightly.checksum_of(Night(60229), sums)
    with pytest.raises(ArchiveUnavailableError, match="yet; its last is ztf_public_20231013"):
        nightly.checksum_of(Night(60231), sums)


def test_the_tar_of_a_night_is_sifted(tmp_path: Path):
    """Packets in the circle stay as they are; those that cannot be read are reported."""
    inside, outside = (encode_packets([detection(ra=ra)], broker="b") for ra in (47.0, 48.0))
    path = tmp_path / "night.tar.gz"
    path.write_bytes(
        gzip.compress(pack([("a.avro", outside), ("b.avro", inside), ("c.avro", b"Obj\x01")]), mtime=0)
    )
    found = nightly.packets_within(path, CONE)
    assert found == [("b.avro", inside), ("c.avro", b"Obj\x01")]
    packets = []
    with pytest.raises(BadAnswerError, match=r"c\.avro: broken Avro"):
        packets.extend(read_packets(pack(found)))
    assert len(packets) == 1
    with pytest.raises(NoCoverageError, match=r"none of 3 alerts.*1 cannot be read \(c\.avro"):
        nightly.packets_within(path, Cone(10.0, 0.0, 0.1))


def test_a_tar_that_is_cut_off_is_a_bad_answer(tmp_path: Path):
    path = tmp_path / "night.tar.gz"
    path.write_bytes(gzip.compress(pack([("a.avro", bytes(range(256)) * 100)]), mtime=0)[:-40])
    with pytest.raises(BadAnswerError, match="broken tar"):
        nightly.packets_within(path, CONE)


def test_pages_of_alerce():
    page = {"page": 2, "has_next": True, "items": [{"oid": "b"}, {"oid": "a"}, {"oid": "b"}]}
    assert alerce.parse_objects(json.dumps(page).encode(), 2) == alerce.Page(("b", "a"), more=True)
    with pytest.raises(BadAnswerError, match="page 2 instead of 3"):
        alerce.parse_objects(json.dumps(page).encode(), 3)
    del page["has_next"]
    assert not alerce.parse_objects(json.dumps(page).encode(), 2).more


def test_the_history_of_an_alert_of_alerce_is_no_alert():
    rows = [
        {"candid": "1", "mjd": 60229.25, "has_stamp": True, "ra": 1.0, "dec": 2.0},
        {"candid": "2", "mjd": 60229.25, "has_stamp": False, "ra": 1.0, "dec": 2.0},
    ]
    found = alerce.parse_detections(json.dumps(rows).encode())
    assert [(row["candid"], row["jd"]) for row in found] == [(1, 2460229.75)]


def test_classes_of_alerce_say_whose_opinion_they_are():
    names = {"classifier_name": "stamp_classifier", "classifier_version": "1.0.4"}
    row = {**names, "class_name": "SN", "probability": 0.93, "ranking": 1}
    found = alerce.parse_probabilities(json.dumps([row]).encode())
    assert found == [alerce.Probability("stamp_classifier", "1.0.4", "SN", 0.93, 1)]
    content = json.dumps([{**names, "classes": ["SN", "bogus"]}]).encode()
    assert alerce.parse_classifiers(content) == {("stamp_classifier", "1.0.4"): ("SN", "bogus")}


def test_rows_of_fink_are_fields_of_the_packet():
    row = {"i:objectId": "ZTF18abc", "i:candid": 2475433850015010009, "i:magpsf": 17.5}
    row |= {"i:schemavsn": "4.01", "d:cdsxmatch": "QSO", "v:lapse": 3.0}
    (found,) = fink.parse_alerts(json.dumps([row]).encode())
    assert (found.object_id, found.candid, found.schema) == ("ZTF18abc", 2475433850015010009, "4.01")
    assert found.candidate["magpsf"] == 17.5
    assert "cdsxmatch" not in found.candidate


def test_a_circle_of_fink_that_was_cut_off_is_a_bad_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fink, "_MOST", 2)
    rows = [{"i:objectId": "b"}, {"i:objectId": "a"}]
    with pytest.raises(BadAnswerError, match="make the field smaller"):
        fink.parse_objects(json.dumps(rows).encode())
    assert fink.parse_objects(json.dumps(rows[:1]).encode()) == ["b"]


def test_stamps_of_fink_keep_their_shape_and_their_holes():
    science = [[1.5, float("nan"), 3.0], [4.0, None, 3.4028235e38]]
    content = json.dumps({"b:cutoutScience_stampData": science, "b:cutoutTemplate_stampData": []}).encode()
    stamps = fink.parse_cutouts(content)
    expected = np.array([[1.5, np.nan, 3.0], [4.0, np.nan, 3.4028235e38]], np.float32)
    np.testing.assert_array_equal(stamp_image(stamps["Science"]), expected)
    assert stamps["Template"] is stamps["Difference"] is None


@pytest.mark.parametrize(
    "binary",
    [{"$binary": {"base64": "aGVsbG8=", "subType": "00"}}, {"$binary": "aGVsbG8=", "$type": "00"}],
)
def test_documents_of_kowalski_of_all_ages(binary: dict):
    row = {
        "objectId": "ZTF18abc",
        "candid": {"$numberLong": "2475433850015010009"},
        "candidate": {**ALERT, "rb": {"$numberDouble": "NaN"}},
        "cutoutScience": {"fileName": "x", "stampData": binary},
    }
    content = json.dumps({"status": "success", "data": {"ZTF_alerts": {"field": [row]}}}).encode()
    (found,) = kowalski.parse_alerts(content)
    assert found.candid == 2475433850015010009
    assert np.isnan(found.candidate["rb"])
    assert found.stamps == {"Science": b"hello", "Template": None, "Difference": None}


def test_light_curves_of_lasair_as_documented():
    link = "https://lasair-dev.lsst.ac.uk/lasair/static/fits/fa9/2240410792515015000_cutoutScience.fits"
    alert = {"candid": 2240410792515015000, "jd": 2459994.9107986, "image_urls": {"Science": link}}
    limit = {"jd": 2459994.851794, "fid": 2, "diffmaglim": 20.468, "magpsf": 20.468}
    entry = {"objectId": "ZTF23aabplmy", "candidates": [alert, limit]}
    ((found, links),) = lasair.parse_objects(json.dumps([entry, None]).encode())
    assert (found.object_id, found.candid) == ("ZTF23aabplmy", 2240410792515015000)
    request = lasair.stamp_request(links["Science"])
    assert request.path == "/lasair/static/fits/fa9/2240410792515015000_cutoutScience.fits"
    assert request.service == "lasair_stamps"


# --- packets written anew -------------------------------------------------------------------------


def test_what_a_broker_does_not_tell_is_null():
    (packet,) = read_packets(encode_packets([detection(rb=float("nan"), extra=1)], broker="Fink"))
    assert (packet.publisher, packet.schema) == ("Fink, re-encoded", None)
    assert (packet.candid, packet.object_id) == ("2475433850015010009", "ZTF18abc")
    assert (packet.rb, packet.drb, packet.x, packet.solar_system_name) == (None, None, None, None)
    assert packet.candidate["pid"] is None
    assert "extra" not in packet.candidate
    assert not packet.positive
    assert (alert_triplets([packet]).bad_fraction == 1.0).all()


def test_equal_alerts_give_equal_bytes_in_any_order():
    rows = [detection(2), detection(1), detection(2)]
    assert [row.candid for row in by_number(rows)] == [1, 2]
    first, second = (encode_packets(by_number(order), broker="b") for order in (rows, rows[::-1]))
    assert first == second


def test_a_value_of_the_wrong_type_is_a_bad_answer():
    with pytest.raises(BadAnswerError, match="magpsf of an alert is 'bright', not of type float"):
        encode_packets([detection(magpsf="bright")], broker="b")


def test_half_an_avro_file_is_told_from_a_whole_one():
    content = encode_packets([detection()], broker="b")
    assert is_whole(content)
    assert not any(is_whole(content[:n]) for n in (0, 4, len(content) // 2, len(content) - 1))
    with pytest.raises(BadAnswerError, match="no whole Avro file"):
        alerce.parse_avro(content[: len(content) // 2])


def test_half_a_stamp_is_a_bad_answer():
    content = gzipped_fits(np.arange(63.0 * 63).reshape(63, 63))
    assert alerce.parse_stamp(content) == content
    plain = gzip.decompress(content)
    for parse, half in ((alerce.parse_stamp, content[:-100]), (lasair.parse_stamp, plain[: len(plain) // 2])):
        with pytest.raises(BadAnswerError, match="no stamp"):
            parse(half)


def same(told: Detection, record: dict) -> Packet:
    """Return a packet written anew; it says what the original says."""
    (packet,) = read_packets(encode_packets([told], broker="b"))
    assert packet.candid == str(record["candid"])
    assert packet.object_id == record["objectId"]
    assert {name: packet.candidate[name] for name in record["candidate"]} == record["candidate"]
    for channel, content in zip(CHANNELS, packet.stamps.values(), strict=True):
        assert content == record[f"cutout{channel}"]["stampData"]
    return packet


def detection_of(record: dict) -> Detection:
    stamps = {channel: record[f"cutout{channel}"]["stampData"] for channel in CHANNELS}
    return Detection(record["objectId"], record["candid"], record["candidate"], stamps)


@pytest.mark.real_data
def test_real_packets_survive_being_written_anew(real_data: Path):
    paths = sorted(real_data.glob("http/ztf_alerts/*/*.avro"))
    assert len(paths) == 36
    for path in paths:
        content = path.read_bytes()
        assert is_whole(content)
        record = next(iter(fastavro.reader(io.BytesIO(content))))
        same(detection_of(record), record)


@pytest.mark.real_data
def test_real_alerts_that_fink_keeps_as_tables_become_packets(real_data: Path):
    """Pixels without a value, which every seventh has, are flagged."""
    packets = []
    for path in sorted((real_data / "alerts/fink_parquet").glob("*.parquet")):
        columns = ["objectId", "candid", "candidate", *(f"cutout{channel}" for channel in CHANNELS)]
        packets += [same(detection_of(row), row) for row in pq.read_table(path, columns=columns).to_pylist()]
    triplets = alert_triplets(packets)
    np.testing.assert_array_equal(np.isfinite(triplets.stamps), triplets.mask == 0)
    assert len(packets) == 125
    assert (triplets.bad_fraction > 0).any(axis=1).sum() == 17


@pytest.mark.real_data
def test_a_real_night_is_the_same_after_the_tar(real_data: Path, tmp_path: Path):
    """Sifting touches no packet."""
    paths = sorted((real_data / "http/ztf_alerts/20231012").glob("*.avro"))
    path = tmp_path / "ztf_public_20231012.tar.gz"
    path.write_bytes(gzip.compress(pack([(p.name, p.read_bytes()) for p in paths]), mtime=0))
    found = nightly.packets_within(path, Cone(46.0, 9.0, 10.0))
    sums = [hashlib.sha256(content).hexdigest() for _, content in found]
    assert sums == [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
