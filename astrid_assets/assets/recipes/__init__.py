"""What is done to one exposure in each asset: load, call the science, write. Runs in workers.

This package imports the heavy libraries, so that a worker has them ready; nothing that Dagster
loads imports it.
"""

from __future__ import annotations

from astrid_assets.assets.recipes import catalogues, detection, images, injections, reporting, training_set
from astrid_assets.assets.recipes.common import Recipe

__all__ = ["RECIPES", "Recipe"]

RECIPES: dict[str, Recipe] = {
    **images.RECIPES,
    **catalogues.RECIPES,
    **detection.RECIPES,
    **injections.RECIPES,
    **reporting.RECIPES,
    **training_set.RECIPES,
}
"""Recipes by name of the job."""
