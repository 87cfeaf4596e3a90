"""Which synthetic sources go where: objects fixed on the sky, with light curves, drawn from names alone.

The objects of a field belong to its reference: places, hosts and stars are found on it, and everything
else is drawn from the name of the field and the number of the object. An exposure shows those of its
time that fall on it, so that a night that is added changes nothing of the others. What lasts shorter
than a night (asteroids, flares), and what is put beside a detection, is new in each exposure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import sep

from astrid_assets.images.masks import BAD_BITS
from astrid_assets.images.pairs import PairGeometry
from astrid_assets.science import light_curves
from astrid_assets.science.background import estimate_background
from astrid_assets.science.injection import Source
from astrid_assets.science.positions import from_reference
from astrid_assets.science.stars import Sources, find_sources, select_stars
from astrid_assets.seeds import generator, uniform

if TYPE_CHECKING:
    import pyarrow as pa
    from astropy.wcs import WCS

    from astrid_assets.images.image import MaskedImage
    from astrid_assets.images.pairs import AlignedPair, Difference

__all__ = [
    "PlanOptions",
    "Planned",
    "ReferenceSky",
    "places_of",
    "plan_injections",
    "reference_stars",
    "study_reference",
    "without_flux",
]


@dataclass(frozen=True)
class PlanOptions:
    """How many sources, how far apart, how bright."""

    density: float = 43.0
    """Sources per million pixels of the science image: 45 in 1024 x 1024."""

    min_count: int = 12
    """Sources on a reference that is too small to hold as many at that density."""

    separation: float = 45.0
    """Least distance between two of them, pixels: no other one in the middle of a stamp of 65."""

    bright_offset: float = 0.5
    """Magnitudes fainter than saturation where the range begins."""

    faint_offset: float = 1.0
    """Magnitudes fainter than the 5 sigma limit where it ends, so that the 50 percent point is bracketed."""

    faint_share: float = 0.6
    """Share drawn from the last `faint_range` magnitudes alone, where efficiency is decided."""

    faint_range: float = 4.0
    """See `faint_share`; magnitudes."""

    slot_days: float = 16.0
    """Days after which a field gets new objects."""

    max_trail: float = 30.0
    """Longest trail, pixels: longer ones are taken for satellites."""


@dataclass(frozen=True, eq=False)
class ReferenceSky:
    """What a reference shows: its sources, and how bright a source may be."""

    data: np.ndarray
    """Background-subtracted reference ``(ny, nx)``; bad pixels are zero."""

    wcs: WCS | None
    """Its WCS; None where science images lie on the same pixels."""

    sources: Sources
    """All sources, brightest first."""

    stars: np.ndarray
    """Indices of regular, unsaturated stars."""

    galaxies: np.ndarray
    """Indices of what is larger than a star."""

    growth: float
    """Total flux of a star over its flux in the aperture."""

    fwhm: float
    """FWHM of its stars, pixels."""

    zeropoint: float
    """AB magnitude of one unit; 0 where unknown: magnitudes are then relative."""

    limit: float
    """5 sigma limit that one exposure of it would have, mag."""

    saturation: float
    """Magnitude of a star that saturates; -inf where unknown."""


@dataclass(frozen=True)
class Planned:
    """One source to inject into an exposure, and what it stands for."""

    source: Source
    """Place and flux in the science image."""

    object_id: str
    """The object: the same in all exposures that show it."""

    host_id: str
    """Galaxy or star under it; empty where there is none."""

    site: str
    """host, blank, star, beside or trail."""

    kind: str
    """Class of the light curve."""

    light_curve: dict[str, Any]
    """Its parameters."""

    injection_probability: float
    """Density with which its magnitude was drawn, 1/mag; NaN where its class did not allow any."""


def places_of(planned: Sequence[Planned]) -> np.ndarray:
    """Return x and y of planned sources, ``(n, 2)``."""
    return np.array([(p.source.x, p.source.y) for p in planned]).reshape(-1, 2)


def without_flux(planned: Sequence[Planned]) -> list[Planned]:
    """Return the same sources with no light, for the null test."""
    return [replace(p, source=replace(p.source, flux=0.0)) for p in planned]


def study_reference(reference: MaskedImage) -> ReferenceSky:
    """Find the stars and galaxies of a reference, and the range of magnitudes that suits it.

    Parameters
    ----------
    reference
        The reference on its own pixels.
    """
    background = estimate_background(reference.data, reference.bad)
    data = np.ascontiguousarray(np.where(reference.bad, 0, reference.data - background.level), np.float32)
    sources = find_sources(data, background.rms, reference.bad)
    saturation = None if reference.saturation is None else reference.saturation - background.median
    stars = select_stars(sources, reference.shape, saturation=saturation)
    radius = float(np.median(sources.radius[stars])) if len(stars) else 1.2
    # 2.0 for a Gaussian, 1.6 for a Moffat profile of beta 3
    fwhm = 1.75 * radius
    zeropoint = 0.0 if reference.zeropoint is None else reference.zeropoint.magnitude
    large = (sources.radius > 1.25 * radius) & (sources.snr > 15.0) & ~sources.touched & ~sources.flagged
    # the noise of a PSF flux is that of 4 pi sigma^2 pixels
    noise = background.median_rms * np.sqrt(4.0 * np.pi) * fwhm / 2.3548 * np.sqrt(reference.n_exposures)
    return ReferenceSky(
        data=data,
        wcs=reference.wcs,
        sources=sources,
        stars=stars,
        galaxies=np.flatnonzero(large & _inside(sources.x, sources.y, reference.shape, 8)),
        growth=_growth(data, sources, stars),
        fwhm=fwhm,
        zeropoint=zeropoint,
        limit=float(zeropoint - 2.5 * np.log10(5.0 * noise)),
        saturation=_saturation_magnitude(saturation, fwhm, zeropoint),
    )


def reference_stars(sky: ReferenceSky, pair: AlignedPair) -> np.ndarray:
    """Return x, y and flux ``(n, 3)`` of the stars of a reference in the science image of a pair.

    Parameters
    ----------
    sky
        From `study_reference`.

    pair
        The normalized pair; stars outside its science image are left out.
    """
    x, y, flux = (getattr(sky.sources, name)[sky.stars] for name in ("x", "y", "flux"))
    x, y = _to_science(sky, pair, x, y)
    inside = np.isfinite(x) & _inside(x, y, pair.science.shape, 0)
    return np.column_stack([x, y, flux * sky.growth * pair.normalization.flux_ratio])[inside]


def _to_science(
    sky: ReferenceSky, pair: AlignedPair, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where places of the reference lie in the science image, registration included; NaN where not."""
    if sky.wcs is not None and pair.science.wcs is not None and len(x):
        x, y = sky.wcs.all_pix2world(x, y, 0)
    return from_reference(PairGeometry.of(pair), x, y)


