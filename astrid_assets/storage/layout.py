"""Where everything lies below ``ASTRID_DATA``: one folder an asset, one folder a field in it."""

from __future__ import annotations

import os

from astrid_assets.home import dagster_home

__all__ = [
    "ASSETS",
    "EXPOSURE_ASSETS",
    "FOLDERS",
    "MANIFEST",
    "METADATA_FOLDER",
    "OUTPUTS",
    "RELEASE_ASSETS",
    "RELEASE_FOLDERS",
    "data_root",
]

FOLDERS: dict[str, str] = {
    "observations": "observations",
    "science_images": "source_fits/science",
    "references": "source_fits/reference",
    "survey_cutouts": "source_fits/survey_cutouts",
    "known_objects": "known_objects",
    "ztf_alerts": "ztf_alerts",
    "aligned_pairs": "processed/aligned",
    "normalized_pairs": "processed/normalized",
    "zogy_differences": "differences/zogy",
    "classic_differences": "differences/classic",
    "candidates": "candidates",
    "cutouts": "cutouts",
    "light_curves": "light_curves",
    "injections": "injections",
    "training_set": "training",
    "field_report": "reports",
}
"""Folder of each asset of a field, relative to the root (the layout of the plan, 1.2, continued)."""

ASSETS: tuple[str, ...] = tuple(FOLDERS)
"""Assets of a field in the order in which data flows."""

EXPOSURE_ASSETS: tuple[str, ...] = tuple(
    name
    for name in ASSETS
    if name not in {"survey_cutouts", "known_objects", "ztf_alerts", "light_curves", "field_report"}
)
"""Those with one row an exposure: how far an exposure has come is a join over them."""

RELEASE_FOLDERS: dict[str, str] = {
    "training_release": "releases",
    "data_catalog": "catalog",
    "exploration_notebook": "notebook",
}
"""Folder of each asset that holds all fields together."""

RELEASE_ASSETS: tuple[str, ...] = tuple(RELEASE_FOLDERS)
"""Assets that hold all fields together."""

METADATA_FOLDER = "metadata"
"""Folder of the JSON files, one an exposure."""

MANIFEST = "manifest.parquet"
"""File name of the table of an asset's exposures, in the folder of the field."""

OUTPUTS: dict[str, str] = {
    "known_objects": "known_objects.parquet",
    "ztf_alerts": "alerts.parquet",
    "candidates": "candidates.parquet",
    "light_curves": "light_curves.parquet",
    "injections": "injections.parquet",
    "training_set": "samples.parquet",
}
"""File that an asset hands downstream where it is not its manifest."""


def data_root() -> str:
    """Return where results go: ``ASTRID_DATA`` (folder or fsspec URL), or ``$DAGSTER_HOME/data``."""
    return os.environ.get("ASTRID_DATA") or str(dagster_home() / "data")
