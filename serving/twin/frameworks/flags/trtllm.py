"""`trtllm-serve serve …` with its YAML, PyTorch backend.

Names, defaults and error messages are from TensorRT-LLM's main branch between 1.2 and 1.3
(commands/serve.py, llmapi/llm_args.py). As there, the YAML overrides the flags.
"""

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml

from serving.twin.errors import EngineExit
from serving.twin.frameworks.flags.base import (
    FlagParser,
    ParsedCommand,
    as_typed,
    fraction,
    integer,
    traceback,
)
from serving.twin.setup import Setup

PROG = "trtllm-serve serve"
USAGE = f"Usage: {PROG} [OPTIONS] MODEL\nTry '{PROG} --help' for help.\n\nError: "
GRAPHS = 128  # the largest decode batch captured by default
IGNORED = (
    *(
        "--tokenizer",
        "--custom_tokenizer",
        "--log_level",
        "--num_postprocess_workers",
        "--revision",
    ),
    *("--reasoning_parser", "--tool_parser", "--gpus_per_node", "--chat_template"),
)
IGNORED_SWITCHES = ("--trust_remote_code", "--fail_fast_on_attention_window_too_large")
UNSUPPORTED = (
    *("--server_role", "--metadata_server_config_file", "--disagg_cluster_uri", "--cp_size"),
    *("--cluster_size", "--custom_module_dirs"),
)
# Of the YAML: sections with the keys that are read; then plain keys; then keys without effect.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "kv_cache_config": (
        *("free_gpu_memory_fraction", "enable_block_reuse", "tokens_per_block", "dtype"),
        "max_tokens",
    ),
    "cuda_graph_config": ("max_batch_size", "batch_sizes", "enable_padding"),
    "speculative_config": ("decoding_type", "max_draft_len", "num_nextn_predict_layers"),
    "scheduler_config": ("capacity_scheduler_policy",),
}
PLAIN = (
    *("max_batch_size", "max_num_tokens", "max_seq_len", "tensor_parallel_size", "max_beam_width"),
    *("pipeline_parallel_size", "moe_expert_parallel_size", "enable_attention_dp", "backend"),
    *("enable_chunked_prefill", "disable_overlap_scheduler", "stream_interval"),
)
IGNORED_OPTIONS = (
    *(
        "moe_config",
        "attn_backend",
        "print_iter_log",
        "enable_iter_perf_stats",
        "num_postprocess_workers",
    ),
    *("attention_dp_config", "allreduce_strategy", "torch_compile_config", "trust_remote_code"),
    *("enable_layerwise_nvtx_marker", "enable_autotuner", "return_perf_metrics", "sampler_type"),
    *("load_format", "postprocess_tokenizer_dir", "gpus_per_node", "perf_metrics_max_requests"),
)
Policy = Literal["all", "none"]
POLICIES: Mapping[str, Policy] = {"GUARANTEED_NO_EVICT": "all", "MAX_UTILIZATION": "none"}


class ClickParser(FlagParser):
    """argparse with click's error messages."""

    def error(self, message: str) -> NoReturn:
        """Raises EngineExit with click's message."""
        if match := re.match(r"argument (\S+): (.*)", message):
            name = match[1].split("/")[0]
            raise EngineExit(f"{USAGE}Invalid value for '{name}': {match[2]}.", 2)
        raise EngineExit(USAGE + message, 2)


def read(argv: Sequence[str], memory_bytes: float) -> ParsedCommand:
    """The flags behind `trtllm-serve serve`; `memory_bytes` is not used. Raises EngineExit."""
    try:
        args, ignored = _parser().read(argv)
    except EngineExit as rejected:
        if match := re.search(r"unrecognized arguments: (\S+)", rejected.output):
            reason = (
                "No such option: " if match[1].startswith("-") else "Got unexpected extra argument "
            )
            raise EngineExit(f"{USAGE}{reason}{match[1]}", 2) from None
        raise
    if args.backend != "pytorch":
        raise EngineExit(
            f"{USAGE}Invalid value for '--backend': {args.backend} is not supported by the twin.", 2
        )
    options = _options(args, ignored)
    cache, graph = options["kv_cache_config"], options["cuda_graph_config"]
    tensor, attention = options["tensor_parallel_size"], bool(options["enable_attention_dp"])
    policy = str(
        options["scheduler_config"].get("capacity_scheduler_policy", "GUARANTEED_NO_EVICT")
    )
    if policy not in POLICIES:
        raise _invalid(
            "scheduler_config.capacity_scheduler_policy", f"{policy} is not supported by the twin"
        )
    if options.get("disable_overlap_scheduler"):
        ignored.append("disable_overlap_scheduler: True")
    setup = Setup(
        framework="trtllm",
        model=args.model,
        served_model=args.served_model_name or args.model,
        host=args.host,
        port=args.port,
        context_tokens=options["max_seq_len"],
        kv=str(cache.get("dtype", "auto")),
        tensor=1 if attention else tensor,
        pipeline=options["pipeline_parallel_size"],
        data=tensor if attention else 1,
        expert=options["moe_expert_parallel_size"] or 1,
        lockstep=attention and tensor > 1,
        max_sequences=options["max_batch_size"],
        step_tokens=options["max_num_tokens"],
        chunked=bool(options["enable_chunked_prefill"]),
        reserve=POLICIES[policy],
        memory_fraction=float(cache.get("free_gpu_memory_fraction", args.free_gpu_memory_fraction)),
        kv_tokens_limit=cache.get("max_tokens"),
        block_tokens=int(cache.get("tokens_per_block", 32)),
        prefix_caching=bool(cache.get("enable_block_reuse", True)),
        stream_interval=int(options.get("stream_interval", 1)),
        draft_tokens=_drafts(options["speculative_config"]),
        graphs_upto=_graphs(graph),
    )
    return ParsedCommand(setup, tuple(ignored))


