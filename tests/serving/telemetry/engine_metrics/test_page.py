"""Pages of each engine, with the names of its source or recorded from it, become the same quantities."""

import json

import pytest

from serving.engines import External, LlamaCpp, Nim, SgLang, TrtLlm, Vllm
from serving.telemetry.engine_metrics.page import MetricsPage, parse

# vLLM 0.32.0 with two data-parallel engines; the names were seen on its page.
VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a}b"} 16.0
vllm:num_requests_running{engine="1",model_name="a}b"} 15.0
vllm:num_requests_waiting{engine="0",model_name="a}b"} 3.0
vllm:num_requests_waiting{engine="1",model_name="a}b"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a}b",reason="capacity"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="a}b"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="a}b"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="a}b"} 1000.0
vllm:prefix_cache_queries_created{engine="0",model_name="a}b"} 1.79e+09
vllm:prefix_cache_hits_total{engine="0",model_name="a}b"} 250.0
vllm:num_preemptions_total{engine="0",model_name="a}b"} 2.0 1790000000
vllm:num_preemptions_total{engine="1",model_name="a}b"} 1.0
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="a}b"} 90.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="a}b"} 60.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="0"} 40.0
"""
# SGLang 0.5.23: a counter appears with its first increment, and none was retracted yet.
SGLANG = b"""# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0"} 8.0
sglang:num_queue_reqs{engine_type="unified",model_name="m",tp_rank="0"} 2.0
sglang:token_usage{engine_type="unified",model_name="m",tp_rank="0"} 0.25
sglang:prompt_tokens_total{is_streaming="true",model_name="m"} 600.0
sglang:prompt_tokens_total{is_streaming="false",model_name="m"} 400.0
sglang:cached_tokens_total{cache_source="device",model_name="m"} 90.0
sglang:cached_tokens_total{cache_source="host",model_name="m"} 10.0
sglang:spec_accept_rate{model_name="m",tp_rank="0"} 0.5
sglang:num_prefill_bootstrap_queue_reqs{model_name="m"} 1.0
sglang:num_prefill_inflight_queue_reqs{model_name="m"} 2.0
"""
# The page of xllamacpp 2026.10.11549, recorded.
LLAMACPP = b"""# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 30
llamacpp:prompt_tokens_cached_total 10
llamacpp:prompt_seconds_total 0
llamacpp:n_tokens_max 0
llamacpp:spec_decode_num_draft_tokens_total 0
llamacpp:spec_decode_num_accepted_tokens_total 0
llamacpp:spec_decode_num_drafts_total 0
llamacpp:requests_processing 1
llamacpp:requests_deferred 3
"""
# TensorRT-LLM: Prometheus by the names of its collector, JSON as its documentation shows it.
TRTLLM = b"""trtllm_num_requests_running{engine_type="trtllm",model_name="m"} 5.0
trtllm_num_requests_waiting{engine_type="trtllm",model_name="m"} 1.0
trtllm_kv_cache_utilization{engine_type="trtllm",model_name="m"} 0.125
trtllm_prompt_tokens_total{engine_type="trtllm",model_name="m"} 100.0
trtllm_prompt_cached_tokens_total{engine_type="trtllm",model_name="m"} 25.0
"""
ITERATIONS = json.dumps([
    {"iter": 1, "numActiveRequests": 99},
    {
        "iter": 2, "numActiveRequests": 5, "numQueuedRequests": 1, "gpuMemUsage": 56401920000,
        "kvCacheStats": {
            "maxNumBlocks": 800, "usedNumBlocks": 100, "reusedBlocks": 4, "missedBlocks": 12,
            "tokensPerBlock": 32, "cacheHitRate": 0.00128,
        },
    },
]).encode()  # fmt: skip
IN_VLLM = {
    "running": 31, "waiting": 7, "kv_cache_share": 0.625, "preemptions": 3, "prefix_hits": 250,
    "prefix_queries": 1000, "drafts": 90, "accepted_drafts": 60,
}  # fmt: skip
IN_SGLANG = {
    "running": 8, "waiting": 2, "kv_cache_share": 0.25, "preemptions": 0, "prefix_hits": 100,
    "prefix_queries": 1000, "acceptance": 0.5, "prefill_queue": 3,
}  # fmt: skip
IN_LLAMACPP = {
    "running": 1, "waiting": 3, "prefix_hits": 10, "prefix_queries": 40, "drafts": 0,
    "accepted_drafts": 0,
}  # fmt: skip
IN_TRTLLM = {
    "running": 5, "waiting": 1, "kv_cache_share": 0.125, "prefix_hits": 25, "prefix_queries": 100,
}  # fmt: skip
IN_ITERATIONS = {**IN_TRTLLM, "prefix_hits": 4, "prefix_queries": 16}


@pytest.mark.parametrize(
    ("page", "body", "found"),
    [
        pytest.param(Vllm.metrics_page, VLLM, IN_VLLM, id="vllm"),
        pytest.param(SgLang.metrics_page, SGLANG, IN_SGLANG, id="sglang"),
        pytest.param(LlamaCpp.metrics_page, LLAMACPP, IN_LLAMACPP, id="llamacpp"),
        pytest.param(TrtLlm.metrics_page, TRTLLM, IN_TRTLLM, id="trtllm"),
        pytest.param(TrtLlm.metrics_page, ITERATIONS, IN_ITERATIONS, id="trtllm-json"),
        pytest.param(Nim.metrics_page, VLLM, IN_VLLM, id="nim-vllm"),
        pytest.param(External.metrics_page, VLLM, IN_VLLM, id="external-vllm"),
        pytest.param(External.metrics_page, LLAMACPP, IN_LLAMACPP, id="external-llamacpp"),
    ],
)
def test_a_page_is_the_quantities_that_all_engines_share(
    page: MetricsPage, body: bytes, found: dict[str, float]
) -> None:
    assert parse(body, page) == found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"data": [{"id": "m"}]}',
        b"vllm:num_requests_running",
        b"vllm:num_requests_running{} \nvllm:num_requests_waiting NaN\nvllm:num_requests_waiting x",
        b"\xff\xfe",
    ],
    ids=range(9),
)
def test_what_is_no_such_page_has_no_quantities(body: bytes) -> None:
    assert parse(body, Vllm.metrics_page) == {}
    assert parse(body, SgLang.metrics_page) == {}


def test_ranks_of_attention_data_parallelism_add_up() -> None:
    rows = [
        {"attentionDpRank": rank, "numActiveRequests": rank + 1, "numQueuedRequests": 2}
        for rank in (0, 1, 0, 1)
    ]
    assert parse(json.dumps(rows).encode(), TrtLlm.metrics_page) == {"running": 3, "waiting": 4}
