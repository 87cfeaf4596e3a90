"""How fast `TripletDataset` reads: random batches of a release, against a plain copy of the same pixels.

Run: ``python -m astrid_assets_tests.benchmarks.loader RELEASE [--batch 128]``. Nothing is asserted; the last
line is JSON. Rates count the pixels handed out, MB (1e6 bytes) a second of CPU time (other work on the
machine does not count); files in memory. ``first_epoch_`` is a view whose background and scale are measured.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from astrid_assets.training import TripletDataset

SECONDS = 1.0
"""Time that each rate is measured over."""


def rate(read: Callable[[np.ndarray], np.ndarray], n: int, batch: int) -> float:
    """Return MB a second of random batches."""
    random = np.random.default_rng(1)
    size, started = 0, time.process_time()
    while time.process_time() - started < SECONDS:
        size += read(random.integers(n, size=batch)).nbytes
    return size / 1e6 / (time.process_time() - started)


def measure(path: str, batch: int) -> dict[str, float]:
    """Return the rates of all views, of the stamps as stored, and of a copy in memory."""
    started = time.perf_counter()
    data = TripletDataset(path, "train", view=None, size=65)
    data[0]
    found = {"open_seconds": time.perf_counter() - started}
    pixels = data[:][0]
    found["copy_in_memory"] = rate(lambda index: pixels[index], len(data), batch)
    for view in (None, "raw", "l2", "asinh"):
        data = TripletDataset(path, "train", view=view, size=63 if view else 65)
        started = time.process_time()
        size = sum(stamps.nbytes for stamps, _ in data.loader(batch))
        found[f"first_epoch_{view or 'as_stored'}"] = size / 1e6 / (time.process_time() - started)
        found[str(view or "as_stored")] = rate(lambda index, data=data: data[index][0], len(data), batch)
    return found


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release")
    parser.add_argument("--batch", type=int, default=128)
    given = parser.parse_args()
    found = measure(given.release, given.batch)
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))  # noqa: T201


if __name__ == "__main__":
    main()
