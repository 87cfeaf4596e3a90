"""Differences against the equations, and against a sky with known transients."""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest

from astrid_assets.errors import RegistrationError, ScienceError
from astrid_assets.images.masks import bits
from astrid_assets.science import align, classic, detect, normalize, zogy
from astrid_assets.science.background import robust_std
from astrid_assets.science.comparison import compare_sources
from astrid_assets_tests.science.sky import known_pair, make_sky


@pytest.fixture(scope="module")
def sky():
    return make_sky(seed=1)


@pytest.fixture(scope="module")
def pair(sky):
    return normalize(align(sky.science, sky.reference))


def textbook_zogy(pair):
    """Equations 12 to 17 of Zackay, Ofek & Gal-Yam (2016) with full complex transforms."""
    norm = pair.normalization
    n, r = pair.science.data.astype(float), pair.reference.data.astype(float)

    def transform(psf):
        image = np.zeros(n.shape)
        stamp = psf.at(0, 0)
        image[: stamp.shape[0], : stamp.shape[1]] = stamp
        return np.fft.fft2(np.roll(image, (-(stamp.shape[0] // 2), -(stamp.shape[1] // 2)), (0, 1)))

    p_n, p_r = transform(pair.science.psf), transform(pair.reference.psf)
    s_n, s_r = norm.science_sky_rms, norm.reference_sky_rms
    f_n, f_r = 1.0, 1.0 / norm.flux_ratio
    root = np.sqrt(s_n**2 * f_r**2 * abs(p_r) ** 2 + s_r**2 * f_n**2 * abs(p_n) ** 2)
    d = (f_r * p_r * np.fft.fft2(n) - f_n * p_n * np.fft.fft2(r)) / root
    f_d = f_r * f_n / np.sqrt(s_n**2 * f_r**2 + s_r**2 * f_n**2)
    p_d = f_r * f_n * p_r * p_n / (f_d * root)
    d = d / f_d
    # the matched filter ends below the Nyquist frequency
    y, x = (np.clip((np.abs(np.fft.fftfreq(k)) - 0.35) / 0.13, 0, 1) for k in n.shape)
    band = np.outer(np.cos(np.pi / 2 * y) ** 2, np.cos(np.pi / 2 * x) ** 2)
    s = np.fft.ifft2(d * np.conj(p_d) * band).real
    sigma = np.sqrt((abs(p_d * band) ** 2).mean()) / f_d
    return np.fft.ifft2(d).real, s / sigma, s / (abs(p_d) ** 2 * band).mean()


def test_tiles_agree_with_the_textbook():
    sources = [(60.3, 80.7, 3000.0, 3000.0), (150.0, 150.0, 600.0, 0.0), (200.2, 90.9, 0.0, 700.0)]
    pair = known_pair(sources=sources)
    difference = zogy(pair)
    data, score, flux = textbook_zogy(pair)
    inner = (slice(40, -40), slice(40, -40))
    assert np.abs(difference.data - data)[inner].max() < 0.01 * data.std()
    assert np.abs(difference.score - score)[inner].max() < 0.01
    assert np.abs(difference.flux - flux)[inner].max() < 0.01 * flux[inner].std()


@pytest.mark.parametrize("method", [zogy, classic])
def test_noise_alone_has_unit_significance(method):
    difference = method(known_pair(seed=3, size=400))
    inner = (slice(20, -20), slice(20, -20))
    assert difference.score[inner].std() == pytest.approx(1, abs=0.02)
    assert difference.score_corrected[inner].std() == pytest.approx(1, abs=0.02)
    assert (difference.data[inner] / np.sqrt(difference.variance[inner])).std() == pytest.approx(1, abs=0.01)
    assert (difference.flux[inner] / difference.flux_error[inner]).std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("method", [zogy, classic])
@pytest.mark.parametrize("fwhm", [(2.2, 1.8), (2.4, 3.0)])
def test_fluxes_of_both_signs_come_back(method, fwhm):
    rng = np.random.default_rng(4)
    grid = 30 + 28 * np.arange(8)
    places = [(i + rng.uniform(-0.5, 0.5), j + rng.uniform(-0.5, 0.5)) for i in grid for j in grid]
    sources = [(x, y, 0.0, 900.0) if k % 2 else (x, y, 900.0, 0.0) for k, (x, y) in enumerate(places)]
    difference = method(known_pair(seed=5, fwhm=fwhm, sources=sources))
    table = detect(difference)
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    flux, error = table["flux"].to_numpy(), table["flux_error"].to_numpy()
    pulls = []
    for a, b, f_s, f_r in sources:
        near = np.hypot(x - a, y - b) < 1.5
        assert near.sum() == 1
        pulls.append((flux[near][0] - (f_s - f_r)) / error[near][0] * np.sign(f_s - f_r))
    # a maximum is biased up by less than its error
    assert abs(np.mean(pulls)) < 0.6
    assert 0.7 < np.std(pulls) < 1.3
    # at most one peak of the noise beside them
    assert len(table) - len(sources) <= 1


def test_static_sources_vanish():
    sources = [(40.3 + 43 * i, 40.8 + 43 * j, 20000.0, 20000.0) for i in range(5) for j in range(5)]
    pair = known_pair(sources=sources, sigma=(5.0, 1.5))
    for difference in (zogy(pair), classic(pair)):
        assert np.abs(difference.score[30:-30, 30:-30]).max() < 6


def test_ratio_shift_and_backgrounds_are_measured(sky, pair):
    norm = pair.normalization
    assert norm.flux_ratio == pytest.approx(0.8, rel=0.015)
    assert norm.flux_ratio_predicted == pytest.approx(0.8)
    assert np.abs(norm.shift).max() < 0.02
    assert norm.science_background == pytest.approx(150, abs=0.3)
    assert norm.science_variance_scale == pytest.approx(1, abs=0.06)
    assert pair.science.psf.fwhm == pytest.approx(2.38, abs=0.05)


@pytest.mark.parametrize("method", [zogy, classic])
def test_estimated_inputs_give_honest_significances(sky, pair, method):
    difference = method(pair)
    table = detect(difference, pair=pair)
    blank = ~difference.bad
    for x, y in zip(np.r_[sky.x, sky.transient_x], np.r_[sky.y, sky.transient_y], strict=True):
        blank[max(0, int(y) - 10) : int(y) + 12, max(0, int(x) - 10) : int(x) + 12] = False
    assert robust_std(difference.score_corrected[blank]) == pytest.approx(1, abs=0.04)
    x, y, artifact = table["x"].to_numpy(), table["y"].to_numpy(), np.array(table["artifact"].to_pylist())
    explained = np.zeros(len(x), bool)
    for a, b, f in zip(sky.transient_x, sky.transient_y, sky.transient_flux, strict=True):
        near = np.hypot(x - a, y - b) < 2
        explained |= np.hypot(x - a, y - b) < 4
        if f / difference.flux_error[int(b), int(a)] > 8:
            assert (near & (artifact == "")).sum() == 1
    assert (~explained & (artifact == "")).sum() <= 1


def test_bad_pixels_are_flagged_and_do_not_ring(pair):
    data = pair.science.data.copy()
    mask = pair.science.mask.copy()
    data[100:103, 200:203], mask[100:103, 200:203] = 50000, bits("SATURATED")
    data[300, 300] = np.nan
    mask[300, 300] |= bits("NO_DATA")
    spoiled = zogy(pair.replace(science=pair.science.replace(data=data, mask=mask)))
    clean = zogy(pair)
    assert np.isfinite(spoiled.score_corrected).all()
    assert spoiled.mask[101, 201] & bits("SATURATED")
    far = np.ones(data.shape, bool)
    far[92:112, 192:212] = False
    far[292:309, 292:309] = False
    assert np.abs(spoiled.score - clean.score)[far].max() < 0.5


def test_a_pair_must_be_normalized(sky):
    with pytest.raises(ScienceError, match="normalize"):
        zogy(align(sky.science, sky.reference))


def test_an_unchanged_copy_gives_the_same_bits(sky, pair):
    aligned = align(sky.science, sky.reference)
    again = normalize(align(sky.science.replace(data=sky.science.data.copy()), reuse=aligned), reuse=pair)
    assert again.normalization == pair.normalization
    for mine, theirs in ((again.science, pair.science), (again.reference, pair.reference)):
        for plane in ("data", "variance", "mask", "noise_correlation"):
            assert np.array_equal(getattr(mine, plane), getattr(theirs, plane))
    for plane in ("data", "variance", "mask", "score_corrected", "flux", "flux_error"):
        assert np.array_equal(getattr(zogy(again), plane), getattr(zogy(pair), plane))


def test_a_copy_with_a_new_source_keeps_what_was_measured(sky, pair):
    data = sky.science.data.copy()
    data[100, 120] += 500.0
    again = normalize(align(sky.science.replace(data=data), reuse=pair), reuse=pair, cosmic_rays=False)
    assert again.science.psf is pair.science.psf
    assert again.normalization.flux_ratio == pair.normalization.flux_ratio
    assert again.science.data[100, 120] == pytest.approx(pair.science.data[100, 120] + 500.0, abs=1.0)
    assert again.science.variance[100, 120] > pair.science.variance[100, 120]


def test_a_registration_is_taken_over_by_its_own_exposure_only(sky, pair):
    other = sky.science.replace(
        data=sky.science.data[:-1], mask=sky.science.mask[:-1], variance=None, psf=None
    )
    with pytest.raises(RegistrationError, match="cannot take over"):
        align(other, reuse=pair)
    with pytest.raises(RegistrationError, match="no reference"):
        align(sky.science)


def test_candidates_have_sky_positions_and_physical_units(sky, pair):
    table = detect(zogy(pair), pair=pair)
    ra, dec = sky.science.wcs.all_pix2world(table["x"].to_numpy(), table["y"].to_numpy(), 0)
    assert np.allclose(table["ra"].to_numpy(), ra)
    assert np.allclose(table["dec"].to_numpy(), dec)
    njy = table["flux"].to_numpy() * 10 ** (-0.4 * (26.3 - 31.4))
    assert np.allclose(table["flux_njy"].to_numpy(), njy)
    assert (np.diff(table["snr"].to_numpy()) <= 0).all()


def test_without_a_zero_point_there_is_no_magnitude(pair):
    difference = zogy(pair).replace(zeropoint=None, wcs=None)
    table = detect(difference)
    assert table["magnitude"].null_count == table.num_rows
    assert table["ra"].null_count == table.num_rows


def test_dipoles_and_cosmic_rays_are_flagged_not_dropped():
    pair = known_pair(sources=[(100.0, 100.0, 6000.0, 0.0), (103.0, 100.0, 0.0, 6000.0)])
    science = pair.science.data.copy()
    science[180, 180] += 2000
    table = detect(zogy(pair.replace(science=pair.science.replace(data=science))))
    artifact = np.array(table["artifact"].to_pylist())
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    assert set(artifact[np.hypot(x - 101.5, y - 100) < 5]) <= {"dipole", "not_psf"}
    assert artifact[np.hypot(x - 180, y - 180) < 2].tolist() == ["not_psf"]


def test_a_residual_shift_is_measured_and_folded_in():
    """The reference lies 0.2 pixels to the left and 0.1 up: measured as such, and nothing is left."""
    rng = np.random.default_rng(8)
    places = [
        (40 + 36 * i + rng.uniform(-3, 3), 40 + 36 * j + rng.uniform(-3, 3))
        for i in range(6)
        for j in range(6)
    ]
    science = known_pair(size=280, fwhm=(2.6, 2.4), sources=[(x, y, 9000.0, 0.0) for x, y in places])
    moved = known_pair(
        size=280, fwhm=(2.6, 2.4), sources=[(x - 0.2, y + 0.1, 0.0, 9000.0) for x, y in places]
    )
    pair = science.replace(reference=moved.reference)
    x, y = np.array(places).T
    found = compare_sources(pair.science, pair.reference, x, y)
    assert np.median(found.dx) == pytest.approx(0.2, abs=0.01)
    assert np.median(found.dy) == pytest.approx(-0.1, abs=0.01)
    assert np.median(found.ratio) == pytest.approx(0.8, rel=0.01)
    shifted = pair.replace(normalization=replace(pair.normalization, shift=(0.2, -0.1)))
    assert np.abs(zogy(shifted).score[20:-20, 20:-20]).max() < 6 < np.abs(zogy(pair).score).max()


def test_a_slope_of_the_transparency_is_measured():
    sky = make_sky(seed=12, n_transients=0)
    x = np.linspace(-1, 1, sky.science.shape[1])
    data = sky.science.data * np.exp(0.05 * x)[None, :]
    norm = normalize(align(sky.science.replace(data=data), sky.reference)).normalization
    assert norm.flux_ratio_gradient[0] == pytest.approx(0.05, abs=0.006)
    assert abs(norm.flux_ratio_gradient[1]) < 0.006
    left, right = (norm.flux_ratio_at(x, 255.5, (512, 512)) for x in (0, 511))
    assert right / left == pytest.approx(np.exp(0.1), rel=0.02)


def test_a_vanished_source_is_as_significant_as_a_new_one():
    """What is in one image only does not raise its own error through ratio and registration errors."""
    pair = known_pair(sources=[(80.0, 80.0, 2000.0, 0.0), (180.0, 180.0, 0.0, 2000.0)])
    rough = replace(pair.normalization, flux_ratio_scatter=0.2, astrometric_noise=(0.3, 0.3))
    table = detect(zogy(pair.replace(normalization=rough)))
    new, gone = (table.filter(pc.equal(table["positive"], sign))["snr"][0].as_py() for sign in (True, False))
    assert gone == pytest.approx(new, rel=0.1)
