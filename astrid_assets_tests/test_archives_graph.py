"""Fields of real archives through the whole graph; in place of the services, a stand-in on loopback.

Nothing but the addresses differs from a run against the live services.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml

from astrid_assets.archives.standin.faults import LINE_MODES, Fault
from astrid_assets.archives.standin.server import StandIn
from astrid_assets.archives.standin.services import CONTENT_FAULTS, stand_in
from astrid_assets.archives.transport import load_settings
from astrid_assets.automation.instance import open_instance
from astrid_assets.automation.runs import RunSummary, run_fields
from astrid_assets.home import dagster_home
from astrid_assets.storage.store import Store
from astrid_assets_tests.tiny import install

pytestmark = [pytest.mark.service, pytest.mark.slow]

NOW = "60935"
"""MJD at which the simulated sky behind the stand-in stands."""

ZTF = """
ztf:
  ra: 265.0
  dec: 62.0
  radius: 0.02
  archives: [irsa_ztf, skyview, alerts, catalogues]
  bands: [r]
  science_window: {start: 2025-09-12}
  reference_window: {start: 2024-03-01, end: 2025-03-01}
  skyview: {surveys: [DSS2 Red, WISE 3.4]}
  catalogues: {names: [gaia, ned, skybot, bts]}
  irsa_ztf: {cutout_arcmin: 4.5}
"""

JWST = """
jwst:
  ra: 265.0
  dec: 62.0
  radius: 0.01
  archives: [mast]
  mast: {missions: [JWST]}
  science_window: {start: 2023-06-01}
  reference_window: {end: 2022-12-31}
"""

PS1 = """
ps1:
  ra: 265.0
  dec: 62.0
  radius: 0.012
  archives: [ps1]
  bands: [r]
  ps1: {product: warp}
  science_window: {start: 2012-01-01, end: 2013-01-01}
  reference_window: {end: 2011-06-01}
"""

CROSS = """
cross:
  ra: 265.0
  dec: 62.0
  radius: 0.02
  archives: [irsa_ztf, ps1, skyview]
  bands: [r]
  science_window: {start: 2025-09-14}
  reference_window: {end: 2016-01-01}
  limits: {overlap_min: 0.5}  # a sky cell of PS1 ends here
  ps1: {size_arcsec: 330}
  skyview: {surveys: [SDSSr, GALEX Near UV, 2MASS-J]}
  irsa_ztf: {cutout_arcmin: 4.5}
  cross_survey: {references: [ps1]}
"""


@contextmanager
def services(*faults: Fault, **settings: float) -> Iterator[StandIn]:
    """Run the stand-in and let every service be found there."""
    with stand_in(faults=faults) as standin:
        known = load_settings().services
        hasty = {"per_second": 1000.0, "parallel": 8, "backoff": 0.0} | settings
        table = {name: {"base_url": standin.base_url(name)} | hasty for name in known}
        (dagster_home() / "archives.yaml").write_text(yaml.safe_dump({"services": table}))
        yield standin


@dataclass(frozen=True)
class Graph:
    """What two runs over the fields left behind."""

    home: Path
    summary: RunSummary
    again: RunSummary
    n_requests: int
    n_requests_again: int

    @property
    def store(self) -> Store:
        """Its results."""
        return Store(str(self.home / "data"))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """All fields, run twice."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "true")
        patch.setenv("ASTRID_NOW", NOW)
        for name in ("ASTRID_FIELDS", "ASTRID_DATA", "ASTRID_ARCHIVES", "ASTRID_STORE"):
            patch.delenv(name, raising=False)
        install(ZTF + JWST + PS1 + CROSS)
        names = ["ztf", "jwst", "ps1", "cross"]
        with services() as standin:
            summary = run_fields(names, workers=1, release=False)
            n_requests = len(standin.arrivals)
            again = run_fields(names, workers=1, release=False)
            yield Graph(home, summary, again, n_requests, len(standin.arrivals) - n_requests)


@pytest.mark.parametrize("name", ["ztf", "jwst", "ps1", "cross"])
def test_a_field_runs_to_its_report(graph: Graph, name: str):
    (run,) = [f for f in graph.summary.fields if f.name == name]
    assert (run.status, run.error) == ("ok", None)
    assert run.counts["differenced"] >= 1
    assert run.counts["failed"] == 0
    assert Path(graph.store.path("reports", name, "index.html")).exists()


def test_data_of_a_stand_in_are_never_taken_for_those_of_the_archive(graph: Graph):
    """Every row says who answered, and so does the page; from the archive itself it would be another file."""
    for name in ("ztf", "jwst", "ps1", "cross"):
        rows = graph.store.manifest("observations", name).to_pylist()
        assert {r["served_by"] for r in rows if r["product"] != "query"} == {"127.0.0.1"}
        assert all(r["revision"].endswith("@served-by:127.0.0.1") for r in rows if r["product"] != "query")
        page = Path(graph.store.path("reports", name, "index.html")).read_text()
        assert "answered by 127.0.0.1" in page
        assert "Real data" not in page


def test_what_stands_beside_the_images(graph: Graph):
    """Cutouts of other surveys, catalogues and alerts of the same sky."""
    cutouts = graph.store.manifest("survey_cutouts", "ztf").to_pylist()
    assert {r["survey"] for r in cutouts} == {"DSS2 Red", "WISE 3.4"}
    assert {r["state"] for r in cutouts} <= {"ok", "empty"}
    known = graph.store.manifest("known_objects", "ztf").to_pylist()
    assert {r["state"] for r in known} <= {"ok", "empty"}
    assert any(r["state"] == "ok" for r in known)
    alerts = graph.store.manifest("ztf_alerts", "ztf").to_pylist()
    assert {r["state"] for r in alerts} <= {"ok", "empty"}


