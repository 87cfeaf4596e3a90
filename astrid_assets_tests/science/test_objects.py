"""Tables of objects and light curves, put together by hand."""

import numpy as np
import pytest

from astrid_assets.images.masks import bits
from astrid_assets.science.association import join_detections, place_detections, place_objects
from astrid_assets.science.objects import (
    Epoch,
    association_table,
    forced_ratio,
    light_curve_metrics,
    light_curve_table,
    object_table,
)

COLUMNS = ("x", "y", "flux", "flux_error", "flux_njy", "flux_njy_error", "reference_flux_njy")
MORE = ("reference_flux_njy_error", "total_flux_njy", "limit_5sigma_njy")


def epoch(name, mjd, flux, *, objects=(0,), reference="a", flags=0):
    n = len(objects)
    columns = {c: np.full(n, 1.0) for c in COLUMNS + MORE}
    columns |= {"flux": np.full(n, flux), "flux_njy": np.full(n, 10.0 * flux)}
    columns["flags"] = np.full(n, flags, np.int32)
    return Epoch(name, reference, "r", mjd, np.array(objects, int), columns)


def detections(*epochs, flagged=()):
    """One detection each of object 0 in some exposures."""
    parts = [
        place_detections(
            np.array([150.0]), np.array([2.0]), np.array([20.0]), [e in flagged], epoch=e, fwhm=2.0
        )
        for e in epochs
    ]
    return join_detections(parts)


def test_a_change_of_the_reference_starts_a_new_baseline():
    epochs = [epoch(f"a{i}", 59000.0 + i, 1.0 + i % 2) for i in range(10)]
    epochs += [epoch(f"b{i}", 59500.0 + i, 7.0, reference="b") for i in range(12)]
    epochs += [epoch("bad", 59600.0, 1000.0, reference="b", flags=int(bits("SATURATED")))]
    epochs += [epoch("rise", 59950.0, 500.0, reference="b"), epoch("peak", 60000.0, 900.0, reference="b")]
    found = detections(24)
    table = light_curve_table(["J"], found, np.array([0]), ["c"], epochs)
    assert table["mjd_mid"].to_pylist() == sorted(table["mjd_mid"].to_pylist())
    offset, scale = (table[n].to_numpy() for n in ("baseline_offset_njy", "error_scale"))
    assert (offset[:10] == 15.0).all()
    assert scale[:10] == pytest.approx(np.full(10, np.sqrt(250 / 9)))
    assert (offset[10:] == 70.0).all()
    assert (scale[10:] == 1.0).all()
    few = light_curve_table(["J"], found, np.array([0]), ["c"], epochs, min_epochs=11)
    assert few["baseline_offset_njy"].to_pylist()[:10] == [None] * 10
    near = light_curve_table(["J"], found, np.array([0]), ["c"], epochs, quiet_before=1000.0)
    assert near["baseline_offset_njy"].null_count == near.num_rows


def test_points_know_their_candidates():
    epochs = [epoch("a", 1.0, 5.0), epoch("b", 2.0, 4.0), epoch("c", 3.0, 3.0, objects=())]
    found = detections(0, 1, flagged=(1,))
    objects = np.array([0, 0])
    table = light_curve_table(["J"], found, objects, ["c0", "c1"], epochs)
    assert table["candidate_id"].to_pylist() == ["c0", "c1"]
    assert table["detected"].to_pylist() == [True, False]
    assert all(field.metadata[b"description"] for field in table.schema)
    places = place_objects(found, objects)
    (row,) = object_table(["J"], found, objects, places, np.array([20.0, 90.0]), epochs).to_pylist()
    expected = {"n_detections": 1, "n_flagged": 1, "n_epochs": 2, "first_mjd": 1.0, "last_mjd": 1.0}
    assert {k: row[k] for k in expected} == expected
    assert row["max_snr"] == 20.0
    assert row["x"] is None
    assert association_table(["J"], ["c0", "c1"], objects, places).num_rows == 2


def test_metrics_see_what_is_wrong():
    epochs = [epoch("a", 1.0, 5.0), epoch("b", 2.0, np.nan)]
    found = detections(0, 1, 1)
    objects = np.zeros(3, int)
    table = light_curve_table(["J"], found, objects, ["a", "b", "c"], epochs)
    places = place_objects(found, objects)
    ratio = forced_ratio(epochs, found, objects, np.full(3, 20.0), np.array([4.0, 4.0, 4.0]))
    assert ratio.tolist() == [1.25]
    pulls = np.random.default_rng(1).normal(0.5, 2.0, 4000)
    metrics = light_curve_metrics(table, found, objects, places, pulls, ratio)
    assert metrics["n_shared"] == 1
    assert metrics["unflagged_null"] == 1
    assert metrics["forced_null_std"] == pytest.approx(2, rel=0.05)
    assert metrics["forced_null_median"] == pytest.approx(0.5, abs=0.1)
    assert metrics["forced_ratio"] == 1.25
    assert metrics["association_rms"] == pytest.approx(0, abs=1e-6)
    few = light_curve_metrics(table, found, objects, places, pulls[:10], ratio[:0])
    assert np.isnan(few["forced_null_std"])
    assert np.isnan(few["forced_ratio"])


def test_a_field_without_candidates_has_empty_tables():
    none = join_detections([place_detections(*np.zeros((3, 0)), np.zeros(0), epoch=0, fwhm=2.0)])
    objects, epochs = np.zeros(0, int), [epoch("a", 1.0, 5.0, objects=())]
    places = place_objects(none, objects)
    assert light_curve_table([], none, objects, [], epochs).num_rows == 0
    assert light_curve_table([], none, objects, [], []).num_rows == 0
    assert object_table([], none, objects, places, np.zeros(0), epochs).num_rows == 0
    table = light_curve_table([], none, objects, [], epochs)
    assert light_curve_metrics(table, none, objects, places, np.zeros(0), np.zeros(0))["n_objects"] == 0
