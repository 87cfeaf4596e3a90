"""What the simulated survey put into an image, seen from the difference: true changes and dirt.

The truth tables give every object in an image with its pixel position and magnitude. An object
whose brightness or place differs between the science image and the reference is a true change;
its significance is its change of flux over the error that the variance planes predict there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

__all__ = ["Defect", "Moved", "TrueChange", "brightest_near", "changes_of", "defects_of", "moved_stars"]

_CHANGING = ("transient", "variable", "asteroid")
_LOCAL_DIRT = ("cosmic_ray", "hot_pixel", "bad_column", "saturated", "trail", "ghost")


@dataclass(frozen=True)
class TrueChange:
    """An object that is brighter or fainter in the science image than in the reference."""

    kind: str
    """``transient``, ``variable`` or ``asteroid``."""

    label: str
    """Finer class (``sn_ia``, ``rrab``, ...)."""

    ident: str
    """Name, the same in every image."""

    x: float
    """True column in the science image, 0-based."""

    y: float
    """True row."""

    length: float
    """Length of its trail in pixels; 0 for what stands still."""

    flux: float
    """Change of the total flux, science minus reference, in the science image's unit."""


@dataclass(frozen=True)
class Moved:
    """A star that stands elsewhere than in the reference, by its proper motion."""

    x: float
    """True column in the science image."""

    y: float
    """True row."""

    flux: float
    """Total flux in the science image's unit."""

    shift: float
    """How far it moved, pixels."""


@dataclass(frozen=True)
class Defect:
    """A piece of dirt that lies somewhere in the image."""

    kind: str
    """``cosmic_ray``, ``hot_pixel``, ``bad_column``, ``saturated``, ``trail`` or ``ghost``."""

    x: float
    y: float
    x_end: float
    y_end: float
    """It reaches from (x, y) to (x_end, y_end); the same for something compact."""

    radius: float
    """Half its width, pixels."""

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the distance of positions from it, in pixels; 0 inside."""
        dx, dy = self.x_end - self.x, self.y_end - self.y
        length2 = dx * dx + dy * dy
        along = ((x - self.x) * dx + (y - self.y) * dy) / length2 if length2 > 0 else 0.0
        along = np.clip(along, 0.0, 1.0)
        off = np.hypot(x - self.x - along * dx, y - self.y - along * dy)
        return np.maximum(off - self.radius, 0.0)

    def pixels(self, shape: tuple[int, int], *, margin: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return (y, x) of the pixels on it or within `margin`."""
        reach = self.radius + margin
        low = [int(max(min(pair) - reach, 0)) for pair in ((self.y, self.y_end), (self.x, self.x_end))]
        high = [
            int(min(max(pair) + reach + 1, side))
            for pair, side in zip(((self.y, self.y_end), (self.x, self.x_end)), shape, strict=True)
        ]
        y, x = np.mgrid[low[0] : max(high[0], low[0]), low[1] : max(high[1], low[1])]
        inside = self.distance(x, y) <= margin
        return y[inside], x[inside]


def changes_of(science: pa.Table, reference: pa.Table) -> list[TrueChange]:
    """Return all objects whose flux differs, those only in the reference included.

    Parameters
    ----------
    science, reference
        Truth tables of both images.
    """
    now, before = _objects(science, _CHANGING), _objects(reference, _CHANGING)
    place = _SkyToPixel(science)
    changes = [_change(row, before.get(name)) for name, row in now.items()]
    for name, row in before.items():
        if name not in now:
            x, y = place(row["ra"], row["dec"])
            flux = -place.flux(row["mag"])
            changes.append(TrueChange(row["kind"], row["label"], name, x, y, 0.0, flux))
    return changes


