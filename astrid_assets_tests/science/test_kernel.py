"""The fitted matching kernel against analytic kernels and a dense least-squares solution."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d

from astrid_assets.errors import PsfError, ScienceError
from astrid_assets.images import AlignedPair, MaskedImage, Normalization, Psf, Registration
from astrid_assets.images.masks import bits
from astrid_assets.science.kernel import MIN_STAMPS, fit_kernel

RATIO = 0.8
SIZE = 400


def gaussian(size, sigma, x=0.0, y=0.0):
    """A unit-flux Gaussian sampled at the pixel centres; sampled and exact convolution agree from 0.8 up."""
    grid = np.arange(size) - size // 2
    profile = np.exp(-0.5 * ((grid[None, :] - x) ** 2 + (grid[:, None] - y) ** 2) / sigma**2)
    return profile / (2 * np.pi * sigma**2)


def places(n, *, size=SIZE, margin=30, seed=11):
    """Positions on a jittered grid: isolated, all over the image."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    grid = np.linspace(margin, size - margin, side)
    x, y = (a.ravel()[:n] + rng.uniform(-3, 3, n) for a in np.meshgrid(grid, grid))
    return x, y


def gaussian_pair(x, y, *, widths=(1.6, 1.2), ratio=RATIO, noise=(0.5, 0.2), flux=4000.0, shift=(0.0, 0.0)):
    """A normalized pair of Gaussian stars; widths and fluxes may be one number or one per star."""
    rng = np.random.default_rng(3)
    flux = np.broadcast_to(flux, len(x))
    images = []
    for width, scale, sigma, move in (
        (widths[0], 1.0, noise[0], (0.0, 0.0)),
        (widths[1], 1.0 / ratio, noise[1], shift),
    ):
        data = rng.normal(0, sigma, (SIZE, SIZE))
        for x0, y0, f, w in zip(x, y, flux, np.broadcast_to(width, len(x)), strict=True):
            ix, iy = round(x0), round(y0)
            stamp = f * scale * gaussian(41, w, x0 - move[0] - ix, y0 - move[1] - iy)
            data[iy - 20 : iy + 21, ix - 20 : ix + 21] += stamp
        psf = Psf(gaussian(31, float(np.mean(width))), (SIZE, SIZE))
        variance = np.full((SIZE, SIZE), sigma**2)
        images.append(MaskedImage(data, u.adu, variance=variance, psf=psf))
    norm = Normalization(ratio, 0.0, 0.0, ratio, len(x), 0.0, 0.0, noise[0], noise[1])
    return AlignedPair(*images, Registration("assumed"), 1.0, norm)


def left_of_a_star(stamp, sharp, broad):
    """Largest residual of a star turned from one width into another, over its peak."""
    star = gaussian(61, broad)
    left = convolve2d(gaussian(61, sharp), stamp / stamp.sum(), mode="same") - star
    return np.abs(left).max() / star.max()


def centroid(stamp):
    """Centroid (x, y) of a kernel about its middle."""
    grid = np.arange(len(stamp)) - len(stamp) // 2
    return (stamp * grid[None, :]).sum() / stamp.sum(), (stamp * grid[:, None]).sum() / stamp.sum()


@pytest.mark.parametrize(("broad", "sharp"), [(1.6, 1.2), (2.2, 1.1), (4.5, 1.5)])
def test_gaussians_are_matched_by_the_analytic_gaussian(broad, sharp):
    kernel = fit_kernel(gaussian_pair(*places(64), widths=(broad, sharp)), max_order=0)
    found = kernel.at(200, 200)
    expected = gaussian(len(found), np.sqrt(broad**2 - sharp**2))
    assert kernel.convolves == "reference"
    assert found.sum() == pytest.approx(RATIO, rel=0.005)
    assert np.abs(found / RATIO - expected).max() < 0.1 * expected.max()  # ripples that stars do not have
    assert left_of_a_star(found, sharp, broad) < 0.005


def test_roles_are_exchanged_where_the_science_image_is_sharper():
    kernel = fit_kernel(gaussian_pair(*places(64), widths=(1.2, 1.6), noise=(0.4, 0.5)), max_order=0)
    assert kernel.convolves == "science"
    assert kernel.sum_at(200, 200) == pytest.approx(1 / RATIO, rel=0.005)
    assert left_of_a_star(kernel.at(200, 200), 1.2, 1.6) < 0.005


def test_the_variation_over_the_image_is_recovered():
    x, y = places(100)

    def width(x):
        return np.sqrt(1.2**2 + 1.2 + 0.3 * (2 * x / (SIZE - 1) - 1))

    kernel = fit_kernel(gaussian_pair(x, y, widths=(width(x), 1.2)))
    assert kernel.order == 2
    for place in (50, 200, 350):
        assert left_of_a_star(kernel.at(place, 200), 1.2, width(place)) < 0.01
    assert left_of_a_star(kernel.at(50, 200), 1.2, width(350)) > 0.1


def test_a_shift_is_part_of_the_kernel():
    kernel = fit_kernel(gaussian_pair(*places(64), shift=(0.2, -0.1)), max_order=0)
    x, y = centroid(kernel.at(0, 0))
    assert x == pytest.approx(0.2, abs=0.01)
    assert y == pytest.approx(-0.1, abs=0.01)


