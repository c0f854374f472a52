"""The interface of a framework's log, HTTP pages and error messages."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from serving.twin.errors import DeviceMemoryExhausted, TwinOutOfMemory
from serving.twin.frameworks.flags.base import traceback
from serving.twin.setup import Setup

GIB = 2**30
TEXT, JSON = "text/plain; version=0.0.4; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine reports at its start.

    `kv_tokens`: KV cache of one rank; `weights_bytes`: of one GPU; `version`: of the step-time table;
    `start_s`: duration of the start.
    """

    setup: Setup
    kv_tokens: int
    weights_bytes: float
    version: str
    start_s: float

    @property
    def weights_gib(self) -> float:
        """Weights of one GPU in GiB."""
        return self.weights_bytes / GIB


@dataclass(frozen=True, slots=True)
class EngineCounters:
    """Gauges of now and counters since the start, for metrics pages.

    `usage`: share of the KV cache in use, 0 to 1; `tokens_s`: output tokens per second, recently. The queues
    are those of two pools.
    """

    running: int = 0
    waiting: int = 0
    usage: float = 0.0
    used_blocks: int = 0
    total_blocks: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    drafts: int = 0
    accepted_drafts: int = 0
    prefill_queue: int = 0
    decode_queue: int = 0
    finished: int = 0
    aborted: int = 0
    steps: int = 0
    tokens_s: float = 0.0

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens found in the prefix cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def acceptance(self) -> float:
        """Share of draft tokens that were accepted."""
        return self.accepted_drafts / self.drafts if self.drafts else 0.0


@dataclass(frozen=True, slots=True)
class Page:
    """An HTTP response; `kind`: its content type."""

    body: bytes
    kind: str = JSON
    status: int = 200


class Dialect(ABC):
    """One framework's words. Framework-specific text is as the real engine prints it.

    `twin_of`: the emulated version. `health`: paths that answer 200 once requests are accepted.
    `default_output`: output tokens of a completion without `max_tokens`.
    """

    twin_of: ClassVar[str]
    health: ClassVar[frozenset[str]] = frozenset({"/health"})
    default_output: ClassVar[int] = 16

    @property
    def version(self) -> str:
        """The version that the engine reports."""
        return f"twin of {self.twin_of}"

    @abstractmethod
    def startup_log(self, info: EngineInfo) -> Sequence[tuple[float, str]]:
        """Lines until the engine listens, each with the share of the start that has passed, 0 to 1."""

    @abstractmethod
    def ready_log(self, info: EngineInfo) -> Sequence[str]:
        """Lines once the engine listens."""

    @abstractmethod
    def warning(self, line: str) -> str:
        """A warning as a log line."""

    @abstractmethod
    def startup_oom(self, setup: Setup, error: TwinOutOfMemory) -> str:
        """The log of an engine that exits at its start for lack of memory."""

    def step_oom(self, error: DeviceMemoryExhausted) -> str:
        """The log of an engine that crashes because a step runs out of memory."""
        need, free = error.need_bytes / GIB, error.have_bytes / GIB
        line = (
            f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {need:.2f} GiB. "
            f"GPU 0 has {free:.2f} GiB free."
        )
        return traceback(line, ("event_loop_overlap", "run_batch", "forward_extend"))

    @abstractmethod
    def flag_error(self, reason: str) -> str:
        """The error about an invalid command line."""

    @abstractmethod
    def page(self, path: str, info: EngineInfo, counters: EngineCounters) -> Page | None:
        """Pages of this framework alone: version, metrics. None for other paths."""

    @abstractmethod
    def length_error(self, setup: Setup, prompt_tokens: int, output_tokens: int) -> str:
        """Why prompt and output together are rejected; empty if they fit."""

    @abstractmethod
    def error_body(self, status: int, message: str, kind: str) -> bytes:
        """The JSON body of an error response; `kind`: the error's type."""


def prometheus(labels: str, rows: Sequence[tuple[str, str, float, str]]) -> bytes:
    """Prometheus' text format. `rows`: (name, gauge or counter, value, further labels)."""
    lines, seen = [], set()
    for name, kind, value, more in rows:
        if name not in seen:
            seen.add(name)
            lines += [f"# HELP {name} of the twin: modelled, not measured", f"# TYPE {name} {kind}"]
        lines.append(f"{name}{{{labels}{more}}} {value:.10g}")
    return ("\n".join(lines) + "\n").encode()


def stamp(form: str) -> str:
    """The local time, as log lines have it."""
    return time.strftime(form)
