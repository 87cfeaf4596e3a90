"""The release sensor: once when all is quiet and a field holds something new, never two at a time."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id

from astrid_assets.automation.jobs import FIELD_JOB, RELEASE_JOB
from astrid_assets.automation.reaper import KILLED_TAG, run_tags
from astrid_assets.automation.release import INPUTS_TAG, UNFINISHED, release_inputs
from astrid_assets.automation.sensors import release_when_quiet
from astrid_assets.definitions import defs

STATUS = dg.DagsterRunStatus


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def materialize(instance: dg.DagsterInstance, asset: str, sky_field: str, version: str) -> None:
    tags = {"dagster/data_version": version}
    event = dg.AssetMaterialization(asset, partition=sky_field, tags=tags)
    instance.report_runless_asset_event(event)


def add_run(instance: dg.DagsterInstance, job: str, status: STATUS, **tags: str) -> dg.DagsterRun:
    run = dg.DagsterRun(job_name=job, run_id=make_new_run_id(), status=status, tags=tags)
    return instance.add_run(run)


def tick(instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    return release_when_quiet(dg.build_sensor_context(instance=instance, definitions=defs))


def released(instance: dg.DagsterInstance, request: dg.RunRequest, status: STATUS = STATUS.SUCCESS) -> None:
    """Let the run that was asked for end."""
    add_run(instance, RELEASE_JOB, status, **request.tags)


def test_nothing_to_release_starts_nothing(instance: dg.DagsterInstance):
    materialize(instance, "candidates", "a", "1")
    assert tick(instance).skip_message == "no field has a training set yet"


def test_a_new_training_set_is_released_once(instance: dg.DagsterInstance):
    materialize(instance, "training_set", "a", "1")
    request = tick(instance)
    assert request.tags == {INPUTS_TAG: release_inputs(instance)}
    released(instance, request)
    assert tick(instance).skip_message.startswith("nothing new since release run")


def test_a_run_that_found_nothing_new_is_no_reason_for_a_release(instance: dg.DagsterInstance):
    materialize(instance, "training_set", "a", "1")
    released(instance, tick(instance))
    materialize(instance, "training_set", "a", "1")
    assert isinstance(tick(instance), dg.SkipReason)


@pytest.mark.parametrize(
    ("asset", "sky_field"), [("training_set", "a"), ("training_set", "b"), ("candidates", "a")]
)
def test_whatever_changes_in_any_field_is_released(instance: dg.DagsterInstance, asset: str, sky_field: str):
    materialize(instance, "training_set", "a", "1")
    first = tick(instance)
    released(instance, first)
    materialize(instance, asset, sky_field, "2")
    assert tick(instance).run_key != first.run_key


def test_a_state_that_comes_back_is_released_again(instance: dg.DagsterInstance):
    """Otherwise the latest release would be that of the options that were tried in between."""
    keys = set()
    for version in ("1", "2", "1"):
        materialize(instance, "training_set", "a", version)
        request = tick(instance)
        keys.add(request.run_key)
        released(instance, request)
    assert len(keys) == 3


def test_a_release_that_failed_is_not_tried_with_the_same_inputs_again(instance: dg.DagsterInstance):
    materialize(instance, "training_set", "a", "1")
    released(instance, tick(instance), STATUS.FAILURE)
    assert isinstance(tick(instance), dg.SkipReason)


def test_a_release_of_a_program_that_was_killed_is_made_up_for_once(instance: dg.DagsterInstance):
    """Nobody else would: Dagster cannot launch the run of a program again."""
    materialize(instance, "training_set", "a", "1")
    inputs = tick(instance).tags
    add_run(instance, RELEASE_JOB, STATUS.FAILURE, **inputs, **run_tags(), **{KILLED_TAG: "true"})
    request = tick(instance)
    assert request.tags == inputs
    add_run(instance, RELEASE_JOB, STATUS.FAILURE, **inputs, **{KILLED_TAG: "true"})
    assert isinstance(tick(instance), dg.SkipReason)


@pytest.mark.parametrize("job", [FIELD_JOB, RELEASE_JOB, "__ASSET_JOB", "__ASSET_JOB_2"])
@pytest.mark.parametrize("status", [STATUS.NOT_STARTED, STATUS.STARTING, STATUS.STARTED, STATUS.CANCELING])
def test_it_waits_until_all_is_quiet(instance: dg.DagsterInstance, job: str, status: STATUS):
    materialize(instance, "training_set", "a", "1")
    run = add_run(instance, job, status)
    assert tick(instance).skip_message == f"1 runs wait or run, the first of job {job}"
    instance.report_run_failed(run)
    instance.delete_run(run.run_id)
    assert isinstance(tick(instance), dg.RunRequest)


def test_runs_in_the_queue_count_as_well():
    """They cannot be made by hand: `test_nights.py` has them."""
    assert STATUS.QUEUED in UNFINISHED


def test_it_is_stopped_until_switched_on():
    assert release_when_quiet.default_status == dg.DefaultSensorStatus.STOPPED


def test_no_job_holds_both_kinds_of_assets():
    field, release = (
        {key.to_user_string() for key in defs.resolve_job_def(job).asset_layer.executable_asset_keys}
        for job in (FIELD_JOB, RELEASE_JOB)
    )
    assert not field & release
    assert field | release == {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
