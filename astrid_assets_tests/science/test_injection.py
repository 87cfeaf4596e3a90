"""Injected sources against the light, noise and places that were asked for."""

from __future__ import annotations

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest

from astrid_assets.errors import ScienceError
from astrid_assets.images import MaskedImage, Psf
from astrid_assets.images.masks import bits
from astrid_assets.science import inject
from astrid_assets.science.injection import Source, effective_gain, source_stamp
from astrid_assets_tests.science.sky import GAIN, known_pair, moffat

SHAPE = (128, 128)
PSF = Psf(moffat(20, 20, 41, 2.4, ellipticity=0.0), SHAPE)


def sky(seed=1, *, level=150.0, variance=True):
    rng = np.random.default_rng(seed)
    data = rng.poisson(level * GAIN, SHAPE) / GAIN
    plane = np.full(SHAPE, level / GAIN, np.float32) if variance else None
    return MaskedImage(data.astype(np.float32), u.adu, variance=plane, gain=GAIN, psf=PSF, saturation=6e4)


def test_a_source_has_its_flux_its_place_and_its_profile():
    image = sky()
    changed, truth = inject(image, [Source("a", 60.3, 70.8, 2e5)], seed="s")
    light = (changed.data - image.data).astype(float)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    assert light.sum() == pytest.approx(2e5, abs=5 * np.sqrt(2e5 / GAIN))
    near = np.hypot(x - 60.3, y - 70.8) < 10
    assert (light * x)[near].sum() / light[near].sum() == pytest.approx(60.3, abs=0.02)
    assert (light * y)[near].sum() / light[near].sum() == pytest.approx(70.8, abs=0.02)
    exact = np.zeros(SHAPE)
    exact[41:102, 30:91] = 2e5 * moffat(30.3, 29.8, 61, 2.4, ellipticity=0.0)
    # the shift theorem, on a PSF sampled at 2.4 pixels FWHM
    assert np.abs(light - exact).max() < 0.01 * exact.max() + 5 * np.sqrt(exact.max() / GAIN)
    assert truth["flux"].to_pylist() == [2e5]
    assert truth["psf_fwhm"][0].as_py() == pytest.approx(PSF.fwhm)
    assert np.isnan(truth["x_end"][0].as_py())


def test_photon_noise_and_variance_are_those_of_the_light():
    quiet = MaskedImage(np.zeros(SHAPE, np.float32), u.adu, variance=np.ones(SHAPE, np.float32), psf=PSF)
    totals, pixels = [], []
    for seed in range(300):
        changed, _ = inject(quiet, [Source("a", 64.0, 64.0, 1000.0)], gain=GAIN, seed=seed)
        totals.append(changed.data.sum(dtype=float))
        pixels.append(changed.data[60:69, 60:69])
    assert np.mean(totals) == pytest.approx(1000.0, abs=4 * np.sqrt(1000 / GAIN / 300))
    assert np.var(totals) == pytest.approx(1000.0 / GAIN, rel=0.25)
    expected = 1000.0 * PSF.at(64, 64)[16:25, 16:25]
    assert np.var(pixels, axis=0).sum() == pytest.approx(expected.sum() / GAIN, rel=0.1)
    assert changed.variance[60:69, 60:69] == pytest.approx(1.0 + expected / GAIN, rel=1e-4)


def test_light_that_vanishes_leaves_the_noise_of_what_remains():
    stamp = PSF.at(64, 64)
    star = np.full(SHAPE, 20.0)
    star[44:85, 44:85] += 5000.0 * stamp
    middle, left = slice(61, 68), []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        image = MaskedImage((rng.poisson(star * GAIN) / GAIN).astype(np.float32), u.adu, gain=GAIN, psf=PSF)
        changed, _ = inject(image, [Source("a", 64.0, 64.0, -4000.0, base=5000.0)], seed=seed)
        left.append(changed.data[middle, middle])
    remains = (star - 4000.0 * np.pad(stamp, ((44, 43), (44, 43))))[middle, middle]
    error = np.sqrt(remains / GAIN / 300)
    assert np.abs((np.mean(left, axis=0) - remains) / error).max() < 4.5
    assert np.var(left, axis=0).sum() == pytest.approx(remains.sum() / GAIN, rel=0.1)


def test_zero_flux_leaves_every_bit():
    image = sky()
    changed, truth = inject(image, [Source("a", 60.3, 70.8, 0.0), Source("b", 5.0, 5.0, 0.0)])
    assert changed.data.tobytes() == image.data.tobytes()
    assert changed.variance.tobytes() == image.variance.tobytes()
    assert changed.mask.tobytes() == image.mask.tobytes()
    assert truth.num_rows == 2


def test_the_image_itself_is_not_changed():
    image = sky()
    before = image.data.copy(), image.variance.copy()
    inject(image, [Source("a", 60.3, 70.8, 1e4)])
    assert np.array_equal(image.data, before[0])
    assert np.array_equal(image.variance, before[1])


