"""What became of true sources: matching, places, reasons, and the closure of fluxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from astrid_assets.images.masks import bits
from astrid_assets.science import align, detect, inject, normalize, zogy
from astrid_assets.science.injection import Source, effective_gain, source_stamp
from astrid_assets.science.recovery import (
    Truth,
    count_changes,
    in_clean_run,
    match,
    match_radius,
    on_artifacts,
    place_of,
    recover,
    trail_response,
)
from astrid_assets_tests.science.sky import known_pair, make_sky


def candidates(*rows):
    """Rows of x, y, S/N, artefact; negative S/N: fainter than the reference."""
    x, y, snr, artifact = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    return pa.table(
        {
            "x": pa.array(x, pa.float64()),
            "y": pa.array(y, pa.float64()),
            "snr": pa.array([abs(s) for s in snr], pa.float64()),
            "positive": pa.array([s > 0 for s in snr], pa.bool_()),
            "artifact": pa.array(artifact, pa.string()),
        }
    )


def truth(*sources):
    return Truth.of([Source("", *values) for values in sources])


def test_the_radius_is_three_quarters_of_the_width_and_two_pixels_at_least():
    assert match_radius(2.0) == 2.0
    assert match_radius(4.0) == 3.0


def test_sources_and_detections_are_matched_one_to_one():
    table = candidates((10.5, 10, 9, ""), (30, 30, 9, ""), (11.4, 10, 9, ""))
    assert match(truth((10, 10, 5.0), (11.5, 10, 5.0)), table, 2.0).tolist() == [0, 2]
    # two sources, one detection: the nearer one has it
    assert match(truth((31, 30, 5.0), (30.2, 30, 5.0)), table, 2.0).tolist() == [-1, 1]
    assert match(truth((30, 33, 5.0)), table, 2.0).tolist() == [-1]
    assert match(truth(), table, 2.0).tolist() == []
    assert match(truth((1, 1, 5.0)), candidates(), 2.0).tolist() == [-1]


def test_signs_have_to_agree_and_an_unflagged_detection_goes_before_a_flagged_one():
    table = candidates((10, 10, 9, "dipole"), (11.5, 10, 9, ""), (10, 10, -9, ""))
    assert match(truth((10, 10, 5.0)), table, 2.0).tolist() == [1]
    assert match(truth((10, 10, -5.0)), table, 2.0).tolist() == [2]


def test_a_trail_is_detected_anywhere_along_it():
    table = candidates((16, 10, 9, ""))
    assert match(truth((10, 10, 5.0, 12.0, 0.0)), table, 2.0).tolist() == [0]
    assert match(truth((10, 10, 5.0)), table, 2.0).tolist() == [-1]


def test_what_was_there_before_is_no_recovery_unless_it_was_much_fainter_or_flagged():
    before = candidates((10, 10, 8, ""), (30, 30, 8, "residual"), (50, 50, 8, ""), (70, 70, -8, ""))
    now = candidates(
        (10.5, 10, 12, ""),
        (30, 30, 12, ""),
        (50, 50, 40, ""),
        (70, 70, 9, ""),
        (30, 30.5, 9, "residual"),
        (90, 90, 9, ""),
    )
    assert in_clean_run(now, before, 2.0).tolist() == [True, False, False, False, True, False]
    assert in_clean_run(now, candidates(), 2.0).tolist() == [False] * 6


def test_places():
    mask = np.zeros((50, 50), np.int32)
    mask[20, 20], mask[30, 30] = bits("COSMIC_RAY"), bits("NEAR_BRIGHT_STAR")
    mask[40, 40] = bits("REF_NO_DATA")
    places = [place_of(mask, x, x) for x in (10.0, 21.4, 21.6, 30.0, 40.0, 0.2, -30.0, 49.0)]
    assert places == ["clean", "masked", "clean", "masked", "edge", "edge", "edge", "edge"]
    assert place_of(mask, 20.0, 20.0, caused=np.zeros((50, 50), bool)) == "clean"


def test_detections_on_defects_are_known_by_their_pixels():
    table = candidates((10, 14, 9, ""), (10, 30, 9, "streak"), (40, 40, 9, ""))
    line = {"x": 10.0, "y": 20.0, "x_end": 10.0, "y_end": 60.0, "extent": 1.0}
    spot = {"x": 42.0, "y": 42.0, "x_end": 42.0, "y_end": 42.0, "extent": 4.0}
    assert on_artifacts(table, [line, spot], 2.0).tolist() == [-1, 0, 1]
    assert on_artifacts(table, [], 2.0).tolist() == [-1, -1, -1]


def test_a_trail_is_fainter_behind_the_matched_filter():
    psf = zogy(known_pair(size=128)).psf
    assert trail_response(psf, 0.0, 0.0) == 1.0
    assert trail_response(psf, 0.5, 0.0) > 0.98
    # far longer than the PSF: its share within one
    point = source_stamp(psf, Source("", 64, 64, 1.0))
    expected = (point.sum(axis=1) ** 2).sum() / 40.0 / (point**2).sum()
    assert trail_response(psf, 40.0, 0.0) == pytest.approx(expected, rel=0.05)


def test_changes_are_counted_bit_by_bit():
    difference = zogy(known_pair(size=128, sources=[(60, 60, 900.0, 0.0)]))
    table = candidates((10, 10, 9, ""))
    assert count_changes(difference, table, difference, table) == 0
    data = difference.data.copy()
    data[3, 4] = np.nextafter(data[3, 4], np.float32(np.inf))
    assert count_changes(replace(difference, data=data), table, difference, table) == 1
    assert count_changes(difference, table, difference, candidates((10, 11, 9, ""))) == 1


@pytest.fixture(scope="module")
def closure():
    """Sources injected into a sky and taken through everything: truth, recovered, candidates of both runs."""
    sky = make_sky(size=512, n_stars=120, n_transients=4, seed=6)
    pair = normalize(align(sky.science, sky.reference))
    clean = zogy(pair)
    table = detect(clean, pair=pair)
    rng, sources = np.random.default_rng(1), []
    error = float(np.median(clean.flux_error))
    while len(sources) < 70:
        x, y = rng.uniform(8, 504, 2)
        others = np.r_[np.c_[sky.x, sky.y], np.c_[sky.transient_x, sky.transient_y]]
        others = np.r_[others, [(s.x, s.y) for s in sources]] if sources else others
        if np.hypot(*(others - (x, y)).T).min() > 18:
            # four of five bright enough to be found always
            snr = rng.uniform(10, 60) if len(sources) % 5 else rng.uniform(0.5, 3)
            sources.append(Source(f"s{len(sources):02d}", x, y, snr * error))
    image, _ = inject(sky.science, sources, psf=pair.science.psf, gain=effective_gain(pair), seed="closure")
    again = normalize(align(image, reuse=pair), reuse=pair)
    difference = zogy(again)
    found = detect(difference, pair=again)
    true = Truth.of(sources)
    return true, recover(true, difference, found, clean=clean, clean_table=table), clean, found


def test_strong_clean_sources_are_found_and_faint_ones_are_not(closure):
    true, recovered, clean, found = closure
    strong = true.flux > 10 * np.median(clean.flux_error)
    assert recovered["found"][strong & recovered["clean"]].mean() >= 0.98
    assert (strong & recovered["clean"]).sum() > 45
    assert recovered["found"][~strong].mean() < 0.1
    reasons = set(recovered["drop_reason"][recovered["clean"] & ~recovered["found"] & ~strong])
    assert reasons <= {"below_threshold", "blended"}
    assert (recovered["drop_reason"][recovered["found"]] == "").all()
    matched = recovered["row"][recovered["found"]]
    assert len(set(matched)) == len(matched) < found.num_rows


def test_fluxes_and_positions_come_back(closure):
    true, recovered, _, _ = closure
    good = recovered["clean"]
    pull = ((recovered["flux_forced"] - true.flux) / recovered["flux_forced_error"])[good]
    # 60 sources: the scatter is good to 9 percent
    assert 0.8 < pull.std() < 1.2
    assert abs(pull.mean()) < 0.4
    strong = good & recovered["found"] & (true.flux > 20 * np.median(recovered["flux_forced_error"]))
    relative = recovered["flux_forced"][strong] / true.flux[strong] - 1.0
    assert abs(np.median(relative)) < 0.012
    assert np.sqrt(np.mean(recovered["separation"][strong] ** 2) / 2) < 0.15


def test_the_reasons_say_where_a_source_was_lost(closure):
    true, _, clean, _ = closure
    mask = clean.mask.copy()
    i = int(np.argmax(true.flux))
    row, column = round(true.y[i]), round(true.x[i])
    lost = candidates((true.x[i], true.y[i], 30.0, "not_psf"))
    one = Truth(*(getattr(true, name)[i : i + 1] for name in ("x", "y", "flux", "length")))

    def reason(found, before, planes):
        changed = mask.copy()
        changed[row, column] |= planes
        table = found.append_column("flux", found["snr"]).append_column("flux_error", found["snr"])
        result = recover(one, clean, table, clean=replace(clean, mask=changed), clean_table=before)
        return str(result["drop_reason"][0])

    assert reason(lost, candidates(), 0) == "flagged:not_psf"
    assert reason(lost, candidates(), bits("COSMIC_RAY")) == "masked"
    assert reason(lost, candidates(), bits("EDGE")) == "edge"
    assert reason(lost, lost, 0) == "in_clean_run"
    assert reason(candidates(), candidates(), 0) == "below_threshold"
    assert reason(candidates((true.x[i] + 3, true.y[i], 30.0, "")), candidates(), 0) == "blended"
