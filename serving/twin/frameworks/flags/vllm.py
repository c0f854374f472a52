"""`vllm serve …`.

Names, defaults and error messages are from vLLM 0.32 (config/, engine/arg_utils.py), but two defaults are
older: since 2026-08 a GPU with 160 GB or more gets 16,384 tokens a step, 8,192 before.
"""

import argparse
import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from serving.twin.errors import EngineExit
from serving.twin.frameworks.flags.base import (
    KV_TYPES,
    FlagParser,
    ParsedCommand,
    fraction,
    integer,
    traceback,
)
from serving.twin.setup import Setup

USAGE = "vllm serve [model_tag] [options]"
GIB = 2**30
GRAPHS = 512  # tokens; the largest decode batch that is captured by default
IGNORED = (
    *("--attention-backend", "--all2all-backend", "--load-format", "--tokenizer", "--seed"),
    *("--long-prefill-token-threshold", "--revision", "--download-dir", "--tokenizer-mode"),
    *("--max-logprobs", "--api-server-count", "--uvicorn-log-level", "--hf-overrides"),
    *("--safetensors-load-strategy", "--moe-backend", "--distributed-executor-backend"),
    *("--generation-config", "--limit-mm-per-prompt", "--reasoning-parser", "--chat-template"),
    *("--tool-call-parser", "--data-parallel-backend", "--prefix-caching-hash-algo"),
    *("--data-parallel-size-local", "--data-parallel-address", "--data-parallel-rpc-port"),
    *("--kernel-config", "--attention-config", "--mm-processor-kwargs", "--api-key"),
    *("--gdn-prefill-backend", "--linear-backend", "--performance-mode", "--eplb-config"),
    "--optimization-level",
)
IGNORED_SWITCHES = (
    "--async-scheduling",  # its effect is part of the fitted host costs
    *("--enable-dbo", "--trust-remote-code", "--disable-log-stats", "--enable-log-requests"),
    *("--disable-log-requests", "--disable-uvicorn-access-log", "--enable-auto-tool-choice"),
    *("--disable-custom-all-reduce", "--disable-cascade-attn", "--enable-flashinfer-autotune"),
    *("--language-model-only", "--enable-eplb", "--skip-mm-profiling"),
)
UNSUPPORTED = (
    *("--kv-transfer-config", "--ec-transfer-config", "--kv-offloading-size", "--cpu-offload-gb"),
    *("--decode-context-parallel-size", "--prefill-context-parallel-size", "--nnodes"),
    *("--data-parallel-rank", "--num-gpu-blocks-override", "--kv-cache-memory-bytes"),
    *("--max-num-active-seqs", "--scheduler-cls", "--prefill-schedule-interval"),
)
UNSUPPORTED_SWITCHES = ("--enable-lora", "--data-parallel-external-lb", "--data-parallel-hybrid-lb")


def read(argv: Sequence[str], memory_bytes: float) -> ParsedCommand:
    """The flags behind `vllm serve`; `memory_bytes` of one GPU. Raises EngineExit."""
    args, ignored = _parser().read(_dashed(argv), unknown="vllm")
    model = args.model_tag or args.model
    if model is None:
        _parser().error("the following arguments are required: model_tag")
    names = (args.served_model_name or [model])[0]
    drafts = _drafts(args.speculative_config, ignored)
    graphs = 0 if args.enforce_eager else _graphs(args.compilation_config, ignored)
    ranks, tensor = args.data_parallel_size, args.tensor_parallel_size
    sequences, tokens = _batch(args, memory_bytes)
    setup = Setup(
        framework="vllm",
        model=model,
        served_model=names,
        host=args.host,
        port=args.port,
        context_tokens=args.max_model_len,
        weights=args.quantization or "auto",
        kv=args.kv_cache_dtype,
        tensor=tensor,
        pipeline=args.pipeline_parallel_size,
        data=ranks,
        expert=tensor * ranks if args.enable_expert_parallel else 1,
        lockstep=ranks > 1 and bool(args.enable_expert_parallel),
        max_sequences=sequences,
        step_tokens=tokens,
        chunked=args.enable_chunked_prefill,
        memory_fraction=args.gpu_memory_utilization,
        block_tokens=args.block_size,
        prefix_caching=args.enable_prefix_caching,
        stream_interval=args.stream_interval,
        draft_tokens=drafts,
        graphs_upto=min(graphs, 2 * sequences * (1 + drafts), tokens) // (1 + drafts),
    )
    return ParsedCommand(setup, tuple(ignored))