@cache
def _parser() -> ClickParser:
    parser = ClickParser(PROG, f"{PROG} [OPTIONS] MODEL")
    add = parser.add_argument
    add("model")
    add("--served_model_name")
    add("--host", default="localhost")
    add("--port", type=integer(0), default=8000)
    add("--backend", choices=("pytorch", "tensorrt", "trt", "_autodeploy"), default="pytorch")
    add("--max_beam_width", type=integer(), default=1)
    add("--max_batch_size", type=integer(), default=2048)
    add("--max_num_tokens", type=integer(), default=8192)
    add("--max_seq_len", type=integer(), default=32_768)
    add("--tp_size", "--tensor_parallel_size", type=integer(), default=1)
    add("--pp_size", "--pipeline_parallel_size", type=integer(), default=1)
    add("--ep_size", "--moe_expert_parallel_size", type=integer())
    add("--free_gpu_memory_fraction", "--kv_cache_free_gpu_memory_fraction", type=fraction,
        default=0.9)  # fmt: skip
    add("--enable_chunked_prefill", action="store_true")
    add("--extra_llm_api_options", "--config")
    parser.ignore(*IGNORED)
    parser.ignore(*IGNORED_SWITCHES, switches=True)
    parser.unsupported(*UNSUPPORTED)
    return parser


def _options(args: argparse.Namespace, ignored: list[str]) -> dict[str, Any]:
    """The flags, overridden by the YAML. Every section has an entry: None if the YAML says null."""
    options: dict[str, Any] = {
        "max_batch_size": args.max_batch_size,
        "max_num_tokens": args.max_num_tokens,
        "max_seq_len": args.max_seq_len,
        "tensor_parallel_size": args.tp_size,
        "pipeline_parallel_size": args.pp_size,
        "moe_expert_parallel_size": args.ep_size,
        "enable_chunked_prefill": args.enable_chunked_prefill,
        "enable_attention_dp": False,
        "max_beam_width": args.max_beam_width,
        **{section: {} for section in SECTIONS},
    }
    for key, value in _file(args.extra_llm_api_options).items():
        if key in IGNORED_OPTIONS:
            ignored.append(f"{key}: {value}")
        elif key in SECTIONS or key in PLAIN:
            _check(key, value)
            options[key] = value
        else:
            raise _invalid(key, "Extra inputs are not permitted")
    for section in SECTIONS:
        if options[section] is None and section != "cuda_graph_config":
            options[section] = {}
    if options["max_beam_width"] != 1:
        ignored.append(as_typed("max_beam_width", options["max_beam_width"]))
    if options["backend"] not in (None, "pytorch") if "backend" in options else False:
        raise _invalid("backend", f"{options['backend']} is not supported by the twin")
    return options


def _file(path: str | None) -> dict[str, Any]:
    """Of a path, or of `<(echo …)`, as a command line that is only shown has it."""
    if path is None:
        return {}
    try:
        inline = shlex.split(path[2:-1])[1:] if path.startswith("<(echo ") else None
        found = yaml.safe_load(inline[0] if inline else Path(path).read_text())
    except OSError as error:
        last = f"FileNotFoundError: [Errno {error.errno}] {error.strerror}: '{path}'"
        raise EngineExit(f"{USAGE}Invalid value for '--extra_llm_api_options': {last}", 2) from None
    except yaml.YAMLError as error:
        raise _invalid("extra_llm_api_options", str(error).splitlines()[0]) from None
    if not isinstance(found, dict | None):
        raise _invalid("extra_llm_api_options", "Input should be a valid dictionary")
    return found or {}


def _check(key: str, value: Any) -> None:
    """Checks the type of a YAML value, and the keys of a section."""
    if key in SECTIONS:
        if value is not None and not isinstance(value, dict):
            raise _invalid(key, "Input should be a valid dictionary")
        for name in value or {}:
            if name not in SECTIONS[key]:
                raise _invalid(
                    f"{key}.{name}", "Extra inputs are not permitted, or not supported by the twin"
                )
    elif key.startswith(("max_", "tensor_", "pipeline_", "moe_expert", "stream_")):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _invalid(key, "Input should be a positive integer")
    elif key.startswith(("enable_", "disable_")) and not isinstance(value, bool):
        raise _invalid(key, "Input should be a valid boolean")


def _invalid(field: str, reason: str) -> EngineExit:
    last = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for TorchLlmArgs\n"
        f"{field}\n  {reason} [type=value_error]"
    )
    return EngineExit(traceback(last, ("serve", "launch_server", "__init__")), 1)


def _graphs(config: dict[str, Any] | None) -> int:
    """The largest decode batch with a CUDA graph; None, the YAML's null, turns graphs off."""
    if config is None:
        return 0
    sizes = config.get("batch_sizes")
    return int(max(sizes) if sizes else config.get("max_batch_size") or GRAPHS)


def _drafts(config: dict[str, Any]) -> int:
    return int(config.get("max_draft_len") or config.get("num_nextn_predict_layers") or 0)
