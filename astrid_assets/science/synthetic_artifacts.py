"""Synthetic artefacts: defects of detector, optics and processing, added to the pixels of a copy.

Each defect has the recipe of its cause, drawn from the ranges of `ArtifactOptions`: charge that knows
nothing of the PSF (cosmic rays, hot pixels, bleeding), response that is lost (dead columns, dust), light
that is no source (trails, ghosts, glow), electronics (crosstalk), and stars whose light sits a little
elsewhere or in a slightly other PSF than the reference has (dipoles, residuals). No defect is entered in
the mask: whether the pipeline copes with it is what it is made for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft, ndimage, special

from astrid_assets.images.image import MaskedImage
from astrid_assets.science.background import estimate_background, robust_std
from astrid_assets.science.stars import find_sources
from astrid_assets.seeds import generator

if TYPE_CHECKING:
    from astrid_assets.images.psf import Psf

__all__ = ["ARTIFACT_CLASSES", "ArtifactOptions", "add_artifacts"]

Range = tuple[float, float]

ARTIFACT_CLASSES = {
    "cosmic_ray": "track of a charged particle, as sharp as the pixels",
    "hot_pixel": "pixel with much dark current",
    "hot_column": "hot pixel that leaves charge in the pixels read out after it",
    "dead_column": "piece of a column with little or no response",
    "low_response": "shadow of dust near the focal plane",
    "satellite_trail": "piece of the trail of a satellite, slightly out of focus",
    "ghost": "out-of-focus image of the pupil: a faint ring",
    "crosstalk": "faint copy of a saturated star of another amplifier, of either sign",
    "bleed": "charge that runs along the column from a bright star",
    "edge_glow": "glow of an amplifier at the edge of the detector",
    "dipole": "star displaced by a fraction of a pixel",
    "star_residual": "star with a slightly other width and flux than the PSF predicts",
}
"""Defects that can be added."""


@dataclass(frozen=True)
class ArtifactOptions:
    """Sizes and strengths of the defects; ranges are drawn uniformly, or in the logarithm where said."""

    weights: dict[str, float] = field(
        default_factory=lambda: {
            "cosmic_ray": 0.16,
            "hot_pixel": 0.08,
            "hot_column": 0.05,
            "dead_column": 0.07,
            "low_response": 0.04,
            "satellite_trail": 0.08,
            "ghost": 0.07,
            "crosstalk": 0.05,
            "bleed": 0.05,
            "edge_glow": 0.03,
            "dipole": 0.16,
            "star_residual": 0.16,
        }
    )
    """Relative frequency by class. Own choice: what masks catch least (residuals of stars) most often."""

    cosmic_ray_density: Range = (300.0, 4000.0)
    """Electrons per pixel of track, logarithmic. A minimum-ionising particle frees 80 electrons per
    micron of silicon (Groom 2002, Exp. Astron. 14, 45): 1200 per pixel of 15 micron."""

    cosmic_ray_length: Range = (0.5, 25.0)
    """Length of the track on the detector, pixels, logarithmic: steep tracks are the most frequent."""

    charge_diffusion: float = 0.35
    """Standard deviation of the charge cloud, pixels: 5 micron (Holland et al. 2003, IEEE TED 50, 225)."""

    hot_level: Range = (30.0, 2000.0)
    """Significance of a hot pixel above the noise of the sky, sigma, logarithmic."""

    hot_tail: Range = (6.0, 40.0)
    """Length of the tail of a hot column, pixels, exponential decay."""

    column_length: Range = (20.0, 120.0)
    """Length of a dead piece of a column, pixels."""

    column_response: tuple[float, ...] = (0.0, 0.05, 0.8)
    """Responses of a bad column: dead, nearly dead, trapping."""

    dust_depth: Range = (0.03, 0.12)
    """Light that a shadow of dust takes after flat-fielding went wrong, share."""

    dust_radius: Range = (3.0, 12.0)
    """Radius of the shadow, pixels."""

    trail_length: Range = (90.0, 200.0)
    """Length of a piece of trail, pixels: longer than a stamp, for no satellite starts in one."""

    trail_significance: Range = (1.0, 30.0)
    """Peak of the profile across a trail above the noise of the sky, sigma, logarithmic."""

    trail_defocus: Range = (0.3, 2.0)
    """Additional width, sigma in pixels: satellites are closer than infinity (Bektesevic et al. 2018)."""

    ghost_radius: Range = (5.0, 28.0)
    """Outer radius of the ring, pixels."""

    ghost_significance: Range = (0.7, 6.0)
    """Surface brightness over the noise of the sky, sigma per pixel, logarithmic."""

    ghost_obstruction: float = 0.35
    """Inner over outer radius: central obstruction of a wide-field telescope."""

    crosstalk_significance: Range = (2.0, 25.0)
    """Level over the noise of the sky, sigma, logarithmic: 1e-4 to 2e-3 of the full well (DECam, Bernstein
    et al. 2017, PASP 129, 114502)."""

    crosstalk_saturation: Range = (4.0, 100.0)
    """Peak of the other star over its full well, logarithmic. The copy of a star that is not saturated
    would look like a source."""

    crosstalk_negative: float = 0.3
    """Share with a negative coefficient."""

    bleed_length: Range = (8.0, 60.0)
    """Length of the charge along the column, each way, pixels."""

    bleed_level: Range = (10.0, 300.0)
    """Level at the star over the noise of the sky, sigma, logarithmic."""

    glow_significance: Range = (2.0, 20.0)
    """Glow at the edge over the noise of the sky, sigma per pixel, logarithmic."""

    glow_scale: Range = (4.0, 14.0)
    """Length over which it decays, pixels."""

    dipole_shift: Range = (0.08, 0.6)
    """Displacement of a star, pixels: registration errors, refraction by colour, moving stars."""

    residual_width: Range = (0.03, 0.12)
    """Relative change of the width of the PSF, either sign."""

    residual_flux: float = 0.01
    """Largest relative change of the flux of the same star, either sign. More would be a variable star."""

    star_significance: Range = (6.0, 150.0)
    """Significance of the changed pixels of a star, sigma: less is not detected."""


@dataclass(frozen=True, eq=False)
class _Scene:
    """What the recipes look at."""

    image: MaskedImage
    psf: Psf
    fwhm: float
    gain: float | None
    rms: float
    stars: np.ndarray
    options: ArtifactOptions


@dataclass(frozen=True, eq=False)
class _Defect:
    """The change of some pixels."""

    corner: tuple[int, int]
    """Row and column of the first pixel of `change`; may lie outside the image."""

    change: np.ndarray
    """What is added, image unit."""

    ends: tuple[float, float, float, float]
    """x, y, x_end, y_end: a line along it, or twice its centre."""

    extent: float
    """Distance from that line within which it changes pixels, pixels."""

    light: bool = False
    """Whether it is light, with photon noise of its own."""

    drawn: dict[str, float] = field(default_factory=dict)
    """Parameters of the recipe."""


def add_artifacts(
    image: MaskedImage,
    *,
    psf: Psf,
    seed: str | int,
    gain: float | None = None,
    count: int = 0,
    places: Sequence[tuple[str, float, float]] | None = None,
    avoid: np.ndarray | None = None,
    separation: float = 40.0,
    stars: np.ndarray | None = None,
    options: ArtifactOptions | None = None,
) -> tuple[MaskedImage, list[dict[str, Any]]]:
    """Add defects to the pixels of a copy of a science image. The mask stays as it is.

    Parameters
    ----------
    image
        Science image before any processing, with its sky.

    psf
        Its PSF.

    seed
        Key of the random numbers; every defect has its own, so that one more changes no other.

    gain
        Electrons per unit, for photon noise and charge; that of the image if None.

    count
        Number of defects at places of their own. Fewer where there is no room.

    places
        Class, x and y of each defect instead; those that need a star take the nearest.

    avoid
        Positions ``(n, 2)`` as x, y to keep `separation` from, such as injected sources.

    separation
        Least distance from them and from one another, pixels; more than half a stamp.

    stars
        x, y and flux ``(n, 3)`` of the stars of the image, measured there if None.

    options
        Sizes and strengths.

    Returns
    -------
    tuple
        The image, its variance raised where counts were added, and one row a defect: ``kind`` (artifact),
        ``class``, ``site`` (artifact), ``x, y, x_end, y_end``, ``extent`` (pixels around that line that
        changed), ``flux`` (sum of the change, image unit), ``significance`` (of the change in the noise of
        the sky), ``seed``, ``light_curve`` (JSON of the parameters drawn).
    """
    scene = _scene(image, psf, gain or image.gain, stars, options or ArtifactOptions())
    wanted = list(places) if places is not None else [("", np.nan, np.nan)] * count
    taken = np.empty((0, 2)) if avoid is None else np.asarray(avoid, float).reshape(-1, 2)
    data = image.data.copy()
    rows = []
    for index, (name, x, y) in enumerate(wanted):
        rng = generator("synthetic_artifact", seed, index)
        kind = name or _drawn_class(scene, rng)
        defect = _placed(scene, rng, kind, (x, y), taken, separation)
        if defect is None:
            continue
        change = _apply(data, scene, defect, rng)
        taken = np.vstack([taken, _along(defect)])
        rows.append(_row(kind, defect, change, scene, f"{seed}/{index}"))
    return _changed(image, data, scene.gain), rows


def _scene(
    image: MaskedImage, psf: Psf, gain: float | None, stars: np.ndarray | None, options: ArtifactOptions
) -> _Scene:
    good = image.data[~image.bad][::7]
    rms = robust_std(good)
    rms = robust_std(good[np.abs(good - np.median(good)) < 3 * rms])
    if stars is None:
        background = estimate_background(image.data, image.bad, refine=False)
        found = find_sources(
            image.data - background.level, background.rms, image.bad, threshold=15.0, limit=500
        )
        stars = np.c_[found.x, found.y, found.flux]
    return _Scene(image, psf, psf.fwhm, gain, rms, np.asarray(stars, float), options)


def _drawn_class(scene: _Scene, rng: np.random.Generator) -> str:
    """Return a class, by the weights of those that are possible in the image."""
    names = [n for n in ARTIFACT_CLASSES if n not in _ON_STARS or len(scene.stars)]
    weights = np.array([scene.options.weights.get(name, 0.0) for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


_TRIES = 30
"""Places or stars that are tried for a defect before it is given up."""


def _placed(
    scene: _Scene,
    rng: np.random.Generator,
    kind: str,
    place: tuple[float, float],
    taken: np.ndarray,
    separation: float,
) -> _Defect | None:
    """Return a defect at its place, or at the first of some random places with room; None if none has."""
    fixed = np.isfinite(place[0])
    for x, y, flux in _sites(scene, rng, kind, place):
        defect = _RECIPES[kind](scene, rng, x, y, flux)
        if defect is None:
            continue
        line = _along(defect)
        free = fixed or not len(taken) or np.hypot(*(line[:, None] - taken[None]).T).min() > separation
        if free and _on_good_pixels(scene.image, defect):
            return defect
    return None


def _sites(
    scene: _Scene, rng: np.random.Generator, kind: str, place: tuple[float, float]
) -> list[tuple[float, float, float]]:
    """Return where a defect may go, as x, y and flux of the star there."""
    ny, nx = scene.image.shape
    if kind in _ON_STARS and np.isfinite(place[0]):
        nearest = np.argsort(np.hypot(scene.stars[:, 0] - place[0], scene.stars[:, 1] - place[1]))
        return [tuple(star) for star in scene.stars[nearest[:1]].tolist()]
    if kind in _ON_STARS:
        return [tuple(star) for star in rng.permutation(scene.stars)[:_TRIES].tolist()]
    if np.isfinite(place[0]):
        return [(*place, 0.0)]
    return [(rng.uniform(0, nx - 1), rng.uniform(0, ny - 1), 0.0) for _ in range(_TRIES)]


def _along(defect: _Defect) -> np.ndarray:
    """Return points along a defect, not more than 20 pixels apart."""
    x, y, x_end, y_end = defect.ends
    steps = np.linspace(0, 1, 2 + int(np.hypot(x_end - x, y_end - y) // 20))[:, None]
    return np.array([x, y]) + steps * np.array([x_end - x, y_end - y])


def _on_good_pixels(image: MaskedImage, defect: _Defect) -> bool:
    """Whether the middle of a defect is inside the image and not masked already."""
    x, y, x_end, y_end = defect.ends
    ix, iy = round((x + x_end) / 2), round((y + y_end) / 2)
    inside = 0 <= ix < image.shape[1] and 0 <= iy < image.shape[0]
    return inside and not image.bad[iy, ix]


def _apply(data: np.ndarray, scene: _Scene, defect: _Defect, rng: np.random.Generator) -> np.ndarray:
    """Add a defect to the pixels, in place; return what was added."""
    change = defect.change
    if defect.light and scene.gain:
        electrons = np.clip(change * scene.gain, 0, None)
        change = change + (rng.poisson(electrons) - electrons) / scene.gain
    (y, x), (ny, nx) = defect.corner, change.shape
    rows, columns = slice(max(y, 0), max(y + ny, 0)), slice(max(x, 0), max(x + nx, 0))
    part = data[rows, columns]
    inner = change[rows.start - y :, columns.start - x :][: part.shape[0], : part.shape[1]]
    before = part.copy()
    part += inner.astype(np.float32)
    if scene.image.saturation is not None:
        np.minimum(part, np.maximum(before, np.float32(scene.image.saturation)), out=part)
    return np.nan_to_num(part - before)


def _changed(image: MaskedImage, data: np.ndarray, gain: float | None) -> MaskedImage:
    """Return the image with other pixels; a variance made from counts follows them."""
    if image.variance is None or not gain:
        return image.replace(data=data)
    added = np.nan_to_num(data - image.data) / np.float32(gain)
    return image.replace(data=data, variance=np.maximum(image.variance + added, 0.1 * image.variance))


def _row(kind: str, defect: _Defect, change: np.ndarray, scene: _Scene, seed: str) -> dict[str, Any]:
    x, y, x_end, y_end = defect.ends
    drawn = {name: round(float(value), 6) for name, value in defect.drawn.items()}
    return {
        "kind": "artifact",
        "class": kind,
        "site": "artifact",
        "x": float(x),
        "y": float(y),
        "x_end": float(x_end),
        "y_end": float(y_end),
        "extent": float(defect.extent),
        "flux": float(change.sum()),
        "significance": float(np.sqrt((change.astype(float) ** 2).sum()) / scene.rms),
        "seed": seed,
        "light_curve": json.dumps(drawn, sort_keys=True),
    }


# --- drawing --------------------------------------------------------------------------------------


def _log_uniform(rng: np.random.Generator, limits: Range) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))


def _cloud(x: np.ndarray, y: np.ndarray, sigma: float) -> tuple[tuple[int, int], np.ndarray]:
    """Return the share of Gaussian charge clouds in each pixel, summed over the clouds."""
    reach = int(np.ceil(4 * sigma)) + 1
    x0, y0 = int(np.floor(x.min())) - reach, int(np.floor(y.min())) - reach
    nx, ny = int(np.ceil(x.max())) + reach - x0 + 1, int(np.ceil(y.max())) + reach - y0 + 1

    def shares(centre: np.ndarray, count: int) -> np.ndarray:
        edges = np.arange(count + 1) - 0.5
        return np.diff(special.ndtr((edges - centre[:, None]) / sigma), axis=1)

    return (y0, x0), np.einsum("ni,nj->ij", shares(y - y0, ny), shares(x - x0, nx))


def _grid(x: float, y: float, radius: float) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Return the corner of a square around a position, and the offsets of its pixels from that."""
    half = int(np.ceil(radius)) + 1
    x0, y0 = round(x) - half, round(y) - half
    steps = np.arange(2 * half + 1)
    return (y0, x0), steps[None, :] + x0 - x, steps[:, None] + y0 - y


