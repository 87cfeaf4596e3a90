"""Other packages' subtractions on the same pairs, where they are installed.

Each gets both images on one grid, with their masks. What it lacks is added outside: a PSF matched filter over
the true noise (``sfft``), the scale of the difference (``properimage``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import ndimage, signal

from astrid_assets.benchmarks.measures import BORDER, THRESHOLD
from astrid_assets.benchmarks.scenes import (
    FLUX_SCALE,
    FRAMES,
    GAIN,
    SATURATION,
    SKY,
    Scenario,
    Scene,
    optics_stamp,
)
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import Difference
from astrid_assets.images.psf import Psf

__all__ = ["PEERS", "available"]

STAMP = 49
"""Side of a PSF, pixels."""

KERNEL_HALF = 6
"""Half width of the kernel of ``sfft``: three of the wider FWHM, pixels."""

STAR_FLUXES = (2e3, 1e5)
"""Fluxes of the static stars that ``sfft`` solves its kernel on, ADU."""

STAR_REACH = 10
"""Half side of the box around such a star, pixels."""

GROWTH = 5
"""What lies so near to a bad pixel is marked, pixels."""


def available(scenario: Scenario) -> list[str]:
    """Return the peers that are installed; none where the images have different grids."""
    if scenario.resampled:
        return []
    return [name for name in PEERS if importlib.util.find_spec(name) is not None]


def _bad(scene: Scene) -> np.ndarray:
    """Return the bad and saturated pixels of either image."""
    saturated = (scene.science.data >= SATURATION) | (scene.reference.data >= SATURATION)
    return scene.science.bad | scene.reference.bad | saturated


def sfft(scene: Scene) -> tuple[Difference, pa.Table]:
    """Subtract with a delta-basis kernel of second order (Hu et al. 2022), solved on given static stars.

    The sharper image is convolved. Its PSF photometry is a matched filter with the true PSF in the middle.
    """
    from sfft.sfftcore.SFFTConfigure import SingleSFFTConfigure
    from sfft.sfftcore.SFFTSubtract import GeneralSFFTSubtract

    bad = _bad(scene)
    science, reference = (
        np.where(bad, 0.0, image.data - SKY).astype(float) for image in (scene.science, scene.reference)
    )
    forward = scene.scenario.science.fwhm >= scene.scenario.reference.fwhm
    convolved, target = (reference, science) if forward else (science, reference)
    used = _star_boxes(scene, bad)
    ny, nx = bad.shape
    how = {"BACKEND_4SUBTRACT": "Numpy", "NUM_CPU_THREADS_4SUBTRACT": 1, "VERBOSE_LEVEL": 0}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        configuration = SingleSFFTConfigure.SSC(
            NX=ny, NY=nx, KerHW=KERNEL_HALF, KerPolyOrder=2, BGPolyOrder=0, **how
        )
        images = (convolved, target, convolved * used, target * used)
        data = GeneralSFFTSubtract.GSS(*images, configuration, **how)[1]
    optics = scene.scenario.science if forward else scene.scenario.reference
    data = data if forward else -data / FLUX_SCALE
    variance = _variance(science, scene.sky_variance[0], 1.0) + _variance(
        reference / FLUX_SCALE, scene.sky_variance[1], FRAMES * FLUX_SCALE
    )
    return _matched(scene, data, optics_stamp(optics, STAMP), variance, bad, "sfft")


def _star_boxes(scene: Scene, bad: np.ndarray) -> np.ndarray:
    """Return the pixels around static stars without bad pixels, new sources or much brighter stars."""
    low, high = STAR_FLUXES
    ny, nx = bad.shape
    used = np.zeros(bad.shape, bool)
    size = 2 * STAR_REACH + 1
    blocked = bad.copy()
    blocked[np.rint(scene.y).astype(int), np.rint(scene.x).astype(int)] = True
    free = ~ndimage.maximum_filter(blocked, size)
    for x, y, flux in zip(scene.star_x, scene.star_y, scene.star_flux, strict=True):
        column, row = round(x), round(y)
        inside = STAR_REACH < column < nx - STAR_REACH and STAR_REACH < row < ny - STAR_REACH
        if inside and low < flux < high and free[row, column]:
            used[row - STAR_REACH : row + STAR_REACH + 1, column - STAR_REACH : column + STAR_REACH + 1] = (
                True
            )
    return used


def _variance(data: np.ndarray, sky_variance: float, frames: float) -> np.ndarray:
    """Return the variance of an image by the true noise of its sky and the counts that stand out of it."""
    return sky_variance + np.where(data > 3 * np.sqrt(sky_variance), data, 0.0) / (GAIN * frames)


def properimage(scene: Scene) -> tuple[Difference, pa.Table]:
    """Subtract by ``properimage.operations.subtract`` with its own PSFs, flux ratio and shift.

    Its difference is put on the scale of the science image by its own noise.
    """
    from properimage.operations import subtract
    from properimage.single_image import SingleImage

    bad = _bad(scene)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference, science = (
            SingleImage(np.where(bad, SKY, image.data).astype(float), mask=bad, smooth_psf=False)
            for image in (scene.reference, scene.science)
        )
        data, psf, _, mask = subtract(reference, science, align=False, iterative=False, beta=True, shift=True)
    data, bad = np.real(np.ma.filled(data, 0.0)), bad | np.asarray(mask, bool)
    psf = np.roll(
        psf,
        [n // 2 - p for n, p in zip(psf.shape, np.unravel_index(psf.argmax(), psf.shape), strict=True)],
        (0, 1),
    )
    middle = tuple(slice(n // 2 - STAMP // 2, n // 2 + STAMP // 2 + 1) for n in psf.shape)
    stamp = psf[middle] / psf[middle].sum()
    noise = np.sqrt(scene.sky_variance[0] + scene.sky_variance[1])
    scale = 1.4826 * np.median(np.abs(data[~bad] - np.median(data[~bad]))) / noise
    variance = noise**2 + _variance(scene.science.data - SKY, 0.0, 1.0)
    return _matched(scene, data / scale, stamp, variance, bad, "properimage")


def _matched(
    scene: Scene, data: np.ndarray, psf: np.ndarray, variance: np.ndarray, bad: np.ndarray, method: str
) -> tuple[Difference, pa.Table]:
    """Return a difference with the fluxes and significances of a PSF matched filter, and its candidates."""
    from astrid_assets.science import detect

    data = np.where(bad, 0.0, data)
    power = (psf**2).sum()
    flipped = psf[::-1, ::-1]
    flux = signal.fftconvolve(data, flipped, mode="same") / power
    carried = signal.fftconvolve(np.where(bad, np.median(variance), variance), flipped**2, mode="same")
    error = np.sqrt(np.maximum(carried, 0.1 * np.median(variance) * power)) / power
    mask = np.where(ndimage.binary_dilation(bad, iterations=GROWTH), bits("BAD"), 0)
    edge = np.ones(bad.shape, bool)
    edge[BORDER:-BORDER, BORDER:-BORDER] = False
    planes: dict[str, Any] = {
        "data": data,
        "variance": variance,
        "score": flux / np.sqrt(np.median(variance) / power),
        "score_corrected": flux / error,
        "flux": flux,
        "flux_error": error,
    }
    difference = Difference(
        **{name: np.asarray(plane, np.float32) for name, plane in planes.items()},
        mask=(mask | np.where(edge, bits("EDGE"), 0)).astype(np.int32),
        psf=Psf(psf, bad.shape, source="given"),
        method=method,
        wcs=scene.science.wcs,
    )
    return difference, detect(difference, threshold=THRESHOLD)


PEERS: dict[str, Callable[[Scene], tuple[Difference, pa.Table]]] = {"sfft": sfft, "properimage": properimage}
"""Subtractions by the name of their package."""
