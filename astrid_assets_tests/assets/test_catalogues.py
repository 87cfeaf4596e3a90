"""Known objects, alerts and cutouts as assets: asked once, kept as they came, joined to what was detected."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pytest

from astrid_assets.archives import offers
from astrid_assets.archives.alerts import read_packets
from astrid_assets.archives.catalogues import PARSERS, known_schema
from astrid_assets.archives.simulated import SimulatedArchive
from astrid_assets.assets import catalogues
from astrid_assets.assets.common import job_of
from astrid_assets.assets.config import (
    CandidatesConfig,
    KnownObjectsConfig,
    SurveyCutoutsConfig,
    ZtfAlertsConfig,
)
from astrid_assets.assets.detection import _n_known, _without_matching
from astrid_assets.assets.matching import Matching, matched
from astrid_assets.checks.specs import check_results
from astrid_assets.errors import ArchiveUnavailableError
from astrid_assets.fields import Field, LocalOptions, SimulatedOptions, Window
from astrid_assets.images.triplets import read_triplets
from astrid_assets.storage.store import Store

CLOCK = 60935.9
CONFIGS = {
    "survey_cutouts": SurveyCutoutsConfig,
    "known_objects": KnownObjectsConfig,
    "ztf_alerts": ZtfAlertsConfig,
}
PLACE = {"ra": 350.0, "dec": -4.3, "radius": 0.05}
LOCAL = Field(name="mine", archives=("local",), local=LocalOptions(folder="x"), **PLACE)


def field_of(**options) -> Field:
    simulated = SimulatedOptions(
        **{"seed": 5, "shape": (256, 256), "dirt": False, "corrupt": False, **options}
    )
    window = Window(start="2025-09-07")
    return Field(
        name="small",
        archives=("simulated",),
        bands=("r",),
        science_window=window,
        simulated=simulated,
        **PLACE,
    )


FIELD = field_of()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the simulated survey, which a test may turn; everything runs in this process."""
    now = [CLOCK]
    monkeypatch.setenv("ASTRID_WORKERS", "1")
    monkeypatch.setattr(SimulatedArchive, "clock", property(lambda _: now[0]))
    return now


def exposures(field: Field) -> list[dict]:
    found = SimulatedArchive().search(field)
    rows = [e for e in found if e.product == "exposure"]
    flat = [[value for corner in e.footprint for value in corner] for e in rows]
    return [
        {"exposure_id": e.exposure_id, "mjd_mid": e.mjd_mid, "footprint": f}
        for e, f in zip(rows, flat, strict=True)
    ]


def ask(asset: str, field: Field = FIELD, **options):
    job = job_of(field, asset, {asset: CONFIGS[asset](**options)})
    rows = exposures(field) if field.simulated else []
    report = catalogues._answers(job, asset, rows)
    table = None if asset == "survey_cutouts" else catalogues._together(job, asset, report)
    return report, table


def rows_of(report) -> dict[str, dict]:
    return {row["exposure_id"]: row for row in report.manifest.to_pylist()}


def test_known_objects_are_what_the_kept_answers_say():
    report, table = ask("known_objects")
    rows = rows_of(report)
    assert {"gaia_dr3", "sdss", "vsx", "tns"} < rows.keys()
    assert sum(name.endswith("_skybot") for name in rows) == len(exposures(FIELD))
    assert {row["state"] for row in rows.values()} <= {"ok", "empty"}
    gaia = rows["gaia_dr3"]
    answer = next(path for path in json.loads(gaia["files"]) if path.endswith(".vot"))
    content = Store().path(answer).read_bytes()
    assert hashlib.sha256(content).hexdigest() == gaia["sha256"]
    assert PARSERS["gaia"](content).num_rows == gaia["n_rows"]
    assert table.schema == known_schema()
    assert table.num_rows == sum(row["n_rows"] for row in rows.values())
    assert all(row["metric_outside_fraction"] in (0.0, None) for row in rows.values())


def test_a_night_later_only_what_is_new_is_asked(clock: list[float]):
    """The new exposure's asteroids, the table of reports of the day, and the alerts of the night."""
    clock[0] -= 3.0
    before = {asset: rows_of(ask(asset)[0]) for asset in CONFIGS}
    assert all(ask(asset)[0].n_new == 0 for asset in CONFIGS)
    clock[0] += 3.0
    reports = {asset: ask(asset)[0] for asset in CONFIGS}
    assert reports["survey_cutouts"].n_new == 0
    fresh = set(rows_of(reports["known_objects"])) - set(before["known_objects"])
    assert len(fresh) == 1
    assert reports["known_objects"].changed == fresh | {"tns"}
    assert len(reports["ztf_alerts"].changed) == reports["ztf_alerts"].n_new == 1


def test_alerts_keep_packets_table_and_stamps_in_one_order():
    field = field_of(shape=(512, 512))
    report, table = ask("ztf_alerts", field)
    rows = table.to_pylist()
    assert rows
    for row in rows:
        packets = list(read_packets(Store().path(row["packet"])))
        assert packets[row["stamp"]].candid == row["candid"]
        assert len(read_triplets(Store().path(row["stamps"]))) == len(packets)
    for name, row in rows_of(report).items():
        assert row["n_rows"] == sum(r["night"] == name for r in rows) if row["state"] == "ok" else True


