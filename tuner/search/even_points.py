"""Points spread evenly over a space: a scrambled Sobol sequence, drawn in blocks. Pure.

Not Optuna's quasi-random sampler: its cost of a point grows with the points drawn before, to a minute for the
candidates of one search.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from tuner.config.groups.space import ENGINE, Point
from tuner.search.space import SearchSpace

BLOCK = 1024  # a power of two, of which the sequence is balanced


def even_points(space: SearchSpace, seed: int) -> Iterator[Point]:
    """Points without end. They may break constraints, and repeat."""
    places = {name: place for place, name in enumerate((ENGINE, *space.parameters))}
    sequence = qmc.Sobol(len(places), scramble=True, rng=seed)
    while True:
        for row in sequence.random(BLOCK):
            yield space.sample(_Coordinates(places, row))


class _Coordinates:
    """`tuner.config.groups.space.Suggest` by a point of the unit cube: a coordinate for each parameter."""

    def __init__(self, places: dict[str, int], row: NDArray[np.float64]) -> None:
        self._places, self._row = places, row

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        if log:
            drawn = np.exp(np.log(low) + self._at(name) * (np.log(high + 1) - np.log(low)))
            return min(int(drawn), high)
        return low + step * self._one_of(name, (high - low) // step + 1)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            return low + step * self._one_of(name, int((high - low) / step + 1e-9) + 1)
        if log:
            return float(np.exp(np.log(low) + self._at(name) * (np.log(high) - np.log(low))))
        return low + self._at(name) * (high - low)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[self._one_of(name, len(choices))]

    def _at(self, name: str) -> float:
        return float(self._row[self._places[name]])

    def _one_of(self, name: str, count: int) -> int:
        return min(int(self._at(name) * count), count - 1)
