"""Was the load what it claims to be, all the window long? Pure arithmetic over intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]

_MSER_BATCH = 5
_MSER_BATCHES_MIN = 10
_TRANSIENT_DEVIATIONS = 3
_BEGINNING = 4  # the first quarter of what would be cut
_USUAL = (2.5, 97.5)  # percentiles
_UNLIKE = 2
_TREND_BATCHES = 10
_TREND_T = 3.36  # Student's t with 8 degrees of freedom, two-sided 1 %
_TREND_SHARE = 0.1
_FILLED_MIN = 20
_WALK_DEVIATIONS = 4
_GROWTH_SHARE = 0.05
_QUARTERS = 4


def share_with_at_least(
    count: int, begins_ns: Times, ends_ns: Times, start_ns: int, end_ns: int
) -> float:
    """The share of a window in which at least `count` of the half-open intervals were under way."""
    begins = np.clip(begins_ns, start_ns, end_ns)
    ends = np.clip(ends_ns, start_ns, end_ns)
    times = np.concatenate((begins, ends))
    steps = np.concatenate((np.ones(len(begins), np.int64), -np.ones(len(ends), np.int64)))
    order = np.argsort(times, kind="stable")
    times, under_way = times[order], np.cumsum(steps[order])
    lasting = np.diff(np.append(times, end_ns))
    return float(lasting[under_way >= count].sum() / (end_ns - start_ns))


def under_way_at(at_ns: int, begins_ns: Times, ends_ns: Times) -> int:
    return int(np.count_nonzero((begins_ns <= at_ns) & (ends_ns > at_ns)))


def keeping_up_share(begins_ns: Times, ends_ns: Times, start_ns: int, end_ns: int) -> float:
    """1 less the share of the window's arrivals by which those under way grew over the window."""
    arrivals = np.count_nonzero((begins_ns >= start_ns) & (begins_ns < end_ns))
    if not arrivals:
        return 1.0
    before = under_way_at(start_ns, begins_ns, ends_ns)
    growth = under_way_at(end_ns, begins_ns, ends_ns) - before
    return float(min(1.0, max(0.0, 1 - growth / arrivals)))


def grew(begins_ns: Times, ends_ns: Times, start_ns: int, end_ns: int) -> bool:
    """Whether the queue grew by more than chance lets it: three deviations of a Poisson count."""
    before = under_way_at(start_ns, begins_ns, ends_ns)
    after = under_way_at(end_ns, begins_ns, ends_ns)
    share = keeping_up_share(begins_ns, ends_ns, start_ns, end_ns)
    return share < 0.9 and after - before > 3 * max(before, 1) ** 0.5 + 1


@dataclass(frozen=True, slots=True)
class Found:
    """`unsettled` says what of the level had not settled when the window began; empty when all had.

    `filling`: some user still waited for the first answer.
    """

    start_ns: int
    end_ns: int
    unsettled: str = ""
    filling: bool = False


