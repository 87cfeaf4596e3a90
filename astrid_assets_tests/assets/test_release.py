"""The asset `training_release`: made once, the same everywhere, refused with the reason."""

import json
import subprocess
from pathlib import Path

import dagster as dg
import pytest

from astrid_assets.assets.release import training_release
from astrid_assets.storage.store import Store
from astrid_assets.training import TripletDataset
from astrid_assets_tests.training.samples import files_of, read_json, write_field

FIELDS = {"a": 10.0, "b": 130.0, "c": 250.0}

REGISTRY = """
{name}:
  ra: {ra}
  dec: 0.5
  radius: 0.1
  archives: [simulated]
  bands: [r]
  simulated: {{seed: 5}}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a function that makes an instance with three fields and results for some of them."""

    def make(name="home", fields=FIELDS):
        home = tmp_path / name
        home.mkdir()
        text = "".join(REGISTRY.format(name=n, ra=ra) for n, ra in {**FIELDS, "empty": 300.0}.items())
        (home / "fields.yaml").write_text(text)
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        store = Store(str(home / "data"))
        for number, field in enumerate(fields):
            write_field(store, field, ra=FIELDS[field], n=9 + number, seed=number, tiles=0)
        return store

    return make


def materialize(**config):
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [dg.AssetSpec("training_set"), training_release],
            resources={"run_lock": dg.ResourceDefinition.none_resource()},
            run_config={"ops": {"training_release": {"config": {"min_samples": 10} | config}}},
            instance=instance,
            raise_on_error=False,
        )


def metadata(result):
    (event,) = result.asset_materializations_for_node("training_release")
    return {name: value.value for name, value in event.metadata.items()}


def test_a_release_of_all_fields_that_have_samples(place):
    store = place()
    result = materialize()
    assert result.success
    told = metadata(result)
    assert told["n_samples"] == 2 * (9 + 10 + 11)
    assert told["n_new"] == 1
    folder = Path(told["path"])
    assert folder == Path(store.root, "releases", told["release_id"])
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    latest = read_json(folder.parent / "latest.json")
    assert latest["release_id"] == told["release_id"]
    assert sum(latest["splits"].values()) == told["n_samples"]
    assert not store.path(".staging", "releases").exists() or not list(
        store.path(".staging", "releases").iterdir()
    )
    stamps, labels = TripletDataset(folder.parent, "train")[:4]
    assert len(stamps) == len(labels) == 4


def test_checks_report_what_the_asset_measured(place):
    place()
    found = {e.check_name: e for e in materialize().get_asset_check_evaluations()}
    assert set(found) == {
        "no_leakage", "checksums", "sample_count", "label_balance", "array_shapes", "label_sources"
    }  # fmt: skip
    assert {name for name, e in found.items() if not e.passed} == {"sample_count"}
    assert found["sample_count"].severity == dg.AssetCheckSeverity.WARN


def test_nothing_new_writes_nothing(place):
    store = place()
    first = metadata(materialize())
    before = {p: p.stat().st_mtime_ns for p in Path(store.root, "releases").rglob("*")}
    again = metadata(materialize())
    assert again["n_new"] == 0
    assert again["note"].startswith("nothing new")
    assert again["release_id"] == first["release_id"]
    assert {p: p.stat().st_mtime_ns for p in Path(store.root, "releases").rglob("*")} == before


def test_old_releases_stay(place):
    store = place()
    first = metadata(materialize())["release_id"]
    write_field(store, "a", ra=10.0, n=9, seed=9)
    second = metadata(materialize())["release_id"]
    assert first != second
    folders = {p.name for p in Path(store.root, "releases").iterdir()}
    assert folders == {first, second, "latest.json"}
    assert read_json(Path(store.root, "releases", "latest.json"))["release_id"] == second


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_same_bytes_in_any_place(place, workers, monkeypatch):
    one = place("one")
    first = metadata(materialize())["path"]
    two = place("two")
    monkeypatch.setenv("ASTRID_WORKERS", workers)
    monkeypatch.setenv("ASTRID_NOW", "2031-01-01")
    second = metadata(materialize(force=True))["path"]
    assert one.root != two.root
    assert files_of(Path(first)) == files_of(Path(second))


def test_a_change_of_the_release_is_seen(place):
    place()
    folder = Path(metadata(materialize())["path"])
    with (folder / "test.npz").open("ab") as stream:
        stream.write(b"more")
    found = {e.check_name: e.passed for e in materialize().get_asset_check_evaluations()}
    assert not found["checksums"]
    # force makes it again, as it was
    assert metadata(materialize(force=True))["n_new"] == 1
    found = {e.check_name: e.passed for e in materialize().get_asset_check_evaluations()}
    assert found["checksums"]


def test_the_configuration_says_how(place):
    place()
    folder = Path(metadata(materialize(seed="other"))["path"])
    text = (folder / "config.json").read_text()
    config = json.loads(text)
    assert config["options"]["seed"] == "other"
    assert config["options"]["nside"] == 16
    assert set(config["fields"]) == set(FIELDS)
    one = config["fields"]["a"]
    assert one["definition"]["simulated"]["seed"] == 5
    assert one["options"]["candidates"]["threshold"] == 5.0
    assert len(one["exposures"]) == 2
    assert one["parameter_hashes"]["training_set"] == ["p"]
    assert "numpy" in config["versions"]
    assert str(folder.parents[2]) not in text


def test_fields_can_be_chosen(place):
    place()
    result = materialize(fields=["a", "b"])
    assert not result.success  # two groups
    result = materialize(fields=["a", "b", "q"])
    assert "there is no field 'q'" in failure(result).message


def failure(result):
    (event,) = [e for e in result.all_events if e.is_step_failure]
    error = event.step_failure_data.error
    while error.cause is not None:
        error = error.cause
    return error


@pytest.mark.parametrize(
    ("fields", "reason"), [(["a"], "add a field in another part of the sky"), ([], "0 labelled samples")]
)
def test_refused_with_the_reason(place, fields, reason):
    store = place(fields=fields)
    result = materialize()
    assert not result.success
    error = failure(result)
    assert error.cls_name == "ReleaseRefusedError"
    assert reason in error.message
    assert not store.path("releases", "latest.json").exists()


def test_a_refusal_leaves_the_last_release(place):
    store = place()
    first = metadata(materialize())["release_id"]
    assert not materialize(min_samples=10_000).success
    assert read_json(Path(store.root, "releases", "latest.json"))["release_id"] == first
    assert [p.name for p in Path(store.root, "releases").iterdir() if p.is_dir()] == [first]
