"""SGLang's face. Its lines, names and complaints were read in 0.5.23's sources."""

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


class SgLangFace(Face):
    twin_of: ClassVar[str] = "0.5.14"
    health: ClassVar[frozenset[str]] = frozenset({"/health", "/health_generate"})

    def log(self, facts: Facts) -> Sequence[tuple[float, str]]:
        setup = facts.setup
        lines = [
            (0.0, _line(f"server_args=ServerArgs(model_path='{setup.model}') {self.version}")),
            (0.1, _line("Load weight begin.", " TP0")),
            (
                0.6,
                _line(
                    f"Load weight end. elapsed={0.5 * facts.start_s:.2f} s, "
                    f"mem usage={facts.weights_gib:.2f} GB.",
                    " TP0",
                ),
            ),
            (0.7, _line(f"KV Cache is allocated. #tokens: {facts.kv_tokens}", " TP0")),
            (0.75, _line("Memory pool end.", " TP0")),
        ]
        if setup.graphs_upto:
            lines.append((0.8, _line("Capture cuda graph begin.", " TP0")))
            text = f"Capture cuda graph end. Time elapsed: {0.15 * facts.start_s:.2f} s."
            lines.append((0.95, _line(text, " TP0")))
        text = (
            f"max_total_num_tokens={facts.kv_tokens}, chunked_prefill_size="
            f"{setup.step_tokens if setup.chunked else -1}, "
            f"max_running_requests={setup.max_sequences}, context_len={setup.context_tokens}"
        )
        return [*lines, (0.98, _line(text, " TP0"))]

    def ready(self, facts: Facts) -> Sequence[str]:
        url = f"http://{facts.setup.host}:{facts.setup.port}"
        return (
            _line("INFO:     Application startup complete."),
            _line(f"INFO:     Uvicorn running on {url} (Press CTRL+C to quit)"),
            _line("The server is fired up and ready to roll!"),
        )

    def noted(self, line: str) -> str:
        return _line(f"WARNING {line}")

    def died(self, setup: Setup, error: TwinOutOfMemory) -> str:
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

    def bad_flag(self, reason: str) -> str:
        return (
            f"usage: sglang serve --model-path MODEL_PATH [options]\nsglang serve: error: {reason}"
        )

    def page(self, path: str, facts: Facts, counts: Counts) -> Page | None:
        setup = facts.setup
        if path in ("/server_info", "/get_server_info"):
            told = {
                "version": self.version,
                "model_path": setup.model,
                "served_model_name": setup.served_model,
                "max_total_num_tokens": facts.kv_tokens,
                "max_running_requests": setup.max_sequences,
                "mem_fraction_static": setup.memory_fraction,
            }
            return Page(json.dumps(told).encode())
        if path in ("/model_info", "/get_model_info"):
            return Page(json.dumps({"model_path": setup.model, "is_generation": True}).encode())
        return Page(self._metrics(facts, counts), TEXT) if path == "/metrics" else None

    def _metrics(self, facts: Facts, counts: Counts) -> bytes:
        return prometheus(
            f'model_name="{facts.setup.served_model}"',
            [
                ("sglang:num_running_reqs", "gauge", counts.running, ""),
                ("sglang:num_queue_reqs", "gauge", counts.waiting, ""),
                ("sglang:num_used_tokens", "gauge", counts.usage * facts.kv_tokens, ""),
                ("sglang:token_usage", "gauge", counts.usage, ""),
                ("sglang:gen_throughput", "gauge", counts.tokens_s, ""),
                ("sglang:cache_hit_rate", "gauge", counts.hit_rate, ""),
                ("sglang:max_total_num_tokens", "gauge", facts.kv_tokens, ""),
                ("sglang:prompt_tokens_total", "counter", counts.prompt_tokens, ""),
                ("sglang:generation_tokens_total", "counter", counts.output_tokens, ""),
                ("sglang:cached_tokens_total", "counter", counts.cached_tokens, ""),
                ("sglang:num_requests_total", "counter", counts.finished, ""),
                ("sglang:num_retracted_requests_total", "counter", counts.preemptions, ""),
                ("sglang:num_aborted_requests_total", "counter", counts.aborted, ""),
            ],
        )

    def too_long(self, setup: Setup, prompt_tokens: int, output_tokens: int) -> str:
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

    def error(self, status: int, message: str, kind: str) -> bytes:
        inner = {"message": message, "type": kind, "param": None, "code": status}
        return json.dumps({"object": "error", **inner, "error": inner}).encode()


def _line(text: str, rank: str = "") -> str:
    return f"[{stamp('%Y-%m-%d %H:%M:%S')}{rank}] {text}"
