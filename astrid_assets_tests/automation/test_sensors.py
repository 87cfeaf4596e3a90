"""Sensors: fields of the registry become partitions; nothing is ever deleted."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from astrid_assets.automation.sensors import field_sync, reaper
from astrid_assets.definitions import defs
from astrid_assets.home import dagster_home

FIELD = "{ra: 265.0, dec: 62.0, radius: 0.1, archives: [%s], enabled: %s}"


def register(**fields: str) -> None:
    text = "".join(f"{name}: {FIELD % tuple(options.split())}\n" for name, options in fields.items())
    (dagster_home() / "fields.yaml").write_text(text)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def tick(instance: dg.DagsterInstance) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, definitions=defs)
    return field_sync(context)


def test_new_fields_become_partitions_and_enabled_ones_start(instance: dg.DagsterInstance):
    register(one="simulated true", two="simulated false", three="mast true")
    result = tick(instance)
    (request,) = result.dynamic_partitions_requests
    assert sorted(request.partition_keys) == ["one", "three", "two"]
    assert [(r.partition_key, r.run_key) for r in result.run_requests] == [
        ("one", "new-one"),
        ("three", "new-three"),
    ]


def test_a_field_that_is_a_partition_is_left_alone(instance: dg.DagsterInstance):
    register(one="simulated true")
    instance.add_dynamic_partitions("sky_field", ["one", "removed"])
    assert tick(instance).skip_message == "every field of the registry is a partition"
    assert instance.has_dynamic_partition("sky_field", "removed")


def test_a_registry_with_a_fault_says_so_and_changes_nothing(instance: dg.DagsterInstance):
    (dagster_home() / "fields.yaml").write_text("one: {ra: 1.0}\n")
    assert "fields.yaml" in tick(instance).skip_message


def test_the_reaper_starts_nothing(instance: dg.DagsterInstance):
    (reason,) = reaper(dg.build_sensor_context(instance=instance, definitions=defs))
    assert reason.skip_message == "no dead runs"
