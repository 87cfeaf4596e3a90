"""A tiny field through the whole graph, once for all tests of the reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from astrid_assets.automation.runs import run_fields
from astrid_assets.storage.store import Store
from astrid_assets_tests.tiny import install, tiny_field


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of an instance that holds one field, its report, the catalogue and the notebook."""
    home = tmp_path_factory.mktemp("reported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        for name in ("ASTRID_FIELDS", "ASTRID_DATA", "ASTRID_NOW"):
            patch.delenv(name, raising=False)
        install(tiny_field())
        summary = run_fields(["tiny"], workers=1)
        assert summary.ok, summary.fields[0].error
    return home


@pytest.fixture
def store(reported: Path) -> Store:
    """The results of that field."""
    return Store(str(reported / "data"))