def _psf_stamp(scene: _Scene, x: float, y: float, *, dx: float = 0.0, dy: float = 0.0) -> np.ndarray:
    """Return the PSF of a star at a position, on the pixels around it, shifted a little."""
    return scene.psf.at(x, y, dx=x - round(x) + dx, dy=y - round(y) + dy)


def _stamp_corner(stamp: np.ndarray, x: float, y: float) -> tuple[int, int]:
    return round(y) - stamp.shape[0] // 2, round(x) - stamp.shape[1] // 2


# --- charge ---------------------------------------------------------------------------------------


def _cosmic_ray(scene: _Scene, rng: np.random.Generator, x: float, y: float, _: float) -> _Defect:
    """Return a straight track whose charge fluctuates, spread by diffusion only."""
    o = scene.options
    density, length = _log_uniform(rng, o.cosmic_ray_density), _log_uniform(rng, o.cosmic_ray_length)
    angle = rng.uniform(0, 2 * np.pi)
    steps = np.arange(0.0, length + 0.25, 0.25)
    dx, dy = np.cos(angle), np.sin(angle)
    corner, share = _cloud(x + steps * dx, y + steps * dy, o.charge_diffusion)
    # the energy loss in thin silicon has a long tail; a fifth is its typical scatter a pixel
    charge = share * 0.25 * density * np.exp(rng.normal(0, 0.2, share.shape))
    ends = (x, y, x + length * dx, y + length * dy)
    drawn = {"density_electrons": density, "length": length}
    return _Defect(corner, charge / (scene.gain or 1.0), ends, 2.0, drawn=drawn)


