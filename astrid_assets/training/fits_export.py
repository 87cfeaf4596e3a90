"""The samples of a release as FITS: one file a split, for software that reads nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import h5py
    import pyarrow as pa

__all__ = ["write_split_fits"]


def write_split_fits(stream: BinaryIO, source: h5py.File, catalogue: pa.Table) -> None:
    """Write stamps, masks and catalogue of a split; the split must fit into memory.

    Parameters
    ----------
    stream
        Where to write.

    source
        HDF5 file of the split.

    catalogue
        Its rows of the catalogue, in the order of the stamps; columns carry their units.

    Notes
    -----
    Extensions ``TRIPLET`` (float32, axes x, y, channel, sample; NaN where there is nothing), ``MASK`` (uint8,
    likewise) and ``CATALOG`` (a binary table, row by row).
    """
    from astropy.io import fits

    primary = fits.PrimaryHDU()
    for keyword, name, comment in _KEYWORDS:
        primary.header[keyword] = (source.attrs[name], comment)
    for number, name in enumerate(json.loads(source.attrs["channels"]), start=1):
        primary.header[f"CHANNEL{number}"] = (name, f"plane {number} of axis 3")
    for name, bit in json.loads(source.attrs["mask_bits"]).items():
        primary.header[f"MB_{name[:5]}"] = (bit, f"bit {name} of the mask")
    table = fits.BinTableHDU.from_columns([_column(catalogue, name) for name in catalogue.column_names])
    table.name = "CATALOG"
    images = [fits.ImageHDU(source[name][...], name=name.upper()) for name in ("triplet", "mask")]
    for image in images:
        image.header["CRPIX1"] = (image.shape[-1] // 2 + 1, "middle pixel, counted from 1")
        image.header["CRPIX2"] = (image.shape[-2] // 2 + 1, "middle pixel, counted from 1")
    fits.HDUList([primary, *images, table]).writeto(stream)


_KEYWORDS = (
    ("RELEASE", "release_id", "identity of the training release"),
    ("SPLIT", "split", "train, validation or test"),
    ("SCHEMA", "schema_version", "version of the layout"),
)


def _column(table: pa.Table, name: str) -> Any:
    """Return a column of a FITS table; null is empty, NaN or -1."""
    import pyarrow as pa
    from astropy.io import fits

    kind, values = table.schema.field(name).type, table[name].to_pylist()
    unit = (table.schema.field(name).metadata or {}).get(b"unit", b"").decode() or None
    if pa.types.is_string(kind):
        texts = [(value or "").encode("ascii", "replace") for value in values]
        width = max(map(len, texts), default=0) or 1
        return fits.Column(name, f"{width}A", array=np.array(texts, f"S{width}"))
    if pa.types.is_floating(kind):
        return fits.Column(
            name, "D", unit, array=np.array([np.nan if v is None else v for v in values], float)
        )
    return fits.Column(name, "K", unit, array=np.array([-1 if v is None else v for v in values], np.int64))
