"""What a model sees of a stamp, whatever the stamp holds."""

import numpy as np
import pytest

from astrid_assets.images.triplets import STAMP_BITS
from astrid_assets.training.views import VIEW_BITS, VIEWS, model_view

FLT_MAX = np.finfo(np.float32).max


def sky(n=2, side=65, level=150.0, sigma=10.0, seed=1):
    """Return stamps of sky noise with a bright middle pixel."""
    noise = np.random.default_rng(seed).normal(level, sigma, (n, 3, side, side)).astype(np.float32)
    noise[..., side // 2, side // 2] += 1000
    return noise


@pytest.mark.parametrize(
    ("side", "size", "centre"), [(65, 63, 31), (65, 64, 32), (65, 65, 32), (129, 128, 64)]
)
@pytest.mark.parametrize("view", VIEWS)
def test_all_sizes_share_the_centre(side, size, centre, view):
    values, flags = model_view(sky(side=side), view=view, size=size)
    assert values.shape == (2, 3, size, size)
    assert values.dtype == np.float32
    assert (flags == 0).all()
    brightest = [np.unravel_index(v.argmax(), v.shape) for v in values.reshape(-1, size, size)]
    assert brightest == [(centre, centre)] * 6


def test_l2_has_unit_norm_and_no_background():
    values, _ = model_view(sky(), view="l2")
    np.testing.assert_allclose((values.astype(float) ** 2).sum(axis=(2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(np.median(values, axis=(2, 3)), 0, atol=1e-6)
    # scale and background of an image do not matter
    again, _ = model_view(37 * sky() - 500, view="l2")
    np.testing.assert_allclose(again, values, atol=2e-5)


def test_asinh_is_its_formula():
    stamps = sky(n=1, side=63)
    values, _ = model_view(stamps, view="asinh")
    for seen, stamp in zip(values[0], stamps[0].astype(float), strict=True):
        middle = np.median(stamp)
        mad = np.median(np.abs(stamp - middle))
        np.testing.assert_allclose(seen, np.arcsinh((stamp - middle) / (3 * mad)), atol=1e-4)


def test_raw_keeps_the_unit():
    stamps = sky()
    values, _ = model_view(stamps, view="raw", size=65)
    np.testing.assert_allclose(
        values, stamps - np.median(stamps, axis=(2, 3), keepdims=True), rtol=1e-6, atol=1e-4
    )


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf, FLT_MAX, -FLT_MAX])
@pytest.mark.parametrize("view", VIEWS)
def test_missing_pixels_are_sky_and_change_nothing_else(missing, view):
    """They become 0 after the background is gone and take no part in it."""
    stamps = sky(side=63)
    stamps[0, 1, :20] = missing
    values, flags = model_view(stamps, view=view)
    assert np.isfinite(values).all()
    assert (values[0, 1, :20] == 0).all()
    assert flags.tolist() == [[0, VIEW_BITS["MISSING"], 0], [0, 0, 0]]
    rest = stamps[0, 1, 20:]
    assert np.median(values[0, 1, 20:]) == pytest.approx(0, abs=float(1e-4 * np.abs(values[0, 1]).max()))
    assert (values[0, 1, 20:] > 0).sum() == (rest > np.median(rest)).sum()


@pytest.mark.parametrize(
    ("fill", "flags"),
    [
        (0.0, VIEW_BITS["FLAT"]),
        (417.0, VIEW_BITS["FLAT"]),
        (np.nan, VIEW_BITS["FLAT"] | VIEW_BITS["EMPTY"] | VIEW_BITS["MISSING"]),
        (FLT_MAX, VIEW_BITS["FLAT"] | VIEW_BITS["EMPTY"] | VIEW_BITS["MISSING"]),
        (np.inf, VIEW_BITS["FLAT"] | VIEW_BITS["EMPTY"] | VIEW_BITS["MISSING"]),
    ],
)
@pytest.mark.parametrize("view", VIEWS)
def test_stamps_without_content_are_zero_and_flagged(fill, flags, view):
    stamps = sky(side=63)
    stamps[1, 1] = fill
    values, found = model_view(stamps, view=view)
    assert not values[1, 1].any()
    assert found.tolist() == [[0, 0, 0], [0, flags, 0]]


@pytest.mark.parametrize("view", VIEWS)
def test_extreme_values_stay_finite(view):
    stamps = np.zeros((3, 3, 63, 63), np.float64)
    stamps[0, :, 31, 31] = 9e29
    stamps[1, :, 31, 31] = 1e-42  # below the smallest normal float32
    stamps[2, :, 31, 31] = 1e300
    values, flags = model_view(stamps, view=view)
    assert np.isfinite(values).all()
    assert (flags[2] & VIEW_BITS["MISSING"]).all()


def test_a_stamp_of_few_levels_keeps_its_contrast():
    """More than half of the pixels equal: no MAD, but there is something to see."""
    stamps = np.zeros((1, 3, 63, 63), np.float32)
    stamps[..., 20:40, 20:40] = 5
    values, flags = model_view(stamps, view="asinh")
    assert (flags == 0).all()
    assert (values[..., 20:40, 20:40] > 1).all()


def test_flagged_pixels_do_not_make_the_background():
    """A saturated half of a stamp is seen, but the sky is that of the other half."""
    stamps = sky(n=1, side=63)
    stamps[..., :40, :] += 1e4
    mask = np.zeros(stamps.shape, np.uint8)
    mask[..., :40, :] = STAMP_BITS["SATURATED"]
    values, flags = model_view(stamps, view="raw", mask=mask)
    assert np.median(values[..., 40:, :]) == pytest.approx(0, abs=0.5)
    assert np.median(values[..., :40, :]) == pytest.approx(1e4, rel=0.01)
    assert (flags == 0).all()
    # where all is flagged, all is used
    everything, _ = model_view(stamps, view="raw", mask=np.full_like(mask, STAMP_BITS["BAD"]))
    np.testing.assert_array_equal(everything, model_view(stamps, view="raw")[0])


def test_what_the_mask_calls_missing_is_missing():
    stamps = sky(n=1, side=63)
    mask = np.zeros(stamps.shape, np.uint8)
    mask[0, 0, 0] = STAMP_BITS["OUTSIDE"]
    values, flags = model_view(stamps, mask=mask)
    assert not values[0, 0, 0].any()
    assert flags.tolist() == [[VIEW_BITS["MISSING"], 0, 0]]


def test_impossible_views_are_refused():
    with pytest.raises(ValueError, match="there is no view 'percentile'; there are l2, asinh, raw"):
        model_view(sky(), view="percentile")
    with pytest.raises(ValueError, match="128"):
        model_view(sky(), size=128)


def test_no_stamps_no_views():
    values, flags = model_view(np.empty((0, 3, 65, 65), np.float32))
    assert values.shape == (0, 3, 63, 63)
    assert flags.shape == (0, 3)
