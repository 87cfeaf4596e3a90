"""From the candidates of a field's exposures to its objects and their light curves.

`join_visits` needs no pixels; `measure_visit` needs those of one exposure at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.images.celestial import pixel_side
from astrid_assets.images.pairs import AlignedPair, Difference, PairGeometry
from astrid_assets.science.association import (
    Detections,
    Places,
    associate,
    join_detections,
    name_objects,
    place_detections,
    place_objects,
)
from astrid_assets.science.forced import blank_places, forced_flux, forced_photometry
from astrid_assets.science.objects import (
    Epoch,
    association_table,
    forced_ratio,
    light_curve_metrics,
    light_curve_table,
    object_table,
)
from astrid_assets.science.positions import from_reference, to_reference
from astrid_assets.seeds import generator

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Joined", "Measured", "Visit", "join_visits", "light_curve_tables", "measure_visit"]


@dataclass(frozen=True, eq=False)
class Visit:
    """What is kept of an exposure while all of them are joined: no pixels."""

    exposure_id: str
    reference_id: str
    band: str | None

    mjd_mid: float | None
    """Middle of the exposure, MJD (UTC)."""

    table: pa.Table
    """Its candidates, with ``candidate_id``."""

    geometry: PairGeometry
    """Of its normalized pair."""


@dataclass(frozen=True, eq=False)
class Joined:
    """Candidates of all exposures, joined to objects."""

    visits: Sequence[Visit]
    """In order of time."""

    frames: Sequence[int | None]
    """None for an exposure on the sky, else the number of the grid of its reference."""

    detections: Detections
    """Of all exposures."""

    objects: np.ndarray
    """Number of the object of each detection, -1 for none."""

    places: Places
    """Where the objects are."""

    names: list[str]
    """Of the objects."""

    def column(self, name: str) -> np.ndarray:
        """Return a column of the candidates of all exposures."""
        return np.concatenate([visit.table.column(name).to_numpy() for visit in self.visits])

    @property
    def candidate_ids(self) -> list[str]:
        """Identifiers of the candidates of all exposures."""
        return [name for visit in self.visits for name in visit.table.column("candidate_id").to_pylist()]


def join_visits(
    visits: Sequence[Visit],
    *,
    sigma_floor: float = 0.05,
    max_separation: float = 1.0,
    max_sigma: float = 5.0,
) -> Joined:
    """Join the candidates of all exposures to objects.

    Parameters
    ----------
    visits
        The exposures, at least one.

    sigma_floor, max_separation
        See `astrid_assets.science.association.place_detections`.

    max_sigma
        See `astrid_assets.science.association.associate`.
    """
    visits = sorted(visits, key=lambda v: (v.mjd_mid or 0.0, v.exposure_id))
    frames = _frames(visits)
    limits = {"sigma_floor": sigma_floor, "max_separation": max_separation}
    detections = join_detections(
        [_detections(visit, i, frames[i], **limits) for i, visit in enumerate(visits)]
    )
    objects = associate(detections, max_sigma=max_sigma)
    places = place_objects(detections, objects)
    names = name_objects(*detections.place_of(places.first), places.frame)
    return Joined(visits, frames, detections, objects, places, names)


def _frames(visits: Sequence[Visit]) -> list[int | None]:
    """Return None for exposures on the sky, a number for each reference of those without a WCS."""
    grids: dict[str, int] = {}
    return [
        None if v.geometry.wcs is not None else grids.setdefault(v.reference_id, len(grids)) for v in visits
    ]


def _detections(visit: Visit, epoch: int, frame: int | None, **limits: float) -> Detections:
    """Return the candidates of one exposure in the frame of its reference."""
    x, y, snr = (visit.table.column(name).to_numpy() for name in ("x", "y", "snr"))
    flagged = np.array([bool(reason) for reason in visit.table.column("artifact").to_pylist()], bool)
    u, v = to_reference(visit.geometry, x, y)
    fwhm = visit.geometry.psf.fwhm * (1.0 if frame is not None else pixel_side(visit.geometry.wcs))
    return place_detections(u, v, snr, flagged, epoch=epoch, fwhm=fwhm, frame=frame, **limits)


@dataclass(frozen=True, eq=False)
class Measured:
    """Forced photometry of one exposure."""

    epoch: Epoch
    """Of the objects."""

    null_pulls: np.ndarray
    """Flux over its error at blank places."""


def measure_visit(
    joined: Joined, number: int, difference: Difference, pair: AlignedPair, *, n_blank: int = 200
) -> Measured:
    """Measure all objects, and blank places, in one exposure.

    Parameters
    ----------
    joined
        The objects.

    number
        Of the exposure in `Joined.visits`.

    difference, pair
        Its images.

    n_blank
        Blank places.
    """
    visit, frame, places = joined.visits[number], joined.frames[number], joined.places
    shown = np.flatnonzero(places.frame == (-1 if frame is None else frame))
    x, y = from_reference(visit.geometry, places.u[shown], places.v[shown])
    ny, nx = difference.shape
    inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    columns = forced_photometry(difference, pair, x[inside], y[inside])
    mjd = np.nan if visit.mjd_mid is None else visit.mjd_mid
    epoch = Epoch(visit.exposure_id, visit.reference_id, visit.band, mjd, shown[inside], columns)
    occupied = tuple(visit.table.column(name).to_numpy() for name in ("x", "y"))
    rng = generator("blank places", visit.exposure_id)
    blank = blank_places(difference, pair, occupied, rng, n_blank=n_blank)
    flux, error, _ = forced_flux(difference, *blank)
    return Measured(epoch, flux / error)


def light_curve_tables(
    joined: Joined,
    measured: Sequence[Measured],
    *,
    quiet_before: float = 100.0,
    quiet_after: float = 100.0,
    min_epochs: int = 10,
) -> tuple[dict[str, pa.Table], dict[str, float]]:
    """Return the tables ``light_curves``, ``objects`` and ``associations``, and their quality metrics.

    Parameters
    ----------
    joined
        The objects.

    measured
        Forced photometry of each exposure, in the order of `Joined.visits`.

    quiet_before, quiet_after, min_epochs
        See `astrid_assets.science.objects.light_curve_table`.
    """
    options = {"quiet_before": quiet_before, "quiet_after": quiet_after, "min_epochs": min_epochs}
    names, detections, objects, places = joined.names, joined.detections, joined.objects, joined.places
    ids, snr, epochs = joined.candidate_ids, joined.column("snr"), [m.epoch for m in measured]
    curves = light_curve_table(names, detections, objects, ids, epochs, **options)
    tables = {
        "light_curves": curves,
        "objects": object_table(names, detections, objects, places, snr, epochs),
        "associations": association_table(names, ids, objects, places),
    }
    pulls = np.concatenate([m.null_pulls for m in measured])
    ratio = forced_ratio(epochs, detections, objects, snr, joined.column("flux"))
    return tables, light_curve_metrics(curves, detections, objects, places, pulls, ratio)
