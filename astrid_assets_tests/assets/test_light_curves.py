"""Cutouts and light curves of a made-up field: through the files of its exposures, against what is in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrid_assets.assets.config import CutoutsConfig, LightCurvesConfig
from astrid_assets.assets.streaming import Job, Step, Work, stream
from astrid_assets.fields import Field, LocalOptions
from astrid_assets.images import write_difference, write_pair
from astrid_assets.images.fits import verify_fits
from astrid_assets.images.triplets import read_triplets
from astrid_assets.science import detect, zogy
from astrid_assets.storage.manifest import digest
from astrid_assets.storage.store import Store
from astrid_assets_tests.science.sky import known_pair, tan_wcs

FIELD = Field(name="f", ra=150.0, dec=20.0, radius=0.1, archives=("local",), local=LocalOptions(folder="x"))
NJY = 10 ** (-0.4 * (26.3 - 31.4))
SIDE = 128
VARIABLE = (50.3, 60.6)
"""Present in all images; its flux differs by `CHANGES` from the one in the reference."""
CHANGES = (400.0, 60.0, -350.0, 500.0)
WCS_ERRORS = ((0.0, 0.0), (0.4, -0.3), (-0.3, 0.2), (0.2, 0.4))
"""By how much the WCS of each exposure is wrong, pixels; its registration knows."""


def asteroid(epoch):
    return 30.0 + 20.0 * epoch, 100.0


def make_exposure(folder, epoch, *, sky=True):
    """Write pair, difference and candidates of one exposure; return their rows."""
    name = f"e{epoch}"
    sources = [(*VARIABLE, 1500.0 + CHANGES[epoch], 1500.0), (*asteroid(epoch), 600.0, 0.0)]
    pair = known_pair(seed=10 + epoch, size=SIDE, sources=sources)
    dx, dy = WCS_ERRORS[epoch] if sky else (0.0, 0.0)
    # where the WCS puts a source, minus what the registration adds
    wcs = tan_wcs((SIDE, SIDE), offset=(-dx, -dy)) if sky else None
    registration = replace(pair.registration, coefficients=((dx,), (dy,)))
    science = pair.science.replace(wcs=wcs, mjd_mid=60000.0 + epoch, band="r")
    pair = pair.replace(science=science, registration=registration)
    difference = zogy(pair)
    table = detect(difference, pair=pair)
    names = pa.array([f"{name}-{i:04d}" for i in range(table.num_rows)], pa.string())
    table = table.add_column(0, "candidate_id", names)
    table = table.add_column(1, "band", pa.array(["r"] * table.num_rows))
    write_pair(folder / f"{name}_pair.fits", pair)
    write_difference(folder / f"{name}_difference.fits", difference)
    pq.write_table(table, folder / f"{name}.parquet")
    common = {"exposure_id": name, "reference_id": "ref", "band": "r", "survey": "generic"}
    common["mjd_mid"] = 60000.0 + epoch
    paths = {"candidates": ".parquet", "difference": "_difference.fits", "normalized": "_pair.fits"}
    return {k: common | {"path": f"{name}{end}", "product_id": f"{k} {name}"} for k, end in paths.items()}


@pytest.fixture(scope="module")
def exposures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, [make_exposure(folder, epoch) for epoch in range(4)]


def options(config, **changes):
    return {k: v for k, v in config().model_dump().items() if k != "force"} | changes


def light_curves(folder, rows):
    """Run the recipe; return its row and its tables."""
    job = Job(
        Store(str(folder)),
        FIELD,
        "light_curves",
        (Step("light_curves", options(LightCurvesConfig), "1"),),
    )
    work = Work({"exposure_id": "f"}, digest(rows), {"exposures": rows})
    report = stream(job, [work], workers=1)["light_curves"]
    row = report.manifest.to_pylist()[0]
    assert row["state"] == "ok", row["reason"]
    names = ("light_curves", "objects", "associations")
    return row, *(pq.read_table(folder / "light_curves" / "f" / f"{n}.parquet") for n in names)


def of(table, **values):
    return [r for r in table.to_pylist() if all(r[k] == v for k, v in values.items())]


def test_a_variable_is_one_object_and_an_asteroid_four(exposures):
    row, _, objects, links = light_curves(*exposures)
    (variable,) = [o for o in objects.to_pylist() if o["n_detections"] > 1]
    truth = tan_wcs((SIDE, SIDE)).all_pix2world(*VARIABLE, 0)
    assert variable["ra"] == pytest.approx(truth[0], abs=0.2 / 3600)
    assert variable["dec"] == pytest.approx(truth[1], abs=0.2 / 3600)
    assert variable["n_epochs"] == 4
    assert (variable["first_mjd"], variable["last_mjd"]) == (60000.0, 60003.0)
    assert row["metric_n_multi_epoch"] == 1
    assert row["metric_n_shared"] == 0
    singles = [o for o in objects.to_pylist() if o["n_detections"] == 1 and o["max_snr"] > 10]
    assert len(singles) == 4
    assert len(of(links, object_id=variable["object_id"])) == variable["n_detections"] + variable["n_flagged"]


def test_the_flux_is_the_one_that_was_put_in_detected_or_not(exposures):
    _, curves, objects, _ = light_curves(*exposures)
    name = next(o["object_id"] for o in objects.to_pylist() if o["n_detections"] > 1)
    points = of(curves, object_id=name)
    assert [p["mjd_mid"] for p in points] == [60000.0, 60001.0, 60002.0, 60003.0]
    for point, change in zip(points, CHANGES, strict=True):
        assert (point["x"], point["y"]) == pytest.approx(VARIABLE, abs=0.2)
        # the place is good to a tenth of a pixel, which costs half a per cent of the flux
        assert abs(point["flux"] - change) < 4 * point["flux_error"] + 0.01 * abs(change)
        assert point["flux_njy"] == pytest.approx(point["flux"] * NJY)
        assert point["reference_flux_njy"] == pytest.approx(1500 * NJY, rel=0.02)
        assert point["total_flux_njy"] == pytest.approx((1500 + change) * NJY, rel=0.03)
        assert point["baseline_offset_njy"] is None
    assert points[0]["detected"]
    assert not points[1]["detected"]
    assert points[1]["candidate_id"] is None
    moving = next(o["object_id"] for o in objects.to_pylist() if o["n_detections"] == 1 and o["max_snr"] > 10)
    assert [p["detected"] for p in of(curves, object_id=moving)].count(True) == 1


def test_it_is_done_once_and_again_when_a_candidate_changes(exposures):
    folder, rows = exposures
    light_curves(folder, rows)
    job = Job(
        Store(str(folder)), FIELD, "light_curves", (Step("light_curves", options(LightCurvesConfig), "1"),)
    )
    same = stream(job, [Work({"exposure_id": "f"}, digest(rows), {"exposures": rows})], workers=1)
    assert same["light_curves"].n_new == 0
    fewer = stream(job, [Work({"exposure_id": "f"}, digest(rows[:3]), {"exposures": rows[:3]})], workers=1)
    assert fewer["light_curves"].n_new == 1


def test_names_stay_when_nights_are_added(exposures):
    folder, rows = exposures
    _, _, early, _ = light_curves(folder, rows[:2])
    _, _, late, _ = light_curves(folder, rows)
    assert late["object_id"].to_pylist()[: early.num_rows] == early["object_id"].to_pylist()


def test_without_a_wcs_objects_are_joined_on_the_grid_of_the_reference(tmp_path):
    rows = [make_exposure(tmp_path, epoch, sky=False) for epoch in range(3)]
    _, curves, objects, _ = light_curves(tmp_path, rows)
    (variable,) = [o for o in objects.to_pylist() if o["n_detections"] > 1]
    assert variable["ra"] is None
    assert (variable["x"], variable["y"]) == pytest.approx(VARIABLE, abs=0.2)
    assert variable["object_id"].startswith("P0-")
    assert len(of(curves, object_id=variable["object_id"])) == 3


def test_cutouts_hold_the_candidates_in_the_order_of_the_table(exposures):
    folder, rows = exposures
    step = Step("cutouts", options(CutoutsConfig, size=33, max_flagged=2), "1")
    job = Job(Store(str(folder)), FIELD, "cutouts", (step,))
    works = [
        Work(
            {k: r["difference"][k] for k in ("exposure_id", "band", "survey", "mjd_mid", "reference_id")},
            "i",
            r,
        )
        for r in rows
    ]
    manifest = stream(job, works, workers=1)["cutouts"].manifest.to_pylist()
    assert {r["state"] for r in manifest} == {"ok"}
    for row in manifest:
        triplets = read_triplets(folder / row["path"])
        table = pq.read_table((folder / row["path"]).with_suffix(".parquet"))
        assert len(triplets) == table.num_rows == row["n_rows"]
        assert triplets.x.tolist() == np.rint(table["x"].to_numpy()).astype(int).tolist()
        assert table["at_edge"].to_pylist() == triplets.at_edge.tolist()
        flagged = [bool(a) for a in table["artifact"].to_pylist()]
        assert sum(flagged) <= 2
        assert row["metric_n_stamps_unflagged"] == flagged.count(False)
        verify_fits((folder / row["path"]).with_suffix(".fits"))
    preview = folder / "cutouts" / "f" / "preview.png"
    assert 0 < preview.stat().st_size < 37_000