def _inside(x: np.ndarray, y: np.ndarray, shape: tuple[int, int], margin: float) -> np.ndarray:
    ny, nx = shape
    return (x > margin) & (x < nx - 1 - margin) & (y > margin) & (y < ny - 1 - margin)


def _growth(data: np.ndarray, sources: Sources, stars: np.ndarray) -> float:
    """Return the median ratio of the flux in a wide aperture to that in the one of the sources."""
    if len(stars) < 3:
        return 1.0
    x, y = sources.x[stars[:50]], sources.y[stars[:50]]
    wide = sep.sum_circle(data, x, y, 3.0 * sources.aperture, subpix=1)[0]
    return float(np.clip(np.median(wide / sources.flux[stars[:50]]), 1.0, 1.3))


def _saturation_magnitude(level: float | None, fwhm: float, zeropoint: float) -> float:
    if level is None or level <= 0:
        return -np.inf
    # share of the light in the brightest pixel: 0.88 for a Gaussian, 0.66 for a Moffat profile of beta 3
    peak = 0.7 / fwhm**2
    return float(zeropoint - 2.5 * np.log10(level / peak))


# --- the plan of an exposure ------------------------------------------------------------------------

_STEP = 1.5
"""Exposures whose depth differs by less than half of this from what the reference lets expect share their
objects, mag."""

_PASSING = ("asteroid", "asteroid_trail", "flare")
"""Classes that are new in each exposure."""

_FAINTEST = 1.0
"""Significance below which an object is not drawn, sigma."""

_TRIES = 12
"""Places that are tried for an object before it is given up."""


