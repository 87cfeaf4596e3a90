"""What is said about runs that failed, to people who are not looking."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astrid_assets.automation.events import error_line, failed_checks, materializations, was_refused
from astrid_assets.automation.resources import PARTITION_TAG
from astrid_assets.home import dagster_home

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["COMMAND_VARIABLE", "describe_failure", "failure_log", "record_failure"]

COMMAND_VARIABLE = "ASTRID_ON_FAILURE"
"""Environment variable with the command that gets each line on its standard input."""

_COMMAND_SECONDS = 30.0
"""Longest time that the command may take; the sensor waits for it."""


def failure_log() -> Path:
    """Return the file that holds one JSON object a line, one for each failed run."""
    return dagster_home() / "failures.jsonl"


def record_failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, Any]:
    """Append what is known about a failed run to the log, and hand it to the user's command.

    A release that was refused is in the log only: nobody is to be woken for it.

    Raises
    ------
    subprocess.SubprocessError
        The command failed or did not end; the line is in the log nevertheless.
    """
    told = describe_failure(instance, run)
    line = json.dumps(told) + "\n"
    with failure_log().open("a") as stream:
        stream.write(line)
    command = os.environ.get(COMMAND_VARIABLE)
    if command and not told["refused"]:
        subprocess.run(shlex.split(command), input=line, text=True, check=True, timeout=_COMMAND_SECONDS)
    return told


def describe_failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, Any]:
    """Return what is known about a failed run.

    Returns
    -------
    dict
        ``time`` (UTC), ``run_id``, ``job``, ``field`` (None for a release), ``error`` (step and cause,
        one line), ``refused`` (no release can be made of these data yet: nothing is broken),
        ``failed_checks`` (``asset:check``), ``failed_exposures`` (number by asset).
    """
    entries = instance.all_logs(run.run_id)
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    failed = {name: int(m.get("n_failed") or 0) for name, m in materializations(events).items()}
    return {
        "time": datetime.fromtimestamp(entries[-1].timestamp, UTC).isoformat(timespec="seconds"),
        "run_id": run.run_id,
        "job": run.job_name,
        "field": run.tags.get(PARTITION_TAG),
        "error": error_line(events),
        "refused": was_refused(events),
        "failed_checks": failed_checks(events),
        "failed_exposures": {name: n for name, n in failed.items() if n},
    }
