"""The benchmark of differencing: simulated pairs through the pipeline, their measures beside the bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from astrid_assets.benchmarks.expectation import expectation
from astrid_assets.benchmarks.measures import BINS, THRESHOLD, Estimate, Tally, measure, summarize
from astrid_assets.benchmarks.scenes import SCENARIOS, Scenario, Scene, make_scene
from astrid_assets.compute import default_workers, run_exposures
from astrid_assets.errors import ConfigurationError
from astrid_assets.images.pairs import Difference

__all__ = [
    "EVALUATION_SEED",
    "Bound",
    "Line",
    "Result",
    "bounds",
    "lines",
    "pool",
    "run",
    "scenario_names",
    "subtract",
]

EVALUATION_SEED = 1000
"""First seed of the scenes that count; smaller ones are for development."""

LEAST_MPIX, MOST_MPIX = 28.0, 60.0
"""Megapixels of science image that are pooled at least, and at most where errors stay too large."""

SIGMAS = 2.0
"""A number passes when its interval of so many standard errors overlaps the bound."""


@dataclass(frozen=True)
class Bound:
    """What a number must lie within."""

    low: float
    high: float
    tolerance: float
    """A third of it is the largest standard error that is wanted."""

    def __str__(self) -> str:
        """Return the bound as text."""
        if self.low == -math.inf:
            return f"<= {self.high:g}"
        if self.high == math.inf:
            return f">= {self.low:g}"
        return f"{self.low:g} to {self.high:g}"

    def holds(self, estimate: Estimate) -> bool:
        """Return whether an interval overlaps the bound."""
        reach = SIGMAS * estimate.error
        return estimate.value - reach <= self.high and estimate.value + reach >= self.low

    def settles(self, estimate: Estimate) -> bool:
        """Return whether a standard error is small enough."""
        return 3.0 * estimate.error <= self.tolerance


@dataclass(frozen=True)
class Line:
    """A row of the result."""

    quantity: str
    bound: Bound | None
    estimate: Estimate | None

    @property
    def passes(self) -> bool | None:
        """Whether the number holds; None where there is no bound, or no number."""
        return None if self.bound is None or self.estimate is None else self.bound.holds(self.estimate)

    def cells(self) -> list[Any]:
        """Return the row of a table."""
        verdict = {None: "", True: "yes", False: "NO"}[self.passes]
        number = self.estimate or Estimate(math.nan, math.nan, 0)
        return [self.quantity, str(self.bound or ""), number.value, number.error, number.n, verdict]

    def record(self) -> dict[str, Any]:
        """Return the row for a program."""
        number = self.estimate or Estimate(math.nan, math.nan, 0)
        bound = self.bound or Bound(math.nan, math.nan, math.nan)
        return {
            "quantity": self.quantity,
            "low": bound.low,
            "high": bound.high,
            "value": float(number.value),
            "error": float(number.error),
            "n": int(number.n),
            "passes": self.passes,
        }


def _about(centre: float, half: float) -> Bound:
    return Bound(centre - half, centre + half, half)


def _at_most(limit: float, tolerance: float) -> Bound:
    return Bound(-math.inf, limit, tolerance)


_PHASES = tuple(f"{axis}{quarter}" for axis in "xy" for quarter in range(4))

_BRIGHT = {"varpsf": 0.014, "sharp": None}
"""Largest residual of bright stars by scenario; that of ``sharp`` stands beside the yardstick."""


def bounds(scenario: Scenario) -> dict[str, Bound | None]:
    """Return what each number of a scenario must reach; None for those that are only shown."""
    found: dict[str, Bound | None] = {}
    for name in ("0", *BINS):
        found |= {f"pull/{name}/mean": _about(0.0, 0.05), f"pull/{name}/std": _about(1.0, 0.03)}
    blank = _about(1.0, 0.03 if scenario.resampled else 0.02)
    found |= {"score/blank": blank, "score/static": _about(1.0, 0.05)}
    if scenario.resampled:
        found |= {f"score/blank/{phase}": blank for phase in _PHASES}
        found |= {f"score/static/{phase}": _about(1.0, 0.05) for phase in _PHASES}
    # noise alone gives about 0.2
    found |= {f"false/{sign}": _at_most(0.5, 0.3) for sign in ("positive", "negative")}
    found |= {f"false_kept/{sign}": None for sign in ("positive", "negative")}
    found |= {"flagged": _at_most(0.03, 0.03), "found": _about(1.0, 0.03), "kept": None}
    if scenario.bright:
        found |= {"found/host": Bound(0.97, math.inf, 0.03), "kept/host": None}
    bias = None if scenario.name == "ideal" else _about(0.0, 0.01)
    found |= {"flux/true": bias, "flux/found": bias}
    found["position"] = _at_most(0.125, 0.005)
    if scenario.bright:
        residual = _BRIGHT.get(scenario.name, 0.013)
        found["bright"] = None if residual is None else _at_most(residual, 0.002)
    found["correlation"] = None if scenario.resampled else _about(0.0, 0.01)
    return found


# --- the pipeline ---------------------------------------------------------------------------------

Subtraction = Callable[[Scene], tuple[Difference, Any]]


def subtract(scene: Scene, *, method: str = "zogy") -> tuple[Difference, Any]:
    """Return the difference of a scene and its candidates, everything estimated from the two images.

    Parameters
    ----------
    scene
        Only its images are used.

    method
        ``zogy`` or ``classic``.
    """
    from astrid_assets.science import align, classic, detect, normalize, zogy

    pair = normalize(align(scene.science, scene.reference))
    difference = {"zogy": zogy, "classic": classic}[method](pair)
    return difference, detect(difference, pair=pair, threshold=THRESHOLD)


@dataclass(frozen=True)
class _Task:
    """A scene to be measured."""

    scenario: str
    size: int
    seed: int
    methods: tuple[str, ...]


def _measure(task: _Task) -> dict[str, Tally]:
    """Make a scene, subtract it by each method, and measure."""
    from astrid_assets.benchmarks.peers import PEERS
    from astrid_assets.benchmarks.yardstick import subtract_with_truth

    scene = make_scene(task.scenario, task.size, task.seed)
    expected = expectation(task.scenario)
    tallies = {}
    for method in task.methods:
        if method == "yardstick":
            difference, candidates = subtract_with_truth(scene)
        elif method in PEERS:
            difference, candidates = PEERS[method](scene)
        else:
            difference, candidates = subtract(scene, method=method)
        rng = np.random.default_rng(task.seed)
        tallies[method] = measure(scene, difference, candidates, expected, rng=rng)
    return tallies


def pool(
    scenario: str,
    *,
    size: int,
    algorithms: tuple[str, ...] = ("zogy",),
    mpix: float | None = None,
    first_seed: int = EVALUATION_SEED,
    workers: int = 1,
) -> Iterator[dict[str, Tally]]:
    """Measure scenes until there are enough, and yield what is pooled so far after each round.

    Parameters
    ----------
    scenario
        Name.

    size
        Side of a science image, pixels.

    algorithms
        Of ``zogy``, ``classic``, ``yardstick``, and the names of peers. The first one decides when it is
        enough.

    mpix
        Megapixels to pool. Default is `LEAST_MPIX`, and on until the standard error of each number
        is below a third of its tolerance or `MOST_MPIX` are reached.

    first_seed
        Scenes have consecutive seeds.

    workers
        Processes.
    """
    each = size * size / 1e6
    goals = [mpix] if mpix else np.linspace(LEAST_MPIX, MOST_MPIX, 5)
    pooled: dict[str, Tally] = {name: Tally() for name in algorithms}
    seed = first_seed
    for goal in goals:
        n = max(1, math.ceil(goal / each - 1e-9)) - (seed - first_seed)
        tasks = [_Task(scenario, size, seed + i, algorithms) for i in range(max(n, 0))]
        seed += len(tasks)
        for outcome in run_exposures(_measure, tasks, workers=workers):
            if outcome.error is not None or outcome.result is None:
                raise outcome.error or RuntimeError("no result")
            pooled = {m: Tally.merge(pooled[m], outcome.result[m]) for m in algorithms}
        yield pooled
        if _settled(scenario, pooled[algorithms[0]]):
            return


def _settled(scenario: str, tally: Tally) -> bool:
    """Return whether every number that has a bound is known well enough."""
    return all(
        line.bound is None or (line.estimate is not None and line.bound.settles(line.estimate))
        for line in lines(scenario, tally)
    )


def lines(scenario: str, tally: Tally) -> list[Line]:
    """Return the rows of the result of a scenario."""
    numbers = summarize(tally)
    return [Line(name, bound, numbers.get(name)) for name, bound in bounds(SCENARIOS[scenario]).items()]


# --- the run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """The numbers of a method in a scenario."""

    lines: list[Line]
    mpix: float
    scenes: int
    settled: bool
    """Whether every standard error is below a third of its tolerance."""

    @property
    def summary(self) -> str:
        """Return what was pooled, in words."""
        text = f"{self.scenes} scenes, {self.mpix:.1f} Mpix"
        return text if self.settled else f"{text}; not every standard error is below a third of its tolerance"

    def record(self) -> dict[str, Any]:
        """Return the result for a program."""
        rows = [line.record() for line in self.lines]
        return {"mpix": self.mpix, "scenes": self.scenes, "settled": self.settled, "rows": rows}


def scenario_names(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return the chosen scenarios, all where none was.

    Raises
    ------
    ConfigurationError
        For a name that is none.
    """
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        raise ConfigurationError(f"no scenario is called {unknown[0]!r}: choose from {', '.join(SCENARIOS)}")
    return chosen or tuple(SCENARIOS)


