"""`launched`: an engine verified to be the one that was started, or an error that says why."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from serving import probe
from serving.engines import Engine, External, LlamaCpp, Nim, Vllm
from serving.errors import (
    BadFlags,
    EngineExited,
    EngineRestarted,
    LaunchError,
    OutOfMemory,
    PortTaken,
    ServingError,
    StartTimeout,
    Unhealthy,
)
from serving.launch import LaunchSpec, Running, launched, plan_command, shell_command
from serving.topology import Model, Topology
from tests.serving.conftest import STUB, stub_environ

pytestmark = pytest.mark.process

Leftovers = Callable[[float], list[int]]
CPU = Topology(cpus=1)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = tmp_path / "model.gguf"
    path.touch()
    return Model(name="stub", source=str(path), context_tokens=64, vocabulary=1000)


def stub(pids: Path, mode: str = "ok", **knobs: Any) -> LlamaCpp:
    settings = {"executable": str(STUB), "start_timeout_s": 20.0, **knobs}
    return LlamaCpp(env=stub_environ(pids, mode), **settings)


def started(engine: Engine, model: Model, log: Path) -> AbstractContextManager[Running]:
    """With a short grace for the grandchild that ignores SIGTERM."""
    impatient = engine.model_copy(update={"stop_grace_s": 0.2})
    return launched(LaunchSpec(impatient, model, CPU, log))


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def stale() -> Iterator[int]:
    """The port of a server left over from another run: healthy, and of the same model name."""
    port = probe.free_port()
    argv = [sys.executable, str(STUB), "--port", str(port), "--alias", "stub"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as server:
        while not probe.healthy(f"http://127.0.0.1:{port}/health"):
            time.sleep(0.02)
        yield port
        server.kill()


def test_a_started_engine_answers_and_leaves_nothing(
    model: Model, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with started(stub(pids), model, log=log) as running:
        endpoint = running.endpoint
        assert probe.model_names(endpoint.base_url) == ["stub"]
        assert endpoint.generation.startswith(f"{endpoint.pid}-")
        assert 0 < endpoint.startup_s < 20
        running.check()
    assert leftovers(0) == []
    assert not probe.taken(int(endpoint.base_url.rsplit(":", 1)[1]))
    assert "listening" in log.read_text()


@pytest.mark.parametrize(
    ("mode", "kind", "line"),
    [
        ("crash", EngineExited, "failed to load model"),
        ("oom", OutOfMemory, "failed to allocate buffer"),
        ("flags", BadFlags, "unknown argument: --no-such-flag"),
    ],
)
def test_a_failed_start_has_its_class_its_line_and_its_log(
    mode: str,
    kind: type[ServingError],
    line: str,
    model: Model,
    pids: Path,
    leftovers: Leftovers,
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with pytest.raises(kind, match=line) as caught, started(stub(pids, mode), model, log=log):
        pass
    assert type(caught.value) is kind
    assert caught.value.log == log
    assert leftovers(0) == []


def test_an_engine_that_hangs_is_ended_at_its_deadline(
    model: Model, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    engine = stub(pids, "hang", start_timeout_s=0.7)
    began = time.monotonic()
    with (
        pytest.raises(StartTimeout, match=r"not ready within 0\.7 s"),
        started(engine, model, log=tmp_path / "log"),
    ):
        pass
    assert time.monotonic() - began < 20
    assert leftovers(0) == []


def test_an_error_in_the_block_ends_the_engine(
    model: Model, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    with (
        pytest.raises(KeyError),
        started(stub(pids), model, log=tmp_path / "log"),
    ):
        raise KeyError
    assert leftovers(0) == []


def test_a_port_that_is_taken_meanwhile_is_replaced(
    model: Model,
    pids: Path,
    stale: int,
    leftovers: Leftovers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free, ports = probe.free_port, iter([stale])
    monkeypatch.setattr(probe, "free_port", lambda host: next(ports, None) or free(host))
    with started(stub(pids), model, log=tmp_path / "log") as running:
        assert running.endpoint.base_url != f"http://127.0.0.1:{stale}"
        running.check()
    assert leftovers(0) == []


@pytest.mark.parametrize("mode", ["ok", "hang"])
def test_a_stale_server_is_never_taken_for_the_engine(
    mode: str,
    model: Model,
    pids: Path,
    stale: int,
    leftovers: Leftovers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "free_port", lambda _: stale)
    with (
        pytest.raises(PortTaken, match="taken by another process"),
        started(stub(pids, mode), model, log=tmp_path / "log"),
    ):
        pass
    assert leftovers(0) == []


LISTENS_AND_DIES = """
import os, socket, sys, threading, time
taken = socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])))
print("failed to load model", flush=True)
for _ in range(8):
    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
