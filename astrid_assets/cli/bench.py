"""``astrid bench``: what the platform is measured by."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from astrid_assets.cli.output import json_option, print_json, print_table

__all__ = ["at_home", "bench", "difference", "survey_fields", "training"]

_STAMPS = "alerts/ztf_alert_triplets_dev.parquet"
"""Labelled stamps below ``ASTRID_REAL_DATA``."""

_HOME = "benchmarks/training"
"""Home of the benchmark's own survey, below ``DAGSTER_HOME``."""

_CLOCK = "2025-09-17"
"""Time at which that survey stands, so that the numbers are the same on every date."""

_FIELDS = 20
"""Fields of the survey; each has another density of stars, other seeing and another detector."""

_EPOCHS = 3
"""Exposures of a field."""

_SIDE = 1024
"""Side of an exposure, pixels: smaller ones have too few stars for a good PSF."""

_SEED = 3
"""Seed of its sky, another than that of the demo."""

_PROCESSING = {"injections": {"density": 90.0, "n_artifacts": 45, "max_flagged": 60}}
"""More is put into each exposure than the platform does by itself: only stamps are wanted here."""

_NORMALIZATIONS = ({"prefer_given_psf": True}, {"prefer_given_psf": True, "cosmic_rays": False})
"""Options of the normalization that fields take in turn. The PSF is the one that the survey publishes with
each exposure, as its own pipeline uses it. Alert streams hold hits and hot pixels that masks missed: half of
the fields let them through."""

_ASSETS = (
    "observations",
    "science_images",
    "references",
    "known_objects",
    "ztf_alerts",
    "aligned_pairs",
    "normalized_pairs",
    "zogy_differences",
    "classic_differences",
    "candidates",
    "cutouts",
    "light_curves",
    "injections",
    "training_set",
    "training_release",
)
"""What a release needs; reports are left out."""

_SINE_LIMITS = (-0.42, 0.98)
"""Sine of the declinations that Palomar sees for some months; low ones have bad seeing."""


@click.group()
def bench() -> None:
    """Measure the platform."""


