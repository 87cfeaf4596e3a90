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
    grown,
    halo_flux,
    mark,
)
from astrid_assets.science.background import Background, estimate_background
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


def test_cosmic_rays_are_those_of_astroscrappy():
    """Hits of all sizes, on stars and at the edges, pixel by pixel; the image is mirrored around it."""
    import astroscrappy

    rng = np.random.default_rng(31)
    model = np.full((220, 250), SKY)
    draw(model, *rng.uniform(0, 220, (2, 60)), 10 ** rng.uniform(2.5, 5, 60), 2.2)
    data = expose(model, rng).astype(np.float32)
    for y, x, length in rng.integers((0, 0, 1), (220, 245, 6), (60, 3)):
        data[y, x : x + length] += np.exp(rng.normal(6.3, 0.9))
    variance = ((np.maximum(data, 50) * 6.2 + 100) / 6.2**2).astype(np.float32)
    sky = Background(np.full_like(data, SKY), np.full_like(data, 5.2))
    level, wide = sky.level, {"pad_width": 16, "mode": "reflect"}
    truth, _ = astroscrappy.detect_cosmics(
        np.pad(data, **wide),
        inbkg=np.pad(level, **wide),
        invar=np.pad(variance, **wide),
        satlevel=np.inf,
        sigclip=5.0,
        sigfrac=0.3,
        objlim=3.0,
        niter=1,
        sepmed=True,
        fsmode="convolve",
        psfmodel="moffat",
        psffwhm=2.2,
        psfsize=5,
    )
    truth = truth[16:-16, 16:-16]
    image = MaskedImage(data, u.adu, variance=variance)
    assert truth.sum() > 80
    np.testing.assert_array_equal(find_cosmic_rays(image, sky, 2.2), truth)
    # where only some pixels may be the middle of a hit, those hits come out whole
    half = np.indices(data.shape)[1] < 120
    found = find_cosmic_rays(image, sky, 2.2, suspects=half)
    np.testing.assert_array_equal(found[:, :117], truth[:, :117])
    assert not found[:, 130:].any()
    assert not find_cosmic_rays(image, sky, 2.2, suspects=np.zeros_like(half)).any()


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


def test_growing_is_a_dilation_by_squares():
    from scipy import ndimage

    where = np.random.default_rng(7).random((40, 50)) < 0.01
    where[0, 0] = where[-1, 20] = True
    for radius in (0, 1, 3):
        side = 2 * radius + 1
        truth = ndimage.binary_dilation(where, structure=np.ones((side, side), bool))
        np.testing.assert_array_equal(grown(where, radius), truth)
    assert not grown(np.zeros((5, 5), bool), 2).any()


def test_the_light_around_stars_falls_off_with_their_distance():
    """Against the sum over all bright pixels; the sides of the image are no multiples of the cells."""
    pair = known_pair(size=150, sources=[(40.3, 70.1, 0.0, 30_000.0), (90.0, 75.5, 0.0, 5_000.0)])
    crop = np.s_[:149, :147]
    data = pair.reference.data.copy()
    data[3, 3] = np.nan
    reference = pair.reference.replace(data=data[crop], variance=None, mask=None)
    found = halo_flux(pair.replace(reference=reference))
    y, x = np.nonzero(data[crop] > 10 * pair.normalization.reference_sky_rms)
    rows, columns = np.indices(found.shape)
    truth = np.zeros(found.shape)
    for b, a in zip(y, x, strict=True):
        distance = np.hypot(rows - b, columns - a)
        truth += np.where(distance <= 25, data[b, a] * 3.0 / np.maximum(distance, 3.0), 0)
    truth *= pair.normalization.flux_ratio
    distance = np.hypot(rows - 70.1, columns - 40.3)
    inner, outside = (distance > 5) & (distance < 15), np.hypot(rows - 70, columns - 65) > 65
    assert found.shape == (149, 147)
    np.testing.assert_allclose(found[inner], truth[inner], rtol=0.2)
    np.testing.assert_allclose(found[70, 40], truth[70, 40], rtol=0.15)
    assert np.abs(found[outside]).max() < 1e-3 * truth.max()


def test_marking_makes_a_copy():
    mask = np.zeros((3, 3), np.int32)
    marked = mark(mask, np.eye(3, dtype=bool), "GHOST")
    assert not mask.any()
    assert marked[1, 1] == bits("GHOST")
