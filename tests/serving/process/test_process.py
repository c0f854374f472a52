"""Nothing of an engine outlives its owner, however the owner ends. Proved by killing."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.errors import EngineLeft, LaunchError
from serving.probe import free_port, holders, listening
from serving.process.generation import generation, parent
from serving.process.leftovers import end, sweep
from serving.process.process import Supervised, supervised
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


@contextmanager
def stub(pids: Path, tmp_path: Path) -> Iterator[Supervised]:
    """A stub engine of two processes; the second is in a session of its own and ignores SIGTERM."""
    with supervised(
        [sys.executable, str(STUB)], stub_environ(pids), tmp_path / "log", grace_s=0.3
    ) as process:
        wait_for(pids, 2)
        yield process


@pytest.mark.parametrize("killed", [("supervisor",), ("guard",), ("guard", "supervisor")])
def test_nothing_outlives_the_block_whoever_of_its_watchers_is_killed(
    killed: tuple[str, ...], pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with stub(pids, tmp_path) as process:
        for each in killed:
            os.kill(getattr(process, each), signal.SIGKILL)
        while "supervisor" in killed and process.alive():
            pass
        assert process.alive() == ("supervisor" not in killed)
    assert leftovers(0) == []
    assert not any(runs(pid) for pid in (process.supervisor, process.guard))


@pytest.mark.parametrize("stopped", [("supervisor",), ("guard",), ("guard", "supervisor")])
def test_nothing_outlives_the_block_whoever_of_its_watchers_stands_still(
    stopped: tuple[str, ...],
    pids: Path,
    leftovers: Leftovers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.process.process.PATIENCE_S", 0.5)
    with stub(pids, tmp_path) as process:
        for each in stopped:
            os.kill(getattr(process, each), signal.SIGSTOP)
        assert process.alive()
    assert leftovers(0) == []
    assert not any(runs(pid) for pid in (process.supervisor, process.guard))


def test_the_guard_ends_what_a_killed_supervisor_leaves_while_the_owner_lives(
    pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    """Also what has dropped its environment."""
    script = "import os, sys; os.setsid(); os.execve(sys.argv[1], sys.argv[1:], {})"
    sleeper = ["import subprocess, sys, time; from pathlib import Path",
               f"child = subprocess.Popen([sys.executable, '-c', {script!r}, '/bin/sleep', '600'])",
               f"Path({str(pids)!r}, str(child.pid)).touch(); time.sleep(600)"]  # fmt: skip
    argv = [sys.executable, "-c", "\n".join(sleeper)]
    with supervised(argv, {}, tmp_path / "log", grace_s=0.3) as process:
        wait_for(pids, 1)
        os.kill(process.supervisor, signal.SIGKILL)
        assert leftovers(20) == []


def test_a_sweep_ends_what_is_left_when_owner_supervisor_and_guard_are_killed(
    pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    script = textwrap.dedent(OWNER).format(stub=str(STUB))
    with subprocess.Popen(
        [sys.executable, "-c", script, str(pids), str(tmp_path / "log"), str(free_port())],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as owner:
        assert owner.stdout is not None
        engine = int(owner.stdout.readline())
        wait_for(pids, 2)
        supervisor = parent(engine)
        assert supervisor is not None
        guard = parent(supervisor)
        assert guard is not None
        sweep()
        assert runs(engine)  # its owner lives
        for pid in (guard, supervisor, owner.pid):
            os.kill(pid, signal.SIGSTOP)
        for pid in (guard, supervisor, owner.pid):
            os.kill(pid, signal.SIGKILL)
    assert len(leftovers(0)) >= 1
    sweep()
    assert leftovers(0) == []


def test_a_process_that_no_signal_ends_is_an_error_with_its_pid(tmp_path: Path) -> None:
    """The kernel keeps a process whose driver hangs: here one that `end` may not kill stands for it."""
    with pytest.raises(EngineLeft, match=r"after SIGKILL still running: 1 \("):
        end(lambda: ["1-0"], within_s=0.1)  # never the start time of process 1: it gets no signal


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
