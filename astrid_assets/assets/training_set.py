"""The training set of a field: labelled triplets and tiles."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import pyarrow as pa

from astrid_assets.assets.common import (
    CODE_VERSIONS,
    OWNERS,
    Table,
    column_schema,
    identity,
    job_of,
    result_of,
    sky_fields,
)
from astrid_assets.assets.config import TrainingSetConfig
from astrid_assets.assets.streaming import Job, Work, stream
from astrid_assets.checks.limits import judge
from astrid_assets.checks.specs import check_specs
from astrid_assets.fields import get_field
from astrid_assets.home import dagster_home
from astrid_assets.storage.layout import MANIFEST
from astrid_assets.storage.manifest import COLOUR_PREFIX, METRIC_PREFIX, clean, digest, usable
from astrid_assets.storage.store import Row, Store
from astrid_assets.training.schema import SAMPLE_COLUMNS

__all__ = ["training_set"]

_SCHEMA = column_schema(
    {name: (kind, f"{text}, {unit}" if unit else text) for name, (kind, unit, text) in SAMPLE_COLUMNS.items()}
)


@dg.asset(
    partitions_def=sky_fields,
    dagster_type=Table,
    group_name="training",
    owners=OWNERS,
    kinds={"hdf5", "parquet"},
    code_version=CODE_VERSIONS["training_set"],
    required_resource_keys={"run_lock"},
    metadata={"dagster/column_schema": _SCHEMA},
    deps=["light_curves"],
    check_specs=check_specs("training_set", sky_fields),
)
def training_set(
    context: dg.AssetExecutionContext,
    config: TrainingSetConfig,
    cutouts: pa.Table,
    candidates: pa.Table,
    injections: pa.Table,
    known_objects: pa.Table,
    ztf_alerts: pa.Table,
) -> dg.MaterializeResult:
    """Labelled triplets of the field: real changes and artefacts, observed and injected, one row each.

    `real` is any change on the sky (its kind is in `type`), `bogus` an artefact with a cause; what nothing
    is known of is unlabelled. Every label has a source and a confidence. Classes are balanced within each
    exposure and domain, hard negatives are detections; copies with edges, holes or without a reference go
    with every class alike. Beside the triplets lie tiles with truth masks. A file `vetting.csv` in
    `DAGSTER_HOME` adds what people saw.
    """
    started = time.perf_counter()
    sky_field = get_field(context.partition_key)
    job = job_of(sky_field, "training_set", {"training_set": config})
    known = _known(candidates, _object_ids(job.store, sky_field.name))
    works = list(_works(job, cutouts, known, ztf_alerts, _hosts(injections, known_objects)))
    report = stream(job, works)["training_set"]
    folder = job.store.folder("training_set", sky_field.name)
    job.store.write_table(f"{folder}/{MANIFEST}", report.manifest)
    samples, probe = _together(job.store, usable(report.manifest))
    field_row, counts = _judged(sky_field.name, samples, probe)
    job.store.write_json(f"{folder}/summary.json", clean({"counts": counts, **field_row}))
    result = result_of(
        context, job, "training_set", report, started=started, value=samples, field_row=field_row
    )
    numbers = {k.removeprefix(METRIC_PREFIX): v for k, v in field_row.items() if k.startswith(METRIC_PREFIX)}
    numbers = {"n_samples": samples.num_rows} | {k: v for k, v in numbers.items() if v == v}
    tables = {f"by_{name}": dg.MetadataValue.md(_markdown(part)) for name, part in counts.items()}
    return result._replace(metadata={**numbers, **tables, **(result.metadata or {})})


def _works(
    job: Job,
    cutouts: pa.Table,
    known: Mapping[str, Mapping[str, Row]],
    alerts: pa.Table,
    hosts: Mapping[str, Mapping[str, str]],
) -> Iterable[Work]:
    """Yield the exposures with all that their labels depend on, and nothing else."""
    from astrid_assets.training.labels import alerts_of

    manifest = job.store.manifest("injections", job.sky_field.name)
    injected = {r["exposure_id"]: r for r in usable(manifest)} if manifest is not None else {}
    verdicts = [asdict(v) for v in _verdicts() if v.field == job.sky_field.name]
    all_alerts = alerts.to_pylist()
    for row in (r for r in cutouts.to_pylist() if r["state"] in {"ok", "empty"}):
        name = row["exposure_id"]
        inputs: dict[str, Any] = {
            "known": known.get(name, {}),
            "alerts": alerts_of(all_alerts, row),
            "verdicts": _of_exposure(verdicts, row),
            "hosts": hosts.get(name, {}),
        }
        files = {"cutouts": row, "injections": injected.get(name)}
        products = [None if r is None else r["product_id"] for r in files.values()]
        yield Work(identity(row), digest([products, inputs]), inputs | files)


def _verdicts() -> list[Any]:
    """Return what people said about candidates, from ``$DAGSTER_HOME/vetting.csv`` where there is one."""
    from astrid_assets.training.vetting import read_vetting

    path = dagster_home() / "vetting.csv"
    return read_vetting(path.read_text("utf-8").splitlines(), name=str(path)) if path.exists() else []


def _of_exposure(verdicts: Sequence[Row], row: Row) -> list[Row]:
    """Return the verdicts that may be of an exposure: on its own detections, or on a place."""
    return [
        clean(v)
        for v in verdicts
        if not v["candidate_id"] or v["candidate_id"].startswith(row["exposure_id"])
    ]


_MATCHES = ("star_id", "galaxy_id", "variable_id", "transient_id", "solar_system_id")
_CLASSES = ("variable_class", "transient_class", "solar_system_class")


def _known(candidates: pa.Table, objects: Mapping[str, str]) -> dict[str, dict[str, Row]]:
    """Return what is known about each detection, by exposure and name."""
    names = [name for name in (*_MATCHES, *_CLASSES) if name in candidates.column_names]
    known: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in candidates.select(["exposure_id", "candidate_id", *names]).to_pylist():
        found = {name: row[name] for name in names if row[name] is not None}
        if row["candidate_id"] in objects:
            found["object_id"] = objects[row["candidate_id"]]
        if found:
            known[row["exposure_id"]][row["candidate_id"]] = found
    return known


def _object_ids(store: Store, name: str) -> dict[str, str]:
    """Return the object of each candidate that was associated with others."""
    try:
        table = store.read_table(f"{store.folder('light_curves', name)}/associations.parquet")
    except FileNotFoundError:
        return {}
    columns = (table[column].to_pylist() for column in ("candidate_id", "object_id"))
    return dict(zip(*columns, strict=True))


def _hosts(injections: pa.Table, known_objects: pa.Table) -> dict[str, dict[str, str]]:
    """Return the catalogue names of the hosts of injections, by exposure."""
    from astrid_assets.training.hosts import catalogue_hosts

    if not injections.num_rows or not known_objects.num_rows:
        return {}
    pairs = list(zip(*(injections[name].to_pylist() for name in ("exposure_id", "host_id")), strict=True))
    names = catalogue_hosts([host for _, host in pairs if host], known_objects)
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for exposure, host in pairs:
        if host in names:
            found[exposure][host] = names[host]
    return found


def _together(store: Store, rows: Sequence[Row]) -> tuple[pa.Table, pa.Table]:
    """Return the samples of all exposures, and what the shortcut probe needs of them."""
    from astrid_assets.training.samples import no_samples

    nothing = no_samples()
    tables = [store.read_table(r["path"]) for r in rows]
    probes = [store.read_table(r["path"].removesuffix("parquet") + "probe.parquet") for r in rows]
    return pa.concat_tables([nothing.table, *tables]), pa.concat_tables([nothing.probe_table(), *probes])


def _judged(name: str, samples: pa.Table, probe: pa.Table) -> tuple[Row, dict[str, dict[str, int]]]:
    """Return the numbers of the whole field with their colours, as a row, and counts of the samples."""
    from astrid_assets.training.summary import counts, field_metrics

    metrics = field_metrics(samples, probe)
    colours = judge(metrics, "training_set")
    row = {"exposure_id": name, "state": "ok"}
    row |= {f"{METRIC_PREFIX}{k}": v for k, v in metrics.items()}
    row |= {f"{COLOUR_PREFIX}{k}": colours[k] for k in metrics if k in colours}
    return row, counts(samples)


def _markdown(counts: Mapping[str, int]) -> str:
    lines = [f"| {name} | {number} |" for name, number in counts.items()]
    return "\n".join(["| what | samples |", "| --- | ---: |", *lines])
