"""The loop of the image assets: only what is new is worked on, and every end of an exposure is a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from astrid_assets.assets import recipes, streaming
from astrid_assets.assets.streaming import Job, Product, Step, Task, Work, stream
from astrid_assets.errors import ArchiveUnavailableError, BadAnswerError, ImageError, RegistrationError
from astrid_assets.fields import Field, LocalOptions
from astrid_assets.storage.store import Store

FIELD = Field(name="f", ra=1.0, dec=2.0, radius=0.1, archives=("local",), local=LocalOptions(folder="x"))


class Kitchen:
    """A recipe that writes one small file, counts what it made, and fails where it is told."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.faults: dict[str, Exception] = {}
        self.metrics: dict[str, float] = {}

    def load(self, _: Task) -> None:
        return None

    def make(self, task: Task, step: Step, _: None) -> Product:
        name = task.work.row["exposure_id"]
        self.made.append(name)
        if name in self.faults:
            raise self.faults[name]
        store = task.job.store
        path = f"{store.folder(step.asset, 'f')}/{name}.fits"
        store.discard(step.asset, "f", name)
        store.write_bytes(path, b"12345")
        return Product({path: 5}, self.metrics)


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    kitchen = Kitchen()
    monkeypatch.setitem(recipes.RECIPES, "test", recipes.Recipe(kitchen.load, kitchen.make))
    return kitchen


@pytest.fixture
def run(tmp_path: Path) -> Callable:
    store = Store(str(tmp_path / "data"))

    def run(
        *names: str, options: dict | None = None, version: str = "1", force: bool = False, inputs: str = "i"
    ) -> streaming.Report:
        step = Step("aligned_pairs", options or {}, version)
        job = Job(store, FIELD, "test", (step,), force)
        works = [Work({"exposure_id": n, "mjd_mid": 1.0, "revision": inputs}, inputs + n) for n in names]
        return stream(job, works, workers=1)["aligned_pairs"]

    return run


def states(report: streaming.Report) -> dict[str, str]:
    return {r["exposure_id"]: r["state"] for r in report.manifest.to_pylist()}


def test_a_second_run_does_no_work(kitchen: Kitchen, run: Callable):
    first = run("a", "b")
    second = run("a", "b")
    assert kitchen.made == ["a", "b"]
    assert (first.n_new, first.n_reused) == (2, 0)
    assert (second.n_new, second.n_reused) == (0, 2)
    assert second.manifest.equals(first.manifest)
    assert not second.changed


def test_only_the_new_exposure_is_worked_on(kitchen: Kitchen, run: Callable):
    run("a")
    report = run("a", "b")
    assert kitchen.made == ["a", "b"]
    assert report.changed == {"b"}


@pytest.mark.parametrize("change", [{"options": {"threshold": 6}}, {"version": "2"}, {"force": True}])
def test_parameters_code_and_force_redo_everything(kitchen: Kitchen, run: Callable, change: dict):
    run("a", "b")
    assert run("a", "b", **change).n_new == 2
    assert kitchen.made == ["a", "b"] * 2


def test_a_lost_file_is_made_again(kitchen: Kitchen, run: Callable, tmp_path: Path):
    run("a", "b")
    (tmp_path / "data/processed/aligned/f/a.fits").unlink()
    assert run("a", "b").n_new == 1
    assert kitchen.made == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (RegistrationError("3 stars"), "rejected", "registration: 3 stars"),
        (ImageError("a.fits: no image"), "rejected", "image: a.fits: no image"),
        (BadAnswerError("truncated"), "rejected", "bad_answer: truncated"),
        (ArchiveUnavailableError("503"), "failed", "archive_unavailable: 503"),
        (ZeroDivisionError("division\nby zero"), "failed", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_is_a_row_and_the_others_go_on(
    kitchen: Kitchen, run: Callable, error: Exception, state: str, reason: str
):
    kitchen.faults["a"] = error
    report = run("a", "b")
    assert states(report) == {"a": state, "b": "ok"}
    assert report.errors[0]["reason"] == reason


def test_what_failed_is_tried_again_and_the_third_time_is_the_last(kitchen: Kitchen, run: Callable):
    kitchen.faults["a"] = ZeroDivisionError("oops")
    assert [states(run("a"))["a"] for _ in range(3)] == ["failed", "failed", "rejected"]
    assert run("a").n_new == 0
    assert len(kitchen.made) == 3


def test_another_input_starts_the_count_anew(kitchen: Kitchen, run: Callable):
    kitchen.faults["a"] = ZeroDivisionError("oops")
    for inputs in ("i", "i", "j"):
        rows = run("a", inputs=inputs).manifest.to_pylist()
    assert sorted((r["revision"], r["state"], r["attempts"]) for r in rows) == [
        ("i", "superseded", 2),
        ("j", "failed", 1),
    ]


def test_an_outage_never_becomes_a_rejection(kitchen: Kitchen, run: Callable):
    kitchen.faults["a"] = ArchiveUnavailableError("503")
    assert {states(run("a"))["a"] for _ in range(5)} == {"failed"}
    kitchen.faults.clear()
    assert states(run("a")) == {"a": "ok"}


def test_a_red_metric_puts_the_exposure_in_quarantine(kitchen: Kitchen, run: Callable):
    kitchen.metrics = {"astrometric_offset": 5.0}
    row = run("a").manifest.to_pylist()[0]
    assert row["state"] == "quarantined"
    assert row["reason"] == "red: astrometric_offset = 5"
    assert row["colour"] == row["colour_astrometric_offset"] == "red"
    assert row["metric_astrometric_offset"] == 5.0


def test_an_exposure_that_is_no_longer_selected_is_superseded_and_comes_back_without_work(
    kitchen: Kitchen, run: Callable
):
    first = run("a", "b")
    gone = run("b")
    row = next(r for r in gone.manifest.to_pylist() if r["exposure_id"] == "a")
    assert (row["state"], row["reason"]) == ("superseded", "no longer selected upstream")
    assert gone.changed == {"a"}
    back = run("a", "b")
    assert back.manifest.equals(first.manifest)
    assert kitchen.made == ["a", "b"]


def test_a_reprocessed_file_leaves_the_old_row_as_superseded(kitchen: Kitchen, run: Callable):
    run("a", inputs="revision 1")
    report = run("a", inputs="revision 2")
    rows = [(r["state"], r["revision"], r["reason"]) for r in report.manifest.to_pylist()]
    assert sorted(rows, key=str) == [
        ("ok", "revision 2", None),
        ("superseded", "revision 1", "reprocessed by the archive"),
    ]
    assert kitchen.made == ["a", "a"]


def test_progress_is_told_for_every_exposure(kitchen: Kitchen, run: Callable):
    told = []
    token = streaming.progress.set(lambda *args: told.append(args))
    run("a", "b")
    streaming.progress.reset(token)
    assert told == [("f", "aligned_pairs", n, 2) for n in range(3)]
