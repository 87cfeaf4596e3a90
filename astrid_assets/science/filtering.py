"""Difference images as pairs of linear filters, applied in tiles.

Every linear subtraction is ``D = d_n * N - d_r * R`` (a convolution each). With the PSF of D,
``P_D``, the matched filter gives ``S = P_D(-x) * D = k_n * N - k_r * R``, from which significance,
flux and variance follow for any choice of d_n and d_r (Zackay, Ofek & Gal-Yam 2016, sections 3
and 4). ZOGY and the classic subtraction differ in the filters alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft

from astrid_assets.errors import ScienceError
from astrid_assets.images.masks import BAD_BITS, HOLLOW_BITS, bits, reference_mask
from astrid_assets.images.pairs import AlignedPair, Difference, Normalization
from astrid_assets.images.psf import Psf, polynomial_terms
from astrid_assets.science.artifacts import HALO_FRACTION, halo_flux
from astrid_assets.science.noise import power_spectrum
from astrid_assets.science.resample import embed, fill_bad, shift_stamps

__all__ = ["Filters", "Spectra", "subtract"]

TILE = 256
"""Side of a tile, pixels: the PSF varies by less than 1 % over it for 10 % over a ZTF quadrant."""

BORDER = 32
"""Border of a tile, pixels: the filters have died away within it."""

BAND = (0.35, 0.48)
"""Frequencies, in cycles per pixel, between which the filters fall from 1 to 0; costs less than 1 % of
the significance of a star of 1.9 pixels FWHM."""

HALO_SIGNIFICANCE = 5.0
"""Pixels where a halo may change by more than this many sigma of a point source are marked."""


@dataclass(frozen=True, eq=False)
class Spectra:
    """What the filters of a tile are made of; transforms as of `scipy.fft.rfft2`."""

    psf_science: np.ndarray
    """Transform of the science PSF, centred on pixel (0, 0)."""

    psf_reference: np.ndarray
    """Transform of the reference PSF, moved by the residual shift of the pair."""

    variance_science: float
    """Noise of a blank science pixel, unit^2."""

    variance_reference: float
    """Noise of a blank reference pixel, unit^2 of the reference."""

    power_science: np.ndarray | float
    """Noise power of the science image, 1 on average over all frequencies."""

    power_reference: np.ndarray | float
    """The same of the reference."""

    flux_ratio: float
    """Science over reference."""


@dataclass(frozen=True, eq=False)
class Filters:
    """Filters of a tile: D = science * N - reference * R, in the unit of the science image."""

    science: np.ndarray
    """Transform of d_n, with ``d_n * P_n`` of unit sum."""

    reference: np.ndarray
    """Transform of d_r; a static source vanishes: ``d_n * P_n = d_r * P_r / flux_ratio``."""


MakeFilters = Callable[[Spectra], Filters]


def subtract(pair: AlignedPair, make_filters: MakeFilters, *, method: str, psf_size: int = 41) -> Difference:
    """Subtract the reference of a normalized pair with given filters.

    Parameters
    ----------
    pair
        From `normalize`.

    make_filters
        Returns the filters of a tile.

    method
        Name for the result.

    psf_size
        Odd side of the PSF of the difference.

    Returns
    -------
    Difference
        Scores are divided by their predicted standard deviation, never by a measured one.

    Raises
    ------
    ScienceError
        If the pair was not normalized.
    """
    if pair.normalization is None or pair.science.psf is None or pair.reference.psf is None:
        raise ScienceError("the pair is not normalized: call normalize() first")
    inputs = _Inputs.of(pair)
    planes = {name: np.empty(pair.science.shape, np.float32) for name in _PLANES}
    for tile in _tiles(pair.science.shape):
        for name, values in _filter_tile(inputs, tile, make_filters).items():
            planes[name][tile.core] = values
    psf = _difference_psf(inputs, make_filters, psf_size, pair.science.shape)
    mask = _difference_mask(pair, psf.fwhm)
    halo = HALO_FRACTION * inputs.halo > HALO_SIGNIFICANCE * planes["flux_error"]
    mask[halo] |= bits("NEAR_BRIGHT_STAR")
    science = pair.science
    return Difference(
        **planes,
        mask=mask,
        psf=psf,
        method=method,
        unit=science.unit,
        wcs=science.wcs,
        zeropoint=science.zeropoint,
        mjd_mid=science.mjd_mid,
        band=science.band,
        survey=science.survey,
        origin={"science": science.origin, "reference": pair.reference.origin},
    )


_PLANES = ("data", "variance", "score", "score_corrected", "flux", "flux_error")


@dataclass(frozen=True, eq=False)
class _Tile:
    """A part of the image: its core, and the core with borders on padded arrays."""

    core: tuple[slice, slice]
    padded: tuple[slice, slice]
    centre: tuple[float, float]


def _tiles(shape: tuple[int, int]) -> Iterator[_Tile]:
    """Yield tiles that cover an image; all padded parts have the same shape for one image."""
    edges = [np.linspace(0, n, max(1, round(n / TILE)) + 1).astype(int) for n in shape]
    sides = [int(np.diff(e).max()) + 2 * BORDER for e in edges]
    sides = [fft.next_fast_len(s, real=True) for s in sides]
    for y0, y1 in zip(edges[0][:-1], edges[0][1:], strict=True):
        for x0, x1 in zip(edges[1][:-1], edges[1][1:], strict=True):
            padded = (slice(y0, y0 + sides[0]), slice(x0, x0 + sides[1]))
            yield _Tile((slice(y0, y1), slice(x0, x1)), padded, ((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2))


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Filled and padded images of a pair."""

    science: np.ndarray
    reference: np.ndarray
    variance_science: np.ndarray
    variance_reference: np.ndarray
    sky_science: np.ndarray
    sky_reference: np.ndarray
    halo: np.ndarray
    pair: AlignedPair
    normalization: Normalization

    @classmethod
    @lru_cache(maxsize=1)  # zogy and classic of one pair follow each other
    def of(cls, pair: AlignedPair) -> _Inputs:
        """Fill bad pixels, of either side on both, and add borders of sky."""
        bad = ((pair.science.mask | pair.reference.mask) & HOLLOW_BITS) != 0
        norm = pair.normalization
        planes = []
        for image, rms in ((pair.science, norm.science_sky_rms), (pair.reference, norm.reference_sky_rms)):
            if image.variance is None:
                raise ScienceError("an image of the pair has no variance plane: call normalize() first")
            data = fill_bad(np.nan_to_num(image.data), bad)
            good_variance = np.where(bad, np.nan, image.variance)
            typical = np.nanmedian(good_variance) if np.isfinite(good_variance).any() else rms**2
            variance = np.where(bad, typical, image.variance)
            planes.append((_pad(data, 0.0), _pad(variance, typical), _pad(_sky_variance(variance), typical)))
        (n, v_n, s_n), (r, v_r, s_r) = planes
        return cls(n, r, v_n, v_r, s_n, s_r, halo_flux(pair), pair, norm)


