"""Sources put into real pairs of images and found again.

``python -m astrid_assets_tests.benchmarks.real_pairs [--pair NAME] [--json]`` needs ASTRID_REAL_DATA. Nobody
knows what really changed in these pairs: the truth is what is injected. Half of the sources are scaled
clones of real, isolated stars that were withheld from the fits of PSF, flux ratio and registration: on whole
pixels, their own noise counted, near their star, and each half of the stars in turn. Half are drawn with the
PSF that the code measured. A third of them goes into the reference before it is resampled, where they are
negative. Everything else is what the images themselves show: S_corr on blank sky and on static sources.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import ndimage
from scipy.spatial import cKDTree

from astrid_assets.errors import PsfError
from astrid_assets.images import AlignedPair, Difference, MaskedImage, Psf, read_image
from astrid_assets.images.masks import BAD_BITS, bits
from astrid_assets.images.pairs import Registration
from astrid_assets.images.psf import polynomial_terms
from astrid_assets.science import align, classic, detect, normalize, zogy
from astrid_assets.science.background import estimate_background, robust_std
from astrid_assets.science.forced import forced_flux
from astrid_assets.science.injection import Source, effective_gain, inject
from astrid_assets.science.stars import find_sources, select_stars

METHODS = {"zogy": zogy, "classic": classic}

CLEAN_SNR, BIAS_SNR = 8.0, 15.0
"""Least true signal-to-noise ratio of the sources that have to be found, and that tell the flux bias."""

SNR_RANGE = (5.0, 60.0)
"""Signal-to-noise ratios that are injected, uniform in the logarithm."""

SEARCH_RADIUS = 2.0
"""Largest distance of a detection from the truth, pixels."""

STAR_SNR = 100.0
"""Least signal-to-noise ratio of a star that is cloned: a clone of S/N 10 has a tenth of its noise."""

ASYMMETRY = 0.025
"""Largest difference of the light of opposite octants between 1 and 2.5 FWHM, as a share of the star."""

STAMP_RADIUS = 4.0
"""Radius to which a star is cloned, FWHM; a Moffat profile (beta 3) holds 99 % of its light within."""

MOST_WITHHELD = 8
"""Stars that are withheld at most: the PSF of the others has to follow the field."""

KEPT_STARS = 3
"""Stars that stay in the fits; so many a PSF takes."""

FEW_STARS = 4
"""With fewer stars for the PSF than this nothing is injected near a star: none of them can be spared."""

VEIL = 2.0
"""Radius around a withheld star that is marked as bad for the fits, FWHM."""

CLONE_REACH = 150.0
"""Farthest from its star that a clone is put, pixels: the PSF varies over the field, a clone does not."""

SPACING = 8.0
"""Least distance of injected sources from each other and from the edge, FWHM."""

SATURATED_RADIUS = 15.0
"""S_corr is not measured nearer to a saturated pixel, pixels."""

DARK, LIT = 3.0, 4.0
"""Mean of 5 x 5 pixels, in sigma of that mean: of the sum of both images, above which a pixel and its
neighbours are not blank; of each image, above which it is one of a source that is static."""

BLOCK = 32
"""Side of the blocks of pixels that count as independent, pixels."""


@dataclass(frozen=True)
class RealPair:
    """Two files and what is known about them."""

    science: str
    """File of the science image, below ``pairs``."""

    reference: str
    """File of the reference."""

    ratio: float | None = None
    """Flux ratio that exposure times or zero points predict."""

    assume: dict[str, float] = field(default_factory=dict)
    """What the headers lack."""

    aligned: bool = False
    """Whether the grids are equal."""

    crowded: bool = False
    """Whether there is no blank sky."""

    n_sources: int = 60
    """Sources injected at a time."""

    seeds: int = 3
    """How many times."""


_JWST = "jwst_nircam_a2744/jw{}_nircam_clear-f200w_i2d_stamp.fits"
_SAAO = "saao_kb13475/AKB13475I{}.fits"
_DECAM_R = "decam_tc4_r/c4d_{}.fits"
_DECAM_G = "decam_tc4_g/c4d_{}.fits"
_ESO = "properimage_eso085/aligned_eso085-030-{}.fit"

PAIRS = {
    "jwst": RealPair(
        _JWST.format("02561001002-02561-o001_t003"), _JWST.format("01324001001-01324-o001_t001"), 1.03
    ),
    "eso085": RealPair(
        _ESO.format("005"), _ESO.format("004"), 1.0, assume={"gain": 1.5}, aligned=True, n_sources=90, seeds=2
    ),
    "decam_r_january": RealPair(
        _DECAM_R.format("180128_083845_ooi_r_ls9.N3"),
        _DECAM_R.format("170522_005829_ooi_r_ls9.N2"),
        64 / 125,
        n_sources=16,
        seeds=8,
    ),
    "decam_r_march": RealPair(
        _DECAM_R.format("180314_055922_ooi_r_ls9.S1"),
        _DECAM_R.format("170522_005829_ooi_r_ls9.N2"),
        59 / 125,
        n_sources=12,
        seeds=8,
    ),
    "decam_g": RealPair(
        _DECAM_G.format("180225_074106_ooi_g_ls9.S1"),
        _DECAM_G.format("170329_044212_ooi_g_ls9.N3"),
        122 / 131,
        n_sources=12,
        seeds=8,
    ),
    **{
        f"saao_{night}": RealPair(
            _SAAO.format(night), _SAAO.format("0001"), None, crowded=True, n_sources=40, seeds=2
        )
        for night in ("0020", "0060", "0080", "0100")
    },
}


# --- stars to clone -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Star:
    """A real star, cut out of the images on whole pixels; sky subtracted."""

    x: int
    """Column of its pixel in the science image."""

    y: int
    """Row."""

    stamps: dict[str, np.ndarray]
    """Its light in ``science`` and ``reference``, 2-d, zero beyond the radius."""

    centres: dict[str, tuple[float, float]]
    """Where (x, y) it lies on its stamps, relative to their middles, pixels."""

    noise: dict[str, float]
    """1-sigma error of the sum of each stamp."""

    fwhm: float
    """Width of the PSF, pixels."""


def subtracted(image: MaskedImage) -> tuple[np.ndarray, np.ndarray]:
    """Return an image without its sky, and the noise of a blank pixel."""
    sky = estimate_background(image.data, image.bad)
    return image.data - sky.level, sky.rms


def isolated_stars(image: MaskedImage, isolation: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of bright isolated stars, brightest first."""
    data, rms = subtracted(image)
    found = find_sources(data, rms, image.bad)
    full = None if image.saturation is None else image.saturation - np.nanmedian(image.data - data)
    chosen = select_stars(
        found,
        image.shape,
        saturation=full,
        min_snr=STAR_SNR,
        isolation=isolation,
        margin=int(isolation),
        min_count=0,
    )
    return found.x[chosen], found.y[chosen]


