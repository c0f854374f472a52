"""NIM: its variables by its documentation, and the flags that it passes on by the engine inside."""

from typing import Any

import pytest

from serving.engines import Launch, Nim
from serving.engines.flags.check import Finding
from serving.engines.flags.schema import schema_of, versions
from serving.topology import Topology

HASH = "07cd4f2bddd7a14ca84bab0a32602889fd0ae0eb76dc2eb0fc32594d065011a4"


def launch(tensor: int = 1) -> Launch:
    return Launch(
        "nim-serve",
        "/m",
        "m",
        "127.0.0.1",
        8000,
        Topology(tensor_parallel=tensor),
        4096,
    )


def said(nim: Nim) -> dict[str, tuple[bool, str]]:
    found: list[Finding] = nim.findings(launch())
    return {each.flag: (each.fatal, each.text) for each in found}


def test_the_schema_says_where_it_is_from() -> None:
    assert versions("nim") == ("2.1",)
    schema = schema_of("nim", "2.1")
    assert "read, not run" in schema.provenance
    assert len(schema.variables) == 37
    assert not set(schema.gone) & set(schema.variables)


@pytest.mark.parametrize("inside", ["vllm", "sglang", None])
def test_what_wattfront_sets_itself_is_known(inside: Any) -> None:
    nim = Nim(inside=inside, max_num_seqs=8, max_num_batched_tokens=4096, disable_cuda_graph=True)
    assert said(nim) == {}


@pytest.mark.parametrize(
    ("name", "value", "fatal", "text"),
    [
        ("NIM_MAX_NUM_SEQS", "8", True, "NIM 2.1 has no NIM_MAX_NUM_SEQS: use engine.nim.max_num_seqs"),
        ("NIM_FT_MODEL", "/m", True, "use NIM_MODEL_PATH (model.source)"),
        ("NIM_FORCE_DETERMINISTIC", "1", True, "it was removed"),
        ("NIM_MAX_MODEL_LENGTH", "8", False, "did you mean NIM_MAX_MODEL_LEN"),
        ("NIM_SOMETHING_ELSE", "8", False, "by its documentation"),
        ("NIM_HEALTH_PORT", "http", True, "a whole number"),
        ("NIM_JSONL_LOGGING", "yes", True, "0, 1, true, false"),
        ("NIM_LOG_LEVEL", "LOUD", True, "takes DEBUG, INFO"),
        ("NIM_CACHE_PROBE_TIMEOUT", "soon", True, "a number"),
    ],
)  # fmt: skip
def test_a_variable(name: str, value: str, fatal: bool, text: str) -> None:
    found = said(Nim(env={name: value}))
    assert found[name][0] == fatal
    assert text in found[name][1]


def test_other_variables_are_its_owner_s() -> None:
    assert said(Nim(env={"NCCL_DEBUG": "INFO", "NIM_LOG_LEVEL": "debug"})) == {}


@pytest.mark.parametrize(
    ("knobs", "flag", "text"),
    [
        ({"inside": "vllm"}, "--max-num-seqz", "did you mean --max-num-seqs"),
        ({"inside": "vllm", "inside_version": "0.33.0"}, "--mem-fraction-static=0.9", "has no"),
        ({"inside": "sglang", "inside_version": "0.5.23"}, "--cuda-graph-max-bs=8", "use"),
        ({"model_profile": "sglang-bf16-tp1-pp1"}, "--gpu-memory-utilization=0.9", "SGLang 0.5.23"),
        ({}, "--max-num-seqz", "neither vLLM nor SGLang takes it"),
        ({"inside": "vllm"}, "--tensor-parallel-size=8", "use topology.tensor_parallel"),
    ],
)
def test_a_flag_of_the_engine_inside(knobs: dict[str, Any], flag: str, text: str) -> None:
    fatal, line = said(Nim(passthrough_args=(flag,), **knobs))[flag.partition("=")[0]]
    assert fatal
    assert text in line


def test_arguments_of_nim_serve_are_passed_on_too() -> None:
    found = said(Nim(inside="vllm", extra_args=("--dry-run", "--max-num-seqz", "8")))
    assert [*found] == ["--max-num-seqz"]


def test_a_flag_that_either_engine_has_passes_where_it_is_not_known_which_is_inside() -> None:
    words = ("--gpu-memory-utilization", "0.9", "--mem-fraction-static", "0.8")
    assert said(Nim(passthrough_args=words)) == {}


def test_knobs_are_spelled_as_the_engine_inside_does() -> None:
    knobs: dict[str, Any] = {"max_num_seqs": 8, "max_num_batched_tokens": 4096}
    passed = {
        name: Nim(model_profile=f"{name}-fp8-tp1-pp1", **knobs).environ(launch())["NIM_PASSTHROUGH_ARGS"]
        for name in ("vllm", "sglang")
    }  # fmt: skip
    assert passed == {
        "vllm": "--max-num-seqs 8 --max-num-batched-tokens 4096",
        "sglang": "--max-running-requests 8 --chunked-prefill-size 4096",
    }
    with_switch = Nim(inside="vllm", flags={"enable_prefix_caching": False}).environ(launch())
    assert with_switch["NIM_PASSTHROUGH_ARGS"] == "--no-enable-prefix-caching"


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("vllm-fp8-tp4-pp1", "is for tensor_parallel=4, pipeline_parallel=1"),
        ("sglang-h100-bf16-tp2-pp2", "pipeline_parallel=2"),
        ("tensorrt_llm-h100-fp8-tp2-pp1-throughput", "NIM 2 has vLLM or SGLang inside"),
        ("vllm-bf16-tp2-pp1-feat_lora", ""),
        (HASH, ""),
        (None, ""),
    ],
)
def test_a_profile_and_the_layout(profile: str | None, text: str) -> None:
    topology = Topology(tensor_parallel=2)
    found = Nim(model_profile=profile).refuses(topology, "m")
    assert text in found
    assert bool(text) == bool(found)
