"""The release: what is in it, that nothing leaks, and that its bytes are always the same."""

import hashlib
import io
import json
import shutil
import subprocess
from contextlib import contextmanager

import h5py
import numpy as np
import pyarrow.csv
import pytest

from astrid_assets.errors import AstridError, ReleaseRefusedError
from astrid_assets.storage.store import Store
from astrid_assets.training.release import (
    EXTRA_COLUMNS,
    FieldSamples,
    ReleaseOptions,
    merge_samples,
    plan_release,
    release_metrics,
    verify_release,
    write_release,
)
from astrid_assets.training.schema import SAMPLE_COLUMNS
from astrid_assets.training.splits import SPLITS
from astrid_assets_tests.training.samples import files_of, read_json, read_table, samples, write_field

FIELDS = {"a": 10.0, "b": 130.0, "c": 250.0}


def sources(store, names=FIELDS):
    """Return the training sets of some fields, as the asset hands them over."""

    def opener(name):
        return lambda file: store.path(store.folder("training_set", name), file).open("rb")

    return [
        FieldSamples(n, store.read_table(f"{store.folder('training_set', n)}/samples.parquet"), opener(n))
        for n in names
    ]


def build(store, folder, **options):
    """Write a release of all fields to a folder."""
    folder.mkdir(parents=True)

    @contextmanager
    def create(name):
        with (folder / name).open("w+b") as stream:
            yield stream

    fields = sources(store)
    plan = plan_release(fields, ReleaseOptions(), release_id="0123456789ab", config={"seed": 1}, **options)
    write_release(plan, fields, create)
    return plan


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(str(tmp_path_factory.mktemp("data")))
    for number, (name, ra) in enumerate(FIELDS.items()):
        write_field(store, name, ra=ra, exposures=2 + (number == 1), n=9, seed=number)
    return store


