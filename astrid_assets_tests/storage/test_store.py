"""Files appear whole or not at all; a row is what makes the results of an exposure count."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from astrid_assets.storage.layout import ASSETS, FOLDERS, data_root
from astrid_assets.storage.store import Store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "data"))
    return Store(f"memory://{tmp_path.name}")


def test_the_folders_are_those_of_the_plan():
    assert FOLDERS["science_images"] == "source_fits/science"
    assert FOLDERS["references"] == "source_fits/reference"
    assert FOLDERS["aligned_pairs"] == "processed/aligned"
    assert FOLDERS["normalized_pairs"] == "processed/normalized"
    assert FOLDERS["zogy_differences"] == "differences/zogy"
    assert FOLDERS["classic_differences"] == "differences/classic"
    assert tuple(FOLDERS) == ASSETS


def test_results_go_to_astrid_data_or_beside_the_instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert data_root() == str(tmp_path / "dagster_home" / "data")
    monkeypatch.setenv("ASTRID_DATA", "s3://bucket/astrid")
    assert data_root() == "s3://bucket/astrid"
    assert not Store().local


def test_bytes_come_back_and_have_their_size(store: Store):
    store.write_bytes("candidates/f/a.bin", b"12345")
    assert store.path("candidates/f/a.bin").read_bytes() == b"12345"
    assert store.size("candidates/f/a.bin") == 5
    assert store.size("candidates/f/b.bin") is None
    assert store.exists({"candidates/f/a.bin": 5})
    assert not store.exists({"candidates/f/a.bin": 6})


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    store = Store(str(tmp_path))
    store.write_bytes("candidates/f/a.bin", b"old")

    def half() -> None:
        with store.writing("candidates/f/a.bin") as stream:
            stream.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        half()
    assert (tmp_path / "candidates/f/a.bin").read_bytes() == b"old"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "candidates/f/a.bin"]


def test_an_error_leaves_no_file_on_an_object_store_either():
    store = Store("memory://half")

    def half() -> None:
        with store.writing("candidates/f/a.bin") as stream:
            stream.write(b"half")
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        half()
    assert store.size("candidates/f/a.bin") is None


def test_a_folder_is_adopted_whole_and_replaces_what_was_there(store: Store):
    folder = "source_fits/science/f/e1"
    for content in (b"one", b"two"):
        with store.staging(folder) as staging:
            place = staging / "e1"
            (place / "sub").mkdir(parents=True)
            (place / f"{content.decode()}.fits").write_bytes(content)
            (place / "sub" / "mask.fits").write_bytes(content)
            store.adopt(place, folder)
    assert store.size(f"{folder}/one.fits") is None
    assert store.path(folder, "two.fits").read_bytes() == b"two"
    assert store.path(folder, "sub", "mask.fits").read_bytes() == b"two"


def test_rows_are_found_by_key_until_they_are_discarded(store: Store):
    assert store.rows("candidates", "f") == {}
    store.commit("candidates", "f", {"exposure_id": "b", "state": "ok"})
    store.commit("candidates", "f", {"exposure_id": "a", "state": "failed"})
    store.commit("candidates", "f", {"exposure_id": "a", "state": "superseded"}, key="a~1")
    assert {k: r["state"] for k, r in store.rows("candidates", "f").items()} == {
        "a": "failed",
        "a~1": "superseded",
        "b": "ok",
    }
    store.discard("candidates", "f", "b")
    store.discard("candidates", "f", "never there")
    assert sorted(store.rows("candidates", "f")) == ["a", "a~1"]


def test_a_row_with_a_number_that_json_does_not_know_is_refused(store: Store):
    with pytest.raises(ValueError, match="JSON"):
        store.commit("candidates", "f", {"exposure_id": "a", "seeing": float("nan")})


def test_tables_come_back_exactly(store: Store):
    table = pa.table({"x": [1.5, None], "name": ["a", "b"]})
    assert store.manifest("candidates", "f") is None
    store.write_table("candidates/f/manifest.parquet", table)
    assert store.manifest("candidates", "f").equals(table)


def test_what_a_killed_run_left_on_the_way_is_removed_for_its_field_only(tmp_path: Path):
    store = Store(str(tmp_path))
    left = []
    for name in ("mine", "other"):
        path = tmp_path / ".staging" / "candidates" / name / "rows" / "123-abc"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
        left.append(path)
    store.clean_staging("mine")
    assert [p.exists() for p in left] == [False, True]


def test_a_json_file_that_did_not_change_is_left_alone(tmp_path: Path):
    store = Store(str(tmp_path))
    store.write_json("metadata/f/a.json", {"b": 1, "a": [1, 2]})
    before = (tmp_path / "metadata/f/a.json").stat()
    store.write_json("metadata/f/a.json", {"a": [1, 2], "b": 1})
    assert (tmp_path / "metadata/f/a.json").stat().st_ino == before.st_ino
    store.write_json("metadata/f/a.json", {"a": [1, 2], "b": 2})
    assert '"b": 2' in (tmp_path / "metadata/f/a.json").read_text()