def _hot_pixel(scene: _Scene, rng: np.random.Generator, x: float, y: float, _: float) -> _Defect:
    """Return one bright pixel."""
    level = _log_uniform(rng, scene.options.hot_level)
    x, y = float(round(x)), float(round(y))
    change = np.array([[level * scene.rms]])
    return _Defect((int(y), int(x)), change, (x, y, x, y), 1.0, drawn={"level_sigma": level})


def _hot_column(scene: _Scene, rng: np.random.Generator, x: float, y: float, _: float) -> _Defect:
    """Return a hot pixel with a tail of deferred charge, on the side away from the readout."""
    o = scene.options
    level, length = _log_uniform(rng, o.hot_level), rng.uniform(*o.hot_tail)
    up = rng.random() < 0.5
    steps = np.arange(int(3 * length) + 1)
    tail = level * scene.rms * np.where(steps == 0, 1.0, 0.15 * np.exp(-steps / length))
    ix, iy = round(x), round(y)
    corner = (iy, ix) if up else (iy - steps[-1], ix)
    end = iy + (steps[-1] if up else -steps[-1])
    change = (tail if up else tail[::-1])[:, None]
    drawn = {"level_sigma": level, "length": length}
    return _Defect(corner, change, (ix, iy, ix, end), 1.0, drawn=drawn)


