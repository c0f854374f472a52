"""`sglang serve …`, also as `python -m sglang.launch_server …`.

Names, defaults and error messages are from SGLang 0.5.23 (srt/arg_groups/); the spellings of 0.5.14 are
accepted too (`--enable-dp-attention`, `--cuda-graph-max-bs`, `--disable-cuda-graph`).
"""

import argparse
from collections.abc import Sequence
from functools import cache

from serving.twin.errors import EngineExit
from serving.twin.frameworks.flags.base import (
    KV_TYPES,
    FlagParser,
    ParsedCommand,
    as_typed,
    integer,
    traceback,
)
from serving.twin.setup import Setup

USAGE = "sglang serve [-h] --model-path MODEL_PATH [options]"
MIB = 2**20
POLICIES = ("lpm", "random", "fcfs", "dfs-weight", "lof", "priority", "routing-key", "hrrn")
MAX_RUNNING = 4096  # default where the cache holds more than 8 contexts
SPECULATIVE_MAX_RUNNING = 48
IGNORED = (
    *("--attention-backend", "--prefill-attention-backend", "--decode-attention-backend"),
    *("--load-format", "--tokenizer-path", "--random-seed", "--device", "--dtype", "--log-level"),
    *("--moe-runner-backend", "--sampling-backend", "--tool-call-parser", "--reasoning-parser"),
    *("--cuda-graph-bs", "--deepep-mode", "--fp8-gemm-backend", "--fp4-gemm-backend"),
    *("--moe-dense-tp-size", "--ep-num-redundant-experts", "--revision", "--chat-template"),
    *("--speculative-algorithm", "--speculative-draft-model-path", "--load-balance-method"),
    *("--speculative-eagle-topk", "--tokenizer-worker-num", "--watchdog-timeout", "--api-key"),
    *("--num-continuous-decode-steps", "--kv-cache-metrics", "--cuda-graph-backend-prefill"),
    *("--cuda-graph-max-bs-prefill", "--flashinfer-allreduce-fusion-backend"),
)
IGNORED_SWITCHES = (
    *("--enable-torch-compile", "--trust-remote-code", "--skip-server-warmup"),
    *("--enable-dp-lm-head", "--enable-two-batch-overlap", "--enable-symm-mem", "--enable-eplb"),
    *("--enable-flashinfer-allreduce-fusion", "--disable-custom-all-reduce", "--log-requests"),
    *("--disable-shared-experts-fusion", "--enable-cache-report", "--disable-chunked-prefix-cache"),
    *("--disable-cuda-graph-padding", "--enable-single-batch-overlap"),
)
UNSUPPORTED = (
    *("--disaggregation-mode", "--nnodes", "--cpu-offload-gb", "--lora-paths", "--dwdp-size"),
    *("--attn-cp-size", "--max-queued-requests", "--prefill-max-requests", "--moe-dp-size"),
    *("--prefill-decode-interval", "--min-free-slots-delay"),
)
UNSUPPORTED_SWITCHES = (
    *("--enable-hierarchical-cache", "--enable-lora", "--enable-priority-scheduling"),
    *("--enable-prefill-delayer", "--enable-dynamic-chunking", "--is-embedding"),
)


