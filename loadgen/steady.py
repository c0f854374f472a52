"""Was the load what it claims to be, all the window long? Pure arithmetic over intervals."""

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


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
