"""Plans of injections: where, how bright, and what they depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from astrid_assets.science import align, detect, light_curves, normalize, zogy
from astrid_assets.science.injection_plan import (
    PlanOptions,
    _Range,
    places_of,
    plan_injections,
    reference_stars,
    study_reference,
    without_flux,
)
from astrid_assets_tests.science.sky import draw, make_sky, tan_wcs

SIZE = 384
ZERO = 26.3
DENSE = PlanOptions(density=400.0, separation=20.0)


@pytest.fixture(scope="module")
def scene():
    """A sky with stars and galaxies: reference, pair, difference and candidates."""
    sky = make_sky(size=SIZE, n_stars=60, n_transients=6)
    rng = np.random.default_rng(8)
    x, y = rng.uniform(25, SIZE - 25, (2, 600))
    free = np.array([nearest(a, b, np.c_[sky.x, sky.y]) > 22 for a, b in zip(x, y, strict=True)])
    x, y = x[free], y[free]
    apart = [i for i in range(len(x)) if i == 0 or nearest(x[i], y[i], np.c_[x[:i], y[:i]]) > 35][:25]
    x, y = x[apart], y[apart]
    science, reference = sky.science.data.astype(float), sky.reference.data.astype(float)
    draw(science, x, y, np.full(len(x), 9000.0), 6.5)
    x_r, y_r = sky.reference.wcs.all_world2pix(*sky.science.wcs.all_pix2world(x, y, 0), 0)
    draw(reference, x_r, y_r, np.full(len(x), 9000.0 / 0.8), 6.3)
    common = {"band": "r", "mjd_mid": 60005.0, "exptime": 30.0}
    reference = sky.reference.replace(data=reference.astype(np.float32))
    science = sky.science.replace(data=science.astype(np.float32), **common)
    pair = normalize(align(science, reference))
    difference = zogy(pair)
    return study_reference(reference), pair, difference, detect(difference, pair=pair), np.c_[x, y]


def plan(scene, *, exposure="e1", key=("field", "key"), mjd=None, options=DENSE):
    sky, pair, difference, table, _ = scene
    if mjd is not None:
        pair = pair.replace(science=pair.science.replace(mjd_mid=mjd))
    return plan_injections(
        sky, pair, key=key, exposure_id=exposure, difference=difference, table=table, options=options
    )


def lasting(planned, exposure="e1"):
    return {p.object_id: p for p in planned if p.object_id.count("-") == 2}


def nearest(x, y, places):
    return np.hypot(places[:, 0] - x, places[:, 1] - y).min()


def test_the_reference_is_understood(scene):
    sky, pair, _, _, galaxies = scene
    assert len(sky.stars) > 20
    stars = reference_stars(sky, pair)
    assert len(stars) > 15
    assert np.median([nearest(*g, stars[:, :2]) for g in galaxies]) > 5
    assert 0.7 * len(galaxies) <= len(sky.galaxies) <= len(galaxies) + 4
    # the noise of a frame: sky of 150 at a gain of 6.2, read noise of 10
    noise = np.sqrt(150 / 6.2 + (10 / 6.2) ** 2) * np.sqrt(4 * np.pi) * 1.8 / 2.355
    zero = ZERO - 2.5 * np.log10(0.8)
    assert sky.limit == pytest.approx(zero - 2.5 * np.log10(5 * noise), abs=0.35)
    assert sky.saturation == pytest.approx(zero - 2.5 * np.log10(60000 * 1.8**2 / 0.75), abs=0.6)


def test_the_same_names_give_the_same_plan_and_others_another(scene):
    first = plan(scene)
    assert first == plan(scene)
    assert {p.object_id for p in first}.isdisjoint(p.object_id for p in plan(scene, key=("other", "key")))
    assert len({p.source.injection_id for p in first}) == len({p.object_id for p in first}) == len(first)
    assert all(p.source.injection_id.startswith("e1-") for p in first)


def test_objects_last_over_the_nights_of_a_slot_and_follow_their_light_curves(scene):
    first, second = lasting(plan(scene)), lasting(plan(scene, exposure="e2", mjd=60007.0))
    assert len(first.keys() & second.keys()) > 8
    for name in first.keys() & second.keys():
        one, two = first[name], second[name]
        assert (one.source.x, one.source.y) == (two.source.x, two.source.y)
        assert (one.light_curve, one.host_id) == (two.light_curve, two.host_id)
        flux = [
            10 ** (-0.4 * light_curves.magnitude(one.kind, one.light_curve, t, "r"))
            - 10 ** (-0.4 * light_curves.reference_magnitude(one.kind, one.light_curve, "r"))
            for t in (60005.0, 60007.0)
        ]
        assert two.source.flux / one.source.flux == pytest.approx(flux[1] / flux[0], rel=1e-6)
    later = lasting(plan(scene, exposure="e3", mjd=60005.0 + DENSE.slot_days))
    assert first.keys().isdisjoint(later)


def test_what_passes_is_new_in_each_exposure(scene):
    first, second = plan(scene), plan(scene, exposure="e2")
    passing = [{p.object_id for p in q} - lasting(q).keys() for q in (first, second)]
    assert len(passing[0]) > 3
    assert passing[0].isdisjoint(passing[1])
    kinds = {p.kind for p in first if p.object_id in passing[0] and p.site != "beside"}
    assert kinds <= {"asteroid", "asteroid_trail", "flare"}
    # what lasts is the same whatever passes
    assert {n: p.source.flux for n, p in lasting(first).items()} == {
        n: p.source.flux for n, p in lasting(second).items()
    }


def test_sources_keep_their_distance_and_lie_on_the_image(scene):
    for key in ("a", "b"):
        places = places_of(plan(scene, key=(key,)))
        distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
        assert distance[np.triu_indices(len(places), 1)].min() > 19.5
        assert (np.abs(places - SIZE / 2) < SIZE / 2 + 20).all()
        assert len(places) > 25


def test_sites_are_what_they_are_called(scene):
    sky, _, difference, table, galaxies = scene
    stars = reference_stars(sky, scene[1])
    found = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()])
    planned = [p for key in range(4) for p in plan(scene, key=(str(key),))]
    by_site = {s: [p.source for p in planned if p.site == s] for s in light_curves.facts()["site"]}
    assert all(len(by_site[s]) >= n for s, n in (("host", 20), ("blank", 15), ("star", 10), ("beside", 4)))
    off = np.array([nearest(s.x, s.y, galaxies) for s in by_site["host"]])
    assert np.mean(off < 12) > 0.8
    assert 0.1 < np.mean(off < 0.5) < 0.6
    shown = [s for s in by_site["star"] if 0 < s.x < SIZE - 1 and 0 < s.y < SIZE - 1]
    assert max(nearest(s.x, s.y, stars[:, :2]) for s in shown) < 0.3
    inside = [s for s in by_site["blank"] if 5 < s.x < SIZE - 5 and 5 < s.y < SIZE - 5]
    assert min(nearest(s.x, s.y, stars[:, :2]) for s in inside) > 2.0 * difference.psf.fwhm - 1.0
    assert max(nearest(s.x, s.y, found) for s in by_site["beside"]) < 20


def test_stars_brighten_and_fade_by_no_more_than_they_have(scene):
    stars = [p.source for key in range(6) for p in plan(scene, key=(str(key),)) if p.site == "star"]
    flux, base = (np.array([getattr(s, name) for s in stars]) for name in ("flux", "base"))
    assert (flux < 0).sum() > 5
    assert (flux > 0).sum() > 5
    assert (flux > -base).all()


def test_trails_are_as_long_as_their_rate(scene):
    trails = [p for key in range(12) for p in plan(scene, key=(str(key),)) if p.site == "trail"]
    assert len(trails) > 4
    for p in trails:
        length = np.hypot(p.source.length_x, p.source.length_y)
        assert length == pytest.approx(min(p.light_curve["rate"] * 0.5 / 1.01, 30.0), rel=0.01)
        angle = p.light_curve["position_angle"]
        # north is up and east to the left
        assert np.degrees(np.arctan2(-p.source.length_x, p.source.length_y)) % 360 == pytest.approx(
            angle, abs=0.1
        )


def test_magnitudes_follow_the_density_that_is_stored():
    range_ = _Range(13.0, 18.0, 22.0, 0.6)
    quantiles = (np.arange(40_000) + 0.5) / 40_000
    drawn = np.array([range_.magnitude(q) for q in quantiles])
    counts, edges = np.histogram(drawn, np.linspace(13, 22, 19), density=True)
    expected = [range_.density(m) for m in (edges[1:] + edges[:-1]) / 2]
    assert counts == pytest.approx(expected, rel=0.02)
    assert (drawn.min(), drawn.max()) == (pytest.approx(13, abs=0.01), pytest.approx(22, abs=0.01))


def test_fluxes_lie_between_saturation_and_the_limit(scene):
    _, pair, difference, _, _ = scene
    planned = [p for key in range(4) for p in plan(scene, key=(str(key),))]
    error = float(np.median(difference.flux_error))
    flux = np.abs([p.source.flux for p in planned])
    assert flux.min() > 0.95 * error
    assert flux.max() * pair.science.psf.at(100, 100).max() < 60000.0
    assert 0.4 < np.mean(flux < 30 * error) < 0.95
    assert all(0.0 < p.injection_probability < 1.0 or np.isnan(p.injection_probability) for p in planned)


def test_deeper_exposures_get_objects_of_their_own(scene):
    sky, pair, difference, table, _ = scene
    deep = replace(difference, flux_error=difference.flux_error / 10)
    options = {"key": ("field", "key"), "exposure_id": "e1", "options": DENSE}
    ours = plan_injections(sky, pair, difference=deep, table=table, **options)
    assert {p.object_id for p in ours}.isdisjoint(p.object_id for p in plan(scene))
    assert np.median(np.abs([p.source.flux for p in ours])) < 0.5 * np.median(
        np.abs([p.source.flux for p in plan(scene)])
    )


def test_images_without_a_wcs_share_their_pixels(scene):
    sky, pair, _, _, _ = scene
    bare = replace(sky, wcs=None)
    same = pair.replace(science=pair.science.replace(wcs=None))
    planned = plan((bare, same, *scene[2:]))
    assert len(planned) > 20
    stars = bare.sources
    for p in planned:
        if p.site == "star":
            assert np.hypot(stars.x - p.source.x, stars.y - p.source.y).min() < 0.5


def test_a_shifted_exposure_shows_the_same_objects_elsewhere(scene):
    sky, pair, difference, table, _ = scene
    wcs = tan_wcs((SIZE, SIZE), offset=(30.0, -20.0))
    moved = pair.replace(science=pair.science.replace(wcs=wcs))
    one, two = lasting(plan(scene)), lasting(plan((sky, moved, difference, table, None)))
    both = one.keys() & two.keys()
    assert len(both) > 8
    for name in both:
        assert two[name].source.x - one[name].source.x == pytest.approx(30.0, abs=0.1)
        assert two[name].source.y - one[name].source.y == pytest.approx(-20.0, abs=0.1)


def test_the_null_test_keeps_the_places(scene):
    planned = plan(scene)
    nothing = without_flux(planned)
    assert [p.source.x for p in nothing] == [p.source.x for p in planned]
    assert {p.source.flux for p in nothing} == {0.0}