@cache
def _parser() -> FlagParser:
    parser = FlagParser("vllm serve", USAGE)
    add = parser.add_argument
    add("model_tag", nargs="?")
    add("--model")
    add("--served-model-name", nargs="+")
    add("--host", default="0.0.0.0")
    add("--port", type=integer(0), default=8000)
    add("--max-model-len", type=integer(), default=32_768)
    add("--dtype", choices=("auto", "half", "float16", "bfloat16"), default="auto")
    add("--quantization", "-q")
    add("--kv-cache-dtype", choices=KV_TYPES, default="auto")
    for name, short in (("tensor", "-tp"), ("pipeline", "-pp"), ("data", "-dp")):
        add(f"--{name}-parallel-size", short, type=integer(), default=1)
    parser.switch("--enable-expert-parallel", "-ep")
    add("--max-num-seqs", type=integer())
    add("--max-num-batched-tokens", type=integer())
    add("--gpu-memory-utilization", type=fraction, default=0.9)
    add("--block-size", type=int, choices=(1, 8, 16, 32, 64, 128, 256), default=16)
    parser.switch("--enable-prefix-caching", default=True)
    parser.switch("--enable-chunked-prefill", default=True)
    parser.switch("--enforce-eager")
    add("--stream-interval", type=integer(), default=1)
    add("--compilation-config", "-O", type=_json, default={})
    add("--speculative-config", type=_json)
    parser.ignore(*IGNORED)
    parser.ignore(*IGNORED_SWITCHES, switches=True)
    parser.unsupported(*UNSUPPORTED)
    parser.unsupported(*UNSUPPORTED_SWITCHES, switches=True)
    return parser


def _dashed(argv: Sequence[str]) -> list[str]:
    """vLLM also accepts underscores, as in --max_num_seqs, and -O3 for a level."""
    dashed = []
    for word in argv:
        level = re.fullmatch(r"-O=?([0-3])", word)
        each = f"--optimization-level={level[1]}" if level else word
        name, equals, value = each.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
        dashed.append(name + equals + value)
    return dashed


def _json(text: str) -> dict[str, Any]:
    """A JSON object; `-O3` is a level alone."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, int):
        return {"mode": found}
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to a JSON object.")
    return found


def _batch(args: argparse.Namespace, memory_bytes: float) -> tuple[int, int]:
    """(sequences, tokens) of a step, by vLLM's `get_batch_defaults` for the API server."""
    large = memory_bytes >= 70 * GIB
    tokens = args.max_num_batched_tokens
    sequences = args.max_num_seqs or (1024 if large else 256)
    if tokens is None:
        tokens = 8192 if large else 2048
        if not args.enable_chunked_prefill:
            tokens = max(tokens, args.max_model_len)
        tokens = min(tokens, sequences * args.max_model_len)
    if args.max_num_seqs is None:
        sequences = min(sequences, tokens)
    if tokens < args.max_model_len and not args.enable_chunked_prefill:
        raise _invalid(
            f"max_num_batched_tokens ({tokens}) is smaller than max_model_len "
            f"({args.max_model_len}). This effectively limits the maximum sequence length to "
            "max_num_batched_tokens and makes vLLM reject longer sequences. Please increase "
            "max_num_batched_tokens or decrease max_model_len."
        )
    if tokens < sequences:
        raise _invalid(
            f"max_num_batched_tokens ({tokens}) must be greater than or equal to max_num_seqs "
            f"({sequences})."
        )
    return sequences, tokens


def _invalid(reason: str, config: str = "SchedulerConfig") -> EngineExit:
    last = (
        f"pydantic_core._pydantic_core.ValidationError: 1 validation error for {config}\n"
        f"  Value error, {reason} [type=value_error, input_value=ArgsKwargs(()), "
        "input_type=ArgsKwargs]"
    )
    return EngineExit(traceback(last, ("run_server", "create_engine_config")), 1)


def _drafts(config: dict[str, Any] | None, ignored: list[str]) -> int:
    """Draft tokens per step. Only how many are accepted is modelled, not how they are drafted."""
    if config is None:
        return 0
    drafts = config.get("num_speculative_tokens")
    if not isinstance(drafts, int) or drafts < 1:
        raise _invalid("num_speculative_tokens must be provided with a speculative model.",
                       "SpeculativeConfig")  # fmt: skip
    rest = {key: value for key, value in config.items() if key != "num_speculative_tokens"}
    if rest:
        ignored.append(f"--speculative-config {json.dumps(rest)}")
    return drafts


def _graphs(config: dict[str, Any], ignored: list[str]) -> int:
    """Tokens of the largest CUDA graph, before the limits of the batch."""
    rest, largest = dict(config), GRAPHS
    sizes = rest.pop("cudagraph_capture_sizes", None)
    if sizes:
        largest = max(sizes)
    largest = rest.pop("max_cudagraph_capture_size", None) or largest
    if str(rest.get("cudagraph_mode", "")).upper() == "NONE":
        del rest["cudagraph_mode"]
        largest = 0
    if rest:
        ignored.append(f"--compilation-config {json.dumps(rest)}")
    return largest
