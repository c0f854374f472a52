"""The points that a search chooses among, as the search sees them: vectors, loads, costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.space import Point
from tuner.search.curve.encoding import Encoder

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a point before it is measured.

    `lowest`, `highest`: the loads of its curve that are of use, on each device; above what its scheduler
    admits, requests only queue. `device_s`: what a trial of it takes, roughly.
    """

    devices: int
    lowest: float
    highest: float
    device_s: float = 1.0


TraitsOf = Callable[[Point], Traits]


class Pool:
    """Grows, never shrinks: an index stays that of its point."""

    def __init__(self, encoder: Encoder, traits_of: TraitsOf) -> None:
        self._encoder, self._traits_of = encoder, traits_of
        self.points: list[Point] = []
        self._known: dict[tuple[tuple[str, object], ...], int] = {}
        self.x = np.empty((0, len(encoder.groups) + 1))
        self.devices, self.lowest, self.highest, self.device_s = (np.empty(0) for _ in range(4))

    @property
    def groups(self) -> tuple[str, ...]:
        return (*self._encoder.groups, "devices")

    def index(self, point: Point) -> int:
        """Of a point that is taken in if it is new."""
        self.add([point])
        return self._known[_key(point)]

    def add(self, points: Sequence[Point]) -> None:
        fresh = {_key(point): point for point in points if _key(point) not in self._known}
        if not fresh:
            return
        traits = [self._traits_of(point) for point in fresh.values()]
        devices = np.array([each.devices for each in traits], np.float64)
        x = np.column_stack([self._encoder.encode(list(fresh.values())), np.log2(devices) / 3])
        self.x = np.concatenate([self.x, x])
        self.devices = np.append(self.devices, devices)
        self.lowest = np.append(self.lowest, np.log2([each.lowest for each in traits]))
        self.highest = np.append(self.highest, np.log2([each.highest for each in traits]))
        self.device_s = np.append(self.device_s, [each.device_s for each in traits])
        for key, point in fresh.items():
            self._known[key] = len(self.points)
            self.points.append(point)


def _key(point: Point) -> tuple[tuple[str, object], ...]:
    return tuple(sorted((path, (type(value), value)) for path, value in point.items()))
