"""95 % confidence intervals of means, medians and rates of correlated samples.

Batch means: the run is cut into 32, 16 and 8 batches in time, so that most of the correlation is
within batches (Law, Simulation Modeling and Analysis, 9.5.3; Steiger et al., ASAP3, 2005). The lag-1
correlation left between batches widens the interval as for an AR(1) process; the widest of the three
intervals counts. A median uses the spread of the batches' medians about the median of all samples
(sectioning; Asmussen and Glynn, Stochastic Simulation, III.5a).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

SAMPLES_MIN = 20
# Number of batches: Student's t, two-sided 95 %, batches - 1 degrees of freedom. A table, since
# importing scipy takes as long as parsing the responses of a whole level.
STUDENT_T = {32: 2.03951, 16: 2.13145, 8: 2.36462}
_BATCHES = tuple(STUDENT_T)
_PER_BATCH = 2
_CORRELATION_MAX = 0.9
_CHECK_FACTOR = 1.25


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval, and the number of batches that it is based on."""

    value: float
    low: float
    high: float
    batches: int

    @property
    def relative_half_width(self) -> float:
        """Half the width over the value: 0.03 is ±3 %."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else float("inf")


def series_interval(
    values: Floats, statistic: Literal["mean", "median"] = "mean"
) -> Interval | None:
    """Of samples in the order in which they occurred. None for fewer than 20."""
    if len(values) < SAMPLES_MIN:
        return None
    reduce = np.mean if statistic == "mean" else np.median
    value = float(reduce(values))
    found = []
    for batches in _BATCHES:
        per = len(values) // batches
        if per >= _PER_BATCH:
            # A remainder that fills no batch is left out at the front, where samples are oldest.
            grid = values[len(values) - per * batches :].reshape(batches, per)
            found.append(_interval(value, reduce(grid, axis=1)))
    return _widest(found)


def rate_interval(
    times_ns: Times,
    weights: Floats,
    start_ns: int,
    end_ns: int,
) -> Interval | None:
    """Of the sum of the weights per second over a window. None for fewer than 20 arrivals."""
    inside = np.logical_and(times_ns >= start_ns, times_ns < end_ns)
    if np.count_nonzero(inside) < SAMPLES_MIN:
        return None
    times, counted = times_ns[inside], weights[inside]
    found = []
    for batches in _BATCHES:
        sums, _ = np.histogram(times, bins=batches, range=(start_ns, end_ns), weights=counted)
        rates = sums * (batches / ((end_ns - start_ns) / 1e9))
        found.append(_interval(float(rates.mean()), rates))
    return _widest(found)


def precise(intervals: Sequence[Interval | None], asked: float) -> bool:
    """Whether each interval is within ± `asked` (a share) of its value."""
    return all(i is not None and i.relative_half_width <= asked for i in intervals)


def next_check_s(elapsed_s: float) -> float:
    """When to check the precision again: rarely, as each check may stop by chance."""
    return elapsed_s * _CHECK_FACTOR


def _lag1(batch_values: Floats) -> float:
    """1 - half the von Neumann ratio: the lag-1 correlation, corrected for edge bias."""
    spread = float(((batch_values - batch_values.mean()) ** 2).sum())
    if not spread:
        return 0.0
    return 1 - float((np.diff(batch_values) ** 2).sum()) / 2 / spread


def _widest(found: Sequence[Interval]) -> Interval:
    return max(found, key=lambda interval: interval.high - interval.low)


def _interval(value: float, batch_values: Floats) -> Interval:
    n = len(batch_values)
    variance = float(((batch_values - value) ** 2).sum()) / (n - 1)
    correlation = min(max(_lag1(batch_values), 0.0), _CORRELATION_MAX)
    variance *= (1 + correlation) / (1 - correlation)
    half = STUDENT_T[n] * (variance / n) ** 0.5
    return Interval(value, value - half, value + half, n)
