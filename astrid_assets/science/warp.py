"""Resampling an image onto another pixel grid, with its variance, mask and noise correlation.

Positions are piecewise bicubic polynomials through the world coordinates of a coarse grid; pixels
are interpolated with cubic splines, or averaged over the footprint of the output pixel where the
input is finer. Both kernels are separable in the axes of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import BAD_BITS, bits
from astrid_assets.images.psf import Psf, polynomial_terms
from astrid_assets.science.noise import CORRELATION_RADIUS

if TYPE_CHECKING:
    from collections.abc import Callable

    from astropy.wcs import WCS

__all__ = ["PixelMap", "is_surface_brightness", "map_pixels", "warp"]

FINE_RATIO = 1.2
"""Input pixels finer than the output by more than this along an axis are averaged (design)."""

GRID_STEPS = (64, 32, 16, 8)
"""Steps of the coarse grid of world coordinates, output pixels: the first that meets `MAP_BOUND` is taken."""

MAP_BOUND = 1e-3
"""Largest error of a mapped position, input pixels: the flux of a star of FWHM 2 moves by 1e-6."""

MAP_SAFETY = 2.0
"""The error found at the middles of the cell edges is taken times this: the fourth derivative varies."""

SIGNIFICANT = 0.1
"""Share of the largest weight along an axis from which a tap counts as part of an output pixel: it
hands on its mask planes, and must lie on the input. What is left of a filled pixel beyond is below
a tenth of the error of the fill; the cubic spline keeps four taps between pixels, one on a pixel."""

N_PHASES = 1024
"""Phases of the tables of squared weights: the variance is good to 0.1 %."""

EXCESS_PHASES = 128
"""Phases, along each axis, of the table of what correlated input noise adds to the variance."""

N_SAMPLES = 512
"""Output pixels over which the noise correlation is averaged: quasi-random, good to 0.002."""

PLASTIC = (0.7548776662466927, 0.5698402909980532)
"""The first two powers of the inverse plastic number, the steps of the quasi-random pixels."""

LAG_STEPS = 32
"""Steps per pixel of the tabulated autocorrelation of the kernel."""

WHITE = 0.01
"""Noise whose correlation nowhere exceeds this is taken as white, as in `noise.correlation_of`."""

WIDTH_MARGIN = 1.5
"""Largest footprint of an output pixel over the median one: scales change by less over an image."""

IDENTITY = 0.01
"""A map that moves no pixel by more than this many pixels is the identity."""

SAMPLE_STEP = 61
"""Every so many pixels enter the median of an image: a prime, so that not all are of the same columns."""

ROWS = 16
"""Output rows computed at once: their positions stay in the cache."""

SPLINE_HALF = 8
"""Reach of the cardinal cubic spline, pixels: beyond, weights are below 3e-5."""

PSF_STEPS = 16
"""Steps per pixel of the grid on which a PSF is smoothed by the kernel and sampled anew."""


class Positions(NamedTuple):
    """Input positions of some output pixels and the Jacobian there."""

    x: np.ndarray
    """Input x, ``(n,)``."""

    y: np.ndarray
    """Input y, ``(n,)``."""

    jacobian: np.ndarray
    """Derivatives of the input (x, y) by the output (x, y), ``(n, 2, 2)``."""

    @property
    def widths(self) -> np.ndarray:
        """Root-mean-square sides of the footprint of an output pixel along the input x and y, ``(2, n)``.

        A box of these sides has the second moments of the footprint. It is the footprint itself for
        grids turned by multiples of 90 degrees, of any scale in x and y; otherwise (a turned square)
        it has the area of the footprint, but not its direction.
        """
        return np.hypot(self.jacobian[:, :, 0], self.jacobian[:, :, 1]).T


class Rows(NamedTuple):
    """Input positions of some rows of output pixels; float64 ``(n, nx)``."""

    x: np.ndarray
    """Input x."""

    y: np.ndarray
    """Input y."""

    area: np.ndarray
    """Input pixels in one output pixel."""

    width_x: np.ndarray
    """Width of the footprint along the input x (`Positions.widths`); empty if not asked for."""

    width_y: np.ndarray
    """The same along y."""


class PixelMap:
    """Where each pixel of an output grid lies on an input image.

    Parameters
    ----------
    x, y
        Input position of each output pixel, ``(ny, nx)``; NaN where there is none.

    area
        Input pixels in one output pixel, ``(ny, nx)``.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, area: np.ndarray) -> None:
        self._full = (x, y, area)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(ny, nx)`` of the output grid."""
        return self._full[0].shape

    @property
    def x(self) -> np.ndarray:
        """Input x of each output pixel, ``(ny, nx)``."""
        return self._full[0]

    @property
    def y(self) -> np.ndarray:
        """Input y of each output pixel, ``(ny, nx)``."""
        return self._full[1]

    @property
    def area(self) -> np.ndarray:
        """Input pixels in one output pixel, ``(ny, nx)``."""
        return self._full[2]

    @cached_property
    def _jacobian(self) -> np.ndarray:
        """Derivatives of (x, y) by the output (x, y), ``(2, 2, ny, nx)``."""
        return np.array([np.gradient(p, axis=(1, 0)) for p in (self.x, self.y)])

    def rows(self, start: int, stop: int, *, widths: bool = False) -> Rows:
        """Return the positions of the output rows from ``start`` to before ``stop``."""
        part = slice(start, stop)
        sides = np.hypot(*np.moveaxis(self._jacobian[:, :, part], 1, 0)) if widths else np.empty((2, 0, 0))
        return Rows(*(np.ascontiguousarray(p, np.float64) for p in (*(q[part] for q in self._full), *sides)))

    def at(self, u: np.ndarray, v: np.ndarray) -> Positions:
        """Return the positions of output pixels (u, v), two integer arrays of shape ``(n,)``."""
        jacobian = np.moveaxis(self._jacobian[:, :, v, u], -1, 0)
        return Positions(self.x[v, u].astype(float), self.y[v, u].astype(float), jacobian)

    def sample(self, n: int = N_SAMPLES) -> Positions:
        """Return the positions of ``n`` output pixels spread evenly over the grid."""
        return self.at(*_spread(self.shape, n))


class _CellMap(PixelMap):
    """A map kept as bicubic polynomials; whole images of positions are made when they are asked for.

    Parameters
    ----------
    cells
        Coefficients of v^i u^j, float64 ``(n_cells_y, n_cells_x, 2, 4, 4)``.

    step
        Side of a cell, output pixels.

    shape
        Shape of the output grid.

    error
        Largest error of a position, input pixels.
    """

    def __init__(self, cells: np.ndarray, step: int, shape: tuple[int, int], error: float) -> None:
        self.cells, self.step, self.error = cells, step, error
        self._shape = shape

    @property
    def shape(self) -> tuple[int, int]:
        return self._shape

    @cached_property
    def _full(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ny = self._shape[0]
        parts = [self.rows(start, min(start + ROWS, ny))[:3] for start in range(0, ny, ROWS)]
        return tuple(
            np.concatenate(p, dtype=np.float32, casting="same_kind") for p in zip(*parts, strict=True)
        )

    def rows(self, start: int, stop: int, *, widths: bool = False) -> Rows:
        from astrid_assets.science.sampling_kernels import evaluate_cells

        n = stop - start if widths else 0
        result = Rows(*np.empty((3, stop - start, self._shape[1])), *np.empty((2, n, self._shape[1])))
        evaluate_cells(self.cells, self.step, start, *result)
        return result

    def at(self, u: np.ndarray, v: np.ndarray) -> Positions:
        cells = self.cells[v // self.step, u // self.step]
        powers_u, slopes_u = _powers(u % self.step / self.step)
        powers_v, slopes_v = _powers(v % self.step / self.step)
        x, y = np.einsum("ncij,ni,nj->cn", cells, powers_v, powers_u)
        by_u = np.einsum("ncij,ni,nj->nc", cells, powers_v, slopes_u) / self.step
        by_v = np.einsum("ncij,ni,nj->nc", cells, slopes_v, powers_u) / self.step
        return Positions(x, y, np.stack([by_u, by_v], axis=-1))


def _spread(shape: tuple[int, int], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``n`` pixels (u, v) spread evenly over a grid.

    They follow the additive recurrence of the plastic number (Roberts 2018, R2), which is free of the
    beat between a regular raster and the pixel phases.
    """
    index = np.arange(1, n + 1)
    ny, nx = shape
    return (index * PLASTIC[0] % 1.0 * nx).astype(int), (index * PLASTIC[1] % 1.0 * ny).astype(int)


