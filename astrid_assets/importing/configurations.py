"""Configurations of the earlier project, and the presets that ship in its form.

A configuration says how to search around supernovae: missions, filters, years, days before and after the
discovery. Every option is honoured, or listed with the reason why it has no meaning here; one that is not
known is an error with its line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import pydantic

from astrid_assets.archives.availability import Mission, missions
from astrid_assets.documents import Document, validated
from astrid_assets.errors import ConfigurationError
from astrid_assets.fields import Event
from astrid_assets.surveys import load_profile

__all__ = ["Configuration", "Fate", "load_preset", "preset_names", "read_configuration"]

GUARD_DAYS: float = Event.model_fields["guard_days"].default
"""Days before an event that no reference may hold; the earlier project kept one."""

CALENDAR_END = 9999


class _Block(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Query(_Block):
    """What is searched; defaults are those of the earlier project."""

    missions: tuple[str, ...] = pydantic.Field(default=("SWIFT", "PS1", "GALEX"), min_length=1)
    filters: tuple[str, ...] | None = None
    archives: tuple[str, ...] | None = None
    min_year: int = pydantic.Field(default=2005, ge=1000, le=CALENDAR_END)
    max_year: int | None = pydantic.Field(default=None, ge=1000, le=CALENDAR_END)
    days_before: int = pydantic.Field(default=1095, gt=GUARD_DAYS + 1)
    days_after: int = pydantic.Field(default=730, ge=1)
    radius_deg: float = pydantic.Field(default=0.1, gt=0, le=5)
    chunk_size: int = 250
    start_index: int = pydantic.Field(default=0, ge=0)
    limit: int | None = pydantic.Field(default=None, ge=1)


class Download(_Block):
    """What is downloaded."""

    max_obs_per_type: int = pydantic.Field(default=5, ge=1)
    max_products_per_obs: int = 3
    include_auxiliary: bool = False
    require_same_mission: bool = True
    verify_fits: bool = True
    skip_reference: bool = False
    skip_science: bool = False


class Quality(_Block):
    """What is good enough."""

    min_overlap_fraction: float = pydantic.Field(default=0.85, gt=0, le=1)
    max_file_size_mb: float = pydantic.Field(default=500.0, gt=0)
    verify_wcs: bool = True


class Output(_Block):
    """Where the earlier project wrote."""

    query_results: str | None = None
    fits_downloads: str | None = None
    fits_training: str | None = None
    difference_images: str | None = None
    checkpoint: str | None = None
    chunk_dir: str | None = None


class _Document(_Block):
    dataset_name: str = "unnamed_dataset"
    description: str = ""
    query: Query = Query()
    download: Download = Download()
    quality: Quality = Quality()
    output: Output = Output()


@dataclass(frozen=True)
class Fate:
    """What became of an option."""

    option: str
    """Dotted name."""

    honoured: bool
    """Whether it has its effect here; else `words` say why not."""

    words: str
    """How, or why not."""


_HONOURED = {
    "dataset_name": "name of the preset in the comment above the fields",
    "description": "the comment above the fields",
    "query.missions": "archives, and missions of archive mast",
    "query.filters": "bands, in canonical names",
    "query.archives": "archives",
    "query.min_year": "supernovae from that year on",
    "query.max_year": "supernovae up to that year",
    "query.days_before": f"reference_window; it ends {GUARD_DAYS:g} days before the event instead of one",
    "query.days_after": "science_window",
    "query.radius_deg": "radius",
    "query.start_index": "supernovae passed over at the start of the catalogue",
    "query.limit": "most supernovae that become fields",
    "download.max_obs_per_type": "limits.new_exposures_per_run: the others follow in later runs",
    "download.require_same_mission": "false allows references of the other missions (cross_survey)",
    "quality.min_overlap_fraction": "limits.overlap_min",
    "quality.max_file_size_mb": "limits.file_size_mb",
}

_OWN_FOLDER = "every asset has its folder in ASTRID_DATA"

_NOT_APPLICABLE = {
    "query.chunk_size": "every field is a partition of its own, there are no chunks",
    "download.max_products_per_obs": "products are chosen by their kind: the image, its mask and weight",
    "download.include_auxiliary": "masks, weights and noise always come, other products never",
    "download.verify_fits": "every file is verified",
    "download.skip_reference": "without references there are no pairs",
    "download.skip_science": "without science images there are no pairs",
    "quality.verify_wcs": "world coordinates of every image are checked",
    "output.query_results": _OWN_FOLDER,
    "output.fits_downloads": _OWN_FOLDER,
    "output.fits_training": _OWN_FOLDER,
    "output.difference_images": _OWN_FOLDER,
    "output.checkpoint": "a run goes on where the last one stopped, without a file for it",
    "output.chunk_dir": "every field is a partition of its own, there are no chunks",
}

_ARCHIVE_WORDS = {"MAST": {"mast", "ps1"}, "IRSA": {"irsa_ztf"}, "SKYVIEW": {"skyview"}}


@dataclass(frozen=True)
class Configuration:
    """How to search around supernovae."""

    name: str
    description: str
    query: Query
    download: Download
    quality: Quality
    bands: tuple[str, ...]
    """Canonical filter names; empty takes all."""

    given: tuple[str, ...]
    """Options that the file has."""

    @cached_property
    def chosen(self) -> tuple[Mission, ...]:
        """Missions that are asked for, in their order."""
        return tuple(missions()[name] for name in self.query.missions)

    @cached_property
    def searched(self) -> tuple[Mission, ...]:
        """Missions of them that an archive of the platform has exposures of."""
        allowed = self.query.archives
        among = None if allowed is None else set().union(*(_ARCHIVE_WORDS[a.upper()] for a in allowed))
        return tuple(m for m in self.chosen if m.archive and (among is None or m.archive in among))

    @cached_property
    def drawn(self) -> tuple[Mission, ...]:
        """Missions of them that archive ``skyview`` draws beside the field."""
        return tuple(m for m in self.chosen if m.archive is None and m.survey is not None)

    @property
    def fates(self) -> tuple[Fate, ...]:
        """What became of each option of the file."""
        return tuple(self._fates())

    def _fates(self) -> Iterator[Fate]:
        for option in self.given:
            if option in _NOT_APPLICABLE:
                yield Fate(option, honoured=False, words=_NOT_APPLICABLE[option])
            else:
                yield Fate(option, honoured=True, words=_HONOURED[option])
        for mission in self.chosen:
            if mission not in self.searched:
                why = mission.none or f"query.archives leaves out {mission.archive}"
                yield Fate(f"query.missions: {mission.name}", honoured=False, words=why)

    def why_nothing(self) -> list[str]:
        """Return why some or all of its missions cannot give a pair in its years."""
        return [f"{m.name}: {why}" for m in self.chosen for why in self._troubles(m)]

    def _troubles(self, mission: Mission) -> Iterator[str]:
        if mission not in self.searched:
            yield mission.none or "left out by query.archives"
        elif self._years_of(mission) is None:
            years = f"{self.query.min_year} to {self.query.max_year or 'today'}"
            yield f"observed {mission.years}, too early or late for supernovae of {years}"

    def _years_of(self, mission: Mission) -> tuple[int, int] | None:
        """Return first and last year of supernovae that it saw before and after."""
        first = int(str(mission.observed.start)[:4])
        last = int(mission.observed.end[:4]) if mission.observed.end else CALENDAR_END
        low, high = max(first, self.query.min_year), min(last, self.query.max_year or CALENDAR_END)
        return (low, high) if low <= high else None

    @property
    def usable(self) -> bool:
        """Whether any of its missions can give a pair."""
        return any(self._years_of(m) is not None for m in self.searched)

    def takes(self, year: int) -> bool:
        """Tell whether supernovae of a year are asked for."""
        return self.query.min_year <= year <= (self.query.max_year or CALENDAR_END)

    def options(self) -> dict[str, Any]:
        """Return the options of ``fields.yaml`` that do not depend on the supernova."""
        archives = list(dict.fromkeys(m.archive for m in self.searched))
        archives += ["skyview"] if self.drawn else []
        surveys = [m.survey for m in self.searched if m.survey]
        cross = not self.download.require_same_mission and len(surveys) > 1
        of_mast = tuple(m.name for m in self.searched if m.archive == "mast")
        found: dict[str, Any] = {
            "radius": self.query.radius_deg,
            "archives": tuple(archives),
            "bands": self.bands,
            "mast": {"missions": of_mast} if of_mast else None,
            # single epochs: a stack of all years would hold the supernova
            "ps1": {"product": "warp"} if "ps1" in archives else None,
            "limits": {
                "overlap_min": self.quality.min_overlap_fraction,
                "new_exposures_per_run": self.download.max_obs_per_type,
                "file_size_mb": self.quality.max_file_size_mb,
            },
            "cross_survey": {"references": tuple(surveys)} if cross else None,
        }
        return {option: value for option, value in found.items() if value not in (None, ())}


def read_configuration(text: str, *, path: str | Path = "configuration.yaml") -> Configuration:
    """Return a configuration of the earlier project.

    Parameters
    ----------
    text
        Its YAML.

    path
        File to name in errors.

    Raises
    ------
    ConfigurationError
        An option is unknown, given twice or wrong, a mission or filter is unknown, or nothing is left to
        search; the message names file and line.
    """
    document = Document(text, Path(path))
    if not isinstance(document.value, dict):
        document.fail("a configuration is a mapping of options")
    values = {key: value for key, value in document.value.items() if value is not None}
    read = validated(document, _Document, values, at=(), what="configuration")
    query = read.query.model_copy(update={"missions": tuple(_missions(document, read.query.missions))})
    _known_archives(document, query)
    bands = _bands(document, query)
    parts = {"query": query, "download": read.download, "quality": read.quality}
    found = Configuration(
        read.dataset_name, read.description, **parts, bands=bands, given=tuple(_given(values))
    )
    if not found.searched:
        reasons = "; ".join(f"{m.name}: {m.none or 'left out by query.archives'}" for m in found.chosen)
        document.fail(f"none of the missions can be searched: {reasons}", at=("query", "missions"))
    if query.max_year is not None and query.max_year < query.min_year:
        document.fail(
            f"max_year {query.max_year} lies before min_year {query.min_year}", at=("query", "max_year")
        )
    return found


def _given(values: dict[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield from (f"{key}.{inner}" for inner in value) if isinstance(value, dict) else (key,)


def _missions(document: Document, names: Iterable[str]) -> Iterator[str]:
    for number, name in enumerate(names):
        if name.upper() not in missions():
            at = ("query", "missions", str(number))
            document.fail(f"{name!r} is no mission; there are {', '.join(missions())}", at=at)
        yield name.upper()


def _known_archives(document: Document, query: Query) -> None:
    for name in query.archives or ():
        if name.upper() not in _ARCHIVE_WORDS:
            at = ("query", "archives")
            document.fail(f"{name!r} is no archive; there are {', '.join(_ARCHIVE_WORDS)}", at=at)


def _bands(document: Document, query: Query) -> tuple[str, ...]:
    """Return canonical names of filters: as any of the missions spells them, never by parts of a name."""
    profiles = [load_profile(m.survey) for name in query.missions if (m := missions()[name]).survey]
    found: dict[str, None] = {}
    for name in query.filters or ():
        bands = [band for profile in profiles if (band := profile.band(name)) is not None]
        if not bands:
            among = ", ".join(dict.fromkeys(b for p in profiles for b in p.bands))
            document.fail(
                f"{name!r} is no filter of these missions; there are {among}", at=("query", "filters")
            )
        found.update(dict.fromkeys(bands))
    return tuple(found)


def preset_names() -> tuple[str, ...]:
    """Return the names of the configurations that ship with the platform."""
    return tuple(sorted(p.name[:-5] for p in _presets().iterdir() if p.name.endswith(".yaml")))


def load_preset(name: str) -> Configuration:
    """Return a configuration that ships, or that of a YAML file of the earlier project.

    Parameters
    ----------
    name
        One of `preset_names`, or the path of a file.

    Raises
    ------
    ConfigurationError
        There is neither, or it is wrong.
    """
    if name in preset_names():
        file = f"{name}.yaml"
        return read_configuration((_presets() / file).read_text("utf-8"), path=file)
    try:
        return read_configuration(Path(name).read_text("utf-8"), path=name)
    except OSError as error:
        msg = f"there is no preset {name!r} and no such file; presets are {', '.join(preset_names())}"
        raise ConfigurationError(msg) from error


def _presets() -> Any:
    return files("astrid_assets.importing") / "presets"
