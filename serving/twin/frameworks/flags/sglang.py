"""`sglang serve …`, also as `python -m sglang.launch_server …`.

Names, defaults and complaints were read in SGLang 0.5.23 (srt/arg_groups/), with the spellings of
0.5.14 beside them (`--enable-dp-attention`, `--cuda-graph-max-bs`, `--disable-cuda-graph`).
"""

import argparse
from collections.abc import Sequence
from functools import cache

from serving.twin.frameworks.flags.base import (
    KV_TYPES,
    Parsed,
    Parser,
    Refused,
    as_typed,
    traceback,
    whole,
)
from serving.twin.setup import Setup

USAGE = "sglang serve [-h] --model-path MODEL_PATH [options]"
MIB = 2**20
POLICIES = ("lpm", "random", "fcfs", "dfs-weight", "lof", "priority", "routing-key", "hrrn")
QUEUE = 4096  # requests at once, where the cache holds more than 8 contexts
SPECULATIVE_QUEUE = 48
NOTED = (
    *("--attention-backend", "--prefill-attention-backend", "--decode-attention-backend"),
    *("--load-format", "--tokenizer-path", "--random-seed", "--device", "--dtype", "--log-level"),
    *("--moe-runner-backend", "--sampling-backend", "--tool-call-parser", "--reasoning-parser"),
    *("--cuda-graph-bs", "--deepep-mode", "--fp8-gemm-backend", "--fp4-gemm-backend"),
    *("--moe-dense-tp-size", "--ep-num-redundant-experts", "--revision", "--chat-template"),
    *("--speculative-algorithm", "--speculative-draft-model-path", "--load-balance-method"),
    *("--speculative-eagle-topk", "--tokenizer-worker-num", "--watchdog-timeout", "--api-key"),
    *("--num-continuous-decode-steps", "--kv-cache-metrics"),
)
NOTED_SWITCHES = (
    *("--enable-torch-compile", "--trust-remote-code", "--enable-metrics", "--skip-server-warmup"),
    *("--enable-dp-lm-head", "--enable-two-batch-overlap", "--enable-symm-mem", "--enable-eplb"),
    *("--enable-flashinfer-allreduce-fusion", "--disable-custom-all-reduce", "--log-requests"),
    *("--disable-shared-experts-fusion", "--enable-cache-report", "--disable-chunked-prefix-cache"),
)
REFUSED = (
    *("--disaggregation-mode", "--nnodes", "--cpu-offload-gb", "--lora-paths", "--dwdp-size"),
    *("--attn-cp-size", "--max-queued-requests", "--prefill-max-requests", "--moe-dp-size"),
    *("--prefill-decode-interval", "--min-free-slots-delay"),
)
REFUSED_SWITCHES = (
    *("--enable-hierarchical-cache", "--enable-lora", "--enable-priority-scheduling"),
    *("--enable-prefill-delayer", "--enable-dynamic-chunking", "--is-embedding"),
)