@pytest.fixture(scope="module")
def release(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "r"
    build(store, folder)
    return folder


def test_every_sample_is_there_once(store, release):
    catalogue = read_table(release / "catalog.parquet")
    everything = {s for f in sources(store) for s in f.table["sample_id"].to_pylist()}
    names = catalogue["sample_id"].to_pylist()
    assert len(names) == len(set(names))
    # the stamps that nothing distinguishes would be left out; here all differ
    assert set(names) == everything
    assert catalogue.column_names == [*SAMPLE_COLUMNS, *EXTRA_COLUMNS]
    assert catalogue.schema.field("flux").metadata[b"unit"] == b"image unit"


def test_pixels_are_those_of_the_fields(store, release):
    catalogue = read_table(release / "catalog.parquet").to_pylist()
    for split in SPLITS:
        rows = [r for r in catalogue if r["split"] == split]
        with h5py.File(release / f"{split}.h5") as file:
            assert file["triplet"].shape == (len(rows), 3, 65, 65)
            assert file["triplet"].dtype == "<f4"
            assert file["mask"].dtype == np.uint8
            assert file["triplet"].chunks is None
            stamps = file["triplet"][...]
            assert file["sample_id"].asstr()[...].tolist() == [r["sample_id"] for r in rows]
            assert file["label"][...].tolist() == [r["label"] for r in rows]
            np.testing.assert_array_equal(file["mask"][...] == 2, ~np.isfinite(stamps))
            assert len(file["tile_images"]) == len(file["tile_truth"]) == len(file["tile_exposure"])
        for number, row in enumerate(rows):
            assert row["h5_file"] == f"{split}.h5"
            assert row["h5_row"] == number
            assert hashlib.sha1(stamps[number].tobytes(), usedforsecurity=False).hexdigest() == row["sha1"]


def test_the_file_says_what_it_is(release):
    with h5py.File(release / "train.h5") as file:
        notes = dict(file.attrs)
    assert json.loads(notes["channels"]) == ["science", "reference", "difference"]
    assert json.loads(notes["centre_pixel"]) == [32, 32]
    assert json.loads(notes["centre_pixel_of_views"]) == {"63": [31, 31], "64": [32, 32], "65": [32, 32]}
    assert json.loads(notes["column_units"])["seeing"] == "arcsec"
    assert notes["release_id"] == "0123456789ab"
    assert notes["config_sha256"] == hashlib.sha256((release / "config.json").read_bytes()).hexdigest()


def test_arrays_are_those_of_the_hdf5_file(release):
    with np.load(release / "test.npz") as arrays, h5py.File(release / "test.h5") as file:
        np.testing.assert_array_equal(arrays["triplet"], file["triplet"][...])
        np.testing.assert_array_equal(arrays["mask"], file["mask"][...])
        assert arrays["type"].tolist() == file["type"].asstr()[...].tolist()
        assert np.isnan(arrays["magnitude_true"]).all()


def test_tables_agree(release):
    catalogue = read_table(release / "catalog.parquet")
    as_text = pyarrow.csv.read_csv(release / "catalog.csv")
    assert as_text.column_names == catalogue.column_names
    assert as_text["flux"].to_pylist() == catalogue["flux"].to_pylist()
    splits = read_table(release / "splits.parquet")
    assert splits["split"].to_pylist() == catalogue["split"].to_pylist()


def test_nothing_is_shared(release):
    """Found again on the files of the release, without the code that made the splits."""
    catalogue = read_table(release / "catalog.parquet").to_pylist()
    for name in ("object_id", "host_id", "healpix", "sha1", "sample_id", "group"):
        held = [{r[name] for r in catalogue if r["split"] == s and r[name]} for s in SPLITS]
        assert sum(map(len, held)) == len(set.union(*held)), name
    assert {r["shared"] for r in read_json(release / "stats.json")["leakage"]} == {0}


def test_healpix_columns_are_nested_orders(release):
    """Order 29 holds the coarser cell in its leading bits."""
    table = read_table(release / "catalog.parquet")
    for cell, fine in zip(table["healpix"].to_pylist(), table["_healpix_29"].to_pylist(), strict=True):
        assert fine >> (2 * (29 - 4)) == cell


def test_statistics_describe_the_pixels(store, release):
    found = read_json(release / "stats.json")["pixels"]["train"]
    with h5py.File(release / "train.h5") as file:
        science = file["triplet"][:, 0]
        missing = np.isnan(file["triplet"][:, 1]).mean()
    assert found["raw"]["science"]["mean"] == pytest.approx(science.mean(), abs=0.2)
    assert found["raw"]["science"]["std"] == pytest.approx(science.std(), rel=0.05)
    assert found["raw"]["science"]["mad"] == pytest.approx(6.745, rel=0.02)
    assert found["raw"]["reference"]["missing"] == pytest.approx(missing, abs=1e-3)
    assert found["l2_63"]["difference"]["p99.9"] < 1


def test_checksums_pass_and_find_a_change(release, tmp_path):
    done = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=release, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == len(files_of(release)) - 1
    assert verify_release(release) == {}
    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    with (copy / "test.h5").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"\x01\x02\x03")
    (copy / "README.md").unlink()
    assert verify_release(copy) == {"test.h5": "changed", "README.md": "missing"}
    with pytest.raises(AstridError, match="holds no release"):
        verify_release(tmp_path)


def test_the_card_counts(release):
    card = (release / "README.md").read_text()
    assert "$" not in card
    assert "TripletDataset(" in card
    assert "| real | " in card
    assert "CC0-1.0" in card
    assert "There are only 3 groups" in card


def test_croissant_names_all_files_and_columns(release):
    found = read_json(release / "croissant.json")
    sums = dict(line.split()[::-1] for line in (release / "SHA256SUMS").read_text().splitlines())
    listed = {f["name"]: f["sha256"] for f in found["distribution"]}
    assert listed == {n: s for n, s in sums.items() if n != "croissant.json"}
    fields = next(r for r in found["recordSet"] if r["name"] == "catalog")["field"]
    assert [f["name"] for f in fields] == [*SAMPLE_COLUMNS, *EXTRA_COLUMNS]
    assert found["conformsTo"][0] == "http://mlcommons.org/croissant/1.0"