def _bleed(scene: _Scene, rng: np.random.Generator, x: float, y: float, flux: float) -> _Defect | None:
    """Return charge on both sides of a star along its column, falling off linearly."""
    o = scene.options
    length, level = rng.uniform(*o.bleed_length), _log_uniform(rng, o.bleed_level)
    # only a star of much more light than its bleeding can do this
    if flux < 20.0 * level * scene.rms:
        return None
    half, ix, iy = int(length), round(x), round(y)
    shape = 1.0 - np.abs(np.arange(-half, half + 1)) / (half + 1)
    change = level * scene.rms * shape[:, None] * np.array([1.0, rng.uniform(0, 0.6)])
    ends = (ix, iy - half, ix, iy + half)
    return _Defect((iy - half, ix), change, ends, 2.0, drawn={"level_sigma": level, "length": length})


# --- response -------------------------------------------------------------------------------------


def _dead_column(scene: _Scene, rng: np.random.Generator, x: float, y: float, _: float) -> _Defect | None:
    """Return a piece of one column or two that has lost its signal, sky included."""
    o = scene.options
    half, response = int(rng.uniform(*o.column_length) / 2), float(rng.choice(o.column_response))
    width = 1 + int(rng.random() < 0.2)
    ix = round(x)
    first, last = max(round(y) - half, 0), min(round(y) + half, scene.image.shape[0] - 1)
    part = scene.image.data[first : last + 1, ix : ix + width]
    if part.size == 0:
        return None
    change = np.nan_to_num(part) * (response - 1.0)
    drawn = {"response": response, "width": width}
    return _Defect((first, ix), change, (ix, first, ix, last), 2.0, drawn=drawn)


