"""The survey's reference: a coadd of dithered frames, resampled to a grid of its own.

The frames are stacked in a few dither groups. Each group is drawn on its own shifted and turned
grid with its own PSF, gets the Poisson and read noise of all its frames, and is then really
interpolated, so that the noise of the coadd is correlated as in life.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import cos, radians, sin

import numpy as np

from astrid_assets.archives.simulated import dirt
from astrid_assets.archives.simulated.cadence import Visit
from astrid_assets.archives.simulated.conditions import Conditions, conditions
from astrid_assets.archives.simulated.grid import Cards, reference_cards
from astrid_assets.archives.simulated.optics import fwhm
from astrid_assets.archives.simulated.render import Points, draw
from astrid_assets.archives.simulated.scene import Epoch, Scene, static_scene, transient_scene
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.sky import patch
from astrid_assets.archives.simulated.survey import BANDS, GAIN, READ_NOISE, SATURATION
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.archives.simulated.truth import Truth

__all__ = ["ReferenceStack", "choose_frames", "stack"]

_FEWEST, _MOST = 9, 15
"""Frames of a reference (ZTF coadds 15 to 40); one is made from three on."""

_LEAST_FRAMES = 3

_CHOICE = 2
"""The sharpest of so many times more frames of the best season are stacked."""

_TURN_OF = (0, 1, 0, 2, 1, 0)
"""Dither group of each frame in turn: three groups of uneven depth; more would only cost time."""

_BORDER = 4
"""Pixels at the edges of a frame that do not enter the coadd."""

_DITHER = 18.0
"""RMS of the dithers on each axis, pixels."""

_TURN = 0.03
"""RMS of the rotation between groups, degrees."""


@dataclass(frozen=True, eq=False)
class ReferenceStack:
    """A simulated reference before it becomes files."""

    data: np.ndarray
    """ADU, float32; NaN where no frame contributes."""

    noise: np.ndarray
    """1-sigma error of a pixel in ADU, float32."""

    coverage: np.ndarray
    """Number of frames, float32."""

    cards: Cards
    """True world coordinates."""

    zeropoint: float
    """AB magnitude of 1 ADU."""

    gain: float
    """Electrons per ADU where all frames contribute."""

    saturation: float
    """ADU above which pixels are full in some frame."""

    fwhm: float
    """FWHM of point sources at the centre, pixels, mean over the frames, before the interpolation."""

    frames: tuple[Visit, ...]
    """What was stacked."""

    truth: Truth
    """What is in it."""


def choose_frames(tile: Tile, candidates: Sequence[Visit]) -> tuple[Visit, ...]:
    """Return the visits that the survey stacks: clear, well pointed, sharp; () if too few.

    Parameters
    ----------
    tile
        The pointing.

    candidates
        Visits in one band that a reference may use.
    """
    if not candidates:
        return ()
    wanted = _FEWEST + int(tile.chance("frames", candidates[0].band) * (_MOST - _FEWEST + 1))
    states = [(conditions(tile, visit), visit) for visit in candidates]
    usable = [(s.psf.fwhm, visit) for s, visit in states if s.cloud == 0.0 and not s.misplaced]
    best = sorted(_best_season(usable, _CHOICE * wanted))[:wanted]
    return tuple(sorted(visit for _, visit in best)) if len(best) >= _LEAST_FRAMES else ()


def _best_season(usable: list[tuple[float, Visit]], length: int) -> list[tuple[float, Visit]]:
    """Return the run of frames with the best mean FWHM; all frames if there are no more than ``length``."""
    if len(usable) <= length:
        return usable
    widths = np.cumsum([0.0, *(width for width, _ in usable)])
    first = int(np.argmin(widths[length:] - widths[:-length]))
    return usable[first : first + length]


@dataclass(frozen=True, eq=False)
class _Group:
    """Frames stacked on one native grid."""

    frames: tuple[Visit, ...]
    state: Conditions
    matrix: np.ndarray
    """Turns reference (y, x) to native (y, x)."""

    offset: np.ndarray
    scale: float
    """Native ADU to ADU of the reference."""

    @property
    def sky_variance(self) -> float:
        """Variance of the sky and read noise in a native pixel of the mean frame, ADU^2."""
        return (self.state.sky / GAIN + (READ_NOISE / GAIN) ** 2) / len(self.frames)


def stack(tile: Tile, frames: Sequence[Visit]) -> ReferenceStack:
    """Return the coadd of some visits: the mean of the frames that cover a pixel, on a common sky level.

    Parameters
    ----------
    tile
        The pointing.

    frames
        Visits in one band.
    """
    cards, shape = reference_cards(tile)
    zeropoint, truth = BANDS[frames[0].band].zeropoint, Truth()
    rng = generator("reference", *tile.key, frames[0].band, *(visit.night for visit in frames))
    groups = [_group(tile, part, zeropoint, rng) for part in _split(frames)]
    total, variance, depth = (np.zeros(shape, np.float32) for _ in range(3))
    for group in groups:
        weight = len(group.frames) * _covered(tile, group, shape)
        total += weight * np.float32(group.scale) * _frame(tile, group, frames, cards, rng)
        variance += weight**2 * np.float32(group.scale**2 * group.sky_variance) * _noise_factor(group, shape)
        depth += weight
    scale = float(np.average([g.scale for g in groups], weights=[len(g.frames) for g in groups]))
    with np.errstate(divide="ignore", invalid="ignore"):
        data = total / depth
        light = np.maximum(data, 0.0) * np.float32(scale / GAIN * _mean_noise_factor()) / depth
        noise = np.sqrt(variance / depth**2 + light)
    everything = _scene(groups[0], cards, shape, frames, zeropoint)
    static_scene(everything, patch(tile), truth)
    transient_scene(everything, tile, patch(tile), truth)
    return ReferenceStack(
        data=data + np.float32(np.mean([g.state.sky * g.scale for g in groups])),
        noise=noise,
        coverage=depth,
        cards=cards,
        zeropoint=zeropoint,
        gain=GAIN * len(frames) / scale,
        saturation=0.95 * SATURATION * min(g.scale for g in groups),
        fwhm=float(np.mean([fwhm(g.state.psf) for g in groups])),
        frames=tuple(frames),
        truth=truth,
    )


def _split(frames: Sequence[Visit]) -> list[tuple[Visit, ...]]:
    """Return dither groups of uneven size, each with frames from the whole span."""
    members = [tuple(v for i, v in enumerate(frames) if _TURN_OF[i % len(_TURN_OF)] == g) for g in range(3)]
    return [part for part in members if part]


def _group(tile: Tile, frames: tuple[Visit, ...], zeropoint: float, rng: np.random.Generator) -> _Group:
    """Return a group: the mean of its frames' conditions, and where reference pixels fall on its grid."""
    states = [conditions(tile, visit) for visit in frames]
    names = ("zeropoint", "sky", "airmass")
    mean = {name: float(np.mean([getattr(state, name) for state in states])) for name in names}
    psf = replace(states[0].psf, fwhm=float(np.mean([s.psf.fwhm for s in states])))
    angle, (_, shape) = radians(rng.normal(0.0, _TURN)), reference_cards(tile)
    matrix = np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
    centre, native = (np.array(shape) - 1) / 2, (np.array([tile.ny, tile.nx]) - 1) / 2
    return _Group(
        frames=frames,
        state=replace(states[0], psf=psf, **mean),
        matrix=matrix,
        offset=native - matrix @ (centre + rng.normal(0.0, _DITHER, 2)),
        scale=10 ** (0.4 * (zeropoint - mean["zeropoint"])),
    )


