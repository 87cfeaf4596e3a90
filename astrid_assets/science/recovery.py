"""What became of true sources: found, lost and why; their flux measured where they truly are.

The definitions are those of the scoring of the simulated survey, which uses them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from astrid_assets.images.masks import BAD_BITS, bits
from astrid_assets.science.forced import forced_flux
from astrid_assets.science.injection import Source, source_stamp

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.images.pairs import Difference
    from astrid_assets.images.psf import Psf

__all__ = [
    "CLEAN",
    "EDGE",
    "EDGE_BITS",
    "HALO_BITS",
    "MASKED",
    "Truth",
    "count_changes",
    "in_clean_run",
    "match",
    "match_radius",
    "on_artifacts",
    "place_of",
    "recover",
    "trail_response",
    "wilson",
]

_MATCH = 0.75
"""Distance in FWHM within which a detection and a truth are the same; at least 2 pixels."""

EDGE_BITS = bits("EDGE", "NO_DATA", "REF_EDGE", "REF_NO_DATA")
"""Planes where an image ends."""

HALO_BITS = bits("NEAR_BRIGHT_STAR")
"""Planes of the halo of a bright star."""

CLEAN, MASKED, EDGE = "clean", "masked", "edge"
"""Places that a true source may have."""


def match_radius(fwhm: float) -> float:
    """Return the distance within which a detection and a truth are the same, pixels.

    Parameters
    ----------
    fwhm
        FWHM of the PSF of the difference, pixels.
    """
    return max(2.0, _MATCH * fwhm)


def place_of(mask: np.ndarray, x: float, y: float, *, caused: np.ndarray | None = None) -> str:
    """Return what a difference image is like at a place.

    Parameters
    ----------
    mask
        Bit planes of the difference.

    x, y
        Position, pixels.

    caused
        Boolean image of where a mask has a true cause; everywhere if None.

    Returns
    -------
    str
        `EDGE` where within one pixel an image ends or has no data, `MASKED` where a pixel is bad for a
        cause, or lies in the halo of a bright star, `CLEAN` everywhere else.
    """
    row, column = round(y), round(x)
    around = np.s_[max(row - 1, 0) : max(row + 2, 0), max(column - 1, 0) : max(column + 2, 0)]
    near = mask[around]
    if near.size < 9 or (near & EDGE_BITS).any():
        return EDGE
    bad = (near & BAD_BITS) != 0
    if caused is not None:
        bad &= caused[around]
    # a halo always has a true cause, a bright star
    return MASKED if bad.any() or (near & HALO_BITS).any() else CLEAN


@dataclass(frozen=True, eq=False)
class Truth:
    """True sources: arrays ``(n,)``."""

    x: np.ndarray
    """Column, pixels; the middle of a trail."""

    y: np.ndarray
    """Row."""

    flux: np.ndarray
    """Signed, image unit."""

    length: np.ndarray
    """Length of a trail, pixels; 0 for a point."""

    @classmethod
    def of(cls, sources: Sequence[Source]) -> Truth:
        """Return the truth about injected sources."""
        columns = np.array([(s.x, s.y, s.flux, np.hypot(s.length_x, s.length_y)) for s in sources])
        return cls(*columns.reshape(-1, 4).T)


def match(truth: Truth, table: pa.Table, radius: float) -> np.ndarray:
    """Match true sources and detections one to one.

    Within the radius (trails: from any place of it) and of the same sign; the nearest pairs first,
    detections that are not flagged before those that are.

    Parameters
    ----------
    truth
        True sources.

    table
        Candidates.

    radius
        From `match_radius`.

    Returns
    -------
    numpy.ndarray
        Row of the detection of each true source, -1 without one.
    """
    from scipy.optimize import linear_sum_assignment

    found = _Detections.of(table)
    result = np.full(len(truth.x), -1)
    if not len(found.x) or not len(truth.x):
        return result
    distance = np.hypot(truth.x[:, None] - found.x, truth.y[:, None] - found.y)
    reach = radius + truth.length[:, None] / 2
    possible = (distance <= reach) & ((truth.flux > 0)[:, None] == found.positive)
    # any pair is better than none, a kept detection better than a flagged one
    cost = np.where(possible, distance / reach + np.where(found.kept, 0.0, 2.0), 1e3)
    rows, columns = linear_sum_assignment(cost)
    good = possible[rows, columns]
    result[rows[good]] = columns[good]
    return result


@dataclass(frozen=True, eq=False)
class _Detections:
    x: np.ndarray
    y: np.ndarray
    snr: np.ndarray
    positive: np.ndarray
    kept: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> _Detections:
        x, y, snr, positive = (
            table.column(n).to_numpy(zero_copy_only=False) for n in ("x", "y", "snr", "positive")
        )
        kept = np.array([not reason for reason in table.column("artifact").to_pylist()], bool)
        return cls(x, y, snr, positive.astype(bool), kept)


def in_clean_run(table: pa.Table, clean: pa.Table, radius: float) -> np.ndarray:
    """Return which detections of a run with injections are there without them as well.

    Parameters
    ----------
    table, clean
        Candidates of both runs.

    radius
        From `match_radius`.

    Returns
    -------
    numpy.ndarray
        True where the run without injections has a detection within the radius, of the same sign and at
        least half as significant; for one that is not flagged, it is not flagged either.
    """
    ours, before = _Detections.of(table), _Detections.of(clean)
    result = np.zeros(len(ours.x), bool)
    if not len(ours.x) or not len(before.x):
        return result
    near = cKDTree(np.c_[before.x, before.y]).query_ball_point(np.c_[ours.x, ours.y], radius)
    for i, others in enumerate(near):
        j = np.array(others, int)
        same = (before.positive[j] == ours.positive[i]) & (before.snr[j] >= 0.5 * ours.snr[i])
        result[i] = bool((same & (before.kept[j] | ~ours.kept[i])).any())
    return result


def trail_response(psf: Psf, length_x: float, length_y: float) -> float:
    """Return the peak of a trail behind the matched filter, over that of a point of the same flux.

    Parameters
    ----------
    psf
        PSF of the difference.

    length_x, length_y
        How far the source moved, pixels.
    """
    if not (length_x or length_y):
        return 1.0
    ny, nx = psf.image_shape
    middle = Source("", (nx - 1) // 2, (ny - 1) // 2, 1.0)
    point = source_stamp(psf, middle)
    trail = source_stamp(psf, replace(middle, length_x=length_x, length_y=length_y))
    cut = [(t - p) // 2 for t, p in zip(trail.shape, point.shape, strict=True)]
    inner = trail[cut[0] : cut[0] + point.shape[0], cut[1] : cut[1] + point.shape[1]]
    return float((point * inner).sum() / (point**2).sum())


def recover(
    truth: Truth, difference: Difference, table: pa.Table, *, clean: Difference, clean_table: pa.Table
) -> dict[str, np.ndarray]:
    """Tell of each true source what became of it.

    Parameters
    ----------
    truth
        The sources that were put in.

    difference, table
        Difference and candidates of the run with them.

    clean, clean_table
        The same of the run without them. The place of a source is judged by the mask of that difference:
        a source that gets itself masked is a source lost.

    Returns
    -------
    dict
        Arrays ``(n,)``: ``clean`` (bool), ``flux_before`` (forced flux at the true place in the run without
        them), ``flux_forced`` and ``flux_forced_error`` (in the run with them),
        ``detected``, ``found`` (detected and not flagged; what the other run has as well counts as
        neither), ``row`` (of the matched candidate, -1), ``separation`` (pixels), ``flux_recovered``,
        ``flux_error``, ``snr_recovered`` (of that candidate) and ``drop_reason``: empty, edge, masked,
        below_threshold, blended, in_clean_run or flagged:<artifact>.
    """
    radius = match_radius(difference.psf.fwhm)
    rows = match(truth, table, radius)
    matched, row = rows >= 0, np.maximum(rows, 0)
    again = in_clean_run(table, clean_table, radius)
    before = _at(again, row, matched, False)
    artifact = _at(np.array(table.column("artifact").to_pylist(), object), row, matched, "")
    places = np.array([place_of(clean.mask, x, y) for x, y in zip(truth.x, truth.y, strict=True)], object)
    detected = matched & ~before
    found = detected & (artifact == "")
    forced, forced_error = _forced(difference, truth.x, truth.y)
    measured = {
        name: _at(table.column(source).to_numpy(), row, matched, np.nan).astype(float)
        for name, source in (
            ("flux_recovered", "flux"),
            ("flux_error", "flux_error"),
            ("snr_recovered", "snr"),
            ("_x", "x"),
            ("_y", "y"),
        )
    }
    separation = np.hypot(measured.pop("_x") - truth.x, measured.pop("_y") - truth.y)
    reasons = _drop_reasons(truth, table, radius, places, found, detected, before, artifact)
    return {
        "clean": places == CLEAN,
        "flux_before": _forced(clean, truth.x, truth.y)[0],
        "flux_forced": forced,
        "flux_forced_error": forced_error,
        "detected": detected,
        "found": found,
        "row": rows,
        "separation": separation,
        **measured,
        "drop_reason": reasons,
    }


def on_artifacts(table: pa.Table, defects: Sequence[Mapping[str, Any]], radius: float) -> np.ndarray:
    """Return for each detection the defect whose pixels it lies on, -1 where there is none.

    Parameters
    ----------
    table
        Candidates.

    defects
        Rows with ``x, y, x_end, y_end`` (a line, or twice a point) and ``extent`` (pixels around it).

    radius
        From `match_radius`: how far beyond its pixels a defect is detected.
    """
    found = _Detections.of(table)
    distance = np.full((len(found.x), len(defects) + 1), np.inf)
    for j, defect in enumerate(defects):
        off = _from_line(found.x, found.y, defect) - defect["extent"]
        distance[:, j] = np.where(off <= radius, off, np.inf)
    nearest = distance.argmin(axis=1)
    return np.where(np.isfinite(distance[np.arange(len(nearest)), nearest]), nearest, -1)


def _from_line(x: np.ndarray, y: np.ndarray, line: Mapping[str, Any]) -> np.ndarray:
    dx, dy = line["x_end"] - line["x"], line["y_end"] - line["y"]
    square = dx * dx + dy * dy
    along = ((x - line["x"]) * dx + (y - line["y"]) * dy) / square if square > 0 else np.zeros(len(x))
    along = np.clip(along, 0.0, 1.0)
    return np.hypot(x - line["x"] - along * dx, y - line["y"] - along * dy)


def _forced(difference: Difference, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return fluxes and errors at the true places; NaN beyond the image."""
    ny, nx = difference.shape
    inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    flux, error = np.full(len(x), np.nan), np.full(len(x), np.nan)
    if inside.any():
        flux[inside], error[inside], _ = forced_flux(difference, x[inside], y[inside])
    return flux, error