def veiled(image: MaskedImage, x: np.ndarray, y: np.ndarray, radius: float) -> MaskedImage:
    """Mark the cores of stars as bad, which keeps them out of every fit."""
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    near = np.zeros(image.shape, bool)
    for a, b in zip(x, y, strict=True):
        near |= np.hypot(columns - a, rows - b) < radius
    return image.replace(mask=np.where(near, image.mask | bits("BAD"), image.mask))


def cut_star(data: np.ndarray, x: float, y: float, radius: int) -> np.ndarray | None:
    """Return the light of a star on whole pixels; None where it is cut off by the edge.

    Light that only one side of the star shows is that of a neighbour: the other side replaces it.
    """
    i, j, reach = round(y), round(x), radius + 4
    stamp = data[max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
    if stamp.shape != (2 * reach + 1, 2 * reach + 1) or not np.isfinite(stamp).all():
        return None
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    ring = stamp[distance > radius]
    stamp = stamp - np.median(ring)
    mirror = stamp[::-1, ::-1]
    foreign = (stamp - mirror > 5.0 * robust_std(ring)) & (distance > 0.5 * radius)
    stamp = np.where(foreign, mirror, stamp)
    return np.where(distance <= radius, stamp, 0.0)[4:-4, 4:-4]


def centre(stamp: np.ndarray, fwhm: float) -> tuple[float, float]:
    """Return the windowed centroid of a star relative to the middle of its stamp."""
    half = stamp.shape[0] // 2
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    x = y = 0.0
    for _ in range(30):
        weight = stamp * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / (fwhm / 2.355) ** 2)
        total = weight.sum()
        x += 2.0 * float((weight * (columns - x)).sum() / total)
        y += 2.0 * float((weight * (rows - y)).sum() / total)
    return x, y


def _is_alone(stamp: np.ndarray, at: tuple[float, float], fwhm: float) -> bool:
    """Return whether opposite sides of a star are equally bright: a close companion stands on one."""
    centred = ndimage.shift(stamp, (-at[1], -at[0]), order=3)
    half = stamp.shape[0] // 2
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    distance, angle = np.hypot(rows, columns), np.arctan2(rows, columns)
    wings = (distance > fwhm) & (distance < 2.5 * fwhm)
    sectors = (8 * (angle + np.pi) / (2.0 * np.pi)).astype(int) % 8
    light = np.bincount(sectors[wings], centred[wings], minlength=8)
    return bool(np.abs(light[:4] - light[4:]).max() < ASYMMETRY * centred.sum())


# --- geometry -------------------------------------------------------------------------------------


