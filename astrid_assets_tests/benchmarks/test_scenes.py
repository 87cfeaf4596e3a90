"""The simulated pairs hold what they say."""

from __future__ import annotations

import numpy as np
import pytest

from astrid_assets.benchmarks.scenes import (
    FLUX_SCALE,
    SCENARIOS,
    SKY,
    Optics,
    make_scene,
    optics_stamp,
    sky_variances,
)


@pytest.fixture(scope="module")
def ztf():
    return make_scene("ztf", 256, 4)


def test_the_same_seed_is_the_same_sky(ztf):
    again, other = make_scene("ztf", 256, 4), make_scene("ztf", 256, 5)
    assert np.array_equal(ztf.science.data, again.science.data)
    assert np.array_equal(ztf.reference.data, again.reference.data)
    assert np.array_equal(ztf.flux, again.flux)
    assert not np.array_equal(ztf.science.data, other.science.data)


def test_a_point_source_keeps_its_flux_and_place():
    """Whatever its place on the pixels; the wings of a Moffat profile reach beyond any stamp."""
    stamps = [optics_stamp(Optics(2.2), 129, offset=(d, -d)) for d in (0.0, 0.23, 0.5)]
    grid = np.arange(129) - 64
    for stamp, d in zip(stamps, (0.0, 0.23, 0.5), strict=True):
        assert stamp.sum() == pytest.approx(1.0, abs=2e-3)
        core = np.where(np.hypot(grid[:, None] + d, grid[None] - d) < 12, stamp, 0)
        assert (core * grid[None]).sum() / core.sum() == pytest.approx(d, abs=0.01)
        assert (core * grid[:, None]).sum() / core.sum() == pytest.approx(-d, abs=0.01)


def test_optics_have_the_width_they_say():
    """Half of the maximum at half the width, before the pixels integrate."""
    for optics in (Optics(2.2), Optics(4.4)):
        a, b, c = optics.quadratic(np.zeros(1), np.zeros(1), 1.0)[0]
        assert b == 0.0
        assert a == c
        assert (1.0 + a * (optics.fwhm / 2) ** 2) ** -3.0 == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["ideal", "fine"])
def test_the_noise_of_blank_sky_is_that_of_counts_and_readout(name):
    scene = make_scene(name, 256, 1)
    dark = scene.static < 0.02 * np.sqrt(scene.sky_variance[0])
    for x, y in zip(np.rint(scene.x).astype(int), np.rint(scene.y).astype(int), strict=True):
        dark[max(0, y - 20) : y + 21, max(0, x - 20) : x + 21] = False
    blank = scene.science.data[dark & ~scene.science.bad]
    assert len(blank) > 3000
    assert blank.var() == pytest.approx(scene.sky_variance[0], rel=0.06)
    assert blank.mean() == pytest.approx(SKY, abs=0.4)


def test_the_reference_shows_the_same_stars_brighter():
    """Flux scale and registration error are those of the scenario."""
    scene = make_scene("ztf", 512, 2)
    dx, dy = scene.scenario.shift
    bright = np.flatnonzero((scene.star_flux > 2e3) & (scene.star_flux < 3e4))
    ny, nx = scene.static.shape
    grid = np.arange(-5, 6)
    ratios, offsets = [], []
    for i in bright:
        x, y = round(scene.star_x[i]), round(scene.star_y[i])
        alone = np.sort(np.hypot(scene.star_x - x, scene.star_y - y))[1] > 16
        alone &= np.hypot(scene.x - x, scene.y - y).min() > 16
        if not alone or not (8 < x < nx - 9 and 8 < y < ny - 9):
            continue
        box = (slice(y - 5, y + 6), slice(x - 5, x + 6))
        if scene.science.bad[box].any() or scene.reference.bad[box].any():
            continue
        ours, theirs = scene.static[box], scene.reference.data[box] - SKY
        ratios.append(theirs.sum() / ours.sum())
        offsets.append([(p * g).sum() / p.sum() for p in (ours, theirs) for g in (grid[None], grid[:, None])])
    assert len(ratios) > 5
    # the two PSFs lose different shares of their wings
    assert np.median(ratios) == pytest.approx(FLUX_SCALE, rel=0.06)
    shift = np.median(np.array(offsets)[:, :2] - np.array(offsets)[:, 2:], axis=0)
    assert shift == pytest.approx([dx, dy], abs=0.03)


def test_new_sources_are_where_they_should(ztf):
    """The science image holds them on top of what is static."""
    model = ztf.static + SKY
    strong = np.argsort(-ztf.flux)[:4]
    for x, y, flux in zip(ztf.x[strong], ztf.y[strong], ztf.flux[strong], strict=True):
        box = (slice(round(y) - 6, round(y) + 7), slice(round(x) - 6, round(x) + 7))
        if not ztf.science.bad[box].any():
            assert (ztf.science.data - model)[box].sum() == pytest.approx(flux, abs=6 * 13 * 6)


def test_variances_are_per_science_pixel():
    """A finer reference has sixteen times the read noise in the same area."""
    science, coarse = sky_variances(SCENARIOS["ztf"])
    same, fine = sky_variances(SCENARIOS["fine"])
    assert science == same == pytest.approx((150 * 6.2 + 100) / 6.2**2)
    assert coarse == pytest.approx((150 * 6.2 + 100) / 6.2**2 / 15 / 1.25**2)
    assert fine == pytest.approx(
        coarse * (150 * 6.2 + 100 * (1.01 / 0.25) ** 2) / (150 * 6.2 + 100), rel=1e-6
    )
