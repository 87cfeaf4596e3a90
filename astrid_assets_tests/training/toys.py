"""Toy triplets of ZTF-like pixels: sources and the plainest artefacts, drawn without the package."""

from __future__ import annotations

import numpy as np

SIGMA = 0.95
"""Gaussian PSF, pixels: FWHM 2.2."""

BOGUS = ("hot_pixel", "dipole", "column")


def gaussian(size: int, x: float, y: float, sigma: float = SIGMA) -> np.ndarray:
    """Return a Gaussian of unit sum beside the middle of a stamp."""
    rows, columns = np.mgrid[:size, :size] - size // 2
    return np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / sigma**2) / (2 * np.pi * sigma**2)


def triplet(kind: str, rng: np.random.Generator, *, size: int = 63, snr: float = 20.0) -> np.ndarray:
    """Return science, reference and difference; noise 6 in the science image, a fifth in the reference."""
    now, before = rng.normal(0, 6.0, (size, size)), rng.normal(0, 1.2, (size, size))
    x, y = rng.uniform(-0.5, 0.5, 2)
    flux = snr * 6.0 * np.sqrt(4 * np.pi) * SIGMA
    change = np.zeros((size, size))
    static = np.zeros((size, size))
    if kind == "source":
        change = flux * gaussian(size, x, y)
        static = rng.choice([0.0, 3.0]) * flux * gaussian(size, x, y)
    elif kind == "hot_pixel":
        change[size // 2, size // 2] = 0.4 * flux
    elif kind == "column":
        change[:, size // 2] = 0.1 * flux
    elif kind == "dipole":
        static = 20 * flux * gaussian(size, x, y)
        change = 20 * flux * gaussian(size, x + 0.15, y) - static
    return np.stack([static + change + now, static + before, change + now - before])


def samples(n: int, *, seed: int = 0, size: int = 63) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return stamps, labels and kinds of n triplets of both classes."""
    rng = np.random.default_rng(seed)
    kinds = np.array(["source" if i % 2 else BOGUS[i // 2 % len(BOGUS)] for i in range(n)])
    stamps = np.stack([triplet(kind, rng, size=size, snr=rng.uniform(6, 60)) for kind in kinds])
    return stamps.astype(np.float32), (kinds == "source").astype(int), kinds