def _scene(
    group: _Group, cards: Cards, shape: tuple[int, int], frames: Sequence[Visit], zeropoint: float
) -> Scene:
    """Return the sky on the grid of the reference, averaged over all frames, through a group's air."""
    mjds = tuple(visit.mjd_mid for visit in frames)
    epoch = Epoch(mjds, frames[0].band, zeropoint, group.state.airmass, group.state.parallactic)
    return Scene(cards, shape, epoch, lambda x, _: np.ones_like(x))


def _frame(
    tile: Tile, group: _Group, frames: Sequence[Visit], cards: Cards, rng: np.random.Generator
) -> np.ndarray:
    """Return a group's image on the grid of the reference in native ADU, sky subtracted.

    Full wells are cut after the interpolation: splines would ring at their edges for a dozen pixels.
    """
    shape = reference_cards(tile)[1]
    image = _resampled(_native(tile, group, frames, cards, rng), group, shape)
    dirt.bleed(image, np.zeros(shape, np.int16))
    return image - np.float32(group.state.sky)


def _native(
    tile: Tile, group: _Group, frames: Sequence[Visit], cards: Cards, rng: np.random.Generator
) -> np.ndarray:
    """Return the mean of a group's frames on its own grid in ADU with its noise, not yet saturated."""
    state, shape, count = group.state, (tile.ny, tile.nx), len(group.frames)
    scene = _scene(group, cards, reference_cards(tile)[1], frames, state.zeropoint)
    sky, unused = patch(tile), Truth()  # the truth of the whole stack is noted once, not by group
    points = Points.joined(static_scene(scene, sky, unused), transient_scene(scene, tile, sky, unused))
    y, x = group.matrix @ np.stack([points.y, points.x]) + group.offset[:, None]
    model = np.maximum(draw(Points(x, y, points.flux), state.psf, shape), 0.0) + np.float32(state.sky)
    electrons = np.float32(GAIN * count)
    data = rng.poisson(model * electrons).astype(np.float32) / electrons
    read_noise = np.float32(READ_NOISE / GAIN / np.sqrt(count))
    return data + read_noise * rng.standard_normal(shape, dtype=np.float32)