def test_a_reference_of_another_survey_is_taken_only_where_it_is_asked_for(graph: Graph):
    rows = graph.store.manifest("observations", "cross").to_pylist()
    science = [r for r in rows if r["status"] == "selected" and r["role"] == "science"]
    assert {r["survey"] for r in science} == {"ztf"}
    assert {r["flags"] for r in science} == {"COLOUR_TERM_UNKNOWN"}
    references = graph.store.manifest("references", "cross").to_pylist()
    assert {r["survey"] for r in references} == {"ps1"}


def test_every_materialization_tells_its_traffic(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_HOME", str(graph.home))
    with open_instance() as instance:
        record = instance.fetch_materializations(dg.AssetKey("science_images"), limit=100).records
        metadata = [r.asset_materialization.metadata for r in record]
    asked = [m for m in metadata if "n_requests" in m]
    assert asked
    for one in asked:
        assert one["n_requests"].value >= 1
        assert one["n_bytes"].value > 1000
        assert "oldest_answer" in one


def test_a_second_run_asks_for_nothing_that_it_has(graph: Graph):
    """Within the lifetime of the answers not one request; nothing is done again."""
    assert graph.n_requests > 30
    assert graph.n_requests_again == 0
    assert [asset for f in graph.again.fields for asset, n in f.new.items() if n] == []


def test_an_archive_that_is_down_fails_its_search_and_no_other(monkeypatch: pytest.MonkeyPatch):
    """What is known of it stays, the failure is a row of its own, and the next run asks again."""
    monkeypatch.setenv("ASTRID_NOW", NOW)
    install(ZTF + JWST)
    names, search = ["ztf", "jwst"], {"workers": 1, "release": False, "assets": ["observations"]}
    with services():
        run_fields(names, **search)
    before = Store().manifest("observations", "ztf")
    shutil.rmtree(dagster_home() / "archive_store")
    with services(Fault("unavailable", services=("irsa",)), retries=0):
        assert [f.status for f in run_fields(names, **search).fields] == ["ok", "ok"]
    rows = Store().manifest("observations", "ztf").to_pylist()
    (failed,) = [r for r in rows if r["status"] == "failed"]
    assert failed["reason"].startswith("search failed: irsa")
    assert [r for r in rows if r is not failed] == before.to_pylist()
    with services():
        run_fields(["ztf"], **search)
    assert Store().manifest("observations", "ztf").equals(before)


def test_a_tenth_of_all_answers_fail_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ASTRID_NOW", NOW)
    install(ZTF)
    modes = ("unavailable", "html", "truncated")
    with services(*(Fault(mode, share=0.04, seed=k) for k, mode in enumerate(modes)), retries=6):
        (run,) = run_fields(["ztf"], workers=1, release=False).fields
    assert (run.status, run.counts["failed"]) == ("ok", 0)
    for asset in ("science_images", "known_objects", "survey_cutouts", "ztf_alerts"):
        for row in Store().manifest(asset, "ztf").to_pylist():
            assert row["state"] in {"ok", "empty", "quarantined"} or row["reason"], row


IMAGES = ["observations", "science_images", "references"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Checksums of the images of the field of ZTF without any fault, by asset and exposure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(tmp_path_factory.mktemp("sound")))
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "true")
        patch.setenv("ASTRID_NOW", NOW)
        install(ZTF)
        with services():
            run_fields(["ztf"], workers=1, release=False, assets=IMAGES)
        return {asset: checksums(asset) for asset in IMAGES[1:]}


def checksums(asset: str) -> dict[str, str]:
    """Return the checksum of what each usable row of the field of ZTF was made of."""
    rows = Store().manifest(asset, "ztf").to_pylist()
    return {r["exposure_id"]: r["sha256"] for r in rows if r["state"] == "ok"}


# those that take time are tested at the transport; an empty table is an answer like any other
SPOILING = {*LINE_MODES, *CONTENT_FAULTS["irsa"]} - {"hang", "drip", "too_many", "empty_table"}


@pytest.mark.parametrize("mode", sorted(SPOILING))
def test_no_fault_makes_wrong_data_and_what_it_spoils_is_mended(
    mode: str, sound: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
):
    """Whatever half of the answers of IRSA are: images are those of the archive, or rows with a reason."""
    monkeypatch.setenv("ASTRID_NOW", NOW)
    install(ZTF)
    with services():
        run_fields(["ztf"], workers=1, release=False, assets=["observations"])
    shutil.rmtree(dagster_home() / "archive_store")
    with services(Fault(mode, share=0.5, services=("irsa",), seed=2), retries=1):
        run_fields(["ztf"], workers=1, release=False, assets=IMAGES)
    for asset in IMAGES[1:]:
        assert checksums(asset).items() <= sound[asset].items()
        rows = Store().manifest(asset, "ztf").to_pylist()
        assert {r["exposure_id"] for r in rows} == set(sound[asset])
        assert all(r["state"] == "ok" or r["reason"] for r in rows)
    shutil.rmtree(dagster_home() / "archive_store")
    with services():
        run_fields(["ztf"], workers=1, release=False, assets=IMAGES)
    for asset in IMAGES[1:]:
        rows = Store().manifest(asset, "ztf").to_pylist()
        rejected = {r["exposure_id"] for r in rows if r["state"] == "rejected"}
        assert checksums(asset).keys() | rejected == set(sound[asset])