def test_the_same_samples_give_the_same_bytes(store, release, tmp_path):
    """Another folder, another place of the data, another time, fields in another order."""
    moved = Store(str(tmp_path / "elsewhere"))
    shutil.copytree(store.root, moved.root)
    build(moved, tmp_path / "again")
    first, second = files_of(release), files_of(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_nothing_says_where_it_was_made(store, release, tmp_path):
    for name, content in files_of(release).items():
        assert store.root.encode() not in content, name
        assert str(release).encode() not in content, name


def test_metrics_are_those_of_the_files(release):
    metrics = release_metrics(release, floor=42)
    assert metrics["shared"] == metrics["checksum_errors"] == metrics["shape_errors"] == 0
    assert metrics["sources_filled"] == 1
    assert metrics["samples_over_floor"] == 1.0
    assert metrics["minority_share_train"] == 0.5


def test_duplicate_pixels_are_left_out():
    same = [
        {"sha1": "x", "label": -1, "label_confidence": None},
        {"sha1": "x", "label": 1, "label_confidence": 0.6},
        {"sha1": "x", "label": 1, "label_confidence": 0.9},
        {"sha1": "y", "label": 1},
        {"sha1": "y", "label": 0},
        {"sha1": "z", "label": 0},
    ]
    table, left_out = merge_samples([samples(same)])
    assert table["sample_id"].to_pylist() == ["s2", "s5"]
    assert left_out == {"duplicate_pixels": 2, "contradicting_labels": 2}


def test_larger_stamps_are_cut_to_the_smallest(tmp_path):
    store = Store(str(tmp_path / "data"))
    for name, ra in FIELDS.items():
        write_field(store, name, ra=ra, size=129 if name == "b" else 65, exposures=1, n=6, tiles=0)
    build(store, tmp_path / "r")
    for split in SPLITS:
        with h5py.File(tmp_path / "r" / f"{split}.h5") as file:
            assert file["triplet"].shape[1:] == (3, 65, 65)
            assert (file["triplet"][:, 0, 32, 32] > 400).all()
            assert file["tile_images"].shape[0] == 0


def test_changed_pixels_are_found(store, tmp_path):
    copy = Store(str(tmp_path / "data"))
    shutil.copytree(store.root, copy.root)
    place = copy.path(copy.folder("training_set", "a"), "a_0.h5")
    with h5py.File(place, "r+") as file:
        file["triplet"][3, 0, 0, 0] = 7
    with pytest.raises(AstridError, match="pixels of a_0_3 are not those"):
        build(copy, tmp_path / "r")


def test_too_few_samples_are_refused(store):
    with pytest.raises(ReleaseRefusedError, match="42 labelled samples, of 63, are too few"):
        plan_release(sources(store), ReleaseOptions(), release_id="x", config={}, min_samples=100)
    with pytest.raises(ReleaseRefusedError, match="0 labelled samples"):
        plan_release([], ReleaseOptions(), release_id="x", config={})
    with pytest.raises(ReleaseRefusedError, match="add a field"):
        plan_release(sources(store, ["a"]), ReleaseOptions(), release_id="x", config={})


def test_streams_of_any_kind_will_do(store):
    """Nothing but reading, writing and seeking is asked of a stream."""
    held = {}

    @contextmanager
    def create(name):
        with io.BytesIO() as stream:
            yield stream
            held[name] = stream.getvalue()

    fields = sources(store)
    plan = plan_release(fields, ReleaseOptions(), release_id="x", config={})
    sums = write_release(plan, fields, create)
    assert {n: hashlib.sha256(held[n]).hexdigest() for n in sums} == sums
