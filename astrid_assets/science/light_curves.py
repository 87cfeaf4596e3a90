"""Analytic light curves of what changes on the sky: drawn from seeds, evaluated at any time and band.

Numbers stand in ``light_curves.toml``, each with its unit and source. A curve is described by a flat
dictionary of parameters that can be written as JSON; ``magnitude`` (AB, in r: at the peak of a transient,
outside flares and eclipses of a variable) and ``mjd`` (of the peak, or where the phase is counted from)
are 0 as drawn, and set by whoever places the object.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

__all__ = [
    "AMPLITUDE_RANGES",
    "KINDS",
    "VARIABLES",
    "deviation",
    "draw",
    "facts",
    "magnitude",
    "reference_magnitude",
    "visible_phases",
]

Curve = Mapping[str, Any]
"""What a light curve is made of; JSON-compatible."""

_MINUTES_A_DAY = 1440.0


@cache
def facts() -> dict[str, Any]:
    """Return the numbers of ``light_curves.toml``."""
    return tomllib.loads(files(__package__).joinpath("light_curves.toml").read_text("utf-8"))


def draw(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    """Draw the parameters of a light curve.

    Parameters
    ----------
    kind
        One of `KINDS`.

    rng
        Random numbers; the same state gives the same curve.

    Returns
    -------
    dict
        Parameters with ``magnitude`` and ``mjd`` zero.
    """
    return {"magnitude": 0.0, "mjd": 0.0} | _DRAW[kind](facts()[kind], rng)


def magnitude(kind: str, curve: Curve, mjd: float | np.ndarray, band: str) -> np.ndarray:
    """Return the AB magnitude at a time.

    Parameters
    ----------
    kind
        One of `KINDS`.

    curve
        From `draw`, with ``magnitude`` and ``mjd`` set.

    mjd
        Times, MJD (UTC).

    band
        Canonical name of the filter; one without numbers of its own takes those of the nearest.

    Returns
    -------
    numpy.ndarray
        Of the shape of ``mjd``; infinite where there is no light.
    """
    t = np.asarray(mjd, float) - curve["mjd"]
    if kind in VARIABLES:
        return curve["magnitude"] + deviation(kind, curve, mjd, band)
    return curve["magnitude"] + _TRANSIENT[kind](curve, t, _band(band))


def deviation(kind: str, curve: Curve, mjd: float | np.ndarray, band: str) -> np.ndarray:
    """Return magnitude minus mean (flares: quiescent) magnitude of a variable; positive is fainter."""
    t = np.asarray(mjd, float) - curve["mjd"]
    amplitude = curve["amplitude"] * _contrast(kind, band)
    if kind == "flare":
        return -2.5 * np.log10(1.0 + amplitude * _flare_shape(t * _MINUTES_A_DAY / curve["fwhm"]))
    return amplitude * _SHAPES[kind](curve, t)


def reference_magnitude(kind: str, curve: Curve, band: str) -> float:
    """Return the AB magnitude in the reference image: infinite for what was not there then.

    A variable stood at the value ``reference`` of its shape; a flare star was quiet.
    """
    if kind not in VARIABLES:
        return np.inf
    return curve["magnitude"] + curve["reference"] * curve["amplitude"] * _contrast(kind, band)


def visible_phases(kind: str, curve: Curve) -> tuple[float, float]:
    """Return the times from the peak, in days, between which a transient or flare is bright.

    (0, 0) for moving objects, one period (agn: a hundred days) for variables.
    """
    if kind == "flare":
        low, high = facts()[kind]["visible"]["range"]
        return low * curve["fwhm"] / _MINUTES_A_DAY, high * curve["fwhm"] / _MINUTES_A_DAY
    if kind in VARIABLES:
        return 0.0, float(curve.get("period", 100.0))
    if "visible" not in facts()[kind]:
        return 0.0, 0.0
    low, high = facts()[kind]["visible"]["range"]
    return low, high


# --- drawing --------------------------------------------------------------------------------------

_Draw = Callable[[Mapping[str, Any], np.random.Generator], dict[str, Any]]


def _uniform(rng: np.random.Generator, entry: Mapping[str, Any]) -> float:
    return float(rng.uniform(*entry["range"]))


def _logarithmic(rng: np.random.Generator, limits: list[float]) -> float:
    low, high = np.log(limits)
    return float(np.exp(rng.uniform(low, high)))


def _draw_template(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    names = sorted(numbers["template"])
    stretch = rng.normal(numbers["stretch"]["mean"], numbers["stretch"]["sigma"])
    return {"template": names[int(rng.integers(len(names)))], "stretch": float(np.clip(stretch, 0.6, 1.5))}


def _draw_iip(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    length = numbers["plateau_length"]
    return {
        "rise": _uniform(rng, numbers["rise"]),
        "length": float(np.clip(rng.normal(length["mean"], length["sigma"]), 60.0, 140.0)),
        "slope": _uniform(rng, numbers["plateau_slope"]),
    }


def _draw_nova(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    t2, law = _logarithmic(rng, numbers["t2"]["range"]), numbers["t3"]
    t3 = max(law["factor"] * t2 ** law["exponent"], 1.05 * t2)
    return {"rise": _uniform(rng, numbers["rise"]), "t2": t2, "t3": float(t3)}


def _draw_tde(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    decline = numbers["decline"]
    return {
        "rise": _uniform(rng, numbers["rise"]),
        "time": _uniform(rng, decline),
        "power": float(decline["power"]) if rng.random() < 0.5 else None,
    }


def _draw_kilonova(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {"rise": _uniform(rng, numbers["rise"])}


def _draw_flare(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {
        "fwhm": _logarithmic(rng, numbers["fwhm"]["range"]),
        "amplitude": _logarithmic(rng, numbers["amplitude"]["range"]),
        "reference": 0.0,
    }


def _draw_rr(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    drawn = {"period": _uniform(rng, numbers["period"]), "amplitude": _uniform(rng, numbers["amplitude"])}
    rise = {"rise": _uniform(rng, numbers["rise"])} if "rise" in numbers else {}
    return _with_reference("rrab" if rise else "rrc", drawn | rise, rng)


def _draw_eclipsing(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    detached, contact = numbers["detached"], numbers["contact"]
    if rng.random() >= detached["share"]:
        period, amplitude = rng.uniform(*contact["period"]), rng.uniform(*contact["amplitude"])
        drawn = {"type": "contact", "period": float(period), "amplitude": float(amplitude)}
        return _with_reference("eclipsing", drawn, rng)
    drawn = {
        "type": "detached",
        "period": _logarithmic(rng, detached["period"]),
        "amplitude": _uniform(rng, numbers["amplitude"]),
        "duty": float(rng.uniform(*detached["duty"])),
        "second": float(rng.uniform(*detached["second"])),
    }
    return _with_reference("eclipsing", drawn, rng)


def _draw_agn(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    drw = numbers["drw"]
    return {
        "amplitude": float(rng.uniform(*drw["amplitude"])),
        "tau": float(drw["tau"]),
        "seed": int(rng.integers(2**31)),
        # the reference is years away: an independent draw
        "reference": float(rng.normal(0.0, np.sqrt(0.5))),
    }


def _draw_moving(numbers: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {
        "rate": _logarithmic(rng, numbers["rate"]["range"]),
        "position_angle": float(rng.uniform(0.0, 360.0)),
    }


def _with_reference(kind: str, drawn: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Add what the shape was when the reference was taken: that of a random time."""
    then = drawn["period"] * rng.random()
    return drawn | {"reference": float(_SHAPES[kind](drawn, np.asarray(then)))}


