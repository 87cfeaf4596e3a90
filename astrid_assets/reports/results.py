"""What a report reads: the tables of one field, and nothing that it did not say it would read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from astrid_assets.storage.layout import MANIFEST, OUTPUTS
from astrid_assets.storage.manifest import digest, manifest_digest

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.fields import Field
    from astrid_assets.storage.store import Row, Store

__all__ = ["COMPANIONS", "FieldResults", "live"]

COMPANIONS: dict[str, tuple[str, ...]] = {
    "light_curves": ("objects.parquet", "associations.parquet"),
    "injections": ("efficiency.parquet",),
}
"""Tables of an asset beside its manifest and the one it hands downstream."""

_MISSING = object()


@dataclass(frozen=True)
class FieldResults:
    """Results of one field, read when they are asked for; None or empty where there are none yet."""

    store: Store
    """Where they are."""

    sky_field: Field
    """The field."""

    assets: Collection[str]
    """Assets that may be read; a section of a page is redone when one of these changed."""

    _tables: dict[str, pa.Table | None] = field(default_factory=dict, repr=False)

    def manifest(self, asset: str) -> pa.Table | None:
        """Return the manifest of an asset, or None if it was never made."""
        return self.table(asset, MANIFEST)

    def rows(self, asset: str) -> list[Row]:
        """Return the rows of a manifest that count: those that nothing superseded."""
        table = self.manifest(asset)
        return [] if table is None else live(table.to_pylist())

    def usable(self, asset: str) -> list[Row]:
        """Return the rows of a manifest that went through."""
        return [row for row in self.rows(asset) if row["state"] == "ok"]

    def output(self, asset: str) -> pa.Table | None:
        """Return the table that an asset hands downstream."""
        return self.table(asset, OUTPUTS[asset])

    def table(self, asset: str, name: str) -> pa.Table | None:
        """Return a table of an asset by its file name, or None if there is none."""
        if asset not in self.assets:
            msg = f"a report that reads {asset} has to say so, or it would not be redone when that changes"
            raise KeyError(msg)
        path = f"{self.store.folder(asset, self.sky_field.name)}/{name}"
        found = self._tables.get(path, _MISSING)
        if found is _MISSING:
            found = self._tables[path] = self._read(path)
        return found

    def _read(self, path: str) -> pa.Table | None:
        try:
            return self.store.read_table(path)
        except FileNotFoundError:
            return None

    def digest(self, assets: Iterable[str]) -> str:
        """Return the identity of all tables of some assets."""
        return digest([self._identity(asset) for asset in sorted(assets)])

    def _identity(self, asset: str) -> list[str | None]:
        manifest = self.manifest(asset)
        names = (*filter(None, [OUTPUTS.get(asset)]), *COMPANIONS.get(asset, ()))
        tables = [self._file_digest(asset, name) for name in names]
        return [asset, None if manifest is None else manifest_digest(manifest), *tables]

    def _file_digest(self, asset: str, name: str) -> str | None:
        place = self.store.path(self.store.folder(asset, self.sky_field.name), name)
        try:
            return hashlib.sha256(place.read_bytes()).hexdigest()
        except FileNotFoundError:
            return None


def live(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that nothing superseded."""
    return [row for row in rows if row.get("state") != "superseded"]
