"""The surrogate of the search: Gaussian processes with the prior at several weights, averaged. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.search.curve.gp import GaussianProcess, Observations, fit
from tuner.search.curve.kernel import Dimensions, Hyperparameters
from tuner.search.curve.prior import WEIGHTS, interpolated, weight_probabilities

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_STEPS, STEPS = 40, 15  # of the search for hyperparameters, the first time and later
MIN_PROBABILITY = 0.15  # a less probable process is left out: its extreme draws would dominate


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCurve:
    """`index`: of the candidate; `u`: (loads,), per device (log₂); `y`: (loads, metrics), logarithms."""

    index: int
    u: Floats
    y: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One process of the average: its probability, and the weight at which it takes the prior."""

    probability: float
    weight: float
    process: GaussianProcess


@dataclass(frozen=True, slots=True, eq=False)
class ModelAverage:
    """Estimates of all candidates' curves on one grid of loads.

    `x`: (candidates, d); `grid`: (loads,), per device (log₂); `shift`: (candidates, loads, metrics), the
    prior's deviations.
    """

    x: Floats
    grid: Floats
    shift: Floats | None
    components: tuple[Component, ...]

    @property
    def prior_weight(self) -> float:
        """The expected weight of the prior, 0 to 1."""
        return sum(each.probability * each.weight for each in self.components)

    def means(self, of: Ints) -> Floats:
        """(n, loads, metrics): of the candidates with these indices."""
        return self.means_and_sds(of)[0]

    def means_and_sds(self, of: Ints) -> tuple[Floats, Floats]:
        """The means, and (n, metrics) approximate standard deviations."""
        means, sds = np.zeros(()), np.zeros(())
        for each in self.components:
            mean, sd = each.process.means_and_sds(self.x[of], self.grid)
            means = means + each.probability * (mean + self._shifted(of, each.weight))
            sds = sds + each.probability * np.minimum(sd, 1.0)[:, None] * each.process.scale
        return means, sds

    def draws(
        self, of: Ints, seen: Ints, count: int, rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """(count, n, loads, metrics) of candidates `of`, and of those measured, whose indices are `seen`.

        Each component contributes draws by its probability.
        """
        counts = rng.multinomial(count, [each.probability for each in self.components])
        new, old = [], []
        for each, size in zip(self.components, counts.tolist(), strict=True):
            if size:
                drawn = each.process.draws(self.x[of], self.grid, size, rng)
                new.append(drawn[0] + self._shifted(of, each.weight))
                old.append(drawn[1] + self._shifted(seen, each.weight))
        return np.concatenate(new), np.concatenate(old)

    def _shifted(self, of: Ints, weight: float) -> Floats | float:
        return 0.0 if self.shift is None else weight * self.shift[of]


class SurrogateFitter:
    """Fits the surrogate after each trial; keeps hyperparameters, which change little by one trial.

    `groups`: the name of each column's dimension, (d,); `leading`: metrics, from the first on, that
    hyperparameters are fitted to.
    """

    def __init__(self, groups: Sequence[str], leading: int) -> None:
        self.dimensions = Dimensions.of(groups)
        self._leading = leading
        start = Hyperparameters.prior_mean(len(self.dimensions.names))
        self._hyper = dict.fromkeys(WEIGHTS, start)
        self._fitted: set[float] = set()

    def fit(
        self,
        x: Floats,
        grid: Floats,
        shift: Floats | None,
        curves: Sequence[MeasuredCurve],
        refit: bool,
    ) -> ModelAverage:
        """The surrogate given the measured curves; the arrays are those of `ModelAverage`.

        `refit`: hyperparameters are fitted too.
        """
        weights = [0.0] if shift is None else list(WEIGHTS)
        processes = [self._process(x, grid, shift, curves, (weight, refit)) for weight in weights]
        if shift is None:
            return ModelAverage(x, grid, None, (Component(1.0, 0.0, processes[0]),))
        odds = weight_probabilities([process.log_likelihood for process in processes])
        odds = np.where(odds < MIN_PROBABILITY, 0.0, odds)
        odds /= odds.sum()
        components = map(Component, odds.tolist(), weights, processes)
        return ModelAverage(x, grid, shift, tuple(each for each in components if each.probability))

    def _process(
        self,
        x: Floats,
        grid: Floats,
        shift: Floats | None,
        curves: Sequence[MeasuredCurve],
        how: tuple[float, bool],
    ) -> GaussianProcess:
        weight, refit = how
        steps = 0
        if refit:
            steps = STEPS if weight in self._fitted else FIRST_STEPS
            self._fitted.add(weight)
        rest = [
            curve.y
            if shift is None or not weight
            else curve.y - weight * interpolated(shift[curve.index], grid, curve.u)
            for curve in curves
        ]
        seen = Observations(
            x[[curve.index for curve in curves]],
            np.repeat(np.arange(len(curves)), [len(curve.u) for curve in curves]),
            np.concatenate([curve.u for curve in curves]),
            np.concatenate(rest),
        )
        span = (float(grid[0]), float(grid[-1]))
        process = fit(self.dimensions, seen, span, self._hyper[weight], steps, self._leading)
        self._hyper[weight] = process.hyper
        return process
