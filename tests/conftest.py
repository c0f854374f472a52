"""What all tests share: how long hypothesis may take, and who may start processes."""

import multiprocessing.process
import os
import signal
import sys
from collections.abc import Iterator, Set
from typing import Any

import pytest
from hypothesis import settings

from tests.fuzz.examples import examples

# Tests run in parallel, one process a core; OpenBLAS reads this when numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A call into Ray after its end starts no other, whose own end would end the process that runs the tests.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

# How long an example takes says nothing on a busy machine.
settings.register_profile("wattfront", deadline=None, max_examples=examples(100))
settings.load_profile("wattfront")

STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}
_unmarked: list[str] = []  # the running test, if it may not start a process


def _refuse(event: str) -> None:
    if _unmarked:
        raise AssertionError(f"{_unmarked[0]} starts a process ({event}): mark it `process`")


def _audit(event: str, args: tuple[Any, ...], starts: Set[str] = frozenset(STARTS)) -> None:
    # `starts` is a default, since the interpreter clears the module's names before its last events.
    if event in starts:
        _refuse(event)


@pytest.fixture(autouse=True)
def _processes_are_marked(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """`make check` starts no process: a test without the mark fails where it tries to."""
    if request.node.get_closest_marker("process") is None:
        _unmarked.append(request.node.nodeid)
        started = multiprocessing.process.BaseProcess.start

        def start(process: multiprocessing.process.BaseProcess) -> None:
            _refuse("multiprocessing")
            started(process)

        monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start)
    yield
    _unmarked.clear()


def pytest_configure(config: pytest.Config) -> None:
    """The audit hook stays for the life of the interpreter: it is installed once."""
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # a shell's background job, and all that it starts
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(sys, "_wattfront_audited"):
        sys.addaudithook(_audit)
        sys._wattfront_audited = True  # type: ignore[attr-defined]
