"""One sky for all exposures, whatever their own world coordinates say."""

import numpy as np
import pytest

from astrid_assets.images import PairGeometry
from astrid_assets.images.psf import polynomial_terms
from astrid_assets.science import align, normalize
from astrid_assets.science.positions import from_reference, to_reference
from astrid_assets_tests.science.sky import known_pair, make_sky


def test_there_and_back():
    pair = known_pair(size=128)
    registration = pair.registration.__class__(
        "wcs+stars", order=1, coefficients=((0.31, 0.02, -0.01), (-0.2, 0.0, 0.03))
    )
    normalization = pair.normalization.__class__(
        **{**vars(pair.normalization), "shift": (0.02, -0.01), "shift_gradient": ((0.01, 0.0), (0.0, 0.02))}
    )
    geometry = PairGeometry.of(pair.replace(registration=registration, normalization=normalization))
    x, y = np.random.default_rng(1).uniform(0, 127, (2, 50))
    back = from_reference(geometry, *to_reference(geometry, x, y))
    assert np.abs(np.subtract(back, (x, y))).max() < 1e-6
    blind = PairGeometry(geometry.shape, None, geometry.psf, registration, normalization)
    u, v = to_reference(blind, x, y)
    terms = polynomial_terms(2 * x / 127 - 1, 2 * y / 127 - 1, 1)
    expected = np.tensordot(registration.coefficients[0], terms, axes=1) + 0.02 + 0.01 * (2 * x / 127 - 1)
    assert x - u == pytest.approx(expected)
    assert np.abs(np.subtract(from_reference(blind, u, v), (x, y))).max() < 1e-6


def test_without_wcs_the_star_patterns_lead_to_the_pixels_of_the_reference():
    """Turned, mirrored and with a shift that the refinement has found on top."""
    pair = known_pair(size=128)
    transform = ((0.5, -0.4, 30.0), (-0.4, -0.5, 90.0))
    registration = pair.registration.__class__(
        "stars", order=0, coefficients=((0.3,), (-0.2,)), transform=transform
    )
    geometry = PairGeometry(pair.science.shape, None, pair.science.psf, registration, pair.normalization)
    x, y = np.random.default_rng(2).uniform(0, 127, (2, 50))
    u, v = to_reference(geometry, x, y)
    assert u == pytest.approx(0.5 * (x - 0.3) - 0.4 * (y + 0.2) + 30.0)
    assert v == pytest.approx(-0.4 * (x - 0.3) - 0.5 * (y + 0.2) + 90.0)
    assert np.abs(np.subtract(from_reference(geometry, u, v), (x, y))).max() < 1e-9


def test_the_sky_is_that_of_the_reference():
    sky = make_sky(size=256, n_stars=80, n_transients=0)
    wrong = sky.science.wcs.deepcopy()
    wrong.wcs.crpix = np.add(wrong.wcs.crpix, [0.7, -0.4])
    pair = normalize(align(sky.science.replace(wcs=wrong), sky.reference))
    ra, dec = to_reference(PairGeometry.of(pair), sky.x, sky.y)
    x, y = sky.science.wcs.all_world2pix(ra, dec, 0)
    inside = (sky.x > 5) & (sky.x < 250) & (sky.y > 5) & (sky.y < 250)
    assert np.hypot(x - sky.x, y - sky.y)[inside].max() < 0.05


def test_places_far_from_the_image_are_far_or_unknown():
    geometry = PairGeometry.of(known_pair(size=64))
    x, _ = from_reference(geometry, np.array([150.0, 330.0, 150.0]), np.array([20.0, -20.0, 50.0]))
    assert np.isfinite(x[0])
    assert np.isnan(x[1:]).all()
