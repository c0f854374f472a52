"""Curves that are predicted before any is measured, and how far the search relies on them. Pure.

Of a prior its ordering is used, not its level: by how much it predicts each configuration above or below the
mean of all at that load, times a weight. The weight is 0 (the prior is noise), 1, or one between; its
probability follows from the likelihood of a process fitted to what remains. A prior shifts means; it excludes
nothing, and where it has no prediction it shifts nothing.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.space import Point

Floats = NDArray[np.float64]

WEIGHTS = (0.0, 0.5, 1.0)
PRIOR_PROBABILITIES = (0.3, 0.3, 0.4)  # of the weights, before anything is measured
LIKELIHOOD_POWER = 0.5  # below 1, as levels of one trial are no independent observations


class Prior(Protocol):
    """Predicts curves."""

    def curves(self, points: Sequence[Point], loads: Floats, metrics: Sequence[str]) -> Floats:
        """(n, loads, metrics): logarithms; NaN where there is no prediction. `loads`: per device (log₂)."""


def deviations(curves: Floats) -> Floats:
    """(n, loads, metrics): from the mean of all configurations at each load; 0 where there is no prediction."""
    known = np.isfinite(curves)
    counts = np.maximum(known.sum(0), 1)
    mean = np.where(known, curves, 0).sum(0) / counts
    return np.where(known, curves - mean, 0.0)


def interpolated(curves: Floats, grid: Floats, loads: Floats) -> Floats:
    """One configuration's (grid, metrics) at other loads: (loads, metrics)."""
    return np.stack([np.interp(loads, grid, column) for column in curves.T], 1)


def weight_probabilities(log_likelihoods: Sequence[float]) -> Floats:
    """The posterior probability of each of `WEIGHTS`, given the log likelihood of a process with each."""
    logs = np.log(PRIOR_PROBABILITIES) + LIKELIHOOD_POWER * np.asarray(log_likelihoods)
    odds = np.exp(logs - logs.max())
    return np.asarray(odds / odds.sum())
