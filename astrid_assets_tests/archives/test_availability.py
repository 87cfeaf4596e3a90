"""When missions observed, and what a field cannot get from them."""

from __future__ import annotations

import pytest

from astrid_assets.archives.availability import mission_of, missions, searched, why_nothing
from astrid_assets.archives.protocol import ARCHIVE_NAMES
from astrid_assets.fields import CrossSurvey, Event, Field, MastOptions, Ps1Options, Window
from astrid_assets.surveys import profile_names

EVENT = Event(name="SN 2011fe", ra=210.7738, dec=54.2737, date="2011-08-24")


def field(**options: object) -> Field:
    given = {"name": "f", "ra": 210.77, "dec": 54.27, "radius": 0.1, "archives": ("mast",)} | options
    return Field(**given)


def test_every_mission_has_its_days_and_an_archive_or_the_reason_why_none():
    for mission in missions().values():
        assert mission.observed.start_mjd > 47000
        assert (mission.archive in ARCHIVE_NAMES) != (mission.none is not None)
        assert mission.survey is None or mission.survey in profile_names()
    assert set(MastOptions().missions) <= set(missions())
    assert mission_of("ztf") is missions()["ZTF"]
    assert mission_of("generic") is None


@pytest.mark.parametrize(
    ("mission", "science", "reference", "side"),
    [
        ("GALEX", Window(start="2014-01-01"), Window(), "science"),
        ("GALEX", Window(start="2010-01-01"), Window(end="2003-01-01"), "reference"),
        ("GALEX", Window(start="2010-01-01"), Window(end="2009-01-01"), None),
        ("JWST", Window(end="2020-01-01"), Window(), "science"),
        ("ZTF", Window(start="2018-06-01"), Window(end="2018-03-10"), "reference"),
        ("ZTF", Window(), Window(), None),
        ("TESS", Window(start="2300-01-01"), Window(), None),
    ],
)
def test_a_window_without_a_day_of_the_mission(mission, science, reference, side):
    why = why_nothing(missions()[mission], field(science_window=science, reference_window=reference))
    if side is None:
        assert why is None
    else:
        assert why.startswith(f"{mission} observed {missions()[mission].observed.start} to ")
        assert f"nothing in the {side} window" in why


def test_references_keep_clear_of_the_event():
    """A mission that began after the event has only years after it."""
    swift, jwst = missions()["SWIFT"], missions()["JWST"]
    after = field(event=EVENT, science_window=Window(start="2011-08-24"))
    assert why_nothing(swift, after) is None
    assert why_nothing(jwst, after) is None
    before = field(event=EVENT, reference_window=Window(end="2011-07-20"))
    assert why_nothing(jwst, before).endswith(
        "nothing in the reference window (to 2011-07-20, clear of SN 2011fe on 2011-08-24)"
    )
    young = Event(name="SN 2005cs", ra=202.4, dec=47.2, date="2005-01-20")
    assert "nothing in the reference window" in why_nothing(
        swift, field(event=young, reference_window=Window(end="2005-06-01"))
    )


def test_a_filter_that_ended_before_its_mission():
    galex = missions()["GALEX"]
    late = field(science_window=Window(start="2010-01-01"))
    assert why_nothing(galex, late, band="NUV") is None
    assert why_nothing(galex, late, band="FUV").startswith("GALEX FUV observed 2003-05-28 to 2009-05-31")


def test_across_surveys_one_side_is_enough():
    ps1 = missions()["PS1"]
    windows = {"science_window": Window(start="2019-01-01"), "reference_window": Window(end="2018-01-01")}
    alone = field(archives=("irsa_ztf", "ps1"), ps1=Ps1Options(product="warp"), **windows)
    assert "nothing in the science window" in why_nothing(ps1, alone)
    crossing = alone.model_copy(update={"cross_survey": CrossSurvey(references=("ps1",))})
    assert why_nothing(ps1, crossing) is None
    assert why_nothing(missions()["ZTF"], crossing) is None


def test_what_a_field_is_searched_in():
    many = field(archives=("mast", "ps1", "irsa_ztf", "skyview"), mast=MastOptions(missions=("HST", "TESS")))
    assert [(archive, m.name) for archive, m in searched(many)] == [
        ("mast", "HST"),
        ("mast", "TESS"),
        ("ps1", "PS1"),
        ("irsa_ztf", "ZTF"),
    ]
    assert searched(field(archives=("simulated",))) == []
