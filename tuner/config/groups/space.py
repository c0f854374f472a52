"""What a search may vary: typed parameters with conditions, and constraints between them. Pure.

A point maps dotted config paths to values. A parameter under `engine.X.` counts only where engine X
is the chosen one; with several engines the choice is itself the first dimension, `engine`.
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import Field, field_validator, model_validator

from serving.topology import Strict

Scalar = bool | int | float | str


Point = Mapping[str, Scalar]


Condition = dict[str, Scalar | tuple[Scalar, ...]]


ENGINE = "engine"


class Suggest(Protocol):
    """Draws one value. An Optuna trial is one; so is any seeded generator with these methods."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class _Parameter(Strict):
    """`when`: other path → the value, or values, with which this parameter matters."""

    when: Condition = Field(default_factory=dict)


class Int(_Parameter):
    type: Literal["int"]
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, log=self.log, stepped=self.step != 1)
        return self

    def suggest(self, name: str, suggest: Suggest) -> int:
        return suggest.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def grid(self) -> list[Scalar]:
        """Every step; on a log scale every doubling, and `high`."""
        if not self.log:
            return list(range(self.low, self.high + 1, self.step))
        doublings = (self.low << i for i in range(self.high.bit_length() + 1))
        return [*takewhile(lambda value: value < self.high, doublings), self.high]


class Float(_Parameter):
    type: Literal["float"]
    low: float
    high: float
    step: Annotated[float, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, log=self.log, stepped=self.step is not None)
        return self

    def suggest(self, name: str, suggest: Suggest) -> float:
        return suggest.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def grid(self) -> list[Scalar] | None:
        if self.step is None:
            return None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [round(self.low + i * self.step, 12) for i in range(count)]


class Categorical(_Parameter):
    type: Literal["categorical"]
    choices: Annotated[tuple[Scalar, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({(type(choice), choice) for choice in self.choices}) < len(self.choices):
            raise ValueError("choices must differ from each other")
        return self

    def suggest(self, name: str, suggest: Suggest) -> Scalar:
        chosen: Scalar = suggest.suggest_categorical(name, list(self.choices))
        return chosen

    def grid(self) -> list[Scalar]:
        return list(self.choices)


class Bool(_Parameter):
    type: Literal["bool"]

    def suggest(self, name: str, suggest: Suggest) -> bool:
        return bool(suggest.suggest_categorical(name, [False, True]))

    def grid(self) -> list[Scalar]:
        return [False, True]


Parameter = Annotated[Int | Float | Categorical | Bool, Field(discriminator="type")]


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}


Operand = int | float | str  # a number, or a path


_SAID = {"type", "low", "high", "choices", "step", "log", "when"}


class Constraint(Strict):
    """`left` × `left_times` `op` `right` × `right_times`: each a number or the path of one.

    A side with an unset path (the engine's own default) can't be judged, and passes. `when`: as of
    a parameter.
    """

    left: Operand
    op: Literal["<=", "<", ">=", ">", "==", "!="]
    right: Operand
    left_times: tuple[Operand, ...] = ()
    right_times: tuple[Operand, ...] = ()
    reason: str
    when: Condition = Field(default_factory=dict)

    def paths(self) -> set[str]:
        sides = (self.left, self.right, *self.left_times, *self.right_times)
        return {side for side in sides if isinstance(side, str)} | set(self.when)

    def holds(self, values: Mapping[str, Any]) -> bool:
        if not _met(self.when, values):
            return True
        left = _product((self.left, *self.left_times), values)
        right = _product((self.right, *self.right_times), values)
        return left is None or right is None or _COMPARE[self.op](left, right)


class Space(Strict):
    """Mappings, not lists, so that spaces merge: a later one adds, and overrides by name.

    `parameters` may be written nested as the config is; they are kept by their whole paths.
    """

    parameters: dict[str, Parameter] = Field(default_factory=dict)
    constraints: dict[str, Constraint] = Field(default_factory=dict)

    @field_validator("parameters", mode="before")
    @classmethod
    def _by_path(cls, value: Any) -> Any:
        return dict(_flat(value, "")) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _acyclic(self) -> Self:
        ordered(self)
        return self


def ordered(space: Space) -> list[str]:
    """The parameters in their own order, save that each comes after those its `when` names."""
    waiting, order = list(space.parameters), list[str]()
    while waiting:
        for name in waiting:
            needs = set(space.parameters[name].when) & set(waiting)
            if not needs:
                break
        else:
            raise ValueError(f"the conditions of {', '.join(waiting)} wait for each other")
        waiting.remove(name)
        order.append(name)
    return order


def _met(when: Condition, values: Mapping[str, Any]) -> bool:
    return all(
        values.get(path) in (wanted if isinstance(wanted, tuple) else (wanted,))
        for path, wanted in when.items()
    )


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """A mapping that says nothing of a parameter holds further ones."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and not _SAID & set(value):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _product(factors: Sequence[Operand], values: Mapping[str, Any]) -> Any:
    """None if a path has no value. A lone factor may be a string: `==` compares those as well."""
    resolved = [values.get(factor) if isinstance(factor, str) else factor for factor in factors]
    if any(value is None for value in resolved):
        return None
    return resolved[0] if len(resolved) == 1 else math.prod(resolved)


def _check_range(low: float, high: float, *, log: bool, stepped: bool) -> None:
    if not low <= high:
        raise ValueError(f"low ({low}) must not be above high ({high})")
    if log and low <= 0:
        raise ValueError(f"a log scale starts above 0, not at {low}")
    if log and stepped:
        raise ValueError("a log scale has no `step`")
