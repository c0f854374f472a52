"""An engine whose owner is a Ray worker does not outlive it, however Ray ends that."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import ray

from serving import probe
from serving.process.process import supervised
from tests.serving.conftest import STUB, stub_environ, wait_for

pytestmark = pytest.mark.process

Leftovers = Callable[[float], list[int]]
ENDS = ["ray.kill", "kill -9", "exit", "forget"]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )
    yield
    ray.shutdown()


def hold(stack: ExitStack, pids: Path, log: Path, port: int) -> None:
    argv = [sys.executable, str(STUB), "--port", str(port)]
    stack.enter_context(supervised(argv, stub_environ(pids), log, grace_s=0.3))


@ray.remote(num_cpus=0)
class Holder:
    def __init__(self, pids: Path, log: Path, port: int) -> None:
        self.stack = ExitStack()
        hold(self.stack, pids, log, port)

    def pid(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        ray.actor.exit_actor()


@ray.remote(num_cpus=0, max_retries=0)
def holding(pids: Path, log: Path, port: int) -> None:
    with ExitStack() as stack:
        hold(stack, pids, log, port)
        time.sleep(600)


@pytest.mark.parametrize("how", ENDS)
def test_an_engine_ends_with_its_actor(
    how: str, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    port = probe.free_port()
    holder = Holder.remote(pids, tmp_path / "log", port)
    worker = ray.get(holder.pid.remote(), timeout=60)
    wait_for(pids, 2)
    match how:
        case "ray.kill":
            ray.kill(holder)
        case "kill -9":
            os.kill(worker, signal.SIGKILL)
        case "exit":
            holder.leave.remote()
        case "forget":
            del holder
    assert leftovers(15) == []
    assert not probe.taken(port)


def test_an_engine_ends_with_its_cancelled_task(
    pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    port = probe.free_port()
    task = holding.remote(pids, tmp_path / "log", port)
    wait_for(pids, 2)
    ray.cancel(task, force=True)
    assert leftovers(15) == []
    assert not probe.taken(port)
