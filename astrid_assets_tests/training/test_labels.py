"""The rules of labels, one by one, on rows made by hand."""

import math

import pytest

from astrid_assets.science.detection import ARTIFACT_REASONS
from astrid_assets.training.labels import (
    CONFIDENCES,
    FLAG_CONFIDENCES,
    Label,
    LabelRules,
    alerts_of,
    label_injected,
    label_observed,
    one_domain,
)
from astrid_assets.training.schema import LABEL_SOURCES, LABELS
from astrid_assets.training.vetting import Vetting


def row(number=1, **columns):
    base = {"candidate_id": f"e-{number:04d}", "x": 100.0, "y": 50.0, "ra": 10.0, "dec": 20.0}
    return base | {"snr": 8.0, "positive": True, "artifact": "", "flux": 100.0} | columns


def one(**columns):
    return label_observed([row(**columns)])[0]


VARIABLE = {"variable_id": "v1", "variable_class": "RRAB", "variable_sep": 0.3}
TRANSIENT = {"transient_id": "2025abc", "transient_class": "SN Ib/c", "transient_sep": 0.3}
ASTEROID = {"solar_system_id": "433", "solar_system_class": "NEA", "solar_system_sep": 1.0}


@pytest.mark.parametrize(
    ("match", "source", "kind"),
    [
        (VARIABLE, "variable_match", "rrab"),
        (TRANSIENT, "reported_transient", "sn_ibc"),
        (ASTEROID, "solar_system_match", "asteroid"),
    ],
)
def test_known_changing_objects_are_real(match, source, kind):
    label = one(**match)
    assert (label.label, label.source, label.type) == ("real", source, kind)
    assert label.confidence == CONFIDENCES[source]


@pytest.mark.parametrize("match", [VARIABLE, TRANSIENT, ASTEROID])
@pytest.mark.parametrize("flag", ARTIFACT_REASONS)
def test_a_flag_on_a_known_changing_object_is_ambiguous(match, flag):
    assert one(artifact=flag, **match).label == "unlabelled"


def test_only_variables_fade():
    assert one(positive=False, **VARIABLE).label == "real"
    assert one(positive=False, **TRANSIENT).label == "unlabelled"
    assert one(positive=False, **ASTEROID).label == "unlabelled"
    assert one(snr=2.5, **TRANSIENT).label == "unlabelled"


@pytest.mark.parametrize("flag", ARTIFACT_REASONS)
def test_a_flag_without_a_match_is_bogus(flag):
    label = one(artifact=flag, star_id="s1")
    assert (label.label, label.source, label.type) == ("bogus", "artifact_flag", flag)
    assert 0.5 < label.confidence < 1.0
    assert label.host_id == "s1"


def test_what_nothing_is_known_of_is_unlabelled_never_bogus():
    label = one(galaxy_id="g1", star_id="s1")
    assert (label.label, label.source, label.confidence) == ("unlabelled", "none", None)
    assert label.host_id == "g1"
    # the same place passed all tests in another exposure
    assert one(artifact="not_psf", object_id="J001").label == "unlabelled"


def test_alerts_label_and_contradictions_take_labels_away():
    alert = {"ra": 10.0, "dec": 20.0002, "positive": True, "label": 1, "label_confidence": 0.9}
    real = label_observed([row()], alerts=[alert])[0]
    assert (real.label, real.source, real.confidence) == ("real", "alert_label", 0.9)
    bogus = label_observed([row()], alerts=[alert | {"label": 0}])[0]
    assert (bogus.label, bogus.source) == ("bogus", "alert_label")
    assert label_observed([row(**VARIABLE)], alerts=[alert])[0].source == "variable_match"
    assert label_observed([row(**VARIABLE)], alerts=[alert | {"label": 0}])[0].label == "unlabelled"
    assert label_observed([row(artifact="masked")], alerts=[alert])[0].label == "unlabelled"
    for other in ({"label": -1}, {"dec": 20.001}, {"positive": False}):
        assert label_observed([row()], alerts=[alert | other])[0].label == "unlabelled"


def test_alerts_belong_to_an_exposure_by_time_and_band():
    exposure = {"mjd_start": 100.0, "mjd_mid": 100.0002, "mjd_end": 100.0004, "band": "r"}
    times = (99.999, 99.9995, 100.0002, 100.001, 100.002)
    alerts = [{"mjd": mjd, "band": "r"} for mjd in times] + [{"mjd": 100.0, "band": "g"}]
    assert [a["mjd"] for a in alerts_of(alerts, exposure)] == [99.9995, 100.0002, 100.001]
    bare = {"mjd_mid": 100.0, "band": "r"}
    assert len(alerts_of(alerts, bare)) == 2


def test_people_have_the_last_word():
    verdict = Vetting("f", "e-0001", None, None, "bogus", "ghost", "ada", "2025-09-17")
    label = label_observed([row(**VARIABLE), row(2)], verdicts=[verdict])
    assert (label[0].label, label[0].source, label[0].type) == ("bogus", "vetted", "ghost")
    assert label[1].label == "unlabelled"


