"""Sky background and its noise, on a mesh of cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import sep

from astrid_assets.errors import ScienceError

__all__ = [
    "Background",
    "estimate_background",
    "excess_scatter",
    "find_source_pixels",
    "finite_median",
    "mean_level",
    "robust_std",
]


@dataclass(frozen=True, eq=False)
class Background:
    """A smooth sky model. Both images are float32 ``(ny, nx)`` in the unit of the data."""

    level: np.ndarray
    """Sky level."""

    rms: np.ndarray
    """Noise of a blank pixel."""

    sources: np.ndarray | None = None
    """Boolean image of the pixels that were left out because of sources; None where none were looked for."""

    crowded: bool = False
    """Whether sources cover nearly all pixels, so that `rms` holds their light."""

    @property
    def median(self) -> float:
        """Median level."""
        return _sparse_median(self.level)

    @property
    def median_rms(self) -> float:
        """Median noise of a blank pixel."""
        return _sparse_median(self.rms)


def _sparse_median(plane: np.ndarray) -> float:
    """Return the median of a plane that is smooth over tens of pixels."""
    return float(np.median(plane[::_SPARSE, ::_SPARSE]))


def robust_std(values: np.ndarray) -> float:
    """Return the standard deviation of the core of a distribution, 1.4826 times the MAD.

    Parameters
    ----------
    values
        Any shape; NaN is left out. NaN is returned where nothing is left.
    """
    values = values[np.isfinite(values)]
    if values.size == 0:
        return float("nan")
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def finite_median(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the medians of the finite values along the last axis, and how many there are.

    Sorting contiguous numbers is ten times faster than `numpy.nanmedian`. Zero where nothing is finite.
    """
    count = np.isfinite(values).sum(axis=-1)
    ordered = np.sort(np.ascontiguousarray(values), axis=-1)  # NaN comes last
    low, high = (
        np.take_along_axis(ordered, np.clip(k, 0, None)[..., None], axis=-1)[..., 0]
        for k in ((count - 1) // 2, count // 2)
    )
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, 0.5 * (low + high), 0.0), count


