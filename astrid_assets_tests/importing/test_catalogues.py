"""Catalogues of supernovae: what their rows say, in the formats that people have, and what is rejected."""

from __future__ import annotations

import csv
import io
import random
from datetime import date, timedelta

import pytest

from astrid_assets.errors import ConfigurationError
from astrid_assets.importing import read_catalogue, reject_report

PIPES = """\
   sn_name    |  gal_name  | sn_mag | max_date   | disc_date  | sn_type |    sn_ra    |  sn_dec   | sn_comment
--------------+------------+--------+------------+------------+---------+-------------+-----------+-----------
2014dm | NGC1516A |  |  | 2014-09-27 | Ia | 04 08 07.13 | - 8 49 37.0 |
2006kd | APMUKS(BJ) B010515.91+003343.0 | 17.2P | 2006-10-10 | 2006-10-13 | Ia: | 01 07 50.00 | + 0 49 41.5 |
2006mz |  |  | 2006-10-28O |  | Ia | 21 10 34.81 | - 0 07 23.5 | a "quoted' word
1982aa | NGC6052 |  |  |  |  | 16 05 12.72 | +20 32 38.5 |
SNLS-04D4dw |  |  |  |  | Ia | 22 16 44.67 | -17 50 02.4 |
(5 rows)
"""


def one(**cells: str):
    """Return the catalogue of one row, with a name, a position and a date unless they are given."""
    row = {"name": "2020abc", "ra": "10.0", "dec": "20.0", "discoverydate": "2020-03-04"} | cells
    page = io.StringIO()
    table = csv.DictWriter(page, list(row))
    table.writeheader()
    table.writerow(row)
    return read_catalogue(page.getvalue())


def test_the_table_of_the_earlier_project():
    """Pipes, a rule, blanks in declinations, missing dates, letters behind numbers, a footer."""
    found = read_catalogue(PIPES)
    assert found.rejects == ()
    rows = {s.name: s for s in found.supernovae}
    assert list(rows) == ["SN 2014dm", "SN 2006kd", "SN 2006mz", "SN 1982aa", "SNLS-04D4dw"]
    assert (rows["SN 2014dm"].ra, rows["SN 2014dm"].dec) == pytest.approx((62.029708, -8.826944), abs=1e-6)
    assert rows["SN 2006mz"].dec == pytest.approx(-0.123194, abs=1e-6)
    assert [(s.date, s.uncertain_days, s.note) for s in found.supernovae] == [
        ("2014-09-27", 0, None),
        ("2006-10-10", 0, "date of maximum"),
        ("2006-10-28", 0, "date of maximum"),
        ("1982-01-01", 365, "year of the name"),
        ("2004-01-01", 365, "year of the name"),
    ]
    assert [s.line for s in found.supernovae] == [3, 4, 5, 6, 7]
    assert rows["SN 2006kd"].kind == "Ia:"


