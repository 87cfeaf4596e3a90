"""What commands print: lines for people, one JSON object for programs, a progress bar on a terminal."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress

__all__ = ["ProgressBar", "json_option", "megabytes", "print_json", "print_table"]


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
    """A bar on standard error while a run goes on; nothing where that is no terminal.

    It is called with the field, the asset and how much of it is done.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> Self:
        """Show the bar."""
        if sys.stderr.isatty():
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, sky_field: str, asset: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` exposures of an asset are finished."""
        if self._progress is None:
            return
        key = (sky_field, asset)
        if key not in self._tasks:
            for task in self._tasks.values():
                self._progress.update(task, visible=False)
            self._tasks[key] = self._progress.add_task(f"{sky_field} {asset}", total=total)
        self._progress.update(self._tasks[key], completed=done, total=total)
