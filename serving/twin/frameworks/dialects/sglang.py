"""SGLang's log, pages and errors. Lines, metric names and messages are from the sources of 0.5.23."""

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


class SgLangDialect(Dialect):
    """SGLang 0.5.14."""

    twin_of: ClassVar[str] = "0.5.14"
    health: ClassVar[frozenset[str]] = frozenset({"/health", "/health_generate"})

    def startup_log(self, info: EngineInfo) -> Sequence[tuple[float, str]]:
        """Lines of the server and of its first scheduler."""
        setup = info.setup
        lines = [
            (0.0, _line(f"server_args=ServerArgs(model_path='{setup.model}') {self.version}")),
            (0.1, _line("Load weight begin.", " TP0")),
            (
                0.6,
                _line(
                    f"Load weight end. elapsed={0.5 * info.start_s:.2f} s, "
                    f"mem usage={info.weights_gib:.2f} GB.",
                    " TP0",
                ),
            ),
            (0.7, _line(f"KV Cache is allocated. #tokens: {info.kv_tokens}", " TP0")),
            (0.75, _line("Memory pool end.", " TP0")),
        ]
        if setup.graphs_upto:
            lines.append((0.8, _line("Capture cuda graph begin.", " TP0")))
            text = f"Capture cuda graph end. Time elapsed: {0.15 * info.start_s:.2f} s."
            lines.append((0.95, _line(text, " TP0")))
        text = (
            f"max_total_num_tokens={info.kv_tokens}, chunked_prefill_size="
            f"{setup.step_tokens if setup.chunked else -1}, "
            f"max_running_requests={setup.max_sequences}, context_len={setup.context_tokens}"
        )
        return [*lines, (0.98, _line(text, " TP0"))]

    def ready_log(self, info: EngineInfo) -> Sequence[str]:
        """Lines of the server."""
        url = f"http://{info.setup.host}:{info.setup.port}"
        return (
            _line("INFO:     Application startup complete."),
            _line(f"INFO:     Uvicorn running on {url} (Press CTRL+C to quit)"),
            _line("The server is fired up and ready to roll!"),
        )

    def warning(self, line: str) -> str:
        """A line at level WARNING."""
        return _line(f"WARNING {line}")

    def startup_oom(self, setup: Setup, error: TwinOutOfMemory) -> str:
        """torch's or SGLang's error in the scheduler."""
        if error.kind == "weights":
            last = (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate "
                f"{max(0.0, error.need_bytes - error.have_bytes) / GIB:.2f} GiB."
            )
        else:
            last = (
                "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. "
                f"Current value: mem_fraction_static={setup.memory_fraction}"
            )
        lines = traceback(last, ("run_scheduler_process", "init_memory_pool"))
        head, rest = lines.split("\n", 1)
        return _line(f"Scheduler hit an exception: {head}", " TP0") + f"\n{rest}"

    def flag_error(self, reason: str) -> str:
        """argparse's message."""
        return (
            f"usage: sglang serve --model-path MODEL_PATH [options]\nsglang serve: error: {reason}"
        )

    def page(self, path: str, info: EngineInfo, counters: EngineCounters) -> Page | None:
        """Server and model information, and Prometheus' `/metrics`."""
        setup = info.setup
        if path in ("/server_info", "/get_server_info"):
            body = {
                "version": self.version,
                "model_path": setup.model,
                "served_model_name": setup.served_model,
                "max_total_num_tokens": info.kv_tokens,
                "max_running_requests": setup.max_sequences,
                "mem_fraction_static": setup.memory_fraction,
            }
            return Page(json.dumps(body).encode())
        if path in ("/model_info", "/get_model_info"):
            return Page(json.dumps({"model_path": setup.model, "is_generation": True}).encode())
        return Page(self._metrics(info, counters), TEXT) if path == "/metrics" else None

    def _metrics(self, info: EngineInfo, counters: EngineCounters) -> bytes:
        return prometheus(
            f'model_name="{info.setup.served_model}"',
            [
                ("sglang:num_running_reqs", "gauge", counters.running, ""),
                ("sglang:num_queue_reqs", "gauge", counters.waiting, ""),
                ("sglang:num_used_tokens", "gauge", counters.usage * info.kv_tokens, ""),
                ("sglang:token_usage", "gauge", counters.usage, ""),
                ("sglang:gen_throughput", "gauge", counters.tokens_s, ""),
                ("sglang:cache_hit_rate", "gauge", counters.hit_rate, ""),
                ("sglang:max_total_num_tokens", "gauge", info.kv_tokens, ""),
                ("sglang:prompt_tokens_total", "counter", counters.prompt_tokens, ""),
                ("sglang:generation_tokens_total", "counter", counters.output_tokens, ""),
                ("sglang:cached_tokens_total", "counter", counters.cached_tokens, ""),
                ("sglang:num_requests_total", "counter", counters.finished, ""),
                ("sglang:num_retracted_requests_total", "counter", counters.preemptions, ""),
                ("sglang:spec_accept_rate", "gauge", counters.acceptance, ""),
                ("sglang:num_prefill_inflight_queue_reqs", "gauge", counters.prefill_queue, ""),
                ("sglang:num_decode_prealloc_queue_reqs", "gauge", counters.decode_queue, ""),
                ("sglang:num_aborted_requests_total", "counter", counters.aborted, ""),
            ],
        )

    def length_error(self, setup: Setup, prompt_tokens: int, output_tokens: int) -> str:
        """SGLang's message if prompt and output exceed the context."""
        total, most = prompt_tokens + output_tokens, setup.context_tokens
        if prompt_tokens >= most:
            return (
                f"The input ({prompt_tokens} tokens) is longer than the model's context length "
                f"({most} tokens)."
            )
        if total <= most:
            return ""
        return (
            f"Requested token count exceeds the model's maximum context length of {most} tokens. "
            f"You requested a total of {total} tokens: {prompt_tokens} tokens from the input messages "
            f"and {output_tokens} tokens for the completion. Please reduce the number of tokens in "
            "the input messages or the completion to fit within the limit."
        )

    def error_body(self, status: int, message: str, kind: str) -> bytes:
        """OpenAI's error object, its fields also at the top level."""
        inner = {"message": message, "type": kind, "param": None, "code": status}
        return json.dumps({"object": "error", **inner, "error": inner}).encode()


def _line(text: str, rank: str = "") -> str:
    return f"[{stamp('%Y-%m-%d %H:%M:%S')}{rank}] {text}"