def _at(values: np.ndarray, row: np.ndarray, matched: np.ndarray, missing: Any) -> np.ndarray:
    """Return the values of matched candidates."""
    if not len(values):
        return np.full(len(row), missing)
    return np.where(matched, values[row], missing)


def _drop_reasons(
    truth: Truth,
    table: pa.Table,
    radius: float,
    places: np.ndarray,
    found: np.ndarray,
    detected: np.ndarray,
    before: np.ndarray,
    artifact: np.ndarray,
) -> np.ndarray:
    found_there = _Detections.of(table)
    reasons = np.full(len(truth.x), "", object)
    for i in np.flatnonzero(~found):
        if places[i] != CLEAN:
            reasons[i] = places[i]
        elif before[i]:
            reasons[i] = "in_clean_run"
        elif detected[i]:
            reasons[i] = f"flagged:{artifact[i]}"
        else:
            distance = np.hypot(found_there.x - truth.x[i], found_there.y - truth.y[i])
            reasons[i] = "blended" if (distance < 2.0 * radius).any() else "below_threshold"
    return reasons


_PLANES = ("data", "variance", "mask", "score", "score_corrected", "flux", "flux_error")


def count_changes(difference: Difference, table: pa.Table, before: Difference, before_table: pa.Table) -> int:
    """Count pixels and candidates that are not the same bits in two runs of an exposure.

    Parameters
    ----------
    difference, table
        Difference and candidates of one run.

    before, before_table
        Those of the other; columns that only one table has do not count.
    """
    count = 0
    for name in _PLANES:
        ours, theirs = getattr(difference, name), getattr(before, name)
        count += int(np.count_nonzero(~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))))
    names = [name for name in table.column_names if name in before_table.column_names]
    same = table.select(names).equals(before_table.select(names))
    return count if same else count + max(table.num_rows, before_table.num_rows)


def wilson(count: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927, JASA 22, 209, eq. for the score test).

    Parameters
    ----------
    count, total
        Successes and trials; (0, 1) for no trials.

    z
        Half-width in standard deviations; 1.96 for 95 %.
    """
    if total == 0:
        return 0.0, 1.0
    share = count / total
    centre = share + z**2 / (2 * total)
    spread = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return float(max((centre - spread) / scale, 0.0)), float(min((centre + spread) / scale, 1.0))