TABLES = {
    "tns": """\
objid,name_prefix,name,ra,declination,type,discoverydate
1,SN,2018abc,150.5,-8.5,SN Ia,2018-05-06 07:08:09
""",
    "tns with the day above": """\
"2026-01-01 00:00:00"
"objid","name_prefix","name","ra","declination","discoverydate"
"1","SN","2018abc","150.5","-8.5","2018-05-06 07:08:09"
""",
    "bts": """\
ZTFID,IAUID,RA,Dec,peakt,peakmag,type
ZTF18xyz,SN2018abc,10:02:00.00,-08:30:00.0,244.5,18.1,SN Ia
""",
    "semicolons": "\ufeffname;ra;dec;date\nSN 2018abc;10h02m00s;-8d30m00s;6 May 2018\n",
    "tabs": "# name\tra\tdec\tdate\nSN 2018abc\t150.5\t-8.5\t58244.3\n",
    "blanks": "# name ra dec date\n2018abc 150.5 -8.5 20180506\n",
    "wide": """\
name        ra            dec           date
SN 2018abc  10 02 00.00   - 8 30 00.0   2018/05/06
""",
    "gaps": """\
name        type   ra            dec           date
SN 2018abc         10 02 00.00   -08 30 00.0   2018 May 06.5
""",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_tables_with_other_marks_between_columns(text):
    """The same supernova in all of them."""
    found = read_catalogue(text)
    assert found.rejects == ()
    (supernova,) = found.supernovae
    assert supernova.name.replace(" ", "") == "SN2018abc"
    assert (supernova.ra, supernova.dec) == pytest.approx((150.5, -8.5), abs=1e-5)
    assert supernova.date == "2018-05-06"


@pytest.mark.parametrize(
    ("text", "day", "uncertain"),
    [
        ("2011-08-24", "2011-08-24", 0),
        ("2011-08-24T03:00:00", "2011-08-24", 0),
        ("2011 Aug 24.2", "2011-08-24", 0),
        ("24 August 2011", "2011-08-24", 0),
        ("20110824O", "2011-08-24", 0),
        ("2011/08/24 P", "2011-08-24", 0),
        ("2455797.5", "2011-08-24", 0),
        ("55797", "2011-08-24", 0),
        ("2011-08", "2011-08-01", 30),
        ("2011-08-00", "2011-08-01", 30),
        ("2011 Sep", "2011-09-01", 30),
        ("2011", "2011-01-01", 365),
        ("1006-04-30", "1006-04-30", 0),
    ],
)
def test_dates(text, day, uncertain):
    """As catalogues write them, to the month or the year where that is all."""
    (supernova,) = one(discoverydate=text).supernovae
    assert (supernova.date, supernova.uncertain_days) == (day, uncertain)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"ra": ""}, "no position"),
        ({"dec": "--"}, "no position"),
        ({"ra": "12 74 10"}, "position has more than 60 minutes or seconds: 12 74 10"),
        ({"ra": "twelve"}, "position cannot be read: twelve"),
        ({"dec": "95.0"}, "position is not on the sky: 10.0 95.0"),
        ({"ra": "25:00:00"}, "position is not on the sky: 25:00:00 20.0"),
        ({"discoverydate": "2011-13-24"}, "date cannot be read: 2011-13-24"),
        ({"discoverydate": "soon"}, "date cannot be read: soon"),
        ({"name": "Anon", "discoverydate": ""}, "no date, neither in the row nor in the name"),
    ],
)
def test_rows_that_cannot_be_read_are_listed_with_the_reason(cells, reason):
    """Never dropped silently, never guessed."""
    found = one(**cells)
    assert found.supernovae == ()
    assert [(r.line, r.reason) for r in found.rejects] == [(2, reason)]
    report = list(csv.DictReader(io.StringIO(reject_report(found.rejects))))
    assert [(r["line"], r["reason"]) for r in report] == [("2", reason)]


def test_positions_to_the_minute_and_seconds_of_60():
    """Old catalogues give minutes alone; rounding makes seconds of 60."""
    (old,) = one(ra="04 08.1", dec="-08 49").supernovae
    assert (old.ra, old.dec) == pytest.approx((62.025, -8.816667), abs=1e-6)
    (rounded,) = one(ra="04 07 60.0", dec="+20 59 60.0").supernovae
    assert (rounded.ra, rounded.dec) == pytest.approx((62.0, 21.0))


def test_a_row_without_a_name_is_named_after_its_position():
    """Cut off as names of objects are, with the sign also near the equator."""
    (supernova,) = one(name="", ra="04 08 07.19", dec="- 0 49 37.9").supernovae
    assert supernova.name == "J040807.1-004937"


def test_a_supernova_given_twice_is_one():
    """The same name at the same place; at another place it is another."""
    table = "name,ra,dec,date\n2020a,10,20,2020-01-02\n2020a,10.0001,20,2020-01-02\n2020a,50,20,2020-01-02\n"
    found = read_catalogue(table)
    assert [s.line for s in found.supernovae] == [2, 4]
    assert [(r.line, r.reason) for r in found.rejects] == [(3, "given twice: SN 2020a is in line 2 too")]


