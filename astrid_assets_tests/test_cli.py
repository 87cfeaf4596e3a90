"""The `astrid` command as its users call it: words in, lines and a status out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from astropy.io import fits

from astrid_assets.cli import main
from astrid_assets.cli.output import print_json, print_table
from astrid_assets.clock import DEMO_CLOCK, pinned_clock
from astrid_assets.fields import load_fields
from astrid_assets.home import dagster_home
from astrid_assets_tests.tiny import SHIPPED, write_pair

REGISTRY = """\
small:
  ra: 265.0
  dec: 62.0
  radius: 0.1
  archives: [simulated]
  bands: [r]
  science_window: {start: 2025-09-02, end: 2025-09-16}
  reference_window: {end: 2025-03-01}
later:
  ra: 150.1163
  dec: 2.2058
  radius: 0.2
  archives: [mast]
  enabled: false
"""


class Answer(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        """The last line, read as JSON."""
        return json.loads(self.out.strip().splitlines()[-1])


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Path:
    """Write a registry of two fields."""
    file = tmp_path / "fields.yaml"
    file.write_text(REGISTRY)
    monkeypatch.setenv("ASTRID_FIELDS", str(file))
    return file


@pytest.fixture
def astrid(capsys):
    """Call the command."""

    def call(*words: str) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return Answer(stopped.value.code, captured.out, captured.err)

    return call


def test_help_names_every_command(astrid):
    """The first thing a user sees."""
    answer = astrid("--help")
    assert answer.status == 0
    assert all(name in answer.out for name in ("demo", "run", "plan", "fields", "difference"))


@pytest.mark.parametrize("words", [["fly"], ["plan"], ["fields", "add"], ["difference", "a.fits", "b.fits"]])
def test_wrong_calls_are_status_2(astrid, registry, words):
    """With the usage, without a traceback."""
    answer = astrid(*words)
    assert answer.status == 2
    assert "Usage: astrid" in answer.err
    assert "Traceback" not in answer.err


def test_errors_are_one_line(astrid, registry):
    """What, where, what to do; as JSON where that was asked for; a traceback only for --debug."""
    registry.write_text(REGISTRY + "  radus: 0.2\n")
    answer = astrid("fields", "check", "--json")
    assert answer.status == 1
    message = f"{registry}:15: field 'later': unknown option 'radus'; did you mean 'radius'?"
    assert answer.err == f"error: {message}\n"
    assert answer.json == {"error": message}
    assert "Traceback" in astrid("fields", "check", "--debug").err


def test_fields_list(astrid, registry):
    """Which fields there are, and whether they run."""
    answer = astrid("fields", "list", "--json")
    assert answer.status == 0
    assert [(f["name"], f["runs"]) for f in answer.json["fields"]] == [
        ("small", "yes"),
        ("later", "no: disabled"),
    ]
    assert answer.out.splitlines()[0].split()[:3] == ["field", "ra", "dec"]
    assert "dagster schedule start nightly" in answer.out


def test_fields_check(astrid, registry):
    """Doubts are warnings, not errors."""
    answer = astrid("fields", "check", "--json")
    assert answer.status == 0
    assert answer.json["warnings"]["small"] == []
    assert answer.json["warnings"]["later"] == []
    assert astrid("fields", "check", "small").out.count("warning") == 1  # the count in the last line
    assert "did you mean 'small'" in astrid("fields", "check", "smal").err


def test_fields_check_reads_the_options_of_assets(astrid, registry):
    """An option that no asset has is found before a run, not in it."""
    spoiled = registry.read_text().replace("later:", "  processing: {candidates: {treshold: 4}}\nlater:", 1)
    registry.write_text(spoiled)
    answer = astrid("fields", "check")
    assert answer.status == 1
    assert "processing.candidates.treshold: unknown option" in answer.err


def test_fields_add(astrid, registry):
    """Options become a block of the registry; galactic latitude is warned about."""
    answer = astrid(
        *("fields", "add", "bulge", "--ra", "17:45:40", "--dec", "-29:00:28", "--archive", "mast"),
        *("--band", "g", "--band", "r", "--science", "2020-01-01", "-", "--reference", "-", "2018-12-31"),
        *("--event", "Nova X", "266.41", "-29.0", "2020-02-01", "--priority", "3", "--disabled"),
    )
    assert answer.status == 0
    assert "galactic latitude" in answer.out
    assert registry.read_text().startswith(REGISTRY)
    field = load_fields()["bulge"]
    assert field.ra == pytest.approx(266.41667, abs=1e-4)
    assert field.bands == ("g", "r")
    assert (field.science_window.start, field.science_window.end) == ("2020-01-01", None)
    assert (field.reference_window.start, field.reference_window.end) == (None, "2018-12-31")
    assert (field.event.name, field.priority, field.enabled) == ("Nova X", 3, False)


def test_fields_add_refuses_a_name_that_is_taken(astrid, registry):
    """The file stays as it is."""
    answer = astrid("fields", "add", "small", "--ra", "1", "--dec", "1", "--archive", "simulated")
    assert answer.status == 1
    assert "already a field 'small'" in answer.err
    assert registry.read_text() == REGISTRY


def test_plan_forecasts_without_a_download(astrid, registry, tmp_path):
    """Exposures, pairs and bytes; nothing is written."""
    answer = astrid("plan", "small", "--json")
    assert answer.status == 0
    forecast = answer.json
    assert [query["state"] for query in forecast["queries"]] == ["ok"]
    (pair,) = forecast["pairs"]
    assert pair["science"] >= 3
    assert pair["reference"] >= 1
    assert forecast["bytes"] > 1e6
    assert forecast["funnel"]["offered"] == forecast["queries"][0]["exposures"]
    assert not (tmp_path / "dagster_home" / "data").exists()


def test_a_folder_that_is_not_there_is_an_error_at_once(astrid, registry, tmp_path, monkeypatch):
    """Waiting does not bring it back: no retries, status 1."""
    # workers that an earlier test has started know its registry only
    monkeypatch.setenv("ASTRID_WORKERS", "1")
    lost = tmp_path / "lost"
    registry.write_text(
        f"{{own: {{ra: 1.0, dec: 1.0, radius: 0.1, archives: [local], local: {{folder: {lost}}}}}}}"
    )
    shutil.copy(SHIPPED / "dagster.yaml", dagster_home())
    for command in ("plan", "run"):
        answer = astrid(command, "own", "--json")
        assert answer.status == 1
        assert f"folder {lost} is not there; mend local.folder in {registry}" in answer.out + answer.err


def test_json_is_strict(capsys):
    """NaN is no JSON; NumPy numbers are numbers."""
    print_json({"a": np.float32(1.5), "b": float("nan"), "c": [np.int64(3), (4.0,)], "d": np.bool_(True)})
    assert json.loads(capsys.readouterr().out) == {"a": 1.5, "b": None, "c": [3, [4.0]], "d": True}


def test_table_aligns(capsys):
    """Numbers to the right, texts to the left; a column may have its own number of decimals."""
    print_table(["name", "n"], [["long name", 5], ["x", 123]])
    assert capsys.readouterr().out == "name         n\nlong name    5\nx          123\n"
    print_table(["ra", "snr"], [[12.0, 5.5]], decimals={"ra": 6})
    assert capsys.readouterr().out == "       ra     snr\n12.000000  5.5000\n"


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture
def tiny(registry, monkeypatch) -> Path:
    """Let the simulated field be small and clean, and run in this process."""
    options = "{shape: [256, 256], max_epochs_per_band: 2, corrupt: false}"
    registry.write_text(REGISTRY.replace("bands: [r]", f"bands: [r]\n  simulated: {options}"))
    shutil.copy(SHIPPED / "dagster.yaml", dagster_home())
    monkeypatch.setenv("ASTRID_WORKERS", "1")
    return registry


@pytest.mark.slow
def test_demo_then_run(astrid, tiny):
    """The demo pins its clock and says what it found; a second run has nothing to do."""
    answer = astrid("demo")
    assert answer.status == 0, answer.err
    result = answer.json
    keys = (
        "fields exposures rejected quarantined differenced candidates transients transients_found "
        "false_per_mpix dirt dirt_explained injected recovered training_samples checks seconds"
    )
    assert set(keys.split()) <= set(result)
    assert (result["fields"], result["exposures"]) == (1, 2)
    assert result["injected"] >= result["recovered"] >= 0
    assert result["differenced"] + result["quarantined"] + result["rejected"] == 2
    assert set(result["checks"]) == {"passed", "warned", "failed"}
    assert pinned_clock() == DEMO_CLOCK
    assert "normalized_pairs" in answer.out

    again = astrid("run", "--all", "--json")
    assert again.status == 0
    assert again.json["new"] == 0
    assert "nothing new: no exposure was processed" in again.out
    assert [line for line in again.err.splitlines() if not line.endswith((" release", " ..."))] == []


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "name the fields, or give --all"),
        (["small", "--all"], 2, "name the fields, or give --all"),
        (["smal"], 1, "there is no field 'smal'; did you mean 'small'?"),
        (["small", "--assets", "candidats"], 1, "there is no asset 'candidats'"),
    ],
)
def test_run_refuses(astrid, registry, words, status, message):
    """Wrong names stop before anything runs."""
    answer = astrid("run", *words)
    assert answer.status == status
    assert message in answer.err


def test_demo_clock_is_not_moved_against_the_environment(astrid, registry, monkeypatch):
    """ASTRID_NOW and --nights cannot both be meant."""
    monkeypatch.setenv("ASTRID_NOW", "2025-10-01")
    answer = astrid("demo", "--nights", "1")
    assert answer.status == 1
    assert "ASTRID_NOW" in answer.err
    assert pinned_clock() is None


# --- one pair of files ----------------------------------------------------------------------------


def test_difference_of_two_files(astrid, tmp_path):
    """The star that is new is the strongest candidate, at its place and with its flux."""
    import pyarrow.csv
    import pyarrow.parquet as pq

    from astrid_assets.images import read_difference

    out = tmp_path / "out"
    answer = astrid("difference", *write_pair(tmp_path), "-o", out, "--gain", "1", "--json")
    assert answer.status == 0, answer.err
    best = answer.json["strongest"][0]
    assert (best["x"], best["y"]) == pytest.approx((150, 100), abs=0.5)
    assert best["flux"] == pytest.approx(4000, abs=4 * best["flux_error"])
    assert best["ra"] == pytest.approx(150 - (150 - 127) / 3600 / np.cos(np.radians(2)), abs=2e-4)
    assert set(answer.json["metrics"]) == {"zogy", "classic"}
    difference = read_difference(out / "zogy.fits")
    assert difference.score_corrected[100, 150] == pytest.approx(best["snr"], rel=0.3)
    table = pq.read_table(out / "candidates.parquet")
    assert (
        pyarrow.csv.read_csv(out / "candidates.csv").num_rows == table.num_rows == answer.json["detections"]
    )
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    names = {Path(name).name for name in answer.json["files"]}
    assert {path.name for path in out.iterdir()} == names  # and no folder of the way there
    assert f"{best['ra']:.6f}  {best['dec']:.6f}" in answer.out


def test_difference_without_wcs(astrid, tmp_path):
    """The stars tell how the grids lie, or the user says that they are equal; a WCS is never invented."""
    files = write_pair(tmp_path, wcs=False)
    for options, method in (([], "stars"), (["--assume-aligned"], "assumed")):
        answer = astrid("difference", *files, "-o", tmp_path / method, *options, "--gain", "1", "--json")
        assert answer.status == 0, answer.err
        assert f"registration {method}" in answer.out
        best = answer.json["strongest"][0]
        assert (best["x"], best["y"]) == pytest.approx((150, 100), abs=0.5)
        assert best["ra"] is None


def test_difference_without_wcs_and_stars(astrid, tmp_path):
    """Where nothing tells how the grids lie, nothing is guessed."""
    rng, files = np.random.default_rng(7), [tmp_path / f"noise{i}.fits" for i in range(2)]
    for file in files:
        header = fits.Header({"MJD-OBS": 60000.0, "EXPTIME": 30.0, "FILTER": "r"})
        fits.writeto(file, rng.poisson(200.0, (256, 256)).astype(np.float32), header)
    refused = astrid("difference", *files, "-o", tmp_path / "out")
    assert refused.status == 1
    assert "no celestial WCS" in refused.err
    assert "assume aligned" in refused.err
    assert not (tmp_path / "out").exists()


@pytest.mark.real_data
def test_difference_of_a_real_pair_without_wcs(astrid, real_data, tmp_path):
    """ESO 085-030: aligned by others, no WCS, no gain; runs in pixel coordinates."""
    folder = real_data / "pairs" / "properimage_eso085"
    files = [folder / f"aligned_eso085-030-00{i}.fit" for i in (4, 5)]
    answer = astrid(
        "difference", *files, "-o", tmp_path / "out", "--assume-aligned", "--gain", "1.5", "--json"
    )
    assert answer.status == 0, answer.err
    assert 0.9 < answer.json["metrics"]["zogy"]["scorr_mad_std"] < 1.1
    assert answer.json["candidates"] < 60  # two frames 74 s apart: nothing real


@pytest.mark.real_data
def test_difference_of_a_pair_that_does_not_overlap(astrid, real_data, tmp_path):
    """SDSS and DES cutouts of SN 2006bh lie 5.8 arcmin apart."""
    folder = real_data / "pairs" / "hostphot_sn2006bh"
    answer = astrid("difference", folder / "SDSS_r.fits", folder / "DES_r.fits", "-o", tmp_path / "out")
    assert answer.status == 1
    assert "overlap by 0.0%" in answer.err
