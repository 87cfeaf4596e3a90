"""The vetting file: what it says, and that no mistake in it passes."""

import pytest

from astrid_assets.errors import ConfigurationError
from astrid_assets.training.vetting import read_vetting, vetting_of

HEADER = "field,candidate_id,ra,dec,label,type,who,date"
LINE = "f,e-0001,,,real,sn_ia,ada,2025-09-17"


def test_a_file_is_read():
    text = ["# seen in September", HEADER, LINE, "", "f,,10.5,-3.25,bogus,,ada,2025-09-18"]
    one, other = read_vetting(text)
    assert (one.field, one.candidate_id, one.label, one.type) == ("f", "e-0001", "real", "sn_ia")
    assert one.ra is None
    assert (other.ra, other.dec, other.label) == (10.5, -3.25, "bogus")
    assert read_vetting([]) == []
    short = read_vetting(["field,candidate_id,label,type,who,date", "f,e-1,real,,ada,2025-09-17"])
    assert short[0].candidate_id == "e-1"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER.replace("who", "whom"), LINE], "first line: unknown columns: whom"),
        ([HEADER.replace(",date", ""), LINE], "first line: no column date"),
        ([HEADER, LINE.replace("real", "Real")], "line 2: label 'Real' is none of real, bogus, unlabelled"),
        ([HEADER, LINE.replace("e-0001,,", "e-0001,400,")], "line 2: ra '400' is no angle from 0 to 360"),
        ([HEADER, LINE.replace("e-0001", "")], "line 2: give candidate_id, or ra and dec"),
        ([HEADER, LINE.replace("ada", "")], "line 2: who is empty"),
        (
            [HEADER, LINE.replace("2025-09-17", "yesterday")],
            "line 2: date 'yesterday' is not like 2025-09-17",
        ),
        ([HEADER, LINE + ",more"], "line 2: not as many values"),
        ([HEADER, "f,e-0001"], "line 2: not as many values"),
        ([HEADER, LINE, "# again", LINE.replace("real", "bogus")], "line 4: contradicts line 2"),
    ],
)
def test_mistakes_are_named_with_their_line(lines, message):
    with pytest.raises(ConfigurationError, match=r"^vetting\.csv, ") as error:
        read_vetting(lines)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_verdict_is_of_a_detection_or_of_a_place():
    verdicts = read_vetting(
        [
            HEADER,
            LINE,
            "f,,10.0,60.0,bogus,ghost,ada,2025-09-18",
            "f,e-0002,20.0,0.0,real,,ada,2025-09-18",
        ]
    )
    assert vetting_of("e-0001", None, None, verdicts).type == "sn_ia"
    assert vetting_of("x", 10.0 + 1.0 / 3600 / 0.5, 60.0, verdicts).type == "ghost"
    assert vetting_of("x", 10.0 + 1.0 / 3600 / 0.5, 60.0, verdicts, radius=0.9) is None
    assert vetting_of("e-0002", 20.0, 0.0, verdicts).label == "real"
    # the name has gone to another detection since
    assert vetting_of("e-0002", 20.1, 0.0, verdicts) is None