def moved_stars(science: pa.Table, reference: pa.Table, pixel_scale: float) -> list[Moved]:
    """Return the stars that moved by more than a hundredth of a pixel between the two images.

    Parameters
    ----------
    science, reference
        Truth tables of both images.

    pixel_scale
        Arcsec per pixel.
    """
    kinds = ("star", "variable")
    now, before = _objects(science, kinds), _objects(reference, kinds)
    moved = []
    for name in now.keys() & before.keys():
        row, then = now[name], before[name]
        east = (row["ra"] - then["ra"]) * np.cos(np.radians(row["dec"]))
        shift = float(np.hypot(east, row["dec"] - then["dec"])) * 3600.0 / pixel_scale
        if shift > 0.01:
            moved.append(Moved(row["x"], row["y"], row["flux"], shift))
    return moved


def defects_of(science: pa.Table) -> list[Defect]:
    """Return the dirt of an image that lies somewhere; clouds and the like do not."""
    return [_defect(row) for row in _of_kind(science, _LOCAL_DIRT).to_pylist()]


def brightest_near(truth: pa.Table, x: float, y: float, *, radius: float = 30.0) -> str:
    """Say which object is the brightest around a position: kind, magnitude, distance in pixels.

    Parameters
    ----------
    truth
        Truth table of the image.

    x, y
        Position, pixels.

    radius
        How far to look, pixels.
    """
    columns = {name: truth[name].to_numpy() for name in ("x", "y", "mag", "ident")}
    distance = np.hypot(columns["x"] - x, columns["y"] - y)
    near = np.flatnonzero((distance < radius) & np.isfinite(columns["mag"]) & (columns["ident"] != ""))
    if len(near) == 0:
        return "nothing"
    i = near[np.argmin(columns["mag"][near])]
    return f"{columns['ident'][i]} {columns['mag'][i]:.1f} mag at {distance[i]:.1f} px"


def _of_kind(truth: pa.Table, kinds: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import compute

    return truth.filter(compute.is_in(truth.column("kind"), pa.array(kinds)))


def _objects(truth: pa.Table, kinds: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {row["ident"]: row for row in _of_kind(truth, kinds).to_pylist()}


def _change(row: Mapping, before: Mapping | None) -> TrueChange:
    """Compare an object of the science image with itself in the reference."""
    share = 0.0 if before is None else 10.0 ** (-0.4 * (before["mag"] - row["mag"]))
    trail = np.nan_to_num(np.hypot(row["x_end"] - row["x"], row["y_end"] - row["y"]))
    x, y = (row[a] if trail == 0 else (row[a] + row[f"{a}_end"]) / 2 for a in ("x", "y"))
    return TrueChange(
        row["kind"], row["label"], row["ident"], x, y, float(trail), row["flux"] * (1.0 - share)
    )


def _defect(row: Mapping) -> Defect:
    x_end, y_end = (row[a] if np.isnan(row[f"{a}_end"]) else row[f"{a}_end"] for a in ("x", "y"))
    # a hot pixel has no extent of its own; half a pixel is what it covers
    radius = 0.5 if np.isnan(row["extent"]) else row["extent"]
    return Defect(row["kind"], row["x"], row["y"], x_end, y_end, radius)


class _SkyToPixel:
    """True pixel position and flux from sky position and magnitude, fitted on the stars of a truth table."""

    def __init__(self, truth: pa.Table) -> None:
        stars = _of_kind(truth, ("star",))
        ra, dec, x, y, mag, flux = (stars[n].to_numpy() for n in ("ra", "dec", "x", "y", "mag", "flux"))
        self._centre = float(np.median(ra)), float(np.median(dec))
        terms = self._terms(ra, dec)
        self._fit = np.linalg.lstsq(terms, np.column_stack([x, y]), rcond=None)[0]
        self._zeropoint = float(np.median(mag + 2.5 * np.log10(flux)))

    def _terms(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        u = (ra - self._centre[0]) * np.cos(np.radians(self._centre[1]))
        v = dec - self._centre[1]
        return np.column_stack([np.ones_like(u), u, v, u * u, u * v, v * v])

    def __call__(self, ra: float, dec: float) -> tuple[float, float]:
        x, y = (self._terms(np.array([ra]), np.array([dec])) @ self._fit)[0]
        return float(x), float(y)

    def flux(self, mag: float) -> float:
        """Return the flux of a magnitude in the science image's unit."""
        return float(10.0 ** (-0.4 * (mag - self._zeropoint)))
