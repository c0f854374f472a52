"""Which curves a surrogate is fitted to where there are many."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tuner.search.curve.subset import (
    MAX_CURVES,
    RENEWED_AFTER,
    CurveSelection,
    representative,
)


@given(st.integers(1, 60), st.integers(4, 40), st.integers(1, 5), st.integers(0, 1000))
def test_the_front_is_kept_and_none_twice(count: int, most: int, tiers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, reached = rng.random((count, 3)), rng.random((count, tiers))
    chosen = representative(x, reached, most)
    assert len(chosen) == min(count, most)
    assert (np.diff(chosen) > 0).all()
    best = set(reached.argmax(0).tolist())
    assert best <= set(chosen.tolist()) or len(best) > 3 * most // 4


def test_half_of_them_are_spread_over_the_configurations() -> None:
    """All but one of the curves that reach far are in one corner."""
    corner = 0.01 * np.random.default_rng(0).random((100, 2))
    far = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    x = np.concatenate([corner, far])
    reached = np.concatenate([np.linspace(0.5, 1.0, 100), [0.1, 0.1, 0.1]])[:, None]
    assert {99, 100, 101, 102} <= set(representative(x, reached, 10).tolist())


def test_nothing_that_reaches_nothing_is_an_error() -> None:
    assert len(representative(np.zeros((20, 2)), np.zeros((20, 3)), 8)) == 8


class Described:
    """Counts how often the curves were looked at."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(count)
        rng = np.random.default_rng(0)
        return rng.random((3000, 4))[:count], rng.random((3000, 2))[:count]


def test_a_few_curves_are_all_fitted() -> None:
    described, selection = Described(), CurveSelection()
    for count in range(1, MAX_CURVES + 1):
        assert selection.among(count, described).tolist() == list(range(count))
    assert not described.asked


def test_many_curves_cost_no_more_and_are_seldom_looked_at() -> None:
    described, selection = Described(), CurveSelection()
    for count in range(1, 2000):
        chosen = selection.among(count, described)
        assert len(chosen) == len(set(chosen.tolist())) <= MAX_CURVES
        assert chosen[-1] == count - 1
    assert len(described.asked) <= 2000 / RENEWED_AFTER


def test_the_choice_does_not_depend_on_earlier_ones() -> None:
    steady = CurveSelection()
    for count in range(1, 301):
        latest = steady.among(count, Described())
    assert latest.tolist() == CurveSelection().among(300, Described()).tolist()
