"""The yield forecast: searches that fail are not searches that find nothing."""

from __future__ import annotations

import dataclasses

import pytest

from astrid_assets import archives
from astrid_assets.archives.planning import OBSERVATION_COLUMNS, exposure_of, plan
from astrid_assets.archives.protocol import Exposure
from astrid_assets.errors import ArchiveUnavailableError
from astrid_assets.fields import Field, LocalOptions, Window

SQUARE = ((9.9, -0.1), (10.1, -0.1), (10.1, 0.1), (9.9, 0.1))
FIELD = Field(
    name="f",
    ra=10.0,
    dec=0.0,
    radius=0.2,
    archives=("local", "ps1", "mast"),
    local=LocalOptions(folder="images"),
    science_window=Window(start="2024-01-01"),
    reference_window=Window(end="2023-06-01"),
)


def exposure(name: str, mjd: float, archive: str = "local", **changes: object) -> Exposure:
    times = {"mjd_start": mjd, "mjd_mid": mjd, "mjd_end": mjd}
    kind = {"survey": "ztf", "detector_type": "ztf", "band": "r", "calibration": "1", "product": "exposure"}
    rest = {"footprint": SQUARE, "url": name, "revision": "1"}
    return Exposure(exposure_id=name, archive=archive, **(times | kind | rest | changes))


class Offer:
    """An archive that offers what it is told."""

    def __init__(self, exposures: list[Exposure] | Exception) -> None:
        self.exposures = exposures

    def search(self, _: Field) -> list[Exposure]:
        if isinstance(self.exposures, Exception):
            raise self.exposures
        return self.exposures


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What each archive offers; None is an archive that is not built."""
    offers = {"local": [exposure("s1", 60400.0), exposure("early", 59800.0)], "ps1": [], "mast": None}

    def open_archive(name: str, _: Field) -> Offer | None:
        return None if offers[name] is None else Offer(offers[name])

    monkeypatch.setattr(archives, "open_archive", open_archive)
    return offers


def rows(result: object) -> dict:
    return {r["exposure_id"]: r for r in result.table.to_pylist()}


def test_a_plan_counts_what_is_offered_and_how_each_search_ended(offer: dict):
    result = plan(FIELD)
    assert [(q.archive, q.state, q.n_rows) for q in result.queries] == [
        ("local", "ok", 2),
        ("ps1", "empty", 0),
        ("mast", "not_built", 0),
    ]
    assert result.funnel == {
        "offered": 2,
        "selected science exposures": 1,
        "selected reference exposures": 1,
        "deferred": 0,
    }
    assert result.table.column_names == list(OBSERVATION_COLUMNS)
    assert rows(result)["query-mast"]["reason"] == "archive mast is not built yet"
    assert rows(result)["s1"]["ra"] == pytest.approx(10.0)


def test_rows_turn_back_into_exposures(offer: dict):
    offer["local"] += [exposure("late", float("nan"), footprint=(), n_exposures=None, seeing=1.5)]
    back = {name: exposure_of(r) for name, r in rows(plan(FIELD)).items() if r["product"] != "query"}
    assert back["s1"] == offer["local"][0]
    assert dataclasses.replace(back["late"], mjd_start=0, mjd_mid=0, mjd_end=0) == dataclasses.replace(
        offer["local"][2], mjd_start=0, mjd_mid=0, mjd_end=0
    )


def test_an_outage_keeps_what_was_known_and_is_a_row_of_its_own(offer: dict):
    before = plan(FIELD)
    offer["local"] = ArchiveUnavailableError("503")
    result = plan(FIELD, previous=before.table)
    assert rows(result)["s1"] == rows(before)["s1"]
    assert rows(result)["query-local"]["status"] == "failed"
    assert rows(result)["query-local"]["reason"] == "search failed: 503"
    assert result.queries[0].state == "failed"
    offer["local"] = [exposure("s1", 60400.0), exposure("early", 59800.0)]
    again = plan(FIELD, previous=result.table)
    assert "query-local" not in rows(again)


def test_an_exposure_that_is_no_longer_offered_stays_as_a_rejected_row(offer: dict):
    before = plan(FIELD)
    offer["local"] = offer["local"][1:]
    row = rows(plan(FIELD, previous=before.table))["s1"]
    assert (row["status"], row["reason"]) == ("rejected", "no longer offered by the archive")


def test_exposures_of_another_archive_never_enter(offer: dict):
    offer["local"] = [exposure("s1", 60400.0, archive="simulated")]
    result = plan(FIELD)
    assert result.queries[0].state == "failed"
    assert set(rows(result)) == {"query-local", "query-mast"}


def test_an_archive_that_the_field_has_left_is_forgotten(offer: dict):
    offer["ps1"] = [exposure("other1", 60400.0, archive="ps1")]
    before = plan(FIELD)
    assert "other1" in rows(before)
    fewer = FIELD.model_copy(update={"archives": ("local",)})
    assert set(rows(plan(fewer, previous=before.table))) == {"s1", "early"}


def test_what_was_taken_on_stays_selected_when_the_limit_is_reached(offer: dict):
    offer["local"] += [exposure(f"s{i}", 60400.0 + i) for i in range(2, 5)]
    strict = FIELD.model_copy(update={"limits": FIELD.limits.model_copy(update={"new_exposures_per_run": 1})})
    taken: list[list[str]] = []
    table = None
    for _ in range(3):
        result = plan(strict, previous=table)
        table = result.table
        taken.append(
            [r["exposure_id"] for r in table.to_pylist() if r["role"] == "science" and not r["deferred"]]
        )
    assert taken == [["s1"], ["s1", "s2"], ["s1", "s2", "s3"]]
