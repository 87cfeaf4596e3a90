"""Real images as a user runs them: a folder through the graph, and pairs on the command line.

Nobody knows what really changed in these pairs, so the tests hold what is known: exposure times and
zero points give the flux ratio, noise of blank sky gives the width of S_corr.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from PIL import Image

from astrid_assets.automation.runs import FieldRun, ReleaseRun, run_fields
from astrid_assets.cli import main
from astrid_assets.storage import Store
from astrid_assets.storage.layout import EXPOSURE_ASSETS
from astrid_assets.training import TripletDataset

pytestmark = pytest.mark.real_data

JWST = "jwst_nircam_a2744/jw{}_nircam_clear-f200w_i2d_stamp.fits"
JWST_SCIENCE = JWST.format("02561001002-02561-o001_t003")
JWST_REFERENCE = JWST.format("01324001001-01324-o001_t001")
DECAM_SCIENCE = "decam_tc4_r/c4d_180128_083845_ooi_r_ls9.N3.fits"
DECAM_REFERENCE = "decam_tc4_r/c4d_170522_005829_ooi_r_ls9.N2.fits"
ESO_SCIENCE = "properimage_eso085/aligned_eso085-030-005.fit"
ESO_REFERENCE = "properimage_eso085/aligned_eso085-030-004.fit"

FIELDS = """\
nircam:
  {{ra: 3.5243, dec: -30.3652, radius: 0.05, archives: [local], bands: [F200W],
   science_window: {{start: 2022-10-01}}, reference_window: {{end: 2022-08-01}},
   local: {{folder: {pairs}/jwst_nircam_a2744}}}}
decam_r:
  {{ra: 186.7439, dec: 25.4618, radius: 0.05, archives: [local],
   science_window: {{start: 2018-01-01}}, reference_window: {{end: 2017-12-01}},
   local: {{folder: {pairs}/decam_tc4_r}}}}
decam_g:
  {{ra: 186.7439, dec: 25.4618, radius: 0.05, archives: [local],
   science_window: {{start: 2018-01-01}}, reference_window: {{end: 2017-12-01}},
   local: {{folder: {pairs}/decam_tc4_g}}}}
broken:
  {{ra: 186.7439, dec: 25.4618, radius: 0.05, archives: [local],
   science_window: {{start: 2018-01-01}}, reference_window: {{end: 2017-12-01}},
   local: {{folder: {broken}}}}}
eso_bare:
  {{ra: 130.0, dec: -63.0, radius: 0.2, archives: [local], guard_days: 0,
   science_window: {{start: 2015-12-27T06:27:30}}, reference_window: {{end: 2015-12-27T06:27:30}},
   local: {{folder: {pairs}/properimage_eso085}}}}
eso_stated:
  {{ra: 130.0, dec: -63.0, radius: 0.2, archives: [local], guard_days: 0,
   science_window: {{start: 2015-12-27T06:27:30}}, reference_window: {{end: 2015-12-27T06:27:30}},
   local: {{folder: {pairs}/properimage_eso085, assume: {{aligned: true, gain: 1.5}}}}}}
apart:
  {{ra: 27.952, dec: 0.2635, radius: 0.02, archives: [local], bands: [r],
   science_window: {{start: 2013-01-01}}, reference_window: {{end: 2005-01-01}},
   local: {{folder: {pairs}/hostphot_sn2006bh}}}}
"""


@dataclass(frozen=True)
class Graph:
    """What one run over all fields left behind."""

    home: Path
    runs: dict[str, FieldRun]
    release: ReleaseRun

    @property
    def store(self) -> Store:
        """Its results."""
        return Store(str(self.home / "data"))

    def rows(self, asset: str, sky_field: str) -> dict[str, dict]:
        """Rows of a manifest by exposure."""
        table = self.store.manifest(asset, sky_field)
        return {row["exposure_id"]: row for row in table.to_pylist()}

    def row(self, asset: str, sky_field: str) -> dict:
        """The only row of a manifest."""
        (row,) = self.rows(asset, sky_field).values()
        return row


@pytest.fixture(scope="module")
def graph(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Run all fields once."""
    home = tmp_path_factory.mktemp("home")
    pairs = real_data / "pairs"
    broken = _break(pairs / "decam_tc4_r", home / "broken")
    (home / "fields.yaml").write_text(FIELDS.format(pairs=pairs, broken=broken))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "true")
        for name in ("ASTRID_FIELDS", "ASTRID_DATA", "ASTRID_NOW"):
            patch.delenv(name, raising=False)
        names = [line.split(":")[0] for line in FIELDS.splitlines() if not line.startswith(" ")]
        summary = run_fields(names, workers=1)
    return Graph(home, {run.name: run for run in summary.fields}, summary.release)


