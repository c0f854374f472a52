"""Engines that are killed leave their shared memory, which is the host's RAM: it goes with them."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

import psutil
import pytest

from serving.process.process import Supervised, supervised

pytestmark = pytest.mark.process

# Like vLLM's message queue between its processes; its tracker is killed with it.
ENGINE = """
import os, sys, time
from multiprocessing import resource_tracker, shared_memory
segment = shared_memory.SharedMemory(create=True, size=1 << 20)
resource_tracker.unregister(segment._name, "shared_memory")
open(sys.argv[1], "w").write(segment.name)
{then}
time.sleep(600)
"""


@contextmanager
def engine(tmp_path: Path, then: str = "") -> Iterator[tuple[Supervised, Path]]:
    """A process with a segment of shared memory, and the path of this."""
    named = tmp_path / "name"
    argv = [sys.executable, "-c", ENGINE.format(then=then), str(named)]
    with supervised(argv, {}, tmp_path / "log", grace_s=0.2) as process:
        while not (named.exists() and named.read_text()):
            time.sleep(0.01)
        yield process, Path("/dev/shm") / named.read_text()


def looked_at_twice(supervisor: int) -> None:
    """A supervisor that waits reads nothing but /proc, to look at its tree."""
    before = psutil.Process(supervisor).io_counters().read_chars
    for _ in range(2):
        while (now := psutil.Process(supervisor).io_counters().read_chars) == before:
            time.sleep(0.05)
        while (after := psutil.Process(supervisor).io_counters().read_chars) != now:
            now = after
            time.sleep(0.2)
        before = now


def gone(path: Path, within_s: float = 30.0) -> bool:
    deadline = time.monotonic() + within_s
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not path.exists()


def test_it_goes_with_an_engine_that_ignores_sigterm(tmp_path: Path) -> None:
    then = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    with engine(tmp_path, then) as (_, segment):
        assert segment.exists()
    assert gone(segment)


def test_it_goes_with_an_engine_that_is_killed(tmp_path: Path) -> None:
    """Nobody sees this coming: it was looked at while the engine ran."""
    with engine(tmp_path) as (process, segment):
        looked_at_twice(
            process.supervisor
        )  # the first one may have begun before the segment was there
        os.kill(process.engine, signal.SIGKILL)
        assert gone(segment)


def test_it_goes_with_the_processes_that_a_killed_supervisor_leaves(tmp_path: Path) -> None:
    then = (
        "os.fork() or os.setsid()"  # the kernel kills the parent with the supervisor, not the child
    )
    with engine(tmp_path, then) as (process, segment):
        time.sleep(0.5)
        os.kill(process.supervisor, signal.SIGKILL)
        assert gone(segment)


def test_what_another_process_has_mapped_stays(tmp_path: Path) -> None:
    with engine(tmp_path) as (_, path):
        ours = shared_memory.SharedMemory(name=path.name)
        resource_tracker.unregister(f"/{path.name}", "shared_memory")
    assert path.exists()
    assert ours.size == 1 << 20
    ours.close()
    path.unlink()
