"""The `astrid` command as its users call it: words in, lines and a status out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from astrid_assets.cli import main
from astrid_assets.cli.output import print_json, print_table
from astrid_assets.fields import load_fields

REGISTRY = """\
small:
  ra: 265.0
  dec: 62.0
  radius: 0.1
  archives: [simulated]
  bands: [r]
  science_window: {start: 2025-09-22, end: 2025-10-08}
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


def test_fields_check(astrid, registry):
    """Doubts are warnings, not errors."""
    answer = astrid("fields", "check", "--json")
    assert answer.status == 0
    assert answer.json["warnings"]["small"] == []
    assert answer.json["warnings"]["later"][0].startswith("runs nothing")
    assert astrid("fields", "check", "small").out.count("warning") == 1  # the count in the last line
    assert "did you mean 'small'" in astrid("fields", "check", "smal").err


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


def test_plan_of_an_archive_that_is_not_built(astrid, registry):
    """It says so and plans nothing."""
    answer = astrid("plan", "later", "--json")
    assert answer.status == 0
    assert "archive mast is not built yet" in answer.out
    assert answer.json["bytes"] == 0


def test_json_is_strict(capsys):
    """NaN is no JSON; NumPy numbers are numbers."""
    print_json({"a": np.float32(1.5), "b": float("nan"), "c": [np.int64(3), (4.0,)], "d": np.bool_(True)})
    assert json.loads(capsys.readouterr().out) == {"a": 1.5, "b": None, "c": [3, [4.0]], "d": True}


def test_table_aligns(capsys):
    """Numbers to the right, texts to the left."""
    print_table(["name", "n"], [["long name", 5], ["x", 123]])
    assert capsys.readouterr().out == "name         n\nlong name    5\nx          123\n"
