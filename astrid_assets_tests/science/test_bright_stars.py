"""Bleeds and spikes of bright stars against charge and light put there."""

import numpy as np
import pytest

from astrid_assets.archives.simulated import dirt, optics
from astrid_assets.archives.simulated.survey import GAIN, SATURATION
from astrid_assets.images import MaskedImage, Psf, read_image
from astrid_assets.science.artifacts import find_saturation, grown
from astrid_assets.science.background import estimate_background
from astrid_assets.science.bright_stars import find_bleeds, find_spikes, groups, profiles_of_cores
from astrid_assets_tests.science.sky import SKY, draw, expose

SIDE, FWHM = 512, 2.2


def light(x, y, flux, *, angle, spikes=True):
    """Stars through the simulated telescope, without noise or sky, at whole pixels."""
    points = np.zeros((SIDE, SIDE))
    np.add.at(points, (y.astype(int), x.astype(int)), flux)
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    u, _, _ = optics.phase_structure(fx, fy)
    with pytest.MonkeyPatch.context() as patch:
        if not spikes:
            patch.setattr(optics, "_SPIKES", 0.0)
        transfer = np.exp(-u * FWHM ** (5 / 3)) * optics.instrument(fx, fy, angle)
    return np.fft.irfft2(np.fft.rfft2(points) * transfer, s=points.shape)


def field(seed, *, angle=25.0, spikes=True, transposed=False):
    """A field of the simulated telescope with four saturated stars, and what its spikes and bleeds hold."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(50, SIDE - 50, (2, 304))
    flux = np.r_[10 ** rng.uniform(6.0, 6.7, 4), np.minimum(10 ** (2.5 + rng.exponential(0.6, 300)), 2e5)]
    model = light(x, y, flux, angle=angle, spikes=spikes)
    arms = light(x, y, flux, angle=angle) - light(x, y, flux, angle=angle, spikes=False)
    sky = np.maximum(model + SKY, 1)
    data = rng.poisson(sky * GAIN) / GAIN + rng.normal(0, 1.6, sky.shape)
    before = data.copy()
    dirt.bleed(data, np.zeros(data.shape, np.int32))
    bled = data - np.minimum(before, SATURATION)
    if transposed:
        data, bled, arms = data.T.copy(), bled.T, arms.T
    return MaskedImage(data.astype(np.float32), saturation=SATURATION), bled, arms


@pytest.mark.parametrize("transposed", [False, True])
def test_bled_charge_is_found_in_the_direction_of_the_readout(transposed):
    image, bled, _ = field(1, transposed=transposed)
    saturated = find_saturation(image, grow=0)
    found = find_bleeds(image, saturated)
    charged = bled > 100.0
    cores = grown(saturated & ~charged, 2)
    assert charged[~cores].sum() > 40
    assert found[charged & ~cores].mean() > 0.97
    # nothing but the runs, three pixels around them and the round cores that they come from
    assert not (found & ~grown(charged, 3) & ~cores).any()


def test_charge_below_the_saturation_level_is_followed_to_its_end():
    rng = np.random.default_rng(2)
    data = np.full((300, 200), SKY)
    draw(data, [100.0], [150.0], [3e6], FWHM)
    data = np.minimum(expose(data, rng), 60_000.0)
    data[60:240, 100:102] += np.interp(np.abs(np.arange(60, 240) - 150), [0, 90], [30_000.0, 200.0])[:, None]
    image = MaskedImage(data, saturation=58_000.0)
    found = find_bleeds(image, find_saturation(image, grow=0))
    assert found[62:140, 100:102].all()
    assert found[160:238, 100:102].all()
    assert found.sum() < 190 * 4
    assert not found[:58].any()
    assert not found[242:].any()


def test_round_saturated_stars_do_not_bleed():
    rng = np.random.default_rng(3)
    model = np.full((400, 400), SKY)
    x, y = rng.uniform(30, 370, (2, 60))
    draw(model, x, y, np.r_[10 ** rng.uniform(5.5, 6.5, 8), 10 ** rng.uniform(3, 5, 52)], FWHM)
    image = MaskedImage(np.minimum(expose(model, rng), 60_000.0), saturation=60_000.0)
    saturated = find_saturation(image, grow=0)
    assert saturated.sum() > 50
    assert not find_bleeds(image, saturated).any()
    assert not find_bleeds(image, np.zeros_like(saturated)).any()
    # no values at all, or none where a full well was
    nothing = MaskedImage(np.full((40, 40), np.nan))
    assert not find_bleeds(nothing, np.ones((40, 40), bool)).any()
    cut = MaskedImage(np.where(saturated, np.nan, image.data), saturation=60_000.0)
    assert not find_bleeds(cut, saturated).any()


def spikes_of(image):
    saturated = find_saturation(image, grow=0)
    saturated |= find_bleeds(image, saturated)
    sky = estimate_background(image.data, saturated)
    return find_spikes(image.data - sky.level, sky.rms, image.bad, saturated, FWHM), saturated, sky.rms


@pytest.mark.parametrize("angle", [10.0, 36.0, 77.0])
def test_spikes_are_found_and_little_else(angle):
    image, _, arms = field(4, angle=angle)
    found, saturated, rms = spikes_of(image)
    free = ~grown(saturated, 3)
    assert found[(arms > 6.0 * rms) & free].mean() > 0.95
    assert found[(arms > 3.0 * rms) & free].mean() > 0.9
    # the marked pixels are on arms, to three pixels
    assert (grown(arms > 0.5 * rms, 3) | ~free)[found].mean() > 0.92
    assert found.mean() < 0.015


@pytest.mark.parametrize("seed", range(4))
def test_without_spikes_none_is_found(seed):
    image, _, _ = field(seed, spikes=False)
    assert not spikes_of(image)[0].any()


def test_elongated_stars_have_no_spikes():
    rng = np.random.default_rng(5)
    model = np.full((400, 400), SKY)
    x, y = rng.uniform(40, 360, (2, 40))
    draw(model, x, y, np.r_[10 ** rng.uniform(5.3, 6.3, 8), 10 ** rng.uniform(3, 5, 32)], 3.0)
    image = MaskedImage(np.minimum(expose(model, rng), 60_000.0), saturation=60_000.0)
    assert not spikes_of(image)[0].any()
    blank = np.zeros((60, 70), np.float32)
    assert not find_spikes(blank, blank + 1, blank > 0, blank > 0, FWHM).any()


def test_groups_are_those_of_scipy():
    from scipy import ndimage

    where = np.random.default_rng(6).random((60, 50)) < 0.2
    label, number = ndimage.label(where, structure=np.ones((3, 3), int))
    found = groups(where)
    assert len(found) == number
    assert sum(len(y) for y, _ in found) == where.sum()
    assert all(len(set(label[part])) == 1 for part in found)
    assert groups(np.zeros((5, 5), bool)) == []


@pytest.mark.real_data
def test_spikes_of_a_real_telescope(real_data):
    """A 1 m telescope of LCO: four arms at 52 and 129 degrees from the rows, seen by eye."""
    image = read_image(real_data / "pairs/lco_1m_field2_large/template_2.fits.fz")
    image = image.replace(saturation=float(np.nanmax(image.data)))
    found, saturated, _ = spikes_of(image)
    y, x = max(groups(saturated), key=lambda star: len(star[0]))
    for angle in (52, 129, 232, 309):
        away = np.arange(20, 40)
        rows, columns = (
            np.rint(centre + away * wave).astype(int)
            for centre, wave in (
                (y.mean(), np.sin(np.radians(angle))),
                (x.mean(), np.cos(np.radians(angle))),
            )
        )
        assert found[rows, columns].mean() > 0.8
    assert 0.0005 < found.mean() < 0.005


def moffat(x, y, fwhm, shape):
    """A star of unit flux: Moffat profile with beta 3."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    alpha2 = (0.5 * fwhm) ** 2 / (2 ** (1 / 3) - 1)
    profile = (1 + ((columns - x) ** 2 + (rows - y) ** 2) / alpha2) ** -3.0
    return profile * 2.0 / (np.pi * alpha2)


