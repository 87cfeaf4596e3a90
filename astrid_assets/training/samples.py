"""The samples of an exposure: from its detections, their stamps and what is known, to table and HDF5."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from astrid_assets.images.triplets import CHANNELS, STAMP_BITS, Triplets, crop
from astrid_assets.training import nuisances
from astrid_assets.training.labels import Label, LabelRules, label_injected, label_observed, one_domain
from astrid_assets.training.nuisances import NuisanceOptions
from astrid_assets.training.schema import LABELS, sample_schema
from astrid_assets.training.selection import Pool, SelectionOptions
from astrid_assets.training.selection import select as select_rows
from astrid_assets.training.shortcut import PROBE_FEATURES, probe_features

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from astrid_assets.training.vetting import Vetting

__all__ = ["TILE_BITS", "Detections", "Samples", "build_samples", "no_samples", "read_tiles", "write_samples"]

TILE_BITS = {
    "INJECTED": 1,  # footprint of an injected source
    "DETECTED": 2,  # a detection of the exposure itself that is not flagged
    "UNTRUSTED": 4,  # a pixel that is not to be trusted
}
"""Bits of the truth of tiles."""

SCHEMA_VERSION = "1"
"""Version of the layout of the HDF5 files."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of one run over an exposure, with their stamps."""

    rows: Sequence[Mapping[str, Any]]
    """Candidates with cross-matches (and, with injections, ``injection_id`` and ``in_clean_run``)."""

    triplets: Triplets
    """Stamps."""

    stamp: Sequence[int]
    """Row of each detection in `triplets`; -1 where it was not cut out."""

    @classmethod
    def none(cls, size: int = 65) -> Detections:
        """Return no detections, with stamps of a size in pixels."""
        pixels, place = np.zeros((0, 3, size, size)), np.zeros(0, np.int32)
        score = np.zeros((0, size, size), np.float32)
        return cls([], Triplets(pixels.astype(np.float32), pixels.astype(np.uint8), score, place, place), [])


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled triplets, row by row."""

    table: pa.Table
    """`astrid_assets.training.schema.SAMPLE_COLUMNS`."""

    stamps: np.ndarray
    """float32 ``(n, 3, S, S)``."""

    mask: np.ndarray
    """uint8 ``(n, 3, S, S)``, bits of `STAMP_BITS`."""

    probe: np.ndarray
    """Features of the shortcut probe, float32 ``(n, 9)``."""

    def triplets(self, rows: Sequence[int]) -> Triplets:
        """Return the stamps of some samples as triplets, without scores."""
        x, y = (np.rint(self.table[name].take(rows).to_numpy()).astype(np.int32) for name in ("x", "y"))
        score = np.full((len(rows), *self.stamps.shape[2:]), np.nan, np.float32)
        return Triplets(self.stamps[rows], self.mask[rows], score, x, y)

    def probe_table(self) -> pa.Table:
        """Return what the shortcut probe needs, one row a sample."""
        import pyarrow as pa

        columns = {name: self.table[name] for name in ("sample_id", "object_id", "label")}
        features = {name: self.probe[:, i] for i, name in enumerate(PROBE_FEATURES)}
        return pa.table({**columns, **features})


def no_samples(size: int = 65) -> Samples:
    """Return samples without a row, with all columns."""
    pixels = np.zeros((0, len(CHANNELS), size, size))
    probe = np.zeros((0, len(PROBE_FEATURES)), np.float32)
    return Samples(sample_schema().empty_table(), pixels.astype(np.float32), pixels.astype(np.uint8), probe)


def build_samples(
    exposure: Mapping[str, Any],
    observed: Detections,
    injected: Detections | None = None,
    *,
    truth: Sequence[Mapping[str, Any]] = (),
    alerts: Sequence[Mapping[str, Any]] = (),
    verdicts: Sequence[Vetting] = (),
    rules: LabelRules | None = None,
    select: SelectionOptions | None = None,
    spoil: NuisanceOptions | None = None,
) -> Samples:
    """Label, select and spoil: the samples of an exposure.

    Parameters
    ----------
    exposure
        ``field``, ``exposure_id``, ``reference_id``, ``archive``, ``survey``, ``band``, ``mjd_mid``,
        ``zeropoint``, ``seeing``.

    observed, injected
        Detections without and with injections.

    truth
        What was injected.

    alerts, verdicts
        See `astrid_assets.training.labels.label_observed`.

    rules, select, spoil
        Numbers of labels, selection and nuisances.

    Returns
    -------
    Samples
        Sorted by name. The same input gives the same bytes.
    """
    rows, labels, stamps, mask = _labelled(observed, injected, truth, alerts, verdicts, rules)
    names = [_name(exposure, row, label) for row, label in zip(rows, labels, strict=True)]
    numbers = np.array([LABELS[label.label] for label in labels], np.int8)
    probe = probe_features(stamps)
    pool = Pool(
        names,
        numbers,
        [label.domain for label in labels],
        [label.type for label in labels],
        np.array([label.source == "synthetic_artifact" for label in labels], bool),
        probe[:, [i for i, name in enumerate(PROBE_FEATURES) if not name.startswith("missing")]],
        nuisances.missing(mask),
        np.array([[row["x"], row["y"]] for row in rows], float).reshape(-1, 2),
        np.array([label.source == "vetted" for label in labels], bool),
    )
    chosen = select_rows(pool, seed=exposure["exposure_id"], options=select)
    chosen = np.array(sorted(chosen, key=lambda row: names[row]), int)
    first = [_sample(exposure, names[i], rows[i], labels[i]) for i in chosen]
    return _with_copies(exposure, first, stamps[chosen], mask[chosen], probe[chosen], spoil)


def _labelled(
    observed: Detections,
    injected: Detections | None,
    truth: Sequence[Mapping[str, Any]],
    alerts: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Vetting],
    rules: LabelRules | None,
) -> tuple[list[Mapping[str, Any]], list[Label], np.ndarray, np.ndarray]:
    """Return rows, labels, stamps and masks of all detections that may become samples, none twice."""
    ours = label_observed(observed.rows, alerts=alerts, verdicts=verdicts, rules=rules)
    parts = [(observed, ours, [True] * len(ours))]
    if injected is not None:
        theirs = label_injected(injected.rows, truth, observed.rows, ours, rules=rules)
        # a detection that was not cut out cannot stand for its twin
        theirs = [_alone(a) if row < 0 else a for a, row in zip(theirs, injected.stamp, strict=True)]
        keep, keep_injected = one_domain(observed.rows, ours, theirs, rules=rules)
        keep_injected = [k and a.label != "unlabelled" for k, a in zip(keep_injected, theirs, strict=True)]
        parts = [(observed, ours, keep), (injected, theirs, keep_injected)]
    # runs cut out at different sizes: the middle that both have
    size = min(detections.triplets.size for detections, *_ in parts)
    rows, labels, stamps, masks = [], [], [], []
    for detections, found, kept in parts:
        use = [i for i, k in enumerate(kept) if k and detections.stamp[i] >= 0]
        places = [detections.stamp[i] for i in use]
        rows += [detections.rows[i] for i in use]
        labels += [found[i] for i in use]
        stamps.append(crop(detections.triplets.stamps[places], size))
        masks.append(crop(detections.triplets.mask[places], size))
    return rows, labels, np.concatenate(stamps), np.concatenate(masks)


def _alone(label: Label) -> Label:
    return Label(object_id=label.object_id, domain=label.domain)


def _name(exposure: Mapping[str, Any], row: Mapping[str, Any], label: Label) -> str:
    end = "-injected" if label.domain == "injected" else ""
    return f"{exposure['field']}/{row['candidate_id']}{end}"


_EXPOSURE = (
    "field",
    "exposure_id",
    "reference_id",
    "archive",
    "survey",
    "band",
    "mjd_mid",
    "zeropoint",
    "seeing",
)
_DETECTION = ("candidate_id", "ra", "dec", "x", "y", "flux", "flux_error", "snr", "artifact")
_SAID = (
    "object_id",
    "host_id",
    "type",
    "domain",
    "site",
    "magnitude_true",
    "flux_true",
    "injection_probability",
)


def _sample(exposure: Mapping[str, Any], name: str, row: Mapping[str, Any], label: Label) -> dict[str, Any]:
    """Return a row of the sample table, without what depends on the pixels."""
    sample = {"sample_id": name, "nuisance": ""}
    sample |= {key: exposure.get(key) for key in _EXPOSURE} | {key: row.get(key) for key in _DETECTION}
    sample |= {key: getattr(label, key) for key in _SAID}
    return sample | {
        "label": LABELS[label.label],
        "label_source": label.source,
        "label_confidence": label.confidence,
    }


def _with_copies(
    exposure: Mapping[str, Any],
    rows: list[dict[str, Any]],
    stamps: np.ndarray,
    mask: np.ndarray,
    probe: np.ndarray,
    options: NuisanceOptions | None,
) -> Samples:
    """Add the spoiled copies, and what depends on the pixels."""
    names = [row["sample_id"] for row in rows]
    plan = nuisances.plan(
        names,
        [row["label"] for row in rows],
        nuisances.missing(mask),
        seed=exposure["exposure_id"],
        options=options,
    )
    spoiled = [nuisances.spoil(stamps[i], mask[i], kind, seed=names[i], options=options) for i, kind in plan]
    copies = [rows[i] | {"sample_id": f"{names[i]}-{kind}", "nuisance": kind} for i, kind in plan]
    if spoiled:
        extra, marks = (np.stack(part) for part in zip(*spoiled, strict=True))
        stamps, mask = np.concatenate([stamps, extra]), np.concatenate([mask, marks])
        probe = np.concatenate([probe, probe_features(extra)])
    table = _table(rows + copies, stamps, mask, f"{exposure['exposure_id']}.h5")
    return Samples(table, stamps, mask, probe)


def _table(rows: list[dict[str, Any]], stamps: np.ndarray, mask: np.ndarray, file: str) -> pa.Table:
    import pyarrow as pa

    shares = (mask != 0).mean(axis=(2, 3))
    for i, row in enumerate(rows):
        row |= {f"bad_{name}": float(shares[i, k]) for k, name in enumerate(CHANNELS)}
        row |= {"h5_file": file, "h5_row": i, "sha1": hashlib.sha1(stamps[i].tobytes()).hexdigest()}  # noqa: S324 - names pixels, guards nothing
    return pa.Table.from_pylist(rows, schema=sample_schema())


def read_tiles(path: Path | Any) -> dict[str, np.ndarray] | None:
    """Read the tiles of an exposure (see `write_samples`); None where there are none."""
    if not path.exists():
        return None
    with path.open("rb") as stream, np.load(stream) as arrays:
        return {name: arrays[name] for name in ("images", "truth", "x0", "y0")}


def write_samples(
    stream: BinaryIO,
    samples: Samples,
    *,
    described: Mapping[str, str],
    tiles: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write the HDF5 file of an exposure: contiguous raw arrays, the same bytes for the same samples.

    Parameters
    ----------
    stream
        Where to write.

    samples
        ``/triplet`` and ``/mask``.

    described
        Attributes of the file besides those of the layout; no times, no paths.

    tiles
        ``images`` ``(n, 3, T, T)``, ``truth`` ``(n, T, T)``, ``x0``, ``y0``: ``/tile_images``,
        ``/tile_truth`` and ``/tile_corner``.
    """
    import h5py

    buffer = io.BytesIO()
    # one version of the file format, and no times: otherwise the bytes depend on library and day
    with h5py.File(buffer, "w", libver=("v110", "v110"), track_order=False) as file:
        layout = {
            "schema_version": SCHEMA_VERSION,
            "channels": json.dumps(CHANNELS),
            "centre_pixel": json.dumps([samples.stamps.shape[-1] // 2] * 2),
            "mask_bits": json.dumps(STAMP_BITS, sort_keys=True),
            "tile_bits": json.dumps(TILE_BITS, sort_keys=True),
            **described,
        }
        for name, value in sorted(layout.items()):
            file.attrs[name] = value
        arrays = {"triplet": samples.stamps.astype("<f4", copy=False), "mask": samples.mask}
        if tiles is not None:
            corner = np.stack([tiles["x0"], tiles["y0"]], axis=1).astype("<i4")
            arrays |= {"tile_images": tiles["images"].astype("<f4", copy=False)}
            arrays |= {"tile_truth": tiles["truth"], "tile_corner": corner}
        for name, values in arrays.items():
            file.create_dataset(name, data=values, track_times=False)
    stream.write(buffer.getbuffer())
