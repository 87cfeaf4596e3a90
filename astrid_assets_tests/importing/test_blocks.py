"""Supernovae and a configuration become fields that the registry accepts."""

from __future__ import annotations

import pytest
import yaml

from astrid_assets.fields import FIELD_NAME, Field, add_fields, check_field, load_fields, parse_fields
from astrid_assets.importing import (
    import_catalogue,
    load_preset,
    preset_names,
    read_catalogue,
    read_configuration,
)

CATALOGUE = """\
sn_name|sn_ra|sn_dec|disc_date
2014J|09 55 42.14|+69 40 26.0|2014-01-21
2011fe|14 03 05.81|+54 16 25.4|2011-08-24
2007ax|08 22 43.23|+22 33 16.9|2007-03-21
1999em|04 41 27.04|- 2 51 45.2|1999-10-29
2019np|10 29 21.96|+29 30 38.3|2019-01-09
1982aa|16 05 12.72|+20 32 38.5|
"""


def imported(configuration: str = "", **options: object):
    return import_catalogue(read_catalogue(CATALOGUE), read_configuration(configuration), **options)


def field(name: str, configuration: str = "") -> Field:
    block = imported(configuration).blocks[name]
    return parse_fields(yaml.safe_dump({name: block}))[name]


def test_one_field_for_each_supernova_around_its_event():
    made = field(
        "sn2011fe", "query: {missions: [SWIFT], days_before: 1000, days_after: 100, radius_deg: 0.2}"
    )
    assert (made.ra, made.dec) == pytest.approx((210.774208, 54.273722), abs=1e-6)
    assert made.radius == 0.2
    assert (made.event.name, made.event.date) == ("SN 2011fe", "2011-08-24")
    assert made.science_window.start == "2011-08-24"
    assert made.science_window.end == "2011-12-02"
    assert made.reference_window.start == "2008-11-27"
    # the last moment of a reference lies guard_days before the event
    assert made.reference_window.end_mjd == made.event.mjd - made.event.guard_days
    assert check_field(made) == []


def test_years_and_missions_decide_what_is_taken():
    """The defaults of the earlier project: from 2005, Swift, Pan-STARRS1, GALEX."""
    found = imported()
    assert list(found.blocks) == ["sn2014j", "sn2011fe", "sn2007ax", "sn2019np"]
    assert found.other_years == 2
    assert found.blocks["sn2007ax"]["archives"] == ("mast",)  # before Pan-STARRS1
    assert found.blocks["sn2007ax"]["mast"] == {"missions": ("SWIFT", "GALEX")}
    assert found.blocks["sn2014j"]["mast"] == {"missions": ("SWIFT",)}  # after GALEX
    assert found.blocks["sn2014j"]["ps1"] == {"product": "warp"}
    assert "ps1" not in found.blocks["sn2019np"]


def test_a_supernova_that_no_mission_saw_before_and_after_says_so():
    found = imported("query: {missions: [GALEX], min_year: 1990}")
    assert list(found.blocks) == ["sn2011fe", "sn2007ax"]
    assert [(s.name, why[:46]) for s, why in found.unseen] == [
        ("SN 2014J", "GALEX observed 2003-05-28 to 2013-06-28: nothi"),
        ("SN 1999em", "GALEX observed 2003-05-28 to 2013-06-28: nothi"),
        ("SN 2019np", "GALEX observed 2003-05-28 to 2013-06-28: nothi"),
    ]


def test_limit_and_start_count_the_supernovae_of_the_years():
    found = imported("query: {start_index: 1, limit: 2}")
    assert list(found.blocks) == ["sn2011fe", "sn2007ax"]
    assert found.beyond == 2
    assert list(imported("query: {limit: 2}", limit=1).blocks) == ["sn2014j"]


def test_a_field_that_there_is_stays():
    found = imported(known={"sn2011fe"})
    assert "sn2011fe" not in found.blocks
    assert found.known == 1


def test_a_year_alone_keeps_references_clear_of_all_of_it():
    """SNLS-04D4dw was found some time in 2004."""
    table = read_catalogue("sn_name|sn_ra|sn_dec|disc_date\nSNLS-04D4dw|22 16 44.67|-17 50 02.4|\n")
    found = import_catalogue(table, read_configuration("query: {missions: [HST], min_year: 2000}"))
    block = found.blocks["snls-04d4dw"]
    assert block["event"]["date"] == "2004-01-01"
    assert block["reference_window"]["end"] == "2003-12-01"
    # 730 days, and the year that it may have been later
    assert block["science_window"]["end"] == "2006-12-31"


def test_names_are_safe_and_unique():
    table = "name,ra,dec,date\n" + "".join(
        f"{name},{i},0,2010-01-01\n"
        for i, name in enumerate(
            ["2010A", "SN 2010a", "AT 2010zz", "Gaia10 abc/2", "***", "x" * 90, "x" * 91]
        )
    )
    found = import_catalogue(read_catalogue(table), read_configuration(""))
    assert list(found.blocks)[:5] == ["sn2010a", "sn2010a-2", "at2010zz", "gaia10-abc-2", "sn"]
    assert len(found.blocks) == 7
    assert all(FIELD_NAME.match(name) for name in found.blocks)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_makes_fields_without_doubts(name, tmp_path):
    """Written and read again; `astrid fields check` has nothing to say."""
    file = tmp_path / "fields.yaml"
    found = import_catalogue(read_catalogue(CATALOGUE), load_preset(name))
    assert found.blocks
    add_fields(found.blocks, file, comment="two\nlines")
    fields = load_fields(file)
    assert list(fields) == list(found.blocks)
    assert [check_field(f, fields.values()) for f in fields.values()] == [[]] * len(fields)
    assert file.read_text().startswith("# two\n# lines\n")


def test_fields_may_be_left_out_of_nightly_runs():
    assert not any(block["enabled"] for block in imported(enabled=False).blocks.values())
