"""One science exposure, from the sky through air, telescope and detector to counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from astrid_assets.archives.simulated import dirt
from astrid_assets.archives.simulated.cadence import Visit
from astrid_assets.archives.simulated.conditions import Conditions, conditions
from astrid_assets.archives.simulated.grid import Cards, science_cards
from astrid_assets.archives.simulated.render import Points, draw, field_coordinates
from astrid_assets.archives.simulated.scene import (
    Epoch,
    Scene,
    asteroid_points,
    static_scene,
    transient_scene,
)
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.sky import patch
from astrid_assets.archives.simulated.survey import GAIN, READ_NOISE, SATURATION
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.archives.simulated.truth import Truth

__all__ = ["ScienceExposure", "expose"]

_DETECTED = 1.5
"""Height over the sky noise from which ZTF's mask calls a pixel part of a source."""

_HALO_STAR, _HALO_RADIUS = 11.0, 14.0
"""Magnitude from which ZTF's mask flags the halo of a star; radius in pixels per magnitude brighter."""


@dataclass(frozen=True, eq=False)
class ScienceExposure:
    """A simulated exposure before it becomes files."""

    data: np.ndarray
    """ADU, float32 ``(ny, nx)``, sky included."""

    mask: np.ndarray
    """ZTF's mask bits, int16."""

    model: np.ndarray
    """Expected counts in ADU, before noise and cosmic rays, float32."""

    cards: Cards
    """True world coordinates."""

    state: Conditions
    """Air, sky and telescope."""

    truth: Truth
    """What is in it."""


def expose(tile: Tile, visit: Visit) -> ScienceExposure:
    """Return the exposure of a visit.

    The expected counts are drawn as Poisson numbers of electrons; read noise is Gaussian.
    """
    state, truth, shape = conditions(tile, visit), Truth(), (tile.ny, tile.nx)
    cards = science_cards(tile, state)
    rng = generator("exposure", *tile.key, visit.band, visit.night, tile.ny, tile.nx)
    mask = np.zeros(shape, np.int16)
    chip = dirt.detector(tile.seed, tile.rcid, shape)
    scene = _scene(tile, visit, state, cards, chip)
    points = _shine(scene, tile, visit, truth)
    if tile.dirt:
        points = Points.joined(points, dirt.satellite_trails(shape, rng, mask, truth))
    light = draw(points, state.psf, shape)
    model = np.maximum(light, 0.0) + _sky(state, shape)
    if tile.dirt:
        # sources already have the smooth part of the response, in their true flux: here it is the sky's turn
        model += _sky(state, shape) * (chip.response(*field_coordinates(shape)) - 1)
        _defects(model, mask, chip, state, truth)
        dirt.ghosts(_bright(truth), model, rng, mask, truth)
    data = _counts(model, rng)
    if tile.dirt:
        data += dirt.cosmic_rays(shape, rng, mask, truth) / np.float32(GAIN)
    _saturate(data, mask, truth, state)
    _flag_sources(light, mask, state, truth)
    data += rng.standard_normal(shape, dtype=np.float32) * np.float32(READ_NOISE / GAIN)
    return ScienceExposure(data, mask, model, cards, state, truth)