_DRAW: dict[str, _Draw] = {
    "sn_ia": _draw_template,
    "sn_ibc": _draw_template,
    "sn_iin": _draw_template,
    "sn_iip": _draw_iip,
    "nova": _draw_nova,
    "tde": _draw_tde,
    "kilonova": _draw_kilonova,
    "flare": _draw_flare,
    "rrab": _draw_rr,
    "rrc": _draw_rr,
    "eclipsing": _draw_eclipsing,
    "agn": _draw_agn,
    "asteroid": _draw_moving,
    "asteroid_trail": _draw_moving,
}

KINDS: tuple[str, ...] = tuple(_DRAW)
"""Classes of light curves."""

VARIABLES: tuple[str, ...] = ("flare", "rrab", "rrc", "eclipsing", "agn")
"""Those of objects that the reference shows as well; the others are new light."""

AMPLITUDE_RANGES: dict[str, tuple[float, float]] = {
    "flare": tuple(facts()["flare"]["amplitude"]["range"]),
    "rrab": tuple(facts()["rrab"]["amplitude"]["range"]),
    "rrc": tuple(facts()["rrc"]["amplitude"]["range"]),
    "eclipsing": tuple(facts()["eclipsing"]["amplitude"]["range"]),
    "agn": tuple(facts()["agn"]["drw"]["amplitude"]),
}
"""Range of the parameter ``amplitude`` of each variable."""


# --- bands ----------------------------------------------------------------------------------------


def _band(band: str) -> str:
    """Return g, r or i for a canonical filter name."""
    known = facts()["bands"].get(band, band)
    return known if known in ("g", "r", "i") else "r"


