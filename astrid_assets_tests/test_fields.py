"""The field registry: strict, with the line of every error."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import (
    add_field,
    check_field,
    enabled_fields,
    galactic_latitude,
    get_field,
    known_position,
    load_fields,
    parse_coordinate,
    parse_fields,
    separation,
)

SHIPPED = Path(__file__).parent.parent / "dagster_home" / "fields.yaml"

MINIMAL = """\
# a comment
first:
  ra: 150.5
  dec: 20.0
  radius: 0.1
  archives: [simulated]
"""


def with_lines(*lines: str, archives: str = "simulated") -> str:
    """Return the registry of one field with more options, from line 6 on."""
    head = ["one:", "  ra: 150.5", "  dec: 20.0", "  radius: 0.1", f"  archives: [{archives}]"]
    return "\n".join([*head, *(f"  {line}" for line in lines)])


def one(*lines: str, archives: str = "simulated"):
    """Return the field of `with_lines`."""
    return parse_fields(with_lines(*lines, archives=archives))["one"]


@pytest.mark.parametrize(
    ("text", "hours", "degrees"),
    [
        (12.5, False, 12.5),
        ("12.5", True, 12.5),
        ("14:03:05.8", True, 210.774167),
        ("14h03m05.8s", True, 210.774167),
        ("14 03 05.8", True, 210.774167),
        ("210d46m27s", True, 210.774167),
        ("- 8 49 37.0", False, -8.826944),
        ("-0:00:36", False, -0.01),
        ("+54 16 25.3", False, 54.273694),
    ],
)
def test_parse_coordinate(text, hours, degrees):
    """Degrees and all the sexagesimal forms of catalogues."""
    assert parse_coordinate(text, hours=hours) == pytest.approx(degrees, abs=1e-6)


@pytest.mark.parametrize("text", ["", "abc", "12:61:00", "12 30", "12:30:75", "1 2 3 4"])
def test_parse_coordinate_refuses(text):
    """What is no coordinate is refused, never guessed."""
    with pytest.raises(ValueError, match="neither degrees nor sexagesimal"):
        parse_coordinate(text)


def test_defaults():
    """A minimal field has the documented defaults."""
    field = parse_fields(MINIMAL)["first"]
    assert field.enabled
    assert field.bands == ()
    assert field.limits.overlap_min == 0.8
    assert field.limits.new_exposures_per_run == 100
    assert field.simulated.seed == 1
    assert field.local is None
    assert field.science_window.contains(0.0)
    assert pickle.loads(pickle.dumps(field)) == field  # noqa: S301 -- fields travel to worker processes


def test_sexagesimal_in_yaml():
    """YAML 1.1 would read 14:03:05.8 as a number of base 60."""
    text = MINIMAL.replace("150.5", "14:03:05.8").replace("20.0", "-8:49:37")
    field = parse_fields(text)["first"]
    assert field.ra == pytest.approx(210.774167, abs=1e-6)
    assert field.dec == pytest.approx(-8.826944, abs=1e-6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("radus: 0.2", "fields.yaml:6: field 'one': unknown option 'radus'; did you mean 'radius'?"),
        ("radius: 0.2", "fields.yaml:6: 'radius' is given twice, first in line 4"),
        ("local: {folder: images}", "fields.yaml:6: field 'one': local: has no effect: .* archive 'local'"),
        ("limits: {overlap: 0.5}", "fields.yaml:6: .* unknown option 'limits.overlap'.* 'overlap_min'"),
        ("limits: {overlap_min: 1.5}", "fields.yaml:6: .* limits.overlap_min: .* less than or equal to 1"),
        ("priority: high", "fields.yaml:6: .* priority: .* valid integer"),
        ("enabled: yes", "fields.yaml:6: .* enabled: .* valid boolean"),
        ("science_window: {start: 24/08/2011}", "fields.yaml:6: .* science_window.start: .* neither an ISO"),
        ("science_window: {start: 2012-01-01, end: 2011-01-01}", "fields.yaml:6: .* before it starts"),
        ("event: {name: SN, ra: 1, dec: 2}", "fields.yaml:6: .* option 'event.date' is missing"),
        ("bands: [g, g]", "fields.yaml:6: .* bands: a name is given twice"),
        ("name: other", "fields.yaml:6: .* 'name' is no option"),
        ("simulated: {shape: [10, 10]}", "fields.yaml:6: .* simulated.shape: .* 128 to 8192"),
        ("bands: [g", "fields.yaml:[67]: not valid YAML"),
    ],
)
def test_error_names_the_line(line, message):
    """Every wrong option is an error with file, line and option."""
    with pytest.raises(ConfigurationError, match=message):
        one(line)


@pytest.mark.parametrize(
    ("archives", "message"),
    [
        ("nasa", "5: .* 'nasa' is no archive; there are simulated, local, mast"),
        ("simulated, mast", "5: .* simulated or real, never both"),
        ("local", "5: .* archive 'local' needs an option block 'local' with a folder"),
        ("", "5: .* archives: .* at least 1 item"),
    ],
)
def test_archives_are_a_closed_vocabulary(archives, message):
    """Unknown archives are errors; simulated data never joins real data."""
    with pytest.raises(ConfigurationError, match=message):
        one(archives=archives)


def test_error_in_a_nested_block_names_its_own_line():
    """The line is that of the option, not that of the field."""
    with pytest.raises(ConfigurationError, match=r"fields.yaml:8: .* unknown option 'limits.size'"):
        one("limits:", "  overlap_min: 0.5", "  size: 3")


def test_several_errors_are_one_line():
    """The first error is told, the others are counted."""
    with pytest.raises(ConfigurationError) as caught:
        one("wrong: 1", "also_wrong: 2")
    assert "\n" not in str(caught.value)
    assert ":6: field 'one': unknown option 'wrong' (and 1 more)" in str(caught.value)


def test_a_misspelt_option_is_told_before_the_one_that_is_missing_because_of_it():
    """The missing one has no line of its own, and would come first."""
    text = MINIMAL.replace("radius:", "radus:")
    with pytest.raises(ConfigurationError, match=r"unknown option 'radus'; did you mean 'radius'\? \(and 1"):
        parse_fields(text)


@pytest.mark.parametrize("name", ["Upper", "a b", "a/b", "-x", "x" * 64])
def test_names_are_partition_keys_and_folders(name):
    """A name has to do for both."""
    with pytest.raises(ConfigurationError, match="a field name has 1 to 63"):
        parse_fields(MINIMAL.replace("first", f'"{name}"'))


def test_window_includes_its_last_day():
    """A date without a time is a whole day; a time is a moment."""
    window = one("science_window: {start: 2011-08-24, end: 2011-08-25}").science_window
    assert [window.contains(mjd) for mjd in (55796.9, 55797.0, 55798.9, 55799.1)] == [
        False,
        True,
        True,
        False,
    ]
    moment = one("science_window: {end: 2011-08-25T00:00:00}").science_window
    assert moment.end_mjd == 55798.0


def test_guard_gap_of_field_or_event():
    """The guard gap of the field has no effect where there is an event."""
    event = "event: {name: SN 2011fe, ra: 150.5, dec: 20.0, date: 2011-08-24, guard_days: 10}"
    assert one(event).event.mjd == 55797.0
    with pytest.raises(ConfigurationError, match=r":7: .* guard_days: has no effect beside an event"):
        one(event, "guard_days: 10")


def test_load_get_and_enabled(tmp_path, monkeypatch):
    """The registry is found by ASTRID_FIELDS; enabled fields come by priority."""
    file = tmp_path / "registry.yaml"
    file.write_text(MINIMAL + MINIMAL.replace("first", "second") + "  priority: 5\n" + "off" + MINIMAL[17:])
    file.write_text(file.read_text() + "  enabled: false\n")
    monkeypatch.setenv("ASTRID_FIELDS", str(file))
    assert list(load_fields()) == ["first", "second", "off"]
    assert [field.name for field in enabled_fields()] == ["second", "first"]
    with pytest.raises(ConfigurationError, match="no field 'secnd'; did you mean 'second'"):
        get_field("secnd")


def test_missing_registry(tmp_path):
    """A registry that is not there is one clear line."""
    with pytest.raises(ConfigurationError, match="cannot read the field registry"):
        load_fields(tmp_path / "none.yaml")


def test_add_keeps_what_is_there(tmp_path):
    """The text before the new field, comments and all, stays as it was."""
    file = tmp_path / "fields.yaml"
    file.write_text(MINIMAL)
    options = {"ra": "14:03:05.8", "dec": -8.5, "radius": 0.2, "archives": ["mast"], "bands": ["g"]}
    field = add_field("second", options, file)
    assert file.read_text().startswith(MINIMAL)
    assert load_fields(file)["second"] == field
    assert field.ra == pytest.approx(210.774167, abs=1e-6)


def test_add_leaves_the_file_alone_after_an_error(tmp_path):
    """Neither a name that is taken nor a wrong option changes the file."""
    file = tmp_path / "fields.yaml"
    file.write_text(MINIMAL)
    for name, options in (("first", {}), ("second", {"ra": 1})):
        with pytest.raises(ConfigurationError):
            add_field(name, options, file)
    assert file.read_text() == MINIMAL


def test_galactic_latitude_agrees_with_astropy():
    """Poles, plane and a known field."""
    from astropy.coordinates import SkyCoord

    for ra, dec in ((210.77, 54.27), (266.4, -29.0), (192.86, 27.13), (10.0, -80.0)):
        assert galactic_latitude(ra, dec) == pytest.approx(
            SkyCoord(ra, dec, unit="deg").galactic.b.deg, abs=1e-3
        )


def test_separation_agrees_with_astropy():
    """Also across the meridian and at the pole."""
    from astropy.coordinates import SkyCoord

    for a, b in (((0.1, 5.0), (359.9, 5.1)), ((10.0, 89.9), (190.0, 89.9)), ((1.0, 1.0), (1.0, 1.0))):
        expected = SkyCoord(*a, unit="deg").separation(SkyCoord(*b, unit="deg")).deg
        assert separation(*a, *b) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (MINIMAL.replace("150.5", "266.4").replace("20.0", "-29.0"), r"latitude [+-]0\.\d deg"),
        (MINIMAL.replace("first", "m101"), "m101 is at 210.8023"),
        (
            with_lines(
                "mast: {missions: [GALEX, HST]}", "science_window: {start: 2014-06-01}", archives="mast"
            ),
            r"GALEX observed 2003-05-28 to 2013-06-28: nothing in the science window \(from 2014-06-01\)",
        ),
        (
            with_lines("reference_window: {end: 2017-12-31}", archives="irsa_ztf"),
            r"ZTF observed 2018-03-17 to today: nothing in the reference window \(to 2017-12-31\)",
        ),
        (with_lines("local: {folder: nowhere}", archives="local"), "'nowhere' is no folder"),
        (with_lines("science_window: {start: 2020-01-01}", "reference_window: {end: 2020-06-01}"), "overlap"),
        (
            with_lines("science_window: {start: 2020-01-01}", "reference_window: {end: 2019-12-20}"),
            "guard gap",
        ),
        (with_lines("event: {name: SN, ra: 10, dec: 2, date: 2020-01-01}"), "outside the field's radius"),
        (
            with_lines(
                "event: {name: SN, ra: 150.5, dec: 20, date: 2020-01-01}",
                "reference_window: {end: 2019-12-15}",
            ),
            "30 days before to 365 days after",
        ),
        (
            with_lines(
                "event: {name: SN, ra: 150.5, dec: 20, date: 2020-01-01}",
                "science_window: {end: 2019-12-15}",
            ),
            "ends before event SN",
        ),
    ],
)
def test_check_warns(text, doubt):
    """What is valid but doubtful is said."""
    (field,) = parse_fields(text).values()
    assert any(re.search(doubt, found) for found in check_field(field))


def test_check_finds_fields_given_twice():
    """The same field under two names is work done twice."""
    fields = parse_fields(MINIMAL + MINIMAL.replace("first", "second"))
    assert check_field(fields["first"], fields.values()) == ["the same as field 'second'"]


def test_shipped_registry():
    """The demo runs; the fields of the plan are there, right and disabled."""
    fields = load_fields(SHIPPED)
    demo = [field for field in enabled_fields(SHIPPED) if field.archives == ("simulated",)]
    assert len(demo) >= 3
    assert [check_field(field, fields.values()) for field in demo] == [[]] * len(demo)
    assert all(separation(a.ra, a.dec, b.ra, b.dec) > 20 for a in demo for b in demo if a is not b)
    real = [field for field in fields.values() if field.archives != ("simulated",)]
    assert not any(field.enabled for field in real)
    assert {field.event.name for field in real if field.event} == {"SN 2011fe", "SN 2023ixf"}
    assert [check_field(field, fields.values()) for field in real] == [[]] * len(real)


def test_the_origin_s_wrong_coordinates_are_caught():
    """SN 2011fe was once typed as 165.360 +17.419."""
    text = MINIMAL.replace("first", "sn2011fe").replace("150.5", "165.360").replace("20.0", "17.419")
    assert any(
        "sn2011fe is at 210.7738 +54.2737" in doubt for doubt in check_field(parse_fields(text)["sn2011fe"])
    )


# --- fields that are not in the registry ------------------------------------------------------------

DEFAULT = """\
default:
  radius: 0.2
  archives: [irsa_ztf]
  bands: [r]
  irsa_ztf: {seeing_max: 3.0}
  science_window: {start: 2024-01-01}
