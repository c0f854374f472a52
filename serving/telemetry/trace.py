"""What a meter saw: counters that only grow, over time. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class CounterTrace:
    """`at_ns` (n,) on the monotonic clock, rising; `values` (n, names) counted since some beginning.

    Of a power meter `names` are devices, and values joules. `source` says what was read.
    """

    at_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    names: tuple[str, ...]
    source: str

    def covers(self, begin_ns: int, end_ns: int) -> bool:
        """Whether both moments lie between samples: what was beyond them is not known."""
        return len(self.at_ns) > 1 and bool(self.at_ns[0] <= begin_ns < end_ns <= self.at_ns[-1])

    def grown(self, begin_ns: int, end_ns: int) -> dict[str, float]:
        """By how much each counter grew between two moments, interpolated between samples.

        Raises ValueError outside of what was sampled.
        """
        if not self.covers(begin_ns, end_ns):
            raise ValueError("the trace does not cover the window")
        ends = [np.interp([begin_ns, end_ns], self.at_ns, column) for column in self.values.T]
        return {name: float(at[1] - at[0]) for name, at in zip(self.names, ends, strict=True)}