def _break(source: Path, folder: Path) -> Path:
    """Copy a folder and add files as downloads and disks leave them."""
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    for role in ("ooi", "oow", "ood"):
        for day in ("129", "130"):
            old = source / f"c4d_180128_083845_{role}_r_ls9.N3.fits"
            (folder / old.name.replace("180128", f"180{day}")).write_bytes(old.read_bytes())
    _cut(folder / "c4d_180129_083845_ooi_r_ls9.N3.fits")
    _cut(folder / "c4d_180130_083845_ood_r_ls9.N3.fits")
    (folder / "empty.fits").touch()
    (folder / "page.fits").write_text("<html>404 not found</html>")
    return folder


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


# --- the graph ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_science"), [("nircam", 1), ("decam_r", 2), ("decam_g", 1), ("eso_stated", 1)]
)
def test_every_asset_of_a_real_pair_materializes(graph, name, n_science):
    """The whole graph; no exposure is stopped, nothing is red that is only small or in space."""
    run = graph.runs[name]
    assert run.status == "ok", run.error
    assert run.checks["failed"] == 0
    assert run.counts["differenced"] == n_science
    found = graph.rows("candidates", name)
    for asset in EXPOSURE_ASSETS[1:]:
        rows = graph.rows(asset, name)
        assert len(rows) == (1 if asset == "references" else n_science)
        for row in rows.values():
            assert row["state"] in {"ok", "empty"}, (asset, row["reason"])
            assert row["colour"] != "red"
        # where nothing has changed there are no candidates to show
        bare = asset == "cutouts" and not any(r["metric_n_candidates"] for r in found.values())
        assert bare or asset in {"injections", "training_set"} or _is_picture(graph, asset, name)
    for asset in ("survey_cutouts", "known_objects", "ztf_alerts"):
        row = graph.row(asset, name)
        assert (row["state"], row["reason"][:15]) == ("empty", "not configured:")


def test_real_pairs_have_injections_reports_and_a_release(graph):
    """Sources put into real frames are found again; what the pairs hold becomes a release and a page."""
    found = {}
    for name in ("nircam", "decam_r", "decam_g", "eso_stated"):
        assert (Path(graph.store.path("reports", name, "index.html"))).stat().st_size > 100_000
        truth = graph.store.read_table(f"injections/{name}/injections.parquet")
        found[name] = sum(row["found"] for row in truth.to_pylist() if row["kind"] == "source")
    assert found["eso_stated"] >= 10
    assert min(found["nircam"], found["decam_r"]) >= 3  # decam_g shows a corner of its reference only
    release = graph.release
    assert release.status == "ok", release.reason
    train = TripletDataset(graph.home / "data" / "releases", "train")
    assert np.isfinite(train[:][0]).all()


def _is_picture(graph: Graph, asset: str, name: str) -> bool:
    path = Path(graph.store.path(f"{graph.store.folder(asset, name)}/preview.png"))
    with Image.open(path) as picture:
        picture.load()
        return min(picture.size) > 100


def test_nircam_pair(graph):
    """Zero points predict the flux ratio; the noise of drizzled pixels is accounted for, not scaled away."""
    assert graph.row("normalized_pairs", "nircam")["metric_flux_ratio"] == pytest.approx(1.02, abs=0.02)
    difference = graph.row("zogy_differences", "nircam")
    assert 0.8 < difference["metric_scorr_mad_std"] <= 1.25
    # the atmosphere has no say in space
    assert graph.row("science_images", "nircam")["colour_seeing"] == "none"
    assert graph.row("science_images", "nircam")["metric_seeing"] == pytest.approx(0.07, abs=0.015)


