"""Errors of predictions against figures worked out by hand; those of the twin on a real trial of it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from serving.twin.config import TwinConfig
from tuner.config import load, trial_config
from tuner.ledger import Finished
from tuner.predictions import Pair, prediction_report, twin_pairs
from tuner.trial import Completed, OperatingPoint, Timings, TrialConfig


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


def test_real_hardware_is_foretold_as_what_it_is_said_to_be_like() -> None:
    """The same trial, once as an emulation and once as if it had been measured."""
    trial = trial_config(load(["experiment=b300", "engine=vllm", "space=none"]), {})
    real = trial.model_copy(update={"hardware": trial.hardware.model_copy(update={"twin": None})})
    speed = "interactivity_tok_s_user"
    point = OperatingPoint(0, "closed 8", {speed: 50.0})

    def entry(config: TrialConfig) -> Finished:
        result = Completed(config, (point,), Timings(1, 1, 1), "")
        return Finished(0, {}, "f", result, Path(), datetime.now(UTC))

    assert not twin_pairs([entry(real)])
    like = twin_pairs([entry(real)], TwinConfig(system="b300_sxm"), [speed])
    (own,) = twin_pairs([entry(trial)], None, [speed])
    assert like == [own]
    assert own.measured == 50.0
