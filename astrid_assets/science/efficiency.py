"""Detection efficiency as a function of magnitude or significance, fitted source by source.

eps(m) = eps0 / (1 + exp((m - m50) / w)): the share found at the bright end, the magnitude at which half of
that is found, and the width of the fall. No bins: each source is one Bernoulli trial (maximum likelihood).
Errors come from a bootstrap over exposures, whose sources share seeing and sky.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from astrid_assets.seeds import generator

__all__ = ["Efficiency", "efficiency", "fit_efficiency", "fleming"]

MIN_SOURCES = 30
"""Fewest sources for a fit: ten for each parameter."""


@dataclass(frozen=True)
class Efficiency:
    """A fitted efficiency curve; errors are 1 sigma, NaN with fewer than two exposures."""

    n_sources: int
    """Sources that were put in."""

    n_found: int
    """Sources that were found."""

    n_exposures: int
    """Exposures that they were put into."""

    epsilon0: float
    """Efficiency for bright sources."""

    m50: float
    """Magnitude at which the efficiency is half of `epsilon0`."""

    width: float
    """Width w of the fall, mag; from 88 to 12 percent of `epsilon0` within 4 w."""

    m90: float
    """Magnitude at which nine in ten are found; NaN where `epsilon0` is less."""

    epsilon0_error: float
    m50_error: float
    width_error: float
    m90_error: float

    m50_fleming: float
    """The same from the curve of Fleming et al. 1995, AJ 109, 1044, as a cross-check."""

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers by name."""
        return asdict(self)


def efficiency(
    magnitude: np.ndarray, epsilon0: float | np.ndarray, m50: float | np.ndarray, width: float | np.ndarray
) -> np.ndarray:
    """Return eps0 / (1 + exp((m - m50) / w)).

    Parameters
    ----------
    magnitude
        Magnitudes, any shape.

    epsilon0, m50, width
        Parameters.
    """
    return epsilon0 / (1.0 + np.exp(np.clip((np.asarray(magnitude, float) - m50) / width, -60.0, 60.0)))


def fleming(magnitude: np.ndarray, epsilon0: float, m50: float, alpha: float) -> np.ndarray:
    """Return eps0 / 2 (1 - a (m - m50) / sqrt(1 + a^2 (m - m50)^2)) (Fleming et al. 1995, AJ 109, 1044).

    Parameters
    ----------
    magnitude
        Magnitudes, any shape.

    epsilon0, m50, alpha
        Parameters; alpha per mag.
    """
    scaled = alpha * (np.asarray(magnitude, float) - m50)
    return 0.5 * epsilon0 * (1.0 - scaled / np.sqrt(1.0 + scaled**2))


def fit_efficiency(
    magnitude: np.ndarray,
    found: np.ndarray,
    exposure: Sequence[Any] | np.ndarray,
    *,
    n_bootstrap: int = 100,
    seed: str | int = 0,
) -> Efficiency | None:
    """Fit the efficiency curve of injected sources.

    Parameters
    ----------
    magnitude
        Magnitude of each source, ``(n,)``; for efficiency in significance give -2.5 log10(S/N).

    found
        Whether it was found.

    exposure
        Name of its exposure.

    n_bootstrap
        Resamplings of the exposures.

    seed
        Of the resampling.

    Returns
    -------
    Efficiency or None
        None with fewer than `MIN_SOURCES` sources, or where all or none were found: nothing falls.
    """
    magnitude, found = np.asarray(magnitude, float), np.asarray(found, bool)
    usable = np.isfinite(magnitude)
    magnitude, found = magnitude[usable], found[usable]
    _, group = np.unique(np.asarray(exposure)[usable], return_inverse=True)
    if len(magnitude) < MIN_SOURCES or found.all() or not found.any():
        return None
    once = np.ones((1, len(magnitude)))
    best = _maximum(magnitude, found, once, _start(magnitude, found))[0]
    n_groups = int(group.max()) + 1
    spread = np.full(4, np.nan)
    if n_groups > 1:
        spread = _bootstrap(magnitude, found, group, n_groups, best, n_bootstrap, seed)
    epsilon0, m50, width = (float(value) for value in _natural(best))
    crossed = _maximum(magnitude, found, once, best, curve=_fleming_terms)[0]
    return Efficiency(
        n_sources=len(magnitude),
        n_found=int(found.sum()),
        n_exposures=n_groups,
        epsilon0=epsilon0,
        m50=m50,
        width=width,
        m90=float(_m90(*_natural(best))),
        epsilon0_error=float(spread[0]),
        m50_error=float(spread[1]),
        width_error=float(spread[2]),
        m90_error=float(spread[3]),
        m50_fleming=float(crossed[1]),
    )