@pytest.mark.parametrize(
    ("name", "exposure", "ratio"),
    [
        ("decam_r", "c4d_180128_083845_ooi_r_ls9.N3", 64 / 125),
        ("decam_r", "c4d_180314_055922_ooi_r_ls9.S1", 59 / 125),
        ("decam_g", "c4d_180225_074106_ooi_g_ls9.S1", 122 / 131),
    ],
)
def test_decam_nights(graph, name, exposure, ratio):
    """Exposure times give the flux ratio but for clouds and airmass; S_corr is a unit Gaussian."""
    pair = graph.rows("normalized_pairs", name)[exposure]
    assert pair["metric_flux_ratio"] == pytest.approx(ratio, rel=0.1)
    difference = graph.rows("zogy_differences", name)[exposure]
    assert difference["metric_scorr_mad_std"] == pytest.approx(1.0, abs=0.15)
    assert graph.rows("aligned_pairs", name)[exposure]["metric_template_coverage"] > 0.9


def test_an_image_without_wcs_is_rejected_unless_the_field_states_what_is_missing(graph):
    """The reason says what to state."""
    for row in graph.rows("observations", "eso_bare").values():
        assert row["status"] == "rejected"
        assert row["reason"].startswith("no world coordinates in the header; state local.assume.aligned")
    assert graph.runs["eso_bare"].counts["differenced"] == 0
    assert graph.store.manifest("science_images", "eso_bare").num_rows == 0


def test_stated_pairs_run_in_pixel_coordinates(graph):
    """Never an invented position: neither in rows nor in files."""
    row = graph.row("zogy_differences", "eso_stated")
    with fits.open(graph.store.path(row["path"])) as hdus:
        assert not any("CTYPE1" in hdu.header for hdu in hdus)
    table = pq.read_table(
        graph.store.path(f"{graph.store.folder('candidates', 'eso_stated')}/candidates.parquet")
    )
    assert table.num_rows > 0
    assert table["ra"].null_count == table["dec"].null_count == table.num_rows
    assert table["x"].null_count == 0
    # two exposures of 60 s in one minute; apertures of five pixels and more on 38 stars give 1.003
    assert graph.row("normalized_pairs", "eso_stated")["metric_flux_ratio"] == pytest.approx(1.003, abs=0.006)
    assert row["metric_scorr_mad_std"] == pytest.approx(1.0, abs=0.15)
    # a kernel could be fitted, and the manifest says so
    row = graph.row("classic_differences", "eso_stated")
    assert (row["metric_matching_fallback"], row["colour_matching_fallback"]) == (0, "green")
    assert row["metric_matching_flux_ratio"] == pytest.approx(1.003, abs=0.01)


def test_images_of_different_sky_are_rejected(graph):
    """The cutouts of SDSS lie 5.8 arcmin from those of DES."""
    rows = graph.rows("observations", "apart")
    assert rows["DES_r"]["status"] == "rejected"
    assert rows["DES_r"]["reason"] == "no overlap with the reference: they show different sky"
    assert graph.runs["apart"].status == "ok"
    assert graph.runs["apart"].counts["differenced"] == 0


def test_broken_files_stop_nothing(graph):
    """Each has its reason, the whole ones go on."""
    run = graph.runs["broken"]
    assert run.status == "ok", run.error
    assert run.counts["differenced"] == 2
    seen = {
        name: row["reason"] for name, row in graph.rows("observations", "broken").items() if row["reason"]
    }
    assert seen == {
        "c4d_180129_083845_ooi_r_ls9.N3": "is cut off: it is shorter than its headers say",
        "empty": "is not a FITS file, or is empty",
        "page": "is not a FITS file",
    }
    told = json.loads((graph.home / "data/metadata/broken/empty.json").read_text())
    assert (told["status"], told["reason"]) == ("rejected", seen["empty"])
    fetched = graph.rows("science_images", "broken")
    bad = fetched.pop("c4d_180130_083845_ooi_r_ls9.N3")
    assert bad["state"] == "rejected"
    assert bad["reason"].startswith("bad_answer: c4d_180130_083845_ood_r_ls9.N3.fits: is cut off")
    assert {row["state"] for row in fetched.values()} == {"ok"}


