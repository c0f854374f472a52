"""What a suggestion costs as trials, and trials at a time, grow: counted, not timed."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tests.tuner.search.curve.test_sampler import OBJECTIVE, SPACE, candidates, outcome
from tuner.config.groups.space import Point
from tuner.search.curve import model_average
from tuner.search.curve.gp import GaussianProcess, Observations
from tuner.search.curve.sampler import REFIT_SHARE, RUNNING_PER_PICK, CurveSampler
from tuner.search.curve.subset import MAX_CURVES

POINTS = list(SPACE.enumerate_points())


@cache
def shuffled() -> tuple[Point, ...]:
    return tuple(POINTS[i] for i in np.random.default_rng(5).permutation(len(POINTS)))


class CountedFits:
    """Counts the fits of a process: their observations, and the steps for hyperparameters."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        self.steps: list[int] = []
        self.threads: set[int] = set()
        self._fit: Callable[..., GaussianProcess] = model_average.fit
        monkeypatch.setattr(model_average, "fit", self)

    def __call__(self, dimensions: object, seen: Observations, *rest: object) -> GaussianProcess:
        self.rows.append(len(seen.x))
        self.steps.append(int(str(rest[2])))
        self.threads |= {
            each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"
        }
        return self._fit(dimensions, seen, *rest)


def learnt(sampler: CurveSampler, first: int, last: int) -> None:
    rng = np.random.default_rng(first)
    for point in shuffled()[first:last]:
        sampler.learn(point, None, outcome(point, rng))


def test_a_process_has_a_bounded_number_of_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    fits, sampler = CountedFits(monkeypatch), CurveSampler(OBJECTIVE, candidates(), 0)
    for first in range(0, 300, 50):
        learnt(sampler, first, first + 50)
        sampler.suggest([])
    assert 0.8 * MAX_CURVES < max(fits.rows) <= MAX_CURVES
    assert fits.threads == {1}


@pytest.mark.thorough
def test_hyperparameters_are_fitted_less_often_as_trials_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits, sampler = CountedFits(monkeypatch), CurveSampler(OBJECTIVE, candidates(), 0)
    learnt(sampler, 0, 90)
    for done in range(90, 180):
        sampler.suggest([])
        learnt(sampler, done, done + 1)
    fitted = sum(steps > 0 for steps in fits.steps)
    assert len(fits.steps) == 90
    assert fitted <= 2 + REFIT_SHARE * np.log(180 / 80)
    assert fitted < 90 / 3


@pytest.mark.parametrize("running", [0, 1, RUNNING_PER_PICK, 2 * RUNNING_PER_PICK - 1])
def test_with_few_trials_at_a_time_each_suggestion_knows_all_results(
    running: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits, sampler = CountedFits(monkeypatch), CurveSampler(OBJECTIVE, candidates(), 0)
    learnt(sampler, 0, 30)
    begun = list(shuffled()[40 : 40 + running])
    for done in range(1, 6):
        suggestion = sampler.suggest(begun)
        assert suggestion is not None
        sampler.learn(suggestion.point, suggestion, outcome(suggestion.point))
        assert len(fits.rows) == done


def test_with_many_at_a_time_a_ranking_serves_several_suggestions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits, sampler = CountedFits(monkeypatch), CurveSampler(OBJECTIVE, candidates(), 0)
    learnt(sampler, 0, 30)
    begun, picks = list(shuffled()[40:168]), list[Point]()
    gains = list[float]()
    for _ in range(128 // RUNNING_PER_PICK):
        suggestion = sampler.suggest([*begun, *picks])
        assert suggestion is not None
        assert sampler.expected_gain is not None
        picks.append(suggestion.point)
        gains.append(sampler.expected_gain)
    assert len(fits.rows) == 1
    assert len({str(point) for point in [*begun, *picks]}) == 128 + len(picks)
    sampler.suggest([*begun, *picks])
    assert len(fits.rows) == 2


def test_the_picks_of_a_ranking_add_to_each_other() -> None:
    """What adds nothing beside the picks before it ranks low, however much it gains alone."""
    sampler = CurveSampler(OBJECTIVE, candidates(), 0)
    sampler._unused = 2
    alone = np.array([[[9.0, 0.0], [8.9, 0.0], [0.0, 4.0]]] * 8)  # (draws, finalists, directions)
    ranked = sampler._in_order(np.arange(3), alone, np.ones((8, 2)), np.ones(3))
    assert [index for index, _ in ranked] == [0, 2, 1]
    sampler._unused = 1
    ranked = sampler._in_order(np.arange(3), alone, np.ones((8, 2)), np.ones(3))
    assert [index for index, _ in ranked] == [0, 1, 2]


def test_the_initial_design_looks_at_its_levels_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, begun = CurveSampler(OBJECTIVE, candidates(), 0), list[Point]()
    for _ in range(40):
        suggestion = sampler.suggest(begun)
        assert suggestion is not None
        begun.append(suggestion.point)
        codes = sampler._levels()
    assert sampler._levels() is codes
    assert len({str(point) for point in begun}) == 40