def clipped(fwhm, places, *, sky_rms=5.0):
    """Stars that lose what exceeds 50000, what they had, and what is left of them."""
    rng = np.random.default_rng(3)
    whole = sum(f * moffat(x, y, fwhm, (120, 200)) for x, y, f in places)
    data = np.minimum(whole, 5e4) + rng.normal(0, sky_rms, whole.shape)
    stamp = moffat(20, 20, fwhm, (41, 41))
    psf = Psf(stamp[None] / stamp.sum(), whole.shape)
    return whole, MaskedImage(data, variance=np.full(data.shape, sky_rms**2), psf=psf)


def test_saturated_cores_are_filled_by_the_profiles_of_their_stars():
    places = [(30.3, 40.6, 5e5), (80.8, 70.1, 6e5), (140.45, 50.5, 1e6)]
    sharp, first = clipped(2.4, places)
    broad, second = clipped(3.1, places)
    cores = (first.data > 4.9e4) | (second.data > 4.9e4)
    filled = profiles_of_cores((first, second), cores, cores)
    assert len(filled) == 3
    for core in filled:
        for truth, values in zip((sharp, broad), core.values, strict=True):
            np.testing.assert_allclose(values, truth[core.rows, core.columns], rtol=0.02)


def test_a_core_of_which_too_little_is_left_is_not_filled_on_either_side():
    places = [(30.3, 40.6, 5e5), (140.45, 50.5, 3e7)]
    _, first = clipped(2.4, places)
    _, second = clipped(3.1, places)
    cores = (first.data > 4.9e4) | (second.data > 4.9e4)
    (core,) = profiles_of_cores((first, second), cores, cores)
    assert abs(core.columns.mean() - 30.3) < 1
    assert not profiles_of_cores((first, second), np.zeros(cores.shape, bool), np.zeros(cores.shape, bool))