def test_a_file_that_is_no_catalogue():
    """The error says which columns are needed."""
    with pytest.raises(ConfigurationError, match=r"list.txt: no line names the columns .* ra: sn_ra, ra,"):
        read_catalogue("2014dm 04:08:07 -08:49:37\n", path="list.txt")


# --- a whole catalogue in the format of the earlier project, with its kinds of dirt -----------------

N_ROWS = 6500


def sexagesimal(value: float, *, padded: bool, decimals: int) -> str:
    """Return three numbers; unpadded degrees are written ``- 8``, as in the catalogue."""
    units = round(abs(value) * 3600 * 10**decimals)
    seconds = units % (60 * 10**decimals) / 10**decimals
    minutes, whole = units // (60 * 10**decimals) % 60, units // (3600 * 10**decimals)
    sign = "" if padded else "-" if value < 0 else "+"
    first = f"{whole:02d}" if padded else f"{whole:2d}"
    return f"{sign}{first} {minutes:02d} {seconds:0{3 + decimals}.{decimals}f}"


def letters(number: int) -> str:
    """Return the letters of the n-th supernova of a year: A to Z, then aa, ab, ..."""
    if number < 26:
        return chr(65 + number)
    number -= 26
    return chr(97 + number // 26) + chr(97 + number % 26)


def made(seed: int) -> tuple[str, dict[str, tuple[float, float, int]]]:
    """Return a catalogue, and by name the position and year that each readable row stands for."""
    draw = random.Random(seed)
    columns = [
        "sn_name",
        "gal_name",
        "sn_mag",
        "max_date",
        "disc_date",
        "sn_type",
        "sn_ra",
        "sn_dec",
        "sn_comment",
    ]
    lines = [" | ".join(f"{c:^14}" for c in columns), "+".join("-" * 16 for _ in columns)]
    truth = {}
    for number in range(N_ROWS):
        year = 2014 - number // 600
        name = f"{year}{letters(number % 600)}"
        ra, dec = draw.uniform(0, 24), draw.choice([draw.uniform(-90, 90), draw.uniform(-9, 9)])
        day = date(year, 1, 1) + timedelta(days=draw.randrange(340))
        discovered = draw.choices([f"{day}", f"{day}O", f"{day:%Y-%m}", ""], [94, 3, 1, 2])[0]
        peak = f"{day + timedelta(days=draw.randrange(1, 20))}P" if draw.random() < 0.4 else ""
        position = [sexagesimal(ra, padded=True, decimals=2), sexagesimal(dec, padded=False, decimals=1)]
        if number % 250 == 7:  # 0.4 % of the rows lack their position
            position[draw.randrange(2)] = ""
        else:
            truth[f"SN {name}"] = (15 * ra, dec, year)
        magnitude = draw.choice(["", "17.2", "16.9P", "18.0O"])
        cells = [
            name,
            draw.choice(["", "NGC 1"]),
            magnitude,
            peak,
            discovered,
            draw.choice(["Ia", "II:", ""]),
        ]
        lines.append(" | ".join([*cells, *position, draw.choice(["", 'he said "no', "a, b; c"])]))
    return "\n".join(lines) + "\n", truth


def test_at_least_99_of_100_rows_are_kept_and_right():
    """Each within the rounding of its digits; the rest is listed."""
    text, truth = made(1)
    found = read_catalogue(text)
    assert found.n_rows == N_ROWS
    assert len(found.supernovae) >= 0.99 * N_ROWS
    assert {s.name for s in found.supernovae} == set(truth)
    for supernova in found.supernovae:
        ra, dec, year = truth[supernova.name]
        assert abs((supernova.ra - ra + 180) % 360 - 180) < 0.01 * 15 / 3600
        assert supernova.dec == pytest.approx(dec, abs=0.1 / 3600)
        assert int(supernova.date[:4]) == year
    assert {r.reason for r in found.rejects} == {"no position"}
    assert {r.text for r in found.rejects} <= set(text.splitlines())
