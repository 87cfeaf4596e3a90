"""Turns at services: over threads, over processes, and after the death of one."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from astrid_assets.archives.standin.server import Reply, StandIn
from astrid_assets.archives.transport import Clock
from astrid_assets.archives.transport.limits import Limits

ROOT = Path(__file__).parents[3]

ASKING = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from astrid_assets.archives.transport import Request, Transport

services = {"mast": {"base_url": sys.argv[1], "parallel": 2, "per_second": 50.0}}
transport = Transport.open(services, Path(sys.argv[2]))
asked = [Request("mast", "/", "status", "json", query=(("n", f"{sys.argv[3]}{n}"),)) for n in range(20)]
with ThreadPoolExecutor(5) as pool:
    list(pool.map(transport.ask, asked))
"""

HOLDING = """
import sys
from pathlib import Path
from astrid_assets.archives.transport import Clock
from astrid_assets.archives.transport.limits import Limits

with Limits(Path(sys.argv[1]), Clock()).slot("mast", parallel=1):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.service
def test_two_processes_keep_the_limits_together(tmp_path):
    """Judged by the arrivals at the server: never more than 2 at a time, never more than 50 a second.

    A request starts when all but one of those before it have ended, so that between the arrivals of
    a request and of the n-th after it at least (n - 2) intervals lie, however slow the machine is.
    """
    with StandIn({"mast": lambda _: Reply(b"[]", "application/json")}) as standin:
        command = [sys.executable, "-c", ASKING, standin.base_url("mast"), tmp_path]
        processes = [subprocess.Popen([*command, name], cwd=ROOT) for name in "ab"]
        assert [process.wait() for process in processes] == [0, 0]
    times = sorted(arrival.time for arrival in standin.arrivals)
    assert len({arrival.target for arrival in standin.arrivals}) == len(times) == 40
    assert standin.concurrent["mast"] <= 2
    assert len(list(tmp_path.glob("limits/mast.slot*"))) == 2
    for n in (10, 20, 39):
        assert min(b - a for a, b in zip(times, times[n:], strict=False)) >= (n - 2) / 50 - 0.001


def test_a_place_is_free_when_its_holder_is_killed(tmp_path):
    limits = Limits(tmp_path, Clock())
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        taken = threading.Event()

        def take():
            with limits.slot("mast", parallel=1):
                taken.set()

        waiter = threading.Thread(target=take)
        waiter.start()
        assert not taken.is_set()
        holder.kill()
        waiter.join(timeout=30)
    assert taken.is_set()


def test_one_that_waits_and_is_killed_holds_nothing(tmp_path):
    limits = Limits(tmp_path, Clock())
    with limits.slot("mast", parallel=1):
        waiter = subprocess.Popen(
            [sys.executable, "-c", HOLDING, tmp_path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        waiter.kill()
        waiter.communicate()
    with limits.slot("mast", parallel=1):
        pass


def test_as_many_at_a_time_as_there_are_places(tmp_path):
    """All places can be taken, and not one more."""
    limits = Limits(tmp_path, Clock())
    barrier = threading.Barrier(3)  # would break if fewer than 3 were let in
    inside, most, lock = 0, 0, threading.Lock()

    def work(_):
        nonlocal inside, most
        with limits.slot("mast", parallel=3):
            with lock:
                inside += 1
                most = max(most, inside)
            barrier.wait(timeout=30)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(24)))
    assert most == 3
    assert len(list(tmp_path.glob("mast.slot*"))) == 3


def test_services_do_not_wait_for_each_other(tmp_path):
    limits = Limits(tmp_path, Clock())
    with ExitStack() as stack:
        for service in ("mast", "irsa", "ps1"):
            stack.enter_context(limits.slot(service, parallel=1))


def test_starts_are_spaced(tmp_path, clock):
    limits = Limits(tmp_path, clock)
    began = clock.now()
    for _ in range(11):
        assert limits.start("mast", per_second=2.0, parallel=4, longest_wait=60) == 0
    assert clock.now() - began == pytest.approx(5.0, abs=0.5)


def test_a_rest_is_kept_by_all_and_ends(tmp_path, clock):
    limits, others = Limits(tmp_path, clock), Limits(tmp_path, clock)
    limits.rest("mast", 100)
    limits.rest("mast", 10)  # does not shorten the other
    options = {"per_second": 5.0, "parallel": 4}
    assert others.start("mast", **options, longest_wait=60) == pytest.approx(100, abs=1)
    assert clock.slept == []
    assert others.start("mast", **options, longest_wait=120) == 0
    assert sum(clock.slept) == pytest.approx(100, abs=1)
    assert others.start("mast", **options, longest_wait=60) == 0
    assert others.start("irsa", **options, longest_wait=60) == 0


@pytest.mark.parametrize("text", ["", "rubbish", "1e18 0", "0 1e18", "nan nan", "1 2 3"])
def test_a_file_of_starts_that_makes_no_sense_stops_nobody(tmp_path, clock, text):
    """Cut off by a full disk, or written when the clock was wrong."""
    (tmp_path / "mast.starts").write_text(text)
    limits = Limits(tmp_path, clock)
    for _ in range(3):
        assert limits.start("mast", per_second=10.0, parallel=2, longest_wait=60) == 0
    assert sum(clock.slept) < 1.0
