"""Each core has one holder, and is released however the holder ends."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from serving.process.cores import reserved
from serving.process.locks import private_folder

ALL = len(os.sched_getaffinity(0))
HOLD = """
import sys, time
from serving.process.cores import reserved
with reserved(int(sys.argv[1])) as mine:
    print(*mine, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the folder that studies on this machine are using."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert private_folder().parent == tmp_path


def test_each_gets_its_own_until_none_is_left() -> None:
    with ExitStack() as stack:
        given = [stack.enter_context(reserved(1)) for _ in range(ALL)]
        assert sorted(given) == sorted((core,) for core in os.sched_getaffinity(0))
        assert stack.enter_context(reserved(1)) == ()
    with reserved(ALL) as whole:
        assert whole == tuple(sorted(os.sched_getaffinity(0)))


def test_too_few_cores_are_released() -> None:
    with reserved(1), reserved(ALL) as too_few:
        assert too_few == ()
        with reserved(ALL - 1) as rest:
            assert len(rest) == ALL - 1


@pytest.mark.parametrize("how", [{"count": ALL + 1}, {"count": 1, "offered": ALL + 1}])
def test_more_than_there_are_pins_nobody(how: dict[str, int]) -> None:
    with reserved(**how) as none:
        assert none == ()


@pytest.mark.process
def test_the_kernel_gives_back_what_a_killed_process_held() -> None:
    command = [sys.executable, "-c", HOLD, str(ALL)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert len(holder.stdout.readline().split()) == ALL
        with reserved(1) as none:
            assert none == ()
        holder.send_signal(signal.SIGKILL)
    with reserved(ALL) as whole:
        assert len(whole) == ALL
