"""Cutting triplets out of a normalized pair and its difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.errors import ScienceError
from astrid_assets.images.masks import BAD_BITS, bits
from astrid_assets.images.triplets import CHANNELS, LARGEST_VALUE, STAMP_BITS, Triplets
from astrid_assets.seeds import uniform

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.images.pairs import AlignedPair, Difference

__all__ = ["STAMP_SIZE", "Cutouts", "choose_stamps", "cut_candidates", "cut_triplets", "triplet_metrics"]

STAMP_SIZE = 65
"""Side of a stamp, pixels: the smallest odd size that holds views of 63 (ZTF) and 64 pixels."""

_NO_DATA = bits("NO_DATA", "REF_NO_DATA")
_SATURATED = bits("SATURATED", "BLEED", "REF_SATURATED", "REF_BLEED")


def cut_triplets(
    pair: AlignedPair, difference: Difference, x: np.ndarray, y: np.ndarray, *, size: int = STAMP_SIZE
) -> Triplets:
    """Cut science, reference and difference around positions; integer crops, never resampled.

    Parameters
    ----------
    pair
        The normalized pair.

    difference
        Its difference, from `zogy` or `classic`.

    x, y
        Positions in the science image, pixels, 0-based; ``(n,)``. They may lie beyond the image.

    size
        Odd side of a stamp, pixels.

    Returns
    -------
    Triplets
        In the order of the positions, whose nearest pixel is the middle one. All channels are
        background-subtracted and in the unit of the science image: the reference is multiplied
        with the flux ratio at the middle pixel. Beyond the image: NaN and OUTSIDE. Where either
        image has no value: NaN and MISSING, in the difference too, whose filters fill such
        pixels. Untrusted pixels keep their values; the bits BAD and SATURATED of a channel come
        from the planes of its own image, those of the difference from both, grown by what its
        filters reach.

    Raises
    ------
    ScienceError
        If the pair was not normalized.
    """
    if pair.normalization is None:
        raise ScienceError("the pair is not normalized: call normalize() first")
    window = _Window.around(np.atleast_1d(x), np.atleast_1d(y), size, difference.shape)
    places = zip(window.x.tolist(), window.y.tolist(), strict=True)
    ratio = np.array([pair.normalization.flux_ratio_at(u, v, difference.shape) for u, v in places])
    missing = (pair.science.mask | pair.reference.mask) & _NO_DATA
    channels = (
        (pair.science.data, pair.science.mask),
        (pair.reference.data, pair.reference.mask),
        (difference.data, difference.mask & ~_NO_DATA | missing),
    )
    stamps = np.stack([window.cut(data) for data, _ in channels], axis=1)
    stamps[:, 1] *= ratio[:, None, None].astype(np.float32)
    flags = np.stack([window.flags(mask) for _, mask in channels], axis=1)
    flags[_absent(stamps) & (flags & STAMP_BITS["OUTSIDE"] == 0)] |= STAMP_BITS["MISSING"]
    stamps[(flags & (STAMP_BITS["OUTSIDE"] | STAMP_BITS["MISSING"])) != 0] = np.nan
    score = window.cut(difference.score_corrected)
    score[_absent(score)] = np.nan
    return Triplets(stamps, flags, score, window.x, window.y)


def _absent(values: np.ndarray) -> np.ndarray:
    """Tell where there is no value, or one that stands for none."""
    return ~(np.abs(values) <= LARGEST_VALUE)


@dataclass(frozen=True, eq=False)
class _Window:
    """Pixels of the stamps in an image."""

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    outside: np.ndarray

    @classmethod
    def around(cls, x: np.ndarray, y: np.ndarray, size: int, shape: tuple[int, int]) -> _Window:
        """Return the windows of stamps whose middle pixels are the nearest to some positions."""
        if size % 2 == 0:
            msg = f"a stamp has an odd size, so that there is a middle pixel, not {size}"
            raise ValueError(msg)
        reach = np.arange(size, dtype=np.int32) - size // 2
        ix, iy = np.rint(x).astype(np.int32), np.rint(y).astype(np.int32)
        rows, columns = iy[:, None] + reach, ix[:, None] + reach
        inside_y, inside_x = (rows >= 0) & (rows < shape[0]), (columns >= 0) & (columns < shape[1])
        return cls(
            ix,
            iy,
            np.clip(rows, 0, shape[0] - 1)[:, :, None],
            np.clip(columns, 0, shape[1] - 1)[:, None, :],
            ~(inside_y[:, :, None] & inside_x[:, None, :]),
        )

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return the stamps of a float image, NaN outside."""
        stamps = image[self.rows, self.columns].astype(np.float32)
        stamps[self.outside] = np.nan
        return stamps

    def flags(self, mask: np.ndarray) -> np.ndarray:
        """Return the bits of the stamps from the planes of a mask."""
        planes = mask[self.rows, self.columns]
        flags = np.zeros(planes.shape, np.uint8)
        for name, plane_bits in (("MISSING", _NO_DATA), ("BAD", BAD_BITS), ("SATURATED", _SATURATED)):
            flags[(planes & plane_bits) != 0] |= STAMP_BITS[name]
        flags[self.outside] = STAMP_BITS["OUTSIDE"]
        return flags