# --- the command line -----------------------------------------------------------------------------


def _astrid(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["difference", *map(str, words)])
    return stopped.value.code, *capsys.readouterr()


def _refused(capsys: pytest.CaptureFixture, *words: object) -> str:
    """Return the one clear line of a refusal."""
    status, _, error = _astrid(capsys, *words)
    assert status == 1
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "--debug" not in error  # that would be an error nobody thought of
    return error


@pytest.mark.parametrize(
    ("science", "reference", "ratio"),
    [(JWST_SCIENCE, JWST_REFERENCE, 1.02), (DECAM_SCIENCE, DECAM_REFERENCE, 0.5)],
)
def test_difference_of_a_pair(capsys, real_data, tmp_path, science, reference, ratio):
    """Everything is written; the numbers are those of the graph."""
    pairs = real_data / "pairs"
    status, out, error = _astrid(capsys, pairs / science, pairs / reference, "-o", tmp_path / "out", "--json")
    assert (status, error) == (0, "")
    summary = json.loads(out.splitlines()[-1])
    assert summary["flux_ratio"] == pytest.approx(ratio, rel=0.05)
    assert 0.8 < summary["metrics"]["zogy"]["scorr_mad_std"] <= 1.25
    assert all(Path(file).stat().st_size > 0 for file in summary["files"])
    assert all(row["ra"] is not None for row in summary["strongest"])


@pytest.mark.parametrize(("words", "method"), [((), "stars"), (("--assume-aligned",), "assumed")])
def test_difference_without_wcs(capsys, real_data, tmp_path, words, method):
    """In pixel coordinates, registered on the stars or as the user says."""
    pair = real_data / "pairs" / ESO_SCIENCE, real_data / "pairs" / ESO_REFERENCE
    options = *words, "--gain", "1.5", "--json"
    status, out, error = _astrid(capsys, *pair, "-o", tmp_path / "out", *options)
    assert (status, error) == (0, "")
    summary = json.loads(out.splitlines()[-1])
    assert summary["registration"] == method
    table = pq.read_table(tmp_path / "out" / "candidates.parquet")
    assert table.num_rows == table["ra"].null_count == summary["detections"] > 0
    assert all(row["ra"] is None for row in summary["strongest"])
    with fits.open(tmp_path / "out" / "zogy.fits") as hdus:
        assert not any("CTYPE1" in hdu.header for hdu in hdus)


def test_difference_without_wcs_and_stars(capsys, tmp_path):
    """Noise shows no star pattern: one line that says what to do."""
    rng, pair = np.random.default_rng(3), [tmp_path / f"noise{i}.fits" for i in range(2)]
    for path in pair:
        fits.writeto(path, rng.normal(300.0, 12.0, (400, 400)).astype(np.float32))
    assert "no celestial WCS" in _refused(capsys, *pair, "-o", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_difference_of_different_sky(capsys, real_data, tmp_path):
    """Zero overlap is no difference."""
    folder = real_data / "pairs/hostphot_sn2006bh"
    line = _refused(capsys, folder / "SDSS_r.fits", folder / "DES_r.fits", "-o", tmp_path)
    assert "overlap by 0.0%" in line


def test_difference_refuses_odd_files_with_one_line(capsys, real_data, tmp_path):
    """None of them shows the sky of the other image; most are no images at all."""
    other = real_data / "pairs" / DECAM_REFERENCE
    files = sorted(path for path in (real_data / "odd").rglob("*") if path.is_file())
    assert len(files) > 40
    lines = [_refused(capsys, path, other, "-o", tmp_path / "out") for path in files]
    assert sum("overlap" in line or "no celestial WCS" in line for line in lines) >= 15
    assert not (tmp_path / "out").exists()
