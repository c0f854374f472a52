"""What a load leaves behind: levels, each with its window and its records."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import ClockAnchor
from loadgen.records import Records


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
    """How well this client kept time: the error bar of all it says.

    Lateness is from the moment when a request could go out (due, and a place free) to its sending.
    """

    lateness_ns: NDArray[np.int64]
    loop_lag_ns: NDArray[np.int64]
    cpu_share: float  # of one core, over the window
    resent: int  # requests sent again since their idle connection turned out to be dead
    connected: int  # connections opened only when a request was due


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    index: int
    load: str  # "closed 8" or "poisson 2.5/s"
    concurrency: int | None
    rate_per_s: float | None
    window: Window
    warmup_s: float
    drain_s: float
    records: Records  # all of the level: warm-up and drain too
    client: Client
    asked_input_tokens: int | None  # None where the length can only be aimed at
    asked_output_tokens: int | None
    stopped: bool = False  # ended before its time


@dataclass(frozen=True, slots=True, eq=False)
class LoadReport:
    levels: tuple[Level, ...]
    clock: ClockAnchor
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    level: int
    levels: int
    load: str
    phase: Literal["warmup", "measure"]
    completed: int
    elapsed_s: float  # of this level
    expected_s: float
