"""The point-spread function of the simulated telescope, in Fourier space.

It is no member of a family that fitters use: a long-exposure Kolmogorov core with its own r^(-11/3)
wings, an aureole of scattered light, four diffraction spikes and the response of square pixels.
Over the field its size and ellipticity vary; the variation is linear in three derivatives of the
transfer function, so that an image is a sum of four convolutions, exact to any distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, log, radians, sin

import numpy as np

__all__ = ["PsfField", "fwhm", "instrument", "phase_structure"]

_AUREOLE, _AUREOLE_RADIUS = 0.02, 3.0
"""Share of the light in the aureole, and its scale in pixels (a two-dimensional r^-3 law; King 1971)."""

_SPIKES, _SPIKE_LENGTH, _SPIKE_WIDTH = 0.012, 9.0, 0.6
"""Share of the light in the spikes, their scale length and their Gaussian width, pixels."""


@dataclass(frozen=True)
class PsfField:
    """A PSF that varies over an image. Field coordinates run from -1 to 1 from edge to edge."""

    fwhm: float
    """FWHM of the Kolmogorov part at the centre, pixels."""

    ellipticity: tuple[float, float]
    """Two components of the ellipticity at the centre."""

    size_terms: tuple[float, float, float]
    """Relative growth of the size: per X, per Y, per (X^2 + Y^2)."""

    ellipticity_terms: tuple[tuple[float, float, float], tuple[float, float, float]]
    """The same for the two components of the ellipticity."""

    spike_angle: float
    """Direction of the spikes from the axes, degrees."""

    def weights(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the weights of the three derivatives at field coordinates.

        With u = 3.44 (f FWHM / 0.976)^(5/3) (Fried 1966) and transfer function exp(-u), a size
        grown by a gives -(5/3) a u exp(-u), an ellipticity e half of that with the cosine or sine
        of twice the angle.
        """
        size = -5.0 / 3.0 * _polynomial(self.size_terms, x, y)
        pairs = zip(self.ellipticity, self.ellipticity_terms, strict=True)
        first, second = (-5.0 / 6.0 * (e + _polynomial(terms, x, y)) for e, terms in pairs)
        return size, first, second


def _polynomial(terms: tuple[float, float, float], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b, c = terms
    return a * x + b * y + c * (x * x + y * y)


def phase_structure(fx: np.ndarray, fy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return u for a FWHM of 1 pixel, and cosine and sine of twice the angle.

    Parameters
    ----------
    fx, fy
        Frequencies in cycles per pixel, broadcast against each other.
    """
    square = fx * fx + fy * fy
    safe = np.where(square > 0, square, 1.0)
    u = 3.44 * (square / 0.976**2) ** (5.0 / 6.0)
    return u, (fx * fx - fy * fy) / safe, 2.0 * fx * fy / safe


def instrument(fx: np.ndarray, fy: np.ndarray, angle: float) -> np.ndarray:
    """Return the transfer function of telescope and pixel, without the atmosphere.

    Parameters
    ----------
    fx, fy
        Frequencies in cycles per pixel, broadcast against each other.

    angle
        Direction of the spikes, degrees.
    """
    c, s = cos(radians(angle)), sin(radians(angle))
    along, across = c * fx + s * fy, -s * fx + c * fy
    radius = np.sqrt(fx * fx + fy * fy)
    aureole = np.exp(-2 * np.pi * _AUREOLE_RADIUS * radius)
    light = (1.0 - _AUREOLE - _SPIKES) + _AUREOLE * aureole
    light = light + _SPIKES * 0.5 * (_spike(along, across) + _spike(across, along))
    return np.sinc(fx) * np.sinc(fy) * light


def _spike(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return the transfer function of a pair of spikes: exponential along, Gaussian across."""
    length = 1.0 / (1.0 + (2 * np.pi * _SPIKE_LENGTH * along) ** 2)
    return length * np.exp(-2.0 * (np.pi * _SPIKE_WIDTH * across) ** 2)


def fwhm(psf: PsfField, x: float = 0.0, y: float = 0.0) -> float:
    """Return the full width at half maximum at field coordinates, pixels.

    Geometric mean of the widths of cuts along both axes through the pixel-integrated PSF.
    """
    f = np.linspace(-1.2, 1.2, 97)
    fx, fy = f[None, :], f[:, None]
    u, cosine, sine = phase_structure(fx, fy)
    u = u * psf.fwhm ** (5.0 / 3.0)
    size, first, second = (float(w) for w in psf.weights(np.float64(x), np.float64(y)))
    transfer = instrument(fx, fy, psf.spike_angle) * np.exp(-u)
    transfer = transfer * (1.0 + u * (size + first * cosine + second * sine))
    return float(np.exp(0.5 * sum(log(_half_width(f, transfer.sum(axis))) for axis in (0, 1)))) * 2.0


def _half_width(f: np.ndarray, spectrum: np.ndarray) -> float:
    r = np.linspace(0.0, 6.0, 601)
    cut = np.cos(2 * np.pi * r[:, None] * f[None, :]) @ spectrum
    return float(np.interp(-0.5 * cut[0], -cut[:400], r[:400]))