@dataclass(frozen=True)
class _Range:
    """Magnitudes from `bright` to `faint`; more often those after `middle`."""

    bright: float
    middle: float
    faint: float
    share: float

    def magnitude(self, quantile: float) -> float:
        """Return the magnitude of a quantile of the distribution."""
        below = (1.0 - self.share) * (self.middle - self.bright) / (self.faint - self.bright)
        if quantile < below:
            return self.bright + quantile * (self.faint - self.bright) / (1.0 - self.share)
        return self.middle + (quantile - below) / (1.0 - below) * (self.faint - self.middle)

    def density(self, magnitude: float) -> float:
        """Return the probability density at a magnitude, 1/mag."""
        extra = self.share / (self.faint - self.middle) if magnitude >= self.middle else 0.0
        return (1.0 - self.share) / (self.faint - self.bright) + extra


@dataclass(frozen=True, eq=False)
class _Exposure:
    """What the plan needs of an exposure."""

    sky: ReferenceSky
    pair: AlignedPair
    options: PlanOptions
    key: tuple[str, ...]
    exposure_id: str
    band: str
    mjd: float
    slot: int
    pixel_scale: float
    magnitudes: _Range
    detections: np.ndarray

    @property
    def separation(self) -> float:
        """Least distance of two objects in reference pixels."""
        scale = 1.0 if self.sky.wcs is None else _scale(self.sky.wcs)
        return self.options.separation * self.pixel_scale / scale


def plan_injections(
    sky: ReferenceSky,
    pair: AlignedPair,
    *,
    key: Sequence[str],
    exposure_id: str,
    difference: Difference,
    table: pa.Table | None = None,
    pixel_scale: float | None = None,
    options: PlanOptions | None = None,
) -> list[Planned]:
    """Return the sources to inject into an exposure.

    Sites are a mixture (``light_curves.toml``): in galaxies, following their light or at the nucleus; on
    blank sky; on stars, which brighten or fade by no more than their class allows; trails; beside the
    detections of the exposure, flagged ones included, so that real and false detections have the same
    neighbours. Numbers, places and magnitudes follow Halton sequences.

    Parameters
    ----------
    sky
        From `study_reference` of the reference of the exposure.

    pair
        The normalized pair of the exposure, without injections.

    key
        Names that all exposures of a field and reference share.

    exposure_id
        Name of the exposure.

    difference, table
        Difference and candidates of the exposure without injections; flagged candidates included.

    pixel_scale
        Nominal arcsec per science pixel, the same for all exposures; that of the reference by default.

    options
        See `PlanOptions`.

    Returns
    -------
    list of Planned
        Sources on the image or partly on it, none brighter than saturation, none below 1 sigma.
    """
    options = options or PlanOptions()
    flux_error = _typical_error(difference)
    exposure = _exposure(sky, pair, key, exposure_id, flux_error, pixel_scale, table, options)
    objects = list(_objects(exposure))
    places = _on_science(exposure, objects)
    planned: list[Planned] = []
    # what lasts has its room already; what is new in this exposure takes what is left
    for drawn, (x, y) in sorted(zip(objects, places, strict=True), key=lambda pair: pair[0].passing):
        one = _rendered(exposure, drawn, float(x), float(y), flux_error)
        taken = places_of(planned)
        if one is not None and (not drawn.passing or _is_free(x, y, taken, options.separation)):
            planned.append(one)
    return planned


def _exposure(
    sky: ReferenceSky,
    pair: AlignedPair,
    key: Sequence[str],
    exposure_id: str,
    flux_error: float,
    pixel_scale: float | None,
    table: pa.Table | None,
    options: PlanOptions,
) -> _Exposure:
    science, mjd = pair.science, pair.science.mjd_mid or 0.0
    own = sky.zeropoint + 2.5 * np.log10(pair.normalization.flux_ratio)
    steps = round((own - 2.5 * np.log10(5.0 * flux_error) - sky.limit) / _STEP)
    faint = sky.limit + steps * _STEP + options.faint_offset
    # without a saturation level: six magnitudes, as from 250 to 1 in signal to noise
    bright = (
        max(sky.saturation + options.bright_offset, faint - 12.0)
        if np.isfinite(sky.saturation)
        else faint - 6.0
    )
    bright = min(bright, faint - 2.0)
    middle = max(bright, faint - options.faint_range)
    scale = pixel_scale or (1.0 if sky.wcs is None else _scale(sky.wcs))
    slot = int(np.floor(mjd / options.slot_days))
    return _Exposure(
        sky=sky,
        pair=pair,
        options=options,
        key=(*key, str(steps), str(slot)),
        exposure_id=exposure_id,
        band=science.band or "r",
        mjd=mjd,
        slot=slot,
        pixel_scale=scale,
        magnitudes=_Range(bright, middle, faint, options.faint_share),
        detections=_places(table),
    )


