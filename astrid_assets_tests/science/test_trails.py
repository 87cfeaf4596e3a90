"""Trails against lines of light put there, and against what is none."""

import numpy as np
import pytest

from astrid_assets.science.trails import find_trails, line_sums
from astrid_assets_tests.science.sky import moffat

SIDE = 512


def noise(seed, shape=(SIDE, SIDE)):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def trail(angle, x0, y0, flux, *, shape=(SIDE, SIDE), sigma=1.0):
    """Light of a trail of ``flux`` per pixel of length, and the distance of each pixel from it."""
    y, x = np.indices(shape, dtype=np.float32)
    away = (y - y0) * np.cos(np.radians(angle)) - (x - x0) * np.sin(np.radians(angle))
    return flux / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * (away / sigma) ** 2), away


def residuals(seed):
    """Noise with what badly matched and shifted stars leave, the saturated ones masked, on an uneven sky."""
    rng = np.random.default_rng(seed)
    image, bad = noise(seed + 10_000), np.zeros((SIDE, SIDE), bool)
    star = moffat(25.0, 25.0, 51, 2.2)
    patterns = np.gradient(star, axis=1), np.gradient(star, axis=0), moffat(25.0, 25.0, 51, 2.3) - star
    flux = np.minimum(10 ** (1.8 + rng.exponential(0.6, 270)), 3e5)
    for x, y, f in zip(*rng.integers(26, SIDE - 26, (2, 270)), flux, strict=True):
        area = np.s_[y - 25 : y + 26, x - 25 : x + 26]
        shares = rng.normal(0, (0.1, 0.1, 1.0))
        left = sum(share * pattern for share, pattern in zip(shares, patterns, strict=True))
        image[area] += f * left + rng.standard_normal(star.shape) * np.sqrt(f * star)
        if f > 5e4:
            bad[y - 3 : y + 4, x - 3 : x + 4] = True
    y, x = np.indices(image.shape)
    image += 0.1 * np.sin(x / 120 + rng.uniform(0, 6)) * np.cos(y / 150)
    return image, bad


def test_sums_along_lines_are_those_of_the_recursion_by_hand():
    image = np.random.default_rng(1).normal(size=(21, 13))

    def heights(rise, columns):
        if columns == 1:
            return [0]
        half = heights(rise // 2, columns // 2)
        return half + [rise // 2 + rise % 2 + h for h in half]

    sums, first = line_sums(image)
    assert sums.shape == (16, 37)
    for rise in range(16):
        rows = heights(rise, 16)
        assert rows[-1] == rise
        assert np.abs(rows - rise * np.arange(16) / 15).max() < 1.5
        for start in range(-16, 21):
            inside = [image[start + rows[c], c] for c in range(13) if 0 <= start + rows[c] < 21]
            assert sums[rise, first + start] == pytest.approx(sum(inside), abs=1e-9)


@pytest.mark.parametrize("angle", [0.0, 3.0, 45.0, 60.0, 90.0, 117.0, 135.0, 170.0])
@pytest.mark.parametrize("flux", [2.0, 200.0])
def test_a_trail_is_masked_over_its_width(angle, flux):
    """With 2 per pixel of length its brightest pixels have 0.8 sigma."""
    light, away = trail(angle, 230.0, 280.0, flux)
    found = find_trails(noise(int(angle)) + light, np.float32(1.0), np.zeros((SIDE, SIDE), bool))
    # nothing that could be detected is left
    assert found[light > 0.5].all()
    assert found[np.abs(away) < 2.0].mean() > 0.99
    assert np.abs(away[found]).max() < 12.0


def test_a_trail_too_faint_for_the_eye_is_found_in_a_large_image():
    """At its brightest a quarter of the noise of a pixel."""
    shape = (1500, 1400)
    light, away = trail(63.0, 600.0, 700.0, 1.0, shape=shape, sigma=1.5)
    found = find_trails(
        2.0 * (noise(3, shape) + light), np.full(shape, 2.0, np.float32), np.zeros(shape, bool)
    )
    assert light.max() < 0.27
    assert found[np.abs(away) < 2.0].mean() > 0.99
    assert found.mean() < 0.02


def test_two_trails_are_both_found_and_bad_pixels_do_not_matter():
    light, first = trail(20.0, 200.0, 150.0, 6.0)
    more, second = trail(115.0, 300.0, 300.0, 3.0)
    image, bad = residuals(7)
    image[bad] = np.nan
    found = find_trails(image + light + more, np.float32(1.0), bad)
    for away in (first, second):
        assert found[np.abs(away) < 2.0].mean() > 0.99
    assert np.minimum(np.abs(first), np.abs(second))[found].max() < 12.0


@pytest.mark.parametrize("seeds", [range(k, k + 10) for k in range(0, 40, 10)])
def test_without_a_trail_none_is_found(seeds):
    for seed in seeds:
        image, bad = residuals(seed)
        for sign in (1, -1):
            assert not find_trails(sign * image, np.float32(1.0), bad).any(), seed


def test_stars_in_a_row_and_short_streaks_are_no_trails():
    image, bad = noise(8), np.zeros((SIDE, SIDE), bool)
    for x in (60, 180, 330, 470):
        image[x // 2 - 25 : x // 2 + 26, x - 25 : x + 26] += 3000 * moffat(25.0, 25.0, 51, 2.5)
    # an asteroid: its light is wanted
    light, _ = trail(30.0, 250.0, 250.0, 20.0)
    along = (np.indices(light.shape)[1] - 250.0) / np.cos(np.radians(30.0))
    image += np.where(np.abs(along) < 40, light, 0)
    assert not find_trails(image, np.float32(1.0), bad).any()


def test_small_and_empty_images():
    assert not find_trails(np.ones((20, 20)), np.float32(1.0), np.zeros((20, 20), bool)).any()
    assert not find_trails(np.ones((300, 300)), np.float32(1.0), np.ones((300, 300), bool)).any()
    nothing = np.full((300, 300), np.nan, np.float32)
    assert not find_trails(nothing, np.float32(1.0), np.zeros((300, 300), bool)).any()