def test_each_source_has_its_own_noise_whatever_the_order():
    image = sky()
    sources = [
        Source("a", 30.2, 30.1, 900.0),
        Source("b", 33.7, 31.0, 2000.0),
        Source("c", 90.0, 80.0, -50.0),
    ]
    one, _ = inject(image, sources, seed=3)
    other, _ = inject(image, sources[::-1], seed=3)
    assert one.data.tobytes() == other.data.tobytes()
    alone, _ = inject(image, sources[1:2], seed=3)
    rest, _ = inject(image, [sources[0], sources[2]], seed=3)
    together = (alone.data - image.data) + (rest.data - image.data)
    assert one.data - image.data == pytest.approx(together, abs=1e-3)
    assert not np.array_equal(one.data, inject(image, sources, seed=4)[0].data)


def test_what_lies_partly_outside_is_drawn_as_far_as_it_reaches_in():
    image = sky()
    wide = Psf(PSF.basis, (160, 160))
    padded = image.replace(data=np.pad(image.data, 16), variance=None, mask=np.pad(image.mask, 16), psf=wide)
    outside, _ = inject(image.replace(variance=None), [Source("a", -3.25, 60.0, 5e4)])
    inside, _ = inject(padded, [Source("a", 12.75, 76.0, 5e4)])
    assert np.array_equal(outside.data, inside.data[16:-16, 16:-16])
    far, truth = inject(image, [Source("a", -300.0, 60.0, 5e4)])
    assert np.array_equal(far.data, image.data)
    assert truth.num_rows == 1


def test_pixels_without_a_value_stay_without():
    image = sky()
    data = image.data.copy()
    data[60:62, 60] = np.nan
    changed, _ = inject(replace(image, data=data, mask=None), [Source("a", 60.0, 60.0, 1e4)])
    assert np.isnan(changed.data[60:62, 60]).all()
    assert np.isfinite(changed.data).sum() == data.size - 2


def test_nothing_rises_above_saturation():
    image = sky().replace(saturation=2000.0)
    changed, _ = inject(image, [Source("a", 60.0, 60.0, 1e5)])
    full = changed.data >= 2000.0
    assert changed.data.max() == 2000.0
    assert 4 < full.sum() < 60
    assert np.array_equal(full, (changed.mask & bits("SATURATED")) != 0)


def test_a_trail_is_as_long_as_it_moved_and_keeps_its_flux():
    trail = source_stamp(PSF, Source("a", 60.0, 60.0, 1.0, 12.0, 5.0))
    assert trail.shape == (49, 55)
    assert trail.sum() == pytest.approx(1.0, abs=2e-3)
    y, x = np.mgrid[: trail.shape[0], : trail.shape[1]]
    x, y = x - trail.shape[1] // 2, y - trail.shape[0] // 2
    point = source_stamp(PSF, Source("a", 60.0, 60.0, 1.0))
    v, w = np.mgrid[: point.shape[0], : point.shape[1]] - point.shape[0] // 2
    core = np.hypot(x, y) < 18
    for axis, length, own in ((x, 12.0, w), (y, 5.0, v)):
        spread = (trail * axis**2)[core].sum() - (point * own**2)[np.hypot(w, v) < 18].sum()
        # the second moment of a line of length L is L^2 / 12
        assert spread == pytest.approx(length**2 / 12, rel=0.05)
    _, truth = inject(sky(), [Source("a", 60.0, 60.0, 1.0, 12.0, 5.0)])
    assert (truth["x_end"][0].as_py(), truth["y_end"][0].as_py()) == (66.0, 62.5)


def test_the_local_psf_is_used():
    basis = np.stack([PSF.basis[0], np.zeros((41, 41), np.float32), np.zeros((41, 41), np.float32)])
    basis[1] = 0.3 * (moffat(20, 20, 41, 3.4, ellipticity=0.0) - PSF.basis[0])
    image = sky().replace(psf=Psf(basis, SHAPE, order=1))
    _, truth = inject(image, [Source("a", 5.0, 60.0, 1.0), Source("b", 120.0, 60.0, 1.0)])
    narrow, wide = truth["psf_fwhm"].to_pylist()
    assert wide > 1.1 * narrow


def test_without_a_psf_nothing_can_be_injected():
    with pytest.raises(ScienceError, match="PSF"):
        inject(sky().replace(psf=None), [Source("a", 5.0, 60.0, 1.0)])


def test_the_gain_comes_from_header_sky_or_variance():
    stars = [(x, y, 4e5, 4e5) for x in (15, 45) for y in (15, 45)]
    pair = known_pair(size=64, sources=stars, sigma=(1.0, 1.0))
    science = pair.science
    assert effective_gain(pair.replace(science=science.replace(gain=2.5))) == 2.5
    norm = replace(pair.normalization, science_background=620.0, science_sky_rms=10.0)
    assert effective_gain(pair.replace(normalization=norm)) == pytest.approx(6.2)
    counted = science.replace(variance=(1.0 + np.clip(science.data, 0, None) / 3.0).astype(np.float32))
    rates = counted.replace(unit=u.nJy)
    assert effective_gain(pair.replace(science=rates)) == pytest.approx(3.0, rel=0.05)
    assert effective_gain(pair) is None