def _covered(tile: Tile, group: _Group, shape: tuple[int, int]) -> np.ndarray:
    """Return 1 where a group sees the sky, 0 outside it and at its bad columns."""
    from scipy import ndimage

    good = np.zeros((tile.ny, tile.nx), np.uint8)
    good[_BORDER:-_BORDER, _BORDER:-_BORDER] = 1
    if tile.dirt:
        for column, first, last, _ in dirt.detector(tile.seed, tile.rcid, good.shape).columns:
            good[first:last, max(column - 2, 0) : column + 3] = 0
    return ndimage.affine_transform(
        good, group.matrix, group.offset, shape, output=np.float32, order=0, mode="constant"
    )


def _resampled(native: np.ndarray, group: _Group, shape: tuple[int, int]) -> np.ndarray:
    """Return a group's image on the grid of the reference, interpolated by cubic splines."""
    from scipy import ndimage

    return ndimage.affine_transform(
        native, group.matrix, group.offset, shape, output=np.float32, order=3, mode="nearest"
    )


@lru_cache(maxsize=1)
def _kernel_power() -> np.ndarray:
    """Return the sum of the squared spline weights at 65 sub-pixel phases from 0 to 1."""
    from scipy import ndimage

    delta = np.zeros(41)
    delta[20] = 1.0
    rows = [ndimage.shift(delta, phase, order=3, mode="constant") for phase in np.linspace(0, 1, 65)]
    return np.array([(row**2).sum() for row in rows])


def _mean_noise_factor() -> float:
    return float(_kernel_power()[:-1].mean() ** 2)


def _noise_factor(group: _Group, shape: tuple[int, int]) -> np.ndarray:
    """Return the variance that interpolation leaves of white noise at each pixel, float32."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    factor = np.ones(shape, np.float32)
    power = _kernel_power().astype(np.float32)
    for (a, b), offset in zip(group.matrix, group.offset, strict=True):
        place = (a * rows + b * columns + offset).astype(np.float32)
        factor *= power[np.rint((place - np.floor(place)) * 64).astype(np.int8)]
    return factor
