"""What the twin shows reads like the framework's own: to monitors, and to our adapters."""

import json
from typing import Any

import pytest

from serving.engines import BaseEngine, SgLang, TrtLlm, Vllm
from serving.errors import BadFlags, OutOfMemory
from serving.twin.engine.assemble import TwinOutOfMemory
from serving.twin.frameworks.faces import FACES, Counts, Facts
from serving.twin.setup import Framework, Setup

ENGINES: dict[Framework, BaseEngine] = {"vllm": Vllm(), "sglang": SgLang(), "trtllm": TrtLlm()}
COUNTS = Counts(running=3, waiting=2, usage=0.25, prompt_tokens=100, cached_tokens=25,
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


def facts(framework: Framework) -> Facts:
    setup = Setup(framework, "meta/m", "one", "127.0.0.1", 1234, 4096)
    return Facts(setup, 1_000_000, 70e9, "table 1", 40.0)


def parsed(text: str) -> dict[str, float]:
    """Prometheus' text: by name, of the first label set."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found.setdefault(name.partition("{")[0], float(value))
    return found


@pytest.mark.parametrize("framework", FACES)
def test_metrics_have_the_frameworks_own_names(framework: Framework) -> None:
    path = "/prometheus/metrics" if framework == "trtllm" else "/metrics"
    page = FACES[framework].page(path, facts(framework), COUNTS)
    assert page is not None
    found = parsed(page.body.decode())
    assert EXPECTED[framework].items() <= found.items()


def test_trtllm_tells_its_iterations_as_json() -> None:
    page = FACES["trtllm"].page("/metrics", facts("trtllm"), COUNTS)
    assert page is not None
    assert json.loads(page.body)[0]["kvCacheStats"]["usedNumBlocks"] == 2


@pytest.mark.parametrize("framework", FACES)
def test_the_version_says_that_it_is_a_twin(framework: Framework) -> None:
    engine = ENGINES[framework]
    path, key = engine.version_at
    page = FACES[framework].page(path, facts(framework), Counts())
    assert page is not None
    assert json.loads(page.body)[key].startswith("twin of ")
    assert engine.health_path in FACES[framework].health


@pytest.mark.parametrize("kind", ["weights", "cache", "context"])
@pytest.mark.parametrize("framework", FACES)
def test_adapters_read_its_death_as_out_of_memory(framework: Framework, kind: Any) -> None:
    error = TwinOutOfMemory(300e9, 280e9, kind)
    log = FACES[framework].died(facts(framework).setup, error)
    death = ENGINES[framework].diagnose(1, f"starting\n{log}\n")
    assert type(death) is OutOfMemory, log
    assert len(death.evidence) > 20


@pytest.mark.parametrize("framework", FACES)
def test_adapters_read_what_it_refuses_as_bad_flags(framework: Framework) -> None:
    line = FACES[framework].bad_flag("the twin does not know the model m")
    death = ENGINES[framework].diagnose(2, line)
    assert type(death) is BadFlags
    assert "the model m" in death.evidence


@pytest.mark.parametrize("framework", FACES)
def test_it_says_what_it_does_until_it_is_ready(framework: Framework) -> None:
    face, told = FACES[framework], facts(framework)
    shares, lines = zip(*face.log(told), strict=True)
    assert list(shares) == sorted(shares)
    assert shares[-1] <= 1
    text = "\n".join(lines)
    assert "65.19 G" in text
    assert "1000000" in text.replace(",", "")
    assert any("Application startup complete." in line for line in face.ready(told))


@pytest.mark.parametrize("framework", FACES)
def test_the_context_is_a_limit(framework: Framework) -> None:
    face, setup = FACES[framework], facts(framework).setup
    assert face.too_long(setup, 4000, 96) == ""
    assert "4096" in face.too_long(setup, 4000, 97)
    assert "5000" in face.too_long(setup, 5000, 1)
    error = json.loads(face.error(400, "no", "BadRequestError"))
    assert error["error"]["message"] == "no"
