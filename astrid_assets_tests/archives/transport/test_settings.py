"""How services are treated: what ships, what ``archives.yaml`` changes, what is refused."""

from __future__ import annotations

import math
import pickle
import tomllib
from importlib import resources
from typing import get_args

import pytest

from astrid_assets.archives.transport import Kind, Request, Transport, load_settings, with_changes
from astrid_assets.archives.transport.settings import archives_path
from astrid_assets.errors import ConfigurationError
from astrid_assets.home import dagster_home


def test_what_ships_is_what_the_file_says():
    text = resources.files("astrid_assets.archives.transport").joinpath("services.toml").read_text()
    table = tomllib.loads(text)
    settings = load_settings()
    assert set(settings.services) == set(table["services"])
    for name, own in table["services"].items():
        service = settings.service(name).model_dump()
        assert {key: service[key] for key in own} == own
        assert service["base_url"].startswith("http")
        assert service["source"]
    assert set(settings.lifetime) == {*get_args(Kind), "nothing"}
    assert settings.lifetime["file"] == math.inf
    assert (settings.mode, settings.record) == ("live", False)
    assert settings.store == dagster_home() / "archive_store"


def test_places_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTRID_STORE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("ASTRID_ARCHIVES", str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text(
        "mode: replay\nservices:\n  mast: {base_url: 'http://127.0.0.1:1/mast/', retries: 0}\n"
    )
    transport = Transport.open()
    assert transport.settings.store == tmp_path / "elsewhere"
    assert transport.settings.mode == "replay"
    assert transport.settings.service("mast").base_url == "http://127.0.0.1:1/mast"
    assert transport.settings.service("mast").retries == 0
    assert transport.settings.service("mast").parallel == 4
    assert transport.settings.service("gaia") == load_settings().service("gaia")


def test_changes_come_last():
    archives_path().write_text("record: true\nservices:\n  ps1: {parallel: 1}\n")
    changed = Transport.open({"ps1": {"per_second": 3}}).settings
    assert changed.record
    assert (changed.service("ps1").parallel, changed.service("ps1").per_second) == (1, 3.0)
    assert not Transport.open(record=False).settings.record


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("mode: live\nmoode: live", 2, "unknown option 'moode'; did you mean 'mode'?"),
        ("\nmode: online", 2, "mode: Input should be 'live' or 'replay'"),
        ("record: 1", 1, "record: Input should be a valid boolean"),
        ("services:\n  ms: {}\n  mats: {}", 2, "unknown service 'ms'"),
        ("services:\n  mats: {}", 2, "unknown service 'mats'; did you mean 'mast'?"),
        (
            "services:\n  mast:\n    base_ur: x",
            3,
            "unknown setting 'services.mast.base_ur'; did you mean 'base_url'?",
        ),
        ("services:\n  mast:\n    base_url: mast.stsci.edu", 3, "is no address that starts with"),
        ("services:\n  mast:\n    base_url: http://me:pw@x", 3, "has no query, fragment, user or password"),
        ("services:\n  mast:\n    retries: -1", 3, "services.mast.retries: Input should be greater"),
        (
            "services:\n  mast:\n    parallel: 2.5",
            3,
            "services.mast.parallel: Input should be a valid integer",
        ),
        (
            "services:\n  mast:\n    per_second: 0",
            3,
            "services.mast.per_second: Input should be greater than 0",
        ),
        ("services:\n  mast: 5", 2, "service 'mast': expected settings such as base_url"),
        ("services: [mast]", 1, "services: expected a mapping"),
        ("[1]", 1, "expected a mapping of mode, record, services"),
        ("mode: live\nmode: live", 2, "'mode' is given twice"),
        ("mode: a: b", 1, "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, line, words):
    archives_path().write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{archives_path()}:{line}: ")
    assert words in str(caught.value)
    assert "me:pw" not in str(caught.value)


def test_an_empty_file_changes_nothing(tmp_path):
    archives_path().write_text("# nothing yet\n")
    assert load_settings() == with_changes(load_settings())
    with pytest.raises(ConfigurationError, match="No such file"):
        load_settings(tmp_path / "none.yaml")


def test_unknown_services_are_refused():
    with pytest.raises(ConfigurationError, match="unknown service 'mats'; did you mean 'mast'"):
        Transport.open({"mats": {}})
    transport = Transport.open()
    with pytest.raises(ConfigurationError, match="unknown service 'irsaa'"):
        transport.ask(Request("irsaa", "/", "search", "json"))
    with pytest.raises(ConfigurationError, match="unknown service"):
        transport.token("irsaa")


def test_settings_travel():
    settings = load_settings()
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301
    assert Transport.of(settings).settings is settings
