"""Nothing of an engine outlives its owner, however the owner ends. Proved by killing."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.errors import LaunchError
from serving.probe import free_port, holders, listening
from serving.process.process import generation, supervised
from tests.serving.conftest import STUB, runs, stub_environ, wait_for

pytestmark = pytest.mark.process

Leftovers = Callable[[float], list[int]]
REPO = Path(__file__).parents[3]

OWNER = """
    import signal, sys, time
    from pathlib import Path
    from serving.process.process import supervised
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where make runs in the background
    pids, log, port = sys.argv[1:]
    argv = [sys.executable, {stub!r}, "--port", port]
    with supervised(argv, {{"STUB_PIDS": pids}}, Path(log), grace_s=0.5) as process:
        print(process.engine, flush=True)
        time.sleep(600)
"""


def test_a_block_that_ends_leaves_nothing(pids: Path, leftovers: Leftovers, tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, str(STUB), "--port", str(port)]
    with supervised(argv, stub_environ(pids), tmp_path / "log", grace_s=0.5) as process:
        wait_for(pids, 2)
        assert process.alive()
        tree = process.tree()
        assert len(tree) == 2
    assert leftovers(0) == []
    assert not any(runs(pid) for pid in [process.supervisor, *tree])
    assert not listening(port)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_owner_that_is_killed_leaves_nothing(
    how: signal.Signals, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    port, script = free_port(), textwrap.dedent(OWNER).format(stub=str(STUB))
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(pids), str(tmp_path / "log"), str(port)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with owner:
        wait_for(pids, 2)
        owner.send_signal(how)
        owner.wait(timeout=20)
        assert leftovers(10) == []
        assert not listening(port)


def test_an_engine_ends_with_its_killed_supervisor(
    pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with supervised([sys.executable, str(STUB)], stub_environ(pids), tmp_path / "log") as process:
        engine, *_ = process.tree()
        wait_for(pids, 2)
        os.kill(process.supervisor, signal.SIGKILL)
        while runs(engine):
            pass
        assert not process.alive()
    stubborn = [pid for pid in leftovers(0) if pid != engine]
    for pid in (
        stubborn
    ):  # nobody is left who could: kill -9 of the supervisor itself is beyond its promise
        os.kill(pid, signal.SIGKILL)


def test_an_engine_that_dies_leaves_its_code_and_no_children(
    pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with supervised(
        [sys.executable, str(STUB)], stub_environ(pids, "crash"), log, grace_s=0.3
    ) as process:
        wait_for(pids, 2)
        assert leftovers(10) == []
        assert not process.alive()
        assert process.exit_code() == 1
    assert "failed to load model" in log.read_text()


def test_no_such_command_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with supervised(["/no/such/engine"], {}, log) as process:
        while (code := process.exit_code()) is None:
            pass
    assert code == 127
    assert "could not start /no/such/engine: No such file" in log.read_text()


def test_an_impossible_environment_is_a_launch_error(tmp_path: Path) -> None:
    with (
        pytest.raises((LaunchError, ValueError)),
        supervised(["true"], {"A\0B": "x"}, tmp_path / "log"),
    ):
        pass


def test_cores_are_those_asked_for(tmp_path: Path) -> None:
    log, core = tmp_path / "log", max(os.sched_getaffinity(0))
    script = "import os; print(sorted(os.sched_getaffinity(0)))"
    with supervised([sys.executable, "-c", script], {}, log, cores=[core]) as process:
        while process.exit_code() is None:
            pass
    assert log.read_text().strip() == str([core])


def test_a_generation_identifies_one_start(tmp_path: Path) -> None:
    mine = generation(os.getpid())
    assert mine is not None
    assert mine == generation(os.getpid())
    assert mine.startswith(f"{os.getpid()}-")
    assert generation(2**22 + 1) is None


def test_listening_sockets_are_known_by_process(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with supervised(argv, {}, tmp_path / "log") as process:
        while not listening(port):
            pass
        assert holders(process.tree(), port)
        assert not holders([os.getpid()], port)
