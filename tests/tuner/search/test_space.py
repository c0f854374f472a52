"""Sampling, conditions and constraints of search spaces."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tuner.config.groups.space import Point, Space, ordered
from tuner.search.space import SearchSpace

SPACE = Space.model_validate(
    {
        "parameters": {
            "engine.a.batch": {"type": "categorical", "choices": [8, 16, 32]},
            "engine.a.micro": {"type": "int", "low": 4, "high": 32, "step": 4},
            "engine.a.depth": {"type": "int", "low": 1, "high": 3, "when": {"engine.a.spec": True}},
            "engine.a.spec": {"type": "bool"},
            "engine.b.slots": {"type": "int", "low": 1, "high": 20, "log": True},
            "topology.tensor_parallel": {"type": "categorical", "choices": [1, 2]},
        },
        "constraints": {
            "fits": {
                "left": "engine.a.micro",
                "op": "<=",
                "right": "engine.a.batch",
                "reason": "micro above batch",
            }
        },
    }
)
BOTH, ONE = SearchSpace(SPACE, ("a", "b")), SearchSpace(SPACE, ("a",))
ENGINES = BOTH.engines


class Dice:
    """A seeded generator with the methods of an Optuna trial; remembers what it was asked for."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.asked: list[str] = []

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        self.asked.append(name)
        return self._random.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.asked.append(name)
        return self._random.uniform(low, high)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked.append(name)
        return self._random.choice(choices)


@given(st.integers())
def test_a_sample_holds_what_is_active_and_nothing_else(seed: int) -> None:
    dice = Dice(seed)
    point = BOTH.sample(dice)
    assert dice.asked == list(point)
    assert set(point) - {"engine"} == set(BOTH.active(point))
    assert ("engine.b.slots" in point) == (point["engine"] == "b")
    assert ("engine.a.depth" in point) == bool(point.get("engine.a.spec"))


@given(st.integers())
def test_a_possible_sample_is_a_point_of_the_grid(seed: int) -> None:
    point = ONE.sample(Dice(seed))
    grid = list(ONE.enumerate_points())
    assert (point in grid) == (ONE.possible(point))


def test_one_engine_is_no_dimension() -> None:
    assert "engine" not in ONE.sample(Dice(0))


def test_an_optuna_trial_suggests() -> None:
    import optuna

    point = BOTH.sample(optuna.create_study().ask())
    assert point["engine"] in ENGINES


def test_the_grid_by_hand() -> None:
    a = sum(2 * (micro <= batch) for batch in (8, 16, 32) for micro in range(4, 33, 4)) * (1 + 3)
    b = 2 * len([1, 2, 4, 8, 16, 20])
    points = list(BOTH.enumerate_points())
    assert len({tuple(p.items()) for p in points}) == len(points) == a + b
    assert BOTH.all_points(a + b) == points
    assert BOTH.all_points(a + b - 1) is None


def test_a_condition_on_a_value_that_the_study_fixes() -> None:
    space = Space.model_validate(
        {"parameters": {"x.y": {"type": "bool", "when": {"model.name": ["m", "n"]}}}}
    )
    assert SearchSpace(space, ("a",), {"model.name": "n"}).sample(Dice(0)).keys() == {"x.y"}
    assert SearchSpace(space, ("a",), {"model.name": "o"}).sample(Dice(0)) == {}


def test_floats() -> None:
    stepped = {"parameters": {"x": {"type": "float", "low": 0.85, "high": 0.95, "step": 0.05}}}
    points = SearchSpace(Space.model_validate(stepped), ("a",)).enumerate_points()
    assert [point["x"] for point in points] == [0.85, 0.9, 0.95]
    plain = Space.model_validate({"parameters": {"x": {"type": "float", "low": 0, "high": 1}}})
    continuous = SearchSpace(plain, ("a",))
    assert continuous.all_points(100) is None
    with pytest.raises(ValueError, match="x is continuous"):
        list(continuous.enumerate_points())


