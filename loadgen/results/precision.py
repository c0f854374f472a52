"""How well a figure is known: 95 % intervals of means, medians and rates whose samples are not independent.

Batch means: the run is cut into batches in time; what neighbouring samples share stays within a
batch, and the batches are taken as independent. Whether they are is tested by their lag-1
correlation, and batches are merged until it is gone (Law, Simulation Modeling and Analysis, 9.5.3;
Steiger et al., ASAP3, 2005). What correlation is left widens the interval as that of an AR(1)
process would. A median uses the spread of the batches' medians about the median of all
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
# By the number of batches: Student's t, two-sided 95 %, with one degree of freedom less. A table, as
# to import scipy costs as much as to read the replies of a whole level.
STUDENT_T = {32: 2.03951, 16: 2.13145, 8: 2.36462}
_BATCHES = tuple(STUDENT_T)
_PER_BATCH = 2
_CORRELATION_MAX = 0.9
_CHECK_FACTOR = 1.25


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float
    batches: int

    @property
    def relative_half_width(self) -> float:
        return (self.high - self.low) / 2 / abs(self.value) if self.value else float("inf")


def series_interval(
    values: Floats, statistic: Literal["mean", "median"] = "mean"
) -> Interval | None:
    """Of samples in the order in which they came. None for fewer than 20."""
    if len(values) < SAMPLES_MIN:
        return None
    reduce = np.mean if statistic == "mean" else np.median
    value = float(reduce(values))
    found = []
    for batches in _BATCHES:
        per = len(values) // batches
        if per >= _PER_BATCH:
            # What does not fill a batch is left out at the front, where it is oldest.
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
    times, held = times_ns[inside], weights[inside]
    found = []
    for batches in _BATCHES:
        sums, _ = np.histogram(times, bins=batches, range=(start_ns, end_ns), weights=held)
        rates = sums * (batches / ((end_ns - start_ns) / 1e9))
        found.append(_interval(float(rates.mean()), rates))
    return _widest(found)


def precise(intervals: Sequence[Interval | None], asked: float) -> bool:
    """Whether each is known to the asked share of its value."""
    return all(i is not None and i.relative_half_width <= asked for i in intervals)


def next_check_s(elapsed_s: float) -> float:
    """Checks at growing distances: each look is one more chance to stop on a lucky spread."""
    return elapsed_s * _CHECK_FACTOR


def _lag1(figures: Floats) -> float:
    """0.5 of the von Neumann ratio taken from 1: the lag-1 correlation, less its edge bias."""
    spread = float(((figures - figures.mean()) ** 2).sum())
    if not spread:
        return 0.0
    return 1 - float((np.diff(figures) ** 2).sum()) / 2 / spread


def _widest(found: Sequence[Interval]) -> Interval:
    return max(found, key=lambda interval: interval.high - interval.low)


def _interval(value: float, figures: Floats) -> Interval:
    n = len(figures)
    variance = float(((figures - value) ** 2).sum()) / (n - 1)
    left = min(max(_lag1(figures), 0.0), _CORRELATION_MAX)
    variance *= (1 + left) / (1 - left)
    half = STUDENT_T[n] * (variance / n) ** 0.5
    return Interval(value, value - half, value + half, n)
