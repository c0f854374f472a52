"""Several engines behind a router: real llama.cpp and vLLM's router, and what their deaths do."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from serving import probe
from serving.engines import LlamaCpp
from serving.engines.base import BaseEngine
from serving.errors import LaunchError, ServingError
from serving.install import environments
from serving.launch import LaunchSpec, Running, launched
from serving.process.leftovers import marked, new_mark
from serving.process.supervise import descendants
from serving.topology import Model, Topology
from tests.serving.engines.test_real_engines import MODEL, need
from tests.serving.launch.test_launched import check_until_it_raises, script

pytestmark = [pytest.mark.process, pytest.mark.engine]
TWO = Topology(cpus=1, replicas=2)


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[tuple[Running, Path]]:
    need("llamacpp", "gguf")
    try:
        environments.locate("vllm-router", "vllm-router")
    except ServingError as missing:
        pytest.skip(missing.evidence)
    before = {*descendants(os.getpid())}
    log = tmp_path / "engine.log"
    with launched(LaunchSpec(LlamaCpp(environment="llamacpp"), MODEL, TWO, log)) as running:
        yield running, log
    left = [psutil.Process(pid) for pid in {*descendants(os.getpid())} - before]
    assert [each for each in left if each.status() != psutil.STATUS_ZOMBIE] == []


def test_both_replicas_serve_through_one_address(routed: tuple[Running, Path]) -> None:
    running, _ = routed
    endpoint = running.endpoint
    assert len(endpoint.members) == 2
    assert len({each.pid for each in endpoint.members} | {endpoint.pid}) == 3
    assert set(endpoint.generation.split()) > {each.generation for each in endpoint.members}
    url, name = endpoint.base_url, endpoint.model
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: probe.completes(url, name, None, 60), range(24)))
    assert answers == [200] * 24
    for each in endpoint.members:
        served = each.base_url + "/metrics"
        status, body = probe.ask(served, 10)
        assert status == 200
        line = next(x for x in body.splitlines() if x.startswith(b"llamacpp:prompt_tokens_total "))
        assert float(line.split()[1]) > 0, "the router leaves one of them out"
    running.check()
    running.canary()
    assert "vllm-router" in endpoint.argv[0]


def test_the_death_of_one_engine_is_named(routed: tuple[Running, Path]) -> None:
    running, _ = routed
    os.kill(running.endpoint.members[1].pid, signal.SIGKILL)
    with pytest.raises(ServingError, match=r"^engine 1: killed by signal 9"):
        check_until_it_raises(running)


def test_the_death_of_the_router_is_named(routed: tuple[Running, Path]) -> None:
    running, _ = routed
    os.kill(running.endpoint.pid, signal.SIGKILL)
    with pytest.raises(ServingError, match=r"^router: killed by signal 9"):
        check_until_it_raises(running)


def test_the_log_has_those_of_all_engines(tmp_path: Path) -> None:
    need("llamacpp", "gguf")
    model = Model(name="m", source="smollm2-135m-instruct", context_tokens=256, vocabulary=49152)
    engine = LlamaCpp(environment="llamacpp", extra_args=("--no-such-flag",))
    log = tmp_path / "engine.log"
    with (
        pytest.raises(ServingError, match=r"^engine [01]: .*no-such-flag"),
        launched(LaunchSpec(engine, model, TWO, log)),
    ):
        pass
    text = log.read_text()
    assert text.index("==> engine 0 <==") < text.index("==> engine 1 <==")
    assert "no-such-flag" in text


def test_a_router_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("llamacpp", "gguf")
    topology = TWO.model_copy(update={"router": "sglang"})
    spec = LaunchSpec(LlamaCpp(environment="llamacpp"), MODEL, topology, tmp_path / "engine.log")
    with (
        pytest.raises(LaunchError, match="wattfront engines install sglang-router"),
        launched(spec),
    ):
        pass


def test_an_engine_without_roles_has_no_prefill() -> None:
    engine: BaseEngine = LlamaCpp()
    why = engine.refuses(Topology.model_validate({"cpus": 1, "prefill": {}}), "m")
    assert why == "llamacpp has no prefill engines of their own (topology.prefill)"


def test_one_mark_for_all_ends_each_with_what_lost_its_mark(tmp_path: Path) -> None:
    """An engine that changes its title overwrites its environment: its mark is gone, as in vLLM's processes."""
    need("llamacpp", "gguf")
    server = environments.locate("llamacpp", "llama-server")
    silent = script(tmp_path / "engine", f'env -i sleep 31415 & exec {server} "$@"')
    mark = new_mark()
    spec = LaunchSpec(LlamaCpp(executable=silent), MODEL, TWO, tmp_path / "engine.log", mark=mark)
    with launched(spec) as running:
        trees = [psutil.Process(each.pid).children() for each in running.endpoint.members]
        silents = [child for tree in trees for child in tree if child.cmdline()[:1] == ["sleep"]]
        assert len(silents) == 2
        assert len(marked(mark)) >= 9, (
            "supervisor, guard and engine of each, and the two without a mark"
        )
    assert not marked(mark)
    assert [each for each in silents if each.is_running()] == []


@pytest.mark.timeout(120)
def test_one_failed_start_ends_the_others_at_once(tmp_path: Path) -> None:
    need("llamacpp", "gguf")
    once = tmp_path / "first"
    dies = 'echo "error: unknown argument: --x"; exit 1'
    text = f"if mkdir {once} 2>/dev/null; then {dies}; fi; exec sleep 27182"
    engine = LlamaCpp(executable=script(tmp_path / "engine", text), start_timeout_s=600)
    spec = LaunchSpec(engine, MODEL, TWO, tmp_path / "engine.log")
    with pytest.raises(ServingError, match=r"^engine [01]: .*unknown argument"), launched(spec):
        pass
    commands = [each.info["cmdline"] for each in psutil.process_iter(["cmdline"])]
    assert ["sleep", "27182"] not in commands