time.sleep(float(os.environ["DIES_AFTER_S"]))
os._exit(1)
"""


@pytest.mark.parametrize("after_s", ["0", "0.02", "0.05", "0.08", "0.11", "0.14"])
def test_an_engine_that_dies_while_it_listens_is_no_stale_server(
    after_s: str, model: Model, pids: Path, tmp_path: Path
) -> None:
    program = tmp_path / "engine.py"
    program.write_text(LISTENS_AND_DIES)
    wrapper = script(tmp_path / "engine", f'exec {sys.executable} {program} "$@"')
    engine = stub(pids, executable=wrapper)
    engine = engine.model_copy(update={"env": {**engine.env, "DIES_AFTER_S": after_s}})
    with (
        pytest.raises(EngineExited, match="failed to load model"),
        started(engine, model, log=tmp_path / "log"),
    ):
        pass


def test_an_engine_that_serves_another_model_is_refused(
    model: Model, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    wrapper = script(tmp_path / "engine", f'exec {sys.executable} {STUB} --alias other "$@"')
    with (
        pytest.raises(Unhealthy, match="serves other, not stub"),
        started(stub(pids, executable=wrapper), model, log=tmp_path / "log"),
    ):
        pass
    assert leftovers(0) == []


def test_an_exit_under_load_is_reported(model: Model, pids: Path, tmp_path: Path) -> None:
    with started(stub(pids), model, log=tmp_path / "log") as running:
        os.kill(running.endpoint.pid, signal.SIGKILL)
        with pytest.raises(EngineExited, match="killed by signal 9"):
            check_until_it_raises(running)


def check_until_it_raises(running: Running, within_s: float = 20.0) -> None:
    """A kill shows once the kernel has carried it out."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        running.check()


def test_an_engine_that_restarts_its_server_is_reported(
    model: Model, pids: Path, leftovers: Leftovers, tmp_path: Path
) -> None:
    loop = script(tmp_path / "engine", f'while :; do {sys.executable} {STUB} "$@"; done')
    with started(stub(pids, executable=loop), model, log=tmp_path / "log") as running:
        port = int(running.endpoint.base_url.rsplit(":", 1)[1])
        server = listener(running.endpoint.pid, port)
        running.check()
        os.kill(server, signal.SIGKILL)
        while listener(running.endpoint.pid, port) in (0, server):
            time.sleep(0.02)
        with pytest.raises(EngineRestarted, match="no longer held"):
            running.check()
    assert leftovers(0) == []


def listener(root: int, port: int) -> int:
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return next(iter(probe.holders(map(int, children), port)), 0)


def test_what_can_not_be_started_says_what_to_do(model: Model, tmp_path: Path) -> None:
    for engine, says in (
        (LlamaCpp(executable="/no/such"), r"/no/such \(engine.llamacpp.executable\)"),
        (Vllm(executable=None), "vllm is not on PATH: install it, or name"),
        (Nim(environment="nope"), "no environment 'nope'"),
        (LlamaCpp(executable=script(tmp_path / "x", "")), "exit code 0"),
    ):
        with (
            pytest.raises(ServingError, match=says),
            started(engine, model, log=tmp_path / "log"),
        ):
            pass


def test_a_broken_interpreter_is_a_launch_error(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "engine"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    with (
        pytest.raises(LaunchError, match="could not start"),
        started(LlamaCpp(executable=str(path)), model, log=tmp_path / "log"),
    ):
        pass


def test_an_external_endpoint_is_checked_and_not_stopped(stale: int, tmp_path: Path) -> None:
    engine = External(url=f"http://127.0.0.1:{stale}/v1/")
    model = Model(name="stub", source="anything", context_tokens=64, vocabulary=1000)
    with started(engine, model, log=tmp_path / "log") as running:
        assert running.endpoint.base_url == f"http://127.0.0.1:{stale}"
        running.check()
    assert probe.taken(stale)
    with (
        pytest.raises(Unhealthy, match="serves stub, not other"),
        launched(
            LaunchSpec(engine, model.model_copy(update={"name": "other"}), CPU, tmp_path / "log")
        ),
    ):
        pass


def test_an_external_endpoint_without_a_list_of_models_is_left_to_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "k1 ")
    url = f"http://127.0.0.1:{probe.free_port()}"
    model = Model(name="stub", source="anything", context_tokens=64, vocabulary=1000)
    engine = External(url=url, api_key_env="GATEWAY_KEY")
    with started(engine, model, log=tmp_path / "log") as running:
        assert (running.endpoint.base_url, running.endpoint.api_key) == (url, "k1")


