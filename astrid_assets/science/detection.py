"""Candidates: significant sources of both signs on a difference, measured and flagged, never dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import sep
from scipy.spatial import cKDTree

from astrid_assets.columns import described_schema
from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import BAD_BITS, bits
from astrid_assets.images.pairs import AlignedPair, Difference
from astrid_assets.science.artifacts import HALO_FRACTION, halo_flux
from astrid_assets.science.forced import interpolate
from astrid_assets.science.resample import cut_stamps

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ARTIFACT_REASONS", "candidate_schema", "detect"]

ARTIFACT_REASONS = {
    "masked": "the centre lies on pixels that are not to be trusted",
    "streak": "much longer than wide, or on a line with others: a satellite or aircraft",
    "not_psf": "the shape disagrees with the PSF of the difference",
    "dipole": "a detection of the other sign and similar strength lies beside it",
    "residual": "no more than what a bright static source on the spot or nearby may leave behind",
    "extended": "larger than a point source by more than the size limit",
}
"""Why a candidate is flagged as an artefact, in the order in which they are tested."""

TRAIL_PIECES = 4
"""Detections on the line along a long one that make it a trail."""

ROW_PIECES = 8
"""Point-like detections of one sign on a line that make it a trail."""

ROW_WIDTH = 0.6
"""Distance from the line within which a detection belongs to a row, FWHM."""

ROW_CANDIDATES = 120
"""Most detections of which all pairs are tried as the direction of a row."""


def detect(
    difference: Difference,
    *,
    pair: AlignedPair | None = None,
    threshold: float = 5.0,
    max_chi2: float = 1.8,
    max_shape_error: float = 0.25,
    max_size: float = 2.5,
    residual_fraction: float = 0.04,
    halo_fraction: float = HALO_FRACTION,
) -> pa.Table:
    """Find what changed: peaks of abs(S_corr) above a threshold, of both signs.

    Parameters
    ----------
    difference
        From `zogy` or `classic`.

    pair
        The normalized pair it was made from; adds what the reference shows at each place.

    threshold
        Significance in units of sigma.

    max_chi2
        Largest reduced chi-square of the difference about its PSF, for faint candidates.

    max_shape_error
        Misfit that is allowed on top of the noise, as a share of the flux; the error of the PSF
        model shows in bright candidates.

    max_size
        Largest width, in units of the FWHM of the PSF of the difference.

    residual_fraction
        Share of the flux of a static source below which a change in it is not believed.

    halo_fraction
        Share of the flux of a static source below which a change is not believed three pixels
        from it; falls with the inverse distance, to nothing at 25 pixels. Wings and spikes of
        bright stars change from night to night.

    Returns
    -------
    pyarrow.Table
        One row per detection, strongest first; columns of `candidate_schema`. ``artifact`` is
        empty or the first reason of `ARTIFACT_REASONS` that holds.
    """
    found = _peaks(difference, threshold)
    measured = _measure(difference, found)
    measured |= _context(difference, pair, measured, halo_fraction)
    measured |= _neighbours(difference, measured)
    limits = {
        "max_chi2": max_chi2,
        "max_shape_error": max_shape_error,
        "max_size": max_size,
        "residual_fraction": residual_fraction,
    }
    measured["artifact"] = _artifacts(measured, limits, difference.psf.fwhm, difference.shape)
    return _table(difference, measured)


def _peaks(difference: Difference, threshold: float) -> dict[str, np.ndarray]:
    """Return one row for each separate peak of the significance, either sign."""
    no_data = ~np.isfinite(difference.score_corrected) | ((difference.mask & bits("NO_DATA")) != 0)
    columns: dict[str, list[np.ndarray]] = {
        k: [] for k in ("x", "y", "sign", "length", "width", "theta", "npix")
    }
    sep.set_extract_pixstack(max(300_000, difference.data.size // 4))
    for sign in (1, -1):
        image = np.where(no_data, 0, sign * difference.score_corrected).astype(np.float32)
        rows = sep.extract(
            image,
            threshold,
            minarea=1,
            filter_kernel=None,
            deblend_nthresh=32,
            deblend_cont=0.05,
            clean=False,
        )
        values = (rows["xpeak"], rows["ypeak"], np.full(len(rows), sign), rows["a"], rows["b"], rows["theta"])
        for name, value in zip(columns, (*values, rows["npix"]), strict=True):
            columns[name].append(np.asarray(value, float))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _measure(difference: Difference, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return positions, fluxes and shapes of the peaks."""
    sign = found["sign"]
    snr = np.abs(difference.score_corrected[found["y"].astype(int), found["x"].astype(int)]).astype(float)
    ix, iy = _uphill(difference.score, found["x"].astype(int), found["y"].astype(int), sign)
    peaks = cut_stamps(difference.score, ix, iy, 3, fill=0.0).astype(float) * sign[:, None, None]
    dx, dy = _subpixel(peaks)
    flux = interpolate(difference.flux, ix + dx, iy + dy)
    error = difference.flux_error[iy, ix].astype(float)
    columns = {
        "x": ix + dx,
        "y": iy + dy,
        "flux": flux,
        "flux_error": error,
        "snr": snr,
        "positive": sign > 0,
        "elongation": found["length"] / np.maximum(found["width"], 1e-3),
        "theta": np.degrees(found["theta"]),
        "npix": found["npix"].astype(np.int32),
        "_length": found["length"],
    }
    return columns | _profile(difference, columns, ix, iy)


