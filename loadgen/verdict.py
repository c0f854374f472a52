"""When a level has been long enough, and which part of it is measured. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.arrivals import Closed, Constant, Gamma, Poisson
from loadgen.feed import Feed
from loadgen.loads import Load
from loadgen.workload import Workload

STATIONARY = (Closed, Constant, Poisson, Gamma)
Column = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ending:
    """`verdict` is empty where a level ended as it was meant to."""

    verdict: str
    drain: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    start_ns: int
    end_ns: int
    trend: str = ""


def never_thinks(workload: Workload) -> bool:
    return not any(
        part.conversation and part.conversation.think_s for part in workload.mixture or (workload,)
    )


def window_of(
    workload: Workload,
    load: Load,
    span_ns: tuple[int, int],
    columns: tuple[Column, Column, Column, NDArray[np.bool_]],
) -> Found:
    begin_ns, close_ns = span_ns
    return Found(min(begin_ns + int(workload.warmup_s * 1e9), close_ns - 1), close_ns)


class Judge:
    def __init__(self, workload: Workload, load: Load, begin_ns: int) -> None:
        self._workload = workload
        self._load = load
        self._begin_ns = begin_ns

    def ending(self, feed: Feed) -> Ending | None:
        workload = self._workload
        elapsed_s = (feed.at_ns - self._begin_ns) / 1e9
        if elapsed_s > workload.warmup_s + workload.level_max_s:
            return Ending("time limit")
        if workload.max_requests is None and elapsed_s > workload.warmup_s + workload.level_s:
            return Ending("")
        return None
