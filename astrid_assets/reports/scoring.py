"""Scoring a run against the truth of the simulated survey.

What counts is strict. A transient is found if a candidate of its sign, not flagged as an
artefact, lies within `match_radius` of its true place. It is *edge* where one of the images has no data,
*masked* where a bad pixel within one pixel of it has a true cause (dirt of the truth table,
saturation), and *clean* everywhere else: a pixel masked without cause is a transient lost.
A candidate that is not flagged is explained only by a true change of its sign (transient,
variable star, asteroid, or a star that moved) that should reach 2 sigma; dirt does not explain
it, a detection on dirt has to be flagged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.images.masks import BAD_BITS, bits
from astrid_assets.reports.truth import (
    Defect,
    Moved,
    TrueChange,
    brightest_near,
    changes_of,
    defects_of,
    moved_stars,
)
from astrid_assets.science.recovery import EDGE_BITS, HALO_BITS, match_radius, place_of, wilson

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.storage import Store

__all__ = [
    "WORKING_POINT",
    "ExposureScore",
    "FieldScore",
    "Searched",
    "Verdict",
    "report",
    "score",
    "score_exposure",
    "score_field",
    "summarise",
    "wilson",
]

_EXPLAINS = 2.0
"""Least true significance of a change that may explain a detection above 5 sigma."""

_SPREAD = 4.0
"""Pixels around dirt in which a mask counts as caused by it (masks are grown by the PSF)."""

WORKING_POINT = 10.0
"""Significance from which a clean transient has to be found."""

_FULL = bits("SATURATED", "BLEED", "REF_SATURATED", "REF_BLEED")


@dataclass(frozen=True, eq=False)
class Searched:
    """What scoring needs of a difference image."""

    mask: np.ndarray
    """Bit planes, int32 ``(ny, nx)``."""

    flux_error: np.ndarray
    """1-sigma error of the flux of a point source on each pixel."""

    fwhm: float
    """FWHM of the PSF of the difference, pixels."""

    pixel_scale: float
    """Arcsec per pixel."""


@dataclass(frozen=True)
class Verdict:
    """What became of a true change."""

    change: TrueChange
    """The change."""

    snr: float
    """Its true significance, signed."""

    place: str
    """``clean``, ``masked`` or ``edge``."""

    found: bool
    """Whether a candidate stands for it."""

    flagged: str | None
    """Reason of the artefact flag of a detection at its place, where that is why it was not found."""


@dataclass(frozen=True)
class ExposureScore:
    """Truth and findings of one difference."""

    exposure_id: str
    """Name."""

    verdicts: tuple[Verdict, ...]
    """One for each true change inside the image."""

    unexplained: tuple[dict[str, Any], ...]
    """Candidates without a cause: ``x, y, snr, positive, on_dirt, near`` (brightest object around it)."""

    searched_mpix: float
    """Pixels that were searched (not bad), in millions."""

    dirt: dict[str, Counter[str]]
    """By kind, how many pieces ended ``masked``, ``flagged``, ``harmless`` (no detection) or ``missed``."""

    clean_pixels: int
    """Pixels with data and without dirt."""

    flagged_pixels: int
    """Those of them that are masked nevertheless, or lie in the halo of a bright star."""


@dataclass(frozen=True)
class FieldScore:
    """Scores of the exposures of a field, and what became of broken files."""

    sky_field: str
    """Name."""

    exposures: tuple[ExposureScore, ...]
    """Exposures that were searched for candidates."""

    corrupt: int = 0
    """Broken files that the survey offered."""

    corrupt_stopped: int = 0
    """Those that ended rejected, failed or quarantined."""

    states: dict[str, str] = field(default_factory=dict)
    """Last state of each exposure that was not searched."""


def score(sky_fields: Iterable[str], *, store: Store | None = None) -> dict[str, Any]:
    """Score the fields of a finished run: the numbers of the demo's last line.

    Parameters
    ----------
    sky_fields
        Names of fields of the simulated survey.

    store
        Where the results lie; the default place if None.
    """
    from astrid_assets.compute import run_exposures
    from astrid_assets.storage import Store

    names = list(sky_fields)
    outcomes = list(run_exposures(partial(score_field, store or Store()), names))
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    # as they were asked for, not as they came
    scores = {outcome.task: outcome.result for outcome in outcomes}
    return summarise([scores[name] for name in names])


def score_field(store: Store, sky_field: str) -> FieldScore:
    """Score all exposures of a field whose candidates are there.

    Parameters
    ----------
    store
        Where the results lie.

    sky_field
        Name of a field of the simulated survey.
    """
    rows = {asset: _rows(store, asset, sky_field) for asset in _CHAIN}
    truths = {name: _truth_path(row) for name, row in rows["references"].items()}
    exposures = []
    for name, row in rows["candidates"].items():
        paths = _truth_path(rows["science_images"][name]), truths.get(row["reference_id"])
        if row["state"] not in ("ok", "empty") or None in paths:
            continue
        science, reference = (store.read_table(path) for path in paths)
        difference = _searched(store, rows["zogy_differences"][name]["path"])
        table = store.read_table(row["path"])
        exposures.append(score_exposure(name, science, reference, difference, table))
    searched = {exposure.exposure_id for exposure in exposures}
    states = {n: s for n, s in _last_states(rows).items() if n not in searched}
    corrupt = {name for name in rows["science_images"] if _is_corrupt(store, rows["science_images"][name])}
    return FieldScore(sky_field, tuple(exposures), len(corrupt), len(corrupt - searched), states)


def score_exposure(
    exposure_id: str, science: pa.Table, reference: pa.Table, difference: Searched, table: pa.Table
) -> ExposureScore:
    """Compare the candidates of one difference with the truth.

    Parameters
    ----------
    exposure_id
        Name.

    science, reference
        Truth tables of both images.

    difference
        The searched image.

    table
        Candidates, from `astrid_assets.science.detect`.
    """
    shape = difference.mask.shape
    changes = [c for c in changes_of(science, reference) if _inside(c, shape)]
    moved = [m for m in moved_stars(science, reference, difference.pixel_scale) if _inside(m, shape)]
    defects = defects_of(science)
    dirty = _dirty(defects, difference.mask)
    found = _Detections.of(table, difference)
    verdicts = tuple(_judge_change(change, difference, dirty, found) for change in changes)
    unexplained = tuple(
        _unexplained_row(found, i, defects, science)
        for i in np.flatnonzero(~_explained(found, verdicts, moved, difference))
    )
    clean = ~dirty & ((difference.mask & EDGE_BITS) == 0)
    bad = (difference.mask & BAD_BITS) != 0
    return ExposureScore(
        exposure_id,
        verdicts,
        unexplained,
        float(np.count_nonzero(~bad)) / 1e6,
        _judge_dirt(defects, difference.mask, found, verdicts),
        int(np.count_nonzero(clean)),
        int(np.count_nonzero(clean & (bad | ((difference.mask & HALO_BITS) != 0)))),
    )


def summarise(fields: Sequence[FieldScore]) -> dict[str, Any]:
    """Return the demo's numbers: clean transients at the working point, false detections, dirt.

    ``false_per_mpix`` is that of the worse sign; ``dirt`` counts the pieces that left a mark (masked
    or detected) and the broken files.
    """
    whole = report(fields)
    clean = whole["transients"]["clean"]
    return {
        "transients": clean["n"],
        "transients_found": clean["found"],
        "false_per_mpix": max(whole["false_per_mpix"].values()),
        "dirt": whole["dirt"]["n"],
        "dirt_explained": whole["dirt"]["explained"],
    }


def report(fields: Sequence[FieldScore]) -> dict[str, Any]:
    """Return all that is known about a run, pooled over fields; shares with 95 % Wilson intervals."""
    exposures = [exposure for one in fields for exposure in one.exposures]
    verdicts = [v for e in exposures for v in e.verdicts if v.change.kind == "transient"]
    strong = [v for v in verdicts if abs(v.snr) >= WORKING_POINT]
    transients = {p: _share([v for v in strong if v.place == p]) for p in ("clean", "masked", "edge")}
    bins = ((3, 5), (5, 7), (7, 10), (10, 20), (20, 50), (50, np.inf))
    clean = [v for v in verdicts if v.place == "clean"]
    lost = Counter(v.flagged or "not detected" for v in strong if v.place == "clean" and not v.found)
    mpix = sum(e.searched_mpix for e in exposures)
    false = [one for e in exposures for one in e.unexplained]
    n_clean = sum(e.clean_pixels for e in exposures)
    return {
        "exposures": len(exposures),
        "transients": transients,
        "lost": dict(lost),
        "by_snr": {
            f"{low}-{high}": _share([v for v in clean if low <= abs(v.snr) < high]) for low, high in bins
        },
        "searched_mpix": round(mpix, 3),
        "false": {
            "positive": sum(one["positive"] for one in false),
            "negative": sum(not one["positive"] for one in false),
            "on_dirt": sum(bool(one["on_dirt"]) for one in false),
        },
        "false_per_mpix": {
            "positive": _ratio(sum(one["positive"] for one in false), mpix),
            "negative": _ratio(sum(not one["positive"] for one in false), mpix),
        },
        "flagged_share": _ratio(sum(e.flagged_pixels for e in exposures), n_clean, digits=5),
        "dirt": _dirt_report(fields),
        "not_searched": dict(Counter(state for one in fields for state in one.states.values())),
    }


# --- one difference -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Detections:
    """Columns of a candidate table, and how far from a truth they may lie."""

    x: np.ndarray
    y: np.ndarray
    snr: np.ndarray
    positive: np.ndarray
    reason: np.ndarray
    radius: float

    @classmethod
    def of(cls, table: pa.Table, difference: Searched) -> _Detections:
        x, y, snr, positive = (
            table.column(n).to_numpy(zero_copy_only=False) for n in ("x", "y", "snr", "positive")
        )
        reason = np.array(table.column("artifact").to_pylist(), object)
        return cls(x, y, snr, positive.astype(bool), reason, match_radius(difference.fwhm))

    @property
    def kept(self) -> np.ndarray:
        return self.reason == ""

    def near(self, x: float, y: float, reach: float = 0.0) -> np.ndarray:
        return np.hypot(self.x - x, self.y - y) <= self.radius + reach


def _inside(item: TrueChange | Moved, shape: tuple[int, int]) -> bool:
    return -0.5 <= item.x < shape[1] - 0.5 and -0.5 <= item.y < shape[0] - 0.5


def _dirty(defects: Sequence[Defect], mask: np.ndarray) -> np.ndarray:
    """Return where a mask has a true cause."""
    dirty = (mask & _FULL) != 0
    for defect in defects:
        dirty[defect.pixels(mask.shape, margin=_SPREAD)] = True
    return dirty


def _judge_change(change: TrueChange, difference: Searched, dirty: np.ndarray, found: _Detections) -> Verdict:
    y, x = round(change.y), round(change.x)
    snr = change.flux / float(difference.flux_error[y, x])
    place = place_of(difference.mask, change.x, change.y, caused=dirty)
    here = found.near(change.x, change.y, change.length / 2) & (found.positive == (change.flux > 0))
    hit = bool((here & found.kept).any())
    reasons = found.reason[here & ~found.kept]
    return Verdict(change, snr, place, hit, str(reasons[0]) if len(reasons) and not hit else None)


def _explained(
    found: _Detections, verdicts: Sequence[Verdict], moved: Sequence[Moved], difference: Searched
) -> np.ndarray:
    """Return which detections are flagged, or have a true change of their sign behind them."""
    explained = ~found.kept
    for v in verdicts:
        if abs(v.snr) >= _EXPLAINS:
            same = found.positive == (v.change.flux > 0)
            explained = explained | (found.near(v.change.x, v.change.y, v.change.length / 2) & same)
    for star in moved:
        if _lobe(star, difference) >= _EXPLAINS:
            explained = explained | found.near(star.x, star.y, difference.fwhm / 2)
    return explained


def _unexplained_row(
    found: _Detections, i: int, defects: Sequence[Defect], science: pa.Table
) -> dict[str, Any]:
    x, y = float(found.x[i]), float(found.y[i])
    on_dirt = [d.kind for d in defects if float(d.distance(np.asarray(x), np.asarray(y))) <= found.radius]
    return {
        "x": round(x, 1),
        "y": round(y, 1),
        "snr": round(float(found.snr[i]), 1),
        "positive": bool(found.positive[i]),
        "on_dirt": ", ".join(on_dirt),
        "near": brightest_near(science, x, y),
    }


def _lobe(star: Moved, difference: Searched) -> float:
    """Return the significance of either lobe of the dipole that a moved star leaves.

    The matched filter turns a Gaussian PSF of width s into one of width sqrt(2) s; the largest
    slope of that is exp(-1/2) / (sqrt(2) s) of its height a pixel.
    """
    error = float(difference.flux_error[round(star.y), round(star.x)])
    width = np.sqrt(2.0) * difference.fwhm / 2.3548
    return star.flux / error * np.exp(-0.5) * star.shift / width


def _judge_dirt(
    defects: Sequence[Defect], mask: np.ndarray, found: _Detections, verdicts: Sequence[Verdict]
) -> dict[str, Counter[str]]:
    """Tell of each piece of dirt in the image whether it was masked, flagged, harmless or missed."""
    real = np.zeros(len(found.x), bool)
    for v in verdicts:
        if abs(v.snr) >= _EXPLAINS:
            real |= found.near(v.change.x, v.change.y) & (found.positive == (v.change.flux > 0))
    outcomes: dict[str, Counter[str]] = {}
    for defect in defects:
        y, x = defect.pixels(mask.shape)
        if len(y):
            outcome = _outcome(defect, (mask[y, x] & BAD_BITS) != 0, found, real)
            outcomes.setdefault(defect.kind, Counter())[outcome] += 1
    return outcomes


def _outcome(defect: Defect, bad: np.ndarray, found: _Detections, real: np.ndarray) -> str:
    on_it = (defect.distance(found.x, found.y) <= found.radius) & ~real
    if (on_it & found.kept).any():
        return "missed"
    if bad.mean() >= 0.5:
        return "masked"
    return "flagged" if on_it.any() else "harmless"


# --- pooling --------------------------------------------------------------------------------------


def _share(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    found = sum(v.found for v in verdicts)
    low, high = wilson(found, len(verdicts))
    share = _ratio(found, len(verdicts), digits=4) if verdicts else None
    return {"n": len(verdicts), "found": found, "share": share, "wilson": [round(low, 4), round(high, 4)]}


def _ratio(count: float, total: float, *, digits: int = 3) -> float:
    return round(count / total, digits) if total else 0.0


def _dirt_report(fields: Sequence[FieldScore]) -> dict[str, Any]:
    """Pool the dirt; what left no mark at all counts neither as dirt nor as explained."""
    kinds: dict[str, Counter[str]] = {}
    for exposure in (e for one in fields for e in one.exposures):
        for kind, outcomes in exposure.dirt.items():
            kinds[kind] = kinds.get(kind, Counter()) + outcomes
    corrupt, stopped = (sum(getattr(f, name) for f in fields) for name in ("corrupt", "corrupt_stopped"))
    explained = stopped + sum(o["masked"] + o["flagged"] for o in kinds.values())
    missed = corrupt - stopped + sum(o["missed"] for o in kinds.values())
    return {
        "n": explained + missed,
        "explained": explained,
        "by_kind": {kind: dict(outcomes) for kind, outcomes in sorted(kinds.items())},
        "corrupt_files": {"n": corrupt, "stopped": stopped},
    }


# --- files of a run -------------------------------------------------------------------------------

_CHAIN = (
    "science_images",
    "references",
    "aligned_pairs",
    "normalized_pairs",
    "zogy_differences",
    "candidates",
)


def _rows(store: Store, asset: str, sky_field: str) -> dict[str, dict[str, Any]]:
    table = store.manifest(asset, sky_field)
    rows = [] if table is None else table.to_pylist()
    return {row["exposure_id"]: row for row in rows if row["state"] != "superseded"}


def _truth_path(row: dict[str, Any]) -> str | None:
    """Return the truth table among the files of a row; None for real data."""
    files = json.loads(row["files"] or "{}")
    return next((path for path in sorted(files) if path.endswith("truth.parquet")), None)


def _is_corrupt(store: Store, row: dict[str, Any]) -> bool:
    """Whether a file is broken: it never arrived whole, or its truth says so."""
    path = _truth_path(row)
    if path is None:
        return row["state"] in ("rejected", "failed")
    return "corrupt" in store.read_table(path).column("kind").to_pylist()


def _last_states(rows: dict[str, dict[str, dict[str, Any]]]) -> dict[str, str]:
    """Return how each science exposure ended in the last asset that it reached."""
    states: dict[str, str] = {}
    for asset in (name for name in _CHAIN if name != "references"):
        states |= {name: row["state"] for name, row in rows[asset].items()}
    return states


def _searched(store: Store, path: str) -> Searched:
    """Read what scoring needs of a difference, and no other plane."""
    from astropy.wcs.utils import proj_plane_pixel_area

    from astrid_assets.images import layout
    from astrid_assets.images.fits import open_fits

    with open_fits(store.path(path)) as hdus:
        meta = layout.read_meta(hdus, "difference")
        wcs = layout.decode_wcs(hdus, "SCI")
        return Searched(
            mask=layout.decode_mask(hdus, "MASK", meta["planes"]),
            flux_error=layout.read_plane(hdus, "FLUXERR"),
            fwhm=layout.decode_psf(hdus, "PSF", meta["psf"]).fwhm,
            pixel_scale=float(np.sqrt(proj_plane_pixel_area(wcs)) * 3600.0),
        )
