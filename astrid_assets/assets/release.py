"""The training release: the training sets of all fields in one, for people who train models."""

import json
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import dagster as dg

from astrid_assets import __version__
from astrid_assets.assets.common import CODE_VERSIONS, OWNERS
from astrid_assets.assets.config import CONFIGS, TrainingReleaseConfig, effective_options
from astrid_assets.checks.limits import judge
from astrid_assets.checks.specs import check_results, check_specs, shown
from astrid_assets.errors import ReleaseRefusedError
from astrid_assets.fields import Field
from astrid_assets.storage.known import known_fields
from astrid_assets.storage.layout import ASSETS, OUTPUTS, RELEASE_FOLDERS
from astrid_assets.storage.manifest import build_manifest, clean, digest, usable
from astrid_assets.storage.store import Row, Store

if TYPE_CHECKING:
    from astrid_assets.training.release import FieldSamples

__all__ = ["LATEST", "training_release"]

LATEST = "latest.json"
"""File beside the releases that names the newest."""

_FOLDER = RELEASE_FOLDERS["training_release"]

_PACKAGES = ("astropy", "dagster", "h5py", "numba", "numpy", "pyarrow", "scipy", "sep")
"""Packages whose version may change a number or a byte of a release."""


@dg.asset(
    deps=["training_set"],
    group_name="training",
    owners=OWNERS,
    kinds={"hdf5", "parquet"},
    code_version=CODE_VERSIONS["training_release"],
    required_resource_keys={"run_lock"},
    check_specs=check_specs("training_release"),
)
def training_release(
    context: dg.AssetExecutionContext, config: TrainingReleaseConfig
) -> dg.MaterializeResult:
    """All training sets in one: splits without leaks, HDF5, arrays, catalogue, statistics, checksums, card.

    A release is a folder of its own, named after what went into it, that never changes; `latest.json`
    names the newest. The same samples and options give the same bytes. Where the samples do not allow
    splits without leaks, the release is refused with the reason, and the last one stays.
    """
    started = time.perf_counter()
    store = Store()
    options = config.model_dump(exclude={"force"})
    fields = _fields(store, config.fields)
    release_id = _identity(store, fields, options)
    folder = f"{_FOLDER}/{release_id}"
    new = config.force or not _is_there(store, folder)
    if new:
        try:
            _make(store, folder, fields, options)
        except ReleaseRefusedError as error:
            raise dg.Failure(f"refused: {error}", allow_retries=False) from error
    summary = _summary(store, folder)
    context.log.info(f"release {release_id}: {summary['n_samples']} samples of {len(fields)} fields")
    store.write_json(f"{_FOLDER}/{LATEST}", {"release_id": release_id, **summary})
    row = _judged(store, folder, options)
    note = {} if new else {"note": "nothing new: the release is as it was"}
    return dg.MaterializeResult(
        metadata={
            "release_id": release_id,
            **{name: value for name, value in summary.items() if isinstance(value, int)},
            "n_new": int(new),
            **note,
            "path": dg.MetadataValue.path(str(store.path(folder))),
            "card": dg.MetadataValue.md(store.path(folder, "README.md").read_text("utf-8")),
            **{name: shown(value) for name, value in row["metrics"].items() if value is not None},
            "seconds": round(time.perf_counter() - started, 3),
        },
        data_version=dg.DataVersion(release_id),
        check_results=list(check_results("training_release", build_manifest([row]))),
    )


def _fields(store: Store, names: Sequence[str]) -> dict[str, Field]:
    """Return the fields that have samples, of those that are to take part."""
    known = known_fields(store)
    unknown = sorted(set(names) - set(known))
    if unknown:
        msg = f"there is no field {unknown[0]!r} in the registry (option fields)"
        raise dg.Failure(msg, allow_retries=False)
    chosen = {name: known[name] for name in sorted(names or known)}
    return {name: field for name, field in chosen.items() if store.size(_samples_path(store, name))}


def _samples_path(store: Store, name: str) -> str:
    return f"{store.folder('training_set', name)}/{OUTPUTS['training_set']}"


