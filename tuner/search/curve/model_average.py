"""Believed curves of a pool's points: processes over what is measured, beside a prior or without one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.search.curve.gp import Observed, Process, fit
from tuner.search.curve.kernel import Dimensions, Hyper
from tuner.search.curve.prior import TRUSTS, interpolated, trusts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_STEPS, STEPS = 40, 15  # of the search for hyperparameters
LEAST_TRUST = 0.15  # a process that is less likely is left out: its wild draws would decide


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What a trial showed: loads on each device (log₂), and the goal's metrics (loads, metrics), logarithms."""

    index: int
    u: Floats
    y: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """`parts`: (probability, trust, process). `shift` (pool, loads, metrics): the prior's deviations."""

    x: Floats
    grid: Floats
    shift: Floats | None
    parts: tuple[tuple[float, float, Process], ...]

    @property
    def trust(self) -> float:
        """In the prior: 0 to 1."""
        return sum(share * trust for share, trust, _ in self.parts)

    def means(self, of: Ints) -> Floats:
        """(n, loads, metrics)"""
        return self.means_and_doubts(of)[0]

    def means_and_doubts(self, of: Ints) -> tuple[Floats, Floats]:
        """The means, and (n, metrics) roughly a standard deviation."""
        means, doubts = np.zeros(()), np.zeros(())
        for share, trust, process in self.parts:
            mean, doubt = process.means_and_doubts(self.x[of], self.grid)
            means = means + share * (mean + self._shifted(of, trust))
            doubts = doubts + share * np.minimum(doubt, 1.0)[:, None] * process.scale
        return means, doubts

    def draws(
        self, of: Ints, seen: Ints, count: int, rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """(count, n, loads, metrics) of points, and of the trials `seen`, from the parts by their odds."""
        counts = rng.multinomial(count, [share for share, _, _ in self.parts])
        new, old = [], []
        for (_, trust, process), size in zip(self.parts, counts.tolist(), strict=True):
            if size:
                drawn = process.draws(self.x[of], self.grid, size, rng)
                new.append(drawn[0] + self._shifted(of, trust))
                old.append(drawn[1] + self._shifted(seen, trust))
        return np.concatenate(new), np.concatenate(old)

    def _shifted(self, of: Ints, trust: float) -> Floats | float:
        return 0.0 if self.shift is None else trust * self.shift[of]


class Believer:
    """Keeps the hyperparameters from one belief to the next: they change little by one trial."""

    def __init__(self, groups: Sequence[str], leading: int) -> None:
        self.dimensions = Dimensions.of(groups)
        self._leading = leading
        self._hyper = dict.fromkeys(TRUSTS, Hyper.typical(len(self.dimensions.names)))
        self._fitted: set[float] = set()

    def believe(
        self, x: Floats, grid: Floats, shift: Floats | None, curves: Sequence[Curve], refit: bool
    ) -> Belief:
        """`refit`: the hyperparameters too."""
        candidates = [0.0] if shift is None else list(TRUSTS)
        processes = [self._process(x, grid, shift, curves, (trust, refit)) for trust in candidates]
        if shift is None:
            return Belief(x, grid, None, ((1.0, 0.0, processes[0]),))
        odds = trusts([process.evidence for process in processes])
        odds = np.where(odds < LEAST_TRUST, 0.0, odds)
        odds /= odds.sum()
        parts = zip(odds.tolist(), candidates, processes, strict=True)
        return Belief(x, grid, shift, tuple(part for part in parts if part[0]))

    def _process(
        self,
        x: Floats,
        grid: Floats,
        shift: Floats | None,
        curves: Sequence[Curve],
        how: tuple[float, bool],
    ) -> Process:
        trust, refit = how
        steps = 0
        if refit:
            steps = STEPS if trust in self._fitted else FIRST_STEPS
            self._fitted.add(trust)
        rest = [
            curve.y
            if shift is None or not trust
            else curve.y - trust * interpolated(shift[curve.index], grid, curve.u)
            for curve in curves
        ]
        seen = Observed(
            x[[curve.index for curve in curves]],
            np.repeat(np.arange(len(curves)), [len(curve.u) for curve in curves]),
            np.concatenate([curve.u for curve in curves]),
            np.concatenate(rest),
        )
        span = (float(grid[0]), float(grid[-1]))
        process = fit(self.dimensions, seen, span, self._hyper[trust], steps, self._leading)
        self._hyper[trust] = process.hyper
        return process
