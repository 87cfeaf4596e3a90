"""Quality metrics: what an image, a pair or a difference is worth, in numbers with stable names.

Every function returns ``dict[str, float]``; NaN means "not applicable". The names are those of the
field (LSST, BlackBOX, BANZAI, autophot), the limits stand in ``checks/limits.toml``. Costly images
are reduced to blocks of 4 x 4 pixels first: all metrics of a 1024 x 1024 difference cost less than
a tenth of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.images.masks import BAD_BITS, MASK_PLANES, bits
from astrid_assets.images.psf import fwhm_of
from astrid_assets.science.background import estimate_background, robust_std
from astrid_assets.science.merit import figure_of_merit
from astrid_assets.science.resample import cut_stamps, shift_stamps
from astrid_assets.science.stars import find_sources, select_stars

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.images.image import MaskedImage
    from astrid_assets.images.pairs import AlignedPair, Difference

__all__ = [
    "candidate_metrics",
    "difference_metrics",
    "image_metrics",
    "mask_fractions",
    "normalization_metrics",
    "reference_metrics",
    "registration_metrics",
]

_BLOCK = 4
"""Side in pixels of the blocks that images are reduced to."""

_MAGNITUDES_PER_RELATIVE = 2.5 / np.log(10.0)
"""Error in magnitudes of a relative error of the flux."""


def image_metrics(image: MaskedImage, *, survey_pixel_scale: float | None = None) -> dict[str, float]:
    """Measure one science image or reference.

    Parameters
    ----------
    image
        The image, as downloaded and masked.

    survey_pixel_scale
        Pixel scale in arcsec that the survey profile expects; None if it has none.

    Returns
    -------
    dict
        ``nx``, ``ny`` (pixels), ``n_infnan`` (pixels), ``infnan_inside`` (share of pixels that are not
        finite amid finite ones; an empty border is no fault), ``finite_fraction``,
        ``masked_fraction``, ``saturated_fraction``, ``exptime`` (s), ``time_valid`` (1 or 0),
        ``sky_level`` and ``sky_rms`` (image unit), ``seeing`` (arcsec), ``fwhm_px`` (pixels),
        ``elongation``, ``limiting_magnitude`` (5 sigma, AB), ``airmass``, ``wcs_round_trip``
        (pixels), ``pixel_scale`` (arcsec) and ``pixel_scale_error`` (relative to the survey's).
    """
    good = ~image.bad
    finite = np.isfinite(image.data)
    n_infnan = int(finite.size - np.count_nonzero(finite))
    sky, rms = _sky(image.data, good)
    stamp = _stamp(image)
    fwhm, elongation = _shape(stamp)
    scale = _number(image.pixel_scale)
    return {
        "nx": float(image.shape[1]),
        "ny": float(image.shape[0]),
        "n_infnan": float(n_infnan),
        "infnan_inside": _holes(finite) / finite.size,
        "finite_fraction": 1.0 - n_infnan / finite.size,
        "masked_fraction": 1.0 - float(np.count_nonzero(good)) / good.size,
        "saturated_fraction": _share(image.mask, bits("SATURATED", "BLEED")),
        "exptime": _number(image.exptime),
        "time_valid": _time_valid(image),
        "sky_level": sky,
        "sky_rms": rms,
        "fwhm_px": fwhm,
        "seeing": fwhm * scale,
        "elongation": elongation,
        "limiting_magnitude": _limiting_magnitude(image, stamp, rms),
        "airmass": _number(image.airmass),
        "wcs_round_trip": _wcs_round_trip(image),
        "pixel_scale": scale,
        "pixel_scale_error": scale / survey_pixel_scale - 1.0 if survey_pixel_scale else np.nan,
    }


def reference_metrics(reference: MaskedImage, science: MaskedImage | None = None) -> dict[str, float]:
    """Measure what a reference is worth for a science image.

    Parameters
    ----------
    reference
        The reference, on its own grid.

    science
        A science image it will be paired with; without one only the number of frames is known.

    Returns
    -------
    dict
        ``n_coadded``, ``template_coverage`` (share of the science image with good reference
        pixels), ``seeing_ratio`` (reference over science FWHM on the sky) and ``depth_vs_science``
        (magnitudes that the reference goes deeper).
    """
    metrics = {"n_coadded": float(reference.n_exposures)}
    if science is None:
        return metrics
    (seeing, depth), (science_seeing, science_depth) = map(_seeing_and_depth, (reference, science))
    return metrics | {
        "template_coverage": _coverage(reference, science),
        "seeing_ratio": seeing / science_seeing,
        "depth_vs_science": depth - science_depth,
    }


def registration_metrics(pair: AlignedPair) -> dict[str, float]:
    """Measure how well the reference lies on the science grid; lengths are science pixels.

    Returns
    -------
    dict
        ``n_matched``, ``astrometric_dx`` and ``astrometric_dy`` (median offset left),
        ``astrometric_offset`` (the larger of both, absolute), ``astrometric_rms`` (the larger robust
        scatter), ``pointing_offset`` (arcsec, before the refinement; pixels without a WCS) and
        ``template_coverage``. Offsets are NaN where no stars were used.
    """
    registration = pair.registration
    measured = registration.n_matched > 0
    dx, dy = registration.residual_offset if measured else (np.nan, np.nan)
    pointing = np.hypot(*registration.initial_offset) if measured else np.nan
    return {
        "n_matched": float(registration.n_matched),
        "astrometric_dx": float(dx),
        "astrometric_dy": float(dy),
        "astrometric_offset": float(max(abs(dx), abs(dy))),
        "astrometric_rms": float(max(registration.residual_rms)) if measured else np.nan,
        "pointing_offset": float(pointing * (pair.science.pixel_scale or 1.0)),
        "template_coverage": float(pair.overlap),
    }


def normalization_metrics(pair: AlignedPair) -> dict[str, float]:
    """Measure how well a normalised pair stands on one flux scale.

    Returns
    -------
    dict
        ``flux_ratio`` (science over reference, stored only), ``flux_ratio_offset`` (over the one
        predicted, minus 1), ``flux_ratio_excess`` (the absolute offset beyond twice its error, which
        is what can be judged), ``flux_ratio_scatter`` (relative), ``n_flux_stars``,
        ``zeropoint_standard_error`` (mag), the two ``*_variance_scale``, the two ``*_sky`` levels
        and the ``seeing_ratio`` (reference over science FWHM).
    """
    norm = pair.normalization
    if norm is None:
        raise ValueError("the pair is not normalised")
    relative_error = norm.flux_ratio_error / norm.flux_ratio
    offset = norm.flux_ratio / norm.flux_ratio_predicted - 1.0 if norm.flux_ratio_predicted else np.nan
    return {
        "flux_ratio": float(norm.flux_ratio),
        "flux_ratio_offset": float(offset),
        "flux_ratio_excess": float(np.maximum(abs(offset) - 2.0 * relative_error, 0.0)),
        "flux_ratio_scatter": float(norm.flux_ratio_scatter),
        "n_flux_stars": float(norm.n_stars),
        "zeropoint_standard_error": float(_MAGNITUDES_PER_RELATIVE * relative_error),
        "science_variance_scale": float(norm.science_variance_scale),
        "reference_variance_scale": float(norm.reference_variance_scale),
        "science_sky": float(norm.science_background),
        "reference_sky": float(norm.reference_background),
        "seeing_ratio": _seeing_ratio(pair),
    }


def difference_metrics(difference: Difference, pair: AlignedPair | None = None) -> dict[str, float]:
    """Measure a difference image.

    Parameters
    ----------
    difference
        Result of `astrid_assets.science.zogy` or ``classic``.

    pair
        The normalised pair it was made from; tells blank sky from sources. Without it all good
        pixels count as sky and the residuals on sources are NaN.

    Returns
    -------
    dict
        ``noise_level`` (robust standard deviation of blank pixels, image unit), ``dynamic_range``
        (largest minus smallest good value over the noise), ``detection_threshold`` (PSF flux at
        5 sigma, image unit) and ``detection_threshold_mag`` (AB); ``scorr_median``, ``scorr_std`` (all
        good pixels), ``scorr_std_trimmed`` (without the 0.1 % most extreme ones, so that a real bright
        transient does not look like bad noise), ``scorr_mad_std``; ``residual_footprint_ratio`` with
        ``_std`` (LSST: sum of |D| over sum of science in footprints of static sources, the brighter
        half), ``residual_footprint_excess`` (the same with the photon noise taken out in quadrature) and
        ``residual_noise_ratio`` (mean |D| there over the one expected from the variance: 1 for a
        perfect subtraction); ``variance_scale``, ``noise_whiteness`` (largest autocorrelation at lags 1
        to 20), ``masked_fraction``, ``lost_fraction`` (edge, saturated, streak), one
        ``mask_<plane>`` per plane that is set, and ``n_objects`` (sources in the science image);
        ``merit_threshold``, the terms ``merit_m_*`` and ``merit`` (see
        `astrid_assets.science.merit.figure_of_merit`).
    """
    good = ~difference.bad & np.isfinite(difference.data)
    sources = None if pair is None else _sources(pair)
    blank = good if sources is None else good & ~_enlarge(sources.static, good.shape)
    values = _sample(difference.data, blank)
    noise = robust_std(values)
    metrics = {
        "noise_level": noise,
        "dynamic_range": _span(difference.data, good) / noise if noise > 0 else np.nan,
        "variance_scale": _variance_scale(difference, blank, noise),
        "noise_whiteness": _autocorrelation_peak(
            difference.data, blank, noise, _expected_correlation(difference)
        ),
    }
    metrics |= _threshold(difference, good) | _score_statistics(difference.score_corrected, good)
    metrics |= _residuals(difference, good, sources)
    metrics |= figure_of_merit(difference)
    return metrics | mask_fractions(difference.mask)


def candidate_metrics(
    table: pa.Table, difference: Difference, pair: AlignedPair | None = None
) -> dict[str, float]:
    """Measure a table of candidates as a whole.

    Parameters
    ----------
    table
        Result of `astrid_assets.science.detect`.

    difference, pair
        What the candidates were found in; `pair` as for `difference_metrics`.

    Returns
    -------
    dict
        ``n_detections``, ``n_candidates`` (not flagged as artefacts), ``n_positive`` and
        ``n_negative`` (candidates by sign), ``max_snr``, ``good_to_all_ratio``, ``transient_fraction``
        (BlackBOX T-FTRANS: candidates of 6 sigma or more per object of the science image) and its
        lower 2 sigma limit ``transient_fraction_low``, ``sign_imbalance`` (sigma of a fair
        binomial, positive when positive ones prevail), ``dipole_fraction`` (of the detections outside
        masks) with its ``dipole_fraction_low``, and of apertures on blank sky ``sky_source_std``
        (scatter over the expected one), ``sky_source_rate`` (share beyond 5 sigma) and
        ``sky_source_excess`` (sigma above expectation).
    """
    snr = np.abs(_column(table, "snr"))
    reasons = np.array(table.column("artifact").to_pylist(), object)
    clean, seen = reasons == "", reasons != "masked"
    n_clean, n_seen = int(clean.sum()), int(seen.sum())
    positive = int((clean & (_column(table, "positive") > 0)).sum())
    n_strong = int((clean & (snr >= 6.0)).sum())
    dipoles = int((reasons == "dipole").sum())
    n_objects = difference.metrics.get("n_objects", np.nan)
    if pair is not None and not np.isfinite(n_objects):
        n_objects = float(_sources(pair).n_objects)
    metrics = {
        "n_detections": float(table.num_rows),
        "n_candidates": float(n_clean),
        "n_positive": float(positive),
        "n_negative": float(n_clean - positive),
        "max_snr": float(snr[clean].max()) if n_clean else np.nan,
        "good_to_all_ratio": n_clean / table.num_rows if table.num_rows else np.nan,
        "transient_fraction": n_strong / n_objects if n_objects else np.nan,
        "transient_fraction_low": _lower_limit(n_strong, n_objects),
        "sign_imbalance": float((2 * positive - n_clean) / np.sqrt(n_clean)) if n_clean else np.nan,
        "dipole_fraction": dipoles / n_seen if n_seen else np.nan,
        "dipole_fraction_low": _lower_limit(dipoles, float(n_seen)),
    }
    return metrics | _sky_sources(table, difference, pair)


def mask_fractions(mask: np.ndarray) -> dict[str, float]:
    """Return the share of pixels of every plane that is set, and of the planes that cost area.

    Parameters
    ----------
    mask
        Bit planes, int32 ``(ny, nx)``.

    Returns
    -------
    dict
        ``masked_fraction`` (any plane that makes a pixel bad), ``lost_fraction`` (edge, saturated,
        bleed and streak of either image), and ``mask_<plane>`` for each plane set anywhere.
    """
    occupied = mask[mask != 0]
    union = int(np.bitwise_or.reduce(occupied)) if occupied.size else 0
    lost = [f"{side}{name}" for side in ("", "REF_") for name in ("EDGE", "SATURATED", "BLEED", "STREAK")]
    shares = {
        f"mask_{plane.name.lower()}": float(np.count_nonzero(occupied & (1 << plane.bit)) / mask.size)
        for plane in MASK_PLANES.values()
        if union >> plane.bit & 1
    }
    return {
        "masked_fraction": float(np.count_nonzero(occupied & BAD_BITS) / mask.size),
        "lost_fraction": float(np.count_nonzero(occupied & bits(*lost)) / mask.size),
        **shares,
    }


@dataclass(frozen=True)
class _Sources:
    """Where a pair shows sources, in blocks."""

    static: np.ndarray
    """Blocks on or next to a source of either image."""

    labels: np.ndarray
    """Number of the footprint of each block that both images see a source in; 0 = none."""

    science: np.ndarray
    """Sum of the science image in each block."""

    n_objects: int
    """Number of sources in the science image."""


def _sources(pair: AlignedPair) -> _Sources:
    """Find the blocks with sources: a good pixel above 5 sigma (4 for the margin around them)."""
    from scipy import ndimage

    peaks = [_significance(image) for image in (pair.science, pair.reference)]
    eight = np.ones((3, 3), bool)
    either = np.maximum(*peaks) > 4.0
    labels, _ = ndimage.label(np.minimum(*peaks) > 5.0, structure=eight)
    n_objects = ndimage.label(peaks[0] > 5.0, structure=eight)[1]
    flux = _block_sum(np.where(pair.science.bad, np.float32(0), pair.science.data))
    return _Sources(ndimage.binary_dilation(either, structure=eight), labels, flux, n_objects)


def _significance(image: MaskedImage) -> np.ndarray:
    """Return the largest value over its own sigma in each block; a bad pixel counts as 0."""
    if image.variance is None:
        raise ValueError("an image without variance has no significance")
    usable = ~image.bad & (image.variance > 0)
    sigma = np.sqrt(np.where(usable, image.variance, np.float32(1)))
    return _block_max(np.where(usable, image.data, np.float32(0)) / sigma)


def _residuals(difference: Difference, good: np.ndarray, sources: _Sources | None) -> dict[str, float]:
    """Compare |D| on static sources with their flux (LSST) and with the expected noise."""
    if sources is None:
        names = ("residual_footprint_ratio", "residual_footprint_ratio_std")
        return dict.fromkeys(
            (*names, "residual_footprint_excess", "residual_noise_ratio", "n_objects"), np.nan
        )
    sigma = np.sqrt(np.where(good, difference.variance, np.float32(0)))
    residual = _block_sum(np.where(good, np.abs(difference.data), np.float32(0)))
    # the mean absolute value of a Gaussian is sqrt(2/pi) of its standard deviation
    expected = np.sqrt(2.0 / np.pi) * _block_sum(sigma)
    count = sources.labels.max() + 1
    sums = [
        np.bincount(sources.labels.ravel(), plane.ravel(), count)[1:]
        for plane in (residual, expected, sources.science, _block_sum(good.astype(np.float32)))
    ]
    area = np.bincount(sources.labels.ravel(), minlength=count)[1:] * _BLOCK**2
    usable = (sums[3] > 0.5 * area) & (sums[1] > 0) & (sums[2] > 0)
    residual, expected, flux = (s[usable] for s in sums[:3])
    # photon noise alone fills the LSST ratio of faint sources, so it is taken over the bright half
    bright = flux / expected >= np.median(flux / expected) if flux.size else np.zeros(0, bool)
    ratio = (residual / flux)[bright]
    excess = np.sqrt(np.maximum(residual**2 - expected**2, 0.0))[bright] / flux[bright]
    return {
        "residual_footprint_ratio": _trimmed_mean(ratio),
        "residual_footprint_ratio_std": robust_std(ratio),
        "residual_footprint_excess": _trimmed_mean(excess),
        "residual_noise_ratio": _trimmed_mean(residual / expected),
        "n_objects": float(sources.n_objects),
    }


def _score_statistics(score: np.ndarray, good: np.ndarray) -> dict[str, float]:
    """Median, standard deviations and robust scatter of S_corr over good pixels."""
    values = _sample(score, good)
    if values.size < 100:
        return dict.fromkeys(("scorr_median", "scorr_std", "scorr_std_trimmed", "scorr_mad_std"), np.nan)
    return {
        "scorr_median": float(np.median(values)),
        "scorr_std": float(values.std(dtype=float)),
        "scorr_std_trimmed": _trimmed_std(values, share=0.001),
        "scorr_mad_std": robust_std(values),
    }


def _trimmed_std(values: np.ndarray, *, share: float) -> float:
    """Return the standard deviation without the most extreme `share`, exact for a Gaussian."""
    size = np.abs(values - np.median(values))
    limit = np.partition(size, int((1.0 - share) * size.size) - 1)[int((1.0 - share) * size.size) - 1]
    kept = values[size <= limit]
    gaussian = NormalDist()
    z = gaussian.inv_cdf(1.0 - share / 2.0)
    return float(kept.std(dtype=float) / np.sqrt(1.0 - 2.0 * z * gaussian.pdf(z) / (1.0 - share)))


def _threshold(difference: Difference, good: np.ndarray) -> dict[str, float]:
    """Flux and magnitude of a point source at 5 sigma, median over good pixels."""
    errors = _sample(difference.flux_error, good)
    flux = 5.0 * float(np.median(errors)) if errors.size else np.nan
    zeropoint = np.nan if difference.zeropoint is None else difference.zeropoint.magnitude
    magnitude = zeropoint - 2.5 * np.log10(flux) if flux > 0 else np.nan
    return {"detection_threshold": flux, "detection_threshold_mag": float(magnitude)}


def _variance_scale(difference: Difference, blank: np.ndarray, noise: float) -> float:
    """Measured variance of blank pixels over the one that the variance plane says."""
    predicted = _sample(difference.variance, blank)
    median = float(np.median(predicted)) if predicted.size else np.nan
    return noise**2 / median if median > 0 else np.nan


def _autocorrelation_peak(
    data: np.ndarray, blank: np.ndarray, noise: float, expected: np.ndarray | None = None, *, lags: int = 20
) -> float:
    """Largest departure of the autocorrelation of blank pixels from the expected one, up to `lags` pixels.

    Along rows and columns; without an expectation it is zero beyond lag 0.
    """
    if not noise > 0 or np.count_nonzero(blank) < 1000:
        return np.nan
    centre = _middle(data.shape, 512)
    usable = blank[centre].astype(np.float32)
    # a few unmasked outliers must not decide the correlation
    filled = np.clip(np.where(blank[centre], data[centre] / noise, 0), -4, 4).astype(np.float32)
    filled -= usable * (filled.sum() / max(usable.sum(), 1.0))
    peaks = []
    for axis in (0, 1):
        products, pairs = (_lagged_products(plane, axis)[: lags + 1] for plane in (filled, usable))
        covariance = products / np.maximum(pairs, 1.0)
        correlation = covariance[1:] / covariance[0]
        known = _along_axis(expected, axis)[:lags]
        correlation[: len(known)] -= known
        peaks.append(np.abs(correlation).max())
    return float(max(peaks))


def _expected_correlation(difference: Difference) -> np.ndarray | None:
    """Return the autocorrelation that the filters gave the noise of a difference; None for white noise."""
    known = difference.parameters.get("noise_correlation")
    return None if known is None else np.array(known, float)


def _along_axis(correlation: np.ndarray | None, axis: int) -> np.ndarray:
    """Return the lags 1, 2 ... along an axis."""
    if correlation is None:
        return np.zeros(0)
    middle = correlation.shape[0] // 2
    line = correlation[:, middle] if axis == 0 else correlation[middle]
    return line[middle + 1 :]


def _lagged_products(plane: np.ndarray, axis: int) -> np.ndarray:
    """Sum over all lines along `axis` of the products of values n apart, for n = 0, 1, ..."""
    from scipy import fft

    size = fft.next_fast_len(2 * plane.shape[axis], real=True)
    power = np.abs(fft.rfft(plane, size, axis=axis)) ** 2
    return fft.irfft(power.sum(axis=1 - axis, dtype=float), size)


def _sky_sources(
    table: pa.Table, difference: Difference, pair: AlignedPair | None, *, radius: float = 3.0
) -> dict[str, float]:
    """Measure apertures on blank sky: their fluxes must scatter as the variance says."""
    good = ~difference.bad & np.isfinite(difference.data)
    blank = good if pair is None else good & ~_enlarge(_sources(pair).static, good.shape)
    y, x = _null_positions(difference.shape, margin=int(radius) + 1)
    away = _distance_to_nearest(x, y, table) > 4.0 * radius
    pull = _aperture_pulls(difference, blank, y[away], x[away], radius)
    if pull.size < 50:
        return dict.fromkeys(("sky_source_std", "sky_source_rate", "sky_source_excess"), np.nan)
    beyond, expected = int((np.abs(pull) > 5.0).sum()), pull.size * 5.733e-7
    return {
        "sky_source_std": robust_std(pull),
        "sky_source_rate": beyond / pull.size,
        "sky_source_excess": float((beyond - expected) / np.sqrt(max(expected, 1.0))),
    }


def _null_positions(
    shape: tuple[int, int], *, margin: int, count: int = 2000
) -> tuple[np.ndarray, np.ndarray]:
    """Return (y, x) pixels of the additive recurrence R2 (Roberts 2018): even and the same each time."""
    plastic = 1.32471795724474602596
    steps = np.arange(1, count + 1)
    fractions = (0.5 + steps / plastic) % 1.0, (0.5 + steps / plastic**2) % 1.0
    y, x = (
        (margin + f * max(side - 2 * margin, 1)).astype(int).clip(0, side - 1)
        for f, side in zip(fractions, shape, strict=True)
    )
    return y, x


def _aperture_pulls(
    difference: Difference, blank: np.ndarray, y: np.ndarray, x: np.ndarray, radius: float
) -> np.ndarray:
    """Aperture flux over its error at positions whose aperture lies wholly on blank pixels."""
    reach = int(radius)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = np.hypot(dy, dx) <= radius
    ny, nx = difference.shape
    within = (y >= reach) & (y < ny - reach) & (x >= reach) & (x < nx - reach)
    rows, columns = (p[within][:, None] + d[inside] for p, d in ((y, dy), (x, dx)))
    usable = blank[rows, columns].all(axis=1)
    rows, columns = rows[usable], columns[usable]
    flux = difference.data[rows, columns].sum(axis=1, dtype=float)
    variance = difference.variance[rows, columns].sum(axis=1, dtype=float)
    variance *= _aperture_factor(inside, _expected_correlation(difference))
    return flux / np.sqrt(np.maximum(variance, 1e-30))


def _aperture_factor(inside: np.ndarray, correlation: np.ndarray | None) -> float:
    """Return the variance of an aperture sum of correlated noise over that of white noise."""
    if correlation is None:
        return 1.0
    y, x = np.nonzero(inside)
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    middle = correlation.shape[0] // 2
    known = (np.abs(dy) <= middle) & (np.abs(dx) <= middle)
    lags = correlation[np.clip(dy, -middle, middle) + middle, np.clip(dx, -middle, middle) + middle]
    return float(np.where(known, lags, 0.0).sum() / len(y))


def _distance_to_nearest(x: np.ndarray, y: np.ndarray, table: pa.Table) -> np.ndarray:
    """Distance in pixels of each position to the nearest detection."""
    from scipy.spatial import cKDTree

    if table.num_rows == 0:
        return np.full(x.shape, np.inf)
    tree = cKDTree(np.column_stack([_column(table, "x"), _column(table, "y")]))
    return tree.query(np.column_stack([x, y]))[0]


def _column(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as float64 with NaN for null."""
    return np.array([np.nan if v is None else v for v in table.column(name).to_pylist()], float)


def _lower_limit(count: int, total: float, *, z: float = 2.0) -> float:
    """Lower Wilson limit (Wilson 1927) of a share: small numbers cannot condemn an image."""
    if not total > 0:
        return np.nan
    share = min(count / total, 1.0)
    centre = share + z**2 / (2.0 * total)
    spread = z * np.sqrt(share * (1.0 - share) / total + z**2 / (4.0 * total**2))
    return float(max((centre - spread) / (1.0 + z**2 / total), 0.0))


def _holes(finite: np.ndarray, *, reach: int = 8) -> int:
    """Count the pixels without a finite value that have finite ones `reach` pixels away on all four sides."""
    y, x = np.nonzero(~finite)
    (ny, nx), around = finite.shape, [(reach, 0), (-reach, 0), (0, reach), (0, -reach)]
    inside = (y >= reach) & (y < ny - reach) & (x >= reach) & (x < nx - reach)
    y, x = y[inside], x[inside]
    return int(np.count_nonzero(np.logical_and.reduce([finite[y + dy, x + dx] for dy, dx in around])))


def _sky(data: np.ndarray, good: np.ndarray, *, lag: int = 5) -> tuple[float, float]:
    """Median of the sky and its noise, from pixels `lag` columns apart.

    A gradient does not touch the difference of two pixels that near, and resampled noise is not
    correlated that far.
    """
    values = _sample(data, good)
    if values.size < 100 or data.shape[1] <= lag:
        return np.nan, np.nan
    steps = (data[::2, lag:] - data[::2, :-lag])[good[::2, lag:] & good[::2, :-lag]]
    # the MAD of integer pixels comes in steps, the clipped standard deviation does not
    core = steps[np.abs(steps) < 3.0 * robust_std(steps)]
    return float(np.median(values)), float(core.std(dtype=float) / (0.98658 * np.sqrt(2.0)))


def _stamp(image: MaskedImage) -> np.ndarray | None:
    """Point-spread function at the middle of an image, from its stars where none was given."""
    if image.psf is None:
        return _mean_star(image)
    ny, nx = image.shape
    return image.psf.at((nx - 1) / 2, (ny - 1) / 2)


def _mean_star(
    image: MaskedImage, *, side: int = 640, n_stars: int = 40, size: int = 31
) -> np.ndarray | None:
    """Median of the stars in the middle of an image, unit sum; None for fewer than five stars."""
    middle = _middle(image.shape, side)
    data, bad = image.data[middle], np.ascontiguousarray(image.bad[middle])
    if bad.mean() > 0.95:
        return None
    background = estimate_background(data, bad)
    sky_free = data - background.level
    sources = find_sources(sky_free, background.rms, bad, threshold=10.0)
    stars = sources[select_stars(sources, data.shape, saturation=image.saturation)[:n_stars]]
    if len(stars) < 5:
        return None
    x, y = np.rint(stars.x).astype(int), np.rint(stars.y).astype(int)
    stamps = cut_stamps(np.where(bad, np.float32(0), sky_free), x, y, size, fill=0.0).astype(float)
    centred = shift_stamps(stamps, x - stars.x, y - stars.y) / stars.flux[:, None, None]
    star = np.median(centred, axis=0)
    return star / star.sum() if star.sum() > 0 else None


def _shape(stamp: np.ndarray | None) -> tuple[float, float]:
    """FWHM in pixels, and major over minor axis of the part above a tenth of the peak."""
    if stamp is None:
        return np.nan, np.nan
    weight = np.where(stamp > 0.1 * stamp.max(), stamp, 0.0)
    y, x = np.indices(stamp.shape, float)
    total = weight.sum()
    x, y = x - (x * weight).sum() / total, y - (y * weight).sum() / total
    xx, yy, xy = ((a * b * weight).sum() / total for a, b in ((x, x), (y, y), (x, y)))
    minor, major = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
    return fwhm_of(stamp), float(np.sqrt(major / minor)) if minor > 0 else np.nan


def _seeing_and_depth(image: MaskedImage) -> tuple[float, float]:
    """FWHM in arcsec, and AB magnitude of a point source at 5 sigma."""
    _, rms = _sky(image.data, ~image.bad)
    stamp = _stamp(image)
    return _shape(stamp)[0] * _number(image.pixel_scale), _limiting_magnitude(image, stamp, rms)


def _limiting_magnitude(image: MaskedImage, stamp: np.ndarray | None, rms: float) -> float:
    """AB magnitude of a point source at 5 sigma: error of optimal photometry, King (1983) eq. 11."""
    if image.zeropoint is None or stamp is None or not rms > 0:
        return np.nan
    noise_area = 1.0 / (stamp**2).sum()
    return float(image.zeropoint.magnitude - 2.5 * np.log10(5.0 * rms * np.sqrt(noise_area)))


def _time_valid(image: MaskedImage) -> float:
    """1 if start <= middle <= end, 0 if not, NaN if the image has no time."""
    times = [t for t in (image.mjd_start, image.mjd_mid, image.mjd_end) if t is not None]
    return float(np.isfinite(times).all() and times == sorted(times)) if times else np.nan


def _wcs_round_trip(image: MaskedImage) -> float:
    """Largest error in pixels of pixel -> sky -> pixel over a grid of 5 x 5; NaN without WCS."""
    if image.wcs is None:
        return np.nan
    from astropy.wcs import NoConvergence

    ny, nx = image.shape
    y, x = (a.ravel() for a in np.meshgrid(np.linspace(0, ny - 1, 5), np.linspace(0, nx - 1, 5)))
    try:
        back = image.wcs.all_world2pix(*image.wcs.all_pix2world(x, y, 0), 0)
    except NoConvergence:
        return np.inf
    return float(np.nan_to_num(np.hypot(back[0] - x, back[1] - y), nan=np.inf).max())


def _coverage(reference: MaskedImage, science: MaskedImage) -> float:
    """Share of a grid of 64 x 64 good science pixels that falls on good reference pixels."""
    if reference.wcs is None or science.wcs is None:
        return np.nan
    ny, nx = science.shape
    y, x = (a.ravel() for a in np.meshgrid(np.linspace(0, ny - 1, 64), np.linspace(0, nx - 1, 64)))
    good = ~science.bad[y.astype(int), x.astype(int)]
    column, row = reference.wcs.all_world2pix(*science.wcs.all_pix2world(x[good], y[good], 0), 0, quiet=True)
    row, column = np.nan_to_num(np.rint([row, column]), nan=-1).astype(int)
    inside = (row >= 0) & (row < reference.shape[0]) & (column >= 0) & (column < reference.shape[1])
    covered = ~reference.bad[row[inside], column[inside]]
    return float(np.count_nonzero(covered) / max(good.sum(), 1))


def _seeing_ratio(pair: AlignedPair) -> float:
    """FWHM of the reference over that of the science image, both on the science grid."""
    if pair.science.psf is None or pair.reference.psf is None:
        return np.nan
    return pair.reference.psf.fwhm / pair.science.psf.fwhm


def _span(data: np.ndarray, good: np.ndarray) -> float:
    """Largest minus smallest good value."""
    values = data[good]
    return float(values.max() - values.min()) if values.size else np.nan


def _share(mask: np.ndarray, planes: np.int32) -> float:
    """Share of the pixels in which one of some planes is set."""
    return float(np.count_nonzero(mask & planes)) / mask.size


def _number(value: float | None) -> float:
    """Return a number, NaN for None."""
    return np.nan if value is None else float(value)


def _trimmed_mean(values: np.ndarray, *, share: float = 0.1) -> float:
    """Mean without the lowest and highest `share`, so that real variables do not count as faults.

    Of three or more values at least one at each end is left out: in a small field one variable star
    must not condemn the image.
    """
    if values.size == 0:
        return np.nan
    cut = max(int(share * values.size), int(values.size >= 3))
    return float(np.sort(values)[cut : values.size - cut].mean())


def _sample(data: np.ndarray, good: np.ndarray, *, enough: int = 200_000) -> np.ndarray:
    """Good finite values, of every n-th row where that still leaves enough of them."""
    step = max(data.size // enough, 1)
    values = data[::step][good[::step]]
    return values[np.isfinite(values)]


def _middle(shape: tuple[int, int], side: int) -> tuple[slice, slice]:
    """Slices of the central part of an image, at most `side` pixels a side."""
    starts = [max((n - side) // 2, 0) for n in shape]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _reduced(plane: np.ndarray, operation: np.ufunc) -> np.ndarray:
    """Reduce whole blocks of 4 x 4 pixels; an incomplete last row or column is left out."""
    ny, nx = (n // _BLOCK * _BLOCK for n in plane.shape)
    if not ny or not nx:
        raise ValueError(f"an image of {plane.shape} pixels is too small to be judged")
    rows = plane[0:ny:_BLOCK, :nx]
    for i in range(1, _BLOCK):
        rows = operation(rows, plane[i:ny:_BLOCK, :nx])
    blocks = rows[:, 0::_BLOCK]
    for i in range(1, _BLOCK):
        blocks = operation(blocks, rows[:, i::_BLOCK])
    return blocks


def _block_sum(plane: np.ndarray) -> np.ndarray:
    """Sum of each block."""
    return _reduced(plane, np.add)


def _block_max(plane: np.ndarray) -> np.ndarray:
    """Largest value of each block."""
    return _reduced(plane, np.maximum)


def _enlarge(blocks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Blocks as an image of pixels; the incomplete last row and column repeat their neighbours."""
    rows = np.minimum(np.arange(shape[0]) // _BLOCK, blocks.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // _BLOCK, blocks.shape[1] - 1)
    return blocks[rows][:, columns]
