"""``astrid demo``: the demo fields of the simulated survey, at a clock that stands still."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from astrid_assets.cli.output import json_option, print_json
from astrid_assets.cli.run import materialize, print_summary

if TYPE_CHECKING:
    from astrid_assets.automation.runs import RunSummary

__all__ = ["demo"]


@click.command()
@click.option("--nights", type=click.IntRange(min=0), default=0, help="Move the pinned clock on.")
@json_option
def demo(nights: int, as_json: bool) -> int:  # noqa: ARG001 -- the JSON line is always printed
    """Run the demo fields and compare what was found with what was put into the sky.

    The clock of the simulated survey stands where the demo pinned it, so that the numbers are the
    same on every date. A second call finds nothing new. The last line is always one JSON object.
    """
    from astrid_assets.clock import from_mjd
    from astrid_assets.reports.recovered import recovered
    from astrid_assets.reports.scoring import score

    clock = _pin_clock(nights)
    names = _demo_fields()
    click.echo(f"{len(names)} fields of the simulated survey, as of {from_mjd(clock):%Y-%m-%d %H:%M} UTC")
    summary = materialize(names)
    print_summary(summary)
    truth = score(names) | recovered(names)
    click.echo(_sentence(truth))
    for line in _where_to_look(names):
        click.echo(line)
    print_json(_result(summary, truth))
    return 0 if summary.ok else 1


def _pin_clock(nights: int) -> float:
    """Pin the clock of the simulated survey where it stood, or some nights later; return it."""
    from astrid_assets.clock import DEMO_CLOCK, now_mjd, pin_simulated_clock, pinned_clock
    from astrid_assets.errors import ConfigurationError

    if os.environ.get("ASTRID_NOW"):
        if nights:
            raise ConfigurationError("--nights moves the clock of the demo, but ASTRID_NOW sets it; unset it")
        return now_mjd()
    pinned = pinned_clock()
    clock = (DEMO_CLOCK if pinned is None else pinned) + nights
    pin_simulated_clock(clock)
    return clock


def _demo_fields() -> list[str]:
    from astrid_assets.errors import ConfigurationError
    from astrid_assets.fields import enabled_fields, fields_path

    names = [field.name for field in enabled_fields() if field.archives == ("simulated",)]
    if not names:
        msg = f"{fields_path()}: no enabled field of archive simulated, so there is nothing to demonstrate"
        raise ConfigurationError(msg)
    return names


def _sentence(truth: dict[str, Any]) -> str:
    return (
        f"{truth['transients_found']} of {truth['transients']} transients found (S/N >= 10, clean pixels), "
        f"{truth['false_per_mpix']:.2f} unexplained detections per Mpix, "
        f"{truth['dirt_explained']} of {truth['dirt']} pieces of dirt explained; "
        f"{truth['recovered']} of {truth['injected']} injected sources recovered"
    )


def _where_to_look(names: list[str]) -> list[str]:
    from astrid_assets.storage import Store
    from astrid_assets.storage.layout import RELEASE_FOLDERS

    store = Store()
    pages = [f"{store.folder('field_report', name)}/index.html" for name in names]
    pages += [f"{RELEASE_FOLDERS['data_catalog']}/index.html"]
    pages += [f"{RELEASE_FOLDERS['exploration_notebook']}/exploratory_data_preparation.html"]
    there = [str(store.path(page)) for page in pages if store.size(page)]
    return [
        f"results: {store.root}",
        *(f"look at: {page}" for page in there),
        "the UI: make ui; one more night: astrid demo --nights 1",
    ]


def _result(summary: RunSummary, truth: dict[str, Any]) -> dict[str, Any]:
    counts = summary.counts
    return {
        "fields": len(summary.fields),
        **{name: counts.get(name, 0) for name in ("exposures", "rejected", "failed", "quarantined")},
        **{name: counts.get(name, 0) for name in ("differenced", "candidates")},
        **{name: truth[name] for name in ("transients", "transients_found", "false_per_mpix")},
        **{name: truth[name] for name in ("dirt", "dirt_explained")},
        **{name: truth[name] for name in ("injections", "injected", "recovered")},
        "training_samples": summary.release.samples if summary.release else None,
        "release": summary.release.release_id if summary.release else None,
        "checks": summary.checks,
        "new": summary.n_new,
        "stages": {name: round(seconds, 2) for name, seconds in summary.stages.items()},
        "seconds": summary.seconds,
    }
