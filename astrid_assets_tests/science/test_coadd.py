"""A reference from several exposures."""

import numpy as np
import pytest

from astrid_assets.errors import ScienceError
from astrid_assets.images.masks import bits
from astrid_assets.science import coadd
from astrid_assets_tests.science.sky import GAIN, SKY, draw, expose, make_sky, tan_wcs


def exposures(n=4, size=300):
    base = make_sky(seed=6, size=size, n_stars=60, n_transients=0)
    rng = np.random.default_rng(7)
    images = []
    for k in range(n):
        wcs = tan_wcs((size, size), offset=(0.4 * k, -0.7 * k))
        x, y = wcs.all_world2pix(*base.science.wcs.all_pix2world(base.x, base.y, 0), 0)
        model = np.full((size, size), SKY)
        draw(model, x, y, base.flux * (1.0 - 0.1 * k), 2.4)
        images.append(
            base.science.replace(data=expose(model, rng), wcs=wcs, mjd_start=100.0 + k, mjd_end=100.1 + k)
        )
    return images


def test_noise_averages_down_and_outliers_vanish():
    images = exposures()
    data = images[2].data.copy()
    data[150, 100:200] += 3000
    images[2] = images[2].replace(data=data)
    stack = coadd(images)
    sigma = np.sqrt((SKY * GAIN + 100) / GAIN**2)
    blank = np.sqrt(np.median(stack.variance))
    # the later, fainter exposures are scaled up and weigh less
    assert sigma / 2 < blank < 1.3 * sigma / 2
    trail = stack.data[150, 100:200]
    assert np.median(trail) < 3 * blank
    assert (stack.mjd_start, stack.mjd_end, stack.n_exposures) == (100.0, 103.1, 4)


def test_one_exposure_is_itself():
    image = exposures(1)[0]
    assert coadd([image]) is image


def test_saturation_survives():
    images = exposures(3)
    mask = images[0].mask.copy()
    mask[50, 60] |= bits("SATURATED")
    assert coadd([images[0].replace(mask=mask), *images[1:]]).mask[50, 60] & bits("SATURATED")


def test_images_without_wcs_are_registered_on_their_stars():
    images = [image.replace(wcs=None) for image in exposures(3)]
    stack, known = coadd(images), coadd(exposures(3))
    both = np.isfinite(stack.data) & np.isfinite(known.data)
    assert both.mean() > 0.95
    difference = np.abs(stack.data - known.data)[both] / np.sqrt(known.variance[both])
    assert np.percentile(difference, 99) < 1.0


def test_blank_images_without_wcs_need_a_word():
    noise = exposures(1)[0].replace(wcs=None, data=np.random.default_rng(1).normal(SKY, 5, (300, 300)))
    with pytest.raises(ScienceError, match="no celestial WCS"):
        coadd([noise, noise])


def test_grids_stated_as_equal_are_taken_so():
    first = exposures(1)[0].replace(wcs=None)
    stack = coadd([first, first], assume_aligned=True)
    assert stack.n_exposures == 2
    sigma = np.sqrt((SKY * GAIN + 100) / GAIN**2)
    assert np.sqrt(np.median(stack.variance)) == pytest.approx(sigma / np.sqrt(2), rel=0.1)


def test_nothing_is_an_error():
    with pytest.raises(ScienceError, match="no exposure"):
        coadd([])