def estimate_background(
    data: np.ndarray, bad: np.ndarray, *, box: int = 64, filter_size: int = 3, refine: bool = True
) -> Background:
    """Estimate the sky on a mesh.

    A first, coarse mesh by SEP (Bertin & Arnouts 1996; Barbary 2016) finds the sources. The cells of the
    second one are means without their pixels, clipped on both sides alike: a mode, or a mask of what is
    brighter than the noise, would lie below the mean sky by 0.04 sigma, which is 4 % of the light of a star
    of S/N 200 on a stamp of 33 pixels.

    Parameters
    ----------
    data
        Image ``(ny, nx)``, float32.

    bad
        Boolean image of pixels to leave out.

    box
        Side of a mesh cell in pixels; should be larger than any galaxy to be kept. Never more
        than a third of the image.

    filter_size
        Side of the median filter over the mesh, in cells.

    refine
        Whether to make the second mesh; to find bright sources the first one does.

    Raises
    ------
    ScienceError
        If less than 1 % of the pixels are usable.
    """
    if np.mean(~bad) < 0.01:
        raise ScienceError(
            f"only {np.mean(~bad):.2%} of the pixels are usable: no background can be measured"
        )
    cell = max(8, min(box, min(data.shape) // 3))
    first = _mode_mesh(data, bad, cell, filter_size)
    if not np.median(first.noise) > 0:
        raise ScienceError(
            "the pixels have no noise: an image of constants, or clipped at its sky, has no background"
        )
    if not refine:
        return Background(first.back(), first.rms())
    sources = _source_pixels(data, first, bad)
    found = _mean_mesh(data, sources | bad, cell, filter_size, sources)
    if found is None:
        whole = _mode_mesh(data, bad, cell, filter_size, step=1)
        found = Background(whole.back(), whole.rms(), sources)
    return replace(found, crowded=bool(np.mean(sources[~bad]) > MOST_SOURCES))


MOST_SOURCES = 0.75
"""Share of the pixels on sources above which a field is crowded: the rest shows the noise of faint stars."""

FEWEST_PIXELS = 200
"""Blank pixels of a typical cell below which the mode of all pixels is better than the mean of these."""

CLIP = 3.0
"""Deviations beyond which pixels take no part in the mean of a cell."""

CLIPPED_STD = 0.98485
"""Standard deviation of a normal distribution that is clipped at three of its own, until nothing changes."""

SOURCE_LEVELS = ((0.75, 3), (10.0, 8), (100.0, 16), (1000.0, 30))
"""Mean of 5 x 5 pixels in sigma of a pixel, and by how many pixels to grow what exceeds it: the wings of a
seeing profile fall below a tenth of sigma within that. 0.75 are 3.75 sigma of the mean; less would leave out
so many blank pixels that the noise is underestimated by 0.7 %."""


def mean_level(data: np.ndarray, left_out: np.ndarray, *, box: int = 64, filter_size: int = 3) -> np.ndarray:
    """Return the mean level of an image on a mesh, where sources are known already; as `estimate_background`.

    Parameters
    ----------
    data
        Image ``(ny, nx)``, float32.

    left_out
        Boolean image of pixels that do not count.

    box, filter_size
        As for `estimate_background`.
    """
    cell = max(8, min(box, min(data.shape) // 3))
    level, _, count = _cells(data, left_out, cell)
    known = _is_known(count, cell)
    if not known.any():
        return np.zeros(data.shape, np.float32)
    return _smooth_plane(level, known, filter_size, data.shape)


def _mode_mesh(
    data: np.ndarray, bad: np.ndarray, cell: int, filter_size: int, *, step: int | None = None
) -> _Mesh:
    """Return SEP's mesh, on every second pixel of a large image."""
    step = step or (2 if min(data.shape) >= 512 else 1)
    part = np.ascontiguousarray(np.where(bad, 0, data)[::step, ::step], np.float32)
    side = max(4, cell // step)
    mesh = sep.Background(
        part, mask=np.ascontiguousarray(bad[::step, ::step]), bw=side, bh=side, fw=filter_size, fh=filter_size
    )
    return _Mesh(mesh.back(), mesh.rms(), data.shape, step)


@dataclass(frozen=True, eq=False)
class _Mesh:
    """Level and noise on every n-th pixel."""

    level: np.ndarray
    noise: np.ndarray
    shape: tuple[int, int]
    step: int

    def back(self) -> np.ndarray:
        return self._whole(self.level)

    def rms(self) -> np.ndarray:
        return self._whole(self.noise)

    def _whole(self, part: np.ndarray) -> np.ndarray:
        """Repeat each value on the pixels it stands for: the mesh is smooth on this scale."""
        if self.step == 1:
            return part
        rows, columns = self.shape
        return part.repeat(self.step, axis=0)[:rows].repeat(self.step, axis=1)[:, :columns]


def find_source_pixels(data: np.ndarray, rms: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Return the pixels of the sources of an image without sky, grown by their wings.

    Parameters
    ----------
    data, rms
        Image and the noise of its pixels, ``(ny, nx)``.

    bad
        Boolean image of pixels to leave out.
    """
    step = _SPARSE
    level = np.zeros((-(-data.shape[0] // step), -(-data.shape[1] // step)), np.float32)
    return _source_pixels(data, _Mesh(level, rms[::step, ::step], data.shape, step), bad)


_SPARSE = 8
"""Pixels apart of the places where a smooth plane is looked at."""


def _source_pixels(data: np.ndarray, mesh: _Mesh, bad: np.ndarray) -> np.ndarray:
    """Return the pixels of sources, found on means of 5 x 5 pixels, grown by their wings.

    Holes count as well as peaks, so that noise is left out on both sides alike.
    """
    from astrid_assets.science.background_kernels import grow, source_levels

    data = np.ascontiguousarray(data, np.float32)
    thresholds = np.array([level for level, _ in SOURCE_LEVELS])
    noise = np.maximum(mesh.noise, 1e-6 * np.nanmedian(mesh.noise))
    above = source_levels(data, bad, mesh.level, noise, mesh.step, 2, thresholds)
    sources = np.zeros(data.shape, bool)
    for count, (_, radius) in enumerate(SOURCE_LEVELS, 1):
        reached = above >= count
        if not reached.any():
            break
        sources |= grow(reached, radius)
    return sources


def _mean_mesh(
    data: np.ndarray, left_out: np.ndarray, cell: int, filter_size: int, sources: np.ndarray
) -> Background | None:
    """Return the background from clipped means of cells; None where too little is left."""
    level, noise, count = _cells(data, left_out, cell)
    known = _is_known(count, cell)
    if np.median(count) < min(FEWEST_PIXELS, 0.5 * cell**2) or not known.any():
        return None
    shape = data.shape
    planes = (_smooth_plane(plane, known, filter_size, shape) for plane in (level, noise / CLIPPED_STD))
    return Background(*planes, sources)


def _cells(data: np.ndarray, left_out: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return clipped mean and deviation of each cell, and the number of its pixels."""
    from astrid_assets.science.background_kernels import cell_moments

    edges = [np.linspace(0, n, max(1, round(n / cell)) + 1).astype(int) for n in data.shape]
    return cell_moments(data, left_out, *edges, CLIP, 5)


def _is_known(count: np.ndarray, cell: int) -> np.ndarray:
    """Return which cells have pixels enough."""
    return count >= max(16, 0.05 * cell**2)


def _smooth_plane(
    cells: np.ndarray, known: np.ndarray, filter_size: int, shape: tuple[int, int]
) -> np.ndarray:
    """Filter the values of cells, fill those without one, and interpolate them by cubic splines, float32."""
    from scipy.ndimage import distance_transform_edt, median_filter

    from astrid_assets.science.background_kernels import enlarge

    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    cells = median_filter(cells[tuple(nearest)], filter_size)
    down, across = (_spline(n, c) for n, c in zip(shape, cells.shape, strict=True))
    return enlarge(down @ cells @ across.T, _SPARSE, *shape)


@lru_cache(maxsize=8)
def _spline(n: int, cells: int) -> np.ndarray:
    """Return the weights of cubic splines through the middles of cells, constant beyond the first and last.

    At every eighth of n pixels and one place beyond: in between, linear interpolation is as good.
    """
    from scipy.interpolate import CubicSpline

    pixels = np.arange(-(-n // _SPARSE) + 1) * _SPARSE
    place = np.clip((pixels + 0.5) * cells / n - 0.5, 0, cells - 1)
    if cells < 4:
        return np.clip(1.0 - np.abs(place[:, None] - np.arange(cells)), 0.0, None)
    return CubicSpline(np.arange(cells), np.eye(cells), bc_type="natural")(place)


def excess_scatter(values: np.ndarray, errors: np.ndarray) -> float:
    """Return the scatter of values about zero that their errors do not explain.

    The s for which ``values / sqrt(errors^2 + s^2)`` has a robust standard deviation of 1; zero
    where the errors are large enough already.

    Parameters
    ----------
    values, errors
        Residuals and their 1-sigma errors, ``(n,)``.
    """
    from scipy.optimize import brentq

    def surplus(scatter: float) -> float:
        return float(1.4826 * np.median(np.abs(values) / np.hypot(errors, scatter))) - 1.0

    if len(values) == 0 or surplus(0.0) <= 0:
        return 0.0
    return float(brentq(surplus, 0.0, 10.0 * np.abs(values).max(), xtol=1e-7))