def _typical_error(difference: Difference) -> float:
    """Return the median 1-sigma error of a PSF flux on good pixels."""
    part = np.s_[::4, ::4]
    good = (difference.mask[part] & BAD_BITS) == 0
    return float(np.nanmedian(difference.flux_error[part][good] if good.any() else difference.flux_error))


def _places(table: pa.Table | None) -> np.ndarray:
    if table is None:
        return np.empty((0, 2))
    return np.column_stack([table.column(name).to_numpy() for name in ("x", "y")])


def _scale(wcs: WCS) -> float:
    from astropy.wcs.utils import proj_plane_pixel_area

    return float(np.sqrt(proj_plane_pixel_area(wcs)) * 3600.0)


# --- objects of a field -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Object:
    """An object: where on the reference (or in the science image), and what it does."""

    name: str
    site: str
    kind: str
    x: float
    y: float
    host: str
    curve: dict[str, Any]
    density: float
    base: float
    passing: bool
    on_science: bool = False


def _objects(exposure: _Exposure) -> Iterator[_Object]:
    """Yield the objects of the field and time, whether or not they fall on the exposure."""
    shape, sky = exposure.sky.data.shape, exposure.sky
    scale = 1.0 if sky.wcs is None else _scale(sky.wcs)
    area = shape[0] * shape[1] * (scale / exposure.pixel_scale) ** 2
    count = max(round(exposure.options.density * area * 1e-6), exposure.options.min_count)
    shift = [uniform("injections", *exposure.key, base) for base in _BASES]
    taken = np.empty((0, 2))
    for index in range(count):
        place = [(_radical_inverse(index + 1, b) + s) % 1.0 for b, s in zip(_BASES, shift, strict=True)]
        drawn = _object(exposure, index, place, taken)
        if drawn is None:
            continue
        if not drawn.passing:
            taken = np.vstack([taken, (drawn.x, drawn.y)])
        yield drawn


_BASES = (2, 3, 5, 7, 11)
"""Bases of the Halton sequences of site, magnitude, x, y, and number of star or galaxy."""


def _radical_inverse(index: int, base: int) -> float:
    """Return a number of the van der Corput sequence (Halton 1960, Numer. Math. 2, 84)."""
    value, share = 0.0, 1.0
    while index:
        share /= base
        index, digit = divmod(index, base)
        value += digit * share
    return value


def _object(exposure: _Exposure, index: int, place: Sequence[float], taken: np.ndarray) -> _Object | None:
    """Draw one object; None where there is no room, or no host."""
    name = f"{_short(*exposure.key)}-{index:03d}"
    rng = generator("injections", *exposure.key, index)
    site = _site(place[0])
    numbers = light_curves.facts()["site"][site]
    nuclear = site == "host" and rng.random() < numbers["nuclear"]
    classes = numbers["nuclear_classes"] if nuclear else numbers["classes"]
    kind = str(rng.choice(list(classes), p=np.array(list(classes.values())) / sum(classes.values())))
    passing = kind in _PASSING or site == "beside"
    if passing:
        name = f"{name}-{_short(exposure.exposure_id)}"
        rng = generator("injections", *exposure.key, exposure.exposure_id, index)
        place = [*place[:1], *rng.random(4)]
    magnitude = exposure.magnitudes.magnitude(place[1])
    drawn = _Object(
        name, site, kind, 0.0, 0.0, "", {}, exposure.magnitudes.density(magnitude), np.nan, passing
    )
    when = exposure.mjd if passing else (exposure.slot + rng.random()) * exposure.options.slot_days
    if site == "beside":
        return _beside(exposure, drawn, rng, magnitude)
    if kind in light_curves.VARIABLES:
        return _variable(exposure, drawn, rng, magnitude, when, taken)
    return _new_light(exposure, drawn, rng, magnitude, when, taken, place[2:], nuclear)


def _short(*names: str) -> str:
    return blake2b("/".join(names).encode(), digest_size=4).hexdigest()


