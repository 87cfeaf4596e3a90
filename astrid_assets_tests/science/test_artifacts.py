"""Saturation, cosmic rays, ghosts and trails against pixels put there."""

import astropy.units as u
import numpy as np

from astrid_assets.images import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.science import detect, zogy
from astrid_assets.science.artifacts import (
    find_bad_lines,
    find_cosmic_rays,
    find_ghosts,
    find_saturation,
    mark,
)
from astrid_assets.science.background import estimate_background
from astrid_assets_tests.science.sky import SKY, draw, expose, known_pair


def test_saturated_pixels_and_their_neighbours():
    data = np.full((50, 50), 100.0)
    data[20, 30] = 60000
    found = find_saturation(MaskedImage(data, saturation=55000.0))
    assert found[19:22, 29:32].all()
    assert found.sum() == 9
    assert not find_saturation(MaskedImage(data)).any()


def test_cosmic_rays_are_told_from_stars():
    rng = np.random.default_rng(3)
    model = np.full((300, 300), SKY)
    x, y = rng.uniform(20, 280, (2, 40))
    draw(model, x, y, 10 ** rng.uniform(3, 4.5, 40), 2.4)
    data = expose(model, rng)
    hits = rng.integers(15, 285, (2, 60))
    far = [np.hypot(x - c, y - r).min() > 8 for r, c in hits.T]
    hits = hits[:, far]
    data[hits[0], hits[1]] += 600
    variance = np.full(data.shape, (SKY * 6.2 + 100) / 6.2**2)
    image = MaskedImage(data, u.adu, variance=variance)
    found = find_cosmic_rays(image, estimate_background(image.data, image.bad), 2.5)
    assert found[hits[0], hits[1]].mean() > 0.9
    cores = found[np.rint(y).astype(int), np.rint(x).astype(int)]
    assert cores.mean() < 0.05
    assert found.mean() < 0.01


def test_stars_at_the_edge_are_no_cosmic_rays():
    rng = np.random.default_rng(6)
    model = np.full((200, 200), SKY)
    x = np.r_[np.linspace(15, 185, 12), np.linspace(15, 185, 12)]
    y = np.r_[np.tile([1.6, 3.4, 4.5, 5.3], 3), 199 - np.tile([1.6, 3.4, 4.5, 5.3], 3)]
    draw(model, x, y, np.full(24, 8000.0), 2.0)
    data = expose(model, rng)
    variance = (model * 6.2 + 100) / 6.2**2
    image = MaskedImage(data, u.adu, variance=variance)
    found = find_cosmic_rays(image, estimate_background(image.data, image.bad), 2.0)
    cores = [
        found[round(b) - 1 : round(b) + 2, round(a) - 1 : round(a) + 2].any()
        for a, b in zip(x, y, strict=True)
    ]
    assert not any(cores)


def test_a_ghost_is_found_and_stars_are_not():
    rng = np.random.default_rng(4)
    residual = rng.normal(0, 5, (400, 400))
    draw(residual, rng.uniform(0, 400, 60), rng.uniform(0, 400, 60), np.full(60, 3000.0), 2.4)
    clean = np.zeros(residual.shape, bool)
    assert not find_ghosts(residual, np.full(residual.shape, 5.0), clean).any()
    yy, xx = np.mgrid[:400, :400]
    disc = (xx - 250) ** 2 + (yy - 120) ** 2 < 45**2
    found = find_ghosts(residual + 4.0 * disc, np.full(residual.shape, 5.0), clean)
    assert found[disc].mean() > 0.9
    assert found[~disc].mean() < 0.06
    assert not find_ghosts(residual[:40, :40], np.full((40, 40), 5.0), clean[:40, :40]).any()


def test_the_wings_of_a_new_bright_star_are_no_ghost():
    rng = np.random.default_rng(5)
    residual, rms = rng.normal(0, 5, (400, 400)), np.full((400, 400), 5.0)
    clean = np.zeros(residual.shape, bool)
    yy, xx = np.mgrid[:400, :400]
    # an aureole that falls with the third power of the distance
    residual += 30_000.0 / (1.0 + ((xx - 150) ** 2 + (yy - 220) ** 2) / 4.0) ** 1.5
    assert not find_ghosts(residual, rms, clean).any()
    disc = (xx - 320) ** 2 + (yy - 100) ** 2 < 40**2
    assert find_ghosts(residual + 4.0 * disc, rms, clean)[disc].mean() > 0.9


def test_a_trail_is_flagged_and_a_transient_beside_it_is_not():
    pair = known_pair(size=300, sources=[(60.0, 240.0, 900.0, 0.0)])
    science = pair.science.data.copy()
    t = np.linspace(0, 299, 2000)
    trail = np.zeros(science.shape)
    np.add.at(trail, (np.rint(0.6 * t + 20).astype(int), np.rint(t).astype(int)), 8.0)
    table = detect(zogy(pair.replace(science=pair.science.replace(data=science + trail))))
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    artifact = np.array(table["artifact"].to_pylist())
    near = np.hypot(x - 60, y - 240) < 2
    assert artifact[near].tolist() == [""]
    assert (artifact[~near] != "").all()
    assert "streak" in artifact


def test_a_faint_trail_in_pieces_is_flagged_and_the_bright_source_on_it_is_not():
    step = np.arange(12)
    pieces = [(30.0 + 19 * k, 60.0 + 7 * k, 170.0, 0.0) for k in step]
    strangers = [
        (60.0, 220.0, 700.0, 0.0),
        (210.0, 60.0, 250.0, 0.0),
        (30.0 + 19 * 5.5, 60.0 + 7 * 5.5, 2500.0, 0.0),
    ]
    table = detect(zogy(known_pair(size=300, sources=pieces + strangers)))
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    artifact = np.array(table["artifact"].to_pylist())
    flagged = [artifact[np.hypot(x - a, y - b) < 2].tolist() for a, b, *_ in pieces]
    assert sum(f == ["streak"] for f in flagged) >= 8
    assert all(f in (["streak"], []) for f in flagged)
    for a, b, *_ in strangers:
        assert artifact[np.hypot(x - a, y - b) < 2].tolist() == [""]


def test_faint_bad_columns_and_rows_are_found():
    rng = np.random.default_rng(6)
    residual = rng.normal(0, 5, (400, 520))
    draw(residual, rng.uniform(0, 520, 60), rng.uniform(0, 400, 60), np.full(60, 3000.0), 2.4)
    rms, clean = np.full(residual.shape, 5.0), np.zeros(residual.shape, bool)
    assert not find_bad_lines(residual, rms, clean).any()
    residual[:, 100] -= 5.0
    residual[300, 256:] += 5.0
    found = find_bad_lines(residual, rms, clean)
    assert found[:, 100].all()
    assert found[300, 256:512].all()
    assert found.sum() <= 400 + 264


def test_marking_makes_a_copy():
    mask = np.zeros((3, 3), np.int32)
    marked = mark(mask, np.eye(3, dtype=bool), "GHOST")
    assert not mask.any()
    assert marked[1, 1] == bits("GHOST")
