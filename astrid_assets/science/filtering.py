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
from astrid_assets.images.pairs import AlignedPair, Difference, Normalization, difference_parameters
from astrid_assets.images.psf import Psf, polynomial_terms
from astrid_assets.science.artifacts import HALO_FRACTION, halo_flux
from astrid_assets.science.bright_stars import CORE_ERROR, profiles_of_cores
from astrid_assets.science.noise import CORRELATION_RADIUS, power_spectrum
from astrid_assets.science.resample import embed, fill_bad

__all__ = ["Filters", "Spectra", "subtract"]

TILE = 280
"""Largest core of a tile, pixels: a PSF that varies by 10 % over a ZTF quadrant varies by 1 % over it."""

REACH, BORDERS = 8.0, (20, 40)
"""Border of a tile in units of the larger FWHM, and its limits in pixels: within it the filters die away."""

SIDE_STEP = 64
"""Sides of padded tiles are multiples of this: fast transforms."""

FILL_ERROR = 1.0
"""Error of a filled pixel over its value, where the profile of a star does not tell it."""

MOST_VARIANCE = 1e5
"""Largest variance of a filled pixel, in units of that of blank sky: float32 transforms then keep the latter
to 1 %."""

SATURATED_GROWTH = 1.5
"""Radius around saturated pixels that is not to be trusted, FWHM of the difference."""

BAND, SCORE_BAND = (0.25, 0.45), (0.35, 0.48)
"""Frequencies, in cycles per pixel, between which the filters of resampled, undersampled pairs fall from 1 to
0, and between which the matched filter of others does. It costs 0.5 % of the significance of a star of 2.2
pixels FWHM, and less than 1 % at 1.9; the flux of the latter depends less on where it lies on its pixel."""

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

    x: float
    """Tile centre, pixels."""

    y: float
    """Tile centre, pixels."""

    shape: tuple[int, int]
    """Shape of the images that the transforms are of."""


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
    for tile in _tiles(pair.science.shape, inputs.border):
        _filter_tile(inputs, tile, make_filters, {name: plane[tile.core] for name, plane in planes.items()})
    psf = _difference_psf(inputs, make_filters, psf_size, pair.science.shape)
    mask = _difference_mask(pair, psf.fwhm)
    halo = HALO_FRACTION * halo_flux(pair) > HALO_SIGNIFICANCE * planes["flux_error"]
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
        parameters=difference_parameters(pair) | {"noise_correlation": _predicted_correlation(inputs)},
    )


_PLANES = ("data", "variance", "score", "score_corrected", "flux", "flux_error")


