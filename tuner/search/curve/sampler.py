"""Chooses the configuration whose whole curve promises most."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.space import ENGINE, Point
from tuner.search.base import Outcome, Suggestion
from tuner.search.curve.acquisition import Goal, gains, yardstick
from tuner.search.curve.candidates import Pool
from tuner.search.curve.feasibility import likely
from tuner.search.curve.initial_design import rarity
from tuner.search.curve.model_average import Belief, Believer, Curve
from tuner.search.curve.prior import Prior, deviations

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
# A point of the pool, and its expected gain where one is believed.
Ranked = tuple[int, float | None]

DRAWS = 32  # curves of each finalist
FINALISTS = 96
OPTIMISM = 2.5  # standard deviations with which finalists are chosen
LIMITS_OPTIMISM = 0.1  # the same of what tiers limit
REFIT_EVERY = 3  # trials
LEAST_TRIALS = 3  # before a curve is believed
GRID = 16  # loads at most on which curves are compared
DARING = 0.99  # a trial goes where most might be gained: the quantile of the gains drawn
EDGE = 1e-6
SPREAD_AMONG = 2000
STARTUP_TRIES = 1.5  # times as many trials, failures included, and the start is over
PRIOR_TRIALS = 3  # that a prior chooses before its word is weighed
TRUSTED = 0.5  # from here on a prior stands in for the rest of the start
ENGINE_TRIES = 4  # trials after which an engine of which nothing was measured is left to its odds
KEPT = 64  # suggestions of one ranking


class CurveSampler:
    """`pool` holds the points to choose among. `startup` trials are spread so that each dimension's own effect
    shows; later ones are chosen by what their whole curve might gain. `price`: the power of a trial's
    device seconds that its gain is divided by; 0 counts trials, 1 device-hours."""

    def __init__(
        self,
        goal: Goal,
        pool: Pool,
        seed: int,
        startup: int = 5,
        price: float = 0.0,
        prior: Prior | None = None,
    ) -> None:
        self._goal, self._pool, self._seed = goal, pool, seed
        self._startup, self._price, self._prior = startup, price, prior
        self._curves: list[Curve] = []
        self._failed: dict[int, bool] = {}
        self._gone: set[int] = set()
        self._unlucky: set[int] = set()  # failed by chance, once
        self._asked = self._fitted_at = 0
        self._believer = Believer(pool.groups, len(goal.axes))
        self._grid = _grid(pool)
        self._ranked: list[Ranked] = []
        self._dropped = False  # the last suggestion: the next in rank comes after it
        self._told = np.empty((0, 0, 0))  # the prior's curves of the pool
        self.expected_gain: float | None = None  # of the last suggestion, as a share of the front

    def suggest(self, running: Sequence[Point]) -> Suggestion | None:
        # What was taken of the last ranking changes what is worth most now.
        if not self._dropped or not self._ranked:
            self._ranked = self._rank([self._pool.index(point) for point in running])
        self._dropped = False
        if not self._ranked:
            return None
        chosen, self.expected_gain = self._ranked.pop(0)
        return Suggestion(self._pool.points[chosen], chosen)

    def drop(self, suggestion: Suggestion, known: Outcome | None) -> None:
        self._gone.add(suggestion.token)
        self._dropped = True

    def learn(self, point: Point, suggestion: Suggestion | None, outcome: Outcome) -> None:
        index = self._pool.index(point)
        self._dropped = False
        if outcome.chance and index not in self._unlucky:
            self._unlucky.add(index)
            return
        self._gone.add(index)
        self._failed[index] = bool(outcome.failure)
        curve = self._curve(index, outcome)
        if curve is not None:
            self._curves.append(curve)

    def _curve(self, index: int, outcome: Outcome) -> Curve | None:
        devices = self._pool.devices[index]
        rows = [
            (np.log2(load / devices), [point.metrics.get(metric) for metric in self._goal.metrics])
            for point in outcome.points
            if point.valid and (load := point.load_value)
        ]
        known = [(u, values) for u, values in rows if all(v is not None and v > 0 for v in values)]
        if not known:
            return None
        logs = np.log(np.array([values for _, values in known], np.float64))
        return Curve(index, np.array([u for u, _ in known]), logs)

    def _rank(self, running: list[int]) -> list[Ranked]:
        """Points from the most promising on. Another call ranks anew: it has other luck, or knows more."""
        rng = np.random.default_rng([self._seed, self._asked])
        self._asked += 1
        out = self._gone | set(running)
        free = np.array([i for i in range(len(self._pool.points)) if i not in out], np.int64)
        if not len(free):
            return []
        begun, tried = len(self._curves) + len(running), len(self._failed) + len(running)
        starting = begun < self._startup and tried < STARTUP_TRIES * self._startup
        if self._prior is not None and starting and tried < PRIOR_TRIALS:
            return self._foretold(free, running)
        if len(self._curves) < LEAST_TRIALS or (starting and self._prior is None):
            return self._spread(free, running, rng)
        belief = self._believed()
        if belief.trust < TRUSTED:
            if starting:
                return self._spread(free, running, rng)
            if len(unproven := self._unproven(free, running)):
                return self._spread(unproven, running, rng)
        return self._promising(belief, free, running, rng)

    def _spread(self, free: Ints, running: list[int], rng: np.random.Generator) -> list[Ranked]:
        """Points whose levels, and pairs of levels, were seen least so far; by the odds of working."""
        some = rng.permutation(free)[:SPREAD_AMONG]
        tried = np.array([*self._failed, *running], np.int64)
        rare = rarity(self._pool.x, self._believer.dimensions, tried, some)
        worth = rare * self._odds(some) * (1 + 0.01 * rng.random(len(some)))
        return [(int(i), None) for i in some[np.argsort(-worth)][:KEPT]]

    def _unproven(self, free: Ints, running: list[int]) -> Ints:
        """Points of engines of which nothing was measured yet: two deaths say little of an engine."""
        engines = np.array([str(point.get(ENGINE)) for point in self._pool.points])
        known = {*engines[[curve.index for curve in self._curves]], *engines[running]}
        tries = Counter(engines[[*self._failed, *self._unlucky]].tolist())
        known.update(engine for engine, count in tries.items() if count >= ENGINE_TRIES)
        return free[~np.isin(engines[free], list(known))]

    def _foretold(self, free: Ints, running: list[int]) -> list[Ranked]:
        """What the prior holds to add most to what it holds of those that were begun."""
        told = self._prior_curves()
        counted = self._counted(np.arange(len(told)), self._grid) & np.isfinite(told).all(-1)
        told = np.nan_to_num(told)
        measure = yardstick(self._goal, told, counted)
        begun = np.array([*self._failed, *running], np.int64)
        front = np.zeros((1, measure.width))
        if len(begun):
            front = measure.worth(told[begun], counted[begun]).max(0)[None]
        worth = measure.worth(told[free], counted[free])
        gain = np.maximum(worth - front, 0).mean(-1) * self._odds(free)
        return [(int(i), None) for i in free[np.argsort(-self._priced(gain, free))][:KEPT]]

    def _believed(self) -> Belief:
        trials = len(self._curves)
        refit = trials - self._fitted_at >= REFIT_EVERY or not self._fitted_at
        self._fitted_at = trials if refit else self._fitted_at
        shift = None if self._prior is None else deviations(self._prior_curves())
        return self._believer.believe(self._pool.x, self._grid, shift, self._curves, refit)

    def _promising(
        self, belief: Belief, free: Ints, running: list[int], rng: np.random.Generator
    ) -> list[Ranked]:
        """By the gain over the front, of curves drawn together with those already begun."""
        seen = np.array([curve.index for curve in self._curves])
        begun = np.array(running, np.int64)
        counted = self._counted(seen, belief.grid)
        measure = yardstick(self._goal, means := belief.means(seen), counted)
        front = measure.worth(means, counted).max(0)
        odds = self._odds(free)
        hopeful = measure.worth(self._hopeful(belief, free), self._counted(free, belief.grid))
        hope = gains(hopeful[None], front[None])[0] * odds
        best = np.argsort(-self._priced(hope, free))[:FINALISTS]
        finalists = free[best]
        new, old = belief.draws(np.append(finalists, begun), seen, DRAWS, rng)
        known = np.concatenate([old, new[:, len(finalists) :]], 1)
        front = measure.worth(known, self._counted(np.append(seen, begun), belief.grid)).max(1)
        worths = measure.worth(new[:, : len(finalists)], self._counted(finalists, belief.grid))
        drawn = gains(worths, front)
        expected = drawn.mean(0) * odds[best]
        most = np.quantile(drawn, DARING, axis=0) * odds[best]
        order = np.argsort(-self._priced(most, finalists))[:KEPT]
        return [(int(finalists[i]), float(expected[i])) for i in order]

    def _hopeful(self, belief: Belief, of: Ints) -> Floats:
        """Means, better by some standard deviations."""
        axes = len(self._goal.axes)
        better = np.full(len(self._goal.metrics), -LIMITS_OPTIMISM)
        better[:axes] = [OPTIMISM * sign for sign in self._goal.axes.values()]
        means, doubts = belief.means_and_doubts(of)
        return np.asarray(means + (doubts * better)[:, None])

    def _prior_curves(self) -> Floats:
        """(pool, loads, metrics) of what the prior says; asked once for each point."""
        assert self._prior is not None
        known = len(self._told)
        if fresh := self._pool.points[known:]:
            told = self._prior.curves(fresh, self._grid, self._goal.metrics)
            self._told = told if not known else np.concatenate([self._told, told])
        return self._told

    def _counted(self, of: Ints, loads: Floats) -> Bools:
        """(n, loads): whether a curve is of use there."""
        low, high = self._pool.lowest[of, None], self._pool.highest[of, None]
        return np.asarray((loads >= low - EDGE) & (loads <= high + EDGE))

    def _odds(self, of: Ints) -> Floats:
        return likely(self._pool.x, self._failed, of)

    def _priced(self, gain: Floats, of: Ints) -> Floats:
        return np.asarray(gain / self._pool.device_s[of] ** self._price)


def _grid(pool: Pool) -> Floats:
    """Loads on each device (log₂): a doubling apart, or further where there would be too many.

    Points that come later may have loads beyond; these are not looked at.
    """
    low, high = float(pool.lowest.min()), float(pool.highest.max())
    count = int(min(max(round(high - low), 1) + 1, GRID))
    return np.linspace(low, high, count)
