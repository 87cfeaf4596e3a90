"""A field runs once at a time, and a lock goes with the process that held it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from astrid_assets.errors import FieldBusyError
from astrid_assets.storage.locks import (
    Holder,
    field_lock,
    forget_run,
    host,
    locks_folder,
    release_lock,
    run_holder,
    run_lock,
)

HOLDING = """
import sys, time
from astrid_assets.storage.locks import field_lock, run_lock
with run_lock("r1"), field_lock("m101", run_id="r1"):
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder() -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_busy_field_is_refused_with_the_name_of_its_holder():
    with field_lock("m101", run_id="0123456789"):
        with (
            pytest.raises(FieldBusyError, match=rf"field m101 .* run 01234567, process {os.getpid()}"),
            field_lock("m101"),
        ):
            pass
        with field_lock("cosmos"):
            pass
    with field_lock("m101"):
        pass


def test_one_release_at_a_time_beside_fields():
    with (
        field_lock("release"),
        release_lock(run_id="0123456789"),
        pytest.raises(FieldBusyError, match=r"a release is being made by run 01234567, process"),
        release_lock(),
    ):
        pass
    with release_lock():
        pass


def test_the_kernel_frees_the_locks_of_a_killed_process():
    process = _holder()
    assert run_holder("r1") == Holder(host(), process.pid, "r1", held=True)
    with pytest.raises(FieldBusyError, match=f"process {process.pid}"), field_lock("m101"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run_holder("r1") == Holder(host(), process.pid, "r1", held=False)
    with field_lock("m101"):
        pass
    forget_run("r1")
    assert run_holder("r1") is None


def test_a_run_that_ends_leaves_no_lock_file():
    process = _holder()
    process.communicate("")
    assert run_holder("r1") is None


def test_of_a_run_on_another_host_nothing_is_claimed():
    path = locks_folder() / "runs" / "r2.lock"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "run_id": "r2", "held": False}))
    assert run_holder("r2") == Holder("elsewhere", 1, "r2", held=False)


def test_an_unreadable_lock_file_names_no_holder():
    path = locks_folder() / "runs" / "r3.lock"
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert run_holder("r3") is None


def test_a_run_lock_shows_its_own_process():
    with run_lock("r4"):
        assert run_holder("r4") == Holder(host(), os.getpid(), "r4", held=True)
