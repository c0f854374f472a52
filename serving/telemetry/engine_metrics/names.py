"""The metrics pages of the engines, with the version in whose source or output each name was read. Pure."""

from serving.telemetry.engine_metrics.page import QUANTITIES, MetricsPage

# 0.32.0: vllm/v1/metrics/loggers.py and vllm/v1/spec_decode/metrics.py, also seen on its page. 2026-11-30.
VLLM = MetricsPage(
    ("/metrics",),
    {
        "running": ("vllm:num_requests_running",),
        "waiting": ("vllm:num_requests_waiting",),
        "kv_cache_share": ("vllm:kv_cache_usage_perc",),
        "preemptions": ("vllm:num_preemptions_total",),
        "prefix_hits": ("vllm:prefix_cache_hits_total",),
        "prefix_queries": ("vllm:prefix_cache_queries_total",),
        "drafts": ("vllm:spec_decode_num_draft_tokens_total",),
        "accepted_drafts": ("vllm:spec_decode_num_accepted_tokens_total",),
    },
    absent="vLLM has none with --disable-log-stats",
)
# 0.5.23: sglang/srt/observability/metrics_collector.py, also seen on its page. 2026-11-30.
SGLANG = MetricsPage(
    ("/metrics",),
    {
        "running": ("sglang:num_running_reqs",),
        "waiting": ("sglang:num_queue_reqs",),
        "kv_cache_share": ("sglang:token_usage",),
        "preemptions": ("sglang:num_retracted_requests_total",),
        "prefix_hits": ("sglang:cached_tokens_total",),
        "prefix_queries": ("sglang:prompt_tokens_total",),
        "acceptance": ("sglang:spec_accept_rate",),
        "prefill_queue": (
            "sglang:num_prefill_bootstrap_queue_reqs",
            "sglang:num_prefill_inflight_queue_reqs",
        ),
        "decode_queue": (
            "sglang:num_decode_prealloc_queue_reqs",
            "sglang:num_decode_transfer_queue_reqs",
        ),
    },
    from_first=frozenset({"preemptions", "prefix_hits", "prefix_queries"}),
    absent="SGLang has one with --enable-metrics",
)
# Prometheus: tensorrt_llm/metrics/collector.py of main, after 1.3.0rc29; JSON: the documentation of 1.2. Read,
# not run. 2026-11-30. A read of the JSON takes the iterations since the last read away, so it comes second.
TRTLLM = MetricsPage(
    ("/prometheus/metrics", "/metrics"),
    {
        "running": ("trtllm_num_requests_running", "numActiveRequests"),
        "waiting": ("trtllm_num_requests_waiting", "numQueuedRequests"),
        "kv_cache_share": ("trtllm_kv_cache_utilization", "kvCacheStats.usedShare"),
        "prefix_hits": ("trtllm_prompt_cached_tokens_total", "kvCacheStats.reusedBlocks"),
        "prefix_queries": (
            "trtllm_prompt_tokens_total",
            "kvCacheStats.reusedBlocks",
            "kvCacheStats.missedBlocks",
        ),
        "drafts": ("trtllm_spec_decode_num_draft_tokens_total",),
        "accepted_drafts": ("trtllm_spec_decode_num_accepted_tokens_total",),
    },
    absent="TensorRT-LLM has one with enable_iter_perf_stats or return_perf_metrics in its YAML",
)
# The page of xllamacpp 2026.10.11549. 2026-11-30. Its `prompt_tokens_total` leaves cached tokens out.
LLAMACPP = MetricsPage(
    ("/metrics",),
    {
        "running": ("llamacpp:requests_processing",),
        "waiting": ("llamacpp:requests_deferred",),
        "kv_cache_share": ("llamacpp:kv_cache_usage_ratio",),  # of builds before 2026
        "prefix_hits": ("llamacpp:prompt_tokens_cached_total",),
        "prefix_queries": (
            "llamacpp:prompt_tokens_total",
            "llamacpp:prompt_tokens_cached_total",
        ),
        "drafts": ("llamacpp:spec_decode_num_draft_tokens_total",),
        "accepted_drafts": ("llamacpp:spec_decode_num_accepted_tokens_total",),
    },
    absent="llama.cpp has one with --metrics",
)
# NIM 1.x on its own page, without a prefix (documentation of 1.14); 2.x has that of the engine inside it.
NIM = MetricsPage(
    ("/v1/metrics", "/metrics"),
    {
        **{
            quantity: (*VLLM.series.get(quantity, ()), *SGLANG.series.get(quantity, ()))
            for quantity in QUANTITIES
        },
        "running": ("num_requests_running", *VLLM.series["running"], *SGLANG.series["running"]),
        "waiting": ("num_requests_waiting", *VLLM.series["waiting"], *SGLANG.series["waiting"]),
        "kv_cache_share": (
            "gpu_cache_usage_perc",
            *VLLM.series["kv_cache_share"],
            *SGLANG.series["kv_cache_share"],
        ),
    },
)
# A server that is already running may be any of them.
ANY = MetricsPage(
    ("/metrics", "/prometheus/metrics", "/v1/metrics"),
    {
        quantity: tuple(
            name
            for page in (VLLM, SGLANG, TRTLLM, LLAMACPP)
            for name in page.series.get(quantity, ())
        )
        for quantity in QUANTITIES
    },
)
