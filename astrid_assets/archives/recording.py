"""Freezing what the archives answer about a field, so that it can be worked on again without them.

The store of the transport is the recording: while ``record`` is set it keeps downloads beside answers,
and in mode ``replay`` it is all that is asked. Here is only what a field has to be asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from astrid_assets.archives import open_archive
from astrid_assets.archives.offers import alert_questions, catalogue_questions, cutout_questions, fetch
from astrid_assets.archives.planning import Query, exposure_of, plan
from astrid_assets.archives.protocol import Exposure
from astrid_assets.archives.transport import Tally
from astrid_assets.archives.transport.shared import shared_transport
from astrid_assets.errors import (
    ArchiveUnavailableError,
    AuthenticationNeededError,
    BadAnswerError,
    NoCoverageError,
)

if TYPE_CHECKING:
    from astrid_assets.archives.transport import Settings, Transport
    from astrid_assets.fields import Field

__all__ = ["Recorded", "record_field"]

Row = Mapping[str, Any]


@dataclass
class Recorded:
    """What a recording has of a field."""

    queries: tuple[Query, ...] = ()
    """How the search of each archive ended."""

    kept: Counter[str] = field(default_factory=Counter)
    """Number of answers by kind: ``images``, ``catalogues``, ``alerts``, ``cutouts``."""

    nothing: list[tuple[str, str]] = field(default_factory=list)
    """What an archive has nothing of, and its words: an answer as well."""

    lacking: list[tuple[str, str]] = field(default_factory=list)
    """What could not be had, and why: it lacks in a replay, too."""

    traffic: Tally = field(default_factory=Tally)
    """What was asked of the services."""

    @property
    def complete(self) -> bool:
        """Whether a replay has all that a run asks for."""
        return not self.lacking and all(query.state != "failed" for query in self.queries)


def record_field(
    sky_field: Field,
    settings: Settings,
    *,
    cutout_grid: Mapping[str, Any],
    on_answer: Callable[[str, str], None] = lambda _kind, _name: None,
) -> Recorded:
    """Ask the archives of a field for all that a run asks for; the store of the settings keeps it.

    Parameters
    ----------
    sky_field
        The field.

    settings
        How services are treated; with ``record``, or downloads are not kept.

    cutout_grid
        ``width`` (degrees) and ``pixels`` of the cutouts of other surveys, as the run will ask for them.

    on_answer
        Called after each answer with its kind and name.

    Returns
    -------
    Recorded
        What was kept, and what could not be had.
    """
    transport = shared_transport(settings)
    found = plan(sky_field, archives=settings)
    recorded = Recorded(found.queries)
    rows = [row for row in found.table.to_pylist() if row["status"] == "selected" and not row["deferred"]]
    for kind, name, ask in _asked(sky_field, rows, transport, cutout_grid):
        try:
            ask()
        except NoCoverageError as error:
            recorded.nothing.append((name, str(error)))
        except (ArchiveUnavailableError, AuthenticationNeededError, BadAnswerError) as error:
            recorded.lacking.append((name, str(error)))
        else:
            recorded.kept[kind] += 1
        on_answer(kind, name)
    recorded.traffic = found.traffic + transport.take_tally()
    return recorded


def _asked(
    sky_field: Field, rows: Sequence[Row], transport: Transport, grid: Mapping[str, Any]
) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Yield kind and name of each thing that a run asks for, and what asks for it."""
    for row in rows:
        yield "images", row["exposure_id"], partial(_download, sky_field, exposure_of(row), transport)
    science = [row for row in rows if row["role"] == "science"]
    for question in catalogue_questions(sky_field, science):
        yield "catalogues", question.name, partial(fetch, sky_field, question, transport)
    for question in alert_questions(sky_field, science):
        yield "alerts", question.name, partial(fetch, sky_field, question, transport)
    for question in cutout_questions(sky_field, science):
        yield "cutouts", question.name, partial(fetch, sky_field, question, transport, **grid)


def _download(sky_field: Field, exposure: Exposure, transport: Transport) -> None:
    """Download an exposure for the sake of the store."""
    archive = open_archive(exposure.archive, sky_field, transport)
    with TemporaryDirectory(prefix="astrid-record-") as folder:
        archive.download(exposure, Path(folder))