def choose_stamps(names: Sequence[str], flagged: np.ndarray, *, max_flagged: int = 100) -> np.ndarray:
    """Return which candidates of an exposure get a stamp: all unflagged ones, and some of the others.

    Parameters
    ----------
    names
        Candidate identifiers; which flagged ones are taken depends on them alone, so that
        neither brightness nor place has a say.

    flagged
        Boolean, ``(n,)``.

    max_flagged
        Most flagged candidates.

    Returns
    -------
    numpy.ndarray
        Indices in ascending order.
    """
    flagged = np.asarray(flagged, bool)
    drawn = sorted(np.flatnonzero(flagged), key=lambda i: uniform("cutouts", names[i]))
    return np.sort(np.r_[np.flatnonzero(~flagged), np.array(drawn[:max_flagged], int)])


def triplet_metrics(
    triplets: Triplets, x: np.ndarray, y: np.ndarray, flagged: np.ndarray
) -> dict[str, float]:
    """Return quality metrics of the cutouts of an exposure.

    Parameters
    ----------
    triplets
        The cutouts.

    x, y
        Positions that they are to hold, pixels.

    flagged
        Which of them are artefacts.

    Returns
    -------
    dict
        ``n_stamps``; ``n_stamps_unflagged``; ``unflagged_nan``: pixels without a value and
        without a flag; ``off_centre``: largest distance of a position from the middle of the
        middle pixel along an axis, pixels; ``edge_share`` of the stamps that reach beyond the image;
        ``bad_share`` of flagged pixels in the stamps of unflagged candidates, all channels.
    """
    unknown = ~np.isfinite(triplets.stamps) & (triplets.mask == 0)
    good = ~np.asarray(flagged, bool)
    away = np.abs([x - triplets.x, y - triplets.y])
    some = len(triplets) > 0
    return {
        "n_stamps": float(len(triplets)),
        "n_stamps_unflagged": float(good.sum()),
        "unflagged_nan": float(unknown.sum()),
        "off_centre": float(away.max()) if some else np.nan,
        "edge_share": float(triplets.at_edge.mean()) if some else np.nan,
        "bad_share": float(triplets.bad_fraction[good].mean()) if good.any() else np.nan,
    }


@dataclass(frozen=True, eq=False)
class Cutouts:
    """Stamps of the candidates of an exposure."""

    triplets: Triplets
    """The stamps."""

    table: pa.Table
    """The candidates in the same order, with what their stamps lack."""

    metrics: dict[str, float]
    """Quality metrics."""

    def unflagged(self) -> Cutouts:
        """Return those of unflagged candidates."""
        import pyarrow as pa

        good = np.flatnonzero(~_flagged(self.table))
        return Cutouts(self.triplets.take(good), self.table.take(pa.array(good)), self.metrics)

    def spread(self, n: int) -> tuple[Triplets, list[float]]:
        """Return at most n triplets from the strongest to the faintest candidate, and their significance."""
        some = np.unique(np.linspace(0, len(self.triplets) - 1, n).astype(int))
        return self.triplets.take(some), self.table.column("snr").to_numpy()[some].tolist()


def cut_candidates(
    pair: AlignedPair,
    difference: Difference,
    table: pa.Table,
    *,
    size: int = STAMP_SIZE,
    max_flagged: int = 100,
) -> Cutouts:
    """Cut the candidates of an exposure out.

    Parameters
    ----------
    pair, difference
        The images.

    table
        Candidates of the exposure, with ``candidate_id``.

    size
        Odd side of a stamp, pixels.

    max_flagged
        Most flagged candidates; see `choose_stamps`.
    """
    import pyarrow as pa

    names = table.column("candidate_id").to_pylist()
    chosen = choose_stamps(names, _flagged(table), max_flagged=max_flagged)
    left_out, table = table.num_rows - len(chosen), table.take(pa.array(chosen))
    x, y = (table.column(name).to_numpy() for name in ("x", "y"))
    triplets = cut_triplets(pair, difference, x, y, size=size)
    metrics = triplet_metrics(triplets, x, y, _flagged(table)) | {"n_left_out": float(left_out)}
    return Cutouts(triplets, _described(table, triplets), metrics)


def _flagged(table: pa.Table) -> np.ndarray:
    return np.array([bool(reason) for reason in table.column("artifact").to_pylist()], bool)


def _described(table: pa.Table, triplets: Triplets) -> pa.Table:
    """Add to the rows of candidates what their stamps lack."""
    import pyarrow as pa

    known = {"at_edge": (triplets.at_edge, "the stamp reaches beyond the image")}
    for channel, share in zip(CHANNELS, triplets.bad_fraction.T, strict=True):
        known[f"bad_{channel}"] = (share, f"share of flagged pixels in the {channel} stamp")
    for name, (values, text) in known.items():
        array = pa.array(values)
        field = pa.field(name, array.type, metadata={"unit": "", "description": text})
        table = table.append_column(field, array)
    return table
