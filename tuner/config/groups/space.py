"""What a search may vary: typed parameters with conditions, and constraints between them. Pure.

A point maps dotted configuration paths to values. A parameter under `engine.X.` is active only where engine X
is chosen; with several engines that choice is itself a parameter, `engine`.
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import takewhile
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import Field, field_validator, model_validator

from serving.topology import Strict

Scalar = bool | int | float | str
Value = Scalar | None  # None: left out, so that the engine's own default applies
Whole = Annotated[int, Field(ge=-(10**12), le=10**12)]
Number = Annotated[float, Field(ge=-1e12, le=1e12)]


Point = Mapping[str, Value]


STEPS_MAX = 100_000  # values of a stepped number, which are listed
DECIMALS = 12


Condition = dict[str, Value | tuple[Value, ...]]


ENGINE = "engine"


class Suggest(Protocol):
    """Chooses the value of a parameter, as an Optuna trial does."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """An integer from `low` to `high`."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from `low` to `high`."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        ...


class _Parameter(Strict):
    """What all kinds of parameter have."""

    when: Condition = Field(
        default_factory=dict,
        description="other path → the value, or list of values, for which it is active; null: unset",
    )


class Int(_Parameter):
    """Integers of a range."""

    type: Literal["int"] = Field(description="an integer")
    low: Whole = Field(description="lowest value")
    high: Whole = Field(description="highest value")
    step: Annotated[int, Field(ge=1, le=10**12)] = Field(
        default=1, description="distance between values"
    )
    log: bool = Field(default=False, description="whether the scale is logarithmic")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, log=self.log, stepped=self.step != 1)
        return self

    def suggest(self, name: str, suggest: Suggest) -> int:
        """A value that `suggest` chooses."""
        highest = self.high - (self.high - self.low) % self.step
        return suggest.suggest_int(name, self.low, highest, step=self.step, log=self.log)

    def grid(self) -> Sequence[Scalar]:
        """Every step; on a log scale the powers of two times `low`, and `high`."""
        if not self.log:
            return range(self.low, self.high + 1, self.step)
        doublings = (self.low << i for i in range(self.high.bit_length() + 1))
        return [*takewhile(lambda value: value < self.high, doublings), self.high]


class Float(_Parameter):
    """Numbers of a range."""

    type: Literal["float"] = Field(description="a number")
    low: Number = Field(description="lowest value")
    high: Number = Field(description="highest value")
    step: Annotated[float, Field(gt=0, le=1e12)] | None = Field(
        default=None, description="distance between values; null: continuous"
    )
    log: bool = Field(default=False, description="whether the scale is logarithmic")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, log=self.log, stepped=self.step is not None)
        if self.step is not None and self._steps(self.step) >= STEPS_MAX:
            raise ValueError(f"step: more than {STEPS_MAX:,} values: use a larger step, or none")
        return self

    def suggest(self, name: str, suggest: Suggest) -> float:
        """A value that `suggest` chooses."""
        highest = self.high if self.step is None else self._highest(self.step)
        value = suggest.suggest_float(name, self.low, highest, step=self.step, log=self.log)
        # A sampler adds steps in binary: 0.8500000000000001 is 0.85, as the grid has it.
        return value if self.step is None else round(value, DECIMALS)

    def grid(self) -> Sequence[Scalar] | None:
        """Every step; None without a step."""
        if self.step is None:
            return None
        return [
            round(self.low + i * self.step, DECIMALS) for i in range(self._steps(self.step) + 1)
        ]

    def _highest(self, step: float) -> float:
        """The last step: decimal, as 0.1 has no exact binary fraction."""
        low, high, width = (Decimal(str(each)) for each in (self.low, self.high, step))
        rest = (high - low) % width
        return float(high - rest) if rest else self.high

    def _steps(self, step: float) -> int:
        return math.floor((self.high - self.low) / step + 1e-9)


