"""Engines that die, or stand still, while they run: what a process, its port and the kernel show."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.engines import LlamaCpp, ready
from serving.errors import (
    EngineExited,
    EngineHung,
    HostOutOfMemory,
    OutOfMemory,
    PortTaken,
    ServingError,
)
from serving.install import environments, models
from serving.launch import LaunchSpec, Running, launched
from serving.process import kernel_log
from serving.topology import Model, Topology
from tests.serving.conftest import STUB, stub_environ

pytestmark = pytest.mark.process

Leftovers = Callable[[float], list[int]]


@contextmanager
def stub(folder: Path, pids: Path, mode: str, **knobs: Any) -> Iterator[Running]:
    (folder / "m.gguf").touch()
    model = Model(name="stub", source=str(folder / "m.gguf"), context_tokens=64, vocabulary=99)
    env = stub_environ(pids, mode) | knobs.pop("env", {})
    engine = LlamaCpp(executable=str(STUB), env=env, stop_grace_s=0.2, **knobs)
    with launched(LaunchSpec(engine, model, Topology(cpus=1), folder / "log")) as running:
        yield running


def until_it_raises(check: Callable[[], None]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        check()


def test_an_engine_that_answers_its_health_page_alone_hangs(
    tmp_path: Path, pids: Path, leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "CANARY_S", 0.5)
    with stub(tmp_path, pids, "wedge") as running:
        running.check()
        with pytest.raises(EngineHung, match=r"no answer to a request of one token") as hung:
            running.canary()
    assert hung.value.phase == "under load"
    assert hung.value.remedy
    assert leftovers(0) == []


def test_an_engine_that_works_passes(tmp_path: Path, pids: Path) -> None:
    with stub(tmp_path, pids, "ok") as running:
        running.canary()


def test_an_engine_that_answers_errors_is_the_load_s_to_report(
    tmp_path: Path, pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "DYING_S", 0.1)
    with stub(tmp_path, pids, "errors") as running:
        running.canary()


def test_an_engine_that_dies_of_the_canary_has_its_own_cause(tmp_path: Path, pids: Path) -> None:
    with stub(tmp_path, pids, "die") as running, pytest.raises(EngineExited, match="signal 9"):
        until_it_raises(running.canary)


def test_a_server_whose_engine_is_dead_is_not_waited_for(
    tmp_path: Path, pids: Path, leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause is in its log, and its health page says 503 for ever."""
    monkeypatch.setattr(ready, "LOOK_S", 0.1)
    monkeypatch.setattr(ready, "DYING_S", 0.3)
    with (
        pytest.raises(OutOfMemory, match="CUDA out of memory") as dead,
        stub(tmp_path, pids, "dead", start_timeout_s=300.0),
    ):
        pass
    assert dead.value.remedy
    assert leftovers(0) == []


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("[rank1]: NCCL error: unhandled system error", "FabricFailed"),
        ("[Errno 98] Address already in use", "StartTimeout"),  # which it may have survived
        ("loading", "StartTimeout"),
    ],
)
def test_a_start_that_takes_too_long_for_a_dead_link_is_no_slow_configuration(
    line: str, failure: str, tmp_path: Path, pids: Path
) -> None:
    knobs: dict[str, Any] = {"start_timeout_s": 2.0, "env": {"STUB_SAYS": line}}
    with pytest.raises(ServingError) as slow, stub(tmp_path, pids, "hang", **knobs):
        pass
    assert type(slow.value).__name__ == failure
    assert slow.value.remedy


@pytest.mark.parametrize("said", ["log", "count"])
def test_a_kill_by_the_kernel_is_a_lack_of_host_memory(
    said: str, tmp_path: Path, pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmstat, kmsg = tmp_path / "vmstat", tmp_path / "kmsg"
    vmstat.write_text("nr_free_pages 1\noom_kill 3\n")
    monkeypatch.setattr(kernel_log, "VMSTAT", vmstat)
    monkeypatch.setattr(kernel_log, "KMSG", kmsg)
    with stub(tmp_path, pids, "ok") as running:
        if said == "log":
            line = "Out of memory: Killed process 22456 (llama-server) total-vm:99kB"
            kmsg.write_text(
                f"6,1,1000,-;Out of memory: Killed process 1 (old)\n3,9,{10**15},-;{line}\n"
            )
        else:
            vmstat.write_text("oom_kill 4\n")
        os.kill(running.endpoint.pid, signal.SIGKILL)
        with pytest.raises(HostOutOfMemory) as killed:
            until_it_raises(running.check)
    assert ("22456" if said == "log" else "ended 1 processes") in killed.value.evidence
    assert "(old)" not in killed.value.evidence
    assert killed.value.phase == "under load"


REAL = {
    "a wrong flag": (("--nope",), "BadFlags", "start"),
    "no model": (("--model", "/no/such.gguf"), "WeightsMissing", "load"),
}


def real(folder: Path, *arguments: str) -> LaunchSpec:
    source = "smollm2-135m-instruct"
    try:
        environments.locate("llamacpp", "python")
        models.locate(source, "gguf")
    except ServingError as missing:
        pytest.skip(missing.evidence)
    model = Model(name="smollm2", source=source, context_tokens=256, vocabulary=49152)
    return LaunchSpec(
        LlamaCpp(extra_args=arguments), model, Topology(cpus=2), folder / "engine.log"
    )


@pytest.mark.engine
@pytest.mark.parametrize("what", REAL)
def test_a_real_death_of_llamacpp_is_told(what: str, tmp_path: Path) -> None:
    arguments, failure, phase = REAL[what]
    with pytest.raises(ServingError) as died, launched(real(tmp_path, *arguments)):
        pass
    assert (type(died.value).__name__, died.value.phase) == (failure, phase)
    assert died.value.remedy


@pytest.mark.engine
def test_a_real_llamacpp_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    """It is tried on other ports, which `extra_args` overrides here."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(PortTaken) as died, launched(real(tmp_path, "--port", port)):
            pass
    assert "bind" in died.value.evidence


@pytest.mark.engine
def test_a_real_llamacpp_that_is_killed_is_an_exit_by_a_signal(tmp_path: Path) -> None:
    with launched(real(tmp_path)) as running:
        running.canary()
        os.kill(running.endpoint.pid, signal.SIGKILL)
        with pytest.raises(EngineExited, match="signal 9") as died:
            until_it_raises(running.check)
    assert died.value.phase == "under load"
