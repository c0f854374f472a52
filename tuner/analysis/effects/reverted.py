"""What each change of a configuration is worth: the value without it, with a calibrated interval. Pure.

A change's effect is what happens to the target metric when this knob alone returns to the default, all else as
in the best configuration: what a user would see who leaves the flag out. Intervals are those of the surrogate's
posterior, widened until the trials themselves, each predicted by the others, lie in theirs as often as they
should (`spreads_of`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.analysis.surrogate import LEVEL, MIN_TRIALS, TAILS, Surrogate
from tuner.config.groups.space import Point, Value
from tuner.search.space import SearchSpace

# Widenings that are tried. Hyperparameters are taken as certain, so the posterior is never wide enough.
SPREADS = (1.6, 2.0, 2.5, 3.2, 4.0)
KEPT = 0.95  # share of the gain that the smallest set of changes keeps
MOSTLY = 0.5  # share of the draws in which the best has to be inside the tier


@dataclass(frozen=True, slots=True)
class Interval:
    """Of a share: its median, and the ends that hold it with a probability of `LEVEL`."""

    low: float
    median: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign is known."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes that lead from a default to a configuration. `made`: path → value."""

    start: Point
    made: Mapping[str, Value]

    def point(self, space: SearchSpace, without: Sequence[str] = ()) -> dict[str, Value]:
        """The default with all changes but those, which leaves no inactive parameter."""
        kept = {path: value for path, value in self.made.items() if path not in without}
        return space.only_active({**self.start, **kept})


def spreads_of(surrogate: Surrogate) -> list[float | None]:
    """For each tier: how much wider than its posterior the surrogate's intervals have to be.

    None if no widening of `SPREADS` holds enough of the trials, or too few trials say anything about the tier.
    """
    found: list[float | None] = [None] * len(surrogate.tiers)
    for spread in reversed(SPREADS):
        inside, counts = surrogate.left_out_coverage(spread)
        for place in range(len(found)):
            rows = counts[:, place]
            needed = min(rows.sum(), np.ceil(LEVEL * (rows.sum() + 1)))
            if rows.sum() >= MIN_TRIALS and inside[rows, place].sum() >= needed:
                found[place] = spread
    return found


def reverted(
    surrogate: Surrogate, place: int, spread: float, changes: Changes
) -> dict[str, Interval | None]:
    """Path of each change → the share by which the value changes where it alone is taken back.

    None: the engine gets the same settings without it, so it has no effect. Left out: changes that can't be
    taken back alone, as a constraint or a condition forbids it.
    """
    space = surrogate.space
    whole, found = changes.point(space), dict[str, Interval | None]()
    points: dict[str, dict[str, Value]] = {}
    for path in changes.made:
        point = changes.point(space, [path])
        if surrogate.settings.same(whole, point):
            found[path] = None
        elif space.possible(point):
            points[path] = point
    if points:
        drawn = surrogate.joint_draws([whole, *points.values()], spread)[..., place]
        served = drawn[:, 0] > 0
        if served.mean() > MOSTLY:
            shares = drawn[served, 1:] / drawn[served, :1] - 1
            found |= dict(zip(points, map(interval, shares.T), strict=True))
    return found


def dispensable(surrogate: Surrogate, place: int, changes: Changes) -> list[str]:
    """The paths of the changes without which `KEPT` of the gain is still there, by the model.

    First those without effect, then one after another that without which most of it is kept.
    """
    space, dropped = surrogate.space, without_effect(surrogate, changes)
    whole = changes.point(space)
    while rest := [path for path in changes.made if path not in dropped]:
        points = {path: changes.point(space, [*dropped, path]) for path in rest}
        points = {path: each for path, each in points.items() if space.possible(each)}
        if not points:
            break
        values = surrogate.value([whole, changes.start, *points.values()])[:, place]
        shares = kept_shares(values[0], values[1], values[2:])
        best = int(np.argmax(shares))
        if shares[best] < KEPT:
            break
        dropped.append(list(points)[best])
    return dropped


def without_effect(surrogate: Surrogate, changes: Changes) -> list[str]:
    """The paths of changes that can all be taken back, and the engine still gets the same settings."""
    space, dropped = surrogate.space, list[str]()
    whole = changes.point(space)
    for path in changes.made:
        if surrogate.settings.same(whole, changes.point(space, [*dropped, path])):
            dropped.append(path)
    return dropped


def kept(
    surrogate: Surrogate, place: int, spread: float, changes: Changes, paths: Sequence[str]
) -> Interval | None:
    """The share of the gain that these changes alone keep, by the model; None where it is unknown."""
    others = [path for path in changes.made if path not in paths]
    space = surrogate.space
    points = [changes.point(space), changes.start, changes.point(space, others)]
    whole, default, few = np.moveaxis(surrogate.joint_draws(points, spread)[..., place], 1, 0)
    gained = whole > default
    if gained.mean() <= MOSTLY:
        return None
    return interval(kept_shares(whole[gained], default[gained], few[gained]))


def kept_shares(whole: Any, default: Any, few: Any) -> Any:
    """The share of the gain of `whole` over `default` that `few` has; 0 where there is no gain."""
    gain = np.asarray(whole) - default
    few = np.asarray(few) - default
    return np.divide(few, gain, out=np.zeros(np.broadcast(few, gain).shape), where=gain > 0)


def interval(values: Any) -> Interval:
    """Of draws."""
    low, median, high = np.quantile(values, [TAILS[0], 0.5, TAILS[1]])
    return Interval(float(low), float(median), float(high))