SOURCE = {
    "injection_id": "i1",
    "object_id": "field-sn-1",
    "host_id": "g7",
    "kind": "source",
    "class": "sn_ia",
    "site": "host",
    "x": 100.0,
    "y": 50.0,
    "x_end": math.nan,
    "y_end": math.nan,
    "flux": 500.0,
    "magnitude": 19.0,
    "injection_probability": 0.2,
}
DEFECT = SOURCE | {"injection_id": "a1", "object_id": "field-a-1", "host_id": "", "kind": "artifact"}
DEFECT |= {"class": "satellite_trail", "x": 300.0, "y": 50.0, "x_end": 400.0, "y_end": 150.0, "extent": 3.0}


def injected(number=1, *, match=None, clean=False, **columns):
    return row(number, injection_id=match, in_clean_run=clean, **columns)


def label_one(detection, observed=(), labels=None):
    labels = label_observed(observed) if labels is None else labels
    return label_injected([detection], [SOURCE, DEFECT], observed, labels)[0]


def test_what_was_put_there_names_itself():
    source = label_one(injected(match="i1"))
    assert (source.label, source.source, source.type, source.domain) == (
        "real",
        "injected",
        "sn_ia",
        "injected",
    )
    assert (source.object_id, source.host_id, source.site) == ("field-sn-1", "g7", "host")
    assert (source.magnitude_true, source.flux_true, source.injection_probability) == (19.0, 500.0, 0.2)
    assert label_one(injected(match="i1", artifact="not_psf")).label == "real"
    for flag in ("", "streak"):
        defect = label_one(injected(match="a1", artifact=flag))
        assert (defect.label, defect.source) == ("bogus", "synthetic_artifact")
        assert defect.type == "satellite_trail"


def test_what_is_not_sure_to_be_of_the_injection_is_unlabelled():
    assert label_one(injected(match="i1", positive=False)).label == "unlabelled"
    assert label_one(injected(match="i1", clean=True)).label == "unlabelled"
    faint = label_injected([injected(match="i1")], [SOURCE | {"snr_expected": -2.5}], [], [])
    assert faint[0].label == "unlabelled"
    assert label_one(injected(match="a1", clean=True)).label == "unlabelled"
    assert label_one(injected(match="a1", **VARIABLE)).label == "unlabelled"


def test_all_pieces_of_a_trail_are_of_the_trail():
    piece = label_one(injected(x=352.0, y=100.0))
    assert (piece.label, piece.type, piece.object_id) == ("bogus", "satellite_trail", "field-a-1")
    assert label_one(injected(x=360.0, y=100.0)).label == "unlabelled"
    assert label_one(injected(x=405.0, y=155.0)).label == "unlabelled"


def test_new_flagged_detections_are_bogus_away_from_sources():
    assert label_one(injected(x=110.0, artifact="not_psf")).label == "unlabelled"
    far = label_one(injected(x=130.0, artifact="not_psf"))
    assert (far.label, far.source, far.type, far.domain) == ("bogus", "artifact_flag", "not_psf", "injected")
    assert label_one(injected(x=130.0)).label == "unlabelled"
    assert label_one(injected(x=130.0, artifact="masked", **VARIABLE)).label == "unlabelled"


def test_what_was_there_before_keeps_its_label():
    before = [
        row(1, x=700.0),
        row(2, x=600.5, artifact="masked"),
        row(3, x=600.0, artifact="masked", positive=False),
    ]
    twin = label_one(injected(9, x=600.0, clean=True, artifact="masked"), before)
    assert (twin.label, twin.domain, twin.twin, twin.object_id) == ("bogus", "injected", 1, "e-0002")
    assert label_one(injected(9, x=603.0, clean=True, artifact="masked"), before).label == "unlabelled"


def test_common_detections_are_kept_once_and_bogus_in_both_domains():
    before = [
        row(i, x=20.0 * i, artifact="masked" if i % 2 else "", **({} if i % 2 else VARIABLE))
        for i in range(200)
    ]
    labels = label_observed(before)
    after = label_injected([r | {"in_clean_run": True} for r in before], [], before, labels)
    keep, keep_injected = one_domain(before, labels, after)
    assert [a + b for a, b in zip(keep, keep_injected, strict=True)] == [1] * 200
    assert all(keep[::2])
    # as real ones are all observed, the least share is injected
    assert 10 < sum(keep_injected) < 32
    put = [Label("real", "injected", domain="injected")] * 300
    assert 60 < sum(one_domain(before, labels, after + put)[1][:200]) < 90
    assert sum(one_domain(before, labels, after, rules=LabelRules(injected_shares=(0.0, 0.0)))[0]) == 200


def test_every_reason_and_source_is_known():
    assert set(FLAG_CONFIDENCES) == set(ARTIFACT_REASONS)
    assert set(CONFIDENCES) | {"artifact_flag", "alert_label", "none"} == set(LABEL_SOURCES)
    assert LABELS == {"real": 1, "bogus": 0, "unlabelled": -1}