def read(argv: Sequence[str], memory_bytes: float) -> Parsed:
    told, noted = _parser().read(argv)
    memory_mib = memory_bytes / MIB
    tensor, ranks, attention = _layout(told)
    chunk = told.chunked_prefill_size
    if chunk is None:
        chunk = 16_384 if memory_mib >= 160 * 1024 else 8192
    graphs = _graphs(told, memory_mib)
    fraction = told.mem_fraction_static or _fraction(told, memory_mib, chunk, graphs, attention)
    drafts = _drafts(told)
    if drafts and told.speculative_eagle_topk not in (None, "1"):
        noted.append("a tree of drafts (a chain is modelled)")
    if told.disable_overlap_schedule:  # what it hides is inside the fitted host costs
        noted.append("--disable-overlap-schedule")
    if told.schedule_policy not in ("fcfs", "lpm"):
        noted.append(as_typed("schedule_policy", told.schedule_policy))
    # A prompt batch is held by both; without chunks one whole context must fit it.
    step = min(chunk // attention, told.max_prefill_tokens) if chunk > 0 else 0
    sequences = told.max_running_requests or (SPECULATIVE_QUEUE if drafts else QUEUE)
    setup = Setup(
        framework="sglang",
        model=told.model_path,
        served_model=told.served_model_name or told.model_path,
        host=told.host,
        port=told.port,
        context_tokens=told.context_length,
        weights=told.quantization or "auto",
        kv=told.kv_cache_dtype,
        tensor=tensor,
        pipeline=told.pp_size,
        data=ranks,
        expert=told.tp_size if told.moe_a2a_backend == "deepep" else told.ep_size,
        lockstep=attention > 1,
        max_sequences=max(1, sequences // attention),
        step_tokens=step or max(told.max_prefill_tokens, told.context_length),
        chunked=chunk > 0,
        mixed=told.enable_mixed_chunk,
        reserve="estimate",
        conservativeness=told.schedule_conservativeness * (0.3 if attention > 1 else 1.0),
        memory_fraction=fraction,
        kv_tokens_limit=told.max_total_tokens,
        # The attention of Blackwell (trtllm_mha, trtllm_mla) has pages of 64; others have none.
        block_tokens=told.page_size or (64 if memory_mib >= 160 * 1024 else 1),
        prefix_caching=not told.disable_radix_cache,
        stream_interval=told.stream_interval,
        draft_tokens=drafts,
        graphs_upto=graphs,
        receive_steps=told.scheduler_recv_interval,
    )
    return Parsed(setup, tuple(noted))


@cache
def _parser() -> Parser:
    parser = Parser("sglang serve", USAGE)
    add, positive = parser.add_argument, whole()
    add("--model-path", "--model", required=True)
    add("--served-model-name")
    add("--host", default="127.0.0.1")
    add("--port", type=whole(0), default=30_000)
    add("--context-length", type=positive, default=32_768)
    add("--quantization")
    add("--kv-cache-dtype", choices=KV_TYPES, default="auto")
    for name, short in (("tensor", "tp"), ("pipeline", "pp"), ("data", "dp")):
        add(f"--{short}-size", f"--{name}-parallel-size", f"--{short}", type=positive, default=1)
    add("--ep-size", "--expert-parallel-size", "--ep", type=positive, default=1)
    add("--attn-dp-size", type=positive, default=1)
    add("--enable-dp-attention", action="store_true")
    add("--moe-a2a-backend", choices=("none", "deepep", "flashinfer", "mooncake"), default="none")
    add("--mem-fraction-static", type=float)
    add("--max-running-requests", type=positive)
    add("--max-total-tokens", type=positive)
    add("--max-prefill-tokens", type=positive, default=16_384)
    add("--chunked-prefill-size", type=whole(-1))
    add("--schedule-policy", choices=POLICIES, default="fcfs")
    add("--schedule-conservativeness", type=float, default=1.0)
    add("--page-size", type=positive)
    add("--stream-interval", type=positive, default=1)
    add("--scheduler-recv-interval", type=positive, default=1)
    add("--cuda-graph-max-bs", "--cuda-graph-max-bs-decode", type=positive)
    add("--speculative-num-steps", type=positive)
    add("--speculative-num-draft-tokens", type=positive)
    for name in ("--enable-mixed-chunk", "--disable-overlap-schedule", "--disable-radix-cache"):
        add(name, action="store_true")
    add("--disable-cuda-graph", "--disable-decode-cuda-graph", action="store_true")
    parser.note(*NOTED)
    parser.note(*NOTED_SWITCHES, switches=True)
    parser.refuse(*REFUSED)
    parser.refuse(*REFUSED_SWITCHES, switches=True)
    return parser


def _layout(told: argparse.Namespace) -> tuple[int, int, int]:
    """(tensor, ranks, attention ranks): what of `--tp-size` is the attention's, and how many ranks."""
    tensor, replicas, attention = told.tp_size, told.dp_size, told.attn_dp_size
    if told.enable_dp_attention and attention == 1:
        attention, replicas = replicas, 1
    if attention > 1 and replicas > 1:
        raise _failed(
            f"ValueError: --dp-size {replicas} with --attn-dp-size {attention}: use one of them"
        )
    if tensor % attention:
        raise _failed("AssertionError: tp_size must be divisible by attn_dp_size * attn_cp_size")
    if tensor % told.ep_size:
        raise _failed("AssertionError: tp_size must be divisible by ep_size")
    return tensor // attention, max(replicas, attention), attention


def _failed(line: str) -> Refused:
    return Refused(traceback(line, ("prepare_server_args", "__post_init__", "_handle_parallel")), 1)


def _graphs(told: argparse.Namespace, memory_mib: float) -> int:
    """The largest decode batch with a CUDA graph."""
    if told.disable_cuda_graph:
        return 0
    if told.cuda_graph_max_bs:
        return int(told.cuda_graph_max_bs)
    largest = 512 if memory_mib >= 160 * 1024 or told.tp_size >= 4 else 256
    return min(largest, told.max_running_requests or largest)


def _fraction(
    told: argparse.Namespace, memory_mib: float, chunk: int, graphs: int, attention: int
) -> float:
    """`_handle_gpu_memory_settings`: all but what activations and graphs are guessed to need, in MiB."""
    reserved = 512 + 1.5 * max(chunk if chunk > 0 else told.max_prefill_tokens, 2048)
    reserved += told.tp_size * told.pp_size / 8 * 1024 + 2 * graphs
    if attention > 1:
        reserved += graphs * attention * (4.5 if graphs > 300 else 3)
    if memory_mib > 60 * 1024:
        reserved = max(reserved, 10 * 1024)
    return float(round((memory_mib - reserved) / memory_mib, 3))


def _drafts(told: argparse.Namespace) -> int:
    """Of one step; `--speculative-num-draft-tokens` counts the token before them too."""
    if told.speculative_algorithm is None:
        return 0
    if told.speculative_num_steps:
        return int(told.speculative_num_steps)
    if told.speculative_num_draft_tokens:
        return max(1, int(told.speculative_num_draft_tokens) - 1)
    return 3  # what it chooses for EAGLE and MTP