def _identity(store: Store, fields: dict[str, Field], options: Row) -> str:
    """Return the name of the release: 12 hexadecimal digits of what goes in, options and code."""
    products = {name: sorted(_products(store, "training_set", name).values()) for name in fields}
    return digest([products, options, CODE_VERSIONS["training_release"]])[:12]


def _products(store: Store, asset: str, name: str) -> dict[str, str]:
    """Return the identity of the product of each usable exposure."""
    manifest = store.manifest(asset, name)
    return {} if manifest is None else {r["exposure_id"]: r["product_id"] for r in usable(manifest)}


def _is_there(store: Store, folder: str) -> bool:
    from astrid_assets.training.release import CHECKSUMS

    return store.size(f"{folder}/{CHECKSUMS}") is not None


def _make(store: Store, folder: str, fields: dict[str, Field], options: Row) -> None:
    """Plan a release and write it; it appears whole or not at all."""
    from astrid_assets.training.release import ReleaseOptions, plan_release, write_release

    release_id = folder.rsplit("/", 1)[-1]
    sources = [_source(store, name) for name in fields]
    plan = plan_release(
        sources,
        ReleaseOptions(
            shares=(options["train_share"], options["validation_share"], options["test_share"]),
            nside=options["nside"],
            radius=options["radius"],
            seed=options["seed"],
        ),
        release_id=release_id,
        config=_configuration(store, release_id, fields, options),
        min_samples=options["min_samples"],
    )
    with store.new_folder(folder) as create:
        write_release(plan, sources, create)


def _source(store: Store, name: str) -> "FieldSamples":
    from astrid_assets.training.release import FieldSamples

    folder = store.path(store.folder("training_set", name))
    return FieldSamples(
        name, store.read_table(_samples_path(store, name)), lambda file: (folder / file).open("rb")
    )


def _configuration(store: Store, release_id: str, fields: dict[str, Field], options: Row) -> dict[str, Any]:
    """Return how a release comes about: no times, no paths, nothing of this machine."""
    return clean(
        {
            "release_id": release_id,
            "options": options,
            "code_versions": CODE_VERSIONS,
            "versions": {"astrid_assets": __version__, "python": platform.python_version()}
            | {name: version(name) for name in _PACKAGES},
            "fields": {name: _field_configuration(store, field) for name, field in fields.items()},
        }
    )


def _field_configuration(store: Store, field: Field) -> dict[str, Any]:
    """Return what made the training set of a field: its definition, options, and products."""
    definition = field.model_dump(mode="json")
    (definition.get("local") or {}).pop("folder", None)
    assets = [asset for asset in ASSETS if asset in CONFIGS]
    hashes = {asset: store.manifest(asset, field.name) for asset in assets}
    return {
        "definition": definition,
        "options": {asset: effective_options(CONFIGS[asset](), field, asset) for asset in assets},
        "parameter_hashes": {
            asset: sorted({row["parameter_hash"] for row in usable(table)})
            for asset, table in hashes.items()
            if table is not None and "parameter_hash" in table.column_names
        },
        "exposures": _products(store, "training_set", field.name),
    }


def _summary(store: Store, folder: str) -> dict[str, Any]:
    """Return how many samples a release holds."""
    statistics = json.loads(store.path(folder, "stats.json").read_bytes())
    return {
        "n_samples": sum(part["n_samples"] for part in statistics["pixels"].values()),
        **{
            f"n_{name}": sum(g[name] for g in statistics["groups"])
            for name in ("real", "bogus", "unlabelled")
        },
        "n_groups": len(statistics["groups"]),
        "splits": {name: part["n_samples"] for name, part in statistics["pixels"].items()},
    }


def _judged(store: Store, folder: str, options: Row) -> Row:
    """Return the row by which a release is judged: metrics of its files, with their colours."""
    from astrid_assets.training.release import release_metrics

    metrics = release_metrics(store.path(folder), floor=options["floor"])
    name = folder.rsplit("/", 1)[-1]
    row = {"exposure_id": name, "state": "ok", "path": folder, "metrics": metrics}
    return clean(row | {"colours": judge(metrics, "training_release")})