def run(
    scenario: str,
    *,
    size: int,
    mpix: float | None = None,
    first_seed: int | None = None,
    workers: int | None = None,
    classic: bool = False,
    yardstick: bool = False,
    peers: bool = False,
    told: Callable[[str], None] | None = None,
) -> dict[str, Result]:
    """Measure a scenario.

    Parameters
    ----------
    scenario
        Name.

    size
        Side of a science image, pixels.

    mpix, first_seed, workers
        As for `pool`, with its defaults.

    classic, yardstick, peers
        What is measured beside our ZOGY, on the same scenes. Where the bound of a number is the
        yardstick (``sharp``), it always is.

    told
        Called with a line now and then, while it goes on.

    Returns
    -------
    dict
        Results by method.
    """
    from astrid_assets.benchmarks.peers import available
    from astrid_assets.benchmarks.yardstick import applies

    algorithms = ["zogy"] + ["classic"] * classic
    if applies(SCENARIOS[scenario]) and (yardstick or _BRIGHT.get(scenario, 0) is None):
        algorithms.append("yardstick")
    if peers:
        algorithms += available(SCENARIOS[scenario])
    seed = EVALUATION_SEED if first_seed is None else first_seed
    pooled: dict[str, Tally] = {}
    for pooled in pool(
        scenario,
        size=size,
        algorithms=tuple(algorithms),
        mpix=mpix,
        first_seed=seed,
        workers=workers or default_workers(),
    ):
        if told is not None:
            told(f"{scenario}: {pooled['zogy'].rows['pixels'].sum() / 1e6:.1f} Mpix")
    return {method: _result(scenario, tally) for method, tally in pooled.items()}


def _result(scenario: str, tally: Tally) -> Result:
    pixels = tally.rows["pixels"]
    mpix, settled = float(pixels.sum()) / 1e6, _settled(scenario, tally)
    return Result(lines(scenario, tally), mpix, len(pixels), settled)
