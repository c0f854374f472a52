"""What a load leaves behind: levels, each with its window and its records."""

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
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """How well this client kept time inside the window: the error bar of all it says.

    Lateness is from the moment when a request could go out (due, and a place free) to its sending.
    """

    lateness_ns: NDArray[np.int64]
    loop_lag_ns: NDArray[np.int64]
    cpu_share: float  # of one core: that of the busiest shard
    resent: int  # requests sent again since their idle connection turned out to be dead
    connected: int  # connections opened only when a request was due
    shards: int = 1
    clock_uncertainty_ns: int = 0  # of the shard whose clock is known least; 0 on one machine


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """`window_share` is the share of the level's time that was measured.

    `verdict` says why the level ended if not as planned: "over-saturated", "time limit". `unsettled`
    names what had not settled inside the window.
    """

    index: int
    load: str  # "closed 8" or "poisson 2.5/s"
    concurrency: int | None
    rate_per_s: float | None
    window: Window
    warmup_s: float
    drain_s: float
    records: Records  # all of the level: warm-up and drain too
    client: Client
    asked_input_tokens: int | None  # None where the length can only be aimed at, or varies
    asked_output_tokens: int | None
    stopped: bool = False  # ended before its time
    window_share: float = 1.0
    verdict: str = ""
    unsettled: str = ""
    always_busy: bool = True  # closed: users never think, so that all of them are always waiting
    reused_prompts: int = 0  # requests whose prompt was sent before: the data set was too small

    @property
    def load_value(self) -> float | None:
        """Users, or requests per second; None where the rate changes inside the level."""
        return self.rate_per_s if self.concurrency is None else float(self.concurrency)


@dataclass(frozen=True, slots=True, eq=False)
class LoadReport:
    """Levels in the order in which they were measured.

    `failure` is what ended the load after the levels that are here; `ended_because` says why whoever
    asked for the load wanted no more of it.
    """

    levels: tuple[Level, ...]
    clock: ClockAnchor
    stopped: bool = False
    failure: LoadError | None = None
    ended_because: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    level: int
    levels: int
    load: str
    phase: Literal["warmup", "measure", "drain"]
    completed: int
    elapsed_s: float  # of this level
    expected_s: float
