"""Finds the steady part of a level, and over-saturation, from the times of its requests. Pure.

Arrays have one entry a request, in ns. An interval lasts from due to end, the end excluded.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]

_MSER_BATCH = 5  # requests
_MSER_BATCHES_MIN = 10
_TRANSIENT_DEVIATIONS = 3  # of the mean of its beginning
_BEGINNING = 4  # 1/4 of what would be cut
_CLIP_PERCENTILES = (2.5, 97.5)
_TRANSIENT_BATCH_DEVIATIONS = 2  # of a single batch
_TREND_BATCHES = 10
_TREND_T = 3.36  # Student's t with 8 degrees of freedom, two-sided 1 %
_TREND_SHARE = 0.1  # a change of less than this share of the mean is no trend
_FILLED_MIN = 20  # answers
_WALK_DEVIATIONS = 4
_GROWTH_SHARE = 0.05  # of the arrivals
_QUARTERS = 4


def share_with_at_least(
    count: int, begins_ns: Times, ends_ns: Times, start_ns: int, end_ns: int
) -> float:
    """The share of a window in which at least `count` requests were in flight."""
    begins = np.clip(begins_ns, start_ns, end_ns)
    ends = np.clip(ends_ns, start_ns, end_ns)
    times = np.concatenate((begins, ends))
    steps = np.concatenate((np.ones(len(begins), np.int64), -np.ones(len(ends), np.int64)))
    order = np.argsort(times, kind="stable")
    times, in_flight = times[order], np.cumsum(steps[order])
    lasting = np.diff(np.append(times, end_ns))
    return float(lasting[in_flight >= count].sum() / (end_ns - start_ns))


def in_flight_at(at_ns: int, begins_ns: Times, ends_ns: Times) -> int:
    """The number of requests in flight, queued ones included."""
    return int(np.count_nonzero((begins_ns <= at_ns) & (ends_ns > at_ns)))


def keeping_up_share(begins_ns: Times, ends_ns: Times, start_ns: int, end_ns: int) -> float:
    """1 - growth of the requests in flight over the window / arrivals in it; within 0 to 1."""
    arrivals = np.count_nonzero((begins_ns >= start_ns) & (begins_ns < end_ns))
    if not arrivals:
        return 1.0
    before = in_flight_at(start_ns, begins_ns, ends_ns)
    growth = in_flight_at(end_ns, begins_ns, ends_ns) - before
    return float(min(1.0, max(0.0, 1 - growth / arrivals)))


def queue_grew(begins_ns: Times, ends_ns: Times, start_ns: int, end_ns: int) -> bool:
    """Whether the growth of the queue is significant: above three deviations of a Poisson count."""
    before = in_flight_at(start_ns, begins_ns, ends_ns)
    after = in_flight_at(end_ns, begins_ns, ends_ns)
    share = keeping_up_share(begins_ns, ends_ns, start_ns, end_ns)
    return share < 0.9 and after - before > 3 * max(before, 1) ** 0.5 + 1


@dataclass(frozen=True, slots=True)
class SteadyWindow:
    """The window; `unsettled` says what had not reached a steady state in it, empty if all had.

    `filling`: some user was still waiting for the first answer.
    """

    start_ns: int
    end_ns: int
    unsettled: str = ""
    filling: bool = False


def find_steady_window(
    begins_ns: Times,
    ends_ns: Times,
    first_ns: Times,
    span_ns: tuple[int, int],
    earliest_ns: int,
    concurrency: int | None,
) -> SteadyWindow:
    """The steady part of a level.

    `begins_ns`, `ends_ns`, `first_ns`: when each request was due, ended and had its first token; 0 is
    not yet. `span_ns`: begin of the level and now. `concurrency`: users who are always busy, or None.

    The window begins when each user has had an answer (until then the queue is filling, where users
    exceed the server's slots) and MSER (White, 1997) cuts no more from the series of latencies and
    times to first token, but not before `earliest_ns`. It ends when the first user stops. At most half
    of the run is cut; what is not steady by then is reported as `unsettled`.
    """
    begin_ns, until_ns = span_ns
    start_ns, end_ns = earliest_ns, until_ns
    filled_ns = 0
    if concurrency is not None:
        filled_ns = _first_round_ns(begins_ns, ends_ns, concurrency, until_ns)
        busy = _all_busy(begins_ns, ends_ns, concurrency, until_ns)
        start_ns, end_ns = max(start_ns, busy[0]), min(end_ns, busy[1])
    done = np.flatnonzero((ends_ns > 0) & (first_ns > 0) & (ends_ns <= end_ns))
    done = done[np.argsort(ends_ns[done], kind="stable")]
    ends, latency = ends_ns[done], (ends_ns - begins_ns)[done]
    settled_ns = [_mser_ns(ends, latency), _mser_ns(ends, (first_ns - begins_ns)[done])]
    latest_ns = max(start_ns, begin_ns + (end_ns - begin_ns) // 2)
    start_ns = min(max([start_ns, filled_ns, *settled_ns]), latest_ns)
    end_ns = max(end_ns, start_ns + 1)
    if filled_ns > start_ns:
        return SteadyWindow(
            start_ns, end_ns, "some users were still waiting for their first answer", True
        )
    inside = ends >= start_ns
    return SteadyWindow(start_ns, end_ns, _trend(ends[inside], latency[inside], start_ns, end_ns))


def _first_round_ns(begins_ns: Times, ends_ns: Times, users: int, until_ns: int) -> int:
    """When each user's first request had ended; `until_ns` if one has not."""
    if len(begins_ns) < users:
        return until_ns
    # A user's next request is due at the end of an earlier one: the earliest ones are the first.
    ends = ends_ns[np.argsort(begins_ns, kind="stable")[:users]]
    return int(ends.max()) if ends.min() > 0 else until_ns


def _all_busy(begins_ns: Times, ends_ns: Times, count: int, until_ns: int) -> tuple[int, int]:
    """The first and last moment with `count` requests in flight; `until_ns` twice if there was none."""
    times = np.concatenate((begins_ns, np.where(ends_ns > 0, ends_ns, until_ns)))
    steps = np.repeat(np.array([1, -1]), len(begins_ns))
    # At equal times the next request of a user begins before the previous one ends.
    order = np.lexsort((-steps, times))
    busy = np.flatnonzero(np.cumsum(steps[order]) >= count)
    if not len(busy):
        return until_ns, until_ns
    last = min(int(busy[-1]) + 1, len(times) - 1)
    return int(times[order[busy[0]]]), int(times[order[last]])


def _mser_ns(ends_ns: Times, values: Times) -> int:
    """The end of the transient by MSER: the cut with the least standard error of the rest. 0: no cut.

    Batches are 5 requests, or 1 % of the run where that is more. At most half is cut, and nothing
    where the beginning does not differ from the rest.
    """
    size = max(_MSER_BATCH, len(values) // 100)
    batches = len(values) // size
    if batches < _MSER_BATCHES_MIN:
        return 0
    # A stall of the server is no transient: outliers are clipped to the range of the later half.
    values = np.clip(values, *np.percentile(values[len(values) // 2 :], _CLIP_PERCENTILES))
    means = values[: batches * size].reshape(batches, size).mean(axis=1)
    left = np.arange(batches, 0, -1)
    sums = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means**2)[::-1])[::-1]
    scores = (squares - sums**2 / left) / left**2
    cut = int(np.argmin(scores[: batches // 2 + 1]))
    if not cut or not _transient(means[:cut], means[cut:]):
        return 0
    return int(ends_ns[cut * size - 1])


def _transient(cut: NDArray[np.float64], rest: NDArray[np.float64]) -> bool:
    """Whether the cut part is a transient: on short series MSER alone tends to cut where there is none.

    The mean of its beginning differs from the rest significantly, and half of its batches by more than
    two deviations of a batch. A stall fails this: most of what would be cut with it is like the rest.
    """
    beginning = cut[: -(-len(cut) // _BEGINNING)]
    level, deviation = float(rest.mean()), float(rest.std(ddof=1))
    threshold = _TRANSIENT_DEVIATIONS * deviation * (1 / len(beginning) + 1 / len(rest)) ** 0.5
    median = float(np.median(cut))
    return (
        abs(float(beginning.mean()) - level) > threshold
        and abs(median - level) > _TRANSIENT_BATCH_DEVIATIONS * deviation
    )


def _trend(ends_ns: Times, latency_ns: Times, start_ns: int, end_ns: int) -> str:
    """Which of latency and throughput drifts inside the window: "latency still drifting", or empty."""
    if len(ends_ns) < _TREND_BATCHES * 5:
        return ""
    means = np.array([part.mean() for part in np.array_split(latency_ns, _TREND_BATCHES)])
    counts, _ = np.histogram(ends_ns, np.linspace(start_ns, end_ns, _TREND_BATCHES + 1))
    drifting = [
        name
        for name, series in (("latency", means), ("throughput", counts.astype(float)))
        if _drifts(series)
    ]
    return f"{' and '.join(drifting)} still drifting" if drifting else ""


def _drifts(series: NDArray[np.float64]) -> bool:
    """Whether a linear fit has a slope that is significant and large enough to matter."""
    n = len(series)
    x = np.arange(n) - (n - 1) / 2
    slope = float((x * series).sum() / (x * x).sum())
    rest = series - series.mean() - slope * x
    spread = (float((rest**2).sum()) / (n - 2) / float((x * x).sum())) ** 0.5
    matters = abs(slope) * n > _TREND_SHARE * abs(float(series.mean()))
    return matters and abs(slope) > _TREND_T * spread


def oversaturated(begins_ns: Times, ends_ns: Times, span_ns: tuple[int, int]) -> bool:
    """Whether an open loop's arrivals outrun the answers, over the second half of the run.

    The requests in flight grew there by more than four deviations of a random walk of as many steps,
    the most that a server just able to keep up shows, and by more than 5 % of the arrivals. False
    while the server is still filling (less than twice the latency of the first requests), and in a
    stall (a quarter without answers), which may end.
    """
    begin_ns, now_ns = span_ns
    half_ns = begin_ns + (now_ns - begin_ns) // 2
    ended = np.sort(ends_ns[ends_ns > 0])
    if len(ended) < _FILLED_MIN:
        return False
    early = np.argsort(begins_ns[ends_ns > 0], kind="stable")[:_FILLED_MIN]
    first = (ends_ns[ends_ns > 0] - begins_ns[ends_ns > 0])[early]
    if half_ns - begin_ns < 2 * float(np.median(first)):
        return False
    arrived = int(np.count_nonzero((begins_ns >= half_ns) & (begins_ns < now_ns)))
    growth = arrived - int(np.count_nonzero((ended >= half_ns) & (ended < now_ns)))
    answered, _ = np.histogram(ended, np.linspace(half_ns, now_ns, _QUARTERS + 1))
    if not answered.all():
        return False
    walk = _WALK_DEVIATIONS * (2 * arrived) ** 0.5
    return growth > walk and growth > _GROWTH_SHARE * arrived
