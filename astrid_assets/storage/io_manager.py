"""The IO manager: what an asset hands downstream is a table in the folder of its field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from astrid_assets.storage.layout import FOLDERS, MANIFEST, OUTPUTS, RELEASE_FOLDERS
from astrid_assets.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa
    from upath import UPath

__all__ = ["TableIOManager", "table_io_manager"]


class TableIOManager(dg.UPathIOManager):
    """Stores tables as ``<folder of the asset>/<field>/<file>``; see `astrid_assets.storage.layout`."""

    extension = None

    def __init__(self, store: Store | None = None) -> None:
        from upath import UPath

        self._store = store or Store()
        super().__init__(base_path=UPath(self._store.root))

    def get_asset_relative_path(self, context: dg.InputContext | dg.OutputContext) -> UPath:
        """Return the folder of the asset."""
        from upath import UPath

        name = context.asset_key.to_user_string()
        return UPath((FOLDERS | RELEASE_FOLDERS).get(name, name))

    def get_path_for_partition(
        self, context: dg.InputContext | dg.OutputContext, path: UPath, partition: str
    ) -> UPath:
        """Return the file of a field."""
        return path / partition / OUTPUTS.get(context.asset_key.to_user_string(), MANIFEST)

    def dump_to_path(self, context: dg.OutputContext, obj: pa.Table, path: UPath) -> None:
        """Write a table, atomically."""
        self._store.write_table(self._relative(path), obj)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pa.Table:
        """Read a table."""
        return self._store.read_table(self._relative(path))

    def get_metadata(self, context: dg.OutputContext, obj: Any) -> dict[str, Any]:
        """Return the number of rows, which the UI shows as a tile."""
        return {"dagster/row_count": obj.num_rows}

    def _relative(self, path: UPath) -> str:
        return path.as_posix().removeprefix(self._base_path.as_posix()).lstrip("/")


@dg.io_manager(description="Tables as Parquet files below ASTRID_DATA, one folder an asset and field.")
def table_io_manager(_context: dg.InitResourceContext) -> TableIOManager:
    """Make the IO manager at the start of a run, when ``ASTRID_DATA`` is known."""
    return TableIOManager()