def find_window(
    begins_ns: Times,
    ends_ns: Times,
    first_ns: Times,
    span_ns: tuple[int, int],
    earliest_ns: int,
    concurrency: int | None,
) -> Found:
    """The part of a level in which it was in its steady state, as far as its data tell.

    `begins_ns`, `ends_ns`, `first_ns`: when each request was due, was over and had its first token;
    an end of 0 is still to come. `span_ns`: begin of the level and now. `concurrency`: users who are
    busy all the time, or None. It begins when each user has had an answer (until then the queue is
    still filling, where there are more users than places) and MSER (White, 1997) cuts no more from the
    series of latencies and of first tokens, but not before `earliest_ns`; it ends with the last moment
    at which all users were busy. Cuts are bounded by half of the run: what is not settled by then is
    said.
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
        return Found(start_ns, end_ns, "some users still waited for their first answer", True)
    inside = ends >= start_ns
    return Found(start_ns, end_ns, _trend(ends[inside], latency[inside], start_ns, end_ns))


def _first_round_ns(begins_ns: Times, ends_ns: Times, users: int, until_ns: int) -> int:
    """When the first request of the last user was over; now, if one is not yet."""
    if len(begins_ns) < users:
        return until_ns
    # A user's next request is due at the end of one before it: the earliest are the first ones.
    ends = ends_ns[np.argsort(begins_ns, kind="stable")[:users]]
    return int(ends.max()) if ends.min() > 0 else until_ns


def _all_busy(begins_ns: Times, ends_ns: Times, count: int, until_ns: int) -> tuple[int, int]:
    """The first and the last moment at which so many were under way; the end of all if never."""
    times = np.concatenate((begins_ns, np.where(ends_ns > 0, ends_ns, until_ns)))
    steps = np.repeat(np.array([1, -1]), len(begins_ns))
    # At one instant the next request of a user begins before the last one is over.
    order = np.lexsort((-steps, times))
    busy = np.flatnonzero(np.cumsum(steps[order]) >= count)
    if not len(busy):
        return until_ns, until_ns
    last = min(int(busy[-1]) + 1, len(times) - 1)
    return int(times[order[busy[0]]]), int(times[order[last]])


def _mser_ns(ends_ns: Times, values: Times) -> int:
    """When the transient is over: the cut that makes the mean of the rest best known. 0: no cut.

    MSER over batches of five, or of a hundredth of the run where that is more; at most half is cut,
    and nothing where the beginning is like the rest.
    """
    size = max(_MSER_BATCH, len(values) // 100)
    batches = len(values) // size
    if batches < _MSER_BATCHES_MIN:
        return 0
    # A stall of the server is no transient: what lies outside the later half's usual is cut to it.
    values = np.clip(values, *np.percentile(values[len(values) // 2 :], _USUAL))
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
    """Whether there is one: on short series MSER alone likes to cut where there is none.

    Its beginning is unlike the rest by more than chance, and half of it by more than two deviations of a batch.
    Before a stall both do not hold: most of what would be cut with it is like the rest.
    """
    beginning = cut[: -(-len(cut) // _BEGINNING)]
    level, deviation = float(rest.mean()), float(rest.std(ddof=1))
    chance = _TRANSIENT_DEVIATIONS * deviation * (1 / len(beginning) + 1 / len(rest)) ** 0.5
    half = float(np.median(cut))
    return abs(float(beginning.mean()) - level) > chance and abs(half - level) > _UNLIKE * deviation


def _trend(ends_ns: Times, latency_ns: Times, start_ns: int, end_ns: int) -> str:
    """A straight line through batch means: steeper than chance, and by an amount that matters."""
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
    n = len(series)
    x = np.arange(n) - (n - 1) / 2
    slope = float((x * series).sum() / (x * x).sum())
    rest = series - series.mean() - slope * x
    spread = (float((rest**2).sum()) / (n - 2) / float((x * x).sum())) ** 0.5
    matters = abs(slope) * n > _TREND_SHARE * abs(float(series.mean()))
    return matters and abs(slope) > _TREND_T * spread


def oversaturated(begins_ns: Times, ends_ns: Times, span_ns: tuple[int, int]) -> bool:
    """Whether an open loop's arrivals outrun the answers; looked at over the second half of the run.

    What was under way grew there by more than four deviations of a random walk of as many steps,
    the most that a server just able to keep up would show, and by a share that matters. Until the
    first requests have had twice their time to be answered, growth is the filling of the server;
    and as long as nothing at all is answered it stalls, which may end.
    """
    begin_ns, now_ns = span_ns
    half_ns = begin_ns + (now_ns - begin_ns) // 2
    over = np.sort(ends_ns[ends_ns > 0])
    if len(over) < _FILLED_MIN:
        return False
    early = np.argsort(begins_ns[ends_ns > 0], kind="stable")[:_FILLED_MIN]
    first = (ends_ns[ends_ns > 0] - begins_ns[ends_ns > 0])[early]
    if half_ns - begin_ns < 2 * float(np.median(first)):
        return False
    arrived = int(np.count_nonzero((begins_ns >= half_ns) & (begins_ns < now_ns)))
    growth = arrived - int(np.count_nonzero((over >= half_ns) & (over < now_ns)))
    answered, _ = np.histogram(over, np.linspace(half_ns, now_ns, _QUARTERS + 1))
    if not answered.all():
        return False
    walk = _WALK_DEVIATIONS * (2 * arrived) ** 0.5
    return growth > walk and growth > _GROWTH_SHARE * arrived
