"""Boundaries for looks at running results: against published tables, and against simulation."""

import numpy as np
import pytest
from scipy import stats

from tuner.confirm.group_sequential import POWER, boundaries, nominal_levels

FIVE = np.arange(1, 6) / 5


def obrien_fleming(fractions: np.ndarray, level: float) -> np.ndarray:
    """One side of the spending function of Lan and DeMets (Biometrika 70, 1983) that stands for theirs."""
    return 2 * stats.norm.sf(stats.norm.isf(level / 2) / np.sqrt(fractions))


def test_as_published_for_five_looks() -> None:
    """Two-sided 5 %: Jennison and Turnbull (2000), and what `ldbounds` and `gsDesign` print."""
    expected = [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]
    assert boundaries(FIVE, obrien_fleming(FIVE, 0.025)) == pytest.approx(expected, abs=2e-4)


def test_two_looks_against_the_bivariate_normal() -> None:
    first, second = boundaries([0.5, 1.0], [0.01, 0.025])
    assert stats.norm.sf(first) == pytest.approx(0.01)
    r = np.sqrt(0.5)
    both_below = stats.multivariate_normal([0, 0], [[1, r], [r, 1]]).cdf([first, second])
    assert 1 - both_below == pytest.approx(0.025, abs=1e-6)


def test_one_look_is_an_ordinary_test() -> None:
    assert boundaries([1.0], [0.03])[0] == pytest.approx(stats.norm.isf(0.03))


@pytest.mark.parametrize("level", [0.015, 0.0025])
def test_false_crossings_are_as_frequent_as_was_spent(level: float) -> None:
    fractions = np.arange(2, 11) / 10
    bounds = boundaries(fractions, level * fractions**POWER)
    paths = np.random.default_rng(0).normal(size=(200_000, 10)).cumsum(axis=1)
    z = paths[:, 1:] / np.sqrt(np.arange(2, 11))
    share = float((z > bounds).any(axis=1).mean())
    assert share == pytest.approx(level, abs=4 * np.sqrt(level / 200_000))


@pytest.mark.parametrize(
    ("candidates", "first", "last"), [(2, 2, 6), (2, 3, 16), (3, 3, 8), (5, 3, 16)]
)
def test_student_s_quantiles_at_these_levels_keep_the_error(
    candidates: int, first: int, last: int
) -> None:
    """Two equal candidates of several, the variance pooled over all, looked at after every round."""
    paths, level = 60_000, 0.02
    random, levels = np.random.default_rng(1), nominal_levels(first, last, level)
    sums, squares = np.zeros((paths, candidates)), np.zeros(paths)
    crossed = np.zeros(paths, bool)
    for rounds in range(1, last + 1):
        drawn = random.normal(size=(paths, candidates))
        drawn -= drawn.mean(axis=1, keepdims=True)
        sums += drawn
        squares += (drawn**2).sum(axis=1)
        if rounds >= first:
            freedom = (rounds - 1) * (candidates - 1)
            variance = (squares - (sums**2).sum(axis=1) / rounds) / freedom
            t = (sums[:, 0] - sums[:, 1]) / rounds / np.sqrt(2 * variance / rounds)
            crossed |= t > stats.t.isf(levels[rounds - first], freedom)
    share = float(crossed.mean())
    slack = 3 * np.sqrt(level / paths)
    assert level / 1.35 < share < level + slack


def test_levels_rise_and_spend_no_more_than_all() -> None:
    levels = nominal_levels(3, 16, 0.015)
    assert len(levels) == 14
    assert sorted(levels) == list(levels)
    assert levels[-1] < 0.015 < sum(levels)
