"""An engine's metrics over time, and what they amount to within one window. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.telemetry.engine_metrics.page import QUANTITIES, Quantity

Floats = NDArray[np.float64]
COVERED = 0.5  # share of the samples due in a window below which the others are no picture of it


@dataclass(frozen=True, slots=True, eq=False)
class EngineTrace:
    """`at_ns` (n,) of the monotonic clock, rising; `values`: quantity → (n,), NaN where the page lacked it.

    `source`: what was read. `every_s`: between two samples. `absent_because`: why there are none, or none any
    more.
    """

    at_ns: NDArray[np.int64]
    values: Mapping[Quantity, Floats]
    source: str
    every_s: float
    absent_because: str = ""

    @property
    def used(self) -> frozenset[Quantity]:
        """The quantities that were not 0 all the time: SGLang reports queues of two pools with a single one."""
        return frozenset(name for name, values in self.values.items() if np.any(values > 0))

    def within(self, begin_ns: int, end_ns: int) -> "EngineWindow":
        """The samples of a window, and what its counters rose by."""
        inside = (self.at_ns >= begin_ns) & (self.at_ns <= end_ns)
        due = (end_ns - begin_ns) / 1e9 / self.every_s
        count = int(inside.sum())
        because = self.absent_because
        if not count:
            because = because or f"no sample in a window of {(end_ns - begin_ns) / 1e9:.3g} s"
        elif count < COVERED * due - 1:
            because = because or "the engine did not answer"
            because = f"{count} of {due:.0f} samples in the window: {because}"
        else:
            because = ""
        gauges = {name: values[inside] for name, values in self.values.items()}
        rises = {name: self._rise(name, begin_ns, end_ns) for name in self.values}
        return EngineWindow({n: v[~np.isnan(v)] for n, v in gauges.items()}, rises, because)

    def _rise(self, name: Quantity, begin_ns: int, end_ns: int) -> float | None:
        """Between two moments, interpolated between samples; None where these do not enclose the window."""
        known = ~np.isnan(self.values[name])
        at_ns, values = self.at_ns[known], self.values[name][known]
        if len(at_ns) < 2 or not at_ns[0] <= begin_ns < end_ns <= at_ns[-1]:
            return None
        if np.any(np.diff(values) < 0):  # a counter that was reset counts from anew
            return None
        first, last = np.interp([begin_ns, end_ns], at_ns, values)
        return float(last - first)


@dataclass(frozen=True, slots=True, eq=False)
class EngineWindow:
    """`gauges`: quantity → the samples inside the window; `rises`: what each rose by, None if that is unknown.

    `absent_because`: why nothing can be said of the window; empty if something can.
    """

    gauges: Mapping[Quantity, Floats]
    rises: Mapping[Quantity, float | None]
    absent_because: str


def engine_trace(
    samples: Sequence[tuple[int, Mapping[Quantity, float]]],
    source: str,
    every_s: float,
    absent_because: str = "",
) -> EngineTrace:
    """The samples, (moment, quantities), as columns."""
    seen = {name for _, values in samples for name in values}
    columns = {
        name: np.array([values.get(name, np.nan) for _, values in samples], np.float64)
        for name in QUANTITIES
        if name in seen
    }
    at_ns = np.array([moment for moment, _ in samples], np.int64)
    return EngineTrace(at_ns, columns, source, every_s, absent_because)
