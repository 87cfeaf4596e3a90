"""A field that somebody typed as a partition is there like those of the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrid_assets.storage.known import known_fields
from astrid_assets.storage.store import Store

OPTIONS = "  radius: 0.1\n  archives: [simulated]\n"
REGISTRY = f"one:\n  ra: 1.0\n  dec: 2.0\n{OPTIONS}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Results of a field of the registry, of one that was typed, and of one that has left it."""
    for name in ("one", "j140302.1+542057", "gone"):
        (tmp_path / "data" / "observations" / name).mkdir(parents=True)
    return Store(str(tmp_path / "data"))


def test_typed_fields_follow_those_of_the_registry(store: Store, tmp_path: Path, monkeypatch):
    file = tmp_path / "fields.yaml"
    monkeypatch.setenv("ASTRID_FIELDS", str(file))
    file.write_text(f"{REGISTRY}default:\n{OPTIONS}")
    assert list(known_fields(store)) == ["one", "j140302.1+542057"]
    assert known_fields(store)["j140302.1+542057"].dec == pytest.approx(54.349167, abs=1e-6)
    file.write_text(REGISTRY)
    assert list(known_fields(store)) == ["one"]
    assert list(known_fields(Store(str(tmp_path / "nothing")))) == ["one"]
