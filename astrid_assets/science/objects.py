"""Tables of objects and their light curves, put together from candidates and forced photometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.columns import described_schema
from astrid_assets.images.masks import BAD_BITS
from astrid_assets.science.association import Detections, Places
from astrid_assets.science.forced import baseline, quiet_epochs

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Epoch",
    "association_schema",
    "association_table",
    "forced_ratio",
    "light_curve_metrics",
    "light_curve_schema",
    "light_curve_table",
    "object_schema",
    "object_table",
]

_LIGHT_CURVE = (
    ("object_id", "string", "", "object"),
    ("exposure_id", "string", "", "exposure"),
    ("reference_id", "string", "", "reference; a change of it starts a new baseline"),
    ("mjd_mid", "float64", "d", "middle of the exposure, MJD (UTC)"),
    ("band", "string", "", "canonical filter name"),
    ("x", "float64", "pixel", "position in the science image, 0-based"),
    ("y", "float64", "pixel", "position in the science image, 0-based"),
    ("flux", "float64", "image unit", "signed PSF flux of the change at the object, science minus reference"),
    ("flux_error", "float64", "image unit", "1-sigma error"),
    ("flux_njy", "float64", "nJy", "the same as flux density; null without a zero point"),
    ("flux_njy_error", "float64", "nJy", "1-sigma error"),
    ("reference_flux_njy", "float64", "nJy", "PSF flux of the reference there, host and neighbours included"),
    ("reference_flux_njy_error", "float64", "nJy", "1-sigma error"),
    ("total_flux_njy", "float64", "nJy", "change and reference together"),
    ("limit_5sigma_njy", "float64", "nJy", "flux of a change at 5 sigma"),
    (
        "baseline_offset_njy",
        "float64",
        "nJy",
        "median of quiet epochs against this reference; not subtracted",
    ),
    ("error_scale", "float64", "", "factor that quiet epochs ask for, at least 1; not applied"),
    ("flags", "int32", "bits", "mask planes within one pixel"),
    ("detected", "bool", "", "an unflagged candidate of the exposure belongs to the object"),
    ("candidate_id", "string", "", "candidate of the exposure that belongs to the object, flagged or not"),
)

_OBJECT = (
    ("object_id", "string", "", "name after the first detection"),
    ("ra", "float64", "deg", "right ascension (ICRS, frame of the reference); null without a WCS"),
    ("dec", "float64", "deg", "declination (ICRS, frame of the reference); null without a WCS"),
    ("ra_error", "float64", "arcsec", "1-sigma error along the great circle; pixels without a WCS"),
    ("dec_error", "float64", "arcsec", "1-sigma error; pixels without a WCS"),
    ("x", "float64", "pixel", "position on the reference, only without a WCS"),
    ("y", "float64", "pixel", "position on the reference, only without a WCS"),
    ("n_detections", "int32", "", "unflagged candidates"),
    ("n_flagged", "int32", "", "flagged candidates at its place"),
    ("n_epochs", "int32", "", "exposures with forced photometry"),
    ("first_mjd", "float64", "d", "first unflagged candidate, MJD (UTC)"),
    ("last_mjd", "float64", "d", "last unflagged candidate, MJD (UTC)"),
    ("max_snr", "float64", "", "largest significance of an unflagged candidate"),
)

_ASSOCIATION = (
    ("candidate_id", "string", "", "candidate"),
    ("object_id", "string", "", "object that it belongs to"),
    ("separation", "float64", "arcsec", "distance from the object; pixels without a WCS"),
)


def light_curve_schema() -> pa.Schema:
    """Return the columns of a table of light curves, each with unit and description."""
    return _schema(_LIGHT_CURVE)


def object_schema() -> pa.Schema:
    """Return the columns of a table of objects, each with unit and description."""
    return _schema(_OBJECT)


def association_schema() -> pa.Schema:
    """Return the columns of the table that joins candidates and objects."""
    return _schema(_ASSOCIATION)


def _schema(columns: Sequence[tuple[str, str, str, str]]) -> pa.Schema:
    return described_schema({name: about for name, *about in columns})


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Return columns as a table; NaN is null."""
    import pyarrow as pa

    arrays = [
        pa.array(columns[field.name], field.type, from_pandas=pa.types.is_floating(field.type))
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


@dataclass(frozen=True, eq=False)
class Epoch:
    """Forced photometry of one exposure."""

    exposure_id: str
    reference_id: str
    band: str | None

    mjd_mid: float
    """NaN where unknown."""

    objects: np.ndarray
    """Numbers of the objects whose place the exposure shows, int ``(n,)``."""

    columns: Mapping[str, np.ndarray]
    """From `astrid_assets.science.forced.forced_photometry`, ``(n,)`` each."""


def object_table(
    names: Sequence[str],
    detections: Detections,
    objects: np.ndarray,
    places: Places,
    snr: np.ndarray,
    epochs: Sequence[Epoch],
) -> pa.Table:
    """Return one row an object, in order of discovery.

    Parameters
    ----------
    names
        Of the objects.

    detections, objects, places
        Candidates of all exposures, the object of each, and where the objects are.

    snr
        Significance of the candidates.

    epochs
        One an exposure, in order of time.
    """
    n, found = len(names), (objects >= 0) & ~detections.flagged
    mjd = np.array([e.mjd_mid for e in epochs])[detections.epoch[found]]
    first, last, strongest = np.full(n, np.inf), np.full(n, -np.inf), np.zeros(n)
    np.fmin.at(first, objects[found], mjd)
    np.fmax.at(last, objects[found], mjd)
    np.maximum.at(strongest, objects[found], snr[found])
    on_sky = places.frame < 0
    columns = {
        "object_id": list(names),
        "ra": np.where(on_sky, places.u, np.nan),
        "dec": np.where(on_sky, places.v, np.nan),
        "ra_error": places.error,
        "dec_error": places.error,
        "x": np.where(on_sky, np.nan, places.u),
        "y": np.where(on_sky, np.nan, places.v),
        "n_detections": np.bincount(objects[found], minlength=n).astype(np.int32),
        "n_flagged": np.bincount(objects[(objects >= 0) & detections.flagged], minlength=n).astype(np.int32),
        "n_epochs": sum((np.bincount(e.objects, minlength=n) for e in epochs), np.zeros(n, int)).astype(
            np.int32
        ),
        "first_mjd": np.where(np.isfinite(first), first, np.nan),
        "last_mjd": np.where(np.isfinite(last), last, np.nan),
        "max_snr": strongest,
    }
    return _table(columns, object_schema())


def association_table(
    names: Sequence[str], candidate_ids: Sequence[str], objects: np.ndarray, places: Places
) -> pa.Table:
    """Return one row for each candidate that belongs to an object."""
    rows = np.flatnonzero(objects >= 0)
    columns = {
        "candidate_id": [candidate_ids[i] for i in rows],
        "object_id": [names[i] for i in objects[rows]],
        "separation": places.residual[rows],
    }
    return _table(columns, association_schema())


def light_curve_table(
    names: Sequence[str],
    detections: Detections,
    objects: np.ndarray,
    candidate_ids: Sequence[str],
    epochs: Sequence[Epoch],
    *,
    quiet_before: float = 100.0,
    quiet_after: float = 100.0,
    min_epochs: int = 10,
) -> pa.Table:
    """Return one row for each object and exposure that shows its place, object by object in order of time.

    Parameters
    ----------
    names
        Of the objects.

    detections, objects, candidate_ids
        Candidates of all exposures, the object of each, and their identifiers.

    epochs
        Forced photometry, in order of time.

    quiet_before, quiet_after, min_epochs
        What counts for the baseline; see `astrid_assets.science.forced.quiet_epochs` and `baseline`.
    """
    if not epochs:
        return light_curve_schema().empty_table()
    who = np.concatenate([e.objects for e in epochs])
    when = np.repeat(np.arange(len(epochs)), [len(e.objects) for e in epochs])
    order = np.lexsort((when, who))
    who, when = who[order], when[order]
    columns: dict[str, Any] = {
        name: np.concatenate([e.columns[name] for e in epochs])[order] for name in epochs[0].columns
    }
    for name in ("exposure_id", "reference_id", "band"):
        columns[name] = [getattr(epochs[i], name) for i in when]
    columns["mjd_mid"] = np.array([e.mjd_mid for e in epochs])[when]
    columns["object_id"] = [names[i] for i in who]
    link = np.full((len(names), len(epochs)), -1)
    joined = np.flatnonzero(objects >= 0)
    link[objects[joined], detections.epoch[joined]] = joined
    candidate = link[who, when]
    columns["candidate_id"] = [candidate_ids[i] if i >= 0 else None for i in candidate]
    columns["detected"] = (candidate >= 0) & ~detections.flagged[np.maximum(candidate, 0)]
    options = {"quiet_before": quiet_before, "quiet_after": quiet_after, "min_epochs": min_epochs}
    columns |= _baselines(columns, who, **options)
    return _table(columns, light_curve_schema())


def _baselines(
    columns: Mapping[str, Any], who: np.ndarray, *, quiet_before: float, quiet_after: float, min_epochs: int
) -> dict[str, np.ndarray]:
    """Return the baseline of each object against each of its references."""
    offset, scale = np.full(len(who), np.nan), np.full(len(who), np.nan)
    good = (columns["flags"] & BAD_BITS) == 0
    reference = np.array(columns["reference_id"], object)
    for rows in np.split(np.arange(len(who)), np.flatnonzero(np.diff(who)) + 1):
        if len(rows) < min_epochs:
            continue
        mjd = columns["mjd_mid"][rows]
        times = mjd[columns["detected"][rows]]
        quiet = quiet_epochs(mjd, times, quiet_before=quiet_before, quiet_after=quiet_after) & good[rows]
        for name in sorted(set(reference[rows])):
            same = reference[rows] == name
            mine = rows[same]
            flux, error = columns["flux_njy"][mine], columns["flux_njy_error"][mine]
            found = baseline(flux, error, quiet[same], min_epochs=min_epochs)
            offset[mine], scale[mine] = found.offset, found.scale
    return {"baseline_offset_njy": offset, "error_scale": scale}


def forced_ratio(
    epochs: Sequence[Epoch], detections: Detections, objects: np.ndarray, snr: np.ndarray, flux: np.ndarray
) -> np.ndarray:
    """Return forced flux over the candidate's own, of unflagged detections of significance 10 or more."""
    forced = np.full(len(objects), np.nan)
    for i, epoch in enumerate(epochs):
        at = np.full(int(objects.max(initial=-1)) + 1, np.nan)
        at[epoch.objects] = epoch.columns["flux"]
        mine = (detections.epoch == i) & (objects >= 0)
        forced[mine] = at[objects[mine]]
    return (forced / flux)[np.isfinite(forced) & ~detections.flagged & (snr >= _STRONG)]


def light_curve_metrics(
    table: pa.Table,
    detections: Detections,
    objects: np.ndarray,
    places: Places,
    null_pulls: np.ndarray,
    ratio: np.ndarray,
) -> dict[str, float]:
    """Return quality metrics of the light curves of a field.

    Parameters
    ----------
    table
        From `light_curve_table`.

    detections, objects, places
        Candidates of all exposures, the object of each, and where the objects are.

    null_pulls
        Forced flux over its error at blank places of all exposures.

    ratio
        Forced flux over the flux of the candidate, of detections of significance 10 or more.

    Returns
    -------
    dict
        ``n_objects``, ``n_multi_epoch`` (objects with detections in two exposures or more), ``n_points``;
        ``association_pull`` and ``association_rms`` (arcsec; pixels without a WCS) of detections
        about objects with several; ``n_shared``: candidates beyond one of the same object and
        exposure; ``unflagged_null``: points without a flux and without a flag; ``forced_null_median``,
        ``forced_null_std`` and ``n_null`` of blank places; ``forced_ratio``, the median.
    """
    joined = objects >= 0
    pairs = np.c_[objects[joined], detections.epoch[joined]]
    found = joined & ~detections.flagged
    several = np.bincount(objects[found], minlength=len(places.u)) > 1
    apart = places.residual[found][several[objects[found]]]
    known = np.isfinite(table.column("flux").to_numpy())
    return {
        "n_objects": float(len(places.u)),
        "n_multi_epoch": float(several.sum()),
        "n_points": float(table.num_rows),
        "association_pull": places.pull,
        "association_rms": float(np.sqrt((apart**2).mean())) if len(apart) else np.nan,
        "n_shared": float(len(pairs) - len(np.unique(pairs, axis=0))),
        "unflagged_null": float((~known & (table.column("flags").to_numpy() == 0)).sum()),
        "forced_null_median": float(np.median(null_pulls)) if len(null_pulls) else np.nan,
        "forced_null_std": float(null_pulls.std()) if len(null_pulls) >= _NULLS else np.nan,
        "n_null": float(len(null_pulls)),
        "forced_ratio": float(np.median(ratio)) if len(ratio) else np.nan,
    }


_STRONG = 10.0
"""Significance from which the flux of a candidate is known to a tenth."""

_NULLS = 50
"""Blank places below which their scatter says little."""