def test_the_command_as_typed_is_the_command_that_ran(
    model: Model, pids: Path, tmp_path: Path
) -> None:
    engine = stub(pids, extra_args=("--note", "two words; $HOME"))
    with started(engine, model, log=tmp_path / "log") as running:
        words = shlex.split(shell_command(running.endpoint))
        argv = Path(f"/proc/{running.endpoint.pid}/cmdline").read_text().split("\0")[:-1]
    assert words[-len(running.endpoint.argv) :] == list(running.endpoint.argv)
    assert argv[-2:] == ["--note", "two words; $HOME"]
    assert f"STUB_PIDS={pids}" in words


def test_an_engine_inherits_what_it_needs_by_name(
    model: Model, pids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed, passed = {"LC_TIME", "NCCL_DEBUG", "LLAMA_ARG_POLL"}, {"MY_TOKEN", "SITE"}
    others = {"PYTHONPATH", "OMP_NUM_THREADS", "RAY_JOB_ID", "THEIRS", "HF_TOKEN", "AWS_PROFILE"}
    for name in needed | passed | others:
        monkeypatch.setenv(name, "7")
    engine = stub(pids, env_passthrough=tuple(passed))
    with started(engine, model, log=tmp_path / "new" / "log") as running:
        environ = Path(f"/proc/{running.endpoint.pid}/environ").read_text().split("\0")
        assert not passed & {name for name, _ in running.endpoint.environ}
        assert (tmp_path / "new" / "log").stat().st_mode & 0o077 == 0
    set_to_7 = {line.removesuffix("=7") for line in environ if line.endswith("=7")}
    assert set_to_7 & (needed | passed | others) == needed | passed


def test_a_plan_needs_nothing_but_the_port() -> None:
    model = Model(name="m", source="org/model", context_tokens=64, vocabulary=1000)
    plan = plan_command(LlamaCpp(n_gpu_layers=0), model, CPU)
    assert plan == (
        "CUDA_VISIBLE_DEVICES='' llama-server --model org/model --alias m --host 127.0.0.1 "
        "--port $PORT --ctx-size 64 --metrics --n-gpu-layers 0"
    )
    assert "NIM_SERVER_PORT=$PORT" in plan_command(Nim(), model, Topology(tensor_parallel=2))


def test_a_plan_quotes_all_but_the_port() -> None:
    """A number that looks like a port stays, and so does what a shell would expand."""
    model = Model(name="m", source="org/model", context_tokens=10001, vocabulary=1000)
    engine = LlamaCpp(extra_args=("--note", "$PORT and $HOME", "10001"), env={"A": "two words"})
    plan = plan_command(engine, model, CPU)
    assert plan == (
        "A='two words' CUDA_VISIBLE_DEVICES='' llama-server --model org/model --alias m "
        "--host 127.0.0.1 --port $PORT --ctx-size 10001 --metrics --note '$PORT and $HOME' 10001"
    )
    assert shlex.split(plan.replace("$PORT ", "8000 ", 1))[-1] == "10001"


def test_a_plan_names_the_revision_of_the_model() -> None:
    model = Model(name="m", source="org/model", context_tokens=64, vocabulary=1000, revision="v1.2")
    plan = plan_command(Vllm(), model, Topology())
    assert "vllm serve org/model --revision v1.2 --served-model-name m" in plan
    with pytest.raises(LaunchError, match=r"^model\.revision=v1\.2: llama\.cpp has no option"):
        plan_command(LlamaCpp(), model, CPU)


def test_a_revision_that_the_engine_does_not_know_starts_nothing(
    model: Model, pids: Path, tmp_path: Path
) -> None:
    pinned = model.model_copy(update={"revision": "v1.2"})
    with (
        pytest.raises(LaunchError, match=r"^model\.revision=v1\.2: llama\.cpp has no option"),
        started(stub(pids), pinned, log=tmp_path / "log"),
    ):
        pass
    assert list(pids.iterdir()) == []


def test_a_port_that_is_shared_has_no_single_holder() -> None:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        other.bind(("127.0.0.1", port))
        one.listen()
        other.listen()
        child = subprocess.Popen(["sleep", "60"], pass_fds=[other.fileno()])
        other.close()
        with child:
            assert len(probe.listening(port)) == 2
            assert probe.holders([child.pid], port) == frozenset()
            assert probe.holders([child.pid, os.getpid()], port) == {child.pid, os.getpid()}
            child.kill()


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")],
)
def test_listening_on_any_address_counts(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as server:
        server.bind((address, 0))
        port = server.getsockname()[1]
        assert not probe.taken(port)
        server.listen()
        assert probe.holders([os.getpid()], port)
