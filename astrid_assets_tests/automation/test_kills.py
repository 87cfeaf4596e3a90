"""Runs that are killed lose nothing, hold nothing, and are taken up where they were."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from astrid_assets.automation.instance import open_instance
from astrid_assets.automation.runs import run_fields
from astrid_assets.storage.layout import ASSETS
from astrid_assets.storage.manifest import manifest_digest
from astrid_assets.storage.store import Store
from astrid_assets_tests.tiny import install, tiny_field

FIELD = tiny_field(epochs=3)

# a run that kills itself, workers at work and all, at the n-th sign of progress after an asset began
KILLED_RUN = """
import os, signal, sys
from astrid_assets.automation.runs import run_fields

asset, left = sys.argv[1], int(sys.argv[2])

def die(field, name, done, todo):
    global left
    if name == asset:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

run_fields(["tiny"], progress=die, workers=2)
"""

STEPS = (
    "survey_cutouts",
    "known_objects",
    "references",
    "science_images",
    "ztf_alerts",
    "aligned_pairs",
    "normalized_pairs",
    "zogy_differences",
    "candidates",
    "cutouts",
    "injections",
    "light_curves",
    "training_set",
    "field_report",
)
"""Steps that tell their progress, in the order in which they run; the first five hold a slot of the pool."""

SINGLE = {"references", "light_curves"}
"""Steps of one row only, which die before it; the others after their first."""

ALIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _killed(asset: str, *, after: int) -> int:
    command = [sys.executable, "-c", KILLED_RUN, asset, str(int(after))]
    return subprocess.run(command, check=False, capture_output=True).returncode


def _committed() -> dict[Path, dict]:
    """Return all row files that count as done."""
    rows = {p: json.loads(p.read_text()) for p in Path(Store().root).rglob("rows/*.json")}
    return {p: row for p, row in rows.items() if row["state"] != "failed"}


def _digests() -> dict[str, str]:
    store = Store()
    return {asset: manifest_digest(store.manifest(asset, "tiny")) for asset in ASSETS}


def _held() -> tuple[int, int]:
    """Return how many runs look alive, and how many pool slots are taken."""
    with open_instance() as instance:
        runs = instance.get_runs_count(dg.RunsFilter(statuses=ALIVE))
        slots = instance.event_log_storage.get_concurrency_info("archive")
    return runs, slots.active_slot_count + slots.pending_step_count


def test_a_run_killed_in_any_step_is_taken_up_where_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Every committed row survives, nothing is held, and the tables are those of a run never killed."""
    install(FIELD)
    monkeypatch.setenv("ASTRID_WORKERS", "1")
    for asset in STEPS:
        before = _committed()
        assert _killed(asset, after=asset not in SINGLE) == -signal.SIGKILL, asset
        after = _committed()
        assert {p: after[p] for p in before} == before
    before = _committed()
    summary = run_fields(["tiny"])
    after = _committed()
    assert summary.ok, summary.fields[0].error
    assert {p: after[p] for p in before} == before
    assert _held() == (0, 0)
    assert not [p for p in Path(Store().root, ".staging").rglob("*") if p.is_file()]
    assert run_fields(["tiny"]).n_new == 0
    killed = _digests()

    monkeypatch.setenv("ASTRID_DATA", str(tmp_path / "whole"))
    assert run_fields(["tiny"]).ok
    assert _digests() == killed


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_nothing():
    """SIGKILL from outside at 20 random moments of the run, start-up included."""
    install(FIELD)
    draw = random.Random(1)
    for _ in range(20):
        before = _committed()
        run = subprocess.Popen([sys.executable, "-c", KILLED_RUN, "nothing", "0"], stderr=subprocess.DEVNULL)
        try:
            run.wait(draw.uniform(1.0, 8.0))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
        after = _committed()
        assert {p: after[p] for p in before} == before
    summary = run_fields(["tiny"], workers=1)
    assert summary.ok, summary.fields[0].error
    assert _held() == (0, 0)
