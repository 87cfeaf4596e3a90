"""Objects from candidates: sources that stay are joined, those that do not are not."""

import numpy as np
import pytest

from astrid_assets.science.association import (
    associate,
    join_detections,
    name_objects,
    place_detections,
    place_objects,
)

ARCSEC = 1.0 / 3600.0
FWHM = 2.0


def detect(epochs, *, fwhm=FWHM, frame=None, flagged=None, **limits):
    """Detections from lists of (u, v, snr), one list an exposure."""
    parts = []
    for i, sources in enumerate(epochs):
        u, v, snr = np.array(sources, float).reshape(-1, 3).T
        marks = np.zeros(len(u), bool) if flagged is None else np.array(flagged[i], bool)
        parts.append(place_detections(u, v, snr, marks, epoch=i, fwhm=fwhm, frame=frame, **limits))
    return join_detections(parts)


def scattered(ra, dec, snr, n_epochs, seed, *, fwhm=FWHM, floor=0.05):
    """Positions of a fixed source with the errors of its significance, as Condon (1997) has them."""
    rng = np.random.default_rng(seed)
    sigma = np.hypot(np.sqrt(2) * fwhm / 2.355 / snr, floor) * ARCSEC
    dx, dy = rng.normal(0, sigma, (2, n_epochs))
    return [[(ra + a / np.cos(np.radians(dec)), dec + b, snr)] for a, b in zip(dx, dy, strict=True)]


@pytest.mark.parametrize("snr", [6.0, 20.0, 200.0])
@pytest.mark.parametrize(("ra", "dec"), [(150.0, 2.0), (0.00001, -45.0), (200.0, 89.5)])
def test_a_fixed_source_is_one_object_at_all_epochs(ra, dec, snr):
    found, epochs = 0, 12
    for seed in range(20):
        detections = detect(scattered(ra, dec, snr, epochs, seed))
        objects = associate(detections)
        found += np.bincount(objects).max()
        places = place_objects(detections, np.zeros(epochs, int))
        away = (places.u[0] - ra + 180) % 360 - 180
        assert np.hypot(away * np.cos(np.radians(dec)), places.v[0] - dec) < 6 * places.error[0] * ARCSEC
    # at 6 sigma one arcsecond is 3.5 sigma: one in a few hundred candidates is beyond
    assert found >= (0.98 if snr < 10 else 1.0) * 20 * epochs


def test_the_errors_are_those_of_the_scatter():
    parts = [scattered(150.0 + i * 0.01, 2.0, 15.0, 10, i) for i in range(60)]
    detections = detect([[p[k][0] for p in parts] for k in range(10)])
    places = place_objects(detections, associate(detections))
    assert len(places.u) == 60
    assert places.pull == pytest.approx(1, abs=0.06)


def test_two_sources_two_arcseconds_apart_stay_two():
    for seed in range(20):
        one = scattered(150.0, 2.0, 8.0, 10, seed)
        other = scattered(150.0, 2.0 + 2.0 * ARCSEC, 8.0, 10, 100 + seed)
        objects = associate(detect([a + b for a, b in zip(one, other, strict=True)]))
        mine, theirs = objects[::2], objects[1::2]
        assert not set(mine) & set(theirs)


def test_two_sources_28_tenths_of_a_sharp_pixel_apart_stay_two():
    scale, sharp = 0.05, {"fwhm": 0.1, "floor": 0.01}
    for seed in range(20):
        one = scattered(150.0, 2.0, 20.0, 5, seed, **sharp)
        other = scattered(150.0, 2.0 + 2.8 * scale * ARCSEC, 20.0, 5, 100 + seed, **sharp)
        objects = associate(detect([a + b for a, b in zip(one, other, strict=True)], fwhm=0.1))
        assert set(objects[::2]) == {0}
        assert set(objects[1::2]) == {1}


def test_an_asteroid_is_not_joined():
    # half an arcsecond a minute, two exposures an hour apart a night
    hours = np.array([0, 1, 24, 25, 48, 49])
    epochs = [[(150.0 + 30.0 * h * ARCSEC, 2.0, 20.0)] for h in hours]
    assert associate(detect(epochs)).tolist() == list(range(6))


def test_one_candidate_an_exposure_and_the_nearest_wins():
    epochs = [[(150.0, 2.0, 20.0)], [(150.0, 2.0 + 0.45 * ARCSEC, 9.0), (150.0, 2.0 + 0.05 * ARCSEC, 9.0)]]
    assert associate(detect(epochs)).tolist() == [0, 1, 0]


def test_earlier_objects_do_not_change_when_nights_are_added():
    rng = np.random.default_rng(5)
    nights = [
        [(150.0 + rng.uniform(0, 40) * ARCSEC, 2.0 + rng.uniform(0, 40) * ARCSEC, 7.0) for _ in range(40)]
        for _ in range(8)
    ]
    few, many = detect(nights[:5]), detect(nights)
    first, all_of_them = associate(few), associate(many)
    assert np.array_equal(first, all_of_them[: len(first)])
    names = [
        name_objects(*d.place_of(p.first), p.frame)
        for d, p in ((few, place_objects(few, first)), (many, place_objects(many, all_of_them)))
    ]
    assert names[0] == names[1][: len(names[0])]
    assert len(set(names[1])) == len(names[1])
    pairs = list(zip(all_of_them, many.epoch, strict=True))
    assert len(set(pairs)) == len(pairs)


def test_flagged_candidates_join_but_neither_found_nor_move_an_object():
    epochs = [[(150.0, 2.0, 50.0), (150.01, 2.0, 50.0)], [(150.0, 2.0 + 0.2 * ARCSEC, 30.0)]]
    detections = detect(epochs, flagged=[[False, True], [True]])
    objects = associate(detections)
    assert objects.tolist() == [0, -1, 0]
    places = place_objects(detections, objects)
    assert places.v[0] == pytest.approx(2.0, abs=1e-12)
    assert places.residual[2] == pytest.approx(0.2, abs=1e-6)
    assert np.isnan(places.residual[1])


def test_grids_of_pixels_are_kept_apart():
    on_a, on_b = ([[(100.0, 50.0, 30.0)], [(100.05, 50.0, 30.0)]] for _ in range(2))
    a, b = detect(on_a, frame=0), detect(on_b, frame=1)
    detections = join_detections([a, b])
    objects = associate(detections)
    assert objects.tolist() == [0, 0, 1, 1]
    places = place_objects(detections, objects)
    assert places.frame.tolist() == [0, 1]
    assert places.u == pytest.approx([100.025, 100.025])
    assert name_objects(places.u, places.v, places.frame) == ["P0-0100.0+0050.0", "P1-0100.0+0050.0"]


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [
        (0.0, 0.0, "J000000.00+000000.0"),
        (359.99999999, -0.00001, "J235959.99-000000.0"),
        (264.9697257549, 61.9551510437, "J173952.73+615718.5"),
        (83.633083, -22.0145, "J053431.93-220052.2"),
    ],
)
def test_names_are_positions_cut_off(ra, dec, name):
    assert name_objects([ra], [dec], [-1]) == [name]


def test_nothing_is_nothing():
    detections = detect([[], []])
    objects = associate(detections)
    assert len(objects) == 0
    places = place_objects(detections, objects)
    assert len(places.u) == 0
    assert np.isnan(places.pull)
