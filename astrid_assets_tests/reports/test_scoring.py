"""Scoring, on truth tables and candidate tables written by hand."""

import numpy as np
import pyarrow as pa
import pytest

from astrid_assets.archives.simulated.truth import Truth
from astrid_assets.images.masks import bits
from astrid_assets.reports.scoring import (
    FieldScore,
    Searched,
    report,
    score_exposure,
    score_field,
    summarise,
    wilson,
)
from astrid_assets.reports.truth import Defect, changes_of, defects_of, moved_stars
from astrid_assets.storage import Store

SHAPE = (200, 200)
ERROR = 10.0


def stars(truth, *, pm=0.0):
    """Add 30 stars on a tangent plane of 1 arcsec a pixel, zero point 26."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(5, 195, (2, 30))
    truth.add(
        kind="star",
        ident=np.array([f"star-{i}" for i in range(30)]),
        ra=10.0 - (x - 100) / 3600 + pm / 3600,
        dec=(y - 100) / 3600,
        x=x,
        y=y,
        mag=np.full(30, 18.0),
        flux=np.full(30, 10 ** (-0.4 * (18.0 - 26.0))),
    )
    return truth


def source(truth, ident, x, y, flux, kind="transient", **rest):
    place = {"ra": 10.0 - (x - 100) / 3600, "dec": (y - 100) / 3600, "x": x, "y": y}
    truth.add(kind=kind, ident=ident, **place, mag=26.0 - 2.5 * np.log10(flux), flux=flux, **rest)


def tables(*changes, before=(), dirt=()):
    science, reference = stars(Truth()), stars(Truth())
    for args in changes:
        source(science, *args)
    for args in before:
        source(reference, *args)
    for row in dirt:
        science.add(**row)
    return science.to_table(), reference.to_table()


def candidates(*rows):
    names = ("x", "y", "snr", "positive", "artifact")
    types = (pa.float64(), pa.float64(), pa.float64(), pa.bool_(), pa.string())
    columns = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(types)]
    return pa.table(dict(zip(names, columns, strict=True)))


def scored(truths, table, mask=None):
    mask = np.zeros(SHAPE, np.int32) if mask is None else mask
    searched = Searched(mask, np.full(SHAPE, ERROR, np.float32), 2.0, 1.0)
    return score_exposure("one", *truths, searched, table)


def test_found_transient_is_found_with_its_true_significance():
    result = scored(tables(("sn", 50.0, 60.0, 200.0)), candidates((50.4, 60.3, 19.0, True, "")))
    (verdict,) = result.verdicts
    assert verdict.snr == pytest.approx(20.0)
    assert verdict.found
    assert verdict.place == "clean"
    assert result.unexplained == ()


@pytest.mark.parametrize(
    ("row", "flagged"),
    [
        ((54.0, 60.0, 19.0, True, ""), None),
        ((50.0, 60.0, 19.0, False, ""), None),
        ((50.0, 60.0, 19.0, True, "dipole"), "dipole"),
    ],
)
def test_elsewhere_of_the_other_sign_or_flagged_is_not_found(row, flagged):
    (verdict,) = scored(tables(("sn", 50.0, 60.0, 200.0)), candidates(row)).verdicts
    assert not verdict.found
    assert verdict.flagged == flagged


def test_change_is_science_minus_reference():
    truths = tables(("sn", 50.0, 60.0, 200.0), before=(("sn", 50.0, 60.0, 80.0), ("old", 20.0, 30.0, 300.0)))
    flux = {change.ident: change.flux for change in changes_of(*truths)}
    assert flux["sn"] == pytest.approx(120.0)
    assert flux["old"] == pytest.approx(-300.0, rel=1e-6)
    old = next(c for c in changes_of(*truths) if c.ident == "old")
    assert (old.x, old.y) == pytest.approx((20.0, 30.0), abs=0.01)


def test_pixels_masked_for_a_true_cause_are_masked_without_one_they_are_lost():
    mask = np.zeros(SHAPE, np.int32)
    mask[60, 51] = bits("COSMIC_RAY")
    ray = {"kind": "cosmic_ray", "x": 51.0, "y": 60.0, "x_end": 53.0, "y_end": 60.0, "extent": 1.0}
    truths = ("sn", 50.0, 60.0, 200.0)
    assert scored(tables(truths, dirt=[ray]), candidates(), mask).verdicts[0].place == "masked"
    assert scored(tables(truths), candidates(), mask).verdicts[0].place == "clean"


@pytest.mark.parametrize("plane", ["EDGE", "NO_DATA", "REF_NO_DATA"])
def test_edge_is_where_an_image_has_no_data(plane):
    mask = np.zeros(SHAPE, np.int32)
    mask[:, :50] = bits(plane)
    assert scored(tables(("sn", 50.2, 60.0, 200.0)), candidates(), mask).verdicts[0].place == "edge"


def test_outside_the_image_counts_nowhere():
    assert scored(tables(("sn", -3.0, 60.0, 200.0)), candidates()).verdicts == ()


def test_faint_changes_and_dirt_explain_nothing():
    ray = {"kind": "cosmic_ray", "x": 120.0, "y": 60.0, "extent": 1.0, "flux": 500.0}
    truths = tables(("faint", 50.0, 60.0, 15.0), dirt=[ray])
    result = scored(truths, candidates((50.0, 60.0, 6.0, True, ""), (120.0, 60.0, 30.0, True, "")))
    assert [bool(one["on_dirt"]) for one in result.unexplained] == [False, True]
    assert result.dirt == {"cosmic_ray": {"missed": 1}}


def test_moved_star_explains_its_dipole():
    science, reference = stars(Truth(), pm=0.3).to_table(), stars(Truth()).to_table()
    moved = moved_stars(science, reference, 1.0)
    assert len(moved) == 30
    assert moved[0].shift == pytest.approx(0.3, rel=1e-3)
    star = moved[0]
    table = candidates((star.x + 1, star.y, 6.0, True, ""), (star.x - 1, star.y, 6.0, False, ""))
    assert scored((science, reference), table).unexplained == ()
    assert len(scored((reference, reference), table).unexplained) == 2


def test_what_becomes_of_dirt():
    dirt = [{"kind": "hot_pixel", "x": x, "y": 20.0} for x in (20.0, 60.0, 100.0, 140.0)]
    mask = np.zeros(SHAPE, np.int32)
    mask[20, 20] = bits("BAD")
    found = candidates((60.0, 20.0, 9.0, True, "not_psf"), (140.0, 20.0, 9.0, True, ""))
    outcome = scored(tables(dirt=dirt), found, mask).dirt
    assert outcome == {"hot_pixel": {"masked": 1, "flagged": 1, "harmless": 1, "missed": 1}}


def test_share_of_clean_pixels_flagged_leaves_dirt_and_edges_out():
    mask = np.zeros(SHAPE, np.int32)
    mask[:, :20] = bits("NO_DATA")
    mask[100:110, 100:120] = bits("SPIKE")
    result = scored(tables(), candidates(), mask)
    assert result.clean_pixels == 200 * 180
    assert result.flagged_pixels == 200
    assert result.searched_mpix == pytest.approx((200 * 180 - 200) / 1e6)


def test_pixels_of_a_slanted_defect():
    y, x = Defect("trail", 10.0, 10.0, 40.0, 40.0, 2.0).pixels((50, 50))
    assert np.abs(x - y).max() <= 2 * np.sqrt(2) + 1e-9
    assert {(10, 10), (40, 40), (25, 25)} <= set(zip(x.tolist(), y.tolist(), strict=True))
    assert len(Defect("trail", 100.0, 100.0, 120.0, 100.0, 2.0).pixels((50, 50))[0]) == 0


def test_dirt_without_a_place_is_no_defect():
    truth, _ = tables(dirt=[{"kind": "cloud", "mag": 0.3}, {"kind": "hot_pixel", "x": 3.0, "y": 4.0}])
    assert [d.kind for d in defects_of(truth)] == ["hot_pixel"]


def test_summary_pools_exposures():
    mask = np.zeros(SHAPE, np.int32)
    good = scored(tables(("sn", 50.0, 60.0, 200.0)), candidates((50.0, 60.0, 20.0, True, "")), mask)
    bad = scored(tables(("sn", 50.0, 60.0, 200.0)), candidates((9.0, 9.0, 6.0, False, "")), mask)
    fields = [FieldScore("f", (good, bad), corrupt=2, corrupt_stopped=1)]
    assert summarise(fields) == {
        "transients": 2,
        "transients_found": 1,
        "false_per_mpix": 12.5,
        "dirt": 2,
        "dirt_explained": 1,
    }
    assert report(fields)["lost"] == {"not detected": 1}


def test_nothing_scored_is_no_error():
    assert summarise([])["transients"] == 0
    assert report([])["false_per_mpix"] == {"positive": 0.0, "negative": 0.0}


def test_field_that_never_ran_scores_nothing(tmp_path):
    assert score_field(Store(str(tmp_path)), "nowhere") == FieldScore("nowhere", ())


@pytest.mark.parametrize(
    ("count", "total", "interval"),
    [(8, 10, (0.4902, 0.9433)), (0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (0, 0, (0.0, 1.0))],
)
def test_wilson_intervals(count, total, interval):
    """Published values (Brown, Cai & DasGupta 2001 give the formula; R prop.test without correction)."""
    assert wilson(count, total) == pytest.approx(interval, abs=1e-4)
