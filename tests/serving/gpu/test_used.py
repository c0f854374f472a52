"""GPUs that a layout reserves and its engine does not use, by the processes that NVML lists."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from serving.errors import GpusUnused
from serving.gpu.used import check_used, unused
from tests.serving.fake_nvml import NOT_SUPPORTED, State

pytestmark = pytest.mark.process


@pytest.fixture
def worker() -> Iterator[int]:
    """A process of the engine: this test is its root."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process.pid


def put(state: State, gpu: int, *pids: int) -> None:
    for place in range(4):
        state.gpus[gpu].pids[place] = pids[place] if place < len(pids) else 0


def test_a_layout_of_two_of_which_one_is_used(nvml: State, worker: int) -> None:
    put(nvml, 0, worker)
    with pytest.raises(
        GpusUnused, match=r"^1 of 2 reserved GPUs runs no process of the engine: 1$"
    ):
        check_used(("0", "1"), os.getpid())


def test_all_are_used(nvml: State, worker: int) -> None:
    put(nvml, 0, os.getpid())
    put(nvml, 1, worker)
    check_used(("0", "1"), os.getpid())


@pytest.mark.parametrize("elsewhere", [1, 4_000_000], ids=["another's", "not seen here"])
def test_a_process_that_may_be_the_engine_s_is_no_idle_gpu(
    nvml: State, worker: int, elsewhere: int
) -> None:
    """MPI's daemons are nobody's children, and those of other containers have no pid here."""
    put(nvml, 0, worker)
    put(nvml, 1, elsewhere)
    assert unused(("0", "1"), os.getpid()) == ()


def test_where_no_process_is_seen_nothing_is_concluded(nvml: State) -> None:
    assert unused(("0", "1"), os.getpid()) == ()


def test_a_driver_that_does_not_answer_is_no_failure(nvml: State, worker: int) -> None:
    put(nvml, 0, worker)
    nvml.gpus[1].lost_rc = NOT_SUPPORTED
    assert unused(("0", "1"), os.getpid()) == ()
