"""The fields that there are: those of the registry, and those that somebody typed as a partition."""

from __future__ import annotations

from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import Field, get_field, known_position, load_fields
from astrid_assets.storage.layout import FOLDERS
from astrid_assets.storage.store import Store

__all__ = ["known_fields"]


def known_fields(store: Store) -> dict[str, Field]:
    """Return the fields of the registry, then those with results whose name tells a position.

    A field of which the registry no longer has the default options is left out: nothing says any more
    how it was made.

    Parameters
    ----------
    store
        Where the results are.
    """
    fields = load_fields()
    folder = store.path(FOLDERS["observations"])
    names = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    for name in names:
        if name not in fields and known_position(name) is not None:
            try:
                fields[name] = get_field(name)
            except ConfigurationError:
                continue
    return fields
