"""What the archives of a field offer besides images, and which circle each of it is asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from astrid_assets.archives import open_archive
from astrid_assets.archives.footprints import centre, enclosing_radius
from astrid_assets.archives.protocol import AlertArchive, CatalogueArchive, Cone, CutoutArchive, Offer
from astrid_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from astrid_assets.archives.transport import Transport
    from astrid_assets.fields import Field

__all__ = ["Question", "alert_questions", "catalogue_questions", "cutout_questions", "fetch", "questions_of"]

_RADIUS_STEP = 0.1
"""Degrees to which the radius about a field is rounded up: a new exposure seldom makes it a new question."""

_MARGIN = 0.005
"""Degrees added around a footprint, for what moves and for errors of the world coordinates."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """One thing to ask an archive for."""

    name: str
    """Unique among the questions of an asset of a field; usable as a file name."""

    archive: str
    """Name of the archive."""

    offer: Offer
    """What it offers."""

    cone: Cone
    """Where, and when for what moves."""

    exposure_id: str | None = None
    """Exposure that the question belongs to."""

    def to_dict(self) -> dict[str, Any]:
        """Return the question as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Question:
        """Return what `to_dict` made."""
        parts = {"offer": Offer(**document["offer"]), "cone": Cone(**document["cone"])}
        return cls(**{**document, **parts})


def catalogue_questions(sky_field: Field, exposures: Sequence[Row]) -> list[Question]:
    """Return what to ask the catalogues of a field for: each once, and of what moves for each exposure.

    Parameters
    ----------
    sky_field
        The field.

    exposures
        Rows of the science exposures, with identifier, middle and footprint.
    """
    questions = []
    around = _around(sky_field, exposures)
    for name, archive in _archives(sky_field, CatalogueArchive):
        for offer in archive.catalogues(sky_field):
            if offer.moving:
                questions += [_for_exposure(name, offer, sky_field, row) for row in exposures]
            else:
                questions.append(Question(offer.name, name, offer, around))
    return questions


def alert_questions(sky_field: Field, exposures: Sequence[Row]) -> list[Question]:
    """Return what to ask for alerts: every night on its own, where its exposures lie."""
    questions = []
    for name, archive in _archives(sky_field, AlertArchive):
        for offer in archive.alert_nights(sky_field):
            mine = [r for r in exposures if offer.mjd is not None and 0 <= r["mjd_mid"] - offer.mjd < 1]
            questions.append(Question(offer.name, name, offer, _around(sky_field, mine)))
    return questions


def cutout_questions(sky_field: Field, exposures: Sequence[Row]) -> list[Question]:  # noqa: ARG001
    """Return what to ask for cutouts: every survey once, about the centre of the field."""
    cone = Cone(sky_field.ra, sky_field.dec, sky_field.radius)
    return [
        Question(offer.name, name, offer, cone)
        for name, archive in _archives(sky_field, CutoutArchive)
        for offer in archive.cutout_surveys(sky_field)
    ]


def questions_of(sky_field: Field, *, asset: str, exposures: Sequence[Row]) -> list[dict[str, Any]] | None:
    """Return what an asset has to ask the archives of a field for, as JSON can hold it.

    None where no archive of the field offers anything of the kind; nothing where there is nothing to
    ask for yet, as before the first night.

    Parameters
    ----------
    sky_field
        The field.

    asset
        ``survey_cutouts``, ``known_objects`` or ``ztf_alerts``.

    exposures
        Science exposures: ``exposure_id``, ``mjd_mid``, ``footprint``, ``survey``.
    """
    capability, ask = {
        "survey_cutouts": (CutoutArchive, cutout_questions),
        "known_objects": (CatalogueArchive, catalogue_questions),
        "ztf_alerts": (AlertArchive, alert_questions),
    }[asset]
    if not _archives(sky_field, capability):
        return None
    return [question.to_dict() for question in ask(sky_field, exposures)]


def fetch(sky_field: Field, question: Question, transport: Transport | None = None, **options: Any) -> bytes:
    """Return the answer to a question as it was sent.

    Parameters
    ----------
    sky_field
        The field.

    question
        What to ask for.

    transport
        What asks the services; by default one with the settings of this installation.

    **options
        ``width`` and ``pixels`` of a cutout.

    Raises
    ------
    ArchiveUnavailableError, NoCoverageError, BadAnswerError
        As `astrid_assets.archives.protocol` has it.
    """
    archive, offer = open_archive(question.archive, sky_field, transport), question.offer
    if options and isinstance(archive, CutoutArchive):
        return archive.cutout(offer, sky_field, **options)
    if offer.format == "avro" and isinstance(archive, AlertArchive):
        return archive.alerts(offer, sky_field, question.cone)
    if isinstance(archive, CatalogueArchive):
        return archive.catalogue(offer, sky_field, question.cone)
    msg = f"archive {question.archive} of field {sky_field.name} does not offer {offer.title}"
    raise ConfigurationError(msg)


def _archives(sky_field: Field, capability: type) -> list[tuple[str, Any]]:
    """Return the archives of a field that can do something."""
    opened = ((name, open_archive(name, sky_field)) for name in sky_field.archives)
    return [(name, archive) for name, archive in opened if isinstance(archive, capability)]


def _around(sky_field: Field, exposures: Sequence[Row]) -> Cone:
    """Return the circle about the centre of a field that holds it and the exposures, rounded up."""
    footprints = [_corners(row) for row in exposures if row.get("footprint")]
    radius = max(sky_field.radius, enclosing_radius(sky_field.ra, sky_field.dec, footprints) + _MARGIN)
    return Cone(sky_field.ra, sky_field.dec, round(ceil(radius / _RADIUS_STEP) * _RADIUS_STEP, 6))


def _for_exposure(archive: str, offer: Offer, sky_field: Field, row: Row) -> Question:
    """Return the question about one exposure at its middle."""
    name = f"{row['exposure_id']}_{offer.name}"
    if not row.get("footprint"):
        cone = Cone(sky_field.ra, sky_field.dec, sky_field.radius, row["mjd_mid"], row.get("survey"))
        return Question(name, archive, offer, cone, row["exposure_id"])
    corners = _corners(row)
    ra, dec = (round(value, 6) for value in centre(corners))
    radius = round(enclosing_radius(ra, dec, [corners]) + _MARGIN, 4)
    cone = Cone(ra, dec, radius, row["mjd_mid"], row.get("survey"))
    return Question(name, archive, offer, cone, row["exposure_id"])


def _corners(row: Row) -> list[tuple[float, float]]:
    flat = row["footprint"]
    return list(zip(flat[::2], flat[1::2], strict=True))
