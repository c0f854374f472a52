"""Points that are spread evenly over a space, and what drawing them costs."""

from collections import Counter
from itertools import islice

from tests.tuner.samples.made import made_study
from tuner.config.groups.space import Space
from tuner.search import factory
from tuner.search.even_points import even_points
from tuner.search.factory import SearchSetup
from tuner.search.space import SearchSpace

SPACE = SearchSpace(
    Space.model_validate(
        {
            "parameters": {
                "knobs.words": {"type": "categorical", "choices": ["a", "b", "c", "d"]},
                "knobs.count": {"type": "int", "low": 2, "high": 16, "step": 2},
                "knobs.share": {"type": "float", "low": 0.5, "high": 1.0},
                "knobs.size": {"type": "int", "low": 1, "high": 64, "log": True},
                "knobs.flag": {"type": "bool", "when": {"knobs.words": "a"}},
            }
        }
    ),
    ("one", "two"),
)


def test_each_value_is_as_frequent_as_the_others() -> None:
    points = list(islice(even_points(SPACE, 0), 2048))
    for path, values in (("engine", 2), ("knobs.words", 4), ("knobs.count", 8)):
        counts = Counter(point[path] for point in points)
        assert len(counts) == values
        assert max(counts.values()) - min(counts.values()) <= 0.02 * len(points)
    assert {point["knobs.count"] for point in points} == set(range(2, 17, 2))
    assert all(0.5 <= float(point["knobs.share"]) <= 1 for point in points)
    small = sum(int(point["knobs.size"]) < 8 for point in points) / len(points)
    assert 0.4 < small < 0.6  # evenly by its logarithm
    assert all(("knobs.flag" in point) == (point["knobs.words"] == "a") for point in points)


def test_the_seed_decides() -> None:
    one, again, other = (list(islice(even_points(SPACE, seed), 50)) for seed in (1, 1, 2))
    assert one == again != other


def test_a_large_space_has_candidates_without_a_sampler_of_trials() -> None:
    """Its cost of a point grows with the points before."""
    setup = SearchSetup(made_study(10))
    assert setup.space.all_points(factory.DRAWS) is None
    assert len(setup.candidates.points) > 0.9 * factory.MAX_CANDIDATES
    assert all(setup.space.possible(point) for point in setup.candidates.points)
