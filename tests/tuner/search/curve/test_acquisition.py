"""The gain of a curve, against the exact hypervolume and by hand."""

import numpy as np
import pytest

from tuner.results.pareto import hypervolume
from tuner.search.curve.acquisition import Objective, gains, scalarization

SPEED, RATE, FIRST, JOULES = "interactivity", "throughput", "ttft_p99_ms", "j_per_token"


def volume_of(objective: Objective, values: np.ndarray) -> float:
    """Of curves (n, loads, metrics): the volume under all, but for the constant."""
    logs, counted = np.log(values), np.ones(values.shape[:-1], bool)
    scaled = scalarization(objective, logs, counted)
    unit = float(np.prod(scaled.unit))
    return float(scaled.reached(logs, counted).max(0).mean()) * unit


@pytest.mark.parametrize(("axes", "tolerance"), [(2, 0.01), (3, 0.06)])
def test_directions_measure_the_volume(axes: int, tolerance: float) -> None:
    rng = np.random.default_rng(axes)
    objective = Objective({f"a{i}": 1 for i in range(axes)}, {})
    ratios = []
    for _ in range(12):
        points = rng.lognormal(0, 0.5, (6, 3, axes))
        exact = hypervolume(points.reshape(-1, axes), [0.0] * axes, ["max"] * axes)
        ratios.append(volume_of(objective, points) / exact)
    assert np.ptp(ratios) / np.mean(ratios) < 4 * tolerance
    assert np.std(ratios) / np.mean(ratios) < tolerance


def test_less_is_more_where_the_axis_says_so() -> None:
    objective = Objective({SPEED: 1, JOULES: -1}, {})
    logs = np.log(np.array([[[10.0, 2.0]], [[10.0, 1.0]]]))
    counted = np.ones((2, 1), bool)
    reached = scalarization(objective, logs, counted).reached(logs, counted).mean(-1)
    assert reached[1] > reached[0]


def test_a_level_outside_of_every_tier_counts_for_nothing() -> None:
    objective = Objective({SPEED: 1, RATE: 1}, {"standard": {FIRST: 2000}, "bulk": {FIRST: 9000}})
    logs = np.log(np.array([[[10.0, 5.0, 8000.0]], [[20.0, 9.0, 9500.0]]]))
    counted = np.ones((2, 1), bool)
    scaled = scalarization(objective, logs, counted)
    assert (scaled.reached(logs, counted).mean(-1) > 0).tolist() == [True, False]
    assert not scaled.reached(logs, ~counted).any()


def test_each_tier_is_a_direction_and_all_weigh_the_same() -> None:
    objective = Objective({RATE: 1}, {"premium": {FIRST: 100}, "bulk": {FIRST: 9000}}, by_tier=True)
    logs = np.log(np.array([[[50.0, 90.0], [4000.0, 5000.0]], [[60.0, 80.0], [2000.0, 300.0]]]))
    counted = np.ones((2, 2), bool)
    scaled = scalarization(objective, logs, counted)
    np.testing.assert_allclose(
        scaled.reached(logs, counted), [[50 / 60, 1.0], [1.0, 0.5]], rtol=1e-6
    )


def test_a_tier_that_nothing_meets_yet_still_adds_a_gain() -> None:
    objective = Objective({RATE: 1}, {"premium": {FIRST: 10}, "bulk": {FIRST: 9000}}, by_tier=True)
    logs, counted = np.log(np.array([[[4000.0, 5000.0]]])), np.ones((1, 1), bool)
    scaled = scalarization(objective, logs, counted)
    inside = np.log(np.array([[[1000.0, 9.0]]]))
    front = scaled.reached(logs, counted)
    assert gains(scaled.reached(inside, counted)[None], front)[0, 0] > 0


def test_gains_are_shares_of_the_front() -> None:
    front = np.array([[1.0, 1.0]])
    reached = np.array([[[1.0, 1.0], [2.0, 1.0], [0.5, 0.5]]])
    np.testing.assert_allclose(gains(reached, front), [[0.0, 0.5, 0.0]])
