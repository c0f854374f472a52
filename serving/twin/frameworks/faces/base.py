"""What a face shows: lines at the start, pages to those who ask, complaints to those who err."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from serving.twin.engine.assemble import TwinOutOfMemory
from serving.twin.engine.engine import DeviceMemoryExhausted
from serving.twin.frameworks.flags.base import traceback
from serving.twin.setup import Setup

GIB = 2**30
TEXT, JSON = "text/plain; version=0.0.4; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine knows of itself when it starts. `kv_tokens`: of one rank; `start_s`: how long
    its start takes; `weights_bytes`: of one GPU; `version`: of the table."""

    setup: Setup
    kv_tokens: int
    weights_bytes: float
    version: str
    start_s: float

    @property
    def weights_gib(self) -> float:
        return self.weights_bytes / GIB


@dataclass(frozen=True, slots=True)
class Counts:
    """A moment's gauges, and counters since the start. `usage`: share of the KV cache in use, 0 to 1;
    `tokens_s`: output tokens per second, lately."""

    running: int = 0
    waiting: int = 0
    usage: float = 0.0
    used_blocks: int = 0
    total_blocks: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    finished: int = 0
    aborted: int = 0
    steps: int = 0
    tokens_s: float = 0.0

    @property
    def hit_rate(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


@dataclass(frozen=True, slots=True)
class Page:
    body: bytes
    kind: str = JSON
    status: int = 200


class Face(ABC):
    """`health`: paths that answer 200 once requests are taken. `twin_of`: the version stood for."""

    twin_of: ClassVar[str]
    health: ClassVar[frozenset[str]] = frozenset({"/health"})
    default_output: ClassVar[int] = 16  # tokens of a completion that names no length

    @property
    def version(self) -> str:
        return f"twin of {self.twin_of}"

    @abstractmethod
    def log(self, facts: Facts) -> Sequence[tuple[float, str]]:
        """Lines until it listens, each with the share of the start that has passed."""

    @abstractmethod
    def ready(self, facts: Facts) -> Sequence[str]:
        """Lines once it listens."""

    @abstractmethod
    def noted(self, line: str) -> str:
        """A warning, as it would be logged."""

    @abstractmethod
    def died(self, setup: Setup, error: TwinOutOfMemory) -> str:
        """All that it says before it exits: memory is not enough."""

    def died_under_load(self, error: DeviceMemoryExhausted) -> str:
        """The same when a step finds no room."""
        need, free = error.need_bytes / GIB, error.have_bytes / GIB
        line = (
            f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {need:.2f} GiB. "
            f"GPU 0 has {free:.2f} GiB free."
        )
        return traceback(line, ("event_loop_overlap", "run_batch", "forward_extend"))

    @abstractmethod
    def bad_flag(self, reason: str) -> str:
        """How it complains of its command line."""

    @abstractmethod
    def page(self, path: str, facts: Facts, counts: Counts) -> Page | None:
        """What only this framework answers: its version, its metrics."""

    @abstractmethod
    def too_long(self, setup: Setup, prompt_tokens: int, output_tokens: int) -> str:
        """Why the context can't hold both; "" if it can."""

    @abstractmethod
    def error(self, status: int, message: str, kind: str) -> bytes:
        """The body of an error."""


def prometheus(labels: str, rows: Sequence[tuple[str, str, float, str]]) -> bytes:
    """`rows`: (name, gauge or counter, value, more labels)."""
    lines, seen = [], set()
    for name, kind, value, more in rows:
        if name not in seen:
            seen.add(name)
            lines += [f"# HELP {name} of the twin: modelled, not measured", f"# TYPE {name} {kind}"]
        lines.append(f"{name}{{{labels}{more}}} {value:.10g}")
    return ("\n".join(lines) + "\n").encode()


def stamp(form: str) -> str:
    return time.strftime(form)
