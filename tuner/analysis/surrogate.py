"""A surrogate model of a finished search of any kind: estimates of configurations that it did not try. Pure.

The model is that of the search on curves (`tuner.search.curve`): a Gaussian process over configuration and
load. The value of a configuration in a tier is the highest utility that its estimated curve reaches inside the
tier.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tuner.analysis.leave_one_out import left_out_draws, left_out_means
from tuner.analysis.tier_curves import (
    DeviceCounts,
    TrialCurve,
    best_inside,
    curve_of,
    limits_of,
    outputs_of,
    with_repeats,
)
from tuner.config.groups.space import Point
from tuner.config.study import StudyConfig
from tuner.results.ledger import Finished
from tuner.search.curve.encoding import Encoder
from tuner.search.curve.gp import GaussianProcess, Observations, fit
from tuner.search.curve.kernel import Dimensions, Hyperparameters
from tuner.search.curve.subset import MAX_CURVES, representative
from tuner.search.factory import meanings_of
from tuner.search.space import SearchSpace
from tuner.trial.engine_settings import EngineSettings

Floats = NDArray[np.float64]

MIN_TRIALS = 8
LADDER = 16  # distinct loads up to which all trials count as measured at the same ones
GRID = 33  # loads at which a curve is estimated, where each trial had its own
STEPS = 40  # of fitting the hyperparameters
DRAWS = 64
MIN_GAIN = 0.01  # a share; a trial that betters the best by less does not count
CHUNK = 512  # points estimated at once
LEVEL, TAILS = 0.95, (0.025, 0.975)  # of intervals
EFFECT_DRAWS = 256


@dataclass(frozen=True, slots=True)
class FitQuality:
    """How well the model predicts trials that it has not seen, by leave-one-out cross-validation.

    `trials`: those predicted; `fitted`: those that the model is fitted to; no others are seen. `correlation`:
    of ranks (Spearman); `median_error`: a share of the measured value. None: too few trials, or no variation.
    """

    trials: int
    fitted: int
    correlation: float | None
    median_error: float | None


@dataclass(frozen=True, slots=True)
class NextTrialGain:
    """The gain to expect of one more trial.

    `probability`: that it betters the best by `MIN_GAIN` or more; `median`: of its gain, a share of the best.
    """

    probability: float
    median: float


@dataclass(slots=True, eq=False)
class Surrogate:
    """A model of each tier's value over the whole space, in the order of `tiers`.

    Values are utilities (`tuner.results.tiers.utility`). Of many trials it is fitted to some
    (`tuner.search.curve.subset`).
    """

    study: StudyConfig
    tiers: tuple[str, ...]
    space: SearchSpace
    _limits: Floats  # (tiers, outputs − 1): logarithms
    _encoder: Encoder
    settings: EngineSettings
    _trials: list[TrialCurve]  # fitted to
    _rest: list[TrialCurve]
    _loads: Floats  # of all trials, each once
    _process: GaussianProcess
    _devices_of: DeviceCounts

    def value(self, points: Sequence[Point]) -> Floats:
        """(n, tiers): the estimated utility of each point; 0 where it has no load level inside the tier."""
        u = self._grid(points)
        means = self._process.means(self._encoded(points), u)
        return self._best(means, self._counted(points, u))

    def next_trial(self, candidates: Sequence[Point], seed: int = 0) -> tuple[NextTrialGain, ...]:
        """The gain of the best candidate in each tier, from curves drawn from the posterior.

        A median and not a mean, as gains are log-normal and a few extreme draws would dominate.
        """
        tried = {frozenset(trial.point.items()) for trial in [*self._trials, *self._rest]}
        candidates = [
            point
            for point in candidates
            if frozenset(self.space.only_active(point).items()) not in tried
        ]
        if not candidates:
            return (NextTrialGain(0.0, 0.0),) * len(self.tiers)
        seen = [trial.point for trial in self._trials]
        u = self._grid([*candidates, *seen])
        random = np.random.default_rng(seed)
        new, old = self._process.draws(self._encoded(candidates), u, DRAWS, random)
        now = self._best(old, self._counted(seen, u)).max(axis=1)  # (draws, tiers)
        then = self._best(new, self._counted(candidates, u))  # (draws, n, tiers)
        return tuple(_gain(then[..., i], now[:, i]) for i in range(len(self.tiers)))

    def joint_draws(self, points: Sequence[Point], spread: float, seed: int = 0) -> Floats:
        """(draws, n, tiers): utilities of one start of each point, drawn jointly.

        `spread`: times as far from their means as the posterior says (`left_out_coverage`).
        """
        x, u = self._encoded(points), self._grid(points)
        random, process = np.random.default_rng(seed), self._process
        means = process.means(x, u)
        drawn = process.draws(x, u, EFFECT_DRAWS, random)[0]
        drawn += process.start_noise(drawn.shape, random)
        return self._best(means + spread * (drawn - means), self._counted(points, u))

    def left_out_coverage(
        self, spread: float, seed: int = 0
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n, tiers) of the whole trials that the model is fitted to: whether each is in the interval that the
        others give it; and whether that counts, which 0 does not where only 0 is in the interval.

        `spread`: as in `joint_draws`.
        """
        drawn = left_out_draws(self._process, EFFECT_DRAWS, np.random.default_rng(seed))
        inside, counts = [], []
        for trial, (means, apart) in zip(self._trials, drawn, strict=True):
            if not trial.whole:
                continue
            everywhere = np.ones((1, len(trial.loads)), np.bool_)
            values = self._best(means + spread * apart, everywhere)
            low, high = np.quantile(values, TAILS, axis=0)
            measured = trial.best(self._limits)
            inside.append((low <= measured) & (measured <= high))
            counts.append((measured > 0) | (high > 0))
        shape = (-1, len(self.tiers))
        return np.array(inside).reshape(shape), np.array(counts).reshape(shape)

    def fit_quality(self) -> dict[str, FitQuality]:
        """Tier → how well the model predicts it."""
        whole = [trial for trial in [*self._trials, *self._rest] if trial.whole]
        predicted = np.concatenate([self._left_out(), self._unseen()])
        measured = np.array([trial.best(self._limits) for trial in whole])
        measured = measured.reshape(predicted.shape)
        return {
            tier: _quality(predicted[:, i], measured[:, i], len(self._trials))
            for i, tier in enumerate(self.tiers)
        }

    def _left_out(self) -> Floats:
        """(n, tiers): the utility of each whole trial that the model is fitted to, by the others."""
        points = [[trial.point] for trial in self._trials]
        loads = [self._grid(each) for each in points]
        means = left_out_means(self._process, loads)
        found = [
            self._best(curve[None], self._counted(point, u))[0]
            for trial, point, u, curve in zip(self._trials, points, loads, means, strict=True)
            if trial.whole
        ]
        return np.array(found).reshape(-1, len(self.tiers))

    def _unseen(self) -> Floats:
        """(n, tiers): that of the whole trials that the model is not fitted to."""
        points = [trial.point for trial in self._rest if trial.whole]
        parts = [self.value(points[at : at + CHUNK]) for at in range(0, len(points), CHUNK)]
        return np.concatenate([np.empty((0, len(self.tiers))), *parts])

    def _best(self, logs: Floats, counted: NDArray[np.bool_]) -> Floats:
        return best_inside(self._limits, logs, counted)

    def _ladder(self) -> Floats | None:
        """Loads that all trials were measured at (log₂); None where each searched for its own."""
        return np.log2(self._loads) if len(self._loads) <= LADDER else None

    def _grid(self, points: Sequence[Point]) -> Floats:
        ladder = self._ladder()
        if ladder is None:
            return np.linspace(*self._process.span, GRID)
        sizes = np.log2(sorted({self._devices_of(point) for point in points}))
        return np.unique(np.round(ladder[:, None] - sizes, 9))

    def _counted(self, points: Sequence[Point], u: Floats) -> NDArray[np.bool_]:
        """(n, loads): whether a trial of the point would be measured at this load per device."""
        loads, ladder = self._loads, self._ladder()
        shift = np.log2([self._devices_of(point) for point in points])[:, None]
        if ladder is not None:
            own = np.round(ladder - shift, 9)
            return np.asarray((u[None, :, None] == own[:, None]).any(-1))
        low, high = np.log2(loads.min()) - shift, np.log2(loads.max()) - shift
        step = (self._process.span[1] - self._process.span[0]) / (GRID - 1) / 2
        return np.asarray((u >= low - step) & (u <= high + step))

    def _encoded(self, points: Sequence[Point]) -> Floats:
        devices = np.log2([[self._devices_of(point)] for point in points]).reshape(-1, 1) / 3
        return np.hstack([self._encoder.encode([*map(self.settings.relevant, points)]), devices])


