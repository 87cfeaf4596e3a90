"""Pairing before download: every exposure gets its role, its reference, or the reason why not."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from astrid_assets.archives.availability import missions
from astrid_assets.archives.pairing import (
    COLOUR_TERM_UNKNOWN,
    REFERENCE_EXPOSURES_MAX,
    Verdict,
    pair_exposures,
    pairing_key,
)
from astrid_assets.archives.protocol import Exposure
from astrid_assets.fields import CrossSurvey, Event, Field, Limits, LocalOptions, Window

SQUARE = ((9.9, -0.1), (10.1, -0.1), (10.1, 0.1), (9.9, 0.1))


def moved(degrees: float) -> tuple:
    return tuple((ra + degrees, dec) for ra, dec in SQUARE)


def field(**changes: object) -> Field:
    options = {
        "name": "f",
        "ra": 10.0,
        "dec": 0.0,
        "radius": 0.2,
        "archives": ("local",),
        "local": LocalOptions(folder="images"),
        "science_window": Window(start="2024-01-01"),
        "reference_window": Window(end="2023-06-01"),
    }
    return Field(**(options | changes))


def exposure(name: str, mjd: float, **changes: object) -> Exposure:
    options = {
        "exposure_id": name,
        "archive": "local",
        "survey": "ztf",
        "detector_type": "ztf",
        "band": "r",
        "calibration": "1",
        "product": "exposure",
        "mjd_start": mjd - 0.001,
        "mjd_mid": mjd,
        "mjd_end": mjd + 0.001,
        "footprint": SQUARE,
        "url": name,
        "revision": "1",
        "bytes": 10_000_000,
    }
    return Exposure(**(options | changes))


SCIENCE = exposure("s1", 60400.0)
REFERENCE = exposure("ref", 59800.0, product="stack", mjd_start=59700.0, mjd_end=59900.0, n_exposures=10)


def paired(*exposures: Exposure, sky_field: Field | None = None, **options: object) -> dict[str, Verdict]:
    verdicts = pair_exposures(exposures, sky_field or field(), **options)
    return {v.exposure.exposure_id: v for v in verdicts}


def test_a_science_exposure_gets_the_stack_of_its_kind():
    verdicts = paired(SCIENCE, REFERENCE)
    assert verdicts["s1"].status == verdicts["ref"].status == "selected"
    assert (verdicts["s1"].role, verdicts["ref"].role) == ("science", "reference")
    assert verdicts["s1"].reference_id == verdicts["ref"].reference_id == "ref"
    assert verdicts["s1"].overlap == pytest.approx(1.0)
    assert verdicts["s1"].reason is None


@pytest.mark.parametrize("name", ["survey", "detector_type", "band", "calibration"])
def test_a_reference_of_another_kind_is_none(name: str):
    other = dataclasses.replace(REFERENCE, **{name: "other"})
    verdicts = paired(SCIENCE, other)
    hint = "; cross_survey would allow one of other" if name == "survey" else ""
    assert verdicts["s1"].reason == f"no reference of its kind: {pairing_key(SCIENCE)}{hint}"
    assert verdicts["ref"].reason == "no science exposure needs it as a reference"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"problem": "no gain: header lacks GAIN"}, "no gain: header lacks GAIN"),
        ({"band": "g"}, "band not asked for: g"),
        ({"footprint": moved(1.0)}, "outside the field"),
        ({"footprint": ()}, "no world coordinates: its place on the sky is unknown"),
        ({"bytes": 600_000_000}, "file too large: 600 MB > 500 MB"),
        ({"seeing": 4.5}, "seeing too bad: 4.50 > 4 arcsec"),
        ({"limiting_magnitude": 18.5}, "not deep enough: 18.50 < 19 AB mag"),
        ({"archive": "simulated"}, "archive not asked for: simulated"),
        ({"mjd_start": math.nan}, "time of observation unknown"),
        ({"mjd_mid": 60200.0, "mjd_start": 60200, "mjd_end": 60200}, None),
        ({"exposure_id": "../s1"}, "identifier cannot be a file name: '../s1'"),
    ],
)
def test_every_rejection_says_why(change: dict, reason: str | None):
    sky_field = field(bands=("r",), limits=Limits(seeing_max_arcsec=4.0, limiting_magnitude_min=19.0))
    bad = dataclasses.replace(SCIENCE, **change)
    verdict = paired(bad, REFERENCE, sky_field=sky_field)[bad.exposure_id]
    expected = "outside both windows" if reason is None else reason
    assert (verdict.status, verdict.reason) == ("rejected", expected)


def test_an_image_without_coordinates_is_taken_where_the_field_says_that_grids_are_equal():
    local = LocalOptions(folder="images", assume={"aligned": True})
    nowhere = [dataclasses.replace(e, footprint=()) for e in (SCIENCE, REFERENCE)]
    verdicts = paired(*nowhere, sky_field=field(local=local))
    assert verdicts["s1"].status == "selected"
    assert verdicts["s1"].overlap is None


def test_overlap_is_measured_and_enforced():
    half = dataclasses.replace(REFERENCE, footprint=moved(0.1))
    verdict = paired(SCIENCE, half)["s1"]
    assert verdict.reason == "overlap with the reference too small: 0.50 < 0.8"
    assert verdict.overlap == pytest.approx(0.5, abs=1e-3)
    lenient = field(limits=Limits(overlap_min=0.4))
    assert paired(SCIENCE, half, sky_field=lenient)["s1"].status == "selected"


def test_a_pair_that_shows_different_sky_is_rejected_with_that_reason():
    """The images of SDSS J1152 and its DES counterpart do not overlap at all."""
    apart = dataclasses.replace(REFERENCE, footprint=moved(0.3))
    for reference in (apart, dataclasses.replace(apart, survey="sdss", detector_type="sdss")):
        verdict = paired(SCIENCE, reference)["s1"]
        assert verdict.reason == "no overlap with the reference: they show different sky"


def test_the_guard_gap_counts_from_the_end_of_a_stack():
    near = dataclasses.replace(REFERENCE, mjd_end=60075.0)
    verdict = paired(exposure("s1", 60311.0), near, sky_field=field(guard_days=240.0))["s1"]
    assert verdict.reason == "every reference within the guard gap: 240 days"
    assert paired(exposure("s1", 60316.0), near, sky_field=field(guard_days=240.0))["s1"].status == "selected"


def test_a_reference_lies_wholly_in_its_window():
    long = dataclasses.replace(REFERENCE, mjd_end=60120.0)
    assert paired(SCIENCE, long)["ref"].reason == "reference not wholly in its window: MJD 59700.0 to 60120.0"


def test_a_stack_that_may_contain_the_event_is_no_reference():
    """Pan-STARRS1 stacks (2010 to 2014) contain SN 2011fe (24 August 2011, MJD 55797)."""
    event = Event(name="SN 2011fe", ra=210.7738, dec=54.2737, date="2011-08-24")
    sky_field = field(
        event=event, science_window=Window(start="2011-08-24", end="2012-08-24"), reference_window=Window()
    )
    science = exposure("s1", 55820.0)
    stack = dataclasses.replace(REFERENCE, mjd_start=55300.0, mjd_mid=56000.0, mjd_end=56900.0)
    verdicts = paired(science, stack, sky_field=sky_field)
    assert (
        verdicts["ref"].reason == "reference may contain SN 2011fe: MJD 55300.0 to 56900.0, event at 55797.0"
    )
    assert verdicts["s1"].status == "rejected"
    before = dataclasses.replace(REFERENCE, mjd_start=55300.0, mjd_end=55766.9)
    too_near = dataclasses.replace(before, mjd_end=55767.1)
    after = dataclasses.replace(REFERENCE, mjd_start=55797.0 + 366, mjd_end=56900.0)
    for reference, status in ((before, "selected"), (too_near, "rejected"), (after, "selected")):
        assert paired(science, reference, sky_field=sky_field)["s1"].status == status


def test_a_stack_of_all_of_pan_starrs_contains_sn_2011fe():
    """The epochs of its stacks run from June 2009 to February 2015, over the event."""
    span = missions()["PS1"].observed
    stack = dataclasses.replace(
        REFERENCE, survey="ps1", archive="ps1", mjd_start=span.start_mjd, mjd_end=span.end_mjd
    )
    event = Event(name="SN 2011fe", ra=210.7738, dec=54.2737, date="2011-08-24")
    for window in (Window(), Window(start="2009-01-01", end="2016-01-01")):
        sky_field = field(
            archives=("local", "ps1"),
            event=event,
            science_window=Window(start="2011-08-24", end="2012-08-24"),
            reference_window=window,
            cross_survey=CrossSurvey(references=("ps1",)),
        )
        verdicts = paired(exposure("s1", 55820.0), stack, sky_field=sky_field)
        assert verdicts["ref"].reason.startswith("reference may contain SN 2011fe: MJD 54984.0 to 57079.0")
        assert verdicts["s1"].status == "rejected"


CROSS = CrossSurvey(references=("ps1",))
PS1 = dataclasses.replace(REFERENCE, exposure_id="stack", survey="ps1", detector_type="gpc1", calibration="3")


def test_a_reference_of_another_survey_needs_the_option_and_is_flagged():
    plain = paired(SCIENCE, PS1)["s1"]
    assert (
        plain.reason
        == f"no reference of its kind: {pairing_key(SCIENCE)}; cross_survey would allow one of ps1"
    )
    verdicts = paired(SCIENCE, PS1, sky_field=field(cross_survey=CROSS))
    assert (verdicts["s1"].status, verdicts["s1"].reference_id) == ("selected", "stack")
    assert verdicts["s1"].flags == COLOUR_TERM_UNKNOWN
    assert (verdicts["stack"].status, verdicts["stack"].flags) == ("selected", None)


def test_only_the_surveys_and_bands_that_are_asked_for_cross():
    for other in (dataclasses.replace(PS1, survey="sdss"), dataclasses.replace(PS1, band="i")):
        assert paired(SCIENCE, other, sky_field=field(cross_survey=CROSS))["s1"].status == "rejected"
    # nor another detector of the same survey
    chip = dataclasses.replace(REFERENCE, detector_type="other")
    same = field(cross_survey=CrossSurvey(references=("ztf",)))
    assert paired(SCIENCE, chip, sky_field=same)["s1"].status == "rejected"


def test_a_reference_of_its_own_survey_comes_first_if_it_will_do():
    crossing = field(cross_survey=CROSS)
    own = paired(SCIENCE, REFERENCE, PS1, sky_field=crossing)["s1"]
    assert (own.reference_id, own.flags) == ("ref", None)
    small = dataclasses.replace(REFERENCE, footprint=moved(0.1))
    other = paired(SCIENCE, small, PS1, sky_field=crossing)["s1"]
    assert (other.reference_id, other.flags, other.overlap) == (
        "stack",
        COLOUR_TERM_UNKNOWN,
        pytest.approx(1.0),
    )


def test_a_reference_of_another_survey_keeps_the_guard_gap_too():
    near = dataclasses.replace(PS1, mjd_end=60075.0)
    sky_field = field(guard_days=240.0, cross_survey=CROSS)
    verdict = paired(exposure("s1", 60311.0), near, sky_field=sky_field)["s1"]
    assert verdict.reason == "every reference within the guard gap: 240 days"


def test_a_survey_that_had_ended_says_so():
    """GALEX lost its FUV detector in 2009 and was switched off in 2013."""
    uv = {"survey": "galex", "detector_type": "galex", "band": "FUV", "calibration": "6"}
    sky_field = field(
        science_window=Window(start="2004-01-01", end="2008-01-01"),
        reference_window=Window(start="2010-01-01"),
    )
    fuv = paired(exposure("s1", 54000.0, **uv), sky_field=sky_field)["s1"]
    assert fuv.reason == (
        "no reference of its kind: galex/galex/FUV/6; GALEX FUV observed 2003-05-28 to 2009-05-31: "
        "nothing in the reference window (from 2010-01-01)"
    )
    nuv = paired(exposure("s1", 54000.0, **(uv | {"band": "NUV"})), sky_field=sky_field)["s1"]
    assert nuv.reason == "no reference of its kind: galex/galex/NUV/6"


def test_a_stack_of_unknown_epochs_is_rejected():
    unknown = dataclasses.replace(REFERENCE, mjd_start=math.nan)
    assert paired(SCIENCE, unknown)["ref"].reason == "stack of unknown epochs"


def test_a_single_exposure_serves_where_there_is_no_stack():
    single = exposure("early", 59800.0)
    verdicts = paired(SCIENCE, single)
    assert verdicts["s1"].reference_id == "early"
    assert verdicts["early"].role == "reference"


def test_several_exposures_of_the_same_sky_become_one_reference():
    early = [exposure(f"early{i}", 59800.0 + i, seeing=2.0 - 0.1 * i) for i in range(3)]
    other = exposure("elsewhere", 59801.5, footprint=moved(0.15))
    verdicts = paired(SCIENCE, *early, other)
    name = verdicts["s1"].reference_id
    assert name.startswith("coadd-r-")
    assert [verdicts[e.exposure_id].reference_id for e in early] == [name] * 3
    assert verdicts["elsewhere"].reason == "no science exposure needs it as a reference"
    assert paired(SCIENCE, *early[:2], other)["s1"].reference_id != name


def test_no_more_exposures_are_coadded_than_help():
    early = [
        exposure(f"early{i:02d}", 59800.0 + i, seeing=1.0 + i) for i in range(REFERENCE_EXPOSURES_MAX + 1)
    ]
    verdicts = paired(SCIENCE, *early)
    assert [v.exposure.exposure_id for v in verdicts.values() if v.status == "rejected"] == ["early20"]
    assert verdicts["early20"].reason == "enough better exposures for a reference: 20"


def test_stacks_come_before_coadds_and_the_deeper_stack_first():
    deep = dataclasses.replace(REFERENCE, exposure_id="deep", n_exposures=40)
    verdicts = paired(SCIENCE, REFERENCE, deep, exposure("early", 59800.0))
    assert verdicts["s1"].reference_id == "deep"
    assert verdicts["ref"].status == verdicts["early"].status == "rejected"


def test_each_piece_of_sky_has_its_own_reference():
    other = dataclasses.replace(REFERENCE, exposure_id="ref2", footprint=moved(0.2))
    right = dataclasses.replace(SCIENCE, exposure_id="s2", footprint=moved(0.19))
    verdicts = paired(SCIENCE, right, REFERENCE, other)
    assert verdicts["s1"].reference_id == "ref"
    assert verdicts["s2"].reference_id == "ref2"


def test_new_exposures_beyond_the_limit_wait_and_those_taken_on_do_not_count():
    science = [exposure(f"s{i}", 60400.0 + i) for i in range(4)]
    sky_field = field(limits=Limits(new_exposures_per_run=2))
    first = paired(*science, REFERENCE, sky_field=sky_field)
    assert [first[f"s{i}"].deferred for i in range(4)] == [False, False, True, True]
    assert first["s3"].status == "selected"
    assert first["s3"].reason == "deferred: more than 2 new exposures in one run"
    second = paired(*science, REFERENCE, sky_field=sky_field, taken={"s0", "s1"})
    assert not any(second[f"s{i}"].deferred for i in range(4))


def test_an_exposure_offered_twice_is_used_once():
    double = dataclasses.replace(SCIENCE, url="elsewhere")
    verdicts = pair_exposures([SCIENCE, double, REFERENCE], field())
    mine = [v for v in verdicts if v.exposure.exposure_id == "s1"]
    assert sorted(v.status for v in mine) == ["rejected", "selected"]
    assert [v.reason for v in mine if v.status == "rejected"] == ["offered twice: by local too"]


def test_the_answer_does_not_depend_on_the_order_of_the_offer():
    offered = [exposure(f"s{i}", 60400.0 + i % 3, seeing=1 + i % 2) for i in range(6)]
    offered += [exposure(f"e{i}", 59800.0 + i % 2) for i in range(4)]
    expected = pair_exposures(offered, field())
    shuffled = list(offered)
    random.Random(0).shuffle(shuffled)
    assert pair_exposures(shuffled, field()) == expected
    assert len(expected) == len(offered)
