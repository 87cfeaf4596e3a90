"""CPU time and memory of a subtraction, in units of one Fourier transform that runs beside it."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from scipy import fft

from astrid_assets.benchmarks.scenes import Scene, make_scene
from astrid_assets.images.pairs import AlignedPair

__all__ = ["LIMITS", "CostLine", "measure_cost"]

ROUNDS = 9
"""Repetitions of which the median counts."""

SMALL = 512
"""Side of the pair that everything is tried on first, so that compilation does not count, pixels."""

LIMITS = {"differencing": 30.0, "measurement": 90.0, "from files": 150.0}
"""CPU of the stages at most, in units of one float32 rfft2 of the same size."""

MEMORY_LIMIT = 0.4
"""Extra memory of a stage, GB (10^9 bytes)."""

_STATUS = Path("/proc/self/status")

STAGES = {
    "differencing": "zogy",
    "measurement": "normalize (PSFs, ratio, shift, masks), zogy, detect",
    "from files": "two FITS files to a candidate table: read, align with resampling, and all of the above",
}
"""What each stage is."""

Stage = Callable[[], Any]


@dataclass(frozen=True)
class CostLine:
    """A row of the result."""

    name: str
    limit: float | None
    value: float
    unit: str

    @property
    def passes(self) -> bool | None:
        """Whether the limit holds; None where there is none."""
        return None if self.limit is None else self.value <= self.limit

    def cells(self) -> list[Any]:
        """Return the row of a table."""
        verdict = {None: "", True: "yes", False: "NO"}[self.passes]
        return [self.name, "" if self.limit is None else f"<= {self.limit:g}", self.value, self.unit, verdict]

    def record(self) -> dict[str, Any]:
        """Return the row for a program."""
        return {
            "quantity": self.name,
            "high": self.limit,
            "value": self.value,
            "unit": self.unit,
            "passes": self.passes,
        }


def measure_cost(size: int, *, rounds: int = ROUNDS, seed: int = 1, memory: bool = True) -> list[CostLine]:
    """Measure what the stages of the pipeline cost, on one thread.

    Parameters
    ----------
    size
        Side of the science image, pixels.

    rounds
        Repetitions; a transform of the same size runs before each stage of each.

    seed
        Of the scenes: ``ztf``, and ``warp`` for the stage that resamples.

    memory
        Whether to measure the growth of fresh processes as well.
    """
    from threadpoolctl import threadpool_limits

    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        for stage in _stages(SMALL, seed, Path(folder)).values():
            stage()
        stages = _stages(size, seed, Path(folder))
        seconds = _interleaved(stages, np.random.default_rng(seed).normal(size=(size, size)), rounds)
        grown = _memory(size, seed) if memory else {}
    return _lines(seconds, grown)


def _stages(size: int, seed: int, folder: Path) -> dict[str, Stage]:
    """Return what is timed, by name; leaves its files in a folder."""
    from astrid_assets.science import align, detect, normalize, zogy

    scene = make_scene("ztf", size, seed)
    aligned = align(scene.science, scene.reference)
    normalized = normalize(aligned)
    _write_files(make_scene("warp", size, seed), folder)

    def measurement() -> None:
        pair = normalize(aligned)
        detect(zogy(pair), pair=pair)

    # a copy: nothing may be kept from the last time
    return {
        "differencing": lambda: zogy(normalized.replace()),
        "measurement": measurement,
        "from files": lambda: _from_files(folder),
    }


def _write_files(scene: Scene, folder: Path) -> None:
    from astrid_assets.images.fits import write_image

    write_image(folder / "science.fits", scene.science)
    write_image(folder / "reference.fits", scene.reference)


def _from_files(folder: Path) -> None:
    """Go from two FITS files to a table of candidates."""
    import pyarrow.parquet as pq

    from astrid_assets.images.fits import read_image
    from astrid_assets.science import align, detect, normalize, zogy

    pair = align(read_image(folder / "science.fits"), read_image(folder / "reference.fits"))
    pair = normalize(pair)
    pq.write_table(detect(zogy(pair), pair=pair), folder / "candidates.parquet")


def _interleaved(stages: dict[str, Stage], image: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of every stage in every round, and of the transforms between them."""
    image = image.astype(np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in ("rfft2", *stages)}
    fft.rfft2(image, workers=1)
    for _ in range(rounds):
        for name, stage in stages.items():
            seconds["rfft2"].append(_cpu(lambda: fft.rfft2(image, workers=1)))
            seconds[name].append(_cpu(stage))
    return seconds


def _cpu(stage: Stage) -> float:
    start = time.process_time()
    stage()
    return time.process_time() - start


def _lines(seconds: dict[str, list[float]], grown: dict[str, float]) -> list[CostLine]:
    unit = float(np.median(seconds["rfft2"]))
    found = [CostLine("one float32 rfft2", None, 1e3 * unit, "ms")]
    for name, limit in LIMITS.items():
        median = float(np.median(seconds[name]))
        found.append(CostLine(f"CPU, {STAGES[name]}", limit, median / unit, "rfft2"))
        found.append(CostLine(f"CPU, {STAGES[name]}", None, median, "s"))
    found += [CostLine(f"memory, {STAGES[name]}", MEMORY_LIMIT, value, "GB") for name, value in grown.items()]
    return found


# --- memory ---------------------------------------------------------------------------------------


def _memory(size: int, seed: int) -> dict[str, float]:
    """Return by how much each stage makes a fresh process grow at most, GB."""
    from astrid_assets.science import align, normalize

    scene = make_scene("ztf", size, seed)
    aligned = align(scene.science, scene.reference)
    pairs = {"differencing": normalize(aligned), "measurement": aligned}
    grown = {}
    for name, pair in pairs.items():
        command = [sys.executable, "-m", "astrid_assets.benchmarks.cost", name]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, input=pickle.dumps(pair, protocol=5)
        )
        grown[name] = float(json.loads(done.stdout.splitlines()[-1]))
    return grown


def _growth(name: str, source: IO[bytes]) -> float:
    """Return by how much a stage makes this process grow at most beyond what it holds with the pair, GB."""
    from astrid_assets.science import align, detect, normalize, zogy

    def stage(pair: AlignedPair) -> Any:
        if name == "differencing":
            return zogy(pair)
        pair = normalize(pair)
        difference = zogy(pair)
        return difference, detect(difference, pair=pair)

    # compilation and imports take memory once
    small = make_scene("ztf", SMALL, 1)
    warm = align(small.science, small.reference)
    stage(normalize(warm) if name == "differencing" else warm)
    pair = pickle.load(source)  # noqa: S301 - from the process that started this one
    _forget_peak()
    before = _peak()
    kept = stage(pair)
    del kept
    # the system counts lazily: the peak may come out a little lower than before
    return max(_peak() - before, 0.0) / 1e9


def _forget_peak() -> None:
    """Let the peak of this process start again from what it holds now, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        handle = os.open("/proc/self/clear_refs", os.O_WRONLY)
        os.write(handle, b"5")
        os.close(handle)


def _peak() -> float:
    """Return the largest resident size of this process, bytes.

    Where there is ``/proc``, since `_forget_peak`; what ``getrusage`` tells includes what the parent held
    when it started this process.
    """
    if _STATUS.exists():
        line = next(text for text in _STATUS.read_text().splitlines() if text.startswith("VmHWM"))
        return 1024.0 * float(line.split()[1])
    per_unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * per_unit


if __name__ == "__main__":
    print(json.dumps(_growth(sys.argv[1], sys.stdin.buffer)))  # noqa: T201 - read by the parent
