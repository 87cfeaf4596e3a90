"""Circles in parts: they cover the whole, nothing is lost, nothing comes twice."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from astrid_assets.archives.catalogues import PARSERS, known_schema
from astrid_assets.archives.catalogues.cones import (
    ask_whole,
    covering,
    inside,
    is_pack,
    join_parts,
    pack,
    unpack,
)
from astrid_assets.archives.protocol import Cone
from astrid_assets.archives.simulated.votable import votable
from astrid_assets.errors import BadAnswerError

PLACES = [(210.8, 54.3, 1.0), (0.02, -5.0, 0.3), (359.99, 89.5, 2.0), (120.0, -90.0, 5.0), (45.0, 0.0, 5.0)]


def sprinkle(ra: float, dec: float, radius: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return positions all over a circle, its edge included."""
    rng = np.random.default_rng(3)
    away = radius * np.sqrt(np.concatenate([rng.random(count), np.ones(count // 10)]))
    angle = 360.0 * rng.random(away.size)
    centre = SkyCoord(ra, dec, unit="deg")
    found = centre.directional_offset_by(angle * centre.ra.unit, away * centre.ra.unit)
    return found.ra.deg, found.dec.deg


@pytest.mark.parametrize("place", PLACES)
def test_seven_halves_cover_a_circle(place: tuple[float, float, float]):
    ra, dec = sprinkle(*place)
    parts = covering(Cone(*place, mjd=60000.0))
    assert len(parts) == 7
    assert {part.mjd for part in parts} == {60000.0}
    assert max(part.radius for part in parts) < 0.51 * place[2]
    assert np.any([inside(ra, dec, part) for part in parts], axis=0).all()


@pytest.mark.parametrize("place", PLACES)
def test_inside_is_what_astropy_says(place: tuple[float, float, float]):
    ra, dec = sprinkle(place[0], place[1], 2 * place[2], 500)
    away = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(place[0], place[1], unit="deg")).deg
    np.testing.assert_array_equal(inside(ra, dec, Cone(*place)), away <= place[2])


class Service:
    """A service with stars in a circle that stops without a word after some rows."""

    def __init__(self, place: tuple[float, float, float], count: int, limit: int) -> None:
        self.ra, self.dec = sprinkle(*place, count)
        self.limit = limit
        self.asked: list[Cone] = []

    def ask(self, cone: Cone) -> bytes:
        self.asked.append(cone)
        rows = np.flatnonzero(inside(self.ra, self.dec, cone))[: self.limit]
        fields = [
            ("source_id", "long", ""),
            ("ref_epoch", "double", ""),
            ("ra", "double", ""),
            ("dec", "double", ""),
        ]
        values = [[str(i) for i in rows], ["2016.0"] * rows.size]
        values += [[repr(float(v)) for v in self.ra[rows]], [repr(float(v)) for v in self.dec[rows]]]
        return votable(fields, values, infos={})

    def is_cut(self, content: bytes) -> bool:
        return PARSERS["gaia"](content).num_rows >= self.limit


@pytest.mark.parametrize("place", PLACES[:3])
def test_a_rich_circle_is_asked_for_in_parts_until_none_is_cut(place: tuple[float, float, float]):
    service, cone = Service(place, 1000, 200), Cone(*place)
    content = ask_whole(service.ask, cone, is_cut=service.is_cut)
    table = PARSERS["gaia"](content)
    assert is_pack(content)
    wanted = np.flatnonzero(inside(service.ra, service.dec, cone))
    assert sorted(table.column("object_id").to_pylist()) == sorted(f"Gaia DR3 {i}" for i in wanted)
    assert content == ask_whole(service.ask, cone, is_cut=service.is_cut)


def test_a_wide_circle_is_asked_for_in_parts_that_the_service_takes():
    place = PLACES[0]
    service = Service(place, 100, 10_000)
    content = ask_whole(service.ask, Cone(*place), is_cut=service.is_cut, largest=0.3)
    assert all(cone.radius <= 0.3 for cone in service.asked)
    assert len(service.asked) == 49
    assert PARSERS["gaia"](content).num_rows == inside(service.ra, service.dec, Cone(*place)).sum()


def test_one_whole_answer_stays_as_it_was_sent():
    service = Service(PLACES[0], 10, 10_000)
    cone = Cone(*PLACES[0])
    assert ask_whole(service.ask, cone, is_cut=service.is_cut) == service.ask(cone)


def test_a_service_that_always_stops_is_an_error():
    service = Service(PLACES[0], 10, 0)
    with pytest.raises(BadAnswerError, match="cut off even within"):
        ask_whole(service.ask, Cone(10.0, 5.0, 0.01), is_cut=service.is_cut)


def test_a_pack_gives_back_what_was_put_in():
    cone, parts = Cone(10.0, 5.0, 0.5, 60000.25), [b"one", b"", b"three" * 1000]
    assert unpack(pack(cone, parts)) == (cone, parts)
    assert pack(cone, parts) == pack(cone, parts)
    assert not is_pack(b"<VOTABLE>")
    for length in (514, 1600, 4000):
        with pytest.raises(BadAnswerError):
            unpack(pack(cone, parts)[:length])


def test_rows_that_were_sent_twice_count_once():
    service = Service(PLACES[0], 20, 10_000)
    once = service.ask(Cone(*PLACES[0]))
    rows = once[once.index(b"<TR>") : once.index(b"</TABLEDATA>")]
    twice = once.replace(rows, rows * 2)
    assert PARSERS["gaia"](twice) == PARSERS["gaia"](once)
    empty = join_parts(PARSERS["gaia"], pack(Cone(0.0, 0.0, 1.0), [once.replace(rows, b"")] * 2))
    assert (empty.num_rows, empty.schema) == (0, known_schema())