def test_choices_keep_their_types() -> None:
    choices = [1, "1", 1.5, True, "on"]
    space = Space.model_validate({"parameters": {"x": {"type": "categorical", "choices": choices}}})
    values = [point["x"] for point in SearchSpace(space, ("a",)).enumerate_points()]
    assert [(type(v), v) for v in values] == [(type(v), v) for v in choices]


def constrained(**constraint: Any) -> Space:
    return Space.model_validate({"constraints": {"c": {"reason": "why", **constraint}}})


def violated(
    space: Space,
    point: Point,
    fixed: Mapping[str, Any] | None = None,
    engines: tuple[str, ...] = ("a",),
) -> list[str]:
    return SearchSpace(space, engines, fixed or {}).violated(point)


@pytest.mark.parametrize(
    ("op", "holds"),
    [("<=", "lt eq"), ("<", "lt"), (">=", "gt eq"), (">", "gt"), ("==", "eq"), ("!=", "lt gt")],
)
def test_operators(op: str, holds: str) -> None:
    for name, left in (("lt", 1), ("eq", 2), ("gt", 3)):
        broken = violated(constrained(left="p", op=op, right=2), {"p": left})
        assert broken == ([] if name in holds.split() else ["why"])


def test_factors() -> None:
    space = constrained(left="p", left_times=["q", 2], op="<=", right=8, right_times=["r"])
    assert violated(space, {"p": 2, "q": 4}, {"r": 2}) == []
    assert violated(space, {"p": 2, "q": 5}, {"r": 2}) == ["why"]


def test_what_is_unset_or_conditional_or_of_another_engine_is_not_judged() -> None:
    space = constrained(left="engine.a.p", op="<", right="engine.a.q")
    assert violated(space, {"engine.a.p": 3}) == []
    assert violated(space, {"engine.a.p": 3, "engine.a.q": 2}) == ["why"]
    fixed = {"engine.a.p": 3, "engine.a.q": 2}
    assert violated(space, {"engine": "b"}, fixed, ENGINES) == []
    assert violated(space, {"engine": "a"}, fixed, ENGINES) == ["why"]
    conditional = constrained(left="p", op="<", right=1, when={"q": True})
    assert violated(conditional, {"p": 3, "q": False}) == []
    assert violated(conditional, {"p": 3, "q": True}) == ["why"]


def test_nested_parameters_are_kept_by_path() -> None:
    nested = {"engine": {"a": {"x": {"type": "bool"}, "y": {"type": "bool"}}}}
    space = Space.model_validate({"parameters": nested})
    assert list(space.parameters) == ["engine.a.x", "engine.a.y"]
    assert Space.model_validate(space.model_dump(mode="json")) == space


def test_conditions_order_the_parameters() -> None:
    order = ordered(SPACE)
    assert order.index("engine.a.spec") < order.index("engine.a.depth")
    with pytest.raises(ValidationError, match="depend on each other"):
        Space.model_validate(
            {
                "parameters": {
                    "x": {"type": "bool", "when": {"y": True}},
                    "y": {"type": "bool", "when": {"x": True}},
                }
            }
        )


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"type": "int", "low": 3, "high": 2}, "must not be above"),
        ({"type": "int", "low": 0, "high": 2, "log": True}, "above 0"),
        ({"type": "int", "low": 1, "high": 8, "log": True, "step": 2}, "no `step`"),
        ({"type": "float", "low": 1, "high": 8, "log": True, "step": 0.5}, "no `step`"),
        ({"type": "categorical", "choices": []}, "at least 1"),
        ({"type": "categorical", "choices": [1, 1]}, "differ"),
        ({"type": "categorical", "choices": [None, None]}, "differ"),
        ({"type": "categorical", "choices": [[1]]}, "valid"),
        ({"type": "int", "low": 1, "high": 2, "lo": 1}, "Extra"),
        ({"low": 1, "high": 2}, "type"),
    ],
)
def test_impossible_parameters(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Space.model_validate({"parameters": {"x": wrong}})
