"""An engine that other hosts reach: it listens on its node's address, for those who have its API key."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving import probe
from serving.engines import Engine, LlamaCpp, Nim, SgLang, TrtLlm, Vllm
from serving.errors import LaunchError, Unhealthy
from serving.launch import LaunchSpec, Running, launched, plan_command, shell_command
from serving.process.supervise import descendants
from serving.topology import Model, Topology
from serving.twin.config import TwinConfig
from tests.serving.conftest import STUB, stub_environ

pytestmark = pytest.mark.process

# As good as an address of another host: nothing that listens on 127.0.0.1 answers there.
HOST = "127.0.0.2"
SECRET = "a-key-that-the-user-chose"
STUBBED = Model(name="stub", source="/dev/null", context_tokens=64, vocabulary=1000)
LLAMA = Model(
    name="served", source="meta-llama/Llama-3.1-8B-Instruct", context_tokens=4096, vocabulary=128256
)
SMALL = Model(name="smollm2", source="smollm2-135m-instruct", context_tokens=256, vocabulary=49152)
CPU = Topology(cpus=1)


def stub(pids: Path, **settings: Any) -> LlamaCpp:
    env = {**stub_environ(pids), **settings.pop("env", {})}
    return LlamaCpp(executable=str(STUB), stop_grace_s=0.2, env=env, **settings)


@contextmanager
def apart(engine: Engine, model: Model, log: Path, **more: Any) -> Iterator[Running]:
    topology = more.pop("topology", CPU)
    with launched(
        LaunchSpec(engine, model, topology, log, apart=True, **more), host=HOST
    ) as running:
        yield running


def status(url: str, path: str, api_key: str | None = None) -> int:
    answer = probe.get(url + path, 20.0, headers=probe.bearer(api_key))
    assert answer is not None, path
    return answer[0]


def test_an_engine_apart_answers_on_its_address_with_its_key_alone(
    pids: Path, tmp_path: Path
) -> None:
    with apart(stub(pids), STUBBED, tmp_path / "log") as running:
        endpoint = running.endpoint
        url, key = endpoint.base_url, endpoint.api_key
        port = int(url.rpartition(":")[2])
        assert url == f"http://{HOST}:{port}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        assert status(url, "/v1/models") == 401
        assert status(url, "/v1/models", "another") == 401
        assert status(url, "/v1/models", key) == 200
        running.check()
    assert not probe.listening(port, HOST)


def test_its_key_is_shown_nowhere(pids: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with apart(stub(pids, env={"STUB_MODE": "confess"}), STUBBED, log) as running:
        endpoint = running.endpoint
        key = endpoint.api_key
        assert key is not None
        assert len(key) == 64
        for pid in [*descendants(endpoint.pid), endpoint.pid]:
            assert key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert key not in shell_command(endpoint) + repr(endpoint)
        assert "LLAMA_API_KEY='***'" in shell_command(endpoint)
    assert "my key is ***" in log.read_text()
    assert key not in log.read_text()


def test_each_start_has_a_key_of_its_own(pids: Path, tmp_path: Path) -> None:
    with (
        apart(stub(pids), STUBBED, tmp_path / "one") as one,
        apart(stub(pids), STUBBED, tmp_path / "two") as two,
    ):
        assert one.endpoint.api_key != two.endpoint.api_key
        assert status(two.endpoint.base_url, "/v1/models", one.endpoint.api_key) == 401


def test_an_engine_beside_its_load_has_no_key(pids: Path, tmp_path: Path) -> None:
    with launched(LaunchSpec(stub(pids), STUBBED, CPU, tmp_path / "log")) as running:
        assert running.endpoint.api_key is None
        assert running.endpoint.base_url.startswith("http://127.0.0.1:")
        assert status(running.endpoint.base_url, "/v1/models") == 200


def test_an_engine_that_ignores_its_key_is_not_measured(pids: Path, tmp_path: Path) -> None:
    deaf = tmp_path / "llama-server"
    deaf.write_text(f'#!/bin/sh\nexec env -u LLAMA_API_KEY {STUB} "$@"\n')
    deaf.chmod(0o755)
    engine = LlamaCpp(executable=str(deaf), stop_grace_s=0.2, env=stub_environ(pids))
    with (
        pytest.raises(Unhealthy, match=r"^the engine answers without its API key"),
        apart(engine, STUBBED, tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize("passed", [False, True])
def test_a_key_of_the_user_is_used_beside_and_apart(
    passed: bool, pids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if passed:
        monkeypatch.setenv("LLAMA_API_KEY", SECRET)
        engine = stub(pids, env_passthrough=("LLAMA_API_KEY",))
    else:
        engine = stub(pids, env={"LLAMA_API_KEY": SECRET})
    spec = LaunchSpec(engine, STUBBED, CPU, tmp_path / "log")
    with launched(spec) as beside:
        assert beside.endpoint.api_key == SECRET
        assert status(beside.endpoint.base_url, "/v1/models") == 401
    with apart(engine, STUBBED, tmp_path / "log") as reached:
        assert reached.endpoint.api_key == SECRET
        assert status(reached.endpoint.base_url, "/v1/models") == 401


@pytest.mark.parametrize("engine", [Vllm(), SgLang(), TrtLlm()], ids=lambda each: each.kind)
def test_an_emulated_engine_asks_for_its_key_on_every_page_but_health(
    engine: Engine, tmp_path: Path
) -> None:
    twin = TwinConfig(system="b300_sxm")
    with apart(engine, LLAMA, tmp_path / "log", topology=Topology(), twin=twin) as running:
        url, key = running.endpoint.base_url, running.endpoint.api_key
        pages = ("/v1/models", "/v1/completions", "/metrics", "/twin", "/twin/power", "/twin/lag")
        assert [status(url, page) for page in pages] == [401] * len(pages)
        assert status(url, engine.health_path) == 200
        assert status(url, "/twin/power", key) == 200
        assert running.endpoint.modelled


def test_sglang_reads_its_key_from_a_file_that_nobody_else_reads(tmp_path: Path) -> None:
    assert SgLang().ask_for("***", None) == (["--api-key", "***"], {})
    argv, environ = SgLang().ask_for(SECRET, tmp_path)
    assert (argv, environ) == (["--config", str(tmp_path / "sglang.yaml")], {})
    assert Path(argv[1]).read_text() == f"api-key: '{SECRET}'\n"
    assert Path(argv[1]).stat().st_mode & 0o777 == 0o600
    with pytest.raises(LaunchError, match=r"^engine\.sglang\.extra_args: --config can't be"):
        SgLang(extra_args=("--config", "mine.yaml")).ask_for(SECRET, tmp_path)


def test_engines_without_a_key_are_known() -> None:
    assert [
        each.kind
        for each in (LlamaCpp(), Nim(), SgLang(), TrtLlm(), Vllm())
        if not each.has_api_key
    ] == [
        "nim",
        "trtllm",
    ]


def test_a_plan_of_an_engine_apart_names_its_address_and_hides_its_key() -> None:
    plan = plan_command(LlamaCpp(), STUBBED, CPU, apart=True)
    assert plan.startswith("CUDA_VISIBLE_DEVICES='' LLAMA_API_KEY='***' llama-server --model")
    assert " --host $HOST --port $PORT " in plan
    one = Topology(tensor_parallel=1)
    assert plan_command(SgLang(), STUBBED, one, apart=True).endswith(" --api-key '***'")
    assert "***" not in plan_command(TrtLlm(), STUBBED, one, apart=True)
    twin = TwinConfig(system="b300_sxm")
    assert "WATTFRONT_TWIN_API_KEY='***'" in plan_command(TrtLlm(), STUBBED, one, twin, apart=True)