@bench.command()
@click.option(
    "--release",
    "release_folder",
    type=click.Path(exists=True, file_okay=False),
    help="Release to train on [one that is made for the benchmark and kept].",
)
@click.option(
    "--stamps",
    type=click.Path(exists=True, dir_okay=False),
    help=f"Labelled real stamps, Parquet [$ASTRID_REAL_DATA/{_STAMPS}].",
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings.")
@click.option(
    "--model",
    type=click.Choice(["network", "features"]),
    help="Small network (needs the extra torch), or boosted trees on features [network if it can be].",
)
@json_option
def training(
    release_folder: str | None, stamps: str | None, seeds: int, model: str | None, as_json: bool
) -> None:
    """Train on synthetic samples alone, test on labelled real ZTF stamps.

    Medians over the trainings count; the interval (95 %) is by bootstrap over objects. The real
    stamps decide nothing else.
    """
    from astrid_assets.compute import default_workers
    from astrid_assets.training.benchmark import read_labelled_stamps
    from astrid_assets.training.network import available
    from astrid_assets.training.transfer import measure, read_samples

    started = time.perf_counter()
    real = read_labelled_stamps(_stamps(stamps))
    folder = Path(release_folder) if release_folder else _benchmark_release()
    made = time.perf_counter()
    recipe = model or ("network" if available() else "features")
    result = measure(
        read_samples(folder, ("train", "validation")),
        read_samples(folder, ("test",)),
        real,
        recipe=recipe,
        seeds=seeds,
        workers=default_workers(),
    )
    result |= {
        "model": recipe,
        "release": folder.name,
        "seconds": round(time.perf_counter() - started, 1),
        "seconds_release": round(made - started, 1),
    }
    _print(result)
    if as_json:
        print_json(result)


@bench.command()
@click.option("--scenario", "names", multiple=True, help="Kind of pair, may be repeated [all of them].")
@click.option("--size", type=click.IntRange(min=128), default=1024, show_default=True, help="Side, pixels.")
@click.option("--mpix", type=float, help="Megapixels to pool [28, up to 60 where errors stay large].")
@click.option("--first-seed", type=int, help="Seeds of the scenes count from here [1000].")
@click.option("--workers", type=click.IntRange(min=1), help="Processes [ASTRID_WORKERS, or the cores].")
@click.option("--classic", is_flag=True, help="Measure the classic subtraction as well.")
@click.option("--yardstick", is_flag=True, help="Measure a plain ZOGY that is given the truth as well.")
@click.option("--peers", is_flag=True, help="Measure other packages as well, where they are installed.")
@click.option("--cost/--no-cost", default=True, help="Measure CPU time and memory [yes].")
@json_option
def difference(names: tuple[str, ...], size: int, cost: bool, as_json: bool, **options: Any) -> None:
    """Subtract simulated pairs whose truth is known, and hold every number against its bound.

    The pipeline estimates everything from the pixels. CPU is in units of one float32 rfft2 of the same
    size that runs beside it.
    """
    from astrid_assets.benchmarks.cost import measure_cost
    from astrid_assets.benchmarks.difference import run, scenario_names

    results = {}
    for name in scenario_names(names):
        for method, result in run(name, size=size, told=_tell, **options).items():
            click.echo(f"{name}, {method}: {result.summary}")
            columns = ["quantity", "bound", "measured", "+-", "n", "passes"]
            print_table(columns, [line.cells() for line in result.lines])
            results.setdefault(name, {})[method] = result.record()
    spent = measure_cost(size) if cost else None
    if spent is not None:
        print_table(["cost", "bound", "measured", "unit", "passes"], [line.cells() for line in spent])
    if as_json:
        records = None if spent is None else [line.record() for line in spent]
        print_json({"size": size, "scenarios": results, "cost": records})


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _stamps(given: str | None) -> Path:
    from astrid_assets.errors import ConfigurationError

    root = os.environ.get("ASTRID_REAL_DATA")
    if given is None and not root:
        raise ConfigurationError("no labelled stamps to test on: give --stamps, or set ASTRID_REAL_DATA")
    return Path(given) if given else Path(root or "") / _STAMPS


def _print(result: Mapping[str, Any]) -> None:
    from astrid_assets.training.benchmark import SUBSETS

    numbers = result["n"]
    click.echo(
        f"{result['model']}: {len(result['seeds'])} trainings on {numbers['training']} samples of release "
        f"{result['release']}, {result['seconds']:.0f} s"
    )
    columns = ("auc", "low", "high", "n_real", "n_bogus", "objects")
    rows = [
        [name, *(result["subsets"][name][c] for c in columns), text]
        for name, text in SUBSETS.items()
        if name in result["subsets"]
    ]
    whole = [result[f"real_auc{end}"] for end in ("", "_low", "_high")]
    whole += [numbers[name] for name in columns[3:]]
    print_table(["real stamps", *columns, ""], [["all", *whole, "all labels together"], *rows], decimals={})
    click.echo(f"synthetic test split {result['synthetic_auc']:.4f}")
    click.echo(
        f"told apart that should not be (0.5 is best): by mask and background {result['shortcut_auc']:.3f}, "
        f"by trees on them {result['shortcut_auc_trees']:.3f}, injected against observed "
        f"{_number(result['domain_auc'])}"
    )


def _number(value: float | None) -> str:
    return "not measured (too few)" if value is None else f"{value:.3f}"


def survey_fields() -> dict[str, dict[str, Any]]:
    """Return the benchmark's registry: small simulated fields, evenly over the sky that Palomar sees.

    They lie on a golden spiral; bands and options of the normalization take turns.
    """
    low, high = _SINE_LIMITS
    fields = {}
    for i in range(_FIELDS):
        sine = low + (high - low) * (i + 0.5) / _FIELDS
        fields[f"bench_{i:02d}"] = {
            "ra": round((i * 137.50776) % 360.0, 4),
            "dec": round(math.degrees(math.asin(sine)), 4),
            "radius": 0.15,
            "archives": ["simulated"],
            "bands": ["g" if i % 4 < 2 else "r"],
            "science_window": {"start": "2024-03-01", "end": "2025-03-01"},
            "reference_window": {"end": "2023-12-01"},
            "simulated": {
                "seed": _SEED,
                "shape": [_SIDE, _SIDE],
                "corrupt": False,
                "max_epochs_per_band": _EPOCHS,
            },
            "processing": {**_PROCESSING, "normalized_pairs": _NORMALIZATIONS[i % 2]},
        }
    return fields


def _benchmark_release() -> Path:
    """Run the benchmark's survey through the graph in a home of its own; what is done is kept."""
    import yaml

    from astrid_assets.cli.run import materialize
    from astrid_assets.errors import BenchmarkError
    from astrid_assets.home import dagster_home

    home, fields = dagster_home() / _HOME, survey_fields()
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").touch()  # Dagster warns where there is none
    (home / "fields.yaml").write_text(yaml.safe_dump(fields, sort_keys=False, default_flow_style=None))
    with at_home(home):
        summary = materialize(list(fields), assets=_ASSETS)
    failed = [run for run in summary.fields if run.status == "failed"]
    if failed:
        raise BenchmarkError(f"the benchmark's survey failed in {failed[0].name}: {failed[0].error}")
    release = summary.release
    if release is None or release.path is None:
        reason = "no release was made" if release is None else release.reason
        raise BenchmarkError(f"the benchmark's survey gave no release: {reason}")
    return Path(release.path)


@contextmanager
def at_home(home: Path) -> Iterator[None]:
    """Let the platform work in another home, at a clock that stands still."""
    ours = {"DAGSTER_HOME": str(home), "ASTRID_NOW": _CLOCK}
    before = {name: os.environ.pop(name, None) for name in (*ours, "ASTRID_FIELDS", "ASTRID_DATA")}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
