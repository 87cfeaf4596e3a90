"""`astrid export`: releases and drafts for people who do not want to know where results lie."""

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from astropy.io import fits

from astrid_assets.cli import main
from astrid_assets.home import dagster_home
from astrid_assets.science.detection import candidate_schema
from astrid_assets.storage.manifest import build_manifest
from astrid_assets.storage.store import Store
from astrid_assets.training import TripletDataset
from astrid_assets.training.release import FieldSamples, ReleaseOptions, plan_release, write_release
from astrid_assets_tests.training.samples import files_of, read_json, write_field


@pytest.fixture
def release():
    """Make a release below the data folder of the test; return its folder."""
    store = Store()
    fields = []
    for number, name in enumerate("abc"):
        table = write_field(store, name, ra=20.0 + 100 * number, n=6, seed=number, tiles=0, exposures=1)
        folder = store.path(store.folder("training_set", name))
        fields.append(FieldSamples(name, table, lambda file, folder=folder: (folder / file).open("rb")))
    plan = plan_release(fields, ReleaseOptions(), release_id="abc123", config={})
    with store.new_folder("releases/abc123") as create:

        @contextmanager
        def opened(name):
            with create(name) as stream:
                yield stream

        write_release(plan, fields, opened)
    store.write_json("releases/latest.json", {"release_id": "abc123"})
    return store.path("releases", "abc123")


def astrid(*words, status=0):
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    assert (end.value.code or 0) == status


def verified(folder):
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_a_whole_release_is_copied(release, tmp_path, capsys):
    astrid("export", tmp_path / "out", "--json")
    verified(tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(release)
    assert not (tmp_path / "out" / ".staging").exists()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["release_id"] == "abc123"
    assert told["bytes"] == sum(map(len, files_of(release).values()))
    stamps, _ = TripletDataset(tmp_path / "out", "train")[:2]
    assert stamps.shape == (2, 3, 63, 63)


def test_hdf5_alone_is_enough_for_the_loader(release, tmp_path):
    astrid("export", tmp_path / "out", "--format", "hdf5", "--release", "abc123")
    verified(tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.npz"))
    assert len(TripletDataset(tmp_path / "out", "test")) > 0


def test_arrays_and_tables(release, tmp_path):
    astrid("export", tmp_path / "npz", "--format", "npz")
    with np.load(tmp_path / "npz" / "train.npz") as arrays:
        assert arrays["triplet"].shape[1:] == (3, 65, 65)
    verified(tmp_path / "npz")
    astrid("export", tmp_path / "csv", "--format", "csv")
    assert pyarrow.csv.read_csv(tmp_path / "csv" / "catalog.csv").num_rows == 18
    verified(tmp_path / "csv")


def test_fits_holds_stamps_and_catalogue(release, tmp_path):
    astrid("export", tmp_path / "out", "--format", "fits")
    with fits.open(tmp_path / "out" / "train.fits") as hdus, h5py.File(release / "train.h5") as file:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "TRIPLET", "MASK", "CATALOG"]
        np.testing.assert_array_equal(hdus["TRIPLET"].data, file["triplet"][...])
        np.testing.assert_array_equal(hdus["MASK"].data, file["mask"][...])
        assert hdus["CATALOG"].data["sample_id"].tolist() == file["sample_id"].asstr()[...].tolist()
        assert hdus["CATALOG"].columns["seeing"].unit == "arcsec"
        assert hdus[0].header["RELEASE"] == "abc123"
        assert hdus[0].header["CHANNEL3"] == "difference"


def test_a_damaged_release_is_not_handed_out(release, tmp_path, capsys):
    with (release / "test.h5").open("r+b") as stream:
        stream.seek(4000)
        stream.write(b"\0\1\2")
    astrid("export", tmp_path / "out", status=1)
    assert "test.h5 is damaged" in capsys.readouterr().err
    assert not (tmp_path / "out" / "test.h5").exists()


def test_there_is_no_release_yet(tmp_path, capsys):
    astrid("export", tmp_path / "out", status=1)
    assert "holds no release yet" in capsys.readouterr().err
    astrid("export", tmp_path / "out", "--release", "nothing", status=1)
    assert "holds no release" in capsys.readouterr().err


# --- drafts -----------------------------------------------------------------------------------------


@pytest.fixture
def candidate():
    """A field with one candidate and its light curve."""
    Path(dagster_home(), "fields.yaml").write_text(
        "f:\n  ra: 10.0\n  dec: 5.0\n  radius: 0.1\n  archives: [simulated]\n  bands: [r]\n"
    )
    store = Store()
    row = {
        "ra": 10.01,
        "dec": 5.02,
        "flux_njy": 36307.8,
        "flux_njy_error": 900.0,
        "magnitude": 20.0,
        "snr": 40.0,
    }
    row = {field.name: row.get(field.name) for field in candidate_schema()}
    named = {
        "candidate_id": "e1_1_2",
        "field": "f",
        "exposure_id": "e1",
        "reference_id": "r",
        "survey": "ztf",
        "band": "r",
    }
    store.write_table(
        "candidates/f/candidates.parquet", pa.Table.from_pylist([named | row | {"artifact": ""}])
    )
    exposure = {
        "exposure_id": "e1",
        "state": "ok",
        "mjd_mid": 60001.0,
        "exptime": 30.0,
        "archive": "simulated",
    }
    store.write_table("candidates/f/manifest.parquet", build_manifest([exposure]))
    return store


def test_drafts_of_a_candidate(candidate, tmp_path, capsys):
    astrid("export", tmp_path / "out", "--candidate", "e1_1_2", "--reporter", "A. Person", "--json")
    printed = capsys.readouterr().out
    assert printed.startswith("Draft made by astrid_assets. It was not sent")
    told = json.loads(printed.splitlines()[-1])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(told["files"])
    report = read_json(tmp_path / "out" / "e1_1_2_tns_at_report.draft.json")
    assert report["at_report"]["0"]["discovery_datetime"] == "2023-02-26 00:00:00"
    assert b"A. Person" in (tmp_path / "out" / "e1_1_2_voevent.draft.xml").read_bytes()


def test_the_light_curve_is_taken_along(candidate, tmp_path):
    tables = {
        "associations": [{"candidate_id": "e1_1_2", "object_id": "J1"}],
        "objects": [{"object_id": "J1", "ra": 10.0, "dec": 5.0, "ra_error": 0.1, "dec_error": 0.1}],
        "light_curves": [
            {"object_id": "J1", "exposure_id": "e1", "mjd_mid": 60001.0, "band": "r", "flux_njy": 36307.8,
             "flux_njy_error": 900.0, "limit_5sigma_njy": 4500.0, "detected": True},
            {"object_id": "J1", "exposure_id": "e0", "mjd_mid": 60000.0, "band": "r", "flux_njy": 10.0,
             "flux_njy_error": 900.0, "limit_5sigma_njy": 4500.0, "detected": False},
        ],
    }  # fmt: skip
    for name, rows in tables.items():
        candidate.write_table(f"light_curves/f/{name}.parquet", pa.Table.from_pylist(rows))
    astrid("export", tmp_path / "out", "--candidate", "e1_1_2", "--field", "f")
    report = read_json(tmp_path / "out" / "J1_tns_at_report.draft.json")["at_report"]["0"]
    assert report["internal_name"] == "J1"
    assert report["non_detection"]["obsdate"] == "2023-02-25 00:00:00"


def test_an_unknown_candidate(candidate, tmp_path, capsys):
    astrid("export", tmp_path / "out", "--candidate", "nobody", status=1)
    assert "there is no candidate 'nobody' in f" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