def _contrast(kind: str, band: str) -> float:
    return facts()[kind].get("contrast", {}).get(_band(band), 1.0)


def _colour(value: float, band: str) -> float:
    """Return the magnitude over that in r from g - r; redder bands are taken to equal r."""
    return value if band == "g" else 0.0


# --- transients: magnitudes below the peak in r -----------------------------------------------------


def _template(kind: str, curve: Curve, t: np.ndarray, band: str) -> np.ndarray:
    """Return the magnitudes of a tabulated supernova.

    Monotone cubics through the tabulated points, a rise with the square of time before the first
    one (Arnett 1982, ApJ 253, 785; Riess et al. 1999), the last slope after the last.
    """
    template = facts()[kind]["template"][curve["template"]]
    node_t, node_m, start = _nodes(kind, curve["template"], band)
    phase = t / curve["stretch"]
    early = 2.5 - 5.0 * np.log10(np.clip(phase - start, 1e-9, None) / (node_t[0] - start))
    early = np.where(phase > start, early, np.inf)
    slope = (node_m[-1] - node_m[-2]) / (node_t[-1] - node_t[-2])
    late = node_m[-1] + slope * (phase - node_t[-1])
    middle = _spline(kind, curve["template"], band)(np.clip(phase, node_t[0], node_t[-1]))
    relative = np.where(phase < node_t[0], early, np.where(phase > node_t[-1], late, middle))
    return relative + _colour(template["colour"], band)


