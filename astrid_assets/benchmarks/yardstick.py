"""What the algebra can reach: plain proper subtraction with the true PSFs, flux ratio, shift and noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import fft, ndimage

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

__all__ = ["applies", "subtract_with_truth"]

STEP, PAD = 256, 32
"""Side of a tile with one PSF, and what it is widened by, pixels."""

STAMP = 49
"""Side of the true PSFs, pixels."""

GROWTH = 5
"""What lies so near to a bad pixel is marked, pixels."""

Planes = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Side:
    """An image without its sky, on the flux scale of the science image."""

    data: np.ndarray
    variance: np.ndarray
    sky_variance: float


def applies(scenario: Scenario) -> bool:
    """Return whether the truth of a scenario is enough: both images on one grid."""
    return not scenario.resampled


def subtract_with_truth(scene: Scene) -> tuple[Difference, pa.Table]:
    """Return the difference of a scene (Zackay, Ofek & Gal-Yam 2016, eqs 12 to 29) and its candidates.

    Parameters
    ----------
    scene
        Of a scenario to which this `applies`.
    """
    from astrid_assets.science import detect

    bad = scene.science.bad | scene.reference.bad
    bad |= (scene.science.data >= SATURATION) | (scene.reference.data >= SATURATION)
    v_n, v_r = scene.sky_variance
    science = _side(scene.science.data - SKY, bad, v_n, 1.0 / GAIN)
    reference = _side((scene.reference.data - SKY) / FLUX_SCALE, bad, v_r, 1.0 / (GAIN * FRAMES * FLUX_SCALE))
    planes: Planes = {name: np.empty(bad.shape, np.float32) for name in _PLANES}
    for core, tile in _tiles(bad.shape):
        p_n, p_r = _transforms(scene, core)
        parts = _subtract(science, reference, tile, p_n, p_r)
        for name, values in parts.items():
            rows, columns = (slice(PAD, PAD + s.stop - s.start) for s in core)
            planes[name][core] = values[rows, columns]
    difference = Difference(
        **planes, mask=_mask(bad), psf=_psf(scene), method="yardstick", wcs=scene.science.wcs
    )
    return difference, detect(difference, threshold=THRESHOLD)


_PLANES = ("data", "variance", "score", "score_corrected", "flux", "flux_error")


def _side(data: np.ndarray, bad: np.ndarray, sky_variance: float, per_count: float) -> _Side:
    """Fill bad pixels with sky, add the photon noise of what stands out of it, and a border."""
    data = np.where(bad, 0.0, data).astype(np.float32)
    bright = np.where(data > 3.0 * np.sqrt(sky_variance), data, 0.0)
    variance = (sky_variance + bright * per_count).astype(np.float32)
    border = ((PAD, PAD + STEP),) * 2
    return _Side(
        np.pad(data, border),
        np.pad(variance, border, constant_values=np.float32(sky_variance)),
        sky_variance,
    )


def _tiles(shape: tuple[int, int]) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Yield the parts of an image, and those of the padded image that they are made from."""
    ny, nx = shape
    for y in range(0, ny, STEP):
        for x in range(0, nx, STEP):
            core = (slice(y, min(y + STEP, ny)), slice(x, min(x + STEP, nx)))
            yield core, (slice(y, y + STEP + 2 * PAD), slice(x, x + STEP + 2 * PAD))


def _stamps(scene: Scene, core: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Return both true PSFs in the middle of a tile; that of the reference lies where its sources lie."""
    ny, nx = scene.static.shape
    v, u = ((s.start + s.stop - 1) / (n - 1) - 1.0 for s, n in zip(core, (ny, nx), strict=True))
    dx, dy = scene.scenario.shift
    science = optics_stamp(scene.scenario.science, STAMP, u, v)
    return science, optics_stamp(scene.scenario.reference, STAMP, u, v, (-dx, -dy))


def _transforms(scene: Scene, core: tuple[slice, slice]) -> list[np.ndarray]:
    """Return the transforms of both PSFs on a padded tile."""
    side, half = STEP + 2 * PAD, STAMP // 2
    whole = np.zeros((2, side, side), np.float32)
    whole[:, :STAMP, :STAMP] = _stamps(scene, core)
    return list(fft.rfft2(np.roll(whole, (-half, -half), axis=(1, 2))))


def _subtract(
    science: _Side, reference: _Side, tile: tuple[slice, slice], p_n: np.ndarray, p_r: np.ndarray
) -> Planes:
    """Return the planes of a padded tile."""
    noise = science.sky_variance * np.abs(p_r) ** 2 + reference.sky_variance * np.abs(p_n) ** 2
    root = np.sqrt(np.maximum(noise, 1e-9 * noise.max()))
    d_n, d_r = p_r / root, p_n / root
    psf = d_n * p_n
    n_hat, r_hat = fft.rfft2(science.data[tile]), fft.rfft2(reference.data[tile])
    shape = science.data[tile].shape
    difference = d_n * n_hat - d_r * r_hat
    score = fft.irfft2(np.conj(psf) * difference, shape)
    # the noise of D is white and of unit variance
    information = float((fft.irfft2(psf, shape) ** 2).sum())
    variance = _carried(science, tile, np.conj(psf) * d_n) + _carried(reference, tile, np.conj(psf) * d_r)
    variance = np.maximum(variance, 0.5 * information)
    total = float(psf[0, 0].real)
    return {
        "data": fft.irfft2(difference, shape) / total,
        "variance": (_carried(science, tile, d_n) + _carried(reference, tile, d_r)) / total**2,
        "score": score / np.sqrt(information),
        "score_corrected": score / np.sqrt(variance),
        "flux": score / information,
        "flux_error": np.sqrt(variance) / information,
    }


def _carried(side: _Side, tile: tuple[slice, slice], kernel: np.ndarray) -> np.ndarray:
    """Return the variance that an image gives to what a kernel makes of it."""
    shape = side.variance[tile].shape
    squared = fft.rfft2(fft.irfft2(kernel, shape) ** 2)
    return fft.irfft2(squared * fft.rfft2(side.variance[tile]), shape)


def _mask(bad: np.ndarray) -> np.ndarray:
    """Return the mask planes of the difference."""
    mask = np.where(ndimage.binary_dilation(bad, iterations=GROWTH), bits("BAD"), 0).astype(np.int32)
    edge = np.ones(bad.shape, bool)
    edge[BORDER:-BORDER, BORDER:-BORDER] = False
    return mask | np.where(edge, bits("EDGE"), 0).astype(np.int32)


def _psf(scene: Scene) -> Psf:
    """Return P_D in the middle of the image."""
    ny, nx = scene.static.shape
    p_n, p_r = _transforms(scene, (slice(0, ny), slice(0, nx)))
    v_n, v_r = scene.sky_variance
    psf = fft.irfft2(p_n * p_r / np.sqrt(v_n * np.abs(p_r) ** 2 + v_r * np.abs(p_n) ** 2))
    stamp = np.roll(psf, (STAMP // 2,) * 2, axis=(0, 1))[:STAMP, :STAMP]
    return Psf(stamp[None] / stamp.sum(), (ny, nx), order=0, source="truth")
