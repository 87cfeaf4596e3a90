"""Times, zero points and gains against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from astropy import units as u
from astropy.io.fits import Header
from astropy.time import Time

from astrid_assets.images.headers import (
    Times,
    calibration_version,
    detector_type,
    facts,
    first,
    header_times,
    header_value,
    is_stack,
    parse_time,
)
from astrid_assets.images.units import parse_unit
from astrid_assets.surveys import load_profile

GENERIC = load_profile("generic")


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        (59000.25, "", (59000.25, False)),
        (2459000.75, "", (59000.25, False)),
        ("59000.25", "", (59000.25, False)),
        ("2020-05-31T06:00:00", "", (59000.25, False)),
        ("2020-05-31 06:00:00.0", "", (59000.25, False)),
        ("2020-05-31T06:00", "", (59000.25, False)),
        ("2020-05-31T06:00:00Z", "", (59000.25, False)),
        ("2020-05-31", "", (59000.0, True)),
        ("2020/05/31", "", (59000.0, True)),
        ("19/05/94", "", (49491.0, True)),  # FITS before 1999: always the 20th century
        ("000127", "", (51570.0, True)),
        ("991231", "", (51543.0, True)),
        (4568176021.48, "s", (52872.40765601852, False)),
        (1138871224.995, "unix", (53768.3799188, False)),
        (1500.5, "btjd", (58500.0, False)),
        (42, "", None),
        ("yesterday", "", None),
        ("2020-13-31", "", None),
    ],
)
def test_dates_of_all_ages(value: object, form: str, expected: tuple[float, bool] | None) -> None:
    told = parse_time(value, form)
    if expected is None:
        assert told is None
    else:
        assert told == (pytest.approx(expected[0], abs=1e-6), expected[1])


def test_1903_is_what_the_standard_says() -> None:
    assert parse_time("01/02/03")[0] == Time("1903-02-01", scale="tai").mjd


@pytest.mark.parametrize(("scale", "seconds"), [("UTC", 0), ("TAI", 37), ("TT", 69.184), ("TDB", 69.184)])
def test_time_scales_become_utc(scale: str, seconds: float) -> None:
    """In 2020 TAI was 37 s ahead of UTC, TT and (to 2 ms) TDB 69.184 s."""
    times, _ = header_times({"MJD-OBS": 59000.25, "TIMESYS": scale}, GENERIC, exptime=20.0)
    assert (59000.25 - times.start) * 86400 == pytest.approx(seconds, abs=0.01)
    assert (times.end - times.start) * 86400 == pytest.approx(20.0, abs=1e-3)
    assert (times.mid - times.start) * 86400 == pytest.approx(10.0, abs=1e-3)


def test_the_odd_time_is_dropped() -> None:
    """Three witnesses, one of them wrong by months: the two that agree are believed."""
    header = {"MJD-BEG": 59100.0, "MJD-AVG": 59100.1, "MJD-END": 59100.2}
    header |= {"MJD-OBS": 59000.25, "DATE-OBS": "2020-05-31T06:00:03"}
    times, remarks = header_times(header, GENERIC, exptime=60.0)
    assert times.start == 59000.25
    assert remarks == ["time by MJD-BEG/MJD-AVG/MJD-END contradicts the others and was dropped"]


def test_two_that_disagree_keep_the_first() -> None:
    times, remarks = header_times(
        {"MJD-OBS": 59000.25, "DATE-OBS": "2021-05-31T06:00:03"}, GENERIC, exptime=60
    )
    assert times.start == 59000.25
    assert len(remarks) == 1


def test_a_date_gives_way_to_a_time_of_day() -> None:
    header = {"DATE-OBS": "2013-06-27", "UT": "23:13:12"}
    times, remarks = header_times(header, GENERIC, exptime=None)
    assert times.mid == pytest.approx(56470.9675, abs=1e-5)
    assert remarks == []
    times, remarks = header_times({"DATE-OBS": "2013-06-27"}, GENERIC, exptime=30.0)
    assert times == Times(56470.0, 56470.5, 56471.0)
    assert remarks == ["the time is known to the day only"]


def test_no_time_is_no_time() -> None:
    assert header_times({"DATE": "2020-01-01T00:00:00"}, GENERIC, exptime=3.0) == (Times(), [])


def test_sdss_counts_tai_seconds() -> None:
    header = {"TAI": 4568176021.48, "DATE-OBS": "2003-08-21", "TAIHMS": "09:47:01.48", "TIMESYS": "TAI"}
    times, remarks = header_times(header, load_profile("sdss"), exptime=53.907456)
    utc = Time("2003-08-21T09:47:01.48", scale="tai").utc.mjd
    assert times.start == pytest.approx(utc, abs=1e-6)
    assert remarks == []


def test_a_stack_lists_the_nights_of_its_inputs() -> None:
    header = Header({"PSCAMERA": "GPC1", "MJD-OBS": 56102.19, "STK_TYPE": "DEEP_STACK", "NINPUTS": 2})
    header.update({"INP_0000": "o5479g0280o.237619.wrp", "INP_0001": "o6632g0103o.683614.wrp"})
    profile = load_profile("ps1")
    told = facts(header, profile)
    assert (told.values["mjd_start"], told.values["mjd_end"]) == (55479.0, 56633.0)
    times = Times(*(told.values[k] for k in ("mjd_start", "mjd_mid", "mjd_end")))
    assert is_stack(header, profile, "x.fits", times)


def test_what_is_combined_within_a_night_is_an_exposure() -> None:
    profile = load_profile("jwst-nircam")
    assert not is_stack({}, profile, "jw_i2d_stamp.fits", Times(59759.36, 59759.4, 59759.44))
    assert is_stack({}, profile, "jw_i2d_stamp.fits", Times(59759.36, 59761.4, 59763.44))
    assert is_stack({}, profile, "jw_i2d.fits", Times())


# --- values -------------------------------------------------------------------------------------


def test_values_that_are_none() -> None:
    header = {"A": "NaN", "B": math.nan, "C": "  ", "D": "N/A", "E": True, "F": "53.9 ", "G": 7, "H": 9}
    assert [header_value(header, k) for k in "ABCD"] == [None] * 4
    assert first(header, ["A", "B", "E", "F"], number=True) == 53.9
    assert first(header, [["A", "G", "H"]], number=True) == 8
    assert first(header, [["A", "Z"]]) is None


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("ADU", u.adu),
        ("DN", u.adu),
        ("counts", u.adu),
        ("ELECTRONS/S", u.electron / u.s),
        ("electron", u.electron),
        ("MJy/sr", u.MJy / u.sr),
        ("nJy", u.nJy),
        ("Jy", u.Jy),
        ("unitless nonsense", None),
        ("", None),
        (None, None),
    ],
)
def test_units(text: str | None, unit: u.UnitBase | None) -> None:
    assert parse_unit(text) == unit


def test_nanomaggies_are_22_5() -> None:
    told = facts({"ORIGIN": "SDSS", "BUNIT": "nanomaggy", "FILTER": "r"}, load_profile("sdss"))
    assert told.values["zeropoint"].magnitude == 22.5
    # u and z of SDSS are not quite AB
    told = facts({"BUNIT": "nanomaggy", "FILTER": "u"}, load_profile("sdss"))
    assert told.values["zeropoint"].magnitude == pytest.approx(22.46)


@pytest.mark.parametrize(
    ("profile", "header", "expected"),
    [
        # 1 MJy/sr in 2.23e-14 sr is 22.3 nJy
        ("jwst-nircam", {"FILTER": "F200W", "PIXAR_SR": 2.23e-14}, 31.4 - 2.5 * math.log10(22.3)),
        ("generic", {"BUNIT": "nJy"}, 31.4),
        ("generic", {"BUNIT": "uJy"}, 23.9),
        ("decam", {"FILTER": "r DECam SDSS c0002", "MAGZERO": 30.2, "EXPTIME": 100.0}, 30.2),
        ("decam", {"FILTER": "r DECam", "MAGZPT": 25.0, "EXPTIME": 100.0}, 30.0),
        ("ps1", {"FPA.FILTERID": "g.00000", "FPA.ZP": 25.0, "EXPTIME": 100.0}, 30.0),
        ("2mass", {"FILTER": "j", "MAGZP": 20.8}, 21.71),
        ("wise", {"BAND": 1, "MAGZP": 20.5}, 23.199),
        ("galex", {"BAND": 1, "EXPTIME": 181.0}, 20.08),
        ("swift-uvot", {"FILTER": "UVW1", "EXPTIME": 100.0}, 17.44 + 1.51 + 5.0),
        ("tess", {"TELESCOP": "TESS"}, 20.44 + 0.35),
        # ACS WFC F814W in electrons per second: 25.94 AB (ACS zero points)
        (
            "hst",
            {"FILTER": "F814W", "BUNIT": "ELECTRONS/S", "PHOTFLAM": 7.0332e-20, "PHOTPLAM": 8045.0},
            25.946,
        ),
        (
            "hst",
            {
                "FILTER": "F814W",
                "BUNIT": "ELECTRONS",
                "EXPTIME": 100.0,
                "PHOTFLAM": 7.0332e-20,
                "PHOTPLAM": 8045.0,
            },
            30.946,
        ),
    ],
)
def test_zero_points_in_ab(profile: str, header: dict, expected: float) -> None:
    told = facts(header, load_profile(profile))
    assert told.values["zeropoint"].magnitude == pytest.approx(expected, abs=2e-3)


def test_no_zero_point_is_none() -> None:
    assert facts({"EXPTIME": 10.0}, GENERIC).values["zeropoint"] is None
    # a rate needs its exposure time
    assert facts({"FPA.ZP": 25.0}, load_profile("ps1")).values["zeropoint"] is None


def test_a_zero_point_of_unknown_system_is_remarked() -> None:
    assert "the zero point of the header is taken as AB" in facts({"MAGZP": 25.0}, GENERIC).warnings


def test_gains() -> None:
    amplifiers = {"GAINA": 3.6, "GAINB": 3.8, "ARAWGAIN": 4.4}
    assert facts(amplifiers, load_profile("decam")).values["gain"] == pytest.approx(3.7)
    # counts per second are photons by the exposure time
    assert facts({"EXPTIME": 181.0}, load_profile("galex")).values["gain"] == 181.0
    assert facts({"BUNIT": "electron"}, GENERIC).values["gain"] == 1.0
    assert facts({"BUNIT": "adu"}, GENERIC).values["gain"] is None


def test_an_unknown_filter_of_a_known_survey_is_no_band() -> None:
    told = facts({"FILTER": "Halpha"}, load_profile("ztf"))
    assert told.values["band"] is None
    assert told.warnings == ["the profile ztf does not know the filter FILTER = Halpha"]
    assert facts({"FILTER": "Halpha"}, GENERIC).values["band"] == "Halpha"


def test_versions_that_calibrate_alike_are_one() -> None:
    decam = load_profile("decam")
    assert calibration_version({"PLVER": "V4.8.2"}, decam) == calibration_version({"PLVER": "V4.8.2a"}, decam)
    assert calibration_version({}, decam) == ""


def test_detector_types() -> None:
    jwst = load_profile("jwst-nircam")
    assert detector_type({"CHANNEL": "SHORT"}, jwst) == "nircam short"
    assert detector_type({}, load_profile("ztf")) == "ztf-ccd"
