"""Importance against functions of which it is known."""

from collections.abc import Sequence

import numpy as np
import pytest

from tuner.analysis.effects.importance import importance, random_points
from tuner.config.groups.space import Categorical, Constraint, Float, Int, Point, Space
from tuner.search.space import SearchSpace

SPACE = Space(
    parameters={
        "engine.a.big": Float(type="float", low=0, high=1),
        "engine.a.small": Float(type="float", low=0, high=1),
        "engine.a.inert": Categorical(type="categorical", choices=("x", "y", "z")),
    }
)
SEARCHED = SearchSpace(SPACE, ("a",))


def additive(points: Sequence[Point]) -> np.ndarray:
    """3 big + small; and, as a second output, big · small."""
    big = np.array([float(point.get("engine.a.big", 0)) for point in points])
    small = np.array([float(point.get("engine.a.small", 0)) for point in points])
    return np.stack([3 * big + small, big * small], 1)


def test_importance_is_the_share_of_the_variance() -> None:
    """Of 3x + y with x, y uniform: 9 / 10 and 1 / 10. Of x y: V = 7/144, total effects 4/7 (Sobol' 2001)."""
    found = importance(additive, SEARCHED, 4096, 0)
    assert found["engine.a.big"][0] == pytest.approx(0.9, abs=0.04)
    assert found["engine.a.small"][0] == pytest.approx(0.1, abs=0.02)
    assert found["engine.a.big"][1] == pytest.approx(4 / 7, abs=0.05)
    assert found["engine.a.small"][1] == pytest.approx(4 / 7, abs=0.05)
    assert (found["engine.a.inert"] == 0).all()


def test_few_points_rank_the_knobs_all_the_same() -> None:
    found = importance(additive, SEARCHED, 256, 3)
    ranked = sorted(found, key=lambda knob: -found[knob][0])
    assert ranked == ["engine.a.big", "engine.a.small", "engine.a.inert"]


def test_a_constant_has_no_important_knob() -> None:
    found = importance(lambda points: np.ones((len(points), 1)), SEARCHED, 64, 0)
    assert all((share == 0).all() for share in found.values())


def test_conditions_constraints_and_engines_are_kept() -> None:
    space = Space(
        parameters={
            "engine.a.mode": Categorical(type="categorical", choices=("plain", "fast")),
            "engine.a.depth": Int(type="int", low=1, high=8, when={"engine.a.mode": "fast"}),
            "engine.b.slots": Int(type="int", low=1, high=64, log=True),
            "topology.cpus": Int(type="int", low=1, high=4),
        },
        constraints={
            "room": Constraint(left="engine.b.slots", op="<=", right=32, reason="no room")
        },
    )
    searched, asked = SearchSpace(space, ("a", "b")), list[Point]()

    def value_of(points: Sequence[Point]) -> np.ndarray:
        asked.extend(points)
        return np.array([[10.0 * (point["engine"] == "a") + _depth(point)] for point in points])

    found = importance(value_of, searched, 512, 0)
    assert all(searched.possible(point) and searched.only_active(point) == point for point in asked)
    assert found["engine"][0] > 0.8
    assert found["engine.a.depth"][0] > 0.005
    assert found["topology.cpus"][0] == found["engine.b.slots"][0] == 0
    # Mode matters through the depth that it activates.
    assert found["engine.a.mode"][0] > 0.005


def _depth(point: Point) -> float:
    return float(point.get("engine.a.depth", 0))


def test_draws_are_seeded_and_inside() -> None:
    points = random_points(SEARCHED, 50, 1)
    assert len(points) == 50
    assert points == random_points(SEARCHED, 50, 1) != random_points(SEARCHED, 50, 2)
    assert all(0 <= float(point["engine.a.big"]) <= 1 for point in points)
    impossible = SPACE.model_copy(
        update={"constraints": {"no": Constraint(left="engine.a.big", op=">", right=2, reason="")}}
    )
    assert random_points(SearchSpace(impossible, ("a",)), 5, 0) == []
    assert importance(additive, SearchSpace(impossible, ("a",)), 5, 0) == {}