def _powers(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the powers 0 to 3 of a coordinate and their derivatives, ``(n, 4)`` each."""
    one, zero = np.ones_like(t), np.zeros_like(t)
    return np.stack([one, t, t**2, t**3], axis=-1), np.stack([zero, one, 2 * t, 3 * t**2], axis=-1)


def _on_image(at: Positions, shape: tuple[int, int]) -> np.ndarray:
    """Return which positions lie between the centres of the border pixels of an image."""
    ny, nx = shape
    return (at.x > 0) & (at.x < nx - 1) & (at.y > 0) & (at.y < ny - 1)


def map_pixels(
    output: WCS,
    shape: tuple[int, int],
    source: WCS,
    *,
    shift: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    order: int = 0,
) -> PixelMap:
    """Return where the pixels of an output grid lie on a source image.

    World coordinates are evaluated every 64 pixels; each cell is the bicubic polynomial through the
    4 x 4 positions around it. Its error is largest at the middle of the cell and, to first order,
    the sum of the errors along both axes, which are evaluated at the middles of all cell edges;
    where twice that sum exceeds 1e-3 pixels the step is halved, down to 8 pixels. Cells that exceed
    it even then, or touch a position that has no solution, have no position (NaN), so that the bound
    holds for all pixels that have one.

    Parameters
    ----------
    output, shape
        WCS and shape of the output grid.

    source
        WCS of the input image.

    shift
        Polynomial offsets (x, y), in output pixels, of the sources in the output image against
        where the two WCS put them; see `Registration.coefficients`.

    order
        Order of that polynomial.
    """

    def locate(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        grid_u, grid_v = np.meshgrid(u, v)
        at_u, at_v = grid_u, grid_v
        if shift is not None:
            ny, nx = shape
            terms = polynomial_terms(2 * grid_u / max(nx - 1, 1) - 1, 2 * grid_v / max(ny - 1, 1) - 1, order)
            at_u = grid_u - np.tensordot(shift[0], terms, axes=1)
            at_v = grid_v - np.tensordot(shift[1], terms, axes=1)
        ra, dec = output.all_pix2world(at_u.ravel(), at_v.ravel(), 0)
        return _world_to_pixel(source, ra, dec).reshape(2, *grid_u.shape)

    for step in GRID_STEPS:
        cells, error = _cells(locate, shape, step)
        if not (error > MAP_BOUND).any():
            break
    cells[~(error <= MAP_BOUND)] = np.nan
    return _CellMap(cells, step, shape, float(np.max(error, where=error <= MAP_BOUND, initial=0.0)))


def _cells(
    locate: Callable[[np.ndarray, np.ndarray], np.ndarray], shape: tuple[int, int], step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the polynomials of the cells of a map and the bound of their error, NaN where unknown."""
    n_y, n_x = ((n - 1) // step + 1 for n in shape)
    nodes = locate((np.arange(n_x + 3) - 1) * step, (np.arange(n_y + 3) - 1) * step)
    windows = np.lib.stride_tricks.sliding_window_view(nodes, (4, 4), axis=(1, 2))
    # from values at -1, 0, 1, 2 to coefficients of powers
    to_powers = np.linalg.inv(np.vander([-1.0, 0.0, 1.0, 2.0], increasing=True))
    cells = np.moveaxis(to_powers @ windows @ to_powers.T, 0, 2)
    corners_x, corners_y = np.arange(n_x) * step, np.arange(n_y) * step
    half = 0.5 ** np.arange(4)
    along_x = np.moveaxis(cells[..., 0, :] @ half, 2, 0) - locate(corners_x + step / 2, corners_y)
    along_y = np.moveaxis(cells[..., :, 0] @ half, 2, 0) - locate(corners_x, corners_y + step / 2)
    error = MAP_SAFETY * (np.abs(along_x).max(axis=0) + np.abs(along_y).max(axis=0))
    return np.ascontiguousarray(cells), error


def _world_to_pixel(wcs: WCS, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Return pixel positions ``(2, n)``; NaN where a distortion cannot be inverted, far outside."""
    from astropy.wcs import NoConvergence

    try:
        return np.array(wcs.all_world2pix(ra, dec, 0, tolerance=1e-5, maxiter=50))
    except NoConvergence as error:
        positions = np.array(error.best_solution.T)
        for index in (error.divergent, error.slow_conv):
            if index is not None:
                positions[:, index] = np.nan
        return positions


@dataclass(frozen=True)
class _Kernel:
    """A separable resampling kernel, as weights by the distance of an input pixel."""

    width_x: float | None = None
    """Side of the averaged box along the input x, pixels; None for cubic splines."""

    width_y: float | None = None
    """The same along y."""

    @classmethod
    def of(cls, at: Positions) -> _Kernel:
        """Return the kernel for a map: averages where the input is finer by `FINE_RATIO` along an axis."""
        if not len(at.x):
            return cls()
        widths = np.median(at.widths, axis=1)
        if widths.max() <= FINE_RATIO:
            return cls()
        return cls(*np.maximum(widths, 1.0).tolist())

    @property
    def widths(self) -> tuple[float | None, float | None]:
        """Sides along (x, y)."""
        return self.width_x, self.width_y

    @property
    def averages(self) -> bool:
        """Whether the input is averaged over boxes."""
        return self.width_x is not None


def _half(width: float | None) -> int:
    """Return the reach of the kernel along an axis, pixels."""
    return SPLINE_HALF if width is None else int(np.ceil(0.5 * width + 0.5))


def _weights(t: np.ndarray, width: float | None) -> np.ndarray:
    """Return the weights of input pixels at distances ``t`` along an axis.

    The cardinal cubic spline (Unser 1999, eq. 12), or the share of a box that a pixel covers.
    """
    if width is not None:
        return np.clip(0.5 * (width + 1.0) - np.abs(t), 0.0, min(1.0, width)) / width
    distance, value = _cardinal_spline()
    return np.interp(np.abs(t), distance, value, right=0.0)


@cache
def _cardinal_spline() -> tuple[np.ndarray, np.ndarray]:
    """Return the cardinal cubic spline at distances in steps of a thousandth of a pixel."""
    pole = np.sqrt(3.0) - 2.0
    distance = np.arange(SPLINE_HALF * N_PHASES + 1) / N_PHASES
    value = np.zeros_like(distance)
    for k in range(-2, SPLINE_HALF + 3):
        d = np.abs(distance - k)
        basis = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0.0))
        value += -6.0 * pole / (1.0 - pole**2) * pole ** abs(k) * basis
    return distance, value


@cache
def _spline_tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the squared weights of the six central taps and the significant taps, by phase.

    The squared weights are normalised to the sum over all taps, of which the six hold all but 3e-4.
    """
    phase = np.arange(N_PHASES + 1)[:, None] / N_PHASES
    taps = np.arange(-SPLINE_HALF, SPLINE_HALF + 2)
    weights = _weights(taps - phase, None)
    central = weights[:, SPLINE_HALF - 2 : SPLINE_HALF + 4] ** 2
    central *= (weights**2).sum(axis=1, keepdims=True) / central.sum(axis=1, keepdims=True)
    significant = np.abs(weights) >= SIGNIFICANT * np.abs(weights).max(axis=1, keepdims=True)
    first = taps[significant.argmax(axis=1)]
    last = taps[::-1][significant[:, ::-1].argmax(axis=1)]
    return central.astype(np.float32), np.stack([first, last], axis=1).astype(np.int8)


def warp(image: MaskedImage, pixels: PixelMap, *, wcs: WCS | None = None) -> MaskedImage:
    """Resample an image; flux is conserved.

    Along each axis the weights of the input pixels sum to one at every phase; values per pixel are
    multiplied by the local ratio of pixel areas. Inputs finer than the output by more than 1.2 along
    an axis are averaged over a box with the second moments of the footprint of the output pixel,
    each input pixel by its exact overlap (`Positions.widths` says what that means for turned grids).

    Bad pixels are filled before the interpolation and every output pixel to which one of them
    contributes more than a tenth of the largest weight, along both axes, carries its mask planes.
    Where such a tap lies outside the input, pixels are NaN and NO_DATA.

    Parameters
    ----------
    image
        The input, with variance.

    pixels
        From `map_pixels`.

    wcs
        WCS of the output grid.

    Returns
    -------
    MaskedImage
        On the output grid. The variance of each pixel is the sum of the variances of the input
        pixels times their squared weights, and what the correlation of the input noise adds;
        ``noise_correlation`` is the mean over the phases, that of the input included. A PSF is
        turned, scaled and smoothed with the pixels.
    """
    if _is_identity(pixels, image.shape):
        return image.replace(wcs=wcs)
    sample = pixels.sample()
    on_image = _on_image(sample, image.shape)
    sample = Positions(*(p[on_image] for p in sample))
    kernel = _Kernel.of(sample)
    data, variance, mask = _resampled(image, pixels, kernel)
    return image.replace(
        data=data,
        variance=variance,
        mask=mask,
        wcs=wcs,
        saturation=_warped_saturation(image, sample),
        psf=_warped_psf(image.psf, pixels, image.shape, sample, kernel),
        noise_correlation=_warped_correlation(image.noise_correlation, sample, kernel),
    )


def _warped_saturation(image: MaskedImage, sample: Positions) -> float | None:
    """Return the saturation level in the unit of the output pixels, which sum or share those of the input."""
    if image.saturation is None or is_surface_brightness(image) or not len(sample.x):
        return image.saturation
    return image.saturation * float(np.median(np.abs(np.linalg.det(sample.jacobian))))


def _is_identity(pixels: PixelMap, shape: tuple[int, int]) -> bool:
    """Return whether the map moves no pixel by more than a hundredth: nothing to interpolate."""
    if pixels.shape != shape:
        return False
    v, u = np.meshgrid(*(np.r_[0 : n - 1 : GRID_STEPS[0], n - 1] for n in shape), indexing="ij")
    at = pixels.at(u.ravel(), v.ravel())
    return bool(max(np.abs(at.x - u.ravel()).max(), np.abs(at.y - v.ravel()).max()) < IDENTITY)


def is_surface_brightness(image: MaskedImage) -> bool:
    """Return whether the unit is per solid angle, so that resampling leaves values alone."""
    return image.unit is not None and any(
        str(base) in {"sr", "rad", "arcsec", "deg"} for base in image.unit.bases
    )


def _resampled(
    image: MaskedImage, pixels: PixelMap, kernel: _Kernel
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return data, variance and mask on the output grid."""
    from astrid_assets.science import sampling_kernels

    filled, known = _filled(image)
    near = _near_planes(image.mask, kernel)
    excess = _excess(image.noise_correlation, kernel)
    flat = is_surface_brightness(image)
    data = np.empty(pixels.shape, np.float32)
    variance = np.empty(pixels.shape if image.variance is not None else (0, 0), np.float32)
    mask = np.empty(pixels.shape, np.int32)
    if not kernel.averages:
        # what was filled is a copy already
        coefficients = np.empty_like(filled) if filled is image.data else filled
        sampling_kernels.spline_coefficients(filled, coefficients)
        filled = coefficients
    for start in range(0, pixels.shape[0], ROWS):
        part = slice(start, start + ROWS)
        rows = pixels.rows(start, min(start + ROWS, pixels.shape[0]), widths=kernel.averages)
        at = (rows.x, rows.y, np.ones_like(rows.area) if flat else rows.area)
        inputs = (filled, known, image.mask, near, *at)
        outputs = (excess, bits("NO_DATA"), data[part], variance[part], mask[part])
        if kernel.averages:
            boxes = (np.maximum(rows.width_x, 1.0), np.maximum(rows.width_y, 1.0))
            sampling_kernels.gather_area(*inputs, *boxes, SIGNIFICANT, *outputs)
        else:
            sampling_kernels.gather_spline(*inputs, *_spline_tables(), *outputs)
    return data, variance if image.variance is not None else None, mask


def _near_planes(mask: np.ndarray, kernel: _Kernel) -> np.ndarray:
    """Return the blocks whose output pixels a mask plane may reach; see `flag_blocks`."""
    from astrid_assets.science.sampling_kernels import MASK_SHIFT, flag_blocks

    # two taps to either side of an interpolated pixel, or half a box and the pixels at its ends
    pixels = 2.0 if not kernel.averages else 0.5 * WIDTH_MARGIN * max(kernel.widths) + 2.0
    return flag_blocks(mask, MASK_SHIFT, int(np.ceil(pixels / 2**MASK_SHIFT)))


def _filled(image: MaskedImage) -> tuple[np.ndarray, np.ndarray]:
    """Return data and variance with bad pixels replaced; an empty variance if there is none.

    A bad pixel takes the Gaussian mean of the good ones within five pixels, else the median of the
    image, whose difference a cubic spline carries no farther than a thousandth. Its variance is the
    median.
    """
    from astrid_assets.science.sampling_kernels import fill_near

    known = np.empty((0, 0), np.float32) if image.variance is None else image.variance
    if not (np.bitwise_or.reduce(image.mask, axis=None) & BAD_BITS):
        return image.data, known
    sample = np.s_[::SAMPLE_STEP]
    good = (image.mask.ravel()[sample] & BAD_BITS) == 0
    far = np.float32(np.median(image.data.ravel()[sample][good])) if good.any() else np.float32(0)
    typical = (
        np.float32(np.median(known.ravel()[sample][good])) if good.any() and known.size else np.float32(0)
    )
    return fill_near(image.data, known, image.mask, BAD_BITS, far, typical)


def _autocorrelation(width: float | None, phase: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """Return sum_k w(k - phase) w(k - phase - lag); phase and lag are broadcast."""
    half = _half(width)
    taps = np.arange(-half, half + 2)
    phase, lag = phase[..., None], lag[..., None]
    return (_weights(taps - phase, width) * _weights(taps - phase - lag, width)).sum(axis=-1)


def _excess(correlation: np.ndarray | None, kernel: _Kernel) -> np.ndarray:
    """Return the variance of resampled noise of a correlation over that of white noise, by phase (y, x)."""
    if correlation is None:
        return np.ones((1, 1), np.float32)
    phase = (np.arange(EXCESS_PHASES)[:, None] + 0.5) / EXCESS_PHASES
    along = []
    for width, n in zip(kernel.widths, correlation.shape[::-1], strict=True):
        # a pair of input pixels d apart: the kernel of the second is displaced by -d
        value = _autocorrelation(width, phase, -(np.arange(n)[None] - n // 2).astype(float))
        along.append(value / value[:, n // 2, None])
    excess = along[1] @ correlation @ along[0].T
    return np.maximum(excess, 0.0).astype(np.float32)


def _warped_correlation(before: np.ndarray | None, sample: Positions, kernel: _Kernel) -> np.ndarray | None:
    """Return the noise correlation after the resampling, averaged over the phases of the sample.

    Two output pixels share sum_k sum_m w_1(k) w_2(m) rho(m - k) of the noise, with the correlation
    rho of the input and the weights w of both, a product of sums along x and y for each m - k.
    """
    if not len(sample.x):
        return before
    radius = CORRELATION_RADIUS
    lags = np.arange(-radius, radius + 1)
    lag_v, lag_u = np.meshgrid(lags, lags, indexing="ij")
    moved = sample.jacobian @ np.stack([lag_u.ravel(), lag_v.ravel()])
    given = np.ones((1, 1)) if before is None else before
    shared = [
        _shared_noise(p % 1.0, moved[:, axis], width, given.shape[1 - axis])
        for axis, (p, width) in enumerate(zip((sample.x, sample.y), kernel.widths, strict=True))
    ]
    mean = np.einsum("nly,nlx,yx->l", shared[1], shared[0], given, optimize=True).reshape(lag_u.shape)
    mean /= mean[radius, radius]
    off_centre = np.abs(mean).ravel()
    off_centre[off_centre.size // 2] = 0
    return mean if off_centre.max() >= WHITE else None


def _shared_noise(phase: np.ndarray, moved: np.ndarray, width: float | None, n: int) -> np.ndarray:
    """Return the products of the weights of two output pixels, summed over pairs of input pixels.

    Parameters
    ----------
    phase
        Phase of the first along an axis, ``(n_sample,)``.

    moved
        Distance of the second, input pixels, ``(n_sample, n_lags)``.

    width
        Side of the kernel.

    n
        Odd number of distances between the input pixels of a pair.

    Returns
    -------
    numpy.ndarray
        ``(n_sample, n_lags, n)``.
    """
    reach = 2 * _half(width) + 1
    lags = np.arange(-reach * LAG_STEPS, reach * LAG_STEPS + 1) / LAG_STEPS
    phases = np.arange(LAG_STEPS + 1)[:, None] / LAG_STEPS
    table = _autocorrelation(width, phases, lags[None])
    apart = moved[:, :, None] - (np.arange(n) - n // 2)
    at = np.broadcast_to(phase[:, None, None] * LAG_STEPS, apart.shape)
    return ndimage.map_coordinates(table, [at, (apart + reach) * LAG_STEPS], order=1, mode="constant")


def _warped_psf(
    psf: Psf | None, pixels: PixelMap, shape: tuple[int, int], sample: Positions, kernel: _Kernel
) -> Psf | None:
    """Return a PSF on the output grid.

    Stamps at places all over the grid are smoothed by the kernel, averaged over the phases of the
    sample, taken through the local Jacobian, and fitted by a polynomial of the same order. This is the
    mean of the stars of a constant PSF; what the phase of each adds to it no PSF can describe.
    """
    if psf is None:
        return None
    u, v = _places(psf.order, pixels, shape)
    if not len(u):
        return None
    at = pixels.at(u, v)
    phases = (sample.x % 1.0, sample.y % 1.0)
    smooth = [_smoothing(*axis) for axis in zip(psf.shape[::-1], kernel.widths, phases, strict=True)]
    inverse = np.linalg.inv(at.jacobian[len(u) // 2])
    size_x, size_y = (int(np.ceil(np.hypot(*(row * psf.shape[::-1])))) | 1 for row in inverse)
    grid_v, grid_u = np.mgrid[:size_y, :size_x]
    offsets = np.stack([grid_u.ravel() - size_x // 2, grid_v.ravel() - size_y // 2])
    stamps = []
    for stamp, jacobian in zip(psf.at(at.x, at.y), at.jacobian, strict=True):
        fine = smooth[1] @ stamp @ smooth[0].T
        where = (jacobian @ offsets)[::-1] * PSF_STEPS + (np.array(fine.shape) // 2)[:, None]
        moved = ndimage.map_coordinates(fine, where, order=3, mode="constant")
        stamps.append(moved / moved.sum())
    ny, nx = pixels.shape
    terms = polynomial_terms(2.0 * u / max(nx - 1, 1) - 1.0, 2.0 * v / max(ny - 1, 1) - 1.0, psf.order).T
    basis = np.linalg.lstsq(terms, np.array(stamps), rcond=None)[0].reshape(-1, size_y, size_x)
    return Psf(basis, (ny, nx), order=psf.order, n_stars=psf.n_stars, chi2=psf.chi2, source=psf.source)


def _places(order: int, pixels: PixelMap, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return output pixels (u, v) that lie on the input, twice as many as a polynomial needs.

    For a constant PSF it is the one nearest to the middle of the grid.
    """
    u, v = _spread(pixels.shape, N_SAMPLES)
    inside = np.flatnonzero(_on_image(pixels.at(u, v), shape))
    if order == 0:
        ny, nx = pixels.shape
        from_middle = np.hypot(u[inside] - nx / 2, v[inside] - ny / 2)
        inside = inside[np.argsort(from_middle)][:1]
    inside = inside[: (order + 1) * (order + 2)]
    return u[inside], v[inside]


def _smoothing(n: int, width: float | None, phase: np.ndarray) -> np.ndarray:
    """Return the matrix that takes samples to their interpolation, smoothed by the kernel, on a fine grid.

    Samples are interpolated with quintic splines. The kernel stands at the distances at which it is
    used, those of the input pixels from positions of the given phases.

    Returns
    -------
    numpy.ndarray
        ``(PSF_STEPS (n - 1) + 1, n)``.
    """
    reach = 2 * SPLINE_HALF + int(np.ceil(width or 0))
    n_steps = reach * PSF_STEPS
    impulse = ndimage.spline_filter1d(np.eye(4 * reach + 1)[2 * reach], 5, mode="mirror")
    at = 2 * reach + np.arange(-n_steps, n_steps + 1) / PSF_STEPS
    cardinal = ndimage.map_coordinates(impulse, [at], order=5, prefilter=False)
    half = _half(width)
    distance = (np.arange(-half, half + 2) - phase[:, None]).ravel()
    weight = _weights(distance, width)
    # each distance is shared by the two steps beside it
    below = np.floor(distance * PSF_STEPS)
    beyond = distance * PSF_STEPS - below
    index = below.astype(int) + n_steps
    kernel = np.bincount(index, weight * (1 - beyond), len(at)) + np.bincount(
        index + 1, weight * beyond, len(at)
    )
    smoothed = np.convolve(cardinal, kernel / kernel.sum(), mode="same")
    fine = np.arange(PSF_STEPS * (n - 1) + 1)
    from_sample = fine[:, None] - PSF_STEPS * np.arange(n)[None] + n_steps
    inside = (from_sample >= 0) & (from_sample < len(smoothed))
    return np.where(inside, smoothed[np.clip(from_sample, 0, len(smoothed) - 1)], 0.0)