def to_reference(
    pair: AlignedPair, reference: MaskedImage, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where positions of the science image lie in the reference before it was resampled."""
    registration, shape = pair.registration, pair.science.shape
    if pair.normalization is not None:
        shift = np.array([pair.normalization.shift_at(a, b, shape) for a, b in zip(x, y, strict=True)])
        x, y = x - shift[:, 0], y - shift[:, 1]
    if registration.method == "assumed" or _is_unplaced(pair, reference):
        return x, y
    x, y = _refined(registration, x, y, shape)
    if registration.transform is not None:
        matrix = np.array(registration.transform)
        return tuple(matrix[:, :2] @ np.array([x, y]) + matrix[:, 2:])
    return tuple(reference.wcs.all_world2pix(*pair.science.wcs.all_pix2world(x, y, 0), 0))


def _is_unplaced(pair: AlignedPair, reference: MaskedImage) -> bool:
    """Return whether the reference was taken over without resampling, which loses pixels at the edges."""
    if reference.shape != pair.reference.shape:
        return False
    lost = (pair.reference.mask ^ reference.mask) & bits("NO_DATA")
    return not lost.any()


def _refined(
    registration: Registration, x: np.ndarray, y: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions with the offsets of the stars taken off."""
    ny, nx = shape
    terms = polynomial_terms(2 * x / (nx - 1) - 1, 2 * y / (ny - 1) - 1, registration.order)
    dx, dy = (np.tensordot(c, terms, axes=1) for c in registration.coefficients)
    return x - dx, y - dy


def to_science(
    pair: AlignedPair, reference: MaskedImage, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where positions of the reference lie in the science image: the inverse, by iteration."""
    at_x, at_y = np.array(x, float), np.array(y, float)
    # one step removes the offset, each further one a percent of what rotation and scale leave
    jacobian = _jacobian(pair, reference)
    for _ in range(8):
        there = to_reference(pair, reference, at_x, at_y)
        step = np.linalg.solve(jacobian, np.array([x - there[0], y - there[1]]))
        at_x, at_y = at_x + step[0], at_y + step[1]
    return at_x, at_y


def _jacobian(pair: AlignedPair, reference: MaskedImage) -> np.ndarray:
    ny, nx = pair.science.shape
    x, y = 0.5 * nx + np.array([-1.0, 1.0, 0.0, 0.0]), 0.5 * ny + np.array([0.0, 0.0, -1.0, 1.0])
    u, v = to_reference(pair, reference, x, y)
    return 0.5 * np.array([[u[1] - u[0], u[3] - u[2]], [v[1] - v[0], v[3] - v[2]]])


# --- one pair -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Setup:
    """A pair with what is needed to inject into it."""

    known: RealPair
    science: MaskedImage
    reference: MaskedImage
    pair: AlignedPair
    """Fitted without the withheld stars, subtracted with them."""

    psf_reference: Psf
    """PSF of the reference on its own pixels."""

    stars: list[Star]
    withheld: bool
    """Whether the stars that are cloned took no part in the fits."""

    n_isolated: int
    bright: tuple[np.ndarray, np.ndarray]
    """Positions (x, y) of all bright sources of the science image."""


def fitted(science: MaskedImage, reference: MaskedImage, stars: list[Star], known: RealPair) -> AlignedPair:
    """Fit everything without some stars, and return the pair with them."""
    masked = science
    if stars:
        x, y = positions(stars)
        masked = veiled(science, x, y, VEIL * stars[0].fwhm)
    fit = normalize(align(masked, reference, assume_aligned=known.aligned))
    if not stars:
        return fit
    return normalize(fit.replace(science=science, normalization=None), reuse=fit)


def positions(stars: list[Star]) -> tuple[np.ndarray, np.ndarray]:
    """Return the science pixels (x, y) of some stars."""
    return np.array([s.x for s in stars], float), np.array([s.y for s in stars], float)


def prepare(known: RealPair, folder: Path, *, first_star: int = 1) -> Setup:
    """Read a pair, choose the stars that are withheld, fit the rest.

    Parameters
    ----------
    known, folder
        As for `measure`.

    first_star
        The brightest star that is withheld: 0 or 1, for the two halves of the isolated ones.
    """
    science, reference = (
        read_image(folder / "pairs" / name, **known.assume) for name in (known.science, known.reference)
    )
    first = normalize(align(science, reference, assume_aligned=known.aligned))
    fwhm = max(first.science.psf.fwhm, first.reference.psf.fwhm)
    x, y = isolated_stars(science, 1.25 * STAMP_RADIUS * fwhm if not known.crowded else 2.0 * fwhm)
    stars = _cut_stars(first, science, reference, x, y, fwhm)
    if first.science.psf.source != "stars":
        stars = []  # what passes for a star there is a galaxy
    n = len(stars)
    # every second one, so that both sets have bright and faint ones
    chosen = stars[first_star::2][:MOST_WITHHELD] if n >= 2 * KEPT_STARS else stars[-1:]
    pair, withheld = first, False
    if chosen:
        try:
            pair, withheld = fitted(science, reference, chosen, known), True
        except PsfError:
            chosen = stars
    psf_reference = _own_psf(pair, veiled_reference(first, reference, chosen if withheld else []), science)
    return Setup(known, science, reference, pair, psf_reference, chosen, withheld, n, _bright(science))


def _bright(image: MaskedImage) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of what may be a star of a fit."""
    data, rms = subtracted(image)
    found = find_sources(data, rms, image.bad)
    return found.x[found.snr > 20.0], found.y[found.snr > 20.0]


def _own_psf(pair: AlignedPair, reference: MaskedImage, science: MaskedImage) -> Psf:
    """Return the PSF of the reference on its own pixels: the roles of the images are exchanged."""
    if reference.psf is not None and pair.reference.psf.source != "stars":
        return reference.psf
    assumed = pair.registration.method == "assumed"
    try:
        return normalize(align(reference, science, assume_aligned=assumed)).science.psf
    except PsfError:
        return pair.reference.psf  # resampled on the way, which widens it by a percent


def veiled_reference(pair: AlignedPair, reference: MaskedImage, stars: list[Star]) -> MaskedImage:
    """Veil the same stars in the reference."""
    if not stars:
        return reference
    return veiled(reference, *to_reference(pair, reference, *positions(stars)), VEIL * stars[0].fwhm)


def _cut_stars(
    pair: AlignedPair,
    science: MaskedImage,
    reference: MaskedImage,
    x: np.ndarray,
    y: np.ndarray,
    fwhm: float,
) -> list[Star]:
    """Cut the stars out of both images; those that either shows in full, on good pixels."""
    if not len(x):
        return []
    radius = int(np.ceil(STAMP_RADIUS * fwhm))
    images = {"science": science, "reference": reference}
    light = {name: subtracted(image) for name, image in images.items()}
    places = {"science": (x, y), "reference": to_reference(pair, reference, x, y)}
    stars = []
    for k in range(len(x)):
        stamps, centres, noise = {}, {}, {}
        for name, image in images.items():
            a, b = (float(p[k]) for p in places[name])
            clean = np.where(image.bad, np.nan, light[name][0])
            stamps[name] = cut_star(clean, a, b, radius)
            if stamps[name] is not None:
                centres[name] = centre(stamps[name], fwhm)
                noise[name] = float(np.median(light[name][1]) * np.sqrt((stamps[name] != 0).sum()))
        if all(s is not None and _is_alone(s, centres[name], fwhm) for name, s in stamps.items()):
            stars.append(Star(round(x[k]), round(y[k]), stamps, centres, noise, fwhm))
    return stars


@dataclass(frozen=True)
class Injected:
    """A source that was put into an image; positions and flux as the difference should show them."""

    x: float
    y: float
    flux: float
    flux_error: float
    """Error of `flux` itself: that of the star that was cloned."""

    side: str
    """Image it was put into."""

    star: int
    """Which star it is a clone of; -1 for a model."""


def places_for(
    setup: Setup, difference: Difference, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw places on clean pixels, far enough from each other; every second one near a star to clone."""
    fwhm = max(setup.pair.science.psf.fwhm, setup.pair.reference.psf.fwhm)
    gap = max(SPACING * fwhm, 20.0)
    ny, nx = difference.shape
    spoiled = ndimage.binary_dilation((difference.mask & _AVOIDED) != 0, iterations=int(np.ceil(fwhm)))
    x, y = rng.uniform(0.0, [[nx], [ny]], (2, 400 * setup.known.n_sources))
    margin = 2.0 * STAMP_RADIUS * fwhm
    inside = (x > margin) & (x < nx - 1 - margin) & (y > margin) & (y < ny - 1 - margin)
    if setup.pair.science.psf.source == "stars" and setup.pair.science.psf.n_stars < FEW_STARS:
        stars = cKDTree(np.c_[setup.bright])
        inside &= stars.query(np.c_[x, y])[0] > SPACING * fwhm
    x, y = x[inside], y[inside]
    clean = ~spoiled[np.rint(y).astype(int), np.rint(x).astype(int)]
    chosen: list[int] = []
    for k in np.flatnonzero(clean):
        if len(chosen) == setup.known.n_sources:
            break
        if len(chosen) % 2 and setup.stars and _nearest(setup.stars, x[k], y[k]) < 0:
            continue
        if all(np.hypot(x[k] - x[c], y[k] - y[c]) > gap for c in chosen):
            chosen.append(int(k))
    return x[chosen], y[chosen]


_AVOIDED = int(BAD_BITS | bits("NEAR_BRIGHT_STAR"))


def contained(psf: Psf, shape: tuple[int, ...]) -> float:
    """Return the share of the light of the PSF on a clone."""
    ny, nx = psf.image_shape
    stamp = psf.at((nx - 1) / 2, (ny - 1) / 2)
    half = stamp.shape[0] // 2
    distance = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    return float(stamp[distance <= shape[0] // 2].sum())


def with_sources(
    setup: Setup, base: Difference, seed: int
) -> tuple[MaskedImage, MaskedImage, list[Injected]]:
    """Return both images with sources; every third goes into the reference, every second is a clone."""
    rng = np.random.default_rng(1000 + seed)
    x, y = places_for(setup, base, rng)
    snr = np.exp(rng.uniform(*np.log(SNR_RANGE), len(x)))
    flux = snr * base.flux_error[np.rint(y).astype(int), np.rint(x).astype(int)]
    canvas = {
        "science": _Canvas(setup.science, setup.pair.science.psf, effective_gain(setup.pair)),
        "reference": _Canvas(setup.reference, setup.psf_reference, setup.reference.gain),
    }
    fwhm = max(setup.pair.science.psf.fwhm, setup.pair.reference.psf.fwhm)
    room = max([s.stamps["reference"].shape[0] // 2 for s in setup.stars], default=int(3 * fwhm)) + 1
    done: list[Injected] = []
    for k in range(len(x)):
        star = _nearest(setup.stars, x[k], y[k]) if k % 2 else -1
        if k % 3 == 2:
            ratio = setup.pair.normalization.flux_ratio_at(x[k], y[k], base.shape)
            at = _one(to_reference, setup, x[k], y[k])
            if not canvas["reference"].holds(*at, room):
                continue
            *at, error = canvas["reference"].put(setup, "reference", star, at, flux[k] / ratio, rng)
            at = _one(to_science, setup, *at)
            done.append(Injected(*at, -flux[k], error * ratio, "reference", star))
        else:
            *at, error = canvas["science"].put(setup, "science", star, (x[k], y[k]), flux[k], rng)
            done.append(Injected(*at, flux[k], error, "science", star))
    return canvas["science"].finished(seed), canvas["reference"].finished(seed), done


def _nearest(stars: list[Star], x: float, y: float) -> int:
    """Return the nearest star whose PSF is still that of the place; -1 where there is none."""
    if not stars:
        return -1
    away = np.hypot(*(a - b for a, b in zip(positions(stars), (x, y), strict=True)))
    return int(away.argmin()) if away.min() < CLONE_REACH else -1


def _one(mapping: Callable, setup: Setup, x: float, y: float) -> tuple[float, float]:
    """Map one position."""
    x, y = mapping(setup.pair, setup.reference, np.array([x]), np.array([y]))
    return float(x[0]), float(y[0])


@dataclass
class _Canvas:
    """An image that sources are put into."""

    image: MaskedImage
    psf: Psf
    gain: float | None
    models: list[Source] = field(default_factory=list)

    def holds(self, x: float, y: float, room: int) -> bool:
        """Return whether a source fits there."""
        ny, nx = self.image.shape
        return room <= x < nx - room and room <= y < ny - room

    def put(
        self,
        setup: Setup,
        side: str,
        star: int,
        at: tuple[float, float],
        flux: float,
        rng: np.random.Generator,
    ) -> tuple[float, float, float]:
        """Add a clone of a star, or with -1 a model; return where it lies, and the error of its flux."""
        if star < 0:
            self.models.append(Source(f"{side}/{len(self.models)}", *at, flux))
            return *at, 0.0
        chosen = setup.stars[star]
        self.image, x, y, error = _cloned(self.image, chosen, side, at, flux, self.psf, self.gain, rng)
        return x, y, error

    def finished(self, seed: int) -> MaskedImage:
        """Return the image with the models too."""
        return inject(self.image, self.models, psf=self.psf, gain=self.gain, seed=seed)[0]


def _cloned(
    image: MaskedImage,
    star: Star,
    side: str,
    at: tuple[float, float],
    flux: float,
    psf: Psf,
    gain: float | None,
    rng: np.random.Generator,
) -> tuple[MaskedImage, float, float, float]:
    """Add a scaled star on whole pixels; return where it lies, and the error of its flux.

    A star scaled by a keeps a^2 of its photon noise: what a fainter star has more of is added.
    """
    stamp = star.stamps[side]
    whole = contained(psf, stamp.shape)
    scale = flux * whole / stamp.sum()
    half = stamp.shape[0] // 2
    i, j = round(at[1]), round(at[0])
    part = slice(i - half, i + half + 1), slice(j - half, j + half + 1)
    data, variance = image.data.copy(), image.variance
    if data[part].shape != stamp.shape:
        msg = "a clone does not fit into the image"
        raise ValueError(msg)
    light = np.maximum(scale * stamp, 0.0)
    data[part] += scale * stamp
    if gain is not None:
        data[part] += rng.normal(0.0, 1.0, stamp.shape) * np.sqrt(max(1.0 - scale, 0.0) * light / gain)
        if variance is not None:
            variance = variance.copy()
            variance[part] += light / gain
    error = flux * star.noise[side] / stamp.sum()
    dx, dy = star.centres[side]
    return image.replace(data=data, variance=variance), j + dx, i + dy, error


# --- measures -------------------------------------------------------------------------------------


def ground(setup: Setup, difference: Difference) -> dict[str, np.ndarray]:
    """Return which pixels are blank sky and which ones of static sources, good ones, away from saturation."""
    pair, ratio = setup.pair, setup.pair.normalization.flux_ratio
    total, lit = 0.0, np.ones(difference.shape, bool)
    for image, factor in ((pair.science, 1.0), (pair.reference, ratio)):
        light = np.where(image.bad, 0.0, image.data) * factor
        # weights of inverse variance: the sum is independent of the difference, so that it may choose
        total = total + light / robust_std(light[~image.bad]) ** 2
        lit &= _significance(light) > LIT
    full = (difference.mask & bits("SATURATED", "REF_SATURATED")) != 0
    fair = ~difference.bad & np.isfinite(difference.score_corrected)
    if full.any():
        fair &= ndimage.distance_transform_edt(~full) > SATURATED_RADIUS
    ny, nx = difference.shape
    edge = np.zeros(difference.shape, bool)
    edge[15 : ny - 15, 15 : nx - 15] = True
    bright = ndimage.binary_dilation(_significance(total) > DARK, iterations=3)
    return {"blank": fair & edge & ~bright, "static": fair & edge & lit}


def _significance(image: np.ndarray) -> np.ndarray:
    """Return the mean of 5 x 5 pixels in units of its own noise."""
    mean = ndimage.uniform_filter(image, 5)
    return mean / robust_std(mean)


def spread(values: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """Return standard deviation of S_corr, its standard error from blocks, and the robust one."""
    chosen = values[where].astype(float)
    if len(chosen) < 50:
        return {"n": len(chosen)}
    ny, nx = values.shape
    label = (np.arange(ny)[:, None] // BLOCK) * 10_000 + np.arange(nx)[None, :] // BLOCK
    _, block = np.unique(label[where], return_inverse=True)
    count = np.bincount(block)
    square = np.bincount(block, (chosen - chosen.mean()) ** 2)
    variance = square.sum() / count.sum()
    error = np.sqrt(((square - variance * count) ** 2).sum()) / count.sum() / (2.0 * np.sqrt(variance))
    return {
        "n": len(chosen),
        "mean": float(chosen.mean()),
        "std": float(np.sqrt(variance)),
        "std_error": float(error),
        "mad_std": robust_std(chosen),
    }


def away_from(shape: tuple[int, int], x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Return the pixels farther from all positions than a radius."""
    free = np.ones(shape, bool)
    inside = [(int(np.rint(b)), int(np.rint(a))) for a, b in zip(x, y, strict=True)]
    for i, j in inside:
        if 0 <= i < shape[0] and 0 <= j < shape[1]:
            free[i, j] = False
    return free if free.all() else ndimage.distance_transform_edt(free) > radius


def variables(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return where something real seems to have changed: strong candidates that nothing explains."""
    x, y, snr, artifact = (table[c].to_numpy(zero_copy_only=False) for c in ("x", "y", "snr", "artifact"))
    real = (artifact == "") & (snr > 6.0)
    return x[real], y[real]


def random_pulls(difference: Difference, table: pa.Table, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return flux over error at random clean places away from what the table says has changed."""
    ny, nx = difference.shape
    x, y = rng.uniform(20.0, [[nx - 21.0], [ny - 21.0]], (2, n))
    i, j = np.rint(y).astype(int), np.rint(x).astype(int)
    good = (difference.mask[i, j] & _AVOIDED) == 0
    good &= away_from(difference.shape, *variables(table), 10.0)[i, j]
    flux, error, flags = forced_flux(difference, x[good], y[good])
    fine = ((flags & int(BAD_BITS)) == 0) & (error > 0) & np.isfinite(flux)
    return flux[fine] / error[fine]


def recovered(
    difference: Difference, base: Difference, table: pa.Table, sources: list[Injected]
) -> dict[str, np.ndarray]:
    """Return one row for each source: what was injected, and what came out."""
    x, y = np.array([s.x for s in sources]), np.array([s.y for s in sources])
    truth = np.array([s.flux for s in sources])
    flux, error, flags = forced_flux(difference, x, y)
    before, _, _ = forced_flux(base, x, y)
    found = np.full(len(sources), -1)
    if table.num_rows:
        tree = cKDTree(np.c_[table["x"].to_numpy(), table["y"].to_numpy()])
        positive = table["positive"].to_numpy(zero_copy_only=False)
        for k, near in enumerate(tree.query_ball_point(np.c_[x, y], SEARCH_RADIUS)):
            same = [i for i in near if positive[i] == (truth[k] > 0)]
            found[k] = min(same, default=-1)  # strongest first
    hit = found >= 0
    row = np.where(hit, found, 0)

    def column(name: str) -> np.ndarray:
        values = table[name].to_numpy(zero_copy_only=False)
        return values[row] if len(values) else np.full(len(row), np.nan)

    return {
        "x": x,
        "y": y,
        "truth": truth,
        "flux": flux,
        "before": before,
        "error": np.hypot(error, [s.flux_error for s in sources]),
        "star_error": np.array([s.flux_error for s in sources]),
        "snr": np.abs(truth) / error,
        "clone": np.array([s.star >= 0 for s in sources]),
        "negative": np.array([s.side == "reference" for s in sources]),
        "star": np.array([s.star for s in sources]),
        "clean": ((flags & _AVOIDED) == 0) & np.isfinite(flux),
        "found": hit,
        "kept": hit & (np.where(hit, column("artifact"), "") == ""),
        "artifact": np.where(hit, column("artifact"), "missed"),
        "detected_flux": np.where(hit, column("flux").astype(float), np.nan),
        "offset": np.where(hit, np.hypot(column("x") - x, column("y") - y), np.nan),
    }


def summarize(rows: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, Any]:
    """Return recovery, bias and pulls of some of the sources."""
    r = {name: values[chosen & rows["clean"]] for name, values in rows.items()}
    bright, strong = r["snr"] >= CLEAN_SNR, r["snr"] >= BIAS_SNR
    told: dict[str, Any] = {"n": len(r["snr"]), "n_clean8": int(bright.sum())}
    if bright.any():
        told["recovery"] = float(r["found"][bright].mean())
        told["unflagged"] = float(r["kept"][bright].mean())
    if strong.sum() >= 3:
        told["bias"], told["bias_error"] = _bias(r["flux"], r, strong)
        told["bias_beside"], told["bias_beside_error"] = _bias(r["flux"] - r["before"], r, strong)
        seen = strong & r["found"]
        told["bias_detected"], told["bias_detected_error"] = _bias(r["detected_flux"], r, seen)
        told["offset_rms"] = float(np.sqrt(np.mean(r["offset"][seen] ** 2) / 2.0))
    if len(r["snr"]) >= 5:
        pull = (r["flux"] - r["truth"]) / r["error"]
        told |= {"pull_mean": float(pull.mean()), "pull_std": float(pull.std()), "pull_mad": robust_std(pull)}
    return told


def _bias(flux: np.ndarray, r: dict[str, np.ndarray], use: np.ndarray) -> tuple[float, float]:
    """Return the weighted mean of F / F_true - 1 and its error: from the scatter, at least as expected."""
    relative = (flux / r["truth"] - 1.0)[use]
    weight = 1.0 / (r["snr"][use] ** -2 + (r["star_error"] / r["truth"])[use] ** 2)
    mean = (weight * relative).sum() / weight.sum()
    # clones of one star share its error
    _, group = np.unique(
        np.where(r["star"] < 0, -1 - np.arange(len(use)), r["star"])[use], return_inverse=True
    )
    scatter = np.sqrt((np.bincount(group, weight * (relative - mean)) ** 2).sum())
    of_stars = np.bincount(group, weight * np.abs(r["star_error"] / r["truth"])[use])
    expected = np.sqrt((of_stars**2).sum() + (weight**2 * r["snr"][use] ** -2).sum())
    return float(mean), float(max(scatter, expected) / weight.sum())


def lag(difference: Difference, where: np.ndarray) -> tuple[float, float]:
    """Return the correlation of neighbouring blank pixels of the difference in x and y."""
    data = np.where(where, np.nan_to_num(difference.data), 0.0)
    power = (data**2).sum() / where.sum()
    across = (data[:, 1:] * data[:, :-1]).sum() / max((where[:, 1:] & where[:, :-1]).sum(), 1)
    down = (data[1:] * data[:-1]).sum() / max((where[1:] & where[:-1]).sum(), 1)
    return float(across / power), float(down / power)


def _with_changes(setup: Setup, science: MaskedImage, reference: MaskedImage) -> AlignedPair:
    """Run everything on images with sources; where stars are few, with the fits of the images alone."""
    stars = setup.stars if setup.withheld else []
    try:
        return fitted(science, reference, stars, setup.known)
    except PsfError:
        # a source beside one of three stars
        known = setup.pair
    before, after = (
        align(setup.science, r, assume_aligned=setup.known.aligned).reference.data
        for r in (setup.reference, reference)
    )
    light = np.where(known.reference.bad, 0.0, after - before)
    gain = setup.reference.gain
    variance = known.reference.variance + (0.0 if gain is None else np.maximum(light, 0.0) / gain)
    added = known.reference.replace(data=known.reference.data + light, variance=variance)
    known = known.replace(reference=added)
    return normalize(known.replace(science=science, normalization=None), reuse=known)


def _injected(setup: Setup, base: Difference, method: str, seeds: int) -> list[dict[str, np.ndarray]]:
    """Inject, difference and detect several times."""
    rows = []
    for seed in range(seeds):
        science, reference, sources = with_sources(setup, base, seed)
        pair = _with_changes(setup, science, reference)
        changed = METHODS[method](pair)
        rows.append(recovered(changed, base, detect(changed, pair=pair), sources))
    return rows


def measure(
    known: RealPair, folder: Path, *, method: str = "zogy", seeds: int | None = None
) -> dict[str, Any]:
    """Measure one pair.

    Parameters
    ----------
    known
        One of `PAIRS`.

    folder
        The real data.

    method
        ``zogy`` or ``classic``.

    seeds
        How many times sources are injected, with each half of the stars; that of the pair by default.

    Returns
    -------
    dict
        What the pair shows; ``injected`` for sources of each kind, with ``bias`` (forced at the true place),
        ``bias_beside`` (the same minus what was there before) and ``bias_detected``; ``rows``, one for
        each source; and ``setup``, ``difference``, ``table`` of the pair without sources.
    """
    setup = prepare(known, folder)
    difference = METHODS[method](setup.pair)
    table = detect(difference, pair=setup.pair)
    told = _described(setup, difference, table)
    rows = _injected(setup, difference, method, known.seeds if seeds is None else seeds)
    if setup.n_isolated >= 2 * KEPT_STARS:
        other = prepare(known, folder, first_star=0)
        again = _injected(other, METHODS[method](other.pair), method, known.seeds if seeds is None else seeds)
        shifted = [np.where(r["star"] < 0, -1, r["star"] + len(setup.stars)) for r in again]
        rows += [r | {"star": star} for r, star in zip(again, shifted, strict=True)]
        told["withheld"] += len(other.stars)
    joined = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]} if rows else {}
    if rows:
        everything = np.ones(len(joined["snr"]), bool)
        told["injected"] = {
            "all": summarize(joined, everything),
            "clones": summarize(joined, joined["clone"]),
            "models": summarize(joined, ~joined["clone"]),
            "positive": summarize(joined, ~joined["negative"]),
            "negative": summarize(joined, joined["negative"]),
        }
    return told | {"rows": joined, "setup": setup, "difference": difference, "table": table}


def _described(setup: Setup, difference: Difference, table: pa.Table) -> dict[str, Any]:
    """Return what the pair itself shows."""
    pair, norm = setup.pair, setup.pair.normalization
    areas = ground(setup, difference)
    far = away_from(difference.shape, *variables(table), 10.0)
    score = difference.score_corrected
    pulls = {
        name: random_pulls(difference, changed, 4000, np.random.default_rng(5))
        for name, changed in (("random_pull", table), ("random_pull_all", table[:0]))
    }
    sides = {"science": pair.science, "reference": pair.reference}
    return {
        "fwhm": {name: image.psf.fwhm for name, image in sides.items()},
        "psf_stars": {name: image.psf.n_stars for name, image in sides.items()},
        "psf_chi2": {name: image.psf.chi2 for name, image in sides.items()},
        "withheld": len(setup.stars) if setup.withheld else 0,
        "cloned": len(setup.stars),
        "isolated": setup.n_isolated,
        "registration": pair.registration.method,
        "matched": pair.registration.n_matched,
        "residual_rms": pair.registration.residual_rms,
        "ratio": norm.flux_ratio,
        "ratio_error": norm.flux_ratio_error,
        "ratio_scatter": norm.flux_ratio_scatter,
        "ratio_stars": norm.n_stars,
        "ratio_expected": setup.known.ratio,
        "shift": norm.shift,
        "astrometric_noise": norm.astrometric_noise,
        "psf_mismatch": norm.psf_mismatch,
        "variance_scale": (norm.science_variance_scale, norm.reference_variance_scale),
        "correlation": {name: _at_lag_one(image) for name, image in sides.items()},
        "blank": spread(score, areas["blank"]),
        "static": spread(score, areas["static"]),
        "blank_quiet": spread(score, areas["blank"] & far),
        "static_quiet": spread(score, areas["static"] & far),
        "lag": lag(difference, areas["blank"] & far),
        **{
            name: {"n": len(p), "mean": float(p.mean()), "std": float(p.std()), "mad": robust_std(p)}
            for name, p in pulls.items()
        },
        "candidates": int((np.array(table["artifact"].to_pylist()) == "").sum()),
        "detections": table.num_rows,
        "bad": float(difference.bad.mean()),
        "near_bright": float(((difference.mask & bits("NEAR_BRIGHT_STAR")) != 0).mean()),
    }


def _at_lag_one(image: MaskedImage) -> float | None:
    """Return the correlation of the noise of neighbours in x; None where it is white."""
    correlation = image.noise_correlation
    if correlation is None:
        return None
    rows, columns = (side // 2 for side in correlation.shape)
    return float(correlation[rows, columns + 1])


def main() -> None:
    """Print the numbers of the pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", choices=list(PAIRS), action="append")
    parser.add_argument("--method", choices=list(METHODS), default="zogy")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    folder = Path(os.environ["ASTRID_REAL_DATA"])
    told = {}
    for name in asked.pair or PAIRS:
        numbers = measure(PAIRS[name], folder, method=asked.method, seeds=asked.seeds)
        told[name] = {k: v for k, v in numbers.items() if k not in ("rows", "setup", "difference", "table")}
    json.dump(told, sys.stdout, indent=None if asked.json else 1, default=float)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
