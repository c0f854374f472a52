"""TensorRT-LLM's face. Its names and complaints were read in its main branch between 1.2 and 1.3."""

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


class TrtLlmFace(Face):
    twin_of: ClassVar[str] = "1.3.0rc20"

    def log(self, facts: Facts) -> Sequence[tuple[float, str]]:
        setup = facts.setup
        lines = [
            (0.0, f"[TensorRT-LLM] TensorRT-LLM version: {self.version}"),
            (0.05, _line("I", f"Using LLM with PyTorch backend: {setup.model}")),
            (0.1, _line("I", "Prefetching checkpoint files.")),
            (
                0.6,
                _line("I", f"Loading weights took {facts.weights_gib:.2f} GiB in "
                f"{0.5 * facts.start_s:.2f}s"),
            ),
            (
                0.75,
                _line("I", f"Max KV cache pages per sequence: "
                f"{-(-setup.context_tokens // setup.block_tokens)}; max tokens in paged KV cache: "
                f"{facts.kv_tokens}"),
            ),
        ]  # fmt: skip
        if setup.graphs_upto:
            text = f"Running CUDA graph warmup for batch size={setup.graphs_upto}"
            lines.append((0.9, _line("I", text)))
        return lines

    def ready(self, facts: Facts) -> Sequence[str]:
        url = f"http://{facts.setup.host}:{facts.setup.port}"
        return (
            "INFO:     Waiting for application startup.",
            "INFO:     Application startup complete.",
            f"INFO:     Uvicorn running on {url} (Press CTRL+C to quit)",
        )

    def noted(self, line: str) -> str:
        return _line("W", line)

    def died(self, setup: Setup, error: TwinOutOfMemory) -> str:
        what = "Model" if error.kind == "weights" else "KV cache"
        knob = "kv_cache_config.free_gpu_memory_fraction, max_num_tokens or max_batch_size"
        told = (
            "Executor creation failed due to insufficient GPU memory.\n\n"
            f"The following component could not be created: {what}\n"
            f"Total GPU memory (GiB): {error.have_bytes / GIB:.2f}, needed: "
            f"{error.need_bytes / GIB:.2f}\n"
            f"Please refer to the TensorRT-LLM documentation for information on how to control the "
            f"memory usage through {knob}."
        )
        frames = ("launch_server", "worker_main", "create_py_executor")
        return _line("E", f"Failed to initialize executor on rank 0: {told}") + "\n" + traceback(
            f"RuntimeError: {told}", frames
        )  # fmt: skip

    def bad_flag(self, reason: str) -> str:
        prog = "trtllm-serve serve"
        return (
            f"Usage: {prog} [OPTIONS] MODEL\nTry '{prog} --help' for help.\n\n"
            f"Error: Invalid value: {reason}"
        )

    def page(self, path: str, facts: Facts, counts: Counts) -> Page | None:
        if path == "/version":
            return Page(json.dumps({"version": self.version}).encode())
        if path == "/metrics":  # JSON here: statistics of iterations
            return Page(json.dumps([_iteration(facts, counts)] if counts.steps else []).encode())
        if path == "/prometheus/metrics":
            return Page(self._metrics(facts, counts), TEXT)
        return None

    def _metrics(self, facts: Facts, counts: Counts) -> bytes:
        reason = ',finished_reason="length"'
        return prometheus(
            f'engine_type="trtllm",model_name="{facts.setup.served_model}"',
            [
                ("trtllm_request_success_total", "counter", counts.finished, reason),
                ("trtllm_prompt_tokens_total", "counter", counts.prompt_tokens, ""),
                ("trtllm_generation_tokens_total", "counter", counts.output_tokens, ""),
                ("trtllm_prompt_cached_tokens_total", "counter", counts.cached_tokens, ""),
                ("trtllm_kv_cache_hit_rate", "gauge", counts.hit_rate, ""),
                ("trtllm_kv_cache_utilization", "gauge", counts.usage, ""),
                ("trtllm_num_requests_running", "gauge", counts.running, ""),
                ("trtllm_num_requests_waiting", "gauge", counts.waiting, ""),
                ("trtllm_kv_cache_used_blocks", "gauge", counts.used_blocks, ""),
                ("trtllm_kv_cache_max_blocks", "gauge", counts.total_blocks, ""),
            ],
        )

    def too_long(self, setup: Setup, prompt_tokens: int, output_tokens: int) -> str:
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

    def error(self, status: int, message: str, kind: str) -> bytes:
        told = {"object": "error", "message": message, "type": kind, "param": None, "code": status}
        return json.dumps({**told, "error": told}).encode()


def _iteration(facts: Facts, counts: Counts) -> dict[str, object]:
    return {
        "iter": counts.steps,
        "numActiveRequests": counts.running,
        "numQueuedRequests": counts.waiting,
        "numCompletedRequests": counts.finished,
        "maxNumActiveRequests": facts.setup.max_sequences,
        "kvCacheStats": {
            "maxNumBlocks": counts.total_blocks,
            "freeNumBlocks": counts.total_blocks - counts.used_blocks,
            "usedNumBlocks": counts.used_blocks,
            "tokensPerBlock": facts.setup.block_tokens,
            "cacheHitRate": counts.hit_rate,
        },
    }


def _line(level: str, text: str) -> str:
    return f"[{stamp('%m/%d/%Y-%H:%M:%S')}] [TRT-LLM] [{level}] {text}"