def test_a_sloping_flux_ratio_is_part_of_the_kernel_where_allowed():
    x, y = places(64)
    pair = gaussian_pair(x, y)
    tilt = 1 + 0.05 * (2 * np.arange(SIZE) / (SIZE - 1) - 1)
    pair = pair.replace(science=pair.science.replace(data=pair.science.data * tilt))
    kernel = fit_kernel(pair, ratio_order=1)
    assert kernel.sum_at(350, 200) / kernel.sum_at(50, 200) == pytest.approx(tilt[350] / tilt[50], rel=0.005)
    assert fit_kernel(pair).sum_at(350, 200) == fit_kernel(pair).sum_at(50, 200)


@pytest.mark.parametrize("correlated", [False, True])
def test_noise_in_the_convolved_image_does_not_shrink_the_kernel(correlated):
    """Stars of a signal-to-noise ratio of 50; a fit that takes the noise for signal leaves 5 %."""
    x, y = places(144, margin=25)
    pair = gaussian_pair(x, y, noise=(1.0, 0.0), flux=900.0)
    noise, lags = np.random.default_rng(5).normal(0, 4.0, (SIZE, SIZE)), np.arange(-5, 6)
    correlation = None
    if correlated:
        noise = gaussian_filter(noise, 0.6, mode="wrap")
        correlation = np.exp(-(lags[:, None] ** 2 + lags**2) / (4 * 0.6**2))
    reference = pair.reference.replace(
        data=pair.reference.data + noise,
        variance=np.full((SIZE, SIZE), noise.var()),
        noise_correlation=correlation,
    )
    kernel = fit_kernel(pair.replace(reference=reference), max_order=0)
    assert kernel.sum_at(0, 0) == pytest.approx(RATIO, rel=0.015)
    assert left_of_a_star(kernel.at(0, 0), 1.2, 1.6) < 0.025


def test_variable_stars_are_left_out():
    x, y = places(64)
    steady = fit_kernel(gaussian_pair(x, y), max_order=0)
    pair, brighter = (
        gaussian_pair(x, y),
        gaussian_pair(x, y, flux=np.where(np.arange(64) % 16 == 0, 6000.0, 4000.0)),
    )
    kernel = fit_kernel(pair.replace(science=brighter.science), max_order=0)
    assert kernel.n_rejected == 4
    assert kernel.sum_at(0, 0) == pytest.approx(steady.sum_at(0, 0), rel=0.002)


def test_bad_pixels_take_no_part():
    x, y = places(64)
    pair = gaussian_pair(x, y)
    data, mask = pair.science.data.copy(), pair.science.mask.copy()
    rows, columns = np.rint(y).astype(int) + 5, np.rint(x).astype(int)
    data[rows, columns] = 1e5
    mask[rows, columns] |= bits("SATURATED")
    spoiled = fit_kernel(pair.replace(science=pair.science.replace(data=data, mask=mask)), max_order=0)
    assert np.abs(spoiled.at(0, 0) - fit_kernel(pair, max_order=0).at(0, 0)).max() < 0.01
    assert spoiled.n_rejected == 0


@pytest.mark.parametrize(("n", "order"), [(MIN_STAMPS[0], 0), (MIN_STAMPS[1], 1), (MIN_STAMPS[2], 2)])
def test_the_order_drops_with_the_number_of_stars(n, order):
    assert fit_kernel(gaussian_pair(*places(n))).order == order


def test_too_few_sources_are_told():
    with pytest.raises(PsfError, match="2 of 2 sources are usable for a matching kernel, 3 needed"):
        fit_kernel(gaussian_pair(*places(2)))
    with pytest.raises(PsfError, match="0 of 0"):
        fit_kernel(gaussian_pair(np.zeros(0), np.zeros(0)))


def test_an_implausible_sum_is_refused():
    pair = gaussian_pair(*places(20))
    with pytest.raises(PsfError, match="off the flux ratio"):
        fit_kernel(pair.replace(normalization=replace(pair.normalization, flux_ratio=1.6)))


def test_a_pair_must_be_normalized():
    with pytest.raises(ScienceError, match="normalize"):
        fit_kernel(gaussian_pair(*places(4)).replace(normalization=None))


def test_the_fit_agrees_with_dense_least_squares():
    """One Gaussian of degree 2, constant over the image, solved from the convolved whole images."""
    x, y = places(25, margin=40)
    pair = gaussian_pair(x, y, noise=(0.4, 0.02))
    kernel = fit_kernel(pair, max_order=0, gaussians=((1.2, 2),))
    grid = np.arange(-4, 5)
    gauss = np.exp(-0.5 * (grid / 1.2) ** 2)
    functions = [np.outer(gauss * grid**j, gauss * grid**i) for j in range(3) for i in range(3 - j)]
    convolved = [convolve2d(pair.reference.data, f, mode="same").ravel() for f in functions]
    near = np.zeros((SIZE, SIZE), bool)
    for a, b in zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        near[b - 12 : b + 13, a - 12 : a + 13] = True
    design = np.array(convolved)[:, near.ravel()].T
    solution = np.linalg.lstsq(design, pair.science.data[near], rcond=None)[0]
    dense = np.tensordot(solution, np.array(functions), axes=1)
    assert np.abs(kernel.at(0, 0) - dense).max() < 0.005 * dense.max()