def _scene(tile: Tile, visit: Visit, state: Conditions, cards: Cards, chip: dirt.Detector) -> Scene:
    a, b, c = state.cloud_slope

    def throughput(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        fx, fy = (2 * x - (tile.nx - 1)) / tile.nx, (2 * y - (tile.ny - 1)) / tile.ny
        clear = np.clip(1.0 + a * fx + b * fy + c * fx * fy, 0.05, None)
        return clear * chip.response(fx, fy) if tile.dirt else clear

    epoch = Epoch((visit.mjd_mid,), visit.band, state.zeropoint, state.airmass, state.parallactic)
    return Scene(cards, (tile.ny, tile.nx), epoch, throughput)


def _shine(scene: Scene, tile: Tile, visit: Visit, truth: Truth) -> Points:
    sky = patch(tile)
    return Points.joined(
        static_scene(scene, sky, truth),
        transient_scene(scene, tile, sky, truth),
        asteroid_points(scene, tile, sky, visit.night, truth),
    )


def _sky(state: Conditions, shape: tuple[int, int]) -> np.ndarray:
    x, y = field_coordinates(shape)
    a, b = state.sky_slope
    return np.float32(state.sky) * (1.0 + np.float32(a) * x + np.float32(b) * y)


def _defects(
    model: np.ndarray, mask: np.ndarray, chip: dirt.Detector, state: Conditions, truth: Truth
) -> None:
    """Apply what is always wrong with the detector, in place, and note what the sky and the pointing did."""
    model *= chip.texture
    model[chip.hot_y, chip.hot_x] += chip.hot_level
    mask[chip.hot_y[chip.hot_flagged], chip.hot_x[chip.hot_flagged]] |= 1 << dirt.BITS["noisy"]
    truth.add(kind="hot_pixel", x=chip.hot_x, y=chip.hot_y, flux=chip.hot_level, flagged=chip.hot_flagged)
    for column, first, last, response in chip.columns:
        model[first:last, column] *= response
        bit = dirt.BITS["dead" if response < 0.5 else "low_response"]
        mask[first:last, column] |= 1 << bit
        ends = {"x": column, "y": first, "x_end": column, "y_end": last - 1}
        truth.add(kind="bad_column", **ends, extent=0.5, flagged=True)
    truth.add(kind="flat_residual", extent=float(np.hypot(*model.shape)), flagged=False)
    if state.cloud > 0:
        truth.add(kind="cloud", mag=state.cloud, flagged=False)
    if state.misplaced:
        truth.add(kind="pointing_offset", x=state.offset[0], y=state.offset[1], flagged=False)


def _bright(truth: Truth) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y, flux, mag of the stars (first block of the truth)."""
    block = truth.rows[0]
    chosen = np.flatnonzero(block["mag"] < _HALO_STAR)
    return tuple(block[name][chosen] for name in ("x", "y", "flux", "mag"))


def _counts(model: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return counts in ADU of a Poisson number of electrons."""
    return rng.poisson(model * np.float32(GAIN)).astype(np.float32) / np.float32(GAIN)


def _saturate(data: np.ndarray, mask: np.ndarray, truth: Truth, state: Conditions) -> None:
    block, peak = truth.rows[0], 0.55 / state.psf.fwhm**2
    full = block["flux"] * peak > 0.8 * SATURATION
    dirt.bleed(data, mask)
    half = np.sqrt(block["flux"][full] * peak / SATURATION) * state.psf.fwhm
    truth.add(
        kind="saturated",
        ident=block["ident"][full],
        x=block["x"][full],
        y=block["y"][full],
        mag=block["mag"][full],
        flux=block["flux"][full],
        extent=half + 4.0,
        flagged=True,
    )


def _flag_sources(light: np.ndarray, mask: np.ndarray, state: Conditions, truth: Truth) -> None:
    """Set the bits that say where sources are; they do not mean that a pixel is bad."""
    noise = np.sqrt(state.sky / GAIN + (READ_NOISE / GAIN) ** 2)
    mask[light > _DETECTED * noise] |= 1 << dirt.BITS["detected"]
    ny, nx = mask.shape
    block = truth.rows[0]
    x, y = np.rint(block["x"]).astype(int), np.rint(block["y"]).astype(int)
    on = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (block["flux"] > 15 * noise)
    mask[y[on], x[on]] |= 1 << dirt.BITS["psf_source"]
    for sx, sy, _, mag in zip(*_bright(truth), strict=True):
        radius = 10.0 + _HALO_RADIUS * (_HALO_STAR - mag)
        rows, columns = np.ogrid[:ny, :nx]
        mask[(columns - sx) ** 2 + (rows - sy) ** 2 < radius**2] |= 1 << dirt.BITS["halo"]