def _natural(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return eps0, m50 and w from logit(eps0), m50 and log(w), along the first axis."""
    return 1.0 / (1.0 + np.exp(-parameters[0])), parameters[1], np.exp(parameters[2])


def _m90(epsilon0: np.ndarray, m50: np.ndarray, width: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return m50 + width * np.log(np.where(epsilon0 > 0.9, epsilon0 / 0.9 - 1.0, np.nan))


_LOWEST, _HIGHEST = np.array([-2.0, -np.inf, np.log(0.01)]), np.array([9.0, np.inf, np.log(3.0)])
"""Limits of logit(eps0), m50 and log(w): eps0 0.12 to 0.9999, w 0.01 to 3 mag."""

_STEPS = np.array([1.0, 0.5, 0.5])
"""Largest change of each in one iteration."""

_ITERATIONS = 40
"""Of Fisher scoring; it converges within ten where the data decide."""


def _start(magnitude: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return a first guess: where as many brighter ones are lost as fainter ones are found."""
    order = np.argsort(magnitude)
    lost_before = np.cumsum(~found[order])
    found_after = found.sum() - np.cumsum(found[order])
    return np.array([3.0, magnitude[order][np.argmin(lost_before + found_after)], np.log(0.3)])


def _maximum(
    magnitude: np.ndarray, found: np.ndarray, weight: np.ndarray, start: np.ndarray, *, curve: Any = None
) -> np.ndarray:
    """Return the parameters of the greatest likelihood for each row of weights, ``(k, 3)``.

    Fisher scoring, all rows at once, from the same start.
    """
    terms = curve or _logistic_terms
    parameters = np.tile(start, (len(weight), 1))
    for _ in range(_ITERATIONS):
        share, slopes = terms(magnitude, parameters.T[..., None])
        share = np.clip(share, 1e-9, 1.0 - 1e-9)
        scaled = weight / (share * (1.0 - share))
        score = np.einsum("akn,kn->ka", slopes, scaled * (found - share))
        information = np.einsum("akn,bkn,kn->kab", slopes, slopes, scaled, optimize=True)
        step = np.linalg.solve(information + 1e-4 * np.eye(3), score[..., None])[..., 0]
        step = np.clip(step, -_STEPS, _STEPS)
        before, parameters = parameters, np.clip(parameters + step, _LOWEST, _HIGHEST)
        if np.abs(parameters - before).max() < 1e-5:
            break
    return parameters


def _logistic_terms(magnitude: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the efficiency and its derivatives by the three parameters."""
    epsilon0, m50, width = _natural(parameters)
    z = np.clip((magnitude - m50) / width, -60.0, 60.0)
    fall = 1.0 / (1.0 + np.exp(z))
    slope = epsilon0 * fall * (1.0 - fall)
    return epsilon0 * fall, np.stack([epsilon0 * (1.0 - epsilon0) * fall, slope / width, slope * z])


def _fleming_terms(magnitude: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Fleming's efficiency and its derivatives; alpha is 1 / (2 w), the same slope at m50."""
    epsilon0, m50, width = _natural(parameters)
    z = (magnitude - m50) / (2.0 * width)
    root = np.sqrt(1.0 + z**2)
    fall, slope = 0.5 * (1.0 - z / root), 0.5 * epsilon0 / root**3
    return epsilon0 * fall, np.stack([epsilon0 * (1.0 - epsilon0) * fall, slope / (2.0 * width), slope * z])


def _bootstrap(
    magnitude: np.ndarray,
    found: np.ndarray,
    group: np.ndarray,
    n_groups: int,
    best: np.ndarray,
    n_bootstrap: int,
    seed: str | int,
) -> np.ndarray:
    """Return the scatter of eps0, m50, w and m90 over exposures drawn with replacement."""
    rng = generator("efficiency", seed)
    drawn = rng.integers(n_groups, size=(n_bootstrap, n_groups))
    copies = np.array([np.bincount(row, minlength=n_groups) for row in drawn])
    natural = _natural(_maximum(magnitude, found, copies[:, group].astype(float), best).T)
    values = (*natural, _m90(*natural))
    kept = [column[np.isfinite(column)] for column in values]
    return np.array([column.std(ddof=1) if len(column) > 2 else np.nan for column in kept])