def read(argv: Sequence[str], memory_bytes: float) -> ParsedCommand:
    """The flags behind `sglang serve`; `memory_bytes` of one GPU. Raises EngineExit."""
    args, ignored = _parser().read(argv)
    memory_mib = memory_bytes / MIB
    tensor, ranks, attention = _layout(args)
    chunk = args.chunked_prefill_size
    if chunk is None:
        chunk = 16_384 if memory_mib >= 160 * 1024 else 8192
    graphs = _graphs(args, memory_mib)
    fraction = args.mem_fraction_static or _fraction(args, memory_mib, chunk, graphs, attention)
    drafts = _drafts(args)
    if drafts and args.speculative_eagle_topk not in (None, "1"):
        ignored.append("--speculative-eagle-topk above 1 (drafts are modelled as a chain)")
    if args.disable_overlap_schedule:  # its effect is part of the fitted host costs
        ignored.append("--disable-overlap-schedule")
    if args.schedule_policy not in ("fcfs", "lpm"):
        ignored.append(as_typed("schedule_policy", args.schedule_policy))
    # Both flags limit a prefill batch; without chunking it must hold one whole context.
    step = min(chunk // attention, args.max_prefill_tokens) if chunk > 0 else 0
    sequences = args.max_running_requests or (SPECULATIVE_MAX_RUNNING if drafts else MAX_RUNNING)
    setup = Setup(
        framework="sglang",
        model=args.model_path,
        served_model=args.served_model_name or args.model_path,
        host=args.host,
        port=args.port,
        context_tokens=args.context_length,
        weights=args.quantization or "auto",
        kv=args.kv_cache_dtype,
        tensor=tensor,
        pipeline=args.pp_size,
        data=ranks,
        expert=args.tp_size if args.moe_a2a_backend == "deepep" else args.ep_size,
        lockstep=attention > 1,
        max_sequences=max(1, sequences // attention),
        step_tokens=step or max(args.max_prefill_tokens, args.context_length),
        chunked=chunk > 0,
        mixed=args.enable_mixed_chunk,
        reserve="estimate",
        conservativeness=args.schedule_conservativeness * (0.3 if attention > 1 else 1.0),
        memory_fraction=fraction,
        kv_tokens_limit=args.max_total_tokens,
        # Blackwell's attention backends (trtllm_mha, trtllm_mla) use pages of 64 tokens; others of 1.
        block_tokens=args.page_size or (64 if memory_mib >= 160 * 1024 else 1),
        prefix_caching=not args.disable_radix_cache,
        stream_interval=args.stream_interval,
        draft_tokens=drafts,
        graphs_upto=graphs,
        receive_steps=args.scheduler_recv_interval,
    )
    return ParsedCommand(setup, tuple(ignored))


@cache
def _parser() -> FlagParser:
    parser = FlagParser("sglang serve", USAGE)
    add, positive = parser.add_argument, integer()
    add("--model-path", "--model", required=True)
    add("--served-model-name")
    add("--host", default="127.0.0.1")
    add("--port", type=integer(0), default=30_000)
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
    add("--chunked-prefill-size", type=integer(-1))
    add("--schedule-policy", choices=POLICIES, default="fcfs")
    add("--schedule-conservativeness", type=float, default=1.0)
    add("--page-size", type=positive)
    add("--stream-interval", type=positive, default=1)
    add("--scheduler-recv-interval", type=positive, default=1)
    add("--cuda-graph-max-bs", "--cuda-graph-max-bs-decode", type=positive)
    add("--cuda-graph-bs-decode", type=positive, nargs="+")
    add("--cuda-graph-backend-decode", choices=("full", "breakable", "disabled"))
    add("--speculative-num-steps", type=positive)
    add("--speculative-num-draft-tokens", type=positive)
    add("--enable-metrics", action="store_true")  # the emulator always has /metrics
    for name in ("--enable-mixed-chunk", "--disable-overlap-schedule", "--disable-radix-cache"):
        add(name, action="store_true")
    add("--disable-cuda-graph", "--disable-decode-cuda-graph", action="store_true")
    parser.ignore(*IGNORED)
    parser.ignore(*IGNORED_SWITCHES, switches=True)
    parser.unsupported(*UNSUPPORTED)
    parser.unsupported(*UNSUPPORTED_SWITCHES, switches=True)
    return parser


def _layout(args: argparse.Namespace) -> tuple[int, int, int]:
    """(tensor parallel size of the attention, ranks, attention ranks)."""
    tensor, replicas, attention = args.tp_size, args.dp_size, args.attn_dp_size
    if args.enable_dp_attention and attention == 1:
        attention, replicas = replicas, 1
    if attention > 1 and replicas > 1:
        raise _failed(
            f"ValueError: --dp-size {replicas} with --attn-dp-size {attention}: use one of them"
        )
    if tensor % attention:
        raise _failed("AssertionError: tp_size must be divisible by attn_dp_size * attn_cp_size")
    if tensor % args.ep_size:
        raise _failed("AssertionError: tp_size must be divisible by ep_size")
    return tensor // attention, max(replicas, attention), attention


def _failed(line: str) -> EngineExit:
    return EngineExit(
        traceback(line, ("prepare_server_args", "__post_init__", "_handle_parallel")), 1
    )


def _graphs(args: argparse.Namespace, memory_mib: float) -> int:
    """The largest decode batch with a CUDA graph; 0 without graphs."""
    if args.disable_cuda_graph or args.cuda_graph_backend_decode == "disabled":
        return 0
    if args.cuda_graph_bs_decode:
        return int(max(args.cuda_graph_bs_decode))
    if args.cuda_graph_max_bs:
        return int(args.cuda_graph_max_bs)
    largest = 512 if memory_mib >= 160 * 1024 or args.tp_size >= 4 else 256
    return min(largest, args.max_running_requests or largest)


def _fraction(
    args: argparse.Namespace, memory_mib: float, chunk: int, graphs: int, attention: int
) -> float:
    """SGLang's `_handle_gpu_memory_settings`: memory less an estimate for activations and graphs, in MiB."""
    reserved = 512 + 1.5 * max(chunk if chunk > 0 else args.max_prefill_tokens, 2048)
    reserved += args.tp_size * args.pp_size / 8 * 1024 + 2 * graphs
    if attention > 1:
        reserved += graphs * attention * (4.5 if graphs > 300 else 3)
    if memory_mib > 60 * 1024:
        reserved = max(reserved, 10 * 1024)
    return float(round((memory_mib - reserved) / memory_mib, 3))


def _drafts(args: argparse.Namespace) -> int:
    """Draft tokens per step; `--speculative-num-draft-tokens` also counts the token before them."""
    if args.speculative_algorithm is None:
        return 0
    if args.speculative_num_steps:
        return int(args.speculative_num_steps)
    if args.speculative_num_draft_tokens:
        return max(1, int(args.speculative_num_draft_tokens) - 1)
    return 3  # SGLang's default for EAGLE and MTP
