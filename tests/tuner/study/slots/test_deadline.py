"""A wait says what it waits for, ends at its deadline, and ends the process if nothing else helps."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.serving.conftest import runs
from tuner.cli.exit_codes import ExitCode
from tuner.study.capacity import ClusterError
from tuner.study.slots import deadline
from tuner.study.slots.deadline import EXIT_CODE, abortable, ending_children, waiting

REPO = Path(__file__).parents[4]
# A call that never returns to Python, as those into Ray's core, and what was started before it.
STUCK = """
    import subprocess, sys
    from tuner.study.slots import deadline
    deadline.STUCK_S, deadline.SAY_EVERY_S = 1.0, 0.3
    child = subprocess.Popen(["/bin/sleep", "600"])
    print(child.pid, flush=True)
    with deadline.waiting("the cluster at nowhere:1", 1.0, lambda line: print(line, flush=True)):
        while True:
            try:
                while True:
                    pass
            except deadline.ClusterError:
                pass
"""


def test_a_wait_that_ends_in_time_says_nothing() -> None:
    said: list[str] = []
    with waiting("it", 60.0, said.append):
        pass
    assert said == []


def test_a_wait_says_what_for_and_since_when_and_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "SAY_EVERY_S", 0.2)
    said: list[str] = []
    before = signal.getsignal(deadline.SIGNAL)
    with (
        pytest.raises(ClusterError, match=r"^Ray on this machine: no answer within 1 s$"),
        waiting("Ray on this machine", 1.0, said.append),
    ):
        time.sleep(600)
    assert said[0] == "waiting for Ray on this machine for 0 s; gives up after 1 s"
    assert signal.getsignal(deadline.SIGNAL) == before


def test_an_abort_after_the_block_does_nothing() -> None:
    with abortable() as abort:
        pass
    abort("too late")


def test_a_signal_that_comes_after_the_block_does_not_end_the_process() -> None:
    with abortable():
        pass
    signal.raise_signal(deadline.SIGNAL)


def test_its_exit_code_is_that_of_a_missing_cluster() -> None:
    assert EXIT_CODE == ExitCode.MISSING


@pytest.mark.process
def test_a_call_that_never_returns_ends_the_process_and_what_it_started() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STUCK)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        output, errors = process.communicate(timeout=120)
    child, *lines = output.splitlines()
    assert process.returncode == EXIT_CODE, errors
    assert errors == "wattfront: the cluster at nowhere:1: no answer within 1 s\n"
    assert lines[0].startswith("waiting for the cluster at nowhere:1 for")
    assert not runs(int(child))


@pytest.mark.process
def test_a_start_that_fails_leaves_no_process() -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as before:
        started: list[subprocess.Popen[bytes]] = []

        def fail() -> None:
            started.append(subprocess.Popen(["/bin/sleep", "600"]))
            raise ClusterError("no")

        with pytest.raises(ClusterError), ending_children():
            fail()
        assert started[0].wait(60) == -signal.SIGKILL
        assert runs(before.pid)
        os.kill(before.pid, signal.SIGKILL)
