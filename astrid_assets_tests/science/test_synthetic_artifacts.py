"""Defects added to pixels: where the truth says, as strong as it says, and nowhere else."""

import json

import astropy.units as u
import numpy as np
import pytest

from astrid_assets.images import MaskedImage, Psf
from astrid_assets.science.synthetic_artifacts import ARTIFACT_CLASSES, ArtifactOptions, add_artifacts
from astrid_assets_tests.science.sky import GAIN, SKY, draw, expose, moffat

SIZE = 256
STARS = np.array([[60.3, 70.8, 3e4], [180.2, 60.1, 8e3], [120.7, 190.4, 1.5e5], [200.0, 200.0, 2e3]])


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(1)
    model = np.full((SIZE, SIZE), SKY)
    draw(model, *STARS.T, 2.4)
    variance = model / GAIN
    return MaskedImage(expose(model, rng), u.adu, variance=variance, gain=GAIN, saturation=6e4)


PSF = Psf(moffat(12, 12, 25, 2.4), (SIZE, SIZE))


def away_from_line(row):
    """Distance of each pixel from the line of a defect."""
    yy, xx = np.mgrid[:SIZE, :SIZE]
    start = np.array([row["x"], row["y"]])
    along = np.array([row["x_end"], row["y_end"]]) - start
    t = np.clip(((xx - start[0]) * along[0] + (yy - start[1]) * along[1]) / max(along @ along, 1e-9), 0, 1)
    return np.hypot(xx - start[0] - t * along[0], yy - start[1] - t * along[1])


def one(image, name, **options):
    """A defect of a class in the middle, or on the star that suits it."""
    places = STARS if name in {"dipole", "star_residual", "bleed"} else [(100.0, 120.0)]
    for seed in range(20):
        for star in places:
            changed, rows = add_artifacts(
                image,
                psf=PSF,
                seed=seed,
                places=[(name, star[0], star[1])],
                stars=STARS,
                options=ArtifactOptions(**options),
            )
            if rows:
                return changed, rows[0]
    raise AssertionError(name)


@pytest.mark.parametrize("name", ARTIFACT_CLASSES)
def test_defects_are_where_the_truth_says(image, name):
    changed, row = one(image, name)
    change = changed.data - image.data
    assert row["class"] == name
    assert row["kind"] == "artifact"
    assert row["flux"] == pytest.approx(change.sum(dtype=float), rel=1e-3, abs=1.0)
    near = away_from_line(row) <= row["extent"] + 1.0
    assert np.square(change[near]).sum() > 0.8 * np.square(change).sum()
    assert (changed.mask == image.mask).all()
    assert isinstance(json.loads(row["light_curve"]), dict)


def test_a_dipole_moves_light_and_keeps_it(image):
    changed, row = one(image, "dipole", dipole_shift=(0.299, 0.301))
    drawn = json.loads(row["light_curve"])
    change = (changed.data - image.data).astype(float)
    yy, xx = np.mgrid[:SIZE, :SIZE]
    assert abs(change.sum()) < 0.01 * drawn["star_flux"]
    # light times distance moved, the wings outside the stamp of the PSF left out
    assert (change * xx).sum() / drawn["star_flux"] == pytest.approx(0.3 * np.cos(drawn["angle"]), abs=0.02)
    assert (change * yy).sum() / drawn["star_flux"] == pytest.approx(0.3 * np.sin(drawn["angle"]), abs=0.02)


def test_a_residual_changes_the_width_and_hardly_the_flux(image):
    changed, row = one(image, "star_residual", residual_width=(0.0999, 0.1001), residual_flux=0.0)
    drawn = json.loads(row["light_curve"])
    change = changed.data - image.data
    assert abs(change.sum(dtype=float)) < 0.02 * drawn["star_flux"]
    centre = change[round(row["y"]), round(row["x"])]
    assert np.sign(centre) == -np.sign(drawn["width"])


def test_a_dead_column_has_no_signal(image):
    changed, row = one(image, "dead_column", column_response=(0.0,))
    piece = changed.data[round(row["y"]) : round(row["y_end"]) + 1, round(row["x"])]
    assert np.abs(piece).max() < 1e-3


def test_a_cosmic_ray_deposits_its_charge(image):
    changed, row = one(
        image, "cosmic_ray", cosmic_ray_density=(999.0, 1001.0), cosmic_ray_length=(9.99, 10.01)
    )
    electrons = (changed.data - image.data).sum(dtype=float) * GAIN
    assert electrons == pytest.approx(1000 * 10.25, rel=0.15)
    assert np.hypot(row["x_end"] - row["x"], row["y_end"] - row["y"]) == pytest.approx(10.0, abs=0.02)


def test_light_brings_photon_noise_and_variance(image):
    changed, _ = one(image, "ghost", ghost_radius=(20.0, 20.1), ghost_significance=(30.0, 30.1))
    added = (changed.data - image.data).astype(float)
    ring = added > 0.7 * added.max()
    assert changed.variance[ring] == pytest.approx((image.variance + added / GAIN)[ring], rel=1e-4)
    assert (changed.variance >= 0.1 * image.variance).all()


def test_defects_keep_their_distance_and_their_seeds(image):
    sources = np.array([[40.0, 40.0], [128.0, 128.0], [210.0, 60.0]])
    changed, rows = add_artifacts(image, psf=PSF, seed="s", count=5, avoid=sources, stars=STARS)
    again, same = add_artifacts(image, psf=PSF, seed="s", count=5, avoid=sources, stars=STARS)
    assert rows == same
    assert changed.data.tobytes() == again.data.tobytes()
    assert add_artifacts(image, psf=PSF, seed="t", count=5, stars=STARS)[1] != rows
    more = add_artifacts(image, psf=PSF, seed="s", count=6, avoid=sources, stars=STARS)[1]
    assert more[: len(rows)] == rows
    for row in rows:
        distance = away_from_line(row)
        assert distance[sources[:, 1].astype(int), sources[:, 0].astype(int)].min() > 38


def test_nothing_is_added_without_defects(image):
    changed, rows = add_artifacts(image, psf=PSF, seed=1, count=0)
    assert rows == []
    assert changed.data.tobytes() == image.data.tobytes()
    assert changed.variance.tobytes() == image.variance.tobytes()


def test_stars_are_found_where_none_are_given(image):
    rows = add_artifacts(
        image, psf=PSF, seed=3, count=12, separation=10.0, options=ArtifactOptions(weights={"dipole": 1.0})
    )[1]
    assert rows
    for row in rows:
        assert np.hypot(STARS[:, 0] - row["x"], STARS[:, 1] - row["y"]).min() < 0.5
