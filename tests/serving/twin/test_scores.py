"""The arithmetic of the twin's scores."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.benchmarks.twin.fit import least_absolute
from tests.benchmarks.twin.points import (
    Config,
    Point,
    by_littles_law,
    layout,
    newest,
    superseded_until,
    without_speculation,
)
from tests.benchmarks.twin.scores import error, ordered, rank_correlations

CONFIG = Config("b300_sxm", "sglang", "deepseek-r1", "nvfp4", 4, 1, 4, 1024, 1024, 16)


def point(day: str, tpot_s: float, *, users: int = 16, means: bool = True) -> Point:
    return Point(replace(CONFIG, users=users), day, "v1", means, 0.2, tpot_s, 100.0)


def test_error_has_size_and_signed_bias() -> None:
    found = error([1.1, 0.8, 1.0], [1.0, 1.0, 1.0])
    assert found.count == 3
    assert found.median == pytest.approx(0.1)
    assert found.bias == pytest.approx(0.0)
    assert math.isnan(error([], []).median)


def test_pairs_are_within_a_group_and_ties_are_skipped() -> None:
    rows = [("a", 1.0, 1.0), ("a", 2.0, 2.0), ("a", 1.5, 3.0), ("b", 9.0, 1.0), ("a", 7.0, 1.005)]
    found = ordered(rows)
    assert (found.pairs, found.right) == (5, 2)
    assert ordered(rows, least_apart=0.6).pairs == 4
    assert math.isnan(ordered([]).share)


def test_an_equal_prediction_of_unequal_runs_is_wrong() -> None:
    assert ordered([("a", 1.0, 1.0), ("a", 1.0, 2.0)]).right == 0


def test_rank_correlation_needs_enough_members() -> None:
    rows = [("a", float(n), float(n) ** 2) for n in range(5)] + [("b", 1.0, 1.0)]
    assert rank_correlations(rows) == [pytest.approx(1.0)]


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ((16, 1, 4, 4), (4, 1, 4)),
        ((64, 1, 8, 8), (8, 1, 8)),
        ((8, 1, 8, 1), (8, 1, 1)),
        ((8, 1, 1, 8), (8, 1, 8)),
        ((1, 64, 8, 8), (1, 8, 8)),
        ((1, 8, 1, 8), (1, 8, 8)),
        ((2, 2, 1, 4), (1, 2, 2)),
        ((4, 4, 1, 16), (1, 4, 4)),
    ],
)
def test_layout_counts_the_gpus_used(
    sizes: tuple[int, int, int, int], found: tuple[int, int, int]
) -> None:
    assert layout(*sizes) == found


def test_littles_law() -> None:
    # 16 users · 0.9 · 2,048 tokens in 0.2 s + 0.01 s · (0.9 · 1,024 − 1), on 4 GPUs
    assert by_littles_law(CONFIG, 0.2, 0.01) == pytest.approx(16 * 1843.2 / 9.406 / 4)


def test_the_slower_of_two_differing_runs_of_a_day_is_without_speculation() -> None:
    twice = [point("2026-03-25", 0.009), point("2026-03-25", 0.006)]
    alone = point("2026-03-25", 0.02, users=64)
    other = point("2026-04-01", 0.02, users=64)
    assert without_speculation([*twice, alone, other]) == [twice[0], other]


def test_the_newest_run_is_used() -> None:
    old, new = point("2026-03-25", 0.009), point("2026-04-01", 0.0085)
    assert newest([new, old]) == [new]


def test_runs_of_a_superseded_image() -> None:
    olds = [point("2026-04-17", 0.02), point("2026-04-17", 0.03, users=64)]
    news = [point("2026-05-17", 0.01), point("2026-05-17", 0.029, users=128)]
    assert superseded_until([*olds, *news]) == "2026-04-17"
    assert superseded_until([*olds, point("2026-05-17", 0.019)]) == ""


def test_known_costs_are_recovered() -> None:
    random = np.random.default_rng(0)
    rows = np.hstack((random.uniform(5, 50, (60, 1)), random.uniform(0.5, 30, (60, 2))))
    aims = rows[:, 0] + rows[:, 1:] @ np.array([0.4, 1.5])
    aims[::10] *= 3  # outliers do not matter
    costs = least_absolute(rows, aims, np.ones(60), np.array([2.0, 2.0]))
    assert costs == pytest.approx([0.4, 1.5], rel=1e-3)
