"""Recipes of what is known about a field: ask an archive, keep its answer, read it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from astrid_assets.archives.alerts import Packet, alert_table, alert_triplets, read_packets
from astrid_assets.archives.catalogues import PARSERS, for_exposure
from astrid_assets.archives.cutouts import describe_cutout
from astrid_assets.archives.offers import Question, fetch
from astrid_assets.assets.recipes.common import Recipe, write_parquet
from astrid_assets.assets.streaming import Product, Step, Task
from astrid_assets.errors import BadAnswerError, NoCoverageError
from astrid_assets.images.triplets import write_triplets
from astrid_assets.science.catalogue import outside_fraction

__all__ = ["RECIPES"]

_SUFFIXES = {
    "gaia": "vot",
    "ps1": "json",
    "vsx": "vot",
    "sdss": "csv",
    "ned": "vot",
    "simbad": "vot",
    "tns": "csv",
    "bts": "csv",
    "skybot": "vot",
}
"""Ending of the file that an answer is kept in, by its format."""


@dataclass(frozen=True)
class _Answer:
    """What an archive sent, or why it sent nothing."""

    question: Question | None
    content: bytes = b""
    nothing: str | None = None


def _ask(task: Task) -> _Answer:
    """Ask the archive; "nothing there" and "not configured" are answers, too."""
    inputs = task.work.inputs
    if "not_configured" in inputs:
        return _Answer(None, nothing=inputs["not_configured"])
    question = Question.from_dict(inputs["question"])
    try:
        return _Answer(question, fetch(task.job.sky_field, question, task.transport, **_grid(task)))
    except NoCoverageError as error:
        return _Answer(question, nothing=str(error))


def _grid(task: Task) -> dict[str, Any]:
    """Return the grid of a cutout: as wide as the field where no width is given."""
    options = task.steps[0].options
    if "pixels" not in options:
        return {}
    width = options["width"] or 2 * task.job.sky_field.radius
    return {"width": width, "pixels": options["pixels"]}


def _path(task: Task, step: Step, suffix: str) -> str:
    folder = task.job.store.folder(step.asset, task.job.sky_field.name)
    return f"{folder}/{task.work.row['exposure_id']}.{suffix}"


def _keep(task: Task, step: Step, answer: _Answer, suffix: str) -> dict[str, int]:
    """Write an answer as it came; the old row goes first, for its files may be other ones from here on."""
    task.job.store.discard(step.asset, task.job.sky_field.name, task.work.row["exposure_id"])
    path = _path(task, step, suffix)
    task.job.store.write_bytes(path, answer.content)
    return {path: len(answer.content)}


def _checksum(answer: _Answer) -> dict[str, str]:
    return {"sha256": hashlib.sha256(answer.content).hexdigest()}


def _make_known(task: Task, step: Step, answer: _Answer) -> Product:
    """Parse the answer of a catalogue; answer and table are kept."""
    question = answer.question
    if question is None or answer.nothing:
        return Product({}, state="empty", reason=answer.nothing)
    table, cone = PARSERS[question.offer.format](answer.content), question.cone
    if question.exposure_id is not None:
        table = for_exposure(table, question.exposure_id, cone.mjd)
    raw = _keep(task, step, answer, _SUFFIXES[question.offer.format])
    path = _path(task, step, "parquet")
    with task.job.store.writing(path) as stream:
        write_parquet(stream, table)
    outside = outside_fraction(table, ra=cone.ra, dec=cone.dec, radius=cone.radius)
    metrics = {"n_objects": float(table.num_rows), "outside_fraction": outside}
    columns = {"n_rows": table.num_rows, **_checksum(answer)}
    files = {path: task.job.store.size(path) or 0, **raw}
    if not table.num_rows:
        return Product(files, metrics, columns, "empty", f"{question.offer.title}: nothing there")
    return Product(files, metrics, columns)


def _packets(answer: _Answer) -> tuple[list[Packet], str | None]:
    """Return the alerts of an answer; broken ones are left out, with the reason, while others are whole."""
    found: list[Packet] = []
    try:
        found.extend(read_packets(answer.content))
    except BadAnswerError as error:
        if not found:
            raise
        return found, f"left out: {error}"
    return found, None


def _make_alerts(task: Task, step: Step, answer: _Answer) -> Product:
    """Decode the alerts of a night: packets as they came, table, stamps."""
    question = answer.question
    if question is None or answer.nothing:
        return Product({}, state="empty", reason=answer.nothing)
    packets, fault = _packets(answer)
    store, triplets = task.job.store, alert_triplets(packets)
    raw = _keep(task, step, answer, "avro")
    paths = {suffix: _path(task, step, suffix) for suffix in ("parquet", "npz", "avro")}
    table = alert_table(
        packets, night=task.work.row["exposure_id"], packet=paths["avro"], stamps=paths["npz"]
    )
    with store.writing(paths["parquet"]) as stream:
        write_parquet(stream, table)
    with store.writing(paths["npz"]) as stream:
        write_triplets(stream, triplets)
    files = {paths[suffix]: store.size(paths[suffix]) or 0 for suffix in ("parquet", "npz")} | raw
    cone, lacking = question.cone, triplets.bad_fraction
    metrics = {
        "n_alerts": float(len(packets)),
        "without_stamps": float((lacking == 1.0).any(axis=1).mean()) if packets else float("nan"),
        "missing_fraction": float(lacking.mean()) if packets else float("nan"),
        "outside_fraction": outside_fraction(table, ra=cone.ra, dec=cone.dec, radius=cone.radius),
    }
    state = "ok" if packets else "empty"
    return Product(files, metrics, {"n_rows": len(packets), **_checksum(answer)}, state, fault)


def _make_cutout(task: Task, step: Step, answer: _Answer) -> Product:
    """Keep the cutout of a survey as it came; an image without data is none."""
    question = answer.question
    if question is None or answer.nothing:
        return Product({}, state="empty", reason=answer.nothing)
    cone = question.cone
    found = describe_cutout(answer.content, ra=cone.ra, dec=cone.dec, width=_grid(task)["width"])
    columns = {name: found.pop(name) for name in ("nx", "ny")}
    if found["coverage"] == 0.0:
        return Product({}, state="empty", reason=f"{question.offer.title}: an image without data")
    files = _keep(task, step, answer, "fits")
    return Product(files, found, {**columns, "ra": cone.ra, "dec": cone.dec, **_checksum(answer)})


RECIPES: dict[str, Recipe] = {
    "known_objects": Recipe(_ask, _make_known),
    "ztf_alerts": Recipe(_ask, _make_alerts),
    "survey_cutouts": Recipe(_ask, _make_cutout),
}
"""Recipes of this module by name of the job."""