def _low_response(scene: _Scene, rng: np.random.Generator, x: float, y: float, _: float) -> _Defect | None:
    """Return the blurred shadow of a dust grain on the sky and what lies in it."""
    o = scene.options
    depth, radius = rng.uniform(*o.dust_depth), rng.uniform(*o.dust_radius)
    (y0, x0), dx, dy = _grid(x, y, 1.5 * radius)
    if y0 < 0 or x0 < 0:
        return None
    part = scene.image.data[y0 : y0 + dy.size, x0 : x0 + dx.size]
    if part.shape != (dy.size, dx.size):
        return None
    shadow = depth * special.expit((radius - np.hypot(dx, dy)) / (0.1 * radius))
    change = -shadow * np.nan_to_num(part)
    return _Defect((y0, x0), change, (x, y, x, y), 1.2 * radius, drawn={"depth": depth, "radius": radius})


# --- light ----------------------------------------------------------------------------------------


def _satellite_trail(scene: _Scene, rng: np.random.Generator, x: float, y: float, _: float) -> _Defect:
    """Return a line through the place, wider than the PSF; its brightness varies as the satellite tumbles."""
    o = scene.options
    length, angle = rng.uniform(*o.trail_length), rng.uniform(0, np.pi)
    peak, blur = _log_uniform(rng, o.trail_significance), rng.uniform(*o.trail_defocus)
    along = np.arange(-length / 2, length / 2, 0.5)
    light = 1.0 + rng.uniform(0, 0.5) * np.sin(along / rng.uniform(8.0, 60.0) + rng.uniform(0, 6.28))
    (y0, x0), dx, dy = _grid(x, y, length / 2 + 25)
    canvas = np.zeros((dy.size, dx.size))
    _deposit(canvas, along * np.cos(angle) + x - x0, along * np.sin(angle) + y - y0, light)
    profile = _convolved(ndimage.gaussian_filter(canvas, blur), scene.psf.at(x, y))
    change = profile * (peak * scene.rms / np.percentile(profile[profile > 0.2 * profile.max()], 75))
    half = 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    ends = (x - half[0], y - half[1], x + half[0], y + half[1])
    extent = 2.0 * blur + scene.fwhm
    drawn = {"length": length, "angle": angle, "peak_sigma": peak, "defocus": blur}
    return _Defect((y0, x0), change, ends, extent, light=True, drawn=drawn)


