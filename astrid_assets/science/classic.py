"""Classic subtraction: the sharper image is convolved to the PSF of the other, then subtracted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy import fft

from astrid_assets.errors import PsfError, ScienceError
from astrid_assets.images.pairs import AlignedPair, Difference
from astrid_assets.science.filtering import Filters, Spectra, subtract
from astrid_assets.science.kernel import MatchingKernel, fit_kernel, is_sharper
from astrid_assets.science.naive import decorrelated, naive_filters
from astrid_assets.science.resample import embed

__all__ = ["MATCHINGS", "classic"]

MATCHINGS = ("kernel", "psf", "naive")
"""Ways to match the PSFs, best first; the place in this list is the metric ``matching_fallback``."""

WIENER = 1e-3
"""Regularization of the division of two PSFs, relative to the power at zero frequency."""

LARGEST_MISMATCH = 0.05
"""Largest residual of a PSF matched by division, relative to it: beyond, matching does not help."""

Matching = Literal["auto", "kernel", "psf", "naive"]
"""Values of the option ``matching``."""

_log = logging.getLogger(__name__)

_Matched = tuple[Callable[[Spectra], Filters], dict[str, Any]]


def classic(pair: AlignedPair, *, matching: Matching = "auto") -> Difference:
    """Subtract the PSF-matched reference of a normalized pair.

    The method beside `zogy` (Phillips & Davis 1995; Alard & Lupton 1998): the image with the smaller
    PSF is convolved with a kernel that is fitted on sources of both images (`fit_kernel`), then the
    noise that the kernel has correlated is whitened (Reiss & Lupton 2016, DMTN-021), with the PSF of
    the difference to go with it. So both methods differ in nothing but the filters.

    Parameters
    ----------
    pair
        From `normalize`.

    matching
        ``kernel`` for the fitted kernel; ``psf`` for a regularized division of the two measured PSFs;
        ``naive`` for none. ``auto`` takes the first of them that the pair allows; anything but the
        fitted kernel is logged as a warning.

    Returns
    -------
    Difference
        ``data`` is science minus matched reference, whitened, in the science image's unit (or
        matched science minus reference, where the science image is the sharper one).
        ``origin["classic"]`` tells the ``matching`` that was used, which image it ``convolved``, the
        ``reason`` for not using a better one, and of a fitted kernel its order, sum and stars; the
        numbers among them are in ``metrics`` with names that begin with ``matching_``.

    Raises
    ------
    ScienceError
        If the pair was not normalized, or there is no ``matching`` of that name.

    PsfError
        If the ``matching`` that was asked for is not possible.
    """
    if pair.normalization is None or pair.science.psf is None or pair.reference.psf is None:
        raise ScienceError("the pair is not normalized: call normalize() first")
    make_filters, record = _match(pair, matching)
    difference = subtract(pair, make_filters, method="classic")
    numbers = {k: float(v) for k, v in record.items() if isinstance(v, int | float)}
    metrics = {f"matching_{name}": value for name, value in numbers.items()}
    return difference.replace(
        origin={**difference.origin, "classic": record}, metrics={**difference.metrics, **metrics}
    )


def _match(pair: AlignedPair, matching: Matching) -> _Matched:
    """Return the filters of a way of matching, or of the best one that is possible, and what to record."""
    if matching not in ("auto", *MATCHINGS):
        raise ScienceError(f"no way of matching is named {matching!r}: use auto, {', '.join(MATCHINGS)}")
    if matching != "auto":
        make_filters, record = _WAYS[matching](pair)
        return make_filters, {"matching": matching, "fallback": MATCHINGS.index(matching), **record}
    reasons = []
    for place, name in enumerate(MATCHINGS):
        try:
            make_filters, record = _WAYS[name](pair)
        except PsfError as error:
            reasons.append(str(error))
            _log.warning("classic subtraction without a matching by %s: %s", name, error)
            continue
        return make_filters, {"matching": name, "fallback": place, "reason": "; ".join(reasons), **record}
    raise AssertionError("the naive subtraction is always possible")


def _by_kernel(pair: AlignedPair) -> _Matched:
    """Match by a kernel fitted on the sources of the pair."""
    varies = any(pair.normalization.flux_ratio_gradient)
    kernel = fit_kernel(pair, ratio_order=1 if varies else 0)
    ny, nx = pair.science.shape
    total = kernel.sum_at((nx - 1) / 2, (ny - 1) / 2)
    record = {
        "convolved": kernel.convolves,
        "order": kernel.order,
        "n_stamps": kernel.n_stamps,
        "n_rejected": kernel.n_rejected,
        "chi2": kernel.chi2,
        "residual": kernel.residual,
        "flux_ratio": total if kernel.convolves == "reference" else 1.0 / total,
    }
    return _Fitted(kernel), record


class _Fitted:
    """Filters of a fitted kernel; it holds the shift and the flux ratio of the pair."""

    def __init__(self, kernel: MatchingKernel) -> None:
        self.kernel = kernel

    def __call__(self, s: Spectra) -> Filters:
        stamp = self.kernel.at(s.x, s.y)
        transform = fft.rfft2(embed(stamp, s.shape))
        one = np.ones_like(transform)
        if self.kernel.convolves == "reference":
            return decorrelated(s, one, transform)
        total = stamp.sum()
        return decorrelated(s, transform / total, one / total)


def _by_psf(pair: AlignedPair) -> _Matched:
    """Match by dividing the measured PSFs, where that works."""
    reference_first = is_sharper(pair.reference.psf, pair.science.psf)
    sharp, broad = (
        (pair.reference.psf, pair.science.psf) if reference_first else (pair.science.psf, pair.reference.psf)
    )
    ny, nx = pair.science.shape
    side = fft.next_fast_len(2 * max(*sharp.shape, *broad.shape), real=True)
    p_sharp, p_broad = (
        fft.rfft2(embed(psf.at((nx - 1) / 2, (ny - 1) / 2), (side, side))) for psf in (sharp, broad)
    )
    left = p_broad - _divided(p_sharp, p_broad) * p_sharp
    mismatch = float(np.sqrt((np.abs(left) ** 2).sum() / (np.abs(p_broad) ** 2).sum()))
    if mismatch > LARGEST_MISMATCH:
        raise PsfError(f"no kernel turns one PSF into the other: {100 * mismatch:.0f} % of it are left")
    convolved = "reference" if reference_first else "science"

    def filters(s: Spectra) -> Filters:
        one = np.ones_like(s.psf_science)
        if reference_first:
            return decorrelated(s, one, s.flux_ratio * _divided(s.psf_reference, s.psf_science))
        return decorrelated(s, _divided(s.psf_science, s.psf_reference), s.flux_ratio * one)

    return filters, {"convolved": convolved, "mismatch": mismatch}


def _divided(sharp: np.ndarray, broad: np.ndarray) -> np.ndarray:
    """Return the kernel that turns a sharp PSF into a broad one, by Wiener division, of unit sum."""
    power = np.abs(sharp) ** 2
    kernel = broad * np.conj(sharp) / (power + WIENER * power[0, 0])
    return kernel / kernel[0, 0].real


def _by_nothing(pair: AlignedPair) -> _Matched:
    """Match nothing but the fluxes."""
    del pair
    return naive_filters, {"convolved": "none"}


_WAYS: dict[str, Callable[[AlignedPair], _Matched]] = {
    "kernel": _by_kernel,
    "psf": _by_psf,
    "naive": _by_nothing,
}