def _site(quantile: float) -> str:
    sites = light_curves.facts()["site"]
    edges = np.cumsum([numbers["share"] for numbers in sites.values()])
    return list(sites)[int(np.searchsorted(edges / edges[-1], quantile).clip(max=len(sites) - 1))]


def _is_free(x: float, y: float, taken: np.ndarray, separation: float) -> bool:
    return not len(taken) or float(np.hypot(taken[:, 0] - x, taken[:, 1] - y).min()) >= separation


def _new_light(
    exposure: _Exposure,
    drawn: _Object,
    rng: np.random.Generator,
    magnitude: float,
    when: float,
    taken: np.ndarray,
    place: Sequence[float],
    nuclear: bool,
) -> _Object | None:
    """Place a transient or moving object in a galaxy or on blank sky."""
    sky = exposure.sky
    for attempt in range(_TRIES):
        if drawn.site == "host":
            if not len(sky.galaxies):
                return None
            turn = (place[2] + 0.618 * attempt) % 1.0
            galaxy = int(sky.galaxies[int(turn * len(sky.galaxies))])
            x, y = _in_galaxy(sky, galaxy, rng, nuclear)
            host = _host_id(sky, galaxy)
        else:
            u, v = (place[0], place[1]) if attempt == 0 else rng.random(2)
            ny, nx = sky.data.shape
            x, y, host = u * nx - 0.5, v * ny - 0.5, ""
            if drawn.site == "blank" and not _is_blank(sky, x, y):
                continue
        if drawn.passing or _is_free(x, y, taken, exposure.separation):
            curve = _anchored(drawn.kind, rng, magnitude, when, exposure.band)
            return replace(drawn, x=x, y=y, host=host, curve=curve)
    return None


def _is_blank(sky: ReferenceSky, x: float, y: float) -> bool:
    """Whether no source lies within twice its own half-light radius plus two FWHM."""
    s = sky.sources
    reach = 2.0 * s.radius + 2.0 * sky.fwhm
    return not bool((np.hypot(s.x - x, s.y - y) < reach).any())


def _in_galaxy(
    sky: ReferenceSky, galaxy: int, rng: np.random.Generator, nuclear: bool
) -> tuple[float, float]:
    """Return a place in a galaxy: its nucleus, or a pixel chosen by its light."""
    x, y = float(sky.sources.x[galaxy]), float(sky.sources.y[galaxy])
    if nuclear:
        return x, y
    reach = int(np.clip(np.ceil(3.0 * sky.sources.radius[galaxy]), 4, 60))
    ix, iy = round(x), round(y)
    rows = slice(max(iy - reach, 0), iy + reach + 1)
    columns = slice(max(ix - reach, 0), ix + reach + 1)
    box = np.clip(sky.data[rows, columns], 0, None).astype(float)
    v, u = np.mgrid[rows, columns][:, : box.shape[0], : box.shape[1]]
    own = np.hypot(u - x, v - y)
    light = np.where((own <= reach) & (own <= _nearest_other(sky, galaxy, u, v)), box, 0.0).ravel()
    if light.sum() <= 0:
        return x, y
    chosen = int(np.searchsorted(np.cumsum(light) / light.sum(), rng.random()).clip(max=light.size - 1))
    within = rng.random(2) - 0.5
    return float(u.ravel()[chosen] + within[0]), float(v.ravel()[chosen] + within[1])