@dataclass(frozen=True, eq=False)
class _Tile:
    """A part of the image: its core, and the corner and shape of the core with borders."""

    core: tuple[slice, slice]
    corner: tuple[int, int]
    shape: tuple[int, int]
    border: int

    @property
    def centre(self) -> tuple[float, float]:
        """Middle (x, y) of the core, pixels."""
        rows, columns = self.core
        return (columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2


def _tiles(shape: tuple[int, int], border: int) -> Iterator[_Tile]:
    """Yield tiles that cover an image; all padded parts have the same shape for one image."""
    edges = [np.linspace(0, n, -(-n // TILE) + 1).astype(int) for n in shape]
    sides = tuple(-(-(int(np.diff(e).max()) + 2 * border) // SIDE_STEP) * SIDE_STEP for e in edges)
    for y0, y1 in zip(edges[0][:-1], edges[0][1:], strict=True):
        for x0, x1 in zip(edges[1][:-1], edges[1][1:], strict=True):
            core = (slice(int(y0), int(y1)), slice(int(x0), int(x1)))
            yield _Tile(core, (int(y0) - border, int(x0) - border), sides, border)


@dataclass(frozen=True, eq=False)
class _Side:
    """One image of a pair without holes."""

    data: np.ndarray
    variance: np.ndarray
    typical: float
    """Variance beyond the edges."""

    sky: np.ndarray
    """Variance of blank sky in the cells of a coarse grid."""


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Filled images of a pair."""

    science: _Side
    reference: _Side
    pair: AlignedPair
    normalization: Normalization
    border: int

    @classmethod
    @lru_cache(maxsize=1)  # zogy and classic of one pair follow each other
    def of(cls, pair: AlignedPair) -> _Inputs:
        """Fill bad pixels, of either side on both."""
        if pair.science.variance is None or pair.reference.variance is None:
            raise ScienceError("an image of the pair has no variance plane: call normalize() first")
        bad = ((pair.science.mask | pair.reference.mask) & HOLLOW_BITS) != 0
        cores = (pair.science.mask | pair.reference.mask) & bits("SATURATED") != 0
        norm = pair.normalization
        known = profiles_of_cores((pair.science, pair.reference), bad, cores)
        sides = []
        levels = (norm.science_sky_rms, norm.reference_sky_rms)
        for k, (image, rms) in enumerate(zip((pair.science, pair.reference), levels, strict=True)):
            usable = image.variance[::7, ::7][~bad[::7, ::7]]
            usable = usable[np.isfinite(usable)]
            typical = float(np.median(usable)) if usable.size else rms**2
            filled = fill_bad(image.data, bad)
            variance = image.variance.copy()
            variance[bad] = typical
            sky = _sky_cells(variance)
            # what was filled in is as uncertain as it is bright
            error = FILL_ERROR * filled
            for core in known:
                filled[core.rows, core.columns] = core.values[k]
                error[core.rows, core.columns] = CORE_ERROR * core.values[k]
            variance[bad] += np.minimum(error[bad] ** 2, MOST_VARIANCE * typical)
            sides.append(_Side(filled, variance, typical, sky))
        fwhm = max(pair.science.psf.fwhm, pair.reference.psf.fwhm)
        return cls(*sides, pair, norm, int(np.clip(np.ceil(REACH * fwhm), *BORDERS)))

    @property
    def banded(self) -> bool:
        """Whether the difference gives up the highest frequencies: undersampled stars on a new grid."""
        fwhm = min(self.pair.science.psf.fwhm, self.pair.reference.psf.fwhm)
        return self.pair.registration.resampled and fwhm < WELL_SAMPLED


WELL_SAMPLED = 3.0
"""FWHM in pixels from which a profile has no power left where pixels cannot follow it (0.1 % at Nyquist)."""

_SKY_CELL = 64
"""Side of the cells in which the variance of blank sky is taken, pixels."""


def _sky_cells(variance: np.ndarray) -> np.ndarray:
    """Return the variance of blank sky: a low quantile over cells of 64 pixels."""
    counts = [max(1, n // _SKY_CELL) for n in variance.shape]
    rows, columns = (np.array_split(np.arange(n), c) for n, c in zip(variance.shape, counts, strict=True))
    sparse = [
        np.sort(variance[r[0] : r[-1] + 1 : 4, c[0] : c[-1] + 1 : 4], axis=None)
        for r in rows
        for c in columns
    ]
    return np.array([values[3 * len(values) // 10] for values in sparse]).reshape(counts)


def _sky_at(cells: np.ndarray, tile: _Tile, shape: tuple[int, int]) -> float:
    """Return the variance of blank sky in a tile."""
    parts = []
    for span, n, count in zip(tile.core, shape, cells.shape, strict=True):
        first = span.start * count // n
        parts.append(slice(first, max(first + 1, -(-span.stop * count // n))))
    return float(np.median(cells[tuple(parts)]))


def _spectra(inputs: _Inputs, place: tuple[float, float], shape: tuple[int, int], tile: _Tile) -> Spectra:
    """Return what the filters of a tile are made of, for a place on the image."""
    x, y = place
    norm, pair = inputs.normalization, inputs.pair
    # a source sits at x in the science image and at x - shift in the reference
    dx, dy = norm.shift_at(x, y, pair.science.shape)
    psf_s, psf_r = pair.science.psf.at(x, y), pair.reference.psf.at(x, y, dx=-dx, dy=-dy)
    whole = pair.science.shape
    return Spectra(
        psf_science=fft.rfft2(embed(psf_s, shape)),
        psf_reference=fft.rfft2(embed(psf_r / psf_r.sum(), shape)),
        variance_science=_sky_at(inputs.science.sky, tile, whole),
        variance_reference=_sky_at(inputs.reference.sky, tile, whole),
        power_science=power_spectrum(pair.science.noise_correlation, shape),
        power_reference=power_spectrum(pair.reference.noise_correlation, shape),
        flux_ratio=norm.flux_ratio_at(x, y, whole),
        x=x,
        y=y,
        shape=shape,
    )


def _filter_tile(
    inputs: _Inputs, tile: _Tile, make_filters: MakeFilters, planes: dict[str, np.ndarray]
) -> None:
    """Fill the planes of one tile."""
    from astrid_assets.science.filtering_kernels import score_planes, spectral_products, variance_products

    shape, border, norm = tile.shape, tile.border, inputs.normalization
    spectra = _spectra(inputs, tile.centre, shape, tile)
    filters = _filters_of(inputs, make_filters, spectra)
    science, reference = inputs.science, inputs.reference
    n_hat, r_hat = (fft.rfft2(_cut(side.data, tile, 0.0)) for side in (science, reference))
    v_hat = [fft.rfft2(_cut(side.variance, tile, side.typical)) for side in (science, reference)]
    powers = [
        np.atleast_2d(np.asarray(p, np.float32)) for p in (spectra.power_science, spectra.power_reference)
    ]
    band = np.ones((1, 1), np.float32) if inputs.banded else _band(shape, SCORE_BAND)
    difference, ours, theirs, k_n, k_r, sums = spectral_products(
        filters.science, filters.reference, spectra.psf_science, n_hat, r_hat, *powers, band, shape[1]
    )
    response, from_n, white_n, from_r, white_r, *of_data = (float(s) for s in sums)
    sky_variance = spectra.variance_science * white_n + spectra.variance_reference * white_r
    score_variance = fft.irfft2(
        variance_products(
            _squared(k_n, shape), _squared(k_r, shape), *v_hat, white_n / from_n, white_r / from_r
        ),
        shape,
    )
    squares = (_squared(kernel, shape) for kernel in (filters.science, filters.reference))
    data_variance = fft.irfft2(
        variance_products(*squares, *v_hat, of_data[1] / of_data[0], of_data[3] / of_data[2]), shape
    )
    rows, columns = (slice(border, border + s.stop - s.start) for s in tile.core)
    planes["data"][...] = fft.irfft2(difference, shape)[rows, columns]
    np.maximum(data_variance[rows, columns], 0, out=planes["variance"])
    score_planes(
        fft.irfft2(ours, shape),
        fft.irfft2(theirs, shape),
        score_variance,
        border,
        *(planes[name] for name in ("score", "score_corrected", "flux", "flux_error")),
        sky_variance,
        response,
        (norm.astrometric_noise[0] ** 2, norm.astrometric_noise[1] ** 2),
        norm.flux_ratio_scatter**2 + (norm.flux_ratio_error / norm.flux_ratio) ** 2 + norm.psf_mismatch**2,
    )


def _cut(image: np.ndarray, tile: _Tile, outside: float) -> np.ndarray:
    """Return the padded tile; data fade to zero at the outer edge, where they would wrap around."""
    from astrid_assets.science.filtering_kernels import cut_tile

    tapers = [_taper(n, tile.border) if outside == 0.0 else np.ones(n, np.float32) for n in tile.shape]
    return cut_tile(image, *tile.corner, tile.shape, outside, *tapers)


@lru_cache(maxsize=4)
def _band(shape: tuple[int, int], limits: tuple[float, float]) -> np.ndarray:
    """Return a weight that falls from 1 to 0 towards the Nyquist frequency, along either axis.

    A star of two pixels FWHM is undersampled: up there, what its pixels hold depends on where it lies on
    them. Significance and flux give up this last bit of their power. The difference itself stays white; but
    where an image was resampled, each star on its own phases, it would show a checkerboard around the bright
    ones. There it gives it up as well.
    """
    y, x = np.abs(np.fft.fftfreq(shape[0])), np.fft.rfftfreq(shape[1])
    low, high = limits
    fall = [np.cos(0.5 * np.pi * np.clip((f - low) / (high - low), 0, 1)) ** 2 for f in (y, x)]
    return np.outer(*fall).astype(np.float32)


def _filters_of(inputs: _Inputs, make_filters: MakeFilters, spectra: Spectra) -> Filters:
    """Return the filters of a tile, without the frequencies that cannot be trusted."""
    filters = make_filters(spectra)
    if not inputs.banded:
        return filters
    band = _band(spectra.shape, BAND)
    return Filters(filters.science * band, filters.reference * band)


def _predicted_correlation(inputs: _Inputs) -> list[list[float]] | None:
    """Return the autocorrelation of the noise of the difference, None where it is white.

    The filters whiten the noise; the band of a resampled pair correlates it again.
    """
    if not inputs.banded:
        return None
    shape = (SIDE_STEP, SIDE_STEP)
    image = fft.irfft2(_band(shape, BAND) ** 2, shape)
    lags = np.arange(-CORRELATION_RADIUS, CORRELATION_RADIUS + 1)
    return (image[np.ix_(lags, lags)] / image[0, 0]).astype(float).round(5).tolist()


@lru_cache(maxsize=4)
def _taper(n: int, border: int) -> np.ndarray:
    """Return a window that rises from zero and falls to it over a quarter of the border."""
    width = max(1, border // 4)
    rise = np.sin(0.5 * np.pi * (np.arange(width) + 0.5) / width) ** 2
    return np.r_[rise, np.ones(n - 2 * width), rise[::-1]].astype(np.float32)


def _squared(kernel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the transform of the squared kernel, which carries a variance plane.

    Correlated noise passes a filter with a variance of ``sum |k|^2 c`` instead of ``sum |k|^2``,
    c being its normalized power spectrum; the caller applies the ratio to all pixels alike.
    """
    image = fft.irfft2(kernel, shape)
    return fft.rfft2(np.square(image, out=image))


def _difference_psf(inputs: _Inputs, make_filters: MakeFilters, size: int, shape: tuple[int, int]) -> Psf:
    """Return the PSF of the difference as a polynomial over the image, from nine places."""
    side = fft.next_fast_len(size + 2 * inputs.border, real=True)
    ny, nx = shape
    order = max(inputs.pair.science.psf.order, inputs.pair.reference.psf.order)
    places = [((nx - 1) / 2, (ny - 1) / 2)]
    if order:
        places = [(u * (nx - 1), v * (ny - 1)) for v in (0.1, 0.5, 0.9) for u in (0.1, 0.5, 0.9)]
    stamps = []
    for x, y in places:
        around = tuple(slice(max(0, int(p) - TILE // 2), int(p) + TILE // 2) for p in (y, x))
        core = tuple(slice(s.start, min(s.stop, n)) for s, n in zip(around, shape, strict=True))
        tile = _Tile(core, (0, 0), (side, side), inputs.border)
        spectra = _spectra(inputs, (x, y), (side, side), tile)
        filters = _filters_of(inputs, make_filters, spectra)
        psf = fft.irfft2(filters.science * spectra.psf_science, (side, side))
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
    from astrid_assets.science.filtering_kernels import grow_bits

    mask = pair.science.mask | reference_mask(pair.reference.mask)
    # a core that was filled in leaves rings around it
    cores = int(bits("SATURATED", "BLEED", "REF_SATURATED", "REF_BLEED"))
    grown = grow_bits(mask, int(BAD_BITS), max(1.0, 0.5 * fwhm), cores, SATURATED_GROWTH * fwhm)
    width = max(2, round(fwhm))
    for edge in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
        grown[edge] |= bits("EDGE")
    return grown
