"""What is written about injections: the truth with what became of it, the detections, the numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.science.background import robust_std
from astrid_assets.science.efficiency import fit_efficiency
from astrid_assets.science.recovery import (
    Truth,
    in_clean_run,
    match_radius,
    on_artifacts,
    recover,
    trail_response,
    wilson,
)
from astrid_assets.science.stamps import choose_stamps
from astrid_assets.training.injection_columns import injection_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.images.pairs import AlignedPair, Difference
    from astrid_assets.science.injection_plan import Planned

__all__ = [
    "InjectedRun",
    "artifact_columns",
    "counted",
    "efficiency_metrics",
    "efficiency_table",
    "flux_pulls",
    "injection_metrics",
    "join_truth",
    "source_columns",
    "truth_table",
]


@dataclass(frozen=True, eq=False)
class InjectedRun:
    """An exposure with what was put in, taken through the same functions as the exposure itself."""

    planned: Sequence[Planned]
    """Sources, from `plan_injections`."""

    drawn: pa.Table
    """What `inject` says about them."""

    defects: Sequence[Mapping[str, Any]]
    """Rows of `add_artifacts`."""

    pair: AlignedPair
    """The normalized pair."""

    difference: Difference
    """Its difference."""

    table: pa.Table
    """Candidates, each with its ``candidate_id``, strongest first."""


def join_truth(
    run: InjectedRun,
    clean: Difference,
    clean_table: pa.Table,
    *,
    exposure: Mapping[str, Any],
    max_flagged: int,
) -> tuple[pa.Table, pa.Table]:
    """Join what was put in to what was found.

    Parameters
    ----------
    run
        The exposure with injections.

    clean, clean_table
        Difference and candidates of the exposure as it is.

    exposure
        Row of the exposure; the columns that identify it are taken over.

    max_flagged
        Most stamps of flagged detections that stand for no injection.

    Returns
    -------
    tuple of pyarrow.Table
        The truth (`INJECTION_COLUMNS`), and the detections with ``injection_id`` (empty for none),
        ``in_clean_run`` and ``stamp`` (number of the stamp to be cut, -1 for none).
    """
    radius = match_radius(run.difference.psf.fwhm)
    truth = Truth.of([p.source for p in run.planned])
    recovered = recover(truth, run.difference, run.table, clean=clean, clean_table=clean_table)
    before = in_clean_run(run.table, clean_table, radius)
    lying = on_artifacts(run.table, run.defects, radius)
    lying[before | np.isin(np.arange(len(lying)), recovered["row"])] = -1
    sources = source_columns(run, recovered, clean)
    defects = artifact_columns(exposure["exposure_id"], run, lying, clean)
    names = ("exposure_id", "reference_id", "survey", "band", "mjd_mid")
    shared = {name: exposure[name] for name in names}
    table = _concatenated(truth_table(shared | c, len(c["injection_id"])) for c in (sources, defects))
    ids = np.full(len(before), "", object)
    matched = recovered["row"] >= 0
    ids[recovered["row"][matched]] = np.array(sources["injection_id"], object)[matched]
    ids[lying >= 0] = np.array([*defects["injection_id"], ""], object)[lying[lying >= 0]]
    return table, _described(run.table, ids, before, max_flagged)


def _concatenated(tables: Iterable[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(tables)


def _described(table: pa.Table, ids: np.ndarray, before: np.ndarray, max_flagged: int) -> pa.Table:
    """Add to detections what they stand for, and a number to those that get a stamp.

    What stands for an injection gets one, and some of the other flagged ones, drawn by their names.
    """
    import pyarrow as pa

    ours = ids != ""
    flagged = np.array([bool(reason) for reason in table.column("artifact").to_pylist()], bool)
    others = np.flatnonzero(flagged & ~ours)
    names = table.column("candidate_id").to_pylist()
    some = choose_stamps([names[i] for i in others], np.ones(len(others), bool), max_flagged=max_flagged)
    chosen = np.union1d(np.flatnonzero(ours), others[some])
    stamp = np.full(len(names), -1, np.int32)
    stamp[chosen] = np.arange(len(chosen))
    columns = {
        "injection_id": (pa.array(ids.tolist(), pa.string()), "what it stands for; empty: no injection"),
        "in_clean_run": (pa.array(before), "the exposure as it is has it too"),
        "stamp": (pa.array(stamp), "row in the file of stamps; -1: none was cut"),
    }
    for name, (values, text) in columns.items():
        metadata = {"unit": "", "description": text}
        table = table.append_column(pa.field(name, values.type, metadata=metadata), values)
    return table


def truth_table(columns: Mapping[str, Any], n_rows: int) -> pa.Table:
    """Return a truth table; columns that are not given are null, scalars stand for all rows.

    Parameters
    ----------
    columns
        Values by name: arrays, lists or scalars. NaN becomes null.

    n_rows
        Number of rows.
    """
    import pyarrow as pa

    schema = injection_schema()
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        if values is None or np.ndim(values) == 0:
            values = [values] * n_rows
        arrays.append(pa.array(values, field.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=schema)


def source_columns(
    run: InjectedRun, recovered: Mapping[str, np.ndarray], clean: Difference
) -> dict[str, Any]:
    """Return the truth columns of injected sources.

    Parameters
    ----------
    run
        The exposure with injections.

    recovered
        From `recover`.

    clean
        Difference of the exposure as it is.
    """
    planned, drawn, ids = run.planned, run.drawn, run.table.column("candidate_id").to_pylist()
    columns = {name: drawn.column(name).to_pylist() for name in drawn.column_names}
    flux = np.array(columns["flux"], float)
    response = np.array(
        [trail_response(clean.psf, p.source.length_x, p.source.length_y) for p in planned], float
    )
    columns |= {
        "object_id": [p.object_id for p in planned],
        "host_id": [p.host_id for p in planned],
        "site": [p.site for p in planned],
        "kind": ["source"] * len(planned),
        "class": [p.kind for p in planned],
        "magnitude": _magnitudes(flux, clean),
        "injection_probability": [p.injection_probability for p in planned],
        "light_curve": [json.dumps(p.light_curve, sort_keys=True) for p in planned],
        "snr_expected": flux * response / _errors_at(clean, columns["x"], columns["y"]),
        "candidate_id": [ids[i] if i >= 0 else "" for i in recovered["row"]],
        "counted": counted(np.array([p.site for p in planned]), recovered["clean"], recovered["drop_reason"]),
    }
    columns |= {name: values for name, values in recovered.items() if name != "row"}
    return columns | _sky(clean, columns["x"], columns["y"])


def artifact_columns(
    exposure_id: str, run: InjectedRun, lying: np.ndarray, clean: Difference
) -> dict[str, Any]:
    """Return the truth columns of synthetic artefacts.

    Parameters
    ----------
    exposure_id
        Name of the exposure.

    run
        The exposure with injections.

    lying
        Defect that each detection lies on, -1 for none.

    clean
        Difference of the exposure as it is.
    """
    defects, found = run.defects, run.table
    n = len(defects)
    names = ("x", "y", "x_end", "y_end", "extent", "flux", "class", "site", "kind", "seed", "light_curve")
    columns: dict[str, Any] = {name: [d[name] for d in defects] for name in names}
    strongest = [next(iter(np.flatnonzero(lying == j)), -1) for j in range(n)]
    reasons, ids = (found.column(name).to_pylist() for name in ("artifact", "candidate_id"))
    kept = [any(not reasons[i] for i in np.flatnonzero(lying == j)) for j in range(n)]
    columns |= {
        "injection_id": [f"{exposure_id}-artifact-{j:03d}" for j in range(n)],
        "object_id": [f"artifact-{exposure_id}-{j:03d}" for j in range(n)],
        "host_id": [""] * n,
        "snr_expected": [d["significance"] for d in defects],
        "clean": np.zeros(n, bool),
        "counted": np.zeros(n, bool),
        "detected": [i >= 0 for i in strongest],
        "found": kept,
        "candidate_id": [ids[i] if i >= 0 else "" for i in strongest],
        "drop_reason": [
            "" if kept[j] else f"flagged:{reasons[i]}" if i >= 0 else "below_threshold"
            for j, i in enumerate(strongest)
        ],
    }
    return columns | _sky(clean, columns["x"], columns["y"])


def _magnitudes(flux: np.ndarray, clean: Difference) -> np.ndarray | None:
    if clean.zeropoint is None:
        return None
    return clean.zeropoint.magnitude - 2.5 * np.log10(np.where(flux != 0, np.abs(flux), np.nan))


def _errors_at(clean: Difference, x: Sequence[float], y: Sequence[float]) -> np.ndarray:
    """Return the flux errors at places; beyond the image those of the nearest pixel."""
    ny, nx = clean.shape
    column = np.clip(np.rint(np.array(x, float)).astype(int), 0, nx - 1)
    row = np.clip(np.rint(np.array(y, float)).astype(int), 0, ny - 1)
    return clean.flux_error[row, column].astype(float)


def _sky(clean: Difference, x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    if clean.wcs is None or not len(x):
        return {}
    ra, dec = clean.wcs.all_pix2world(np.array(x, float), np.array(y, float), 0)
    return {"ra": ra, "dec": dec}


# --- numbers --------------------------------------------------------------------------------------

_QUIET = 4.0
"""Significance of what is there without the injection above which a flux does not come back, sigma."""

_PULL_RANGE = (5.0, 100.0)
"""Significance of the sources whose scatter is compared with their errors: in brighter ones the PSF, which
is the same over a tile, decides and not the noise."""


def counted(site: np.ndarray, clean: np.ndarray, reason: np.ndarray) -> np.ndarray:
    """Return which sources count for completeness.

    New light of a point source on clean pixels, as the transients of the simulated survey: not the
    change of a star, which is seen or not by its share of that star, not a trail, and not where a
    detection was before.
    """
    return clean & ~np.isin(site, ("star", "trail", "artifact")) & (reason != "in_clean_run")


def injection_metrics(truth: pa.Table) -> dict[str, float]:
    """Return how well injected sources were found and measured, of an exposure or of a whole field.

    Parameters
    ----------
    truth
        Truth joined to recovery.

    Returns
    -------
    dict
        Metrics by name; NaN where there are too few sources. ``completeness_10`` is the share found of
        those that count with S/N of 10 or more; the values that are judged allow for the error of small
        numbers: ``..._high`` is the upper end of the 95 % interval, ``..._excess`` what is left of a
        deviation beyond twice its error.
    """
    column = {
        name: truth.column(name).to_numpy(zero_copy_only=False)
        for name in ("flux", "flux_forced", "snr_expected", "separation")
    }
    found, count = (np.array(truth.column(n).to_pylist(), bool) for n in ("found", "counted"))
    source = np.array([k == "source" for k in truth.column("kind").to_pylist()], bool)
    snr = np.abs(column["snr_expected"])
    metrics = {"n_injected": float(source.sum()), "n_counted": float(count.sum())}
    for name, low, high in (("10", 10.0, np.inf), ("10_20", 10.0, 20.0)):
        chosen = count & (snr >= low) & (snr < high)
        metrics |= _completeness(name, found[chosen])
    metrics |= _pull(flux_pulls(truth))
    off = column["flux_forced"] - column["flux"]
    bright = count & (snr >= 20.0) & np.isfinite(off)
    metrics |= _bias(off[bright & found] / column["flux"][bright & found])
    metrics["position_rms"] = _rms(column["separation"][bright & found])
    return metrics


def flux_pulls(truth: pa.Table) -> np.ndarray:
    """Return (measured - injected flux) / error at the true position of the sources that tell about errors.

    These are the sources that count, of S/N 5 to 100, where nothing shows without them, and whose pixels are
    their own: of a source that was taken for a cosmic ray only what was filled in could be measured.

    Parameters
    ----------
    truth
        Truth joined to recovery.
    """
    names = ("flux", "flux_before", "flux_forced", "flux_forced_error", "snr_expected")
    flux, before, forced, error, snr = (truth.column(n).to_numpy(zero_copy_only=False) for n in names)
    low, high = _PULL_RANGE
    chosen = np.array(truth.column("counted").to_pylist(), bool)
    chosen &= np.array([r != "flagged:masked" for r in truth.column("drop_reason").to_pylist()], bool)
    chosen &= (np.abs(before) < _QUIET * error) & (np.abs(snr) >= low) & (np.abs(snr) < high)
    pull = (forced - flux) / error
    return pull[chosen & np.isfinite(pull)]


def _completeness(name: str, found: np.ndarray) -> dict[str, float]:
    n, hits = len(found), int(found.sum())
    return {
        f"n_{name}": float(n),
        f"n_found_{name}": float(hits),
        f"completeness_{name}": hits / n if n else np.nan,
        f"completeness_{name}_high": wilson(hits, n)[1] if n else np.nan,
    }


def _pull(pull: np.ndarray) -> dict[str, float]:
    """Return mean and scatter of pulls, and what of the scatter the small number does not explain."""
    n = len(pull)
    if n < 5:
        return dict.fromkeys(("pull_mean", "pull_std", "pull_std_excess"), np.nan) | {"n_pull": float(n)}
    std = float(pull.std(ddof=1))
    # of n Gaussian numbers of unit width
    beyond = max(abs(std - 1.0) - 2.0 / np.sqrt(2.0 * (n - 1)), 0.0)
    return {
        "n_pull": float(n),
        "pull_mean": float(pull.mean()),
        "pull_std": std,
        "pull_std_excess": float(np.copysign(beyond, std - 1.0)),
    }


def _bias(relative: np.ndarray) -> dict[str, float]:
    """Return the median relative error of fluxes, and what is left of it beyond twice its own error."""
    if len(relative) < 5:
        return dict.fromkeys(("flux_bias", "flux_bias_excess"), np.nan)
    bias = float(np.median(relative))
    error = 1.2533 * robust_std(relative) / np.sqrt(len(relative))
    return {
        "flux_bias": bias,
        "flux_bias_excess": float(np.copysign(max(abs(bias) - 2.0 * error, 0.0), bias)),
    }


def _rms(separation: np.ndarray) -> float:
    """Return the root mean square of one coordinate."""
    return float(np.sqrt(np.mean(separation**2) / 2.0)) if len(separation) else np.nan


_FIT_COLUMNS = ("epsilon0", "m50", "width", "m90")


def efficiency_table(truth: pa.Table, *, n_bootstrap: int = 100) -> pa.Table:
    """Fit efficiency curves to the sources that count: all bands, then each band.

    Parameters
    ----------
    truth
        Truth rows of a field.

    n_bootstrap
        Resamplings of the exposures for the errors.

    Returns
    -------
    pyarrow.Table
        One row a sample: ``band`` (all, or its name), ``site`` (all, host or blank; of all bands), numbers
        of sources, found and exposures, ``epsilon0, m50, width, m90`` with ``_error`` each, ``m50_fleming``,
        and ``snr50`` with its error from the same fit in significance. Null where there are too few.
    """
    import pyarrow as pa

    table = truth.filter(truth.column("counted"))
    bands = np.array(table.column("band").to_pylist(), object)
    sites = np.array(table.column("site").to_pylist(), object)
    everything = np.ones(table.num_rows, bool)
    samples = [("all", "all", everything)]
    samples += [(str(b), "all", bands == b) for b in sorted({b for b in bands if b})]
    samples += [("all", s, sites == s) for s in ("host", "blank")]
    rows = [
        {"band": band, "site": site} | _fits(table.filter(pa.array(chosen)), f"{band}/{site}", n_bootstrap)
        for band, site, chosen in samples
    ]
    return pa.Table.from_pylist(rows, schema=_efficiency_schema())


def efficiency_metrics(fits: pa.Table) -> dict[str, float]:
    """Return the numbers of the curve of all bands that are judged.

    Parameters
    ----------
    fits
        From `efficiency_table`.

    Returns
    -------
    dict
        ``epsilon0``; ``epsilon0_high``, twice its error above it; ``m50_offset``, by how many magnitudes the
        curve falls later than at the 5 sigma limit (from the fit in significance). NaN without a fit.
    """
    row = fits.to_pylist()[0]
    unknown = dict.fromkeys(("epsilon0", "epsilon0_high", "m50", "m50_offset"), np.nan)
    if row["epsilon0"] is None or row["snr50"] is None:
        return unknown
    return {
        "epsilon0": row["epsilon0"],
        "epsilon0_high": min(row["epsilon0"] + 2.0 * (row["epsilon0_error"] or 0.0), 1.0),
        "m50": row["m50"],
        "m50_offset": -2.5 * float(np.log10(row["snr50"] / 5.0)),
    }


def _fits(table: pa.Table, seed: str, n_bootstrap: int) -> dict[str, Any]:
    found = np.array(table.column("found").to_pylist(), bool)
    exposure = np.array(table.column("exposure_id").to_pylist(), str)
    numbers = {"n_sources": len(found), "n_found": int(found.sum()), "n_exposures": len(set(exposure))}
    options = {"n_bootstrap": n_bootstrap, "seed": seed}
    magnitude = table.column("magnitude").to_numpy(zero_copy_only=False)
    snr = np.abs(table.column("snr_expected").to_numpy(zero_copy_only=False))
    fit = fit_efficiency(magnitude, found, exposure, **options)
    with np.errstate(divide="ignore"):
        in_snr = fit_efficiency(-2.5 * np.log10(snr), found, exposure, **options)
    row = numbers | ({} if fit is None else fit.as_dict() | numbers)
    if in_snr is not None:
        snr50 = 10 ** (-0.4 * in_snr.m50)
        row |= {"snr50": snr50, "snr50_error": snr50 * in_snr.m50_error * 0.4 * np.log(10.0)}
    return {name: None if isinstance(v, float) and np.isnan(v) else v for name, v in row.items()}


def _efficiency_schema() -> pa.Schema:
    import pyarrow as pa

    units = {"epsilon0": "", "m50": "mag", "width": "mag", "m90": "mag"}
    numbers = [("n_sources", pa.int64(), ""), ("n_found", pa.int64(), ""), ("n_exposures", pa.int64(), "")]
    values = [(name + end, pa.float64(), units[name]) for name in _FIT_COLUMNS for end in ("", "_error")]
    more = [
        (name, pa.float64(), unit)
        for name, unit in (("m50_fleming", "mag"), ("snr50", ""), ("snr50_error", ""))
    ]
    columns = [("band", pa.string(), ""), ("site", pa.string(), ""), *numbers, *values, *more]
    return pa.schema([pa.field(name, kind, metadata={"unit": unit}) for name, kind, unit in columns])