def _uphill(
    score: np.ndarray, ix: np.ndarray, iy: np.ndarray, sign: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Move from the peaks of S_corr to those of S, at most two pixels.

    What bright static sources add to the error may shift the peak of S_corr, not that of S.
    """
    for _ in range(2):
        around = cut_stamps(score, ix, iy, 3, fill=0.0) * sign[:, None, None]
        best = around.reshape(len(ix), 9).argmax(axis=1) if len(ix) else np.zeros(0, int)
        ix, iy = ix + best % 3 - 1, iy + best // 3 - 1
    return ix, iy


def _subpixel(peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the offset of the maximum of a paraboloid through 3 x 3 pixels, at most 0.5 a side."""
    along_x = peaks[:, 1, :]
    along_y = peaks[:, :, 1]

    def offset(values: np.ndarray) -> np.ndarray:
        curvature = values[:, 0] - 2 * values[:, 1] + values[:, 2]
        slope = values[:, 0] - values[:, 2]
        return np.where(curvature < 0, np.clip(0.5 * slope / np.minimum(curvature, -1e-30), -0.5, 0.5), 0.0)

    return offset(along_x), offset(along_y)


def _profile(
    difference: Difference, columns: dict[str, np.ndarray], ix: np.ndarray, iy: np.ndarray
) -> dict[str, np.ndarray]:
    """Compare each candidate with the PSF of the difference."""
    fwhm = difference.psf.fwhm
    size = 2 * int(np.ceil(1.5 * fwhm)) + 1
    half = size // 2
    data = cut_stamps(difference.data, ix, iy, size, fill=0.0).astype(float)
    variance = cut_stamps(difference.variance, ix, iy, size, fill=np.inf).astype(float)
    mask = cut_stamps(difference.mask, ix, iy, size, fill=int(bits("EDGE")))
    good = ((mask & BAD_BITS) == 0) & np.isfinite(data) & (variance > 0)
    model = _models(difference, columns["x"], columns["y"], ix, iy, size)
    weight = np.where(good, 1.0 / np.where(variance > 0, variance, 1.0), 0)
    model_power = np.maximum((weight * model**2).sum(axis=(1, 2)), 1e-30)
    amplitude = (weight * model * data).sum(axis=(1, 2)) / model_power
    residual = data - amplitude[:, None, None] * model
    n_good = np.maximum(good.sum(axis=(1, 2)) - 3, 1)
    chi2 = (weight * residual**2).sum(axis=(1, 2)) / n_good
    absolute = np.where(good, np.abs(residual), 0).sum(axis=(1, 2))
    noise = np.where(good, np.sqrt(np.where(good, variance, 0)), 0).sum(axis=(1, 2)) * np.sqrt(2 / np.pi)
    # misfit in excess of the noise, as a share of the flux
    misfit = np.maximum(absolute - noise, 0) / np.maximum(np.abs(amplitude), 1e-30)
    grid = np.arange(size) - half
    radius2 = grid[:, None] ** 2 + grid[None, :] ** 2
    signed = np.where(good, data, 0) * np.sign(amplitude)[:, None, None]
    core = np.exp(-0.5 * radius2 / (fwhm / 2.355 * 1.5) ** 2)
    second = (signed * core * radius2).sum(axis=(1, 2)) / np.maximum((signed * core).sum(axis=(1, 2)), 1e-30)
    expected = (model * core * radius2).sum(axis=(1, 2)) / np.maximum((model * core).sum(axis=(1, 2)), 1e-30)
    five = slice(half - 2, half + 3)
    return {
        "_n_good": n_good,
        "psf_chi2": chi2,
        "psf_misfit": misfit,
        "size": np.sqrt(np.clip(second, 0, None) / np.maximum(expected, 1e-30)),
        "n_bad": ((mask[:, five, five] & BAD_BITS) != 0).sum(axis=(1, 2)).astype(np.int32),
        "n_negative": (signed[:, five, five] < 0).sum(axis=(1, 2)).astype(np.int32),
        "flags": np.bitwise_or.reduce(mask[:, half - 1 : half + 2, half - 1 : half + 2], axis=(1, 2)),
        "centre_flags": mask[:, half, half],
    }


def _models(
    difference: Difference, x: np.ndarray, y: np.ndarray, ix: np.ndarray, iy: np.ndarray, size: int
) -> np.ndarray:
    """Return the PSF of the difference on the pixels around each candidate."""
    if len(x) == 0:
        return np.zeros((0, size, size))
    whole = min(difference.psf.shape)
    models = difference.psf.at(x, y, dx=x - ix, dy=y - iy, size=min(size, whole))
    pad = max(0, (size - whole) // 2)
    return np.pad(models, ((0, 0), (pad, pad), (pad, pad)))


def _context(
    difference: Difference, pair: AlignedPair | None, columns: dict[str, np.ndarray], halo_fraction: float
) -> dict[str, np.ndarray]:
    """Return what the images show at the candidates: static flux, and what bright stars nearby may add."""
    n = len(columns["x"])
    unknown = np.full(n, np.nan)
    if pair is None or pair.normalization is None:
        return {"static_flux": unknown, "science_flux": unknown, "halo_flux": unknown}
    radius = max(2.0, difference.psf.fwhm)
    ratio = pair.normalization.flux_ratio
    ix, iy = np.rint(columns["x"]).astype(int), np.rint(columns["y"]).astype(int)
    return {
        "static_flux": _aperture(pair.reference, columns["x"], columns["y"], radius) * ratio,
        "science_flux": _aperture(pair.science, columns["x"], columns["y"], radius),
        "halo_flux": halo_flux(pair)[iy, ix] * halo_fraction,
    }


def _aperture(image: MaskedImage, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Return the flux within a radius; bad pixels count as sky."""
    data = np.ascontiguousarray(np.nan_to_num(image.data))
    return sep.sum_circle(data, x, y, radius, subpix=5)[0] if len(x) else np.zeros(0)


def _neighbours(difference: Difference, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return how much each candidate looks like half of a dipole, and whether it lies on a line."""
    n = len(columns["x"])
    dipole = np.zeros(n)
    if n > 1:
        where = np.c_[columns["x"], columns["y"]]
        strength = columns["snr"]
        reach = max(4.0, 2.0 * difference.psf.fwhm)
        for i, j in cKDTree(where).query_pairs(reach):
            if columns["positive"][i] != columns["positive"][j]:
                balance = min(strength[i], strength[j]) / max(strength[i], strength[j])
                dipole[[i, j]] = np.maximum(dipole[[i, j]], balance)
    return {"dipole": dipole, "_streak": _long_pieces(columns, difference.psf.fwhm)}


def _long_pieces(columns: dict[str, np.ndarray], fwhm: float) -> np.ndarray:
    """Return the long detections away from masked pixels, and what is no star on the lines along them.

    A line counts where it holds at least `TRAIL_PIECES`; a single piece stands for itself.
    """
    usable = (columns["centre_flags"] & BAD_BITS) == 0
    x, y = columns["x"], columns["y"]
    streak = np.zeros(len(x), bool)
    # the second moment of a line of length L is L / sqrt(12)
    length = np.sqrt(12.0) * columns["_length"]
    for i in np.flatnonzero((columns["elongation"] > 4.0) & (length > 8.0 * fwhm) & usable):
        angle = np.radians(columns["theta"][i])
        distance = np.abs((x - x[i]) * np.sin(angle) - (y - y[i]) * np.cos(angle))
        on_line = (distance < 1.5 * fwhm) & usable
        streak[i] = True
        if on_line.sum() >= TRAIL_PIECES:
            streak |= on_line & ((columns["psf_chi2"] > 1.5) | (columns["elongation"] > 2.0))
    return streak


def _rows(
    columns: dict[str, np.ndarray], kept: np.ndarray, fwhm: float, shape: tuple[int, int]
) -> np.ndarray:
    """Return which of the candidates kept so far are pieces of a faint trail, each sign for itself."""
    found = np.zeros(len(kept), bool)
    for sign in (True, False):
        usable = np.flatnonzero(kept & (columns["positive"] == sign))
        found[usable] = _in_row(columns, usable, fwhm, shape)
    return found


def _in_row(
    columns: dict[str, np.ndarray], usable: np.ndarray, fwhm: float, shape: tuple[int, int]
) -> np.ndarray:
    """Return which of some candidates stand in a row that chance does not make, found pair by pair.

    A row has at least `ROW_PIECES`, and more where the candidates are dense: as many as random places
    show in one image of a thousand. What is much stronger than the rest of a row is a source of its own.
    """
    found = np.zeros(len(usable), bool)
    if len(usable) < ROW_PIECES:
        return found
    x, y = (columns[axis][usable].astype(np.float32) for axis in ("x", "y"))
    first, second = np.triu_indices(min(len(usable), ROW_CANDIDATES), 1)
    dx, dy = x[second] - x[first], y[second] - y[first]
    length = np.hypot(dx, dy)
    far = length > 20.0 * fwhm
    first, dx, dy = first[far], dx[far] / length[far], dy[far] / length[far]
    # the distance from each line, as the difference of two projections
    across = np.outer(dy, x) - np.outer(dx, y)
    across -= (dy * x[first] - dx * y[first])[:, None]
    on_line = np.abs(across, out=across) < ROW_WIDTH * fwhm
    needed = max(ROW_PIECES, _chance_pieces(len(usable), len(first), fwhm, shape))
    snr = columns["snr"][usable]
    for row in on_line[on_line.sum(axis=1) >= needed]:
        found |= row & (snr < 3.0 * np.median(snr[row]))
    return found


def _chance_pieces(n: int, n_lines: int, fwhm: float, shape: tuple[int, int]) -> int:
    """Return how many of ``n`` random places stand on one of some lines once in a thousand images."""
    from scipy.stats import poisson

    expected = n * 2.0 * ROW_WIDTH * fwhm * np.hypot(*shape) / (shape[0] * shape[1])
    # two places define the line
    return 3 + int(poisson.isf(1e-3 / max(n_lines, 1), expected))


def _artifacts(
    columns: dict[str, np.ndarray], limits: dict[str, float], fwhm: float, shape: tuple[int, int]
) -> np.ndarray:
    """Return the first reason that makes each candidate an artefact, or an empty string."""
    strength = columns["snr"]
    static = np.nan_to_num(columns["static_flux"]) * limits["residual_fraction"]
    left_behind = np.maximum(static, np.nan_to_num(columns["halo_flux"]))
    # a relative error of the PSF adds to chi-square with the square of the significance
    chi2_limit = limits["max_chi2"] + (limits["max_shape_error"] * strength) ** 2 / columns["_n_good"]
    tests = {
        "masked": (columns["centre_flags"] & BAD_BITS) != 0,
        "streak": columns["_streak"],
        "dipole": columns["dipole"] > 0.5,
        "residual": np.abs(columns["flux"]) < left_behind,
        "not_psf": (columns["psf_chi2"] > chi2_limit) & (columns["psf_misfit"] > limits["max_shape_error"]),
        "extended": columns["size"] > limits["max_size"],
    }
    reason = np.full(len(strength), "", object)
    for name in ARTIFACT_REASONS:
        reason[(reason == "") & tests[name]] = name
    reason[_rows(columns, reason == "", fwhm, shape)] = "streak"
    return reason


_COLUMNS = (
    ("x", "float64", "pixel", "position in the science image, 0-based"),
    ("y", "float64", "pixel", "position in the science image, 0-based"),
    ("ra", "float64", "deg", "right ascension (ICRS); null without a WCS"),
    ("dec", "float64", "deg", "declination (ICRS); null without a WCS"),
    ("flux", "float64", "image unit", "signed PSF flux of the change, science minus reference"),
    ("flux_error", "float64", "image unit", "1-sigma error"),
    ("flux_njy", "float64", "nJy", "signed flux density; null without a zero point"),
    ("flux_njy_error", "float64", "nJy", "1-sigma error"),
    ("magnitude", "float64", "mag", "AB magnitude of the absolute flux; null without a zero point"),
    ("snr", "float64", "", "absolute S_corr at the peak"),
    ("positive", "bool", "", "brighter in the science image than in the reference"),
    ("elongation", "float64", "", "major over minor axis on S_corr"),
    ("theta", "float64", "deg", "position angle of the major axis, from +x towards +y"),
    ("size", "float64", "", "width over that of the PSF of the difference"),
    ("npix", "int32", "pixel", "pixels above the threshold"),
    ("psf_chi2", "float64", "", "reduced chi-square about the PSF of the difference"),
    ("psf_misfit", "float64", "", "absolute residual in excess of the noise, over the flux"),
    ("dipole", "float64", "", "strength ratio to a neighbour of the other sign, 0 to 1"),
    ("n_bad", "int32", "pixel", "untrusted pixels in the 5 x 5 around the peak"),
    ("n_negative", "int32", "pixel", "pixels of the other sign in the 5 x 5 around the peak"),
    ("static_flux", "float64", "image unit", "flux of the reference within one FWHM, on the science scale"),
    ("science_flux", "float64", "image unit", "flux of the science image within one FWHM"),
    (
        "halo_flux",
        "float64",
        "image unit",
        "change that wings and spikes of stars within 25 pixels may cause",
    ),
    ("flags", "int32", "bits", "mask planes within one pixel of the peak"),
    ("artifact", "string", "", "empty, or why it is taken for an artefact"),
)


def candidate_schema() -> pa.Schema:
    """Return the columns of a candidate table, each with unit and description."""
    return described_schema({name: about for name, *about in _COLUMNS})


def _table(difference: Difference, columns: dict[str, np.ndarray]) -> pa.Table:
    """Add sky positions and physical units, sort by significance."""
    import pyarrow as pa

    n = len(columns["x"])
    missing = np.full(n, np.nan)
    ra, dec = missing, missing
    if difference.wcs is not None and n:
        ra, dec = difference.wcs.all_pix2world(columns["x"], columns["y"], 0)
    zeropoint = difference.zeropoint
    njy = np.nan if zeropoint is None else zeropoint.njy
    size = np.abs(columns["flux"])
    magnitude = missing
    if zeropoint is not None:
        magnitude = zeropoint.magnitude - 2.5 * np.log10(np.where(size > 0, size, np.nan))
    columns = columns | {
        "ra": ra,
        "dec": dec,
        "flux_njy": columns["flux"] * njy,
        "flux_njy_error": columns["flux_error"] * njy,
        "magnitude": magnitude,
    }
    order = np.argsort(-columns["snr"], kind="stable")
    schema = candidate_schema()
    arrays = [
        pa.array(columns[field.name][order], field.type, from_pandas=pa.types.is_floating(field.type))
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
