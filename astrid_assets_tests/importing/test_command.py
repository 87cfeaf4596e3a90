"""``astrid fields import`` and ``presets``, and the positions that ``astrid fields add`` finds itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from astrid_assets.archives.standin.catalogues import CatalogueServices
from astrid_assets.archives.standin.server import StandIn
from astrid_assets.cli import main
from astrid_assets.fields import load_fields
from astrid_assets.home import dagster_home

CATALOGUE = """\
sn_name | sn_ra | sn_dec | disc_date
--------+-------+--------+----------
2014dm | 04 08 07.13 | - 8 49 37.0 | 2014-09-27
2014dl | 16 29 46.09 | + 8 38 30.6 | 2014-09-25
2006xx |  |  | 2006-10-01
1999em | 04 41 27.04 | - 2 51 45.2 | 1999-10-29
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a catalogue; the registry is there, and does not exist yet."""
    monkeypatch.setenv("ASTRID_FIELDS", str(tmp_path / "fields.yaml"))
    (tmp_path / "sn.txt").write_text(CATALOGUE)
    return tmp_path


@pytest.fixture
def astrid(capsys: pytest.CaptureFixture):
    """Call the command; return status, output and errors."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


def test_a_catalogue_becomes_fields_and_a_reject_report(astrid, place):
    words = ("--preset", "swift_uv_dataset", "--report", place / "rejects.csv", "--json")
    status, out, _ = astrid("fields", "import", place / "sn.txt", *words)
    assert status == 0
    summary = json.loads(out.splitlines()[-1])
    assert summary["added"] == ["sn2014dm", "sn2014dl"]
    assert (summary["rows"], summary["rejected"], summary["other_years"]) == (4, 1, 1)
    fields = load_fields()
    assert list(fields) == summary["added"]
    assert fields["sn2014dm"].bands == ("u", "uvw1", "uvm2", "uvw2")
    (reject,) = csv.DictReader((place / "rejects.csv").open())
    assert (reject["line"], reject["reason"]) == ("5", "no position")
    assert astrid("fields", "check")[1].endswith("2 fields valid, 0 warnings\n")


def test_importing_again_adds_what_is_new(astrid, place):
    astrid("fields", "import", place / "sn.txt", "--preset", "swift_uv_dataset", "--limit", "1")
    before = (place / "fields.yaml").read_text()
    _, out, _ = astrid("fields", "import", place / "sn.txt", "--preset", "swift_uv_dataset", "--disabled")
    assert "fields already                    1\n" in out
    assert (place / "fields.yaml").read_text().startswith(before.rstrip())
    assert [f.enabled for f in load_fields().values()] == [True, False]


def test_a_catalogue_that_ends_too_early_says_so(astrid, place):
    status, out, _ = astrid("fields", "import", place / "sn.txt", "--preset", "ztf_modern_transients")
    assert status == 0
    assert "sn.txt ends in 2014, the configuration takes 2018 to 2025" in out
    assert not (place / "fields.yaml").exists()


def test_a_configuration_tells_what_becomes_of_its_options(astrid, place):
    file = place / "mine.yaml"
    file.write_text("query: {missions: [HST, PTF], chunk_size: 10}\nquality: {min_overlap_fraction: 0.6}\n")
    status, out, _ = astrid("fields", "import", file)
    assert status == 0
    rows = {line.split("  ")[0]: line for line in out.splitlines() if line}
    assert "not applicable" in rows["query.chunk_size"]
    assert "not applicable" in rows["query.missions: PTF"]
    assert "limits.overlap_min" in rows["quality.min_overlap_fraction"]
    assert not (place / "fields.yaml").exists()
    astrid("fields", "import", file, "--catalogue", place / "sn.txt")
    assert [f.limits.overlap_min for f in load_fields().values()] == [0.6, 0.6]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["sn.txt", "--preset", "galex"], 1, "there is no preset 'galex'"),
        (["sn.txt", "--catalogue", "sn.txt"], 2, "--catalogue belongs to a configuration"),
        (["mine.yaml", "--preset", "galex_uv_dataset"], 2, "takes no --preset"),
        (["mine.yaml"], 1, "mine.yaml:1: configuration: unknown option 'querry'; did you mean 'query'?"),
        (["list.txt"], 1, "list.txt: no line names the columns of a catalogue"),
    ],
)
def test_what_cannot_be_imported_is_one_line(astrid, place, monkeypatch, words, status, message):
    monkeypatch.chdir(place)
    Path("mine.yaml").write_text("querry: {}\n")
    Path("list.txt").write_text("2014dm\n2014dl\n")
    code, _, err = astrid("fields", "import", *words)
    assert code == status
    assert message in err
    assert not Path("fields.yaml").exists()


def test_presets_are_listed_with_what_they_cannot_yield(astrid):
    status, out, _ = astrid("fields", "presets", "--json")
    assert status == 0
    assert "nothing from GALEX: observed 2003-05-28 to 2013-06-28" in out
    found = json.loads(out.splitlines()[-1])["presets"]
    assert len(found) == 15
    assert all(preset["usable"] for preset in found.values())


def test_a_field_gets_the_position_of_its_name(astrid, place):
    """Known names and positions in names need nobody to be asked."""
    for name, ra, dec in (("m101", 210.8023, 54.349), ("j140302.1-082057", 210.75875, -8.349167)):
        assert astrid("fields", "add", name, "--archive", "mast")[0] == 0
        field = load_fields()[name]
        assert (field.ra, field.dec) == pytest.approx((ra, dec), abs=1e-6)
    assert astrid("fields", "add", "mine", "--object", "SN 2011fe", "--archive", "mast")[0] == 0
    assert load_fields()["mine"].dec == 54.2737


def test_half_a_position_is_none(astrid, place):
    status, _, err = astrid("fields", "add", "m101", "--ra", "10", "--archive", "mast")
    assert status == 2
    assert "give --ra and --dec, or --object, or neither" in err


@pytest.mark.service
def test_other_names_are_asked_of_the_resolver(astrid, place):
    """At the stand-in, which knows the Crab nebula."""
    handlers = CatalogueServices().handlers()
    with StandIn({"mast_resolver": handlers["mast_resolver"]}) as standin:
        services = {"mast_resolver": {"base_url": standin.base_url("mast_resolver")}}
        (dagster_home() / "archives.yaml").write_text(yaml.safe_dump({"services": services}))
        status, out, _ = astrid("fields", "add", "crab", "--object", "M1", "--archive", "mast")
        assert status == 0
        assert "M 1 (SIMBAD): 83.632400 +22.017400" in out
        status, _, err = astrid("fields", "add", "nothing", "--archive", "mast")
        assert status == 1
        assert "no catalogue knows an object named 'nothing'; give its coordinates" in err
    assert standin.errors == []
    assert {name: (f.ra, f.dec) for name, f in load_fields().items()} == {"crab": (83.6324, 22.0174)}
