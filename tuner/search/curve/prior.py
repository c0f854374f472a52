"""What is thought of curves before any is measured, and how far that is to be trusted. Pure.

Of a prior its ordering is used, not its level: what it says of each configuration beyond the mean of all at
that load, taken `trust` times. Which trust is right the measurements tell, by the evidence of a process over
what is left: 0 (the prior is noise), 1, and one between. A prior shifts a mean; it forbids nothing, and where
it says nothing it shifts nothing.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.space import Point

Floats = NDArray[np.float64]

TRUSTS = (0.0, 0.5, 1.0)
AT_FIRST = (0.3, 0.3, 0.4)  # before anything is measured: priors worth giving are mostly right
CAUTION = 0.5  # levels of one trial are no independent witnesses: evidence counts that much


class Prior(Protocol):
    """`loads` are on each device (log₂)."""

    def curves(self, points: Sequence[Point], loads: Floats, metrics: Sequence[str]) -> Floats:
        """(n, loads, metrics): logarithms; NaN where it says nothing."""


def deviations(curves: Floats) -> Floats:
    """From the mean of all configurations at each load: (n, loads, metrics), 0 where nothing is said."""
    known = np.isfinite(curves)
    counts = np.maximum(known.sum(0), 1)
    mean = np.where(known, curves, 0).sum(0) / counts
    return np.where(known, curves - mean, 0.0)


def interpolated(curves: Floats, grid: Floats, loads: Floats) -> Floats:
    """One configuration's (grid, metrics) at other loads: (loads, metrics)."""
    return np.stack([np.interp(loads, grid, column) for column in curves.T], 1)


def trusts(evidence: Sequence[float]) -> Floats:
    """The probability of each of `TRUSTS`, by the evidence (log) of each."""
    logs = np.log(AT_FIRST) + CAUTION * np.asarray(evidence)
    odds = np.exp(logs - logs.max())
    return np.asarray(odds / odds.sum())