def test_cutouts_have_the_name_of_the_survey_and_the_grid_of_the_options():
    report, _ = ask("survey_cutouts", pixels=64)
    rows = rows_of(report)
    assert rows["dss2_red"]["path"] == "source_fits/survey_cutouts/small/dss2_red.fits"
    assert {(row["nx"], row["ny"]) for row in rows.values() if row["state"] == "ok"} == {(64, 64)}
    assert rows["dss2_red"]["metric_width_ratio"] == pytest.approx(1.0)
    assert ask("survey_cutouts", pixels=64, width=0.2)[0].n_new == len(rows)


@pytest.mark.parametrize("asset", CONFIGS)
def test_a_field_whose_archives_have_none_says_so(asset: str):
    report, table = ask(asset, LOCAL)
    (row,) = report.manifest.to_pylist()
    assert (row["state"], row["exposure_id"]) == ("empty", "mine")
    assert row["reason"].startswith("not configured: no archive of this field (local) offers ")
    assert table is None or table.num_rows == 0
    assert ask(asset, LOCAL)[0].n_new == 0
    results = {r.check_name: r for r in check_results(asset, report.manifest)}
    assert all(r.passed for r in results.values())
    assert results["answered"].description == "No archive of this field offers any."


def test_before_the_first_night_there_is_nothing_to_ask_for_and_no_row_is_left_behind(clock: list[float]):
    """Otherwise nights that came one by one would not end where one run over all of them ends."""
    clock[0] = 60925.0  # 2025-09-07, when the science window begins
    report, table = ask("ztf_alerts")
    assert (report.manifest.num_rows, table.num_rows) == (0, 0)
    results = {r.check_name: r for r in check_results("ztf_alerts", report.manifest)}
    assert results["answered"].description == "There is nothing to ask for yet."
    clock[0] = CLOCK
    states = set(ask("ztf_alerts")[0].manifest.column("state").to_pylist())
    assert states <= {"ok", "empty"}


def test_an_outage_of_one_catalogue_is_a_failed_row_and_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    answer = SimulatedArchive.catalogue

    def outage(self, offer, sky_field, cone):
        if offer.name == "vsx":
            raise ArchiveUnavailableError("VizieR: timeout")
        return answer(self, offer, sky_field, cone)

    monkeypatch.setattr(SimulatedArchive, "catalogue", outage)
    report, table = ask("known_objects")
    assert rows_of(report)["vsx"]["state"] == "failed"
    assert table.num_rows > 0
    results = {r.check_name: r for r in check_results("known_objects", report.manifest)}
    assert not results["answered"].passed
    monkeypatch.setattr(SimulatedArchive, "catalogue", answer)
    again, _ = ask("known_objects")
    assert again.n_new == 1
    assert rows_of(again)["vsx"]["state"] in {"ok", "empty"}


def test_a_total_outage_ends_the_step(monkeypatch: pytest.MonkeyPatch):
    def outage(*_):
        raise ArchiveUnavailableError("timeout")

    monkeypatch.setattr(SimulatedArchive, "catalogue", outage)
    with pytest.raises(ArchiveUnavailableError, match="timeout"):
        ask("known_objects")


def test_what_is_no_answer_is_a_rejected_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SimulatedArchive, "catalogue", lambda *_: b"<html>busy</html>")
    report, table = ask("known_objects")
    assert {row["state"] for row in report.manifest.to_pylist()} == {"rejected"}
    assert table.num_rows == 0


def test_the_circle_holds_every_exposure_and_seldom_changes():
    rows = exposures(FIELD)
    cone = offers.catalogue_questions(FIELD, rows)[0].cone
    assert cone.radius == pytest.approx(0.1)
    asteroids = [q for q in offers.catalogue_questions(FIELD, rows) if q.exposure_id]
    assert [q.cone.mjd for q in asteroids] == [row["mjd_mid"] for row in rows]
    assert all(0.04 < q.cone.radius < 0.08 for q in asteroids)


def candidates(ra: list[float | None], dec: list[float | None], exposure: str) -> pa.Table:
    places = {"ra": pa.array(ra, pa.float64()), "dec": pa.array(dec, pa.float64())}
    return pa.table({"exposure_id": pa.array([exposure] * len(ra)), **places})


def test_candidates_get_the_known_objects_beside_them():
    _, known = ask("known_objects")
    star = next(row for row in known.to_pylist() if row["kind"] == "star")
    options = {name: value for name, value in CandidatesConfig().model_dump().items() if "radi" in name}
    table = candidates([star["ra"], star["ra"], None], [star["dec"], star["dec"] + 0.02, None], "e")
    found = matched(Matching(table, known, {"e": CLOCK}, options))
    assert found.column("star_id").to_pylist()[0] == star["object_id"]
    assert found.column("star_id").to_pylist()[2] is None
    assert _n_known(found)["n_star"] >= 1
    assert found.column_names[:3] == ["exposure_id", "ra", "dec"]
    without_time = matched(Matching(table, known, {"e": None}, options))
    assert without_time.column("star_sep").to_pylist()[0] == pytest.approx(0.0, abs=1e-6)


def test_the_radii_of_matches_redo_no_exposure():
    narrow, wide = (
        _without_matching(job_of(FIELD, "candidates", {"candidates": CandidatesConfig(star_radius=radius)}))
        for radius in (1.0, 3.0)
    )
    assert narrow[0].steps[0].parameter_hash == wide[0].steps[0].parameter_hash
    assert (narrow[1]["star_radius"], wide[1]["star_radius"]) == (1.0, 3.0)
