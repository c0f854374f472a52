"""The result of a load: levels, each with its window and its records."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import ClockAnchor
from loadgen.errors import LoadError
from loadgen.results.records import Records


@dataclass(frozen=True, slots=True)
class Window:
    """The measured part of a level, after its warm-up and before its drain."""

    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """How accurately the client worked inside the window.

    Lateness: from when a request could be sent (due, and within the concurrency limit) to when it was.
    """

    lateness_ns: NDArray[np.int64]
    loop_lag_ns: NDArray[np.int64]
    cpu_share: float  # of one core; the busiest shard's
    resent: int  # requests sent again because the server had closed their idle connection
    connected: int  # connections opened only when a request was due
    missed: int = 0  # requests that were due in the window and never sent
    shards: int = 1
    clock_uncertainty_ns: int = 0  # largest among the shards; 0 on one machine


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One load level.

    `verdict`: why the level ended, if not as planned: "over-saturated", "time limit". `unsettled`: what
    had not reached a steady state in the window. `repeats`: the index of the level that this one measures
    again. `contradicted`: why it decides nothing, by the other levels.
    """

    index: int
    load: str  # "closed 8" or "poisson 2.5/s"
    concurrency: int | None
    rate_per_s: float | None
    window: Window
    records: Records  # of the whole level, warm-up and drain included
    client: Client
    asked_input_tokens: int | None  # None where the length varies or is not exact
    asked_output_tokens: int | None
    stopped: bool = False  # ended early by the caller
    window_share: float = 1.0  # of the level's time
    verdict: str = ""
    unsettled: str = ""
    always_busy: bool = True  # closed loop without think times: all users always wait for an answer
    reused_prompts: int = 0  # requests whose prompt was sent before, as the data set was too small
    asked_hit_share: float | None = None  # of prompt tokens, by a prefix cache; None: any
    template_tokens: int = 0  # that a chat template may add, the same to every prompt
    repeats: int | None = None
    contradicted: str = ""

    @property
    def load_value(self) -> float | None:
        """Users, or requests per second; None where the rate changes inside the level."""
        return self.rate_per_s if self.concurrency is None else float(self.concurrency)


@dataclass(frozen=True, slots=True, eq=False)
class LoadReport:
    """Levels in the order in which they were measured.

    `failure`: the error that ended the load after these levels. `ended_because`: why the caller ended
    it. `prompt_salt`: the one that its prompts were made with.
    """

    levels: tuple[Level, ...]
    clock: ClockAnchor
    stopped: bool = False
    failure: LoadError | None = None
    ended_because: str = ""
    prompt_salt: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a running load."""

    level: int
    levels: int
    load: str
    phase: Literal["warmup", "measure", "drain"]
    completed: int
    elapsed_s: float  # of this level
    expected_s: float
    silent_s: float = 0.0  # for which the endpoint has sent nothing while requests wait
