"""The points that a search chooses among, as the search sees them: vectors, loads, costs."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.space import Point
from tuner.search.curve.encoding import Encoder

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a point before it is measured.

    `lowest`, `highest`: load per device (users or requests/s) at the ends of its useful curve: above what its
    scheduler admits, requests only queue. `device_s`: device-seconds of a trial, roughly.
    """

    devices: int
    lowest: float
    highest: float
    device_s: float = 1.0


TraitsOf = Callable[[Point], Traits]


class Candidates:
    """Points with their vectors and traits. It grows and never shrinks: the index of a point stays its own.

    `x`: (n, d), the encoded points, log₂ of their devices in the last column; `lowest`, `highest`: (n,), loads
    per device (log₂); `devices`, `device_s`: (n,).
    """

    def __init__(self, encoder: Encoder, traits_of: TraitsOf) -> None:
        self._encoder, self._traits_of = encoder, traits_of
        self.points: list[Point] = []
        self._known: dict[tuple[tuple[str, object], ...], int] = {}
        self.x = np.empty((0, len(encoder.groups) + 1))
        self.devices, self.lowest, self.highest, self.device_s = (np.empty(0) for _ in range(4))

    @property
    def groups(self) -> tuple[str, ...]:
        """The name of each column's dimension, (d,)."""
        return (*self._encoder.groups, "devices")

    def copied(self) -> "Candidates":
        """The same candidates, which may grow apart from these."""
        other = copy(self)
        # The arrays are replaced when they grow, never written to: they may be shared.
        other.points, other._known = list(self.points), dict(self._known)
        return other

    def index(self, point: Point) -> int:
        """The index of a point; a new point is added."""
        self.add([point])
        return self._known[_key(point)]

    def add(self, points: Sequence[Point]) -> None:
        """Adds the points that are not there yet."""
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
