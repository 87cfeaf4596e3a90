"""What a difference of a simulated pair is worth, measured against the truth of its scene.

Each measure keeps rows of samples (`Tally`), so that scenes are pooled exactly; `summarize` turns
the rows into numbers with their standard errors. Pixels that the truth excludes: 15 px around
saturated stars, what the difference itself marks as bad, and a border.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from scipy import ndimage
from scipy.spatial import cKDTree

from astrid_assets.benchmarks.expectation import Expectation
from astrid_assets.benchmarks.scenes import FLUX_SCALE, SATURATION, SKY, Scene, optics_stamp
from astrid_assets.images.pairs import Difference
from astrid_assets.science.forced import forced_flux

__all__ = ["BINS", "Estimate", "Tally", "measure", "summarize"]

BINS = {"4-6": (4.0, 6.0), "6-10": (6.0, 10.0), "10-30": (10.0, 30.0)}
"""True signal-to-noise ratios of the new sources whose fluxes are compared with the truth."""

BORDER = 15
"""Pixels at the edge that do not count as clean."""

SATURATED_RADIUS = 15.0
"""Nothing is measured nearer to a saturated pixel, pixels."""

BLANK_PER_MPIX = 500
"""Random blank places of the bin 0."""

BLANK_DISTANCE, SCORE_DISTANCE, PEAK_DISTANCE, BRIGHT_DISTANCE = 10.0, 8.0, 6.0, 8.0
"""Least distance to a new source of blank places, of pixels of the score, of false positives and of bright
stars; pixels."""

DARK, LIT = 0.3, 1.0
"""Static light of a blank pixel at most, and of a pixel of a static source at least, in sigma of a pixel."""

SEARCH_RADIUS = 2.0
"""Largest distance of a detection from the truth, pixels."""

THRESHOLD = 5.0
"""Significance of a detection."""

FLUX_SNR, POSITION_SNR = 15.0, 8.0
"""Least true signal-to-noise ratio of the sources that tell the flux bias, and the error of positions."""

BRIGHT_FLUX = 2e4
"""Least flux of a bright static star, ADU."""

BLOCK = 64
"""Side of the blocks of pixels that count as independent when errors are estimated, pixels."""

COARSE = 16
"""Step of the grid on which the pixel phase of the reference is computed, pixels: off by less than 0.005
pixel in images of 256 pixels, by less in larger ones."""


# --- samples --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Tally:
    """Rows of samples by the name of the measure."""

    rows: dict[str, np.ndarray] = field(default_factory=dict)
    """Each ``(n, k)``; what the columns are is said where the estimate is made."""

    @classmethod
    def merge(cls, *tallies: Tally) -> Tally:
        """Pool the samples of several scenes."""
        names = dict.fromkeys(name for tally in tallies for name in tally.rows)
        return cls({n: np.concatenate([t.rows[n] for t in tallies if n in t.rows]) for n in names})


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error."""

    value: float
    error: float
    n: int
    """Samples behind it: sources, scenes, or pixels."""


# --- where things are -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ground:
    """Where on the science grid the truth allows which measure; boolean and float images ``(ny, nx)``."""

    fair: np.ndarray
    """Farther than `SATURATED_RADIUS` from saturated pixels of either image."""

    usable: np.ndarray
    """Fair and not marked as bad by the difference."""

    clean: np.ndarray
    """Neither saturated, nor in a given mask, nor in the border."""

    to_new: np.ndarray
    """Distance to the nearest new source, pixels."""

    @classmethod
    def of(cls, scene: Scene, bad: np.ndarray) -> Ground:
        """Work out the ground of a scene for a difference with these bad pixels."""
        saturated = scene.static + SKY >= SATURATION
        saturated |= _on_science_grid(scene, scene.reference.data >= SATURATION)
        known = scene.science.bad | _on_science_grid(scene, scene.reference.bad)
        fair = ~(_distance(saturated) <= SATURATED_RADIUS)
        for x, y in _saturated_beyond(scene):
            rows, columns = np.ogrid[: bad.shape[0], : bad.shape[1]]
            fair &= np.hypot(rows - y, columns - x) > SATURATED_RADIUS
        inner = np.zeros(bad.shape, bool)
        inner[BORDER:-BORDER, BORDER:-BORDER] = True
        new = np.zeros(bad.shape, bool)
        new[_pixels(scene.x, scene.y)] = True
        return cls(fair, fair & ~bad, ~saturated & ~known & inner, _distance(new))


