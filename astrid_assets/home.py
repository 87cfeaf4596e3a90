"""Where the Dagster instance, the field registry and the demo clock live."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["dagster_home"]


def dagster_home() -> Path:
    """Return ``$DAGSTER_HOME``, or ``dagster_home/`` of the checkout; always absolute."""
    given = os.environ.get("DAGSTER_HOME")
    if given:
        return Path(given).expanduser().absolute()
    return Path(__file__).resolve().parent.parent / "dagster_home"
