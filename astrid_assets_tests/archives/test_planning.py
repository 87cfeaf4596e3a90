"""The yield forecast: searches that fail are not searches that find nothing."""

from __future__ import annotations

import dataclasses

import pytest

from astrid_assets import archives
from astrid_assets.archives.planning import OBSERVATION_COLUMNS, downloads, exposure_of, pairs, plan
from astrid_assets.archives.protocol import Exposure
from astrid_assets.errors import ArchiveUnavailableError, AuthenticationNeededError, NoCoverageError
from astrid_assets.fields import CrossSurvey, Field, LocalOptions, MastOptions, Window

SQUARE = ((9.9, -0.1), (10.1, -0.1), (10.1, 0.1), (9.9, 0.1))
FIELD = Field(
    name="f",
    mast=MastOptions(missions=("GALEX", "SWIFT")),
    ra=10.0,
    dec=0.0,
    radius=0.2,
    archives=("local", "ps1", "mast", "catalogues"),
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
    """What each archive offers, and under ``asked`` the fields that they were searched for."""
    offers = {"local": [exposure("s1", 60400.0), exposure("early", 59800.0)], "ps1": [], "mast": []}
    offers["asked"] = {}

    def open_archive(name: str, sky_field: Field, transport: object) -> Offer:
        offers["asked"][name] = sky_field
        return Offer(offers[name])

    monkeypatch.setattr(archives, "open_archive", open_archive)
    return offers


def rows(result: object) -> dict:
    return {r["exposure_id"]: r for r in result.table.to_pylist()}


def test_a_plan_counts_what_is_offered_and_how_each_search_ended(offer: dict):
    result = plan(FIELD)
    assert [(q.name, q.state, q.n_rows) for q in result.queries] == [
        ("mast GALEX", "not_searched", 0),
        ("local", "ok", 2),
        ("ps1", "empty", 0),
        ("mast", "empty", 0),
    ]
    assert result.funnel == {
        "offered": 2,
        "selected science exposures": 1,
        "selected reference exposures": 1,
        "deferred": 0,
    }
    assert result.table.column_names == list(OBSERVATION_COLUMNS)
    row = rows(result)["query-mast-galex"]
    assert row["status"] == "rejected"
    assert row["reason"] == (
        "not searched: GALEX observed 2003-05-28 to 2013-06-28: "
        "nothing in the science window (from 2024-01-01)"
    )
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
    assert result.queries[1].state == "failed"
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
    assert result.queries[1].state == "failed"
    assert set(rows(result)) == {"query-local", "query-mast-galex"}


def test_an_archive_that_the_field_has_left_is_forgotten(offer: dict):
    offer["ps1"] = [exposure("other1", 60400.0, archive="ps1")]
    before = plan(FIELD)
    assert "other1" in rows(before)
    fewer = FIELD.model_copy(update={"archives": ("local",), "mast": None})
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


def test_nobody_is_asked_for_years_in_which_there_was_nothing(offer: dict):
    """Archive mast is asked for Swift alone, and not at all where only GALEX is wanted."""
    plan(FIELD)
    assert offer["asked"]["mast"].mast.missions == ("SWIFT",)
    assert "catalogues" not in offer["asked"]
    offer["asked"].clear()
    galex = FIELD.model_copy(update={"mast": MastOptions(missions=("GALEX",))})
    result = plan(galex)
    assert set(offer["asked"]) == {"local", "ps1"}
    assert [q.name for q in result.queries if q.archive == "mast"] == ["mast GALEX"]


def test_a_mission_that_may_be_reference_of_another_is_asked(offer: dict):
    """Across surveys one side is enough."""
    crossing = FIELD.model_copy(update={"cross_survey": CrossSurvey(references=("galex",))})
    plan(crossing)
    assert offer["asked"]["mast"].mast.missions == ("GALEX", "SWIFT")


def test_nothing_there_is_no_outage_and_a_missing_token_is_no_nothing(offer: dict):
    offer["ps1"] = NoCoverageError("south of -30 deg")
    offer["mast"] = AuthenticationNeededError("set MAST_API_TOKEN")
    states = {q.name: (q.state, q.reason) for q in plan(FIELD).queries}
    assert states["ps1"] == ("empty", "south of -30 deg")
    assert states["mast"] == ("failed", "set MAST_API_TOKEN")


def test_the_forecast_counts_bytes_by_archive_role_and_kind(offer: dict):
    offer["local"] = [exposure("s1", 60400.0, bytes=5_000_000), exposure("s2", 60401.0, bytes=7_000_000)]
    stack = {"survey": "ps1", "detector_type": "gpc1", "product": "stack", "calibration": "3"}
    offer["ps1"] = [exposure("stack", 59800.0, "ps1", **stack)]
    crossing = FIELD.model_copy(update={"cross_survey": CrossSurvey(references=("ps1",))})
    result = plan(crossing)
    assert downloads(result) == [
        {"archive": "local", "role": "science", "exposures": 2, "bytes": 12_000_000, "unknown": 0},
        {"archive": "ps1", "role": "reference", "exposures": 1, "bytes": 0, "unknown": 1},
    ]
    assert pairs(result) == [
        {
            "pairing_key": "ztf/ztf/r/1",
            "science": 2,
            "reference": 1,
            "bytes": 12_000_000,
            "flags": "COLOUR_TERM_UNKNOWN",
        }
    ]
    assert {r["flags"] for r in result.table.to_pylist() if r["role"] == "science"} == {"COLOUR_TERM_UNKNOWN"}
    assert downloads(plan(FIELD)) == []
