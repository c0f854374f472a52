"""What is found wrong in command lines, by frameworks and versions, and how values become words."""

from typing import Any

import pytest

from serving.engines.flags.check import as_text, check, reserved, value_error, written
from serving.engines.flags.schema import Chosen, chosen, schema_of


def of(name: str, version: str | None = None) -> Chosen:
    found = chosen(name, version)
    assert found is not None
    return found


RIGHT: list[tuple[str, str | None, str]] = [
    ("vllm", None, "--max_num_seqs 64 --max-num-batched-tokens=8192"),
    ("vllm", None, "--max-num-bat 8192"),  # an unambiguous prefix
    ("vllm", None, "--no-enable-prefix-caching --enforce-eager"),
    ("vllm", None, "--max-model-len 8k -tp 2 -O3"),
    ("vllm", None, "--optimization-level 1"),  # and not O1: its own parser, 0.32.0
    ("vllm", None, "--compilation-config.mode 3 --speculative_config.num_speculative_tokens=2"),
    ("vllm", None, "--attention-backend flash_attn"),  # read in any case
    ("vllm", None, "--load-format my_plugin"),  # other values are possible
    ("sglang", None, "--chunked-prefill-size -1 --disable-radix"),
    ("sglang", None, "--tensor-parallel-size 8 --attention-data-parallel-size 8"),
    ("trtllm", "1.2.1", "--backend tensorrt --tp_size 2 --kv_cache_free_gpu_memory_fraction 0.9"),
    ("trtllm", "1.3.0rc29", "--served_model_name m --no-telemetry"),
]


@pytest.mark.parametrize(("name", "version", "line"), RIGHT)
def test_what_the_parsers_take(name: str, version: str | None, line: str) -> None:
    assert check(of(name, version), line.split()) == []


WRONG: list[tuple[str, str | None, str, str]] = [
    (
        "vllm",
        None,
        "--max-num-seqz 3",
        "vLLM 0.33.0 has no --max-num-seqz; did you mean --max-num-seqs or --max-num-active-seqs?",
    ),
    (
        "vllm",
        None,
        "--disable-log-requests",
        "vLLM 0.33.0 has no --disable-log-requests: use --no-enable-log-requests",
    ),
    (
        "vllm",
        "0.32.0",
        "--monokernel x",
        "vLLM 0.32.0 has no --monokernel: it is a flag of 0.33.0",
    ),
    ("vllm", None, "--max-num-seqs 0", "--max-num-seqs 0: must be ≥ 1"),
    ("vllm", None, "--max-num-seqs many", "--max-num-seqs many: vLLM 0.33.0 takes a whole number"),
    ("vllm", None, "--enforce-eager true", "--enforce-eager takes no value, not true"),
    ("vllm", None, "--port", "--port needs a value"),
    (
        "sglang",
        None,
        "--cuda-graph-max-bs 64",
        "SGLang 0.5.23 has no --cuda-graph-max-bs: use --cuda-graph-max-bs-decode",
    ),
    (
        "sglang",
        None,
        "--cuda-graph-max 64",
        "SGLang 0.5.23 has no --cuda-graph-max, which could be --cuda-graph-max-bs-decode or "
        "--cuda-graph-max-bs-prefill or --cuda-graph-max-seq-len-prefill",
    ),
    (
        "sglang",
        "0.5.23",
        "--speculative-skip-dp-mlp-sync",
        "SGLang 0.5.23 has no --speculative-skip-dp-mlp-sync: it was removed",
    ),
    (
        "sglang",
        None,
        "--no-enable-metrics",
        "SGLang 0.5.23 has no --no-enable-metrics, only --enable-metrics",
    ),
    (
        "trtllm",
        "1.2.1",
        "--served_model_name m",
        "TensorRT-LLM 1.2.1 has no --served_model_name: it is a flag of 1.3.0rc29",
    ),
    (
        "trtllm",
        None,
        "--max-batch-size 8",
        "TensorRT-LLM 1.3.0rc29 has no --max-batch-size: write --max_batch_size",
    ),
    (
        "trtllm",
        None,
        "--kv_cache_dtype fp9",
        "--kv_cache_dtype fp9: TensorRT-LLM 1.3.0rc29 takes auto, fp8, nvfp4; did you mean fp8?",
    ),
]


