"""When a level has been long enough, and which part of it is measured. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.control.live_stats import Feed
from loadgen.control.load_plan import Load
from loadgen.results.precision import (
    Interval,
    next_check_s,
    precise,
    rate_interval,
    series_interval,
)
from loadgen.results.stats import OVERSATURATED, TIME_LIMIT
from loadgen.results.steady_state import Found, find_window, oversaturated
from loadgen.workload.arrivals import Closed, Constant, Gamma, Poisson
from loadgen.workload.workload import Workload

STATIONARY = (Closed, Constant, Poisson, Gamma)
_LOOKS = 2  # in a row that found all precise: one alone stops too often on a lucky spread
Column = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ending:
    """`verdict` is empty where a level ended as it was meant to."""

    verdict: str
    drain: bool = True


def never_thinks(workload: Workload) -> bool:
    return not any(
        part.conversation and part.conversation.think_s for part in workload.mixture or (workload,)
    )


def window_of(
    workload: Workload,
    load: Load,
    span_ns: tuple[int, int],
    columns: tuple[Column, Column, Column],
) -> Found:
    """`columns`: when requests were due, had their first token, and were over.

    Loads that change by their nature have no steady state: all of them but the warm-up is measured.
    """
    begin_ns, until_ns = span_ns
    due_ns, first_ns, end_ns = columns
    earliest_ns = min(begin_ns + int(workload.warmup_s * 1e9), until_ns - 1)
    if not isinstance(load.arrival, STATIONARY):
        return Found(earliest_ns, until_ns)
    users = load.concurrency if never_thinks(workload) else None
    return find_window(due_ns, end_ns, first_ns, span_ns, earliest_ns, users)


class Judge:
    """Looks at a level as it goes. Keeps when it looked last, since each look costs certainty."""

    def __init__(self, workload: Workload, load: Load, begin_ns: int) -> None:
        self._workload = workload
        self._load = load
        self._begin_ns = begin_ns
        self._next_look_s = workload.level_s
        self._precise_looks = 0

    def ending(self, feed: Feed) -> Ending | None:
        """None: go on."""
        workload = self._workload
        elapsed_s = (feed.at_ns - self._begin_ns) / 1e9
        span_ns = (self._begin_ns, feed.at_ns)
        due_ns, end_ns = feed.intervals_ns
        opened = self._load.concurrency is None and isinstance(self._load.arrival, STATIONARY)
        if opened and oversaturated(due_ns, end_ns, span_ns):
            return Ending(OVERSATURATED, drain=False)
        if elapsed_s >= workload.warmup_s + workload.level_max_s:
            return Ending(TIME_LIMIT if self._wanted_more() else "")
        if workload.max_requests is not None or elapsed_s < workload.warmup_s + workload.level_s:
            return None
        if not isinstance(self._load.arrival, STATIONARY):
            return None  # it ends with its schedule
        finished = feed.finished
        rest = np.zeros(len(due_ns) - len(finished), np.int64)
        first_ns = np.concatenate((finished[:, 1], rest))
        found = window_of(workload, self._load, span_ns, (due_ns, first_ns, end_ns))
        return Ending("") if self._enough(feed, found) else None

    def _wanted_more(self) -> bool:
        workload = self._workload
        return workload.precision is not None or bool(
            workload.min_requests or workload.max_requests
        )

    def _enough(self, feed: Feed, found: Found) -> bool:
        workload = self._workload
        measured_s = (found.end_ns - found.start_ns) / 1e9
        finished = feed.finished
        answered = (finished[:, 2] >= found.start_ns) & (finished[:, 4] > 0)
        if found.filling or measured_s < workload.level_s:
            return False
        if np.count_nonzero(answered) < workload.min_requests:
            return False
        if workload.precision is None:
            return True
        if measured_s < self._next_look_s:
            return False
        self._next_look_s = next_check_s(measured_s)
        ticks = feed.received
        known = rough_intervals(finished[answered], ticks, (found.start_ns, found.end_ns))
        self._precise_looks += 1 if precise(known, workload.precision) else -self._precise_looks
        return self._precise_looks >= _LOOKS


def rough_intervals(
    finished: Column, ticks: Column, span_ns: tuple[int, int]
) -> list[Interval | None]:
    """Of throughput, TTFT and TPOT; throughput in bytes, as no reply was read."""
    in_order = finished[np.argsort(finished[:, 2], kind="stable")]
    due_ns, first_ns, end_ns, tokens = in_order[:, :4].T
    several = tokens > 1
    tpot = (end_ns - first_ns)[several] / (tokens[several] - 1)
    return [
        rate_interval(ticks[:, 0], ticks[:, 1].astype(np.float64), *span_ns),
        series_interval((first_ns - due_ns).astype(np.float64), "median"),
        series_interval(tpot, "median") if len(tpot) else Interval(0.0, 0.0, 0.0, 0),
    ]
