"""The interval of a paired difference: against simulations that know the truth."""

import random

import pytest

from tuner.trial.quality.paired import Pairs, paired_interval, pairs_of, wilson


def drawn(rng: random.Random, count: int, cells: tuple[float, float, float, float]) -> Pairs:
    found = [0, 0, 0, 0]
    for cell in rng.choices(range(4), cells, k=count):
        found[cell] += 1
    return Pairs(*found)


@pytest.mark.parametrize(
    "cells",
    [
        (0.6, 0.02, 0.02, 0.36),  # two builds that answer alike
        (0.6, 0.06, 0.02, 0.32),  # the second is 4 points worse
        (0.02, 0.01, 0.01, 0.96),  # a hard task
        (0.3, 0.2, 0.2, 0.3),  # hardly correlated
    ],
)
@pytest.mark.parametrize("count", [60, 400])
def test_it_covers_the_truth_as_often_as_it_says(
    count: int, cells: tuple[float, float, float, float]
) -> None:
    rng, truth, studies = random.Random(count), cells[2] - cells[1], 1000
    covered = 0
    for _ in range(studies):
        low, high = paired_interval(drawn(rng, count, cells), 0.95)
        covered += low <= truth <= high
    assert covered / studies >= 0.93


def test_pairs_are_sharper_than_two_samples() -> None:
    pairs = Pairs(500, 30, 10, 460)
    low, high = paired_interval(pairs, 0.95)
    assert low < pairs.difference < high < 0
    apart = wilson(530, 1000, 1.96), wilson(510, 1000, 1.96)
    assert apart[0][0] < apart[1][1]  # which overlap


@pytest.mark.parametrize(
    "pairs", [Pairs(0, 0, 0, 5), Pairs(5, 0, 0, 0), Pairs(0, 5, 0, 0), Pairs(0, 0, 5, 0)]
)
def test_extreme_counts_stay_in_bounds(pairs: Pairs) -> None:
    low, high = paired_interval(pairs, 0.95)
    assert -1 <= low <= pairs.difference <= high <= 1


def test_swapping_the_two_turns_the_interval_around() -> None:
    low, high = paired_interval(Pairs(40, 9, 3, 8), 0.95)
    assert paired_interval(Pairs(40, 3, 9, 8), 0.95) == pytest.approx((-high, -low))


def test_counts_of_pairs() -> None:
    found = pairs_of([True, True, False, False], [True, False, True, False])
    assert found == Pairs(1, 1, 1, 1)
    assert pairs_of([], []).difference == 0
    with pytest.raises(ValueError, match="shorter"):
        pairs_of([True], [])
