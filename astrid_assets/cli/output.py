"""What commands print: lines for people, one JSON object for programs, a progress bar on a terminal."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from types import TracebackType


__all__ = ["QUIET_SECONDS", "ProgressBar", "json_option", "megabytes", "print_json", "print_table"]

QUIET_SECONDS = 8.0
"""Longest time without a word where there is no terminal for a bar; logs of services give up later."""


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option ``--json``."""
    text = "Print one JSON object as the last line."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def print_json(value: Mapping[str, Any]) -> None:
    """Print an object as one line of JSON; what is not finite becomes null."""
    click.echo(json.dumps(_plain(value), allow_nan=False, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, decimals: Mapping[str, int] | None = None
) -> None:
    """Print rows in aligned columns, numbers to the right; `decimals` by column, 4 by default."""
    places = [(decimals or {}).get(name, 4) for name in columns]
    cells = [[_cell(value, n) for value, n in zip(row, places, strict=True)] for row in rows]
    widths = [max(len(c), *(len(row[i]) for row in cells), 0) for i, c in enumerate(columns)]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    for row in ([*columns], *cells):
        padded = (t.rjust(w) if r else t.ljust(w) for t, w, r in zip(row, widths, right, strict=True))
        click.echo("  ".join(padded).rstrip())


def _cell(value: Any, decimals: int) -> str:
    if value is None:
        return ""
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


def megabytes(size: float) -> str:
    """Return a size in bytes as a text in MB or GB (powers of ten)."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


class ProgressBar:
    """What goes on during a run, on standard error: a bar on a terminal, lines elsewhere.

    It is called with the field, the asset and how much of it is done.
    """

    def __init__(self) -> None:
        self._shown: _Bar | _Lines = _Bar() if sys.stderr.isatty() else _Lines()

    def __enter__(self) -> Self:
        """Begin."""
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._shown.stop()

    def __call__(self, sky_field: str, asset: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` exposures of an asset are finished."""
        self._shown.update(f"{sky_field} {asset}", done, total)


class _Bar:
    """A bar that is gone when the run ends."""

    def __init__(self) -> None:
        self._tasks: dict[str, Any] = {}

    def start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            for task in self._tasks.values():
                self._progress.update(task, visible=False)
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)


class _Lines:
    """One line for each stage that has something to do, and a sign of life where one takes long."""

    def __init__(self) -> None:
        self._stage, self._done, self._total = "", 0, 0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._told = time.monotonic()

    def start(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def update(self, stage: str, done: int, total: int) -> None:
        with self._lock:
            begins = stage != self._stage and total > 0
            self._stage, self._done, self._total = stage, done, total
        if begins:
            self._say(f"{stage} ({total})" if total > 1 else stage)

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                quiet, stage = time.monotonic() - self._told, self._stage
                text = f"{stage}: {self._done} of {self._total} ..." if self._total > 1 else f"{stage} ..."
            if quiet >= QUIET_SECONDS:
                self._say(text if stage else "starting ...")

    def _say(self, text: str) -> None:
        with self._lock:
            self._told = time.monotonic()
        click.echo(text, err=True)
