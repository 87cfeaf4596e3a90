"""How old the assets of a field may get."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from astrid_assets.storage.layout import ASSETS

if TYPE_CHECKING:
    from dagster import AssetsDefinition

__all__ = ["FAIL_AFTER", "WARN_AFTER", "with_freshness"]

WARN_AFTER = timedelta(hours=26)
"""A night and two hours: the runs of the night should have ended by then."""

FAIL_AFTER = timedelta(hours=36)
"""A night and a half: one night was missed."""


def with_freshness(assets: Iterable[AssetsDefinition]) -> list[AssetsDefinition]:
    """Return the assets with a freshness policy on those that the nightly schedule brings up to date."""
    policy = dg.FreshnessPolicy.time_window(fail_window=FAIL_AFTER, warn_window=WARN_AFTER)

    def fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
        nightly = spec.key.to_user_string() in ASSETS
        return dg.apply_freshness_policy(spec, policy) if nightly else spec

    return list(dg.map_asset_specs(fresh, list(assets)))