@pytest.mark.parametrize(("name", "version", "line", "text"), WRONG)
def test_what_they_refuse(name: str, version: str | None, line: str, text: str) -> None:
    (found,) = check(of(name, version), line.split())
    assert (found.text, found.fatal) == (text, True)


@pytest.mark.parametrize(
    ("name", "line", "text"),
    [
        (
            "sglang",
            "--enable-dp-attention",
            "--enable-dp-attention is deprecated in SGLang 0.5.23: use --attn-dp-size",
        ),
        (
            "trtllm",
            "--backend pytorch",
            "--backend is deprecated in TensorRT-LLM 1.3.0rc29: leave it out: pytorch is the only backend",
        ),
        (
            "vllm",
            "--all2all-backend pplx",
            "vLLM 0.33.0 takes allgather_reducescatter in place of --all2all-backend pplx",
        ),
    ],
)
def test_what_still_works_is_warned_of(name: str, line: str, text: str) -> None:
    (found,) = check(of(name), line.split())
    assert (found.text, found.fatal) == (text, False)


def test_a_version_that_is_not_known_may_have_new_flags() -> None:
    newer = of("vllm", "0.34.0.dev1")
    (unknown,) = check(newer, ["--brand-new", "1"])
    assert not unknown.fatal
    (gone,) = check(newer, ["--disable-log-requests"])
    assert gone.fatal


def test_of_an_unknown_version_only_what_all_refuse_is_fatal() -> None:
    unknown = of("vllm")
    (old,) = check(unknown, ["--enable-bf16x3-router-gemm"])
    assert (old.text, old.fatal) == (
        "vLLM 0.33.0 has no --enable-bf16x3-router-gemm: it was removed",
        False,
    )
    (typo,) = check(unknown, ["--max-num-seqz", "3"])
    assert typo.fatal


def test_devices_and_port_are_set_by_wattfront_alone() -> None:
    texts = [each.text for each in reserved(schema_of("vllm", "0.33.0"), ["-tp", "4", "--port=1"])]
    assert texts == [
        "-tp is set by Wattfront: use topology.tensor_parallel",
        "--port is set by Wattfront, as it decides which devices a trial takes",
    ]


@pytest.mark.parametrize(
    ("name", "flag", "value", "words"),
    [
        ("vllm", "enable_eplb", True, ["--enable-eplb"]),
        ("vllm", "enable_eplb", False, ["--no-enable-eplb"]),
        ("sglang", "enable-two-batch-overlap", False, []),
        ("vllm", "compilation_config", {"mode": 3}, ["--compilation-config", '{"mode": 3}']),
        ("vllm", "cudagraph_capture_sizes", [1, 2], ["--cudagraph-capture-sizes", "1", "2"]),
        (
            "vllm",
            "gpu_memory_utilization",
            0.8500000000000001,
            ["--gpu-memory-utilization", "0.85"],
        ),
        ("trtllm", "generation_config", "auto", ["--generation-config", "auto"]),
        ("trtllm", "not_known", 1, ["--not_known", "1"]),
    ],
)
def test_values_become_words(name: str, flag: str, value: Any, words: list[str]) -> None:
    assert written(of(name).schema, flag, value) == words


def test_values_are_judged_by_the_flag_s_type() -> None:
    vllm, sglang = schema_of("vllm", "0.33.0"), schema_of("sglang", "0.5.23")
    assert value_error(vllm, "enable_eplb", 1) == (
        "--enable-eplb is a switch: true or false, not 1"
    )
    assert "takes a whole number" in value_error(sglang, "page_size", 1.5)
    assert "did you mean triton?" in value_error(sglang, "attention_backend", "tritn")
    assert value_error(sglang, "attention_backend", "triton") == ""


def test_numbers_print_as_typed() -> None:
    assert [as_text(each) for each in (0.8500000000000001, 0.9, 1e-5, 3, True)] == [
        *("0.85", "0.9", "1e-05", "3", "true"),
    ]
