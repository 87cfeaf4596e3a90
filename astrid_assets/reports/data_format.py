"""Specification of every file: made from the schemas, so that it cannot be out of date.

``python -m astrid_assets.reports.data_format docs/data_format.md`` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["document"]

_CARRIED = ("exposure_id", "reference_id", "survey", "band")
"""Columns of the manifest that stand in the rows of candidates."""

_CUTOUT_COLUMNS = (
    ("at_edge", "bool", "", "the stamp reaches beyond the image"),
    ("bad_science", "double", "", "share of flagged pixels in the science stamp"),
    ("bad_reference", "double", "", "the same of the reference stamp"),
    ("bad_difference", "double", "", "the same of the difference stamp"),
)

_DETECTION_COLUMNS = (
    ("injection_id", "string", "", "injection that it stands for; empty: none"),
    ("in_clean_run", "bool", "", "the exposure as it is has it too"),
    ("stamp", "int32", "", "row in the file of stamps; -1: none was cut"),
)

_EFFICIENCY = {
    "band": "filter, or all",
    "site": "all, host or blank",
    "n_sources": "sources that count",
    "n_found": "of these found and not flagged",
    "n_exposures": "exposures that they are in",
    "epsilon0": "efficiency of bright sources",
    "m50": "magnitude at which half of epsilon0 is found",
    "width": "width of the decline",
    "m90": "magnitude at which 90 per cent of epsilon0 are found",
    "m50_fleming": "m50 of a Fleming function, as a cross-check",
    "snr50": "significance at which half is found",
}


def document() -> str:
    """Return the specification, Markdown."""
    template = Template(files(__package__).joinpath("templates", "data_format.md").read_text("utf-8"))
    return template.substitute(_layout() | _tables() | _training() | _bits())


def _layout() -> dict[str, str]:
    """Return the folders of the assets."""
    from astrid_assets.storage.layout import FOLDERS, OUTPUTS, RELEASE_FOLDERS

    rows = [
        (name, f"`{folder}/<field>/`", f"`{OUTPUTS.get(name, 'manifest.parquet')}`")
        for name, folder in FOLDERS.items()
    ]
    rows += [(name, f"`{folder}/`", "") for name, folder in RELEASE_FOLDERS.items()]
    return {"folders": _markdown(("asset", "folder", "handed downstream"), rows)}


def _tables() -> dict[str, str]:
    """Return the columns of all tables but those of training."""
    from astrid_assets.archives.alert_columns import ALERT_COLUMNS
    from astrid_assets.archives.catalogues.columns import KNOWN_COLUMNS
    from astrid_assets.archives.planning import OBSERVATION_COLUMNS
    from astrid_assets.archives.simulated.truth import TRUTH_COLUMNS
    from astrid_assets.reports.catalog import CATALOG_COLUMNS
    from astrid_assets.science.catalogue import crossmatch_schema
    from astrid_assets.science.detection import candidate_schema
    from astrid_assets.science.objects import association_schema, light_curve_schema, object_schema
    from astrid_assets.storage.manifest import COLUMNS

    identity = [("candidate_id", "string", "", "identifier, unique in the field")]
    identity += [("field", "string", "", "field of the registry")]
    identity += [(n, kind, "", text) for n, (kind, text) in COLUMNS.items() if n in _CARRIED]
    return {
        "manifest": _texts(COLUMNS),
        "observations": _texts(OBSERVATION_COLUMNS),
        "known_objects": _columns((n, *c) for n, c in KNOWN_COLUMNS.items()),
        "alerts": _columns((n, *c) for n, c in ALERT_COLUMNS.items()),
        "candidates": _columns(
            [*identity, *_of_schema(candidate_schema()), *_of_schema(crossmatch_schema())]
        ),
        "cutout_columns": _columns(_CUTOUT_COLUMNS),
        "light_curves": _columns(_of_schema(light_curve_schema())),
        "objects": _columns(_of_schema(object_schema())),
        "associations": _columns(_of_schema(association_schema())),
        "catalog": _columns((n, *c) for n, c in CATALOG_COLUMNS.items()),
        "truth": _markdown(("column", "what"), [(f"`{n}`", text) for n, text in TRUTH_COLUMNS.items()]),
    }


def _training() -> dict[str, str]:
    """Return the columns and values of injections, samples and the release."""
    from astrid_assets.training.injection_columns import INJECTION_COLUMNS, injection_schema
    from astrid_assets.training.injection_tables import efficiency_table
    from astrid_assets.training.release import EXTRA_COLUMNS
    from astrid_assets.training.schema import DOMAINS, LABEL_SOURCES, LABELS, SAMPLE_COLUMNS
    from astrid_assets.training.shortcut import PROBE_FEATURES
    from astrid_assets.training.vetting import VETTING_COLUMNS

    efficiency = efficiency_table(injection_schema().empty_table()).schema
    return {
        "injections": _columns((n, *c) for n, c in INJECTION_COLUMNS.items()),
        "detection_columns": _columns(_DETECTION_COLUMNS),
        "efficiency": _columns(_efficiency_row(*row) for row in _of_schema(efficiency)),
        "samples": _columns((n, *c) for n, c in SAMPLE_COLUMNS.items()),
        "release_columns": _columns((n, *c) for n, c in EXTRA_COLUMNS.items()),
        "labels": ", ".join(f"{value} {name}" for name, value in LABELS.items()),
        "label_sources": ", ".join(LABEL_SOURCES),
        "domains": ", ".join(DOMAINS),
        "probe": ", ".join(f"`{name}`" for name in PROBE_FEATURES),
        "vetting": ", ".join(f"`{name}`" for name in VETTING_COLUMNS),
    }


def _bits() -> dict[str, str]:
    """Return the meaning of all bits."""
    from astrid_assets.images.masks import MASK_PLANES
    from astrid_assets.images.triplets import STAMP_BITS
    from astrid_assets.training.samples import TILE_BITS

    planes = [(p.bit, f"`{p.name}`", p.description, "no" if p.bad else "yes") for p in MASK_PLANES.values()]
    return {
        "mask_planes": _markdown(("bit", "name", "what", "still usable"), planes),
        "stamp_bits": _values(STAMP_BITS, _STAMP_TEXTS),
        "tile_bits": _values(TILE_BITS, _TILE_TEXTS),
    }


_STAMP_TEXTS = {
    "OUTSIDE": "beyond the edge of the image",
    "MISSING": "no finite value there, or a sentinel such as 3.4e38",
    "BAD": "the image mask says that the value is not to be trusted",
    "SATURATED": "saturated or bled",
}

_TILE_TEXTS = {
    "INJECTED": "footprint of an injected source",
    "DETECTED": "a detection of the exposure itself that is not flagged",
    "UNTRUSTED": "a pixel that is not to be trusted",
}


def _values(bits: Mapping[str, int], texts: Mapping[str, str]) -> str:
    return _markdown(("value", "name", "what"), [(bit, f"`{n}`", texts[n]) for n, bit in bits.items()])


def _texts(columns: Mapping[str, tuple[str, str]]) -> str:
    """Return a table of columns whose descriptions hold their units."""
    rows = [(f"`{name}`", kind, text) for name, (kind, text) in columns.items()]
    return _markdown(("column", "type", "what, unit"), rows)


def _efficiency_row(name: str, kind: str, unit: str, _text: str) -> tuple[str, str, str, str]:
    if name.endswith("_error"):
        return name, kind, unit, "1-sigma error, by resampling exposures"
    return name, kind, unit, _EFFICIENCY[name]


def _of_schema(schema: pa.Schema) -> list[tuple[str, str, str, str]]:
    """Return name, type, unit and description of each column."""
    rows = []
    for column in schema:
        notes = {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}
        rows.append((column.name, str(column.type), notes.get("unit", ""), notes.get("description", "")))
    return rows


def _columns(rows: Iterable[Sequence[Any]]) -> str:
    """Return a table of columns: name, type, unit, description."""
    return _markdown(("column", "type", "unit", "what"), [(f"`{name}`", *rest) for name, *rest in rows])


def _markdown(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def main() -> None:
    """Write the specification to the file that is named, or to standard output."""
    from pathlib import Path

    from astrid_assets.storage import Store

    text = document()
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        store = Store(str(path.parent))
        store.write_bytes(path.name, text.encode())
        store.remove_staging()
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
