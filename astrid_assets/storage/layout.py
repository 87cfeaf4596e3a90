"""Where everything lies below ``ASTRID_DATA``: one folder an asset, one folder a field in it."""

from __future__ import annotations

import os

from astrid_assets.home import dagster_home

__all__ = ["ASSETS", "FOLDERS", "MANIFEST", "METADATA_FOLDER", "OUTPUTS", "data_root"]

FOLDERS: dict[str, str] = {
    "observations": "observations",
    "science_images": "source_fits/science",
    "references": "source_fits/reference",
    "aligned_pairs": "processed/aligned",
    "normalized_pairs": "processed/normalized",
    "zogy_differences": "differences/zogy",
    "classic_differences": "differences/classic",
    "candidates": "candidates",
}
"""Folder of each asset, relative to the root (the layout of the plan, 1.2)."""

ASSETS: tuple[str, ...] = tuple(FOLDERS)
"""Assets in the order in which data flows."""

METADATA_FOLDER = "metadata"
"""Folder of the JSON files, one an exposure."""

MANIFEST = "manifest.parquet"
"""File name of the table of an asset's exposures, in the folder of the field."""

OUTPUTS: dict[str, str] = {"candidates": "candidates.parquet"}
"""File that an asset hands downstream where it is not its manifest."""


def data_root() -> str:
    """Return where results go: ``ASTRID_DATA`` (folder or fsspec URL), or ``$DAGSTER_HOME/data``."""
    return os.environ.get("ASTRID_DATA") or str(dagster_home() / "data")
