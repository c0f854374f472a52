"""Errors of predictions against figures worked out by hand."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from tests.tuner.samples.loaded import load
from tuner.analysis.prediction_error import Pair, kept_pairs, prediction_report
from tuner.config.resolve import trial_config
from tuner.results.ledger import Finished
from tuner.trial.result import Completed, Failed, OperatingPoint, Timings, TrialResult


def pairs(metric: str, load: str, *both: tuple[float, float]) -> list[Pair]:
    return [Pair(metric, load, predicted, measured) for predicted, measured in both]


def test_the_error_is_the_median_and_keeps_its_sign_apart() -> None:
    (found,) = prediction_report(pairs("a", "closed 1", (110, 100), (95, 100), (130, 100)))
    assert found.pairs == 3
    assert found.median_error == pytest.approx(0.10)
    assert found.bias == pytest.approx(0.10)
    assert found.correlation is None  # all measured alike


def test_ranks_are_compared_under_one_load_only() -> None:
    """Over both loads together the order would look right: more load, more of everything."""
    one = [(3.0, 1.0), (2.0, 2.0), (1.0, 3.0)]
    ten = [(30.0, 10.0), (20.0, 20.0), (10.0, 30.0)]
    (found,) = prediction_report([*pairs("a", "1", *one), *pairs("a", "10", *ten)])
    assert found.correlation == pytest.approx(-1)
    both = [*one, *ten]
    assert spearmanr([p for p, _ in both], [m for _, m in both]).statistic > 0.5


def test_the_correlation_is_spearmans_by_the_mean_over_loads() -> None:
    one, other = (
        [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0)],
        [(1.0, 5.0), (2.0, 6.0), (3.0, 9.0)],
    )
    (found,) = prediction_report([*pairs("a", "1", *one), *pairs("a", "2", *other)])
    assert found.correlation == pytest.approx((0.8 + 1) / 2)


def test_metrics_are_apart_and_what_measured_nothing_is_left_out() -> None:
    found = prediction_report([*pairs("a", "1", (1, 0), (2, 1)), *pairs("b", "1", (3, 4))])
    assert [(each.metric, each.pairs) for each in found] == [("a", 1), ("b", 1)]
    assert found[0].median_error == 1.0
    assert prediction_report([]) == []


def test_predictions_are_read_from_operating_points() -> None:
    """Of valid points alone, and of what was measured too."""
    config = trial_config(load(["experiment=b300", "engine=vllm", "space=none"]), {})
    predicted = {"a": 40.0, "b": 1.0}
    points = (
        OperatingPoint(0, "closed 8", {"a": 50.0, "b": None, "c": 3.0}, predicted=predicted),
        OperatingPoint(1, "closed 9", {"a": 60.0}, invalid_because=("late",), predicted=predicted),
        OperatingPoint(2, "closed 10", {"a": 70.0}),
    )
    done = Completed(config, points, Timings(1, 1, 1), "")
    failed = Failed(config, "OutOfMemory", "", Timings(1, 1, 1))
    results: list[TrialResult] = [done, failed]
    entries = [Finished(0, {}, "f", each, Path(), datetime.now(UTC)) for each in results]
    assert kept_pairs(entries) == [Pair("a", "closed 8", 40.0, 50.0)]