class Categorical(_Parameter):
    """Values of a list. Null leaves the setting out, as if nobody had set it."""

    type: Literal["categorical"] = Field(description="one of a list of values")
    choices: Annotated[tuple[Value, ...], Field(min_length=1)] = Field(
        description="the values; null: the setting is left out, so that the engine's own default applies"
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({(type(choice), choice) for choice in self.choices}) < len(self.choices):
            raise ValueError("choices must differ from each other")
        return self

    def suggest(self, name: str, suggest: Suggest) -> Value:
        """A value that `suggest` chooses."""
        chosen: Value = suggest.suggest_categorical(name, list(self.choices))
        return chosen

    def grid(self) -> list[Value]:
        """Every choice."""
        return list(self.choices)


class Bool(_Parameter):
    """True or false."""

    type: Literal["bool"] = Field(description="true or false")

    def suggest(self, name: str, suggest: Suggest) -> bool:
        """A value that `suggest` chooses."""
        return bool(suggest.suggest_categorical(name, [False, True]))

    def grid(self) -> list[Scalar]:
        """Both values."""
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


# A mapping with one of these keys is a parameter; any other is a part of a path.
FINEST = 64  # values of one knob that are looked at
_PARAMETER_KEYS = {"type", "low", "high", "choices", "step", "log", "when"}


class Constraint(Strict):
    """A condition that points have to meet: `left` × `left_times` `op` `right` × `right_times`.

    Operands are numbers, or paths of settings. Where a path is not set (the engine's own default applies), the
    constraint is taken to hold.
    """

    left: Operand = Field(description="left side: a number, or the path of one")
    op: Literal["<=", "<", ">=", ">", "==", "!="] = Field(description="the comparison")
    right: Operand = Field(description="right side: a number, or the path of one")
    left_times: tuple[Operand, ...] = Field(default=(), description="factors of the left side")
    right_times: tuple[Operand, ...] = Field(default=(), description="factors of the right side")
    reason: str = Field(description="why a point that fails it can't run")
    when: Condition = Field(
        default_factory=dict,
        description="path → the value, or list of values, for which the constraint applies; null: unset",
    )

    def paths(self) -> set[str]:
        """All paths that it names."""
        sides = (self.left, self.right, *self.left_times, *self.right_times)
        return {side for side in sides if isinstance(side, str)} | set(self.when)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether the values, by their paths, meet it."""
        if not condition_met(self.when, values):
            return True
        left = _product((self.left, *self.left_times), values)
        right = _product((self.right, *self.right_times), values)
        return left is None or right is None or _COMPARE[self.op](left, right)


class Space(Strict):
    """Parameters and constraints by name, so that spaces merge: a later one adds, and overrides by name."""

    parameters: dict[str, Parameter] = Field(
        default_factory=dict,
        description="path of a setting → its values; may be nested as the configuration is",
    )
    constraints: dict[str, Constraint] = Field(
        default_factory=dict, description="name → a condition between settings"
    )

    @field_validator("parameters", mode="before")
    @classmethod
    def _by_path(cls, value: Any) -> Any:
        return dict(_flat(value, "")) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _acyclic(self) -> Self:
        ordered(self)
        return self


def offers_unset(parameter: Parameter) -> bool:
    """Whether leaving the setting out is one of its values."""
    return isinstance(parameter, Categorical) and None in parameter.choices


def activating(space: Space, path: str) -> dict[str, Value]:
    """Values of the space's parameters for which a parameter is active."""
    return {
        other: wanted[0] if isinstance(wanted, tuple) else wanted
        for other, wanted in space.parameters[path].when.items()
        if other in space.parameters
    }


def values_to_try(parameter: Parameter) -> list[Value]:
    """All its values, or an even selection of at most `FINEST`; of a continuous one the ends."""
    if isinstance(parameter, Categorical):
        return list(parameter.choices)
    found = list(parameter.grid() or (getattr(parameter, "low"), getattr(parameter, "high")))  # noqa: B009
    return found[:: -(-len(found) // FINEST)]


def ordered(space: Space) -> list[str]:
    """The parameters in their own order, but each after those that its `when` names."""
    waiting, order = list(space.parameters), list[str]()
    while waiting:
        for name in waiting:
            needs = set(space.parameters[name].when) & set(waiting)
            if not needs:
                break
        else:
            raise ValueError(f"the conditions of {', '.join(waiting)} depend on each other")
        waiting.remove(name)
        order.append(name)
    return order


def condition_met(when: Condition, values: Mapping[str, Any]) -> bool:
    """Whether each path that `when` names has one of the values that it wants."""
    return all(
        values.get(path) in (wanted if isinstance(wanted, tuple) else (wanted,))
        for path, wanted in when.items()
    )


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """The parameters of nested mappings, by their whole paths."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and not _PARAMETER_KEYS & set(value):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _product(factors: Sequence[Operand], values: Mapping[str, Any]) -> Any:
    """The product; None if a path has no value. A single factor may be a string, for `==` and `!=`."""
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
