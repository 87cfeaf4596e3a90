"""What all tests share: an instance of their own, and the real data where there is any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NEVER_SKIPPED_IN_CI = {"real_data", "service", "ui"}


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the instance, the data and the clock of the checkout."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "true")
    for name in ("FIELDS", "ARCHIVES", "STORE", "DATA", "NOW", "WORKERS"):
        monkeypatch.delenv(f"ASTRID_{name}", raising=False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images; tests that use it are marked ``real_data``."""
    folder = os.environ.get("ASTRID_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ASTRID_REAL_DATA does not name a folder of real images")
    return Path(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> pytest.TestReport:
    """On CI, a test of real data, a service or the UI that skips has failed: nothing may pass unseen."""
    report = yield
    marked = NEVER_SKIPPED_IN_CI & {mark.name for mark in item.iter_markers()}
    if report.skipped and marked and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped on CI ({', '.join(sorted(marked))}): {reason}"
    return report
