"""When a level ends, and which part of it is measured. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.control.live_stats import LiveStats
from loadgen.control.load_plan import Load
from loadgen.results.precision import (
    Interval,
    next_check_s,
    precise,
    rate_interval,
    series_interval,
)
from loadgen.results.stats import OVERSATURATED, TIME_LIMIT
from loadgen.results.steady_state import SteadyWindow, find_steady_window, oversaturated
from loadgen.workload.arrivals import Closed, Constant, Gamma, Poisson
from loadgen.workload.workload import Workload

STATIONARY = (Closed, Constant, Poisson, Gamma)
_PRECISE_CHECKS = 2  # in a row: a single one stops too often on a spread that is small by chance
Column = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a level. `verdict`: why it ended, if not as planned."""

    verdict: str
    drain: bool = True


def never_thinks(workload: Workload) -> bool:
    """Whether no conversation has a think time."""
    return not any(
        part.conversation and part.conversation.think_s for part in workload.mixture or (workload,)
    )


def window_of(
    workload: Workload,
    load: Load,
    span_ns: tuple[int, int],
    columns: tuple[Column, Column, Column],
) -> SteadyWindow:
    """The measured part of `span_ns`. `columns`: due, first output and end of every request.

    A load whose rate changes has no steady state: all of it after the warm-up is measured.
    """
    begin_ns, until_ns = span_ns
    due_ns, first_ns, end_ns = columns
    earliest_ns = min(begin_ns + int(workload.warmup_s * 1e9), until_ns - 1)
    if not isinstance(load.arrival, STATIONARY):
        return SteadyWindow(earliest_ns, until_ns)
    users = load.concurrency if never_thinks(workload) else None
    return find_steady_window(due_ns, end_ns, first_ns, span_ns, earliest_ns, users)


class StoppingRule:
    """Decides from live statistics when a level ends. Each check of precision raises the risk of stopping by
    chance, so it remembers the last one.
    """

    def __init__(self, workload: Workload, load: Load, begin_ns: int) -> None:
        self._workload = workload
        self._load = load
        self._begin_ns = begin_ns
        self._next_check_s = workload.level_s
        self._precise_checks = 0

    def ending(self, stats: LiveStats) -> Ending | None:
        """None: the level continues."""
        workload = self._workload
        elapsed_s = (stats.at_ns - self._begin_ns) / 1e9
        span_ns = (self._begin_ns, stats.at_ns)
        due_ns, end_ns = stats.intervals_ns
        open_loop = self._load.concurrency is None and isinstance(self._load.arrival, STATIONARY)
        if open_loop and oversaturated(due_ns, end_ns, span_ns):
            return Ending(OVERSATURATED, drain=False)
        if elapsed_s >= workload.warmup_s + workload.level_max_s:
            return Ending(TIME_LIMIT if self._wanted_more() else "")
        if workload.max_requests is not None or elapsed_s < workload.warmup_s + workload.level_s:
            return None
        if not isinstance(self._load.arrival, STATIONARY):
            return None  # the schedule ends it
        finished = stats.finished
        rest = np.zeros(len(due_ns) - len(finished), np.int64)
        first_ns = np.concatenate((finished[:, 1], rest))
        found = window_of(workload, self._load, span_ns, (due_ns, first_ns, end_ns))
        return Ending("") if self._enough(stats, found) else None

    def _wanted_more(self) -> bool:
        workload = self._workload
        return workload.precision is not None or bool(
            workload.min_requests or workload.max_requests
        )

    def _enough(self, stats: LiveStats, found: SteadyWindow) -> bool:
        workload = self._workload
        measured_s = (found.end_ns - found.start_ns) / 1e9
        finished = stats.finished
        answered = (finished[:, 2] >= found.start_ns) & (finished[:, 4] > 0)
        if found.filling or measured_s < workload.level_s:
            return False
        if np.count_nonzero(answered) < workload.min_requests:
            return False
        if workload.precision is None:
            return True
        if measured_s < self._next_check_s:
            return False
        self._next_check_s = next_check_s(measured_s)
        span_ns = found.start_ns, found.end_ns
        intervals = rough_intervals(finished[answered], stats.received, span_ns)
        self._precise_checks += (
            1 if precise(intervals, workload.precision) else -self._precise_checks
        )
        return self._precise_checks >= _PRECISE_CHECKS


def rough_intervals(
    finished: Column, received: Column, span_ns: tuple[int, int]
) -> list[Interval | None]:
    """Of throughput, TTFT and TPOT, from estimates: no reply was parsed yet."""
    in_order = finished[np.argsort(finished[:, 2], kind="stable")]
    due_ns, first_ns, end_ns, tokens = in_order[:, :4].T
    several = tokens > 1
    tpot = (end_ns - first_ns)[several] / (tokens[several] - 1)
    return [
        rate_interval(received[:, 0], received[:, 1].astype(np.float64), *span_ns),
        series_interval((first_ns - due_ns).astype(np.float64), "median"),
        series_interval(tpot, "median") if len(tpot) else Interval(0.0, 0.0, 0.0, 0),
    ]
