"""Which knobs matter, and what each change from the default brings: of any function of points. Pure."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.space import ENGINE, Point, Scalar, Space
from tuner.search.space import active, sample, violated

Floats = NDArray[np.float64]
ValueOf = Callable[[Sequence[Point]], Floats]

EXACT = 8  # knobs changed, up to which every subset of changes is looked at
ORDERS = 200  # random orders of the changes, where there are more
TRIES = 50  # draws for one point of a space that keeps its constraints


@dataclass(frozen=True, slots=True)
class Domain:
    """A space with all that decides which points of it there are. `fixed`: what the study sets, by path."""

    space: Space
    engines: tuple[str, ...]
    fixed: Mapping[str, Any]

    @property
    def knobs(self) -> tuple[str, ...]:
        several = (ENGINE,) if len(self.engines) > 1 else ()
        return (*several, *self.space.parameters)

    def kept(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Without what has no meaning beside the rest."""
        counts = {ENGINE, *active(self.space, self.engines, values, self.fixed)}
        return {path: value for path, value in values.items() if path in counts}

    def possible(self, point: Point) -> bool:
        return not violated(self.space, self.engines, point, self.fixed)


def spread(domain: Domain, count: int, seed: int) -> list[Point]:
    """Points drawn at random over the space; fewer where hardly any keep its constraints."""
    draws, found = _Draws(np.random.default_rng(seed)), list[Point]()
    for _ in range(count * TRIES):
        if len(found) == count:
            break
        point = sample(domain.space, domain.engines, draws, domain.fixed)
        if domain.possible(point):
            found.append(point)
    return found


def importance(value_of: ValueOf, domain: Domain, bases: int, seed: int) -> dict[str, Floats]:
    """Knob → its total effect on each output, (outputs,): the share of the variance over the space that is gone
    when all other knobs are known. Shares of knobs that act together count for both.

    Jansen's estimator (Saltelli et al., Variance based sensitivity analysis of model output, Computer Physics
    Communications 181, 2010, table 2 f) over pairs of points that differ in one knob; a knob that counts in
    neither point changes nothing, and pairs that break a constraint are left out.
    """
    points = spread(domain, 2 * bases, seed)
    half = len(points) // 2
    ours, others = points[:half], points[half : 2 * half]
    if half < 2:
        return {}
    swapped = {knob: _swapped(domain, ours, others, knob) for knob in domain.knobs}
    asked = _Asked(value_of)
    asked.ask([*points, *(p for each in swapped.values() for p in each if p is not None)])
    plain = asked.values(points)
    variance = plain.var(axis=0)
    shares = {}
    for knob, changed in swapped.items():
        pairs = [(a, b) for a, b in zip(ours, changed, strict=True) if b is not None]
        if not pairs:
            shares[knob] = np.zeros(plain.shape[1])
            continue
        apart = asked.values([a for a, _ in pairs]) - asked.values([b for _, b in pairs])
        effect = (apart**2).mean(axis=0) / 2
        shares[knob] = np.divide(effect, variance, out=np.zeros_like(effect), where=variance > 0)
    return shares


def shapley(
    value_of: ValueOf, domain: Domain, start: Point, changes: Mapping[str, Scalar], seed: int = 0
) -> dict[str, Floats]:
    """Knob → what changing it brings, (outputs,): the mean over all orders in which the changes can be made,
    so that they add up to the whole difference (Shapley, A value for n-person games, 1953). Of more than
    `EXACT` changes over random orders and their reverses."""
    knobs = list(changes)

    def point(made: frozenset[str]) -> Point:
        return domain.kept({**start, **{path: changes[path] for path in knobs if path in made}})

    orders = _orders(knobs, seed) if len(knobs) > EXACT else []
    subsets = _subsets(knobs) if not orders else _prefixes(orders)
    asked = _Asked(value_of)
    asked.ask([point(each) for each in subsets])
    worth = {each: asked.values([point(each)])[0] for each in subsets}
    if orders:
        return _by_orders(knobs, orders, worth)
    return {knob: _exact(knob, knobs, worth) for knob in knobs}


def _exact(knob: str, knobs: Sequence[str], worth: Mapping[frozenset[str], Floats]) -> Floats:
    rest, total = [each for each in knobs if each != knob], np.zeros_like(worth[frozenset()])
    for size in range(len(rest) + 1):
        weight = 1 / (len(knobs) * comb(len(rest), size))
        for made in map(frozenset, combinations(rest, size)):
            total = total + weight * (worth[made | {knob}] - worth[made])
    return np.asarray(total)


def _by_orders(
    knobs: Sequence[str],
    orders: Sequence[Sequence[str]],
    worth: Mapping[frozenset[str], Floats],
) -> dict[str, Floats]:
    total = {knob: np.zeros_like(worth[frozenset()]) for knob in knobs}
    for order in orders:
        for place, knob in enumerate(order):
            before = frozenset(order[:place])
            total[knob] = total[knob] + worth[before | {knob}] - worth[before]
    return {knob: each / len(orders) for knob, each in total.items()}


def _orders(knobs: Sequence[str], seed: int) -> list[list[str]]:
    random = np.random.default_rng(seed)
    drawn = [[knobs[i] for i in random.permutation(len(knobs))] for _ in range(ORDERS // 2)]
    return [*drawn, *(order[::-1] for order in drawn)]


def _subsets(knobs: Sequence[str]) -> list[frozenset[str]]:
    sizes = range(len(knobs) + 1)
    return [frozenset(made) for size in sizes for made in combinations(knobs, size)]


def _prefixes(orders: Sequence[Sequence[str]]) -> list[frozenset[str]]:
    found = {frozenset(order[:place]) for order in orders for place in range(len(order) + 1)}
    return sorted(found, key=sorted)


def _swapped(
    domain: Domain, ours: Sequence[Point], others: Sequence[Point], knob: str
) -> list[Point | None]:
    """Each point with another value of a knob; itself where the knob does not count; None if it can't be."""
    values = [other[knob] for other in others if knob in other]
    found: list[Point | None] = []
    for i, (one, other) in enumerate(zip(ours, others, strict=True)):
        if knob not in one or not values:
            found.append(one)
            continue
        value = other[knob] if knob in other else values[i % len(values)]
        # What counts only with the new value, and `one` has no value for, comes from the other.
        point = domain.kept({**other, **one, knob: value})
        found.append(point if domain.possible(point) else None)
    return found


class _Asked:
    """Values of points, each worked out once and all together."""

    def __init__(self, value_of: ValueOf) -> None:
        self._value_of = value_of
        self._known: dict[Hashable, Floats] = {}

    def ask(self, points: Sequence[Point]) -> None:
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
    """One value after the other, of `tuner.config.groups.space.Suggest`."""

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
