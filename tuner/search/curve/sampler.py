"""Bayesian optimisation over whole curves: suggests the configuration whose curve may gain most."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.space import ENGINE, Point
from tuner.search.base import Outcome, Suggestion
from tuner.search.curve.acquisition import Objective, gains, scalarization
from tuner.search.curve.blas import single_threaded
from tuner.search.curve.candidates import Candidates
from tuner.search.curve.feasibility import completion_probability
from tuner.search.curve.initial_design import levels, rarity
from tuner.search.curve.model_average import MeasuredCurve, ModelAverage, SurrogateFitter
from tuner.search.curve.prior import Prior, deviations
from tuner.search.curve.subset import CurveSelection

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
# The index of a candidate, and its expected gain where the surrogate chose it.
Ranked = tuple[int, float | None]

DRAWS = 32  # curves drawn of each finalist
FINALISTS = 96  # candidates that an optimistic estimate leaves for the drawing of curves
AXES_OPTIMISM = 2.5  # standard deviations by which the optimistic estimate betters the axes
LIMITS_OPTIMISM = 0.1  # and what the tiers limit
REFIT_EVERY, REFIT_SHARE = 3, 16  # trials; later a sixteenth more of them
RUNNING_PER_PICK = (
    16  # a ranking serves a suggestion for so many running trials, whose results are open too
)
MIN_CURVES = 3  # before the surrogate decides
MAX_GRID = 16  # loads at which curves are compared
ACQUISITION_QUANTILE = 0.99  # of the drawn gains, by which candidates are ranked
EDGE = 1e-6  # rounding of loads (log₂)
DESIGN_SAMPLE = 2000  # candidates among which the initial design chooses
MAX_STARTUP = 1.5  # the initial design ends after so many times its trials, failures included
PRIOR_TRIALS = 3  # that the prior alone chooses, before its weight is estimated
TRUSTED_WEIGHT = 0.5  # of the prior, from which on it replaces the rest of the initial design
ENGINE_TRIES = 4  # failed trials after which an engine without a curve gets no special treatment
KEPT = 64  # suggestions of one ranking


class CurveSampler:
    """A `Sampler` on curves.

    The first `startup` trials are spread so that the main effect of each dimension shows; later ones are chosen
    by what their whole curve may gain. `price`: the exponent of a trial's device-seconds by which its gain is
    divided: 0 saves trials, 1 saves device-hours.
    """

    def __init__(
        self,
        objective: Objective,
        candidates: Candidates,
        seed: int,
        startup: int = 5,
        price: float = 0.0,
        prior: Prior | None = None,
    ) -> None:
        self._objective, self._candidates, self._seed = objective, candidates, seed
        self._startup, self._price, self._prior = startup, price, prior
        self._curves: list[MeasuredCurve] = []
        self._failed: dict[int, bool] = {}
        self._excluded: set[int] = set()
        self._retried: set[int] = set()  # had a transient failure
        self._unknown: set[int] = set()  # failed each time, for no reason of their own
        self._asked = self._fitted_at = 0
        self._fitter = SurrogateFitter(candidates.groups, len(objective.axes))
        self._selection = CurveSelection()
        self._grid, self._codes = _grid(candidates), np.empty((0, 0), np.int64)
        self._ranked: list[Ranked] = []
        self._unused = 0  # suggestions that the ranking still serves
        self._dropped = False  # the last suggestion: the next in rank comes after it
        self._predicted = np.empty((0, 0, 0))  # the prior's curves of the candidates
        self.expected_gain: float | None = None  # of the last suggestion, as a share of the front

    def suggest(self, running: Sequence[Point]) -> Suggestion | None:
        """The candidate that ranks highest; None: all were tried."""
        # A suggestion that is run changes what gains most; a dropped one is followed by the next in rank.
        # Where many run, a ranking serves several suggestions.
        if not self._ranked or not (self._dropped or self._unused):
            self._unused = 1
            with single_threaded():
                self._ranked = self._rank([self._candidates.index(point) for point in running])
        self._unused -= not self._dropped
        self._dropped = False
        if not self._ranked:
            return None
        chosen, self.expected_gain = self._ranked.pop(0)
        return Suggestion(self._candidates.points[chosen], chosen)

    def drop(self, suggestion: Suggestion, known: Outcome | None) -> None:
        """The candidate is not suggested again."""
        self._excluded.add(suggestion.token)
        self._dropped = True

    def begin(self, point: Point) -> None:
        """The point gets its index, so that indices follow the order of the trials."""
        self._candidates.index(point)

    def renew(self, asked: int) -> None:
        """Hyperparameters are fitted afresh, and candidates that were dropped may be suggested again."""
        self._asked, self._fitted_at = asked, 0
        self._fitter = SurrogateFitter(self._candidates.groups, len(self._objective.axes))
        self._excluded = set(self._failed) | self._unknown
        self._ranked, self._unused, self._dropped = [], 0, False

    def learn(self, point: Point, suggestion: Suggestion | None, outcome: Outcome) -> None:
        """Adds the trial's curve; a transient failure is ignored the first time, an unknown one always."""
        index = self._candidates.index(point)
        self._dropped = False
        if outcome.transient and index not in self._retried:
            self._retried.add(index)
            return
        self._excluded.add(index)
        if outcome.unknown:
            self._unknown.add(index)
            return
        self._failed[index] = bool(outcome.failure)
        curve = self._curve(index, outcome)
        if curve is not None:
            self._curves.append(curve)

    def _curve(self, index: int, outcome: Outcome) -> MeasuredCurve | None:
        devices, metrics = self._candidates.devices[index], self._objective.metrics
        rows = [
            (np.log2(load / devices), [point.metrics.get(metric) for metric in metrics])
            for point in outcome.points
            if point.valid and (load := point.load_value)
        ]
        known = [(u, values) for u, values in rows if all(v is not None and v > 0 for v in values)]
        if not known:
            return None
        logs = np.log(np.array([values for _, values in known], np.float64))
        return MeasuredCurve(index, np.array([u for u, _ in known]), logs)

    def _rank(self, running: list[int]) -> list[Ranked]:
        """Candidates by rank. Another call ranks anew: with another random state, or more trials."""
        rng = np.random.default_rng([self._seed, self._asked])
        self._asked += 1
        out = self._excluded | set(running)
        free = np.array([i for i in range(len(self._candidates.points)) if i not in out], np.int64)
        if not len(free):
            return []
        begun, tried = len(self._curves) + len(running), len(self._failed) + len(running)
        starting = begun < self._startup and tried < MAX_STARTUP * self._startup
        if self._prior is not None and starting and tried < PRIOR_TRIALS:
            return self._by_prior(free, running)
        if len(self._curves) < MIN_CURVES or (starting and self._prior is None):
            return self._by_design(free, running, rng)
        fitted = self._surrogate()
        if fitted[0].prior_weight < TRUSTED_WEIGHT:
            if starting:
                return self._by_design(free, running, rng)
            if len(unproven := self._of_unproven_engines(free, running)):
                return self._by_design(unproven, running, rng)
        return self._by_acquisition(fitted, free, running, rng)

    def _by_design(self, free: Ints, running: list[int], rng: np.random.Generator) -> list[Ranked]:
        """The initial design: levels, and pairs of levels, that were tried least; times feasibility."""
        some = rng.permutation(free)[:DESIGN_SAMPLE]
        tried = np.array([*self._failed, *running], np.int64)
        rare = rarity(self._levels(), tried, some)
        score = rare * self._feasibility(some) * (1 + 0.01 * rng.random(len(some)))
        return [(int(i), None) for i in some[np.argsort(-score)][:KEPT]]

    def _levels(self) -> Ints:
        """Of all candidates, computed anew where some were added."""
        if self._codes.shape[1] != len(self._candidates.x):
            self._codes = levels(self._candidates.x, self._fitter.dimensions)
        return self._codes

    def _of_unproven_engines(self, free: Ints, running: list[int]) -> Ints:
        """Candidates of engines without a measured curve: two failures say little of an engine."""
        engines = np.array([str(point.get(ENGINE)) for point in self._candidates.points])
        known = {*engines[[curve.index for curve in self._curves]], *engines[running]}
        tries = Counter(engines[[*self._failed, *self._retried, *self._unknown]].tolist())
        known.update(engine for engine, count in tries.items() if count >= ENGINE_TRIES)
        return free[~np.isin(engines[free], list(known))]

    def _by_prior(self, free: Ints, running: list[int]) -> list[Ranked]:
        """By the predicted gain over the predicted curves of the trials begun."""
        predicted = self._prior_curves()
        counted = self._counted(np.arange(len(predicted)), self._grid)
        counted &= np.isfinite(predicted).all(-1)
        predicted = np.nan_to_num(predicted)
        scaled = scalarization(self._objective, predicted, counted)
        begun = np.array([*self._failed, *running], np.int64)
        front = np.zeros((1, scaled.width))
        if len(begun):
            front = scaled.reached(predicted[begun], counted[begun]).max(0)[None]
        reached = scaled.reached(predicted[free], counted[free])
        gain = np.maximum(reached - front, 0).mean(-1) * self._feasibility(free)
        return [(int(i), None) for i in free[np.argsort(-self._priced(gain, free))][:KEPT]]

    def _surrogate(self) -> tuple[ModelAverage, Ints]:
        """And the candidates whose measured curves it is fitted to."""
        trials, before = len(self._curves), self._fitted_at
        refit = trials - before >= max(REFIT_EVERY, before // REFIT_SHARE) or not before
        self._fitted_at = trials if refit else before
        shift = None if self._prior is None else deviations(self._prior_curves())
        curves = [self._curves[i] for i in self._selection.among(trials, self._described)]
        fitted = self._fitter.fit(self._candidates.x, self._grid, shift, curves, refit)
        return fitted, np.array([curve.index for curve in curves])

    def _described(self, count: int) -> tuple[Floats, Floats]:
        """Of the first `count` curves: their configurations, and how far they reach as measured."""
        curves = self._curves[:count]
        sizes = [len(curve.u) for curve in curves]
        counted = np.arange(max(sizes)) < np.array(sizes)[:, None]
        logs = np.zeros((*counted.shape, len(self._objective.metrics)))
        logs[counted] = np.concatenate([curve.y for curve in curves])
        scaled = scalarization(self._objective, logs, counted)
        x = self._candidates.x[[curve.index for curve in curves]]
        return x, scaled.reached(logs, counted)

    def _by_acquisition(
        self,
        fitted: tuple[ModelAverage, Ints],
        free: Ints,
        running: list[int],
        rng: np.random.Generator,
    ) -> list[Ranked]:
        """By a high quantile of the gain over the front, of curves drawn jointly with those begun."""
        surrogate, seen = fitted
        begun = np.array(running, np.int64)
        counted = self._counted(seen, surrogate.grid)
        scaled = scalarization(self._objective, means := surrogate.means(seen), counted)
        front = scaled.reached(means, counted).max(0)
        feasibility = self._feasibility(free)
        optimistic = self._optimistic(surrogate, free)
        reached = scaled.reached(optimistic, self._counted(free, surrogate.grid))
        bound = gains(reached[None], front[None])[0] * feasibility
        best = np.argsort(-self._priced(bound, free))[:FINALISTS]
        finalists = free[best]
        new, old = surrogate.draws(np.append(finalists, begun), seen, DRAWS, rng)
        known = np.concatenate([old, new[:, len(finalists) :]], 1)
        counted = self._counted(np.append(seen, begun), surrogate.grid)
        front = scaled.reached(known, counted).max(1)
        counted = self._counted(finalists, surrogate.grid)
        reached = scaled.reached(new[:, : len(finalists)], counted)
        self._unused = max(len(running) // RUNNING_PER_PICK, 1)
        return self._in_order(finalists, reached, front, feasibility[best])

    def _in_order(
        self, finalists: Ints, reached: Floats, front: Floats, feasibility: Floats
    ) -> list[Ranked]:
        """Of the suggestions that the ranking serves, each is the best where those before it run as well."""
        ranked: list[Ranked] = []
        left = np.arange(len(finalists))
        while len(left):
            drawn = gains(reached[:, left], front)
            expected = drawn.mean(0) * feasibility[left]
            score = np.quantile(drawn, ACQUISITION_QUANTILE, axis=0) * feasibility[left]
            order = np.argsort(-self._priced(score, finalists[left]))
            last = len(ranked) + 1 >= self._unused
            taken = order[:KEPT] if last else order[:1]
            ranked += [(int(finalists[left[i]]), float(expected[i])) for i in taken]
            if last:
                break
            front = np.maximum(front, reached[:, left[order[0]]])
            left = np.delete(left, order[0])
        return ranked

    def _optimistic(self, surrogate: ModelAverage, of: Ints) -> Floats:
        """(n, loads, metrics): means, bettered by some standard deviations."""
        axes = len(self._objective.axes)
        better = np.full(len(self._objective.metrics), -LIMITS_OPTIMISM)
        better[:axes] = [AXES_OPTIMISM * sign for sign in self._objective.axes.values()]
        means, sds = surrogate.means_and_sds(of)
        return np.asarray(means + (sds * better)[:, None])

    def _prior_curves(self) -> Floats:
        """(candidates, loads, metrics): the prior's predictions, asked for once of each candidate."""
        assert self._prior is not None
        known = len(self._predicted)
        if fresh := self._candidates.points[known:]:
            more = self._prior.curves(fresh, self._grid, self._objective.metrics)
            self._predicted = more if not known else np.concatenate([self._predicted, more])
        return self._predicted

    def _counted(self, of: Ints, loads: Floats) -> Bools:
        """(n, loads): whether the load lies on a candidate's useful curve."""
        low = self._candidates.lowest[of, None]
        high = self._candidates.highest[of, None]
        return np.asarray((loads >= low - EDGE) & (loads <= high + EDGE))

    def _feasibility(self, of: Ints) -> Floats:
        return completion_probability(self._candidates.x, self._failed, of)

    def _priced(self, gain: Floats, of: Ints) -> Floats:
        return np.asarray(gain / self._candidates.device_s[of] ** self._price)


def _grid(candidates: Candidates) -> Floats:
    """Loads per device (log₂): a doubling apart, or further where there would be more than `MAX_GRID`.

    Candidates that are added later may have loads beyond; these are not looked at.
    """
    low, high = float(candidates.lowest.min()), float(candidates.highest.max())
    count = int(min(max(round(high - low), 1) + 1, MAX_GRID))
    return np.linspace(low, high, count)
