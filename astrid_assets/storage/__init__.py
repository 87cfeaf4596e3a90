"""The only door to results: layout, atomic writes, manifests, the ledger, locks, the IO manager."""

from astrid_assets.storage.layout import ASSETS, data_root
from astrid_assets.storage.ledger import ledger, write_metadata
from astrid_assets.storage.locks import field_lock, run_lock
from astrid_assets.storage.manifest import build_manifest, manifest_digest
from astrid_assets.storage.store import Row, Store

__all__ = [
    "ASSETS",
    "Row",
    "Store",
    "build_manifest",
    "data_root",
    "field_lock",
    "ledger",
    "manifest_digest",
    "run_lock",
    "write_metadata",
]
