"""The dataset card and the Croissant description of a release: made from its numbers, nothing typed in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from astrid_assets.images.triplets import CHANNELS, STAMP_BITS
from astrid_assets.training.samples import TILE_BITS
from astrid_assets.training.schema import LABELS
from astrid_assets.training.splits import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.training.release import Release

__all__ = ["LICENCES", "croissant", "dataset_card"]

LICENCES = {
    "simulated": ("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "irsa_ztf": ("CC-BY-4.0; acknowledge ZTF", "https://irsa.ipac.caltech.edu/data/ZTF/docs/releases/"),
    "ps1": ("CC-BY-4.0; acknowledge Pan-STARRS1", "https://archive.stsci.edu/publishing/data-use"),
    "mast": ("as the mission asks", "https://archive.stsci.edu/publishing/data-use"),
    "skyview": ("as each survey asks", "https://skyview.gsfc.nasa.gov/current/help/credits.html"),
    "local": ("that of the files", ""),
}
"""Licence of what comes from an archive, and where it stands."""

_NAMES = {value: name for name, value in LABELS.items()}

_LIMITATIONS = (
    (
        "Injected sources are point sources or short trails of the measured PSF: they lack what its model "
        "lacks. Compare `domain` injected and observed before trusting a score on one of them."
    ),
    (
        "`variable_match`, `solar_system_match` and `reported_transient` are positional matches, not "
        "inspections; `label_confidence` says how sure they are."
    ),
    (
        "`artifact_flag` labels come from the filters of the detection: a model learns those filters first. "
        "Select by `label_source` to test without them."
    ),
    "What nothing is known of is `unlabelled`, never `bogus`; the loader leaves it out unless asked.",
    "Detections start at the threshold of the run (5 sigma by default): fainter changes are absent.",
    "Some artefacts are far more frequent than others; look at `type` before averaging over all.",
    "Splits are pieces of sky: seeing, depth and crowding may differ between them.",
)
"""Known failure modes of every release."""


def dataset_card(release: Release, statistics: Mapping[str, Any]) -> str:
    """Return the card of a release, Markdown (``dataset_card.md`` with its numbers).

    Parameters
    ----------
    release
        The release.

    statistics
        Of the pixels, by split; see `astrid_assets.training.statistics`.
    """
    rows = release.table.select(_COLUMNS).to_pylist()
    days = [r["mjd_mid"] for r in rows if r["mjd_mid"] is not None]
    left_out = [f"{n} {what.replace('_', ' ')}" for what, n in sorted(release.left_out.items())]
    template = Template(files(__package__).joinpath("dataset_card.md").read_text("utf-8"))
    return template.substitute(
        release_id=release.release_id,
        n_samples=len(rows),
        channels=", ".join(CHANNELS),
        size=release.size,
        centre=release.size // 2,
        n_objects=len({r["object_id"] for r in rows if r["object_id"]}),
        n_fields=len({r["field"] for r in rows}),
        first_mjd=f"{min(days):.2f}" if days else "?",
        last_mjd=f"{max(days):.2f}" if days else "?",
        composition=_composition(rows),
        mask_bits=_bits(STAMP_BITS),
        tile_bits=_bits(TILE_BITS),
        archives=", ".join(_archives(rows)),
        left_out=", ".join(left_out),
        n_shared=sum(row["shared"] for row in release.proof),
        groups=_groups(release),
        limitations="\n".join(f"- {text}" for text in (*_LIMITATIONS, *_measured(release, rows, statistics))),
        licences=_licences(rows),
    )


_COLUMNS = [
    *("split", "label", "label_source", "domain", "type", "nuisance", "archive", "survey", "band"),
    *("field", "object_id", "mjd_mid", *(f"bad_{name}" for name in CHANNELS)),
]


def _bits(bits: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {bit}" for name, bit in bits.items())


def _archives(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({r["archive"] or "unknown" for r in rows})


def _composition(rows: Sequence[Mapping[str, Any]]) -> str:
    tables = {
        "label": lambda r: _NAMES[r["label"]],
        "label and domain": lambda r: f"{_NAMES[r['label']]}, {r['domain']}",
        "label source": lambda r: r["label_source"],
        "type": lambda r: f"{_NAMES[r['label']]}: {r['type'] or 'unknown'}",
        "survey and band": lambda r: f"{r['survey']} {r['band']}",
        "copy with": lambda r: r["nuisance"] or "nothing (no copy)",
    }
    return "\n\n".join(_counts(rows, title, key) for title, key in tables.items())


def _counts(rows: Sequence[Mapping[str, Any]], title: str, key: Callable[[Mapping[str, Any]], str]) -> str:
    """Return a table of counts by split."""
    counts = Counter((key(r), r["split"]) for r in rows)
    lines = [f"| {title} | {' | '.join(SPLITS)} |", f"| --- |{' ---: |' * len(SPLITS)}"]
    for name in sorted({name for name, _ in counts}):
        cells = " | ".join(str(counts[name, split]) for split in SPLITS)
        lines += [f"| {name} | {cells} |"]
    return "\n".join(lines)


_GROUPS_SHOWN = 50


def _groups(release: Release) -> str:
    lines = ["| group | split | real | bogus | unlabelled |", "| --- | --- | ---: | ---: | ---: |"]
    lines += [
        f"| {g['group']} | {g['split']} | {g['real']} | {g['bogus']} | {g['unlabelled']} |"
        for g in release.groups[:_GROUPS_SHOWN]
    ]
    more = len(release.groups) - _GROUPS_SHOWN
    return "\n".join(lines) + (f"\n\n... and {more} more." if more > 0 else "")


def _measured(
    release: Release, rows: Sequence[Mapping[str, Any]], statistics: Mapping[str, Any]
) -> list[str]:
    """Return what is thin in this release."""
    flagged = {name: sum(r[f"bad_{name}"] > 0 for r in rows) / max(len(rows), 1) for name in CHANNELS}
    found = [f"{share:.1%} of the {name} stamps have flagged pixels." for name, share in flagged.items()]
    types = {s: {r["type"] or "unknown" for r in rows if r["split"] == s and r["label"] >= 0} for s in SPLITS}
    for split in SPLITS[1:]:
        absent = sorted(types["train"] - types[split])
        found += [f"Types of train that {split} lacks: {', '.join(absent)}."] if absent else []
    if len(release.groups) < _FEW_GROUPS:
        sizes = {s: statistics[s]["n_samples"] for s in SPLITS}
        shares = ", ".join(f"{s} {n / max(sum(sizes.values()), 1):.0%}" for s, n in sizes.items())
        found.append(
            f"There are only {len(release.groups)} groups: the splits hold {shares}, and scores on so few "
            "pieces of sky vary more than their nominal errors say."
        )
    return found


_FEW_GROUPS = 10


def _licences(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| archive | licence |", "| --- | --- |"]
    for archive in _archives(rows):
        name, where = LICENCES.get(archive, ("as the archive asks", ""))
        lines.append(f"| {archive} | {name}{f' ({where})' if where else ''} |")
    return "\n".join(lines)


# --- Croissant ------------------------------------------------------------------------------------

_FORMATS = {
    "h5": "application/x-hdf5",
    "npz": "application/zip",
    "parquet": "application/x-parquet",
    "csv": "text/csv",
    "json": "application/json",
    "md": "text/markdown",
}


def croissant(release: Release, schema: pa.Schema, sums: Mapping[str, str]) -> dict[str, Any]:
    """Return the Croissant 1.0 description of a release (with the RAI vocabulary for its limits).

    Parameters
    ----------
    release
        The release.

    schema
        Of its catalogue; columns carry unit and description.

    sums
        sha256 of its files by name.
    """
    archives = sorted({archive or "unknown" for archive in release.table["archive"].to_pylist()})
    urls = [LICENCES.get(a, ("", ""))[1] for a in archives]
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": f"astrid-training-release-{release.release_id}",
        "description": f"{release.table.num_rows} labelled cutout triplets (science, reference, "
        "difference) for telling astrophysical change from artefacts, with tiles for segmentation.",
        "version": "1.0.0",
        "license": ["https://creativecommons.org/licenses/by/4.0/", *(u for u in urls if u)],
        "creator": {"@type": "sc:Organization", "name": "astrid_assets"},
        "citeAs": f"astrid_assets training release {release.release_id}",
        "keywords": ["astronomy", "transients", "real-bogus", "difference imaging"],
        "rai:dataCollection": f"Exposures of the archives: {', '.join(archives)}; see README.md.",
        "rai:dataLimitations": list(_LIMITATIONS),
        "rai:dataBiases": [_LIMITATIONS[0], _LIMITATIONS[2]],
        "distribution": [_file_object(name, value) for name, value in sorted(sums.items())],
        "recordSet": [_splits_record(), _catalogue_record(schema)],
    }


def _context() -> dict[str, Any]:
    """Return the ``@context`` that Croissant 1.0 asks for."""
    return json.loads(files(__package__).joinpath("croissant_context.json").read_text("utf-8"))


def _file_object(name: str, checksum: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": _FORMATS[name.rsplit(".", 1)[-1]],
        "sha256": checksum,
    }


def _splits_record() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
        ],
        "data": [{"splits/name": name} for name in SPLITS],
    }


def _catalogue_record(schema: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "catalog",
        "name": "catalog",
        "description": "One row a sample; h5_file and h5_row say where its stamps are.",
        "key": {"@id": "catalog/sample_id"},
        "field": [_field(column) for column in schema],
    }


def _field(column: pa.Field) -> dict[str, Any]:
    import pyarrow as pa

    notes = {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}
    unit = f" [{notes['unit']}]" if notes.get("unit") else ""
    kinds = ((pa.types.is_string, "sc:Text"), (pa.types.is_floating, "sc:Float"))
    kind = next((name for test, name in kinds if test(column.type)), "sc:Integer")
    field = {
        "@type": "cr:Field",
        "@id": f"catalog/{column.name}",
        "name": column.name,
        "description": f"{notes.get('description', '')}{unit}",
        "dataType": kind,
        "source": {"fileObject": {"@id": "catalog.parquet"}, "extract": {"column": column.name}},
    }
    return field | ({"references": {"field": {"@id": "splits/name"}}} if column.name == "split" else {})
