"""A field of the simulated survey that is small enough to be run in a test."""

from __future__ import annotations

import shutil
from pathlib import Path

from astrid_assets.clock import DEMO_CLOCK, pin_simulated_clock
from astrid_assets.home import dagster_home

__all__ = ["SHIPPED", "install", "tiny_field"]

SHIPPED = Path(__file__).parent.parent / "dagster_home"
"""Folder of the configuration that comes with the repository."""

_FIELD = """
{name}:
  ra: 265.0
  dec: 62.0
  radius: 0.05
  archives: [simulated]
  bands: [r]
  science_window: {{start: {start}}}
  reference_window: {{end: 2025-03-01}}
  simulated: {{seed: {seed}, shape: [{side}, {side}], dirt: false, corrupt: false{epochs}}}
{more}"""


def tiny_field(
    name: str = "tiny",
    *,
    side: int = 256,
    epochs: int | None = 2,
    start: str = "2025-09-01",
    seed: int = 3,
    more: str = "",
) -> str:
    """Return the block of ``fields.yaml`` of a small, clean field in one band.

    Parameters
    ----------
    name
        Of the field.

    side
        Side of an exposure, pixels.

    epochs
        Most science exposures; None takes all since `start`.

    start
        First night of the science window.

    seed
        Of the simulated sky.

    more
        More lines of the block, indented by two spaces.
    """
    cap = "" if epochs is None else f", max_epochs_per_band: {epochs}"
    return _FIELD.format(name=name, side=side, epochs=cap, start=start, seed=seed, more=more)


def install(*blocks: str) -> Path:
    """Fill ``DAGSTER_HOME`` with the shipped instance and these fields, at the demo's clock; return it."""
    home = dagster_home()
    (home / "fields.yaml").write_text("".join(blocks))
    shutil.copy(SHIPPED / "dagster.yaml", home)
    pin_simulated_clock(DEMO_CLOCK)
    return home
