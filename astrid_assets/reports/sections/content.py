"""What a section of a page gives to its template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Content"]


@dataclass(frozen=True)
class Content:
    """Values for the template of a section, or the reason why there are none."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """What the template needs."""

    missing: str | None = None
    """Why there is nothing to show; then no template is filled."""
