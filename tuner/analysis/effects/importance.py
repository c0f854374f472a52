"""Parameter importance of any function of points. Pure.

Not `optuna.importance`: fANOVA looks only at parameters that every trial has, so that the flags of an engine
drop out where there are several, and it explains one number a trial rather than estimates of a surrogate over
whole curves. Not SALib: its designs take independent inputs in a box, and a space here has conditions and
constraints.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.space import Point
from tuner.search.space import SearchSpace

Floats = NDArray[np.float64]
ValueOf = Callable[[Sequence[Point]], Floats]

TRIES = 50  # draws for one point that meets the constraints


def random_points(space: SearchSpace, count: int, seed: int) -> list[Point]:
    """Possible points, drawn at random; fewer than `count` where hardly any meet the constraints."""
    draws, found = _Draws(np.random.default_rng(seed)), list[Point]()
    for _ in range(count * TRIES):
        if len(found) == count:
            break
        point = space.sample(draws)
        if space.possible(point):
            found.append(point)
    return found


def importance(value_of: ValueOf, space: SearchSpace, bases: int, seed: int) -> dict[str, Floats]:
    """Knob → its total-effect Sobol index of each output, (outputs,).

    This is the share of the variance over the space that remains when all other knobs are known; a share of
    knobs that interact counts for each of them. By Jansen's estimator (Saltelli et al., Variance based
    sensitivity analysis of model output, Computer Physics Communications 181, 2010, table 2 f) over `bases`
    pairs of points that differ in one knob; a knob that is active in neither point changes nothing, and pairs
    that break a constraint are left out.
    """
    points = random_points(space, 2 * bases, seed)
    half = len(points) // 2
    ours, others = points[:half], points[half : 2 * half]
    if half < 2:
        return {}
    swapped = {knob: _swapped(space, ours, others, knob) for knob in space.knobs}
    cache = _Cache(value_of)
    cache.evaluate([*points, *(p for each in swapped.values() for p in each if p is not None)])
    plain = cache.values(points)
    variance = plain.var(axis=0)
    shares = {}
    for knob, changed in swapped.items():
        pairs = [(a, b) for a, b in zip(ours, changed, strict=True) if b is not None]
        if not pairs:
            shares[knob] = np.zeros(plain.shape[1])
            continue
        apart = cache.values([a for a, _ in pairs]) - cache.values([b for _, b in pairs])
        effect = (apart**2).mean(axis=0) / 2
        shares[knob] = np.divide(effect, variance, out=np.zeros_like(effect), where=variance > 0)
    return shares


def _swapped(
    space: SearchSpace, ours: Sequence[Point], others: Sequence[Point], knob: str
) -> list[Point | None]:
    """Each point with another value of a knob: itself where the knob is inactive, None where impossible."""
    values = [other[knob] for other in others if knob in other]
    found: list[Point | None] = []
    for i, (one, other) in enumerate(zip(ours, others, strict=True)):
        if knob not in one or not values:
            found.append(one)
            continue
        value = other[knob] if knob in other else values[i % len(values)]
        # A parameter that the new value activates, and `one` has no value for, comes from the other.
        point = space.only_active({**other, **one, knob: value})
        found.append(point if space.possible(point) else None)
    return found


class _Cache:
    """Values of points: each is evaluated once, and many in one call."""

    def __init__(self, value_of: ValueOf) -> None:
        self._value_of = value_of
        self._known: dict[Hashable, Floats] = {}

    def evaluate(self, points: Sequence[Point]) -> None:
        fresh = {_key(point): point for point in points if _key(point) not in self._known}
        if fresh:
            values = self._value_of(list(fresh.values()))
            self._known |= dict(zip(fresh, values, strict=True))

    def values(self, points: Sequence[Point]) -> Floats:
        """(n, outputs)"""
        return np.array([self._known[_key(point)] for point in points])


def _key(point: Point) -> Hashable:
    return tuple(sorted((path, str(type(value)), value) for path, value in point.items()))


class _Draws:
    """`tuner.config.groups.space.Suggest` by a random generator."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        if log:
            drawn = np.exp(self._random.uniform(np.log(low), np.log(high + 1)))
            return min(int(drawn), high)
        return low + step * int(self._random.integers((high - low) // step + 1))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            return low + step * int(self._random.integers(int((high - low) / step + 1e-9) + 1))
        if log:
            return float(np.exp(self._random.uniform(np.log(low), np.log(high))))
        return float(self._random.uniform(low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[int(self._random.integers(len(choices)))]
