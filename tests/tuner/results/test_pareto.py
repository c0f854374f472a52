"""The front and its volume against slow definitions, another implementation, and hand figures."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.tuner.samples.points import completed, failed, point
from tuner.config.groups.objective import Axis, Direction
from tuner.results.pareto import hypervolume, non_dominated, pareto_set

DIRECTIONS = st.sampled_from(["max", "min"])
GRID = st.integers(0, 6).map(float)


@st.composite
def clouds(draw: st.DrawFn) -> tuple[np.ndarray, list[Direction]]:
    count, axes = draw(st.integers(0, 12)), draw(st.integers(1, 4))
    return draw(arrays(float, (count, axes), elements=GRID)), draw(
        st.lists(DIRECTIONS, min_size=axes, max_size=axes)
    )


def dominates(one: np.ndarray, other: np.ndarray, directions: list[Direction]) -> bool:
    """Nowhere worse, and somewhere better."""
    gains = [
        a - b if direction == "max" else b - a
        for a, b, direction in zip(one, other, directions, strict=True)
    ]
    return min(gains) >= 0 and max(gains) > 0


@given(clouds())
def test_the_front_is_what_nothing_dominates(cloud: tuple[np.ndarray, list[Direction]]) -> None:
    points, directions = cloud
    slow = [not any(dominates(q, p, directions) for q in points) for p in points]
    assert non_dominated(points, directions).tolist() == slow


def by_inclusion_exclusion(points: np.ndarray, reference: np.ndarray) -> float:
    """The volume of a union of boxes between each point and the reference, all axes `min`."""
    boxes = [p for p in points if (p < reference).all()]
    return sum(
        (-1) ** (size + 1) * float(np.prod(reference - np.max(chosen, axis=0)))
        for size in range(1, len(boxes) + 1)
        for chosen in itertools.combinations(boxes, size)
    )


@given(st.integers(1, 5).flatmap(lambda d: arrays(float, (7, d), elements=GRID)))
def test_volume_by_inclusion_and_exclusion(points: np.ndarray) -> None:
    reference = np.full(points.shape[1], 5.0)
    expected = by_inclusion_exclusion(points, reference)
    assert hypervolume(points, reference, ["min"] * points.shape[1]) == pytest.approx(expected)


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_volume_as_optuna_has_it(axes: int) -> None:
    from optuna._hypervolume import compute_hypervolume

    points = np.random.default_rng(axes).random((60, axes))
    reference = np.full(axes, 0.95)
    inside = points[(points < reference).all(axis=1)]
    expected = compute_hypervolume(inside, reference)
    assert hypervolume(points, reference, ["min"] * axes) == pytest.approx(expected)


@given(clouds(), st.integers(0, 11))
def test_volume_never_shrinks_with_more_points(
    cloud: tuple[np.ndarray, list[Direction]], fewer: int
) -> None:
    points, directions = cloud
    reference = [0.0 if direction == "max" else 6.0 for direction in directions]
    whole = hypervolume(points, reference, directions)
    assert hypervolume(points[:fewer], reference, directions) <= whole + 1e-9
    front = points[non_dominated(points, directions)]
    assert hypervolume(front, reference, directions) == pytest.approx(whole)


def test_volume_by_hand() -> None:
    assert hypervolume([(1, 3), (2, 2), (3, 1)], (0, 0), ("max", "max")) == 6
    assert hypervolume([(1, 3), (2, 2), (3, 1)], (4, 4), ("min", "min")) == 6
    assert hypervolume([(2, 1)], (0, 4), ("max", "min")) == 6
    assert hypervolume([], (0, 0), ("max", "max")) == 0
    assert hypervolume([(0, 9), (-1, 3)], (0, 0), ("max", "max")) == 0
    assert hypervolume([(2, 2, 2), (1, 1, 3)], (0, 0, 0), ("max",) * 3) == 9


def test_many_points_are_quick_and_right() -> None:
    angles = np.linspace(0, np.pi / 2, 2_000)
    circle = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    assert non_dominated(np.concatenate((circle, circle * 0.99)), ("max", "max")).sum() == 2_000
    assert hypervolume(circle, (0, 0), ("max", "max")) == pytest.approx(np.pi / 4, abs=1e-3)


def test_a_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        non_dominated([(1.0, float("nan"))], ("max", "max"))


def test_pareto_set() -> None:
    axes = (Axis(metric="speed"), Axis(metric="cost", direction="min"))
    results = [
        completed(point(0, speed=10, cost=3), point(1, speed=5, cost=1), point(2, speed=4, cost=2)),
        failed(),
        completed(
            point(0, speed=99, cost=0, invalid_because=("the client was late",)),
            point(1, speed=98, cost=None),
            point(2, speed=97),
            point(3, speed=12, cost=4),
        ),
    ]
    front = pareto_set(results, axes)
    assert [(p.index, p.point.level, p.values) for p in front] == [
        (2, 3, (12, 4)),
        (0, 0, (10, 3)),
        (0, 1, (5, 1)),
    ]
    assert front[0].result is results[2]
    assert pareto_set([failed()], axes) == ()
