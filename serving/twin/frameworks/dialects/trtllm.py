"""TensorRT-LLM's log, pages and errors. Names and messages are from its main branch between 1.2 and 1.3."""

import json
from collections.abc import Sequence
from typing import ClassVar

from serving.twin.errors import TwinOutOfMemory
from serving.twin.frameworks.dialects.base import (
    GIB,
    TEXT,
    Dialect,
    EngineCounters,
    EngineInfo,
    Page,
    prometheus,
    stamp,
)
from serving.twin.frameworks.flags.base import traceback
from serving.twin.setup import Setup


class TrtLlmDialect(Dialect):
    """TensorRT-LLM 1.3.0rc20."""

    twin_of: ClassVar[str] = "1.3.0rc20"

    def startup_log(self, info: EngineInfo) -> Sequence[tuple[float, str]]:
        """Lines of the executor."""
        setup = info.setup
        lines = [
            (0.0, f"[TensorRT-LLM] TensorRT-LLM version: {self.version}"),
            (0.05, _line("I", f"Using LLM with PyTorch backend: {setup.model}")),
            (0.1, _line("I", "Prefetching checkpoint files.")),
            (
                0.6,
                _line("I", f"Loading weights took {info.weights_gib:.2f} GiB in "
                f"{0.5 * info.start_s:.2f}s"),
            ),
            (
                0.75,
                _line("I", f"Max KV cache pages per sequence: "
                f"{-(-setup.context_tokens // setup.block_tokens)}; max tokens in paged KV cache: "
                f"{info.kv_tokens}"),
            ),
        ]  # fmt: skip
        if setup.graphs_upto:
            text = f"Running CUDA graph warmup for batch size={setup.graphs_upto}"
            lines.append((0.9, _line("I", text)))
        return lines

    def ready_log(self, info: EngineInfo) -> Sequence[str]:
        """Lines of the server."""
        url = f"http://{info.setup.host}:{info.setup.port}"
        return (
            "INFO:     Waiting for application startup.",
            "INFO:     Application startup complete.",
            f"INFO:     Uvicorn running on {url} (Press CTRL+C to quit)",
        )

    def warning(self, line: str) -> str:
        """A line at level W."""
        return _line("W", line)

    def startup_oom(self, setup: Setup, error: TwinOutOfMemory) -> str:
        """The executor's error by component."""
        what = "Model" if error.kind == "weights" else "KV cache"
        knob = "kv_cache_config.free_gpu_memory_fraction, max_num_tokens or max_batch_size"
        reason = (
            "Executor creation failed due to insufficient GPU memory.\n\n"
            f"The following component could not be created: {what}\n"
            f"Total GPU memory (GiB): {error.have_bytes / GIB:.2f}, needed: "
            f"{error.need_bytes / GIB:.2f}\n"
            f"Please refer to the TensorRT-LLM documentation for information on how to control the "
            f"memory usage through {knob}."
        )
        frames = ("launch_server", "worker_main", "create_py_executor")
        return _line("E", f"Failed to initialize executor on rank 0: {reason}") + "\n" + traceback(
            f"RuntimeError: {reason}", frames
        )  # fmt: skip

    def flag_error(self, reason: str) -> str:
        """click's message."""
        prog = "trtllm-serve serve"
        return (
            f"Usage: {prog} [OPTIONS] MODEL\nTry '{prog} --help' for help.\n\n"
            f"Error: Invalid value: {reason}"
        )

    def page(self, path: str, info: EngineInfo, counters: EngineCounters) -> Page | None:
        """`/version`, iteration statistics as JSON on `/metrics`, Prometheus' text on `/prometheus/metrics`."""
        if path == "/version":
            return Page(json.dumps({"version": self.version}).encode())
        if path == "/metrics":  # JSON here: statistics of iterations
            return Page(json.dumps([_iteration(info, counters)] if counters.steps else []).encode())
        if path == "/prometheus/metrics":
            return Page(self._metrics(info, counters), TEXT)
        return None

    def _metrics(self, info: EngineInfo, counters: EngineCounters) -> bytes:
        reason = ',finished_reason="length"'
        return prometheus(
            f'engine_type="trtllm",model_name="{info.setup.served_model}"',
            [
                ("trtllm_request_success_total", "counter", counters.finished, reason),
                ("trtllm_prompt_tokens_total", "counter", counters.prompt_tokens, ""),
                ("trtllm_generation_tokens_total", "counter", counters.output_tokens, ""),
                ("trtllm_prompt_cached_tokens_total", "counter", counters.cached_tokens, ""),
                ("trtllm_kv_cache_hit_rate", "gauge", counters.hit_rate, ""),
                ("trtllm_kv_cache_utilization", "gauge", counters.usage, ""),
                ("trtllm_num_requests_running", "gauge", counters.running, ""),
                ("trtllm_num_requests_waiting", "gauge", counters.waiting, ""),
                ("trtllm_spec_decode_num_draft_tokens_total", "counter", counters.drafts, ""),
                (
                    "trtllm_spec_decode_num_accepted_tokens_total",
                    "counter",
                    counters.accepted_drafts,
                    "",
                ),
                ("trtllm_kv_cache_used_blocks", "gauge", counters.used_blocks, ""),
                ("trtllm_kv_cache_max_blocks", "gauge", counters.total_blocks, ""),
            ],
        )

    def length_error(self, setup: Setup, prompt_tokens: int, output_tokens: int) -> str:
        """TensorRT-LLM's message if prompt and output exceed the sequence length."""
        if prompt_tokens + output_tokens > setup.context_tokens:
            return (
                f"The sum of prompt length ({prompt_tokens}), query length (0) and max_tokens "
                f"({output_tokens}) should not exceed max_seq_len ({setup.context_tokens})"
            )
        if not setup.chunked and prompt_tokens > setup.step_tokens:
            return (
                f"The sum of prompt length ({prompt_tokens}), query length (0) should not exceed "
                f"max_num_tokens ({setup.step_tokens})"
            )
        return ""

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        """OpenAI's error object, its fields also at the top level."""
        inner = {"object": "error", "message": message, "type": kind, "param": None, "code": status}
        return json.dumps({**inner, "error": inner}).encode()


def _iteration(info: EngineInfo, counters: EngineCounters) -> dict[str, object]:
    return {
        "iter": counters.steps,
        "numActiveRequests": counters.running,
        "numQueuedRequests": counters.waiting,
        "numCompletedRequests": counters.finished,
        "maxNumActiveRequests": info.setup.max_sequences,
        "kvCacheStats": {
            "maxNumBlocks": counters.total_blocks,
            "freeNumBlocks": counters.total_blocks - counters.used_blocks,
            "usedNumBlocks": counters.used_blocks,
            "tokensPerBlock": info.setup.block_tokens,
            "cacheHitRate": counters.hit_rate,
        },
    }


def _line(level: str, text: str) -> str:
    return f"[{stamp('%m/%d/%Y-%H:%M:%S')}] [TRT-LLM] [{level}] {text}"