def fit_surrogate(
    study: StudyConfig, entries: Sequence[Finished], repeats: Sequence[Finished] = ()
) -> Surrogate | None:
    """A surrogate of the finished trials of a search; None if fewer than `MIN_TRIALS` have a usable curve.

    `repeats`: what was measured after the search.
    """
    outputs = outputs_of(study)
    trials = [trial for entry in entries if (trial := curve_of(study, entry, outputs))]
    if len(trials) < MIN_TRIALS:
        return None
    trials = with_repeats(study, trials, repeats, outputs)
    settings, devices_of, limits = (
        EngineSettings(study),
        DeviceCounts(study),
        limits_of(study, outputs),
    )
    points, space = [trial.point for trial in trials], SearchSpace.of(study)
    known = replace(space, fixed={**settings.unset, **space.fixed})
    encoder = Encoder(known, meanings_of(study))
    sizes = np.log2([[devices_of(point)] for point in points])
    x = np.hstack([encoder.encode([*map(settings.relevant, points)]), sizes / 3])
    best = np.array([trial.best(limits) for trial in trials])
    chosen = representative(x, best, MAX_CURVES)
    kept = [trials[i] for i in chosen]
    rest = [trials[i] for i in np.delete(np.arange(len(trials)), chosen)]
    dimensions = Dimensions.of((*encoder.groups, "devices"))
    ends = [(trial.loads.min(), trial.loads.max()) for trial in trials]
    low, high = (np.log2(np.array(ends)) - sizes).T
    process = fit(
        dimensions,
        _observed(kept, x[chosen], devices_of),
        (float(low.min()), float(high.max())),
        Hyperparameters.prior_mean(len(dimensions.names)),
        STEPS,
        1,
    )
    loads = np.unique(np.concatenate([trial.loads for trial in trials]))
    made = limits, encoder, settings, kept, rest, loads, process, devices_of
    return Surrogate(study, tuple(study.slo.tiers), space, *made)


