"""Masks, noise planes and PSF stamps as surveys deliver them."""

from __future__ import annotations

import numpy as np
import pytest

from astrid_assets.errors import ImageError
from astrid_assets.images.companions import apply_coverage, decode_mask, psf_from_stamp, variance_from
from astrid_assets.images.masks import bits
from astrid_assets.images.psf import fwhm_of
from astrid_assets.surveys import MaskTable, load_profile


def gaussian(n: int, sigma: float) -> np.ndarray:
    grid = np.arange(n) - (n - 1) / 2
    one = np.exp(-0.5 * (grid / sigma) ** 2)
    return np.outer(one, one)


def test_decam_codes_and_older_bits() -> None:
    table = load_profile("decam").mask
    values = np.array([[0, 1, 2, 3, 4, 5, 7, 8]], np.int32)
    names = [None, "BAD", "NO_DATA", "SATURATED", "BLEED", "COSMIC_RAY", "SUSPECT", "STREAK"]
    expected = [0 if n is None else int(bits(n)) for n in names]
    assert decode_mask(values, table, {"PLVER": "V4.8.2a"}).tolist() == [expected]
    assert decode_mask(values, table, {}).tolist() == [expected]
    old = decode_mask(np.array([[1, 2, 16, 18]]), table, {"PLVER": "V3.2.1"})
    both = int(bits("SATURATED", "COSMIC_RAY"))
    assert old.tolist() == [[int(bits("BAD")), int(bits("SATURATED")), int(bits("COSMIC_RAY")), both]]


def test_a_transient_that_a_pipeline_flagged_stays_usable() -> None:
    """DECam's code 7 marks what differs from other exposures: that may be the very transient."""
    mask = decode_mask(np.array([[7]]), load_profile("decam").mask, {})
    assert mask[0, 0] == bits("SUSPECT")


def test_without_a_table_not_zero_is_bad() -> None:
    values = np.array([[0.0, 1.0, np.nan, 4.0]])
    bad = int(bits("BAD"))
    assert decode_mask(values, MaskTable(), {}).tolist() == [[0, bad, 0, bad]]


@pytest.mark.parametrize(("role", "value"), [("weight", 0.25), ("noise", 2.0), ("variance", 4.0)])
def test_variances(role: str, value: float) -> None:
    plane = np.full((3, 4), value)
    plane[0, :3] = 0.0, np.nan, -1.0
    data = np.ones((3, 4))
    data[0, 1] = np.nan
    variance, mask = variance_from(role, plane, data, np.zeros((3, 4), np.int32))
    np.testing.assert_array_equal(variance, np.float32(4.0))
    bad, empty = int(bits("BAD")), int(bits("NO_DATA"))
    assert mask[0].tolist() == [bad, empty, bad, 0]
    assert not mask[1:].any()


def test_weights_that_are_nothing_leave_the_variance_unknown() -> None:
    variance, mask = variance_from("weight", np.zeros((2, 2)), np.ones((2, 2)), np.zeros((2, 2), np.int32))
    assert variance is None
    assert not mask.any()


def test_coverage() -> None:
    mask = apply_coverage(np.array([[0, 3, np.nan]]), np.array([[0, 1, 0]], np.int32))
    assert mask.tolist() == [[int(bits("NO_DATA")), 1, int(bits("NO_DATA"))]]


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [120, 121])
def test_finer_stamps_are_integrated_over_pixels(factor: int, size: int) -> None:
    """A Gaussian of sigma s sampled f times finer has sigma s / f at the detector, widened by the pixel."""
    sigma = 2.0
    psf = psf_from_stamp(gaussian(size, sigma * factor), {"OVERSAMP": factor}, (100, 100), None)
    stamp = psf.at(50, 50)
    assert stamp.shape[0] % 2 == 1
    assert stamp.sum() == pytest.approx(1)
    centre = stamp.shape[0] // 2
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (centre, centre)
    grid = np.arange(stamp.shape[0]) - centre
    assert (stamp.sum(0) * grid).sum() == pytest.approx(0, abs=1e-3)
    # the pixel adds 1/12 (a box sampled f times has (1 - 1/f^2)/12 odd, (1 + 2/f^2)/12 even)
    extra = (1 - 1 / factor**2) / 12 if factor % 2 else (1 + 2 / factor**2) / 12
    assert (stamp.sum(0) * grid**2).sum() == pytest.approx(sigma**2 + extra, rel=2e-3)


def test_sampling_by_pixel_scale() -> None:
    psf = psf_from_stamp(gaussian(81, 8.0), {"PIXELSCL": 0.00775}, (100, 100), 0.031)
    assert fwhm_of(psf.at(0, 0)) == pytest.approx(2.3548 * np.hypot(2.0, 0.29), rel=0.02)


def test_an_even_stamp_becomes_odd_and_centred() -> None:
    psf = psf_from_stamp(gaussian(24, 1.5), {}, (50, 50), None)
    stamp = psf.at(0, 0)
    assert stamp.shape == (23, 23)
    np.testing.assert_allclose(stamp, stamp[::-1, ::-1], atol=1e-6)
    assert fwhm_of(stamp) == pytest.approx(2.3548 * 1.5, rel=0.015)


@pytest.mark.parametrize("stamp", [np.zeros((5, 5)), -np.ones((5, 5)), np.ones((2, 2)), np.ones(7)])
def test_what_is_no_psf_is_refused(stamp: np.ndarray) -> None:
    with pytest.raises(ImageError, match="is no point-spread function"):
        psf_from_stamp(stamp, {}, (50, 50), None)
