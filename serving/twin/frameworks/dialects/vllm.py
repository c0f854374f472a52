"""vLLM's log, pages and errors. Lines, metric names and messages are from the sources of 0.32."""

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

CORE = "(EngineCore_DP0 pid=0) "
HELP = "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."


class VllmDialect(Dialect):
    """vLLM 0.24."""

    twin_of: ClassVar[str] = "0.24.0"
    health: ClassVar[frozenset[str]] = frozenset({"/health", "/ping"})

    def startup_log(self, info: EngineInfo) -> Sequence[tuple[float, str]]:
        """Lines of the API server and of the engine core."""
        setup, start_s = info.setup, info.start_s
        many = info.kv_tokens / setup.context_tokens
        lines = [
            (0.0, _info("api_server", f"vLLM API server version {self.version}")),
            (0.05, CORE + _info("core", f"Initializing a V1 LLM engine ({self.version})")),
            (0.1, CORE + _info("gpu_model_runner", f"Starting to load model {setup.model}...")),
            (
                0.6,
                CORE
                + _info(
                    "gpu_model_runner",
                    f"Model loading took {info.weights_gib:.2f} GiB memory and "
                    f"{0.5 * start_s:.6f} seconds",
                ),
            ),
            (
                0.8,
                CORE
                + _info(
                    "kv_cache_utils",
                    f"GPU KV cache size: {info.kv_tokens:,} tokens, Maximum concurrency for "
                    f"{setup.context_tokens:,} tokens per request: {many:.2f}x",
                ),
            ),
        ]
        if setup.graphs_upto:
            text = f"Graph capturing finished in {0.15 * start_s:.0f} secs, took 0.00 GiB"
            lines.append((0.95, CORE + _info("gpu_model_runner", text)))
        return lines

    def ready_log(self, info: EngineInfo) -> Sequence[str]:
        """Lines of the API server."""
        url = f"http://{info.setup.host}:{info.setup.port}"
        server = "(APIServer pid=0) "
        return (
            server + _info("api_server", f"Starting vLLM server on {url}"),
            server + "INFO:     Waiting for application startup.",
            server + "INFO:     Application startup complete.",
        )

    def warning(self, line: str) -> str:
        """A line at level WARNING."""
        return f"WARNING {stamp('%m-%d %H:%M:%S')} [twin.py:1] {line}"

    def startup_oom(self, setup: Setup, error: TwinOutOfMemory) -> str:
        """torch's or vLLM's error in the engine core, and the API server's error that follows."""
        if error.kind == "weights":
            short = max(0.0, error.need_bytes - error.have_bytes) / GIB
            last = (
                f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {short:.2f} GiB. "
                f"GPU 0 has a total capacity of {error.have_bytes / GIB:.2f} GiB."
            )
        elif error.kind == "cache":
            last = (
                "ValueError: No available memory for the cache blocks. Try increasing "
                f"`gpu_memory_utilization` when initializing the engine. {HELP}"
            )
        else:
            last = (
                "ValueError: To serve at least one request with the model's max seq len "
                f"({setup.context_tokens}), ({error.need_bytes / GIB:.2f} GiB KV cache is needed, "
                "which is larger than the available KV cache memory "
                f"({error.have_bytes / GIB:.2f} GiB). Try increasing `gpu_memory_utilization` or "
                f"decreasing `max_model_len` when initializing the engine. {HELP}"
            )
        lines = traceback(last, ("run_engine_core", "_initialize_kv_caches")).splitlines()
        inner = [f"{CORE}ERROR {stamp('%m-%d %H:%M:%S')} [core.py:1] {line}" for line in lines]
        outer = traceback(
            "RuntimeError: Engine core initialization failed. See root cause above. "
            "Failed core proc(s): {}",
            ("run_server", "wait_for_engine_startup"),
        )
        return "\n".join([*inner, outer])

    def flag_error(self, reason: str) -> str:
        """argparse's message."""
        return f"usage: vllm serve [model_tag] [options]\nvllm serve: error: {reason}"

    def page(self, path: str, info: EngineInfo, counters: EngineCounters) -> Page | None:
        """`/version` and Prometheus' `/metrics`."""
        if path == "/version":
            return Page(json.dumps({"version": self.version}).encode())
        if path == "/metrics":
            return Page(self._metrics(info, counters), TEXT)
        return None

    def _metrics(self, info: EngineInfo, counters: EngineCounters) -> bytes:
        length = ',finished_reason="length"'
        return prometheus(
            f'engine="0",model_name="{info.setup.served_model}"',
            [
                ("vllm:num_requests_running", "gauge", counters.running, ""),
                ("vllm:num_requests_waiting", "gauge", counters.waiting, ""),
                ("vllm:kv_cache_usage_perc", "gauge", counters.usage, ""),
                ("vllm:prefix_cache_queries_total", "counter", counters.prompt_tokens, ""),
                ("vllm:prefix_cache_hits_total", "counter", counters.cached_tokens, ""),
                ("vllm:num_preemptions_total", "counter", counters.preemptions, ""),
                ("vllm:spec_decode_num_draft_tokens_total", "counter", counters.drafts, ""),
                (
                    "vllm:spec_decode_num_accepted_tokens_total",
                    "counter",
                    counters.accepted_drafts,
                    "",
                ),
                ("vllm:prompt_tokens_total", "counter", counters.prompt_tokens, ""),
                ("vllm:generation_tokens_total", "counter", counters.output_tokens, ""),
                ("vllm:request_success_total", "counter", counters.finished, length),
                (
                    "vllm:request_success_total",
                    "counter",
                    counters.aborted,
                    ',finished_reason="abort"',
                ),
            ],
        )

    def length_error(self, setup: Setup, prompt_tokens: int, output_tokens: int) -> str:
        """vLLM's message if prompt and output exceed the context."""
        if prompt_tokens + output_tokens <= setup.context_tokens:
            return ""
        head = f"This model's maximum context length is {setup.context_tokens} tokens. However, "
        if prompt_tokens >= setup.context_tokens:
            return (
                f"{head}your prompt contains {prompt_tokens} input tokens, which exceeds this limit "
                "even without any output tokens. Please reduce the length of the input prompt."
            )
        return (
            f"{head}you requested {output_tokens} output tokens and your prompt contains "
            f"{prompt_tokens} input tokens, for a total of {prompt_tokens + output_tokens} tokens. "
            "Please reduce the length of the input prompt or the number of requested output tokens."
        )

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        """OpenAI's error object."""
        inner = {"message": message, "type": kind, "param": None, "code": status}
        return json.dumps({"error": inner}).encode()


def _info(module: str, text: str) -> str:
    return f"INFO {stamp('%m-%d %H:%M:%S')} [{module}.py:1] {text}"