def _observed(trials: Sequence[TrialCurve], x: Floats, devices_of: DeviceCounts) -> Observations:
    counts = [len(trial.loads) for trial in trials]
    return Observations(
        x,
        np.repeat(np.arange(len(trials)), counts),
        np.concatenate([np.log2(trial.loads / devices_of(trial.point)) for trial in trials]),
        np.concatenate([trial.y for trial in trials]),
    )


def _quality(predicted: Floats, measured: Floats, fitted: int) -> FitQuality:
    varied = len(predicted) >= MIN_TRIALS and np.ptp(predicted) > 0 and np.ptp(measured) > 0
    both = (predicted > 0) & (measured > 0)
    error = float(np.median(np.abs(predicted[both] / measured[both] - 1))) if both.any() else None
    correlation = float(spearmanr(predicted, measured).statistic) if varied else None
    return FitQuality(len(predicted), fitted, correlation, error)


def _gain(then: Floats, now: Floats) -> NextTrialGain:
    """Of the candidate with the highest mean log gain.

    `then`: (draws, n), the candidates' values; `now`: (draws,), the best of the trials.
    """
    known = now > 0
    if not known.any():
        return NextTrialGain(0.0, 0.0)
    gains = np.maximum(then[known] / now[known, None] - 1, 0)
    chosen = gains[:, np.log1p(gains).mean(axis=0).argmax()]
    return NextTrialGain(float((chosen >= MIN_GAIN).mean()), float(np.median(chosen)))
