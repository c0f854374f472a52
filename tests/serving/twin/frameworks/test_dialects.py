"""Logs, pages and errors read like the framework's own, to monitoring and to our adapters."""

import json
from typing import Any

import pytest

from serving.engines import BaseEngine, SgLang, TrtLlm, Vllm
from serving.errors import BadFlags, KvCacheTooSmall, OutOfMemory
from serving.twin.errors import TwinOutOfMemory
from serving.twin.frameworks.dialects import DIALECTS, EngineCounters, EngineInfo
from serving.twin.setup import Framework, Setup

ENGINES: dict[Framework, BaseEngine] = {"vllm": Vllm(), "sglang": SgLang(), "trtllm": TrtLlm()}
COUNTERS = EngineCounters(running=3, waiting=2, usage=0.25, prompt_tokens=100, cached_tokens=25,
                output_tokens=40, finished=1, steps=7, total_blocks=8, used_blocks=2)  # fmt: skip
EXPECTED = {
    "vllm": {
        "vllm:num_requests_running": 3,
        "vllm:num_requests_waiting": 2,
        "vllm:kv_cache_usage_perc": 0.25,
        "vllm:prompt_tokens_total": 100,
        "vllm:generation_tokens_total": 40,
        "vllm:prefix_cache_hits_total": 25,
    },
    "sglang": {
        "sglang:num_running_reqs": 3,
        "sglang:num_queue_reqs": 2,
        "sglang:token_usage": 0.25,
        "sglang:cache_hit_rate": 0.25,
        "sglang:prompt_tokens_total": 100,
    },
    "trtllm": {
        "trtllm_num_requests_running": 3,
        "trtllm_num_requests_waiting": 2,
        "trtllm_kv_cache_utilization": 0.25,
        "trtllm_generation_tokens_total": 40,
    },
}


def engine_info(framework: Framework) -> EngineInfo:
    setup = Setup(framework, "meta/m", "one", "127.0.0.1", 1234, 4096)
    return EngineInfo(setup, 1_000_000, 70e9, "table 1", 40.0)


def parsed(text: str) -> dict[str, float]:
    """Values of Prometheus' text by metric name, of the first label set."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found.setdefault(name.partition("{")[0], float(value))
    return found


@pytest.mark.parametrize("framework", DIALECTS)
def test_metrics_have_the_frameworks_own_names(framework: Framework) -> None:
    path = "/prometheus/metrics" if framework == "trtllm" else "/metrics"
    page = DIALECTS[framework].page(path, engine_info(framework), COUNTERS)
    assert page is not None
    found = parsed(page.body.decode())
    assert EXPECTED[framework].items() <= found.items()


def test_trtllm_reports_iterations_as_json() -> None:
    page = DIALECTS["trtllm"].page("/metrics", engine_info("trtllm"), COUNTERS)
    assert page is not None
    assert json.loads(page.body)[0]["kvCacheStats"]["usedNumBlocks"] == 2


@pytest.mark.parametrize("framework", DIALECTS)
def test_the_version_names_the_twin(framework: Framework) -> None:
    engine = ENGINES[framework]
    path, key = engine.version_at
    page = DIALECTS[framework].page(path, engine_info(framework), EngineCounters())
    assert page is not None
    assert json.loads(page.body)[key].startswith("twin of ")
    assert engine.health_path in DIALECTS[framework].health


@pytest.mark.parametrize("kind", ["weights", "cache", "context"])
@pytest.mark.parametrize("framework", DIALECTS)
def test_adapters_diagnose_a_startup_oom_as_out_of_memory(framework: Framework, kind: Any) -> None:
    error = TwinOutOfMemory(300e9, 280e9, kind)
    log = DIALECTS[framework].startup_oom(engine_info(framework).setup, error)
    failure = ENGINES[framework].diagnose(1, f"starting\n{log}\n")
    context = framework == "vllm" and kind == "context"
    assert type(failure) is (KvCacheTooSmall if context else OutOfMemory), log
    # torch's own line says nothing of it, and no line before it does here.
    assert failure.phase == ("" if "torch." in failure.evidence else "load")
    assert failure.remedy
    assert len(failure.evidence) > 20


@pytest.mark.parametrize("framework", DIALECTS)
def test_adapters_diagnose_flag_errors_as_bad_flags(framework: Framework) -> None:
    line = DIALECTS[framework].flag_error("the twin does not know the model m")
    failure = ENGINES[framework].diagnose(2, line)
    assert type(failure) is BadFlags
    assert "the model m" in failure.evidence


@pytest.mark.parametrize("framework", DIALECTS)
def test_startup_log_reports_weights_and_cache_until_ready(framework: Framework) -> None:
    dialect, info = DIALECTS[framework], engine_info(framework)
    shares, lines = zip(*dialect.startup_log(info), strict=True)
    assert list(shares) == sorted(shares)
    assert shares[-1] <= 1
    text = "\n".join(lines)
    assert "65.19 G" in text
    assert "1000000" in text.replace(",", "")
    assert any("Application startup complete." in line for line in dialect.ready_log(info))


@pytest.mark.parametrize("framework", DIALECTS)
def test_lengths_beyond_the_context_are_rejected(framework: Framework) -> None:
    dialect, setup = DIALECTS[framework], engine_info(framework).setup
    assert dialect.length_error(setup, 4000, 96) == ""
    assert "4096" in dialect.length_error(setup, 4000, 97)
    assert "5000" in dialect.length_error(setup, 5000, 1)
    error = json.loads(dialect.error_body(400, "no", "BadRequestError"))
    assert error["error"]["message"] == "no"