def _nearest_other(sky: ReferenceSky, index: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance of pixels from the nearest source but one: beyond half way light is another's."""
    s = sky.sources
    near = np.abs(s.x - s.x[index]) + np.abs(s.y - s.y[index]) < 4.0 * x.shape[1]
    near[index] = False
    distances = [np.hypot(x - a, y - b) for a, b in zip(s.x[near], s.y[near], strict=True)]
    return np.min(distances, axis=0) if distances else np.full(x.shape, np.inf)


def _host_id(sky: ReferenceSky, index: int) -> str:
    """Name a source of the reference by its place."""
    x, y = float(sky.sources.x[index]), float(sky.sources.y[index])
    if sky.wcs is None:
        return f"X{x:.0f}Y{y:.0f}"
    ra, dec = sky.wcs.all_pix2world(x, y, 0)
    return f"J{float(ra):.4f}{float(dec):+.4f}"


def _anchored(
    kind: str, rng: np.random.Generator, magnitude: float, when: float, band: str
) -> dict[str, Any]:
    """Draw a light curve that has a magnitude at a time, at a random phase of its bright part."""
    curve = light_curves.draw(kind, rng)
    low, high = light_curves.visible_phases(kind, curve)
    for _ in range(_TRIES):
        curve["mjd"] = float(when - rng.uniform(low, high))
        relative = float(light_curves.magnitude(kind, curve, when, band))
        if relative < 3.5:
            break
    else:
        curve["mjd"] = float(when)
        relative = float(light_curves.magnitude(kind, curve, when, band))
    return curve | {"magnitude": float(magnitude - relative)}


def _beside(
    exposure: _Exposure, drawn: _Object, rng: np.random.Generator, magnitude: float
) -> _Object | None:
    """Place new light a little off a detection of the exposure."""
    if not len(exposure.detections):
        return None
    x, y = exposure.detections[int(rng.integers(len(exposure.detections)))]
    nearest = max(4.0, 2.0 * exposure.sky.fwhm)
    distance, angle = rng.uniform(nearest, nearest + 12.0), rng.uniform(0.0, 2.0 * np.pi)
    curve = _anchored(drawn.kind, rng, magnitude, exposure.mjd, exposure.band)
    x, y = float(x + distance * np.cos(angle)), float(y + distance * np.sin(angle))
    return replace(drawn, x=x, y=y, curve=curve, on_science=True)


# --- variables --------------------------------------------------------------------------------------

_NUCLEUS = 0.3
"""Share of an active galaxy's light that varies."""

_CHANGES = (0.08, 0.8)
"""Relative changes of flux that are asked of variables, drawn in the logarithm: less than 4 percent of a
star is not believed by the detection, more than all of it cannot go."""


def _variable(
    exposure: _Exposure,
    drawn: _Object,
    rng: np.random.Generator,
    magnitude: float,
    when: float,
    taken: np.ndarray,
) -> _Object | None:
    """Let a star, or the nucleus of a galaxy, change by the flux of a magnitude at a time."""
    sky = exposure.sky
    index = sky.galaxies if drawn.site == "host" else sky.stars
    factor = _NUCLEUS if drawn.site == "host" else sky.growth
    if not len(index):
        return None
    wanted = 10 ** (-0.4 * (magnitude - sky.zeropoint))
    change = float(np.exp(rng.uniform(*np.log(_CHANGES))))
    base = np.maximum(sky.sources.flux[index], 1e-30) * factor
    order = np.argsort(np.abs(np.log(base * change / wanted)), kind="stable")[:_TRIES]
    for i in rng.permutation(order[:4]).tolist() + order[4:].tolist():
        x, y = float(sky.sources.x[index[i]]), float(sky.sources.y[index[i]])
        if drawn.passing or _is_free(x, y, taken, exposure.separation):
            curve, exact = _varying(drawn.kind, rng, wanted / base[i], when, exposure.band)
            offset = light_curves.reference_magnitude(drawn.kind, curve, exposure.band)
            curve["magnitude"] = float(sky.zeropoint - 2.5 * np.log10(base[i]) - offset)
            density = drawn.density if exact else np.nan
            host = _host_id(sky, int(index[i]))
            return replace(drawn, x=x, y=y, host=host, curve=curve, density=density, base=float(base[i]))
    return None


def _varying(
    kind: str, rng: np.random.Generator, change: float, when: float, band: str
) -> tuple[dict[str, Any], bool]:
    """Draw a variable whose flux differs from the reference by a share of it, as nearly as its class can.

    Either sign. Phases are tried at random; the amplitude is then adjusted within its range.
    """
    curve, sign = light_curves.draw(kind, rng), 1.0 if rng.random() < 0.5 else -1.0
    low, high = light_curves.visible_phases(kind, curve)
    tries = []
    for _ in range(_TRIES):
        curve["mjd"] = float(when - rng.uniform(low, high))
        tries.append((abs(_relative_change(kind, curve, when, band) - sign * change), curve["mjd"]))
    curve["mjd"] = min(tries)[1]
    now = _relative_change(kind, curve, when, band)
    goal = change if now > 0 else -min(change, 0.95)
    factor = goal / now if kind == "flare" else np.log1p(goal) / np.log1p(now) if now else 1.0
    limits = light_curves.AMPLITUDE_RANGES[kind]
    curve["amplitude"] = float(np.clip(curve["amplitude"] * factor, *limits))
    reached = _relative_change(kind, curve, when, band)
    return curve, bool(abs(abs(reached) / change - 1.0) < 0.01)


def _relative_change(kind: str, curve: dict[str, Any], when: float, band: str) -> float:
    """Return the flux over that in the reference, minus 1."""
    before = light_curves.reference_magnitude(kind, curve, band)
    return float(10 ** (-0.4 * (light_curves.magnitude(kind, curve, when, band) - before))) - 1.0


# --- from the sky to the exposure -------------------------------------------------------------------


def _on_science(exposure: _Exposure, objects: Sequence[_Object]) -> np.ndarray:
    """Return where objects lie in the science image, ``(n, 2)``; NaN where they do not."""
    x, y = np.array([(o.x, o.y) for o in objects]).reshape(-1, 2).T
    there = np.array([o.on_science for o in objects], bool)
    u, v = _to_science(exposure.sky, exposure.pair, x, y)
    return np.column_stack([np.where(there, x, u), np.where(there, y, v)])


def _rendered(exposure: _Exposure, drawn: _Object, x: float, y: float, flux_error: float) -> Planned | None:
    """Return an object as the exposure shows it; None where it is elsewhere, too faint or too bright."""
    science = exposure.pair.science
    ny, nx = science.shape
    reach = exposure.pair.science.psf.shape[0] // 2
    if not (np.isfinite(x) and -reach < x < nx + reach and -reach < y < ny + reach):
        return None
    ratio = exposure.pair.normalization.flux_ratio_at(x, y, science.shape)
    flux = _flux(exposure, drawn) * ratio
    if abs(flux) < _FAINTEST * flux_error or _saturates(exposure, x, y, flux):
        return None
    length_x, length_y = _motion(exposure, drawn, x, y)
    # all the light there is a star's; under an active nucleus lies its galaxy
    base = drawn.base * ratio if drawn.site == "star" else None
    name = f"{exposure.exposure_id}-{drawn.name.removesuffix('-' + _short(exposure.exposure_id))}"
    return Planned(
        source=Source(name, x, y, flux, length_x, length_y, base),
        object_id=f"inj-{drawn.name}",
        host_id=drawn.host,
        site=drawn.site,
        kind=drawn.kind,
        light_curve=drawn.curve,
        injection_probability=drawn.density,
    )


def _flux(exposure: _Exposure, drawn: _Object) -> float:
    """Return the change of flux, in the unit of the reference."""
    zeropoint = exposure.sky.zeropoint
    now = float(light_curves.magnitude(drawn.kind, drawn.curve, exposure.mjd, exposure.band))
    before = light_curves.reference_magnitude(drawn.kind, drawn.curve, exposure.band)
    return float(10 ** (-0.4 * (now - zeropoint)) - 10 ** (-0.4 * (before - zeropoint)))


def _saturates(exposure: _Exposure, x: float, y: float, flux: float) -> bool:
    """Whether a source is brighter than the range begins, above the sky of the exposure."""
    saturation = exposure.pair.science.saturation
    if saturation is None or flux <= 0:
        return False
    highest = saturation * 10 ** (-0.4 * exposure.options.bright_offset)
    return flux * float(exposure.pair.science.psf.at(x, y).max()) >= highest


def _motion(exposure: _Exposure, drawn: _Object, x: float, y: float) -> tuple[float, float]:
    """Return how far an object moves along x and y during the exposure, pixels."""
    if "rate" not in drawn.curve:
        return 0.0, 0.0
    science = exposure.pair.science
    seconds = science.exptime or 30.0
    length = drawn.curve["rate"] * seconds / 60.0 / exposure.pixel_scale
    if length > exposure.options.max_trail:
        length = exposure.options.max_trail
    angle = np.radians(drawn.curve["position_angle"])
    if science.wcs is None:
        return length * float(np.sin(angle)), length * float(np.cos(angle))
    ra, dec = (float(v) for v in science.wcs.all_pix2world(x, y, 0))
    east, north = np.sin(angle) / 3600.0 / np.cos(np.radians(dec)), np.cos(angle) / 3600.0
    x1, y1 = science.wcs.all_world2pix(ra + float(east), dec + float(north), 0, quiet=True)
    step = np.hypot(float(x1) - x, float(y1) - y)
    return length * float((x1 - x) / step), length * float((y1 - y) / step)
