"""Points of a space as vectors: similar points are near each other. Pure.

Numbers are scaled to [0, 1], those that span a factor of four or more by their logarithm. Words are one-hot;
words that name a precision also share one column with its bits. Where a knob may be left out, that is a word,
of numbers a column beside their scale. Knobs of several engines that mean the same share columns, so that the
model learns about a knob from every engine that has it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.config.groups.space import ENGINE, Bool, Categorical, Parameter, Point, Value
from tuner.search.space import SearchSpace

Floats = NDArray[np.float64]

MIDDLE = 0.5  # the column of a knob that has no value, or no meaning for this engine
OPEN = (
    object()
)  # stands for a value that neither the point nor the study names; None is left out by choice
LOG_SPAN = 4.0  # high / low from which on a number is scaled by its logarithm
_BITS: tuple[tuple[str, float], ...] = (
    (r"fp4|int4|w4|q4", 4.0),
    (r"fp8|int8|w8|q8|e4m3|e5m2", 8.0),
    (r"bf16|fp16|f16|float16", 16.0),
    (r"fp32|f32|float32", 32.0),
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps a number to [0, 1]; `low` and `high` are logarithms (log₂) if `log`."""

    low: float
    high: float
    log: bool

    def of(self, value: float) -> float:
        """The value on the scale; outside of `low` to `high` it is extrapolated."""
        scaled = math.log2(value) if self.log else float(value)
        return (scaled - self.low) / (self.high - self.low)


@dataclass(slots=True)
class _Group:
    """The columns of one dimension of the search. `paths`: of the knobs that share its meaning. `unset`: it has
    numbers, and may be left out."""

    name: str
    paths: list[str]
    numbers: Scale | None = None
    words: list[Value] = field(default_factory=list)
    bits: Scale | None = None
    unset: bool = False

    @property
    def width(self) -> int:
        columns = 1 if len(self.words) == 2 else len(self.words)
        return (self.numbers is not None) + columns + (self.bits is not None) + self.unset


def bits_of(word: Value) -> float | None:
    """The bits of the precision that a word names: `fp8`, `nvfp4`, `…-Instruct-FP8`; None if it names none."""
    for pattern, bits in _BITS:
        if re.search(pattern, str(word).lower()):
            return bits
    return None


class Encoder:
    """Points of one search space → vectors of d columns.

    `meanings`: path of a knob → what it means in all engines' terms; a knob that is not named shares its
    columns with no other. `groups`: the name of each column's dimension, (d,).
    """

    def __init__(self, space: SearchSpace, meanings: Mapping[str, str] | None = None) -> None:
        self._space, self._fixed = space, space.fixed
        self._groups = [*_engine_group(space.engines), *_groups(space, meanings or {})]
        self.groups = tuple(group.name for group in self._groups for _ in range(group.width))

    def encode(self, points: Sequence[Point]) -> Floats:
        """(n, d); a value that a point leaves open is the fixed one, or in the middle."""
        rows = [self._row(point) for point in points]
        return np.array(rows, np.float64).reshape(len(points), len(self.groups))

    def _row(self, point: Point) -> list[float]:
        row: list[float] = []
        for group in self._groups:
            value = next((point[path] for path in group.paths if path in point), OPEN)
            if value is OPEN:
                known = (self._fixed.get(path) for path in group.paths)
                value = next((each for each in known if each is not None), OPEN)
            if value is OPEN and any(
                path != ENGINE and self._space.unset(point, path) for path in group.paths
            ):
                value = None
            row += _columns(group, value)
        return row


def _columns(group: _Group, value: Any) -> list[float]:
    row: list[float] = []
    if group.unset:
        row.append(MIDDLE if value is OPEN else float(value is None))
    if group.numbers is not None:
        plain = isinstance(value, int | float) and (value > 0 or not group.numbers.log)
        row.append(group.numbers.of(float(value)) if plain else MIDDLE)
    # Two different words are as far from each other as the two ends of a number.
    if len(group.words) == 2:
        row.append(MIDDLE if value is OPEN else float(value == group.words[1]))
    else:
        row += [math.sqrt(0.5) * (value is not OPEN and word == value) for word in group.words]
    if group.bits is not None:
        bits = None if value is OPEN or value is None else bits_of(value)
        row.append(MIDDLE if bits is None else group.bits.of(bits))
    return row


def _engine_group(engines: Sequence[str]) -> list[_Group]:
    return [_Group(ENGINE, [ENGINE], words=list(engines))] if len(engines) > 1 else []


def _groups(space: SearchSpace, meanings: Mapping[str, str]) -> list[_Group]:
    shared: dict[str, list[str]] = {}
    for path in space.parameters:
        shared.setdefault(meanings.get(path, path), []).append(path)
    found = [_group(name, paths, space) for name, paths in shared.items()]
    return [group for group in found if group.width]


def _group(name: str, paths: list[str], space: SearchSpace) -> _Group:
    values = [value for path in paths for value in _ends(space.parameters[path])]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    chosen = [value for value in values if value is not None]
    if chosen and len(numbers) == len(chosen):
        log = any(getattr(space.parameters[path], "log", False) for path in paths)
        return _Group(name, paths, _scale(numbers, log), unset=len(chosen) < len(values))
    words = list(dict.fromkeys(values))
    if len(words) < 2:
        return _Group(name, paths)
    bits = [bits_of(word) for word in words]
    known = [each for each in bits if each is not None]
    several = len(words) > 2 and len(set(known)) > 1
    return _Group(name, paths, words=words, bits=_scale(known, log=True) if several else None)


def _ends(parameter: Parameter) -> Sequence[Value]:
    if isinstance(parameter, Categorical):
        return parameter.choices
    if isinstance(parameter, Bool):
        return (False, True)
    return (parameter.low, parameter.high)


def _scale(values: Sequence[float], log: bool) -> Scale | None:
    low, high = min(values), max(values)
    if low == high:
        return None
    log = log or (low > 0 and high / low >= LOG_SPAN)
    return Scale(math.log2(low), math.log2(high), True) if log else Scale(low, high, False)