def _sky_variance(variance: np.ndarray) -> np.ndarray:
    """Return the variance of blank sky around each pixel: a low quantile over 64-pixel cells."""
    counts = [max(1, n // 64) for n in variance.shape]
    rows, columns = (np.array_split(np.arange(n), c) for n, c in zip(variance.shape, counts, strict=True))
    sparse = [
        np.sort(variance[r[0] : r[-1] + 1 : 3, c[0] : c[-1] + 1 : 3], axis=None)
        for r in rows
        for c in columns
    ]
    coarse = np.array([values[3 * len(values) // 10] for values in sparse]).reshape(counts)
    up, across = (_linear(n, c) for n, c in zip(variance.shape, counts, strict=True))
    return (up @ coarse @ across.T).astype(np.float32)


def _linear(n: int, cells: int) -> np.ndarray:
    """Return the weights ``(n, cells)`` of linear interpolation between the middles of cells."""
    place = np.clip((np.arange(n) + 0.5) * cells / n - 0.5, 0, cells - 1)
    return np.clip(1.0 - np.abs(place[:, None] - np.arange(cells)), 0.0, None)


def _pad(image: np.ndarray, value: float) -> np.ndarray:
    """Add a border for the tiles at the edges; the far sides also hold what rounding up adds."""
    far = BORDER + TILE
    return np.pad(image.astype(np.float32), ((BORDER, far), (BORDER, far)), constant_values=np.float32(value))


def _spectra(inputs: _Inputs, tile: _Tile, shape: tuple[int, int]) -> Spectra:
    """Return what the filters of a tile are made of."""
    x, y = tile.centre
    norm, pair = inputs.normalization, inputs.pair
    # a source sits at x in the science image and at x - shift in the reference
    dx, dy = norm.shift_at(x, y, pair.science.shape)
    psf_r = shift_stamps(pair.reference.psf.at(x, y), -dx, -dy)
    return Spectra(
        psf_science=fft.rfft2(embed(pair.science.psf.at(x, y), shape)),
        psf_reference=fft.rfft2(embed(psf_r / psf_r.sum(), shape)),
        variance_science=float(np.median(inputs.sky_science[tile.padded])),
        variance_reference=float(np.median(inputs.sky_reference[tile.padded])),
        power_science=power_spectrum(pair.science.noise_correlation, shape),
        power_reference=power_spectrum(pair.reference.noise_correlation, shape),
        flux_ratio=norm.flux_ratio_at(x, y, pair.science.shape),
    )


def _filter_tile(inputs: _Inputs, tile: _Tile, make_filters: MakeFilters) -> dict[str, np.ndarray]:
    """Return all planes of one tile."""
    taper = _taper(inputs.science[tile.padded].shape)
    n, r = inputs.science[tile.padded] * taper, inputs.reference[tile.padded] * taper
    shape, core = n.shape, tuple(s.stop - s.start for s in tile.core)
    spectra = _spectra(inputs, tile, shape)
    filters = _banded(make_filters, spectra, shape)
    psf = filters.science * spectra.psf_science
    matched = np.conj(psf)
    response = _power(psf, shape)
    n_hat, r_hat = fft.rfft2(n), fft.rfft2(r)
    v_n, v_r = (
        fft.rfft2(inputs.variance_science[tile.padded]),
        fft.rfft2(inputs.variance_reference[tile.padded]),
    )

    def image(transform: np.ndarray) -> np.ndarray:
        whole = fft.irfft2(transform, shape)
        return whole[BORDER : BORDER + core[0], BORDER : BORDER + core[1]]

    def carried(kernel_n: np.ndarray, kernel_r: np.ndarray) -> np.ndarray:
        from_n = _squared(kernel_n, shape, spectra.power_science) * v_n
        return image(from_n + _squared(kernel_r, shape, spectra.power_reference) * v_r)

    k_n, k_r = matched * filters.science, matched * filters.reference
    ours, theirs = fft.irfft2(k_n * n_hat, shape), fft.irfft2(k_r * r_hat, shape)
    score = (ours - theirs)[BORDER : BORDER + core[0], BORDER : BORDER + core[1]]
    sky_variance = spectra.variance_science * _power(k_n, shape, spectra.power_science)
    sky_variance += spectra.variance_reference * _power(k_r, shape, spectra.power_reference)
    # rounding must not let the variance fall to nothing beside bright sources
    score_variance = np.maximum(carried(k_n, k_r), 0.5 * sky_variance)
    # what both images show: neither a new source nor a vanished one raises its own error
    static = np.where(np.abs(ours) < np.abs(theirs), ours, theirs)
    modelled = score_variance + _registration_variance(static, core, inputs.normalization)
    return {
        "data": image(filters.science * n_hat - filters.reference * r_hat),
        "variance": np.maximum(carried(filters.science, filters.reference), 0),
        "score": score / np.float32(np.sqrt(sky_variance)),
        "score_corrected": score / np.sqrt(modelled),
        "flux": score / np.float32(response),
        "flux_error": np.sqrt(score_variance) / np.float32(response),
    }


def _band(shape: tuple[int, int]) -> np.ndarray:
    """Return a weight that falls from 1 to 0 towards the Nyquist frequency, along either axis.

    A star of two pixels FWHM is undersampled: up there, what its pixels hold depends on where it
    lies on them, no PSF describes it, and a subtraction that trusts one leaves a checkerboard
    around bright stars. The filters give up this last bit of their power.
    """
    y, x = np.abs(np.fft.fftfreq(shape[0])), np.fft.rfftfreq(shape[1])
    low, high = BAND
    fall = [np.cos(0.5 * np.pi * np.clip((f - low) / (high - low), 0, 1)) ** 2 for f in (y, x)]
    return np.outer(*fall).astype(np.float32)


def _banded(make_filters: MakeFilters, spectra: Spectra, shape: tuple[int, int]) -> Filters:
    """Return the filters of a tile without the frequencies that cannot be trusted."""
    filters, band = make_filters(spectra), _band(shape)
    return Filters(filters.science * band, filters.reference * band)


def _taper(shape: tuple[int, int]) -> np.ndarray:
    """Return a window that lets a tile fade to zero at its outer edge, where it would wrap around."""
    width = BORDER // 4
    rise = np.sin(0.5 * np.pi * (np.arange(width) + 0.5) / width) ** 2
    sides = [np.r_[rise, np.ones(n - 2 * width), rise[::-1]] for n in shape]
    return np.outer(*sides).astype(np.float32)


def _power(transform: np.ndarray, shape: tuple[int, int], weight: np.ndarray | float = 1.0) -> float:
    """Return the sum of squares of an image, weighted in frequency, from its half transform."""
    square = np.abs(transform) ** 2 * weight
    # columns 1 to the last but one (or last, for odd widths) of a half transform stand for two
    twice = square[:, 1 : (shape[1] + 1) // 2].sum(dtype=float)
    total = square.sum(dtype=float) + twice
    return float(total / (shape[0] * shape[1]))


def _squared(kernel: np.ndarray, shape: tuple[int, int], white: np.ndarray | float) -> np.ndarray:
    """Return the transform of the squared kernel that carries a variance plane.

    Correlated noise passes a filter with a variance of ``sum |k|^2 c`` instead of ``sum |k|^2``,
    c being its normalized power spectrum; the ratio is applied to all pixels alike.
    """
    image = fft.irfft2(kernel, shape)
    factor = 1.0 if np.isscalar(white) else _power(kernel, shape, white) / _power(kernel, shape)
    return fft.rfft2(image**2) * np.float32(factor)


def _registration_variance(static: np.ndarray, core: tuple[int, int], norm: Normalization) -> np.ndarray:
    """Return the variance of S from errors of registration (Zackay et al., eqs 30 to 33), ratio and PSF.

    They act on what is common to the two filtered images.
    """
    part = static[BORDER - 1 : BORDER + core[0] + 1, BORDER - 1 : BORDER + core[1] + 1]
    slope_y = 0.5 * (part[2:, 1:-1] - part[:-2, 1:-1])
    slope_x = 0.5 * (part[1:-1, 2:] - part[1:-1, :-2])
    sigma_x, sigma_y = norm.astrometric_noise
    relative = (
        norm.flux_ratio_scatter**2 + (norm.flux_ratio_error / norm.flux_ratio) ** 2 + norm.psf_mismatch**2
    )
    inner = part[1:-1, 1:-1]
    moved = np.float32(sigma_x**2) * slope_x**2 + np.float32(sigma_y**2) * slope_y**2
    return moved + np.float32(relative) * inner**2


def _difference_psf(inputs: _Inputs, make_filters: MakeFilters, size: int, shape: tuple[int, int]) -> Psf:
    """Return the PSF of the difference as a polynomial over the image, from nine places."""
    side = fft.next_fast_len(size + 2 * BORDER, real=True)
    ny, nx = shape
    order = max(inputs.pair.science.psf.order, inputs.pair.reference.psf.order)
    places = [((nx - 1) / 2, (ny - 1) / 2)]
    if order:
        places = [(u * (nx - 1), v * (ny - 1)) for v in (0.1, 0.5, 0.9) for u in (0.1, 0.5, 0.9)]
    stamps = []
    for x, y in places:
        column, row = int(x) // TILE * TILE, int(y) // TILE * TILE
        part = (slice(row, row + TILE), slice(column, column + TILE))
        spectra = _spectra(inputs, _Tile(part, part, (x, y)), (side, side))
        psf = fft.irfft2(
            _banded(make_filters, spectra, (side, side)).science * spectra.psf_science, (side, side)
        )
        half = size // 2
        stamps.append(np.roll(psf, (half, half), axis=(0, 1))[:size, :size])
    used = 2 if order else 0
    u, v = (np.array(p) for p in zip(*places, strict=True))
    terms = polynomial_terms(2 * u / max(nx - 1, 1) - 1, 2 * v / max(ny - 1, 1) - 1, used).T
    flat = np.array([s / s.sum() for s in stamps]).reshape(len(stamps), -1)
    basis = np.linalg.lstsq(terms, flat, rcond=None)[0].reshape(-1, size, size)
    return Psf(basis, shape, order=used, source=inputs.pair.science.psf.source)


def _difference_mask(pair: AlignedPair, fwhm: float) -> np.ndarray:
    """Merge the masks of both images; what a bad pixel can reach by the filters is marked as well."""
    mask = pair.science.mask | reference_mask(pair.reference.mask)
    grown = mask | _grow(mask & BAD_BITS, max(1.0, 0.5 * fwhm))
    edge = np.ones(mask.shape, bool)
    width = max(2, round(fwhm))
    edge[width:-width, width:-width] = False
    grown[edge] |= bits("EDGE")
    return grown


def _grow(mask: np.ndarray, radius: float) -> np.ndarray:
    """Dilate all planes of a mask by a disc."""
    reach = int(np.ceil(radius))
    ny, nx = mask.shape
    padded = np.pad(mask, reach)
    grown = np.zeros_like(mask)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dx * dx + dy * dy <= radius**2 + 0.5:
                grown |= padded[reach + dy : reach + dy + ny, reach + dx : reach + dx + nx]
    return grown