def _deposit(canvas: np.ndarray, x: np.ndarray, y: np.ndarray, light: np.ndarray) -> None:
    """Share light between the four pixels around each position, in place."""
    ix, iy = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - ix, y - iy
    for right, share_x in ((0, 1 - fx), (1, fx)):
        for up, share_y in ((0, 1 - fy), (1, fy)):
            np.add.at(canvas, (iy + up, ix + right), light * share_x * share_y)


def _convolved(canvas: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return an image convolved with a centred kernel; its border is to be empty."""
    shape = tuple(
        fft.next_fast_len(a + b - 1, real=True) for a, b in zip(canvas.shape, kernel.shape, strict=True)
    )
    full = fft.irfft2(fft.rfft2(canvas, shape) * fft.rfft2(kernel, shape), shape)
    y, x = kernel.shape[0] // 2, kernel.shape[1] // 2
    return np.clip(full[y : y + canvas.shape[0], x : x + canvas.shape[1]], 0, None)


def _ghost(scene: _Scene, rng: np.random.Generator, x: float, y: float, _: float) -> _Defect:
    """Return a ring with soft edges, brighter on one side."""
    o = scene.options
    radius, level = rng.uniform(*o.ghost_radius), _log_uniform(rng, o.ghost_significance)
    angle, soft = rng.uniform(0, 2 * np.pi), max(0.06 * radius, 0.6)
    corner, dx, dy = _grid(x, y, 1.3 * radius + 3)
    away = np.hypot(dx, dy)
    ring = special.expit((radius - away) / soft) * special.expit((away - o.ghost_obstruction * radius) / soft)
    tilt = 1.0 + 0.4 * (dx * np.cos(angle) + dy * np.sin(angle)) / radius
    change = level * scene.rms * ring * tilt
    drawn = {"radius": radius, "level_sigma": level}
    return _Defect(corner, change, (x, y, x, y), 1.2 * radius, light=True, drawn=drawn)


def _edge_glow(scene: _Scene, rng: np.random.Generator, x: float, y: float, _: float) -> _Defect:
    """Return light that falls off exponentially from the nearest edge, over some length of it."""
    o = scene.options
    ny, nx = scene.image.shape
    level, scale = _log_uniform(rng, o.glow_significance), rng.uniform(*o.glow_scale)
    edge = int(np.argmin([x, nx - 1 - x, y, ny - 1 - y]))
    x, y = (0.0, nx - 1.0, x, x)[edge], (y, y, 0.0, ny - 1.0)[edge]
    corner, dx, dy = _grid(x, y, 6 * scale)
    inward, sideways = (np.abs(dx), dy) if edge < 2 else (np.abs(dy), dx)
    change = level * scene.rms * np.exp(-inward / scale - 0.5 * (sideways / (2 * scale)) ** 2)
    drawn = {"level_sigma": level, "scale": scale}
    return _Defect(corner, change, (x, y, x, y), 5 * scale, light=True, drawn=drawn)


# --- electronics and stars ------------------------------------------------------------------------


def _crosstalk(scene: _Scene, rng: np.random.Generator, x: float, y: float, _: float) -> _Defect:
    """Return the faint copy of a star that is saturated on another amplifier: flat-topped."""
    o = scene.options
    level = _log_uniform(rng, o.crosstalk_significance) * (-1 if rng.random() < o.crosstalk_negative else 1)
    over = _log_uniform(rng, o.crosstalk_saturation)
    stamp = _psf_stamp(scene, x, y)
    change = level * scene.rms * np.clip(over * stamp / stamp.max(), 0, 1)
    extent = 0.75 * scene.fwhm * np.log2(over) ** 0.5
    drawn = {"level_sigma": level, "saturation": over}
    return _Defect(_stamp_corner(change, x, y), change, (x, y, x, y), extent, drawn=drawn)


def _dipole(scene: _Scene, rng: np.random.Generator, x: float, y: float, flux: float) -> _Defect | None:
    """Return a star taken away where it is and put back a little beside it."""
    shift, angle = _log_uniform(rng, scene.options.dipole_shift), rng.uniform(0, 2 * np.pi)
    dx, dy = shift * np.cos(angle), shift * np.sin(angle)
    change = flux * (_psf_stamp(scene, x, y, dx=dx, dy=dy) - _psf_stamp(scene, x, y))
    if not _fits(scene, change, x, y, flux):
        return None
    drawn = {"shift": shift, "angle": angle, "star_flux": flux}
    return _Defect(_stamp_corner(change, x, y), change, (x, y, x, y), 1.5 * scene.fwhm, drawn=drawn)


def _star_residual(
    scene: _Scene, rng: np.random.Generator, x: float, y: float, flux: float
) -> _Defect | None:
    """Return a star whose PSF is a little wider or sharper, and its flux a little off."""
    o = scene.options
    width = rng.uniform(*o.residual_width) * (-1 if rng.random() < 0.5 else 1)
    scale = 1.0 + rng.uniform(-o.residual_flux, o.residual_flux)
    stamp = _psf_stamp(scene, x, y)
    # a Gaussian of this sigma widens the FWHM by the share `width`
    blur = scene.fwhm / 2.355 * np.sqrt((1 + abs(width)) ** 2 - 1)
    wider = ndimage.gaussian_filter(stamp, blur, mode="constant") - stamp
    change = flux * (scale * (stamp + np.sign(width) * wider) - stamp)
    if not _fits(scene, change, x, y, flux):
        return None
    drawn = {"width": width, "flux_scale": scale, "star_flux": flux}
    return _Defect(_stamp_corner(change, x, y), change, (x, y, x, y), 1.5 * scene.fwhm, drawn=drawn)


def _fits(scene: _Scene, change: np.ndarray, x: float, y: float, flux: float) -> bool:
    """Whether a star is not saturated, and its change neither invisible nor absurd."""
    ix, iy = round(x), round(y)
    peak = scene.image.data[iy - 1 : iy + 2, ix - 1 : ix + 2]
    full = scene.image.saturation is not None and peak.size and peak.max() > 0.7 * scene.image.saturation
    if full or peak.size < 9 or flux <= 0:
        return False
    variance = scene.rms**2 + flux * np.clip(_psf_stamp(scene, x, y), 0, None) / (scene.gain or np.inf)
    low, high = scene.options.star_significance
    return bool(low <= np.sqrt((change**2 / variance).sum()) <= high)


_ON_STARS = frozenset({"bleed", "dipole", "star_residual"})
"""Defects that sit on a star."""

_RECIPES: dict[str, Callable[..., _Defect | None]] = {
    "cosmic_ray": _cosmic_ray,
    "hot_pixel": _hot_pixel,
    "hot_column": _hot_column,
    "dead_column": _dead_column,
    "low_response": _low_response,
    "satellite_trail": _satellite_trail,
    "ghost": _ghost,
    "crosstalk": _crosstalk,
    "bleed": _bleed,
    "edge_glow": _edge_glow,
    "dipole": _dipole,
    "star_residual": _star_residual,
}
