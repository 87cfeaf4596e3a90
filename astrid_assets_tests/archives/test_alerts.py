"""Alert packets: real ones, broken ones, and stamps of every shape."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits

from astrid_assets.archives.alert_columns import alert_schema
from astrid_assets.archives.alerts import (
    alert_table,
    alert_triplets,
    decode_stamps,
    label_of,
    packet_files,
    read_packets,
)
from astrid_assets.archives.simulated.alert_schema import ALERT_SCHEMA, empty_candidate
from astrid_assets.errors import BadAnswerError
from astrid_assets.images.triplets import STAMP_BITS

OUTSIDE, MISSING = STAMP_BITS["OUTSIDE"], STAMP_BITS["MISSING"]
BROKEN = 5
"""Packets of the 2018 set that are damaged."""


def stamp(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    fits.PrimaryHDU(image.astype(">f4")).writeto(stream)
    return gzip.compress(stream.getvalue(), mtime=0)


def record(science: bytes | None = None, **candidate) -> dict:
    """Return a packet in which all but some fields are empty."""
    full = empty_candidate() | {"jd": 2460930.5, "fid": 2, "isdiffpos": "t", "candid": 7, "magpsf": 19.0}
    packet = {
        "schemavsn": "3.3",
        "publisher": "test",
        "objectId": "ZTF25a",
        "candid": 7,
        "prv_candidates": None,
    }
    packet |= {"candidate": full | candidate, "cutoutTemplate": None, "cutoutDifference": None}
    packet["cutoutScience"] = None if science is None else {"fileName": "s.fits.gz", "stampData": science}
    return packet


def file_of(*records: dict, codec: str = "null") -> bytes:
    stream = io.BytesIO()
    fastavro.writer(stream, fastavro.parse_schema(ALERT_SCHEMA), records, codec=codec)
    return stream.getvalue()


def packet_of(science: bytes | None = None, **candidate):
    return next(read_packets(file_of(record(science, **candidate))))


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_several_records_and_codecs(codec: str, tmp_path: Path):
    content = file_of(record(ra=10.0), record(ra=11.0), codec=codec)
    assert [p.ra for p in read_packets(content)] == [10.0, 11.0]
    path = tmp_path / "alerts.avro"
    path.write_bytes(content)
    assert [p.ra for p in read_packets(path)] == [10.0, 11.0]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_is_read_past_its_broken_members(mode: str):
    stream = io.BytesIO()
    good = file_of(record(ra=10.0))
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in (
            ("1.avro", good),
            ("2.avro", good[:-30]),
            ("notes.txt", b"-"),
            ("3.avro", good),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    found = []
    with pytest.raises(BadAnswerError, match=r"2\.avro: broken Avro"):
        found.extend(read_packets(stream.getvalue()))
    assert len(found) == 2


def test_only_packets_are_taken_out_of_a_tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        folder = tarfile.TarInfo("night.avro")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name in ("night.avro/1.avro", "night.avro/readme.txt", "2.avro"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    stream.seek(0)
    assert list(packet_files(stream, "t")) == [("night.avro/1.avro", b"x"), ("2.avro", b"x")]


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"Obj\x01", b"\x1f\x8b\x08 no gzip"])
def test_what_is_no_packet(content: bytes):
    with pytest.raises(BadAnswerError) as error:
        list(read_packets(content))
    assert "\n" not in str(error.value)


def test_sentinels_and_spellings():
    packet = packet_of(isdiffpos="0", rb=-999.0, drb=float("nan"), ssnamenr="null", ssdistnr=-999.0)
    assert (packet.positive, packet.rb, packet.drb) == (False, None, None)
    assert (packet.solar_system_name, packet.solar_system_distance) == (None, None)
    assert packet_of(isdiffpos="1").positive
    assert packet.mjd == 60930.0
    assert packet.publisher == "test"


def test_pixels_without_a_value_are_missing():
    image = np.arange(63.0 * 63).reshape(63, 63)
    image[0, 1], image[2, 3], image[4, 5] = np.nan, 3.4028235e38, -np.inf
    stamps, mask = decode_stamps(packet_of(stamp(image)))
    assert stamps.dtype == np.float32
    assert sorted(zip(*np.nonzero(mask[0]), strict=True)) == [(0, 1), (2, 3), (4, 5)]
    assert (mask[0][mask[0] > 0] == MISSING).all()
    np.testing.assert_array_equal(np.isnan(stamps), mask > 0)
    assert stamps[0, 31, 30] == image[31, 30]
    assert (mask[1:] == MISSING).all()  # no template, no difference


@pytest.mark.parametrize(
    ("shape", "place", "corner"),
    [
        ((63, 50), {"xpos": 15.0, "ypos": 900.0}, (0, 13)),  # clipped at the left edge
        ((63, 50), {"xpos": 3060.0, "ypos": 900.0}, (0, 0)),  # at the right
        ((48, 63), {"xpos": 900.0, "ypos": 10.0}, (15, 0)),  # below
        ((48, 63), {"xpos": 900.0, "ypos": 3070.0}, (0, 0)),  # above
        ((51, 55), {}, (6, 4)),  # nobody knows
    ],
)
def test_a_clipped_stamp_keeps_the_source_in_the_middle(shape, place, corner):
    stamps, mask = decode_stamps(packet_of(stamp(np.ones(shape)), **place))
    y, x = corner
    expected = np.full((63, 63), OUTSIDE)
    expected[y : y + shape[0], x : x + shape[1]] = 0
    np.testing.assert_array_equal(mask[0], expected)
    assert np.nansum(stamps[0]) == shape[0] * shape[1]


def test_a_larger_stamp_is_cropped_about_its_middle():
    image = np.zeros((65, 71))
    image[32, 35] = 1.0
    stamps, mask = decode_stamps(packet_of(stamp(image)))
    assert stamps[0, 31, 31] == 1.0
    assert not mask[0].any()


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"no FITS", mtime=0), stamp(np.zeros((3, 4, 5)))],
    ids=["empty", "no gzip", "no FITS", "cube"],
)
def test_a_stamp_that_cannot_be_read_is_missing(content: bytes):
    stamps, mask = decode_stamps(packet_of(content))
    assert np.isnan(stamps).all()
    assert (mask == MISSING).all()


@pytest.mark.parametrize(
    ("candidate", "label"),
    [
        ({"ssnamenr": "110778", "ssdistnr": 1.0, "drb": 0.01, "rb": 0.1}, (1, "solar_system_match")),
        ({"ssnamenr": "110778", "ssdistnr": 20.0, "drb": 0.99}, (1, "drb")),
        ({"drb": 0.05, "rb": 0.2}, (0, "drb")),
        ({"drb": 0.05, "rb": 0.6}, (-1, "none")),
        ({"drb": 0.4}, (-1, "none")),
        ({"rb": 0.9}, (-1, "none")),
    ],
)
def test_labels_say_where_they_come_from(candidate: dict, label: tuple):
    value, source, confidence = label_of(packet_of(**candidate))
    assert (value, source) == label
    assert (confidence is None) == (value < 0)


def test_the_table():
    packets = [packet_of(ssnamenr="110778", ssdistnr=1.0, xpos=100.4, ypos=200.6), packet_of(drb=0.9)]
    table = alert_table(packets, night="n", packet="n.avro", stamps="n.npz")
    assert table.schema == alert_schema()
    assert table.column("stamp").to_pylist() == [0, 1]
    assert table.column("label").to_pylist() == [1, 1]
    triplets = alert_triplets(packets)
    assert (len(triplets), triplets.size) == (2, 63)
    assert (triplets.x.tolist(), triplets.y.tolist()) == ([99, -1], [200, -1])
    assert len(alert_triplets([])) == 0


@pytest.mark.real_data
def test_every_real_packet_becomes_finite_or_flagged(real_data: Path):
    """Whatever a packet holds, a pixel is finite or flagged, and nothing warns."""
    packets, faults = [], []
    for path in sorted([*real_data.glob("alerts/**/*.avro"), *real_data.glob("http/ztf_alerts/**/*.avro")]):
        try:
            packets.extend(read_packets(path))
        except BadAnswerError as error:
            faults.append(str(error))
    assert len(faults) == BROKEN
    assert len(packets) >= 75
    triplets = alert_triplets(packets)
    np.testing.assert_array_equal(np.isfinite(triplets.stamps), triplets.mask == 0)
    assert np.abs(triplets.stamps[triplets.mask == 0]).max() < 1e6
    whole = (triplets.bad_fraction == 0).all(axis=1)
    assert 0.8 < whole.mean() < 1.0
    table = alert_table(packets, night="n", packet="p", stamps="s")
    assert table.column("object_id").null_count == 0
    assert sum(name is not None for name in table.column("solar_system_name").to_pylist()) == 18


@pytest.mark.real_data
def test_real_packets_of_every_schema(real_data: Path):
    """From 2018, without version and publisher, to 4.01; both spellings of the sign."""
    packets, broken = [], {}
    for path in sorted(real_data.rglob("*.avro")):
        try:
            packets.extend(read_packets(path))
        except BadAnswerError as error:
            broken[path.name] = str(error)
    assert {packet.schema for packet in packets} == {None, "3.3", "4.01"}
    assert {packet.publisher for packet in packets} == {None, "ZTF (www.ztf.caltech.edu)"}
    assert len(broken) == BROKEN
    assert all(message.startswith(f"{name}: broken Avro: ") for name, message in broken.items())
    for packet in packets:
        sign = packet.candidate["isdiffpos"]
        assert packet.positive == (sign in ("t", "1")), sign
        assert 0 <= packet.ra < 360
        assert -90 <= packet.dec <= 90
        assert 58200 < packet.mjd < 60300


@pytest.mark.real_data
def test_the_change_is_positive_in_real_differences(real_data: Path):
    """Also where the source faded: the difference stamp is turned."""
    paths = sorted((real_data / "http/ztf_alerts/20231012").glob("*.avro"))
    packets = [packet for path in paths for packet in read_packets(path)]
    faded = [p for p in packets if not p.positive]
    middle = alert_triplets(faded).stamps[:, 2, 29:34, 29:34]
    assert (np.nanmean(middle, axis=(1, 2)) > 0).all()