def _saturated_beyond(scene: Scene) -> np.ndarray:
    """Return the positions of stars beyond the edge that would be saturated in either image, ``(n, 2)``."""
    ny, nx = scene.static.shape
    x, y = scene.star_x, scene.star_y
    outside = (x < -0.5) | (y < -0.5) | (x > nx - 0.5) | (y > ny - 0.5)
    science, reference = scene.scenario.science, scene.scenario.reference
    peak = max(optics_stamp(science, 15).max(), FLUX_SCALE * optics_stamp(reference, 15).max())
    return np.c_[x, y][outside & (scene.star_flux * peak + SKY >= SATURATION)]


def _on_science_grid(scene: Scene, where: np.ndarray) -> np.ndarray:
    """Return the science pixels on which marked pixels of the reference lie."""
    if not scene.scenario.resampled:
        return where
    y, x = np.nonzero(where)
    sky = scene.reference.wcs.all_pix2world(x, y, 0)
    x, y = (np.rint(p).astype(int) for p in scene.science.wcs.all_world2pix(*sky, 0))
    ny, nx = scene.science.shape
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    marked = np.zeros((ny, nx), bool)
    marked[y[inside], x[inside]] = True
    return marked


def _distance(where: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel to the nearest marked one; infinite where there is none."""
    if not where.any():
        return np.full(where.shape, np.inf, np.float32)
    return ndimage.distance_transform_edt(~where).astype(np.float32)


def _pixels(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels on which positions lie, for indexing."""
    return np.rint(y).astype(int), np.rint(x).astype(int)


# --- one scene ------------------------------------------------------------------------------------


def measure(
    scene: Scene,
    difference: Difference,
    candidates: pa.Table,
    expected: Expectation,
    *,
    rng: np.random.Generator | None = None,
) -> Tally:
    """Measure a difference of a scene.

    Parameters
    ----------
    scene
        The truth.

    difference
        Of its two images.

    candidates
        From `astrid_assets.science.detect` with a threshold of `THRESHOLD`.

    expected
        The chance of a detection.

    rng
        Of the blank places; one with a fixed seed by default.
    """
    rng = rng or np.random.default_rng(0)
    ground = Ground.of(scene, difference.bad)
    rows = _pulls(scene, difference, ground, rng)
    rows |= _score(scene, difference, ground)
    rows |= _false_positives(difference, candidates, ground)
    rows |= _detections(scene, difference, candidates, ground, expected)
    rows |= _bright(scene, difference, ground)
    rows["correlation"] = _neighbours(difference.data, _blank(scene, ground))
    clean = int(ground.clean.sum())
    rows["flagged"] = np.array([[(difference.bad & ground.clean).sum(), clean]], float)
    rows["pixels"] = np.array([[difference.bad.size]], float)
    return Tally(rows)


def _pulls(
    scene: Scene, difference: Difference, ground: Ground, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return (F - F_true) / sigma of forced photometry by bins of true S/N; and the fluxes of strong ones."""
    use = ground.usable[_pixels(scene.x, scene.y)]
    flux, error, _ = forced_flux(difference, scene.x[use], scene.y[use])
    truth = scene.flux[use]
    known = np.isfinite(flux) & (error > 0)
    flux, error, truth = flux[known], error[known], truth[known]
    snr, pull = truth / error, (flux - truth) / error
    rows = {f"pull/{name}": pull[(snr >= low) & (snr < high), None] for name, (low, high) in BINS.items()}
    strong = snr > FLUX_SNR
    rows["flux/true"] = np.c_[flux / truth - 1.0, snr**2][strong]
    x, y = _blank_places(scene, ground, rng)
    flux, error, _ = forced_flux(difference, x, y)
    known = np.isfinite(flux) & (error > 0)
    return {"pull/0": (flux / np.where(known, error, 1.0))[known, None], **rows}


def _blank_places(scene: Scene, ground: Ground, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw places with nothing new nearby and little static light."""
    ny, nx = scene.static.shape
    n = max(50, round(BLANK_PER_MPIX * nx * ny / 1e6))
    x, y = rng.uniform(BORDER, [[nx - 1 - BORDER], [ny - 1 - BORDER]], (2, n))
    at = _pixels(x, y)
    sigma = np.sqrt(scene.sky_variance[0])
    good = ground.usable[at] & (ground.to_new[at] >= BLANK_DISTANCE) & (scene.static[at] < LIT * sigma)
    return x[good], y[good]


def _blank(scene: Scene, ground: Ground) -> np.ndarray:
    """Return the usable pixels without static light, away from what is new."""
    dark = scene.static < DARK * np.sqrt(scene.sky_variance[0])
    return dark & ground.usable & (ground.to_new > SCORE_DISTANCE)


def _score(scene: Scene, difference: Difference, ground: Ground) -> dict[str, np.ndarray]:
    """Return sums of S_corr over blocks of blank sky and of static sources, also by reference phase."""
    score = np.nan_to_num(difference.score_corrected)
    lit = scene.static > LIT * np.sqrt(scene.sky_variance[0])
    places = {
        "blank": _blank(scene, ground),
        "static": lit & ground.usable & (ground.to_new > SCORE_DISTANCE),
    }
    rows = {f"score/{name}": _blocks(where, score) for name, where in places.items()}
    if scene.scenario.resampled:
        for axis, phase in zip("xy", _phases(scene), strict=True):
            quarter = np.floor(4.0 * ((phase + 0.125) % 1.0)).astype(int)
            for name, where in places.items():
                rows |= {f"score/{name}/{axis}{q}": _blocks(where & (quarter == q), score) for q in range(4)}
    return rows


def _phases(scene: Scene) -> Iterator[np.ndarray]:
    """Yield where each science pixel lies on the pixels of the reference in x, then in y; 0 is a centre."""
    ny, nx = scene.static.shape
    ys, xs = (np.append(np.arange(0, n - 1, COARSE), n - 1) for n in (ny, nx))
    grid_x, grid_y = np.meshgrid(xs, ys)
    sky = scene.science.wcs.all_pix2world(grid_x.ravel(), grid_y.ravel(), 0)
    for values in scene.reference.wcs.all_world2pix(*sky, 0, tolerance=1e-6):
        coarse = np.reshape(values, grid_x.shape)
        across = np.array([np.interp(np.arange(nx), xs, row) for row in coarse])
        yield np.array([np.interp(np.arange(ny), ys, column) for column in across.T]).T


def _blocks(where: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return number, sum and sum of squares of the chosen values of each block that has any, ``(n, 3)``."""
    chosen = np.where(where, values, 0.0).astype(float)
    sums = np.stack([_block_sums(p) for p in (where.astype(float), chosen, chosen**2)], axis=-1)
    return sums[sums[:, 0] > 0]


def _block_sums(image: np.ndarray) -> np.ndarray:
    """Return the sums over the blocks of an image, ``(n,)``."""
    starts = [np.arange(0, n, BLOCK) for n in image.shape]
    return np.add.reduceat(np.add.reduceat(image, starts[0], axis=0), starts[1], axis=1).ravel()


def _false_positives(difference: Difference, candidates: pa.Table, ground: Ground) -> dict[str, np.ndarray]:
    """Return area in Mpix and numbers of false extrema of S_corr and of false candidates, each sign."""
    allowed = ground.usable & (ground.to_new > PEAK_DISTANCE)
    area = allowed.sum() / 1e6
    score = np.nan_to_num(difference.score_corrected)
    peaks = [(_maxima(sign * score, THRESHOLD) & allowed).sum() for sign in (1, -1)]
    x, y, positive, artifact = (candidates[c].to_numpy() for c in ("x", "y", "positive", "artifact"))
    ny, nx = allowed.shape
    at = tuple(np.clip(p, 0, n - 1) for p, n in zip(_pixels(x, y), (ny, nx), strict=True))
    kept = allowed[at] & (artifact == "")
    rows = [(kept & positive).sum(), (kept & ~positive).sum()]
    return {"false": np.array([[area, *peaks, *rows]], float)}


def _maxima(score: np.ndarray, threshold: float) -> np.ndarray:
    """Return the local maxima of an image beyond a threshold."""
    return (score >= threshold) & (score >= ndimage.maximum_filter(score, 3, mode="nearest"))


def _detections(
    scene: Scene, difference: Difference, candidates: pa.Table, ground: Ground, expected: Expectation
) -> dict[str, np.ndarray]:
    """Return what was detected beside what was expected; positions and fluxes of what was detected."""
    at = _pixels(scene.x, scene.y)
    error = difference.flux_error[at].astype(float)
    use = ground.usable[at] & np.isfinite(error) & (error > 0)
    x, y, flux, host = (a[use] for a in (scene.x, scene.y, scene.flux, scene.on_host))
    snr = flux / error[use]
    index = _match(x, y, candidates)
    found = index >= 0
    theirs = {c: candidates[c].to_numpy()[index[found]] for c in ("x", "y", "flux", "artifact")}
    kept = found.copy()
    kept[found] = theirs["artifact"] == ""
    rows = np.c_[found, expected.at(snr), kept].astype(float)
    strong, well = snr[found] > FLUX_SNR, snr[found] > POSITION_SNR
    return {
        "found": rows[~host],
        "found/host": rows[host],
        "flux/found": np.c_[theirs["flux"] / flux[found] - 1.0, snr[found] ** 2][strong],
        "position": np.c_[theirs["x"] - x[found], theirs["y"] - y[found], snr[found]][well],
    }


def _match(x: np.ndarray, y: np.ndarray, candidates: pa.Table) -> np.ndarray:
    """Return the nearest positive candidate of each position, -1 where none is near."""
    rows = np.flatnonzero(candidates["positive"].to_numpy())
    if not len(rows):
        return np.full(len(x), -1)
    places = np.c_[candidates["x"].to_numpy(), candidates["y"].to_numpy()][rows]
    away, nearest = cKDTree(places).query(np.c_[x, y])
    return np.where(away <= SEARCH_RADIUS, rows[nearest], -1)


def _bright(scene: Scene, difference: Difference, ground: Ground) -> dict[str, np.ndarray]:
    """Return sum |D| in 7 x 7 pixels over the flux of bright stars that are saturated in neither image."""
    ny, nx = scene.static.shape
    x, y = scene.star_x, scene.star_y
    inside = (x > BORDER) & (x < nx - 1 - BORDER) & (y > BORDER) & (y < ny - 1 - BORDER)
    bright = np.flatnonzero(inside & (scene.star_flux >= BRIGHT_FLUX))
    at = _pixels(x[bright], y[bright])
    # a dead column through a star is no fault of the subtraction
    whole = ndimage.minimum_filter(ground.clean & ~difference.bad, 7)
    bright = bright[(ground.fair & whole & (ground.to_new > BRIGHT_DISTANCE))[at]]
    rows, columns = _pixels(x[bright], y[bright])
    grid = np.arange(-3, 4)
    stamps = difference.data[rows[:, None, None] + grid[:, None], columns[:, None, None] + grid]
    return {"bright": (np.abs(stamps).sum(axis=(1, 2), dtype=float) / scene.star_flux[bright])[:, None]}


def _neighbours(data: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """Return sums of products of neighbours and of squares over blocks of blank pixels, ``(n, 4)``."""
    data = np.where(blank, np.nan_to_num(data), 0.0).astype(float)
    data = np.where(blank, data - data[blank].mean() if blank.any() else 0.0, 0.0)
    # both pixels of a product are blank; all planes have the same shape
    product = data[:-1, :-1] * data[:-1, 1:] + data[:-1, :-1] * data[1:, :-1]
    pairs = (blank[:-1, :-1] & blank[:-1, 1:]).astype(float) + (blank[:-1, :-1] & blank[1:, :-1])
    planes = (product, pairs, data[:-1, :-1] ** 2, blank[:-1, :-1].astype(float))
    sums = np.stack([_block_sums(p) for p in planes], axis=-1)
    return sums[sums[:, 3] > 0]


# --- from samples to numbers ----------------------------------------------------------------------


def summarize(tally: Tally) -> dict[str, Estimate]:
    """Return every number of some pooled scenes; what has too few samples is left out."""
    rows = tally.rows
    numbers: dict[str, Estimate] = {}
    for name, values in rows.items():
        kind = name.split("/")[0]
        if kind == "pull" and len(values) > 3:
            numbers |= {
                f"{name}/{k}": e for k, e in zip(("mean", "std"), _moments(values[:, 0]), strict=True)
            }
        elif kind == "score" and len(values) > 3:
            numbers[name] = _block_std(values)
        elif kind == "found" and len(values):
            numbers |= _ratios(name, values)
        elif kind == "flux" and len(values) > 3:
            numbers[name] = _weighted_mean(values)
    if len(rows["position"]) > 3:
        numbers["position"] = _position(rows["position"])
    if len(rows["bright"]) > 3:
        numbers["bright"] = _median(rows["bright"][:, 0])
    if len(rows["correlation"]) > 3:
        numbers["correlation"] = _correlation(rows["correlation"])
    return numbers | _false(rows["false"]) | _flagged(rows["flagged"])


def _moments(values: np.ndarray) -> tuple[Estimate, Estimate]:
    """Return mean and standard deviation with their errors; that of the latter by the kurtosis found."""
    n, std = len(values), values.std(ddof=1)
    fourth = ((values - values.mean()) ** 4).mean()
    spread = np.sqrt(max(fourth - std**4, 0.0) / n) / (2 * std)
    return Estimate(values.mean(), std / np.sqrt(n), n), Estimate(std, spread, n)


def _block_std(sums: np.ndarray) -> Estimate:
    """Return the standard deviation of pixels, its error from the scatter of the blocks."""
    n, first, second = sums.sum(axis=0)
    mean = first / n
    variance = second / n - mean**2
    excess = sums[:, 2] - 2 * mean * sums[:, 1] + (mean**2 - variance) * sums[:, 0]
    std = np.sqrt(variance)
    return Estimate(std, np.sqrt((excess**2).sum()) / n / (2 * std), int(n))


def _ratios(name: str, rows: np.ndarray) -> Mapping[str, Estimate]:
    """Return detections over their expectation: of all candidates, and of those without a flag."""
    total = rows[:, 1].sum()
    error = np.sqrt((rows[:, 1] * (1 - rows[:, 1])).sum() + 0.25) / total
    kept = rows[:, 2].sum() / total
    return {
        name: Estimate(rows[:, 0].sum() / total, error, len(rows)),
        name.replace("found", "kept"): Estimate(kept, error, len(rows)),
    }


def _weighted_mean(rows: np.ndarray) -> Estimate:
    """Return a mean weighted by the second column, its error from the scatter."""
    values, weight = rows.T
    mean = (weight * values).sum() / weight.sum()
    return Estimate(mean, np.sqrt((weight**2 * (values - mean) ** 2).sum()) / weight.sum(), len(rows))


def _position(rows: np.ndarray) -> Estimate:
    """Return the root of the mean squared distance from the truth, for sources of uniform S/N.

    Rows hold dx, dy and the S/N, which scenes draw uniform in its logarithm: a weight of S/N turns
    that into the uniform distribution for which the published yardsticks hold (0.12 pixels).
    """
    dx, dy, snr = rows.T
    square = _weighted_mean(np.c_[dx**2 + dy**2, snr])
    root = np.sqrt(square.value)
    return Estimate(root, square.error / (2 * root), len(rows))


def _median(values: np.ndarray) -> Estimate:
    """Return the median; its error from the order statistics one sigma away."""
    n = len(values)
    low, high = np.quantile(values, np.clip(0.5 + np.array([-0.5, 0.5]) / np.sqrt(n), 0, 1))
    return Estimate(np.median(values), (high - low) / 2, n)


def _correlation(sums: np.ndarray) -> Estimate:
    """Return the mean correlation of a blank pixel with its neighbours along both axes."""
    product, pairs, square, n = sums.T
    variance = square.sum() / n.sum()
    value = product.sum() / pairs.sum() / variance
    excess = product - value * variance * pairs
    error = np.sqrt((excess**2).sum()) / pairs.sum() / variance
    return Estimate(value, error, int(n.sum()))


def _false(rows: np.ndarray) -> dict[str, Estimate]:
    """Return false extrema, and false candidates without a flag, per Mpix and sign; Poisson errors."""
    area, *counts = rows.sum(axis=0)
    names = ("false/positive", "false/negative", "false_kept/positive", "false_kept/negative")
    return {
        name: Estimate(count / area, np.sqrt(max(count, 1.0)) / area, int(count))
        for name, count in zip(names, counts, strict=True)
        if area > 0
    }


def _flagged(rows: np.ndarray) -> dict[str, Estimate]:
    """Return the share of clean pixels that are marked as bad; its error from the scatter of scenes."""
    marked, clean = rows.T
    share = marked.sum() / clean.sum()
    error = np.sqrt(((marked - share * clean) ** 2).sum()) / clean.sum()
    return {"flagged": Estimate(share, error, len(rows))}
