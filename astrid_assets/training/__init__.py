"""Training sets: labels, splits, the release and how it is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astrid_assets.training.loader import TripletDataset

__all__ = ["TripletDataset"]


def __getattr__(name: str) -> Any:
    """Import what notebooks need when they ask for it; assets load this package without it."""
    if name == "TripletDataset":
        from astrid_assets.training.loader import TripletDataset

        return TripletDataset
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
