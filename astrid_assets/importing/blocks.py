"""Blocks of ``fields.yaml`` from supernovae and a configuration: one field for each, around its event."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from astrid_assets.archives.availability import searched, why_nothing
from astrid_assets.fields import Field
from astrid_assets.importing.catalogues import Catalogue, Supernova
from astrid_assets.importing.configurations import GUARD_DAYS, Configuration

__all__ = ["Import", "import_catalogue"]

_NAME_MAX = 60
"""Characters of a name; three are left for a number."""


@dataclass(frozen=True)
class Import:
    """What a catalogue became."""

    blocks: dict[str, dict[str, Any]]
    """Options by name of the field, as in ``fields.yaml``."""

    other_years: int
    """Supernovae outside of the years of the configuration."""

    unseen: tuple[tuple[Supernova, str], ...]
    """Supernovae that no mission saw before and after, with the reason."""

    known: int
    """Supernovae that are fields already."""

    beyond: int
    """Supernovae left out by ``start_index`` and ``limit``."""


def import_catalogue(
    catalogue: Catalogue,
    configuration: Configuration,
    *,
    known: Collection[str] = (),
    limit: int | None = None,
    enabled: bool = True,
) -> Import:
    """Return the fields that a catalogue gives with a configuration.

    Parameters
    ----------
    catalogue
        The supernovae.

    configuration
        How to search around them.

    known
        Names of fields that there are; a supernova with such a name is passed over.

    limit
        Most fields; default is that of the configuration.

    enabled
        Whether ``--all``, sensors and schedules take the fields.
    """
    inside = [s for s in catalogue.supernovae if configuration.takes(int(s.date[:4]))]
    limit = configuration.query.limit if limit is None else limit
    blocks: dict[str, dict[str, Any]] = {}
    unseen: list[tuple[Supernova, str]] = []
    n_known = n_beyond = 0
    for number, (name, supernova) in enumerate(_named(inside)):
        if name in known:
            n_known += 1
        elif number < configuration.query.start_index or (limit is not None and len(blocks) >= limit):
            n_beyond += 1
        else:
            options, why = _block(supernova, configuration)
            if why is None:
                blocks[name] = options if enabled else {**options, "enabled": False}
            else:
                unseen.append((supernova, why))
    return Import(blocks, len(catalogue.supernovae) - len(inside), tuple(unseen), n_known, n_beyond)


def _named(supernovae: Sequence[Supernova]) -> Iterator[tuple[str, Supernova]]:
    """Give each supernova a name that is unique and fit for a folder."""
    taken: set[str] = set()
    for supernova in supernovae:
        plain = re.sub(r"^(sn|at) (?=\d)", r"\1", supernova.name.lower())
        safe = re.sub(r"[^a-z0-9_.+-]+", "-", plain).strip("-_.+")[:_NAME_MAX] or "sn"
        name, number = safe, 2
        while name in taken:
            name, number = f"{safe}-{number}", number + 1
        taken.add(name)
        yield name, supernova


def _block(supernova: Supernova, configuration: Configuration) -> tuple[dict[str, Any], str | None]:
    """Return the options of a field, without missions that cannot have a pair; or the reason of each."""
    day = date.fromisoformat(supernova.date)
    query = configuration.query
    first = day - timedelta(days=query.days_before)
    # a day without a time counts whole
    last = day - timedelta(days=GUARD_DAYS + 1)
    end = day + timedelta(days=query.days_after + supernova.uncertain_days)
    options = {
        "ra": supernova.ra,
        "dec": supernova.dec,
        **configuration.options(),
        "science_window": {"start": day.isoformat(), "end": end.isoformat()},
        "reference_window": {"start": first.isoformat(), "end": last.isoformat()},
        "event": {"name": supernova.name, "ra": supernova.ra, "dec": supernova.dec, "date": supernova.date},
    }
    return _without_ended(options)


def _without_ended(options: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    field = Field(name="one", **options)
    reasons = {(archive, m.name): why_nothing(m, field) for archive, m in searched(field)}
    left = [key for key, why in reasons.items() if why is None]
    if not left:
        return options, "; ".join(str(why) for why in reasons.values())
    gone = {archive for archive, _ in reasons} - {archive for archive, _ in left}
    kept = {**options, "archives": tuple(a for a in options["archives"] if a not in gone)}
    if "mast" in kept:
        kept["mast"] = {"missions": tuple(mission for archive, mission in left if archive == "mast")}
    return {key: value for key, value in kept.items() if key not in gone}, None
