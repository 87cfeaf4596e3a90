"""What very bright stars do beyond their cores: charge that bleeds, and diffraction spikes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from astrid_assets.images.image import MaskedImage
from astrid_assets.images.psf import Psf
from astrid_assets.science.background import robust_std
from astrid_assets.science.psf import StarFits, fit_stars

__all__ = ["CORE_ERROR", "Core", "find_bleeds", "find_spikes", "groups", "profiles_of_cores"]

# --- saturated cores ----------------------------------------------------------------------------

CORE_ERROR = 0.1
"""Error of a pixel of a core that was filled in from the profile of the star, relative."""

LEAST_LEFT = 0.4
"""Share of the pixels within two FWHM that must be left of a star to say how bright it is."""


def profiles_of_cores(images: tuple[MaskedImage, ...], bad: np.ndarray, cores: np.ndarray) -> list[Core]:
    """Return what belongs into saturated cores by the profiles of their stars.

    The profile is as bright, and lies, as what is left of the star says. Only cores that all images of
    the same sky say enough about are returned: filled in one of them alone they would not subtract.

    Parameters
    ----------
    images
        Background-subtracted images on one grid, with variances and PSFs.

    bad, cores
        Bad pixels of any of them, and those that are saturated cores.
    """
    found = groups(cores)
    if not found:
        return []
    x, y = (np.array([g[axis].mean() for g in found]) for axis in (1, 0))
    fits = [
        fit_stars(i.data, i.variance, bad, i.psf, x, y, iterations=5, least_whole=LEAST_LEFT) for i in images
    ]
    usable = np.all([f.usable for f in fits], axis=0)
    return [
        Core(
            *found[k],
            [_profile(image.psf, fit, k, found[k]) for image, fit in zip(images, fits, strict=True)],
        )
        for k in np.flatnonzero(usable)
    ]


@dataclass(frozen=True, eq=False)
class Core:
    """A saturated core."""

    rows: np.ndarray
    """Rows of its pixels."""

    columns: np.ndarray
    """Columns of its pixels."""

    values: list[np.ndarray]
    """What belongs into them, for each image."""


def _profile(psf: Psf, fits: StarFits, k: int, core: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the profile of a fitted star on pixels; zero beyond its stamp."""
    ix, iy = int(np.rint(fits.x[k])), int(np.rint(fits.y[k]))
    stamp = fits.flux[k] * psf.at(fits.x[k], fits.y[k], dx=fits.x[k] - ix, dy=fits.y[k] - iy)
    places = [at - middle + side // 2 for at, middle, side in zip(core, (iy, ix), stamp.shape, strict=True)]
    inside = np.all([(p >= 0) & (p < side) for p, side in zip(places, stamp.shape, strict=True)], axis=0)
    values = np.zeros(len(inside))
    values[inside] = stamp[places[0][inside], places[1][inside]]
    return values


# --- bleeding charge ----------------------------------------------------------------------------

BLEED_SIGNIFICANCE = 5.0
"""Sigma of the sky by which a pixel of a bleed exceeds the pixel as far from the star across it."""

BLEED_CONTRAST = 1.5
"""Factor by which it exceeds that pixel: isophotes of an ellipticity of 0.1 reach 1.3."""

BLEED_LEVEL = 0.2
"""Share of the level of the core with which a bleed begins: a neighbour seldom has as much."""

BLEED_LENGTH = 4
"""Fewest pixels of a bleed beyond the round core of its star."""

BLEED_RISE = 2.0
"""Factor by which a bleed may exceed its lowest level nearer to the star: charge only gets less."""

BLEED_GAP = 2
"""Faint pixels in a row that a bleed may have; one more ends it."""

BLEED_REACH = 32
"""Pixels that a bleed is first followed over; four times as far whenever it goes on to the end."""


def find_bleeds(image: MaskedImage, saturated: np.ndarray) -> np.ndarray:
    """Find the charge that has run from saturated stars along columns or rows.

    A star is as wide as it is high. The pixels on both sides of a core are compared with those at
    the same distance across, so that neither its wings nor a cross of spikes is a bleed. A detector
    is read out in one direction: the one in which the bleeds of all stars together are longer.

    Parameters
    ----------
    image
        With or without its sky.

    saturated
        Boolean image of saturated pixels.

    Returns
    -------
    numpy.ndarray
        Boolean image of the runs and the pixels beside them, from the round core of the star to
        where the level has returned to that across.
    """
    from astrid_assets.science.artifacts import grown

    found = np.zeros(image.shape, bool)
    stars = [star for star in groups(saturated) if len(star[0]) > 1]
    if not stars:
        return found
    sparse = image.data[::7, ::5]
    sparse = sparse[np.isfinite(sparse)]
    if not sparse.size:
        return found
    sky, noise = float(np.median(sparse)), robust_std(sparse)
    levels = [_level(image.data, *star) - sky for star in stars]
    directions = []
    for turned, axes in ((False, (0, 1)), (True, (1, 0))):
        plane = _Plane(*((image.data.T, saturated.T) if turned else (image.data, saturated)), sky)
        runs = [
            _bleeds(plane, star[axes[0]], star[axes[1]], BLEED_LEVEL * level, BLEED_SIGNIFICANCE * noise)
            for star, level in zip(stars, levels, strict=True)
        ]
        directions.append(np.concatenate(runs, axis=1)[list(axes)])
    y, x = max(directions, key=lambda run: run.shape[1])
    found[y, x] = True
    return grown(found, 1)


def _level(data: np.ndarray, y: np.ndarray, x: np.ndarray) -> float:
    """Return the highest value of a core, or beside it where the core has none."""
    part = data[max(0, y.min() - 2) : y.max() + 3, max(0, x.min() - 2) : x.max() + 3]
    values = part[np.isfinite(part)]
    return float(values.max()) if values.size else np.inf


@dataclass(frozen=True, eq=False)
class _Plane:
    """An image over its sky, in which a full well is above everything, whatever number stands there."""

    data: np.ndarray
    saturated: np.ndarray
    sky: float

    def at(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values at some pixels, and which of these are inside the image."""
        ny, nx = self.data.shape
        inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
        where = np.clip(y, 0, ny - 1), np.clip(x, 0, nx - 1)
        return np.where(self.saturated[where], np.inf, self.data[where] - self.sky), inside


def _bleeds(plane: _Plane, y: np.ndarray, x: np.ndarray, level: float, least: float) -> np.ndarray:
    """Return the pixels ``(2, n)`` of the bleeds along the first axis from one group of saturated pixels."""
    rows, widths = np.unique(y, return_counts=True)
    core = rows[widths == widths.max()]
    y0 = int(core[len(core) // 2])
    x0 = int(np.median(x[y == y0]))
    start, reach = int(widths.max()) // 2 + 1, BLEED_REACH
    columns = np.arange(x.min(), x.max() + 1)
    while True:
        away = np.arange(start, start + reach)
        rows = y0 + np.multiply.outer([-1, 1], away)[:, :, None]
        run, inside = plane.at(rows, columns[None, None, :])
        beside = [plane.at(y0 + (columns - x0)[None, :], x0 + side * away[:, None]) for side in (-1, 1)]
        # beyond an edge there is nothing to compare with: the other side decides
        across = np.fmin(*(np.where(there, values, np.nan) for values, there in beside))
        bright = inside & (run > BLEED_CONTRAST * np.maximum(np.nan_to_num(across), 0) + least)
        bright &= np.isfinite(across) | np.isinf(run)
        # what rises again is a neighbour
        lowest = np.fmin.accumulate(run, axis=1)[:, :-1]
        bright[:, 1:] &= run[:, 1:] <= BLEED_RISE * np.maximum(lowest, 0) + least
        length = _run_length(bright)
        if (length < reach - BLEED_GAP).all() or reach >= max(plane.data.shape):
            break
        reach *= 4
    # of the columns that a star saturates the bleed may have one or all
    begins = np.where(bright[:, :BLEED_LENGTH], run[:, :BLEED_LENGTH], 0).min(axis=1) >= level
    length = np.where(begins, length, 0)
    where = bright & (np.arange(reach)[:, None] < length[:, None, :]) & (length >= BLEED_LENGTH)[:, None, :]
    side, far, column = np.nonzero(where)
    return np.array([rows[side, far, 0], columns[column]])


def _run_length(bright: np.ndarray) -> np.ndarray:
    """Return how far runs along the second axis go before they pause for longer than `BLEED_GAP`."""
    pause = BLEED_GAP + 1
    dark = np.pad(~bright, ((0, 0), (0, pause), (0, 0)))
    ends = np.all([dark[:, k : k + bright.shape[1]] for k in range(pause)], axis=0)
    return np.where(ends.any(axis=1), ends.argmax(axis=1), bright.shape[1])


def groups(where: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the connected pixels (also by corners) of a boolean image with few of them.

    Parameters
    ----------
    where
        Boolean image.

    Returns
    -------
    list of tuple
        Rows and columns of each group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place = np.flatnonzero(where)
    nx = where.shape[1]
    if not place.size:
        return []
    # a pixel and those before it; the last of a row and the first of the next are told apart
    first, second = [], []
    for step, column in ((1, 1), (nx - 1, -1), (nx, 0), (nx + 1, 1)):
        at = np.minimum(np.searchsorted(place, place + step), place.size - 1)
        near = (place[at] == place + step) & (place[at] % nx - place % nx == column)
        first.append(np.flatnonzero(near))
        second.append(at[near])
    links = np.concatenate(first), np.concatenate(second)
    graph = coo_array((np.ones(len(links[0]), bool), links), shape=(place.size, place.size))
    number, label = connected_components(graph, directed=False)
    order = np.argsort(label, kind="stable")
    parts = np.split(place[order], np.cumsum(np.bincount(label, minlength=number))[:-1])
    return [(part // nx, part % nx) for part in parts]


# --- diffraction spikes -------------------------------------------------------------------------

SPIKE_PEAK = 2000.0
"""Sigma of the sky above which an unsaturated star may have visible spikes: with a hundredth of the light
in them, one pixel in ten from the core holds a ten thousandth of the star's peak."""

SPIKE_STARS = 60
"""Brightest stars that are looked at; each costs a millisecond."""

SPIKE_GUIDES = 8
"""Brightest stars that tell the directions: of the fainter ones few show anything."""

SPIKE_SHARE = 0.3
"""Share of those stars that have to show an arm."""

SPIKE_REACH = 96
"""Distance from the core to which an arm is followed, pixels."""

SPIKE_ANGLES = 360
"""Directions that are looked at: at 60 pixels from the star, one step is one pixel."""

SPIKE_SIGNIFICANCE = 3.5
"""Sigma, of the scatter over all directions, by which both arms of a pair stand out. The chance of it in one
of 180 pairs is a ten thousandth by noise, and the contrast is asked for as well."""

SPIKE_FLOOR = 0.2
"""Least scatter of that mean that is believed, sigma: that of 32 pixels of noise."""

SPIKE_BEGIN = 16
"""Pixels from the core within which an arm has to stand out."""

SPIKE_ARM = 2.0
"""Mean sigma of `SPIKE_SMOOTH` pixels of an arm below which it ends."""

SPIKE_CONTRAST = 0.3
"""Share of the light at the same distance by which an arm exceeds it: elongated isophotes stay below."""

SPIKE_PAIRS = 3
"""Most pairs of arms: four vanes make two, three vanes or hexagonal segments three."""

SPIKE_APART = 20
"""Least angle between two pairs, steps of `SPIKE_ANGLES`."""

SPIKE_NEAR = 32
"""Pixels of each arm, from the core on, that tell the directions: further out few stars show any."""

SPIKE_WIDTH = 0.75
"""Half the width that is marked, in FWHM: an arm is about as wide as a star."""

SPIKE_SMOOTH = 5
"""Pixels along an arm that are judged together."""


@dataclass(frozen=True, eq=False)
class _Rays:
    """The surroundings of one star by distance and direction."""

    y: np.ndarray
    """Rows of the pixels, ``(distance, direction)``."""

    x: np.ndarray
    """Columns."""

    excess: np.ndarray
    """Sigma above the median of all directions at the same distance; NaN where there is no pixel."""

    contrast: np.ndarray
    """The same over that median itself, or over the noise where that is more."""


def find_spikes(
    data: np.ndarray, rms: np.ndarray, bad: np.ndarray, saturated: np.ndarray, fwhm: float
) -> np.ndarray:
    """Find the diffraction spikes of very bright stars.

    Their directions are the same for all stars of an image: those in which the surroundings of the
    brightest stars stand out of the median over all directions, on opposite sides, since every straight
    edge in the beam makes two arms. Each arm of each star is then followed outwards for as long as it
    stands out.

    Parameters
    ----------
    data
        Background-subtracted image ``(ny, nx)``.

    rms
        Noise of a blank pixel.

    bad
        Boolean image of pixels to leave out, besides the saturated ones.

    saturated
        Boolean image of saturated pixels.

    fwhm
        Of the PSF, pixels.

    Returns
    -------
    numpy.ndarray
        Boolean image.
    """
    from astrid_assets.science.artifacts import grown

    found = np.zeros(data.shape, bool)
    usable = ~(bad | saturated)
    stars = _bright_stars(data, rms, saturated, usable)
    if not stars:
        return found
    guides = [_rays(data, rms, usable, *star, fwhm) for star in stars[:SPIKE_GUIDES]]
    arms = _directions(guides)
    if not arms:
        return found
    for ray in [*guides, *(_rays(data, rms, usable, *star, fwhm) for star in stars[SPIKE_GUIDES:])]:
        for arm in arms:
            length = _arm_length(ray, arm)
            found[ray.y[:length, arm], ray.x[:length, arm]] = True
    return grown(found, max(1, round(SPIKE_WIDTH * fwhm)))


def _bright_stars(
    data: np.ndarray, rms: np.ndarray, saturated: np.ndarray, usable: np.ndarray
) -> list[tuple[float, float, float]]:
    """Return row, column and core radius of the brightest stars, the widest cores first."""
    with np.errstate(invalid="ignore"):
        cores = saturated | (usable & (data > SPIKE_PEAK * np.float32(np.nanmedian(rms[::16, ::16]))))
    stars = sorted(groups(cores), key=lambda star: -len(star[0]))[:SPIKE_STARS]
    centres = []
    for y, x in stars:
        # bleeding charge makes a core long but not wide
        radius = 0.5 * min(np.ptp(y), np.ptp(x)) + 0.5
        centres.append((float(np.median(y)), float(np.median(x)), float(radius)))
    return centres


def _rays(
    data: np.ndarray, rms: np.ndarray, usable: np.ndarray, y0: float, x0: float, radius: float, fwhm: float
) -> _Rays:
    """Look at the surroundings of a star from a FWHM outside its core on."""
    angle = np.arange(SPIKE_ANGLES) * (2.0 * np.pi / SPIKE_ANGLES)
    distance = radius + 1.5 * fwhm + np.arange(SPIKE_REACH)[:, None]
    y, x = (
        np.rint(centre + distance * wave).astype(int)
        for centre, wave in ((y0, np.sin(angle)), (x0, np.cos(angle)))
    )
    ny, nx = data.shape
    inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
    y, x = np.clip(y, 0, ny - 1), np.clip(x, 0, nx - 1)
    values = np.where(inside & usable[y, x], data[y, x], np.nan)
    ordered = np.sort(values, axis=1)  # NaN comes last
    number = np.isfinite(values).sum(axis=1)

    def quantile(share: float) -> np.ndarray:
        place = (share * np.maximum(number - 1, 0)).astype(int)
        return np.take_along_axis(ordered, place[:, None], axis=1)

    middle = quantile(0.5)
    # a quarter of the directions may hold neighbours and arms: the lower half tells the scatter
    scatter = np.maximum(1.4826 * (middle - quantile(0.25)), rms[y[:, :1], x[:, :1]])
    excess = np.where(number[:, None] > SPIKE_ANGLES // 2, (values - middle) / scatter, np.nan)
    return _Rays(y, x, excess, (values - middle) / np.maximum(middle, scatter))


def _directions(rays: list[_Rays]) -> list[int]:
    """Return the directions of all arms, as indices of directions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rays that have no pixel at all
        excess = [np.nanmean(np.clip(ray.excess[:SPIKE_NEAR], -5.0, 5.0), axis=0) for ray in rays]
        contrast = [np.nanmedian(ray.contrast[:SPIKE_NEAR], axis=0) for ray in rays]
        # a neighbour stands on one side only
        pairs = (np.fmin(*np.split(np.array(v), 2, axis=1)) for v in (excess, contrast))
        strength, contrast = (np.nan_to_num(np.nanquantile(v, 1.0 - SPIKE_SHARE, axis=0)) for v in pairs)
    half = len(strength)
    low, level = np.quantile(strength, (0.25, 0.5))
    # the lower side tells the scatter: wide arms take a third of all directions
    clear = strength - level > SPIKE_SIGNIFICANCE * max(1.4826 * (level - low), SPIKE_FLOOR)
    strength = np.where(clear & (contrast > SPIKE_CONTRAST), strength, -np.inf)
    arms: list[int] = []
    while strength.max() > -np.inf and len(arms) < 2 * SPIKE_PAIRS:
        arm = int(strength.argmax())
        arms += [arm, arm + half]
        near = np.abs((np.arange(half) - arm + half // 2) % half - half // 2) < SPIKE_APART
        strength = np.where(near, -np.inf, strength)
    return arms


def _arm_length(ray: _Rays, arm: int) -> int:
    """Return how many pixels of an arm stand out, from the core on."""
    beside = np.arange(arm - 1, arm + 2) % SPIKE_ANGLES
    window = np.ones(SPIKE_SMOOTH) / SPIKE_SMOOTH
    excess, contrast = (
        np.convolve(np.fmax.reduce(np.nan_to_num(v[:, beside]), axis=1), window, mode="same")
        for v in (ray.excess, ray.contrast)
    )
    clear = (excess > SPIKE_ARM) & (contrast > SPIKE_CONTRAST)
    first = int(clear.argmax())
    # nearer in, the wings of the core may outshine it
    if not clear.any() or first > SPIKE_BEGIN:
        return 0
    faint = ~clear[first:]
    length = int(faint.argmax()) if faint.any() else len(faint)
    return first + length if length >= SPIKE_SMOOTH else 0
