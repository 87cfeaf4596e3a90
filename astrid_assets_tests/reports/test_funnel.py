"""The funnel counts every exposure once: it goes on, or it is lost with its reason."""

from __future__ import annotations

import pyarrow as pa

from astrid_assets.reports.funnel import Loss, detection_funnel, exposure_funnel, sample_counts
from astrid_assets_tests.reports.hand_made import image_row, observed, results_of, write


def test_every_exposure_is_counted_once(tmp_path):
    observed(
        tmp_path,
        [
            *({"exposure_id": name} for name in "abcdef"),
            {"exposure_id": "late", "deferred": True, "reason": "deferred: 100 a run"},
            {"exposure_id": "cloudy", "status": "rejected", "reason": "seeing: 5.1 arcsec"},
            {"exposure_id": "outside", "status": "rejected", "reason": "window: after it", "role": None},
            {"exposure_id": "ref", "role": "reference"},
            {"exposure_id": "search", "product": "query", "status": "failed"},
        ],
    )
    broken = {"state": "rejected", "reason": "image: a.fits: cut off"}
    write(tmp_path, "science_images", [*map(image_row, "abcde"), image_row("f", **broken)])
    red = {"state": "quarantined", "reason": "red: astrometric_rms = 2"}
    write(tmp_path, "aligned_pairs", [image_row("a"), image_row("b"), image_row("c", **red)])
    write(tmp_path, "normalized_pairs", [image_row("a"), image_row("b")])
    write(tmp_path, "zogy_differences", [image_row("a"), image_row("b")])
    write(tmp_path, "candidates", [image_row("a"), image_row("b", state="empty")])

    stages = exposure_funnel(results_of(tmp_path))

    assert [(s.label, s.number) for s in stages] == [
        ("offered", 9),
        ("selected", 6),
        ("downloaded", 5),
        ("aligned", 2),
        ("normalized", 2),
        ("differenced", 2),
        ("searched", 2),
    ]
    lost = [0, *(sum(loss.number for loss in s.losses) for s in stages[1:])]
    assert [s.number for s in stages] == [9 - sum(lost[: i + 1]) for i in range(7)]
    assert stages[0].note == "1 more exposures or stacks serve as references"
    assert Loss(1, "deferred: deferred: 100 a run") in stages[1].losses
    assert stages[2].losses == (Loss(1, "rejected: image: a.fits: cut off"),)
    assert set(stages[3].losses) == {
        Loss(1, "quarantined: red: astrometric_rms = 2"),
        Loss(2, "waiting: no result yet"),
    }


def test_losses_of_one_kind_stand_together(tmp_path):
    observed(tmp_path, [{"exposure_id": name} for name in "ab"])
    rows = [image_row(n, state="rejected", reason=f"bad_answer: {n}.fits: truncated") for n in "ab"]
    write(tmp_path, "science_images", rows)
    (loss,) = exposure_funnel(results_of(tmp_path))[2].losses
    assert loss == Loss(2, "rejected: bad_answer (such as a.fits: truncated)")


def test_a_field_without_anything_has_an_empty_funnel(tmp_path):
    stages = exposure_funnel(results_of(tmp_path))
    assert {s.number for s in stages} == {0}
    assert {s.share for s in stages} == {0.0}
    assert detection_funnel(results_of(tmp_path)) == []
    assert sample_counts(None) == {}


def test_detections_lose_their_flagged_ones(tmp_path):
    table = pa.table({"artifact": ["", "", "dipole", "masked", "masked"]})
    write(tmp_path, "candidates", [image_row("a")], output=table)
    metrics = {"n_stamps": 5.0, "n_stamps_unflagged": 2.0}
    write(tmp_path, "cutouts", [image_row("a", metrics=metrics)])
    found, kept, cut = detection_funnel(results_of(tmp_path))
    assert (found.number, kept.number, cut.number) == (5, 2, 2)
    assert kept.losses == (Loss(2, "flagged: masked"), Loss(1, "flagged: dipole"))
    assert cut.note.startswith("3 flagged detections")


def test_samples_are_counted_by_label_and_domain():
    table = pa.table({"label": [1, 1, 0, -1], "domain": ["injected", "observed", "observed", "observed"]})
    counts = sample_counts(table)
    assert (counts["real"], counts["bogus"], counts["unlabelled"]) == (2, 1, 1)
    assert (counts["injected"], counts["observed"]) == (1, 3)
