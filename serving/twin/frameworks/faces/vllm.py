"""vLLM's face. Its lines, names and complaints were read in 0.32's sources."""

import json
from collections.abc import Sequence
from typing import ClassVar

from serving.twin.engine.assemble import TwinOutOfMemory
from serving.twin.frameworks.faces.base import (
    GIB,
    TEXT,
    Counts,
    Face,
    Facts,
    Page,
    prometheus,
    stamp,
)
from serving.twin.frameworks.flags.base import traceback
from serving.twin.setup import Setup

CORE = "(EngineCore_DP0 pid=0) "
HELP = "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."


class VllmFace(Face):
    twin_of: ClassVar[str] = "0.24.0"
    health: ClassVar[frozenset[str]] = frozenset({"/health", "/ping"})

    def log(self, facts: Facts) -> Sequence[tuple[float, str]]:
        setup, start_s = facts.setup, facts.start_s
        many = facts.kv_tokens / setup.context_tokens
        lines = [
            (0.0, _info("api_server", f"vLLM API server version {self.version}")),
            (0.05, CORE + _info("core", f"Initializing a V1 LLM engine ({self.version})")),
            (0.1, CORE + _info("gpu_model_runner", f"Starting to load model {setup.model}...")),
            (
                0.6,
                CORE
                + _info(
                    "gpu_model_runner",
                    f"Model loading took {facts.weights_gib:.2f} GiB memory and "
                    f"{0.5 * start_s:.6f} seconds",
                ),
            ),
            (
                0.8,
                CORE
                + _info(
                    "kv_cache_utils",
                    f"GPU KV cache size: {facts.kv_tokens:,} tokens, Maximum concurrency for "
                    f"{setup.context_tokens:,} tokens per request: {many:.2f}x",
                ),
            ),
        ]
        if setup.graphs_upto:
            text = f"Graph capturing finished in {0.15 * start_s:.0f} secs, took 0.00 GiB"
            lines.append((0.95, CORE + _info("gpu_model_runner", text)))
        return lines

    def ready(self, facts: Facts) -> Sequence[str]:
        url = f"http://{facts.setup.host}:{facts.setup.port}"
        server = "(APIServer pid=0) "
        return (
            server + _info("api_server", f"Starting vLLM server on {url}"),
            server + "INFO:     Waiting for application startup.",
            server + "INFO:     Application startup complete.",
        )

    def noted(self, line: str) -> str:
        return f"WARNING {stamp('%m-%d %H:%M:%S')} [twin.py:1] {line}"

    def died(self, setup: Setup, error: TwinOutOfMemory) -> str:
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

    def bad_flag(self, reason: str) -> str:
        return f"usage: vllm serve [model_tag] [options]\nvllm serve: error: {reason}"

    def page(self, path: str, facts: Facts, counts: Counts) -> Page | None:
        if path == "/version":
            return Page(json.dumps({"version": self.version}).encode())
        if path == "/metrics":
            return Page(self._metrics(facts, counts), TEXT)
        return None

    def _metrics(self, facts: Facts, counts: Counts) -> bytes:
        length = ',finished_reason="length"'
        return prometheus(
            f'engine="0",model_name="{facts.setup.served_model}"',
            [
                ("vllm:num_requests_running", "gauge", counts.running, ""),
                ("vllm:num_requests_waiting", "gauge", counts.waiting, ""),
                ("vllm:kv_cache_usage_perc", "gauge", counts.usage, ""),
                ("vllm:prefix_cache_queries_total", "counter", counts.prompt_tokens, ""),
                ("vllm:prefix_cache_hits_total", "counter", counts.cached_tokens, ""),
                ("vllm:num_preemptions_total", "counter", counts.preemptions, ""),
                ("vllm:prompt_tokens_total", "counter", counts.prompt_tokens, ""),
                ("vllm:generation_tokens_total", "counter", counts.output_tokens, ""),
                ("vllm:request_success_total", "counter", counts.finished, length),
                (
                    "vllm:request_success_total",
                    "counter",
                    counts.aborted,
                    ',finished_reason="abort"',
                ),
            ],
        )

    def too_long(self, setup: Setup, prompt_tokens: int, output_tokens: int) -> str:
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

    def error(self, status: int, message: str, kind: str) -> bytes:
        inner = {"message": message, "type": kind, "param": None, "code": status}
        return json.dumps({"error": inner}).encode()


def _info(module: str, text: str) -> str:
    return f"INFO {stamp('%m-%d %H:%M:%S')} [{module}.py:1] {text}"