"""


@pytest.mark.parametrize(
    ("name", "ra", "dec"),
    [
        ("j140302.1+542057", 210.75875, 54.349167),
        ("j1403-0849", 210.75, -8.816667),
        ("J140302.1+542057", 210.75875, 54.349167),
        ("j000000.00-000036.0", 0.0, -0.01),
        ("SN 2011fe", 210.7738, 54.2737),
    ],
)
def test_a_name_tells_its_position(name, ra, dec):
    """Coordinates as in names of objects, and the names that people use."""
    assert known_position(name) == pytest.approx((ra, dec), abs=1e-6)


@pytest.mark.parametrize(
    "name", ["j250000+100000", "j126100+100000", "j120000+910000", "j12+10", "hubble", ""]
)
def test_a_name_that_tells_no_position(name):
    """What is not on the sky is not guessed."""
    assert known_position(name) is None


def test_a_key_typed_in_the_ui_takes_the_default_options(tmp_path):
    """It is no field of the registry, and has all that ``default`` gives."""
    file = tmp_path / "fields.yaml"
    file.write_text(MINIMAL + DEFAULT)
    field = get_field("j140302.1+542057", file)
    assert (field.ra, field.dec) == pytest.approx((210.75875, 54.349167), abs=1e-6)
    assert (field.name, field.radius, field.bands) == ("j140302.1+542057", 0.2, ("r",))
    assert field.irsa_ztf.seeing_max == 3.0
    same = parse_fields(DEFAULT.replace("default:", "j140302.1+542057:\n  ra: 1.0\n  dec: 1.0"))
    place = {"ra", "dec"}
    assert field.model_dump(exclude=place) == same[field.name].model_dump(exclude=place)
    assert list(load_fields(file)) == ["first"]
    assert [f.name for f in enabled_fields(file)] == ["first"]


def test_a_key_without_default_options_says_what_to_do(tmp_path):
    """And a key that tells no position, or would be no folder, is an error in any case."""
    file = tmp_path / "fields.yaml"
    file.write_text(MINIMAL)
    with pytest.raises(
        ConfigurationError, match=r"no field 'j1403\+5420'; its name tells a position: give .* 'default'"
    ):
        get_field("j1403+5420", file)
    file.write_text(MINIMAL + DEFAULT)
    for name in ("default", "hubble"):
        with pytest.raises(ConfigurationError, match=f"there is no field '{name}'; add it to"):
            get_field(name, file)
    with pytest.raises(ConfigurationError, match=r"field 'J1403.5420': name: a field name has 1 to 63"):
        get_field("J1403+5420", file)


@pytest.mark.parametrize(
    "line", ["ra: 10.0", "event: {name: SN, ra: 1, dec: 2, date: 2020-01-01}", "radus: 1"]
)
def test_the_default_options_are_checked_like_a_field(line):
    """With the line; a position has no place there."""
    with pytest.raises(ConfigurationError, match=r"fields.yaml:7: .*(position|radus)"):
        parse_fields(f"{DEFAULT}  {line}\n")


def test_a_survey_that_references_may_come_from_is_known():
    """A misspelt profile would allow nothing, silently."""
    with pytest.raises(ConfigurationError, match=r":6: .* 'panstarrs' is no survey profile; there are .*ps1"):
        one("cross_survey: {references: [panstarrs]}")


def test_no_mission_is_doubted_as_long_as_one_of_the_default_ones_observed():
    """Archive mast takes all missions unless the field names some."""
    window = "science_window: {start: 2014-06-01, end: 2016-01-01}"
    assert check_field(one(window, archives="mast")) == []
    early = "science_window: {end: 1985-01-01}"
    assert len(check_field(one(early, archives="mast"))) == 6
