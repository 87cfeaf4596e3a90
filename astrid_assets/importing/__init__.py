"""Fields from what the user has: catalogues of supernovae, and configurations of the earlier project."""

from __future__ import annotations

from astrid_assets.importing.blocks import Import, import_catalogue
from astrid_assets.importing.catalogues import Catalogue, Reject, Supernova, read_catalogue
from astrid_assets.importing.configurations import (
    Configuration,
    load_preset,
    preset_names,
    read_configuration,
)
from astrid_assets.importing.report import reject_report

__all__ = [
    "Catalogue",
    "Configuration",
    "Import",
    "Reject",
    "Supernova",
    "import_catalogue",
    "load_preset",
    "preset_names",
    "read_catalogue",
    "read_configuration",
    "reject_report",
]