@cache
def _nodes(kind: str, name: str, band: str) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Return times and magnitudes of the tabulated points, and when the light begins."""
    template = facts()[kind]["template"][name]
    row = template.get(band) or template.get("r") or template["g"]
    half = 2.5 * np.log10(2.0)
    points = [(-row["rise_tenth"], 2.5), (-row["rise_half"], half), (0.0, 0.0)]
    points += [(row["fall_half"], half)] if "fall_half" in row else []
    points += [(15.0, row["dm15"]), (40.0, row["dm40"]), (80.0, row["dm80"])]
    points.sort()
    # flux as (t - start)^2 goes through a tenth and through a half of the peak
    ratio = np.sqrt(5.0)
    start = -(ratio * row["rise_tenth"] - row["rise_half"]) / (ratio - 1.0)
    times, magnitudes = zip(*points, strict=True)
    return times, magnitudes, float(start)


@cache
def _spline(kind: str, name: str, band: str) -> Callable[[np.ndarray], np.ndarray]:
    from scipy.interpolate import PchipInterpolator

    times, magnitudes, _ = _nodes(kind, name, band)
    return PchipInterpolator(times, magnitudes)


def _rising(t: np.ndarray, rise: float) -> np.ndarray:
    """Return magnitudes of a flux that rises as a parabola to its peak within some days."""
    flux = 1.0 - (np.minimum(t, 0.0) / rise) ** 2
    return _as_magnitude(np.clip(flux, 0.0, None))


def _as_magnitude(flux: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -2.5 * np.log10(flux)


def _iip(curve: Curve, t: np.ndarray, band: str) -> np.ndarray:
    """Return the magnitudes of a plateau, its end and the decay of cobalt."""
    numbers = facts()["sn_iip"]
    end, drop = curve["length"] - curve["rise"], numbers["drop"]
    # a logistic function goes from 10 to 90 percent within 4.39 of its widths
    width = drop["duration"] / (2.0 * np.log(9.0))
    later = np.clip(t, 0.0, None)
    decline = curve["slope"] * np.minimum(later, end) / 100.0
    decline = decline + numbers["tail"]["slope"] * np.clip(later - end, 0.0, None) / 100.0
    fall = drop["depth"] / (1.0 + np.exp(-np.clip((later - end) / width, -60, 60)))
    return _rising(t, curve["rise"]) + decline + fall + _colour(numbers["colour"]["value"], band)


def _nova(curve: Curve, t: np.ndarray, _band: str) -> np.ndarray:
    t2, t3 = curve["t2"], curve["t3"]
    fast, slow = 2.0 * np.clip(t, 0.0, t2) / t2, np.clip(t - t2, 0.0, None) / (t3 - t2)
    return _rising(t, curve["rise"]) + fast + slow


def _tde(curve: Curve, t: np.ndarray, band: str) -> np.ndarray:
    rise = np.exp(-0.5 * (np.minimum(t, 0.0) / curve["rise"]) ** 2)
    later = np.clip(t, 0.0, None) / curve["time"]
    power = curve["power"]
    fall = np.exp(-later) if power is None else (1.0 + later) ** power
    return _as_magnitude(rise * fall) + _colour(facts()["tde"]["colour"]["value"], band)


def _kilonova(curve: Curve, t: np.ndarray, band: str) -> np.ndarray:
    numbers = facts()["kilonova"]
    rise = np.clip(1.0 + np.minimum(t, 0.0) / curve["rise"], 0.0, None)
    fall = numbers["decline"][band] * np.clip(t, 0.0, None)
    return _as_magnitude(rise) + fall + _colour(numbers["colour"]["value"], band)


def _constant(_curve: Curve, t: np.ndarray, _band: str) -> np.ndarray:
    return np.zeros(np.shape(t))


def _of_template(kind: str) -> Callable[[Curve, np.ndarray, str], np.ndarray]:
    return lambda curve, t, band: _template(kind, curve, t, band)


_TRANSIENT: dict[str, Callable[[Curve, np.ndarray, str], np.ndarray]] = {
    "sn_ia": _of_template("sn_ia"),
    "sn_ibc": _of_template("sn_ibc"),
    "sn_iin": _of_template("sn_iin"),
    "sn_iip": _iip,
    "nova": _nova,
    "tde": _tde,
    "kilonova": _kilonova,
    "asteroid": _constant,
    "asteroid_trail": _constant,
}


# --- variables: shapes of unit amplitude, positive where fainter ------------------------------------


def _flare_shape(x: np.ndarray) -> np.ndarray:
    """Return the flux of a flare over its peak (Davenport et al. 2014, eqs 1 and 4)."""
    numbers = facts()["flare"]["shape"]
    rise = np.polynomial.polynomial.polyval(np.clip(x, -1.0, 0.0), numbers["rise"])
    later = np.clip(x, 0.0, None)
    fall = sum(a * np.exp(rate * later) for a, rate in (numbers["fast"], numbers["slow"]))
    return np.where(x > 0.0, fall, np.where(x > -1.0, np.clip(rise, 0.0, None), 0.0))


def _rrab(curve: Curve, t: np.ndarray) -> np.ndarray:
    phase, rise = (t / curve["period"]) % 1.0, curve["rise"]
    return np.where(phase < 1.0 - rise, phase / (1.0 - rise), (1.0 - phase) / rise) - 0.5


def _rrc(curve: Curve, t: np.ndarray) -> np.ndarray:
    return -0.5 * np.cos(2.0 * np.pi * t / curve["period"])


def _eclipsing(curve: Curve, t: np.ndarray) -> np.ndarray:
    """Return eclipses at phases 0 and 0.5, or the ellipsoidal wave of a contact binary."""
    phase = (t / curve["period"]) % 1.0
    if curve["type"] == "contact":
        return 0.5 * np.cos(4.0 * np.pi * phase)
    from_first = np.minimum(phase, 1.0 - phase)
    depth = _eclipse(from_first, curve["duty"])
    return depth + curve["second"] * _eclipse(np.abs(phase - 0.5), curve["duty"])


def _eclipse(distance: np.ndarray, duty: float) -> np.ndarray:
    return np.where(distance < duty / 2.0, 0.5 + 0.5 * np.cos(2.0 * np.pi * distance / duty), 0.0)


def _agn(curve: Curve, t: np.ndarray) -> np.ndarray:
    """Return a damped random walk of unit structure function, on a grid of days.

    X(t + dt) = X(t) exp(-dt / tau) + SF / sqrt(2) sqrt(1 - exp(-2 dt / tau)) N(0, 1) (Kelly et al. 2009,
    ApJ 698, 895); it runs both ways from the same first value, so that any time can be asked for.
    """
    later, earlier = (_walk(curve, way, int(np.ceil(np.max(np.abs(t)))) + 1) for way in (0, 1))
    whole = np.r_[earlier[:0:-1], later]
    days = np.arange(len(whole)) - (len(earlier) - 1)
    return np.interp(t, days, whole)


def _walk(curve: Curve, way: int, n_days: int) -> np.ndarray:
    start = np.random.default_rng([curve["seed"], 2]).normal()
    steps = np.random.default_rng([curve["seed"], way]).normal(size=n_days)
    memory = np.exp(-1.0 / curve["tau"])
    kick = np.sqrt(1.0 - memory**2)
    values = [start]
    for step in steps:
        values.append(memory * values[-1] + kick * step)
    return np.array(values) * np.sqrt(0.5)


_SHAPES: dict[str, Callable[[Curve, np.ndarray], np.ndarray]] = {
    "rrab": _rrab,
    "rrc": _rrc,
    "eclipsing": _eclipsing,
    "agn": _agn,
}
